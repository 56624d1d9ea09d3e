"""Role memberships and locks: how an admin that is no superuser comes to act for other roles, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from psycopg import sql

from sandbox.plugins.pg.connection import Connection, telling
from sandbox.plugins.provider import Refused

PUBLIC = "public"


def exists(connection: Connection, role: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone() is not None


def oid(connection: Connection, role: str) -> int:
    """The OID of `role`, 0 for PUBLIC."""
    if role == PUBLIC:
        return 0
    row = connection.execute("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone()
    if row is None:
        raise Refused(f"could not find oid for role {role}: it does not exist")
    return int(row["oid"])


def is_superuser(connection: Connection, role: str) -> bool:
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone()
    if row is None:
        raise Refused(f"could not check if role {role} is superuser: it does not exist")
    return bool(row["rolsuper"])


def memberships(connection: Connection, role: str) -> list[str]:
    """The roles that `role` is a member of."""
    rows = connection.execute(
        "SELECT pg_get_userbyid(m.roleid)::text AS granted FROM pg_catalog.pg_auth_members AS m"
        " JOIN pg_catalog.pg_roles AS r ON r.oid = m.member WHERE r.rolname = %s",
        [role],
    )
    return [row["granted"] for row in rows]


def grant(connection: Connection, role: str, member: str) -> bool:
    """Makes `member` a member of `role`; False if it was one already, or is the role itself."""
    if member == role or _acts_for(connection, role, member):
        return False
    with telling(f"could not grant role {role} to {member}"):
        connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(member)))
    return True


def revoke(connection: Connection, role: str, member: str) -> bool:
    """Takes the membership away; False if there was none."""
    if member == role or not _acts_for(connection, role, member):
        return False
    with telling(f"could not revoke role {role} from {member}"):
        connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(role), sql.Identifier(member)))
    return True


@contextmanager
def granted(connection: Connection, roles: Sequence[str]) -> Iterator[None]:
    """Makes the current user a member of `roles` for the block, within its transaction; a superuser needs none of it.

    A role that is itself a member of the current user loses that membership meanwhile, as a circle is not allowed.
    """
    row = connection.execute("SELECT current_user::text AS name").fetchone()
    me = str(row["name"]) if row else ""
    if not roles or is_superuser(connection, me):
        yield
        return
    taken = [role for role in roles if not is_superuser(connection, role)]
    turned = [role for role in taken if revoke(connection, me, role)]
    given = [role for role in taken if grant(connection, role, me)]
    yield
    for role in given:
        if exists(connection, role):
            revoke(connection, role, me)
    for role in turned:
        if exists(connection, role):
            grant(connection, me, role)


def lock_role(connection: Connection, role: str) -> None:
    """Waits for other changes of `role` and its members; PUBLIC has no lock."""
    connection.execute("SET statement_timeout = 0")
    with telling(f"could not get advisory lock for role {role}"):
        connection.execute("SELECT pg_advisory_xact_lock(oid::bigint) FROM pg_roles WHERE rolname = %s", [role])
    with telling(f"could not get advisory lock for members of role {role}"):
        connection.execute(
            "SELECT pg_advisory_xact_lock(m.member::bigint) FROM pg_auth_members AS m"
            " JOIN pg_roles AS r ON r.oid = m.roleid WHERE r.rolname = %s",
            [role],
        )


def lock_database(connection: Connection, database: str) -> None:
    """Waits for other changes of `database`."""
    connection.execute("SET statement_timeout = 0")
    with telling(f"could not get advisory lock for database {database}"):
        connection.execute("SELECT pg_advisory_xact_lock(oid::bigint) FROM pg_database WHERE datname = %s", [database])


def _acts_for(connection: Connection, role: str, member: str) -> bool:
    """Whether `member` may SET ROLE to `role`, which since PostgreSQL 16 not every membership allows."""
    row = connection.execute(
        "SELECT coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) AS may FROM pg_auth_members AS m"
        " WHERE pg_get_userbyid(m.roleid) = %s AND pg_get_userbyid(m.member) = %s ORDER BY may DESC LIMIT 1",
        [role, member],
    ).fetchone()
    return bool(row and row["may"])
