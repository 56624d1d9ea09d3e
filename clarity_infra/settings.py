"""What does this stack want? Its configuration, typed and checked in one place, with the URLs it needs from where they are.

The same reading serves the program, the dynamic providers and the command line: all give raw configuration values as text.
A URL is looked for in the stack's configuration, then in the environment, then in the application's `.env`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from clarity_infra import postgresql_plugin
from clarity_infra.certificates import read_authority
from clarity_infra.connection import Endpoint
from clarity_infra.env_file import EnvFile
from clarity_infra.errors import ClarityError, ConfigurationError
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name, check_identifier
from clarity_infra.rotation import Rotation
from clarity_infra.wrangler import WranglerFile

PROJECT = "clarity-infra"
STAGES = ("provision", "copy", "cutover", "cleanup")
Stage = Literal["provision", "copy", "cutover", "cleanup"]

# Keys that hold a password or a URL with one: refused where they were set without --secret.
SECRET_KEYS = (
    *("masterDatabaseUrl", "databaseUrl", "targetDatabaseUrl"),
    *("cloudflareApiToken", "originPassword", "originAccessSecret", "hyperdriveAccessSecret"),
)

# The variable of the environment or `.env` that stands in for a key.
VARIABLES = {
    "masterDatabaseUrl": "MASTER_DATABASE_URL",
    "databaseUrl": "DATABASE_URL",
    "targetDatabaseUrl": "TARGET_DATABASE_URL",
    "cloudflareApiToken": "CLOUDFLARE_API_TOKEN",
    "discardWrites": "CLARITY_DISCARD_WRITES",
}
# Where a session goes is the URLs' to say, and nothing else's. https://www.postgresql.org/docs/current/libpq-envars.html
_DETOURS = ("PGHOSTADDR", "PGSERVICE")

# What changes from run to run must not be found in a file that lies around: only the URLs are read from `.env`.
_IN_ENV_FILE = ("masterDatabaseUrl", "databaseUrl", "targetDatabaseUrl")
# What this stack changes there: the environment has what stood there when the shell began, and nobody changes that.
_SWITCHED = ("databaseUrl",)

# Cloudflare's IDs are 32 hexadecimal digits. https://developers.cloudflare.com/fundamentals/account/find-account-and-zone-ids/
_CLOUDFLARE_ID = re.compile(r"[0-9a-f]{32}")


def _json_list(value: Any) -> Any:
    """The engine hands an array over as JSON text."""
    if isinstance(value, str):
        try:
            return json.loads(value) if value.strip() else []
        except ValueError:
            raise ValueError("must be a list, written as JSON or YAML") from None
    return value


TextList = Annotated[tuple[str, ...], BeforeValidator(_json_list)]


# Keys whose empty value means "none", where leaving them out means the default.
_MAY_BE_EMPTY = ("envFile", "reportFolder")


class Configuration(BaseModel):
    """The keys of Pulumi.yaml with their types and defaults; nothing here has read a file or a server."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, str_strip_whitespace=True)

    stage: Stage = "provision"
    copy_revision: int = Field(default=1, ge=1)
    tables: TextList = ("app_config", "feature_requests", "request_messages")
    accept: TextList = ()
    migrations_folder: str = ""
    tracking_table: str = "auto"
    last_migration: str = ""
    source_database: str = ""
    database: str = "clarity"
    read_write_role: str = ""
    user: str = ""
    second_user: str = ""
    read_only_role: str = ""
    master_database_url: str = Field(default="", repr=False)
    database_url: str = Field(default="", repr=False)
    target_database_url: str = Field(default="", repr=False)
    ssl_root_cert: str = ""
    allow_weak_tls: bool = False
    env_file: str = ".env"
    switch_master_database_url: bool = False
    adopt_existing: bool = False
    password_form: Literal["scram", "plain"] = "scram"
    password_revision: int = Field(default=1, ge=1)
    password_grace_seconds: int = Field(default=60, ge=0, le=24 * 3600)
    grant_all_data: bool = False
    read_write_role_login: bool = False
    audit_log: bool = True
    cloudflare_account_id: str = ""
    cloudflare_api_token: str = Field(default="", repr=False)
    hyperdrive_way: Literal["in-place", "second-config"] = "in-place"
    hyperdrive_id: str = ""
    hyperdrive_name: str = "clarity-db"
    hyperdrive_host: str = ""
    hyperdrive_port: int = Field(default=0, ge=0, le=65535)
    hyperdrive_access_client_id: str = ""
    hyperdrive_access_secret: str = Field(default="", repr=False)
    hyperdrive_service_id: str = ""
    hyperdrive_ca_file: str = ""
    origin_password: str = Field(default="", repr=False)
    origin_access_secret: str = Field(default="", repr=False)
    wrangler_file: str = ""
    wrangler_binding: str = "HYPERDRIVE"
    wrangler_environment: str = ""
    lock_budget: int = Field(default=60, ge=1, le=3600)
    cache_drain_seconds: int = Field(default=-1, ge=-1, le=2 * 3600)
    discard_writes: str = ""
    monitoring_hours: int = Field(default=24, ge=0, le=30 * 24)
    backup_folder: str = ""
    acknowledge_refused_writes: int = Field(default=0, ge=0)
    acknowledge_unproved_cutover: str = ""
    workers: int = Field(default=4, ge=1, le=64)
    report_folder: str = ".clarity/reports"

    @model_validator(mode="before")
    @classmethod
    def _roles_named_after_the_database(cls, values: Any) -> Any:
        """So that another environment on the same server needs one name of its own, not three."""
        database = values.get("database") or "clarity"
        return {
            **values,
            "user": values.get("user") or f"{database}_user",
            "readWriteRole": values.get("readWriteRole") or f"{database}_rw",
        }

    @field_validator("tables")
    @classmethod
    def _tables_named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one table")
        return value

    @field_validator("cloudflare_account_id", "hyperdrive_id")
    @classmethod
    def _cloudflare_id(cls, value: str) -> str:
        if value and not _CLOUDFLARE_ID.fullmatch(value):
            raise ValueError("must be 32 hexadecimal digits, as the dashboard shows it")
        return value

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> Configuration:
        """Reads raw values by their camelCase keys; an empty text counts as not set.

        Raises ConfigurationError that lists every key with what is wrong with it, and never a secret's value.
        """
        values = {key: value for key, value in raw.items() if value not in (None, "") or (value == "" and key in _MAY_BE_EMPTY)}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problems = [_problem(detail["loc"], detail["msg"], raw) for detail in error.errors(include_url=False)]
            raise ConfigurationError(
                "The configuration cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems),
                unchanged="Nothing was changed.",
                remedy="correct it with `pulumi config set KEY VALUE`; Pulumi.yaml describes every key.",
            ) from None


KEYS = tuple(to_camel(name) for name in Configuration.model_fields)


def _problem(location: tuple[int | str, ...], message: str, raw: Mapping[str, Any]) -> str:
    key = str(location[0]) if location else "configuration"
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1)
        return f"{PROJECT}:{key} is not a known key" + (f"; did you mean {near[0]}?" if near else ".")
    shown = "" if key in SECRET_KEYS else f" (is {raw.get(key)!r})"
    return f"{PROJECT}:{key}: {message.removeprefix('Value error, ')}{shown}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """A stack's configuration with what it needs from environment and `.env`. Every property that can fail says which key to set."""

    stack: str
    configuration: Configuration
    folder: Path
    environment: Mapping[str, str] = dataclasses.field(repr=False)

    @classmethod
    def read(
        cls,
        stack: str,
        get: Callable[[str], Any],
        *,
        keys: Iterable[str] = KEYS,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Settings:
        """Reads every key through `get`, which gives raw text or None. Raises ConfigurationError."""
        configuration = Configuration.from_raw({key: get(key) for key in keys})
        return cls(stack, configuration, folder or Path.cwd(), os.environ if environment is None else environment)

    @property
    def stage(self) -> Stage:
        return self.configuration.stage

    def at_least(self, stage: Stage) -> bool:
        """Whether the wanted stage is `stage` or a later one."""
        return STAGES.index(self.stage) >= STAGES.index(stage)

    def _value(self, key: str) -> tuple[str, str]:
        """A value and the name of the place it came from, for messages."""
        configured = str(self.configuration.model_dump(by_alias=True)[key])
        if configured:
            return configured, f"{PROJECT}:{key}"
        variable = VARIABLES[key]
        exported = self.environment.get(variable) or ""
        file = self.configuration.env_file
        if key in _IN_ENV_FILE and (not exported or (key in _SWITCHED and (self.folder / file).is_file())):
            written = self.env_file.get(variable) if self.env_file is not None else None
            if written:
                return written, f"{variable} in {file}"
        return exported, variable

    @functools.cached_property
    def env_file(self) -> EnvFile | None:
        """The application's `.env`, or None where the configuration says there is none. Raises ConfigurationError."""
        if not self.configuration.env_file:
            return None
        return EnvFile.read(self.folder / self.configuration.env_file, setting="envFile")

    def _endpoint(self, key: str, *, required: bool) -> Endpoint | None:
        url, name = self._value(key)
        if not url and not required:
            return None
        self._check_detours()
        return Endpoint.from_url(
            url,
            name=name,
            allow_weak_tls=self.configuration.allow_weak_tls,
            sslrootcert=self._file(self.configuration.ssl_root_cert),
            connects=key != "databaseUrl",
        )

    def _check_detours(self) -> None:
        """The driver of ours and the plugin's both heed these, which would send a session to another server than the URL names."""
        for variable in _DETOURS:
            if self.environment.get(variable):
                raise ConfigurationError(
                    f"{variable} is set in the environment: it would lead sessions elsewhere than the URLs do, past what was checked.",
                    unchanged="Nothing was changed.",
                    remedy=f"run the same command without it: env -u {variable} COMMAND.",
                )

    def _file(self, path: str) -> str:
        return str(self.folder / path) if path else ""

    @property
    def adopts(self) -> bool:
        """Whether the Hyperdrive config of hyperdriveId becomes this stack's; beside a second config it stays as it is."""
        return bool(self.configuration.hyperdrive_id) and self.configuration.hyperdrive_way == "in-place"

    @functools.cached_property
    def authority(self) -> str:
        """The certificates of hyperdriveCaFile as PEM text; empty where none is configured. Raises ConfigurationError."""
        path = self.configuration.hyperdrive_ca_file
        return read_authority(self.folder / path) if path else ""

    @functools.cached_property
    def wrangler(self) -> WranglerFile | None:
        """The application's Wrangler file as it is now, or None where none is configured. Raises ConfigurationError."""
        configuration = self.configuration
        if not configuration.wrangler_file:
            return None
        path = self.folder / configuration.wrangler_file
        return WranglerFile.read(path, configuration.wrangler_binding, configuration.wrangler_environment)

    @functools.cached_property
    def source(self) -> Endpoint:
        """The admin at the source database. Raises ConfigurationError."""
        endpoint = self._endpoint("masterDatabaseUrl", required=True)
        if endpoint is None:
            raise AssertionError("a required URL is refused where it is missing")
        return endpoint.with_database(self.configuration.source_database or endpoint.database)

    @functools.cached_property
    def maintenance(self) -> Endpoint:
        """The admin at the target's server, in a database that exists before the move. Raises ConfigurationError."""
        return self._endpoint("targetDatabaseUrl", required=False) or self.source

    @functools.cached_property
    def target(self) -> Endpoint:
        """The admin at the target database. Raises ConfigurationError where it would be the source."""
        target = self.maintenance.with_database(self.configuration.database)
        if target.same_place(self.source):
            raise ConfigurationError(
                f'Source and target are the same: database "{target.database}" on {target.host}:{target.port}.',
                unchanged="Nothing was changed.",
                remedy=f"{PROJECT}:database must name another database than MASTER_DATABASE_URL does; where that was switched to the new one, "
                f"{PROJECT}:sourceDatabase says which the old one is.",
            )
        return target

    def target_exists(self) -> bool:
        """Whether the target's server has the target database now. Raises Unreachable or ConfigurationError."""
        return self.maintenance.has_database(self.configuration.database)

    @functools.cached_property
    def application(self) -> Endpoint | None:
        """Where DATABASE_URL, or the key in its place, sends the application; None where nothing says so. Raises ConfigurationError."""
        return self._endpoint("databaseUrl", required=False)

    @functools.cached_property
    def in_use(self) -> Endpoint | None:
        """Where the application is sent now: `.env`, which is what is switched, counts more than a key that says what was before it.

        Raises ConfigurationError.
        """
        with contextlib.suppress(ConfigurationError):  # a file that is not there, or a URL of another kind
            url = self.env_file.get(VARIABLES["databaseUrl"]) if self.env_file is not None else None
            if url:
                return Endpoint.from_url(url, name=VARIABLES["databaseUrl"], connects=False)
        return self.application

    @property
    def application_url(self) -> str:
        """DATABASE_URL as it stands: a secret; empty where nothing says so."""
        return self._value("databaseUrl")[0]

    @property
    def switched(self) -> bool:
        """Whether DATABASE_URL already names the new database and one of its logins."""
        return self.in_use is not None and self.is_target(self.in_use.database, self.in_use.user)

    def is_target(self, database: Any, user: Any) -> bool:
        """Whether a database and a login are the application's new ones, whichever revision the password has."""
        return database == self.configuration.database and user in self.rotation.logins

    @property
    def rotation(self) -> Rotation:
        """Who logs in as the application at this revision of the password."""
        configuration = self.configuration
        return Rotation(configuration.user, configuration.second_user or f"{configuration.user}_2", configuration.password_revision)

    @property
    def cloudflare_token(self) -> str:
        """The API token: a secret; empty where Hyperdrive is not managed. Raises ConfigurationError."""
        token = self._value("cloudflareApiToken")[0]
        if self.configuration.cloudflare_account_id and not token:
            raise ConfigurationError(
                "There is no Cloudflare API token.",
                unchanged="Nothing was changed.",
                remedy=f"set CLOUDFLARE_API_TOKEN, or `pulumi config set --secret {PROJECT}:cloudflareApiToken`.",
            )
        return token

    @property
    def cloudflare_base_url(self) -> str | None:
        """Another address of Cloudflare's API than the official one, for tests and proxies."""
        return self.environment.get("CLOUDFLARE_BASE_URL") or None

    @property
    def discard(self) -> str:
        """The database whose later writes may be lost by going back; read afresh each time, the environment first.

        On `pulumi destroy` the configuration is that of the last `up`, so the environment must have its say.
        """
        return self.environment.get(VARIABLES["discardWrites"], "") or self.configuration.discard_writes

    @functools.cached_property
    def tables(self) -> tuple[Name, ...]:
        """The configured tables. Raises ConfigurationError for a bad name or one that stands twice."""
        names = tuple(Name.parse(text) for text in self.configuration.tables)
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        if twice:
            raise ConfigurationError(
                f"{PROJECT}:tables names {', '.join(twice)} twice.",
                unchanged="Nothing was changed.",
                remedy="name every table once; a name without a schema means schema public.",
            )
        return names

    @property
    def schemas(self) -> tuple[str, ...]:
        """Every schema the application has in the target: public, Drizzle's, and those of the tables."""
        return tuple(dict.fromkeys(("public", "drizzle", *(name.schema for name in self.tables))))

    @property
    def move(self) -> Move:
        """What the copy engine needs to know. Raises ConfigurationError."""
        return Move(
            stack=self.stack,
            source=self.source,
            target=self.target,
            owner=self.configuration.user,
            logins=self.rotation.logins,
            tables=self.tables,
            tracking=self.configuration.tracking_table,
            accept=self.configuration.accept,
            workers=self.configuration.workers,
            maintenance=self.maintenance.database,
        )

    @property
    def report_folder(self) -> Path | None:
        """Where the report of a run that moves data is written; None where none is wanted."""
        folder = self.configuration.report_folder
        return self.folder / folder if folder else None

    @property
    def migrations(self) -> Migrations:
        """Where the application's migrations are."""
        folder = self.configuration.migrations_folder
        return Migrations(self.folder / folder if folder else None, self.configuration.last_migration)

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role that this configuration makes."""
        configuration = self.configuration
        second = (self.rotation.second,) if self.rotation.has_second else ()
        read_only = (configuration.read_only_role,) if configuration.read_only_role else ()
        return (configuration.read_write_role, configuration.user, *second, *read_only)

    def _check_optional_roles(self) -> None:
        """The roles that are made only where they are asked for: the second login and the reader."""
        second, reader = self.rotation.second, self.configuration.read_only_role
        if self.rotation.has_second or self.configuration.second_user:
            check_identifier(second, f"{PROJECT}:secondUser")
        if reader:
            check_identifier(reader, f"{PROJECT}:readOnlyRole")
        made = (self.configuration.read_write_role, self.configuration.user)
        for key, name, others in (("secondUser", second, made), ("readOnlyRole", reader, (*made, second))):
            if name in others:
                raise ConfigurationError(
                    f'{PROJECT}:{key} is "{name}", which is another role of this stack.', remedy="give it a name of its own."
                )

    def _check_names(self) -> None:
        """What the PostgreSQL plugin could not work with, or what belongs to the server itself."""
        postgresql_plugin.check_dropped_database(self.configuration.database, f"{PROJECT}:database")
        postgresql_plugin.check_connected_database(self.maintenance.database, "the database the admin's URL names")
        postgresql_plugin.check_admin(self.maintenance.user)
        postgresql_plugin.check_roles(
            {
                f"{PROJECT}:readWriteRole": self.configuration.read_write_role,
                f"{PROJECT}:user": self.configuration.user,
                f"{PROJECT}:secondUser": self.rotation.second,
                **({f"{PROJECT}:readOnlyRole": self.configuration.read_only_role} if self.configuration.read_only_role else {}),
                "the user of the admin's URL": self.maintenance.user,
            }
        )
        system = sorted(str(name) for name in self.tables if name.schema.startswith("pg_") or name.schema == "information_schema")
        if system:
            raise ConfigurationError(
                f"{PROJECT}:tables: {', '.join(system)} belongs to PostgreSQL itself.",
                unchanged="Nothing was changed.",
                remedy=f"take it out of {PROJECT}:tables.",
            )

    def check(self) -> None:
        """Looks at everything that can be judged without a server. Raises ConfigurationError with the first thing that is wrong."""
        for key in ("database", "readWriteRole", "user"):
            check_identifier(str(self.configuration.model_dump(by_alias=True)[key]), f"{PROJECT}:{key}")
        if len({self.configuration.read_write_role, self.configuration.user}) == 1:
            raise ConfigurationError(f"{PROJECT}:user and readWriteRole are the same role.", remedy="give them two names.")
        self._check_optional_roles()
        self._check_names()
        if self.configuration.tracking_table not in ("auto", "none"):
            Name.parse(self.configuration.tracking_table, setting="trackingTable")
        if self.configuration.switch_master_database_url and not self.configuration.source_database:
            raise ConfigurationError(
                f"{PROJECT}:switchMasterDatabaseUrl changes the database named in MASTER_DATABASE_URL, which names the source now.",
                remedy=f"say which database the source is: `pulumi config set {PROJECT}:sourceDatabase postgres`.",
            )
        if self.configuration.hyperdrive_id and not self.configuration.cloudflare_account_id:
            raise ConfigurationError(
                f"{PROJECT}:hyperdriveId is set, cloudflareAccountId is not.",
                remedy=f"set {PROJECT}:cloudflareAccountId.",
            )
        self._check_hyperdrive()
        if self.stage == "cleanup" and not self.configuration.backup_folder:
            raise ConfigurationError(
                "Stage cleanup drops the old tables, and no place for their backup is configured.",
                remedy=f"set {PROJECT}:backupFolder.",
            )
        if self.source.user in self.roles:
            raise ConfigurationError(
                f'MASTER_DATABASE_URL logs in as "{self.source.user}", the role that is to be made.',
                remedy="it must be the server's admin.",
            )
        _ = (self.tables, self.target, self.application, self.cloudflare_token)

    def _check_hyperdrive(self) -> None:
        configuration = self.configuration
        second = configuration.hyperdrive_way == "second-config"
        if second and not configuration.cloudflare_account_id:
            raise ConfigurationError(
                f"{PROJECT}:hyperdriveWay is second-config, cloudflareAccountId is not set.",
                remedy=f"set {PROJECT}:cloudflareAccountId, or leave hyperdriveWay out.",
            )
        if configuration.hyperdrive_ca_file and not configuration.cloudflare_account_id:
            raise ConfigurationError(
                f"{PROJECT}:hyperdriveCaFile is set, cloudflareAccountId is not.",
                remedy=f"set {PROJECT}:cloudflareAccountId; for this program's own connections the CA is sslRootCert.",
            )
        if configuration.wrangler_file and not second:
            raise ConfigurationError(
                f"{PROJECT}:wranglerFile is set, but in place the ID of the Hyperdrive config stays what it is: there is nothing to write.",
                remedy=f"leave wranglerFile out, or set {PROJECT}:hyperdriveWay to second-config.",
            )
        if configuration.hyperdrive_service_id and (configuration.hyperdrive_host or configuration.hyperdrive_access_client_id):
            raise ConfigurationError(
                f"{PROJECT}:hyperdriveServiceId goes with neither hyperdriveHost nor hyperdriveAccessClientId: there is one way to the origin.",
                remedy="leave one of them out.",
            )
        if configuration.hyperdrive_access_client_id and configuration.hyperdrive_port:
            raise ConfigurationError(
                f"{PROJECT}:hyperdrivePort is of no use with hyperdriveAccessClientId: the tunnel's public host has the port.",
                remedy="leave hyperdrivePort out.",
            )
        if bool(configuration.hyperdrive_access_client_id) != bool(configuration.hyperdrive_access_secret):
            raise ConfigurationError(
                f"{PROJECT}:hyperdriveAccessClientId and hyperdriveAccessSecret are the two halves of one service token, and one is missing.",
                remedy=f"set {PROJECT}:hyperdriveAccessClientId, and `pulumi config set --secret {PROJECT}:hyperdriveAccessSecret`.",
            )
        if configuration.hyperdrive_ca_file and configuration.hyperdrive_service_id:
            raise ConfigurationError(
                f"{PROJECT}:hyperdriveCaFile cannot be used with hyperdriveServiceId: Cloudflare keeps the TLS settings at the VPC service.",
                remedy="set the CA at the VPC service, and leave hyperdriveCaFile out.",
            )
        _ = (self.authority, self.wrangler)


def explain(error: ClarityError) -> str:
    """The error's text without anything that looks like a URL with a password: the last safety net before it is shown."""
    return re.sub(r"(postgres(?:ql)?://[^:/@\s]+:)[^@\s]+@", r"\1***@", str(error))
