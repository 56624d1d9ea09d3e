"""A source that changes its form between the copy and the cut-over: nothing that the copy does not know is left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clarity_infra.errors import ClarityError, Refused
from tests.cutover.scene import Scene
from tests.cutover.test_hierarchies import meanwhile

STRUCTURE = """
CREATE TYPE public.mood AS ENUM ('good', 'bad');
CREATE TABLE public.note (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text, mood public.mood);
INSERT INTO public.note (text, mood) SELECT 'note ' || g, 'good' FROM generate_series(1, 20) AS g;
CREATE TABLE public.event (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE public.event_1 PARTITION OF public.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
"""
TABLES = ("note", "event", "event_1")


@pytest.fixture
def scene(copied_scene: Callable[..., Scene]) -> Scene:
    return copied_scene(STRUCTURE, *TABLES)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "CREATE TABLE public.event_2 PARTITION OF public.event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');"
            " INSERT INTO public.event VALUES (1, '2025-05-05')",
            "public.event_2 is new",
        ),
        ("CREATE TABLE public.more (extra text) INHERITS (public.note); INSERT INTO public.more (id) VALUES (99)", "public.more is new"),
        ("ALTER TABLE public.note ADD COLUMN extra text; UPDATE public.note SET extra = 'value'", "public.note has other columns"),
        ("ALTER TYPE public.mood ADD VALUE 'worse'", "public.mood has other labels"),
        ("ALTER TABLE public.note RENAME TO notes; ALTER TABLE public.notes RENAME TO note2", "public.note"),
    ],
)
def test_what_came_while_the_copy_was_brought_near_is_not_left_behind(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, statement: str, named: str
) -> None:
    """Seen under the lock, since triggers that were put on the tables before say nothing of it."""
    done = meanwhile(monkeypatch, scene, statement)
    with pytest.raises(ClarityError, match=named):
        scene.cut_over()
    assert done and scene.switch.origin == "source"
    scene.on_source("INSERT INTO public.event VALUES (2, '2024-05-05')")


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("ALTER TYPE public.mood ADD VALUE 'worse'", "type public.mood: its labels"),
        ("CREATE UNIQUE INDEX note_text ON public.note (text)", "index public.note_text: it is missing in the target"),
        ("ALTER TABLE public.note ADD CHECK (id > 0)", "constraint note_id_check on public.note: it is missing"),
        ("ALTER TABLE public.note ALTER COLUMN text SET DEFAULT 'x'", "column public.note.text: its default"),
        (
            "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            " CREATE TRIGGER t BEFORE INSERT ON public.note FOR EACH ROW EXECUTE FUNCTION public.f()",
            "it is missing in the target",
        ),
    ],
)
def test_what_came_after_the_copy_is_named(scene: Scene, statement: str, named: str) -> None:
    scene.on_source(statement)
    with pytest.raises(Refused, match=f"(?s)changed since they were copied.*{named}.*raise copyRevision"):
        scene.cut_over()


def test_what_somebody_added_to_the_copy_and_how_it_is_tuned_is_in_nobodys_way(scene: Scene) -> None:
    scene.on_target("CREATE INDEX faster ON public.note (text); ALTER TABLE public.note SET (fillfactor = 80)")
    scene.on_source("COMMENT ON TABLE public.note IS 'newer'; ALTER TABLE public.note ALTER COLUMN text SET STATISTICS 500")
    assert scene.cut_over()["proved"]


def test_after_the_way_back_too(scene: Scene) -> None:
    """The target may have later columns then; the source has those that it was fenced with."""
    scene.cut_over()
    scene.on_target("ALTER TABLE public.note ADD COLUMN later text")
    scene.go_back()
    assert scene.cut_over()["proved"]
    scene.go_back()
    scene.on_source("ALTER TABLE public.note ADD COLUMN extra text")
    with pytest.raises(Refused, match=r"(?s)changed since they were copied: public\.note.*raise copyRevision"):
        scene.cut_over()
