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

from clarity_infra import scram
from clarity_infra.secret import secret
from clarity_infra.settings import Settings

# 43 letters and digits carry 256 bits, and none of them means anything in a URL, in SQL or in a shell.
_PASSWORD_LENGTH = 43
_SALT_BYTES = 16

_TABLE = ["DELETE", "INSERT", "SELECT", "UPDATE"]
_SEQUENCE = ["SELECT", "USAGE"]


class Password(pulumi.ComponentResource):
    """The application's random password, and the form in which the server is given it."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("clarity:database:Password", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        rotation = {"revision": str(settings.configuration.password_revision)}
        generated = random.RandomPassword(name, length=_PASSWORD_LENGTH, special=False, keepers=rotation, opts=child)
        # The salt is a resource so that the verifier is the same on every run.
        salt = random.RandomBytes("salt", length=_SALT_BYTES, keepers=rotation, opts=child)
        self.clear = secret(generated.result)
        form = settings.configuration.password_form
        self.for_server = self.clear if form == "plain" else pulumi.Output.all(self.clear, salt.base64).apply(lambda both: scram.verifier(*both))
        self.register_outputs({})


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
            roles=["pg_read_all_data", "pg_write_all_data"] if configuration.grant_all_data else [],
            opts=self._options(import_=self._adopted("role", configuration.read_write_role, existing)),
        )
        self.user = postgresql.Role(
            "user",
            name=configuration.user,
            login=True,
            password=password.for_server,
            roles=[self.role.name],  # never GrantRole: each update of a Role revokes what is not listed here (provider-facts 1)
            opts=self._options(import_=self._adopted("role", configuration.user, existing)),
        )
        # Lets the admin act as the owner, and end the application's sessions when the database is dropped (provider-facts 3).
        self.membership = postgresql.GrantRole(
            "admin-acts-as-user",
            role=settings.maintenance.user,
            grant_role=self.user.name,
            opts=self._options(ignore_changes=["with_admin_option"], delete_before_replace=True),
        )
        self.database = postgresql.Database(
            "database",
            name=configuration.database,
            template="template0",
            encoding="UTF8",
            opts=self._options(
                depends_on=[self.role, self.user, self.membership],
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
            host=endpoint.host,
            port=endpoint.port,
            username=endpoint.user,
            password=pulumi.Output.secret(endpoint.password),
            database=endpoint.database,
            sslmode=endpoint.sslmode,
            sslrootcert=endpoint.sslrootcert or None,
            superuser=False,  # True reads password hashes, which a managed server's admin may not; nothing here needs it
            connect_timeout=15,
            opts=pulumi.ResourceOptions(parent=self),
        )

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
        self._grant("connect", role=self.role.name, kind="database", privileges=["CONNECT"])
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
            for owner in (self._settings.maintenance.user, self._settings.configuration.user):
                self._default(owner, schema, "table", _TABLE)
                self._default(owner, schema, "sequence", _SEQUENCE)

    def _default(self, owner: str, schema: str, kind: str, privileges: list[str]) -> None:
        """Later objects, of each role that will make some: the default privileges of one say nothing of the other's."""
        options = self._chained(self.user)
        options.delete_before_replace = True
        self._last = postgresql.DefaultPrivileges(
            f"default-{schema}-{'admin' if owner == self._settings.maintenance.user else 'user'}-{kind}",
            role=self.role.name,
            database=self.database.name,
            schema=schema,
            owner=owner,
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
        return [self._last] if self._last else []
