"""The real engine on a program that breaks a rule, and on the program itself."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clarity_infra.__main__ import main
from sandbox.engine import Engine, state_url
from sandbox.stack import PROJECT, Sandbox
from tests.end_to_end.conftest import new_sandbox

__all__ = ["new_sandbox"]

VIOLATIONS = Path(__file__).parent / "violations"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What previews runs the engine; `-m "not engine"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents and "real" in item.path.name:
            item.add_marker(pytest.mark.engine)


def run_preview(engine: Engine, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`pulumi preview` as a workflow runs it: stdout and stderr apart."""
    command = [str(engine.cli), "preview", "--non-interactive", "--stack", engine.stack, "--config-file", str(engine.config_file)]
    return subprocess.run(
        [*command, "--color", "never", *arguments],
        cwd=engine.project,
        env=dict(engine.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def guard(preview: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of `python -m clarity_infra guard --json`."""
    said = io.StringIO()
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, contextlib.redirect_stdout(said):
        file.write(preview)
        file.flush()
        code = main(["guard", "--json", *arguments, file.name])
    answer: dict[str, Any] = json.loads(said.getvalue())
    return code, answer


@pytest.fixture(scope="module")
def violating(new_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine on the program that breaks every rule."""
    sandbox = new_sandbox(rows=200)
    folder = tmp_path_factory.mktemp("violations")
    shutil.copytree(VIOLATIONS, folder / "program")
    own = {"PULUMI_BACKEND_URL": state_url(folder), "PYTHONPATH": str(PROJECT)}
    engine = Engine(
        sandbox.engine.cli,
        folder / "program",
        stack="violations",
        config_file=folder / "Pulumi.violations.yaml",
        environment={**sandbox.engine.environment, **own},
    )
    engine.make_stack()
    return engine
