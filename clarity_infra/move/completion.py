"""What is made once the rows are there? Indexes, then keys and statistics, and beside these the digests of what arrived.

Nothing waits for what it does not need: tables are worked on side by side, the largest first, and a step that would only wait for
another's lock is not begun. Indexes wait for the server's log to be written as much as for a processor; digests, which write nothing,
take the rest. Each worker has a session of its own, as the owner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.errors import ClarityError
from clarity_infra.move.crew import Claims, Connect, Crew
from clarity_infra.move.digest import Digest, Grain, Method
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.rows import DIGEST_PART_BYTES, Part, digest_of, parts, remedy_of, told, whole
from clarity_infra.move.structure import Archive, Step

# For index builds; the server's default of 64 MB makes large ones slow, and more than this times the jobs may not be there.
_MAINTENANCE_WORK_MEM = "256MB"


@dataclasses.dataclass(frozen=True)
class _Task:
    """Something to be done in a session; `claims` are tables it works on (`crew.Claims`), `part` is what it is the digest of."""

    work: Callable[[psycopg.Connection[Any]], Digest | None]
    claims: Claims
    part: Part | None = None


@dataclasses.dataclass
class Completion:
    """The target's tables after the rows, with what it takes to complete them: first `make_indexes`, at last `make_keys`.

    `connect` opens a session as their owner; `grains` is how fine each table's digest has to be.
    """

    archive: Archive
    tables: Sequence[Table]
    connect: Connect
    workers: int
    doing: str
    method: Method
    grains: Mapping[Name, Grain]
    _unread: list[_Task] = dataclasses.field(init=False)
    _read: dict[Name, list[Digest]] = dataclasses.field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._unread = [self._digest(part) for part in parts(self.tables, DIGEST_PART_BYTES)]

    def make_indexes(self) -> None:
        """Indexes, primary keys and unique constraints. Raises ClarityError that names the one that failed."""
        prologue, left = self.archive.steps("indexes")
        bytes_of = {table.oid: table.bytes for table in self.tables}
        # What locks a table against others goes first: what it keeps waiting finds other work meanwhile.
        left.sort(key=lambda step: (-_weight(step, bytes_of), not step.alone))
        fair = sum(_weight(step, bytes_of) for step in left) / self.workers
        while left:
            unmade = {step.entry for step in left}
            ready = [step for step in left if not step.after & unmade] or left
            tasks = [
                self._step(step, dict.fromkeys(step.tables, step.alone), helped=_weight(step, bytes_of) > fair or len(ready) < self.workers)
                for step in ready
            ]
            self._run(prologue, tasks, spare=self._unread)
            left = [step for step in left if step not in ready]

    def make_keys(self) -> dict[Name, Digest]:
        """Foreign keys and statistics, and the digests of all rows, which it returns. To be called when the rest is made.

        Raises ClarityError that names what failed.
        """
        prologue, steps = self.archive.steps("keys")
        trees = _trees(self.tables)
        keys = [self._step(step, {trees[oid]: True for oid in step.tables if oid in trees}, helped=True) for step in steps]
        kinds = {table.name: table.kind for table in self.tables}
        # Partitions are analyzed with the whole.
        analyzed = [table for table in self.tables if not any(kinds.get(parent) == "p" for parent in table.parents)]
        statistics = [_Task(_analyze(table), {trees[table.oid]: True}) for table in analyzed]
        # Neither a key nor statistics wait for who only reads.
        unread = [dataclasses.replace(task, claims={}) for task in self._unread]
        self._run(prologue, [*keys, *statistics, *unread])
        return whole(self._read, self.connect, self.tables, self.method)

    def _run(self, prologue: str, tasks: Sequence[_Task], spare: Sequence[_Task] = ()) -> None:
        crew = Crew(self.workers, self._session(prologue))
        done = crew.run(tasks, lambda task, session: task.work(session), claims=lambda task: task.claims, spare=spare)
        for task, value in done:
            if task.part is not None and value is not None:
                self._read.setdefault(task.part.table.name, []).append(value)
        finished = {id(task.part) for task, _ in done}
        self._unread = [task for task in self._unread if id(task.part) not in finished]

    def _session(self, prologue: str) -> Connect:
        def connect() -> psycopg.Connection[Any]:
            connection = self.connect()
            for name, value in (("maintenance_work_mem", _MAINTENANCE_WORK_MEM), ("synchronous_commit", "off")):
                connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
            connection.execute(prologue.encode())
            return connection

        return connect

    def _step(self, step: Step, claims: Claims, *, helped: bool) -> _Task:
        """A step of the archive; where it is not `helped` the server gives it no workers of its own: ours are busy all the same."""

        def work(connection: psycopg.Connection[Any]) -> None:
            try:
                with connection.transaction():
                    if not helped:
                        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
                    connection.execute(step.script.encode())
            except psycopg.Error as error:
                detail = f" {error.diag.message_detail}" if error.diag.message_detail else ""
                raise ClarityError(
                    f"{self.doing}: {step.name}: {error.diag.message_primary or error}.{detail}",
                    unchanged="The source stays live; the copy is not used.",
                    remedy=remedy_of(error),
                ) from None

        return _Task(work, claims)

    def _digest(self, part: Part) -> _Task:
        """Beside indexes, but not while a key of the table is made: that locks it, and would wait for who reads."""

        def work(connection: psycopg.Connection[Any]) -> Digest:
            with told(part, "read for the comparison"):
                return digest_of(connection, part, self.method, self.grains.get(part.table.name))

        return _Task(work, {part.table.oid: False}, part)


def _analyze(table: Table) -> Callable[[psycopg.Connection[Any]], None]:
    def work(connection: psycopg.Connection[Any]) -> None:
        connection.execute(sql.SQL("ANALYZE {}").format(table.name.identifier()))

    return work


def _weight(step: Step, bytes_of: Mapping[int, int]) -> int:
    return sum(bytes_of.get(oid, 0) for oid in step.tables)


def _trees(tables: Sequence[Table]) -> dict[int, Name]:
    """For each table, by its OID, one name that it shares with all it inherits from or passes on to: a key locks them all."""
    tree = {table.name: table.name for table in tables}
    for table in tables:
        for parent in table.parents:
            kept, gone = sorted((tree[table.name], tree[parent]))
            tree = {name: kept if of == gone else of for name, of in tree.items()}
    return {table.oid: tree[table.name] for table in tables}
