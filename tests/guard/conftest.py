"""The real engine on a program that breaks a rule, and on the program itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.engine import Engine
from sandbox.stack import PROJECT, Sandbox
from tests.end_to_end.conftest import new_sandbox

__all__ = ["new_sandbox"]

VIOLATIONS = Path(__file__).parent / "violations"

Preview = Callable[..., subprocess.CompletedProcess[str]]


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


def guard(preview: str, *arguments: str) -> tuple[int, dict[str, object]]:
    """Exit status and answer of `python -m clarity_infra guard`."""
    command = [sys.executable, "-m", "clarity_infra", "guard", "--json", *arguments, "-"]
    done = subprocess.run(command, cwd=PROJECT, input=preview, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return done.returncode, answer


@pytest.fixture(scope="module")
def violating(new_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Engine]]:
    """The engine on the program that breaks the rule of a case: `violating("plain-url")`."""
    sandbox = new_sandbox(rows=10)
    folder = tmp_path_factory.mktemp("violations")
    shutil.copytree(VIOLATIONS, folder / "program")
    environment = {**sandbox.engine.environment, "PULUMI_BACKEND_URL": f"file://{folder}"}
    engine = Engine(
        sandbox.engine.cli, folder / "program", stack="violations", config_file=folder / "Pulumi.violations.yaml", environment=environment
    )
    engine.make_stack()
    before = engine.config_file.read_text()

    def with_case(case: str) -> Engine:
        engine.config_file.write_text(f"{before.rstrip()}\nconfig:\n  clarity-infra:case: {case}\n")
        return engine

    yield with_case
    assert os.environ.get("PULUMI_BACKEND_URL") is None or folder.exists()
