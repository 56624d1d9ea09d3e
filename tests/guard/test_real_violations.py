"""A program that breaks a rule is stopped by the policy pack in the engine itself, and by the guard on the same preview's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.engine import Engine
from sandbox.stack import PROJECT
from tests.guard.conftest import guard, run_preview

PACK = ("--policy-pack", str(PROJECT / "policy"))

BROKEN = [
    ("tls-disable", "connections-use-tls", "admin", "sslmode disable"),
    ("tls-prefer", "connections-use-tls", "admin", "sslmode prefer"),
    ("tls-unset", "connections-use-tls", "admin", "sslmode unset"),
    ("token-in-clear", "connections-use-tls", "cloudflare", "api.example.com"),
    ("public-grant", "nothing-for-public", "connect", "CONNECT"),
    ("public-default", "nothing-for-public", "default", "SELECT"),
    ("plain-url", "secrets-are-secret", "password", "keepers.for holds a URL with a password"),
    ("plain-origin", "secrets-are-secret", "cutover", "newOrigin holds a password in JSON"),
    ("replaceable", "keep-what-holds-data", "database", "lcCollate"),
]
KEPT = ["clean", "tls-require", "loopback-without-tls", "secret-url", "secret-origin"]


def rules(answer: dict[str, Any]) -> set[tuple[str, str]]:
    return {(found["rule"], found["urn"].rsplit("::", 1)[-1]) for found in answer["violations"]}


@pytest.mark.parametrize(("case", "rule", "name", "why"), BROKEN, ids=[case for case, *_ in BROKEN])
def test_it_is_stopped(violating: Callable[[str], Engine], case: str, rule: str, name: str, why: str) -> None:
    done = run_preview(violating(case), "--json", "--show-sames")
    assert done.returncode == 0, done.stderr
    code, answer = guard(done.stdout)
    assert code == 1
    assert rules(answer) == {(rule, name)}
    assert why in json.dumps(answer)
    assert "hunter2" not in json.dumps(answer)
    packed = run_preview(violating(case), *PACK)
    assert packed.returncode != 0
    assert f"[mandatory]  clarity-infra v0.1.0  {rule}" in " ".join(packed.stdout.split(" ")), packed.stdout
    assert why in packed.stdout
    assert "hunter2" not in packed.stdout[packed.stdout.index("Policies:") :]
