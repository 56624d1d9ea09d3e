"""Rows that wait for each other: for a parent, for a value, for a row that has to go; how they are carried without a cascade taking others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from clarity_infra.move import carry
from tests.cutover.scene import Scene

FAMILY = ("p", "a", "b", "c")
# Each generation goes with the one before; a name that is taken makes a row wait.
GENERATIONS = """
CREATE TABLE public.p (id integer PRIMARY KEY, name {type} NOT NULL UNIQUE);
CREATE TABLE public.a (id integer PRIMARY KEY, p integer NOT NULL REFERENCES public.p ON DELETE CASCADE);
CREATE TABLE public.b (id integer PRIMARY KEY, a integer NOT NULL REFERENCES public.a ON DELETE CASCADE);
CREATE TABLE public.c (id integer PRIMARY KEY, b integer NOT NULL REFERENCES public.b ON DELETE CASCADE);
INSERT INTO public.p VALUES (1, '{taken}');
INSERT INTO public.a VALUES (1, 1), (2, 1); INSERT INTO public.b VALUES (1, 1), (2, 2); INSERT INTO public.c VALUES (1, 1), (2, 2);
"""
# Another takes the name of one that goes, and some of what belonged to it.
REPLACED = """
INSERT INTO public.p VALUES (3, '{free}');
UPDATE public.a SET p = 3 WHERE id = 1;
DELETE FROM public.p WHERE id = 1;
UPDATE public.p SET name = '{taken}' WHERE id = 3;
"""
KINDS = {
    "a value can be parked": {"type": "text", "taken": "x", "free": "y"},
    # Nothing else can be in the column by the time it is carried: there is no way but to let the cascade take rows, and bring them again.
    "none can": {"type": "public.only", "taken": "x", "free": "y"},
}


def _contents(connection: psycopg.Connection[Any], tables: tuple[str, ...]) -> dict[str, list[tuple[object, ...]]]:
    return {table: list(connection.execute(f"SELECT * FROM public.{table} ORDER BY 1".encode()).fetchall()) for table in tables}


def _equal(scene: Scene, *tables: str) -> dict[str, list[tuple[object, ...]]]:
    with scene.source() as source, scene.target() as target:
        here, there = _contents(source, tables), _contents(target, tables)
    assert here == there
    return here


@pytest.mark.parametrize("kind", KINDS)
def test_what_belongs_to_a_row_that_is_replaced_is_not_taken_with_it(copied_scene: Callable[..., Scene], kind: str) -> None:
    """Forth and back: the new one waits for the name, the child for the new one, and the old one must not go before it was led away."""
    words = KINDS[kind]
    scene = copied_scene("CREATE DOMAIN public.only AS text CHECK (VALUE IN ('x', 'y'));" + GENERATIONS.format(**words), *FAMILY)
    full = "" if kind == "a value can be parked" else "INSERT INTO public.p VALUES (9, 'y');"
    replaced = REPLACED.format(**words)
    scene.on_source(replaced + full)
    assert scene.cut_over()["proved"]
    assert _equal(scene, *FAMILY)["c"] == [(1, 1)]
    scene.on_target("DELETE FROM public.p WHERE id = 9; INSERT INTO public.a VALUES (2, 3); INSERT INTO public.b VALUES (2, 2)")
    scene.on_target(replaced.replace("3", "4").replace("id = 1;\nUPDATE public.p", "id = 3;\nUPDATE public.p") + full)
    scene.go_back()
    assert _equal(scene, *FAMILY)["c"] == [(1, 1)]


def test_chains_are_not_tried_row_by_row_for_ever(copied_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row waits for another one: rounds that let in one each would take the square of their number, and writers wait meanwhile."""
    many = 60
    tables = ("tree", "line", "place")
    scene = copied_scene(
        "CREATE TABLE public.tree (id uuid PRIMARY KEY, parent uuid REFERENCES public.tree);"
        " CREATE TABLE public.line (id uuid PRIMARY KEY, before uuid REFERENCES public.line ON DELETE RESTRICT);"
        " CREATE TABLE public.place (id uuid PRIMARY KEY, number integer NOT NULL UNIQUE);"
        " INSERT INTO public.line SELECT md5(g::text)::uuid, CASE WHEN g > 1 THEN md5((g - 1)::text)::uuid END"
        f" FROM generate_series(1, {many}) AS g; INSERT INTO public.place SELECT md5(g::text)::uuid, g FROM generate_series(1, {many}) AS g",
        *tables,
    )
    scene.cut_over()
    scene.on_target(
        "INSERT INTO public.tree SELECT md5(g::text)::uuid, CASE WHEN g > 1 THEN md5((g - 1)::text)::uuid END"
        f" FROM generate_series(1, {many}) AS g; DELETE FROM public.line;"
        " UPDATE public.place SET number = -number; UPDATE public.place SET number = 1 - number"
    )
    tried: list[str] = []

    def waits(work: carry._Work, error: psycopg.Error) -> bool:
        tried.append(str(error))
        return was(work, error)

    was = carry._not_yet
    monkeypatch.setattr(carry, "_not_yet", waits)
    monkeypatch.setattr(carry, "VAIN", 20)
    scene.go_back()
    assert len(_equal(scene, *tables)["tree"]) == many
    # Carried twice, once to try it out.
    assert len(tried) <= 2 * 4 * many


def test_rows_in_a_circle_that_restrict_each_other_go_together(copied_scene: Callable[..., Scene]) -> None:
    scene = copied_scene(
        "CREATE TABLE public.ring (id integer PRIMARY KEY, next integer NOT NULL REFERENCES public.ring ON DELETE RESTRICT);"
        " INSERT INTO public.ring VALUES (1, 2), (2, 3), (3, 1)",
        "ring",
    )
    scene.on_source("DELETE FROM public.ring")
    assert scene.cut_over()["proved"]
    scene.on_target("INSERT INTO public.ring VALUES (4, 5), (5, 4)")
    scene.go_back()
    assert len(_equal(scene, "ring")["ring"]) == 2
