"""How do the rows get across? COPY to COPY, under one exported snapshot, tables and ranges of big tables side by side.

Client memory is a few batches a worker, whatever the table: psycopg from 3.3.9 on makes a slow target slow the source down.
Each worker has a pair of connections of its own. When one fails the others are cancelled, and no session is left at work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Buffer, PQGen
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move.crew import Connect, Crew
from clarity_infra.move.digest import Digest, Grain, Method, RowTooLarge, digest, total
from clarity_infra.move.model import Progress, Table
from clarity_infra.move.names import Name
from clarity_infra.move.pace import Pace
from clarity_infra.move.room import readers

# Rows come one a call; written in batches of this size they need half the client's time (research: 8 to 128 KB are alike).
BATCH_BYTES = 64 * 1024

# A table is cut into parts of about this size, TOAST counted, so that one big table keeps all workers busy.
PART_BYTES = 256 * 1024 * 1024

# Digests are read in smaller parts: they need no transaction and no buffer of their own, and the workers end at about the same time.
DIGEST_PART_BYTES = 64 * 1024 * 1024

# What a server says of a row that it cannot put together to send it, and what can be done.
_TOO_LARGE = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.OutOfMemory)
_ROW_TOO_LARGE = "no server sends a row of more than 1 GB, nor does pg_dump get one: divide its largest values over several rows."

_BROKEN = (
    "the source has rows that its own definition refuses today: they were written while it was not enforced (session_replication_role,"
    " DISABLE TRIGGER ALL) or held for another function, time or locale. Mend these rows there, or drop the constraint and add it again with"
    " NOT VALID, which moves with them; then run the same command again."
)

# How long a table of the source may be locked by somebody's DDL before the copy gives up, in milliseconds. DDL that queues behind the
# snapshot's lock makes everything after it wait, the application too: giving up lets it pass.
LOCK_WAIT_MS = 30_000


@dataclasses.dataclass(frozen=True)
class Part:
    """A table, or a range of its pages (`first` up to, not including, `last`; None: no bound) of about `bytes`."""

    table: Table
    bytes: int
    first: int | None = None
    last: int | None = None

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


def parts(tables: Sequence[Table], size: int) -> list[Part]:
    """All tables that hold rows, those of more than `size` bytes in ranges of pages, the largest first."""
    found: list[Part] = []
    for table in tables:
        if table.kind != "r":
            continue
        count = min(table.pages, table.bytes // size) if table.heap else 0
        if count < 2:
            found.append(Part(table, table.bytes))
            continue
        cuts = [table.pages * number // count for number in range(1, count)]
        found += [Part(table, table.bytes // count, first, last) for first, last in zip([None, *cuts], [*cuts, None], strict=True)]
    return sorted(found, key=lambda part: -part.bytes)


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
    rows = parts(tables, PART_BYTES)
    checks = parts(tables, DIGEST_PART_BYTES) if digests else []
    pace = Pace([table for table in tables if table.kind == "r"], progress)
    pieces = Counter(part.table.name for part in (*rows, *checks))

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

    def carry(part: Part, reader: psycopg.Connection[Any], writer: psycopg.Connection[Any]) -> Copied:
        started = time.monotonic()
        with told(part, "copied"):
            count, size = _carry(part, reader, writer, pace)
        pace.done(part.table.name, 1 / pieces[part.table.name])
        return Copied(count, size, time.monotonic() - started, Digest(0, "none:0:0"))

    def check(part: Part, reader: psycopg.Connection[Any], *_: psycopg.Connection[Any]) -> Digest:
        with told(part, "read for the comparison"):
            found = digest_of(reader, part, method)
        pace.done(part.table.name, 1 / pieces[part.table.name])
        return found

    # Rows first. A digest travels nowhere: from the start on it uses the processor while others wait for the network or a disk.
    todo = [functools.partial(carry, part) for part in rows] + [functools.partial(check, part) for part in checks]
    crew = Crew(workers, from_source, to_target, readers=readers(workers))
    carried: dict[Name, list[Copied]] = {}
    checked: dict[Name, list[Digest]] = {}
    for task, found in crew.run(todo, lambda task, *connections: task(*connections), reading=lambda task: task.func == check, beat=pace.tell):
        name = task.args[0].table.name
        if isinstance(found, Copied):
            carried.setdefault(name, []).append(found)
        else:
            checked.setdefault(name, []).append(found)
    digest_by_name = whole(checked, from_source, tables, method)
    return {name: _added(name, copies, digest_by_name.get(name)) for name, copies in carried.items()}


@contextlib.contextmanager
def told(part: Part, done: str) -> Iterator[None]:
    """Says of which table it was that the rows could not be `done`."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise locked() from None
    except psycopg.Error as error:
        raise ClarityError(
            f"{part.table.name}: its rows could not be {done}: {error.diag.message_primary or error}",
            unchanged="The source stays live; the copy is not used.",
            remedy=_ROW_TOO_LARGE if isinstance(error, _TOO_LARGE) else remedy_of(error),
        ) from error


def remedy_of(error: psycopg.Error) -> str:
    """What can be done where the target refuses rows that the source has; empty for errors of another kind."""
    return _BROKEN if isinstance(error, psycopg.errors.IntegrityError) else ""


def _added(name: Name, copies: Sequence[Copied], found: Digest | None) -> Copied:
    """What was carried of a table in all. Raises ClarityError where that is not what the snapshot has."""
    count = sum(one.rows for one in copies)
    if found is not None and found.rows != count:
        raise ClarityError(
            f"{name}: {count} rows were carried, but the snapshot has {found.rows}.", unchanged="The source stays live; the copy is not used."
        )
    return Copied(count, sum(one.bytes for one in copies), sum(one.seconds for one in copies), found or copies[0].digest)


def digest_tables(connect: Connect, tables: Sequence[Table], *, workers: int, method: Method, grains: dict[Name, Grain]) -> dict[Name, Digest]:
    """The digests of whole tables, several at a time, in the grain that the other side needed."""

    def work(part: Part, connection: psycopg.Connection[Any]) -> Digest:
        return digest_of(connection, part, method, grains.get(part.table.name))

    found: dict[Name, list[Digest]] = {}
    for part, value in Crew(workers, connect).run(parts(tables, DIGEST_PART_BYTES), work):
        found.setdefault(part.table.name, []).append(value)
    return whole(found, connect, tables, method)


def whole(found: dict[Name, list[Digest]], connect: Connect, tables: Sequence[Table], method: Method) -> dict[Name, Digest]:
    """Adds up the parts; a table of which only some parts had rows too large for their text is read again, column by column."""
    mixed = [table for table in tables if len({value.value.split(":")[0] for value in found.get(table.name, ())}) > 1]
    again = digest_tables(connect, mixed, workers=1, method=method, grains={table.name: "columns" for table in mixed}) if mixed else {}
    return {name: again[name] if name in again else total(values) for name, values in found.items()}


def digest_of(connection: psycopg.Connection[Any], part: Part, method: Method, grain: Grain | None = None) -> Digest:
    """The digest of a part, in this grain; where none is given column by column if a row is too large for its text."""
    try:
        return digest(connection, part.table, where=part.condition(), method=method, grain=grain or "row")
    except RowTooLarge:
        if grain:
            raise
        return digest(connection, part.table, where=part.condition(), method=method, grain="columns")


def session(endpoint: Endpoint, *, role: str | None = None, purpose: str = "") -> psycopg.Connection[Any]:
    """A session that speaks UTF-8 whatever the database's own encoding (see `Endpoint.conninfo`): text means the same on both sides."""
    return endpoint.connect(role=role, purpose=purpose)


def locked() -> Refused:
    """The error where a lock on a table of the source did not come in time."""
    return Refused(
        f"A table of the source was locked by somebody else for longer than {LOCK_WAIT_MS / 1000:g} s (DDL, VACUUM FULL).",
        unchanged="The source stays live; what the copy made is removed by the next one.",
        remedy="let it finish, then run the same command again.",
    )


def megabytes(size: int) -> str:
    """A size for people, in MB of a million bytes."""
    return f"{size / 1e6:,.1f} MB"


def _carry(part: Part, reader: psycopg.Connection[Any], writer: psycopg.Connection[Any], pace: Pace) -> tuple[int, int]:
    """Moves the rows of a part in one transaction of the target; returns rows and bytes as they travelled."""
    whole = part.first is None and part.last is None
    outward, inward = statements(part, frozen=whole)
    size = 0
    with writer.transaction(), writer.cursor() as into:
        if whole:
            # The table was made empty a moment ago; truncated in this transaction it may be loaded frozen.
            writer.execute(sql.SQL("TRUNCATE ONLY {}").format(part.table.name.identifier()))
        with into.copy(inward) as sink:
            for batch, rows in batches(reader, outward):
                sink.write(batch)
                size += len(batch)
                pace.add(part.table.name, rows, len(batch))
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


def batches(reader: psycopg.Connection[Any], outward: sql.Composable) -> Iterator[tuple[Buffer, int]]:
    """What a COPY TO STDOUT sends, in pieces of at least BATCH_BYTES, and about how many rows each is; a larger row is a piece of its own.

    The same as iterating over psycopg's `Copy`, whose way through several calls for each row costs twice the processor time: here
    libpq is asked for row after row until none has arrived. Raises what the server says as psycopg does. A reader that is given up
    half-way is still sending: close it.
    """
    pgconn = reader.pgconn
    reader.wait(_send_query(pgconn, outward.as_bytes(reader)))
    _expect(reader.wait(_next_result(pgconn)), ExecStatus.COPY_OUT)
    ended = False
    while not ended:
        pieces, rows, ended = reader.wait(_next_batch(pgconn))
        for piece in pieces:
            if piece:
                yield piece, rows
                rows = 0
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


def _next_batch(pgconn: PGconn) -> PQGen[tuple[list[Buffer], int, bool]]:
    """The rows that have arrived, at least BATCH_BYTES of them, joined; their number; and whether these are the last.

    Each row is copied into one buffer at once: a list of libpq's own pieces costs half as much again, most of it the garbage
    collector's, which counts them. A row that is a batch by itself is passed on as it came: it may be very large.
    """
    batch = bytearray()
    rows, wanted = 0, BATCH_BYTES
    get_copy_data = pgconn.get_copy_data
    while wanted > 0:
        length, row = get_copy_data(1)
        if length > 0:
            rows += 1
            if length >= BATCH_BYTES:
                return [batch, row], rows, False
            batch += row
            wanted -= length
        elif length == 0:
            yield Wait.R
            pgconn.consume_input()
        else:
            return [batch], rows, True
    return [batch], rows, False


def _expect(result: PGresult | None, status: ExecStatus) -> None:
    if result is None or result.status != status:
        raise psycopg.errors.error_from_result(result) if result else psycopg.OperationalError("the server ended a COPY without a result")
