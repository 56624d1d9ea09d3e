"""Hyperdrive configs: what is accepted, what is kept, and what is told of it.

The fields are those of the installed `cloudflare` SDK (5.9, types/hyperdrive), the rules those of Cloudflare's
documentation: a config is accepted only when its origin could be logged in to; the password is never given back; PUT
states the whole config, and what it leaves out returns to its default; custom caching is dropped where caching is
disabled. An origin is public, behind Access, or reached by a Workers VPC service, with the fields of one of the three.
MySQL and integrations are refused: nothing here stands for those services.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox.cloudflare.cache import Given
from sandbox.cloudflare.certificates import Certificates
from sandbox.cloudflare.datapath import DEFAULT_LIMIT, DataPath, PooledConnection, Serving
from sandbox.cloudflare.errors import NAME_TAKEN, QUOTA, ApiError, invalid, not_found
from sandbox.cloudflare.origin import Origin, OriginRefused, Tls
from sandbox.cloudflare.store import Record, Store

_KIND = "configs"
_FIELDS = {"name", "origin", "caching", "mtls", "origin_connection_limit"}
_LOGIN_FIELDS = {"scheme", "database", "user", "password"}
_PUBLIC_WAY, _ACCESS_WAY, _SERVICE_WAY = {"host", "port"}, {"host", "access_client_id", "access_client_secret"}, {"service_id"}
_ORIGIN_FIELDS = _LOGIN_FIELDS | _PUBLIC_WAY | _ACCESS_WAY | _SERVICE_WAY
_SECRETS = ("password", "access_client_secret")
_CACHING_FIELDS = {"disabled", "max_age", "stale_while_revalidate"}
_MTLS_FIELDS = {"ca_certificate_id", "mtls_certificate_id", "sslmode"}
_KEPT = {"id", "created_on", "restarted_on", "local"}
_LONGEST_NAME = 63
_LIMITS = range(5, 101)
_VERIFY_MODES = ("verify-ca", "verify-full")


class Configs:
    """The configs of all accounts, each with its port on the data path. Methods raise ApiError."""

    def __init__(self, store: Store, certificates: Certificates, data_path: DataPath, largest_number: int) -> None:
        self._store = store
        self._certificates = certificates
        self._data_path = data_path
        self._largest_number = largest_number

    def serve_all(self) -> None:
        """Opens the data path of every config that is remembered, on the port it had."""
        for account in self._store.accounts(_KIND):
            for record in self._store.all(_KIND, account).values():
                self._open(account, record)

    def create(self, account: str, body: Record) -> Record:
        stated = _whole(body)
        self._refuse_one_more(account, stated["name"])
        self._check_origin(account, stated)
        now = _now()
        record = {**stated, "id": secrets.token_hex(16), "created_on": now, "modified_on": now}
        record["local"] = {"port": 0, "password": secrets.token_urlsafe(18)}
        with self._store.lock:
            self._refuse_one_more(account, stated["name"])  # another request may have been quicker
            self._open(account, record)
        return _shown(record)

    def all(self, account: str) -> list[Record]:
        return [_shown(record) for record in self._store.all(_KIND, account).values()]

    def get(self, account: str, config_id: str) -> Record:
        return _shown(self._find(account, config_id))

    def replace(self, account: str, config_id: str, body: Record) -> Record:
        """PUT: the whole config as stated; what is not stated returns to its default."""
        record = self._find(account, config_id)
        stated = _whole(body)
        self._check_origin(account, stated)
        return self._change(account, record, stated)

    def edit(self, account: str, config_id: str, body: Record) -> Record:
        """PATCH: what is stated; of the origin, too, single fields."""
        record = self._find(account, config_id)
        stated = {key: value for key, value in body.items() if value is not None}
        if stated.get("name") == "":
            del stated["name"]
        merged = {key: value for key, value in record.items() if key in _FIELDS} | stated
        if isinstance(stated.get("origin"), dict):
            merged["origin"] = _merged(record["origin"], stated["origin"])
        whole = _whole(merged)
        if "origin" in stated or "mtls" in stated:
            self._check_origin(account, whole)
        return self._change(account, record, whole)

    def delete(self, account: str, config_id: str) -> None:
        with self._store.lock:
            self._find(account, config_id)
            self._store.delete(_KIND, account, config_id)
            self._data_path.close(config_id)

    def restart(self, account: str, config_id: str) -> Record:
        """Drains the pool: what the API's `restart` does."""
        with self._store.lock:
            record = {**self._find(account, config_id), "restarted_on": _now()}
            self._data_path.restart(config_id)
            self._store.put(_KIND, account, config_id, record)
        return _shown(record)

    def connection_string(self, config_id: str) -> str:
        """Where a client connects, as `env.HYPERDRIVE.connectionString` tells a Worker."""
        local = self._anywhere(config_id)["local"]
        return f"postgresql://hyperdrive:{local['password']}@127.0.0.1:{local['port']}/{config_id}"

    def connections(self, config_id: str) -> list[PooledConnection]:
        """The pool's connections to origins, former ones too."""
        self._anywhere(config_id)
        return self._data_path.connections(config_id)

    def cached(self, config_id: str) -> int:
        """How many answers its cache keeps."""
        self._anywhere(config_id)
        return self._data_path.cached(config_id)

    def given(self, config_id: str) -> list[Given]:
        """The kept answers that its clients were given."""
        self._anywhere(config_id)
        return self._data_path.given(config_id)

    def certificates_in_use(self, account: str) -> set[str]:
        records = self._store.all(_KIND, account).values()
        return {value for record in records for key, value in record.get("mtls", {}).items() if key != "sslmode"}

    def _change(self, account: str, record: Record, stated: Record) -> Record:
        with self._store.lock:
            self._find(account, record["id"])  # it may have been deleted meanwhile
            self._refuse_taken_name(account, stated["name"], but=record["id"])
            kept = {key: value for key, value in record.items() if key in _KEPT}
            changed = {**stated, **kept, "modified_on": _now()}
            self._store.put(_KIND, account, changed["id"], changed)
            self._data_path.change(changed["id"], self._serving(account, changed))
        return _shown(changed)

    def _open(self, account: str, record: Record) -> None:
        local = record["local"]
        local["port"] = self._data_path.open(record["id"], self._serving(account, record), local["password"], local["port"])
        self._store.put(_KIND, account, record["id"], record)

    def _check_origin(self, account: str, stated: Record) -> None:
        try:
            self._data_path.check(self._origin(account, stated))
        except OriginRefused as refused:
            raise ApiError(400, refused.code, refused.message) from None

    def _serving(self, account: str, record: Record) -> Serving:
        return Serving(self._origin(account, record), record.get("origin_connection_limit") or DEFAULT_LIMIT, record.get("caching", {}))

    def _origin(self, account: str, record: Record) -> Origin:
        told, mtls = record["origin"], record.get("mtls", {})
        authority, client = mtls.get("ca_certificate_id"), mtls.get("mtls_certificate_id")
        tls = Tls(
            mtls.get("sslmode", "require"),
            self._certificates.authority(account, authority) if authority else None,
            self._certificates.client(account, client) if client else None,
        )
        return Origin(**{"host": "", "port": 0, **{key: value for key, value in told.items() if key != "scheme"}}, tls=tls)

    def _refuse_one_more(self, account: str, name: str) -> None:
        self._refuse_taken_name(account, name)
        if len(self._store.all(_KIND, account)) >= self._largest_number:
            raise ApiError(400, QUOTA, f"The account has {self._largest_number} Hyperdrive configs, its limit.")

    def _refuse_taken_name(self, account: str, name: str, but: str | None = None) -> None:
        for record in self._store.all(_KIND, account).values():
            if record["name"] == name and record["id"] != but:
                raise ApiError(409, NAME_TAKEN, f"A Hyperdrive config named {name} exists already.")

    def _find(self, account: str, config_id: str) -> Record:
        record = self._store.all(_KIND, account).get(config_id)
        if record is None:
            raise not_found(f"Hyperdrive config {config_id}")
        return record

    def _anywhere(self, config_id: str) -> Record:
        for account in self._store.accounts(_KIND):
            if (record := self._store.all(_KIND, account).get(config_id)) is not None:
                return record
        raise not_found(f"Hyperdrive config {config_id}")


def _whole(body: Record) -> Record:
    """A config as it is kept: every required field is there, null stands for left out. Raises ApiError."""
    stated = _stated(body, _FIELDS, "The config")
    name = _text(stated, "name")
    if len(name.encode()) > _LONGEST_NAME:
        raise invalid(f"name is longer than {_LONGEST_NAME} bytes.")
    whole: Record = {"name": name, "origin": _origin_fields(stated), "caching": _caching(stated)}
    if mtls := _mtls(stated):
        whole["mtls"] = mtls
    if "origin_connection_limit" in stated:
        whole["origin_connection_limit"] = _number(stated, "origin_connection_limit", lambda n: n in _LIMITS)
    return whole


def _origin_fields(stated: Record) -> Record:
    origin = _stated(stated.get("origin"), _ORIGIN_FIELDS, "origin")
    if origin.get("scheme") not in ("postgres", "postgresql"):
        raise invalid("origin.scheme must be postgres or postgresql.")
    way = _SERVICE_WAY if "service_id" in origin else _ACCESS_WAY if "access_client_id" in origin else _PUBLIC_WAY
    if mixed := sorted(set(origin) - _LOGIN_FIELDS - way):
        raise invalid(f"origin has the fields of two ways to a database: {', '.join(sorted(way))}, and {', '.join(mixed)}.")
    if way is _SERVICE_WAY and stated.get("mtls"):
        raise invalid("mtls cannot be used with origin.service_id.")
    fields: Record = {key: _text(origin, key) for key in sorted((_LOGIN_FIELDS | way) - {"port"})}
    for key in ("database", "user"):
        if len(fields[key].encode()) > _LONGEST_NAME:
            raise invalid(f"origin.{key} is longer than {_LONGEST_NAME} bytes.")
    if way is not _PUBLIC_WAY:
        return fields
    origin.setdefault("port", 5432)
    return {**fields, "port": _number(origin, "port", lambda port: 0 < port < 65_536)}


def _merged(origin: Record, stated: Record) -> Record:
    """An origin with single fields changed; those of another way to the database take the place of its own."""
    way = next((way for way in (_SERVICE_WAY, _ACCESS_WAY, _PUBLIC_WAY) if set(stated) & (way - {"host"})), None)
    kept = origin if way is None else {key: value for key, value in origin.items() if key in _LOGIN_FIELDS | way}
    return kept | stated


def _caching(stated: Record) -> Record:
    caching = _stated(stated.get("caching") or {}, _CACHING_FIELDS, "caching")
    disabled = caching.get("disabled", False)
    if not isinstance(disabled, bool):
        raise invalid("caching.disabled must be true or false.")
    custom = {key: _number(caching, key, lambda seconds: seconds >= 0) for key in caching if key != "disabled"}
    return {"disabled": disabled, **({} if disabled else custom)}


def _mtls(stated: Record) -> Record:
    mtls = _stated(stated.get("mtls") or {}, _MTLS_FIELDS, "mtls")
    mode, authority = mtls.get("sslmode"), mtls.get("ca_certificate_id")
    if mode not in (None, "require", *_VERIFY_MODES):
        raise invalid("mtls.sslmode must be require, verify-ca or verify-full.")
    if mode in _VERIFY_MODES and not authority:
        raise invalid(f"mtls.sslmode {mode} needs a ca_certificate_id.")
    if mode not in _VERIFY_MODES and authority:
        raise invalid("mtls.ca_certificate_id needs sslmode verify-ca or verify-full.")
    return {key: _text(mtls, key) for key in mtls}


def _stated(body: Any, known: set[str], what: str) -> Record:
    if not isinstance(body, dict):
        raise invalid(f"{what} must be an object.")
    stated = {key: value for key, value in body.items() if value is not None}
    if unknown := sorted(set(stated) - known):
        raise invalid(f"{what} has fields this service does not take: {', '.join(unknown)}.")
    return stated


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str) or not value:
        raise invalid(f"{key} is missing, or is no text.")
    return value


def _number(record: Record, key: str, fits: Callable[[int], bool]) -> int:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int) or not fits(value):
        raise invalid(f"{key} is out of range, or is no whole number.")
    return value


def _shown(record: Record) -> Record:
    shown = {key: value for key, value in record.items() if key != "local"}
    shown["origin"] = {key: value for key, value in record["origin"].items() if key not in _SECRETS}
    return shown


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
