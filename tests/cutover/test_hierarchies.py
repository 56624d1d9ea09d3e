"""Partitions and children: what is written by way of their parent, and those that come and go meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from clarity_infra.errors import Refused
from clarity_infra.move import faults
from clarity_infra.move.back import would_lose
from clarity_infra.move.cleanup import clean_up, restore
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


def test_rows_of_a_partitioned_table_go_or_change_with_what_they_refer_to(copied_scene: Callable[..., Scene]) -> None:
    """A foreign key of a whole writes by way of it, through the statement triggers it has itself."""
    scene = copied_scene(
        "CREATE TABLE public.room (id integer PRIMARY KEY);"
        " CREATE TABLE public.seat (id integer, room integer REFERENCES public.room ON DELETE CASCADE, was integer DEFAULT 1"
        " REFERENCES public.room ON DELETE SET NULL) PARTITION BY RANGE (id);"
        " CREATE TABLE public.seat_1 PARTITION OF public.seat FOR VALUES FROM (0) TO (1000);"
        " INSERT INTO public.room SELECT g FROM generate_series(1, 9) AS g;"
        " INSERT INTO public.seat SELECT g, 1 + g % 9, 1 + g % 7 FROM generate_series(1, 90) AS g",
        "room",
        "seat",
    )
    scene.on_source("DELETE FROM public.room WHERE id = 3")
    assert scene.cut_over()["proved"]
    scene.on_target("DELETE FROM public.room WHERE id = 5")
    scene.go_back()
    here, there = rows(scene, "seat")
    assert here == there and len(here) == 70


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


NEXT = "CREATE TABLE public.event_3 PARTITION OF public.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');"


def test_an_empty_partition_that_the_old_database_goes_on_making_is_in_nobodys_way(copied_scene: Callable[..., Scene]) -> None:
    scene = copied_scene(KEYLESS, *HIERARCHIES)
    scene.cut_over()
    scene.on_source(NEXT)
    scene.on_target("INSERT INTO public.event VALUES ('2025-06-06', 'new')")
    assert [item.table for item in would_lose(scene.move).written] == ["public.event_2"]
    scene.go_back()
    here, there = rows(scene, "event")
    assert here == there


def test_a_partition_that_the_target_made_is_carried_once_the_source_has_it(copied_scene: Callable[..., Scene]) -> None:
    scene = copied_scene(KEYLESS, *HIERARCHIES)
    scene.cut_over()
    scene.on_target(NEXT + "INSERT INTO public.event VALUES ('2026-06-06', 'new')")
    with pytest.raises(Refused, match=r"(?s)public\.event_3: 1 row\(s\) with a table the source does not have.*a partition"):
        scene.go_back()
    scene.on_source(NEXT)
    scene.go_back()
    here, there = rows(scene, "event")
    assert here == there and ("event_3", "(2026-06-06,new)") in here


def test_a_partition_that_the_target_dropped_is_emptied_once_it_is_there_again(copied_scene: Callable[..., Scene]) -> None:
    scene = copied_scene(KEYLESS, *HIERARCHIES)
    scene.cut_over()
    scene.on_target("DROP TABLE public.event_1")
    with pytest.raises(Refused, match=r"(?s)public\.event_1.*made again, without its rows"):
        scene.go_back()
    scene.on_target("CREATE TABLE public.event_1 PARTITION OF public.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')")
    scene.go_back()
    here, there = rows(scene, "event")
    assert here == there and not [row for row in here if row[0] == "event_1"]


def test_rows_that_came_to_the_source_in_a_partition_of_its_own_keep_the_clean_up_from_it(
    copied_scene: Callable[..., Scene], tmp_path: Path
) -> None:
    scene = copied_scene(KEYLESS, *HIERARCHIES)
    scene.cut_over()
    scene.on_source(NEXT + "INSERT INTO public.event_3 VALUES ('2026-06-06', 'nowhere else')")

    def clean() -> None:
        clean_up(scene.move, run=uuid.uuid4(), backup=tmp_path / "backup", monitoring=timedelta(0), acknowledged=0, progress=scene.said.append)

    with pytest.raises(Refused, match=r"public\.event_3 came to the source after the cut-over and holds rows"):
        clean()
    scene.on_source("TRUNCATE public.event_3")
    before, _ = rows(scene, "event")
    clean()
    assert scene.on_source("SELECT to_regclass('public.event'), to_regclass('public.event_3'), to_regclass('public.dog')") == [
        (None, None, None)
    ]
    (archive,) = (tmp_path / "backup").iterdir()
    restore(scene.move, archive, run=uuid.uuid4(), progress=scene.said.append)
    assert rows(scene, "event")[0] == before
    scene.on_target("INSERT INTO public.event VALUES ('2025-06-06', 'new')")
    scene.go_back()
    here, there = rows(scene, "event")
    assert here == there


def test_a_child_whose_parent_grew_after_it_is_cleaned_up_and_comes_back(copied_scene: Callable[..., Scene], tmp_path: Path) -> None:
    """A dump makes its columns in another order: those of the parent first."""
    scene = copied_scene(
        "CREATE TABLE public.animal (name text); CREATE TABLE public.dog (tail integer) INHERITS (public.animal);"
        " ALTER TABLE public.animal ADD COLUMN legs integer; INSERT INTO public.dog VALUES ('rex', 3, 4), ('max', 2, 4)",
        "animal",
        "dog",
    )
    scene.cut_over()
    clean_up(scene.move, run=uuid.uuid4(), backup=tmp_path / "backup", monitoring=timedelta(0), acknowledged=0, progress=scene.said.append)
    (archive,) = (tmp_path / "backup").iterdir()
    restore(scene.move, archive, run=uuid.uuid4(), progress=scene.said.append)
    scene.on_target("INSERT INTO public.animal (name, legs) VALUES ('cat', 4)")
    scene.go_back()
    names = "SELECT name, legs FROM public.animal ORDER BY name"
    assert scene.on_source(names) == scene.on_target(names) == [("cat", 4), ("max", 4), ("rex", 4)]
