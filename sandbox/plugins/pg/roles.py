"""Roles and memberships: `Role` and `GrantRole`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import ClassVar

from psycopg import sql

from sandbox.plugins.attributes import Attribute, Attributes
from sandbox.plugins.pg import membership
from sandbox.plugins.pg.connection import Connection, identifiers, password_literal, query, telling
from sandbox.plugins.pg.managed import Managed
from sandbox.plugins.provider import Difference, Refused
from sandbox.plugins.wire import Props

_SWITCHES = {
    "superuser": (sql.SQL("SUPERUSER"), sql.SQL("NOSUPERUSER")),
    "createDatabase": (sql.SQL("CREATEDB"), sql.SQL("NOCREATEDB")),
    "createRole": (sql.SQL("CREATEROLE"), sql.SQL("NOCREATEROLE")),
    "inherit": (sql.SQL("INHERIT"), sql.SQL("NOINHERIT")),
    "login": (sql.SQL("LOGIN"), sql.SQL("NOLOGIN")),
    "bypassRowLevelSecurity": (sql.SQL("BYPASSRLS"), sql.SQL("NOBYPASSRLS")),
    "replication": (sql.SQL("REPLICATION"), sql.SQL("NOREPLICATION")),
}
_TIMEOUTS = {
    "statementTimeout": sql.SQL("statement_timeout"),
    "idleInTransactionSessionTimeout": sql.SQL("idle_in_transaction_session_timeout"),
}


class Role(Managed):
    """A role. An update takes all its memberships away and gives back those in `roles`."""

    token = "postgresql:index/role:Role"
    secrets = frozenset({"password", "passwordWo"})
    is_named = True
    importable = True
    attributes: ClassVar[Attributes] = {
        "assumeRole": Attribute(),
        "bypassRowLevelSecurity": Attribute(default=False),
        "connectionLimit": Attribute(default=-1),
        "createDatabase": Attribute(default=False),
        "createRole": Attribute(default=False),
        "encrypted": Attribute(),
        "encryptedPassword": Attribute(default=True),
        "idleInTransactionSessionTimeout": Attribute(),
        "inherit": Attribute(default=True),
        "login": Attribute(default=False),
        "name": Attribute(),
        "password": Attribute(),
        "passwordWo": Attribute(),
        "passwordWoVersion": Attribute(),
        "replication": Attribute(default=False),
        "roles": Attribute(holds="set"),
        "searchPaths": Attribute(holds="list"),
        "skipDropRole": Attribute(default=False),
        "skipReassignOwned": Attribute(default=False),
        "statementTimeout": Attribute(),
        "superuser": Attribute(default=False),
        "validUntil": Attribute(default="infinity"),
    }

    def planned(self, inputs: Props, olds: Props | None) -> Props:
        # A write-only password is never kept.
        return {**super().planned(inputs, olds), "passwordWo": None}

    def difference(self, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
        return super().difference(olds, inputs, ignored | {"passwordWo"})

    def make(self, planned: Props) -> str:
        name = planned["name"]
        with self.server.transaction() as connection:
            with telling(f"error creating role {name}"):
                connection.execute(sql.SQL("CREATE ROLE {} WITH {}").format(sql.Identifier(name), sql.SQL(" ").join(_options(planned))))
            self._join(connection, name, planned["roles"] or [])
            self._set_search_path(connection, name, planned["searchPaths"] or [])
            for timeout in _TIMEOUTS:
                if planned[timeout]:
                    self._set_timeout(connection, name, timeout, planned[timeout])
            if planned["assumeRole"]:
                self._set_role_at_login(connection, name, planned["assumeRole"])
        return str(name)

    def find(self, id_: str, state: Props) -> Props | None:
        with self.server.autocommit() as connection, telling(f"error reading role {id_}"):
            row = connection.execute(query("role"), {"name": id_}).fetchone()
            if row is None:
                return None
            password = self._password(connection, row["name"], row["login"], state["password"])
        config = dict(each.split("=", 1) for each in row["config"])
        return {
            "name": row["name"],
            "superuser": row["superuser"],
            "inherit": row["inherit"],
            "createRole": row["create_role"],
            "createDatabase": row["create_database"],
            "login": row["login"],
            "connectionLimit": row["connection_limit"],
            "replication": row["replication"],
            "bypassRowLevelSecurity": row["bypass_row_level_security"],
            "validUntil": row["valid_until"],
            "roles": sorted(row["roles"]),
            "searchPaths": [each.strip('"') for each in config["search_path"].split(", ")] if "search_path" in config else [],
            "statementTimeout": int(config.get("statement_timeout", 0)),
            "idleInTransactionSessionTimeout": int(config.get("idle_in_transaction_session_timeout", 0)),
            "assumeRole": config.get("role", ""),
            "encryptedPassword": True,
            "password": password or None,
            "passwordWo": None,
        }

    def change(self, olds: Props, planned: Props, changed: frozenset[str]) -> str:
        name = planned["name"]
        with self.server.transaction() as connection:
            membership.lock_role(connection, olds["name"])
            for statement in self._alterations(olds, planned, changed):
                with telling(f"error updating role {name}"):
                    connection.execute(statement)
            for role in membership.memberships(connection, name):
                with telling(f"could not revoke role {role} from {name}"):
                    connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(role), sql.Identifier(name)))
            self._join(connection, name, planned["roles"] or [])
            self._set_search_path(connection, name, planned["searchPaths"] or [])
            for timeout in _TIMEOUTS.keys() & changed:
                self._set_timeout(connection, name, timeout, planned[timeout])
            if "assumeRole" in changed:
                self._set_role_at_login(connection, name, planned["assumeRole"])
        return str(name)

    def remove(self, state: Props) -> None:
        name = sql.Identifier(state["name"])
        with self.server.transaction() as connection:
            membership.lock_role(connection, state["name"])
            if not state["skipReassignOwned"]:
                with membership.granted(connection, [state["name"]]):
                    with telling(f"could not reassign owned by role {state['name']} to {self.server.user}"):
                        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(name, sql.Identifier(self.server.user)))
                    with telling(f"could not drop owned by role {state['name']}"):
                        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            if not state["skipDropRole"]:
                with telling(f"could not delete role {state['name']}"):
                    connection.execute(sql.SQL("DROP ROLE {}").format(name))

    def _password(self, connection: Connection, role: str, login: bool, known: str | None) -> str | None:
        """The password for the state: the known one, or the server's where that one certainly differs."""
        if not login or not self.server.is_superuser:
            return known
        if not membership.is_superuser(connection, self.server.user):
            raise Refused(
                f"could not read role password from Postgres as connected user {self.server.user} is not a SUPERUSER. "
                "You can set `superuser = false` in the provider configuration so it will not try to read the password"
            )
        row = connection.execute("SELECT coalesce(passwd, '') AS stored FROM pg_catalog.pg_shadow WHERE usename = %s", [role]).fetchone()
        stored = str(row["stored"]) if row else ""
        if known and not known.startswith(("md5", "SCRAM-SHA-256")):
            # MD5 here is the server's old way to store passwords, not a choice of ours.
            of_known = "md5" + hashlib.md5(f"{known}{role}".encode(), usedforsecurity=False).hexdigest()
            if stored == of_known or stored.startswith("SCRAM-SHA-256"):
                return known
        return stored

    @staticmethod
    def _alterations(olds: Props, planned: Props, changed: frozenset[str]) -> Iterator[sql.Composed]:
        name = sql.Identifier(planned["name"])
        if "name" in changed:
            yield sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(olds["name"]), name)
        if changed & {"name", "password", "passwordWoVersion"}:
            # An MD5 password depends on the role's name, so a new name needs the password again.
            password = planned["passwordWo"] or planned["password"] or ""
            yield sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, password_literal(password))
        if "connectionLimit" in changed:
            yield sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(name, sql.Literal(planned["connectionLimit"]))
        for switch in _SWITCHES.keys() & changed:
            yield sql.SQL("ALTER ROLE {} WITH {}").format(name, _switch(switch, planned))
        if "validUntil" in changed and planned["validUntil"]:
            yield sql.SQL("ALTER ROLE {} VALID UNTIL {}").format(name, sql.Literal(planned["validUntil"]))

    @staticmethod
    def _join(connection: Connection, name: str, roles: list[str]) -> None:
        for role in roles:
            with telling(f"could not grant role {role} to {name}"):
                connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(name)))

    @staticmethod
    def _set_search_path(connection: Connection, name: str, schemas: list[str]) -> None:
        if any(", " in schema for schema in schemas):
            raise Refused(f"search_path of role {name} cannot contain `, `")
        path = identifiers(schemas) if schemas else sql.SQL("DEFAULT")
        with telling(f"could not set search_path for {name}"):
            connection.execute(sql.SQL("ALTER ROLE {} SET search_path TO {}").format(sql.Identifier(name), path))

    @staticmethod
    def _set_timeout(connection: Connection, name: str, timeout: str, milliseconds: int | None) -> None:
        role, setting = sql.Identifier(name), _TIMEOUTS[timeout]
        with telling(f"could not set {timeout} for {name}"):
            if milliseconds:
                to = sql.Literal(milliseconds)
                connection.execute(sql.SQL("ALTER ROLE {} SET {} TO {}").format(role, setting, to))
            else:
                connection.execute(sql.SQL("ALTER ROLE {} RESET {}").format(role, setting))

    @staticmethod
    def _set_role_at_login(connection: Connection, name: str, assumed: str | None) -> None:
        role = sql.Identifier(name)
        with telling(f"could not set role for {name}"):
            if assumed:
                connection.execute(sql.SQL("ALTER ROLE {} SET ROLE TO {}").format(role, sql.Identifier(assumed)))
            else:
                connection.execute(sql.SQL("ALTER ROLE {} RESET ROLE").format(role))


class GrantRole(Managed):
    """A membership of its own. The first matching row of the catalog is the one that is read, whoever granted it."""

    token = "postgresql:index/grantRole:GrantRole"
    attributes: ClassVar[Attributes] = {
        "grantRole": Attribute(replaces=True),
        "role": Attribute(replaces=True),
        "withAdminOption": Attribute(default=False, replaces=True),
    }

    def make(self, planned: Props) -> str:
        role, granted = planned["role"], planned["grantRole"]
        names = sql.Identifier(granted), sql.Identifier(role)
        option = sql.SQL(" WITH ADMIN OPTION" if planned["withAdminOption"] else "")
        with self.server.transaction() as connection, telling(f"could not grant role {granted} to {role}"):
            connection.execute(sql.SQL("REVOKE {} FROM {}").format(*names))
            connection.execute(sql.SQL("GRANT {} TO {}").format(*names) + option)
        return f"{role}_{granted}_{'true' if planned['withAdminOption'] else 'false'}"

    def find(self, id_: str, state: Props) -> Props | None:
        with self.server.autocommit() as connection, telling(f"error reading grant role {id_}"):
            row = connection.execute(
                "SELECT admin_option FROM pg_auth_members WHERE pg_get_userbyid(member) = %s AND pg_get_userbyid(roleid) = %s",
                [state["role"], state["grantRole"]],
            ).fetchone()
        return None if row is None else {"withAdminOption": row["admin_option"]}

    def remove(self, state: Props) -> None:
        role, granted = state["role"], state["grantRole"]
        with self.server.transaction() as connection, telling(f"could not revoke role {granted} from {role}"):
            connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(granted), sql.Identifier(role)))


def _options(planned: Props) -> Iterator[sql.Composable]:
    password = planned["passwordWo"] or planned["password"]
    if password:
        yield sql.SQL("PASSWORD {}").format(password_literal(password))
    yield sql.SQL("VALID UNTIL {}").format(sql.Literal(planned["validUntil"]))
    yield sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(planned["connectionLimit"]))
    for switch in _SWITCHES:
        yield _switch(switch, planned)


def _switch(name: str, planned: Props) -> sql.SQL:
    on, off = _SWITCHES[name]
    return on if planned[name] else off
