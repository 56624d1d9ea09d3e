"""How is a side kept from taking writes? By a fence: a statement trigger on every table that refuses each write, and counts it.

The triggers fire BEFORE INSERT, UPDATE, DELETE and TRUNCATE, are ENABLE ALWAYS (so that `session_replication_role` does not go
round them), and raise SQLSTATE 25006 with a message that says where the data is. A trigger's statement needs no more than SHARE ROW
EXCLUSIVE on its table, so a fence can be put up, and taken out of force again, under the cut-over's lock without readers
noticing; only dropping it waits for readers. The fence holds against accidents, not against the owner of the tables, who may disable it.

Everything of a stack's fence carries the stack's tag in its name, so that several stacks can share a database.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from clarity_infra.errors import Refused
from clarity_infra.move import journal
from clarity_infra.move.names import Name, quoted
from clarity_infra.move.owners import Owner, acting_as, every_owner, owners
from clarity_infra.move.queries import query

TRIGGER_PREFIX = f"{journal.PREFIX}_fence_"
SQLSTATE = "25006"


@dataclasses.dataclass(frozen=True)
class Standing:
    """The tables on which a stack's fence is in force, and those where it stands disabled."""

    in_force: frozenset[Name]
    disabled: frozenset[Name]

    def covers(self, tables: Iterable[Name]) -> bool:
        """Whether every one of `tables` refuses writes."""
        return self.in_force >= frozenset(tables)


def tag(stack: str) -> str:
    """A short form of a stack's name that fits into identifiers."""
    return hashlib.sha256(stack.encode()).hexdigest()[:10]


def trigger_name(stack: str) -> str:
    """The name of the stack's fence on every table."""
    return TRIGGER_PREFIX + tag(stack)


def _hits_name(stack: str) -> str:
    return f"{journal.PREFIX}_hits_{tag(stack)}"


def prepare(connection: psycopg.Connection, stack: str, tables: Iterable[Name]) -> None:
    """Makes function and counter of the fence where they are missing. Takes no lock on the tables; repeating it changes nothing.

    Raises Refused where the admin may create nothing in the database.
    """
    home = home_of(connection)
    body = query("fence_function").decode()
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SEQUENCE IF NOT EXISTS {} AS bigint").format(sql.Identifier(home, _hits_name(stack))))
        make_function(connection, home, trigger_name(stack), body, (("search_path", "pg_catalog, pg_temp"),))
        for role in sorted({owner.role for owner in owners(connection, tables).values() if not owner.inherited}):
            let_use(connection, home, trigger_name(stack), role)


def make_function(connection: psycopg.Connection, home: str, name: str, body: str, settings: Sequence[tuple[str, str]]) -> None:
    """Makes, or makes anew, a trigger function that runs as its owner with pinned settings and that nobody else may call."""
    function = sql.Identifier(home, name)
    pinned = sql.SQL(" ").join(
        # search_path is a list of names: as one literal it would be one odd name.
        sql.SQL("SET {} = pg_catalog, pg_temp").format(sql.Identifier(setting))
        if setting == "search_path"
        else sql.SQL("SET {} = {}").format(sql.Identifier(setting), sql.Literal(value))
        for setting, value in settings
    )
    connection.execute(
        sql.SQL("CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {} AS {}").format(
            function, pinned, sql.Literal(body)
        )
    )
    connection.execute(sql.SQL("REVOKE ALL ON FUNCTION {}() FROM PUBLIC").format(function))


def let_use(connection: psycopg.Connection, home: str, name: str, role: str) -> None:
    """Lets `role` make triggers with a function of ours: whose role is taken to alter a table must be able to name it."""
    function = sql.Identifier(home, name)
    if home == journal.SCHEMA:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(home), sql.Identifier(role)))
    connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {}() TO {}").format(function, sql.Identifier(role)))


def home_of(connection: psycopg.Connection) -> str:
    """The schema our objects live in, made again where somebody dropped it; raises Refused where the admin may create nothing."""
    home = journal.home(connection)
    if home is None:
        raise Refused(
            f'The admin may create nothing in database "{connection.info.dbname}".',
            unchanged="Nothing was changed.",
            remedy=f"ask for: GRANT CREATE ON DATABASE {quoted(connection.info.dbname)} TO {quoted(connection.info.user)}",
        )
    if home == journal.SCHEMA and connection.execute("SELECT pg_catalog.to_regnamespace(%s) IS NULL", (home,)).fetchone() == (True,):
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(home)))
    return home


def put_up(connection: psycopg.Connection, stack: str, tables: Iterable[Name], *, says: str, hint: str) -> None:
    """Puts the fence in force on every table, in the connection's transaction; `prepare` must have run before.

    `says` completes "INSERT on table x refused: ..."; `hint` tells the client what to do.
    """
    home, standing = home_of(connection), standing_of(connection, stack)
    function = sql.Identifier(home, trigger_name(stack))
    for table, owner in _owned(connection, tables):
        with acting_as(connection, owner):
            if table not in standing.in_force | standing.disabled:
                connection.execute(
                    sql.SQL(
                        "CREATE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT"
                        " EXECUTE FUNCTION {}({}, {}, {}, {})"
                    ).format(
                        sql.Identifier(trigger_name(stack)),
                        table.identifier(),
                        function,
                        sql.Literal(says),
                        sql.Literal(hint),
                        sql.Literal(home),
                        sql.Literal(_hits_name(stack)),
                    )
                )
            if table not in standing.in_force:
                set_trigger_state(connection, table, trigger_name(stack), "A")


def take_out_of_force(connection: psycopg.Connection, stack: str) -> None:
    """Disables the stack's fence wherever it stands, in the connection's transaction. The triggers stay: dropping waits for readers."""
    for table, owner in _owned(connection, standing_of(connection, stack).in_force):
        with acting_as(connection, owner):
            set_trigger_state(connection, table, trigger_name(stack), "D")


def drop(connection: psycopg.Connection, stack: str, *, patience_ms: int) -> list[Name]:
    """Drops the fence, waiting at most `patience_ms` for each table's readers, then function and counter.

    Gives the tables on which it is left because somebody was reading. The connection is in autocommit mode.
    """
    left = drop_triggers(connection, trigger_name(stack), patience_ms=patience_ms)
    if not left:
        drop_functions(connection, trigger_name(stack))
        home = journal.home(connection)
        if home is not None:
            connection.execute(sql.SQL("DROP SEQUENCE IF EXISTS {}").format(sql.Identifier(home, _hits_name(stack))))
    return left


def drop_trigger(connection: psycopg.Connection, table: Name, owner: Owner, trigger: str, *, patience_ms: int) -> bool:
    """Drops one trigger of ours in a transaction of its own; False where the table was in use for longer than `patience_ms`."""
    try:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(patience_ms),))
            with acting_as(connection, owner):
                connection.execute(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(trigger), table.identifier()))
    except psycopg.errors.LockNotAvailable:
        return False
    return True


def drop_triggers(connection: psycopg.Connection, prefix: str, *, patience_ms: int) -> list[Name]:
    """Drops every trigger of ours whose name starts with `prefix`, as `drop_trigger` does; gives the tables on which one is left."""
    rows = [(Name(schema, table), trigger) for schema, table, trigger, _ in triggers(connection, prefix)]
    found = every_owner(connection, [table for table, _ in rows])
    return sorted({table for table, trigger in rows if not drop_trigger(connection, table, found[table], trigger, patience_ms=patience_ms)})


def drop_functions(connection: psycopg.Connection, prefix: str) -> None:
    """Drops the trigger functions of ours whose names start with `prefix`, wherever they live."""
    rows = connection.execute(
        "SELECT n.nspname, p.proname FROM pg_catalog.pg_proc p"
        " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
        " WHERE pg_catalog.starts_with(p.proname, %s) AND p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype",
        (prefix,),
    ).fetchall()
    for schema, name in rows:
        connection.execute(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(sql.Identifier(schema, name)))


def standing_of(connection: psycopg.Connection, stack: str) -> Standing:
    """Where the stack's fence stands in this database, asked afresh."""
    rows = triggers(connection, trigger_name(stack))
    in_force = frozenset(Name(schema, table) for schema, table, _, state in rows if state == "A")
    return Standing(in_force, frozenset(Name(schema, table) for schema, table, _, _ in rows) - in_force)


def others(connection: psycopg.Connection, stack: str, tables: Iterable[Name]) -> dict[Name, str]:
    """Those of the tables that another stack has fenced, with that stack's name; its tag where no journal here names it."""
    names = {tag(name): name for name in journal.Journal(connection, stack).stacks()}
    wanted = frozenset(tables)
    return {
        Name(schema, table): names.get(trigger.removeprefix(TRIGGER_PREFIX), trigger.removeprefix(TRIGGER_PREFIX))
        for schema, table, trigger, state in triggers(connection, TRIGGER_PREFIX)
        if state == "A" and trigger != trigger_name(stack) and Name(schema, table) in wanted
    }


def triggers(connection: psycopg.Connection, prefix: str) -> list[tuple[str, str, str, str]]:
    """Every trigger whose name starts with `prefix`: schema, table, trigger, state of `pg_trigger.tgenabled`."""
    pattern = prefix.replace("_", r"\_") + "%"
    return list(connection.execute(query("fence_triggers"), {"trigger": pattern}).fetchall())


def hits(connection: psycopg.Connection, stack: str) -> int:
    """How many writes the stack's fence has refused in this database; 0 where there is no fence."""
    home = journal.home(connection)
    if home is None or not _exists(connection, home, _hits_name(stack)):
        return 0
    counter = sql.Identifier(home, _hits_name(stack))
    row = connection.execute(sql.SQL("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {}").format(counter)).fetchone()
    return int(row[0]) if row else 0


def _exists(connection: psycopg.Connection, schema: str, name: str) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (schema, name),
    ).fetchone()
    return found is not None


@contextmanager
def suspended(connection: psycopg.Connection) -> Iterator[None]:
    """Lets this transaction write through the fences of every stack; nobody else sees them open.

    At the end, deferred constraints are checked (PostgreSQL alters no table with checks outstanding) and the fences are in force
    again; where the transaction is rolled back, they never were disabled. Tables dropped meanwhile took their fence with them.
    """
    opened = [row for row in triggers(connection, TRIGGER_PREFIX) if row[3] == "A"]
    _set_states(connection, opened, "D")
    yield
    if not opened:
        return
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    names = {row[2] for row in opened}
    _set_states(connection, [row for row in triggers(connection, TRIGGER_PREFIX) if row[3] == "D" and row[2] in names], "A")


def _set_states(connection: psycopg.Connection, rows: Sequence[tuple[str, str, str, str]], state: str) -> None:
    """Puts triggers into a state, each as its table's owner: a database may hold tables of others beside the application's."""
    found = every_owner(connection, [Name(schema, table) for schema, table, _, _ in rows])
    for schema, table, trigger, _ in rows:
        with acting_as(connection, found[Name(schema, table)]):
            set_trigger_state(connection, Name(schema, table), trigger, state)


def set_trigger_state(connection: psycopg.Connection, table: Name, trigger: str, state: str) -> None:
    """Puts one trigger into a state of `pg_trigger.tgenabled`, on this table alone. Takes SHARE ROW EXCLUSIVE on it."""
    clause = {
        "A": sql.SQL("ENABLE ALWAYS"),
        "R": sql.SQL("ENABLE REPLICA"),
        "O": sql.SQL("ENABLE"),
        "D": sql.SQL("DISABLE"),
    }[state]
    connection.execute(sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}").format(table.identifier(), clause, sql.Identifier(trigger)))


def _owned(connection: psycopg.Connection, tables: Iterable[Name]) -> list[tuple[Name, Owner]]:
    """Each table with its owner, in a fixed order; raises ClarityError for one that is gone."""
    names = sorted(set(tables))
    found = every_owner(connection, names)
    return [(name, found[name]) for name in names]
