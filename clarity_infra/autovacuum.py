"""Has autovacuum let go of a database that is to be dropped, where the admin may not end its workers.

The PostgreSQL plugin ends every process in the database first (`resource_postgresql_database.go`, terminateBConnections). Autovacuum's
workers belong to nobody, so an admin that is no superuser is refused (seen on 15.18 and 18.6), and the database, which was forbidden
connections just before, stays behind. Tables that were just filled have a worker at them for minutes.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from clarity_infra.move.model import Progress
from clarity_infra.move.names import quoted
from clarity_infra.move.queries import query

# Seconds. A worker lets go of a table when somebody has waited for it for a deadlock_timeout (1 s by default), and goes on to the next.
PATIENCE = 60.0
_LOCK_TIMEOUT = "5s"
_LOOK = 0.2


def let_go(database: Endpoint, progress: Progress, *, patience: float = PATIENCE) -> None:
    """Interrupts autovacuum in the database table by table until no worker is left in it.

    Nothing is changed: what was interrupted is done again at its next turn, a minute later by default. A superuser can end workers, so
    that nothing is done for one, nor where the database cannot be connected to. Raises ClarityError where a worker is left after
    `patience` seconds.
    """
    try:
        session = database.connect(purpose="settings")
    except ClarityError:
        return  # gone already, or in a way of which the drop will tell
    with session as connection:
        if _may_end_workers(connection):
            return
        until, told = time.monotonic() + patience, False
        while workers := connection.execute(query("autovacuum_workers")).fetchall():
            if time.monotonic() > until:
                raise ClarityError(
                    f"Autovacuum is at work in {database.label()} and does not let go, and {quoted(database.user)} may not end it.",
                    unchanged="The database was not dropped; what was done before it on the way back is done.",
                    remedy="run `pulumi destroy` again when it has ended: it goes on from here.",
                )
            if not told:
                progress("autovacuum is at work in the database that is to be dropped: it is asked to let go")
                told = True
            tables = [(schema, table) for _, held in workers for schema, table in held or []]
            for schema, table in tables:
                _wait_for(connection, schema, table)
            if not tables:
                time.sleep(_LOOK)


def _may_end_workers(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    return row is not None and bool(row[0])


def _wait_for(connection: psycopg.Connection[Any], schema: str, table: str) -> None:
    """Asks for a lock that the worker's is in the way of; who waits so has the server interrupt the worker."""
    with contextlib.suppress(psycopg.Error), connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        connection.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.Identifier(schema, table)))
