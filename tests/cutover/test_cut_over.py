"""A cut-over and its way back on real servers."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import psycopg
import pytest

from clarity_infra.errors import ClarityError, Refused, Unreachable
from clarity_infra.move import capture, cutover, faults, fence, migrations
from clarity_infra.move.journal import Journal
from clarity_infra.move.state import CUT_OVER
from tests.cutover.scene import WRITES, Scene, writing


def test_the_target_becomes_the_live_side(scene: Scene) -> None:
    before = scene.contents("source")
    evidence = scene.cut_over()
    assert scene.contents("target") == before == scene.contents("source")
    assert evidence["proved"] and evidence["migrations"] == ["0001_agents"]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match=scene.move.target.database):
        scene.on_source("UPDATE public.requests SET title = 'x' WHERE false")
    scene.on_target("UPDATE public.requests SET title = 'x' WHERE id = 1")
    assert scene.switch.origin == "target"


def test_who_reads_a_file_is_told_as_soon_as_the_target_takes_writes(scene: Scene) -> None:
    """Not when all is compared, which takes as long as there is data."""
    told: list[bool] = []

    def opened() -> None:
        scene.on_target("UPDATE public.requests SET title = 'x' WHERE id = 1")
        with scene.move.source.connect() as source:
            told.append(Journal(source, scene.move.stack).last(CUT_OVER) is not None)

    assert scene.cut_over(opened=opened)["proved"]
    assert told == [False]


def test_no_write_is_lost_and_none_is_there_twice(scene: Scene) -> None:
    no_write_is_lost(scene)


def test_a_second_run_changes_nothing_and_says_the_same(scene: Scene) -> None:
    first = scene.cut_over()
    scene.on_target("INSERT INTO public.requests (request_id) VALUES ('after')")
    calls = list(scene.switch.calls)
    assert scene.cut_over() == first
    assert scene.switch.calls == calls
    assert scene.on_target("SELECT count(*) FROM public.requests WHERE request_id = 'after'") == [(1,)]


def test_a_writer_idle_in_a_transaction_is_named_and_nothing_changes(scene: Scene) -> None:
    with scene.source(autocommit=False, application_name="forgotten") as blocker:
        blocker.execute("UPDATE public.requests SET title = 'x' WHERE id = 1")
        started = time.monotonic()
        with pytest.raises(Refused) as raised:
            scene.cut_over(lock_budget=3.0)
        assert time.monotonic() - started < 10
        text = str(raised.value)
        assert str(blocker.info.backend_pid) in text and "idle in transaction" in text and "forgotten" in text
        assert scene.switch.calls == []
        with scene.source() as other:
            other.execute("SET statement_timeout = '500ms'")
            other.execute("UPDATE public.requests SET title = 'y' WHERE id = 2")
    assert not [name for name in scene.ours_on_source() if "capture" in name]
    scene.cut_over()


def test_a_transaction_open_at_the_lock_is_waited_for(scene: Scene) -> None:
    def slow() -> None:
        with scene.source(autocommit=False) as connection:
            connection.execute("UPDATE public.requests SET title = 'late' WHERE id = 1")
            time.sleep(1.5)

    thread = threading.Thread(target=slow)
    thread.start()
    time.sleep(0.3)
    scene.cut_over()
    thread.join()
    assert scene.on_target("SELECT title FROM public.requests WHERE id = 1") == [("late",)]


def test_readers_are_not_waited_for(scene: Scene) -> None:
    with scene.source(autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM public.requests")
        scene.cut_over()
        assert reader.execute("SELECT count(*) FROM public.requests").fetchone() == (200,)


def test_without_a_verified_copy_nothing_happens(scene: Scene) -> None:
    with scene.move.target.connect() as connection:
        Journal(connection, scene.move.stack).append("copy-started", uuid.uuid4())
    with pytest.raises(Refused, match="begun and not finished"):
        scene.cut_over()
    with scene.move.target.connect() as connection:
        Journal(connection, scene.move.stack).forget()
    with pytest.raises(Refused, match="no verified copy"):
        scene.cut_over()
    assert scene.ours_on_source() == []


def test_a_source_whose_structure_changed_is_refused(scene: Scene) -> None:
    scene.on_source("ALTER TABLE public.requests ADD COLUMN late text")
    with pytest.raises(Refused, match=r"requests\.late"):
        scene.cut_over()
    assert scene.switch.calls == []


def test_a_migration_on_the_source_after_the_copy_is_refused(scene: Scene) -> None:
    scene.on_source("INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('x', 1500)")
    with pytest.raises(Refused, match="applied to the source"):
        scene.cut_over()


def test_a_migration_that_fails_changes_nothing(scene: Scene) -> None:
    assert scene.migrations.folder is not None
    (scene.migrations.folder / "0001_agents.sql").write_text("ALTER TABLE requests ADD COLUMN x nothing;")
    with pytest.raises(ClarityError, match="0001_agents fails at its statement 1"):
        scene.cut_over()
    scene.on_source("UPDATE public.requests SET title = 'live'")
    assert scene.switch.calls == []


def test_a_migration_that_only_a_deferred_constraint_refuses_is_told_as_that(scene: Scene) -> None:
    """The statement passes, the end of the transaction does not."""
    assert scene.migrations.folder is not None
    (scene.migrations.folder / "0001_agents.sql").write_text(
        "ALTER TABLE messages ADD COLUMN twin integer UNIQUE DEFERRABLE INITIALLY DEFERRED; UPDATE messages SET twin = 1;"
    )
    with pytest.raises(ClarityError, match="0001_agents leave what a deferred constraint does not allow: duplicate key"):
        scene.cut_over()
    scene.on_source("UPDATE public.requests SET title = 'live'")
    assert scene.switch.calls == []


def test_a_migration_that_fails_only_in_earnest_opens_the_source_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> dict[str, object]:
        raise ClarityError("Migration 0001_agents fails.")

    monkeypatch.setattr(migrations, "apply", fails)
    with pytest.raises(ClarityError, match="The source is live again"):
        scene.cut_over()
    scene.on_source("UPDATE public.requests SET title = 'live'")
    monkeypatch.undo()
    scene.cut_over()
    assert scene.on_target("SELECT DISTINCT title FROM public.requests") == [("live",)]


@pytest.mark.parametrize("takes_hold", [False, True])
def test_a_switch_that_answers_with_an_error_is_asked_what_holds(scene: Scene, takes_hold: bool) -> None:
    scene.switch.fail, scene.switch.takes_hold = ClarityError("Cloudflare answered 500."), takes_hold
    if takes_hold:
        scene.cut_over()
        scene.on_target("UPDATE public.requests SET title = 'live'")
        return
    with pytest.raises(ClarityError, match=r"(?s)500.*The source is live again"):
        scene.cut_over()
    scene.on_source("UPDATE public.requests SET title = 'live'")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        scene.on_target("UPDATE public.requests SET title = 'live'")
    scene.cut_over()


def test_cloudflare_out_of_reach_after_the_switch_is_a_state_that_a_repeat_leaves(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> str:
        raise Unreachable("Cloudflare does not answer.")

    def lost() -> None:
        scene.switch.origin = "target"
        monkeypatch.setattr(scene.switch, "where", unreachable)
        raise ClarityError("No answer.")

    monkeypatch.setattr(scene.switch, "to_target", lost)
    with pytest.raises(ClarityError):
        scene.cut_over()
    monkeypatch.undo()
    for command in (scene.on_source, scene.on_target):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            command("UPDATE public.requests SET title = 'x'")
    assert scene.cut_over()["proved"]
    scene.on_target("UPDATE public.requests SET title = 'live'")


def test_an_engine_that_is_gone_changes_nothing(scene: Scene) -> None:
    with pytest.raises(ClarityError, match="engine"):
        scene.cut_over(alive=lambda: False)
    scene.on_source("UPDATE public.requests SET title = 'live'")


def test_the_fence_counts_and_cannot_be_gone_round(scene: Scene) -> None:
    scene.cut_over()
    with scene.move.source.connect() as connection:
        before = fence.hits(connection, scene.move.stack)
    for statement in (
        "INSERT INTO public.log VALUES ('x')",
        "DELETE FROM public.requests WHERE false",
        "TRUNCATE public.audit",
        "MERGE INTO public.log USING (SELECT 1) AS s ON false WHEN NOT MATCHED THEN INSERT VALUES ('x')",
    ):
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            scene.on_source(statement)
    with scene.server.connect(scene.move.source.database) as root:
        root.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            root.execute("UPDATE public.requests SET title = 'x'")
    with scene.move.source.connect() as connection:
        assert fence.hits(connection, scene.move.stack) == before + 5


def test_a_capture_that_overflows_or_breaks_never_fails_a_write(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "CAP", 5)

    def disturb(point: str) -> None:
        if point == "capture installed":
            scene.on_source("UPDATE public.requests SET title = title || '!'")
            with scene.server.connect(scene.move.source.database) as root:
                found = root.execute("SELECT oid::regclass FROM pg_class WHERE relname LIKE 'clarity_infra_notes%'").fetchone()
                assert found is not None
                root.execute("DROP TABLE " + str(found[0]))
            scene.on_source("INSERT INTO public.requests (request_id) VALUES ('unnoted'); TRUNCATE public.messages")

    monkeypatch.setattr(faults, "fault", disturb)
    with pytest.raises(ClarityError):
        scene.cut_over()
    assert scene.on_source("SELECT count(*) FROM public.requests WHERE request_id = 'unnoted'") == [(1,)]
    monkeypatch.setattr(
        faults,
        "fault",
        lambda point: point == "capture installed" and scene.on_source("UPDATE public.requests SET title = title || '?'"),
    )
    scene.cut_over()
    assert scene.contents("target") == scene.contents("source")


def test_what_changes_after_the_near_copy_is_carried(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything an application may do between the last look without a lock and the lock."""
    statements = iter(list(WRITES.values()))

    def write(point: str) -> None:
        if point == "brought near":
            for statement in statements:
                if "agent_type" not in statement:
                    scene.on_source(statement)

    monkeypatch.setattr(faults, "fault", write)
    scene.cut_over()
    assert scene.contents("target") == scene.contents("source")


@pytest.mark.parametrize("name", ["carry skipped", "sync skipped", "fence after the switch"])
def test_a_planted_bug_turns_the_harness_red(scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if name == "carry skipped":
        monkeypatch.setattr(capture, "take", lambda *_: capture.Changes({}, frozenset()))
    elif name == "sync skipped":
        monkeypatch.setattr(cutover, "set_sequences", lambda *_: None)
    else:
        monkeypatch.setattr(fence, "put_up", _only_when_settled(scene, fence.put_up))
        monkeypatch.setattr(fence, "standing_of", lambda *_: fence.Standing(frozenset([scene.move.tables[0]]), frozenset()))
    with pytest.raises((ClarityError, AssertionError, psycopg.errors.UniqueViolation)):
        no_write_is_lost(scene)


def _only_when_settled(scene: Scene, put_up: Any) -> Any:
    def late(*args: Any, **more: Any) -> None:
        if scene.switch.origin == "target":
            put_up(*args, **more)

    return late


def no_write_is_lost(scene: Scene) -> None:
    """The harness: a writer at work during a cut-over; afterwards its account is right, and a new row gets a new number."""
    with writing(scene) as writer:
        time.sleep(0.4)
        scene.cut_over()
        time.sleep(0.4)
    rows = dict(scene.on_target("SELECT place, title FROM public.requests WHERE place >= 100000"))
    assert not writer.problems
    assert rows == {key: text for key, text in writer.last.items() if text is not None}
    scene.on_target("INSERT INTO public.requests (request_id) VALUES ('next')")


def test_numbers_that_were_taken_from_a_sequence_meanwhile_are_not_given_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may ask for a number and write the row later, on the other side by then."""
    taken: list[int] = []

    def ask(point: str) -> None:
        if point in ("rest carried", "fence committed", "switched"):
            taken.extend(row[0] for row in scene.on_source("SELECT nextval('public.requests_id_seq') FROM generate_series(1, 5)"))

    monkeypatch.setattr(faults, "fault", ask)
    scene.cut_over()
    assert len(taken) == 15
    assert scene.on_target("SELECT nextval('public.requests_id_seq')") == [(max(taken) + 1,)]
