"""How is a copy taken back? Exactly what it made is dropped, by identity, without CASCADE; anything else in its way stops it.

What a copy makes is recorded in the transaction that makes it, so there is never an object of ours that the journal does not know.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.errors import Refused
from clarity_infra.move import journal
from clarity_infra.move.journal import Entry, Journal
from clarity_infra.move.model import Move, Progress
from clarity_infra.move.queries import query
from clarity_infra.move.rows import session

# Journal steps of a copy, in the target. "copy-made" holds the objects, "migration-made" those that migrations made or renamed since,
# "copied" the evidence.
STARTED, MADE, GREW, COPIED, DISCARDED = "copy-started", "copy-made", "migration-made", "copied", "copy-discarded"

# What the sessions of an attempt that do its work in the target are called.
WORKERS = ("copy rows", "copy structure")

_DROPS = {
    "table": "DROP TABLE",
    "sequence": "DROP SEQUENCE",
    "type": "DROP TYPE",
    "function": "DROP FUNCTION",
    "procedure": "DROP PROCEDURE",
    "aggregate": "DROP AGGREGATE",
    "collation": "DROP COLLATION",
    "operator": "DROP OPERATOR",
    "operator class": "DROP OPERATOR CLASS",
    "operator family": "DROP OPERATOR FAMILY",
    "text search configuration": "DROP TEXT SEARCH CONFIGURATION",
    "text search dictionary": "DROP TEXT SEARCH DICTIONARY",
    "cast": "DROP CAST",
    "extension": "DROP EXTENSION",
    "schema": "DROP SCHEMA",
}


def discard_copy(move: Move, progress: Progress) -> None:
    """Removes what the last copy of this stack made in the target, finished or not. Nothing to remove is fine.

    Raises Refused, with the object's name and nothing dropped, where something else depends on what was made. It does not ask
    whether the target is live: that is for who knows of the cut-over.
    """
    with session(move.target, purpose="discard") as target, journal.exclusive(target, move.stack):
        discard(target, move, progress)


def _end_orphans(target: psycopg.Connection[Any]) -> None:
    """Ends what a killed attempt left at work in the target: its tools are processes of their own and go on without it.

    Whoever holds the stack's lock is the only attempt there is.
    """
    target.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity"
        " WHERE datname = pg_catalog.current_database() AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()"
        " AND application_name = ANY (%s)",
        ([f"clarity-infra {purpose}" for purpose in ("tool", *WORKERS)],),
    )


def last_made(target: psycopg.Connection[Any], stack: str) -> Entry | None:
    """The record of the objects the last copy made, and of what a cut-over's migrations made of it; None where it was discarded."""
    found: Entry | None = None
    for entry in Journal(target, stack).entries(MADE, GREW, DISCARDED):
        if entry.step == GREW and found is not None:
            found = dataclasses.replace(found, facts={**found.facts, "objects": _grown(found, entry)})
        else:
            found = entry if entry.step == MADE else None
    return found


def _grown(made: Entry, later: Entry) -> list[Any]:
    objects = {(classid, objid): name for classid, objid, name in [*made.facts["objects"], *later.facts["objects"]]}
    return [[classid, objid, name] for (classid, objid), name in objects.items()]


def record_grown(target: psycopg.Connection[Any], stack: str, run: uuid.UUID, new: Sequence[tuple[int, int]]) -> None:
    """Records, in the transaction that made them, what migrations made in a copy (`new`) and what of it they gave another name."""
    made = last_made(target, stack)
    before = {(int(classid), int(objid)): name for classid, objid, name in made.facts["objects"]} if made else {}
    objects = [*before, *new]
    rows = target.execute(query("copy_made"), {"classids": [c for c, _ in objects], "objids": [o for _, o in objects]}).fetchall()
    found = [
        [classid, objid, f"{kind} {identity}"] for classid, objid, kind, identity in rows if before.get((classid, objid)) != f"{kind} {identity}"
    ]
    if found:
        Journal(target, stack).append(GREW, run, objects=found)


def discard(target: psycopg.Connection[Any], move: Move, progress: Progress) -> None:
    """`discard_copy` on a session that holds the stack's lock."""
    made = last_made(target, move.stack)
    if made is None:
        return
    _end_orphans(target)
    objects = objects_of(made)
    with target.transaction():
        found = target.execute(query("copy_made"), {"classids": [c for c, _ in objects], "objids": [o for _, o in objects]}).fetchall()
        _refuse_changed(target, made, found)
        as_owner = [(kind, identity) for _, _, kind, identity in found if kind not in ("extension", "schema")]
        target.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(move.owner)))
        tables = [identity for kind, identity in as_owner if kind == "table"]
        try:
            with target.transaction():
                if tables:
                    _drop(target, "table", tables)
                _drop_all(target, [(kind, identity) for kind, identity in as_owner if kind != "table"])
        except Refused:  # a function or type of the set may need a table, and another table it
            for _, statement in ties(target, objects):
                target.execute(statement.encode())
            _drop_all(target, as_owner)
        target.execute("SET LOCAL ROLE NONE")
        _drop_all(target, [(kind, identity) for _, _, kind, identity in found if kind == "extension"])
        schemas = [identity for _, _, kind, identity in found if kind == "schema"]
        target.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(move.owner)))
        _drop_schemas(target, schemas)
        target.execute("SET LOCAL ROLE NONE")
        _drop_schemas(target, schemas)  # that of an extension is the admin's
        Journal(target, move.stack).append(DISCARDED, made.run, objects=len(found))
    if found:
        progress(f"An earlier copy was removed from {move.target.label()} ({len(tables)} tables).")


def ties(connection: psycopg.Connection[Any], objects: Sequence[tuple[int, int]]) -> list[tuple[str, str]]:
    """What ties the tables of these objects to each other and to functions that may need them: (table, statement that lets go).

    A policy that calls a function of the table's own rows, say: neither table nor function can be dropped while it is there.
    """
    rows = connection.execute(query("drop_ties"), {"classids": [c for c, _ in objects], "objids": [o for _, o in objects]}).fetchall()
    return [(str(table), str(statement)) for table, statement in rows]


def objects_of(entry: Entry) -> list[tuple[int, int]]:
    """The (catalog, object) pairs of a record of `last_made`."""
    return [(int(classid), int(objid)) for classid, objid, _ in entry.facts["objects"]]


def _refuse_changed(target: psycopg.Connection[Any], made: Entry, found: list[Any]) -> None:
    """An object that has another name now than when it was made is somebody else's work."""
    recorded = {(int(classid), int(objid)): name for classid, objid, name in made.facts["objects"]}
    changed = [
        f"{kind} {identity} (made as {recorded[classid, objid]})"
        for classid, objid, kind, identity in found
        if recorded[classid, objid] != f"{kind} {identity}"
    ]
    if changed:
        raise Refused(
            f'Database "{target.info.dbname}" holds objects that were renamed since they were copied: {", ".join(changed[:10])}.',
            unchanged="Nothing was changed.",
            remedy="rename them back, or drop them yourself, then run the same command again.",
        )


def _drop(target: psycopg.Connection[Any], kind: str, identities: list[str]) -> None:
    # Identities are the server's own, quoted by it (pg_identify_object): they are SQL, not names.
    statement = f"{_DROPS[kind]} IF EXISTS {', '.join(identities)} RESTRICT"
    try:
        target.execute(statement.encode())
    except psycopg.errors.DependentObjectsStillExist as error:
        raise Refused(
            f"{kind} {identities[0] if len(identities) == 1 else '...'} of the copy cannot be dropped: {error.diag.message_detail}",
            unchanged="Nothing was dropped.",
            remedy="drop what depends on it yourself, then run the same command again.",
        ) from None


def _drop_all(target: psycopg.Connection[Any], objects: list[tuple[str, str]]) -> None:
    """Drops objects that may depend on each other in any order: what cannot go yet is tried again after the others."""
    left = objects
    while left:
        stuck: list[tuple[str, str]] = []
        refusal: Refused | None = None
        for kind, identity in left:
            try:
                with target.transaction():
                    _drop(target, kind, [identity])
            except Refused as error:
                stuck.append((kind, identity))
                refusal = refusal or error  # tables come first, and what is not ours holds one of them
        if len(stuck) == len(left) and refusal is not None:
            raise refusal
        left = stuck


def _drop_schemas(target: psycopg.Connection[Any], schemas: list[str]) -> None:
    """Schemas the copy made go when they are empty; one that others put things into stays."""
    for schema in schemas:
        with contextlib.suppress(Refused, psycopg.errors.InsufficientPrivilege), target.transaction():
            _drop(target, "schema", [schema])
