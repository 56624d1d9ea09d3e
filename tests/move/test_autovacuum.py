"""Does autovacuum let go of a database, so that an admin who is no superuser can drop it? On both versions."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest

from clarity_infra.autovacuum import let_go
from clarity_infra.errors import ClarityError
from tests.move.conftest import Scene, make_scene

SLOW = {"autovacuum": "on", "autovacuum_naptime": "1s", "autovacuum_vacuum_cost_delay": "100ms", "autovacuum_vacuum_cost_limit": "1"}

END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
"""What the plugin does before it drops a database."""


@pytest.fixture(params=["server", "server15"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    server = request.getfixturevalue(request.param)
    with make_scene(server, server) as made:
        yield made


@pytest.fixture
def vacuumed(scene: Scene) -> Iterator[Scene]:
    """The target's database with a worker at its table that would be there for many minutes."""
    _configure(scene, *(f"SET {name} = '{value}'" for name, value in SLOW.items()))
    try:
        with scene.on_target() as target:
            target.execute("CREATE TABLE public.large AS SELECT n AS id, repeat('x', 200) AS t FROM generate_series(1, 40000) AS n")
            target.execute(f'ALTER TABLE public.large OWNER TO "{scene.owner}"'.encode())
            target.execute("UPDATE public.large SET id = -id")
        _until_at_work(scene)
        _configure(scene, "SET autovacuum_naptime = '60s'")
        yield scene
    finally:
        _configure(scene, *(f"RESET {name}" for name in SLOW))


def _configure(scene: Scene, *changes: str) -> None:
    with scene.target_server.connect() as root:
        for change in changes:
            root.execute(f"ALTER SYSTEM {change}".encode())
        root.execute("SELECT pg_reload_conf()")


def _until_at_work(scene: Scene) -> None:
    deadline = time.monotonic() + 60
    with scene.target_server.connect() as root:
        while not root.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND backend_type = 'autovacuum worker' AND query LIKE '%%public.large%%'",
            (scene.target,),
        ).fetchone():
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_the_workers_of_a_managed_server_let_go(vacuumed: Scene) -> None:
    admin = vacuumed.move("a").target
    with admin.with_database("postgres").connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(END_ALL, (vacuumed.target,))
    said: list[str] = []
    let_go(admin, said.append)
    assert len(said) == 1
    with admin.with_database("postgres").connect() as connection:
        connection.execute(END_ALL, (vacuumed.target,))


def test_without_a_worker_or_a_database_nothing_is_said(scene: Scene) -> None:
    said: list[str] = []
    let_go(scene.move("a").target, said.append)
    let_go(scene.move("a").target.with_database("gone"), said.append)
    assert not said


def test_one_that_does_not_let_go_is_said_before_anything_is_dropped(vacuumed: Scene) -> None:
    with pytest.raises(ClarityError, match="Autovacuum is at work") as raised:
        let_go(vacuumed.move("a").target, lambda _: None, patience=-1)
    assert "The database was not dropped" in str(raised.value)
