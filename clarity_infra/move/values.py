"""What do the rows hold that the target would not take? Looks at the source's rows, for as long as a preview may take, and changes nothing.

No catalog tells of these. What is not found in time fails while the rows are copied, with the table's name and nothing lost.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.move.model import Blocker, MoveSet
from clarity_infra.move.queries import query

# How long the rows are looked at in all, in seconds.
PATIENCE = 4.0


def check_values(source: psycopg.Connection[Any], move_set: MoveSet) -> list[Blocker]:
    """Checks that rows have come to break, and values that are the names of objects which do not move."""
    until = time.monotonic() + PATIENCE
    tables = {"tables": [table.oid for table in move_set.tables]}
    return [*_broken_checks(source, tables, until), *_missing_names(source, tables, move_set, until)]


def _broken_checks(source: psycopg.Connection[Any], tables: dict[str, list[int]], until: float) -> list[Blocker]:
    blockers = []
    for schema, table, thing, condition, again in source.execute(query("values_checks"), tables).fetchall():
        # The condition is the server's own text of it.
        broken = sql.SQL("SELECT 1 FROM ONLY {} WHERE NOT ({}) LIMIT 1").format(sql.Identifier(schema, table), sql.SQL(condition))
        if _rows(source, broken, until):
            blockers.append(
                Blocker(
                    thing,
                    "there are rows that break it today, as it asks for more than the row (the time, a setting): they cannot be loaded",
                    f"{again}, or mend or remove these rows",
                    can_accept=False,
                )
            )
    return blockers


def _missing_names(source: psycopg.Connection[Any], tables: dict[str, list[int]], move_set: MoveSet, until: float) -> list[Blocker]:
    blockers = []
    members = sorted(move_set.objects)
    closure = {"classids": [classid for classid, _ in members], "objids": [objid for _, objid in members]}
    for schema, table, column, thing, array, catalog in source.execute(query("values_names"), tables).fetchall():
        value = sql.Identifier("t", column)
        named = sql.SQL("SELECT DISTINCT v.oid FROM (SELECT {}::pg_catalog.oid FROM ONLY {} AS t) AS v(oid) WHERE v.oid >= 16384").format(
            sql.SQL("pg_catalog.unnest({})").format(value) if array else value, sql.Identifier(schema, table)
        )
        oids = [row[0] for row in _rows(source, named, until)]
        missing = (
            source.execute(query("values_named"), {"named": oids, "catalog": f"pg_catalog.{catalog}", **closure}).fetchall() if oids else []
        )
        if missing:
            what = ", ".join(f"{kind} {identity}" for kind, identity in missing[:3]) + (", ..." if len(missing) > 3 else "")
            on = sql.Identifier(schema, table).as_string(source)
            text = f"ALTER TABLE {on} ALTER COLUMN {sql.Identifier(column).as_string(source)} TYPE text{'[]' if array else ''}"
            blockers.append(
                Blocker(
                    thing,
                    f"its values are names of objects, and the target will not have {what} when the rows are loaded",
                    f"{text}, or move these too, or remove the rows",
                    can_accept=False,
                )
            )
    return blockers


def _rows(source: psycopg.Connection[Any], statement: sql.Composed, until: float) -> list[Any]:
    """The rows of a query; none where it may not be asked, or takes longer than there is time."""
    left = int((until - time.monotonic()) * 1000)
    if left <= 0:
        return []
    try:
        with source.transaction():
            source.execute("SET LOCAL transaction_read_only = on")
            source.execute("SELECT pg_catalog.set_config('statement_timeout', %s, true)", (str(left),))
            rows = source.execute(statement).fetchall()
            source.execute("SET LOCAL statement_timeout = 0")
            return rows
    except psycopg.Error:
        return []
