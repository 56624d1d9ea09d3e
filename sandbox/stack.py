"""A whole environment to move, and the real engine on it: server, application, Cloudflare account and stack.

Everything that makes up a sandbox lies below its folder, so that two of them, or two clones, never meet.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psycopg
import yaml
from psycopg import sql

from sandbox import environment, language_host, pulumi_cli
from sandbox.background import Background, processes_with
from sandbox.engine import Engine, EngineError, OnLine, Result, Run, stale_lock_owner, state_url
from sandbox.plugins.install import install as install_plugins
from sandbox.postgres import SUPERUSER, Server, free_port, port_is_free, wheel_bindir
from sandbox.source import NEIGHBOURS, TABLES, build, read_folder
from sandbox.source.build import DRIZZLE_FOLDER

PROJECT = pulumi_cli.PROJECT
STAGES = ("provision", "copy", "cutover", "cleanup")
"""The program's stages, in the order they are entered."""

SOURCE_DATABASE = "postgres"
MANAGED_ADMIN = "managed"
"""The admin of a sandbox without a superuser: CREATEROLE CREATEDB, as managed PostgreSQL gives one."""
APPLICATION_ROLE = "clarity_app"
"""Whom the application logs in as before the move."""
ACCOUNT_ID = "c1a417c1a417c1a417c1a417c1a417c1"
HYPERDRIVE_NAME = "clarity-db"
_HYPERDRIVE_CACHING = {"disabled": False, "max_age": 60, "stale_while_revalidate": 15}
_HYPERDRIVE_CONNECTION_LIMIT = 60
_CACHED_SECONDS = 60 + 15
_CACHE_SPEED = 100
"""The stand-in's cache ages that much faster, so that waiting for its longest answer takes no time to speak of."""
_NAMESPACE = "clarity-infra"
_ENGINE_MARK = "SANDBOX_ENGINE_OF"
"""Set for the engine and what it starts, and for nothing else: a shell that sourced the sandbox's file has it not."""

Tracking = Literal["drizzle", "public", "none"]


class SandboxError(Exception):
    """Something of the sandbox is not as it must be; the message says what and what to do."""


class Sandbox:
    """One sandbox in `folder`, made on first use and found again later.

    superuser: whether the admin is a superuser, or `MANAGED_ADMIN`. tracking, rows: how the source is built, see
    `sandbox.source.build`. bindir, settings: the server's binaries and settings, see `sandbox.postgres.Server`.
    config: keys of Pulumi.yaml that differ from the sandbox's own. config_file: the stack's configuration, in `folder`
    unless given. say: gets a line now and then from what takes long, and every line the engine prints.
    """

    def __init__(
        self,
        folder: Path,
        *,
        superuser: bool = True,
        tracking: Tracking = "drizzle",
        rows: int = 20_000,
        bindir: Path | None = None,
        settings: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        config_file: Path | None = None,
        stack: str = "sandbox",
        project: Path = PROJECT,
        say: OnLine = lambda _: None,
    ) -> None:
        self.folder = folder.absolute()
        self.project = project
        self.stack = stack
        self.config_file = config_file or self.folder / f"Pulumi.{stack}.yaml"
        self.env_path = self.folder / "env"
        self.app_env_path = self.folder / "app.env"
        self.state_path = self.folder / "state"
        self.bin_path = self.folder / "bin"
        self.stand_ins: list[str] = []
        self._superuser = superuser
        self._tracking: Tracking = tracking
        self._rows = rows
        self._config = dict(config or {})
        self._say = say
        self._remembered = environment.read(self.env_path)
        self._made_up: dict[str, str] = {}
        self.server = Server(
            self.folder / "postgres",
            bindir=bindir,
            superuser_password=self._secret("SANDBOX_SUPERUSER_PASSWORD"),
            settings=settings,
        )
        self.cloudflare = Background(self.folder, "cloudflare", mark="sandbox.cloudflare")

    # What it is

    @property
    def admin_url(self) -> str:
        """The admin's URL of the source database, as MASTER_DATABASE_URL has it."""
        if self._superuser:
            return self.server.url(SOURCE_DATABASE)
        return self.server.url(SOURCE_DATABASE, MANAGED_ADMIN, self._secret("SANDBOX_ADMIN_PASSWORD"))

    @property
    def application_url(self) -> str:
        """The URL that the application uses before the move, as DATABASE_URL has it."""
        return self.server.url(SOURCE_DATABASE, APPLICATION_ROLE, self._secret("SANDBOX_APPLICATION_PASSWORD"))

    @property
    def database_url(self) -> str:
        """The URL that the application uses now: DATABASE_URL in its `.env`."""
        for line in self.app_env_path.read_text().splitlines():
            name, _, value = line.removeprefix("export ").partition("=")
            if name.strip() == "DATABASE_URL":
                return value.strip().strip("\"'")
        raise SandboxError(f"{self.app_env_path} has no DATABASE_URL")

    @property
    def worker_database_url(self) -> str:
        """Where the application's Worker connects to, whatever the origin: the data path of the config it is to be deployed with.

        Raises SandboxError, EngineError.
        """
        config_id = self.outputs().get("hyperdriveId") or self.configured("hyperdriveId")
        return str(self.cloudflare_control(f"/connection/{config_id}")["connection_string"])

    @property
    def exists(self) -> bool:
        """Whether anything of it was made."""
        return self.folder.exists()

    @property
    def cloudflare_url(self) -> str:
        """The base URL of the Cloudflare stand-in's API."""
        return f"http://127.0.0.1:{self._cloudflare_port_path.read_text().strip()}/client/v4"

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which a shell, a test, `psql` or `pulumi` reaches this sandbox, but for PATH."""
        return {
            "MASTER_DATABASE_URL": self.admin_url,
            "DATABASE_URL": self.database_url,
            "PULUMI_HOME": str(self.folder / "pulumi"),
            "PULUMI_BACKEND_URL": state_url(self.state_path),
            "PULUMI_CONFIG_PASSPHRASE": self._secret("PULUMI_CONFIG_PASSPHRASE"),
            "PULUMI_STACK": self.stack,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_SUPPRESS_NEO_LINK": "true",
            "CLOUDFLARE_API_TOKEN": self._secret("CLOUDFLARE_API_TOKEN"),
            "CLOUDFLARE_BASE_URL": self.cloudflare_url,
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT_ID,
            "SANDBOX_SUPERUSER_PASSWORD": self._secret("SANDBOX_SUPERUSER_PASSWORD"),
            "SANDBOX_ADMIN_PASSWORD": self._secret("SANDBOX_ADMIN_PASSWORD"),
            "SANDBOX_APPLICATION_PASSWORD": self._secret("SANDBOX_APPLICATION_PASSWORD"),
        }

    # Making it

    def prepare(self) -> None:
        """Makes what is not there, starts what does not run; changes nothing that is as it should be.

        Raises SandboxError, ServerError, SourceError, BackgroundError, CliError, EngineError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._keep_secrets()
        cli = pulumi_cli.find_or_build(self._say)
        self._start_server()
        self._build_source()
        self._write_app_env()
        self._start_cloudflare()
        hyperdrive_id = self._hyperdrive_id() or self._make_hyperdrive()
        self._install_tools(cli)
        self._write_env()
        self.state_path.mkdir(exist_ok=True)
        self.engine.make_stack()
        self._write_config(
            {
                "envFile": _shown(self.app_env_path, self.project),
                "migrationsFolder": _shown(DRIZZLE_FOLDER, self.project),
                "cloudflareAccountId": ACCOUNT_ID,
                "hyperdriveId": hyperdrive_id,
                "cacheDrainSeconds": math.ceil(_CACHED_SECONDS / _CACHE_SPEED),
                "backupFolder": _shown(self.folder / "backup", self.project),
                "reportFolder": _shown(self.folder / "reports", self.project),
                **({"lastMigration": last_migration()} if self._tracking == "none" else {}),
                **self._config,
            }
        )

    def _start_server(self) -> None:
        if not self.server.is_running():
            self._say("starting PostgreSQL")
        self.server.start()
        with self.server.connect() as connection:
            if not self._superuser:
                _make_role(connection, MANAGED_ADMIN, self._secret("SANDBOX_ADMIN_PASSWORD"), sql.SQL("CREATEROLE CREATEDB"))
                managed = sql.Identifier(MANAGED_ADMIN)
                connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(managed))
                connection.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(SOURCE_DATABASE), managed))

    def _build_source(self) -> None:
        """Where the neighbours are, all is: they are made last, in the transaction that fills the application's tables."""
        with psycopg.connect(self.admin_url, autocommit=True, connect_timeout=10) as connection:
            built = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [NEIGHBOURS[0]]).fetchone()
            if built and built[0]:
                return
            self._say(f"building the source database, {self._rows} rows")
            _make_role(connection, APPLICATION_ROLE, self._secret("SANDBOX_APPLICATION_PASSWORD"))
        build(self.admin_url, rows=self._rows, tracking=self._tracking)
        with psycopg.connect(self.admin_url, connect_timeout=10) as connection:
            _let_application_in(connection)

    def _write_app_env(self) -> None:
        """The application's `.env`, once: from then on it is the program's to change."""
        if self.app_env_path.exists():
            return
        lines = [
            "# Clarity AI, local development. Not committed.",
            "NODE_ENV=development",
            "",
            "# Application connection (least privilege)",
            f"DATABASE_URL={self.application_url}",
            "# Admin connection (migrations, setup)",
            f'MASTER_DATABASE_URL="{self.admin_url}"',
            "",
            "export LOG_LEVEL='info'   # a comment after a value",
            "FEATURE_FLAGS=",
        ]
        with open(os.open(self.app_env_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")

    def _start_cloudflare(self) -> None:
        if self.cloudflare.pid:
            return
        self._say("starting the Cloudflare stand-in")
        port = int(self._cloudflare_port_path.read_text()) if self._cloudflare_port_path.exists() else free_port()
        self.cloudflare.start(
            [
                *(
                    sys.executable,
                    "-u",
                    "-m",
                    "sandbox.cloudflare",
                    "--port",
                    str(port if port_is_free(port) else free_port()),
                ),
                *("--state", str(self.folder / "cloudflare.json"), "--port-file", str(self._cloudflare_port_path)),
                *("--cache-speed", str(_CACHE_SPEED)),
            ],
            environment={
                **environment.caller_environment(),
                "PYTHONPATH": str(PROJECT),
                # Not as an argument: those are shown to every user of the machine.
                "CLOUDFLARE_API_TOKEN": self._secret("CLOUDFLARE_API_TOKEN"),
            },
            ready=self._cloudflare_port_path,
        )

    def _hyperdrive_id(self) -> str | None:
        configs = self.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs")
        return next((str(config["id"]) for config in configs if config["name"] == HYPERDRIVE_NAME), None)

    def _make_hyperdrive(self) -> str:
        """The config that the application's Worker is bound to before the move, on the old origin, to be adopted."""
        made = self.cloudflare_api(
            "POST",
            f"/accounts/{ACCOUNT_ID}/hyperdrive/configs",
            {
                "name": HYPERDRIVE_NAME,
                "origin": {
                    "scheme": "postgresql",
                    "host": "127.0.0.1",
                    "port": self.server.port,
                    "database": SOURCE_DATABASE,
                    "user": APPLICATION_ROLE,
                    "password": self._secret("SANDBOX_APPLICATION_PASSWORD"),
                },
                "caching": _HYPERDRIVE_CACHING,
                "origin_connection_limit": _HYPERDRIVE_CONNECTION_LIMIT,
            },
        )
        return str(made["id"])

    def _install_tools(self, cli: Path) -> None:
        """Fills the folder that comes first on PATH with what the official installation of Pulumi would bring."""
        self.bin_path.mkdir(exist_ok=True)
        self._share_plugins()
        self.stand_ins = install_plugins(self.bin_path, Path(sys.executable), PROJECT)
        _link(self.bin_path / "pulumi", cli)
        self.stand_ins += language_host.install(self.bin_path, cli)

    def _share_plugins(self) -> None:
        """The user's own plugins serve here too, though nothing else of the user's Pulumi does."""
        theirs = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi") / "plugins"
        ours = self.folder / "pulumi" / "plugins"
        ours.parent.mkdir(exist_ok=True)
        if theirs.is_dir() and not ours.exists() and theirs.resolve() != ours.resolve():
            ours.symlink_to(theirs)

    def _write_env(self) -> None:
        environment.write(
            self.env_path,
            self.variables,
            path_before=f"{self.bin_path}:{Path(sys.executable).parent}",
            path_after=str(wheel_bindir()),
        )

    def _keep_secrets(self) -> None:
        """Writes the passwords down before anything is made with them: what is made must be found again."""
        if not self._remembered:
            names = (
                "SANDBOX_SUPERUSER_PASSWORD",
                "SANDBOX_ADMIN_PASSWORD",
                "SANDBOX_APPLICATION_PASSWORD",
                "PULUMI_CONFIG_PASSPHRASE",
                "CLOUDFLARE_API_TOKEN",
            )
            environment.write(self.env_path, {name: self._secret(name) for name in names})

    def _secret(self, name: str) -> str:
        return self._remembered.get(name) or self._made_up.setdefault(name, secrets.token_urlsafe(24))

    @property
    def _cloudflare_port_path(self) -> Path:
        return self.folder / "cloudflare.port"

    # Configuration

    def configure(self, **values: Any) -> None:
        """Sets keys of Pulumi.yaml in the stack's configuration; None takes one away."""
        document = yaml.safe_load(self.config_file.read_text()) or {}
        config = document.setdefault("config", {})
        for key, value in values.items():
            if value is None:
                config.pop(f"{_NAMESPACE}:{key}", None)
            else:
                config[f"{_NAMESPACE}:{key}"] = value
        self.config_file.write_text(yaml.safe_dump(document, sort_keys=False))

    def configured(self, key: str) -> Any:
        """The value of a key of Pulumi.yaml in the stack's configuration, None where it is not set."""
        if not self.config_file.exists():
            return None
        document = yaml.safe_load(self.config_file.read_text()) or {}
        return document.get("config", {}).get(f"{_NAMESPACE}:{key}")

    def _write_config(self, defaults: Mapping[str, Any]) -> None:
        """What a person changed in the file stays."""
        self.configure(**{key: value for key, value in defaults.items() if self.configured(key) is None})

    # Running the engine

    @property
    def engine(self) -> Engine:
        """The engine on this sandbox's stack, with the environment that the sandbox's file gives a shell.

        But for the URLs: these the program finds in the application's `.env`, as it does on a developer's machine. Where the
        configuration says that there is none, as on a CI machine, they are in the environment.
        """
        hidden = ("SANDBOX_",) if self.configured("envFile") == "" else ("SANDBOX_", "DATABASE_URL", "MASTER_DATABASE_URL")
        ours = {name: value for name, value in self.variables.items() if not name.startswith(hidden)}
        caller = environment.caller_environment()
        path = f"{self.bin_path}:{Path(sys.executable).parent}:{caller.get('PATH', os.defpath)}:{wheel_bindir()}"
        return Engine(
            self.bin_path / "pulumi",
            self.project,
            stack=self.stack,
            config_file=self.config_file,
            environment={**caller, **ours, "PATH": path, _ENGINE_MARK: str(self.folder)},
        )

    def reached(self) -> str | None:
        """The stage that the last update brought the stack to, None where the stack is empty. Raises EngineError."""
        stage = self.engine.outputs().get("stage")
        return str(stage) if stage in STAGES else None

    def stages_to_run(self, wanted: str = "cutover") -> list[str]:
        """The stages to run, one after another, to get to `wanted`.

        A higher stage is not gone back from, and where there is nothing left to climb the last one is run again, which
        changes nothing. A stage whose update did not come to its end is run again first. Raises SandboxError.
        """
        if wanted not in STAGES:
            raise SandboxError(f"there is no stage {wanted!r}; the stages are {', '.join(STAGES)}")
        reached = self.reached()
        if reached is None:
            return list(STAGES[: STAGES.index(wanted) + 1])
        done = STAGES.index(reached)
        if done >= STAGES.index(wanted):
            return [reached]
        first = done + 1 if self.engine.last_update_succeeded() else done
        return list(STAGES[first : STAGES.index(wanted) + 1])

    def up(self, stage: str, *arguments: str) -> Result:
        """`pulumi up` at a stage. Raises EngineError, whose `result` has the output."""
        with self.started("up", *arguments, stage=stage) as run:
            return run.wait()

    def climb(self, wanted: str = "cutover") -> list[Result]:
        """`pulumi up` at each stage that is left on the way to `wanted`. Raises EngineError, SandboxError."""
        return [self.up(stage) for stage in self.stages_to_run(wanted)]

    def preview(self, stage: str | None = None, *arguments: str) -> Result:
        """`pulumi preview`, at another stage where one is given. Raises EngineError."""
        with self.started("preview", *arguments, stage=stage) as run:
            return run.wait()

    def preview_from_here(self, stage: str | None = None) -> Result:
        """What the next `up` would do, or one at another stage; the configured stage stays. Raises EngineError."""
        before = self.configured("stage")
        try:
            return self.preview(stage or self.stages_to_run()[0])
        finally:
            self.configure(stage=before)

    def refresh(self, *arguments: str) -> Result:
        """`pulumi refresh`. Raises EngineError."""
        with self.started("refresh", *arguments) as run:
            return run.wait()

    def destroy(self, *arguments: str) -> Result:
        """`pulumi destroy`: the rollback. The server and the stand-in go on. Raises EngineError."""
        with self.started("destroy", *arguments) as run:
            return run.wait()

    @contextlib.contextmanager
    def started(self, command: str, *arguments: str, stage: str | None = None) -> Iterator[Run]:
        """A run of the engine under way, to be watched, signalled or killed: `run.pid`, `run.wait_for(text)`."""
        if stage is not None:
            self.configure(stage=stage)
        self._release_stale_lock()
        try:
            with self.engine.started(command, *arguments, on_line=self._say) as run:
                yield run
        finally:
            self._write_env()  # the application's URL may be another one now

    def outputs(self, *, show_secrets: bool = False) -> dict[str, Any]:
        """The stack's outputs. Raises EngineError."""
        return self.engine.outputs(show_secrets=show_secrets)

    def _release_stale_lock(self) -> None:
        owner = stale_lock_owner(self.state_path)
        if owner is not None:
            self._say(f"an earlier run (process {owner}) was killed and left its lock: taking it away (pulumi cancel)")
            self.engine.cancel()

    def engine_processes(self) -> dict[int, str]:
        """The engine and its plugins, also those that a killed engine left behind: command line by process ID.

        The one that runs the dynamic providers has `pulumi.dynamic` in it. Known on Linux only.
        """
        return processes_with(_ENGINE_MARK, str(self.folder))

    # Looking inside

    def psql(self, database: str, query: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """The rows of a query as the superuser in a database of the server, or at any URL. Raises psycopg.Error."""
        with psycopg.connect(url or self.server.url(database), autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

    def cloudflare_api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Calls the Cloudflare stand-in and gives the answer's `result`. Raises SandboxError."""
        return self._call_cloudflare(method, self.cloudflare_url + path, body)

    def cloudflare_control(self, path: str = "", body: Mapping[str, Any] | None = None) -> Any:
        """What the stand-in tells and lets tests do beside the API, see `sandbox.cloudflare.api`. Raises SandboxError."""
        base = self.cloudflare_url.removesuffix("/client/v4")
        return self._call_cloudflare("GET" if body is None else "POST", f"{base}/__control{path}", body)

    def _call_cloudflare(self, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        request = urllib.request.Request(
            url,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._secret('CLOUDFLARE_API_TOKEN')}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)["result"]
        except urllib.error.HTTPError as error:
            raise SandboxError(f"{method} {url} was answered {error.code}: {error.read().decode()}") from None
        except urllib.error.URLError as error:
            raise SandboxError(f"the Cloudflare stand-in does not answer: {error.reason}") from None

    # Ending it

    def stop(self) -> None:
        """Stops the stand-in and the server; everything made is kept."""
        self.cloudflare.stop()
        self.server.stop()

    def remove(self) -> None:
        """Stops everything and removes it, the stack's configuration too."""
        if not self.exists:
            return
        for pid in self.engine_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.cloudflare.stop()
        self.server.remove()
        shutil.rmtree(self.folder)
        self.config_file.unlink(missing_ok=True)


def _make_role(connection: psycopg.Connection[Any], name: str, password: str, attributes: sql.SQL | None = None) -> None:
    """Makes a login role where it does not exist."""
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
        return
    with connection.transaction():
        # Whatever the server logs, the password is not to be in its log.
        connection.execute("SET LOCAL password_encryption = 'scram-sha-256'")
        verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(sql.Identifier(name), attributes or sql.SQL(""), sql.Literal(verifier))
        )


def _let_application_in(connection: psycopg.Connection[Any]) -> None:
    """Gives the application's role what it needs before the move: rows of its tables, numbers of their sequences.

    The admin becomes its member, as who runs a managed server's application can end that application's sessions.
    """
    role = sql.Identifier(APPLICATION_ROLE)
    for table in TABLES:
        name = sql.Identifier("public", table)
        connection.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}").format(name, role))
        found = connection.execute("SELECT pg_get_serial_sequence(%s, 'id')", [f"public.{table}"]).fetchone()
        if found and found[0]:
            sequence = sql.Identifier(*str(found[0]).split("."))
            connection.execute(sql.SQL("GRANT USAGE, SELECT ON SEQUENCE {} TO {}").format(sequence, role))
    if connection.info.user != SUPERUSER:
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role))


def last_migration() -> str:
    """The tag of the last migration that the source has: all but the last one of the folder are in effect."""
    return read_folder(DRIZZLE_FOLDER)[-2].tag


def _link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _shown(path: Path, project: Path) -> str:
    """A path as the stack's configuration holds it: relative to the project where it is inside."""
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


__all__ = ["PROJECT", "STAGES", "EngineError", "Sandbox", "SandboxError"]
