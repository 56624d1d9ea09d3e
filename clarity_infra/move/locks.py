"""How are writers kept out for a moment, without ever keeping them out for long?

Locks are asked for with a patience below the server's `deadlock_timeout`, so that it is always this program that gives
way and never the application that is made a deadlock's victim; after each vain attempt the transaction is rolled back
and writers go on. While locks are held, the server is told to end this session after 5 s of silence, and a heartbeat
each second keeps it from doing so: a holder that is stopped, not killed, lets go too. A hold also has an end: when it
is reached, the connections are shut down, whatever the program is waiting for at that moment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import psycopg
from psycopg import sql

from clarity_infra.errors import Refused
from clarity_infra.move.model import Progress
from clarity_infra.move.names import Name
from clarity_infra.move.owners import Owner, acting_as, every_owner
from clarity_infra.move.queries import query

# The share of `deadlock_timeout` an attempt may take, all tables together.
PATIENCE = 0.8
# An autovacuum worker lets go when somebody waits for it for a `deadlock_timeout`, so this share of it is waited then.
PATIENCE_WITH_AUTOVACUUM = 1.3
# No attempt waits longer than this (seconds), whatever the server's deadlock_timeout: every new writer queues behind it.
LONGEST_ATTEMPT = 0.9
# Between two attempts writers have this long (seconds) for themselves; it grows to the second figure.
PAUSES = (0.2, 1.5)
# The server ends a holder's session after this much silence (milliseconds); the heartbeat is well below it (seconds).
SILENCE_MS = 5_000
HEARTBEAT = 1.0

_VAIN = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
)


@dataclasses.dataclass
class Hold:
    """Locks that are held: `since` and `longest_attempt` in seconds of the monotonic clock; a writer waited no longer."""

    since: float
    longest_attempt: float
    attempts: int

    def waited(self) -> float:
        """The longest a writer can have waited for this hold until now, in seconds."""
        return max(self.longest_attempt, time.monotonic() - self.since)


def lock_out_writers(connection: psycopg.Connection, tables: Iterable[Name], *, budget: float, progress: Progress) -> Hold:
    """Locks the tables (SHARE ROW EXCLUSIVE, in the order of their names) in a new transaction: writers wait, readers go on.

    The connection is not in autocommit mode and has no transaction open. Tries for `budget` seconds; then raises
    Refused, which names who holds the tables and how, with nothing changed.
    """
    names = sorted(set(tables))
    groups = [(owner, list(group)) for owner, group in _by_owner(connection, names)]
    deadlock_timeout = _deadlock_timeout(connection)
    connection.rollback()
    patience = min(deadlock_timeout * PATIENCE, LONGEST_ATTEMPT)
    deadline, longest, attempts, pause = time.monotonic() + budget, 0.0, 0, PAUSES[0]
    while True:
        attempts += 1
        started = time.monotonic()
        try:
            connection.execute("SELECT set_config('idle_in_transaction_session_timeout', %s, true)", (str(SILENCE_MS),))
            for owner, group in groups:
                left = max(int((patience - (time.monotonic() - started)) * 1000), 1)
                connection.execute(
                    "SELECT set_config('lock_timeout', %(ms)s, true), set_config('statement_timeout', %(ms)s, true)",
                    {"ms": str(left)},
                )
                with acting_as(connection, owner):
                    connection.execute(
                        sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(
                            sql.SQL(", ").join(sql.SQL("ONLY {}").format(name.identifier()) for name in group)
                        )
                    )
            connection.execute("SELECT set_config('lock_timeout', '0', true), set_config('statement_timeout', '0', true)")
            return Hold(started, longest, attempts)
        except _VAIN:
            longest = max(longest, time.monotonic() - started)
            connection.rollback()
        if time.monotonic() + pause > deadline:
            raise _blocked(connection, names, budget)
        holders = _holders(connection, names)
        if attempts == 1 and holders:
            progress(f"the tables are held by {holders[0]}; trying again for {budget:.0f} s")
        only_autovacuum = bool(holders) and all(holder.autovacuum for holder in holders)
        patience = deadlock_timeout * PATIENCE_WITH_AUTOVACUUM if only_autovacuum else min(deadlock_timeout * PATIENCE, LONGEST_ATTEMPT)
        time.sleep(pause * random.uniform(0.7, 1.0))
        pause = min(pause * 1.6, PAUSES[1])


def _by_owner(connection: psycopg.Connection, names: list[Name]) -> Iterator[tuple[Owner, Iterator[Name]]]:
    found = every_owner(connection, names)
    return groupby(names, key=lambda name: found[name])


def _deadlock_timeout(connection: psycopg.Connection) -> float:
    """The server's, in seconds."""
    row = connection.execute("SELECT setting::int FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'").fetchone()
    return int(row[0]) / 1000 if row else 1.0


@dataclasses.dataclass(frozen=True)
class _Holder:
    """Who holds one of the tables: a session, or a transaction that was prepared and is no session's any more."""

    pid: int | None
    user: str | None
    application: str | None
    state: str | None
    seconds: float | None
    autovacuum: bool
    prepared: str | None

    def __str__(self) -> str:
        if self.prepared is not None:
            return (
                f'prepared transaction "{self.prepared}" of "{self.user}", waiting for {self.seconds or 0:.0f} s to be committed or rolled back'
            )
        if self.autovacuum:
            return f"process {self.pid}, an autovacuum worker"
        return (
            f"process {self.pid}"
            + (f' of "{self.user}"' if self.user else "")
            + (f" ({self.application})" if self.application else "")
            + (f", {self.state}" if self.state else ", state not visible to this admin")
            + (f", its transaction open for {self.seconds:.0f} s" if self.seconds is not None else "")
        )


def _holders(connection: psycopg.Connection, names: Sequence[Name]) -> list[_Holder]:
    """Who holds the tables against us now, longest first; in a transaction of its own."""
    found = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    rows = connection.execute(query("lock_holders"), found).fetchall()
    connection.rollback()
    return [_Holder(*row) for row in rows]


def _blocked(connection: psycopg.Connection, names: list[Name], budget: float) -> Refused:
    found = [str(holder) for holder in _holders(connection, names)] or ["whoever it was has let go by now"]
    holders = "\n".join(f"  - {line}" for line in found)
    return Refused(
        f'In {budget:.0f} s no moment came in which nobody was writing to the tables in "{connection.info.dbname}":\n{holders}',
        unchanged="Nothing was changed; writers went on all the time.",
        remedy="end that transaction (SELECT pg_terminate_backend(PROCESS) as its user or a superuser; a prepared one by COMMIT PREPARED or"
        " ROLLBACK PREPARED 'NAME' in that database), then run the same command again.",
    )


class Watch:
    """Keeps a holder of locks alive with a heartbeat, and ends the hold at `limit` seconds, whatever is waited for then.

    Used as a context manager around the time in which the locks are held. `guarded` connections are shut down at the
    limit; `ran_out` then tells why the program's next statement fails.
    """

    def __init__(self, holder: psycopg.Connection, guarded: Iterable[psycopg.Connection], *, limit: float) -> None:
        self.ran_out = False
        self._holder, self._guarded, self._limit = holder, tuple(guarded), limit
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="clarity-infra heartbeat", daemon=True)

    def __enter__(self) -> Watch:
        self._end = time.monotonic() + self._limit
        self._thread.start()
        # A statement of the holder's own takes its connection's lock, so the limit needs a thread that never waits for it.
        self._timer = threading.Timer(self._limit, self._cut)
        self._timer.daemon = True
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._timer.cancel()
        # A cut under way must not outlive the hold: the next connection may be given the descriptor it is about to shut down.
        self._timer.join()
        self._thread.join(timeout=HEARTBEAT)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT) and time.monotonic() < self._end:
            with contextlib.suppress(psycopg.Error):
                self._holder.execute("SELECT 1")

    def _cut(self) -> None:
        if self._over.is_set():
            return
        self.ran_out = True
        for connection in (self._holder, *self._guarded):
            shut_down(connection)


def shut_down(connection: psycopg.Connection) -> None:
    """Ends a connection's traffic at once, also where another thread waits for an answer on it."""
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as end:
        end.shutdown(socket.SHUT_RDWR)
