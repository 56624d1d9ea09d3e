"""How are many cases tried in less time? Several at once, each process of them with servers of its own."""

from __future__ import annotations

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from tests.faults.harness import Case, Result, every_case, try_out
from tests.faults.run import Command
from tests.faults.stage import House


def _chosen(points: dict[Command, list[str]], only: str) -> list[Case]:
    words = only.split("|")
    return [case for case in every_case(points) if any(word in f"{case.command} {case.point} {case.name}" for word in words)]


def side_by_side(points: dict[Command, list[str]], only: str, jobs: int) -> list[Result]:
    """Deals the cases out to processes with servers of their own; a fault of one case would befall its neighbours otherwise."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for job in range(jobs):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, points, only, job, jobs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        found = dict(_collected(pipes))
    except BaseException:
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGINT)  # so that it stops its servers
        raise
    finally:
        for process in processes:
            process.join(60)
    missing = [case for number, case in enumerate(_chosen(points, only)) if number not in found]
    if missing:
        raise SystemExit(f"a process of the harness ended before its cases were done; not tried: {missing[0].name} and others")
    return [found[number] for number in sorted(found)]


def _collected(pipes: list[Connection[Any, Any]]) -> Iterator[tuple[int, Result]]:
    open_pipes = list(pipes)
    while open_pipes:
        ready = multiprocessing.connection.wait(open_pipes)
        for pipe in [pipe for pipe in open_pipes if pipe in ready]:
            try:
                yield pipe.recv()
            except EOFError:
                open_pipes.remove(pipe)


def _work(parent: Connection[Any, Any], points: dict[Command, list[str]], only: str, job: int, jobs: int) -> None:
    """The life of one process."""
    with House() as house:
        for number, case in list(enumerate(_chosen(points, only)))[job::jobs]:
            result = say(house, case)
            # What breaks things cannot be sent, and is not needed any more.
            parent.send((number, dataclasses.replace(result, case=dataclasses.replace(case, fault=None))))


def say(house: House, case: Case) -> Result:
    """Tries a case out and prints its line."""
    result = try_out(house, case)
    print(f"{result.seconds:5.1f} s  " + "  ".join(result.row()), flush=True)
    return result
