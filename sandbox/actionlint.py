"""Where the linter of the workflows is: on PATH, otherwise built once from its Go module, as the Pulumi command line is.

The build is pinned by `toolchain/actionlint/go.mod` and kept in the cache folder that every checkout of this user shares.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from sandbox.pulumi_cli import PROJECT, CliError

_MODULE = "github.com/rhysd/actionlint"


def find_or_build(project: Path = PROJECT) -> Path:
    """The path of an actionlint of the pinned version. Takes some seconds where it has to be built. Raises CliError."""
    folder = project / "toolchain" / "actionlint"
    version = pinned_version(project)
    found = shutil.which("actionlint")
    if found and _version_of(Path(found)) == version:
        return Path(found)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    built = Path(base) / "clarity-infra" / f"actionlint-v{version}" / "actionlint"
    if _version_of(built) != version:
        _build(built, folder, version)
    return built


def pinned_version(project: Path = PROJECT) -> str:
    """The version that `toolchain/actionlint/go.mod` pins, such as `1.7.12`. Raises CliError."""
    go_mod = project / "toolchain" / "actionlint" / "go.mod"
    match = re.search(rf"^require {re.escape(_MODULE)} v(\S+)$", go_mod.read_text(), re.MULTILINE)
    if not match:
        raise CliError(f"{go_mod} does not require {_MODULE}, so it is not known which actionlint to build")
    return match.group(1)


def _version_of(linter: Path) -> str | None:
    try:
        printed = subprocess.run([linter, "-version"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return printed.split("\n", 1)[0].strip().removeprefix("v")


def _build(target: Path, folder: Path, version: str) -> None:
    """Builds to a name of its own and renames, so that a build cut short leaves nothing that looks finished."""
    go = shutil.which("go")
    if go is None:
        raise CliError(f"neither actionlint {version} nor Go to build it is on PATH. Install Go 1.21 or newer (https://go.dev/doc/install).")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        unfinished = Path(scratch) / target.name
        done = subprocess.run(
            [go, "build", "-trimpath", "-ldflags", f"-s -w -X {_MODULE}.version={version}", "-o", unfinished, f"{_MODULE}/cmd/actionlint"],
            cwd=folder,
            env={**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off", "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CliError(f"building actionlint {version} failed (exit {done.returncode}):\n{done.stderr[-2000:]}")
        unfinished.rename(target)
