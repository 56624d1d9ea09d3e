"""The certificates an account has uploaded, for checking origins and for logging in to them."""

from __future__ import annotations

import ssl
import uuid
from datetime import UTC, datetime
from typing import Any

from sandbox.cloudflare.errors import IN_USE, ApiError, invalid, not_found
from sandbox.cloudflare.store import Record, Store

_KIND = "certificates"
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SIGNATURES = {
    bytes.fromhex("2a864886f70d01010b"): "SHA256WithRSA",
    bytes.fromhex("2a864886f70d01010c"): "SHA384WithRSA",
    bytes.fromhex("2a864886f70d01010d"): "SHA512WithRSA",
    bytes.fromhex("2a8648ce3d040302"): "ECDSAWithSHA256",
    bytes.fromhex("2a8648ce3d040303"): "ECDSAWithSHA384",
    bytes.fromhex("2b6570"): "Ed25519",
}
"""Names by the DER form of the algorithm's object identifier (RFC 8017, 5758, 8410)."""


class Certificates:
    """Uploads, lists and deletes; the private key never leaves."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, account: str, body: Record) -> Record:
        """Raises ApiError unless `certificates` is a PEM certificate, with its key where `ca` is not true."""
        pem, is_authority = body.get("certificates"), body.get("ca")
        if not isinstance(pem, str) or not isinstance(is_authority, bool):
            raise invalid("certificates must be a PEM text, and ca true or false.")
        key = body.get("private_key")
        if not is_authority and not isinstance(key, str):
            raise invalid("A certificate that is not an authority's needs its private_key.")
        record = {
            "id": str(uuid.uuid4()),
            "ca": is_authority,
            "certificates": pem,
            "name": body.get("name"),
            "type": "custom",
            "uploaded_on": _now(),
            **_described(pem),
        }
        self._store.put(_KIND, account, record["id"], {**record, "private_key": key})
        return record

    def all(self, account: str) -> list[Record]:
        return [_shown(record) for record in self._store.all(_KIND, account).values()]

    def get(self, account: str, certificate_id: str) -> Record:
        """Raises ApiError."""
        return _shown(self._find(account, certificate_id))

    def delete(self, account: str, certificate_id: str, used: set[str]) -> Record:
        """Raises ApiError, also where the certificate is one of `used`."""
        record = self._find(account, certificate_id)
        if certificate_id in used:
            raise ApiError(400, IN_USE, f"Certificate {certificate_id} is used by a Hyperdrive config.")
        self._store.delete(_KIND, account, certificate_id)
        return _shown(record)

    def authority(self, account: str, certificate_id: str) -> str:
        """The PEM text of an authority's certificate. Raises ApiError."""
        record = self._find(account, certificate_id)
        if not record["ca"]:
            raise invalid(f"Certificate {certificate_id} is not a certificate authority's.")
        return str(record["certificates"])

    def client(self, account: str, certificate_id: str) -> str:
        """The PEM text of a client certificate with its key. Raises ApiError."""
        record = self._find(account, certificate_id)
        if record["ca"]:
            raise invalid(f"Certificate {certificate_id} is a certificate authority's, not a client's.")
        return f"{record['certificates']}\n{record['private_key']}"

    def _find(self, account: str, certificate_id: str) -> Record:
        record = self._store.all(_KIND, account).get(certificate_id)
        if record is None:
            raise not_found(f"Certificate {certificate_id}")
        return record


def _described(pem: str) -> Record:
    """What the certificate says of itself; of one that is no authority's, ssl tells the signature only."""
    try:
        der = ssl.PEM_cert_to_DER_cert(pem[pem.index(_BEGIN) : pem.index(_END) + len(_END)])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem)
    except (ValueError, ssl.SSLError):
        raise invalid("certificates holds no PEM certificate.") from None
    described: Record = {"signature": next((name for oid, name in _SIGNATURES.items() if oid in der), None)}
    for authority in context.get_ca_certs()[:1]:
        described["issuer"] = _distinguished_name(authority["issuer"])
        described["serial_number"] = str(int(str(authority["serialNumber"]), 16))
        expires = ssl.cert_time_to_seconds(str(authority["notAfter"]))
        described["expires_on"] = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return described


def _distinguished_name(parts: Any) -> str:
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}
    return ",".join(f"{short.get(key, key)}={value}" for part in parts for key, value in part)


def _shown(record: Record) -> Record:
    return {key: value for key, value in record.items() if key != "private_key"}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
