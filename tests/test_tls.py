"""Verified TLS: the right certificate authority and host pass; everything else fails at first contact, with the reason and no password.

The embedded PostgreSQL is built without TLS, so the server here is Debian's 15.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
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


def _serve(folder: Path, certificate: str) -> Iterator[Server]:
    if os.geteuid() == 0:  # the server runs as another user then, which must be able to read its key
        account = pwd.getpwnam("nobody")
        os.chown(folder / f"{certificate}.key", account.pw_uid, account.pw_gid)
    (folder / f"{certificate}.key").chmod(0o600)
    tls = {"ssl": "on", "ssl_cert_file": str(folder / f"{certificate}.pem"), "ssl_key_file": str(folder / f"{certificate}.key")}
    server = Server(folder / f"server-{certificate}", bindir=POSTGRES_15, settings={**UNLOGGED_SPEED, **tls})
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
