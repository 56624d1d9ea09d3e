"""As whom may a table be altered? As its owner, whose role is taken where the session has not its privileges already."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import sql

from clarity_infra.errors import ClarityError
from clarity_infra.move.names import Name
from clarity_infra.move.queries import query

Thing = TypeVar("Thing", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Owner:
    """The owner of a table; `inherited` tells that the session acts with its privileges without taking the role."""

    role: str
    inherited: bool


def owners(connection: psycopg.Connection, tables: Iterable[Name]) -> dict[Name, Owner]:
    """The owner of each table that exists; one that does not is not in the answer."""
    return {name: owner for name, owner, _ in _look(connection, tables)}


def oids(connection: psycopg.Connection, tables: Iterable[Name]) -> dict[Name, int]:
    """The number this database knows each table by; one that does not exist is not in the answer."""
    return {name: oid for name, _, oid in _look(connection, tables)}


def _look(connection: psycopg.Connection, tables: Iterable[Name]) -> list[tuple[Name, Owner, int]]:
    names = list(tables)
    listed = {"schemas": [name.schema for name in names], "names": [name.name for name in names]}
    rows = connection.execute(query("owners_of_tables"), listed)
    return [(Name(schema, name), Owner(role, inherited), oid) for schema, name, role, inherited, oid in rows]


def every_owner(connection: psycopg.Connection, names: Sequence[Name]) -> dict[Name, Owner]:
    """`owners` of tables that must all be there; raises ClarityError that names those which are gone."""
    found = owners(connection, names)
    gone = [str(name) for name in names if name not in found]
    if gone:
        raise ClarityError(
            f'Not in database "{connection.info.dbname}": {", ".join(gone)}.',
            unchanged="Nothing was changed.",
            remedy="correct `tables`, or raise copyRevision to make the copy afresh.",
        )
    return found


def by_owner(owner_of: Mapping[Thing, Owner]) -> dict[Owner, list[Thing]]:
    """The things in as few groups as can be altered at once: all whose owner's privileges the session has are one."""
    groups: dict[Owner, list[Thing]] = {}
    first = next((owner for owner in owner_of.values() if owner.inherited), None)
    for thing, owner in owner_of.items():
        groups.setdefault(first if first is not None and owner.inherited else owner, []).append(thing)
    return groups


@contextmanager
def acting_as(connection: psycopg.Connection, owner: Owner) -> Iterator[None]:
    """Acts as `owner` inside a transaction where that is needed; the role is given back at the end, or with the transaction."""
    if owner.inherited:
        yield
        return
    row = connection.execute("SELECT current_user").fetchone()
    before = str(row[0]) if row else ""
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(owner.role)))
    yield
    connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(before)))
