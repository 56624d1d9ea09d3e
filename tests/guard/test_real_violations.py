"""What breaks a rule is stopped by the policy pack in the engine itself, and by the guard on the JSON of the same program's preview."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from sandbox.engine import Engine
from sandbox.stack import PROJECT
from tests.guard.conftest import guard, run_preview

BROKEN = {
    "broken-tls-disabled": ("connections-use-tls", "db.example.com has sslmode disable"),
    "broken-tls-unset": ("connections-use-tls", "db.example.com has sslmode unset"),
    "broken-token-in-clear": ("connections-use-tls", "api.example.com in clear"),
    "broken-replaceable": ("keep-what-holds-data", "lcCollate, lcCtype"),
    "broken-public-grant": ("nothing-for-public", "CONNECT"),
    "broken-public-default": ("nothing-for-public", "SELECT"),
    "broken-plain-url": ("secrets-are-secret", "keepers.for holds a URL with a password"),
    "broken-plain-origin": ("secrets-are-secret", "newOrigin holds a password in JSON"),
    "broken-clean-up-early": ("clean-up-in-its-time", "24 h of monitoring come first"),
    "broken-clean-up-unknown": ("clean-up-in-its-time", "does not know since when"),
}
# The value of a secret is in no JSON; only the policy pack, which the engine gives it, can look into it.
ONLY_IN_THE_PACK = {"broken-weak-secret-url": ("connections-use-tls", "db.example.com with sslmode disable")}


@pytest.fixture(scope="module")
def preview(violating: Engine) -> str:
    """`pulumi preview --json` of the program that breaks every rule."""
    done = run_preview(violating, "--json", "--show-sames")
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def packed(violating: Engine) -> tuple[int, str]:
    """Exit status and output of the preview of the same program with the policy pack."""
    done = run_preview(violating, "--policy-pack", str(PROJECT / "policy"))
    return done.returncode, done.stdout


def with_only(preview: str, name: str) -> str:
    """The preview as it would be if of everything that breaks a rule only one were there."""
    document: dict[str, Any] = json.loads(preview)
    others = {other for other in BROKEN if other != name}
    steps = [step for step in document["steps"] if step["urn"].rsplit("::", 1)[-1] not in others]
    return json.dumps({**document, "steps": steps})


def found(answer: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {entry["urn"].rsplit("::", 1)[-1]: (entry["rule"], entry["text"]) for entry in answer["violations"]}


def test_the_guard_names_what_breaks_a_rule_and_nothing_else(preview: str) -> None:
    code, answer = guard(preview)
    assert code == 1
    named = found(answer)
    assert set(named) == set(BROKEN)
    for name, (rule, why) in BROKEN.items():
        assert named[name][0] == rule
        assert why in named[name][1]
    assert "hunter2" not in json.dumps(answer)


@pytest.mark.parametrize("name", BROKEN)
def test_each_alone_stops_the_run(preview: str, name: str) -> None:
    code, answer = guard(with_only(preview, name))
    assert code == 1
    assert set(found(answer)) == {name}


def test_without_them_the_guard_lets_the_run_pass(preview: str) -> None:
    code, answer = guard(with_only(preview, ""))
    assert (code, answer["violations"]) == (0, [])


def test_the_policy_pack_stops_the_engine_for_each(packed: tuple[int, str]) -> None:
    code, output = packed
    assert code != 0
    print(output)
    violations = output[output.index("Policies:") : output.index("Diagnostics:")]
    named = set(re.findall(r"\[mandatory\]\s+(\S+)\s+\(.*: (\S+)\)", violations))
    of_the_stack = {("stack-is-whole", "clarity-infra-violations"), ("outputs-are-secret", "clarity-infra-violations")}
    assert named == {(rule, name) for name, (rule, _) in {**BROKEN, **ONLY_IN_THE_PACK}.items()} | of_the_stack
    for _, why in {**BROKEN, **ONLY_IN_THE_PACK}.values():
        assert why in violations
    assert "databaseUrl holds a URL with a password" in violations
    assert "the engine would delete it: the copy, the record of the way back, the way back" in violations
    assert "hunter2" not in violations
