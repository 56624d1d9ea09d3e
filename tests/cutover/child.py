"""Runs one command in a process of its own that can be made to die: `python -m tests.cutover.child COMMAND SCENE POINT HOW`.

SCENE is a JSON file written by `describe`. At the fault point POINT the process sends itself HOW (KILL or STOP).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any, Literal

from clarity_infra.connection import Endpoint
from clarity_infra.move import faults
from clarity_infra.move.back import go_back
from clarity_infra.move.cutover import cut_over
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name


class FileSwitch:
    """A switch whose position is a file, so that it outlives the process that turned it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def where(self) -> Literal["source", "target", "unmanaged"]:
        return "target" if self.path.read_text() == "target" else "source"

    def to_target(self) -> None:
        self.path.write_text("target")

    def to_source(self) -> None:
        self.path.write_text("source")

    def drop_old_connections(self) -> bool:
        return False


def describe(path: Path, move: Move, migrations: Migrations, switch: Path) -> None:
    """Writes what the child needs to know."""
    ends = {
        side: {"port": end.port, "database": end.database, "user": end.user, "password": end.password}
        for side, end in (("source", move.source), ("target", move.target))
    }
    facts: dict[str, Any] = {
        "stack": move.stack,
        "owner": move.owner,
        "tables": [name.name for name in move.tables],
        "migrations": str(migrations.folder),
        "switch": str(switch),
        **ends,
    }
    path.write_text(json.dumps(facts))


def main(command: str, scene: str, point: str, how: str) -> None:
    facts = json.loads(Path(scene).read_text())
    move = Move(
        stack=facts["stack"],
        source=Endpoint("127.0.0.1", **facts["source"], sslmode="disable"),
        target=Endpoint("127.0.0.1", **facts["target"], sslmode="disable"),
        owner=facts["owner"],
        tables=tuple(Name("public", name) for name in facts["tables"]),
    )

    def die(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL if how == "KILL" else signal.SIGSTOP)

    faults.fault = die
    switch = FileSwitch(Path(facts["switch"]))
    common: dict[str, Any] = {"run": uuid.uuid4(), "lock_budget": 5.0, "alive": lambda: True, "progress": print}
    if command == "cut over":
        cut_over(move, switch, Migrations(Path(facts["migrations"])), **common)
    else:
        go_back(move, switch, **common)


if __name__ == "__main__":
    main(*sys.argv[1:])
