"""Where is a planted secret to be found? In files, in what processes show of themselves, and in texts, in every form it may be written in."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from sandbox.stack import Sandbox


def set_secret(sandbox: Sandbox, key: str, value: str) -> None:
    """Sets a key of Pulumi.yaml as a person does: encrypted in the stack's file."""
    command = [str(sandbox.engine.cli), "config", "set", "--secret", f"clarity-infra:{key}", "--config-file", str(sandbox.config_file)]
    done = subprocess.run(
        [*command, "--stack", sandbox.stack, "--non-interactive"],
        cwd=sandbox.project,
        env=dict(sandbox.engine.environment),
        input=value,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert value not in sandbox.config_file.read_text()


def forms(value: str) -> set[str]:
    """A text as it may be written: as it is, in a URL, in JSON, in JSON inside of JSON, in SQL, in base64."""
    once = json.dumps(value)[1:-1]
    encoded = base64.b64encode(value.encode()).decode()
    return {value, quote(value, safe=""), quote(value), once, json.dumps(once)[1:-1], value.replace("'", "''"), encoded}


def named_in(texts: Iterable[str], secrets: Mapping[str, str]) -> dict[str, list[str]]:
    """The texts that hold a secret in any form, by the secret's name; names that none holds are left out."""
    looked = list(texts)
    found = {name: [text for text in looked if any(form in text for form in forms(value))] for name, value in secrets.items()}
    return {name: holding for name, holding in found.items() if holding}


def holders(folders: Sequence[Path], secrets: Mapping[str, str]) -> dict[str, set[Path]]:
    """The files below some folders that hold a secret in any of its forms, by the secret's name."""
    found: dict[str, set[Path]] = {name: set() for name in secrets}
    wanted = {name: [form.encode() for form in forms(value)] for name, value in secrets.items()}
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        text = read(path)
        for name, written_as in wanted.items():
            if any(form in text for form in written_as):
                found[name].add(path)
    return found


def read(path: Path) -> bytes:
    """A file's content; nothing where it is gone, as the server removes some of its own."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


class Processes:
    """Looks at new processes, many times a second: what `ps` would show of each, and what each has in its environment."""

    TOOLS = ("pg_dump", "pg_restore", "psql")
    LOOKS = 10

    def __init__(self) -> None:
        self.commands: set[str] = set()
        self.environments: set[str] = set()
        self.environments_of_tools: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        """A process that was just forked shows its parent's command until it runs its own: each is looked at several times."""
        looks = {path.name: self.LOOKS for path in Path("/proc").glob("[0-9]*")}
        while not self._over.wait(0.02):
            now = {path.name for path in Path("/proc").glob("[0-9]*")}
            looks = {number: looks.get(number, 0) + 1 for number in now}
            for number in (number for number, count in looks.items() if count <= self.LOOKS):
                with contextlib.suppress(OSError):
                    self._note(Path("/proc") / number)

    def _note(self, process: Path) -> None:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        self.commands.add(" ".join(words))
        environment = (process / "environ").read_bytes().decode(errors="replace")
        self.environments.add(environment)
        if Path(words[0]).name in self.TOOLS:
            self.environments_of_tools.add(environment)
