"""A server process that goes on after the command that started it, and is found again by the next one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_STOP_SECONDS = 10


class BackgroundError(Exception):
    """A background process did not start; the message says which and where its output is."""


class Background:
    """The process of `command`, remembered in `folder/<name>.pid`, with its output in `folder/<name>.log`.

    `mark` is a piece of its command line by which it is told from a stranger that got its process ID later.
    """

    def __init__(self, folder: Path, name: str, *, mark: str) -> None:
        self._name = name
        self._mark = mark
        self._pid_path = folder / f"{name}.pid"
        self.log_path = folder / f"{name}.log"

    @property
    def pid(self) -> int | None:
        """The process ID, None where it does not run."""
        try:
            pid = int(self._pid_path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if self._mark in _command_line(pid) else None

    def start(self, command: Sequence[str], *, environment: Mapping[str, str], ready: Path, seconds: float = 30) -> None:
        """Starts it where it does not run, and returns once it has written the file `ready`. Raises BackgroundError."""
        if self.pid:
            return
        ready.unlink(missing_ok=True)
        with open(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is not meant for it
            )
        self._pid_path.write_text(f"{process.pid}\n")
        deadline = time.monotonic() + seconds
        while not (ready.exists() and ready.read_text().strip()):
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])
                raise BackgroundError(f"{self._name} did not start. The end of {self.log_path}:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends it, at once if it does not end when asked. Does nothing where it does not run."""
        pid = self.pid
        if pid:
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while self.pid and time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)  # a child of this very process would stay as a zombie
                time.sleep(0.05)
            if self.pid:
                os.kill(pid, signal.SIGKILL)
        self._pid_path.unlink(missing_ok=True)


def processes_with(variable: str, value: str) -> dict[int, str]:
    """The processes that were started with an environment variable of that value: command line by process ID.

    Linux only; elsewhere, and of other users' processes, nothing is known.
    """
    wanted = f"{variable}={value}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = _command_line(int(folder.name))
    return found


def _command_line(pid: int) -> str:
    """A process's command line; empty where there is no such process, or only its remains."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return "" if "<defunct>" in shown else shown
