"""The whole path as a managed server's admin, who is no superuser, while the application writes and holds sessions open."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from sandbox import environment
from sandbox.engine import EngineError
from sandbox.source import NEIGHBOURS, TABLES
from sandbox.stack import SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER, Application, bring
from tests.end_to_end.planted import Processes, forms, holders
from tests.end_to_end.writer import Writer

# Each character means something in a URL, a shell, SQL, JSON, YAML or a connection string.
PLANTED = {
    "SANDBOX_SUPERUSER_PASSWORD": "planted-Superuser-5e1f",
    "SANDBOX_ADMIN_PASSWORD": "planted Admin/7c3a:@%41?&#'\"\\$x`é",
    "SANDBOX_APPLICATION_PASSWORD": "planted-Application=9d2b+/:@é",
    "PULUMI_CONFIG_PASSPHRASE": "planted-Passphrase-1b6d",
    "CLOUDFLARE_API_TOKEN": "planted-Token-8f4e",
}
# Where a password may be: the application's own file, the sandbox's, and the account's storage, which has to know it.
ALLOWED = {"app.env", "env", "cloudflare.json"}
LONGEST_GAP = 15.0
"""Seconds; a limit that shows a writer kept out for the length of a copy, on a machine with much else to do."""


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox, scratch: Path, said: list[str], processes: Processes) -> Sandbox:
    """Its server logs every statement, and its passwords are ones that are easily found again, and easily misquoted."""

    def plant(folder: Path) -> None:
        folder.mkdir()
        environment.write(folder / "env", PLANTED)

    return new_sandbox(superuser=False, say=said.append, settings={"log_statement": "all"}, before_making=plant)


@pytest.fixture(scope="module")
def before(sandbox: Sandbox) -> Application:
    return facts.application(sandbox)


def written(sandbox: Sandbox, database: str, prefix: str) -> list[str]:
    query = f"SELECT request_id FROM feature_requests WHERE request_id LIKE '{prefix}-%'"
    return sorted(str(row[0]) for row in sandbox.psql(database, query))


def test_a_failed_cut_over_leaves_the_source_live(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "copy")
    sandbox.cloudflare_control(body={"refuse_origins": True})
    try:
        with pytest.raises(EngineError) as raised:
            sandbox.up("cutover")
    finally:
        sandbox.cloudflare_control(body={"refuse_origins": False})
    assert "Traceback" not in raised.value.result.output
    assert "Cloudflare" in raised.value.result.output
    now = facts.application(sandbox)
    assert (now.contents, now.env, now.hyperdrive["origin"]) == (before.contents, before.env, before.hyperdrive["origin"])
    sandbox.psql(SOURCE_DATABASE, "UPDATE feature_requests SET title = title", url=sandbox.application_url)


def test_no_acknowledged_write_is_lost_at_the_cut_over(sandbox: Sandbox, before: Application, capsys: pytest.CaptureFixture[str]) -> None:
    bring(sandbox, "copy")
    with Writer(facts.connection_string(sandbox), "crossing") as writer:
        sandbox.up("cutover")
    with capsys.disabled():
        print(
            f"\ncut-over: {len(writer.acknowledged)} writes acknowledged, longest gap {writer.longest_gap:.2f} s, errors {dict(writer.errors)}"
        )
    there = written(sandbox, TARGET_DATABASE, "crossing")
    assert set(writer.acknowledged) <= set(there)
    assert len(there) == len(set(there))
    assert set(written(sandbox, SOURCE_DATABASE, "crossing")) <= set(there)
    assert writer.longest_gap < LONGEST_GAP
    for table in TABLES:
        old = facts.rows_of(sandbox, SOURCE_DATABASE, table)
        assert set(old) <= set(facts.rows_of(sandbox, TARGET_DATABASE, table, without=facts.ADDED_BY_0003))
    assert set(facts.owners(sandbox).values()) == {USER}


def test_no_password_is_anywhere_it_may_not_be(
    sandbox: Sandbox, before: Application, said: list[str], scratch: Path, processes: Processes
) -> None:
    """After an `up` of each stage, one that failed, a refresh, a preview, and one that says all the engine says short of its plugins' calls.

    At -v=9 and above the engine itself logs the properties it passes on in clear, secrets too: such a run is refused before it makes any.
    """
    bring(sandbox, "cutover")
    sandbox.refresh()
    sandbox.preview("cutover")
    sandbox.preview("cutover", "-v=8", "--logtostderr", "--logflow")
    with pytest.raises(EngineError, match="CLARITY_ALLOW_SECRETS_IN_LOGS"):
        sandbox.up("cutover", "-v=11", "--logtostderr", "--logflow")
    generated = urlsplit(sandbox.database_url).password
    assert generated
    state = json.dumps(sandbox.engine.state())
    secrets = {**PLANTED, "the generated password": generated}
    assert "clarity_user" in state and "DATABASE_URL now" in "\n".join(said)
    assert "CREATE" in sandbox.server.log_path.read_text(errors="replace")
    assert any(path.is_file() for path in sandbox.state_path.rglob("*"))
    folders = [sandbox.folder, sandbox.server.folder.resolve(), scratch]
    found = holders(folders, secrets)
    assert {path.name for path in found["the generated password"]} == ALLOWED
    for name, paths in found.items():
        assert {path.name for path in paths} <= ALLOWED, name
    for name, value in secrets.items():
        assert [form for form in forms(value) if form in "\n".join(said) or form in state] == [], name
    assert any("pg_dump" in command for command in processes.commands) and processes.environments_of_tools
    for name, value in secrets.items():
        shown = [*processes.commands, *processes.environments_of_tools]
        assert [text for text in shown if any(form in text for form in forms(value))] == [], name
    for path in (sandbox.env_path, sandbox.app_env_path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_the_admin_may_not_do_is_asked_for_and_does_not_stop_it(sandbox: Sandbox, before: Application) -> None:
    """The audit log, with the statement that would let it; and what only the server's operator can set."""
    bring(sandbox, "copy")
    outputs = sandbox.outputs()
    assert [text for text in outputs["warnings"] if 'GRANT SET ON PARAMETER "log_statement" TO "managed"' in text]
    assert [text for text in outputs["advice"] if "log_connections" in text]


def test_destroy_with_the_application_at_work(
    sandbox: Sandbox, before: Application, said: list[str], scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bring(sandbox, "cutover")
    secrets = {**PLANTED, "the generated password": str(urlsplit(sandbox.database_url).password)}
    crossed = written(sandbox, TARGET_DATABASE, "crossing")
    with psycopg.connect(sandbox.database_url, autocommit=True) as session, Writer(facts.connection_string(sandbox), "returning") as writer:
        session.execute("SELECT count(*) FROM feature_requests")
        sandbox.destroy()
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with capsys.disabled():
        print(f"\ndestroy: {len(writer.acknowledged)} writes acknowledged, longest gap {writer.longest_gap:.2f} s, errors {dict(writer.errors)}")
    assert set(writer.acknowledged) <= set(written(sandbox, SOURCE_DATABASE, "returning"))
    assert written(sandbox, SOURCE_DATABASE, "crossing") == crossed
    assert writer.longest_gap < LONGEST_GAP
    now = facts.application(sandbox)
    assert not facts.exists(sandbox)
    assert now.structure == before.structure
    assert (now.env, now.hyperdrive) == (before.env, before.hyperdrive)
    assert {name: now.contents[name] for name in NEIGHBOURS} == {name: before.contents[name] for name in NEIGHBOURS}
    assert [name for name, value in secrets.items() if any(form in "\n".join(said) for form in forms(value))] == []
    found = holders([sandbox.folder, sandbox.server.folder.resolve(), scratch], secrets)
    assert set().union(*({path.name for path in paths} for paths in found.values())) <= ALLOWED
