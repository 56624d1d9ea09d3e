"""The whole of it by the package itself: copied, cut over, brought back, and copied anew; with row security that binds the owner."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move import faults
from clarity_infra.move.back import would_lose
from clarity_infra.move.copy import copy
from clarity_infra.move.crossing import check_rows_visible
from clarity_infra.move.journal import Journal
from sandbox.postgres import Server
from tests.cutover.scene import WRITES, Scene


def copied(scene: Scene, revision: int) -> None:
    copy(scene.move, run=uuid.uuid4(), progress=scene.said.append, revision=revision)


def without_a_copy(scene: Scene) -> Scene:
    """Takes away what a scene has in its target already."""
    scene.on_target(
        "DROP SCHEMA drizzle CASCADE; DROP TABLE public.config, public.requests, public.messages, public.person, public.team CASCADE"
    )
    scene.on_target("DROP TABLE public.log, public.audit; DROP FUNCTION public.note; DROP TYPE public.kind")
    with scene.move.target.connect() as target:
        Journal(target, scene.move.stack).forget()
    return scene


@pytest.fixture
def fresh(new_scene: Callable[..., Scene]) -> Scene:
    """A scene in whose target nothing is yet."""
    return without_a_copy(new_scene())


def test_copied_anew_after_the_way_back_and_cut_over_again(fresh: Scene) -> None:
    """The types and columns that a migration made in the target are of no earlier copy: they must not be in the way of the next."""
    copied(fresh, 1)
    assert fresh.cut_over()["migrations"] == ["0001_agents"]
    for name, statement in WRITES.items():
        if name != "truncate":
            fresh.on_target(statement)
    after = fresh.contents("target")
    fresh.go_back()
    assert fresh.contents("source") == after
    fresh.on_source("UPDATE public.requests SET title = 'source again' WHERE id = 100")
    copied(fresh, 2)
    assert fresh.contents("target") == fresh.contents("source")
    evidence = fresh.cut_over()
    assert evidence["migrations"] == ["0001_agents"] and evidence["proved"]
    fresh.on_target("INSERT INTO public.requests (request_id, agent_type) VALUES ('second copy', 'opencode')")
    fresh.on_target("UPDATE public.requests SET agent_type = 'claude-code' WHERE request_id = 'second copy'")
    fresh.go_back()
    assert fresh.on_source("SELECT count(*) FROM public.requests WHERE request_id = 'second copy'") == [(1,)]
    copied(fresh, 3)
    assert fresh.cut_over()["proved"]


MADE = """DO $$ BEGIN CREATE TYPE "public"."mode" AS ENUM('fast', 'slow'); EXCEPTION WHEN duplicate_object THEN null; END $$;
--> statement-breakpoint
CREATE TABLE "agents" ("id" serial PRIMARY KEY, "mode" "mode", "request_id" text REFERENCES "requests" ("request_id"));
--> statement-breakpoint
ALTER TYPE "kind" RENAME TO "kinds";--> statement-breakpoint
CREATE SCHEMA "more";--> statement-breakpoint
CREATE FUNCTION "more"."half"(integer) RETURNS integer LANGUAGE sql RETURN $1 / 2;"""


def test_whatever_migrations_made_goes_with_the_copy(fresh: Scene) -> None:
    assert fresh.migrations.folder is not None
    (fresh.migrations.folder / "0001_agents.sql").write_text(MADE)
    copied(fresh, 1)
    fresh.cut_over()
    fresh.on_target("INSERT INTO public.config (type, config) SELECT 'slack', '{}' FROM public.config WHERE false")
    fresh.on_target("UPDATE public.config SET config = '[1]' WHERE type = 'slack'")
    fresh.go_back()
    copied(fresh, 2)
    assert fresh.on_target("SELECT to_regclass('public.agents'), to_regtype('public.mode'), to_regtype('public.kinds')") == [(None, None, None)]
    assert fresh.on_target("SELECT to_regnamespace('more'), to_regtype('public.kind')::text") == [(None, "kind")]
    assert fresh.cut_over()["migrations"] == ["0001_agents"]
    fresh.on_target("INSERT INTO public.agents (mode, request_id) VALUES ('fast', 'r1')")


def test_an_object_of_somebody_elses_is_not_taken_for_a_migrations(fresh: Scene) -> None:
    copied(fresh, 1)
    fresh.cut_over()
    fresh.on_target("CREATE TABLE public.theirs (id integer, type public.agent_type)")
    fresh.go_back()
    with pytest.raises(ClarityError, match="theirs"):
        copied(fresh, 2)
    assert fresh.on_target("SELECT to_regclass('public.theirs')::text") == [("theirs",)]


# Row security

FORCED = """
ALTER TABLE public.requests ENABLE ROW LEVEL SECURITY; ALTER TABLE public.requests FORCE ROW LEVEL SECURITY;
CREATE POLICY short ON public.requests USING (length(title) < 12) WITH CHECK (length(title) < 12);
ALTER TABLE public.log ENABLE ROW LEVEL SECURITY; ALTER TABLE public.log FORCE ROW LEVEL SECURITY;
UPDATE public.requests SET title = 'a title that is longer than the policy allows' WHERE id % 7 = 0;
"""


@pytest.fixture
def bypassing(new_scene: Callable[..., Scene]) -> Iterator[Scene]:
    """A managed admin whom row security does not bind, and tables on which it is forced."""
    scene = new_scene()
    with scene.server.connect() as root:
        root.execute(f"ALTER ROLE {scene.move.source.user} BYPASSRLS")
    without_a_copy(scene).on_source(FORCED)
    yield scene


CHANGES = """
UPDATE public.requests SET title = 'changed, and longer than the policy allows' WHERE id % 5 = 0;
DELETE FROM public.requests WHERE id = 14; INSERT INTO public.requests (request_id, title) VALUES ('new', 'new, and much too long as well');
INSERT INTO public.log VALUES ('new'); DELETE FROM public.log WHERE line = 'line 1';
"""


def test_forced_row_security_there_and_back(bypassing: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(bypassing, 1)
    written: list[Any] = []

    def write(point: str) -> None:
        if point == "brought near" and not written:
            written.append(bypassing.on_source(CHANGES))

    monkeypatch.setattr(faults, "fault", write)
    assert bypassing.cut_over()["proved"] and written
    rows = "SELECT id, title FROM public.requests ORDER BY id"
    with bypassing.move.source.connect() as source, bypassing.move.target.connect() as target:
        assert target.execute(rows).fetchall() == source.execute(rows).fetchall()
        forced = "SELECT relname FROM pg_class WHERE relforcerowsecurity ORDER BY 1"
        assert target.execute(forced).fetchall() == source.execute(forced).fetchall() == [("log",), ("requests",)]
        assert bypassing.on_target("SELECT count(*) FROM public.requests WHERE length(title) >= 12") == [(0,)]
        target.execute("UPDATE public.requests SET title = 'written to the target, and much too long' WHERE id % 3 = 0")
        target.execute("DELETE FROM public.requests WHERE id IN (21, 22); DELETE FROM public.log WHERE line = 'line 2'")
        assert {item.table for item in would_lose(bypassing.move).written} >= {"public.requests", "public.log"}
        bypassing.go_back()
        assert target.execute(rows).fetchall() == source.execute(rows).fetchall()
        assert source.execute("SELECT count(*) FROM public.log").fetchone() == target.execute("SELECT count(*) FROM public.log").fetchone()
        assert source.execute(forced).fetchall() == [("log",), ("requests",)]


def test_forced_row_security_that_binds_the_admin_is_refused_by_name(bypassing: Scene, server: Server) -> None:
    copied(bypassing, 1)
    with server.connect() as root:
        root.execute(f"ALTER ROLE {bypassing.move.source.user} NOBYPASSRLS")
    with pytest.raises(Refused) as raised:
        bypassing.cut_over()
    text = str(raised.value)
    assert "public.log, public.requests" in text and "BYPASSRLS" in text
    assert bypassing.switch.calls == []
    with pytest.raises(Refused, match="BYPASSRLS"):
        check_rows_visible(bypassing.move)
