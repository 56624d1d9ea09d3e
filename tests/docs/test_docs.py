"""Does what README and docs say still hold? Their commands, the tests they name, the errors they quote, the keys they list."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from clarity_infra.__main__ import _parser
from sandbox.pulumi_cli import find_or_build
from tests.docs import test_make_commands, test_pulumi_commands
from tests.docs.shown import ROOT, commands, unknown_lines

# The checklist of the plan that people followed by hand.
PLAN = """
Create `clarity` database|Create `clarity_rw` role|Create `clarity_user` with secure password|Grant appropriate permissions|
Export schema from postgres|Export data from postgres|Update `.env` with new `DATABASE_URL` pointing to clarity db|Import schema to clarity|
Import data to clarity|Run pending migrations (0003_add_agent_support.sql)|Verify sequences are set correctly|Verify table counts match|
Test CRUD operations as clarity_user|Update Hyperdrive connection string|Deploy and test application|Monitor for errors (24-48 hours)|
Drop `__drizzle_migrations` from postgres|Drop `request_messages` from postgres|Drop `feature_requests` from postgres|
Drop `app_config` from postgres|Drop all enums from postgres|Document new credentials securely|
Keep old `postgres` database untouched until verification passes|Revert Hyperdrive connection string to original|
Drop `clarity` database and start fresh if needed|Password Generation|Connection Encryption|IP Allowlisting|Audit|Credentials Storage
"""


def test_the_configuration_s_page_is_that_of_the_schema() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "configuration_reference.py"), "--check"], check=False)
    assert done.returncode == 0, "run `make docs`"


def test_no_line_of_the_plan_s_checklist_is_missing() -> None:
    lines = [line.strip() for line in PLAN.replace("\n", "").split("|") if line.strip()]
    page = (ROOT / "docs" / "checklist.md").read_text()
    assert [line for line in lines if f"| {line} | " not in page] == []
    assert len(lines) == 30


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "security.md").read_text())
    missing = [
        f"{file}::{test}" for file, test in named if not (ROOT / file).exists() or (test and f"def {test}(" not in (ROOT / file).read_text())
    ]
    assert named and missing == []


def test_every_error_that_is_quoted_is_one_of_the_program_s() -> None:
    texts = list(_constants())
    quoted = [text for line in _runbook_items() for text in re.findall(r"`([^`]+)`", line)]
    missing = [text for text in quoted if not any(_reads_as(part, text) for part in texts)]
    assert len(quoted) > 30 and missing == []


def _runbook_items() -> list[str]:
    page = (ROOT / "docs" / "runbook.md").read_text()
    return re.findall(r"You see ((?:[^.]|\n)*?)(?:\. | as a warning| with )", page)


def _reads_as(part: str, text: str) -> bool:
    """Numbers and names of the moment are left out of the comparison."""
    pattern = re.sub(r"\d+", r"(?:\\d+|\\x00)", re.escape(text))
    return re.search(pattern, part) is not None


def _constants() -> Iterator[str]:
    """Every text in the program's source; what is filled in is a zero character."""
    for path in (ROOT / "clarity_infra").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


# Commands


def test_every_command_is_run_by_a_test_or_said_why_not() -> None:
    """test_make_commands.py and test_pulumi_commands.py run them, each at the stage it is meant for."""
    run = {step.command for step in (*test_make_commands.STEPS, *test_pulumi_commands.STEPS)}
    shown = commands()
    assert {command: pages for command, pages in shown.items() if command not in run | test_pulumi_commands.NOT_RUN.keys()} == {}
    assert run - shown.keys() == set(), "no page shows these any more"
    assert test_pulumi_commands.NOT_RUN.keys() - shown.keys() == set()
    assert not run & test_pulumi_commands.NOT_RUN.keys()


def test_no_line_of_a_shell_s_block_is_overlooked() -> None:
    assert unknown_lines() == []


@pytest.fixture(scope="module")
def cli() -> Path:
    return find_or_build(print)


@pytest.fixture(scope="module")
def keys() -> set[str]:
    return set(yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"])


@pytest.fixture(scope="module")
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("command", [command for command in commands() if re.match(r"(\w+=\S+ )*(make|pulumi|python3?) ", command)])
def test_every_command_is_one(command: str, cli: Path, keys: set[str], targets: set[str]) -> None:
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        assert next(word for word in words[1:] if not word.startswith("-")) in targets
    elif words[0] == "pulumi":
        _check_pulumi(cli, words[1:], keys)
    elif words[1:3] == ["-m", "clarity_infra"] and words[3:] != ["..."]:
        _parser().parse_args(["report"] if words[3] == "COMMAND" else words[3:])
    else:
        assert words[1] == "-m" or (ROOT / words[1]).exists()


_HELP: dict[tuple[str, ...], str] = {}


def _check_pulumi(cli: Path, words: list[str], keys: set[str]) -> None:
    """The subcommand exists, and its help knows each option; a key that is set is one of the schema's."""
    deep = 2 if words[0] in ("config", "stack") and len(words) > 1 and not words[1].startswith("-") else 1
    name = tuple(words[:deep])
    if name not in _HELP:
        environment = {**os.environ, "PULUMI_EXPERIMENTAL": "true"}  # update plans are shown only then
        done = subprocess.run([str(cli), *name, "--help"], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        _HELP[name] = done.stdout
    for word in words[deep:]:
        if word.startswith("--"):
            assert word.split("=")[0] in _HELP[name], word
    if name == ("config", "set"):
        key = next(word for word in words[2:] if not word.startswith("-")).removeprefix("clarity-infra:").split("[")[0]
        assert key in keys | {"KEY"}, key
