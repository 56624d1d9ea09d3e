"""Is this file the certificate of an authority that Cloudflare can check an origin with?"""

from __future__ import annotations

import ssl
import time
from pathlib import Path

from clarity_infra.errors import ConfigurationError

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def read_authority(path: Path, *, setting: str = "hyperdriveCaFile") -> str:
    """The certificates of `path` as PEM text, without anything else that stands in the file.

    Raises ConfigurationError where it cannot be read, holds a private key, no certificate, or one that is no authority's or has expired.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is no text"
        raise _refused(setting, f"{path} cannot be read ({reason})", "name the PEM file of the CA of the server's certificate") from None
    if "PRIVATE KEY-----" in text:
        raise _refused(setting, f"{path} holds a private key, which nobody but the CA may have", "name the file with the CA's certificate alone")
    pem = _certificates(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem)
    except (ValueError, ssl.SSLError):
        raise _refused(setting, f"{path} holds no PEM certificate", "name the PEM file of the CA, as the provider hands it out") from None
    authorities = context.get_ca_certs()
    if not authorities:
        raise _refused(setting, f"the certificate in {path} is not a CA's", "name the file of the CA that signed the server's certificate")
    if all(ssl.cert_time_to_seconds(str(found["notAfter"])) < time.time() for found in authorities):
        raise _refused(setting, f"the CA certificate in {path} expired on {authorities[0]['notAfter']}", "name the file of the present CA")
    return pem


def _certificates(text: str) -> str:
    parts = [part.partition(_END)[0] for part in text.split(_BEGIN)[1:] if _END in part]
    return "".join(f"{_BEGIN}{part}{_END}\n" for part in parts)


def _refused(setting: str, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{setting}: {what}.", unchanged="Nothing was changed.", remedy=f"{remedy}.")
