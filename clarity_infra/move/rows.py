"""How do the rows get across? COPY to COPY, under one exported snapshot, tables and ranges of big tables side by side.

Client memory is a few batches a worker, whatever the table: psycopg from 3.3.9 on makes a slow target slow the source down.
Each worker has a pair of connections of its own. When one fails the others are cancelled, and no session is left at work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move.digest import Digest, Grain, Method, RowTooLarge, digest, total
from clarity_infra.move.model import Progress, Table
from clarity_infra.move.names import Name

# Rows come one a call; written in batches of this size they need half the client's time (research: 8 to 128 KB are alike).
BATCH_BYTES = 64 * 1024

# A table is cut into parts of about this size, TOAST counted, so that one big table keeps all workers busy.
PART_BYTES = 256 * 1024 * 1024

# How long a table of the source may be locked by somebody's DDL before the copy gives up, in milliseconds. DDL that queues behind the
# snapshot's lock makes everything after it wait, the application too: giving up lets it pass.
LOCK_WAIT_MS = 30_000

# How often the person who watches hears from a long step.
_HEARTBEAT_SECONDS = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")
Connect = Callable[[], psycopg.Connection[Any]]


@dataclasses.dataclass(frozen=True)
class Part:
    """A table, or a range of its pages (`first` up to, not including, `last`; None: no bound)."""

    table: Table
    first: int | None = None
    last: int | None = None

    @property
    def weight(self) -> int:
        """About how many bytes it holds."""
        if self.first is None and self.last is None:
            return self.table.bytes
        return PART_BYTES

    def condition(self) -> sql.Composable | None:
        """The range as a condition on `t`, None for the whole table. The last range is open: it holds what came after planning."""
        bounds = [
            sql.SQL("t.ctid {} {}::pg_catalog.tid").format(sql.SQL(operator), sql.Literal(f"({page},0)"))
            for operator, page in ((">=", self.first), ("<", self.last))
            if page is not None
        ]
        return sql.SQL(" AND ").join(bounds) if bounds else None


@dataclasses.dataclass(frozen=True)
class Copied:
    """What was carried of a table: `digest` is the source's, in the copy's snapshot."""

    rows: int
    bytes: int
    seconds: float
    digest: Digest


def parts(tables: Sequence[Table]) -> list[Part]:
    """All tables that hold rows, big ones in ranges of pages, the largest first."""
    found: list[Part] = []
    for table in tables:
        if table.kind != "r":
            continue
        count = min(table.pages, table.bytes // PART_BYTES) if table.heap else 0
        if count < 2:
            found.append(Part(table))
            continue
        cuts = [table.pages * number // count for number in range(1, count)]
        found += [Part(table, first, last) for first, last in zip([None, *cuts], [*cuts, None], strict=True)]
    return sorted(found, key=lambda part: -part.weight)


class Crew:
    """Works off a list of items with several workers, each with connections of its own.

    `run` returns when all is done, or raises the first error after every other worker was stopped and every connection closed.
    """

    def __init__(self, workers: int, *connect: Connect) -> None:
        self._workers, self._connect = max(1, workers), connect
        self._open: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(
        self,
        items: Sequence[Item],
        work: Callable[..., Result],
        *,
        beat: Callable[[], None] = lambda: None,
    ) -> list[tuple[Item, Result]]:
        """Calls `work(item, *connections)` for each item; `beat` is called every ten seconds meanwhile."""
        todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
        for item in items:
            todo.put(item)
        done: list[tuple[Item, Result]] = []
        count = min(self._workers, len(items))
        if not count:
            return done
        with ThreadPoolExecutor(count, thread_name_prefix="clarity-infra") as pool:
            futures = [pool.submit(self._worker, todo, work, done) for _ in range(count)]
            try:
                pending = set(futures)
                while pending:
                    finished, pending = wait(pending, timeout=_HEARTBEAT_SECONDS, return_when=FIRST_EXCEPTION)
                    if any(future.exception() for future in finished):
                        break
                    if not finished:
                        beat()
            finally:
                self._stop.set()
                self._cancel(futures)
        for future in futures:
            future.result()
        return done

    def _worker(self, todo: queue.SimpleQueue[Item], work: Callable[..., Result], done: list[tuple[Item, Result]]) -> None:
        with contextlib.ExitStack() as stack:
            connections = []
            for connect in self._connect:
                connection = stack.enter_context(contextlib.closing(connect()))
                connections.append(connection)
                with self._lock:
                    self._open.append(connection)
            try:
                while not self._stop.is_set():
                    try:
                        item = todo.get_nowait()
                    except queue.Empty:
                        return
                    done.append((item, work(item, *connections)))
            except BaseException:
                if self._stop.is_set():
                    return  # it was cancelled because another one failed, and that one's error is told
                self._stop.set()
                raise
            finally:
                with self._lock:
                    for connection in connections:
                        self._open.remove(connection)

    def _cancel(self, futures: Sequence[Any]) -> None:
        """Ends what is still at work: the statement is cancelled until its worker has seen that it should stop."""
        while not all(future.done() for future in futures):
            with self._lock:
                at_work = list(self._open)
            for connection in at_work:
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5)
            wait(futures, timeout=0.2)


def copy_rows(
    source: Endpoint,
    target: Endpoint,
    tables: Sequence[Table],
    *,
    snapshot: str,
    owner: str,
    workers: int,
    progress: Progress,
    method: Method = "server",
    digests: bool = True,
) -> dict[Name, Copied]:
    """Carries every row of `tables` that `snapshot` sees into the empty tables of the same names in `target`.

    `digests=False` leaves the source's digests out (zero rows, no value), for a measurement of the rows alone.
    """
    todo = parts(tables)
    sizes = _Sizes(todo, progress)

    def from_source() -> psycopg.Connection[Any]:
        connection = session(source, purpose="copy")
        connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (str(LOCK_WAIT_MS),))
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        return connection

    def to_target() -> psycopg.Connection[Any]:
        connection = session(target, role=owner, purpose="copy rows")
        # Harmless: the commit that records the copy as done is synchronous, and flushes all before it.
        connection.execute("SET synchronous_commit = off")
        return connection

    def work(part: Part, reader: psycopg.Connection[Any], writer: psycopg.Connection[Any]) -> Copied:
        started = time.monotonic()
        try:
            rows, size = _carry(part, reader, writer, sizes)
        except psycopg.errors.LockNotAvailable:
            raise locked() from None
        except psycopg.Error as error:
            raise ClarityError(
                f"{part.table.name}: its rows could not be copied: {error.diag.message_primary or error}",
                unchanged="The source stays live; the copy is not used.",
            ) from error
        seconds = time.monotonic() - started
        found = digest_of(reader, part, method) if digests else Digest(0, "none:0:0")
        if digests and found.rows != rows:
            raise ClarityError(f"{part.table.name}: {rows} rows were carried, but the snapshot has {found.rows}.")
        return Copied(rows, size, seconds, found)

    found: dict[Name, list[Copied]] = {}
    for part, one in Crew(workers, from_source, to_target).run(todo, work, beat=sizes.tell):
        found.setdefault(part.table.name, []).append(one)
    digests_of = _whole({name: [one.digest for one in copies] for name, copies in found.items()}, from_source, tables, method)
    return {
        name: Copied(
            rows=sum(one.rows for one in copies),
            bytes=sum(one.bytes for one in copies),
            seconds=sum(one.seconds for one in copies),
            digest=digests_of[name],
        )
        for name, copies in found.items()
    }


def digest_tables(connect: Connect, tables: Sequence[Table], *, workers: int, method: Method, grains: dict[Name, Grain]) -> dict[Name, Digest]:
    """The digests of whole tables, several at a time, in the grain that the other side needed."""

    def work(part: Part, connection: psycopg.Connection[Any]) -> Digest:
        grain = grains.get(part.table.name)
        if grain is None:
            return digest_of(connection, part, method)
        return digest(connection, part.table, where=part.condition(), method=method, grain=grain)

    found: dict[Name, list[Digest]] = {}
    for part, value in Crew(workers, connect).run(parts(tables), work):
        found.setdefault(part.table.name, []).append(value)
    return _whole(found, connect, tables, method)


def _whole(found: dict[Name, list[Digest]], connect: Connect, tables: Sequence[Table], method: Method) -> dict[Name, Digest]:
    """Adds up the parts; a table of which only some parts had rows too large for their text is read again, column by column."""
    mixed = [table for table in tables if len({value.value.split(":")[0] for value in found.get(table.name, ())}) > 1]
    again = digest_tables(connect, mixed, workers=1, method=method, grains={table.name: "columns" for table in mixed}) if mixed else {}
    return {name: again[name] if name in again else total(values) for name, values in found.items()}


def digest_of(connection: psycopg.Connection[Any], part: Part, method: Method) -> Digest:
    """The digest of a part; column by column where a row is too large for its text."""
    try:
        return digest(connection, part.table, where=part.condition(), method=method)
    except RowTooLarge:
        return digest(connection, part.table, where=part.condition(), method=method, grain="columns")


def session(endpoint: Endpoint, *, role: str | None = None, purpose: str = "") -> psycopg.Connection[Any]:
    """A session that speaks UTF-8 whatever the database's own encoding, so that text means the same on both sides."""
    connection = endpoint.connect(role=role, purpose=purpose)
    connection.execute("SET client_encoding = 'UTF8'")
    return connection


def locked() -> Refused:
    """The error where a lock on a table of the source did not come in time."""
    return Refused(
        f"A table of the source was locked by somebody else for longer than {LOCK_WAIT_MS / 1000:g} s (DDL, VACUUM FULL).",
        unchanged="The source stays live; what the copy made is removed by the next one.",
        remedy="let it finish, then run the same command again.",
    )


class _Sizes:
    """How far the copy is, for the person who watches."""

    def __init__(self, todo: Sequence[Part], progress: Progress) -> None:
        self._all = sum({part.table.name: part.table.bytes for part in todo}.values())
        self._done, self._progress, self._lock = 0, progress, threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size

    def tell(self) -> None:
        self._progress(f"{megabytes(self._done)} of about {megabytes(self._all)} copied")


def megabytes(size: int) -> str:
    """A size for people, in MB of a million bytes."""
    return f"{size / 1e6:,.1f} MB"


def _carry(part: Part, reader: psycopg.Connection[Any], writer: psycopg.Connection[Any], sizes: _Sizes) -> tuple[int, int]:
    """Moves the rows of a part in one transaction of the target; returns rows and bytes as they travelled."""
    whole = part.first is None and part.last is None
    outward, inward = statements(part, frozen=whole)
    size = 0
    with writer.transaction(), writer.cursor() as into:
        if whole:
            # The table was made empty a moment ago; truncated in this transaction it may be loaded frozen.
            writer.execute(sql.SQL("TRUNCATE ONLY {}").format(part.table.name.identifier()))
        with into.copy(inward) as sink:
            for batch in batches(reader, outward):
                sink.write(batch)
                size += len(batch)
                sizes.add(len(batch))
        return into.rowcount, size


def statements(part: Part, *, frozen: bool) -> tuple[sql.Composed, sql.Composed]:
    """COPY out of the source and into the target, binary where every column's type means the same on both sides."""
    table = part.table
    binary = bool(table.stored) and all(column.binary for column in table.stored)
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.stored)
    columns = sql.SQL(" ({})").format(names) if table.stored else sql.SQL("")
    form = sql.SQL("binary" if binary else "text")
    condition = part.condition()
    if condition is None:
        what: sql.Composable = sql.SQL("{}{}").format(table.name.identifier(), columns)
    else:
        what = sql.SQL("(SELECT {} FROM ONLY {} AS t WHERE {})").format(names, table.name.identifier(), condition)
    return (
        sql.SQL("COPY {} TO STDOUT (FORMAT {})").format(what, form),
        sql.SQL("COPY {}{} FROM STDIN (FORMAT {}{})").format(table.name.identifier(), columns, form, sql.SQL(", FREEZE" if frozen else "")),
    )


def batches(reader: psycopg.Connection[Any], outward: sql.Composable) -> Iterator[bytes]:
    """What a COPY TO STDOUT sends, in pieces of at least BATCH_BYTES; a larger row is a piece of its own.

    The same as iterating over psycopg's `Copy`, whose way through several calls for each row costs twice the processor time: here
    libpq is asked for row after row until none has arrived. Raises what the server says as psycopg does. A reader that is given up
    half-way is still sending: close it.
    """
    pgconn = reader.pgconn
    reader.wait(_send_query(pgconn, outward.as_bytes(reader)))
    _expect(reader.wait(_next_result(pgconn)), ExecStatus.COPY_OUT)
    ended = False
    while not ended:
        batch, ended = reader.wait(_next_batch(pgconn))
        if batch:
            yield batch
    _expect(reader.wait(_next_result(pgconn)), ExecStatus.COMMAND_OK)
    while reader.wait(_next_result(pgconn)) is not None:
        pass


def _send_query(pgconn: PGconn, statement: bytes) -> PQGen[None]:
    pgconn.send_query(statement)
    while pgconn.flush():
        yield Wait.W


def _next_result(pgconn: PGconn) -> PQGen[PGresult | None]:
    while pgconn.is_busy():
        yield Wait.R
        pgconn.consume_input()
    return pgconn.get_result()


def _next_batch(pgconn: PGconn) -> PQGen[tuple[bytes, bool]]:
    """The rows that have arrived, joined, at least BATCH_BYTES of them; and whether these are the last."""
    rows: list[memoryview] = []
    size = 0
    while size < BATCH_BYTES:
        length, row = pgconn.get_copy_data(1)
        if length > 0:
            rows.append(row)
            size += length
        elif length == 0:
            yield Wait.R
            pgconn.consume_input()
        else:
            return b"".join(rows), True
    return b"".join(rows), False


def _expect(result: PGresult | None, status: ExecStatus) -> None:
    if result is None or result.status != status:
        raise psycopg.errors.error_from_result(result) if result else psycopg.OperationalError("the server ended a COPY without a result")
