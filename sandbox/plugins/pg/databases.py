"""Databases and schemas: `Database` and `Schema`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from psycopg import sql

from sandbox.plugins.attributes import Attribute, Attributes
from sandbox.plugins.pg import membership
from sandbox.plugins.pg.connection import Connection, query, telling
from sandbox.plugins.pg.managed import Managed
from sandbox.plugins.provider import Refused
from sandbox.plugins.sdk import Complaint
from sandbox.plugins.wire import Props


class Database(Managed):
    """A database. Deleting it first forbids connections, then ends those that are left, then drops it by force; each
    stands for itself, so that a failure half-way leaves a database that nobody can connect to."""

    token = "postgresql:index/database:Database"
    is_named = True
    importable = True
    attributes: ClassVar[Attributes] = {
        "allowConnections": Attribute(default=True),
        "alterObjectOwnership": Attribute(default=False),
        "connectionLimit": Attribute(default=-1),
        "encoding": Attribute(computed=True, replaces=True),
        "isTemplate": Attribute(computed=True),
        "lcCollate": Attribute(computed=True, replaces=True),
        "lcCtype": Attribute(computed=True, replaces=True),
        "name": Attribute(),
        "owner": Attribute(computed=True),
        "tablespaceName": Attribute(computed=True),
        "template": Attribute(computed=True, replaces=True),
    }

    def make(self, planned: Props) -> str:
        name = planned["name"]
        statement = sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(self._options(planned)))
        with self._for_owner(planned["owner"]) as connection, telling(f"error creating database {name!r}"):
            connection.execute(statement)
        return str(name)

    def find(self, id_: str, state: Props) -> Props | None:
        with self.server.autocommit() as connection, telling(f"error reading database {id_!r}"):
            row = connection.execute(query("database"), {"name": id_}).fetchone()
        if row is None:
            return None
        return {
            "name": row["name"],
            "owner": row["owner"],
            "encoding": row["encoding"],
            "lcCollate": row["lc_collate"],
            "lcCtype": row["lc_ctype"],
            "tablespaceName": row["tablespace_name"],
            "connectionLimit": row["connection_limit"],
            "allowConnections": row["allow_connections"],
            "isTemplate": row["is_template"],
            "template": state["template"] or "template0",
        }

    def change(self, olds: Props, planned: Props, changed: frozenset[str]) -> str:
        name = sql.Identifier(planned["name"])
        with self._for_owner(planned["owner"] if "owner" in changed else None) as connection:
            if "name" in changed:
                self._alter(connection, sql.SQL("ALTER DATABASE {} RENAME TO {}"), sql.Identifier(olds["name"]), name)
            if "owner" in changed and planned["owner"]:
                if planned["alterObjectOwnership"]:
                    self._reassign(planned["name"], olds["owner"], planned["owner"])
                self._alter(connection, sql.SQL("ALTER DATABASE {} OWNER TO {}"), name, _name(planned["owner"]))
            if "tablespaceName" in changed:
                space = _name(planned["tablespaceName"] or "pg_default")
                self._alter(connection, sql.SQL("ALTER DATABASE {} SET TABLESPACE {}"), name, space)
            if "connectionLimit" in changed:
                limit = sql.Literal(planned["connectionLimit"])
                self._alter(connection, sql.SQL("ALTER DATABASE {} CONNECTION LIMIT = {}"), name, limit)
            if "allowConnections" in changed:
                allowed = sql.Literal(planned["allowConnections"])
                self._alter(connection, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}"), name, allowed)
            if "isTemplate" in changed:
                template = sql.Literal(bool(planned["isTemplate"]))
                self._alter(connection, sql.SQL("ALTER DATABASE {} IS_TEMPLATE {}"), name, template)
        return str(planned["name"])

    def remove(self, state: Props) -> None:
        name = sql.Identifier(state["name"])
        with self._for_owner(state["owner"]) as connection:
            if state["isTemplate"]:
                self._alter(connection, sql.SQL("ALTER DATABASE {} IS_TEMPLATE false"), name)
            with telling(f"error blocking connections to database {state['name']!r}"):
                connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            with telling(f"error terminating database connections to {state['name']!r}, which admits no new ones now"):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                    [state["name"]],
                )
            with telling(f"error dropping database {state['name']!r}, which admits no connections now"):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    @contextmanager
    def _for_owner(self, owner: str | None) -> Iterator[Connection]:
        """A connection whose user is a member of `owner` for the block; a transaction of its own holds the lock."""
        with self.server.autocommit() as connection:
            if not owner:
                yield connection
                return
            with self.server.transaction() as lock:
                membership.lock_role(lock, self.server.user)
                was_granted = membership.grant(connection, owner, self.server.user)
                try:
                    yield connection
                finally:
                    if was_granted:
                        membership.revoke(connection, owner, self.server.user)

    def _options(self, planned: Props) -> Iterator[sql.Composable]:
        yield sql.SQL("OWNER {}").format(sql.Identifier(planned["owner"] or self.server.user))
        yield sql.SQL("TEMPLATE {}").format(_name(planned["template"] or "template0"))
        yield sql.SQL("ENCODING {}").format(_literal(planned["encoding"] or "UTF8"))
        if planned["lcCollate"]:
            yield sql.SQL("LC_COLLATE {}").format(_literal(planned["lcCollate"]))
        if planned["lcCtype"]:
            yield sql.SQL("LC_CTYPE {}").format(_literal(planned["lcCtype"]))
        if planned["tablespaceName"]:
            yield sql.SQL("TABLESPACE {}").format(_name(planned["tablespaceName"]))
        yield sql.SQL("ALLOW_CONNECTIONS {}").format(sql.Literal(planned["allowConnections"]))
        yield sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(planned["connectionLimit"]))
        yield sql.SQL("IS_TEMPLATE {}").format(sql.Literal(bool(planned["isTemplate"])))

    def _reassign(self, database: str, old: str, new: str) -> None:
        with self.server.transaction(database) as connection, membership.granted(connection, [old, new]):
            self._alter(connection, sql.SQL("REASSIGN OWNED BY {} TO {}"), sql.Identifier(old), sql.Identifier(new))

    @staticmethod
    def _alter(connection: Connection, statement: sql.SQL, *parts: sql.Composable) -> None:
        with telling("error updating database"):
            connection.execute(statement.format(*parts))


class Schema(Managed):
    """A schema in a database. One that exists is taken over, with a new owner where one is given."""

    token = "postgresql:index/schema:Schema"
    is_named = True
    importable = True
    attributes: ClassVar[Attributes] = {
        "database": Attribute(computed=True, replaces=True),
        "dropCascade": Attribute(default=False),
        "ifNotExists": Attribute(default=True),
        "name": Attribute(),
        "owner": Attribute(computed=True),
        "policies": Attribute(computed=True, holds="set"),
    }

    def complaints(self, inputs: Props) -> Iterable[Complaint]:
        if inputs.get("policies"):
            yield Complaint("policies", "the stand-in for postgresql does not provide policies; use Grant")

    def make(self, planned: Props) -> str:
        database, name = planned["database"] or self.server.database, planned["name"]
        with self.server.transaction(database) as connection:
            owners = list(dict.fromkeys(filter(None, [_owner_of_database(connection), planned["owner"]])))
            with membership.granted(connection, owners), telling(f"error creating schema {name}"):
                if not self._exists(connection, name):
                    connection.execute(self._statement(planned))
                elif planned["owner"]:
                    self._set_owner(connection, name, planned["owner"])
        return f"{database}.{name}"

    def find(self, id_: str, state: Props) -> Props | None:
        # As the real plugin: the ID is looked into only for an import.
        imported = id_.split(".", 1) if "." in id_ else (self.server.database, id_)
        database, name = (state["database"], state["name"]) if state["name"] else imported
        with self.server.autocommit() as connection:
            if not _database_exists(connection, database):
                return None
        with self.server.transaction(database) as connection, telling(f"error reading schema {id_}"):
            row = connection.execute("SELECT pg_get_userbyid(nspowner)::text AS owner FROM pg_namespace WHERE nspname = %s", [name]).fetchone()
        if row is None:
            return None
        return {"name": name, "database": database, "owner": row["owner"], "policies": state["policies"] or []}

    def change(self, olds: Props, planned: Props, changed: frozenset[str]) -> str:
        name = planned["name"]
        with self.server.transaction(planned["database"]) as connection, telling(f"error updating schema {name}"):
            if "name" in changed:
                connection.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(olds["name"]), sql.Identifier(name)))
            if "owner" in changed:
                self._set_owner(connection, name, planned["owner"])
        return f"{planned['database']}.{name}"

    def remove(self, state: Props) -> None:
        name = state["name"]
        with self.server.transaction(state["database"]) as connection:
            if not self._exists(connection, name):
                return
            mode = sql.SQL("CASCADE" if state["dropCascade"] else "RESTRICT")
            with membership.granted(connection, [state["owner"]]), telling(f"error deleting schema {name}"):
                connection.execute(sql.SQL("DROP SCHEMA {} {}").format(sql.Identifier(name), mode))

    @staticmethod
    def _statement(planned: Props) -> sql.Composed:
        lenient = sql.SQL("IF NOT EXISTS " if planned["ifNotExists"] else "")
        statement = sql.SQL("CREATE SCHEMA {}{}").format(lenient, sql.Identifier(planned["name"]))
        if planned["owner"]:
            statement += sql.SQL(" AUTHORIZATION {}").format(sql.Identifier(planned["owner"]))
        return statement

    @staticmethod
    def _exists(connection: Connection, name: str) -> bool:
        return connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name]).fetchone() is not None

    @staticmethod
    def _set_owner(connection: Connection, name: str, owner: str | None) -> None:
        if not owner:
            raise Refused(f"error setting the owner of schema {name} to an empty string")
        connection.execute(sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(owner)))


def _database_exists(connection: Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


def _owner_of_database(connection: Connection) -> str:
    row = connection.execute("SELECT pg_get_userbyid(datdba)::text AS owner FROM pg_database WHERE datname = current_database()").fetchone()
    return str(row["owner"]) if row else ""


def _name(value: str) -> sql.Composable:
    """A name that may also be the word DEFAULT, which stands for itself."""
    return sql.SQL("DEFAULT") if value.upper() == "DEFAULT" else sql.Identifier(value)


def _literal(value: str) -> sql.Composable:
    return sql.SQL("DEFAULT") if value.upper() == "DEFAULT" else sql.Literal(value)
