"""How does a table look on both sides? What rows can be compared by, and written with, where migrations made the sides differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import psycopg

from clarity_infra.errors import Refused
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name, settled
from clarity_infra.move.queries import query


@dataclasses.dataclass(frozen=True)
class Shape:
    """One table as both sides have it. `compared` are the columns both have, but for those that the receiver computes in another way;
    `written` those a row is written with.

    `sender` and `receiver` give the type of each column there, of the columns both have. `operators` gives the operator by which values of
    a type are equal, for types that are compared by an extension's: nothing but what the server itself has is in reach of our sessions.
    """

    table: Table
    compared: tuple[str, ...]
    written: tuple[str, ...]
    always: frozenset[str]
    sender: Mapping[str, str]
    receiver: Mapping[str, str]
    operators: Mapping[str, str]

    @property
    def name(self) -> Name:
        """The table's name, the same on both sides."""
        return self.table.name

    @property
    def given(self) -> tuple[str, ...]:
        """The columns of the receiver that only the server gives a value, GENERATED ALWAYS AS IDENTITY, but for those of the key."""
        return tuple(name for name in self.written if name in self.always and name not in self.key)

    @property
    def retyped(self) -> frozenset[str]:
        """The columns that have another type on the other side: what they hold is compared, and written, as text."""
        return frozenset(name for name, type_text in self.sender.items() if self.receiver[name] != type_text)

    @property
    def as_compared(self) -> Table:
        """The table by the columns that are compared; those that are `retyped` are texts."""
        columns = [
            dataclasses.replace(column, generated=column.name not in self.written)
            for column in self.table.columns
            if column.name in {*self.compared, *self.key}
        ]
        columns = [dataclasses.replace(column, type="text", enum=False) if column.name in self.retyped else column for column in columns]
        return dataclasses.replace(self.table, columns=tuple(columns))

    @property
    def told_by(self) -> tuple[str, ...]:
        """The columns that stand for a row: those of the key, or all that are written where there is none."""
        return self.key or self.written

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the key; empty for a table without one."""
        return self.table.key or ()


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as one side's catalog has it."""

    name: str
    type: str
    generated: bool
    identity: str
    not_null: bool
    default: str | None
    equal: str


def columns(connection: psycopg.Connection, tables: Iterable[Name]) -> dict[Name, tuple[Column, ...]]:
    """The columns of the tables that exist in this database."""
    found: dict[Name, list[Column]] = {}
    for schema, table, *facts in connection.execute(query("carry_columns"), listed(tables)).fetchall():
        columns_of = found.setdefault(Name(schema, table), [])
        if facts[0] is not None:
            columns_of.append(Column(*facts))
    return {name: tuple(facts) for name, facts in found.items()}


def listed(tables: Iterable[Name]) -> dict[str, list[str]]:
    """The tables as the parameters of a query: arrays of equal length."""
    names = list(tables)
    return {"schemas": [name.schema for name in names], "names": [name.name for name in names]}


def shapes(sender: psycopg.Connection, receiver: psycopg.Connection, tables: Sequence[Table]) -> dict[Name, Shape]:
    """How each table with rows of its own looks on both sides; columns that one side alone has are left out.

    Raises Refused for a table, or a column of its key, that a side does not have.
    """
    with_rows = [table for table in tables if table.kind == "r"]
    here = columns(sender, [table.name for table in with_rows])
    there = columns(receiver, [table.name for table in with_rows])
    return {table.name: _shape(table, here.get(table.name), there.get(table.name)) for table in with_rows}


def _shape(table: Table, here: tuple[Column, ...] | None, there: tuple[Column, ...] | None) -> Shape:
    if here is None or there is None:
        raise _not_alike(table, "one side does not have it")
    sender, receiver = {column.name: column for column in here}, {column.name: column for column in there}
    both = tuple(name for name in table.column_names if name in sender and name in receiver)
    missing = [name for name in (table.key or ()) if name not in both]
    if missing:
        raise _not_alike(table, f"its key column {missing[0]} is gone")
    return Shape(
        table=table,
        compared=tuple(name for name in both if not _computed_otherwise(sender[name], receiver[name])),
        written=tuple(name for name in both if not receiver[name].generated),
        always=frozenset(name for name in both if receiver[name].identity == "a"),
        sender={name: sender[name].type for name in both},
        receiver={name: receiver[name].type for name in both},
        operators={column.type: column.equal for column in (*here, *there) if column.equal != "="},
    )


def _computed_otherwise(sender: Column, receiver: Column) -> bool:
    return receiver.generated and (not sender.generated or settled(sender.default or "") != settled(receiver.default or ""))


def _not_alike(table: Table, reason: str) -> Refused:
    return Refused(
        f"Table {table.name} is not the same on both sides: {reason}.",
        unchanged="Nothing was changed.",
        remedy="take back what the migration did to it there (a name can be given again; a table that was dropped can be made again, without"
        " its rows, which then go from the other side too), then run the same command again.",
    )
