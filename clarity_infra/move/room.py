"""How many workers may a copy have, so that its sessions do not take the places that the application comes for?"""

from __future__ import annotations

from typing import Any

import psycopg

from clarity_infra.move.model import Move
from clarity_infra.move.queries import query


def readers(workers: int) -> int:
    """How many sessions that only compute digests are given to so many workers: they take none of the target."""
    return (workers + 1) // 2


def fitting(move: Move, source: psycopg.Connection[Any], target: psycopg.Connection[Any]) -> tuple[int, str]:
    """As many workers as take no more than half of the sessions that each server has left, at least one and at most `move.workers`.

    The text tells why there are fewer; empty where there are not. `source` and `target` are sessions of the move's logins on both servers.
    """
    same = (move.source.host, move.source.port) == (move.target.host, move.target.port)
    here, there = free(source), free(target)
    shared = min(here, there)

    def fits(workers: int) -> bool:
        of_source, of_target = workers + readers(workers), workers
        return 2 * (of_source + of_target) <= shared if same else 2 * of_source <= here and 2 * of_target <= there

    workers = next((number for number in range(move.workers, 1, -1) if fits(number)), 1)
    if workers == move.workers:
        return workers, ""
    tight = move.source if here <= there else move.target
    return workers, (
        f"{tight.host}:{tight.port} takes {max(0, shared)} more sessions of {tight.user}: the copy works with {workers} of {move.workers}"
        " workers, which leaves half of them to the application."
    )


def free(connection: psycopg.Connection[Any]) -> int:
    """How many more sessions of its login the server takes in this session's database."""
    row = connection.execute(query("free_sessions")).fetchone()
    assert row is not None
    return int(row[0])
