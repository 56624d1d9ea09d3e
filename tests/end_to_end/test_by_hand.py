"""What people change by hand behind a stack's back, and how the next commands put it right without losing a row."""

from __future__ import annotations

import subprocess

import psycopg
import pytest

from sandbox.engine import EngineError
from sandbox.stack import ACCOUNT_ID, APPLICATION_ROLE, SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER, bring

CONFIGS = f"/accounts/{ACCOUNT_ID}/hyperdrive/configs"
WRITTEN = "INSERT INTO feature_requests (request_id, origin, repo, description) VALUES ('{}', 'web', 'a/b', 'written since')"
CHANGED = "chan'ged@since/"


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox) -> Sandbox:
    """Cut over, and written to since."""
    made = new_sandbox(rows=500)
    bring(made, "cutover")
    write(made, "first")
    return made


def write(sandbox: Sandbox, name: str) -> None:
    """A write of the application, by what its Worker connects to."""
    with psycopg.connect(facts.connection_string(sandbox), autocommit=True, prepare_threshold=None) as connection:
        connection.execute(WRITTEN.format(name).encode())


def written(sandbox: Sandbox, database: str) -> list[str]:
    query = "SELECT request_id FROM feature_requests WHERE description = 'written since' ORDER BY id"
    return [str(row[0]) for row in sandbox.psql(database, query)]


def old_origin(sandbox: Sandbox) -> dict[str, object]:
    password = sandbox.variables["SANDBOX_APPLICATION_PASSWORD"]
    return {**facts.hyperdrive(sandbox)["origin"], "database": SOURCE_DATABASE, "user": APPLICATION_ROLE, "password": password}


def test_our_schema_is_dropped_from_the_old_database(sandbox: Sandbox) -> None:
    sandbox.psql(SOURCE_DATABASE, "DROP SCHEMA clarity_infra CASCADE")
    said = sandbox.up("cutover").output
    assert "the fence was put back on public.app_config, public.feature_requests, public.request_messages" in said
    assert written(sandbox, TARGET_DATABASE) == ["first"]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        sandbox.psql(SOURCE_DATABASE, WRITTEN.format("late"), url=sandbox.application_url)
    assert not sandbox.preview("cutover").changed


def test_hyperdrive_is_sent_back_by_hand_as_often_as_anybody_likes(sandbox: Sandbox) -> None:
    config = facts.hyperdrive(sandbox)
    body = {"name": config["name"], "caching": config["caching"], "origin_connection_limit": config["origin_connection_limit"]}
    for number in range(2):
        sandbox.cloudflare_api("PUT", f"{CONFIGS}/{config['id']}", {**body, "origin": old_origin(sandbox)})
        said = sandbox.up("cutover").output
        assert "Hyperdrive sends the application to the old database, but the new one is live." in " ".join(said.split())
        assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET_DATABASE)
        write(sandbox, f"sent back {number}")
    assert facts.hyperdrive(sandbox) == config
    assert not sandbox.preview("cutover").changed


def test_the_hyperdrive_config_is_deleted_and_another_takes_its_place(sandbox: Sandbox) -> None:
    config = facts.hyperdrive(sandbox)
    body = {key: config[key] for key in ("name", "caching", "origin_connection_limit")}
    password = psycopg.conninfo.conninfo_to_dict(sandbox.database_url)["password"]
    other = sandbox.cloudflare_api("POST", CONFIGS, {**body, "name": "meant-for-later", "origin": {**config["origin"], "password": password}})
    sandbox.configure(hyperdriveId=other["id"])
    with pytest.raises(EngineError, match="the Hyperdrive config changed after the data was copied"):
        sandbox.preview("cutover")
    sandbox.cloudflare_api("DELETE", f"{CONFIGS}/{config['id']}")
    sandbox.up("cutover")
    assert {**facts.hyperdrive(sandbox), "id": None} == {**config, "id": None}
    assert sandbox.outputs()["hyperdriveId"] == other["id"]
    write(sandbox, "by another config")


def test_the_state_is_lost_and_what_it_knew_is_told_again(sandbox: Sandbox) -> None:
    engine, configuration = sandbox.engine, sandbox.config_file.read_text()
    command = [str(engine.cli), "--non-interactive", "stack", "rm", "--yes", "--force", "--preserve-config", "--stack", sandbox.stack]
    subprocess.run(command, check=True, cwd=engine.project, env=dict(engine.environment), capture_output=True)
    engine.make_stack()
    sandbox.config_file.write_text(configuration)
    sandbox.configure(adoptExisting=True)
    with pytest.raises(EngineError, match="does not know what it used before"):
        sandbox.preview("cutover")
    config, origin = facts.hyperdrive(sandbox), old_origin(sandbox)
    body = {"name": config["name"], "caching": config["caching"], "origin_connection_limit": config["origin_connection_limit"]}
    sandbox.app_env_path.write_text(sandbox.app_env_path.read_text().replace(sandbox.database_url, sandbox.application_url))
    sandbox.cloudflare_api("PUT", f"{CONFIGS}/{config['id']}", {**body, "origin": origin})
    sandbox.up("cutover")
    assert facts.whereabouts(sandbox.database_url) == facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET_DATABASE)
    write(sandbox, "after the state was lost")


def test_the_old_password_is_changed_and_nothing_is_closed_before_it_is_known(sandbox: Sandbox) -> None:
    literal = CHANGED.replace("'", "''")
    sandbox.psql(SOURCE_DATABASE, f"ALTER ROLE {APPLICATION_ROLE} PASSWORD '{literal}'")
    with pytest.raises(EngineError, match="a connection to the old origin") as raised:
        sandbox.up("copy")
    assert "originPassword" in str(raised.value)
    with pytest.raises(EngineError, match="a connection to the old origin"):
        sandbox.destroy()
    write(sandbox, "while it was refused")
    engine, options = sandbox.engine, ["--stack", sandbox.stack, "--config-file", str(sandbox.config_file)]
    command = [str(engine.cli), "config", "set", "--secret", "clarity-infra:originPassword", *options]
    subprocess.run(command, input=CHANGED, text=True, check=True, cwd=engine.project, env=dict(engine.environment), capture_output=True)
    sandbox.up("cutover")  # which is what `destroy` knows of
    everything = written(sandbox, TARGET_DATABASE)
    sandbox.destroy()
    assert {"first", "while it was refused"} <= set(everything)
    assert written(sandbox, SOURCE_DATABASE) == everything
    assert facts.whereabouts(facts.connection_string(sandbox)) == (APPLICATION_ROLE, SOURCE_DATABASE)
    assert facts.whereabouts(sandbox.database_url) == (APPLICATION_ROLE, SOURCE_DATABASE)
    write(sandbox, "afterwards")
