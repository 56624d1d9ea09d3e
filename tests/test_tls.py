"""Verified TLS: the right certificate authority and host pass; everything else fails at first contact, with the reason and no password.

The embedded PostgreSQL is built without TLS, so the server here is Debian's 15.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest

from clarity_infra import postgresql_plugin
from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, ConfigurationError
from clarity_infra.review import review
from clarity_infra.settings import Settings
from sandbox.plugins.pg import connection as plugin
from sandbox.plugins.provider import Refused
from sandbox.postgres import UNLOGGED_SPEED, Server
from tests.conftest import POSTGRES_15

pytestmark = pytest.mark.pg15


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


class Authority:
    """A certificate authority for tests, and the certificates it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.certificate = folder / f"{name}.pem"
        _openssl(
            folder,
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )

    def sign(self, name: str, host: str, *validity: str) -> None:
        """Writes NAME.pem and NAME.key for `host`."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        request = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={host}")
        _openssl(self.folder, *request, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key", "-CAcreateserial")
        _openssl(self.folder, *signed, "-extfile", f"{name}.ext", "-out", f"{name}.pem", *validity)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    if not (POSTGRES_15 / "postgres").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15); the embedded server has no TLS")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on PATH")
    path = Path(tempfile.mkdtemp(prefix="clarity-tls-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "test-ca")


def _serve(folder: Path, certificate: str, more: Mapping[str, str] | None = None) -> Iterator[Server]:
    if os.geteuid() == 0:  # the server runs as another user then, which must be able to read its key
        account = pwd.getpwnam("nobody")
        os.chown(folder / f"{certificate}.key", account.pw_uid, account.pw_gid)
    (folder / f"{certificate}.key").chmod(0o600)
    tls = {"ssl": "on", "ssl_cert_file": str(folder / f"{certificate}.pem"), "ssl_key_file": str(folder / f"{certificate}.key")}
    server = Server(folder / f"server-{certificate}", bindir=POSTGRES_15, settings={**UNLOGGED_SPEED, **tls, **(more or {})})
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def secure(folder: Path, authority: Authority) -> Iterator[Server]:
    authority.sign("good", "localhost", "-days", "2")
    yield from _serve(folder, "good")


@pytest.fixture(scope="module")
def expired(folder: Path, authority: Authority) -> Iterator[Server]:
    authority.sign("expired", "localhost", "-days", "-1")
    yield from _serve(folder, "expired")


def endpoint(server: Server, authority: Path | None, host: str = "localhost") -> Endpoint:
    url = f"postgresql://postgres:{server.superuser_password}@{host}:{server.port}/postgres?sslmode=verify-full"
    return Endpoint.from_url(url, name="MASTER_DATABASE_URL", sslrootcert=str(authority) if authority else "")


def refusal(target: Endpoint) -> str:
    with pytest.raises(ClarityError) as raised:
        target.connect()
    assert target.password not in str(raised.value)
    assert "What to do" in str(raised.value)
    return str(raised.value)


def test_the_right_authority_and_host_pass_and_the_session_is_encrypted(secure: Server, authority: Authority) -> None:
    with endpoint(secure, authority.certificate).connect() as connection:
        row = connection.execute("SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()").fetchone()
    assert row == (True,)


def test_pg_dump_connects_as_verified_as_we_do(secure: Server, authority: Authority, folder: Path) -> None:
    other = Authority(folder, "tool-ca")
    for certificate, status in ((authority.certificate, 0), (other.certificate, 1)):
        with endpoint(secure, certificate).tool_environment() as environment:
            command = [str(POSTGRES_15 / "pg_dump"), "--schema-only"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert "certificate verify failed" in done.stderr if status else not done.stderr


def test_another_authority_is_refused(secure: Server, folder: Path) -> None:
    assert "certificate verify failed" in refusal(endpoint(secure, Authority(folder, "other-ca").certificate))


def test_the_systems_authorities_do_not_know_a_private_one(secure: Server) -> None:
    assert "no trusted TLS connection" in refusal(endpoint(secure, None))


def test_another_host_than_the_certificates_is_refused(secure: Server, authority: Authority) -> None:
    assert "does not match host name" in refusal(endpoint(secure, authority.certificate, "127.0.0.1"))


def test_an_expired_certificate_is_refused(expired: Server, authority: Authority) -> None:
    assert "certificate" in refusal(endpoint(expired, authority.certificate))


def test_a_server_without_tls_is_refused(server15: Server, authority: Authority) -> None:
    assert "server does not support SSL" in refusal(endpoint(server15, authority.certificate))


# The same for everything else that connects: the review, which comes before the plugin, the plugin, and PostgreSQL's tools.


def by_plugin(target: Endpoint) -> bool:
    """Whether the session of the plugin's stand-in, given what the program gives the plugin, is encrypted. Raises Refused."""
    server = plugin.Server.of({**postgresql_plugin.connection(target), "password": target.password, "superuser": False, "connectTimeout": 15})
    with server.autocommit() as session:
        row = session.execute("SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()").fetchone()
    return bool(row and row["ssl"])


def by_tool(target: Endpoint, tool: str) -> subprocess.CompletedProcess[str]:
    arguments = {"psql": ["-XAtc", "SELECT 1"], "pg_dump": ["--schema-only"]}
    with target.tool_environment() as environment:
        return subprocess.run([str(POSTGRES_15 / tool), *arguments[tool]], env=environment, capture_output=True, text=True, check=False)


def reviewed(target: Endpoint, authority: Path | None) -> None:
    """A preview with this URL. Raises ConfigurationError."""
    values = {
        "masterDatabaseUrl": target.url(),
        "envFile": "",
        "tables": '["no_such_table"]',
        "sslRootCert": str(authority) if authority else "",
    }
    review(Settings.read("dev", values.get, environment={}, folder=Path.cwd()), preview=True)


def next_transaction(server: Server) -> str:
    with server.connect() as connection:
        return str(connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())").fetchall()[0][0])


def test_right_for_the_review_the_plugin_and_the_tools(secure: Server, authority: Authority) -> None:
    target = endpoint(secure, authority.certificate)
    with pytest.raises(ConfigurationError, match=r"no table public\.no_such_table"):  # it came as far as the tables
        reviewed(target, authority.certificate)
    assert by_plugin(target)
    assert by_tool(target, "psql").stdout == "1\n"


@pytest.mark.parametrize("wrong", ["authority", "no authority", "host", "expired", "no TLS"])
def test_wrong_for_the_review_the_plugin_and_the_tools(
    secure: Server, expired: Server, server15: Server, authority: Authority, wrong: str
) -> None:
    server = {"expired": expired, "no TLS": server15}.get(wrong, secure)
    known: Path | None = {"authority": Authority(authority.folder, "another-ca").certificate, "no authority": None}.get(
        wrong, authority.certificate
    )
    target = endpoint(server, known, "127.0.0.1" if wrong == "host" else "localhost")
    before = next_transaction(server)
    with pytest.raises(ConfigurationError, match="no trusted TLS connection") as raised:
        reviewed(target, known)
    assert server.superuser_password not in str(raised.value)
    with pytest.raises(Refused):
        by_plugin(target)
    for tool in ("psql", "pg_dump"):
        done = by_tool(target, tool)
        assert done.returncode != 0
        assert server.superuser_password not in done.stderr
    assert next_transaction(server) == before


@pytest.mark.parametrize(("mode", "host"), [("require", "127.0.0.1"), ("verify-ca", "127.0.0.1"), ("verify-full", "localhost")])
def test_what_each_mode_proves_is_the_same_for_plugin_and_sessions(
    secure: Server, expired: Server, authority: Authority, mode: str, host: str
) -> None:
    other = Authority(authority.folder, f"{mode}-ca").certificate

    def at(known: Path | None, server: Server = secure) -> Endpoint:
        return dataclasses.replace(endpoint(server, known, host), sslmode=mode, sslrootcert=str(known) if known else "")

    assert by_plugin(at(authority.certificate))
    at(authority.certificate).connect().close()
    for wrong in (at(other), at(authority.certificate, expired)):
        with pytest.raises(Refused):
            by_plugin(wrong)
        with pytest.raises(ConfigurationError):
            wrong.connect()
    if mode == "require":
        assert by_plugin(at(None))


def test_a_server_that_asks_for_a_certificate_of_the_client(folder: Path, authority: Authority) -> None:
    """Sessions, tools and plugin show the one that the URL names."""
    authority.sign("asking", "localhost", "-days", "2")
    authority.sign("client", "postgres", "-days", "2")
    (folder / "client.key").chmod(0o600)
    for server in _serve(folder, "asking", {"ssl_ca_file": str(authority.certificate)}):
        hba = server.data_path / "pg_hba.conf"
        hba.write_text("hostssl all all all scram-sha-256 clientcert=verify-ca\nhostnossl all all all scram-sha-256\n")
        with server.connect() as connection:
            connection.execute("SELECT pg_reload_conf()")
        files = urlencode({"sslcert": folder / "client.crt", "sslkey": folder / "client.key"})
        (folder / "client.crt").write_bytes((folder / "client.pem").read_bytes())
        bare = endpoint(server, authority.certificate)
        assert "certificate" in refusal(bare)
        shown = Endpoint.from_url(f"{bare.url()}&{files}", name="MASTER_DATABASE_URL", sslrootcert=str(authority.certificate))
        shown.connect().close()
        assert by_plugin(shown)
        assert by_tool(shown, "psql").stdout == "1\n"
