"""Migrations that let in what the source keeps out: rows that have no place there are listed, and given up only by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clarity_infra.errors import Refused
from clarity_infra.move.back import would_lose
from tests.cutover.scene import Scene

STRUCTURE = """
CREATE TABLE public.item (id integer PRIMARY KEY, tenant integer NOT NULL DEFAULT 1, text text);
CREATE TABLE public.coded (code text NOT NULL, text text); CREATE UNIQUE INDEX ON public.coded (code);
CREATE TABLE public.narrow (id integer PRIMARY KEY, name varchar(5) NOT NULL, small smallint);
CREATE TABLE public.child (id integer PRIMARY KEY, narrow integer REFERENCES public.narrow);
INSERT INTO public.item SELECT g, 1, 'old' FROM generate_series(1, 9) AS g;
INSERT INTO public.coded SELECT 'c' || g, 'old' FROM generate_series(1, 9) AS g;
INSERT INTO public.narrow SELECT g, 'n' || g, g FROM generate_series(1, 5) AS g;
"""
# As the application's migrations might, after the cut-over.
LOOSER = """
ALTER TABLE public.item DROP CONSTRAINT item_pkey; ALTER TABLE public.item ADD PRIMARY KEY (tenant, id);
DROP INDEX public.coded_code_idx; ALTER TABLE public.coded ALTER COLUMN code DROP NOT NULL;
ALTER TABLE public.narrow ALTER COLUMN name TYPE text, ALTER COLUMN name DROP NOT NULL, ALTER COLUMN small TYPE integer;
"""


@pytest.fixture
def looser(copied_scene: Callable[..., Scene]) -> Scene:
    """A scene that was cut over, and whose target lets more in since."""
    scene = copied_scene(STRUCTURE, "item", "coded", "narrow", "child")
    scene.cut_over()
    scene.on_target(LOOSER)
    return scene


@pytest.mark.parametrize(
    ("statement", "listed"),
    [
        ("INSERT INTO public.item VALUES (5, 2, 'new')", "public.item: 2 row(s) with the same id as another (id=5; id=5)"),
        ("INSERT INTO public.coded VALUES (NULL, 'new')", "public.coded: 1 row(s) with no value in column code"),
        ("INSERT INTO public.coded VALUES ('c3', 'new')", "public.coded: 2 row(s) with the same code as another (code=c3; code=c3)"),
        ("UPDATE public.narrow SET name = 'much too long' WHERE id = 1", "a value in column name that is too long for the source's"),
        ("UPDATE public.narrow SET name = NULL WHERE id = 1", "public.narrow: 1 row(s) with no value in column name"),
        ("UPDATE public.narrow SET small = 70000 WHERE id = 1", "a value in column small that is too large for the source's smallint (id=1)"),
    ],
)
def test_a_row_that_the_source_keeps_out_is_listed_and_given_up_only_by_name(looser: Scene, statement: str, listed: str) -> None:
    looser.on_target(statement)
    assert any(listed in text for text in would_lose(looser.move).no_place)
    with pytest.raises(Refused) as refused:
        looser.go_back()
    assert listed in str(refused.value)
    before = looser.on_source("SELECT (SELECT array_agg(t ORDER BY t) FROM public.item t)::text, (SELECT count(*) FROM public.coded)")
    looser.on_target("UPDATE public.item SET text = 'carried' WHERE id = 6")
    evidence = looser.go_back(discard=looser.move.target.database)
    assert any(listed in text for text in evidence["discarded"]) and sum(evidence["rows_given_up"].values()) == 1
    after = looser.on_source("SELECT (SELECT array_agg(t ORDER BY t) FROM public.item t)::text, (SELECT count(*) FROM public.coded)")
    assert after == [(before[0][0].replace("(6,1,old)", "(6,1,carried)"), before[0][1])]


def test_a_key_that_somebody_chose_is_named_on_one_line_and_not_at_length(looser: Scene) -> None:
    """What is listed is shown in a terminal, in a log in which a line may be a command, and in Markdown."""
    looser.on_target("INSERT INTO public.coded SELECT E'\\n```\\n::error::' || repeat('x', 4000), text FROM public.coded LIMIT 2")
    [listed] = would_lose(looser.move).no_place
    assert "(code=\\n```\\n::error::xxx" in listed
    assert "\n" not in listed and len(listed) < 250


def test_what_refers_to_a_row_that_is_given_up_is_given_up_too(looser: Scene) -> None:
    looser.on_target("INSERT INTO public.narrow VALUES (10, 'much too long', 1), (11, 'fits', 1)")
    looser.on_target("INSERT INTO public.child VALUES (1, 10), (2, 11)")
    looser.go_back(discard=looser.move.target.database)
    assert looser.on_source("SELECT id FROM public.narrow WHERE id > 5") == [(11,)]
    assert looser.on_source("SELECT id FROM public.child") == [(2,)]


@pytest.mark.parametrize("named", ["coded", "narrow"])
def test_a_key_that_was_given_another_name_is_told_as_that(looser: Scene, named: str) -> None:
    """Also where rows have no place: they are listed without it."""
    column = {"coded": "code", "narrow": "id"}[named]
    looser.on_target(f"ALTER TABLE public.{named} RENAME COLUMN {column} TO other; INSERT INTO public.narrow VALUES (10, 'much too long', 1)")
    with pytest.raises(Refused, match=f"(?s)has no place for.*public.narrow: 1 row.*|its key column {column} is gone"):
        looser.go_back()
    with pytest.raises(Refused, match=f"public.{named} is not the same on both sides: its key column {column} is gone"):
        looser.go_back(discard=looser.move.target.database)
