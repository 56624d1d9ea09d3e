"""Was the target equal to the source, row for row, when it was opened? Proved once it is live, so that nobody waits for it.

The source is frozen by its fence, so its side can be read at any time. What the target held then is known in three ways:

* a session that goes on seeing it as it was: only the run that froze the source has one;
* for tables that a migration writes anew, which such a session cannot read any more, a digest taken right before it;
* the ledger, from which a run that goes on for a dead one works out what was there although the application writes since.

What the dead run knew is in the target's journal: "digested" holds the digests, "watched" says that the ledger is in force.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql

from clarity_infra.move import capture, ledger
from clarity_infra.move.crossing import PATIENCE_MS, Crossing
from clarity_infra.move.differences import changed_keys
from clarity_infra.move.digest import Digest, Method, RowTooLarge, digest, probed
from clarity_infra.move.ledger import Noted
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.owners import oids
from clarity_infra.move.shape import columns
from clarity_infra.move.state import MIGRATED, OPENED
from clarity_infra.texts import shown

DIGESTED, WATCHED = "digested", "watched"

# How many keys of rows that differ are named.
_NAMED = 10


def digest_of(connection: psycopg.Connection[Any], table: Table, columns: list[str] | None = None, method: Method = "server") -> Digest:
    """The digest of a table, of all its columns where none are named; column by column where its rows are too large.

    In the order of the columns' names: of an inheritance child that is made again from a dump the catalog's order may be another.
    """
    names = sorted(table.column_names) if columns is None else columns
    try:
        return digest(connection, table, names, method=method)
    except RowTooLarge:
        return digest(connection, table, names, method=method, grain="columns")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a proof: rows and digest of each table of the source, what was found to differ, and what nobody can know any more."""

    tables: tuple[dict[str, Any], ...]
    differences: tuple[str, ...]
    unproved: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """As the journal keeps it."""
        return {
            "tables": list(self.tables),
            "proved": not self.differences and not self.unproved,
            "differences": list(self.differences),
            "unproved": list(self.unproved),
            "proved_at": datetime.datetime.now(datetime.UTC).isoformat(),
        }


@dataclasses.dataclass
class Proof:
    """What one run knows of the target as it was. `fence` is the run that froze the source, as text; empty where none has."""

    way: Crossing
    fence: str = ""
    _snapshot: psycopg.Connection[Any] | None = None
    _put_up: bool = False
    _watched: bool = False
    _method: Method = "server"

    def choose_method(self, source: psycopg.Connection[Any], target: psycopg.Connection[Any]) -> Method:
        """How both servers can hash alike."""
        self._method = probed(source, target)
        return self._method

    def prepare(self, rewritten: frozenset[str]) -> None:
        """Puts the ledger up, out of force, on all tables but those that migrations are going to write anew: nobody waits yet."""
        ledger.put_up(self.way.target, self.way.move.stack, self._watchable(rewritten), self._method)
        self._put_up = True

    def take_snapshot(self) -> None:
        """A session that goes on seeing the target as it is now. It touches no table: a lock would stop the migrations."""
        snapshot = self.way.open_target(purpose="cut-over proof")
        snapshot.isolation_level = IsolationLevel.REPEATABLE_READ
        snapshot.read_only = True
        snapshot.execute("SELECT pg_catalog.pg_current_snapshot()")
        self._snapshot = snapshot

    def watch(self, rewritten: Callable[[], frozenset[str]]) -> None:
        """Puts the ledger in force, before anything changes the target; once for each fence."""
        way = self.way
        if self._watched:
            return
        if not self._put_up:
            before = self._recorded(WATCHED)
            if before is not None:
                self._method = before["method"]
            if before is not None or self._changed_already():
                return
            self.choose_method(way.source, way.target)
            self.prepare(rewritten())
        watched = self._watchable(rewritten())
        with way.target.transaction():
            ledger.put_in_force(way.target, way.move.stack, [table.name for table in watched])
            way.target_journal.append(WATCHED, way.run, fenced=self.fence, method=self._method)
        self._watched = True

    def digest_before(self, rewritten: Callable[[], frozenset[str]]) -> None:
        """Digests the tables that migrations are about to write anew, and keeps that for whoever goes on. Once for each fence."""
        way, names = self.way, rewritten()
        if not names or self._recorded(DIGESTED) is not None:
            return
        found = {}
        with way.open_target(purpose="cut-over proof") as target:
            for table in way.moved.with_rows:
                if str(table.name) in names:
                    value = digest_of(target, table, method=self._method)
                    found[str(table.name)] = {"rows": value.rows, "digest": value.value, "method": self._method}
        way.target_journal.append(DIGESTED, way.run, fenced=self.fence, tables=found)

    def opened(self) -> bool:
        """Whether the target took writes since the source was fenced."""
        return self._recorded(OPENED) is not None

    def make(self) -> Verdict:
        """Digests every table on both sides, the source's under its fence."""
        before = (self._recorded(DIGESTED) or {}).get("tables", {})
        tables, differences, unproved = [], [], []
        with self._past() as past, self.way.open_source(purpose="cut-over proof") as source, ThreadPoolExecutor(1) as pool:
            for table in self.way.moved.with_rows:
                known = before.get(str(table.name))
                names = None if known or past.noted is None else ledger.columns(table)
                method: Method = known["method"] if known else past.method
                theirs: Future[Digest | None] | None = None if known else pool.submit(past.of, table, names)
                whole = digest_of(source, table)
                ours = whole if names is None and method == "server" else digest_of(source, table, names, method)
                found = Digest(known["rows"], known["digest"]) if known else theirs.result() if theirs else None
                tables.append({"table": str(table.name), "rows": whole.rows, "digest": whole.value})
                if found is None:
                    unproved.append(self._not_known(source, table))
                elif found != ours:
                    differences.append(self._difference(source, table, ours, found))
        return Verdict(tuple(tables), tuple(differences), tuple(text for text in unproved if text))

    def close(self) -> None:
        """Lets the snapshot go: what it has read it holds against the removal of triggers."""
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    def tidy(self) -> None:
        """Removes the ledger from the live side. What cannot be had at once does nothing any more, and is left to the next run."""
        ledger.drop(self.way.target, self.way.move.stack, patience_ms=PATIENCE_MS)

    def _recorded(self, step: str) -> dict[str, Any] | None:
        """The target's entry of that step for the fence that stands."""
        entry = self.way.target_journal.last(step)
        return entry.facts if entry is not None and entry.facts.get("fenced") == self.fence else None

    def _changed_already(self) -> bool:
        """Whether something was written to the target since the fence and before it was watched: then a ledger would prove nothing."""
        migrated = self._recorded(MIGRATED) or {}
        return self.opened() or bool(migrated.get("applied"))

    def _watchable(self, rewritten: frozenset[str]) -> list[Table]:
        tables = [table for table in capture.noted(self.way.moved.tables) if str(table.name) not in rewritten]
        numbers = oids(self.way.target, [table.name for table in tables])
        return [dataclasses.replace(table, oid=numbers[table.name]) for table in tables if table.name in numbers]

    @contextmanager
    def _past(self) -> Iterator[_Past]:
        """The target as it was when it was opened, as far as this run can know it."""
        if self._snapshot is not None:
            yield _Past(self._snapshot, self._method, None)
            return
        way = self.way
        with ExitStack() as stack:
            # Our notes are the admin's, the tables are their owner's: both in one transaction, or they would not belong together.
            target = stack.enter_context(way.move.target.connect(autocommit=False, purpose="cut-over proof"))
            target.isolation_level = IsolationLevel.REPEATABLE_READ
            target.read_only = True
            numbers = oids(target, [table.name for table in way.moved.with_rows])
            watched = self._recorded(WATCHED)
            noted = ledger.read(target, way.move.stack, numbers) if watched else {}
            altered = self._altered(target)
            noted = {name: written for name, written in noted.items() if name not in altered}
            if way.rows_role is not None:
                target.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(way.rows_role)))
            yield _Past(target, watched["method"] if watched else probed(way.source, way.target), noted)

    def _altered(self, target: psycopg.Connection[Any]) -> frozenset[Name]:
        """The tables whose columns are not the source's any more: the application's own migrations may have come since."""
        with_rows = self.way.moved.with_rows
        there = columns(target, [table.name for table in with_rows])

        def as_before(table: Table) -> bool:
            found = {column.name: column.type for column in there.get(table.name, ())}
            # A type may have another name by now; of an enum that changes nothing.
            return all(found.get(column.name) == column.type or (column.enum and column.name in found) for column in table.stored)

        return frozenset(table.name for table in with_rows if not as_before(table))

    def _not_known(self, source: psycopg.Connection[Any], table: Table) -> str:
        """What can be said of a table without a ledger: nothing, unless it is equal to the source's even now."""
        with self.way.open_target(purpose="cut-over proof") as target:
            if table.name in self._altered(target):
                return f"{table.name}: its columns were changed since it was opened, so what it held then cannot be told"
            found = changed_keys(source, target, table, columns=ledger.columns(table), limit=_NAMED + 1)
        if not found:
            return ""
        many = f"more than {_NAMED}" if len(found) > _NAMED else str(len(found))
        return f"{table.name}: {many} row(s) differ from the source, and what was written since was not noted; {_keys(found)}"

    def _difference(self, source: psycopg.Connection[Any], table: Table, ours: Digest, theirs: Digest) -> str:
        text = f"{table.name}: {ours.rows} rows in the source, {theirs.rows} in the target when it was opened"
        if self._snapshot is None or (self._recorded(DIGESTED) or {}).get("tables", {}).get(str(table.name)):
            return text
        return f"{text}; {_keys(changed_keys(source, self._snapshot, table, limit=_NAMED))}"


@dataclasses.dataclass(frozen=True)
class _Past:
    """A session that tells what the target held: as it was then (`noted` is None), or now, with what was noted since."""

    session: psycopg.Connection[Any]
    method: Method
    noted: Mapping[Name, Noted] | None

    def of(self, table: Table, columns: list[str] | None) -> Digest | None:
        """The digest of a table as it was; None where that cannot be known."""
        if self.noted is None:
            return digest_of(self.session, table, columns, self.method)
        written = self.noted.get(table.name)
        if written is None:
            return None
        if written == Noted():
            return digest_of(self.session, table, columns, self.method)
        try:
            return written.taken_off(digest(self.session, table, columns, method=self.method))
        except RowTooLarge:
            return None


def _keys(found: Any) -> str:
    keys = [*found.only_a, *found.only_b, *found.differ][:_NAMED]
    return "first keys: " + ", ".join("/".join(shown(part) for part in key) for key in keys)
