"""An environment to look at: the application's database on a real server, and a move of it that tests bring to a stage.

The stages are reached by the package alone, without the engine: a preview of each is then a question to `review`.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from clarity_infra.move.copy import copy
from clarity_infra.move.cutover import cut_over
from clarity_infra.settings import Settings
from sandbox.postgres import Server
from sandbox.source import build
from sandbox.source.build import DRIZZLE_FOLDER
from tests.cutover.scene import FakeSwitch

ROWS = 400
PASSWORD = "of-the-admin"
_numbers = itertools.count(1)


class Environment:
    """One source database and the names of what is moved out of it; `said` is what the runs told."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        number = next(_numbers)
        self.source, self.target = f"report source {number}", f"report_target_{number}"
        self.admin, self.user = f"report_admin_{number}", f"report_user_{number}"
        self.stack = "tried"
        self.switch = FakeSwitch()
        self.said: list[str] = []

    def settings(self, stage: str = "provision", *, url: str = "", **more: Any) -> Settings:
        """The stack's settings as the program reads them."""
        values = {
            "stage": stage,
            "database": self.target,
            "user": self.user,
            "readWriteRole": f"{self.user}_rw",
            "envFile": "",
            "auditLog": "false",
            "migrationsFolder": str(DRIZZLE_FOLDER),
            "masterDatabaseUrl": url or self.server.url(self.source, self.admin, PASSWORD),
            "reportFolder": str(self.folder / "reports"),
            **more,
        }
        return Settings.read(self.stack, values.get, keys=tuple(values), environment={}, folder=self.folder)

    def beside(self, stack: str) -> Environment:
        """Another stack that moves the same tables of the same source to a database of its own."""
        other = Environment(self.server, self.folder)
        other.stack, other.source, other.admin = stack, self.source, self.admin
        return other

    def make(self, rows: int = ROWS) -> None:
        """The source, filled, and its admin, who is no superuser."""
        with self.server.connect() as root:
            root.execute(
                sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}").format(sql.Identifier(self.admin), sql.Literal(PASSWORD))
            )
            root.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(self.source), sql.Identifier(self.admin)))
        build(self.server.url(self.source, self.admin, PASSWORD), rows=rows)

    def provision(self) -> None:
        """The target and its owner, as stage provision leaves them."""
        admin, user, target = sql.Identifier(self.admin), sql.Identifier(self.user), sql.Identifier(self.target)
        with self.server.connect() as root:
            root.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(f"{self.user}_rw")))
            root.execute(sql.SQL("CREATE ROLE {} LOGIN").format(user))
            root.execute(sql.SQL("GRANT {} TO {}").format(user, admin))
            root.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(target, admin))
            root.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(target, user))
        with self.server.connect(self.target) as root:
            root.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(user))
            root.execute(sql.SQL("CREATE SCHEMA drizzle AUTHORIZATION {}").format(user))

    def copy(self) -> dict[str, Any]:
        """A verified copy."""
        return copy(self.settings().move, run=uuid.uuid4(), progress=self.said.append, revision=1)

    def cut_over(self) -> dict[str, Any]:
        """The application on the new side."""
        settings = self.settings()
        return cut_over(
            settings.move,
            self.switch,
            settings.migrations,
            run=uuid.uuid4(),
            lock_budget=10.0,
            alive=lambda: True,
            progress=self.said.append,
        )

    def on(self, database: str, *statements: str) -> None:
        """Statements of the admin."""
        with self.server.connect(database, self.admin, PASSWORD) as admin:
            for statement in statements:
                admin.execute(statement.encode())

    def remove(self) -> None:
        """Databases and roles."""
        self._drop((self.source, self.target), (self.user, f"{self.user}_rw", self.admin))

    def remove_target(self) -> None:
        """What `provision` made, where another one has the source."""
        self._drop((self.target,), (self.user, f"{self.user}_rw"))

    def _drop(self, databases: tuple[str, ...], roles: tuple[str, ...]) -> None:
        with self.server.connect() as root:
            for database in databases:
                root.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            for role in roles:
                with contextlib.suppress(Exception):
                    root.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
                root.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


@pytest.fixture(scope="module")
def new_environment(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Environment]]:
    """Makes environments, and removes them after the module's last test."""
    with contextlib.ExitStack() as stack:

        def make() -> Environment:
            environment = Environment(server, tmp_path_factory.mktemp("report"))
            stack.callback(environment.remove)
            environment.make()
            return environment

        yield make
