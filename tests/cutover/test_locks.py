"""Who keeps the cut-over from its lock is named, with what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from clarity_infra.errors import Refused
from clarity_infra.move.locks import lock_out_writers
from clarity_infra.move.names import Name
from sandbox.postgres import UNLOGGED_SPEED, Server
from tests.conftest import POSTGRES_15


@pytest.fixture(params=[None, pytest.param(POSTGRES_15, marks=pytest.mark.pg15)], ids=["18", "15"])
def preparing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server on which transactions can be prepared."""
    if request.param is not None and not (request.param / "postgres").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    server = Server(tmp_path / "server", bindir=request.param, settings={**UNLOGGED_SPEED, "max_prepared_transactions": "5"})
    server.start()
    yield server
    server.remove()


def test_a_prepared_transaction_is_named(preparing: Server) -> None:
    """It belongs to no session any more, so that no list of sessions shows it."""
    with preparing.connect("postgres") as application:
        application.execute("CREATE TABLE public.thing (id integer)")
        application.execute("BEGIN; INSERT INTO public.thing VALUES (1); PREPARE TRANSACTION 'left open'")
    with psycopg.connect(preparing.connect("postgres").info.dsn, password=preparing.superuser_password) as lock:
        with pytest.raises(Refused) as refused:
            lock_out_writers(lock, [Name("public", "thing")], budget=0.5, progress=print)
        assert 'prepared transaction "left open" of "postgres", waiting for' in str(refused.value)
        assert "ROLLBACK PREPARED" in refused.value.remedy
        lock.rollback()
        lock.autocommit = True
        lock.execute("COMMIT PREPARED 'left open'")
        lock.autocommit = False
        lock_out_writers(lock, [Name("public", "thing")], budget=5, progress=print)
