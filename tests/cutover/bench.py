"""How long do writers wait? A cut-over and the way back under a client's load, at several sizes: `python -m tests.cutover.bench`.

Clients in processes of their own write over the stand-in's data path; the rows that need not be carried lie in one narrow table. Prints
the longest time any client was without an acknowledged write, first waiting, then refused, and what of its account was not true.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, Literal

import psycopg

from tests.faults.application import Application
from tests.faults.run import Command
from tests.faults.stage import SIDES, House, Stage

LIMIT = 1.0
"""Seconds that a client may be without an acknowledged write at a cut-over; the way back is as long as there is to carry back."""

_PROCESSES = 2
_CLIENTS = 4
_SETTLE = 3.0


@dataclasses.dataclass(frozen=True)
class Told:
    """What one process of clients tells at the end."""

    waited: float
    refused: float
    written: int
    seconds: float
    wrong: list[str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cutover.bench", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 10_000_000])
    parser.add_argument("--rate", type=float, default=320.0, help="writes a second that the clients try for")
    parser.add_argument("--forward", action="store_true", help="measure the cut-over alone, not the way back")
    options = parser.parse_args()
    commands: tuple[Command, ...] = ("cut over",) if options.forward else ("cut over", "go back")
    heading = (
        f"{'rows':>12} {'direction':<9} {'took s':>7} {'gap s':>6} {'waited':>7} {'refused':>8} {'run says':>9} {'writes/s':>9}"
        f" {'carried':>8}  lost or twice"
    )
    print(heading, flush=True)
    good = True
    with House(shared_buffers="512MB", max_wal_size="4GB", maintenance_work_mem="256MB") as house:
        for rows in options.rows:
            with house.stage(two_servers=False) as stage:
                _fill(stage, rows)
                for command in commands:
                    good &= _measure(stage, rows, command, options.rate)
    return 0 if good else 1


def _fill(stage: Stage, rows: int) -> None:
    """The same rows on both sides, as a copy leaves them."""
    for side in SIDES:
        with stage.root(side) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(
                "INSERT INTO public.audit (id, what) SELECT g + 1000000, 'what was done in step ' || g FROM generate_series(1, %s) AS g", (rows,)
            )
            connection.execute("SELECT setval('public.audit_id_seq', %s)", (rows + 2_000_000,))
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


def _measure(stage: Stage, rows: int, command: Command, rate: float) -> bool:
    live: Literal["source", "target"] = "target" if command == "cut over" else "source"
    # Each direction has keys of its own: a client's account begins with rows that are not there.
    first = 0 if command == "cut over" else _PROCESSES
    clients = [_start(stage, first + number, rate / _PROCESSES) for number in range(_PROCESSES)]
    time.sleep(_SETTLE)
    started = time.monotonic()
    run = stage.start(command)
    outcome = run.wait(900)
    took = time.monotonic() - started
    time.sleep(_SETTLE)
    told = [_stop(pipe, process, stage.servers[live].url(stage.databases[live])) for pipe, process in clients]
    wrong = ([] if outcome == "done" else [f"the run ended so: {outcome} {run.text}"]) + [text for one in told for text in one.wrong]
    longest = max(told, key=lambda one: one.waited + one.refused)
    gap, speed = longest.waited + longest.refused, sum(one.written / one.seconds for one in told)
    print(
        f"{rows:>12,} {command:<9} {took:>7.1f} {gap:>6.2f} {longest.waited:>7.2f} {longest.refused:>8.2f}"
        f" {_measured(stage, command):>9} {speed:>9.0f}"
        f" {_carried(stage, command):>8}  {'; '.join(wrong[:5]) or 'none'}",
        flush=True,
    )
    return not wrong and (command != "cut over" or gap <= LIMIT)


def _measured(stage: Stage, command: Command) -> str:
    """Waited and refused as the run's own evidence has them; of the way back none is kept in a database."""
    if command != "cut over":
        return "-"
    with stage.root("source") as connection:
        row = connection.execute(
            "SELECT facts FROM clarity_infra.clarity_infra_journal WHERE step = 'cut over' ORDER BY id DESC LIMIT 1"
        ).fetchone()
    return f"{row[0]['waited_seconds']:.2f}+{row[0]['sessions_ended_after']:.2f}" if row else "-"


def _carried(stage: Stage, command: Command) -> int:
    """Changes carried while writers waited, or those carried back."""
    step = "fenced" if command == "cut over" else "gone back"
    with stage.root("source") as connection:
        row = connection.execute(
            "SELECT facts FROM clarity_infra.clarity_infra_journal WHERE step = %s ORDER BY id DESC LIMIT 1", (step,)
        ).fetchone()
    carried = row[0]["carried"] if row else 0
    return carried if isinstance(carried, int) else sum(sum(table.values()) for table in carried.values())


def _start(stage: Stage, number: int, rate: float) -> tuple[Connection[Any, Any], ForkServerProcess]:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=_write, args=(theirs, stage.url(), number, rate), daemon=True)
    process.start()
    return ours, process


def _stop(pipe: Connection[Any, Any], process: ForkServerProcess, live: str) -> Told:
    pipe.send(live)
    told = pipe.recv()
    process.join(10)
    assert isinstance(told, Told)
    return told


def _write(parent: Connection[Any, Any], url: str, number: int, rate: float) -> None:
    """The life of a process of clients."""
    application = Application(lambda: url, clients=_CLIENTS, rate=rate / _CLIENTS, slow=0.0, first=number * _CLIENTS)
    started = time.monotonic()
    with application:
        live = parent.recv()
        seconds = time.monotonic() - started
    with psycopg.connect(live) as connection:
        wrong = application.audit(connection)
    parent.send(Told(*application.longest_gap(), application.written(), seconds, wrong))


if __name__ == "__main__":
    sys.exit(main())
