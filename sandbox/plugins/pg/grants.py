"""Privileges: `Grant` on what exists now, `DefaultPrivileges` on what a role will create."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, LiteralString

from psycopg import sql

from sandbox.plugins.attributes import Attribute, Attributes
from sandbox.plugins.pg import membership
from sandbox.plugins.pg.connection import Connection, identifiers, query, telling
from sandbox.plugins.pg.managed import Managed
from sandbox.plugins.provider import Difference, Refused
from sandbox.plugins.sdk import Complaint
from sandbox.plugins.wire import UNKNOWN, Props, has_unknown

_ALL = "ALL"
_KEYWORDS = {
    word: sql.SQL(word)
    for word in (
        "ALL",
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "TRUNCATE",
        "REFERENCES",
        "TRIGGER",
        "MAINTAIN",
        "USAGE",
        "CREATE",
        "CONNECT",
        "TEMPORARY",
        "EXECUTE",
    )
}
_TABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
_ALLOWED = {
    "database": ("CREATE", "CONNECT", "TEMPORARY"),
    "table": _TABLE,
    "sequence": ("USAGE", "SELECT", "UPDATE"),
    "schema": ("CREATE", "USAGE"),
    "function": ("EXECUTE",),
    "procedure": ("EXECUTE",),
    "routine": ("EXECUTE",),
    "type": ("USAGE",),
}
_PLURALS = {
    "table": sql.SQL("TABLES"),
    "sequence": sql.SQL("SEQUENCES"),
    "function": sql.SQL("FUNCTIONS"),
    "procedure": sql.SQL("PROCEDURES"),
    "routine": sql.SQL("ROUTINES"),
    "type": sql.SQL("TYPES"),
    "schema": sql.SQL("SCHEMAS"),
}
_SINGULARS = {
    "table": sql.SQL("TABLE"),
    "sequence": sql.SQL("SEQUENCE"),
    "function": sql.SQL("FUNCTION"),
    "procedure": sql.SQL("PROCEDURE"),
    "routine": sql.SQL("ROUTINE"),
}
_RELATION_KINDS = {"table": "r", "sequence": "S"}
_DEFAULT_KINDS = {"table": "r", "sequence": "S", "function": "f", "routine": "f", "type": "T", "schema": "n"}
_GRANT_TYPES = ("database", "schema", "table", "sequence", "function", "procedure", "routine")
_CONTAINER_PRIVILEGES: dict[str, LiteralString] = {
    "database": "SELECT privilege_type FROM pg_database, aclexplode(datacl) WHERE datname = %s AND grantee = %s::oid",
    "schema": "SELECT privilege_type FROM pg_namespace, aclexplode(nspacl) WHERE nspname = %s AND grantee = %s::oid",
}
_MAINTAIN_SINCE = 170000


class Grant(Managed):
    """Privileges of one role on a database, a schema, or objects of one kind in a schema, as they are now.

    Everything is revoked and then granted in one transaction. A read reports the first object that differs.
    """

    token = "postgresql:index/grant:Grant"
    attributes: ClassVar[Attributes] = {
        "columns": Attribute(replaces=True, holds="set"),
        "database": Attribute(replaces=True),
        "objectType": Attribute(replaces=True),
        "objects": Attribute(replaces=True, holds="set"),
        "privileges": Attribute(holds="set"),
        "role": Attribute(replaces=True),
        "schema": Attribute(replaces=True),
        "withGrantOption": Attribute(default=False, replaces=True),
    }

    def complaints(self, inputs: Props) -> Iterable[Complaint]:
        kind = inputs["objectType"]
        if kind is UNKNOWN:
            return
        if kind not in _GRANT_TYPES:
            yield Complaint("objectType", _unknown_kind(kind, _GRANT_TYPES))
            return
        if kind != "database" and not inputs.get("schema"):
            yield Complaint("schema", f"parameter 'schema' is mandatory for a Grant on object type {kind!r}")
        if kind in ("database", "schema") and inputs.get("objects"):
            yield Complaint("objects", f"cannot specify `objects` when `objectType` is {kind!r}")
        if inputs.get("columns"):
            yield Complaint("columns", "the stand-in for postgresql does not provide grants on columns")
        if any("(" in str(each) for each in inputs.get("objects") or []):
            yield Complaint("objects", "the stand-in for postgresql does not provide grants on functions by signature")
        yield from _privilege_complaints(inputs)

    def difference(self, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
        found = super().difference(olds, inputs, ignored)
        return dataclasses.replace(found, delete_before_replace=bool(found.replacing))

    def make(self, planned: Props) -> str:
        return self.change(planned, planned, frozenset())

    def change(self, olds: Props, planned: Props, changed: frozenset[str]) -> str:
        with self.server.transaction(planned["database"]) as connection:
            self._lock(connection, planned)
            with membership.granted(connection, self._owners(connection, planned)):
                self._revoke(connection, {**planned, "privileges": olds["privileges"]})
                if planned["privileges"]:
                    with telling(f"could not execute grant query for role {planned['role']}"):
                        connection.execute(self._grant_statement(planned))
        parts = [planned["role"], planned["database"], planned["schema"], planned["objectType"]]
        if planned["objectType"] == "database":
            del parts[2]
        return "_".join([*parts, *(planned["objects"] or [])])

    def find(self, id_: str, state: Props) -> Props | None:
        database, role = state["database"], state["role"]
        with self.server.autocommit() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        if found is None:
            return None
        with self.server.transaction(database) as connection, telling(f"could not read privileges of {role}"):
            if role != membership.PUBLIC and not membership.exists(connection, role):
                return None
            if state["objectType"] != "database" and not _schema_exists(connection, state["schema"]):
                return None
            for granted in self._granted(connection, state):
                if not _equal(granted, state, connection.info.server_version):
                    return {"privileges": sorted(granted)}
        return {}

    def remove(self, state: Props) -> None:
        with self.server.transaction(state["database"]) as connection:
            self._lock(connection, state)
            with membership.granted(connection, self._owners(connection, state)):
                self._revoke(connection, state)

    def _revoke(self, connection: Connection, state: Props) -> None:
        with telling(f"could not execute revoke query for role {state['role']}"):
            connection.execute(self._revoke_statement(state))

    @staticmethod
    def _lock(connection: Connection, state: Props) -> None:
        membership.lock_role(connection, state["role"])
        if state["objectType"] == "database":
            membership.lock_database(connection, state["database"])

    @staticmethod
    def _owners(connection: Connection, state: Props) -> list[str]:
        """Whom an admin that is no superuser has to act for. For a database nobody: the server then only warns."""
        if state["objectType"] == "database":
            return []
        owners: list[str] = []
        if state["objectType"] != "schema":
            rows = connection.execute("SELECT DISTINCT tableowner::text AS owner FROM pg_tables WHERE schemaname = %s", [state["schema"]])
            owners = [row["owner"] for row in rows]
        row = connection.execute(
            "SELECT pg_get_userbyid(nspowner)::text AS owner FROM pg_namespace WHERE nspname = %s", [state["schema"]]
        ).fetchone()
        if row is None:
            raise Refused(f"could not find schema {state['schema']!r} while looking for its owner")
        return [_resolved(connection, owner) for owner in dict.fromkeys([*owners, row["owner"]])]

    def _grant_statement(self, state: Props) -> sql.Composed:
        statement = sql.SQL("GRANT {} ON {} TO {}").format(_words(state["privileges"]), self._target(state), sql.Identifier(state["role"]))
        return statement + sql.SQL(" WITH GRANT OPTION") if state["withGrantOption"] else statement

    def _revoke_statement(self, state: Props) -> sql.Composed:
        # Named objects lose what is named, so that grants on their columns stay.
        named = state["objects"] and state["privileges"]
        privileges = _words(state["privileges"]) if named else sql.SQL("ALL PRIVILEGES")
        return sql.SQL("REVOKE {} ON {} FROM {}").format(privileges, self._target(state), sql.Identifier(state["role"]))

    @staticmethod
    def _target(state: Props) -> sql.Composable:
        kind = state["objectType"]
        if kind == "database":
            return sql.SQL("DATABASE {}").format(sql.Identifier(state["database"]))
        if kind == "schema":
            return sql.SQL("SCHEMA {}").format(sql.Identifier(state["schema"]))
        if not state["objects"]:
            return sql.SQL("ALL {} IN SCHEMA {}").format(_PLURALS[kind], sql.Identifier(state["schema"]))
        named = sql.SQL(", ").join(sql.Identifier(state["schema"], each) for each in state["objects"])
        return sql.SQL("{} {}").format(_SINGULARS[kind], named)

    @staticmethod
    def _granted(connection: Connection, state: Props) -> Iterable[set[str]]:
        """The privileges there are, object by object; an object without an ACL counts as one without privileges."""
        role, kind = membership.oid(connection, state["role"]), state["objectType"]
        if kind in ("database", "schema"):
            rows = connection.execute(_CONTAINER_PRIVILEGES[kind], [state[kind], role])
            yield {row["privilege_type"] for row in rows}
            return
        name = "relation_privileges" if kind in _RELATION_KINDS else "routine_privileges"
        asked = {"grantee": role, "schema": state["schema"], "kind": _RELATION_KINDS.get(kind)}
        for row in connection.execute(query(name), asked).fetchall():
            if not state["objects"] or row["object"] in state["objects"]:
                yield set(row["privileges"])


class DefaultPrivileges(Managed):
    """Privileges of a role on objects that `owner` will create. Where the server holds none, the resource is gone."""

    token = "postgresql:index/defaultPrivileges:DefaultPrivileges"
    attributes: ClassVar[Attributes] = {
        "database": Attribute(replaces=True),
        "objectType": Attribute(replaces=True),
        "owner": Attribute(replaces=True),
        "privileges": Attribute(holds="set"),
        "role": Attribute(replaces=True),
        "schema": Attribute(replaces=True),
        "withGrantOption": Attribute(default=False, replaces=True),
    }

    def complaints(self, inputs: Props) -> Iterable[Complaint]:
        kind = inputs["objectType"]
        if kind is UNKNOWN:
            return
        if kind not in _DEFAULT_KINDS:
            yield Complaint("objectType", _unknown_kind(kind, _DEFAULT_KINDS))
            return
        if kind == "schema" and inputs.get("schema"):
            yield Complaint("schema", "cannot specify `schema` when `objectType` is `schema`")
        if inputs.get("withGrantOption") is True and inputs["role"] == membership.PUBLIC:
            yield Complaint("withGrantOption", "withGrantOption cannot be true for role 'public'")
        yield from _privilege_complaints(inputs)

    def make(self, planned: Props) -> str:
        id_ = self.change(planned, planned, frozenset())
        if self.find(id_, planned) is None:
            raise Refused(
                f"default privileges {id_} were set, but the server holds none: they equal what it grants by default. Leave the resource out"
            )
        return id_

    def change(self, olds: Props, planned: Props, changed: frozenset[str]) -> str:
        with self.server.transaction(planned["database"]) as connection:
            membership.lock_role(connection, planned["owner"])
            with membership.granted(connection, [planned["owner"]]):
                self._revoke(connection, planned)
                if planned["privileges"]:
                    with telling(f"could not alter default privileges of {planned['owner']}"):
                        connection.execute(self._grant_statement(planned))
        schema = planned["schema"] or "noschema"
        return "_".join([planned["role"], planned["database"], schema, planned["owner"], planned["objectType"]])

    def find(self, id_: str, state: Props) -> Props | None:
        database, role = state["database"], state["role"]
        with self.server.autocommit() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        if found is None:
            return None
        with self.server.transaction(database) as connection, telling(f"could not read default privileges of {role}"):
            if role != membership.PUBLIC and not membership.exists(connection, role):
                return None
            if state["schema"] and not _schema_exists(connection, state["schema"]):
                return None
            membership.lock_role(connection, state["owner"])
            asked = {
                "grantee": membership.oid(connection, role),
                "owner": state["owner"],
                "kind": _DEFAULT_KINDS[state["objectType"]],
                "schema": state["schema"] or None,
            }
            granted = {row["privilege_type"] for row in connection.execute(query("default_privileges"), asked)}
            if not granted and state["privileges"]:
                return None
            return {} if _equal(granted, state, connection.info.server_version) else {"privileges": sorted(granted)}

    def remove(self, state: Props) -> None:
        with self.server.transaction(state["database"]) as connection:
            membership.lock_role(connection, state["owner"])
            with membership.granted(connection, [state["owner"]]):
                self._revoke(connection, state)

    def _revoke(self, connection: Connection, state: Props) -> None:
        with telling(f"could not revoke default privileges of {state['owner']}"):
            connection.execute(
                self._opening(state) + sql.SQL("REVOKE ALL ON {} FROM {}").format(_PLURALS[state["objectType"]], sql.Identifier(state["role"]))
            )

    def _grant_statement(self, state: Props) -> sql.Composed:
        statement = self._opening(state) + sql.SQL("GRANT {} ON {} TO {}").format(
            _words(state["privileges"]), _PLURALS[state["objectType"]], sql.Identifier(state["role"])
        )
        return statement + sql.SQL(" WITH GRANT OPTION") if state["withGrantOption"] else statement

    @staticmethod
    def _opening(state: Props) -> sql.Composed:
        within = sql.SQL("IN SCHEMA {} ").format(identifiers([state["schema"]])) if state["schema"] else sql.SQL("")
        return sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {}").format(sql.Identifier(state["owner"]), within)


def _words(privileges: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(_KEYWORDS[each] for each in privileges)


def _privilege_complaints(inputs: Props) -> Iterable[Complaint]:
    kind, privileges = inputs["objectType"], inputs.get("privileges")
    if has_unknown(privileges):
        return
    # MAINTAIN is for PostgreSQL 17 and later, which only the server can say.
    allowed = {_ALL, *_ALLOWED[kind], *(["MAINTAIN"] if kind == "table" else [])}
    for privilege in privileges or []:
        if privilege not in allowed:
            yield Complaint("privileges", f"{privilege} is not an allowed privilege for object type {kind}")


def _equal(granted: set[str], state: Props, server_version: int) -> bool:
    """Whether the privileges there are equal those in the state, in which ALL stands for each that there is."""
    wanted = set(state["privileges"] or [])
    if granted == wanted:
        return True
    every = set(_ALLOWED[state["objectType"]])
    if state["objectType"] == "table" and server_version >= _MAINTAIN_SINCE:
        every.add("MAINTAIN")
    return _ALL in wanted and granted == every


def _resolved(connection: Connection, owner: str) -> str:
    """The owner of the current database, where `owner` is the role that stands for it."""
    if owner != "pg_database_owner":
        return owner
    row = connection.execute("SELECT pg_get_userbyid(datdba)::text AS owner FROM pg_database WHERE datname = current_database()").fetchone()
    return str(row["owner"]) if row else owner


def _schema_exists(connection: Connection, schema: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is not None


def _unknown_kind(kind: str, known: Iterable[str]) -> str:
    return f"the stand-in for postgresql does not provide object type {kind!r}; it has {', '.join(known)}"
