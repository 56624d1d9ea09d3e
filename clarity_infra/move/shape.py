"""How does a table look on both sides? What rows can be compared by, and written with, where migrations made the sides differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import psycopg

from clarity_infra.errors import Refused
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.queries import query


@dataclasses.dataclass(frozen=True)
class Shape:
    """One table as both sides have it. `compared` are the columns both have; `written` those a row is written with.

    `sender` and `receiver` give the type of each column there.
    """

    table: Table
    compared: tuple[str, ...]
    written: tuple[str, ...]
    always: frozenset[str]
    sender: Mapping[str, str]
    receiver: Mapping[str, str]

    @property
    def name(self) -> Name:
        """The table's name, the same on both sides."""
        return self.table.name

    @property
    def given(self) -> tuple[str, ...]:
        """The columns of the receiver that only the server gives a value, GENERATED ALWAYS AS IDENTITY, but for those of the key."""
        return tuple(name for name in self.written if name in self.always and name not in self.key)

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
        compared=both,
        written=tuple(name for name in both if not receiver[name].generated),
        always=frozenset(name for name in both if receiver[name].identity == "a"),
        sender={name: sender[name].type for name in both},
        receiver={name: receiver[name].type for name in both},
    )


def _not_alike(table: Table, reason: str) -> Refused:
    return Refused(
        f"Table {table.name} is not the same on both sides: {reason}.",
        unchanged="Nothing was changed.",
        remedy="see which migration changed it; rows cannot be carried from one form to the other.",
    )
