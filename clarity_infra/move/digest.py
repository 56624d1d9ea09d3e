"""Do two tables hold the same rows? A digest computed in the server: order-free, counting duplicates, of every column's text.

Per row two 64-bit hashes of `ROW(...)::text`, summed over the table. research: a sum (never an exclusive or, in which pairs cancel),
two seeds in one scan cost next to nothing more than one, and no hash of the record itself, which would hash enums by OID and take
1.0 for 1.00. Both sessions must come from `Endpoint.connect`, which pins every setting that changes how a value prints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import psycopg
from psycopg import sql

from clarity_infra.move.model import Table

# "server": hashtextextended, the fastest. "sha256": where the two servers do not agree on that.
Method = Literal["server", "sha256"]
# "row": the text of the whole row. "columns": hashes of each column, for rows whose text does not fit into one value (1 GB).
Grain = Literal["row", "columns"]

SEEDS = (0, 0x5EED)

_PROBES = ("", "probe", 'a,"b"\\\n', "\u00e9\u6f22\U0001f600")

# What a server says of a value beyond 1 GB: program_limit_exceeded, out_of_memory, and internal_error for "invalid memory alloc request".
_TOO_LARGE = (psycopg.errors.ProgramLimitExceeded, psycopg.errors.OutOfMemory, psycopg.errors.InternalError_)


@dataclasses.dataclass(frozen=True)
class Digest:
    """`rows` and a `value` that only equal contents share, computed in the same way: (method, grain) are part of the value."""

    rows: int
    value: str


def probed(a: psycopg.Connection[Any], b: psycopg.Connection[Any]) -> Method:
    """How both servers can hash alike: by their own hash function if they give the same for the probes, else by SHA-256."""

    def answers(connection: psycopg.Connection[Any]) -> list[Any] | None:
        try:
            with connection.transaction():
                return connection.execute(
                    'SELECT pg_catalog.hashtextextended(p, s) FROM unnest(%s::text[]) AS p, unnest(%s::bigint[]) AS s ORDER BY p COLLATE "C", s',
                    (list(_PROBES), list(SEEDS)),
                ).fetchall()
        except (psycopg.errors.UntranslatableCharacter, psycopg.errors.CharacterNotInRepertoire):
            return None  # an encoding that cannot hold the probe: compare what the text means, not its bytes

    first, second = answers(a), answers(b)
    return "server" if first is not None and first == second else "sha256"


def hashes(text: sql.Composable, method: Method) -> tuple[sql.Composable, ...]:
    """Two bigint expressions that hash a text expression."""
    if method == "server":
        return tuple(sql.SQL("pg_catalog.hashtextextended({}, {})").format(text, sql.Literal(seed)) for seed in SEEDS)
    sha = sql.SQL("pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to({}, 'UTF8')), 'hex')").format(text)
    return tuple(
        sql.SQL("('x' || pg_catalog.substr({}, {}, 16))::pg_catalog.bit(64)::pg_catalog.int8").format(sha, sql.Literal(start))
        for start in (1, 17)
    )


def row_text(table: Table, columns: Sequence[str] | None = None, *, grain: Grain = "row", method: Method = "server") -> sql.Composable:
    """The text of a row `t` of the table, of the named columns or of all; never NULL, and unlike rows never read alike."""
    names = table.column_names if columns is None else columns
    values: list[sql.Composable] = [sql.Identifier("t", name) for name in names]
    if grain == "columns":
        types = {column.name: column.type for column in table.columns}
        values = [_column_hash(value, types.get(name, ""), method) for name, value in zip(names, values, strict=True)]
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(values))


def _column_hash(value: sql.Composable, type_name: str, method: Method) -> sql.Composable:
    if type_name == "bytea":  # its text is twice its size
        return sql.SQL("pg_catalog.encode(pg_catalog.sha256({}), 'hex')").format(value)
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(hashes(sql.SQL("{}::text").format(value), method)))


def digest(
    connection: psycopg.Connection[Any],
    table: Table,
    columns: Sequence[str] | None = None,
    where: sql.Composable | None = None,
    *,
    method: Method = "server",
    grain: Grain = "row",
) -> Digest:
    """Rows and content of a table's own rows (`ONLY`), of the named columns or of all, generated ones too.

    `where` is a condition on `t`. To compare columns of two sides give the names: their order is part of the value. Raises
    RowTooLarge where a row's text passes what a value can hold; ask again with `grain="columns"`, on both sides.
    """
    columns = sorted(table.column_names) if columns is None else columns
    first, second = hashes(sql.SQL("x.v"), method)
    statement = sql.SQL(
        "SELECT pg_catalog.count(*), COALESCE(pg_catalog.sum({first}), 0), COALESCE(pg_catalog.sum({second}), 0)"
        " FROM (SELECT {text} AS v FROM ONLY {table} AS t WHERE {where} OFFSET 0) AS x"
    ).format(
        first=first,
        second=second,
        text=row_text(table, columns, grain=grain, method=method),
        table=table.name.identifier(),
        where=where or sql.SQL("true"),
    )
    try:
        with connection.transaction():
            row = connection.execute(statement).fetchone()
    except _TOO_LARGE as error:
        if grain == "columns":
            raise
        raise RowTooLarge(str(table.name)) from error
    assert row is not None
    return Digest(int(row[0]), _value(int(row[1]), int(row[2]), method, grain))


class RowTooLarge(Exception):
    """The text of a row of this table does not fit into one value of the server."""


def total(parts: Sequence[Digest]) -> Digest:
    """The digest of a whole table from those of its disjoint parts. All must come from the same method and grain."""
    kinds = {part.value.split(":", 1)[0] for part in parts}
    if len(kinds) != 1:
        raise ValueError(f"digests of different kinds cannot be added: {sorted(kinds)}")
    sums = [[int(number) for number in part.value.split(":")[1:]] for part in parts]
    first, second = (sum(numbers) for numbers in zip(*sums, strict=True))
    return Digest(sum(part.rows for part in parts), ":".join((kinds.pop(), str(first), str(second))))


def _value(first: int, second: int, method: Method, grain: Grain) -> str:
    return f"{method}-{grain}:{first}:{second}"
