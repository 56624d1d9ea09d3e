"""What was done so far, when and by which run? An append-only journal kept in the databases themselves, per stack.

Pulumi's state may be lost or stale after a crash; the journal is in the same server as the data it speaks of, and an entry can be
part of the transaction it describes. It lives, with everything else of ours, in schema `clarity_infra`, or, where the admin may
not create a schema, in a schema where it may create tables; every object of ours there has a name that starts with `clarity_infra`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from clarity_infra.errors import Refused
from clarity_infra.move.names import quoted

SCHEMA = "clarity_infra"
TABLE = "clarity_infra_journal"
# Triggers, functions, sequences and tables of ours on a source or target start with this; no copy or comparison counts them.
PREFIX = "clarity_infra"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One step that was taken: `at` is the server's clock, `facts` whatever the step recorded."""

    step: str
    run: uuid.UUID
    at: datetime.datetime
    facts: dict[str, Any]


def home(connection: psycopg.Connection, wanted: tuple[str, ...] = ("public",)) -> str | None:
    """The schema that holds, or could hold, our objects in this database; None where the admin may create nowhere.

    An existing journal decides; then a schema of our own where the admin may create one; then the first of `wanted`.
    """
    row = connection.execute(
        "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = %s AND c.relkind = 'r' ORDER BY n.nspname <> %s, n.nspname LIMIT 1",
        (TABLE, SCHEMA),
    ).fetchone()
    if row:
        return str(row[0])
    row = connection.execute(
        "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')"
        " OR COALESCE((SELECT pg_catalog.has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace WHERE nspname = %s), false)",
        (SCHEMA,),
    ).fetchone()
    if row and row[0]:
        return SCHEMA
    row = connection.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY(%s) AND pg_catalog.has_schema_privilege(oid, 'CREATE')"
        " ORDER BY pg_catalog.array_position(%s, nspname::text) LIMIT 1",
        (list(wanted), list(wanted)),
    ).fetchone()
    return str(row[0]) if row else None


class Journal:
    """The journal of one stack in one database. Needs no instance state beyond the connection; every call asks the server."""

    def __init__(self, connection: psycopg.Connection, stack: str, *, wanted: tuple[str, ...] = ("public",)) -> None:
        self.connection, self.stack, self._wanted = connection, stack, wanted

    def open(self) -> Journal:
        """Creates schema and table where they are missing; raises Refused, with the statement to ask for, where that is not allowed."""
        schema = home(self.connection, self._wanted)
        if schema is None:
            raise Refused(
                f'The admin may create neither a schema nor a table in database "{self.connection.info.dbname}".',
                unchanged="Nothing was changed.",
                remedy=f"ask for: GRANT CREATE ON DATABASE {quoted(self.connection.info.dbname)} TO {quoted(self.connection.info.user)}",
            )
        with self.connection.transaction():
            if schema == SCHEMA:
                self.connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
            self.connection.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {} (stack text NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, run uuid NOT NULL,"
                    " at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), step text NOT NULL, facts jsonb NOT NULL,"
                    " PRIMARY KEY (stack, id))"
                ).format(sql.Identifier(schema, TABLE))
            )
            self.connection.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(sql.Identifier(schema, TABLE)))
        return self

    def _table(self) -> sql.Identifier | None:
        row = self.connection.execute(
            "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relname = %s AND c.relkind = 'r' ORDER BY n.nspname <> %s, n.nspname LIMIT 1",
            (TABLE, SCHEMA),
        ).fetchone()
        return sql.Identifier(str(row[0]), TABLE) if row else None

    def append(self, step: str, run: uuid.UUID, **facts: Any) -> None:
        """Records a step, in the connection's transaction where one is open; opens a journal that somebody dropped. Raises as `open`."""
        table = self._table() or self.open()._table()
        assert table is not None
        self.connection.execute(
            sql.SQL("INSERT INTO {} (stack, run, step, facts) VALUES (%s, %s, %s, %s)").format(table),
            (self.stack, run, step, Jsonb(facts)),
        )

    def entries(self, *steps: str) -> list[Entry]:
        """All entries, oldest first, of the named steps or of every step; none where there is no journal."""
        table = self._table()
        if table is None:
            return []
        rows = self.connection.execute(
            sql.SQL("SELECT step, run, at, facts FROM {} WHERE stack = %s AND (%s OR step = ANY(%s)) ORDER BY id").format(table),
            (self.stack, not steps, list(steps)),
        ).fetchall()
        return [Entry(step, run, at, facts) for step, run, at, facts in rows]

    def last(self, *steps: str) -> Entry | None:
        """The newest entry of the named steps, or of any."""
        found = self.entries(*steps)
        return found[-1] if found else None

    def stacks(self) -> list[str]:
        """Every stack that has entries in this database."""
        table = self._table()
        if table is None:
            return []
        return [str(row[0]) for row in self.connection.execute(sql.SQL("SELECT DISTINCT stack FROM {} ORDER BY 1").format(table))]

    def forget(self) -> None:
        """Removes this stack's entries, and the table and schema with them where no other stack has any."""
        table = self._table()
        if table is None:
            return
        with self.connection.transaction():
            self.connection.execute(sql.SQL("DELETE FROM {} WHERE stack = %s").format(table), (self.stack,))
            if self.connection.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(table)).fetchone():
                return
            self.connection.execute(sql.SQL("DROP TABLE {}").format(table))
        drop_empty_schema(self.connection)


def drop_empty_schema(connection: psycopg.Connection) -> None:
    """Drops our schema where nothing is left in it; a schema that others put things into stays."""
    with contextlib.suppress(psycopg.errors.DependentObjectsStillExist, psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} RESTRICT").format(sql.Identifier(SCHEMA)))


@contextlib.contextmanager
def exclusive(connection: psycopg.Connection, stack: str) -> Iterator[None]:
    """Holds the stack's advisory lock of this database, so that two runs, or an orphan of a killed one, never work at once.

    The lock belongs to the session: it goes when the process dies. Raises Refused where another session has it.
    """
    key = f"clarity_infra {stack}"
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))", (key,)).fetchone()
    if not (row and row[0]):
        raise Refused(
            f'Another run of stack {stack} is at work in database "{connection.info.dbname}".',
            unchanged="This run changed nothing.",
            remedy="wait for it to end (a killed engine's provider goes on to its end), then run the same command again.",
        )
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.execute("SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended(%s, 0))", (key,))
