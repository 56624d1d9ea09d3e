"""What must the admin be able to do on the target's server, and what will that server not take from it? Asked before anything is made."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra import scram
from clarity_infra.connection import Endpoint
from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.move.names import quoted
from clarity_infra.move.queries import query

# Neon's compute refuses a role's password that it cannot read: "Neon only supports being given plaintext passwords".
_REFUSES_VERIFIERS = (".neon.tech", ".neon.build")

# In the server's words for it, in any language: a rule that refuses, or none that admits.
_NOT_ADMITTED = "pg_hba.conf"

# Milliseconds that the PostgreSQL plugin may need: to drop a database the server writes a checkpoint, which takes a while on a busy one.
_ENOUGH = {"statement_timeout": 60_000, "transaction_timeout": 60_000, "lock_timeout": 5_000, "idle_in_transaction_session_timeout": 5_000}


def lacking(connection: psycopg.Connection[Any], *, database: str, roles: Sequence[str], all_data: bool) -> list[str]:
    """The statements to ask for where the session's user could not make, or take over, this database and these roles; reads only.

    `all_data`: whether pg_read_all_data and pg_write_all_data are to be granted too.
    """
    row = connection.execute(query("admin_lacks"), {"database": database, "roles": list(roles)}).fetchone()
    assert row is not None
    superuser, may_roles, may_databases, roles_made, database_made, unruled, owner, all_data_ruled = row
    if superuser:
        return []
    admin = quoted(connection.info.user)
    modern = connection.info.server_version >= 160000  # before, CREATEROLE was enough to grant every role
    asked = []
    if not may_roles:
        asked.append(f"ALTER ROLE {admin} CREATEROLE")
    if not may_databases and not database_made:
        asked.append(f"ALTER ROLE {admin} CREATEDB")
    if modern and roles_made:
        asked += [f"GRANT {quoted(role)} TO {admin} WITH ADMIN OPTION" for role in unruled]
    if database_made and owner is not None:
        asked.append(f"ALTER DATABASE {quoted(database)} OWNER TO {admin}")
    if modern and all_data and not all_data_ruled:
        asked.append(f"GRANT pg_read_all_data, pg_write_all_data TO {admin} WITH ADMIN OPTION")
    return asked


def reaches_all_data(connection: psycopg.Connection[Any], role: str) -> bool:
    """Whether a role was granted pg_read_all_data and pg_write_all_data, by whomever."""
    row = connection.execute(
        "SELECT pg_catalog.count(DISTINCT m.roleid) = 2 FROM pg_catalog.pg_auth_members AS m"
        " JOIN pg_catalog.pg_roles AS r ON r.oid = m.roleid JOIN pg_catalog.pg_roles AS member ON member.oid = m.member"
        " WHERE member.rolname = %s AND r.rolname IN ('pg_read_all_data', 'pg_write_all_data')",
        (role,),
    ).fetchone()
    return bool(row and row[0])


def refuse_altered_sessions(endpoint: Endpoint, connection: psycopg.Connection[Any], *, writes: bool) -> None:
    """Raises Refused where settings of the login's own make every session of it another role's or, if it `writes`, read-only.

    The plugin's sessions are as the server begins them; `connection` is one of ours, whose own settings hide what it began with.
    """
    row = connection.execute(
        "SELECT session_user::text, current_user::text, reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'"
    ).fetchone()
    assert row is not None
    login, acting, read_only = row
    if acting != login:
        # It would make things that belong to the other role, and not be able to take them away again.
        raise Refused(
            f'{endpoint.label()}: sessions of "{login}" act as "{acting}" from the start (ALTER ROLE ... SET role), which the PostgreSQL plugin'
            " cannot work with.",
            unchanged="Nothing was changed.",
            remedy=f"ALTER ROLE {quoted(login)} RESET role, or, where it was set so, ALTER ROLE {quoted(login)} IN DATABASE"
            f" {quoted(endpoint.database)} RESET role; or use a login of its own for this.",
        )
    if writes and read_only == "on":
        raise Refused(
            f'{endpoint.label()}: transactions of "{login}" are read-only from the start (default_transaction_read_only): nothing can be made.',
            unchanged="Nothing was changed.",
            remedy="see why: some providers set it while a disk is full. Then ALTER ROLE, ALTER DATABASE or ALTER SYSTEM, whichever set it,"
            " ... RESET default_transaction_read_only.",
        )


def refuse_unadmitted(target: Endpoint, logins: Sequence[str]) -> None:
    """Raises Refused where the server's rules keep one of these logins from a database that does not exist yet, as seen from this machine.

    They are asked before database and role are looked for: a server that admits says that there is none.
    """
    for login in logins:
        endpoint = target if login == target.user else target.with_login(login, secrets.token_urlsafe(16))
        try:
            endpoint.connect(purpose="review").close()
        except ConfigurationError as error:
            if _NOT_ADMITTED in error.what:
                raise Refused(
                    error.what,
                    unchanged="Nothing was changed.",
                    remedy=f'have the server admit "{login}" to database "{target.database}" (pg_hba.conf, or its provider\'s console), or'
                    " name in `database` one that it admits to.",
                ) from None


def hurried(admin: Endpoint) -> list[str]:
    """A warning where the login's sessions are ended so soon that the plugin, which takes settings as they are, may fail half way."""
    try:
        begun = admin.begins_with(*_ENOUGH)
    except psycopg.errors.QueryCanceled:
        begun = {"statement_timeout": "1"}
    short = [name for name, enough in _ENOUGH.items() if 0 < int(begun.get(name, 0)) < enough]
    if not short:
        return []
    shown = ", ".join(f"{name} = {begun[name]} ms" for name in short)
    undo = "; ".join(f"ALTER ROLE {quoted(admin.user)} SET {name} TO 0" for name in short)
    return [
        f"Sessions of {quoted(admin.user)} on {admin.host} begin with {shown}. This program's own do without, but not those of the PostgreSQL"
        " plugin, which may be stopped half way as it makes or drops the database. Before this, as that user:"
        f" {undo} (where one was set for a single database: ALTER ROLE {quoted(admin.user)} IN DATABASE {quoted(admin.database)} SET ...)."
    ]


def verifier_warning(admin: Endpoint) -> str:
    """A warning where the server is of a provider known to refuse a password's verifier; empty elsewhere."""
    if not admin.host.endswith(_REFUSES_VERIFIERS):
        return ""
    return (
        f"{admin.host} is a server that takes passwords in clear only, and not the verifier this program gives it by default: set"
        " `pulumi config set clarity-infra:passwordForm plain` (the clear password is then part of a statement, which the server may log)."
    )


def check_verifier(admin: Endpoint) -> None:
    """Tries, in a transaction that is rolled back, whether the server makes a role whose password is given as a verifier.

    Raises ConfigurationError that names the setting where it does not. A server that refuses to make any role is told of elsewhere.
    """
    name, salt = f"clarity_infra_probe_{secrets.token_hex(8)}", base64.b64encode(secrets.token_bytes(16)).decode()
    with admin.connect(autocommit=False, purpose="review") as connection:
        try:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
        except psycopg.Error:
            return
        verifier = scram.verifier(secrets.token_urlsafe(32), salt)
        try:
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(verifier)))
        except psycopg.Error as error:
            raise ConfigurationError(
                f"{admin.label()}: the server refuses a password that is given as a SCRAM verifier: {error.diag.message_primary}.",
                unchanged="Nothing was changed.",
                remedy="`pulumi config set clarity-infra:passwordForm plain`: the clear password is then part of a statement, which the"
                " server may log.",
            ) from None
        finally:
            connection.rollback()
