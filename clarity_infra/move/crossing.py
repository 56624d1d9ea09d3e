"""What do a cut-over and its way back share? Their connections, the facts they decide by, and the loop that takes the steps."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import psycopg

from clarity_infra.errors import ClarityError, Refused, Unreachable
from clarity_infra.move import fence, state
from clarity_infra.move.catalog import OURS, read_move_set
from clarity_infra.move.faults import reach
from clarity_infra.move.journal import Journal, exclusive
from clarity_infra.move.migrations import Migrations, wait
from clarity_infra.move.model import Move, MoveSet, Progress, Table
from clarity_infra.move.names import Name, quoted
from clarity_infra.move.queries import query
from clarity_infra.move.state import Command, Facts, Origin, Step
from clarity_infra.move.steps import Steps

# How Cloudflare's Hyperdrive introduces itself to an origin.
# https://developers.cloudflare.com/hyperdrive/observability/troubleshooting/
APPLICATIONS = ("Cloudflare Hyperdrive",)

# How long the removal of a disabled trigger may hold up the readers of one table, in milliseconds.
PATIENCE_MS = 200


class Switch(Protocol):
    """Sends the application to a side. Each method may raise ClarityError; `where` decides what became of it."""

    def where(self) -> Origin:
        """The side the application is sent to, asked afresh. Raises Unreachable where that cannot be known."""

    def to_target(self) -> None:
        """Sends the application to the target."""

    def to_source(self) -> None:
        """Sends the application to the source."""

    def drop_old_connections(self) -> bool:
        """Asks that connections to the side it was sent to before be given up; false where nobody was asked. Never raises ClarityError."""


@dataclasses.dataclass
class Crossing:
    """One run between the two sides, with the stack's lock held on both. `source` and `target` are in autocommit mode.

    `tracker` is a session that reads which migrations are in effect; `rows_role` the role that reads and writes the target's rows,
    None for the admin itself.
    """

    move: Move
    switch: Switch
    run: uuid.UUID
    progress: Progress
    source: psycopg.Connection
    target: psycopg.Connection
    move_set: MoveSet
    stack: contextlib.ExitStack = dataclasses.field(repr=False)
    rows_role: str | None
    tracker: psycopg.Connection | None = None
    steps: Steps = dataclasses.field(default_factory=Steps)

    @property
    def tables(self) -> tuple[Name, ...]:
        """Every table of the set, partitioned parents among them."""
        return tuple(table.name for table in self.move_set.tables)

    @property
    def moved(self) -> MoveSet:
        """The set without Drizzle's tracking table, which records what was done to one database and is never carried."""
        tables = tuple(table for table in self.move_set.tables if table.name != self.move_set.tracking)
        mine = {table.name for table in tables}
        sequences = tuple(s for s in self.move_set.sequences if s.table is None or s.table in mine)
        return dataclasses.replace(self.move_set, tables=tables, sequences=sequences)

    @property
    def source_journal(self) -> Journal:
        """The stack's journal in the source."""
        return Journal(self.source, self.move.stack)

    @property
    def target_journal(self) -> Journal:
        """The stack's journal in the target."""
        return Journal(self.target, self.move.stack)

    def open_source(self, *, autocommit: bool = False, purpose: str) -> psycopg.Connection:
        """Another session of the source's admin, closed with the run."""
        return self._keep(self.move.source.connect(autocommit=autocommit, purpose=purpose))

    def open_target(self, *, autocommit: bool = False, purpose: str) -> psycopg.Connection:
        """Another session that reads and writes the target's rows, closed with the run."""
        return self._keep(self.move.target.connect(autocommit=autocommit, role=self.rows_role, purpose=purpose))

    def _keep(self, connection: psycopg.Connection) -> psycopg.Connection:
        self.stack.callback(connection.close)
        return connection

    def facts(self, migrations: Migrations | None = None) -> Facts:
        """Where the move is, asked afresh of both databases and of whoever sends the application.

        Raises Unreachable where Cloudflare does not answer.
        """
        source_fenced = bool(fence.standing_of(self.source, self.move.stack).in_force)
        target_fenced = bool(fence.standing_of(self.target, self.move.stack).in_force)
        waiting = False
        if migrations is not None:
            # Opened before anything is fenced: logging in takes time, for which writers would be refused.
            self.tracker = self.tracker or self.open_target(autocommit=True, purpose="migrations")
            waiting = source_fenced and target_fenced and wait(self.tracker, self.move.tracking, migrations)
        return Facts(source_fenced, target_fenced, self.switch.where(), waiting)

    def target_tables(self) -> list[Name]:
        """Every table of the target an application could write to, those that later migrations made among them."""
        return [Name(schema, name) for schema, name in self.target.execute(query("crossing_tables"), {"prefix": OURS})]

    def advance(self, command: Command, steps: Mapping[Step, Callable[[], None]], migrations: Migrations | None = None) -> None:
        """Takes the steps of the table of transitions, each decided from what is found, until the command's last one.

        What is found after a step both proves the step and decides the next: asking twice would keep writers out longer.
        Raises ClarityError where a step did not lead where the table says.
        """
        found = self.facts(migrations)
        while True:
            transition = state.next_transition(command, found)
            reach(f"before {transition.step}")
            with self.steps.taking(transition.step):
                self._take(transition.step, steps[transition.step])
            reach(f"after {transition.step}")
            if transition.step in state.LAST:
                return
            found = self._after(transition, found, migrations)

    def _take(self, step: Step, take: Callable[[], None]) -> None:
        """A server that lets nobody in says that nothing was changed; at the last step all but that is done."""
        try:
            take()
        except Unreachable as error:
            if step not in state.LAST:
                raise
            raise Unreachable(
                error.what,
                unchanged="The application is on its new side and may write there; what is left is to prove it and to tidy up.",
                remedy=f"{error.remedy.rstrip('.')}; then run the same command again.",
            ) from None

    def _after(self, transition: state.Transition, before: Facts, migrations: Migrations | None) -> Facts:
        """What is found after a step; raises ClarityError where that is not what the table says."""
        after, expected = self.facts(migrations), transition.leads_to(before)
        if (after.source_fenced, after.target_fenced) != (expected.source_fenced, expected.target_fenced):
            raise ClarityError(
                f'The step "{transition.step}" was taken, but the databases do not show it ({after.name}).',
                remedy="run the same command again; it goes on from what it finds.",
            )
        if transition.step.startswith("switch") and after.origin != expected.origin:
            raise ClarityError(
                f"Cloudflare took the new origin, but still sends the application to the {after.origin}.",
                unchanged="The side the application is sent to takes no writes; none are lost.",
                remedy="run the same command again; it goes on from what it finds.",
            )
        return after

    def end_sessions(self, connection: psycopg.Connection, *, users: tuple[str, ...] = ()) -> int:
        """Ends the application's sessions in this database as far as the admin may; how many. Their pool then connects anew."""
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            found = {"applications": list(APPLICATIONS), "users": list(users)}
            row = connection.execute(query("crossing_end_sessions"), found).fetchone()
            return int(row[0]) if row else 0
        return 0


@contextlib.contextmanager
def crossing(move: Move, switch: Switch, run: uuid.UUID, progress: Progress) -> Iterator[Crossing]:
    """Connects to both sides, takes the stack's lock on both and reads the move set.

    Raises Refused where another run of this stack is at work, Unreachable and ConfigurationError as connecting does.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(move.source.connect(purpose="cut-over"))
        target = stack.enter_context(move.target.connect(purpose="cut-over"))
        stack.enter_context(exclusive(target, move.stack))
        stack.enter_context(exclusive(source, move.stack))
        move_set = read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)
        with told("No write is lost: the side that holds every row is the only one that may take writes."):
            yield Crossing(move, switch, run, progress, source, target, move_set, stack, rows_role(target, move, move_set.tables))


def rows_role(target: psycopg.Connection, move: Move, tables: Iterable[Table]) -> str | None:
    """As whom the target's rows are read and written: their owner; where forced row security binds that, the admin, None, whom it does not.

    Raises Refused, with each table's name, where row security binds the admin as well: rows would be left out.
    """
    names = [table.name for table in tables]
    listed = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    forced = target.execute(query("crossing_forced_row_security"), listed).fetchall()
    bound = [str(Name(schema, name)) for schema, name, _, binds in forced if binds]
    if bound:
        owners_named = ", ".join(sorted({quoted(owner) for _, _, owner, binds in forced if binds}))
        raise Refused(
            f"Row security is forced in the target on {', '.join(bound)}, and binds {quoted(move.target.user)}, which has to see every row.",
            unchanged="Nothing was changed.",
            remedy=f"ask for: ALTER ROLE {quoted(move.target.user)} BYPASSRLS; GRANT {owners_named} TO {quoted(move.target.user)}"
            " (on PostgreSQL 16 and later: WITH INHERIT TRUE).",
        )
    return None if forced else move.owner


def check_rows_visible(move: Move) -> None:
    """Raises Refused where row security would keep rows of the copy from a cut-over; for a preview, which makes none."""
    with move.source.connect(purpose="look") as source, move.target.connect(purpose="look") as target:
        rows_role(target, move, read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept).tables)


@contextlib.contextmanager
def told(unchanged: str) -> Iterator[None]:
    """Tells a statement that failed, or a connection that was lost, as an error a user can act on. Also a decorator."""
    try:
        yield
    except psycopg.Error as error:
        raise ClarityError(
            f"A statement failed, or a connection was lost: {error.diag.message_primary or type(error).__name__}.",
            unchanged=unchanged,
            remedy="run the same command again; it goes on from what it finds.",
        ) from None
