"""Servers, databases and the application's Node packages, which the tests share."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql

from sandbox import node_packages
from sandbox.node_packages import NodePackages
from sandbox.postgres import UNLOGGED_SPEED, Server
from sandbox.pulumi_cli import find_or_build

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
"""Where Debian's packages put PostgreSQL 15."""


_numbers = itertools.count(1)


# What runs the real engine or waits for faults takes most of the time; begun last, one worker would be left alone with it.
_FIRST = ("end_to_end", "workflows", "application", "docs", "faults", "privileges", "plugins", "cutover")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders whose files take long come first."""
    place = {name: number for number, name in enumerate(_FIRST)}
    items.sort(key=lambda item: place.get(item.path.relative_to(Path(__file__).parent).parts[0], len(_FIRST)))


def pytest_configure() -> None:
    """A run that is asked to end (`timeout`, a CI machine) ends its servers as one that is interrupted does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _run_server(name: str, bindir: Path | None = None) -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix=f"clarity-{name}-"))
    folder.chmod(0o755)
    server = Server(folder / "server", bindir=bindir, settings=UNLOGGED_SPEED)
    try:
        server.start()
        yield server
    finally:
        server.remove()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The embedded PostgreSQL 18, one for the whole run."""
    yield from _run_server("pg18")


@pytest.fixture(scope="session")
def server15() -> Iterator[Server]:
    """Debian's PostgreSQL 15, one for the whole run; skips where it is not installed."""
    if not (POSTGRES_15 / "postgres").exists():
        pytest.skip("PostgreSQL 15 is not installed (Debian: postgresql-15)")
    yield from _run_server("pg15", POSTGRES_15)


@pytest.fixture(scope="session")
def pulumi_cli() -> Path:
    """The Pulumi command line, built where there is none."""
    return find_or_build(print)


@pytest.fixture(scope="session")
def packages() -> NodePackages:
    """Node and the application's packages, installed where they are not."""
    return node_packages.install(print)


@pytest.fixture(scope="session")
def node(packages: NodePackages, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a command in a copy of the application with its packages in reach; gives what it printed."""
    application = packages.copy_application(tmp_path_factory.mktemp("application") / "app")

    def run(*command: str, url: str, succeeds: bool = True) -> str:
        done = subprocess.run(
            command,
            cwd=application,
            env={**packages.environment(os.environ), "DATABASE_URL": url, "MASTER_DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def new_database(server: Server) -> Iterator[Callable[..., str]]:
    """Makes an empty database and gives its name: `new_database("source")`; dropped with its sessions after the test.

    With `on=server15` it is made on that server.
    """
    made: list[tuple[Server, str]] = []

    def make(prefix: str = "test", *, on: Server | None = None) -> str:
        home = on or server
        name = f"{prefix}_{next(_numbers)}"
        with home.connect() as admin:
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        made.append((home, name))
        return name

    yield make
    for home, name in made:
        with home.connect() as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database(new_database: Callable[..., str]) -> str:
    """The name of a new, empty database on `server`."""
    return new_database()


@pytest.fixture
def new_role(server: Server) -> Iterator[Callable[..., str]]:
    """Makes a login role and gives its name: `new_role("managed", "CREATEROLE CREATEDB", password="...")`.

    What it owns in databases that the test made goes with those databases; what is left is dropped with the role.
    """
    made: list[tuple[Server, str]] = []

    def make(prefix: str = "role", attributes: str = "", *, password: str = "role", on: Server | None = None) -> str:
        home = on or server
        name = f"{prefix}_{next(_numbers)}"
        with home.connect() as admin:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(
                    sql.Identifier(name), sql.SQL(" ").join(map(sql.SQL, attributes.split())), sql.Literal(password)
                )
            )
        made.append((home, name))
        return name

    yield make
    for home, name in reversed(made):
        with home.connect() as admin:
            admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
