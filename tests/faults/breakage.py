"""What can break, and for how long? Each fault is done to a run that stands at its point, and lasts until the function returns."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psycopg

from sandbox.cloudflare import Fault
from sandbox.cloudflare.faults import WRITES
from sandbox.postgres import ServerError
from tests.faults.stage import DISK_MB, Run, Side, Stage

Break = Callable[[Stage, Run], None]

LASTS = 8.0
"""Seconds that whatever is stopped stays stopped: beyond the 5 s of silence after which a server ends a lock's holder."""

_OTHERS_TRY = 1.0
_ALL = 99
_PRESSED_AGAIN = 0.03


class Surprise(AssertionError):
    """Something that must not happen while the fault lasts."""


def kill_run(_stage: Stage, run: Run) -> None:
    """The provider's process is killed."""
    os.kill(run.pid, signal.SIGKILL)


def interrupt_run(times: int) -> Break:
    """Somebody presses Ctrl-C, or twice where the first has not ended it yet."""

    def fault(_stage: Stage, run: Run) -> None:
        for _ in range(times):
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGINT)
            time.sleep(_PRESSED_AGAIN)

    return fault


def stop_run(stage: Stage, run: Run) -> None:
    """It is stopped for a while, and goes on; meanwhile somebody runs the same command from another machine."""
    os.kill(run.pid, signal.SIGSTOP)
    run.go_on()
    try:
        time.sleep(_OTHERS_TRY)
        before = stage.writable()
        other = stage.start(run.command)
        if other.wait() != "refused" or "is at work" not in other.text:
            raise Surprise(f"a second run beside a stopped one: {other.outcome} {other.text}")
        if stage.writable() not in (before, ["source"], ["target"]):
            raise Surprise(f"a second run that was refused changed who takes writes from {before} to {stage.writable()}")
        time.sleep(LASTS - _OTHERS_TRY)
    finally:
        os.kill(run.pid, signal.SIGCONT)


def kill_backend(side: Side) -> Break:
    """The server process of one of the run's sessions is killed; PostgreSQL then ends all sessions and recovers."""

    def fault(stage: Stage, run: Run) -> None:
        with contextlib.closing(stage.root(side)) as witness:
            os.kill(stage.backends(side)[0], signal.SIGKILL)
            _until_it_ends(witness)
        run.go_on()
        _until_it_answers(stage, side)

    return fault


def stop_backends(side: Side) -> Break:
    """The server processes of all of the run's sessions on a side are stopped for a while: they hold what they hold."""

    def fault(stage: Stage, run: Run) -> None:
        stopped = stage.backends(side)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            run.go_on()
            time.sleep(LASTS)
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    return fault


def restart(side: Side) -> Break:
    """The server is restarted."""

    def fault(stage: Stage, run: Run) -> None:
        stage.servers[side].stop()
        run.go_on()
        stage.servers[side].start()

    return fault


def partition(side: Side) -> Break:
    """Nothing gets through between the run and one server for a while; the application's way is another."""

    def fault(stage: Stage, run: Run) -> None:
        stage.links[side].cut()
        try:
            run.go_on()
            time.sleep(LASTS)
        finally:
            stage.links[side].mend()

    return fault


def full_disk(stage: Stage, run: Run) -> None:
    """The disk under one database is full, until the run has ended or some time is over."""
    assert stage.disk is not None
    ballast = stage.disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for _ in range(DISK_MB * 1024):
            file.write(bytes(1024))
    try:
        run.go_on()
        run.over(LASTS)
    finally:
        ballast.unlink()


def full_log(side: Side) -> Break:
    """The disk under one server's write-ahead log is full: it ends all sessions, and does not come back before there is room."""

    def fault(stage: Stage, run: Run) -> None:
        assert stage.wal is not None
        ballast = stage.wal / "ballast"
        with stage.root(side) as root:
            root.execute("CHECKPOINT")  # or the recovery would make and drop the databases of earlier cases once more
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(8192))
        try:
            run.go_on()
            ended = time.monotonic() + LASTS
            with contextlib.suppress(psycopg.Error), stage.root(side) as writer:
                while time.monotonic() < ended:  # the segments that are there already are used up first
                    writer.execute("SELECT pg_logical_emit_message(false, 'harness', repeat('x', 1000000))")
            _wait_until(ended)
        finally:
            ballast.unlink()
        _start_again(stage, side)

    return fault


def _wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _start_again(stage: Stage, side: Side) -> None:
    """Somebody starts a server that gave up; one that is on its way is waited for, and started anew where it does not get there."""
    server, began = stage.servers[side], time.monotonic()
    patience = began + 25
    while True:
        try:
            server.start()
            return
        except ServerError as error:
            if time.monotonic() > began + 90:
                lines = server.log_path.read_text(errors="replace").splitlines()[-30:]
                raise Surprise(f"{error} The end of its log: {' / '.join(lines)}") from None
            if time.monotonic() > patience and server.pid is not None:
                patience = began + 90
                os.kill(server.pid, signal.SIGQUIT)  # as `pg_ctl stop -m immediate`
            time.sleep(0.2)


def cloudflare(kind: str, *, status: int = 500, count: int = _ALL, reads: bool = False) -> Break:
    """Cloudflare's API fails `count` times: `kind` is "status", "hang" (a time-out) or "drop" (accepted, no answer); reads, too."""

    def fault(stage: Stage, run: Run) -> None:
        stage.api.faults.add(api_fault(kind, status=status, count=count, reads=reads))
        run.go_on()
        run.over(60)
        stage.api.faults.clear()

    return fault


def api_fault(kind: str, *, status: int = 500, count: int = _ALL, reads: bool = False) -> Fault:
    """The stand-in's own description of such a failure."""
    methods = (*WRITES, "GET") if reads else WRITES
    seconds = 2.0 if kind == "hang" else 0.0  # longer than the run waits
    return Fault(kind, status=status, count=count, seconds=seconds, methods=methods)  # type: ignore[arg-type]


def _until_it_ends(witness: psycopg.Connection[Any]) -> None:
    """The server ends every session once it has noticed; until then it would let another one in."""
    with contextlib.suppress(psycopg.Error):
        while True:
            witness.execute("SELECT 1")
            time.sleep(0.01)


def _until_it_answers(stage: Stage, side: Side) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            stage.servers[side].connect().close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
