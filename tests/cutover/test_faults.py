"""Whatever dies, wherever: no acknowledged write is lost or doubled, never two sides take writes, and a repeat converges."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, Unreachable
from clarity_infra.move import cutover, faults, proof
from clarity_infra.move.crossing import crossing
from tests.cutover.child import FileSwitch, describe
from tests.cutover.scene import Scene, Writer, writing

ROOT = Path(__file__).parents[2]


def start(command: str, scene: Scene, folder: Path, point: str, how: str = "KILL") -> subprocess.Popen[str]:
    """The command in a child that dies at the point."""
    switch = folder / "switch"
    description = folder / "scene.json"
    describe(description, scene.move, scene.migrations, switch)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cutover.child", command, str(description), point, how],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def use_file_switch(scene: Scene, folder: Path) -> FileSwitch:
    switch = FileSwitch(folder / "switch")
    switch.to_source()
    scene.switch = switch  # type: ignore[assignment]
    return switch


def writable(scene: Scene) -> list[str]:
    """The sides that take a write now, tried as an application would."""
    sides = []
    for name, connect in (("source", scene.source), ("target", scene.target)):
        with connect() as connection:
            try:
                connection.execute("UPDATE public.requests SET title = title WHERE false")
                sides.append(name)
            except psycopg.errors.ReadOnlySqlTransaction:
                pass
    return sides


def points_of(scene: Scene, command: Callable[[], object]) -> list[str]:
    """The fault points a run without faults comes by, each once."""
    seen: dict[str, None] = {}
    faults.fault = seen.setdefault
    command()
    faults.fault = lambda _point: None
    return list(seen)


def check_account(scene: Scene, writer: Writer, side: str) -> None:
    """What the writer was told is there is there, once, on the side that is live."""
    rows = (scene.on_target if side == "target" else scene.on_source)("SELECT place, title FROM public.requests WHERE place >= 100000")
    assert dict(rows) == {key: text for key, text in writer.last.items() if text is not None}
    assert not writer.problems


# Steps that a second cut-over of the same copy has no need of.
ONCE = ("before close target", "after close target", "before migrate", "after migrate")


@pytest.mark.parametrize("point", ONCE)
def test_the_engine_is_killed_at_a_step_of_the_first_cut_over(scene: Scene, tmp_path: Path, point: str) -> None:
    switch = use_file_switch(scene, tmp_path)
    with writing(scene) as writer:
        kill_and_repeat("cut over", scene, tmp_path, point)
    assert (writable(scene), switch.where()) == (["target"], "target")
    check_account(scene, writer, "target")


def test_the_engine_is_killed_at_every_point_of_the_cut_over(scene: Scene, tmp_path: Path) -> None:
    switch = use_file_switch(scene, tmp_path)
    points = points_of(scene, scene.cut_over)
    assert len(points) >= 18
    scene.go_back()
    with writing(scene) as writer:
        for point in points:
            if point in ONCE:
                continue
            kill_and_repeat("cut over", scene, tmp_path, point)
            assert (writable(scene), switch.where()) == (["target"], "target"), point
            scene.go_back()
    check_account(scene, writer, "source")


def test_the_engine_is_killed_at_every_point_of_the_way_back(scene: Scene, tmp_path: Path) -> None:
    switch = use_file_switch(scene, tmp_path)
    scene.cut_over()
    points = points_of(scene, scene.go_back)
    assert len(points) >= 8
    with writing(scene) as writer:
        for point in points:
            scene.cut_over()
            kill_and_repeat("go back", scene, tmp_path, point)
            assert (writable(scene), switch.where()) == (["source"], "source"), point
    check_account(scene, writer, "source")


def kill_and_repeat(command: str, scene: Scene, folder: Path, point: str) -> None:
    child = start(command, scene, folder, point)
    output, _ = child.communicate(timeout=180)
    assert child.returncode == -signal.SIGKILL, f"{point} was not reached: {output}"
    assert len(writable(scene)) <= 1 or point == "before close target", point
    repeated = scene.cut_over if command == "cut over" else scene.go_back
    deadline = time.monotonic() + 10  # the dead run's sessions end when the server notices
    while True:
        try:
            repeated()
            return
        except ClarityError as error:
            if "at work" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("point", ["source locked", "before the fence is committed"])
def test_a_stopped_engine_lets_writers_go_on(scene: Scene, tmp_path: Path, point: str) -> None:
    use_file_switch(scene, tmp_path)
    with writing(scene) as writer:
        child = start("cut over", scene, tmp_path, point, "STOP")
        wait_until(lambda: is_stopped(child.pid), 60)
        stopped = time.monotonic()
        wait_until(lambda: writer.acknowledged[-1] > stopped + 0.5, 10)
        assert writable(scene) == ["source"]
        child.send_signal(signal.SIGCONT)
        output, _ = child.communicate(timeout=180)
        assert child.returncode == 1
        assert "The source is live" in output or "nothing was changed" in output, output
        scene.cut_over()
        time.sleep(0.3)
    assert writer.gap() < 8
    check_account(scene, writer, "target")


def test_two_runs_at_once_one_wins(scene: Scene) -> None:
    with (
        crossing(scene.move, scene.switch, uuid.uuid4(), scene.said.append),
        pytest.raises(ClarityError, match="Another run of stack dev is at work"),
    ):
        scene.cut_over()
    assert writable(scene) == ["source", "target"]
    scene.cut_over()


def test_a_target_that_hangs_under_the_lock_keeps_writers_out_no_longer_than_said(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend of the target that is stopped answers nothing, not even a cancel: the hold ends by itself."""
    stopped: list[int] = []

    def stop(point: str) -> None:
        if point == "source locked":
            with scene.server.connect(scene.move.target.database) as root:
                rows = root.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s",
                    ("clarity-infra cut-over rows",),
                ).fetchall()
            stopped.extend(pid for (pid,) in rows)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)

    monkeypatch.setattr(cutover, "LONGEST_HOLD", 3.0)
    monkeypatch.setattr(faults, "fault", stop)
    with writing(scene) as writer:
        try:
            with pytest.raises(ClarityError, match="nothing was changed"):
                scene.cut_over()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        monkeypatch.setattr(faults, "fault", lambda _: None)
        time.sleep(0.5)
        scene.cut_over()
        time.sleep(0.3)
    assert stopped and writer.gap() < 8
    check_account(scene, writer, "target")


@pytest.mark.parametrize("point", ["brought near", "source locked", "before the fence is committed", "fence committed", "switched"])
def test_sessions_that_are_ended_leave_a_state_that_a_repeat_leaves(scene: Scene, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """As after a restart of the server: every session of the run is gone from one moment to the next."""
    ended: list[int] = []

    def end(reached: str) -> None:
        if reached == point and not ended:
            with scene.server.connect() as root:
                row = root.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'clarity-infra%%'"
                    " AND datname IN (%s, %s)",
                    (scene.move.source.database, scene.move.target.database),
                ).fetchone()
                ended.append(row[0] if row else 0)

    monkeypatch.setattr(faults, "fault", end)
    with writing(scene) as writer:
        time.sleep(0.2)
        with pytest.raises(ClarityError):
            scene.cut_over()
        assert ended and ended[0] >= 2 and len(writable(scene)) <= 1
        scene.cut_over()
        time.sleep(0.2)
    check_account(scene, writer, "target")


def test_a_server_that_lets_nobody_in_once_the_fence_is_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that had to wait may take its last places: the source is open again when the run ends."""
    full: list[str] = []
    opened = Endpoint._open

    def open_(endpoint: Endpoint, *arguments: Any) -> psycopg.Connection[Any]:
        if full:
            raise endpoint._cannot_connect(psycopg.OperationalError("FATAL:  sorry, too many clients already"))
        return opened(endpoint, *arguments)

    monkeypatch.setattr(faults, "fault", lambda point: full.append(point) if point == "fence committed" else None)
    monkeypatch.setattr(Endpoint, "_open", open_)
    with pytest.raises(ClarityError, match="takes no more sessions") as raised:
        scene.cut_over()
    assert "The source is live again" in str(raised.value)
    assert full and writable(scene) == ["source"]
    monkeypatch.undo()
    scene.cut_over()
    assert writable(scene) == ["target"]


def test_a_server_that_lets_nobody_in_at_the_last_step_is_not_told_as_if_nothing_was_changed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(_: proof.Proof) -> None:
        raise Unreachable("It is full.", unchanged="Nothing was changed.", remedy="end sessions.")

    monkeypatch.setattr(proof.Proof, "make", make)
    with pytest.raises(Unreachable, match="It is full") as raised:
        scene.cut_over()
    assert "Nothing was changed" not in str(raised.value) and "run the same command again" in str(raised.value)
    assert writable(scene) == ["target"]


def test_a_commit_of_the_fence_that_the_server_makes_after_its_connection_was_lost(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not know that nobody listens any more: it must not fence what was told to be live."""
    committed = psycopg.Connection.commit
    due: list[str] = []

    def commit(connection: psycopg.Connection[Any]) -> None:
        if not due or connection.info.parameter_status("application_name") != "clarity-infra cut-over lock":
            return committed(connection)
        due.clear()
        connection.pgconn.send_query(b"SELECT pg_catalog.pg_sleep(1); COMMIT")
        connection.pgconn.flush()
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as ours:
            ours.shutdown(socket.SHUT_RDWR)
        connection.pgconn.consume_input()

    monkeypatch.setattr(faults, "fault", lambda point: due.append(point) if point == "before the fence is committed" else None)
    monkeypatch.setattr(psycopg.Connection, "commit", commit)
    with pytest.raises(ClarityError, match="The source is live and was not changed"):
        scene.cut_over()
    time.sleep(1.5)
    assert writable(scene) == ["source"]
