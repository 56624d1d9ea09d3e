"""The cut-over is proved also where the run that made it died, and the application has written since."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from clarity_infra.errors import Refused, VerificationFailed
from clarity_infra.move import capture, cutover, faults, ledger
from clarity_infra.move.cleanup import clean_up, refuse_clean_up
from clarity_infra.move.status import status
from tests.cutover.scene import WRITES, Scene

AT_ONCE = timedelta(0)

# Migrations that write rows anew, take a column away, and change rows as an application would.
HARD = """ALTER TABLE "requests" ADD COLUMN "agent_type" text;--> statement-breakpoint
ALTER TABLE "requests" ADD COLUMN "agent_model" text;--> statement-breakpoint
UPDATE "team" SET "name" = upper("name");--> statement-breakpoint
ALTER TABLE "audit" ALTER COLUMN "id" TYPE bigint;--> statement-breakpoint
ALTER TABLE "messages" RENAME COLUMN "content" TO "body";--> statement-breakpoint
DELETE FROM "log" WHERE "line" = 'line 3';"""


def dies_at(scene: Scene, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """The cut-over dies at the point; what it started is repeated without a fault later."""

    def die(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(faults, "fault", die)
    with pytest.raises(KeyboardInterrupt):
        scene.cut_over()
    monkeypatch.setattr(faults, "fault", lambda _point: None)


def ours_on_target(scene: Scene) -> list[str]:
    return [
        row[0]
        for row in scene.on_target(
            "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'clarity_infra%' UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE"
            " 'clarity_infra%' UNION ALL SELECT relname FROM pg_class WHERE relname LIKE 'clarity_infra_delta%' AND relkind IN ('r', 'S')"
        )
    ]


@pytest.mark.parametrize("point", ["fence committed", "after migrate", "after switch to target", "after open target", "before settle"])
def test_the_next_run_proves_what_a_dead_one_made(scene: Scene, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    dies_at(scene, monkeypatch, point)
    assert any("not proved equal yet" in line for line in status(scene.move, target_exists=True).lines())
    if point in ("after open target", "before settle"):
        for statement in WRITES.values():
            scene.on_target(statement)
    evidence = scene.cut_over()
    assert evidence["proved"] and not evidence["unproved"]
    assert evidence["migrations"] == ["0001_agents"]
    assert evidence["waited_seconds"] is not None and evidence["refused_seconds"] > 0
    assert len(evidence["tables"]) == 7
    assert ours_on_target(scene) == []
    assert refuse_clean_up(scene.move, monitoring=AT_ONCE, contents=True) == []
    assert scene.cut_over() == evidence


@pytest.mark.parametrize("point", ["fence committed", "after migrate", "before settle"])
def test_migrations_that_change_rows_do_not_stand_in_the_way_of_the_proof(scene: Scene, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    assert scene.migrations.folder is not None
    (scene.migrations.folder / "0001_agents.sql").write_text(HARD)
    dies_at(scene, monkeypatch, point)
    if point == "before settle":
        scene.on_target("UPDATE public.team SET name = name || '!'; INSERT INTO public.audit (what) VALUES ('later')")
    assert scene.cut_over()["proved"]
    assert scene.on_target("SELECT name FROM public.team ORDER BY 1")[0][0].startswith("BLUE")
    assert refuse_clean_up(scene.move, monitoring=AT_ONCE, contents=True) == []


def test_what_is_not_equal_is_seen_although_the_application_has_written_since(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that forgets what was noted, and dies: the row it lost is found among the writes of the application."""
    forgot = capture.take
    monkeypatch.setattr(cutover, "COUNTING", -1.0)

    def lose(point: str) -> None:
        if point == "brought near":
            scene.on_source("UPDATE public.requests SET title = 'lost' WHERE id = 77; DELETE FROM public.log WHERE line = 'line 2'")
            monkeypatch.setattr(capture, "take", lambda *_: capture.Changes({}, frozenset()))
        if point == "before settle":
            raise KeyboardInterrupt

    monkeypatch.setattr(faults, "fault", lose)
    with pytest.raises(KeyboardInterrupt):
        scene.cut_over()
    monkeypatch.setattr(faults, "fault", lambda _point: None)
    monkeypatch.setattr(capture, "take", forgot)
    for statement in WRITES.values():
        scene.on_target(statement)
    with pytest.raises(VerificationFailed) as raised:
        scene.cut_over()
    assert "public.requests" in str(raised.value) and "public.log" in str(raised.value) and "public.config" not in str(raised.value)
    reasons = refuse_clean_up(scene.move, monitoring=AT_ONCE, contents=True)
    assert len(reasons) == 1 and "public.log: 16 rows in the source, 20 in the target" in reasons[0]
    assert scene.cut_over()["differences"]
    assert any(line.startswith("not proved equal: public.log") for line in scene.said)


def unwatched(scene: Scene, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A cut-over that died, and whose ledger somebody spoiled."""
    dies_at(scene, monkeypatch, "before settle")
    if how == "dropped":
        for schema, table, trigger in scene.on_target(
            "SELECT relnamespace::regnamespace::text, relname, tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE tgname LIKE"
            " 'clarity_infra_ledger%'"
        ):
            with scene.target() as connection:
                connection.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), sql.Identifier(schema, table)))
    else:
        with scene.server.connect(scene.move.target.database) as root:
            found = root.execute("SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'clarity_infra_deltas%'").fetchone()
            assert found is not None
            root.execute(f"DROP TABLE {found[0]}")
    scene.on_target("UPDATE public.requests SET title = 'since' WHERE id IN (5, 6)")


@pytest.mark.parametrize("how", ["dropped", "broken"])
def test_what_nobody_can_know_any_more_somebody_can_answer_for(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    unwatched(scene, monkeypatch, how)
    evidence = scene.cut_over()
    assert not evidence["proved"] and not evidence["differences"]
    # The trigger on requests writes to audit.
    assert {text.split(":")[0] for text in evidence["unproved"]} == {"public.requests", "public.audit"}
    assert any("public.requests: 2 row(s) differ" in text and "5, 6" in text for text in evidence["unproved"])
    (reason,) = refuse_clean_up(scene.move, monitoring=AT_ONCE, contents=True)
    assert f"acknowledgeUnprovedCutover to {evidence['fenced_by']}" in reason
    settings: dict[str, Any] = {
        "run": uuid.uuid4(),
        "backup": tmp_path / "backup",
        "monitoring": AT_ONCE,
        "acknowledged": 0,
        "progress": scene.said.append,
    }
    with pytest.raises(Refused, match="did not pass"):
        clean_up(scene.move, **settings, unproved=str(uuid.uuid4()))
    assert clean_up(scene.move, **settings, unproved=evidence["fenced_by"])["dropped"]


def test_migrations_of_the_application_before_the_proof_are_no_difference(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on for the dead run comes late, and the application has been deployed again meanwhile."""
    dies_at(scene, monkeypatch, "before settle")
    scene.on_target("ALTER TABLE public.person DROP COLUMN name; ALTER TABLE public.requests ALTER COLUMN place TYPE bigint")
    scene.on_target(
        "ALTER TYPE public.kind RENAME TO kinds; UPDATE public.config SET config = '1'; ALTER TABLE public.team ADD COLUMN more text"
    )
    scene.on_target("ALTER TABLE public.log RENAME TO old_log; UPDATE public.team SET more = 'x'")
    evidence = scene.cut_over()
    assert not evidence["differences"] and not evidence["proved"]
    assert {text.split(":")[0] for text in evidence["unproved"]} == {"public.person", "public.requests", "public.log"}
    assert all("columns were changed" in text for text in evidence["unproved"])


def test_a_ledger_that_breaks_or_overflows_fails_no_write(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "CAP", 3)
    dies_at(scene, monkeypatch, "before settle")
    for statement in WRITES.values():
        scene.on_target(statement)
    evidence = scene.cut_over()
    assert not evidence["proved"]
    proved = {facts["table"] for facts in evidence["tables"]} - {text.split(":")[0] for text in evidence["unproved"]}
    assert proved == set()


def test_a_second_cut_over_of_the_same_copy_has_a_ledger_of_its_own(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    dies_at(scene, monkeypatch, "before settle")
    scene.on_target("UPDATE public.requests SET title = 'first time'")
    scene.go_back()
    assert not [name for name in ours_on_target(scene) if "fence" not in name]
    scene.on_source("UPDATE public.requests SET title = 'in between' WHERE id < 9")
    dies_at(scene, monkeypatch, "after open target")
    scene.on_target("UPDATE public.requests SET title = 'second time'; DELETE FROM public.log")
    assert scene.cut_over()["proved"]


def test_a_reader_that_does_not_let_go_leaves_triggers_that_do_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    dies_at(scene, monkeypatch, "before settle")
    with scene.target() as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM public.requests")
        assert scene.cut_over()["proved"]
        scene.on_target("UPDATE public.requests SET title = 'x'")
    assert [name for name in ours_on_target(scene) if "ledger" in name]
    assert any("which does nothing any more" in line for line in status(scene.move, target_exists=True).lines())
    scene.on_target("DELETE FROM public.messages")
    scene.cut_over()
    assert ours_on_target(scene) == []


def test_a_migration_that_takes_a_column_away_is_no_change_behind_the_fence(scene: Scene) -> None:
    scene.on_source("ALTER TABLE public.person ADD COLUMN nick text; UPDATE public.person SET nick = 'n'")
    scene.on_target("ALTER TABLE public.person ADD COLUMN nick text; UPDATE public.person SET nick = 'n'")
    assert scene.migrations.folder is not None
    (scene.migrations.folder / "0001_agents.sql").write_text('ALTER TABLE "person" DROP COLUMN "nick";')
    assert scene.cut_over()["proved"]
    assert refuse_clean_up(scene.move, monitoring=AT_ONCE, contents=True) == []
    scene.on_target("UPDATE public.person SET name = 'Eve' WHERE id = 1; INSERT INTO public.person VALUES (3, 'Joe', NULL)")
    scene.go_back()
    assert scene.on_source("SELECT name, nick FROM public.person ORDER BY id") == [("Eve", "n"), ("Bob", "n"), ("Joe", None)]
