"""The application's own database: password, roles, database, schemas, and who may do what in it.

References between the resources are what orders the destroy: the database is dropped before the roles that own things in it.
The traps of the PostgreSQL plugin that shape this file are named where they matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_postgresql as postgresql
import pulumi_random as random

from clarity_infra import postgresql_plugin, scram
from clarity_infra.resources.reader import Reader
from clarity_infra.secret import secret
from clarity_infra.settings import Settings

# 43 letters and digits carry 256 bits, and none of them means anything in a URL, in SQL or in a shell.
_PASSWORD_LENGTH = 43
_SALT_BYTES = 16

_TABLE = ["DELETE", "INSERT", "SELECT", "UPDATE"]
_SEQUENCE = ["SELECT", "USAGE"]
_FUNCTION = ["EXECUTE"]
# Who may only read is not given a sequence's USAGE: nextval() is a write.
_READ = ["SELECT"]


class Password(pulumi.ComponentResource):
    """The application's random passwords, one for each of its two logins, and the form in which the server is given them."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("clarity:database:Password", name, None, opts)
        self._form = settings.configuration.password_form
        rotation = settings.rotation
        self._clear: dict[str, pulumi.Output[str]] = {}
        self._for_server: dict[str, pulumi.Output[str]] = {}
        self._generate(rotation.user, name, "salt", rotation.revision_of(rotation.user))
        if rotation.has_second:
            self._generate(rotation.second, f"{name}-second", "salt-second", rotation.revision_of(rotation.second))
        if settings.configuration.read_write_role_login:
            self._generate(settings.configuration.read_write_role, f"{name}-read-write", "salt-read-write", rotation.revision)
        self.clear = self._clear[rotation.current]
        self.register_outputs({})

    def of(self, login: str) -> pulumi.Output[str]:
        """The clear password of a login: a secret."""
        return self._clear[login]

    def for_server(self, login: str) -> pulumi.Output[str]:
        """What the server is given as the password of a login: its verifier unless configured otherwise."""
        return self._for_server[login]

    def _generate(self, login: str, name: str, salt_name: str, revision: int) -> None:
        child, rotation = pulumi.ResourceOptions(parent=self), {"revision": str(revision)}
        generated = random.RandomPassword(name, length=_PASSWORD_LENGTH, special=False, keepers=rotation, opts=child)
        # The salt is a resource so that the verifier is the same on every run.
        salt = random.RandomBytes(salt_name, length=_SALT_BYTES, keepers=rotation, opts=child)
        clear = secret(generated.result)
        self._clear[login] = clear
        verifier = pulumi.Output.all(clear, salt.base64).apply(lambda both: scram.verifier(*both))
        self._for_server[login] = clear if self._form == "plain" else verifier


class ClarityDatabase(pulumi.ComponentResource):
    """Database, roles, schemas and privileges, all through one explicit provider.

    Grants are chained, each waiting for the one before: side by side they deadlock in the plugin's locks (provider-facts 8).
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        password: Password,
        existing: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("clarity:database:ClarityDatabase", name, None, opts)
        self._settings = settings
        self._provider = self._admin()
        self._last: pulumi.Resource | None = None
        configuration = settings.configuration

        self.role = postgresql.Role(
            "read-write",
            name=configuration.read_write_role,
            login=configuration.read_write_role_login,
            password=password.for_server(configuration.read_write_role) if configuration.read_write_role_login else None,
            roles=["pg_read_all_data", "pg_write_all_data"] if configuration.grant_all_data else [],
            opts=self._options(import_=self._adopted("role", configuration.read_write_role, existing)),
        )
        self.user = postgresql.Role(
            "user",
            name=configuration.user,
            login=True,
            password=password.for_server(configuration.user),
            roles=[self.role.name],  # never GrantRole: each update of a Role revokes what is not listed here (provider-facts 1)
            opts=self._options(
                import_=self._adopted("role", configuration.user, existing),
                ignore_changes=self._ended_password(configuration.user),
            ),
        )
        self.membership = self._admin_acts_as("user", self.user)
        logins = [self.user, self.membership, *self._second_login(password, existing)]
        self.reader = self._reader(existing)
        self.database = postgresql.Database(
            "database",
            name=configuration.database,
            template="template0",
            encoding="UTF8",
            opts=self._options(
                depends_on=[self.role, *logins, *([self.reader] if self.reader else [])],
                import_=self._adopted("database", configuration.database, existing),
                # A change of any of these would drop the database to make it anew.
                ignore_changes=["template", "encoding", "lc_collate", "lc_ctype"],
                protect=settings.at_least("cleanup"),
            ),
        )
        self._privileges()
        self.ready: list[pulumi.Resource] = [self.database, *([self._last] if self._last else [])]
        self.register_outputs({"database": self.database.name, "user": self.user.name})

    def _admin(self) -> postgresql.Provider:
        endpoint = self._settings.maintenance
        return postgresql.Provider(
            "admin",
            **postgresql_plugin.connection(endpoint),
            password=pulumi.Output.secret(endpoint.password),
            superuser=False,  # True reads password hashes, which a managed server's admin may not; nothing here needs it
            connect_timeout=15,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _admin_acts_as(self, name: str, login: postgresql.Role) -> postgresql.GrantRole:
        """Lets the admin act as a login, and end its sessions when the database is dropped (provider-facts 3)."""
        return postgresql.GrantRole(
            f"admin-acts-as-{name}",
            role=self._settings.maintenance.user,
            grant_role=login.name,
            opts=self._options(ignore_changes=["with_admin_option"], delete_before_replace=True, depends_on=[login]),
        )

    def _second_login(self, password: Password, existing: Sequence[str]) -> list[pulumi.Resource]:
        """The login of even revisions: a member of the owner, whose role it takes when it logs in. Made with the first rotation."""
        rotation = self._settings.rotation
        if not rotation.has_second:
            return []
        second = postgresql.Role(
            "second-user",
            name=rotation.second,
            login=True,
            password=password.for_server(rotation.second),
            roles=[self.user.name],
            assume_role=self.user.name,
            opts=self._options(
                depends_on=[self.membership],
                import_=self._claimed(rotation.second, existing),
                ignore_changes=self._ended_password(rotation.second),
            ),
        )
        return [second, self._admin_acts_as("second-user", second)]

    def _ended_password(self, login: str) -> list[str]:
        """The password of a login that is out of use was taken from it at the end of its rotation: nothing may give it back."""
        return ["password"] if login == self._settings.rotation.former else []

    def _reader(self, existing: Sequence[str]) -> postgresql.Role | None:
        name = self._settings.configuration.read_only_role
        if not name:
            return None
        options = self._options(depends_on=[self.membership], import_=self._claimed(name, existing))
        return postgresql.Role("read-only", name=name, login=False, opts=options)

    def _claimed(self, name: str, existing: Sequence[str]) -> str | None:
        """The ID to import a role by that exists already: `Claim` refuses somebody else's, so it is what a run that died had made."""
        return name if f'role "{name}"' in existing else None

    def _adopted(self, kind: str, name: str, existing: Sequence[str]) -> str | None:
        """The ID to import by, where the configuration says to take over what exists."""
        return name if self._settings.configuration.adopt_existing and f'{kind} "{name}"' in existing else None

    def _options(self, **more: Any) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self, provider=self._provider, **more)

    def _chained(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        """Options of something inside the database: after the one before it, and gone with the database."""
        waits = [self.database, *after, *([self._last] if self._last else [])]
        return self._options(depends_on=waits, deleted_with=self.database)

    def _privileges(self) -> None:
        self._grant("public-database", role="public", kind="database", privileges=[])
        # TEMPORARY was everybody's until the grant before: applications and drivers make temporary tables.
        self._grant("connect", role=self.role.name, kind="database", privileges=["CONNECT", "TEMPORARY"])
        if self.reader:
            self._grant("read-only-connect", role=self.reader.name, kind="database", privileges=["CONNECT"])
        # Drizzle's migrator runs CREATE SCHEMA IF NOT EXISTS each time, which asks for CREATE (provider-facts 14).
        self._grant("create", role=self.user.name, kind="database", privileges=["CREATE"])
        for schema in self._settings.schemas:
            if schema == "public":
                self._grant("public-schema-public", role="public", kind="schema", schema=schema, privileges=[])
            else:
                self._last = postgresql.Schema(
                    f"schema-{schema}",
                    name=schema,
                    database=self.database.name,
                    owner=self.user.name,
                    opts=self._chained(self.user),
                )
            self._grant(
                f"schema-{schema}-usage",
                role=self.role.name,
                kind="schema",
                schema=schema,
                privileges=["CREATE", "USAGE"],
            )
            if self.reader:
                self._grant(f"read-only-{schema}-usage", role=self.reader.name, kind="schema", schema=schema, privileges=["USAGE"])
            # The admin makes things of ours too, in a schema of their own: what it makes elsewhere is the application's.
            for kind, privileges in (("table", _TABLE), ("sequence", _SEQUENCE), ("function", _FUNCTION)):
                self._default(f"default-{schema}-admin-{kind}", self.role.name, "admin", kind, privileges, schema=schema)
            if self.reader:
                for kind in ("table", "sequence"):
                    self._default(f"read-only-default-{schema}-admin-{kind}", self.reader.name, "admin", kind, _READ, schema=schema)
        self._owner_s_later_objects()

    @property
    def _creators(self) -> dict[str, str]:
        """The roles that will make objects."""
        return {"admin": self._settings.maintenance.user, "user": self._settings.configuration.user}

    def _owner_s_later_objects(self) -> None:
        """Whatever the owner makes, in schemas that later migrations make too.

        EXECUTE, which PostgreSQL gives PUBLIC of every new function, is taken from it: a function may write with its owner's rights.
        That can be said of the whole database only, not of a schema. https://www.postgresql.org/docs/current/sql-alterdefaultprivileges.html
        """
        for creator in self._creators:
            self._default(f"everybody-{creator}-function", "public", creator, "function", [])
        for kind, privileges in (("schema", ["USAGE"]), ("table", _TABLE), ("sequence", _SEQUENCE), ("function", _FUNCTION)):
            self._default(f"owner-{kind}", self.role.name, "user", kind, privileges)
        if self.reader:
            for kind, privileges in (("schema", ["USAGE"]), ("table", _READ), ("sequence", _READ)):
                self._default(f"read-only-owner-{kind}", self.reader.name, "user", kind, privileges)

    def _default(self, name: str, role: pulumi.Input[str], creator: str, kind: str, privileges: list[str], *, schema: str | None = None) -> None:
        """Later objects, of each role that will make some: the default privileges of one say nothing of the other's."""
        options = self._chained(self.user)
        options.delete_before_replace = True
        self._last = postgresql.DefaultPrivileges(
            name,
            role=role,
            database=self.database.name,
            schema=schema,
            owner=self._creators[creator],
            object_type=kind,
            privileges=privileges,
            opts=options,
        )

    def _grant(
        self,
        name: str,
        *,
        role: pulumi.Input[str],
        kind: str,
        privileges: list[str],
        schema: str | None = None,
        after: Sequence[pulumi.Resource] = (),
    ) -> None:
        self._last = postgresql.Grant(
            name,
            role=role,
            database=self.database.name,
            object_type=kind,
            schema=schema,
            privileges=privileges,
            opts=self._chained(*after),
        )

    def grant_tables(self, copied: pulumi.Resource) -> list[pulumi.Resource]:
        """Privileges on the tables and sequences that exist once `copied` is done; "all tables" means those of that moment."""
        for schema in self._settings.schemas:
            self._grant(f"tables-{schema}", role=self.role.name, kind="table", schema=schema, privileges=_TABLE, after=[copied])
            self._grant(
                f"sequences-{schema}",
                role=self.role.name,
                kind="sequence",
                schema=schema,
                privileges=_SEQUENCE,
                after=[copied],
            )
            if self.reader:
                for kind in ("table", "sequence"):
                    self._grant(f"read-only-{kind}s-{schema}", role=self.reader.name, kind=kind, schema=schema, privileges=_READ, after=[copied])
        if self.reader:
            self._last = Reader(
                "reader",
                pulumi.ResourceOptions(parent=self, depends_on=[self.reader, *([self._last] if self._last else [])]),
                stack=self._settings.stack,
                database=self._settings.configuration.database,
                role=self._settings.configuration.read_only_role,
            )
        return [self._last] if self._last else []
