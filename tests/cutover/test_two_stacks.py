"""Two stacks that share a source: each has its own fence, journal and lock, and neither minds the other."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from clarity_infra.errors import Refused
from clarity_infra.move.back import undo
from clarity_infra.move.cleanup import clean_up
from clarity_infra.move.crossing import crossing
from clarity_infra.move.journal import Journal
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.names import Name
from clarity_infra.move.status import status
from tests.cutover.scene import FakeSwitch, Scene

HERS = ("person", "team")
HIS = ("config", "requests", "messages", "log", "audit")


HER_TABLES = """
CREATE TABLE public.person (id integer PRIMARY KEY, name text, team integer);
CREATE TABLE public.team (id integer PRIMARY KEY, name text NOT NULL UNIQUE, lead integer NOT NULL REFERENCES public.person);
INSERT INTO public.person VALUES (1, 'Ann', 1), (2, 'Bob', 2);
INSERT INTO public.team VALUES (1, 'red', 1), (2, 'blue', 2);
ALTER TABLE public.person ADD FOREIGN KEY (team) REFERENCES public.team;
"""


@pytest.fixture
def pair(new_scene: Callable[..., Scene]) -> Iterator[tuple[Scene, Scene]]:
    """Stacks `his` and `hers`, which move different tables of one database to one each."""
    his = new_scene()
    owner, database = f"{his.move.owner}_hers", f"{his.move.target.database}_hers"
    with his.source() as admin:
        admin.execute(f"CREATE ROLE {owner} LOGIN")
        admin.execute(f"GRANT {owner} TO {his.move.source.user}")
        admin.execute(f"CREATE DATABASE {database} TEMPLATE template0")
    hers = dataclasses.replace(
        his,
        move=dataclasses.replace(
            his.move,
            stack="hers",
            owner=owner,
            target=his.move.source.with_database(database),
            tables=tuple(Name("public", table) for table in HERS),
            tracking="none",
        ),
        migrations=Migrations(None),
        switch=FakeSwitch(),
        said=[],
    )
    with psycopg.connect(hers.move.target.conninfo(), autocommit=True) as admin:
        admin.execute(f"GRANT CREATE ON SCHEMA public TO {owner}")
        admin.execute(f"SET ROLE {owner}")
        admin.execute(HER_TABLES)
    his.on_target("DROP TABLE public.person, public.team")
    his.move = dataclasses.replace(his.move, stack="his", tables=tuple(Name("public", table) for table in HIS))
    for scene in (his, hers):
        with scene.move.target.connect() as target:
            Journal(target, scene.move.stack).open().append("copied", uuid.uuid4())
    yield his, hers
    with his.server.connect() as root:
        root.execute(f"DROP DATABASE {database} WITH (FORCE)")
    with his.server.connect(his.move.source.database) as root:
        root.execute(f"DROP OWNED BY {owner}")
        root.execute(f"DROP ROLE {owner}")


def takes_writes(scene: Scene, table: str) -> bool:
    try:
        scene.on_source(f"DELETE FROM public.{table} WHERE false")
        return True
    except psycopg.errors.ReadOnlySqlTransaction:
        return False


def test_each_crosses_by_itself(pair: tuple[Scene, Scene], tmp_path: Path) -> None:
    his, hers = pair
    with crossing(his.move, his.switch, uuid.uuid4(), print):  # his run holds his lock, and hers goes on
        hers.cut_over()
    assert takes_writes(his, "requests") and not takes_writes(his, "person")
    assert [status(scene.move, target_exists=True).side for scene in pair] == ["source", "target"]
    his.cut_over()
    assert not takes_writes(his, "requests")
    hers.on_target("UPDATE public.person SET name = 'Eve' WHERE id = 1")
    hers.go_back()
    assert takes_writes(his, "person") and not takes_writes(his, "requests")
    assert his.on_source("SELECT name FROM public.person WHERE id = 1") == [("Eve",)]
    clean_up(his.move, run=uuid.uuid4(), backup=tmp_path, monitoring=timedelta(0), acknowledged=1000, progress=print)
    assert takes_writes(his, "person")
    hers.cut_over()
    undo(hers.move, hers.switch, run=uuid.uuid4(), lock_budget=5, alive=lambda: True, progress=print)
    assert takes_writes(his, "team")
    with his.move.source.connect() as source:
        assert Journal(source, "hers").last() is None and Journal(source, "his").last() is not None


def test_tables_that_another_stack_has_live_are_refused_by_name(pair: tuple[Scene, Scene]) -> None:
    his, hers = pair
    hers.cut_over()
    everything = dataclasses.replace(his.move, tables=his.move.tables + tuple(Name("public", table) for table in HERS))
    mine, his.move = his.move, everything
    with pytest.raises(Refused, match=r"public\.person by stack hers, public\.team by stack hers"):
        his.cut_over()
    assert takes_writes(his, "requests") and his.switch.calls == []
    his.move = mine
    assert his.cut_over()["proved"]
