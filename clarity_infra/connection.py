"""How is a database reached? Parses the URLs people have, insists on verified TLS, and connects.

A password is never part of an error, a `repr` or a child's command line or environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import re
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from clarity_infra.errors import ClarityError, ConfigurationError, Unreachable
from clarity_infra.move.names import quoted
from clarity_infra.patience import within

# Strongest last; libpq's own words. https://www.postgresql.org/docs/current/libpq-ssl.html
SSLMODES = ("disable", "require", "verify-ca", "verify-full")
# libpq's other two leave it to the server whether there is TLS at all, and the PostgreSQL plugin's driver does not know them.
_UNDECIDED_SSLMODES = ("allow", "prefer")

# Parameters of a URL that libpq knows and that we can pass on unchanged.
_PASSED_ON = {
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
}

# Ports on which the poolers of Supabase (6543) and pgbouncer (6432) listen. research: supabase and pgbouncer documentation.
_POOLER_PORTS = (6432, 6543)

# Providers whose poolers have the host of the server itself, on a port of their own.
# https://docs.crunchybridge.com/how-to/pgbouncer, https://docs.digitalocean.com/products/databases/postgresql/how-to/manage-connection-pools/
_POOLER_HOSTS = ((".postgresbridge.com", 5431), (".ondigitalocean.com", 25061))

# Those that PostgreSQL's tools have to be told too, by the variable that does it. (The URL's other parameters are for sessions of ours.)
# https://www.postgresql.org/docs/current/libpq-envars.html
_TOLD_TO_TOOLS = {
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}

# Where distributions keep their bundle of CA certificates; neither psycopg's wheel nor libpq looks there by itself.
_CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

_PRIVATE = 0o600

# The time a server that lives needs to answer, in seconds; beyond it a run should say that it cannot be reached.
CONNECT_TIMEOUT = 10
# Less than this libpq does not take. https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-CONNECT-TIMEOUT
_SHORTEST_TIMEOUT = 2

# What stands before the reason, with the names of host and address, in which anything may stand: of psycopg's and libpq's lines.
_ATTEMPT = re.compile(
    r"^(?:connection failed: )?connection to server at \".*?\"(?: \(.*?\))?, port \d+ failed: |^- host: .*?, hostaddr: '.*?': "
)
# How grave it is, in the server's own language, a colon and two spaces. https://github.com/postgres/postgres/blob/master/src/interfaces/libpq/fe-protocol3.c
_SERVER_SAYS = re.compile(r"[^\s:]+(?: \(FATAL\))?:  (?P<text>.*)")
_WRONG_PASSWORD = re.compile(r"(?:password )?authentication failed|no password supplied")
# SQLSTATEs 57P03 and 53300, of which libpq passes on the words alone.
_NOT_NOW = re.compile(r"the database system is (?:starting up|shutting down|in recovery mode|not (?:yet )?accepting connections)")
_NO_ROOM = re.compile(r"too many (?:clients|connections)|remaining connection slots|no more connections allowed")
# libpq's own, of a parameter that it does not take to a server: src/interfaces/libpq/fe-connect.c.
_NOT_TAKEN = re.compile(r"invalid \w+ value:? \"")
# A web server's answer, say, in plain text or where the answer to the question for TLS was to be.
_NO_POSTGRESQL = re.compile(r"expected authentication request from server|invalid response to SSL negotiation")
_TLS = re.compile(r"SSL|ssl|certificate|private key")
_CERTIFICATE = re.compile(r"requires a valid client certificate|certificate authentication failed")
_NO_HOST = re.compile(r"failed to resolve host|could not translate host name")

# Every session of ours: no timeout of the server's or the database's may end a copy or a snapshot half way, names resolve only
# where we say so, and values print alike on every server (research/copy.md sections 2.6 and 3).
_SESSION = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "search_path": "",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "session_replication_role": None,  # cannot be set by a plain admin; checked where it matters
    "row_security": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "lc_messages": None,  # superusers only
    "xmlbinary": "base64",
    "xmloption": "content",
    "client_min_messages": "warning",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "check_function_bodies": "off",
    "synchronize_seqscans": "off",
    "default_table_access_method": "heap",
    "default_tablespace": "",
    "array_nulls": "on",
    "backslash_quote": "safe_encoding",
    "transform_null_equals": "off",
    "role": None,
}


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine by name or address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def ca_bundle() -> str | None:
    """The system's file of CA certificates, or None where none is found."""
    found = ssl.get_default_verify_paths().cafile
    candidates = ([found] if found else []) + list(_CA_BUNDLES)
    return next((path for path in candidates if os.path.isfile(path)), None)


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One database as one user reaches it. `label()` may be shown to anybody, `url()` to nobody."""

    host: str
    port: int
    database: str
    user: str
    password: str = dataclasses.field(repr=False)
    sslmode: str = "verify-full"
    sslrootcert: str = ""
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_url(cls, url: str, *, name: str, allow_weak_tls: bool = False, sslrootcert: str = "", connects: bool = True) -> Endpoint:
        """Reads a `postgres://` URL as providers hand it out; `name` is the variable or setting it came from.

        `connects` is false for a URL that is only read, the application's: it may go by way of a pooler, ask for weaker TLS, and have
        parameters that its driver alone knows.
        Raises ConfigurationError, naming `name` and never the URL, for anything that cannot be used: see `_parsed`.
        """
        parts, query = _parsed(url, name)
        host = parts.hostname or ""
        if not connects:
            query = {}
        else:
            _check_parameters(parts, query, name)
        sslmode = query.pop("sslmode", "") or ("disable" if is_loopback(host) else "verify-full")
        rootcert = sslrootcert or query.pop("sslrootcert", "")
        query.pop("sslrootcert", None)
        _check_tls(sslmode, host, name, allow_weak_tls)
        if rootcert and rootcert != "system" and not os.path.isfile(rootcert):
            raise ConfigurationError(
                f"{name}: the CA file {rootcert} is not there.",
                remedy="set sslRootCert to a file with the CA certificates of the server, or leave it out for the system's.",
            )
        for parameter in ("sslcert", "sslkey"):
            if parameter in query and not os.path.isfile(query[parameter]):
                raise ConfigurationError(
                    f"{name}: {parameter}={query[parameter]} is not there.",
                    remedy="name the files of the client's certificate and key, both, by paths this machine has; or take both out.",
                )
        if sslmode.startswith("verify") and rootcert in ("", "system"):
            rootcert = ca_bundle() or "system"
        return cls(
            host=host,
            port=parts.port or 5432,
            database=unquote(parts.path.lstrip("/")) or unquote(parts.username or ""),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            sslmode=sslmode,
            sslrootcert=rootcert,
            parameters=tuple(sorted(query.items())),
        )

    def with_database(self, database: str) -> Endpoint:
        """The same server and user, another database."""
        return dataclasses.replace(self, database=database)

    def with_login(self, user: str, password: str) -> Endpoint:
        """The same database as another user."""
        return dataclasses.replace(self, user=user, password=password)

    def same_place(self, other: Endpoint) -> bool:
        """Whether both name the same database of the same server (by name; the catalogs give the proof)."""
        return (self.host, self.port, self.database) == (other.host, other.port, other.database)

    def label(self) -> str:
        """Database and server, for messages."""
        return f'database "{self.database}" on {self.host}:{self.port}'

    def url(self, *, with_parameters: bool = True) -> str:
        """The URL with its password: a secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        query: list[tuple[str, str]] = [("sslmode", self.sslmode)] if with_parameters else []
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in query)
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql://{login}@{host}:{self.port}/{quote(self.database, safe='')}" + (f"?{text}" if text else "")

    def dbname(self) -> str:
        """The database as PostgreSQL's tools take it in `--dbname`, where a plain name with "=" in it would be read as a connection string."""
        return make_conninfo("", dbname=self.database)

    def conninfo(self, **more: str | int) -> str:
        """libpq's connection string with the password: a secret, for `psycopg.connect` only."""
        parameters = dict(self.parameters)
        values: dict[str, str | int] = {
            **parameters,
            # In the start-up packet: a database may have a statement_timeout that ends the very statement that pins it.
            "options": f"{parameters.get('options', '')} -c statement_timeout=0".strip(),
            "client_encoding": "UTF8",
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            "sslmode": self.sslmode,
            "connect_timeout": CONNECT_TIMEOUT,
            "keepalives_idle": 10,
            "keepalives_interval": 10,
            "keepalives_count": 6,
            **more,
        }
        if self.sslrootcert:
            values["sslrootcert"] = self.sslrootcert
        return make_conninfo("", **values)

    def connect(self, *, autocommit: bool = True, role: str | None = None, purpose: str = "", patience: int | None = None) -> psycopg.Connection:
        """Opens a session with pinned settings, acting as `role` where one is given.

        `purpose` shows in `pg_stat_activity` as `clarity-infra PURPOSE`. `patience`: seconds in which the server has to let us in, its
        name's resolution and all its addresses together; left out, each address has CONNECT_TIMEOUT.
        Raises Unreachable where no server answers, or none that takes a session now; ConfigurationError where it refuses the login or the
        database.
        """
        if patience is None:
            return self._open(autocommit, role, purpose, CONNECT_TIMEOUT)
        try:
            return within(patience, lambda: self._open(autocommit, role, purpose, self._share(patience)), late=psycopg.Connection.close)
        except TimeoutError:
            raise self._not_reached(f"no answer within {patience} s") from None

    def _open(self, autocommit: bool, role: str | None, purpose: str, timeout: int) -> psycopg.Connection:
        name = f"clarity-infra {purpose}".strip()
        try:
            connection = psycopg.connect(self.conninfo(application_name=name, connect_timeout=timeout), autocommit=True)
        except psycopg.OperationalError as error:
            raise self._cannot_connect(error) from None
        try:
            self._pin(connection, role)
        except BaseException:
            connection.close()
            raise
        connection.autocommit = autocommit
        return connection

    def begins_with(self, *names: str) -> dict[str, str]:
        """The settings that a session of this login has from the start where it asks for none: those of the plugin do not.

        Times are in their own unit (`pg_settings.unit`). Raises as `connect` does; psycopg.Error where they let no question through.
        """
        try:
            connection = psycopg.connect(self.conninfo(application_name="clarity-infra review", options=""), autocommit=True)
        except psycopg.OperationalError as error:
            raise self._cannot_connect(error) from None
        with connection:
            return dict(connection.execute("SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY (%s)", (list(names),)).fetchall())

    def _share(self, patience: int) -> int:
        """Seconds for each of the host's addresses: they are tried one after another."""
        try:
            addresses = {entry[4][0] for entry in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)}
        except OSError:
            return patience
        return max(_SHORTEST_TIMEOUT, patience // len(addresses))

    def _pin(self, connection: psycopg.Connection, role: str | None) -> None:
        settings = {name: value for name, value in _SESSION.items() if value is not None}
        if connection.info.server_version >= 170000:
            settings["transaction_timeout"] = "0"
        connection.execute(
            "SELECT set_config(s.name, s.value, false) FROM unnest(%s::text[], %s::text[]) AS s(name, value)",
            (list(settings), list(settings.values())),
        )
        if role is not None and role != self.user:
            try:
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            except psycopg.Error as error:
                raise ClarityError(
                    f'"{self.user}" cannot act as "{role}" in {self.label()}: {error.diag.message_primary}.',
                    unchanged="Nothing was changed.",
                    remedy=f"make the admin a member: GRANT {quoted(role)} TO {quoted(self.user)}",
                ) from None

    def has_database(self, name: str) -> bool:
        """Whether this server has a database of that name. Its catalog is asked: what it says to a login that it refuses is in its own
        language, and no SQLSTATE comes with it. Raises as `connect` does.
        """
        with self.connect(purpose="look") as connection:
            row = connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone()
        return row is not None

    def _cannot_connect(self, error: psycopg.OperationalError) -> ClarityError:
        """libpq gives no SQLSTATE for a failed login, so its words are what there is to tell the causes apart."""
        lines = str(error).splitlines()
        # A line that begins with a tab says what may be the reason, not what is.
        reasons = [_ATTEMPT.sub("", line).strip() for line in lines if line.strip() and not line.startswith("\t")] or ["no reason given"]
        refusal = next(filter(None, map(_SERVER_SAYS.match, reasons)), None)
        text = reasons[-1] if refusal is None else refusal["text"].rstrip(".")
        if _CERTIFICATE.search(text):
            return self._untrusted(_without_secret(text, self.password))
        if _WRONG_PASSWORD.search(text):
            return ConfigurationError(
                f'{self.label()}: the server refused the password of "{self.user}".',
                unchanged="Nothing was changed.",
                remedy="correct the URL's user and password (percent-encode special characters).",
            )
        return self._not_reached(text) if refusal is None else self._refused(text)

    def _refused(self, text: str) -> ClarityError:
        """What the server, or a pooler before it, said instead of letting us in."""
        shown = _without_secret(text, self.password)
        if "unsupported startup parameter" in text:  # pgbouncer's words for what it does not pass on
            return ConfigurationError(
                f"{self.label()} is reached through a connection pooler, where a snapshot cannot be shared between sessions: {shown}",
                unchanged="Nothing was changed.",
                remedy="use the provider's direct (unpooled) host or port.",
            )
        if _NO_ROOM.search(text):
            return Unreachable(
                f'{self.label()} takes no more sessions of "{self.user}": {shown}.',
                unchanged="Nothing was changed.",
                remedy="end sessions that nobody needs, set `workers` lower, or raise what limits them: max_connections, or the CONNECTION LIMIT"
                " of role or database.",
            )
        if _NOT_NOW.search(text):
            return Unreachable(f"{self.label()} lets nobody in now: {shown}.", remedy="wait until it does, then run the same command again.")
        return ConfigurationError(
            f'{self.label()} refused the login of "{self.user}": {shown}.',
            unchanged="Nothing was changed.",
            remedy="check database, user and the server's pg_hba.conf.",
        )

    def _untrusted(self, shown: str) -> ClarityError:
        return ConfigurationError(
            f"{self.label()}: no trusted TLS connection: {shown}",
            remedy="check the host name, set sslRootCert to the CA of the server, or allowWeakTls to accept the risk.",
        )

    def _not_reached(self, text: str) -> ClarityError:
        """libpq's own words, where no server said anything; a connection that broke, while TLS was agreed on or before, proves nothing."""
        shown = _without_secret(text, self.password)
        if _NO_POSTGRESQL.search(text):
            return ConfigurationError(
                f"{self.label()}: what answers there is no PostgreSQL server: {shown}.",
                unchanged="Nothing was changed.",
                remedy="check host and port.",
            )
        if _TLS.search(text) and not _NO_HOST.search(text) and "SYSCALL" not in text:
            return self._untrusted(shown)
        if _NOT_TAKEN.search(text):
            return ConfigurationError(
                f"{self.label()}: a parameter of the URL is not one that PostgreSQL takes: {shown.removeprefix('connection is bad: ')}.",
                unchanged="Nothing was changed.",
                remedy="correct the part of the URL after its question mark.",
            )
        return Unreachable(
            f"{self.label()} cannot be reached: {shown}",
            remedy="check host, port, firewall and that the server runs.",
        )

    @contextlib.contextmanager
    def tool_environment(self, *, role: str | None = None) -> Iterator[dict[str, str]]:
        """Environment in which pg_dump, pg_restore and psql reach this database; the password is in a file for its time only.

        Nothing of our own environment that may hold a secret is passed on.
        """
        fields = ("*", "*", "*", "*", self.password)
        with _passed(":".join(map(_passfile_field, fields)) + "\n") as passfile:
            environment = plain_environment()
            options = dict(self.parameters)
            settings = " ".join(
                f"-c {name}={value.replace(' ', chr(92) + ' ')}"
                for name, value in (
                    ("statement_timeout", "0"),
                    ("idle_in_transaction_session_timeout", "0"),
                    ("lock_timeout", "0"),
                )
            )
            if role is not None and role != self.user:
                settings += f" -c role={_option_value(role)}"
            environment |= {
                "LC_ALL": "C.UTF-8",
                "PGHOST": self.host,
                "PGPORT": str(self.port),
                "PGDATABASE": self.database,
                "PGUSER": self.user,
                "PGPASSFILE": passfile,
                "PGSSLMODE": self.sslmode,
                "PGAPPNAME": "clarity-infra tool",
                "PGCONNECT_TIMEOUT": str(CONNECT_TIMEOUT),
                "PGOPTIONS": f"{options.get('options', '')} {settings}".strip(),
                "PGCLIENTENCODING": "UTF8",
            }
            if self.sslrootcert:
                environment["PGSSLROOTCERT"] = self.sslrootcert
            environment |= {variable: options[name] for name, variable in _TOLD_TO_TOOLS.items() if name in options}
            yield environment


@contextlib.contextmanager
def _passed(text: str) -> Iterator[str]:
    """The name of a private file with this text, for programs that we start. It is on no disk where the system has files in memory: a process
    that is killed (a second Ctrl-C, no memory left) would leave it there.
    """
    data = text.encode()
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("clarity-infra")
        try:
            os.fchmod(descriptor, _PRIVATE)  # libpq takes no other
            os.write(descriptor, data)
            name = f"/proc/{os.getpid()}/fd/{descriptor}"
            if os.access(name, os.R_OK):
                yield name
                return
        finally:
            os.close(descriptor)
    descriptor, name = tempfile.mkstemp(prefix="clarity-infra-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield name
    finally:
        Path(name).unlink(missing_ok=True)


def plain_environment() -> dict[str, str]:
    """What of our own environment a tool is given: nothing that may hold a secret."""
    return {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if key in os.environ}


def _passfile_field(value: str) -> str:
    return value if value == "*" else value.replace("\\", "\\\\").replace(":", "\\:")


def _option_value(value: str) -> str:
    """A value inside PGOPTIONS, where a backslash quotes white space or a backslash."""
    return re.sub(r"([\\\s])", r"\\\1", value)


def _without_secret(text: str, password: str) -> str:
    return text.replace(password, "***") if password else text


def split_or_empty(url: str) -> SplitResult:
    """The parts of a URL that somebody may have written by hand, empty ones where it cannot be read: Python's own error quotes its password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def _parsed(url: str, name: str) -> tuple[SplitResult, dict[str, str]]:
    """The URL's parts and its parameters; refuses what cannot work, each with its reason."""
    text = url.strip()
    if not text:
        raise ConfigurationError(f"{name} is not set.", remedy=f"set {name} in the environment, in .env, or as a secret.")
    if "://" not in text or text.split("://", 1)[0] not in ("postgres", "postgresql"):
        raise ConfigurationError(f"{name} is not a postgres:// URL.", remedy=_URL_FORM)
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"{name} is malformed: host or port cannot be read.", remedy=_URL_FORM) from None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "," in (parts.netloc.rsplit("@", 1)[-1]):
        raise ConfigurationError(f"{name} names several hosts.", remedy="name the one primary server.")
    host = parts.hostname or ""
    if not host or unquote(host).startswith("/") or "host" in query:
        raise ConfigurationError(
            f"{name} names no TCP host (a socket?): the PostgreSQL provider and Hyperdrive reach a server over TCP only.",
            remedy="use the server's host name or 127.0.0.1 in place of the socket.",
        )
    if not parts.username:
        raise ConfigurationError(f"{name} names no user.", remedy=_URL_FORM)
    if "\0" in unquote(parts.username + parts.path):
        raise ConfigurationError(f"{name} is malformed: its user or database has a zero byte.", remedy=_URL_FORM)
    if parts.fragment or "/" in parts.path.lstrip("/") or not parts.path.lstrip("/"):
        raise ConfigurationError(
            f"{name} is malformed: it must end in one database name; a '#', '/', '?' or '@' in user or password must be percent-encoded.",
            remedy=_URL_FORM,
        )
    if _LINE_BREAK.search(unquote(parts.password or "")):
        raise ConfigurationError(
            f"{name}: the password has a line break, which PostgreSQL's tools cannot be given.",
            remedy="give that user another password.",
        )
    return parts, query


def _check_parameters(parts: SplitResult, query: dict[str, str], name: str) -> None:
    """Refuses what cannot work for sessions of ours: a pooler, and what libpq does not know."""
    host, port = parts.hostname or "", parts.port
    pooled = "-pooler." in host or host.split(".")[0].endswith("-pooler") or port in _POOLER_PORTS
    pooled = pooled or any(host.endswith(suffix) and port == number for suffix, number in _POOLER_HOSTS)
    if pooled or query.pop("pgbouncer", "").lower() in ("true", "1"):
        raise ConfigurationError(
            f"{name} goes through a connection pooler, where a snapshot cannot be shared between sessions.",
            remedy="use the provider's direct (unpooled) host or port.",
        )
    unknown = sorted(set(query) - _PASSED_ON - {"sslmode", "sslrootcert"})
    if unknown:
        raise ConfigurationError(
            f"{name} has parameters that are not known here: {', '.join(unknown)}.",
            remedy="take them out; known are sslmode, sslrootcert, " + ", ".join(sorted(_PASSED_ON)) + ".",
        )
    if ("sslcert" in query) != ("sslkey" in query):
        raise ConfigurationError(f"{name} names only one of sslcert and sslkey.", remedy="name both files, or neither.")


def _check_tls(sslmode: str, host: str, name: str, allow_weak_tls: bool) -> None:
    if sslmode in _UNDECIDED_SSLMODES:
        raise ConfigurationError(
            f"{name}: sslmode={sslmode} leaves it to the server whether there is TLS, and the PostgreSQL plugin does not know it.",
            remedy="use sslmode=verify-full; on this machine, or with allowWeakTls, disable or require says what is wanted.",
        )
    if sslmode not in SSLMODES:
        raise ConfigurationError(f"{name}: sslmode={sslmode} is not known.", remedy=f"one of {', '.join(SSLMODES)}.")
    if sslmode != "verify-full" and not is_loopback(host) and not allow_weak_tls:
        raise ConfigurationError(
            f"{name}: sslmode={sslmode} does not prove that {host} is the server it claims to be.",
            remedy="use sslmode=verify-full (with sslRootCert for a private CA), or set allowWeakTls: true to accept the risk.",
        )


_LINE_BREAK = re.compile(r"[\r\n\0]")
_URL_FORM = "the form is postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full, special characters percent-encoded."
