"""Which settings does the new database have of its own, its audit log above all, and may the admin make them?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from clarity_infra.move.names import quoted

# Every statement of this database, in the server's log. https://www.postgresql.org/docs/current/runtime-config-logging.html
AUDIT = {"log_statement": "all"}


@dataclasses.dataclass(frozen=True)
class Module:
    """A server module that logs in more detail once it is loaded: its extension, and the setting that switches it on."""

    extension: str
    setting: str
    value: str


# Objects and parameters of what reads or changes data, roles or structure; one line for each. https://github.com/pgaudit/pgaudit#settings
PGAUDIT = Module("pgaudit", "pgaudit.log", "read, write, function, role, ddl")

# What a database cannot have of its own: setting, whether a value of it will do, and what to set on the server.
_FOR_THE_SERVER = (
    ("log_connections", lambda value: value not in ("", "off"), "on", "who connects is not logged"),
    ("log_disconnections", lambda value: value == "on", "on", "when a session ends is not logged"),
    ("log_line_prefix", lambda value: "%u" in value and "%d" in value, "%m [%p] %q%u@%d ", "the log does not say whose a statement was"),
)


@dataclasses.dataclass(frozen=True)
class Applied:
    """What was set; `warnings` tells what the server did not allow and which statement to ask for, `advice` what only its operator can set.

    `extension` is the module's extension where this made it.
    """

    settings: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    extension: str = ""


def set_settings(target: Endpoint, values: Mapping[str, str]) -> list[str]:
    """Sets each for the whole database, for sessions that begin from now on; returns a warning for each the server does not allow.

    Raises ClarityError where the server refuses a setting for another reason than a missing privilege.
    """
    with target.connect(purpose="settings") as connection:
        return _set(connection, target, values)


def _set(connection: psycopg.Connection[Any], target: Endpoint, values: Mapping[str, str]) -> list[str]:
    warnings = []
    for name, value in values.items():
        try:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(sql.Identifier(target.database), _parameter(name), sql.Literal(value))
            )
        except psycopg.errors.InsufficientPrivilege:
            warnings.append(
                f'the server does not let "{target.user}" set {name} for database "{target.database}", so this is not done; '
                f"ask a superuser for: {_grant(name, target.user)}"
            )
        except psycopg.Error as error:
            raise ClarityError(
                f'The server refused {name} = {value} for database "{target.database}": {error.diag.message_primary}.',
                remedy="correct the value.",
            ) from None
    return warnings


def _parameter(name: str) -> sql.Identifier:
    """A module's setting has two parts, each quoted by itself."""
    return sql.Identifier(*name.split("."))


def _grant(name: str, user: str) -> str:
    return f"GRANT SET ON PARAMETER {'.'.join(map(quoted, name.split('.')))} TO {quoted(user)}"


def audit(target: Endpoint, values: Mapping[str, str], *, module: Module = PGAUDIT, had: str = "") -> Applied:
    """Sets `values`, and the module's setting with its extension where the server has loaded it; says what else an audit log wants.

    `had` is the extension that an earlier call made. Raises ClarityError as `set_settings` does.
    """
    with target.connect(purpose="settings") as connection:
        warnings = _set(connection, target, values)
        if not values:
            return Applied((), tuple(warnings))
        more, asked, advice, extension = _module(connection, target, module)
        warnings += _set(connection, target, more) + asked
        return Applied((*values, *more), tuple(warnings), (*advice, *_advice(connection, target)), extension or had)


def _module(connection: psycopg.Connection[Any], target: Endpoint, module: Module) -> tuple[dict[str, str], list[str], list[str], str]:
    """The settings of the module that the database is to have, warnings, advice, and the extension that was made now."""
    row = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_settings WHERE name = %(setting)s),"
        " EXISTS (SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = %(extension)s),"
        " EXISTS (SELECT 1 FROM pg_catalog.pg_extension WHERE extname = %(extension)s)",
        dataclasses.asdict(module),
    ).fetchone()
    assert row is not None
    loaded, available, made = row
    if not loaded:
        how = "add it to shared_preload_libraries, restart the server, run `pulumi up` again"
        return {}, [], [f"{module.extension} is installed on the server, but not loaded: {how}"] if available else [], ""
    if made or not available:
        return {module.setting: module.value}, [], [], ""
    try:
        connection.execute(sql.SQL("CREATE EXTENSION {} SCHEMA public").format(sql.Identifier(module.extension)))
    except psycopg.errors.InsufficientPrivilege:
        ask = f"CREATE EXTENSION {quoted(module.extension)} in database {quoted(target.database)}"
        asked = f'the server does not let "{target.user}" make the extension {module.extension}; ask a superuser for: {ask}'
        return {module.setting: module.value}, [asked], [], ""
    return {module.setting: module.value}, [], [], module.extension


def _advice(connection: psycopg.Connection[Any], target: Endpoint) -> list[str]:
    """What an audit log wants of the whole server, and what undoes it for single roles."""
    advice = []
    for name, will_do, wanted, why in _FOR_THE_SERVER:
        row = connection.execute("SELECT pg_catalog.current_setting(%s)", (name,)).fetchone()
        if row is not None and not will_do(str(row[0])):
            advice.append(f"{why}: set {name} = '{wanted}' for the whole server (it cannot be set for one database)")
    rows = connection.execute(
        "SELECT r.rolname, s.setdatabase = 0"
        " FROM pg_catalog.pg_db_role_setting AS s JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole"
        " WHERE s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"
        " AND EXISTS (SELECT 1 FROM pg_catalog.unnest(s.setconfig) AS c"
        " WHERE pg_catalog.starts_with(c, 'log_statement=') AND c <> 'log_statement=all') ORDER BY 1"
    ).fetchall()
    for role, everywhere in rows:
        where = "" if everywhere else f" IN DATABASE {quoted(target.database)}"
        undo = f"ALTER ROLE {quoted(role)}{where} RESET log_statement"
        advice.append(f'role "{role}" has a log_statement of its own, which wins over the database\'s: {undo}')
    return advice


def missing_privileges(connection: psycopg.Connection[Any], database: str, names: Iterable[str]) -> list[str]:
    """A warning for each setting that the session's user may not make for `database`, and that it has not; asks the server only."""
    warnings = []
    for name in names:
        row = connection.execute(
            "SELECT pg_catalog.has_parameter_privilege(current_user, %(name)s, 'SET') OR EXISTS (SELECT 1 FROM pg_catalog.pg_db_role_setting s"
            " JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE d.datname = %(database)s AND s.setrole = 0"
            " AND pg_catalog.strpos(pg_catalog.array_to_string(s.setconfig, ' '), %(name)s || '=') > 0)",
            {"name": name, "database": database},
        ).fetchone()
        if row is not None and not row[0]:
            warnings.append(
                f'The server does not let "{connection.info.user}" set {name}: statements of database "{database}" will not be logged.'
                f" Ask a superuser for: {_grant(name, connection.info.user)}"
            )
    return warnings


def reset_settings(target: Endpoint, names: Iterable[str], *, extension: str = "") -> None:
    """Takes each setting back, and the extension that `audit` made; one that was never allowed, or is gone, is no error."""
    wanted = list(names)
    if not wanted and not extension:
        return
    with target.connect(purpose="settings") as connection:
        for name in wanted:
            try:
                connection.execute(sql.SQL("ALTER DATABASE {} RESET {}").format(sql.Identifier(target.database), _parameter(name)))
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject):
                continue  # it could not be set either, or its module is no longer loaded
        if extension:
            _drop_extension(connection, extension)


def _drop_extension(connection: psycopg.Connection[Any], extension: str) -> None:
    try:
        connection.execute(sql.SQL("DROP EXTENSION IF EXISTS {}").format(sql.Identifier(extension)))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise ClarityError(
            f"Extension {extension}, made for the audit log, cannot be dropped: {error.diag.message_detail}",
            unchanged="The extension stays; its settings were taken back.",
            remedy="drop what depends on it, then run the same command again.",
        ) from None
