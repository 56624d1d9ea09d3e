"""Puts the stand-ins where the Pulumi engine looks for plugins: executables in a folder that is to be on PATH."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandbox.plugins import sdk

STOOD_IN = ("random", "postgresql", "cloudflare")
DYNAMIC = "pulumi-python"
"""The plugin that runs dynamic providers written in Python; its code is in the SDK, only its launcher is not."""

_MARK = "# Written by sandbox.plugins.install"


def install(
    bin_dir: Path,
    python: Path,
    project: Path,
    only_missing: bool = True,
    *,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Writes `pulumi-resource-<name>` for every plugin that is missing into `bin_dir`, and says of each what it is.

    `python` is an interpreter with the SDKs, `project` the folder that holds the package `sandbox`. A plugin that is
    there for real, in the plugin folder of PULUMI_HOME or on PATH, is not stood in for, and a stand-in written for it
    earlier is removed; with `only_missing` false everything is written. PATH, HOME and PULUMI_HOME are taken from
    `environment` (the process's own by default).
    """
    known = os.environ if environment is None else environment
    bin_dir.mkdir(parents=True, exist_ok=True)
    told = []
    for name in (*STOOD_IN, DYNAMIC):
        target = bin_dir / f"pulumi-resource-{name}"
        if only_missing and any(_real(name, bin_dir, known)):
            if _is_ours(target):
                target.unlink()
            continue
        if name == DYNAMIC:
            _write(target, _launcher(python, "-u -m pulumi.dynamic"))
            told.append(f"{name}: launcher for dynamic providers (the official installation has one, there is none here)")
        else:
            _write(target, _launcher(python, f"-u -P -m sandbox.plugins.{name}", project))
            told.append(f"{name}: stand-in (the real plugin is not installed)")
    return told


def _real(name: str, bin_dir: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Where the real plugin is installed."""
    for folder in environment.get("PATH", "").split(os.pathsep):
        found = Path(folder) / f"pulumi-resource-{name}"
        if folder and Path(folder).resolve() != bin_dir.resolve() and os.access(found, os.X_OK) and not _is_ours(found):
            yield found
    if name in STOOD_IN:
        home = environment.get("PULUMI_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".pulumi"
        wanted = _version(sdk.package_version(name))
        for found in Path(home).glob(f"plugins/resource-{name}-v*"):
            version = _version(found.name.rpartition("-v")[2])
            unfinished = found.with_name(f"{found.name}.partial").exists()
            if found.is_dir() and not unfinished and version[:1] == wanted[:1] and version >= wanted:
                yield found


def _version(text: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def _launcher(python: Path, arguments: str, project: Path | None = None) -> str:
    lines = ["#!/bin/sh", _MARK]
    if project:
        # The working directory is the engine's choice, so the package has to be found another way.
        lines.append(f'PYTHONPATH={shlex.quote(str(project))}"${{PYTHONPATH:+:$PYTHONPATH}}"')
        lines.append("export PYTHONPATH")
    lines.append(f'exec {shlex.quote(str(python))} {arguments} "$@"')
    return "\n".join([*lines, ""])


def _is_ours(path: Path) -> bool:
    """Whether a launcher was written here, by this checkout or another."""
    try:
        with path.open("rb") as opened:
            return _MARK.encode() in opened.read(200)
    except OSError:
        return False


def _write(target: Path, text: str) -> None:
    # In one step, as an engine may be starting the plugin at this moment.
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(0o755)
    draft.replace(target)
