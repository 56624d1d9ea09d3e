"""Do two tables hold the same rows? A digest computed in the server: order-free, counting duplicates, of every column's text.

Per row two 64-bit hashes, each summed over the table: a sum, never an exclusive or, in which equal rows cancel. A column is hashed as it
is stored where the server's hash sees every bit of it (small integers, dates, texts by their bytes), as it is sent where that hash folds
64 bits into 32 first (timestamps: 0 and 4294967297 microseconds have the same one under every seed) or takes 1.0 for 1.00 (numeric), else
as its text: the hash of an enum is of its OID, and that of jsonb takes 1.0 for 1.00 too. A bigint, which is folded as well, is what the
hash is seeded with. Each column has a seed of its own, so that two of them cannot be exchanged; what is put together of a row's columns is
hashed once more before it is summed, or two cells could be exchanged within a column.

Both sessions must come from `Endpoint.connect`, which pins every setting that changes how a value prints.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

import psycopg
from psycopg import sql

from clarity_infra.errors import ClarityError
from clarity_infra.move.model import Column, Table
from clarity_infra.move.queries import query

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
                return connection.execute(query("digest_probe"), {"probes": list(_PROBES), "seeds": list(SEEDS)}).fetchall()
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


def hashed(
    table: Table,
    columns: Sequence[str] | None = None,
    *,
    beside: Sequence[tuple[sql.Composable, sql.Identifier]] = (),
    where: sql.Composable | None = None,
    method: Method = "server",
    grain: Grain = "row",
    of: sql.Composable | None = None,
) -> sql.Composable:
    """A subquery of the table's own rows: `first` and `second`, the two hashes of a row, and expressions on `t` under names.

    `of` gives rows with these columns from elsewhere than the table (what a trigger sees of one), hashed in the same way. OFFSET 0 keeps
    the server from working a value out once for each place that uses it.
    """
    of_name = {column.name: column for column in table.columns}
    named = [of_name[name] for name in (table.column_names if columns is None else columns)]
    if method == "server" and grain == "row":
        values, (first, second) = _direct(named, toasted=of is None and table.toasted)
    else:
        values = [sql.SQL("{} AS v").format(_text(named, method=method, grain=grain))]
        first, second = hashes(sql.SQL("r.v"), method)
    values += [sql.SQL("{} AS {}").format(expression, name) for expression, name in beside]
    rows = sql.SQL("SELECT {} FROM {} AS t WHERE {} OFFSET 0").format(
        sql.SQL(", ").join(values), of or sql.SQL("ONLY {}").format(table.name.identifier()), where or sql.SQL("true")
    )
    return sql.SQL("(SELECT {} AS first, {} AS second{} FROM ({}) AS r)").format(
        first, second, sql.SQL("").join(sql.SQL(", r.{}").format(name) for _, name in beside), rows
    )


# So many columns are hashed one by one; those of a very wide table that are left go into its record, or the expression gets too deep.
_ONE_BY_ONE = 64
# Beside the seeds of the columns, of which a table has 1600 at most.
_SEED_OF_SENT = 2000


def _direct(columns: Sequence[Column], *, toasted: bool) -> tuple[list[sql.Composable], list[sql.Composable]]:
    """What is taken of a row `t`, under names, and the two hashes of what was taken, as `r`.

    One by one is faster than as a record, which is put together and taken apart. Where the table is `toasted` a text is made whole when
    it is taken, or it would be fetched for each hash.
    """
    values: list[sql.Composable] = []
    hashed_by: list[tuple[sql.SQL, sql.Identifier, int]] = []
    sent: list[sql.Composable] = []
    record: list[sql.Composable] = []
    for number, column in enumerate(columns, start=1):
        value = sql.Identifier("t", column.name)
        late = number > _ONE_BY_ONE
        if send := "int8send" if late and column.type == "bigint" else _sent_by(column):
            sent.append(sql.SQL("pg_catalog.{}({})").format(sql.Identifier(send), value))
        elif late or _AS_STORED.match(column.type):
            record.append(_hashed_value(value, column))
        else:
            taken = "pg_catalog.textcat({}, '') AS {}" if toasted and _TEXTS.match(column.type) else "{} AS {}"
            values.append(sql.SQL(taken).format(_hashed_value(value, column), sql.Identifier(f"v{number}")))
            hashed_by.append((_ONE_BY_ONE_HASHES.get(column.type, _HASH_OF_TEXT), sql.Identifier("r", f"v{number}"), number))
    if sent:
        values.append(sql.SQL("ARRAY[{}] AS sent").format(sql.SQL(", ").join(sent)))
    if record:
        values.append(sql.SQL("ROW({}) AS record").format(sql.SQL(", ").join(record)))

    def combined(seed: int) -> sql.Composable:
        hashes: list[sql.Composable] = [
            sql.SQL("COALESCE({}, {})").format(form.format(value=name, seed=sql.Literal(seed + number)), sql.Literal(number))
            for form, name, number in hashed_by
        ]
        hashes += [sql.SQL("pg_catalog.hash_array_extended(r.sent, {})").format(sql.Literal(seed + _SEED_OF_SENT))] if sent else []
        hashes += [sql.SQL("pg_catalog.hash_record_extended(r.record, {})").format(sql.Literal(seed))] if record else []
        return _mixed(sql.SQL(" OPERATOR(pg_catalog.#) ").join(hashes or [sql.Literal(0)]), seed)

    return values or [sql.SQL("NULL")], [combined(seed) for seed in SEEDS]


def _mixed(value: sql.Composable, seed: int) -> sql.Composable:
    """A hash of a bigint that sees all of it: as the value to be hashed the server would fold it into 32 bits, as the seed it does not."""
    return sql.SQL("pg_catalog.hashint4extended({}, {})").format(sql.Literal(seed), value)


# The value of a bigint is the seed: as the value to be hashed it would be folded into 32 bits.
_ONE_BY_ONE_HASHES = {
    "integer": sql.SQL("pg_catalog.hashint4extended({value}, {seed})"),
    "bigint": sql.SQL("pg_catalog.hashint4extended({seed}, {value})"),
}
_HASH_OF_TEXT = sql.SQL("pg_catalog.hashtextextended({value}, {seed})")
# Types of which the server's hash sees every bit, so that equal hashes mean equal values, printed alike; it has no name to call it by.
_AS_STORED = re.compile(r"(smallint|boolean|uuid|date|bytea)$")
# Types whose hash is of 32 bits only, or takes 1.0 for 1.00; what is sent of them has all 64 bits, and the scale.
_AS_SENT = (
    (re.compile(r"numeric(\(\d+,-?\d+\))?$"), "numeric_send"),
    (re.compile(r"timestamp(\(\d\))? without time zone$"), "timestamp_send"),
    (re.compile(r"timestamp(\(\d\))? with time zone$"), "timestamptz_send"),
)


def _sent_by(column: Column) -> str | None:
    return next((function for form, function in _AS_SENT if form.match(column.type)), None)


_TEXTS = re.compile(r"(text|character varying(\(\d+\))?)$")
# Types whose text is never empty, so that it needs no quotes to be told from NULL; the cast is cheaper than a row's text.
_AS_TEXT = re.compile(r"(jsonb|json|real|double precision)$")


# Arrays of the server's own types whose text may be larger than they are by much.
_LARGE_ARRAYS = re.compile(r"(bytea|text|character varying(\(\d+\))?|json|jsonb)\[\]$")


def _text(columns: Sequence[Column], *, method: Method, grain: Grain) -> sql.Composable:
    """The row `t` as a text, or the hashes of its columns as one."""
    names = [sql.Identifier("t", column.name) for column in columns]
    parts = [_column_hash(name, column.type, method) for name, column in zip(names, columns, strict=True)] if grain == "columns" else names
    return sql.SQL('(ROW({})::text COLLATE "C")').format(sql.SQL(", ").join(parts))


def _hashed_value(value: sql.Composable, column: Column) -> sql.Composable:
    """A value so that equal hashes mean equal values: as it is, or as a text."""
    if _AS_STORED.match(column.type) or column.type in _ONE_BY_ONE_HASHES:
        return value
    if column.enum:  # not a cast, which somebody may have defined otherwise
        return sql.SQL('pg_catalog.textin(pg_catalog.enum_out({})) COLLATE "C"').format(value)
    if _TEXTS.match(column.type):
        return sql.SQL('{} COLLATE "C"').format(value)
    shape = '{}::text COLLATE "C"' if _AS_TEXT.match(column.type) else 'ROW({})::text COLLATE "C"'
    return sql.SQL(shape).format(value)


def _column_hash(value: sql.Composable, type_name: str, method: Method) -> sql.Composable:
    if type_name == "bytea":  # its text is twice its size
        return sql.SQL("pg_catalog.encode(pg_catalog.sha256({}), 'hex')").format(value)
    if _LARGE_ARRAYS.match(type_name):  # so may theirs be; what is sent of them holds no number of this database alone
        return sql.SQL("pg_catalog.encode(pg_catalog.sha256(pg_catalog.array_send({})), 'hex')").format(value)
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
    RowTooLarge where a row's text passes what a value can hold; ask again with `grain="columns"`, on both sides. ClarityError where even
    a single value's text does.
    """
    columns = sorted(table.column_names) if columns is None else columns
    statement = sql.SQL(
        "SELECT pg_catalog.count(*), COALESCE(pg_catalog.sum(x.first), 0), COALESCE(pg_catalog.sum(x.second), 0) FROM {} AS x"
    ).format(hashed(table, columns, where=where, method=method, grain=grain))
    try:
        with connection.transaction():
            row = connection.execute(statement).fetchone()
    except _TOO_LARGE as error:
        if grain == "columns":
            raise ClarityError(
                f"{table.name}: a value is too large for its text, so its rows cannot be compared: {error.diag.message_primary}.",
                remedy="divide the value over several rows, or take the table out of `tables`.",
            ) from error
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


def without(whole: Digest, part: Digest) -> Digest:
    """The digest of what is left of a table when a part of it is taken out."""
    kind, first, second = whole.value.split(":")
    _, minus_first, minus_second = part.value.split(":")
    return Digest(whole.rows - part.rows, f"{kind}:{int(first) - int(minus_first)}:{int(second) - int(minus_second)}")


def _value(first: int, second: int, method: Method, grain: Grain) -> str:
    return f"{method}-{grain}:{first}:{second}"
