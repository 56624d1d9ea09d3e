"""Would the engine write this run's secrets down in clear? Asked before anything secret is made or passed on.

At `-v=9` and above, and into the file of PULUMI_DEBUG_GRPC, the engine logs every property it passes to its plugins as it is. Its filter of
secrets knows those of the stack's configuration and nothing else, and no program can add to it (Pulumi 3.259:
sdk/go/common/util/logging/log.go, AddGlobalSecretFilter, and its callers; pkg/resource/plugin/rpc.go). A log is what a CI system keeps and shows
to others, so such a run is refused unless it was asked for by name. The file is made for nothing else, by who names it: a warning.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from clarity_infra.errors import ConfigurationError

ALLOWED_BY = "CLARITY_ALLOW_SECRETS_IN_LOGS"
"""The variable that says that the secrets of this run may be written down; of the environment, as it is said of one run."""

_CALLS = "PULUMI_DEBUG_GRPC"
_CHANGE = "change what was in it: the admin's password, the API token, and the application's (raise passwordRevision)."
_FIRST_THAT_SHOWS = 9

# The engine's flag as its parser takes it: -v=9, -v9, -v 9, --verbose=9, --verbose 9. https://www.pulumi.com/docs/iac/cli/commands/pulumi/
_VERBOSE = re.compile(r"(?:-v=?|--verbose(?:=|$))(\d*)")
_ENGINE = "pulumi"


def check(environment: Mapping[str, str]) -> list[str]:
    """A warning where secrets are written down because it was asked for; nothing where none are.

    Raises ConfigurationError where they would be in the engine's log, and nobody asked for that.
    """
    file, verbosity = environment.get(_CALLS), _verbosity(_engine_command())
    places = [f"{file} ({_CALLS})"] if file else []
    if verbosity >= _FIRST_THAT_SHOWS:
        if not environment.get(ALLOWED_BY):
            raise ConfigurationError(
                f"The engine would write every secret of this run into its log (-v={verbosity}) in clear, as it passes them to its plugins.",
                unchanged="Nothing was changed, and no password was made.",
                remedy="use -v=8 at most, which shows all but that. To have it all the same, on a stack that holds nothing real:"
                f" {ALLOWED_BY}=yes; afterwards delete the log and {_CHANGE}",
            )
        places.append(f"its log (-v={verbosity})")
    if not places:
        return []
    return [f"The engine writes every secret of this run into {' and '.join(places)} in clear. Delete that, and {_CHANGE}"]


def _verbosity(command: Sequence[str]) -> int:
    """What a command line says of it; the last one counts, and 0 is where it says nothing."""
    found = 0
    for word, following in itertools.pairwise([*command, ""]):
        match = _VERBOSE.fullmatch(word)
        number = (match[1] or following) if match else ""
        found = int(number) if number.isdecimal() else found
    return found


def _engine_command() -> list[str]:
    """The command line of the engine that this process is descended from; empty where this system does not show it (it has no /proc)."""
    process = os.getppid()
    while process > 1:
        try:
            command = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
            # The name in brackets may hold anything; what follows it is the state, then the parent.
            parent = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[1]
        except OSError:
            return []
        if Path(command[0]).name == _ENGINE:
            return command
        process = int(parent)
    return []
