"""The application itself: its Worker in workerd, and its Drizzle project, on databases of the tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import source
from sandbox.node_packages import NodePackages
from sandbox.postgres import Server
from sandbox.worker import Release, Worker

Started = Callable[..., Worker]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m "not node"` leaves out what needs Node."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.name != "test_migration_url.py":
            item.add_marker(pytest.mark.node)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder of the module's own."""
    folder = Path(tempfile.mkdtemp(prefix="clarity-application-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def started(packages: NodePackages, tmp_path: Path) -> Iterator[Started]:
    """Starts a Worker on a URL: `started(url, release="before")`; ended after the test."""
    running: list[Worker] = []

    def start(url: str, release: Release = "before") -> Worker:
        worker = Worker(packages, tmp_path / f"worker-{len(running)}", url, release=release)
        running.append(worker)
        return worker.__enter__()

    yield start
    for worker in running:
        worker.stop()


@pytest.fixture
def application_url(server: Server, database: str) -> str:
    """A database as the application has it before the move, with a few rows."""
    source.build(server.url(database), rows=200)
    return server.url(database)


@pytest.fixture
def server_url(server: Server) -> str:
    """Another database of the same server, without the application's tables."""
    return server.url("postgres")
