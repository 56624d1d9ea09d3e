"""A checkout as a workflow has it, with a stack of its own on the real engine, and the scripts that workflows call."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.stack import PROJECT, Sandbox
from tests.end_to_end.conftest import new_sandbox

__all__ = ["new_sandbox"]

STACK = "reviewed"
_NOT_CHECKED_OUT = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "Pulumi.sandbox.yaml")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs a stack runs the engine; `-m "not engine"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents and "real" in item.path.name:
            item.add_marker(pytest.mark.engine)


@dataclasses.dataclass(frozen=True)
class Checkout:
    """A checkout on a runner; `review` is the folder that the scripts write into."""

    folder: Path
    sandbox: Sandbox

    @property
    def review(self) -> Path:
        return self.folder / "review"

    def run(self, script: str, *arguments: str, stack: str = STACK, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs one of `scripts/` on the stack as a workflow does."""
        environment = {**self.sandbox.engine.environment, "PYTHON": sys.executable, **variables}
        return subprocess.run(
            [str(self.folder / "scripts" / script), stack, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def preview(self, stage: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`scripts/preview` at a stage."""
        self.sandbox.configure(stage=stage)
        return self.run("preview", str(self.review), *arguments, **variables)

    def up(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """`scripts/up` with the plan of the last preview."""
        return self.run("up", str(self.review / "plan.json"), **variables)

    def answer(self, name: str) -> Any:
        """One of the JSON files of the last preview."""
        return json.loads((self.review / f"{name}.json").read_text())

    @property
    def text(self) -> str:
        """What the last preview says to a reviewer."""
        return (self.review / "review.md").read_text()


@pytest.fixture(scope="module")
def checkout(new_sandbox: Callable[..., Sandbox], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The checkout with its stack, at no stage yet."""
    folder = tmp_path_factory.mktemp("runner") / "checkout"
    shutil.copytree(PROJECT, folder, ignore=_NOT_CHECKED_OUT, symlinks=True)
    (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    sandbox = new_sandbox(project=folder, stack=STACK, config_file=folder / f"Pulumi.{STACK}.yaml")
    return Checkout(folder, sandbox)
