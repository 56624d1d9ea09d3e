"""A number that only the server gives, in a column that is no key, given anew: it is carried like any other value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from clarity_infra.errors import Refused
from clarity_infra.move import carry, faults
from clarity_infra.move.names import Name
from sandbox.postgres import Server
from tests.cutover.scene import Scene

TABLES = """
CREATE TABLE public.numbered (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n integer GENERATED ALWAYS AS IDENTITY UNIQUE, body text);
"""
# Identity columns of partitioned tables came with PostgreSQL 17.
PARTS = """
CREATE TABLE public.parted (id integer, n bigint GENERATED ALWAYS AS IDENTITY, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM (0) TO (10);
CREATE TABLE public.parted_2 PARTITION OF public.parted FOR VALUES FROM (10) TO (20);
"""
CHANGES = """
UPDATE public.numbered SET n = DEFAULT WHERE body IN ('b', 'd');
UPDATE public.numbered SET body = 'changed' WHERE body = 'c';
INSERT INTO public.numbered (body) VALUES ('new');
"""
PART_CHANGES = "UPDATE public.parted SET n = DEFAULT, body = 'x' WHERE id IN (3, 12); DELETE FROM public.parted WHERE id = 4;"


def build(scene: Scene, *, parts: bool) -> Scene:
    names = ("numbered", *(("parted", "parted_1", "parted_2") if parts else ()))
    scene.move = dataclasses.replace(scene.move, tables=scene.move.tables + tuple(Name("public", name) for name in names))
    for run in (scene.on_source, scene.on_target):
        run(TABLES + (PARTS if parts else ""))
    scene.on_source("INSERT INTO public.numbered (body) VALUES ('a'), ('b'), ('c'), ('d')")
    if parts:
        scene.on_source("INSERT INTO public.parted (id, body) SELECT g, 'part ' || g FROM generate_series(1, 15) AS g")
    return scene


def rows(scene: Scene, side: str, *, parts: bool) -> list[object]:
    run = scene.on_source if side == "source" else scene.on_target
    found: list[object] = list(run("SELECT id::text, n, body FROM public.numbered ORDER BY 1"))
    found += run("SELECT attidentity::text FROM pg_attribute WHERE attname = 'n' ORDER BY attrelid::regclass::text")
    if parts:
        found += run("SELECT id, n, body, tableoid::regclass::text FROM public.parted ORDER BY 1")
    return found


@pytest.mark.parametrize("version", [18, pytest.param(15, marks=pytest.mark.pg15)])
def test_a_number_given_anew_goes_there_and_comes_back(
    new_scene: Callable[..., Scene], server: Server, server15: Server, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    parts = version >= 17
    changes = CHANGES + (PART_CHANGES if parts else "")
    scene = build(new_scene(on=server if parts else server15), parts=parts)
    written: list[str] = []

    def write(point: str) -> None:
        if point == "brought near" and not written:
            written.append(point)
            scene.on_source(changes)

    monkeypatch.setattr(faults, "fault", write)
    scene.cut_over()
    assert written and rows(scene, "target", parts=parts) == rows(scene, "source", parts=parts)
    scene.on_target(changes.replace("'b', 'd'", "'a', 'changed'"))
    after = rows(scene, "target", parts=parts)
    scene.go_back()
    assert rows(scene, "source", parts=parts) == after
    assert ("a",) in after and ("d",) not in after


def test_a_reader_that_stays_is_named_and_nothing_changes(new_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    scene = build(new_scene(), parts=False)
    monkeypatch.setattr(carry, "READERS_MS", 300)
    scene.cut_over()
    scene.on_target("UPDATE public.numbered SET n = DEFAULT WHERE body = 'a'")
    with scene.source(autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM public.numbered")
        with pytest.raises(Refused, match=r"reads public\.numbered"):
            scene.go_back()
    scene.on_target("UPDATE public.numbered SET body = 'still live' WHERE body = 'a'")
    scene.go_back()
    assert scene.on_source("SELECT n FROM public.numbered WHERE body = 'still live'") == [(5,)]
