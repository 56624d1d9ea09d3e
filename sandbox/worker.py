"""How does the application's Worker run on this machine? In workerd, by miniflare, its Hyperdrive binding on a config's data path.

The binding's connection string stays the same whatever the config's origin is, as a deployed Worker's does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal

from sandbox.environment import caller_environment
from sandbox.node_packages import NodePackages

Release = Literal["before", "index"]
"""before: knows the tables up to migration 0002, and runs after 0003 too; index: knows what 0003 adds."""

_START_SECONDS = 60
_STOP_SECONDS = 10
_READY = "ready "


class WorkerError(Exception):
    """The Worker did not start; the message has the end of what it printed."""


class Worker:
    """The Worker, from entering the block to leaving it; ends by itself where this process is killed.

    folder: where a copy of the application is made, and its log. connection_string: what `env.HYPERDRIVE.connectionString` leads to.
    """

    def __init__(self, packages: NodePackages, folder: Path, connection_string: str, *, release: Release = "index") -> None:
        self.url = ""
        self.log_path = folder / "worker.log"
        self._packages = packages
        self._application = folder / "application"
        self._connection_string = connection_string
        self._release = release
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        """Raises WorkerError where it does not answer within a minute."""
        if not self._application.exists():
            self._application.parent.mkdir(parents=True, exist_ok=True)
            self._packages.copy_application(self._application)
        with open(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
            self._process = subprocess.Popen(
                [self._packages.bin / "node", "worker/serve.mjs", "--release", self._release],
                cwd=self._application,
                # Not as an argument: those are shown to every user of the machine.
                env={**self._packages.environment(caller_environment()), "WORKER_DATABASE_URL": self._connection_string},
                stdin=subprocess.PIPE,  # it ends with us: then nobody holds the other end
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, and the group is what is ended
            )
        try:
            self.url = self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            for line in self.log_path.read_text(errors="replace").splitlines(keepends=True):
                if line.startswith(_READY) and line.endswith("\n"):
                    return line.removeprefix(_READY).strip()
            time.sleep(0.05)
        tail = "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])
        raise WorkerError(f"the application's Worker did not start within {_START_SECONDS} s. The end of {self.log_path}:\n{tail}")

    def stop(self) -> None:
        """Asks it to end, and ends it and workerd where it does not. Does nothing where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the group outlives its leader where workerd does
        process.wait()
