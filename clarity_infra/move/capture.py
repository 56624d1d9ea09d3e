"""Which rows change while the copy is brought near? Triggers note the keys of changed rows; the rows are read later.

Installed only by a run that is about to cut over or to go back, and removed after it; leftovers are found by name. An
application's write never fails because of it: what cannot be noted, for whatever reason, or would pass the cap, puts the
counter beyond the cap, and the run then compares whole tables. The functions are SECURITY DEFINER with a pinned
search_path and pinned text formats, so that a key's text is what the run's own sessions would print.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import psycopg
from psycopg import sql

from clarity_infra.move import fence, journal, noting
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.owners import acting_as, owners

TRIGGER_PREFIX = f"{journal.PREFIX}_capture_"
# Noted changes beyond this are not worth it: comparing whole tables is cheaper then. About 100 MB of keys.
CAP = 1_000_000

# What a function of one table does, by `noting`'s frame: how a key is noted differs by its columns.
_ROW_WORK = sql.SQL(
    """
  DECLARE number bigint;
  BEGIN
    number := pg_catalog.nextval({counter});
    IF number <= {cap} THEN
      IF TG_OP <> 'INSERT' THEN
        INSERT INTO {notes} (number, tab, key) VALUES (number, {table}, ARRAY[{old}]::text[]);
      END IF;
      IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND ARRAY[{old}]::text[] IS DISTINCT FROM ARRAY[{new}]::text[]) THEN
        INSERT INTO {notes} (number, tab, key) VALUES (number, {table}, ARRAY[{new}]::text[]);
      END IF;
    END IF;
  END;
"""
)

_WHOLE_WORK = sql.SQL(
    """
  DECLARE number bigint;
  BEGIN
    number := pg_catalog.nextval({counter});
    IF number <= {cap} THEN
      INSERT INTO {notes} (number, tab, key) VALUES (number, {table}, NULL);
    END IF;
  END;
"""
)


@dataclasses.dataclass(frozen=True)
class Changes:
    """What was noted: `keys` of changed rows by table, and the tables of which the `whole` must be compared."""

    keys: dict[Name, list[tuple[str | None, ...]]]
    whole: frozenset[Name]

    def with_others(self, others: Changes) -> Changes:
        """Both together."""
        whole = self.whole | others.whole
        names = (self.keys.keys() | others.keys.keys()) - whole
        return Changes({name: [*self.keys.get(name, []), *others.keys.get(name, [])] for name in names}, whole)

    def count(self) -> int:
        """How many keys there are."""
        return sum(len(keys) for keys in self.keys.values())


def _names(stack: str) -> tuple[str, str, str]:
    tag = fence.tag(stack)
    return TRIGGER_PREFIX + tag, f"{journal.PREFIX}_notes_{tag}", f"{journal.PREFIX}_noted_{tag}"


def trigger_name(stack: str) -> str:
    """The name of the stack's capture on every table; its function for the whole of a table has `_all` after it."""
    return _names(stack)[0]


def prepare(connection: psycopg.Connection, stack: str, tables: Sequence[Table]) -> None:
    """Makes an empty note table, its counter and one function for each table. Takes no lock on the tables themselves."""
    home = fence.home_of(connection)
    _, notes, counter = _names(stack)
    with connection.transaction():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(home, notes)))
        connection.execute(sql.SQL("DROP SEQUENCE IF EXISTS {}").format(sql.Identifier(home, counter)))
        connection.execute(sql.SQL("CREATE SEQUENCE {} AS bigint").format(sql.Identifier(home, counter)))
        connection.execute(sql.SQL("CREATE TABLE {} (number bigint NOT NULL, tab oid NOT NULL, key text[])").format(sql.Identifier(home, notes)))
        connection.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(sql.Identifier(home, notes)))
        found = owners(connection, [table.name for table in tables])
        for table in tables:
            owner = found[table.name]
            for name, body in _bodies(connection, home, stack, table):
                fence.make_function(connection, home, name, body, noting.PINNED)
                if not owner.inherited:
                    fence.let_use(connection, home, name, owner.role)


def _bodies(connection: psycopg.Connection, home: str, stack: str, table: Table) -> list[tuple[str, str]]:
    """Names and bodies of the functions of one table."""
    _, notes, counter = _names(stack)
    parts: dict[str, sql.Composable] = {
        "notes": sql.Identifier(home, notes),
        "table": sql.Literal(table.oid),
        "old": _key_of("old", table),
        "new": _key_of("new", table),
    }

    def body(work: sql.SQL) -> str:
        return noting.body(connection, work, counter=sql.Identifier(home, counter), cap=CAP, **parts)

    bodies = [(_function(stack, table, whole=True), body(_WHOLE_WORK))]
    if table.key:
        bodies.append((_function(stack, table), body(_ROW_WORK)))
    return bodies


def _key_of(record: str, table: Table) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{}.{}::text").format(sql.SQL("OLD" if record == "old" else "NEW"), sql.Identifier(column)) for column in table.key or ()
    )


def _function(stack: str, table: Table, *, whole: bool = False) -> str:
    return f"{trigger_name(stack)}_{table.oid}" + ("_all" if whole else "")


def _by_row(table: Table) -> bool:
    """Whether each of the table's rows reports, not each statement on it."""
    return bool(table.key or table.parents)


def put_up(connection: psycopg.Connection, stack: str, tables: Sequence[Table]) -> None:
    """Puts the triggers on the tables, in the connection's transaction, which holds their locks; `prepare` has run before.

    Every table reports TRUNCATE; one with a key reports changed rows, one without reports that anything was written. A statement on a
    table fires no statement trigger of its partitions and children, whose rows it writes all the same: these report row by row.
    https://www.postgresql.org/docs/current/trigger-definition.html
    """
    home = fence.home_of(connection)
    trigger = trigger_name(stack)
    found = owners(connection, [table.name for table in tables])
    standing = {(Name(schema, table), name) for schema, table, name, _ in fence.triggers(connection, trigger)}
    for table in tables:
        with acting_as(connection, found[table.name]):
            events = sql.SQL("TRUNCATE" if _by_row(table) else "INSERT OR UPDATE OR DELETE OR TRUNCATE")
            if (table.name, f"{trigger}_all") not in standing:
                function = sql.Identifier(home, _function(stack, table, whole=True))
                _make_trigger(connection, table, f"{trigger}_all", events=events, each=sql.SQL("STATEMENT"), function=function)
            fence.set_trigger_state(connection, table.name, f"{trigger}_all", "A")
            if not _by_row(table):
                continue
            if (table.name, trigger) not in standing:
                function = sql.Identifier(home, _function(stack, table, whole=not table.key))
                changes = sql.SQL("INSERT OR UPDATE OR DELETE")
                _make_trigger(connection, table, trigger, events=changes, each=sql.SQL("ROW"), function=function)
            fence.set_trigger_state(connection, table.name, trigger, "A")


def _make_trigger(connection: psycopg.Connection, table: Table, name: str, *, events: sql.SQL, each: sql.SQL, function: sql.Identifier) -> None:
    connection.execute(
        sql.SQL("CREATE TRIGGER {} AFTER {} ON {} FOR EACH {} EXECUTE FUNCTION {}()").format(
            sql.Identifier(name), events, table.name.identifier(), each, function
        )
    )


def intact(connection: psycopg.Connection, stack: str, tables: Sequence[Table]) -> bool:
    """Whether the capture still stands on all the tables, so that what it has not noted has not changed."""
    rows = fence.triggers(connection, trigger_name(stack))
    standing = {(Name(schema, table), trigger) for schema, table, trigger, state in rows if state == "A"}
    wanted = {(table.name, f"{trigger_name(stack)}_all") for table in tables}
    wanted |= {(table.name, trigger_name(stack)) for table in tables if _by_row(table)}
    return standing >= wanted


def take(connection: psycopg.Connection, stack: str, tables: Sequence[Table]) -> Changes:
    """Takes the notes this transaction sees, which come again if it is rolled back.

    In a REPEATABLE READ transaction they belong to the very rows it sees; under the lock they are all there are.
    """
    home = fence.home_of(connection)
    _, notes, counter = _names(stack)
    rows = connection.execute(sql.SQL("DELETE FROM {} RETURNING tab, key").format(sql.Identifier(home, notes))).fetchall()
    row = connection.execute(sql.SQL("SELECT last_value FROM {}").format(sql.Identifier(home, counter))).fetchone()
    names = {table.oid: table.name for table in tables}
    if row is None or int(row[0]) > CAP:
        return Changes({}, frozenset(names.values()))
    whole = frozenset(names[oid] for oid, key in rows if key is None and oid in names)
    keys: dict[Name, dict[tuple[str | None, ...], None]] = {}
    for oid, key in rows:
        if key is not None and oid in names and names[oid] not in whole:
            keys.setdefault(names[oid], {})[tuple(key)] = None
    return Changes({name: list(found) for name, found in keys.items()}, whole)


def take_out_of_force(connection: psycopg.Connection, stack: str) -> None:
    """Disables the capture wherever it stands, in the connection's transaction; removing it would wait for readers."""
    rows = [row for row in fence.triggers(connection, trigger_name(stack)) if row[3] != "D"]
    found = owners(connection, [Name(schema, table) for schema, table, _, _ in rows])
    for schema, table, trigger, _ in rows:
        with acting_as(connection, found[Name(schema, table)]):
            fence.set_trigger_state(connection, Name(schema, table), trigger, "D")


def leftovers(connection: psycopg.Connection, stack: str) -> list[Name]:
    """The tables that still carry a capture of this stack."""
    return sorted({Name(schema, table) for schema, table, _, _ in fence.triggers(connection, trigger_name(stack))})


def drop(connection: psycopg.Connection, stack: str, *, patience_ms: int) -> list[Name]:
    """Removes the capture, waiting at most `patience_ms` for each table's readers; gives the tables on which it is left."""
    trigger, notes, counter = _names(stack)
    left = fence.drop_triggers(connection, trigger, patience_ms=patience_ms)
    if not left:
        fence.drop_functions(connection, trigger)
        home = journal.home(connection)
        if home is not None:
            with connection.transaction():
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(home, notes)))
                connection.execute(sql.SQL("DROP SEQUENCE IF EXISTS {}").format(sql.Identifier(home, counter)))
    return left


def noted(tables: Iterable[Table]) -> tuple[Table, ...]:
    """The tables a capture is put on: those with rows of their own (a partitioned table's rows are its partitions')."""
    return tuple(table for table in tables if table.kind == "r")
