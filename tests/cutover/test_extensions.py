"""Keys of types that an extension brings: only its own operators compare them, and none of these is found by our sessions' search path."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clarity_infra.move.back import would_lose
from tests.cutover.scene import Scene

KEYS = {
    "ltree": ("public.ltree", ("a.b", "a.c", "a.d", "a.e")),
    "cube": ("public.cube", ("(1)", "(2)", "(3)", "(4)")),
    "isn": ("public.isbn13", ("978-0-11-000533-1", "978-0-393-04002-9", "978-1-4028-9462-6", "978-0-14-044913-6")),
    "citext": ("public.citext", ("a", "b", "c", "d")),
}
STRUCTURE = """
CREATE EXTENSION {extension} SCHEMA public;
CREATE DOMAIN public.name AS {type};
CREATE TABLE public.node (name public.name PRIMARY KEY, up {type} REFERENCES public.node ON DELETE CASCADE, n integer UNIQUE);
CREATE TABLE public.note (node {type} REFERENCES public.node ON DELETE CASCADE, id integer PRIMARY KEY);
INSERT INTO public.node VALUES ('{0}', NULL, 1), ('{1}', '{0}', 2);
INSERT INTO public.note VALUES ('{0}', 1), ('{1}', 2);
"""
# The parent goes, another one takes its unique value and its child.
CHANGES = """
INSERT INTO public.node VALUES ('{0}', NULL, 3);
UPDATE public.node SET up = '{0}' WHERE n = 2;
DELETE FROM public.node WHERE n = 1;
UPDATE public.node SET n = 1 WHERE n = 3;
INSERT INTO public.note VALUES ('{0}', {1});
"""
NODES = "SELECT name::text, up::text, n FROM public.node ORDER BY n"
NOTES = "SELECT node::text, id FROM public.note ORDER BY id"


@pytest.mark.parametrize("extension", KEYS)
def test_rows_are_carried_by_such_a_key(copied_scene: Callable[..., Scene], extension: str) -> None:
    type_text, values = KEYS[extension]
    scene = copied_scene(STRUCTURE.format(*values, extension=extension, type=type_text), "node", "note")
    scene.on_source(CHANGES.format(values[2], 3))
    assert scene.cut_over()["proved"]
    assert scene.on_target(NODES) == [(values[2], None, 1), (values[1], values[2], 2)]
    assert scene.on_target(NOTES) == [(values[1], 2), (values[2], 3)]
    scene.on_target(CHANGES.format(values[3], 4))
    assert would_lose(scene.move).no_place == ()
    scene.go_back()
    assert scene.on_source(NODES) == [(values[3], None, 1), (values[1], values[3], 2)]
    assert scene.on_source(NOTES) == [(values[1], 2), (values[3], 4)]
