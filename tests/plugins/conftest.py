"""A server that looks like the recorded one, a fake Cloudflare API, and the stand-ins served over gRPC."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from sandbox.plugins.cloudflare import Cloudflare
from sandbox.plugins.cloudflare_api import FIRST_PAUSE_VARIABLE
from sandbox.plugins.postgresql import Postgresql
from sandbox.plugins.random import Random
from sandbox.postgres import UNLOGGED_SPEED, Server
from tests.plugins.fake_cloudflare import FakeCloudflare
from tests.plugins.replay import Served

ADMIN_PASSWORD = "admin"
"""The password of both admins in the recordings."""


@pytest.fixture(scope="session")
def recorded_server() -> Iterator[Server]:
    """A PostgreSQL 18 with the admins of the recordings: the superuser `postgres`, and `managed`, who is none."""
    folder = Path(tempfile.mkdtemp(prefix="clarity-plugins-"))
    folder.chmod(0o755)
    server = Server(folder / "server", superuser_password=ADMIN_PASSWORD, settings=UNLOGGED_SPEED)
    try:
        server.start()
        with server.connect() as connection:
            connection.execute(sql.SQL("CREATE ROLE managed LOGIN CREATEROLE CREATEDB PASSWORD {}").format(sql.Literal(ADMIN_PASSWORD)))
        yield server
    finally:
        server.remove()
        shutil.rmtree(folder)


@pytest.fixture
def recorded_names(recorded_server: Server) -> Iterator[None]:
    """Takes away, after the test, what the recorded program makes, where a failure left it."""
    yield
    with recorded_server.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS clarity WITH (FORCE)")
        for role in ("clarity_user", "clarity_rw", "scram_user"):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloudflare]:
    """A fake Cloudflare API with nothing in it."""
    monkeypatch.setenv(FIRST_PAUSE_VARIABLE, "0.001")
    with FakeCloudflare().running() as fake:
        yield fake


@pytest.fixture
def served() -> Iterator[Served]:
    """The three stand-ins, not configured yet."""
    stand_ins = Served(random=Random, postgresql=Postgresql, cloudflare=Cloudflare)
    yield stand_ins
    stand_ins.stop()
