"""Partitions and children: what is written by way of their parent, and those that come and go meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clarity_infra.move import faults
from tests.cutover.scene import Scene

KEYLESS = """
CREATE TABLE public.event (day date, note text) PARTITION BY RANGE (day);
CREATE TABLE public.event_1 PARTITION OF public.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE public.event_2 PARTITION OF public.event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO public.event SELECT date '2024-01-01' + g, 'note ' || g FROM generate_series(1, 700) AS g;
CREATE TABLE public.animal (name text);
CREATE TABLE public.dog (tail integer) INHERITS (public.animal);
INSERT INTO public.animal VALUES ('cat'); INSERT INTO public.dog VALUES ('rex', 3);
"""
HIERARCHIES = ("event", "event_1", "event_2", "animal", "dog")


def meanwhile(monkeypatch: pytest.MonkeyPatch, scene: Scene, statement: str, *, at: str = "brought near") -> list[object]:
    """Has the application do something once, at a point of the cut-over."""
    done: list[object] = []

    def write(point: str) -> None:
        if point == at and not done:
            done.append(scene.on_source(statement))

    monkeypatch.setattr(faults, "fault", write)
    return done


def rows(scene: Scene, table: str) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Every row of a table and its descendants, on the source and on the target."""
    statement = f"SELECT tableoid::regclass::text, t::text FROM public.{table} AS t ORDER BY 1, 2"
    return scene.on_source(statement), scene.on_target(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.event SET note = 'changed' WHERE note = 'note 5'",
        "INSERT INTO public.event VALUES ('2024-05-05', 'new')",
        "UPDATE public.event SET day = '2025-05-05' WHERE note = 'note 6'",
        "DELETE FROM public.event WHERE note = 'note 7'; INSERT INTO public.event VALUES ('2024-07-07', 'instead')",
        "INSERT INTO public.event_2 VALUES ('2025-05-05', 'direct')",
        "TRUNCATE public.event",
        "UPDATE public.animal SET name = name || '!'",
    ],
)
def test_what_is_written_by_way_of_a_parent_without_a_key_is_carried(
    copied_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """No statement trigger of a partition or child fires then."""
    scene = copied_scene(KEYLESS, *HIERARCHIES)
    done = meanwhile(monkeypatch, scene, statement)
    assert scene.cut_over()["proved"] and done
    for table in ("event", "animal"):
        here, there = rows(scene, table)
        assert here == there


def test_and_is_carried_back(copied_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is written to the target between the trial of the way back and its end."""
    scene = copied_scene(KEYLESS, *HIERARCHIES)
    scene.cut_over()
    scene.on_target("INSERT INTO public.event VALUES ('2024-05-05', 'after')")

    def write(point: str) -> None:
        if point == "before close target":
            scene.on_target("UPDATE public.event SET note = 'changed' WHERE note = 'note 5'; UPDATE public.animal SET name = 'later'")

    monkeypatch.setattr(faults, "fault", write)
    scene.go_back()
    for table in ("event", "animal"):
        here, there = rows(scene, table)
        assert here == there
