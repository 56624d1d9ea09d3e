"""Where do the sequences stand? Reads and carries last value and "was it called", exactly; never `max(id)`.

A sequence is not part of any snapshot: read it after the rows (then it is at least where they need it) or under the fence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.move.model import Sequence
from clarity_infra.move.names import Name
from clarity_infra.move.owners import acting_as, owners
from clarity_infra.move.queries import query


@dataclasses.dataclass(frozen=True)
class State:
    """What a sequence gives next: `last_value` itself where `is_called` is false, otherwise the value after it."""

    last_value: int
    is_called: bool


def read_sequences(connection: psycopg.Connection[Any], sequences: Iterable[Sequence]) -> dict[Name, State]:
    """The state of each sequence, as it is now, in or out of a transaction."""
    return _states(connection, (sequence.name for sequence in sequences))


def sequences_of_other(connection: psycopg.Connection[Any], sequences: Iterable[Sequence]) -> dict[Name, State]:
    """How far the other side's sequences are along in this database, whose migrations may have renamed, replaced or dropped them.

    Where several give out values of one column, the furthest counts. A sequence that has nothing here is not in the answer.
    """
    counterparts = _counterparts(connection, sequences)
    states = _states(connection, {here for _, here, _ in counterparts})
    found: dict[Name, State] = {}
    for other, here, ascending in counterparts:
        choose = max if ascending else min
        found[other] = choose(found.get(other, states[here]), states[here], key=lambda state: state.last_value)
    return found


def ahead(connection: psycopg.Connection[Any], sequences: Iterable[Sequence], values: Mapping[Name, State]) -> dict[Name, State]:
    """Those of the other side's `values` that have come further than what gives out the values here."""
    counterparts = _counterparts(connection, sequences)
    states = _states(connection, {here for _, here, _ in counterparts})

    def further(a: State, b: State, ascending: bool) -> bool:
        return (
            (a.last_value, a.is_called) > (b.last_value, b.is_called)
            if ascending
            else (-a.last_value, a.is_called) > (-b.last_value, b.is_called)
        )

    return {here: values[other] for other, here, ascending in counterparts if further(values[other], states[here], ascending)}


def for_here(connection: psycopg.Connection[Any], sequences: Iterable[Sequence], values: Mapping[Name, State]) -> dict[Name, State]:
    """Where whatever gives out the values here has to stand, in a database that may have been migrated: as the other side's sequences."""
    return {here: values[other] for other, here, _ in _counterparts(connection, sequences)}


def _counterparts(connection: psycopg.Connection[Any], sequences: Iterable[Sequence]) -> list[tuple[Name, Name, bool]]:
    """The other side's sequences with those of this database for the same values, and whether these go upwards."""
    listed = list(sequences)
    rows = connection.execute(
        query("sequences_of_other"),
        {
            "schemas": [sequence.name.schema for sequence in listed],
            "names": [sequence.name.name for sequence in listed],
            "table_schemas": [sequence.table.schema if sequence.table else None for sequence in listed],
            "tables": [sequence.table.name if sequence.table else None for sequence in listed],
            "columns": [sequence.column for sequence in listed],
        },
    ).fetchall()
    return [(Name(schema, name), Name(here_schema, here), ascending) for schema, name, here_schema, here, ascending in rows]


def reach_rows(connection: psycopg.Connection[Any], sequences: Iterable[Sequence]) -> None:
    """Takes each sequence that a column owns past the largest value the column holds."""
    for sequence in sequences:
        if sequence.table is None or sequence.column is None:
            continue
        row = connection.execute(
            sql.SQL(
                "SELECT m.value::pg_catalog.int8 FROM (SELECT pg_catalog.max({}) AS value FROM {}) AS m, {} AS s WHERE m.value > s.last_value"
            ).format(sql.Identifier(sequence.column), sequence.table.identifier(), sequence.name.identifier())
        ).fetchone()
        if row:
            set_sequences(connection, {sequence.name: State(int(row[0]), True)})


def own_sequences(connection: psycopg.Connection[Any]) -> dict[Name, State]:
    """The state of every sequence of this database that belongs to the role the session acts as."""
    rows = connection.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND pg_catalog.pg_get_userbyid(c.relowner) = current_user"
    ).fetchall()
    return _states(connection, [Name(schema, name) for schema, name in rows])


def _states(connection: psycopg.Connection[Any], names: Iterable[Name]) -> dict[Name, State]:
    states = {}
    for name in names:
        row = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(name.identifier())).fetchone()
        assert row is not None
        states[name] = State(int(row[0]), bool(row[1]))
    return states


def set_sequences(connection: psycopg.Connection[Any], values: Mapping[Name, State]) -> None:
    """Puts each sequence where `values` has it, as its owner. A change of a sequence is never undone by a rollback."""
    owner_of = owners(connection, values)
    for name, state in values.items():
        with acting_as(connection, owner_of[name]):
            connection.execute(
                "SELECT pg_catalog.setval(%s::regclass, %s, %s)",
                (name.identifier().as_string(connection), state.last_value, state.is_called),
            )
