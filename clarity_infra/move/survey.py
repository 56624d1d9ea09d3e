"""What would a move do, and what stands in its way? Looks at both sides and changes nothing; safe at any time, on a live source."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import Refused
from clarity_infra.move import preflight
from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.crew import Crew
from clarity_infra.move.discard import last_made, objects_of
from clarity_infra.move.model import Blocker, Move, MoveSet, Table
from clarity_infra.move.room import fitting
from clarity_infra.move.rows import session
from clarity_infra.move.values import check_values
from clarity_infra.texts import counted, facts, size, table

# How long a look may wait behind somebody's lock, in milliseconds.
_PATIENCE_MS = 4_000


@dataclasses.dataclass(frozen=True)
class Survey:
    """What was found. `rows` are the catalog's estimates (-1: never analyzed), or exact where they were `counted`."""

    source: str
    target: str
    target_exists: bool
    move_set: MoveSet
    rows: dict[str, int]
    counted: bool
    blockers: tuple[Blocker, ...]
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The size of all tables, TOAST counted, indexes not."""
        return sum(table.bytes for table in self.move_set.tables)

    def json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "source": self.source,
            "target": self.target,
            "target_exists": self.target_exists,
            "tables": [{"table": str(table.name), "rows": self.rows[str(table.name)], "bytes": table.bytes} for table in self.move_set.tables],
            "counted": self.counted,
            "bytes": self.bytes,
            "enums": {str(name): list(labels) for name, labels in self.move_set.enums.items()},
            "types": list(self.move_set.types),
            "functions": list(self.move_set.functions),
            "others": list(self.move_set.others),
            "sequences": [str(sequence.name) for sequence in self.move_set.sequences],
            "extensions": [extension.name for extension in self.move_set.extensions],
            "tracking": str(self.move_set.tracking) if self.move_set.tracking else None,
            "blockers": [dataclasses.asdict(blocker) for blocker in self.blockers],
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The same for people."""
        where = "" if self.target_exists else " (does not exist yet)"
        needed = (
            ("types", self.move_set.types),
            ("functions", self.move_set.functions),
            ("sequences", tuple(str(sequence.name) for sequence in self.move_set.sequences)),
            ("extensions", tuple(extension.name for extension in self.move_set.extensions)),
            ("other objects", self.move_set.others),
        )
        lines = [
            *facts([("from", self.source), ("to", self.target + where)]),
            "",
            *tables_text(self.move_set.tables, self.rows, counted=self.counted),
            "",
            *facts(
                [
                    *((title, ", ".join(items)) for title, items in needed if items),
                    *([("note", self.notes)] if self.notes else []),
                    ("blockers", [f"{counted(len(self.blockers), 'object')} to deal with first"] if self.blockers else ["none"]),
                ]
            ),
        ]
        for blocker in self.blockers:
            lines += ["", *facts([("BLOCKER", f"{blocker.object}: {blocker.reason}"), ("what to do", blocker.remedy)])]
        return "\n".join(lines)


def tables_text(tables: Sequence[Table], rows: Mapping[str, int] | None = None, *, counted: bool = False) -> list[str]:
    """The tables with their rows, sizes and keys, and the sum; rows are the catalog's estimates unless `counted`."""
    numbers = rows if rows is not None else {str(item.name): item.estimated_rows if item.kind == "r" else 0 for item in tables}
    approximately = "" if counted else "~"

    def shown(number: int) -> str:
        return "unknown" if number < 0 else f"{approximately}{number:,}"

    lines = [("table", "rows", "size", "key")]
    for item in tables:
        key = "of its partitions" if item.kind == "p" else ", ".join(item.key) if item.key else "NONE"
        lines.append((str(item.name), shown(numbers[str(item.name)]) if item.kind == "r" else "", size(item.bytes), key))
    known = [number for number in numbers.values() if number >= 0]
    total = shown(sum(known)) if len(known) == len(numbers) else f"unknown, at least {sum(known):,}"
    lines.append((f"all {len(tables)}", total, size(sum(item.bytes for item in tables)), ""))
    return table(lines, right=(1, 2)).splitlines()


def source_set(move: Move) -> MoveSet:
    """The move set as the source has it now, and nothing else. Raises as `survey` does."""
    with _impatient(move.source) as source:
        return read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)


def survey(move: Move, *, target_exists: bool | None = None, count: bool = False) -> Survey:
    """Looks at both sides. `target_exists=None` finds out; `count` counts rows instead of giving the catalog's estimates.

    Raises Unreachable, ConfigurationError or Refused as `Endpoint.connect` and `read_move_set` do; what can be resolved or accepted is
    in the result's `blockers`, and it is for the caller to fail on them.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_impatient(move.source))
        move_set = read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)
        exists = move.before_target.has_database(move.target.database) if target_exists is None else target_exists
        target = stack.enter_context(_impatient(move.target if exists else move.before_target))
        blockers, notes = preflight.check_servers(source, move.source, target, move_set, target_endpoint=move.target)
        if exists:
            made = last_made(target, move.stack)
            found = preflight.check_databases(
                source, target, move_set, owner=move.owner, ours=[objid for _, objid in objects_of(made)] if made else []
            )
            blockers, notes = blockers + found[0], notes + found[1]
        blockers += check_values(source, move_set)
        workers, fewer = fitting(move, source, target)
        rows = {str(table.name): table.estimated_rows if table.kind == "r" else 0 for table in move_set.tables}
        if count:
            rows = _counted(move, move_set, workers)
        return Survey(
            source=move.source.label(),
            target=move.target.label(),
            target_exists=exists,
            move_set=move_set,
            rows=rows,
            counted=count,
            blockers=(*move_set.blockers, *blockers),
            notes=(*move_set.notes, *move_set.shared, *notes, *filter(None, [fewer])),
        )


@contextlib.contextmanager
def _impatient(endpoint: Endpoint) -> Iterator[psycopg.Connection[Any]]:
    """A session that does not wait long behind somebody's DDL: a preview must answer."""
    with session(endpoint, purpose="survey") as connection:
        connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (str(_PATIENCE_MS),))
        try:
            yield connection
        except psycopg.errors.LockNotAvailable:
            raise Refused(
                f"A table of {endpoint.label()} is locked by somebody else for longer than {_PATIENCE_MS / 1000:g} s (DDL, VACUUM FULL).",
                unchanged="Nothing was changed.",
                remedy="let it finish, then run the same command again.",
            ) from None


def _counted(move: Move, move_set: MoveSet, workers: int) -> dict[str, int]:
    def work(table: Table, connection: psycopg.Connection[Any]) -> int:
        return int(connection.execute(sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {}").format(table.name.identifier())).fetchall()[0][0])

    counts = Crew(workers, lambda: session(move.source, purpose="survey")).run(move_set.with_rows, work)
    return {str(table.name): 0 for table in move_set.tables} | {str(table.name): rows for table, rows in counts}
