"""Sandboxes of their own for the tests of the whole path: a server, a Cloudflare account, a stack and the real engine on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sandbox.postgres import UNLOGGED_SPEED
from sandbox.stack import Sandbox
from tests.end_to_end.planted import Processes

FEW_ROWS = 2_000

NewSandbox = Callable[..., Sandbox]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder runs the engine; `-m "not engine"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="module")
def new_sandbox() -> Iterator[NewSandbox]:
    """Makes a sandbox, prepared for its first `up`: `new_sandbox(superuser=False)`; removed after the module's last test.

    Options are those of `Sandbox`; with `prepare=False` it is not prepared. `before_making` gets its folder, which does not exist yet.
    """
    with ExitStack() as removed_afterwards:

        def make(
            *,
            prepare: bool = True,
            settings: Mapping[str, str] | None = None,
            before_making: Callable[[Path], None] = lambda _: None,
            **options: Any,
        ) -> Sandbox:
            folder = Path(tempfile.mkdtemp(prefix="clarity-e2e-"))
            folder.chmod(0o755)
            removed_afterwards.callback(shutil.rmtree, folder, ignore_errors=True)
            before_making(folder / "own")
            made = Sandbox(folder / "own", **{"rows": FEW_ROWS, **options}, settings={**UNLOGGED_SPEED, **(settings or {})})
            removed_afterwards.callback(made.remove)
            if prepare:
                made.prepare()
            return made

        yield make


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where everything that the engine and its plugins start puts its temporary files."""
    folder = tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Every line the engine printed."""
    return []


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """Every process of this machine that came while the module's tests ran."""
    with Processes() as seen:
        yield seen
