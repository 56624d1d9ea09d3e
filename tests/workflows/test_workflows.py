"""The workflows: linted, and held to what they promise about secrets, permissions, pins and runs that wait for one another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import actionlint, pulumi_cli
from sandbox.pulumi_cli import PROJECT

FOLDER = PROJECT / ".github"
FILES = sorted((FOLDER / "workflows").glob("*.yml"))
ACTIONS = sorted(FOLDER.glob("actions/*/action.yml"))
SHELL = sorted(path for path in (PROJECT / "scripts").iterdir() if path.is_file() and path.read_text().startswith("#!/usr/bin/env bash"))
CHANGING = re.compile(r"scripts/up |pulumi (up|destroy|refresh|cancel|import)\b")


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # "on" stays a text, as it is for GitHub
    return document


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        for name, job in read(path)["jobs"].items():
            yield f"{path.stem}.{name}", job


def steps_of(job: dict[str, Any]) -> list[dict[str, Any]]:
    return list(job.get("steps", []))


JOBS = dict(jobs())
KNOWN = "vars.CLARITY_STACKS || '[\"dev\"]'"
"""The stacks there are, as the workflows name them."""
WITH_STEPS = {name: job for name, job in JOBS.items() if "steps" in job}


@pytest.fixture(scope="module")
def with_shellcheck() -> dict[str, str]:
    """An environment in which shellcheck, installed beside the tests' Python, is on PATH."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}


def test_they_lint(with_shellcheck: dict[str, str]) -> None:
    linter = actionlint.find_or_build()
    done = subprocess.run([linter, "-no-color"], cwd=PROJECT, env=with_shellcheck, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_linter_finds_what_is_wrong(tmp_path: Path, with_shellcheck: dict[str, str]) -> None:
    text = (FOLDER / "workflows" / "preview.yml").read_text()
    wrong = tmp_path / "preview.yml"
    wrong.write_text(text.replace("matrix.stack", "matrix.stak", 1).replace('"$STACK" review', "$STACK review", 1))
    done = subprocess.run([actionlint.find_or_build(), "-no-color", wrong], env=with_shellcheck, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'property "stak" is not defined' in done.stdout
    assert "shellcheck" in done.stdout


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_the_scripts_lint(script: Path, with_shellcheck: dict[str, str]) -> None:
    done = subprocess.run(["shellcheck", script], env=with_shellcheck, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert os.access(script, os.X_OK)


def test_every_script_that_is_called_is_there() -> None:
    called = {name for path in (*FILES, *ACTIONS) for name in re.findall(r"scripts/([\w.-]+\w)", path.read_text())}
    assert called >= {
        "preview",
        "up",
        "drift",
        "confirm",
        "count-rollback",
        "fenced",
        "github.py",
        "review_markdown.py",
        "install-postgresql-client",
    }
    assert [name for name in called if not (PROJECT / "scripts" / name).is_file()] == []


@pytest.mark.parametrize("path", [*FILES, *ACTIONS], ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    for used in re.findall(r"uses: (.+)", path.read_text()):
        assert used.startswith("./.github/") or re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used


def test_the_same_action_is_the_same_everywhere() -> None:
    pins: dict[str, set[str]] = {}
    for path in (*FILES, *ACTIONS):
        for action, pin in re.findall(r"uses: ([\w.-]+/[\w.-]+)@(.+)", path.read_text()):
            pins.setdefault(action, set()).add(pin)
    assert {action: len(found) for action, found in pins.items()} == dict.fromkeys(pins, 1)


def test_the_engine_is_the_one_the_toolchain_pins() -> None:
    (setup,) = ACTIONS
    versions = [step["with"]["pulumi-version"] for step in read(setup)["runs"]["steps"] if "pulumi/actions" in step.get("uses", "")]
    assert versions == [pulumi_cli.pinned_version().removeprefix("v")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_is_permitted_but_by_the_job_that_needs_it(path: Path) -> None:
    document = read(path)
    assert document["permissions"] == {}
    assert "pull_request_target" not in document["on"]
    assert "workflow_run" not in document["on"]
    assert "env" not in document
    for name, job in document["jobs"].items():
        assert "permissions" in job, name
        writes = {key for key, level in (job["permissions"] or {}).items() if level == "write"}
        assert writes <= {"preview.preview": {"pull-requests"}, "drift.drift": {"issues"}}.get(f"{path.stem}.{name}", set())


@pytest.mark.parametrize("name", WITH_STEPS)
def test_secrets_are_given_to_the_one_step_that_needs_them(name: str) -> None:
    job = WITH_STEPS[name]
    assert "secrets." not in str({key: value for key, value in job.items() if key != "steps"})
    for step in steps_of(job):
        assert "secrets." not in str(step.get("run", "")) + str(step.get("with", ""))
        if "secrets." in str(step):
            assert "run" in step, f"{step} is not ours"


@pytest.mark.parametrize("name", WITH_STEPS)
def test_no_text_from_outside_is_part_of_a_script(name: str) -> None:
    """What a person or a branch can choose reaches the shell as a variable."""
    for step in steps_of(WITH_STEPS[name]):
        assert "${{" not in step.get("run", ""), step["run"]


@pytest.mark.parametrize("name", WITH_STEPS)
def test_a_command_that_fails_fails_its_step(name: str) -> None:
    """GitHub's own shell is `bash -e`: the last command of a pipe is the whole of it, and so is `echo` with a substitution in it."""
    for step in steps_of(WITH_STEPS[name]):
        run = step.get("run", "")
        assert " | " not in run or step.get("shell") == "bash" or run.startswith("echo "), run
        assert not re.search(r"^\s*echo .*\$\(", run, re.MULTILINE), run


@pytest.mark.parametrize(("typed", "code"), [("out of reach", 0), ("```\n# @everyone\n\n<b>", 3)])
def test_what_a_command_says_is_fenced_however_it_ends(typed: str, code: int) -> None:
    command = [str(PROJECT / "scripts" / "fenced"), "/bin/sh", "-c", f"cat; echo last >&2; exit {code}"]
    done = subprocess.run(command, input=f"{typed}\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    first, *lines = done.stdout.splitlines()
    assert first == "" and [line[4:] for line in lines] == [*typed.splitlines(), "last"]
    assert all(line.startswith("    ") for line in lines)


@pytest.mark.parametrize("name", WITH_STEPS)
def test_a_checkout_keeps_no_token(name: str) -> None:
    for step in steps_of(WITH_STEPS[name]):
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] == "false"


@pytest.mark.parametrize("name", JOBS)
def test_what_changes_a_stack_waits_for_an_approval_and_for_every_other_run(name: str) -> None:
    job = JOBS[name]
    if not any(CHANGING.search(step.get("run", "")) for step in steps_of(job)):
        assert "environment" not in job
        return
    assert job["environment"] == "${{ inputs.stack }}"
    assert job["concurrency"] == {"group": "clarity-stack-${{ inputs.stack }}", "cancel-in-progress": "false", "queue": "max"}


def test_two_jobs_change_a_stack_and_no_run_cancels_another() -> None:
    changing = {name for name, job in JOBS.items() if any(CHANGING.search(step.get("run", "")) for step in steps_of(job))}
    assert changing == {"apply.up", "rollback.destroy"}
    for name, job in JOBS.items():
        if "concurrency" in job:
            assert (job["concurrency"]["cancel-in-progress"], job["concurrency"]["queue"]) == ("false", "max"), name


def test_what_changes_a_stack_keeps_its_evidence_however_it_ends() -> None:
    for name in ("apply.up", "rollback.destroy"):
        steps = {step["name"]: step for step in steps_of(JOBS[name]) if "name" in step}
        assert list(steps)[-2:] == ["Gather the evidence", "Keep the evidence"]
        gathered, kept = steps["Gather the evidence"], steps["Keep the evidence"]
        assert gathered["run"] == 'scripts/evidence "$STACK" evidence'
        assert gathered["if"] == "always()" and kept["if"].startswith("always()")
        assert kept["with"]["path"] == "evidence"


def test_a_fork_gets_a_word_and_no_secret() -> None:
    own, outside = JOBS["preview.preview"], JOBS["preview.outside"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in own["if"]
    assert "github.event.pull_request.head.repo.full_name != github.repository" in outside["if"]
    assert not outside["permissions"]
    assert "secrets." not in str(outside)


def test_on_merge_the_reviewed_plan_is_applied_and_no_other() -> None:
    document = read(FOLDER / "workflows" / "up.yml")
    assert document["on"]["push"] == {"branches": ["main"]}
    assert document["jobs"]["up"]["with"]["reviewed"] == "${{ github.event_name == 'push' }}"
    steps = {step["name"]: step for step in steps_of(JOBS["apply.plan"]) if "name" in step}
    assert "inputs.reviewed" in steps["Find the reviewed plan"]["if"]
    assert steps["Take the reviewed plan"]["with"]["path"] == "review"
    assert steps["Keep the plan that is to be approved"]["with"]["path"] == "review/plan.json"
    assert list(steps).index("Take the reviewed plan") < list(steps).index("Keep the plan that is to be approved")


@pytest.mark.parametrize(("workflow", "phrase"), [("rollback", "roll back"), ("clean-up", "clean up")])
def test_by_hand_means_typed(workflow: str, phrase: str) -> None:
    document = read(FOLDER / "workflows" / f"{workflow}.yml")
    assert list(document["on"]) == ["workflow_dispatch"]
    assert f"Type: {phrase} STACK" in document["on"]["workflow_dispatch"]["inputs"]["confirmation"]["description"]
    asked = [step["run"] for step in steps_of(document["jobs"]["confirmed"]) if "scripts/confirm" in step.get("run", "")]
    assert asked == [f'scripts/confirm "{phrase}" "$STACK" "$TYPED"']
    assert [job["strategy"]["matrix"]["stack"] for job in JOBS.values() if "strategy" in job] == ["${{ fromJSON(" + KNOWN + ") }}"] * 3
    assert [step["env"]["STACKS"] for step in steps_of(document["jobs"]["confirmed"]) if "env" in step] == ["${{ " + KNOWN + " }}"]
    needing = {name for name, job in document["jobs"].items() if name not in ("confirmed", "afterwards")}
    assert all("confirmed" in str(document["jobs"][name]["needs"]) or "counted" in str(document["jobs"][name]["needs"]) for name in needing)


@pytest.mark.parametrize(("typed", "code"), [("roll back prod", 0), ("roll back dev", 1), ("roll back prod ", 1), ("", 1), ("*", 1)])
def test_only_the_whole_phrase_confirms(typed: str, code: int) -> None:
    done = confirm("prod", typed)
    assert done.returncode == code
    assert ("Nothing was changed" in done.stdout) is bool(code)


@pytest.mark.parametrize("stack", ["Prod", "acme/prod", "organization/clarity-infra/prod", "pro", "", ".*", 'dev", "prod', "prod\n"])
def test_a_stack_by_another_name_is_not_known(stack: str) -> None:
    """GitHub would make an environment of that name, which asks for no approval."""
    done = confirm(stack, f"roll back {stack}")
    assert done.returncode == 1
    assert "no such stack" in done.stdout


def test_a_stack_of_an_organization_is_known_by_its_whole_name() -> None:
    assert confirm("acme/prod", "roll back acme/prod", stacks='["acme/dev","acme/prod"]').returncode == 0
    assert confirm("prod", "roll back prod", stacks='["acme/dev","acme/prod"]').returncode == 1


def confirm(stack: str, typed: str, stacks: str = '["dev", "prod"]') -> subprocess.CompletedProcess[str]:
    command = [str(PROJECT / "scripts" / "confirm"), "roll back", stack, typed]
    return subprocess.run(command, env={**os.environ, "STACKS": stacks}, capture_output=True, text=True, check=False)


def test_no_artifact_s_name_holds_what_none_may() -> None:
    """A stack may be named with its organization, and upload-artifact refuses a slash."""
    used = [step["with"]["name"] for job in WITH_STEPS.values() for step in steps_of(job) if "-artifact@" in step.get("uses", "")]
    assert len(used) == 6
    assert {name for name in used if "inputs.stack" in name or "matrix.stack" in name} == set()


def test_the_names_of_the_environment_are_the_program_s() -> None:
    """A variable that nobody reads would leave the program with its default, unnoticed."""
    given = {name for job in WITH_STEPS.values() for step in steps_of(job) for name in (step.get("env") or {})}
    given -= {"GITHUB_TOKEN", "NUMBER", "TYPED", "STACK", "STACKS"}
    read_by = "\n".join(path.read_text() for path in (*SHELL, PROJECT / "clarity_infra" / "settings.py"))
    engine = {"PULUMI_ACCESS_TOKEN", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE"}
    assert [name for name in sorted(given - engine) if name not in read_by] == []


def test_client_tools_that_are_new_enough_are_left_as_they_are(tmp_path: Path) -> None:
    path, added = tmp_path / "bin", tmp_path / "added"
    path.mkdir()
    for name, body in (("pg_dump", "echo 'pg_dump (PostgreSQL) 99.1'"), ("apt-get", "exit 7"), ("sudo", "exit 7")):
        (path / name).write_text(f"#!/bin/sh\n{body}\n")
        (path / name).chmod(0o755)
    environment = {"PATH": f"{path}:{os.environ['PATH']}", "GITHUB_PATH": str(added)}
    command = [str(PROJECT / "scripts" / "install-postgresql-client")]
    done = subprocess.run([*command, "18"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "PostgreSQL's client tools: version 99\n"), done.stderr
    older = subprocess.run([*command, "100"], env=environment, capture_output=True, text=True, check=False)
    assert older.returncode == 7  # what would install them was called


def test_what_a_rollback_would_lose_cannot_end_its_block(tmp_path: Path) -> None:
    """A table's name may hold anything, and the summary is read before the roll-back is approved."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' 'table x' '````' '# Nothing is lost'\n")
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(python)}
    done = subprocess.run([PROJECT / "scripts" / "count-rollback", "dev"], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["", "    table x", "    ````", "    # Nothing is lost"]
