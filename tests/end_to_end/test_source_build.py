"""A build of the source that was interrupted is gone on with, on either server: no half-made source is ever taken for a whole one."""

from __future__ import annotations

import sys
from collections.abc import Callable

import psycopg
import pytest

from sandbox import source
from sandbox.postgres import Server
from sandbox.source import NEIGHBOURS, TABLES

ROWS = 200


@pytest.fixture(params=["server", pytest.param("server15", marks=pytest.mark.pg15)])
def place(request: pytest.FixtureRequest, new_database: Callable[..., str]) -> str:
    """The URL of an empty database."""
    server: Server = request.getfixturevalue(request.param)
    return server.url(new_database("source", on=server))


def interrupt(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sys.modules["sandbox.source.build"], "_wind_sequences_on", end)
        source.build(url, rows=ROWS)


def test_the_next_build_goes_on(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, place)
    with psycopg.connect(place) as connection:
        assert connection.execute("SELECT to_regclass(%s)", [NEIGHBOURS[0]]).fetchone() == (None,)
        assert [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in TABLES] == [(0,)] * len(TABLES)
    facts = source.build(place, rows=ROWS)
    assert sum(facts.rows.values()) == ROWS
    with psycopg.connect(place) as connection:
        assert connection.execute("SELECT count(*) FROM drizzle.__drizzle_migrations").fetchone() == (3,)
        assert connection.execute("SELECT obj_description('app_config'::regclass)").fetchone() == (None,)
    with pytest.raises(source.SourceError, match="already holds"):
        source.build(place, rows=ROWS)


def test_a_build_with_other_migrations_does_not_go_on(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, place)
    with pytest.raises(source.SourceError, match="already holds"):
        source.build(place, rows=ROWS, tracking="public")
