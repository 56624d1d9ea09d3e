"""The program itself without its optional role: what the engine says it would delete, the guard lets pass and names; any other role it keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.stack import Sandbox
from scripts.review_markdown import review
from tests.guard.conftest import guard, run_preview

READER = "clarity_ro"


@pytest.fixture(scope="module")
def without_reader(new_sandbox: Callable[..., Sandbox]) -> str:
    """`pulumi preview --json` of a stack that was made with a read-only role and is to have none any more."""
    sandbox = new_sandbox(rows=200, config={"readOnlyRole": READER})
    sandbox.up("provision")
    sandbox.configure(readOnlyRole=None)
    done = run_preview(sandbox.engine, "--json", "--show-sames")
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def roles(document: dict[str, Any]) -> dict[str, str]:
    return {step["urn"].rsplit("::", 1)[-1]: step["op"] for step in document["steps"] if "postgresql:index/role:Role::" in step["urn"]}


def test_the_read_only_role_may_be_taken_away_and_the_reviewer_sees_it(without_reader: str) -> None:
    document = json.loads(without_reader)
    assert roles(document) == {"read-only": "delete", "read-write": "same", "user": "same"}
    code, answer = guard(without_reader)
    assert (code, answer["violations"]) == (0, [])
    assert [found["text"].split(" and ")[0] for found in answer["taken_away"]] == [f'the read-only role "{READER}"']
    shown = review("dev", document, answer)
    assert "## Ready for review" in shown and f'the read-only role "{READER}" and every privilege it has go' in shown


@pytest.mark.parametrize("name", ["read-write", "user"])
def test_in_the_same_preview_any_other_role_may_not(without_reader: str, name: str) -> None:
    document = json.loads(without_reader)
    [step] = [step for step in document["steps"] if step["urn"].endswith(f"::{name}") and "role:Role" in step["urn"]]
    step.update(op="delete", oldState=step["newState"], newState=None)
    code, answer = guard(json.dumps(document))
    assert code == 1
    assert [(found["rule"], found["urn"].rsplit("::", 1)[-1]) for found in answer["violations"]] == [("keep-what-holds-data", name)]
