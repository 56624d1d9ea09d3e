"""How are the commands of the docs run? In a checkout as a person has it, one after another, each at the stage it is meant for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sandbox.environment import caller_environment
from tests.docs.shown import ROOT

_NOT_CHECKED_OUT = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "Pulumi.sandbox.yaml")
_OF_THE_TESTS = ("MAKE", "MFLAGS", "PYTEST", "WORKERS")
"""Beginnings of variables by which `make test` would reach into the commands that are run here."""


@dataclasses.dataclass
class Place:
    """A checkout, and the environment of the shell in it. What a step sets up for longer is ended by `ends`."""

    folder: Path
    environment: dict[str, str]
    ends: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)
    known: dict[str, str] = dataclasses.field(default_factory=dict)
    broken: str = ""
    """The step that failed; what comes after it has nothing to stand on."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A command as it is shown, and what has to come of it.

    filled: what a person puts in for a part of the command. variables, stdin: how a person's answer, or a smaller size, is given.
    before: what is so on that machine by then. code: the exit status; -1 for any but 0.
    """

    command: str
    says: str = ""
    code: int = 0
    filled: Mapping[str, str | Callable[[Place], str]] = dataclasses.field(default_factory=dict)
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stdin: str | Callable[[Place], str] = ""
    before: Callable[[Place], None] = lambda _: None
    after: Callable[[Place], None] = lambda _: None

    def __str__(self) -> str:
        return self.command

    def take(self, place: Place) -> None:
        """Runs it. Raises AssertionError where it, or a step before it, does not do what it should."""
        assert not place.broken, f"not reached: `{place.broken}` failed"
        place.broken = self.command
        self.before(place)
        self.run(place)
        self.after(place)
        place.broken = ""

    def run(self, place: Place) -> None:
        command = self.command
        for part, value in self.filled.items():
            assert part in command, f"{part} is not in {command}"
            command = command.replace(part, value if isinstance(value, str) else value(place))
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=place.folder,
            env={**place.environment, **self.variables},
            input=self.stdin if isinstance(self.stdin, str) else self.stdin(place),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        printed = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == self.code or (self.code == -1 and done.returncode), f"{command}: exit status {done.returncode}\n{printed}"
        assert self.says in printed, f"{command}: {self.says!r} is not in\n{printed}"


def person_runs(command: str) -> Callable[[Place], None]:
    """A command that no page shows, for what the pages leave to a person."""
    return lambda place: Step(command).run(place)


@contextlib.contextmanager
def checked_out() -> Iterator[Path]:
    """A checkout with the Python environment of the tests, beside a folder `application`; removed afterwards."""
    above = Path(tempfile.mkdtemp(prefix="clarity-person-"))  # not pytest's folder, into which a server run as another user cannot look
    above.chmod(0o755)
    folder = above / "clarity-infra"
    try:
        shutil.copytree(ROOT, folder, ignore=_NOT_CHECKED_OUT, symlinks=True)
        shutil.copy(ROOT / ".env.example", folder)
        (folder / ".venv").symlink_to(sys.prefix)
        shutil.copytree(ROOT / "sandbox" / "app", above / "application", ignore=_NOT_CHECKED_OUT)
        yield folder
    finally:
        shutil.rmtree(above)


def shell() -> dict[str, str]:
    """The environment of a person's shell: that of the tests without what is the tests' own."""
    return {name: value for name, value in caller_environment().items() if not name.startswith(_OF_THE_TESTS)} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    }
