"""Somebody takes the fence off the old tables of an application that was moved: nothing that was written since is lost by any command."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.move.back import undo, would_lose
from clarity_infra.move.cleanup import refuse_clean_up
from clarity_infra.move.journal import Journal
from clarity_infra.move.status import status
from clarity_infra.resources.base import say
from tests.cutover.scene import Scene

WRITTEN = "INSERT INTO public.requests (request_id, title) SELECT 'since ' || g, 'written since' FROM generate_series(1, 7) AS g"
SINCE = "SELECT count(*) FROM public.requests WHERE title = 'written since'"
BEHIND = "UPDATE public.config SET config = '{\"behind\": true}' WHERE type = 'claude'"
DISABLED = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'clarity_infra_fence%' AND tgenabled <> 'A'"


def schema_dropped(scene: Scene) -> None:
    """Who finds a schema nobody told of in the old database, and drops it: triggers, journal and all."""
    scene.on_source("DROP SCHEMA clarity_infra CASCADE")


def triggers_dropped(scene: Scene) -> None:
    for table, trigger in fences(scene):
        scene.on_source(f"DROP TRIGGER {trigger} ON {table}")


def one_disabled(scene: Scene) -> None:
    """As `pg_restore --disable-triggers` leaves it that died half way."""
    [(table, trigger)] = [found for found in fences(scene) if found[0] in ("config", "public.config")]
    scene.on_source(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")


def fences(scene: Scene) -> list[tuple[Any, ...]]:
    return scene.on_source("SELECT tgrelid::regclass::text, quote_ident(tgname) FROM pg_trigger WHERE tgname LIKE 'clarity_infra_fence%'")


WAYS = [schema_dropped, triggers_dropped, one_disabled]
Way = Callable[[Scene], None]


@pytest.fixture(params=["source", "unmanaged"])
def moved(request: pytest.FixtureRequest, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Cut over and written to since, with Hyperdrive and without."""
    scene.switch.origin = request.param
    if request.param == "unmanaged":
        monkeypatch.setattr(scene.switch, "_to", lambda _side: None)
    scene.cut_over()
    scene.on_target(WRITTEN)
    return scene


def whole(scene: Scene) -> bool:
    return scene.on_target(SINCE) == [(7,)]


@pytest.mark.parametrize("take_off", WAYS)
def test_status_says_that_the_new_side_is_live_and_that_old_tables_take_writes(moved: Scene, take_off: Way) -> None:
    take_off(moved)
    found = status(moved.move, target_exists=True)
    assert (found.stage, found.side) == ("cutover", "target")
    assert "public.config" in found.unfenced
    assert any("public.config" in line and "took the fence off" in line for line in found.lines())
    assert found.json()["unfenced"] == list(found.unfenced)
    assert refuse_clean_up(moved.move, monitoring=timedelta(0))


@pytest.mark.parametrize("take_off", WAYS)
def test_a_cut_over_that_is_repeated_puts_it_back(moved: Scene, take_off: Way) -> None:
    take_off(moved)
    moved.cut_over()
    assert whole(moved)
    found = status(moved.move, target_exists=True)
    assert (found.stage, found.side, found.unfenced) == ("cutover", "target", ())
    with pytest.raises(Exception, match="its rows live in"):
        moved.on_source(BEHIND)
    moved.on_target("UPDATE public.requests SET title = 'still written' WHERE id = 6")
    assert moved.on_source(DISABLED) == [(0,)]
    with moved.source() as source:
        assert [entry.step for entry in Journal(source, moved.move.stack).entries()][-1] == "cut over"


@pytest.mark.parametrize("take_off", WAYS)
def test_the_way_back_brings_what_was_written_since(moved: Scene, take_off: Way) -> None:
    take_off(moved)
    assert {item.table: item.inserted for item in would_lose(moved.move).written}["public.requests"] == 7
    after = moved.contents("target")
    moved.go_back()
    assert moved.contents("source") == after
    moved.on_source(BEHIND)
    assert status(moved.move, target_exists=True).side == "source"


@pytest.mark.parametrize("take_off", WAYS)
def test_so_does_a_destroy(moved: Scene, take_off: Way) -> None:
    take_off(moved)
    after = moved.contents("target")
    undo(moved.move, moved.switch, run=uuid.uuid4(), lock_budget=5.0, alive=lambda: True, progress=say)
    assert moved.contents("source") == after
    assert moved.ours_on_source() == []
    undo(moved.move, moved.switch, run=uuid.uuid4(), lock_budget=5.0, alive=lambda: True, progress=say)


@pytest.mark.parametrize("reason", ['role "admin" does not exist', "die Rolle »admin« existiert nicht"])
def test_a_login_that_is_gone_is_no_database_that_is_gone(moved: Scene, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """Taken for a database that was dropped, nothing would be carried back."""
    schema_dropped(moved)
    before, connect = moved.contents("target"), psycopg.connect

    def refusing(conninfo: str, **options: Any) -> Any:
        if conninfo_to_dict(conninfo)["dbname"] == moved.move.target.database:
            raise psycopg.OperationalError(f"FATAL:  {reason}")
        return connect(conninfo, **options)

    with monkeypatch.context() as patch, pytest.raises(ConfigurationError, match="refused the login"):
        patch.setattr(psycopg, "connect", refusing)
        undo(moved.move, moved.switch, run=uuid.uuid4(), lock_budget=5.0, alive=lambda: True, progress=say)
    undo(moved.move, moved.switch, run=uuid.uuid4(), lock_budget=5.0, alive=lambda: True, progress=say)
    assert moved.contents("source") == before


@pytest.mark.parametrize("reason", ['database "new" does not exist', "Datenbank »new« existiert nicht"])
def test_a_database_that_is_gone_holds_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    def refusing(conninfo: str, **options: Any) -> Any:
        if conninfo_to_dict(conninfo)["dbname"] == "dropped":
            raise psycopg.OperationalError(f"FATAL:  {reason}")
        return connect(conninfo, **options)

    connect = psycopg.connect
    monkeypatch.setattr(psycopg, "connect", refusing)
    gone = dataclasses.replace(scene.move, target=scene.move.target.with_database("dropped"))
    before = scene.contents("source")
    undo(gone, scene.switch, run=uuid.uuid4(), lock_budget=5.0, alive=lambda: True, progress=say)
    assert scene.contents("source") == before


@pytest.mark.parametrize("take_off", WAYS)
def test_nothing_is_decided_where_both_sides_were_written_to(moved: Scene, take_off: Way) -> None:
    take_off(moved)
    moved.on_source(BEHIND)
    before = moved.contents("source"), moved.contents("target")
    commands: list[Callable[[], object]] = [
        moved.cut_over,
        moved.go_back,
        lambda: undo(moved.move, moved.switch, run=uuid.uuid4(), lock_budget=5.0, alive=lambda: True, progress=say),
        lambda: moved.go_back(discard=moved.move.target.database),  # which gives up what has no place, not everything
    ]
    for command in commands:
        with pytest.raises(Refused, match=r"public\.config.* take writes too: somebody took their fence off"):
            command()
        assert (moved.contents("source"), moved.contents("target")) == before


def test_the_old_side_s_writes_are_given_up_by_name(moved: Scene) -> None:
    schema_dropped(moved)
    moved.on_source(BEHIND)
    moved.cut_over(discard=moved.move.source.database)
    assert whole(moved)
    assert status(moved.move, target_exists=True).unfenced == ()
    after = moved.contents("target")
    with pytest.raises(Refused, match="changed behind its fence"):
        moved.go_back()
    moved.go_back(discard=moved.move.source.database)
    assert moved.contents("source") == after


def test_the_new_side_s_writes_are_given_up_by_name(moved: Scene) -> None:
    schema_dropped(moved)
    moved.on_source(BEHIND)
    before = moved.contents("source")
    moved.go_back(discard=f"all of {moved.move.target.database}")
    assert moved.contents("source") == before
    assert status(moved.move, target_exists=True).side == "source"
    with pytest.raises(Exception, match="not live"):
        moved.on_target(WRITTEN.replace("since", "late"))
    moved.cut_over()
    assert moved.contents("target") == before


def test_after_a_whole_way_back_the_old_side_s_journal_is_not_needed(moved: Scene) -> None:
    moved.go_back()
    before = moved.contents("source")
    schema_dropped(moved)
    assert status(moved.move, target_exists=True).side == "source"
    moved.on_source(BEHIND)
    moved.cut_over()
    assert moved.contents("target") != before
    assert moved.on_target("SELECT config FROM public.config WHERE type = 'claude'") == [({"behind": True},)]


def test_a_new_side_without_our_schema_is_gone_back_from(moved: Scene) -> None:
    """Nothing of the fence is on a live target, but the record of its copy is."""
    with moved.move.target.connect() as admin:
        admin.execute("DROP SCHEMA clarity_infra CASCADE")
    after = moved.contents("target")
    moved.go_back()
    assert moved.contents("source") == after
    with pytest.raises(Exception, match="not live"):
        moved.on_target(WRITTEN.replace("since", "late"))
