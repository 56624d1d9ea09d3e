"""Which values of the target has the source no place for? Later migrations may have made columns, tables and enum labels.

Nothing to carry is a NULL, a value equal to its column's constant default, and the value that rows older than the column
hold. Everything else in such a place would be lost by going back, and is listed. So is a row that a constraint of the source keeps out
and one of the target no longer does: an empty value, one that is too long or too large, and one that shares its key with another row.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.owners import acting_as, owners
from clarity_infra.move.plan import Key, absent, value_of
from clarity_infra.move.queries import query
from clarity_infra.move.shape import Shape
from clarity_infra.texts import shown

# A default that is one constant, as pg_get_expr prints it: a literal with casts, a number, a truth value.
_CONSTANT = re.compile(r"""^\(?(?:'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false|NULL)\)?(?:::[\w\s."\[\](),]+)?$""")

# How many keys of each place are named.
NAMED = 10


@dataclasses.dataclass(frozen=True)
class NoPlace:
    """Rows of a target's table whose values in `what` (a column, an enum label, the table itself) the source cannot hold.

    `whole_row` tells that the row cannot be carried at all, not only one value of it; `nameless` that its key does not tell which row of
    the source it is. `keys` are the first few.
    """

    table: Name
    what: str
    rows: int
    keys: tuple[str, ...]
    whole_row: bool
    condition: sql.Composable = dataclasses.field(repr=False, compare=False)
    nameless: bool = False

    def __str__(self) -> str:
        more = ", ..." if self.rows > len(self.keys) else ""
        return f"{self.table}: {self.rows} row(s) with {self.what}" + (f" ({'; '.join(self.keys)}{more})" if self.keys else "")


@dataclasses.dataclass(frozen=True)
class _Place:
    """One column of one side."""

    column: str
    type: str
    generated: bool
    not_null: bool
    default: str | None
    older: str | None
    is_array: bool
    labels: list[str]


def without_place(
    source: psycopg.Connection[Any], target: psycopg.Connection[Any], tables: Iterable[Table], new_tables: Iterable[Name]
) -> list[NoPlace]:
    """Everything in the target that has no place in the source; reads only. `new_tables` are those the source does not have."""
    moved = [table for table in tables if table.kind == "r"]
    here = _places(source, [table.name for table in moved])
    there = _places(target, [table.name for table in moved])
    found: list[NoPlace] = []
    for table in moved:
        known = {place.column: place for place in here.get(table.name, ())}
        places = there.get(table.name, ())
        # A key that lost a column there tells no rows apart: what is to be done about that, `shapes` says.
        key = table.key if table.key and {*table.key} <= {place.column for place in places} else ()
        for place in places:
            if place.generated:
                continue
            for condition in _beyond(place, known.get(place.column)):
                only_value, nameless = place.column not in known, place.column in key
                found += _counted(target, table.name, key, condition, only_value=only_value, nameless=nameless)
        if key and not _identified(target, table):
            found += _counted(target, table.name, key, _same_key(table.name, key), nameless=True)
    new = list(new_tables)
    for name, owner in owners(target, new).items():
        with target.transaction(), acting_as(target, owner):
            found += _counted(target, name, (), ("a table the source does not have", sql.SQL("true")))
    return found


def _places(connection: psycopg.Connection[Any], names: list[Name]) -> Mapping[Name, list[_Place]]:
    found: dict[Name, list[_Place]] = {}
    listed = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    for schema, table, *facts in connection.execute(query("back_places"), listed).fetchall():
        found.setdefault(Name(schema, table), []).append(_Place(*facts))
    return found


def _beyond(place: _Place, known: _Place | None) -> list[tuple[str, sql.Composable]]:
    """Descriptions and conditions on `t` for the values of this column that the source cannot hold; none where it holds all."""
    column = sql.Identifier("t", place.column)
    if known is None:
        return [(f"a value in column {place.column}, which the source does not have", _not_default(place, column))]
    if known.generated:
        return []
    found: list[tuple[str, sql.Composable]] = []
    extra = [label for label in place.labels if label not in known.labels] if known.labels else []
    if extra:
        condition = sql.SQL("{}::text[] && {}::text[]" if place.is_array else "{}::text = ANY ({}::text[])")
        what = f"a label of {place.column} that the source does not know ({', '.join(extra[:5])})"
        found.append((what, condition.format(column, sql.Literal(extra))))
    if known.not_null and not place.not_null:
        found.append((f"no value in column {place.column}, which the source wants", sql.SQL("{} IS NULL").format(column)))
    if known.type == place.type:
        return found
    if length := _LENGTH.match(known.type):
        too_long = sql.SQL("pg_catalog.length({}::text) > {}").format(column, sql.Literal(int(length[1])))
        found.append((f"a value in column {place.column} that is too long for the source's {known.type}", too_long))
    if known.type in _BYTES and place.type in _BYTES:
        limit = 2 ** (8 * _BYTES[known.type] - 1)
        too_large = sql.SQL("{} NOT BETWEEN {} AND {}").format(column, sql.Literal(-limit), sql.Literal(limit - 1))
        found.append((f"a value in column {place.column} that is too large for the source's {known.type}", too_large))
    return found


_LENGTH = re.compile(r"character(?: varying)?\((\d+)\)$")
_BYTES = {"smallint": 2, "integer": 4, "bigint": 8}


def _identified(target: psycopg.Connection[Any], table: Table) -> bool:
    """Whether the target itself sees to it that no two rows have the same key."""
    facts = {"schema": table.name.schema, "table": table.name.name, "columns": list(table.key or ())}
    return bool(target.execute(query("back_identified"), facts).fetchall())


def _same_key(name: Name, key: tuple[str, ...]) -> tuple[str, sql.Composable]:
    """Rows that are not the only one with their key, by which the source tells rows apart."""
    columns, others = (sql.SQL(", ").join(sql.Identifier(of, column) for column in key) for of in ("t", "o"))
    condition = sql.SQL("({}) IN (SELECT {} FROM ONLY {} AS o GROUP BY {} HAVING pg_catalog.count(*) > 1)")
    return f"the same {', '.join(key)} as another", condition.format(columns, others, name.identifier(), others)


def _not_default(place: _Place, column: sql.Identifier) -> sql.Composable:
    kind = sql.SQL(place.type)  # from format_type, quoted by the server
    parts: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(column)]
    if place.default is not None and _CONSTANT.match(place.default):
        constant = sql.SQL(place.default)  # from pg_get_expr, deparsed by the server
        parts.append(sql.SQL("{}::text IS DISTINCT FROM ({})::{}::text").format(column, constant, kind))
    if place.older is not None:
        # attmissingval is an array of one element, printed as the server prints arrays.
        older = sql.SQL("({}::text::{}[])[1]").format(sql.Literal(place.older), kind)
        parts.append(sql.SQL("{}::text IS DISTINCT FROM {}::text").format(column, older))
    return sql.SQL(" AND ").join(parts)


def _counted(
    target: psycopg.Connection[Any],
    name: Name,
    key: tuple[str, ...],
    beyond: tuple[str, sql.Composable],
    *,
    only_value: bool = False,
    nameless: bool = False,
) -> list[NoPlace]:
    what, condition = beyond
    row = target.execute(sql.SQL("SELECT pg_catalog.count(*) FROM ONLY {} AS t WHERE {}").format(name.identifier(), condition)).fetchone()
    count = int(row[0]) if row else 0
    if not count:
        return []
    keys: tuple[str, ...] = ()
    if key:
        listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier("t", column)) for column in key)
        rows = target.execute(
            sql.SQL("SELECT {} FROM ONLY {} AS t WHERE {} ORDER BY {} LIMIT {}").format(
                listed, name.identifier(), condition, listed, sql.Literal(NAMED)
            )
        ).fetchall()
        keys = tuple(", ".join(f"{column}={shown(part)}" for column, part in zip(key, found, strict=True)) for found in rows)
    return [NoPlace(name, what, count, keys, not only_value, condition, nameless)]


def rows_without_place(
    target: psycopg.Connection[Any],
    source: psycopg.Connection[Any],
    shaped: Mapping[Name, Shape],
    losses: Iterable[NoPlace],
) -> dict[Name, frozenset[Key]]:
    """The keys of the rows that cannot be carried at all, and of those that refer to a row the source then does not have."""
    found: dict[Name, frozenset[Key]] = {}
    for loss in losses:
        shape = shaped.get(loss.table)
        if shape is not None and loss.whole_row:
            rows = target.execute(
                sql.SQL("SELECT {} FROM ONLY {} AS t WHERE {}").format(_key_of(shape), loss.table.identifier(), loss.condition)
            ).fetchall()
            found[loss.table] = found.get(loss.table, frozenset()) | frozenset(tuple(row) for row in rows)
    references = _references(target, shaped)
    while True:
        more = dict(found)
        for reference in references:
            missing = _not_there(source, shaped, reference.parent, more.get(reference.parent, frozenset()))
            if missing:
                children = _referring(target, shaped, reference, missing)
                more[reference.child] = more.get(reference.child, frozenset()) | children
        if more == found:
            return found
        found = more


@dataclasses.dataclass(frozen=True)
class _Reference:
    """A foreign key."""

    child: Name
    parent: Name
    child_columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    operators: tuple[str, ...]


def _references(target: psycopg.Connection[Any], shaped: Mapping[Name, Shape]) -> list[_Reference]:
    listed = {"schemas": [name.schema for name in shaped], "names": [name.name for name in shaped]}
    rows = target.execute(query("back_references"), listed).fetchall()
    return [
        _Reference(Name(schema, table), Name(parent_schema, parent), *map(tuple, facts))
        for schema, table, parent_schema, parent, *facts in rows
        if Name(parent_schema, parent) in shaped
    ]


def _key_of(shape: Shape) -> sql.Composed:
    """A row `t` of the sender, the target, as a key."""
    return sql.SQL(", ").join(sql.SQL("{}::text").format(value_of(shape, column, shape.sender, sql.Identifier)) for column in shape.told_by)


def _not_there(source: psycopg.Connection[Any], shaped: Mapping[Name, Shape], parent: Name, keys: frozenset[Key]) -> list[Key]:
    """The given-up rows that the source does not have in an older form either."""
    shape = shaped[parent]
    return [] if not keys or not shape.key else absent(source, shape, sorted(keys, key=str))


def _referring(target: psycopg.Connection[Any], shaped: Mapping[Name, Shape], reference: _Reference, parents: list[Key]) -> frozenset[Key]:
    parent, child = shaped[reference.parent], shaped[reference.child]
    joined = sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(sql.Identifier("p", referred), sql.SQL(operator), sql.Identifier("t", column))
        for column, referred, operator in zip(reference.child_columns, reference.parent_columns, reference.operators, strict=True)
    )
    wanted = sql.SQL(", ").join(sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, key))) for key in parents)
    same = sql.SQL(" AND ").join(
        sql.SQL("{}::text = {}").format(sql.Identifier("p", column), sql.Identifier("w", f"k{number}"))
        for number, column in enumerate(parent.key)
    )
    rows = target.execute(
        sql.SQL("SELECT {} FROM ONLY {} AS t JOIN {} AS p ON {} JOIN (VALUES {}) AS w ({}) ON {}").format(
            _key_of(child),
            reference.child.identifier(),
            reference.parent.identifier(),
            joined,
            wanted,
            sql.SQL(", ").join(sql.Identifier(f"k{number}") for number, _ in enumerate(parent.key)),
            same,
        )
    ).fetchall()
    return frozenset(tuple(row) for row in rows)
