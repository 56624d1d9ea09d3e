"""Runs the real Pulumi engine on a stack, shows what it prints as it prints it, and says what it changed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

_QUIET = ("--color", "never", "--suppress-permalink=true", "--suppress-progress", "--suppress-outputs")
_TAIL_LINES = 60
_SILENCE_SECONDS = 20

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """What the engine did, or on a preview would do, to one resource."""

    op: str
    urn: str
    type: str

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rsplit("::", 1)[-1]


@dataclass(frozen=True)
class Result:
    """One finished run of the engine.

    `changes` counts resources by operation as the engine's summary does (`create`, `update`, `same`, ...); `steps` are
    the operations in the order they were begun, without those that leave a resource as it is.
    """

    command: str
    output: str
    changes: Mapping[str, int] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether any resource was, or on a preview would be, anything but left as it is."""
        return any(count for op, count in self.changes.items() if op not in {"same", "read"})


class EngineError(Exception):
    """The engine ended with an error. `result` holds what it printed, `exit_code` is negative after a signal."""

    def __init__(self, result: Result, exit_code: int) -> None:
        tail = "\n".join(result.output.splitlines()[-_TAIL_LINES:])
        super().__init__(f"pulumi {result.command} failed (exit {exit_code})" + (f":\n{tail}" if tail else ""))
        self.result = result
        self.exit_code = exit_code


class Run:
    """A run of the engine under way; `process` is the engine itself, so that it can be watched, signalled or killed."""

    def __init__(self, command: str, process: subprocess.Popen[str], events: Path | None, on_line: OnLine) -> None:
        self.process = process
        self._command = command
        self._events = events
        self._on_line = on_line
        self._lines: list[str] = []
        self._started = self._last_line = time.monotonic()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The engine's process ID. It leads a process group of its own only if the caller asked for that."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What was printed so far."""
        return "\n".join(self._lines)

    def wait_for(self, text: str, timeout: float = 120) -> None:
        """Returns as soon as `text` was printed. Raises TimeoutError after `timeout` seconds, or once the run ended."""
        deadline = time.monotonic() + timeout
        while not any(text in line for line in list(self._lines)):
            if time.monotonic() > deadline or (self.process.poll() is not None and not self._reader.is_alive()):
                raise TimeoutError(f"pulumi {self._command} did not print {text!r}:\n{self.output}")
            time.sleep(0.02)

    def kill(self) -> None:
        """`kill -9` of the engine alone; its plugins are not told."""
        self.process.kill()
        self.process.wait()

    def wait(self) -> Result:
        """Waits for the end of the run. Raises EngineError when it failed.

        Ctrl-C reaches the engine as well, which then stops in an orderly way: it is waited for.
        """
        exit_code = None
        while exit_code is None:
            try:
                exit_code = self.process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                self._show_life()
            except KeyboardInterrupt:
                self._on_line("interrupted: waiting for the engine to stop (once more ends what it is doing)")
        # A plugin that outlives a killed engine holds the pipe open: what it prints is not waited for.
        self._reader.join(timeout=5 if exit_code == 0 else 1)
        changes, steps = _read_events(self._events) if self._events else ({}, [])
        result = Result(self._command, self.output, changes, steps, time.monotonic() - self._started)
        if exit_code != 0:
            raise EngineError(result, exit_code)
        return result

    def _show_life(self) -> None:
        """A step that says nothing for long gets a line now and then, which is not part of the engine's output."""
        now = time.monotonic()
        if now - self._last_line > _SILENCE_SECONDS:
            self._last_line = now
            self._on_line(f"  still at work, {round(now - self._started)} s")

    def _read(self) -> None:
        if self.process.stdout is None:
            return
        for line in self.process.stdout:
            self._last_line = time.monotonic()
            self._lines.append(line.rstrip())
            self._on_line(line.rstrip())


class Engine:
    """The Pulumi command line `cli` on one stack of the project in `project`.

    `environment` is the whole environment of the engine and everything it starts. `config_file` holds the stack's
    configuration; it need not be in the project, so that several stacks of one checkout can be run by several processes
    and no tracked file is written.
    """

    def __init__(self, cli: Path, project: Path, *, stack: str, config_file: Path, environment: Mapping[str, str]) -> None:
        self.cli = cli
        self.project = project
        self.stack = stack
        self.config_file = config_file
        self.environment = {**environment, "PULUMI_DEBUG_COMMANDS": "true"}  # without it there is no --event-log

    def run(self, command: str, *arguments: str, on_line: OnLine | None = None) -> Result:
        """Runs `up`, `preview`, `refresh` or `destroy` to its end. Raises EngineError."""
        with self.started(command, *arguments, on_line=on_line) as run:
            return run.wait()

    @contextlib.contextmanager
    def started(self, command: str, *arguments: str, on_line: OnLine | None = None) -> Iterator[Run]:
        """Starts `up`, `preview`, `refresh` or `destroy`; on leaving, an engine that still runs is killed."""
        agreed = () if command == "preview" else ("--yes",)
        skipped = () if command == "preview" else ("--skip-preview",)
        with tempfile.TemporaryDirectory(prefix="clarity-events-") as scratch:
            events = Path(scratch) / "events.json"
            process = self._start(
                [
                    *(command, *agreed, *skipped, *_QUIET),
                    *("--config-file", str(self.config_file), "--event-log", str(events)),
                    *arguments,
                ]
            )
            run = Run(command, process, events, on_line or (lambda _: None))
            try:
                yield run
            finally:
                if process.poll() is None:
                    run.kill()

    def make_stack(self) -> None:
        """Makes the stack where it does not exist, and its configuration file. Raises EngineError."""
        stacks = json.loads(self._ask("stack", "ls", "--json"))
        if self.stack in [entry["name"].rsplit("/", 1)[-1] for entry in stacks] and self.config_file.exists():
            return
        # `stack init` writes the configuration file beside Pulumi.yaml; a copy of that keeps the project as it is.
        with tempfile.TemporaryDirectory(prefix="clarity-stack-") as scratch:
            project_file = Path(scratch) / "Pulumi.yaml"
            project_file.write_text((self.project / "Pulumi.yaml").read_text())
            if self.stack in [entry["name"].rsplit("/", 1)[-1] for entry in stacks]:
                raise EngineError(Result("stack init", f"the stack {self.stack} exists, but its file {self.config_file} does not"), 1)
            self._ask("stack", "init", "--stack", self.stack, folder=Path(scratch))
            written = Path(scratch) / f"Pulumi.{self.stack}.yaml"
            self.config_file.write_text(written.read_text() if written.exists() else "")

    def outputs(self, *, show_secrets: bool = False) -> dict[str, Any]:
        """The stack's outputs as of its last update; secrets are `[secret]` unless asked for. Raises EngineError."""
        flags = ["--show-secrets"] if show_secrets else []
        outputs: dict[str, Any] = json.loads(self._ask("stack", "output", "--json", "--stack", self.stack, *flags))
        return outputs

    def state(self) -> dict[str, Any]:
        """The stack's state as the backend keeps it, secrets encrypted. Raises EngineError."""
        state: dict[str, Any] = json.loads(self._ask("stack", "export", "--stack", self.stack))
        return state

    def last_update_succeeded(self) -> bool:
        """Whether the last update of the stack came to its end without an error; False where there was none."""
        history = json.loads(self._ask("stack", "history", "--json", "--page-size", "1", "--stack", self.stack))
        return bool(history) and history[0]["result"] == "succeeded"

    def cancel(self) -> None:
        """Takes away the lock that a killed engine left on the stack. Raises EngineError."""
        self._ask("cancel", "--yes", "--stack", self.stack)

    def _ask(self, *arguments: str, folder: Path | None = None) -> str:
        """Runs a command that answers at once, and gives what it printed on stdout."""
        done = subprocess.run(
            [str(self.cli), "--non-interactive", *arguments],
            cwd=folder or self.project,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise EngineError(Result(" ".join(arguments[:2]), done.stdout + done.stderr), done.returncode)
        return done.stdout

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.cli), "--non-interactive", *arguments, "--stack", self.stack],
            cwd=self.project,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )


def state_url(folder: Path) -> str:
    """The URL of a file backend in `folder`, which a kill of the engine at any moment leaves readable.

    The backend writes a state file under another name and renames it, but the file of attributes beside it in place: an engine killed
    there leaves that one empty, and every later command ends with `failed to load checkpoint: EOF` (setAttrs of
    gocloud.dev/blob/fileblob; seen). Nothing needs the attributes, so none are written.
    """
    return f"file://{folder}?metadata=skip"


def stale_lock_owner(state_folder: Path) -> int | None:
    """The process ID of a dead engine of this machine that left a lock in a file backend, None where there is none.

    The lock's form is that of the engine's `diy` backend: JSON with `pid` and `hostname`.
    """
    for lock in sorted((state_folder / ".pulumi" / "locks").rglob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            owner = json.loads(lock.read_text())
            if owner["hostname"] == os.uname().nodename and not _lives(int(owner["pid"])):
                return int(owner["pid"])
    return None


def print_line(line: str, to: TextIO | None = None) -> None:
    """Prints a line at once, wherever the output goes."""
    print(line, file=to or sys.stdout, flush=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_events(path: Path) -> tuple[dict[str, int], list[Step]]:
    """What the engine's event log says was done: the summary's counts, and the steps that change something."""
    changes: dict[str, int] = {}
    steps: list[Step] = []
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # the last line of a killed engine may be cut off
            continue
        if "summaryEvent" in event:
            changes = dict(event["summaryEvent"].get("resourceChanges") or {})
        metadata = event.get("resourcePreEvent", {}).get("metadata")
        if metadata and metadata["op"] != "same":
            steps.append(Step(metadata["op"], metadata["urn"], metadata["type"]))
    return changes, steps
