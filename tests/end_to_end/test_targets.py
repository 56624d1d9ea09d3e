"""`pulumi up --target` and `--exclude`: nothing that names the live side can be sent over, or back, without the rows and the fence,
nothing names a login that does not let in yet or ends one that is in use, and nothing that holds rows is dropped where the way back is
not in state.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import psycopg
import pytest

from sandbox.engine import EngineError
from sandbox.stack import STAGES, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox

FOLLOWERS = {"hyperdrive": "cloudflare:index/hyperdriveConfig:HyperdriveConfig", "env-file": "pulumi-python:dynamic/clarity:EnvFile"}
OLD_LOGIN = {"old-login": "pulumi-python:dynamic/clarity:OldLogin"}


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox) -> Sandbox:
    """A verified copy, never cut over before: nothing on its side would refuse a write."""
    sandbox = new_sandbox()
    sandbox.climb("copy")
    return sandbox


def alone(sandbox: Sandbox, name: str) -> list[str]:
    """The flags by which `pulumi up` looks at one resource only."""
    exported = subprocess.run(
        [str(sandbox.engine.cli), "stack", "export", "--stack", sandbox.stack],
        cwd=sandbox.project,
        env=dict(sandbox.engine.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    resources: list[dict[str, Any]] = json.loads(exported.stdout)["deployment"]["resources"]
    [urn] = [one["urn"] for one in resources if one["type"] == {**FOLLOWERS, **OLD_LOGIN}[name] and one["urn"].endswith(f"::{name}")]
    return ["--target", urn]


@pytest.mark.parametrize("name", FOLLOWERS)
def test_it_does_not_go_over_by_itself(sandbox: Sandbox, name: str) -> None:
    before = facts.application(sandbox)
    done = sandbox.up("cutover", *alone(sandbox, name))
    assert not done.changed
    assert facts.application(sandbox) == before


def test_the_whole_goes_over_afterwards(sandbox: Sandbox) -> None:
    sandbox.up("cutover")
    assert facts.whereabouts(sandbox.database_url) == (facts.USER, facts.TARGET_DATABASE)
    assert facts.application(sandbox).hyperdrive["origin"]["database"] == facts.TARGET_DATABASE
    assert not sandbox.preview("cutover").changed


@pytest.mark.parametrize("revision", [2, 3])
def test_no_password_is_named_or_ended_by_itself(sandbox: Sandbox, revision: int) -> None:
    """The second revision makes the second login, the third gives the first one another password in place of the one that was ended."""
    sandbox.configure(passwordRevision=revision, passwordGraceSeconds=0)
    before, former = facts.application(sandbox), sandbox.database_url
    for name in (*OLD_LOGIN, *FOLLOWERS):
        done = sandbox.up("cutover", *alone(sandbox, name))
        assert not done.changed, name
        assert facts.application(sandbox) == before
        assert facts.whereabouts(former) == facts.whereabouts(facts.connection_string(sandbox)) == (facts.USER, facts.TARGET_DATABASE)
    with pytest.raises(EngineError) as refused:
        sandbox.up("cutover", "--exclude", "**::hyperdrive")
    assert "Hyperdrive still log(s) in by it" in " ".join(refused.value.result.output.split())
    assert facts.whereabouts(former) == facts.whereabouts(facts.connection_string(sandbox)) == (facts.USER, facts.TARGET_DATABASE)
    sandbox.up("cutover")
    assert facts.whereabouts(sandbox.database_url) == facts.whereabouts(facts.connection_string(sandbox)) == (facts.USER, facts.TARGET_DATABASE)
    with pytest.raises(psycopg.OperationalError):
        facts.whereabouts(former)
    assert not sandbox.preview("cutover").changed


@pytest.mark.parametrize("name", FOLLOWERS)
def test_it_does_not_come_back_by_itself(sandbox: Sandbox, name: str) -> None:
    before = facts.application(sandbox)
    done = sandbox.up("copy", *alone(sandbox, name))
    assert not done.changed
    assert facts.application(sandbox) == before


def test_without_the_way_back_in_state_nothing_is_dropped(new_sandbox: NewSandbox) -> None:
    """As where what is declared before `Rollback` failed at every `up`, while the cut-over itself did not."""
    sandbox = new_sandbox()
    before = facts.application(sandbox)
    for stage in STAGES[: STAGES.index("cutover") + 1]:
        sandbox.up(stage, "--exclude", "**::rollback")
    written = "INSERT INTO app_config (type, config) SELECT 'slack', '{}' WHERE NOT EXISTS (SELECT FROM app_config WHERE type = 'slack')"
    sandbox.psql(facts.TARGET_DATABASE, written)
    live = facts.rows_of(sandbox, facts.TARGET_DATABASE, "app_config")
    with pytest.raises(EngineError) as refused:
        sandbox.destroy()
    assert "(rollback) is not in this stack's state" in refused.value.result.output
    assert facts.rows_of(sandbox, facts.TARGET_DATABASE, "app_config") == live
    sandbox.up("cutover")
    sandbox.destroy()
    assert not facts.exists(sandbox)
    assert facts.rows_of(sandbox, "postgres", "app_config") == live
    assert facts.application(sandbox).hyperdrive == before.hyperdrive
