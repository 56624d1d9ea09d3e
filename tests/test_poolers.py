"""A pooler is known by what it does, on whatever host and port: in transaction mode it is refused, in session mode it is none."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from clarity_infra.move.survey import survey
from clarity_infra.pooler import is_pooled, refuse_pooled
from sandbox.postgres import Server
from tests.pooler import Mode, pooler


@pytest.fixture
def direct(server: Server, database: str) -> Endpoint:
    return Endpoint("127.0.0.1", server.port, database, "postgres", server.superuser_password, sslmode="disable")


def test_a_direct_connection_is_none(direct: Endpoint) -> None:
    with direct.connect() as connection:
        assert not is_pooled(direct, connection)
        refuse_pooled(direct, connection)


@pytest.mark.parametrize("mode", ["transaction", "round robin"])
@pytest.mark.parametrize("others", [0, 1, 7])
def test_a_transaction_pooler_is_refused_however_it_chooses(direct: Endpoint, mode: Mode, others: int) -> None:
    """Also where other clients have left some server processes idle."""
    with pooler(direct, mode) as pooled:
        sessions = [pooled.connect() for _ in range(others)]
        for session in sessions:
            session.execute("SELECT 1")
        with pooled.connect() as connection:
            assert is_pooled(pooled, connection)
            with pytest.raises(Refused, match=r"transaction pooler(?s:.)*direct \(unpooled\) host or port"):
                refuse_pooled(pooled, connection)
        for session in sessions:
            session.close()


def test_a_session_pooler_is_none(direct: Endpoint) -> None:
    with pooler(direct, "session") as pooled, pooled.connect() as connection:
        assert not is_pooled(pooled, connection)


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_survey_names_the_side(server: Server, direct: Endpoint, side: str) -> None:
    with direct.connect() as connection:
        connection.execute("CREATE TABLE public.one (id int)")
    with pooler(direct if side == "source" else direct.with_database("postgres"), "transaction") as pooled:
        ends = {"source": direct, "target": direct.with_database("nowhere"), side: pooled}
        found = survey(Move("dev", ends["source"], ends["target"], "nobody", (Name("public", "one"),), tracking="none"), target_exists=False)
    assert f"{side} connection" in [blocker.object for blocker in found.blockers]


def test_a_pooler_that_refuses_our_settings_is_named() -> None:
    """What pgbouncer answers to a start-up packet with `options`."""
    told = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                client.sendall(b"E" + struct.pack("!i", len(told) + 4) + told)

        threading.Thread(target=answer, daemon=True).start()
        endpoint = Endpoint("127.0.0.1", listening.getsockname()[1], "d", "u", "secret", sslmode="disable")
        with pytest.raises(ConfigurationError, match=r"connection pooler(?s:.)*direct \(unpooled\)"):
            endpoint.connect()
