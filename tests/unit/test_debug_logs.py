"""A run that would write its secrets down in clear is refused before any is made, unless it was asked for by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pulumi
import pytest

from clarity_infra import debug_logs, program
from clarity_infra.review import Review

CALLS = {"PULUMI_DEBUG_GRPC": "calls.json"}
ALLOWED = {"CLARITY_ALLOW_SECRETS_IN_LOGS": "yes"}
ASK = "import os; from clarity_infra import debug_logs; print(debug_logs.check(os.environ))"


def below_an_engine(*flags: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Asks in a process that a shell started, which a process with the engine's name and `flags` started."""
    command = ["/opt/pulumi/bin/pulumi", "-c", f'sh -c \'"$0" -c "{ASK}"; exit $?\' {sys.executable}; exit $?', "preview", *flags]
    plain = {name: value for name, value in os.environ.items() if name not in CALLS | ALLOWED}
    return subprocess.run(
        command, executable="/bin/bash", env={**plain, **(environment or {})}, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("flags", [["-v=9"], ["-v9"], ["-v", "11"], ["--verbose=10", "--logtostderr"], ["--verbose", "9"], ["-v=3", "-v=9"]])
def test_an_engine_that_logs_what_it_passes_on_is_refused(flags: list[str]) -> None:
    done = below_an_engine(*flags)
    assert done.returncode == 1
    assert "write every secret of this run into its log" in done.stderr and "-v=8 at most" in done.stderr


@pytest.mark.parametrize("flags", [[], ["-v=8"], ["-v", "8", "--logtostderr"], ["--verbose=1"], ["-v=9", "-v=3"], ["-y", "--diff"], ["-v"]])
def test_an_engine_that_does_not_is_none_of_our_business(flags: list[str]) -> None:
    done = below_an_engine(*flags)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_a_file_of_its_calls_is_warned_of() -> None:
    [told] = debug_logs.check(CALLS)
    assert "every secret of this run into calls.json (PULUMI_DEBUG_GRPC) in clear" in told and "passwordRevision" in told
    assert debug_logs.check({}) == []


def test_who_asks_for_it_is_warned() -> None:
    done = below_an_engine("-v=9", environment={**ALLOWED, **CALLS})
    assert done.returncode == 0
    assert "every secret of this run into calls.json (PULUMI_DEBUG_GRPC) and its log (-v=9) in clear" in done.stdout


def test_nothing_is_read_or_made_before_that(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    monkeypatch.setattr(program, "_settings", lambda: said.append("settings"))
    monkeypatch.setattr(program, "review", lambda settings, preview: Review(warnings=("something else",)))
    monkeypatch.setattr(debug_logs, "_engine_command", lambda: ["pulumi", "up", "-v=9"])
    with pytest.raises(pulumi.RunError, match=r"its log \(-v=9\)"):
        program.begin()
    assert said == []
    monkeypatch.setenv(*next(iter(ALLOWED.items())))
    program.begin()
    assert said[0] == "settings" and "passwordRevision" in said[1] and said[2:] == ["something else"]
