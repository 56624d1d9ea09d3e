"""Makes the copy, verified: the whole way from an empty target to evidence. The source is only read, and stays live.

One snapshot of the source holds for structure, rows and digests. Everything is made by, and belongs to, the owner. A copy that
was killed or failed leaves objects that the target's journal knows; the next one removes exactly these and starts again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.errors import Blocked, ClarityError, VerificationFailed
from clarity_infra.move import journal, preflight, rows, structure
from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.completion import Completion
from clarity_infra.move.digest import Digest, Grain, Method, probed
from clarity_infra.move.discard import COPIED, DISCARDED, MADE, STARTED, discard, discard_copy, last_made, objects_of
from clarity_infra.move.journal import Journal
from clarity_infra.move.model import Move, MoveSet, Progress
from clarity_infra.move.names import Name
from clarity_infra.move.pace import still
from clarity_infra.move.queries import query
from clarity_infra.move.room import fitting
from clarity_infra.move.rows import Copied, copy_rows, megabytes, session
from clarity_infra.move.sequences import State, read_sequences, set_sequences
from clarity_infra.move.steps import Steps
from clarity_infra.move.values import check_values
from clarity_infra.move.verify import Verification, read_present, verify

__all__ = ["copied_already", "copy", "discard_copy"]

_STAYS_LIVE = "The source stays live and was only read."


def copy(move: Move, *, run: uuid.UUID, progress: Progress, revision: int = 0) -> dict[str, Any]:
    """Copies the move set into the target and verifies it; returns the evidence, which the target's journal keeps too.

    `revision` is what the caller counts its copies by; `copied_already` asks for it. An earlier copy of this stack is removed first,
    finished or not: whether that may be is for who knows of the cut-over.
    Raises Blocked or Refused, before anything is made, for what stands in the way; VerificationFailed where the copy is not equal.
    """
    started = time.monotonic()
    with session(move.target, purpose="copy") as target, journal.exclusive(target, move.stack):
        with _snapshot(move) as (source, move_set, snapshot):
            _refuse_obstacles(move, source, target, move_set)
            workers, fewer = fitting(move, source, target)
            if fewer:
                progress(fewer)
            Journal(target, move.stack).open()
            discard(target, move, progress)
            Journal(target, move.stack).append(STARTED, run, tables=[str(table.name) for table in move_set.tables], source=move.source.label())
            evidence = _Copy(dataclasses.replace(move, workers=workers), run, progress, source, target, move_set, snapshot).make()
        evidence["revision"] = revision
        evidence["seconds"] = round(time.monotonic() - started, 3)
        # The one synchronous commit: it flushes everything before it.
        target.execute("SET synchronous_commit = on")
        Journal(target, move.stack).append(COPIED, run, **evidence)
    return evidence


def copied_already(move: Move, revision: int) -> dict[str, Any] | None:
    """The evidence of a copy that is whole and has this revision, though its run may have died before it could say so; else None."""
    with session(move.target, purpose="copy") as target:
        last = Journal(target, move.stack).last(STARTED, MADE, COPIED, DISCARDED)
        if last is None or last.step != COPIED or last.facts.get("revision") != revision:
            return None
        names = [Name.parse(entry["table"]) for entry in last.facts["tables"]]
        return last.facts if read_present(target, names) == set(names) else None


@contextlib.contextmanager
def _snapshot(move: Move) -> Iterator[tuple[psycopg.Connection[Any], MoveSet, str]]:
    """A read-only transaction on the source that holds every table against DDL, what belongs to the set in it, and its snapshot."""
    with session(move.source, purpose="snapshot") as source:
        before = read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)
        source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        source.execute("SELECT pg_catalog.set_config('lock_timeout', %s, true)", (str(rows.LOCK_WAIT_MS),))
        try:
            source.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(
                    sql.SQL(", ").join(sql.SQL("ONLY {}").format(table.name.identifier()) for table in before.tables)
                )
            )
        except psycopg.errors.LockNotAvailable:
            raise rows.locked() from None
        source.execute("SET LOCAL lock_timeout = 0")
        row = source.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
        assert row is not None
        # Read again where nobody can alter the tables any more: this is what is copied.
        yield source, read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept), str(row[0])


def _refuse_obstacles(move: Move, source: psycopg.Connection[Any], target: psycopg.Connection[Any], move_set: MoveSet) -> None:
    made = last_made(target, move.stack)
    ours = [objid for _, objid in objects_of(made)] if made else []
    blockers = list(move_set.blockers)
    blockers += preflight.check_servers(source, move.source, target, move_set, target_endpoint=move.target)[0]
    blockers += preflight.check_databases(source, target, move_set, owner=move.owner, ours=ours)[0]
    blockers += check_values(source, move_set)
    if blockers:
        raise Blocked(
            [str(blocker) for blocker in blockers],
            remedy="resolve each, or accept it by its name (before the colon) where it says so.",
        )


@dataclasses.dataclass
class _Copy:
    """One attempt, with what it works on."""

    move: Move
    run: uuid.UUID
    progress: Progress
    source: psycopg.Connection[Any]
    target: psycopg.Connection[Any]
    move_set: MoveSet
    snapshot: str
    steps: Steps = dataclasses.field(default_factory=Steps)

    def make(self) -> dict[str, Any]:
        """The steps of a copy in their order; returns the evidence."""
        at = self.source.execute("SELECT pg_catalog.transaction_timestamp()").fetchall()[0][0]
        tools = preflight.tools_for(self.source, self.target)
        method = probed(self.source, self.target)
        size = sum(table.bytes for table in self.move_set.tables)
        self.progress(f"Copying {len(self.move_set.tables)} tables, about {megabytes(size)}, with pg_dump {tools.version}.")
        with contextlib.ExitStack() as stack:
            with self.steps.taking("structure"):
                archive = stack.enter_context(structure.dump(self.source, self.move.source, self.move_set, tools, self.snapshot))
                self._make_tables(archive)
            with self.steps.taking("rows"):
                copied = copy_rows(
                    self.move.source,
                    self.move.target,
                    self.move_set.tables,
                    snapshot=self.snapshot,
                    owner=self.move.owner,
                    workers=self.move.workers,
                    progress=self.progress,
                    method=method,
                )
            count = sum(one.rows for one in copied.values())
            self.progress(f"{count:,} rows copied; making indexes and constraints.")
            completion = self._completion(archive, copied, method)
            with self.steps.taking("indexes"), still(self.progress, "making indexes"):
                self._make_indexes(archive, completion)
            # Sequences are in no snapshot: read now they are at least where the rows need them.
            states = read_sequences(self.source, self.move_set.sequences)
            with self._as_owner() as target:
                set_sequences(target, states)
            self.progress("Verifying.")
            with self.steps.taking("keys, statistics and digests"), still(self.progress, "making keys and statistics, and reading the copy"):
                arrived = self._make_keys(archive, completion)
        with self.steps.taking("verification"), still(self.progress, "verifying"):
            verified = self._verify(copied, arrived, states)
        self._force_row_security()
        return self._evidence(copied, states, verified, {"started": at.isoformat(), "snapshot_at": at.isoformat()})

    def _make_tables(self, archive: structure.Archive) -> None:
        """Extensions, types, functions, tables and sequences in one transaction, with the record of what was made."""
        there = frozenset(row[0] for row in self.target.execute("SELECT nspname::text FROM pg_catalog.pg_namespace").fetchall())
        script = archive.script("tables", without_schemas=there)
        with session(self.move.target, purpose="copy structure") as target, target.transaction():
            self._create_extensions(target, there)
            target.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(self.move.owner)))
            structure.run_script(target, script, doing=f"Making the tables in {self.move.target.label()}")
            self._unforce(target)
            target.execute("SET LOCAL ROLE NONE")
            self._record_made(target)

    def _create_extensions(self, target: psycopg.Connection[Any], schemas: frozenset[str]) -> None:
        installed = {row[0] for row in target.execute("SELECT extname::text FROM pg_catalog.pg_extension").fetchall()}
        for extension in self.move_set.extensions:
            if extension.name in installed:
                continue
            if extension.schema not in schemas and not extension.schema.startswith("pg_"):
                target.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(extension.schema)))
                target.execute(
                    sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(sql.Identifier(extension.schema), sql.Identifier(self.move.owner))
                )
            target.execute(
                sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} CASCADE").format(
                    sql.Identifier(extension.name), sql.Identifier(extension.schema)
                )
            )

    def _unforce(self, target: psycopg.Connection[Any]) -> None:
        """Row security is forced only after the rows were verified: until then the owner must see them all."""
        for table in self.move_set.tables:
            if table.forced_row_security:
                target.execute(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(table.name.identifier()))

    def _record_made(self, target: psycopg.Connection[Any]) -> None:
        ordered = target.execute(query("copy_fresh")).fetchall()
        rows = target.execute(query("copy_made"), {"classids": [c for c, _ in ordered], "objids": [o for _, o in ordered]}).fetchall()
        Journal(target, self.move.stack).append(
            MADE, self.run, objects=[[classid, objid, f"{kind} {identity}"] for classid, objid, kind, identity in rows]
        )

    def _completion(self, archive: structure.Archive, copied: Mapping[Name, Copied], method: Method) -> Completion:
        grains: dict[Name, Grain] = {name: "columns" if "-columns:" in one.digest.value else "row" for name, one in copied.items()}
        doing = f"Making indexes and constraints in {self.move.target.label()}"
        return Completion(archive, self.move_set.tables, self._as_owner, self.move.workers, doing, method, grains)

    def _make_indexes(self, archive: structure.Archive, completion: Completion) -> None:
        """Indexes side by side, and digests beside them; then what stands between them and the foreign keys, in one transaction."""
        completion.make_indexes()
        self._run(archive.script("rest"))

    def _make_keys(self, archive: structure.Archive, completion: Completion) -> dict[Name, Digest]:
        """Foreign keys, statistics and the digests of what arrived."""
        arrived = completion.make_keys()
        self._run(archive.script("comments"))
        return arrived

    def _run(self, script: str) -> None:
        if not script:
            return
        with self._as_owner() as target, target.transaction():
            structure.run_script(target, script, doing=f"Making indexes and constraints in {self.move.target.label()}")

    def _as_owner(self) -> psycopg.Connection[Any]:
        return session(self.move.target, role=self.move.owner, purpose="copy structure")

    def _verify(self, copied: dict[Name, Copied], arrived: dict[Name, Digest], states: dict[Name, State]) -> Verification:
        with self._as_owner() as target:
            verified = verify(
                self.source,
                target,
                self.move_set,
                owner=self.move.owner,
                source_digests={name: one.digest for name, one in copied.items()},
                target_digests=arrived,
                states=states,
                forced=False,
            )
        if verified.differences:
            raise VerificationFailed(
                verified.differences,
                unchanged=f"{_STAYS_LIVE} The copy in {self.move.target.label()} is not used.",
                remedy="run the same command again: it removes this copy and makes a new one. If it fails again, report the differences.",
            )
        return verified

    def _force_row_security(self) -> None:
        forced = [table.name for table in self.move_set.tables if table.forced_row_security]
        if not forced:
            return
        with self._as_owner() as target, target.transaction():
            for name in forced:
                target.execute(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(name.identifier()))
            rows = target.execute(
                "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relforcerowsecurity"
            ).fetchall()
        if {Name(schema, name) for schema, name in rows} != set(forced):
            raise ClarityError("Row security could not be forced in the target as it is in the source.", unchanged=_STAYS_LIVE)

    def _evidence(self, copied: dict[Name, Copied], states: dict[Name, State], verified: Verification, more: dict[str, Any]) -> dict[str, Any]:
        def version(connection: psycopg.Connection[Any]) -> str:
            return str(connection.execute("SELECT pg_catalog.current_setting('server_version')").fetchall()[0][0])

        def table(name: Name) -> dict[str, Any]:
            one = copied.get(name) or Copied(0, 0, 0.0, Digest(0, ""))
            return {
                "table": str(name),
                "rows": one.rows,
                "bytes": one.bytes,
                "digest": one.digest.value,
                "seconds": round(one.seconds, 3),
            }

        return {
            "tables": [table(item.name) for item in self.move_set.tables],
            # As text: beyond 2^53 a number would be rounded on its way through JSON.
            "sequences": {str(name): {"last_value": str(state.last_value), "is_called": state.is_called} for name, state in states.items()},
            "enums": {str(name): list(labels) for name, labels in self.move_set.enums.items()},
            "extensions": [extension.name for extension in self.move_set.extensions],
            "workers": self.move.workers,
            "tracking": str(self.move_set.tracking) if self.move_set.tracking else None,
            "notes": [*self.move_set.notes, *self.move_set.shared],
            "source_version": version(self.source),
            "target_version": version(self.target),
            "verified": verified.evidence,
            "steps": self.steps.json(),
            **more,
        }
