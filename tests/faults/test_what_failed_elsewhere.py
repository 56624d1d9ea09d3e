"""What failed in the best systems there are for such a cut-over, tried here: each test names the report of it.

The reports are of Vitess (github.com/vitessio/vitess), whose MoveTables does for MySQL what this does for PostgreSQL.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clarity_infra.errors import Refused
from clarity_infra.move import cutover, faults
from clarity_infra.move.cutover import cut_over
from clarity_infra.move.journal import Journal
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.status import status
from tests.faults import breakage
from tests.faults.application import Application
from tests.faults.run import Command
from tests.faults.stage import House, Side, Stage


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as house:
        yield house


def end_at(stage: Stage, command: Command, point: str) -> None:
    """Kills a run of the command at the point."""
    run = stage.start(command, point=point)
    assert run.reach(), run.text
    breakage.kill_run(stage, run)
    assert run.wait() == "killed"


def done(stage: Stage, command: Command, **more: Any) -> None:
    """Runs the command to its end; the sessions of a killed run end when the server notices."""
    for _ in range(50):
        run = stage.start(command, **more)
        if run.wait() != "refused" or "is at work" not in run.text:
            break
        time.sleep(0.2)
    assert run.outcome == "done", run.text


@pytest.mark.parametrize(("command", "point"), [("cut over", "fence committed"), ("go back", "after close target")])
def test_a_failure_in_the_middle_leaves_a_state_that_is_shown_and_that_a_repeat_leaves(house: House, command: Command, point: str) -> None:
    """vitess 17326: both sides denied writes, and the state shown was not the state."""
    with house.stage(two_servers=False, cut_over=command == "go back") as stage:
        end_at(stage, command, point)
        assert stage.writable() == []
        shown = status(stage.order.move, target_exists=True)
        assert shown.side == "between"
        assert "neither side until the run is repeated" in shown.lines()[0]
        done(stage, command)
        live: Side = "target" if command == "cut over" else "source"
        assert stage.writable() == [live] and stage.origin() == live
        assert status(stage.order.move, target_exists=True).side == live


@pytest.mark.parametrize("command", ["cut over", "go back"])
@pytest.mark.parametrize("seconds", [0.3, 60.0])
def test_a_transaction_open_at_the_lock(house: House, command: Command, seconds: float) -> None:
    """vitess 9481 and 9400: what was open committed after the switch and was lost, or broke the way back."""
    old: Side = "source" if command == "cut over" else "target"
    with house.stage(two_servers=False, cut_over=command == "go back") as stage:
        run = stage.start(command, point="brought near" if command == "cut over" else "before close target", lock_budget=3.0)
        assert run.reach(), run.text
        over = threading.Event()
        writer = threading.Thread(target=_hold, args=(stage, old, min(seconds, 30.0), over))
        writer.start()
        time.sleep(0.1)
        run.go_on()
        outcome = run.wait()
        over.set()
        writer.join()
        if seconds > 3:  # no budget waits for that: the attempt fails, nothing was changed, and the transaction commits
            assert outcome == "refused" and "no moment came" in run.text and "a long one" in run.text
            assert stage.writable() == [old] and stage.origin() == old
            done(stage, command)
        else:
            assert outcome == "done", run.text
        for side in ("source", "target"):
            with stage.root(side) as connection:
                assert connection.execute("SELECT title FROM public.requests WHERE place = 7").fetchall() == [("open at the lock",)]


def _hold(stage: Stage, side: Side, seconds: float, over: threading.Event) -> None:
    origin = stage.order.source if side == "source" else stage.order.target
    url = stage.servers[side].url(stage.databases[side], origin.user, origin.password)
    with psycopg.connect(url, application_name="a long one") as connection:
        connection.execute("UPDATE public.requests SET title = 'open at the lock' WHERE place = 7")
        over.wait(seconds)


def in_this_process(stage: Stage, at: Callable[[str], object], monkeypatch: pytest.MonkeyPatch, budget: float = 10.0) -> dict[str, Any]:
    """A cut-over of this very process, which calls `at` at every point."""
    monkeypatch.setattr(faults, "fault", at)
    return cut_over(
        stage.order.move,
        stage.order.switch(),
        Migrations(stage.order.migrations),
        run=uuid.uuid4(),
        lock_budget=budget,
        alive=lambda: True,
        progress=lambda _: None,
    )


def test_a_write_of_the_last_moment_before_the_lock_is_carried(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """vitess 16563: the position to catch up to was taken before the lock, so late writes were not carried."""
    with house.stage(two_servers=False) as stage:
        late = threading.Thread(target=_hold, args=(stage, "source", 0.5, threading.Event()))

        def write(point: str) -> None:
            # It is under way when the lock is asked for, after the last look at what changed.
            if point == "brought near" and not late.ident:
                late.start()
                time.sleep(0.1)

        in_this_process(stage, write, monkeypatch)
        late.join()
        with stage.root("target") as connection:
            assert connection.execute("SELECT title FROM public.requests WHERE place = 7").fetchall() == [("open at the lock",)]


def test_without_a_finished_copy_there_is_no_cut_over(house: House) -> None:
    """vitess 6951: switching was allowed before the copy had finished, and empty tables went live."""
    with house.stage(two_servers=False) as stage:
        with stage.order.move.target.connect() as connection:
            Journal(connection, stage.order.move.stack).append("copy-started", uuid.uuid4())
        run = stage.start("cut over")
        assert run.wait() == "refused" and "begun and not finished" in run.text
        assert stage.origin() == "source" and "source" in stage.writable()


def test_what_is_left_is_measured_before_writers_are_locked_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """vitess 9525: the switch timed out on lag after writes had been stopped, which was down time for nothing."""
    points: list[str] = []
    with house.stage(two_servers=False) as stage:

        def write(point: str) -> None:
            points.append(point)
            if point == "brought near":
                with stage.root("source") as connection:
                    connection.execute("INSERT INTO public.audit (what) SELECT 'faster' FROM generate_series(1, %s)", (cutover.NEAR * 2,))

        monkeypatch.setattr(cutover, "LONGEST_ROUND", 0.0)  # what is left takes longer than writers may be kept waiting
        with pytest.raises(Refused, match="change rows faster"):
            in_this_process(stage, write, monkeypatch)
        assert points.count("brought near") == cutover.ROUNDS and "source locked" not in points
        assert stage.writable() == ["source"] and stage.origin() == "source"
        assert not [name for name in stage.leftovers() if "capture" in name and "trigger" in name]
        monkeypatch.undo()
        done(stage, "cut over")


@pytest.mark.parametrize("command", ["cut over", "go back"])
def test_what_a_dead_run_left_is_shown_and_does_not_disturb_the_next(house: House, command: Command) -> None:
    """vitess 13998, 13999 and 11387: entries of a cancelled run broke a later one until they were removed by hand."""
    with house.stage(two_servers=False, cut_over=command == "go back") as stage, Application(stage.url) as application:
        end_at(stage, command, "capture installed" if command == "cut over" else "capture installed on the target")
        if command == "cut over":
            shown = status(stage.order.move, target_exists=True)
            assert "capture on public.requests" in shown.leftovers
            assert any(line.startswith("left by a run that died") for line in shown.lines())
        assert application.write_again(5)
        done(stage, command)
        for side in ("source", "target"):
            with stage.root(side) as connection:
                assert connection.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'clarity_infra_capture_%%'").fetchall() == []
        assert application.write_again(5)
        if command == "cut over":
            done(stage, "undo")
            assert stage.leftovers() == []


def test_evidence_shows_its_age(house: House) -> None:
    """PlanetScale shows a verification older than 24 hours as stale."""
    with house.stage(two_servers=False) as stage:
        with stage.root("target") as connection:
            connection.execute("UPDATE clarity_infra.clarity_infra_journal SET at = at - interval '26 hours' WHERE step = 'copied'")
        shown = status(stage.order.move, target_exists=True)
        assert any(", 26 h " in line and line.endswith(" old") for line in shown.lines()), shown.lines()
        assert shown.json()["evidence_age_seconds"] >= 26 * 3600


def test_every_row_of_the_table_names_tests_that_exist() -> None:
    """The table in docs/faults.md, by which a reader finds the test of a report."""
    root = Path(__file__).parents[2]
    text = (root / "docs" / "faults.md").read_text(encoding="utf-8").split("## What failed in the best systems there are")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ") and "what happened there" not in line]
    assert len(rows) >= 8
    for row in rows:
        named = re.findall(r"`(?:([\w/]+\.py)(?:::)?)?(test_\w+)?`", row.split(" | ")[-1])
        assert named, row
        for file, test in named:
            source = (root / (file or "tests/faults/test_what_failed_elsewhere.py")).read_text(encoding="utf-8")
            assert not test or f"def {test}(" in source, row
