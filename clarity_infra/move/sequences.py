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


@dataclasses.dataclass(frozen=True)
class State:
    """What a sequence gives next: `last_value` itself where `is_called` is false, otherwise the value after it."""

    last_value: int
    is_called: bool


def read_sequences(connection: psycopg.Connection[Any], sequences: Iterable[Sequence]) -> dict[Name, State]:
    """The state of each sequence, as it is now, in or out of a transaction."""
    return _states(connection, (sequence.name for sequence in sequences))


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
