"""May the application's user do what it must, and nothing else? Proven by logging in as it and trying."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.move.names import Name

_HASHES = "read password hashes"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A statement and what must come of it."""

    what: str
    statement: sql.SQL | sql.Composed


def check_access(
    application: Endpoint,
    admin: Endpoint,
    source: Endpoint,
    *,
    role: str,
    tables: Sequence[Name],
    own_database_only: bool = True,
    owner: str = "",
    reader: str = "",
) -> dict[str, Any]:
    """Logs in as the application's user (`application` holds its password) and tries what must work and what must be refused.

    Everything happens in transactions that are rolled back. `tables` are those of the target that exist; `owner` is the role the login
    must act as, itself where none is named; `reader` the role that may only read, if there is one. Returns the lists of what worked, of what
    was refused, and of what the server's operator alone could forbid (`advice`). Raises Refused with every attempt that went the wrong way.
    """
    wrong, advice = list[str](), list[str]()
    with application.connect(autocommit=False, purpose="access check") as connection:
        _acts_as(connection, owner or application.user, wrong)
        allowed = _allowed(connection, tables, wrong)
        forbidden = _forbidden(admin, application, role)
        if not own_database_only:  # pg_read_all_data reads every table there is, the server's own too
            forbidden = [attempt for attempt in forbidden if attempt.what != _HASHES]
        refused = _refused(connection, forbidden, wrong)
        refused += _attributes(connection, wrong)
        refused += _server_roles(connection, wrong, own_database_only=own_database_only)
        refused += _outward_extensions(connection, wrong, advice)
    if own_database_only:
        refused += _other_databases(application, source, wrong)
    _public_nothing(admin, application, wrong)
    if reader:
        _only_reads(admin, reader, tables, wrong)
    if wrong:
        raise Refused(
            f'The privileges of "{application.user}" in {application.label()} are not what they must be:\n'
            + "\n".join(f"  - {line}" for line in wrong),
            unchanged="The application goes on with the database and the login it has.",
            remedy="take back what was granted by hand (or grant what is missing), then run `pulumi up` again.",
        )
    return {"allowed": allowed, "refused": refused, **({"advice": advice} if advice else {})}


def _allowed(connection: psycopg.Connection, tables: Sequence[Name], wrong: list[str]) -> list[str]:
    """What the application and its migrator do: CRUD on every table, DDL, Drizzle's two statements."""
    done: list[str] = []
    attempts = [attempt for table in tables for attempt in _crud(table)] + _migrator()
    for attempt in attempts:
        try:
            connection.execute(attempt.statement)
            done.append(attempt.what)
        except psycopg.Error as error:
            wrong.append(f"it cannot {attempt.what}: {error.diag.message_primary}")
        connection.rollback()
    return done


def _crud(table: Name) -> list[Attempt]:
    """The server checks the privileges of a statement it only explains: no row is touched, nothing fires, no sequence moves."""
    identifier = table.identifier()
    return [
        Attempt(f"read {table}", sql.SQL("SELECT 1 FROM {} LIMIT 1").format(identifier)),
        Attempt(f"insert into {table}", sql.SQL("EXPLAIN INSERT INTO {} DEFAULT VALUES").format(identifier)),
        Attempt(f"delete rows of {table}", sql.SQL("EXPLAIN DELETE FROM {}").format(identifier)),
        Attempt(f"lock rows of {table}", sql.SQL("SELECT 1 FROM {} LIMIT 1 FOR UPDATE").format(identifier)),
    ]


def _migrator() -> list[Attempt]:
    """Drizzle's migrator runs both each time, and PostgreSQL asks for CREATE even where they exist (provider-facts 14)."""
    return [
        Attempt("create schema drizzle if it does not exist", sql.SQL("CREATE SCHEMA IF NOT EXISTS drizzle")),
        Attempt(
            "create a table in schema drizzle",
            sql.SQL("CREATE TABLE drizzle.clarity_infra_probe (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)"),
        ),
        Attempt(
            "create a table in schema public",
            sql.SQL("CREATE TABLE public.clarity_infra_probe (id integer PRIMARY KEY)"),
        ),
        Attempt(
            "create, fill, change and empty a table",
            sql.SQL(
                "DO $$ BEGIN CREATE TABLE public.clarity_infra_probe (id integer GENERATED ALWAYS AS IDENTITY, v text);"
                " INSERT INTO public.clarity_infra_probe (v) VALUES ('a'); UPDATE public.clarity_infra_probe SET v = 'b';"
                " DELETE FROM public.clarity_infra_probe; END $$"
            ),
        ),
        Attempt("create a type in schema public", sql.SQL("CREATE TYPE public.clarity_infra_probe AS ENUM ('a')")),
    ]


def _forbidden(admin: Endpoint, application: Endpoint, role: str) -> list[Attempt]:
    database, user = sql.Identifier(application.database), sql.Identifier(application.user)
    return [
        Attempt("create a role", sql.SQL("CREATE ROLE clarity_infra_probe")),
        Attempt("drop its database", sql.SQL("ALTER DATABASE {} RENAME TO clarity_infra_probe").format(database)),
        Attempt("change the database's settings", sql.SQL("ALTER DATABASE {} SET work_mem = '1MB'").format(database)),
        Attempt("switch the audit log off", sql.SQL("SET log_statement = 'none'")),
        Attempt("switch the audit log off for its database", sql.SQL("ALTER DATABASE {} SET log_statement = 'none'").format(database)),
        Attempt("switch the audit log off for its logins", sql.SQL("ALTER ROLE CURRENT_USER SET log_statement = 'none'")),
        Attempt("reload the server's configuration", sql.SQL("SELECT pg_catalog.pg_reload_conf()")),
        Attempt(_HASHES, sql.SQL("SELECT rolpassword FROM pg_catalog.pg_authid LIMIT 1")),
        Attempt("become the admin", sql.SQL("SET ROLE {}").format(sql.Identifier(admin.user))),
        Attempt("log in anew as the admin", sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(admin.user))),
        Attempt("take the admin's password away", sql.SQL("ALTER ROLE {} PASSWORD NULL").format(sql.Identifier(admin.user))),
        Attempt("make itself a superuser", sql.SQL("ALTER ROLE {} SUPERUSER").format(user)),
        Attempt(
            "grant its role to others",
            sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(admin.user)),
        ),
        Attempt("run a program on the server", sql.SQL("COPY (SELECT 1) TO PROGRAM 'true'")),
        Attempt("write a file on the server", sql.SQL("COPY (SELECT 1) TO '/tmp/clarity_infra_probe'")),
        Attempt("read a file on the server", sql.SQL("SELECT pg_catalog.pg_read_file('PG_VERSION')")),
        Attempt("list the server's files", sql.SQL("SELECT pg_catalog.pg_ls_dir('.')")),
        Attempt("read a file into a large object", sql.SQL("SELECT pg_catalog.lo_import('PG_VERSION')")),
        Attempt("switch triggers off", sql.SQL("SET session_replication_role = replica")),
        Attempt(
            "write functions in C",
            sql.SQL("CREATE FUNCTION public.clarity_infra_probe() RETURNS integer LANGUAGE c AS 'clarity_infra_probe', 'probe'"),
        ),
        Attempt("publish every table", sql.SQL("CREATE PUBLICATION clarity_infra_probe FOR ALL TABLES")),
        Attempt(
            "listen in on every statement",
            sql.SQL("CREATE EVENT TRIGGER clarity_infra_probe ON ddl_command_start EXECUTE FUNCTION public.clarity_infra_probe()"),
        ),
    ]


def _refused(connection: psycopg.Connection, attempts: Sequence[Attempt], wrong: list[str]) -> list[str]:
    done: list[str] = []
    for attempt in attempts:
        try:
            connection.execute(attempt.statement)
            wrong.append(f"it can {attempt.what}")
        except psycopg.errors.InsufficientPrivilege:
            done.append(attempt.what)
        except psycopg.Error as error:
            # Refused for another reason than a missing privilege proves nothing.
            wrong.append(f"whether it can {attempt.what} is not known: {error.diag.message_primary}")
        connection.rollback()
    return done


def _attributes(connection: psycopg.Connection, wrong: list[str]) -> list[str]:
    """What a role may do by attribute, its own or of a role it can act as; CREATE DATABASE cannot be tried and rolled back."""
    row = (
        connection.execute(
            "SELECT bool_or(rolcreatedb), bool_or(rolcreaterole), bool_or(rolreplication), bool_or(rolbypassrls), bool_or(rolsuper)"
            " FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(current_user, oid, 'MEMBER')"
        ).fetchone()
        or (True,) * 5
    )
    connection.rollback()
    words = ("create a database", "create roles by attribute", "replicate", "bypass row security", "act as a superuser")
    wrong += [f"it can {word}" for word, may in zip(words, row, strict=True) if may]
    return [word for word, may in zip(words, row, strict=True) if not may]


def _acts_as(connection: psycopg.Connection, owner: str, wrong: list[str]) -> None:
    """What a login makes must belong to the owner of all the rest, whichever of the two logins it is (`rotation`)."""
    row = connection.execute("SELECT current_user::text").fetchone()
    connection.rollback()
    acting = str(row[0]) if row else ""
    if acting != owner:
        wrong.append(f'it acts as "{acting}", and what it makes would not belong to "{owner}"')


def _server_roles(connection: psycopg.Connection, wrong: list[str], *, own_database_only: bool) -> list[str]:
    """PostgreSQL's own roles reach beyond one database: files, programs, other sessions, every table."""
    rows = connection.execute(
        "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname ~ '^pg_' AND pg_catalog.pg_has_role(session_user, oid, 'MEMBER') ORDER BY 1"
    ).fetchall()
    connection.rollback()
    allowed = () if own_database_only else ("pg_read_all_data", "pg_write_all_data")
    found = [str(row[0]) for row in rows if row[0] not in allowed]
    wrong += [f"it is a member of {name}, which reaches beyond its database" for name in found]
    return [] if found else ["act as one of the server's own roles"]


# What reads files or runs code outside of the server's rules, among PostgreSQL's own extensions.
_OUTWARD = ["file_fdw", "adminpack", "plpython3u", "plperlu", "pltclu"]
# What opens connections to other databases. Some providers have everybody make these (Neon: compute/compute-node.Dockerfile), and it is not for
# the admin to forbid; both ask a user who is no superuser for a password of that other database.
_CONNECTING = ["dblink", "postgres_fdw"]


def _outward_extensions(connection: psycopg.Connection, wrong: list[str], advice: list[str]) -> list[str]:
    """Who may create in a database may create its trusted extensions: none of these is one unless the server was changed."""
    rows = connection.execute(
        "SELECT DISTINCT name::text FROM pg_catalog.pg_available_extension_versions"
        " WHERE name = ANY (%s) AND (trusted OR NOT superuser) ORDER BY 1",
        ([*_OUTWARD, *_CONNECTING],),
    ).fetchall()
    connection.rollback()
    names = [str(row[0]) for row in rows]
    wrong += [f"it can create extension {name}" for name in names if name in _OUTWARD]
    if connecting := [name for name in names if name in _CONNECTING]:
        advice.append(
            f'the server lets every user who may create in a database create {" and ".join(connecting)}, by which "{connection.info.user}" can'
            " connect to other databases that it knows a password of: only the server's operator can change that"
        )
    return [] if names else ["create an extension that leads out of the database"]


def _only_reads(admin: Endpoint, reader: str, tables: Sequence[Name], wrong: list[str]) -> None:
    """The catalog is asked, as the role cannot log in: it reads each of `tables` and writes to nothing in the database."""
    with admin.connect(purpose="access check") as connection:
        blind = [
            str(name)
            for name in tables
            if connection.execute(
                "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = %s AND c.relname = %s AND pg_catalog.has_schema_privilege(%s, n.oid, 'USAGE')"
                " AND pg_catalog.has_table_privilege(%s, c.oid, 'SELECT')",
                (name.schema, name.name, reader, reader),
            ).fetchone()
            is None
        ]
        written = connection.execute(
            "SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND CASE"
            " WHEN c.relkind IN ('r', 'p', 'v', 'f') THEN pg_catalog.has_table_privilege(%s, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
            " WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(%s, c.oid, 'USAGE, UPDATE') ELSE false END ORDER BY 1 LIMIT 5",
            (reader, reader),
        ).fetchall()
    wrong += [f'"{reader}" cannot read {name}' for name in blind] + [f'"{reader}" can write to {row[0]}' for row in written]


def _other_databases(application: Endpoint, source: Endpoint, wrong: list[str]) -> list[str]:
    """The old tables are out of reach: by CONNECT or, where PUBLIC may connect to the source, by the tables' privileges.

    What an extension brings along (pg_stat_statements, PostGIS) is everybody's to read by its own script, and none of the old tables.
    """
    elsewhere = dataclasses.replace(source, user=application.user, password=application.password, parameters=application.parameters)
    same_server = (source.host, source.port) == (application.host, application.port)
    if not same_server:
        return []
    try:
        connection = elsewhere.connect(autocommit=True, purpose="access check")
    except ConfigurationError:
        return [f"connect to database {source.database}"]
    with connection:
        readable = connection.execute(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
            " AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')"
            " AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d"
            " WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1 LIMIT 5"
        ).fetchall()
    if readable:
        wrong.append(f"it can read tables of database {source.database}: " + ", ".join(str(row[0]) for row in readable))
        return []
    return [f"read tables of database {source.database}"]


def _public_nothing(admin: Endpoint, application: Endpoint, wrong: list[str]) -> None:
    """PUBLIC may not connect; a grant the admin could not make is a warning on the server only, so the server is asked."""
    with admin.connect(purpose="access check") as connection:
        rows = connection.execute(
            "SELECT a.privilege_type FROM pg_catalog.pg_database d,"
            " LATERAL pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a"
            " WHERE d.datname = %s AND a.grantee = 0",
            (application.database,),
        ).fetchall()
    if rows:
        wrong.append("everybody (PUBLIC) has " + ", ".join(sorted(str(row[0]) for row in rows)) + f' on database "{application.database}"')
