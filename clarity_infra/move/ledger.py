"""What was in the target when it was opened, although it is written to since? What changed is noted as sums, to be taken off again.

A table's digest is a sum over its rows (see `digest`), so that what writers add to it and take from it can be noted write by write,
without keys: the digest of now, less what was noted, is the digest of the moment the ledger was opened. With it a run that goes on
for a dead one proves the cut-over that the dead one made, whatever was written meanwhile, and for tables without a key as well.

It stands on the target from before anything of the cut-over changes it there (migrations, then the application) until the proof is
made. As with `capture`, a write never fails because of it: what cannot be noted spoils the ledger, which is then no proof. It holds
against accidents, not against the owner of the tables, who may drop it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.move import fence, journal, noting
from clarity_infra.move.digest import Digest, Method, hashed
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.owners import acting_as, owners

TRIGGER_PREFIX = f"{journal.PREFIX}_ledger_"
# Writes noted beyond this are not: about 80 MB. At 300 writes a second it is reached after an hour and a half.
CAP = 2_000_000

# What a function of one table does, by `noting`'s frame: how a row is hashed differs by its columns.
_ROW_WORK = sql.SQL(
    """
  IF pg_catalog.nextval({counter}) <= {cap} THEN
    IF TG_OP <> 'INSERT' THEN
      INSERT INTO {deltas} (tab, rows, first, second) SELECT {table}, -1, -x.first::numeric, -x.second::numeric FROM {old} AS x;
    END IF;
    IF TG_OP <> 'DELETE' THEN
      INSERT INTO {deltas} (tab, rows, first, second) SELECT {table}, 1, x.first, x.second FROM {new} AS x;
    END IF;
  END IF;
"""
)

_TRUNCATE_WORK = sql.SQL(
    """
  INSERT INTO {deltas} (tab, rows, first, second)
  SELECT {table}, -pg_catalog.count(*), -COALESCE(pg_catalog.sum(x.first), 0), -COALESCE(pg_catalog.sum(x.second), 0) FROM {all} AS x;
"""
)

_NOTHING = "BEGIN RETURN NULL; END"


@dataclasses.dataclass(frozen=True)
class Noted:
    """The sum of what was noted of one table."""

    rows: int = 0
    first: int = 0
    second: int = 0

    def taken_off(self, now: Digest) -> Digest:
        """The digest the table had when the ledger was opened."""
        kind, first, second = now.value.split(":")
        return Digest(now.rows - self.rows, f"{kind}:{int(first) - self.first}:{int(second) - self.second}")


def _names(stack: str) -> tuple[str, str, str]:
    tag = fence.tag(stack)
    return TRIGGER_PREFIX + tag, f"{journal.PREFIX}_deltas_{tag}", f"{journal.PREFIX}_delta_{tag}"


def columns(table: Table) -> list[str]:
    """The columns that are noted: what is stored, as generated values follow from it and need not be known to a trigger."""
    return sorted(column.name for column in table.stored)


def put_up(connection: psycopg.Connection[Any], stack: str, tables: Sequence[Table], method: Method) -> None:
    """Puts an empty ledger on tables nobody writes to, out of force. `oid`s are those of this database; autocommit.

    The triggers are altered only by `put_in_force`, which takes no longer than that.
    """
    home = fence.home_of(connection)
    trigger, deltas, counter = _names(stack)
    with connection.transaction():
        for name in (deltas, counter):
            kind = sql.SQL("TABLE" if name == deltas else "SEQUENCE")
            connection.execute(sql.SQL("DROP {} IF EXISTS {}").format(kind, sql.Identifier(home, name)))
        connection.execute(sql.SQL("CREATE SEQUENCE {} AS bigint").format(sql.Identifier(home, counter)))
        connection.execute(
            sql.SQL("CREATE TABLE {} (tab oid NOT NULL, rows bigint NOT NULL, first numeric NOT NULL, second numeric NOT NULL)").format(
                sql.Identifier(home, deltas)
            )
        )
        connection.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(sql.Identifier(home, deltas)))
        found = owners(connection, [table.name for table in tables])
        wanted = {(table.name, name) for table in tables for name in _triggers_of(trigger)}
        standing = {(Name(schema, table), name): state for schema, table, name, state in fence.triggers(connection, trigger)}
        for table in tables:
            owner = found[table.name]
            for name, body in _bodies(connection, home, stack, table, method):
                fence.make_function(connection, home, name, body, noting.PINNED)
                if not owner.inherited:
                    fence.let_use(connection, home, name, owner.role)
            with acting_as(connection, owner):
                for name, row in ((trigger, True), (f"{trigger}_all", False)):
                    if (table.name, name) not in standing:
                        _make_trigger(connection, table, name, sql.Identifier(home, _function(stack, table, whole=not row)), row=row)
                    if standing.get((table.name, name)) != "D":
                        fence.set_trigger_state(connection, table.name, name, "D")
        for (name_of_table, name), state in standing.items():
            if (name_of_table, name) not in wanted and state != "D":
                with acting_as(connection, owners(connection, [name_of_table])[name_of_table]):
                    fence.set_trigger_state(connection, name_of_table, name, "D")


def _triggers_of(trigger: str) -> tuple[str, str]:
    return trigger, f"{trigger}_all"


def _make_trigger(connection: psycopg.Connection[Any], table: Table, name: str, function: sql.Identifier, *, row: bool) -> None:
    when, each = ("AFTER INSERT OR UPDATE OR DELETE", "ROW") if row else ("BEFORE TRUNCATE", "STATEMENT")
    connection.execute(
        sql.SQL("CREATE TRIGGER {} {} ON {} FOR EACH {} EXECUTE FUNCTION {}()").format(
            sql.Identifier(name), sql.SQL(when), table.name.identifier(), sql.SQL(each), function
        )
    )


def _function(stack: str, table: Table, *, whole: bool = False) -> str:
    return f"{_names(stack)[0]}_{table.oid}" + ("_all" if whole else "")


def _bodies(connection: psycopg.Connection[Any], home: str, stack: str, table: Table, method: Method) -> list[tuple[str, str]]:
    """Names and bodies of the functions of one table."""
    _, deltas, counter = _names(stack)
    names = columns(table)

    def row(record: str) -> sql.Composable:
        values = sql.SQL(", ").join(sql.SQL("{}.{} AS {}").format(sql.SQL(record), sql.Identifier(name), sql.Identifier(name)) for name in names)
        return hashed(table, names, method=method, of=sql.SQL("(SELECT {})").format(values))

    parts: dict[str, sql.Composable] = {
        "deltas": sql.Identifier(home, deltas),
        "table": sql.Literal(table.oid),
        "old": row("OLD"),
        "new": row("NEW"),
        "all": hashed(table, names, method=method),
    }

    def body(work: sql.SQL) -> str:
        return noting.body(connection, work, counter=sql.Identifier(home, counter), cap=CAP, **parts)

    return [(_function(stack, table), body(_ROW_WORK)), (_function(stack, table, whole=True), body(_TRUNCATE_WORK))]


def put_in_force(connection: psycopg.Connection[Any], stack: str, tables: Iterable[Name]) -> None:
    """From the commit of the connection's transaction on every write to the tables is noted."""
    names = list(tables)
    found = owners(connection, names)
    for name in names:
        with acting_as(connection, found[name]):
            for trigger in _triggers_of(_names(stack)[0]):
                fence.set_trigger_state(connection, name, trigger, "A")


def read(connection: psycopg.Connection[Any], stack: str, tables: Mapping[Name, int]) -> dict[Name, Noted]:
    """What was noted of each table whose ledger is whole, as this transaction sees it; a table of which it is not is left out.

    `tables` gives the number this database knows each by. In a REPEATABLE READ transaction the notes belong to the very rows it sees.
    """
    trigger, deltas, counter = _names(stack)
    home = journal.home(connection)
    there = {name for schema, name in connection.execute(_OURS, ([deltas, counter],)) if schema == home}
    if home is None or there != {deltas, counter}:
        return {}
    row = connection.execute(sql.SQL("SELECT last_value FROM {}").format(sql.Identifier(home, counter))).fetchone()
    if row is None or int(row[0]) > CAP:
        return {}
    standing: dict[Name, set[str]] = {}
    for schema, table, name, state in fence.triggers(connection, trigger):
        if state == "A":
            standing.setdefault(Name(schema, table), set()).add(name)
    sums = sql.SQL("SELECT tab, pg_catalog.sum(rows), pg_catalog.sum(first), pg_catalog.sum(second) FROM {} GROUP BY tab")
    noted = {
        oid: Noted(int(rows), int(first), int(second))
        for oid, rows, first, second in connection.execute(sums.format(sql.Identifier(home, deltas)))
    }
    return {name: noted.get(oid, Noted()) for name, oid in tables.items() if standing.get(name) == set(_triggers_of(trigger))}


_OURS = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = ANY(%s)"
)


def leftovers(connection: psycopg.Connection[Any], stack: str) -> list[Name]:
    """The tables that still carry a ledger of this stack."""
    return sorted({Name(schema, table) for schema, table, _, _ in fence.triggers(connection, _names(stack)[0])})


def drop(connection: psycopg.Connection[Any], stack: str, *, patience_ms: int) -> list[Name]:
    """Removes the ledger, waiting at most `patience_ms` for each table's users; gives the tables on which it is left.

    What is left does nothing any more: the functions are emptied first, which waits for nobody. The connection is in autocommit mode.
    """
    trigger, deltas, counter = _names(stack)
    home = journal.home(connection)
    if home is None:
        return []
    for (name,) in connection.execute(_FUNCTIONS, (home, trigger)).fetchall():
        fence.make_function(connection, home, name, _NOTHING, noting.PINNED)
    left = fence.drop_triggers(connection, trigger, patience_ms=patience_ms)
    if left:
        return left
    fence.drop_functions(connection, trigger)
    with contextlib.suppress(psycopg.errors.LockNotAvailable), connection.transaction():
        # A writer whose transaction began before the functions were emptied may still hold it.
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(patience_ms),))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(home, deltas)))
        connection.execute(sql.SQL("DROP SEQUENCE IF EXISTS {}").format(sql.Identifier(home, counter)))
    return []


_FUNCTIONS = (
    "SELECT p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " WHERE n.nspname = %s AND pg_catalog.starts_with(p.proname, %s)"
)
