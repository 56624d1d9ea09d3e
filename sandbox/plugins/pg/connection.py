"""Connections of the stand-in for `postgresql`: how it reaches a server, and the errors it makes of the server's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from sandbox.plugins.provider import Refused
from sandbox.plugins.wire import Props

Connection = psycopg.Connection[dict[str, Any]]

_DEFAULT_TIMEOUT = 180
"""Seconds to wait for a connection where `connectTimeout` does not say."""


@dataclass(frozen=True)
class Server:
    """The server that the provider's configuration names, and the user it comes as."""

    host: str
    port: int
    database: str
    user: str
    is_superuser: bool
    options: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def of(settings: Props) -> Server:
        """The server in `settings`, completed from the environment as the real plugin does it."""

        def setting(name: str, variable: str, default: Any) -> Any:
            value = settings.get(name)
            return os.environ.get(variable, default) if value in (None, "") else value

        is_superuser = setting("superuser", "PGSUPERUSER", True)
        user = str(setting("username", "PGUSER", "postgres"))
        return Server(
            # The real plugin writes the host into a URL, where an IPv6 address has brackets.
            host=str(setting("host", "PGHOST", "localhost")).strip("[]"),
            port=int(setting("port", "PGPORT", 5432)),
            database=str(setting("database", "PGDATABASE", "postgres")),
            user=str(settings.get("databaseUsername") or user),
            is_superuser=is_superuser if isinstance(is_superuser, bool) else is_superuser.lower() not in ("false", "0"),
            options={
                "user": user,
                "password": setting("password", "PGPASSWORD", None),
                "connect_timeout": setting("connectTimeout", "PGCONNECT_TIMEOUT", _DEFAULT_TIMEOUT),
                **_tls(settings, setting("sslmode", "PGSSLMODE", None) or settings.get("sslMode")),
            },
        )

    @contextmanager
    def transaction(self, database: str | None = None) -> Iterator[Connection]:
        """A connection in a transaction that commits at the end and is rolled back by an error."""
        with (
            telling("could not finish the transaction"),
            self._connected(database) as connection,
            connection.transaction(),
        ):
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection to the provider's own database on which every statement stands for itself."""
        with self._connected(None) as connection:
            yield connection

    @contextmanager
    def _connected(self, database: str | None) -> Iterator[Connection]:
        name = database or self.database
        try:
            connection = psycopg.connect(
                host=self.host,
                port=self.port,
                dbname=name,
                application_name="Pulumi provider (stand-in)",
                autocommit=True,
                row_factory=dict_row,
                **self.options,
            )
        except psycopg.Error as error:
            raise Refused(
                f"could not connect to database {name!r} on {self.host}:{self.port} as {self.options['user']!r}: {_told(error)}"
            ) from None
        with connection:
            yield connection


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Turns an error of the server into one that begins with `what` was being done, and holds no statement."""
    try:
        yield
    except psycopg.Error as error:
        raise Refused(f"{what}: {_told(error)}") from None


@cache
def query(name: str) -> LiteralString:
    """The query in the file `name`.sql beside this module."""
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text()


def identifiers(names: list[str]) -> sql.Composed:
    """The names, quoted and separated by commas."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def password_literal(password: str) -> sql.Composable:
    """`password` as the real plugin writes it: a backslash ends up doubled, and NULL takes the password away."""
    return sql.SQL("NULL") if password.upper() == "NULL" else sql.Literal(password.replace("\\", "\\\\"))


def _told(error: psycopg.Error) -> str:
    """The server's own words without the excerpt of the statement, which may hold a password."""
    diagnostic = error.diag
    if not diagnostic.message_primary:
        return " ".join(str(error).split())
    said = f"{diagnostic.message_primary} ({diagnostic.sqlstate})"
    parts = (said, diagnostic.message_detail, diagnostic.message_hint)
    return ". ".join(" ".join(each.split()).rstrip(".") for each in parts if each)


def _tls(settings: Props, mode: str | None) -> dict[str, Any]:
    """TLS as the real plugin's driver understands it: no mode means encrypted, and checked only where there is a CA."""
    root = settings.get("sslrootcert")
    certificate = settings.get("clientcert") or {}
    chosen = {
        "sslmode": mode or ("verify-ca" if root else "require"),
        "sslrootcert": root,
        "sslcert": certificate.get("cert"),
        "sslkey": certificate.get("key"),
    }
    if root == "system":
        chosen["sslmode"] = "verify-full"
    return {name: value for name, value in chosen.items() if value}
