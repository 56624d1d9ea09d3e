"""How does the source become the live side again without a lost row? The way back, by stage or by `pulumi destroy`.

What was written to the target since the cut-over is carried to the source by key, in the one transaction that takes the
source's fence out of force. What has no place there stops it before anything is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import psycopg
from psycopg import IsolationLevel, sql

from clarity_infra.errors import ClarityError, ConfigurationError, Refused, Unreachable
from clarity_infra.move import capture, fence, ledger
from clarity_infra.move.carry import at_rest, carry_until_equal
from clarity_infra.move.catalog import OURS, read_move_set
from clarity_infra.move.comparison import Comparison
from clarity_infra.move.crossing import PATIENCE_MS, Crossing, Switch, crossing, rows_role, told
from clarity_infra.move.cutover import REMOVAL_BUDGET, close_idle_target, gap_text, put_fence_back, put_up_on_target
from clarity_infra.move.faults import reach
from clarity_infra.move.journal import Journal, drop_empty_schema, exclusive
from clarity_infra.move.locks import lock_out_writers
from clarity_infra.move.lost_fence import all_of, lost_fence
from clarity_infra.move.migrations import TRACKING_TABLE
from clarity_infra.move.model import Move, Progress, Table
from clarity_infra.move.names import Name
from clarity_infra.move.owners import oids, owners
from clarity_infra.move.places import NoPlace, rows_without_place, without_place
from clarity_infra.move.plan import Key, Plan, differing
from clarity_infra.move.proof import digest_of
from clarity_infra.move.queries import query
from clarity_infra.move.sequences import reach_rows, sequences_of_other, set_sequences
from clarity_infra.move.shape import Shape, shapes
from clarity_infra.move.state import CUT_OVER, ENDS, FENCED, GONE_BACK, OPENED

# How often, and how long each time (milliseconds), a destroy asks for the moment without readers that dropping a trigger needs.
DROP_TRIES = 20
DROP_PATIENCE_MS = 400


@dataclasses.dataclass(frozen=True)
class Written:
    """What was written to one table of the target since the cut-over."""

    table: str
    inserted: int
    updated: int
    deleted: int


@dataclasses.dataclass(frozen=True)
class Loss:
    """What going back would carry, and what it could not: `no_place` names rows and values the source cannot hold."""

    written: tuple[Written, ...]
    no_place: tuple[str, ...]

    def text(self) -> str:
        """For a person, a fact a line."""
        if not self.written and not self.no_place:
            return "Nothing was written to the target since the cut-over: going back carries nothing and loses nothing."
        lines = [
            f"{item.table}: {item.inserted} inserted, {item.updated} changed, {item.deleted} deleted: carried back" for item in self.written
        ]
        return "\n".join(lines + [f"no place in the source: {text}" for text in self.no_place])

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {"written": [dataclasses.asdict(item) for item in self.written], "no_place": list(self.no_place)}


def go_back(
    move: Move,
    switch: Switch,
    *,
    run: uuid.UUID,
    discard: str = "",
    lock_budget: float,
    alive: Callable[[], bool],
    progress: Progress,
) -> dict[str, Any]:
    """Makes the source the live side again, with every row written to the target since; done already, it changes nothing.

    `discard`, equal to the target database's name, gives up what has no place in the source; everything else is carried. Of a source
    whose fence somebody took off, see `put_fence_back`; `lost_fence.all_of` gives up everything in the target then.
    Gives {"carried": {table: {...}}, "discarded": [...], "at": ...}. Raises Refused, with nothing changed, where something
    has no place in the source or the source was changed behind the fence; ClarityError where a step fails.
    """
    with crossing(move, switch, run, progress) as way:
        return _GoBack(way, discard, lock_budget, alive).make()


def would_lose(move: Move) -> Loss:
    """What was written to the target since the cut-over, and what of it the source has no place for. Reads only.

    Nothing where the target is not live. The target stays live, so the figures are those of this moment.
    """
    with (
        move.source.connect(purpose="look") as source,
        move.target.connect(autocommit=False, purpose="look") as target,
    ):
        target.isolation_level = IsolationLevel.REPEATABLE_READ
        target.read_only = True
        if not fence.standing_of(source, move.stack).in_force and lost_fence(move, source, target) is None:
            return Loss((), ())
        move_set = read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)
        role = rows_role(target, move, move_set.tables)
        if role is not None:
            target.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        tables = _held_somewhere(source, target, [table for table in move_set.tables if table.name != move_set.tracking])
        written = []
        shaped = shapes(target, source, tables)
        lost = without_place(source, target, tables, _new_tables(target, move.owner, move_set.tables))
        nameless = rows_without_place(target, source, shaped, [loss for loss in lost if loss.nameless])
        for name, shape in shaped.items():
            plan = differing(target, source, shape, but=nameless.get(name, frozenset()))
            if not plan.empty():
                written.append(Written(str(name), len(plan.insert), len(plan.update), len(plan.delete)))
        return Loss(tuple(written), tuple(str(item) for item in lost))


def _new_tables(target: psycopg.Connection[Any], owner: str, tables: tuple[Table, ...]) -> list[Name]:
    """The target's tables that the source does not have, of those that the application, as `owner`, may have written to."""
    known = {table.name for table in tables}
    rows = target.execute(query("crossing_tables"), {"prefix": OURS}).fetchall()
    names = [name for schema, table in rows if (name := Name(schema, table)) not in known and table != TRACKING_TABLE]
    written = target.execute(_WRITABLE, {"role": owner, "schemas": [name.schema for name in names], "names": [name.name for name in names]})
    return [Name(schema, table) for schema, table in written.fetchall()]


def _held_somewhere(source: psycopg.Connection[Any], target: psycopg.Connection[Any], tables: Iterable[Table]) -> list[Table]:
    """The tables but for those that only the source has, and without a row: partitions that its own maintenance goes on making."""
    listed = list(tables)
    there = owners(target, [table.name for table in listed])

    def empty(table: Table) -> bool:
        rows = sql.SQL("SELECT 1 FROM ONLY {} LIMIT 1").format(table.name.identifier())
        return table.kind == "r" and source.execute(rows).fetchone() is None

    return [table for table in listed if table.name in there or not empty(table)]


_WRITABLE = (
    "SELECT w.schema, w.name FROM ROWS FROM (pg_catalog.unnest(%(schemas)s::text[]), pg_catalog.unnest(%(names)s::text[])) AS w(schema, name)"
    " WHERE pg_catalog.has_table_privilege(%(role)s, pg_catalog.format('%%I.%%I', w.schema, w.name)::pg_catalog.regclass, 'INSERT, UPDATE')"
)


@dataclasses.dataclass
class _GoBack:
    """One run of the way back."""

    way: Crossing
    discard: str
    lock_budget: float
    alive: Callable[[], bool]
    evidence: dict[str, Any] = dataclasses.field(default_factory=dict)
    # What was found to differ while the target was live; what is written later is noted by its capture.
    touched: capture.Changes | None = None
    # When this run closed the target, by the monotonic clock.
    closed: float | None = None
    sent_on: bool = False
    # From here on the source may be open.
    committing: bool = False

    def make(self) -> dict[str, Any]:
        way = self.way
        self._put_fence_back()
        try:
            if fence.standing_of(way.source, way.move.stack).in_force:
                self._check_source_untouched()
                self._refuse_losses()
                with way.steps.taking("try out what will be carried"):
                    self._try_out()
            return self._steps()
        finally:
            self._remove_capture()

    def _steps(self) -> dict[str, Any]:
        way = self.way
        way.advance(
            "go back",
            {
                "close target": self.close_target,
                "bring back": self.bring_back,
                "switch to source": self.switch_to_source,
                "settle back": self.settle_back,
            },
        )
        return self.evidence

    # Before anything is changed

    def _put_fence_back(self) -> None:
        """The source is fenced where the target is live; else one side is given up as a whole, by name."""
        way = self.way
        if self.discard == all_of(way.move) and lost_fence(way.move, way.source, way.target) is not None:
            way.progress(f"giving up everything that was written to {way.move.target.label()} since the cut-over")
            close_idle_target(way)
            way.target_journal.append(GONE_BACK, way.run, discarded=all_of(way.move))
            return
        put_fence_back(way, discard=self.discard, lock_budget=self.lock_budget)

    def _check_source_untouched(self) -> None:
        """The fenced source is as the cut-over's proof found it; else somebody wrote behind the fence, and that would be undone."""
        way = self.way
        entry = way.source_journal.last(FENCED, CUT_OVER)
        if entry is None or entry.step != CUT_OVER or self.discard == way.move.source.database != way.move.target.database:
            return
        recorded = {facts["table"]: facts["digest"] for facts in entry.facts["tables"]}
        changed = [
            str(table.name)
            for table in way.moved.with_rows
            if str(table.name) in recorded and digest_of(way.source, table).value != recorded[str(table.name)]
        ]
        if changed:
            raise Refused(
                f"The source was changed behind its fence, in {', '.join(changed)}: going back would undo that.",
                unchanged="Nothing was changed.",
                remedy="set the source's rows back; or bring to the target by hand what is to stay of them and give up the rest by name, with"
                f" CLARITY_DISCARD_WRITES={way.move.source.database} before the same command.",
            )

    def _losses(self) -> list[NoPlace]:
        way = self.way
        with way.move.target.connect(role=way.rows_role, purpose="way back") as target:
            return without_place(way.source, target, way.moved.tables, _new_tables(target, way.move.owner, way.move_set.tables))

    def _refuse_losses(self) -> None:
        losses = self._losses()
        if losses and self.discard != self.way.move.target.database:
            raise Refused(
                "The source has no place for what was written since the cut-over:\n" + "\n".join(f"  - {loss}" for loss in losses),
                unchanged="Nothing was changed; the target is live.",
                remedy="move it by hand, or make a place for it in the source, where nobody writes (a partition, a longer type, a constraint"
                " less), and it is carried; or give it up by name, with"
                f" CLARITY_DISCARD_WRITES={self.way.move.target.database} before the same command (all the rest is carried back).",
            )
        self.evidence["discarded"] = [str(loss) for loss in losses]

    def _try_out(self) -> None:
        """Carries everything in a transaction of the source that is rolled back, the target live: what cannot be, shows now.

        What it finds, and what is noted from before it began, is all that has to be looked at once the target is closed.
        """
        way = self.way
        live = not fence.standing_of(way.target, way.move.stack).in_force
        if live:
            self._install_capture()
            reach("capture installed on the target")
        way.progress("trying out what will be carried back")
        self._carry_back(trial=True)
        if not live:
            self.touched = None

    def _install_capture(self) -> None:
        way, tables = self.way, self._target_tables()
        self._remove_capture()
        capture.prepare(way.target, way.move.stack, tables)
        with way.move.target.connect(autocommit=False, purpose="way back lock") as lock:
            lock_out_writers(lock, [table.name for table in tables], budget=self.lock_budget, progress=way.progress)
            capture.put_up(lock, way.move.stack, tables)
            lock.commit()

    def _target_tables(self) -> tuple[Table, ...]:
        """The tables with rows of their own, as the target knows them."""
        way = self.way
        numbers = oids(way.target, way.tables)
        return tuple(dataclasses.replace(table, oid=numbers[table.name]) for table in capture.noted(way.moved.tables) if table.name in numbers)

    def _remove_capture(self) -> None:
        """Best effort: what is left is found by name and removed by the next run."""
        way = self.way
        with contextlib.suppress(ClarityError, psycopg.Error):
            left = capture.leftovers(way.target, way.move.stack)
            if left:
                with way.move.target.connect(autocommit=False, purpose="way back lock") as lock:
                    lock_out_writers(lock, left, budget=REMOVAL_BUDGET, progress=way.progress)
                    capture.take_out_of_force(lock, way.move.stack)
                    lock.commit()
            capture.drop(way.target, way.move.stack, patience_ms=PATIENCE_MS)

    # The steps

    def close_target(self) -> None:
        """From here on the target takes no writes; those that were under way are waited for."""
        way, tables = self.way, self._target_tables()
        names = way.target_tables()
        fence.prepare(way.target, way.move.stack, names)
        with way.move.target.connect(autocommit=False, purpose="way back lock") as lock:
            hold = lock_out_writers(lock, names, budget=self.lock_budget, progress=way.progress)
            if self.touched is not None and capture.intact(lock, way.move.stack, tables):
                self.touched = self.touched.with_others(capture.take(lock, way.move.stack, tables))
            else:
                self.touched = None
            put_up_on_target(way, lock, names)
            capture.take_out_of_force(lock, way.move.stack)
            lock.commit()
        self.closed = time.monotonic()
        self.evidence["waited_seconds"] = round(hold.waited(), 3)
        way.progress(f"the target takes no more writes; they waited {hold.waited():.2f} s at most")

    def bring_back(self) -> None:
        """Carries, and opens the source, in one transaction."""
        way = self.way
        close_idle_target(way)  # tables that appeared since it was closed
        try:
            self._refuse_losses()
            self._carry_back(trial=False)
        except (ClarityError, psycopg.Error):
            # Whether a commit that was begun came to its end is not known: the same command again finds out.
            if not self.committing:
                with contextlib.suppress(ClarityError, psycopg.Error):
                    self._open_target_again()
            raise

    def _open_target_again(self) -> None:
        """Nothing was brought back, so the target stays the live side, if the application is still sent there."""
        way = self.way
        if way.switch.where() != "source":
            with way.target.transaction():
                fence.take_out_of_force(way.target, way.move.stack)

    def _carry_back(self, *, trial: bool) -> None:
        way = self.way
        fences = frozenset((fence.trigger_name(way.move.stack),))
        with (
            way.move.source.connect(autocommit=False, purpose="way back") as source,
            way.move.target.connect(autocommit=False, role=way.rows_role, purpose="way back") as target,
        ):
            target.isolation_level = IsolationLevel.REPEATABLE_READ
            shaped = shapes(target, source, _held_somewhere(source, target, way.moved.tables))
            everything = capture.Changes({}, frozenset(shaped))
            lost = self._lost_keys(source, target, shaped)
            comparison = Comparison(target, source, shaped, self.touched or everything, given_up=lost)
            # Whole tables are compared before the lock: the fence keeps the source as it is, and a writer that knocks at it
            # should be refused at once, not wait.
            comparison.make()
            lock_out_writers(source, way.tables, budget=self.lock_budget, progress=way.progress)
            # Nobody writes to a fenced source, so a long hold keeps nobody waiting.
            source.execute("SELECT set_config('idle_in_transaction_session_timeout', '0', true)")
            with at_rest(source, way.tables, leave=fences):
                _, plans, left = carry_until_equal(target, source, shaped, comparison.make)
            if left:
                raise Refused(
                    f"Rows of {', '.join(map(str, left))} are not equal after they were carried back.",
                    unchanged="Nothing was changed; the target is live.",
                    remedy="report this; the target keeps every row.",
                )
            if trial:
                sequences_of_other(target, way.moved.sequences)
                source.rollback()
                self.touched = comparison.touched()
                return
            fence.take_out_of_force(source, way.move.stack)
            self._carry_sequences(source, target)
            self._commit(source, plans)

    def _carry_sequences(self, source: psycopg.Connection, target: psycopg.Connection) -> None:
        """Each continues where the target's stood; one that a migration took away there, past the rows that were brought back."""
        sequences = self.way.moved.sequences
        there = sequences_of_other(target, sequences)
        set_sequences(source, there)
        reach_rows(source, [sequence for sequence in sequences if sequence.name not in there])

    def _commit(self, source: psycopg.Connection, plans: Mapping[Name, Plan]) -> None:
        way = self.way
        self.evidence["carried"] = {
            str(name): {"inserted": len(plan.insert), "updated": len(plan.update), "deleted": len(plan.delete)}
            for name, plan in plans.items()
            if not plan.empty()
        }
        Journal(source, way.move.stack).append(GONE_BACK, way.run, **self.evidence)
        if not self.alive():
            raise Refused(
                "The engine that started this run is gone.",
                unchanged="Nothing was changed; the target is live.",
                remedy="run `pulumi cancel`, then the same command again.",
            )
        reach("before the source is opened")
        self.committing = True
        source.commit()
        reach("source opened")
        way.progress("the source takes writes again")

    def _lost_keys(self, source: psycopg.Connection, target: psycopg.Connection, shaped: Mapping[Name, Shape]) -> dict[Name, frozenset[Key]]:
        """The rows that are given up because the source cannot hold them, or the row they refer to."""
        if self.discard != self.way.move.target.database:
            return {}
        lost = rows_without_place(target, source, shaped, self._losses())
        self.evidence["rows_given_up"] = {str(name): len(keys) for name, keys in lost.items() if keys}
        return lost

    def switch_to_source(self) -> None:
        """Sends the application to the source; a GET decides where no answer, or an error, came."""
        way = self.way
        try:
            way.switch.to_source()
        except ClarityError as error:
            reach("switch back answered with an error")
            if way.switch.where() == "target":
                raise ClarityError(
                    str(error),
                    unchanged="The source is live and holds every row, but the application is still sent to the target, which takes no writes.",
                    remedy="run the same command again; it goes on from what it finds. Where that does not help, stage cutover and `pulumi"
                    " up` have the application write to the target again.",
                ) from None
        reach("switched back")
        self._send_clients_on()

    def _send_clients_on(self) -> None:
        """Ends what still leads to the target, whose fence stays up: its sessions, and the connections that Hyperdrive keeps."""
        way = self.way
        if self.closed is not None:
            self.evidence["refused_seconds"] = round(time.monotonic() - self.closed, 3)
        self.evidence["sessions_ended"] = way.end_sessions(way.target, users=way.move.logins) + self._end_owner_sessions()
        if self.closed is not None:
            self.evidence["sessions_ended_after"] = round(time.monotonic() - self.closed, 3)
        self.evidence["connections_drained"] = way.switch.drop_old_connections()
        self.sent_on = True

    def settle_back(self) -> None:
        """Removes what only the move needed on the source; old connections to the target may live on for minutes."""
        way = self.way
        if not self.sent_on:
            self._send_clients_on()
        self.evidence.setdefault("carried", {})
        self.evidence["at"] = datetime.datetime.now(datetime.UTC).isoformat()
        self.evidence["steps"] = way.steps.json()
        gap = gap_text(self.evidence, live="the application was sent to the old database")
        if gap:
            way.progress(gap)
        left = way.target_journal.last(OPENED, GONE_BACK)
        if left is not None and left.step == OPENED:  # so that the source's journal is not all that knows of it
            way.target_journal.append(GONE_BACK, way.run)
        ledger.drop(way.target, way.move.stack, patience_ms=PATIENCE_MS)
        capture.drop(way.source, way.move.stack, patience_ms=PATIENCE_MS)
        fence.drop(way.source, way.move.stack, patience_ms=PATIENCE_MS)

    def _end_owner_sessions(self) -> int:
        """The owner of the target's tables is the application, and may end its own sessions whatever the admin may."""
        way = self.way
        with way.move.target.connect(role=way.move.owner, purpose="way back") as target:
            return way.end_sessions(target, users=(way.move.owner,))


@told("No write is lost: the side that holds every row is the only one that may take writes.")
def undo(
    move: Move,
    switch: Switch,
    *,
    run: uuid.UUID,
    discard: str = "",
    lock_budget: float,
    alive: Callable[[], bool],
    progress: Progress,
) -> dict[str, Any]:
    """The whole way back for `pulumi destroy`: goes back where it was cut over, then leaves nothing of ours on the source.

    Needs the target only where the source says that rows are there, so that it can be repeated after the target is gone.
    Raises as `go_back` does, before anything is removed.
    """
    evidence: dict[str, Any] = {}
    with move.source.connect(purpose="undo") as source:
        fenced = bool(fence.standing_of(source, move.stack).in_force) or _is_live(move, source)
        begun = Journal(source, move.stack).last(*ENDS) is not None
    with contextlib.ExitStack() as stack:
        if begun and not fenced and switch.where() != "target":
            # The rows are here. What a run that died may have left are the application's sessions on a target that refuses them;
            # where that is gone, so are they.
            stack.enter_context(contextlib.suppress(Unreachable, ConfigurationError))
        if fenced or begun:
            evidence = go_back(move, switch, run=run, discard=discard, lock_budget=lock_budget, alive=alive, progress=progress)
    with move.source.connect(purpose="undo") as source, exclusive(source, move.stack):
        reach("before the source is tidied")
        _leave_nothing(source, move.stack)
    return evidence


def _is_live(move: Move, source: psycopg.Connection) -> bool:
    """Whether the rows are in the target although nothing on the source says so: its fence was taken off by hand."""
    try:
        with move.target.connect(purpose="undo") as target:
            return lost_fence(move, source, target) is not None
    except ConfigurationError:
        if move.before_target.has_database(move.target.database):  # closed to us: there may be rows in it
            raise
        return False


def _leave_nothing(source: psycopg.Connection, stack: str) -> None:
    """Removes fence, capture and journal of the stack, and the schema where nothing else is in it."""
    left: list[Name] = []
    for _ in range(DROP_TRIES):
        left = fence.drop(source, stack, patience_ms=DROP_PATIENCE_MS)
        left += capture.drop(source, stack, patience_ms=DROP_PATIENCE_MS)
        if not left:
            break
    if left:
        raise ClarityError(
            f"The fence's triggers are disabled, but cannot be dropped from {', '.join(sorted({str(n) for n in left}))}:"
            " somebody reads these tables without a pause.",
            unchanged="The source is live; nothing is lost.",
            remedy="run the same command again when long queries on these tables have ended.",
        )
    Journal(source, stack).forget()
    drop_empty_schema(source)
