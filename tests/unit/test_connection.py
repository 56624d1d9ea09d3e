"""URLs as providers hand them out: what works, and what is refused with its reason and without the password."""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from clarity_infra import postgresql_plugin
from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, ConfigurationError, Unreachable
from sandbox.postgres import Server

PASSWORD = "hunter2-SECRET"

REFUSED = {
    "": "is not set",
    "nonsense": "is not a postgres:// URL",
    "mysql://u:p@h/d": "is not a postgres:// URL",
    f"postgresql://u:{PASSWORD}@h:port/d": "malformed",
    f"postgresql://u:{PASSWORD}@h:99999/d": "malformed",
    f"postgresql://u:{PASSWORD}@[::1/d": "malformed",
    f"postgresql://u:{PASSWORD}@/d?host=/var/run/postgresql": "names no TCP host",
    f"postgresql://u:{PASSWORD}@%2Fvar%2Frun%2Fpostgresql/d": "names no TCP host",
    f"postgresql:///d?user=u&password={PASSWORD}": "names no TCP host",
    f"postgresql://:{PASSWORD}@h/d": "names no user",
    f"postgresql://u:{PASSWORD}@h": "one database name",
    f"postgresql://u:{PASSWORD}@h/": "one database name",
    f"postgresql://u:{PASSWORD}/x@h/d": "malformed",
    f"postgresql://u:{PASSWORD}#x@h/d": "malformed|no TCP|one database",
    f"postgresql://u:{PASSWORD}@h1,h2/d": "several hosts",
    f"postgresql://u:{PASSWORD}@ep-x-pooler.eu.neon.tech/d": "pooler",
    f"postgresql://u:{PASSWORD}@db.supabase.co:6543/d": "pooler",
    f"postgresql://u:{PASSWORD}@h:6432/d": "pooler",
    f"postgresql://u:{PASSWORD}@h/d?pgbouncer=true": "pooler",
    f"postgresql://u:{PASSWORD}@h/d?schema=public": "not known here: schema",
    f"postgresql://u:{PASSWORD}%0Ax@h/d": "line break",
    f"postgresql://u%00:{PASSWORD}@h/d": "zero byte",
    f"postgresql://u:{PASSWORD}@h/d%00": "zero byte",
    f"postgresql://u:{PASSWORD}@h/d?sslmode=maybe": "sslmode=maybe is not known",
    f"postgresql://u:{PASSWORD}@h/d?sslmode=prefer": "leaves it to the server",
    f"postgresql://u:{PASSWORD}@127.0.0.1/d?sslmode=allow": "leaves it to the server",
    f"postgresql://u:{PASSWORD}@h/d?sslcert=client.crt": "only one of sslcert and sslkey",
    f"postgresql://u:{PASSWORD}@h/d?sslcert=no-such.crt&sslkey=no-such.key": "no-such.crt is not there",
    f"postgresql://u:{PASSWORD}@h/d?sslmode=require": "does not prove",
    f"postgresql://u:{PASSWORD}@h/d?sslmode=disable": "does not prove",
    f"postgresql://u:{PASSWORD}@h/d?sslrootcert=/no/such/ca.pem": "CA file",
}


@pytest.mark.parametrize("url", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_reason(url: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[url]) as raised:
        Endpoint.from_url(url, name="MASTER_DATABASE_URL")
    assert "MASTER_DATABASE_URL" in str(raised.value)
    assert "What to do" in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_every_refusal_has_its_own_message() -> None:
    assert len(set(REFUSED.values())) >= 14


def test_encoded_characters_of_a_password_are_undone_and_done_again() -> None:
    endpoint = Endpoint.from_url("postgresql://us%40er:p%40ss%3A%2F%3F%23%25word@h.example:5433/my%20db", name="X")
    assert (endpoint.user, endpoint.password, endpoint.database, endpoint.port) == ("us@er", "p@ss:/?#%word", "my db", 5433)
    assert Endpoint.from_url(endpoint.url(), name="X").password == endpoint.password


def test_verified_tls_is_the_default_away_from_this_machine() -> None:
    assert Endpoint.from_url("postgres://u:p@db.example.com/d", name="X").sslmode == "verify-full"
    assert Endpoint.from_url("postgres://u:p@127.0.0.1/d", name="X").sslmode == "disable"
    assert Endpoint.from_url("postgres://u:p@[::1]/d", name="X").sslmode == "disable"
    assert Endpoint.from_url("postgres://u:p@localhost/d?sslmode=require", name="X").sslmode == "require"
    weak = Endpoint.from_url("postgres://u:p@db.example.com/d?sslmode=require", name="X", allow_weak_tls=True)
    assert weak.sslmode == "require"


def test_verified_tls_names_a_file_with_the_systems_certificates() -> None:
    endpoint = Endpoint.from_url("postgres://u:p@db.example.com/d", name="X")
    assert endpoint.sslrootcert == "system" or Path(endpoint.sslrootcert).is_file()


def test_a_providers_parameters_are_passed_on() -> None:
    url = "postgres://u:p@ep-x.eu.neon.tech/d?sslmode=verify-full&channel_binding=require&options=endpoint%3Dep-x"
    conninfo = Endpoint.from_url(url, name="X").conninfo()
    assert re.search(r"channel_binding='?require", conninfo)
    assert "endpoint=ep-x" in conninfo


# As each provider shows it to its customers; what is asserted is the login, and that nothing is lost of the rest.
WORKS = {
    "Neon": (
        "postgresql://neondb_owner:npg_a%2Fb@ep-cool-darkness-123456.eu-central-1.aws.neon.tech/neondb?sslmode=verify-full&channel_binding=require",
        ("neondb_owner", "npg_a/b", "neondb", 5432),
    ),
    "Neon, to drivers without SNI": (
        "postgresql://u:p@ep-x-1.eu-central-1.aws.neon.tech/neondb?sslmode=verify-full&options=endpoint%3Dep-x-1",
        ("u", "p", "neondb", 5432),
    ),
    "Supabase, direct": ("postgresql://postgres:p%40%23@db.abcdefgh.supabase.co:5432/postgres", ("postgres", "p@#", "postgres", 5432)),
    "Supabase, session mode": (
        "postgres://postgres.abcdefgh:p@aws-0-eu-central-1.pooler.supabase.com:5432/postgres",
        ("postgres.abcdefgh", "p", "postgres", 5432),
    ),
    "RDS": ("postgres://postgres:p%3F%2F@db.c1x2y3.eu-west-1.rds.amazonaws.com:5432/postgres", ("postgres", "p?/", "postgres", 5432)),
    "PlanetScale": (
        "postgresql://postgres.x1y2:pscale_pw_z@eu-west-2.pg.psdb.cloud:5432/postgres?sslmode=verify-full",
        ("postgres.x1y2", "pscale_pw_z", "postgres", 5432),
    ),
    "Aiven": (
        "postgres://avnadmin:AVNS_p@pg-1a2b.aivencloud.com:13039/defaultdb?sslmode=verify-full",
        ("avnadmin", "AVNS_p", "defaultdb", 13039),
    ),
    "Azure": ("postgresql://pgadmin:p@s.postgres.database.azure.com/postgres?sslmode=verify-full", ("pgadmin", "p", "postgres", 5432)),
    "Azure, single server": ("postgres://pgadmin%40s:p@s.postgres.database.azure.com:5432/postgres", ("pgadmin@s", "p", "postgres", 5432)),
    "Crunchy Bridge": ("postgres://postgres:p@p.abc123.db.postgresbridge.com:5432/postgres", ("postgres", "p", "postgres", 5432)),
    "DigitalOcean": (
        "postgresql://doadmin:AVNS_p@db-postgresql-fra1-1-do-user-2-0.b.db.ondigitalocean.com:25060/defaultdb?sslmode=verify-full",
        ("doadmin", "AVNS_p", "defaultdb", 25060),
    ),
    "Heroku": ("postgres://u1x:p9@ec2-1-2-3-4.eu-west-1.compute.amazonaws.com:5432/d1z", ("u1x", "p9", "d1z", 5432)),
    "IPv6": ("postgres://u:p@[2001:db8::1]:5433/d", ("u", "p", "d", 5433)),
}
# As they are handed out too, and what is said to them.
SENT_BACK = {
    "Neon's default": ("postgresql://u:{}@ep-x-1.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require", "does not prove"),
    "Neon's pooler": ("postgresql://u:{}@ep-x-1-pooler.eu-central-1.aws.neon.tech/neondb?sslmode=verify-full", "direct .unpooled. host"),
    "Supabase's transaction mode": ("postgres://postgres.ref:{}@aws-0-eu-central-1.pooler.supabase.com:6543/postgres", "direct .unpooled. host"),
    "Vercel for Supabase": ("postgres://postgres.ref:{}@aws-0-eu.pooler.supabase.com:5432/postgres?supa=base-pooler.x", "not known here: supa"),
    "PlanetScale's pooler": ("postgresql://postgres.x:{}@eu-west-2.pg.psdb.cloud:6432/postgres?sslmode=verify-full", "direct .unpooled. host"),
    "Azure's pooler": ("postgresql://pgadmin:{}@s.postgres.database.azure.com:6432/postgres", "direct .unpooled. host"),
    "Crunchy's pooler": ("postgres://u:{}@p.abc123.db.postgresbridge.com:5431/postgres", "direct .unpooled. host"),
    "DigitalOcean's pooler": ("postgresql://doadmin:{}@x.b.db.ondigitalocean.com:25061/pool", "direct .unpooled. host"),
    "Aiven's default": ("postgres://avnadmin:{}@pg-1a2b.aivencloud.com:13039/defaultdb?sslmode=require", "does not prove"),
    "Heroku for Node": ("postgres://u:{}@ec2-1-2-3-4.compute.amazonaws.com:5432/d?sslmode=no-verify", "sslmode=no-verify is not known"),
    "Prisma's pooler": ("postgres://u:{}@h.example.com/d?pgbouncer=true&connection_limit=1", "direct .unpooled. host"),
}


@pytest.mark.parametrize("provider", WORKS)
def test_urls_of_providers_that_work(provider: str) -> None:
    url, expected = WORKS[provider]
    endpoint = Endpoint.from_url(url, name="MASTER_DATABASE_URL")
    assert (endpoint.user, endpoint.password, endpoint.database, endpoint.port) == expected
    assert endpoint.sslmode == "verify-full"
    plugin = postgresql_plugin.connection(endpoint)
    assert (plugin["username"], plugin["port"], plugin["sslmode"]) == (endpoint.user, endpoint.port, "verify-full")
    assert plugin["sslrootcert"] == endpoint.sslrootcert
    assert plugin["host"] == ("[2001:db8::1]" if provider == "IPv6" else endpoint.host)
    assert endpoint.password not in str(plugin) or len(endpoint.password) == 1


@pytest.mark.parametrize("provider", SENT_BACK)
def test_urls_of_providers_that_are_sent_back_with_the_reason(provider: str) -> None:
    url, reason = SENT_BACK[provider]
    with pytest.raises(ConfigurationError, match=reason) as raised:
        Endpoint.from_url(url.format(PASSWORD), name="MASTER_DATABASE_URL")
    assert PASSWORD not in str(raised.value)
    assert "What to do" in str(raised.value)


@pytest.mark.parametrize("provider", SENT_BACK)
def test_the_application_may_go_any_way_it_likes(provider: str) -> None:
    """Its URL is read for what it names; this program never connects by it."""
    url, _ = SENT_BACK[provider]
    application = Endpoint.from_url(url.format(PASSWORD), name="DATABASE_URL", connects=False)
    assert application.password == PASSWORD
    assert application.database


def test_a_clients_certificate_goes_to_sessions_tools_and_plugin(tmp_path: Path) -> None:
    for name in ("client.crt", "client.key"):
        (tmp_path / name).touch()
    files = {"sslcert": str(tmp_path / "client.crt"), "sslkey": str(tmp_path / "client.key")}
    endpoint = Endpoint.from_url(f"postgres://u:p@h.example.com/d?{urlencode(files)}", name="X")
    assert {name: value for name, value in conninfo_to_dict(endpoint.conninfo()).items() if name in files} == files
    with endpoint.tool_environment() as environment:
        assert (environment["PGSSLCERT"], environment["PGSSLKEY"]) == (files["sslcert"], files["sslkey"])
    assert postgresql_plugin.connection(endpoint)["clientcert"] == {"cert": files["sslcert"], "key": files["sslkey"]}


@pytest.mark.parametrize("name", ["a=b", "postgresql://elsewhere/x", "it's", "a b\\c", "ü\n%s"])
def test_a_database_is_a_name_to_tools_too(name: str) -> None:
    """A name with an equals sign would be a connection string to them, and lead to another server."""
    endpoint = Endpoint("h", 5432, name, "u", "p")
    assert conninfo_to_dict(endpoint.dbname()) == {"dbname": name}
    assert "=" in endpoint.dbname()


def test_neither_repr_nor_label_shows_the_password() -> None:
    endpoint = Endpoint.from_url(f"postgres://u:{PASSWORD}@127.0.0.1/d", name="X")
    assert PASSWORD not in repr(endpoint) + endpoint.label()


def test_an_unreachable_host_is_told_from_a_refused_login() -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        Endpoint.from_url(f"postgres://u:{PASSWORD}@127.0.0.1:1/d", name="X").connect()


@pytest.mark.parametrize("parameter", ["channel_binding=requir", "target_session_attrs=primry", "keepalives=yes", "gssencmode=no"])
def test_a_value_that_libpq_does_not_take_is_no_server_out_of_reach(parameter: str, server: Server) -> None:
    """Out of reach is a warning at preview; this would fail on every machine."""
    url = f"postgres://u:{PASSWORD}@127.0.0.1:{server.port}/d?{parameter}"
    with pytest.raises(ConfigurationError, match="a parameter of the URL") as raised:
        Endpoint.from_url(url, name="X").connect()
    assert parameter.split("=", maxsplit=1)[0] in str(raised.value)


REFUSALS = [
    'FATAL:  no pg_hba.conf entry for host "192.0.2.9", user "u", database "d", SSL encryption',
    'FATAL:  role "u_ssl certificate" does not exist',
    'ВАЖНО:  роль "u" не существует',
    '致命错误:  角色 "u" 不存在',
    'ÖLÜMCÜL (FATAL):  "u" rolü yok',
]


def failing(monkeypatch: pytest.MonkeyPatch, text: str, host: str = "192.0.2.1") -> Endpoint:
    def refuse(*_: object, **__: object) -> None:
        raise psycopg.OperationalError(f'connection failed: connection to server at "{host}", port 5432 failed: {text}\n')

    monkeypatch.setattr(psycopg, "connect", refuse)
    return Endpoint(host, 5432, "d", "u", PASSWORD)


@pytest.mark.parametrize("said", REFUSALS)
def test_a_refusal_is_told_as_one_in_whatever_words(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a certificate that is not trusted, since TLS stands by then; nor, in the server's own language, as a server out of reach."""
    with pytest.raises(ConfigurationError, match='refused the login of "u"') as raised:
        failing(monkeypatch, said + "\nDETAIL:  more").connect()
    assert raised.value.what.endswith(said.split(":  ")[1] + ".")
    assert "allowWeakTls" not in str(raised.value)


def test_a_host_s_name_is_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable):
        failing(monkeypatch, "Connection refused", host="ssl.certificate.example").connect()


@pytest.mark.parametrize(
    "said",
    [
        "SSL error: certificate verify failed",
        "FATAL:  connection requires a valid client certificate",
        'FATAL:  certificate authentication failed for user "u"',
    ],
)
def test_a_certificate_that_is_not_taken_is_told_as_one(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no trusted TLS connection"):
        failing(monkeypatch, said).connect()


def test_a_server_without_room_for_a_session_refuses_no_login(server: Server, new_role: Callable[..., str]) -> None:
    """What is tried by logging in (is another database out of the application's reach?) must not take it for a refusal."""
    role = new_role("limited", "CONNECTION LIMIT 1", password=PASSWORD)
    endpoint = Endpoint("127.0.0.1", server.port, "postgres", role, PASSWORD, sslmode="disable")
    with endpoint.connect(), pytest.raises(Unreachable, match=f'takes no more sessions of "{role}": too many connections for role') as raised:
        endpoint.connect()
    assert "`workers`" in raised.value.remedy


def test_the_password_of_a_tool_is_in_a_file_for_its_time_only() -> None:
    endpoint = Endpoint.from_url(f"postgres://u:{PASSWORD}@127.0.0.1/d", name="X")
    with endpoint.tool_environment() as environment:
        passfile = Path(environment["PGPASSFILE"])
        assert passfile.stat().st_mode & 0o777 == 0o600
        assert PASSWORD in passfile.read_text()
        assert not any(PASSWORD in value for value in environment.values())
    assert not passfile.exists()


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_tool_is_let_in_by_that_file(in_memory: bool, server: Server, new_role: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is in the password; where the system has no files in memory too."""
    password = "a:b\\c é'\"$ #"
    endpoint = Endpoint("127.0.0.1", server.port, "postgres", new_role("tooled", password=password), password, sslmode="disable")
    if not in_memory:
        monkeypatch.delattr("os.memfd_create")
    with endpoint.tool_environment() as environment:
        assert environment["PGPASSFILE"].startswith("/proc/") is in_memory
        command = [str(server.bindir / "psql"), "--no-password", "-Atc", "SELECT current_user"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{endpoint.user}\n", done.stderr


def test_a_process_that_is_killed_leaves_no_password_on_a_disk(tmp_path: Path) -> None:
    holds = (
        "import os, signal; from clarity_infra.connection import Endpoint\n"
        f"with Endpoint('127.0.0.1', 1, 'd', 'u', '{PASSWORD}').tool_environment() as environment:\n"
        f"    assert '{PASSWORD}' in open(environment['PGPASSFILE']).read(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", holds], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*")) == []


def test_errors_are_of_one_family() -> None:
    assert issubclass(ConfigurationError, ClarityError)
    assert issubclass(Unreachable, ClarityError)


def refusing(text: str, severity: str = "FATAL") -> Callable[[socket.socket], None]:
    """A server that answers the first message of a session with an error. https://www.postgresql.org/docs/current/protocol-error-fields.html"""
    fields = f"S{severity}\0VFATAL\0C00000\0M{text}\0\0".encode()
    return lambda client: client.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where each client's first message is answered so, and the connection then closed."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(1000)
                    answer(client)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def break_off(client: socket.socket) -> None:
    """Agrees to TLS, then breaks off, as a firewall does that looks into the handshake."""
    client.sendall(b"S")
    client.recv(1000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(client: socket.socket) -> None:
    """Says nothing."""


def answer_as_a_web_server(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


WRONG, OUT_OF_REACH = ConfigurationError, Unreachable
ANSWERS: dict[str, tuple[Callable[[socket.socket], None], str, type[ClarityError], str]] = {
    "a password": (refusing('password authentication failed for user "u"'), "disable", WRONG, r'refused the password of "u"'),
    "a password, by a proxy": (refusing("password authentication failed for user 'u'", "ERROR"), "disable", WRONG, "refused the password"),
    "a password, in Russian": (refusing("пользователь не прошёл проверку", "ВАЖНО"), "disable", WRONG, "login of .* не прошёл"),
    "a password, in Chinese": (refusing("用户密码认证失败", "致命错误"), "disable", WRONG, "refused the login of .*认证失败"),
    "a name that sounds like TLS": (refusing('database "ssl_certificate" does not exist'), "disable", WRONG, 'login of "u": database "ssl_c'),
    "TLS, by pg_hba.conf": (refusing('no pg_hba.conf entry for host "h", SSL off'), "disable", WRONG, "refused the login .* pg_hba"),
    "a start": (refusing("the database system is starting up"), "disable", OUT_OF_REACH, "lets nobody in now: .* starting up"),
    "too many": (refusing("sorry, too many clients already"), "disable", OUT_OF_REACH, "takes no more sessions .* too many clients"),
    "nothing": (hang_up, "disable", OUT_OF_REACH, "cannot be reached: server closed the connection unexpectedly"),
    "TLS that breaks": (break_off, "require", OUT_OF_REACH, "cannot be reached: SSL SYSCALL error"),
    "another protocol": (answer_as_a_web_server, "disable", WRONG, "is no PostgreSQL server"),
    "another protocol for TLS": (answer_as_a_web_server, "require", WRONG, "is no PostgreSQL server"),
}


@pytest.mark.parametrize("answered", ANSWERS)
def test_what_a_server_answers_is_told_for_what_it_is(answered: str) -> None:
    """At a preview an unreachable server is a warning and all else an error, so that the one must not be taken for the other."""
    answer, mode, kind, text = ANSWERS[answered]
    with answering(answer) as port:
        endpoint = Endpoint.from_url(f"postgres://u:{PASSWORD}@127.0.0.1:{port}/d?sslmode={mode}", name="X")
        with pytest.raises(ClarityError, match=re.compile(text, re.DOTALL)) as raised:
            endpoint.connect()
    assert type(raised.value) is kind, raised.value


@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1:1", "reached: Connection refused$"), ("ssl-certificate.invalid", "reached: failed to resolve host")]
)
def test_an_unreachable_host_is_told_with_the_reason(host: str, reason: str) -> None:
    with pytest.raises(Unreachable, match=re.compile(reason, re.MULTILINE)):
        Endpoint.from_url(f"postgres://u:{PASSWORD}@{host}/d", name="X").connect()
