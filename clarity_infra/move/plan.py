"""Which rows have to be written to make two sides equal? Looked up by key on both, and compared by what they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext

from clarity_infra.errors import Refused
from clarity_infra.move.differences import changed_keys
from clarity_infra.move.digest import Method
from clarity_infra.move.names import Name
from clarity_infra.move.shape import Shape
from clarity_infra.texts import shown

# A row's key, each column as the server prints it under our sessions' pinned settings.
# For a table without a key all its stored columns stand for it.
Key = tuple[str | None, ...]
Values = tuple[str | None, ...]

# Keys looked up in one statement, and bytes of rows held in memory at a time.
BATCH_KEYS = 500
BATCH_BYTES = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class _Row:
    """One row found by a key that was asked for: the key it has, what it holds, how much that is."""

    key: Key
    digest: bytes
    length: int


class Escaped(sql.Identifier):
    """An identifier in a statement with parameters, where psycopg would take a percent sign in a name for one of them."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """The quoted name with every percent sign doubled."""
        return super().as_bytes(context).replace(b"%", b"%%")


def table_of(name: Name) -> Escaped:
    return Escaped(name.schema, name.name)


def type_of(text: str) -> sql.SQL:
    """A type as `format_type` prints it, or an operator: quoted by the server already, from its catalog, never from outside."""
    return sql.SQL(text.replace("%", "%%"))


def equal(shape: Shape, type_text: str) -> sql.SQL:
    """The operator by which two values of the type are equal, from the server's catalog."""
    return type_of(shape.operators.get(type_text, "="))


def given_keys(columns: int) -> sql.Composed:
    """The keys in the parameters, a list of texts for each column, as rows `w` of k0, k1 and so on, numbered as they come by n."""
    return sql.SQL("ROWS FROM ({}) WITH ORDINALITY AS w({}, n)").format(
        sql.SQL(", ").join([sql.SQL("pg_catalog.unnest(%s::text[])")] * columns),
        sql.SQL(", ").join(sql.Identifier(f"k{number}") for number in range(columns)),
    )


def _wanted(shape: Shape, types: Mapping[str, str]) -> sql.Composed:
    """`FROM` clause that joins the table to the keys in the parameters, numbered as they come."""
    return sql.SQL("FROM {} JOIN ONLY {} AS t ON {}").format(
        given_keys(len(shape.key)),
        table_of(shape.name),
        sql.SQL(" AND ").join(
            sql.SQL("t.{} {} w.{}::{}").format(Escaped(column), equal(shape, types[column]), Escaped(f"k{number}"), type_of(types[column]))
            for number, column in enumerate(shape.key)
        ),
    )


def value_of(shape: Shape, column: str, types: Mapping[str, str], identifier: type[sql.Identifier] = Escaped) -> sql.Composable:
    """What a row `t` holds in a column on the side that has these types: where the other's is another, as a text that both write alike.

    The same moment or number has another text in each of two types: with an offset, with more digits. Nothing is rounded or cut.
    """
    value = identifier("t", column)
    if column not in shape.retyped:
        return value
    mine, other = types[column], shape.receiver[column] if types is shape.sender else shape.sender[column]
    if mine.startswith("numeric"):
        return sql.SQL("pg_catalog.trim_scale({})::text").format(value)
    if mine.startswith("timestamp") and mine.endswith("with time zone") and other.startswith("timestamp"):
        return sql.SQL("pg_catalog.timezone('UTC', {})::text").format(value)
    return sql.SQL("{}::text").format(value)


def _rows_as_compared(shape: Shape, types: Mapping[str, str]) -> sql.Composable | None:
    """This side's rows as `shape.as_compared` describes them; None where the table itself has them so."""
    if not shape.retyped:
        return None
    values = [
        sql.SQL("{} AS {}").format(value_of(shape, column.name, types, sql.Identifier), sql.Identifier(column.name))
        for column in shape.as_compared.columns
    ]
    return sql.SQL("(SELECT {} FROM ONLY {} AS t)").format(sql.SQL(", ").join(values), shape.name.identifier())


def _content(shape: Shape, types: Mapping[str, str]) -> sql.Composed:
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(value_of(shape, name, types) for name in shape.compared))


def _look_up(connection: psycopg.Connection, shape: Shape, types: Mapping[str, str], keys: Sequence[Key]) -> dict[int, _Row]:
    """What this side has for each key, by the key's position; the digest does not depend on a server's own hash."""
    statement = sql.SQL(
        "SELECT w.n, ARRAY[{keys}]::text[], pg_catalog.sha256(pg_catalog.convert_to({row}, 'UTF8')), pg_catalog.octet_length({row}) {source}"
    ).format(
        keys=sql.SQL(", ").join(sql.SQL("t.{}::text").format(Escaped(column)) for column in shape.key),
        row=_content(shape, types),
        source=_wanted(shape, types),
    )
    rows = connection.execute(statement, _columnwise(keys)).fetchall()
    found = {number: _Row(tuple(key), bytes(digest), length) for number, key, digest, length in rows}
    if len(found) < len(rows):
        numbers = [number for number, *_ in rows]
        raise _not_identified(shape, next(keys[number - 1] for number in numbers if numbers.count(number) > 1), "more than one row has this key")
    return found


def _not_identified(shape: Shape, key: Key, reason: str) -> Refused:
    named = ", ".join(f"{column}={shown(part)}" for column, part in zip(shape.key, key, strict=True))
    return Refused(
        f"{shape.name} {named}: {reason}, so that it cannot be told which of the other side's rows it is.",
        unchanged="Nothing was changed.",
        remedy=f"give each row of this table its own {', '.join(shape.key)}, then run the same command again.",
    )


def absent(receiver: psycopg.Connection, shape: Shape, keys: Sequence[Key]) -> list[Key]:
    """Those of the keys under which the receiving side has no row."""
    missing: list[Key] = []
    for batch in batches(keys, BATCH_KEYS):
        there = _look_up(receiver, shape, shape.receiver, batch)
        missing += [key for number, key in enumerate(batch, start=1) if number not in there]
    return missing


def _columnwise(keys: Sequence[Key]) -> list[list[str | None]]:
    return [list(column) for column in zip(*keys, strict=True)]


def values_of(
    connection: psycopg.Connection, names: Sequence[str], shape: Shape, types: Mapping[str, str], keys: Sequence[Key]
) -> dict[int, Values]:
    """What the named columns of this side's rows hold, by the key's position, each as the type's own output function prints it."""
    statement = sql.SQL("SELECT w.n, {} {}").format(
        sql.SQL(", ").join(value_of(shape, column, types) for column in names),
        _wanted(shape, types),
    )
    cursor = connection.execute(statement, _columnwise(keys))
    result = cursor.pgresult
    assert result is not None
    encoding = connection.info.encoding

    def text(row: int, column: int) -> str | None:
        value = result.get_value(row, column)
        return None if value is None else value.decode(encoding)

    found = {int(text(row, 0) or 0): tuple(text(row, column) for column in range(1, result.nfields)) for row in range(result.ntuples)}
    cursor.close()
    return found


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to happen to one table's rows, by key; `bytes_of` bounds how many are read at a time."""

    insert: tuple[Key, ...] = ()
    update: tuple[Key, ...] = ()
    delete: tuple[Key, ...] = ()
    bytes_of: Mapping[Key, int] = dataclasses.field(default_factory=dict, repr=False)

    def empty(self) -> bool:
        """Whether the sides are equal."""
        return not (self.insert or self.update or self.delete)

    def keys(self) -> tuple[Key, ...]:
        """Every key concerned."""
        return self.insert + self.update + self.delete


def plan(
    sender: psycopg.Connection, receiver: psycopg.Connection, shape: Shape, keys: Iterable[Key], *, but: Collection[Key] = frozenset()
) -> Plan:
    """Compares the rows of these keys on both sides, of all `but` some. Raises Refused for a key that does not tell which row it is."""
    insert: dict[Key, None] = {}
    update: dict[Key, None] = {}
    delete: dict[Key, None] = {}
    lengths: dict[Key, int] = {}
    wanted = [key for key in dict.fromkeys(keys) if key not in but]
    if (nameless := next((key for key in wanted if None in key), None)) is not None:
        raise _not_identified(shape, nameless, "a part of its key is empty")
    for batch in batches(wanted, BATCH_KEYS):
        here = _look_up(sender, shape, shape.sender, batch)
        there = _look_up(receiver, shape, shape.receiver, batch)
        for number, key in enumerate(batch, start=1):
            ours, theirs = here.get(number), there.get(number)
            if ours is not None:
                lengths[key] = lengths[ours.key] = ours.length
            if ours is not None and theirs is None:
                insert[ours.key] = None
            elif ours is not None and theirs is not None and ours.digest != theirs.digest:
                update[theirs.key] = None
                lengths[theirs.key] = ours.length
            elif ours is None and theirs is not None:
                delete[theirs.key] = None
    return Plan(tuple(insert), tuple(update), tuple(delete), lengths)


def differing(
    sender: psycopg.Connection,
    receiver: psycopg.Connection,
    shape: Shape,
    *,
    method: Method | None = None,
    but: Collection[Key] = frozenset(),
) -> Plan:
    """Compares the whole of a table on both sides, `but` for some keys. Raises as `plan` does."""
    of = (_rows_as_compared(shape, shape.sender), _rows_as_compared(shape, shape.receiver))
    found = changed_keys(sender, receiver, shape.as_compared, columns=shape.compared, method=method, of=of)
    if not shape.key:
        return Plan(insert=tuple(found.only_a), delete=tuple(found.only_b))
    return plan(sender, receiver, shape, [*found.only_a, *found.only_b, *found.differ], but=but)


def batches(items: Sequence[Key], size: int) -> Iterator[Sequence[Key]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batches_by_size(keys: Sequence[Key], lengths: Mapping[Key, int]) -> Iterator[list[Key]]:
    batch: list[Key] = []
    size = 0
    for key in keys:
        if batch and (len(batch) >= BATCH_KEYS or size + lengths.get(key, 0) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += lengths.get(key, 0)
    if batch:
        yield batch
