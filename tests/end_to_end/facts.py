"""What is there? The databases by SQL, Hyperdrive by the Cloudflare stand-in's API, and the application's `.env`, told apart from what
the program says of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from sandbox.source import TABLES
from sandbox.stack import ACCOUNT_ID, HYPERDRIVE_NAME, SOURCE_DATABASE, STAGES, Sandbox

TARGET_DATABASE = "clarity"
USER = "clarity_user"
ROLE = "clarity_rw"
ADDED_BY_0003 = ("agent_type", "agent_provider", "agent_model", "agent_session_id")
"""The columns that the pending migration adds to feature_requests."""

_OURS = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2
"""
_STRUCTURE = """
SELECT 'schema', nspname::text, nspowner::regrole::text, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)'
UNION ALL SELECT 'relation', oid::regclass::text, relowner::regrole::text, concat(relkind, relacl::text)
  FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL SELECT 'column', attrelid::regclass::text || '.' || attname, atttypid::regtype::text, concat(attnotnull, attidentity, attacl::text)
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
  WHERE attnum > 0 AND NOT attisdropped AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL SELECT 'function', oid::regprocedure::text, proowner::regrole::text, proacl::text
  FROM pg_proc WHERE pronamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL SELECT 'trigger', tgrelid::regclass::text || '.' || tgname, tgenabled::text, '' FROM pg_trigger WHERE NOT tgisinternal
UNION ALL SELECT 'type', oid::regtype::text, typowner::regrole::text, typacl::text
  FROM pg_type WHERE typtype IN ('e', 'd') AND typnamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL SELECT 'label', enumtypid::regtype::text || '.' || enumlabel, enumsortorder::text, '' FROM pg_enum
UNION ALL SELECT 'constraint', conrelid::regclass::text || '.' || conname, pg_get_constraintdef(oid), '' FROM pg_constraint
  WHERE connamespace::regnamespace::text !~ '^(pg_|information_schema)'
UNION ALL SELECT 'default privilege', defaclrole::regrole::text, defaclnamespace::text, concat(defaclobjtype, defaclacl::text)
  FROM pg_default_acl
UNION ALL SELECT 'role', rolname::text, concat(rolsuper, rolcreaterole, rolcreatedb, rolcanlogin), '' FROM pg_roles WHERE rolname !~ '^pg_'
UNION ALL SELECT 'member', roleid::regrole::text, member::regrole::text, '' FROM pg_auth_members WHERE roleid::regrole::text !~ '^pg_'
UNION ALL SELECT 'database', datname::text, datdba::regrole::text, datacl::text FROM pg_database
UNION ALL SELECT 'setting', setdatabase::text, setrole::text, setconfig::text FROM pg_db_role_setting
ORDER BY 1, 2, 3, 4
"""
_OWNERS = """
SELECT 'schema ' || nspname, nspowner::regrole::text FROM pg_namespace WHERE nspname = 'drizzle'
UNION ALL SELECT relkind::text || ' ' || oid::regclass::text, relowner::regrole::text
  FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'drizzle') AND relkind IN ('r', 'p', 'S', 'i', 'v')
UNION ALL SELECT 'enum ' || oid::regtype::text, typowner::regrole::text FROM pg_type WHERE typtype = 'e'
UNION ALL SELECT 'function ' || oid::regprocedure::text, proowner::regrole::text
  FROM pg_proc WHERE pronamespace::regnamespace::text IN ('public', 'drizzle')
"""


@dataclasses.dataclass(frozen=True)
class Application:
    """All that belongs to the application and its surroundings on the old side, as it is at one moment."""

    structure: list[tuple[Any, ...]]
    contents: dict[str, str]
    positions: dict[str, int]
    env: bytes
    hyperdrive: dict[str, Any]


def application(sandbox: Sandbox) -> Application:
    """Looks at all of it now."""
    return Application(structure(sandbox), contents(sandbox), positions(sandbox), sandbox.app_env_path.read_bytes(), hyperdrive(sandbox))


def bring(sandbox: Sandbox, stage: str) -> None:
    """Runs `up` as often as it takes to get the stack to a stage, upwards or downwards; not at all where it is there."""
    reached = sandbox.reached()
    if reached == stage and sandbox.engine.last_update_succeeded():
        return
    if reached is None or STAGES.index(reached) <= STAGES.index(stage):
        sandbox.climb(stage)
        return
    for lower in reversed(STAGES[STAGES.index(stage) : STAGES.index(reached)]):
        sandbox.up(lower)


def structure(sandbox: Sandbox) -> list[tuple[Any, ...]]:
    """Everything that stands in the source database and on the server around it: what a way back must leave as it was."""
    return sandbox.psql(SOURCE_DATABASE, _STRUCTURE)


def contents(sandbox: Sandbox, database: str = SOURCE_DATABASE) -> dict[str, str]:
    """Number and digest of the rows of every table of a database that is not PostgreSQL's own or in schema clarity_infra."""
    with psycopg.connect(sandbox.server.url(database)) as connection:
        tables = connection.execute(_OURS.encode()).fetchall()
        return {f"{schema}.{table}": _rows(connection, schema, table) for schema, table in tables if schema != "clarity_infra"}


def positions(sandbox: Sandbox, database: str = SOURCE_DATABASE) -> dict[str, int]:
    """Where the sequences of the application's tables stand."""
    return {table: int(sandbox.psql(database, f"SELECT last_value FROM public.{table}_id_seq")[0][0]) for table in TABLES}


def rows_of(sandbox: Sandbox, database: str, table: str, *, without: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """The rows of a table of schema public as texts, by column name, ordered by `id`; `without` some columns."""
    with psycopg.connect(sandbox.server.url(database)) as connection:
        columns = _columns(connection, "public", table)
        wanted = sql.SQL(", ").join(
            sql.SQL("md5({}::text)" if column in ("description", "content") else "{}::text").format(sql.Identifier(column))
            for column in sorted(columns)
            if column not in without
        )
        return connection.execute(sql.SQL("SELECT {} FROM {} ORDER BY id").format(wanted, sql.Identifier("public", table))).fetchall()


def owners(sandbox: Sandbox, database: str = TARGET_DATABASE) -> dict[str, str]:
    """Who owns what in schemas public and drizzle: by kind and name."""
    return dict(sandbox.psql(database, _OWNERS))


def exists(sandbox: Sandbox, database: str = TARGET_DATABASE) -> bool:
    """Whether the server has the database."""
    return bool(sandbox.psql(SOURCE_DATABASE, f"SELECT 1 FROM pg_database WHERE datname = '{database}'"))


def placement(sandbox: Sandbox, database: str = TARGET_DATABASE) -> dict[str, tuple[Any, ...]]:
    """Where the rows of the application's tables lie and which transactions put them there: copied again, they would lie elsewhere."""
    query = "SELECT 'public.{0}'::regclass::oid, count(*), md5(string_agg(concat(xmin, ctid), ' ' ORDER BY id)) FROM public.{0}"
    return {table: sandbox.psql(database, query.format(table))[0] for table in TABLES}


def journal(sandbox: Sandbox, database: str) -> list[str]:
    """The steps that the program has noted in a database, oldest first."""
    return [str(row[0]) for row in sandbox.psql(database, "SELECT step FROM clarity_infra.clarity_infra_journal ORDER BY id")]


def hyperdrive(sandbox: Sandbox, name: str = HYPERDRIVE_NAME) -> dict[str, Any]:
    """A Hyperdrive config of the account, without the times of its making and changes."""
    configs = sandbox.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs")
    [config] = [config for config in configs if config["name"] == name]
    return {key: value for key, value in config.items() if key not in ("created_on", "modified_on", "restarted_on")}


def connection_string(sandbox: Sandbox, name: str = HYPERDRIVE_NAME) -> str:
    """Where a Worker connects to: the data path of a Hyperdrive config, which pools as the real one does."""
    return str(sandbox.cloudflare_control(f"/connection/{hyperdrive(sandbox, name)['id']}")["connection_string"])


def whereabouts(url: str) -> tuple[str, str]:
    """Whom a URL logs in, and to which database. Raises psycopg.OperationalError."""
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        row = connection.execute("SELECT current_user::text, current_database()::text").fetchone()
        assert row is not None
        return str(row[0]), str(row[1])


def _rows(connection: psycopg.Connection[Any], schema: str, table: str) -> str:
    columns = sql.SQL(", ").join(map(sql.Identifier, _columns(connection, schema, table)))
    query = sql.SQL("SELECT md5(ROW({})::text) FROM {} ORDER BY 1").format(columns, sql.Identifier(schema, table))
    found = [str(row[0]) for row in connection.execute(query)]
    return f"{len(found)} rows, {hashlib.sha256(''.join(found).encode()).hexdigest()}"


def _columns(connection: psycopg.Connection[Any], schema: str, table: str) -> list[str]:
    found = connection.execute(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))"
        " AND attnum > 0 AND NOT attisdropped ORDER BY 1",
        (schema, table),
    )
    return [str(row[0]) for row in found]
