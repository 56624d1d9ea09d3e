"""Which rows differ between two sides of a table? Digests of buckets of keys tell where to look; only there keys are compared."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.move.digest import Method, hashed, hashes, probed
from clarity_infra.move.model import Table

# Key as text, a column each; None only for tables without a key.
Key = tuple[str | None, ...]

# Few enough that their sums are one small result, many enough that a handful of differences leaves most rows unread.
BUCKETS = 4096

_BATCH_ROWS = 2000


@dataclasses.dataclass(frozen=True)
class Changes:
    """Keys of rows that only side `a` has, only side `b` has, and that both have with other contents.

    A key is the text of each of `key_columns`, to be cast with the column's type. Without a key all stored columns stand for it: a
    row that one side has twice and the other once is listed once, and `differ` is empty.
    """

    key_columns: tuple[str, ...]
    only_a: list[Key]
    only_b: list[Key]
    differ: list[Key]

    def __bool__(self) -> bool:
        return bool(self.only_a or self.only_b or self.differ)

    def __len__(self) -> int:
        return len(self.only_a) + len(self.only_b) + len(self.differ)


def changed_keys(
    a: psycopg.Connection[Any],
    b: psycopg.Connection[Any],
    table: Table,
    *,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    method: Method | None = None,
    of: tuple[sql.Composable | None, sql.Composable | None] = (None, None),
) -> Changes:
    """Compares a table's own rows on two sides, by the named columns or all of `table`'s, and names the rows that differ.

    `of` gives each side's rows as `table` describes them where the table itself does not (see `hashed`).
    `limit` ends the search once that many are found. Client memory grows with the differences, never with the table. Each side
    reads in the transaction its connection has open; where none is open, in a read-only one of its own.
    """
    view = _View(
        table,
        key=table.key or tuple(column.name for column in table.stored),
        columns=tuple(columns if columns is not None else sorted(table.column_names)),
        method=method or probed(a, b),
    )
    changes = Changes(view.key, [], [], [])
    # One snapshot a side for both passes: that of the open transaction, or of one opened here.
    with _transaction(a), _transaction(b):
        buckets = _different_buckets(view, (a, b), of)
        if buckets:
            with contextlib.closing(view.rows(a, of[0], buckets)) as left, contextlib.closing(view.rows(b, of[1], buckets)) as right:
                _merge(left, right, changes, limit, keyed=table.key is not None)
    return changes


@contextlib.contextmanager
def _transaction(connection: psycopg.Connection[Any]) -> Iterator[None]:
    fresh = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with connection.transaction():
        if fresh:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


# A row as it is compared: its sort key, its key as text, and the hashes of its contents.
_Row = tuple[tuple[tuple[bool, str], ...], Key, tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class _View:
    """What of a table is compared, and how. Statements hold no parameters: a name with a percent sign would be taken for one."""

    table: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    method: Method

    def bucket(self) -> sql.Composable:
        """The bucket of a row `t`, by its key."""
        text = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(sql.Identifier("t", name) for name in self.key))
        return sql.SQL("({} & {})").format(hashes(text, self.method)[0], sql.Literal(BUCKETS - 1))

    def sums(self, connection: psycopg.Connection[Any], of: sql.Composable | None) -> dict[int, tuple[Any, ...]]:
        """Count and content of each bucket that has rows."""
        statement = sql.SQL(
            "SELECT x.bucket, pg_catalog.count(*), pg_catalog.sum(x.first), pg_catalog.sum(x.second) FROM {} AS x GROUP BY x.bucket"
        ).format(hashed(self.table, self.columns, beside=[(self.bucket(), sql.Identifier("bucket"))], method=self.method, of=of))
        return {row[0]: row[1:] for row in connection.execute(statement).fetchall()}

    def rows(self, connection: psycopg.Connection[Any], of: sql.Composable | None, buckets: list[int]) -> Generator[_Row, None, None]:
        """The rows of these buckets in the order of their keys' text, through a cursor in the server."""
        with connection.cursor(name=f"clarity_infra_{uuid.uuid4().hex}") as cursor:
            cursor.itersize = _BATCH_ROWS
            cursor.execute(self._statement(of, buckets))
            for row in cursor:
                key: Key = tuple(row[2:])
                yield tuple((text is not None, text or "") for text in key), key, (row[0], row[1])

    def _statement(self, of: sql.Composable | None, buckets: list[int]) -> sql.Composed:
        numbers = [sql.Identifier(f"k{number}") for number in range(len(self.key))]
        texts = [sql.SQL("{}::text").format(sql.Identifier("t", name)) for name in self.key]
        order = [sql.SQL('x.{} COLLATE "C" NULLS FIRST').format(number) for number in numbers]
        return sql.SQL("SELECT x.first, x.second{keys} FROM {rows} AS x {order}").format(
            keys=sql.SQL("").join(sql.SQL(", x.{}").format(number) for number in numbers),
            rows=hashed(
                self.table,
                self.columns,
                beside=list(zip(texts, numbers, strict=True)),
                where=sql.SQL("{} = ANY ({})").format(self.bucket(), sql.Literal(buckets)),
                method=self.method,
                of=of,
            ),
            order=sql.SQL("ORDER BY {}").format(sql.SQL(", ").join(order)) if order else sql.SQL(""),
        )


def _different_buckets(
    view: _View,
    sides: tuple[psycopg.Connection[Any], psycopg.Connection[Any]],
    of: tuple[sql.Composable | None, sql.Composable | None],
) -> list[int]:
    left, right = (view.sums(side, rows) for side, rows in zip(sides, of, strict=True))
    return sorted(bucket for bucket in left.keys() | right.keys() if left.get(bucket) != right.get(bucket))


def _merge(left: Iterator[_Row], right: Iterator[_Row], changes: Changes, limit: int | None, *, keyed: bool) -> None:
    """Walks both sides in order. Equal sort keys pair up one to one, which is what counts duplicates right."""
    a, b = next(left, None), next(right, None)
    while (a or b) and (limit is None or len(changes) < limit):
        if b is None or (a is not None and a[0] < b[0]):
            assert a is not None
            changes.only_a.append(a[1])
            a = next(left, None)
        elif a is None or b[0] < a[0]:
            changes.only_b.append(b[1])
            b = next(right, None)
        else:
            if a[2] != b[2]:
                if keyed:
                    changes.differ.append(a[1])
                else:  # stored columns alike, generated ones not: one row each
                    changes.only_a.append(a[1])
                    changes.only_b.append(b[1])
            a, b = next(left, None), next(right, None)
