"""Two rows that exchange a value which is unique and never empty: whatever its type, each gets the other's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.postgres import Server
from tests.cutover.scene import Scene

STRUCTURE = """
CREATE DOMAIN public.address AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE public.account (
  id integer PRIMARY KEY, email text NOT NULL, work public.address NOT NULL UNIQUE, short varchar(6) NOT NULL UNIQUE, at time NOT NULL UNIQUE,
  day date NOT NULL UNIQUE, address inet NOT NULL UNIQUE, number oid NOT NULL UNIQUE, small smallint NOT NULL UNIQUE,
  span int4range NOT NULL, EXCLUDE USING gist (span WITH &&), list integer[] NOT NULL UNIQUE, lasts interval NOT NULL UNIQUE,
  body bytea NOT NULL UNIQUE, document jsonb NOT NULL UNIQUE, key uuid NOT NULL UNIQUE, tag text NOT NULL, active boolean NOT NULL);
CREATE UNIQUE INDEX ON public.account (lower(email));
CREATE UNIQUE INDEX ON public.account (tag) WHERE active;
INSERT INTO public.account VALUES
  (1, 'A@x', 'a@x', 'abcdef', '10:00', '2024-01-01', '10.0.0.1', 100, -32768, '[1,5)', '{1}', '1 day', 'one', '{"a": 1}',
   '00000000-0000-0000-0000-000000000001', 'first', true),
  (2, 'B@x', 'b@x', 'ghijkl', '11:00', '2024-01-02', '10.0.0.2', 101, 5, '[5,9)', '{2}', '2 days', 'two', '{"b": 2}',
   '00000000-0000-0000-0000-000000000002', 'second', true);
"""
EXCHANGED = ("email", "work", "short", "at", "day", "address", "number", "small", "span", "list", "lasts", "body", "document", "key", "tag")


def test_values_of_every_type_are_exchanged(copied_scene: Callable[..., Scene]) -> None:
    scene = copied_scene(STRUCTURE, "account")
    scene.cut_over()
    columns = ", ".join(EXCHANGED)
    scene.on_target(
        "CREATE TEMPORARY TABLE kept AS TABLE public.account; DELETE FROM public.account;"
        f" INSERT INTO public.account (id, active, {columns}) SELECT 3 - id, active, {columns} FROM kept"
    )
    after = scene.on_target("SELECT id, account::text FROM public.account ORDER BY id")
    scene.go_back()
    assert scene.on_source("SELECT id, account::text FROM public.account ORDER BY id") == after


CYCLE = """
CREATE TABLE public.part (id integer, day date, other integer, of date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE public.part_1 PARTITION OF public.part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE public.part_2 PARTITION OF public.part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
ALTER TABLE public.part ADD FOREIGN KEY (other, of) REFERENCES public.part (id, day);
"""


def test_rows_of_partitions_that_refer_to_each_other(copied_scene: Callable[..., Scene]) -> None:
    """Their foreign keys are the whole table's, which is what has to be altered."""
    scene = copied_scene(CYCLE, "part", "part_1", "part_2")
    scene.cut_over()
    scene.on_target("INSERT INTO public.part VALUES (1, '2024-03-03'); INSERT INTO public.part VALUES (2, '2025-03-03', 1, '2024-03-03')")
    scene.on_target("UPDATE public.part SET other = 2, of = '2025-03-03' WHERE id = 1")
    scene.go_back()
    assert scene.on_source("SELECT id, other FROM public.part ORDER BY id") == [(1, 2), (2, 1)]
    assert scene.on_source("SELECT DISTINCT condeferrable FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text ~ 'part'") == [
        (False,)
    ]


FOLDED = """
CREATE COLLATION public.folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE public.code (code text COLLATE public.folded NOT NULL, n integer);
CREATE UNIQUE INDEX ON public.code (code COLLATE "C");
CREATE TABLE public.folds (code text COLLATE public.folded PRIMARY KEY, n integer);
INSERT INTO public.code VALUES ('a', 1), ('A', 2), ('b', 3); INSERT INTO public.folds VALUES ('a', 1), ('b', 2);
"""


@pytest.mark.pg15
def test_an_index_that_tells_more_apart_than_its_column_is_no_key(copied_scene: Callable[..., Scene], server15: Server) -> None:
    """Looked up by it, one row was two."""
    scene = copied_scene(FOLDED, "code", "folds", on=server15)
    scene.cut_over()
    scene.on_target("UPDATE public.code SET n = 20 WHERE code COLLATE \"C\" = 'A'; DELETE FROM public.code WHERE n = 3")
    scene.on_target("UPDATE public.folds SET code = 'A' WHERE code = 'a'")
    scene.go_back()
    assert scene.on_source("SELECT code, n FROM public.code ORDER BY n") == [("a", 1), ("A", 20)]
    assert scene.on_source("SELECT code, n FROM public.folds ORDER BY n") == [("A", 1), ("b", 2)]
