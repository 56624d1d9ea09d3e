"""To whom does an object belong, and who may use it? Read before the old tables go, given back when they return.

A backup holds neither: it is made by, and restored as, the admin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.move.names import quoted
from clarity_infra.move.owners import Owner, acting_as
from clarity_infra.move.queries import query

_KINDS = {
    "table": (sql.SQL("TABLE"), "pg_catalog.pg_class", sql.SQL("SELECT pg_catalog.to_regclass(%s)::oid")),
    "sequence": (sql.SQL("SEQUENCE"), "pg_catalog.pg_class", sql.SQL("SELECT pg_catalog.to_regclass(%s)::oid")),
    "type": (sql.SQL("TYPE"), "pg_catalog.pg_type", sql.SQL("SELECT pg_catalog.to_regtype(%s)::oid")),
    "routine": (sql.SQL("ROUTINE"), "pg_catalog.pg_proc", sql.SQL("SELECT pg_catalog.to_regprocedure(%s)::oid")),
    "collation": (sql.SQL("COLLATION"), "pg_catalog.pg_collation", sql.SQL("SELECT pg_catalog.to_regcollation(%s)::oid")),
}
# https://www.postgresql.org/docs/current/ddl-priv.html
_PRIVILEGES = {
    word: sql.SQL(word) for word in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN", "USAGE", "EXECUTE")
}

Grant = tuple[str | None, str, str | None, bool]
"""Role (None for everybody), privilege, column (None for the whole object), whether it may be granted on."""


def read_privileges(connection: psycopg.Connection[Any], objects: Iterable[tuple[int, int]]) -> list[dict[str, Any]]:
    """Owner and grants of each of the (catalog, object) pairs that can have them, fit for a journal."""
    return [facts for facts, _ in _read(connection, objects)]


def _read(connection: psycopg.Connection[Any], objects: Iterable[tuple[int, int]]) -> list[tuple[dict[str, Any], Owner]]:
    pairs = sorted(objects)
    rows = connection.execute(query("privileges"), {"classids": [c for c, _ in pairs], "objids": [o for _, o in pairs]}).fetchall()
    return [
        ({"kind": kind, "identity": identity, "owner": owner, "grants": grants}, Owner(owner, inherited))
        for kind, identity, owner, inherited, grants in rows
    ]


def give_back(connection: psycopg.Connection[Any], recorded: Sequence[dict[str, Any]]) -> list[str]:
    """Gives every object that is there its recorded owner and exactly the recorded grants; done already, it changes nothing.

    Returns a line for each owner or grant that could not be given (a role that is gone, say): the rest is given all the same.
    """
    notes: list[str] = []
    # Owned sequences follow their table, so tables come first.
    for wanted in sorted(recorded, key=lambda facts: facts["kind"] == "sequence"):
        there = _now(connection, wanted)
        if there is None:
            continue
        if there[1].role != wanted["owner"]:
            notes += _attempt(connection, there, _owner_statement(there[0], wanted["owner"]), "given to", wanted["owner"])
            there = _now(connection, wanted) or there
        found = there[0]
        now, then = _grants(found), _grants(wanted)
        for grant in sorted(now - then, key=str):
            notes += _attempt(connection, there, _revoke(found, grant), f"taken ({grant[1]}) from", grant[0])
        for grant in sorted(then - now, key=str):
            notes += _attempt(connection, there, _grant(found, grant), f"granted ({grant[1]}) to", grant[0])
    return notes


def _now(connection: psycopg.Connection[Any], recorded: dict[str, Any]) -> tuple[dict[str, Any], Owner] | None:
    """The object as it is; its identity is the server's own text, read afresh."""
    _, catalog, resolve = _KINDS[recorded["kind"]]
    row = connection.execute(resolve, (recorded["identity"],)).fetchone()
    if row is None or row[0] is None:
        return None
    classid = connection.execute("SELECT %s::regclass::oid", (catalog,)).fetchall()[0][0]
    found = _read(connection, [(classid, row[0])])
    return found[0] if found else None


def _grants(facts: dict[str, Any]) -> set[Grant]:
    return {(role, privilege, column, grantable) for role, privilege, column, grantable in facts["grants"]}


def _owner_statement(found: dict[str, Any], owner: str) -> sql.Composed:
    return sql.SQL("ALTER {} {} OWNER TO {}").format(_KINDS[found["kind"]][0], sql.SQL(found["identity"]), sql.Identifier(owner))


def _grant(found: dict[str, Any], grant: Grant) -> sql.Composed:
    role, _, _, grantable = grant
    statement = sql.SQL("GRANT {} TO {}").format(_what(found, grant), _role(role))
    return statement + sql.SQL(" WITH GRANT OPTION") if grantable else statement


def _revoke(found: dict[str, Any], grant: Grant) -> sql.Composed:
    return sql.SQL("REVOKE {} FROM {}").format(_what(found, grant), _role(grant[0]))


def _what(found: dict[str, Any], grant: Grant) -> sql.Composed:
    _, privilege, column, _ = grant
    columns = sql.SQL(" ({})").format(sql.Identifier(column)) if column is not None else sql.SQL("")
    return sql.SQL("{}{} ON {} {}").format(_PRIVILEGES[privilege], columns, _KINDS[found["kind"]][0], sql.SQL(found["identity"]))


def _role(name: str | None) -> sql.Composable:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def _attempt(
    connection: psycopg.Connection[Any], there: tuple[dict[str, Any], Owner], statement: sql.Composed, done: str, role: str | None
) -> list[str]:
    """Runs a statement as the object's owner; a line where the server does not let it."""
    facts, owner = there
    try:
        with connection.transaction(), acting_as(connection, owner):
            connection.execute(statement)
    except psycopg.Error as error:
        whom = "PUBLIC" if role is None else quoted(role)
        return [f"{facts['kind']} {facts['identity']} could not be {done} {whom}: {error.diag.message_primary}"]
    return []
