"""Which variables the sandbox's programs see, and the file that lets a shell see the same."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

_ASSIGNMENT = re.compile(r"export (\w+)=(.*)")
_OTHERS = re.compile(r"(PG[A-Z]+|PULUMI_\w+|CLOUDFLARE_\w+|TF_\w+|(\w+_)?DATABASE_URL|SANDBOX_\w+)")


def caller_environment() -> dict[str, str]:
    """The caller's environment without what would lead to another server, stack, account or database.

    What is said afresh at each run stays, such as CLARITY_DISCARD_WRITES.
    """
    return {name: value for name, value in os.environ.items() if not _OTHERS.fullmatch(name)}


def read(path: Path) -> dict[str, str]:
    """The variables in a file that `write` wrote; none where there is no file."""
    if not path.exists():
        return {}
    found = (_ASSIGNMENT.fullmatch(line) for line in path.read_text().splitlines())
    return {match[1]: "".join(shlex.split(match[2])) for match in found if match}


def write(path: Path, variables: Mapping[str, str], *, path_before: str = "", path_after: str = "") -> None:
    """Writes `export` lines for a shell, mode 0600, all or nothing; the shell's PATH stays between the two given."""
    lines = ["# Written by the sandbox to be sourced by a shell. It holds passwords."]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f'PATH={shlex.quote(path_before + ":")}"$PATH"{shlex.quote(":" + path_after)}; export PATH')
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    unfinished.replace(path)
