"""The same on other servers, by other admins, and with tables of other kinds."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from clarity_infra.move.names import Name
from sandbox.postgres import Server
from tests.cutover.scene import WRITES, Scene
from tests.cutover.test_cut_over import no_write_is_lost


def there_and_back(scene: Scene) -> None:
    no_write_is_lost(scene)
    for name, statement in WRITES.items():
        if name != "truncate":
            scene.on_target(statement)
    after = scene.contents("target")
    scene.go_back()
    assert scene.contents("source") == after


def test_a_superuser(new_scene: Callable[..., Scene]) -> None:
    there_and_back(new_scene(superuser=True))


@pytest.mark.pg15
def test_postgresql_15(new_scene: Callable[..., Scene], server15: Server) -> None:
    there_and_back(new_scene(on=server15))


PARTITIONED = """
CREATE TABLE public.events (id bigint, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE public.events_1 PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE public.events_2 PARTITION OF public.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE public.animal (id int PRIMARY KEY, name text);
CREATE TABLE public.dog (tail int, PRIMARY KEY (id)) INHERITS (public.animal);
CREATE TABLE public."Odd ""na.me%s" ("Key %" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "user" text, "tim''e" timestamptz UNIQUE,
  span int4range, EXCLUDE USING gist (span WITH &&));
CREATE TABLE public.exact (code char(5), amount numeric(10, 4), f float8, b bytea, j json, a text[], d "char", PRIMARY KEY (code));
CREATE TABLE public.numbered (id uuid PRIMARY KEY, n integer GENERATED ALWAYS AS IDENTITY, body text);
CREATE TABLE public.nothing ();
"""

KINDS = {
    "a row moves to another partition": "UPDATE public.events SET day = '2025-06-01' WHERE id = 1",
    "a partition by its own name": "INSERT INTO public.events_1 VALUES (99, '2024-05-05', 'direct'); DELETE FROM public.events_2 WHERE id = 3",
    "a child of a table": "UPDATE public.animal SET name = 'renamed'; DELETE FROM ONLY public.animal WHERE id = 2",
    "an odd name": """UPDATE public."Odd ""na.me%s" SET "user" = 'x%sy' || "user"; INSERT INTO public."Odd ""na.me%s" ("user") VALUES ('%')""",
    "an exclusion": """UPDATE public."Odd ""na.me%s" SET span = NULL WHERE "user" = 'a';
      UPDATE public."Odd ""na.me%s" SET span = '[1,5)' WHERE "user" = 'b';
      UPDATE public."Odd ""na.me%s" SET span = '[5,9)' WHERE "user" = 'a'""",
    "exact values": r"""UPDATE public.exact SET amount = 1.5000, f = '-0', b = '\x00ff', j = '{"a" :  1}', a = '{NULL,"NULL","a,b"}', d = 'ü'
      WHERE code = 'one'; INSERT INTO public.exact VALUES ('t o', 'NaN', 'NaN', '', 'null', '{}', '')""",
    "rows without columns": "INSERT INTO public.nothing DEFAULT VALUES; INSERT INTO public.nothing DEFAULT VALUES",
    "a number given anew": "DELETE FROM public.numbered; INSERT INTO public.numbered (id, body) VALUES (gen_random_uuid(), 'new')",
}

SEEDS = """
INSERT INTO public.events VALUES (1, '2024-02-02', 'one'), (2, '2024-03-03', 'two'), (3, '2025-04-04', 'three');
INSERT INTO public.animal VALUES (1, 'cat'), (2, 'cow'); INSERT INTO public.dog VALUES (1, 'rex', 3);
INSERT INTO public."Odd ""na.me%s" ("Key %", "user", span) VALUES
  ('00000000-0000-0000-0000-000000000001', 'a', '[1,5)'), ('00000000-0000-0000-0000-000000000002', 'b', '[5,9)');
INSERT INTO public.exact VALUES ('one', 1.5, 0, NULL, '{}', NULL, 'x');
INSERT INTO public.numbered (id, body) VALUES ('00000000-0000-0000-0000-000000000001', 'x');
INSERT INTO public.nothing DEFAULT VALUES;
"""

MORE = ("events", "events_1", "events_2", "animal", "dog", 'Odd "na.me%s', "exact", "numbered", "nothing")


@pytest.fixture
def kinds(new_scene: Callable[..., Scene]) -> Scene:
    """A scene with tables of every kind."""
    import dataclasses

    scene = new_scene()
    scene.move = dataclasses.replace(scene.move, tables=scene.move.tables + tuple(Name("public", name) for name in MORE))
    for run in (scene.on_source, scene.on_target):
        run(PARTITIONED)
        run(SEEDS)
    return scene


def held(scene: Scene, side: str) -> dict[str, list[str]]:
    with scene.source() if side == "source" else scene.target() as connection:
        return {
            name: sorted(
                row[0]
                for row in connection.execute(
                    psycopg.sql.SQL("SELECT tableoid::regclass::text || ROW({0}.*)::text FROM {0}").format(psycopg.sql.Identifier(name))
                )
            )
            for name in MORE
        }


def test_tables_of_every_kind_go_there(kinds: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    from clarity_infra.move import faults

    statements = iter(KINDS.values())

    def write(point: str) -> None:
        if point == "brought near":
            for statement in statements:
                kinds.on_source(statement)

    kinds.on_source("UPDATE public.exact SET f = 1e300")
    monkeypatch.setattr(faults, "fault", write)
    kinds.cut_over()
    assert held(kinds, "source") == held(kinds, "target")
    for name in MORE:
        with kinds.source() as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute(psycopg.sql.SQL("DELETE FROM {}").format(psycopg.sql.Identifier(name)))


def test_tables_of_every_kind_come_back(kinds: Scene) -> None:
    kinds.cut_over()
    for statement in KINDS.values():
        kinds.on_target(statement)
    kinds.go_back()
    assert held(kinds, "source") == held(kinds, "target")
