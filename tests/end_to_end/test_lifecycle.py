"""The whole path as superuser, with the default number of rows: up by stages, nothing to do, back, up again, destroy, up again.

Each test brings the stack to the stage it needs, which takes nothing where the test before it left it there.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from sandbox.engine import EngineError
from sandbox.source import NEIGHBOURS, TABLES, read_folder
from sandbox.source.build import DRIZZLE_FOLDER
from sandbox.stack import PROJECT, SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER, Application, bring

OLD = "UPDATE feature_requests SET title = 'late' WHERE id = (SELECT min(id) FROM feature_requests)"
INSERTS = {
    "app_config": "DELETE FROM app_config WHERE type = 'slack'; INSERT INTO app_config (type, config) VALUES ('slack', '{}') RETURNING id",
    "feature_requests": "INSERT INTO feature_requests (request_id, origin, repo, description) VALUES ('new', 'web', 'a/b', 'c') RETURNING id",
    "request_messages": (
        "INSERT INTO request_messages (request_id, type, source, content)"
        " SELECT request_id, 'retry', 'web', 'c' FROM feature_requests LIMIT 1 RETURNING id"
    ),
}


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox) -> Sandbox:
    return new_sandbox(rows=20_000)


@pytest.fixture(scope="module")
def before(sandbox: Sandbox) -> Application:
    """What the application had before the first `up`."""
    return facts.application(sandbox)


def command_line(sandbox: Sandbox, *question: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m clarity_infra` in a shell that has sourced the sandbox's file and nothing else."""
    command = [sys.executable, "-m", "clarity_infra", *question, "--source", "MASTER_DATABASE_URL", "--quiet"]
    return subprocess.run(
        ["/bin/sh", "-euc", '. "$0" && exec "$@"', sandbox.env_path, *command],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        check=False,
    )


def asked(sandbox: Sandbox, *question: str) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of the command line as JSON."""
    done = command_line(sandbox, *question, "--json")
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, answer


def without_cache(config: dict[str, object]) -> dict[str, object]:
    return {**config, "caching": {"disabled": True}}


def same_rows(sandbox: Sandbox) -> None:
    """Both sides are equal row for row but for what the pending migration added."""
    for table in TABLES:
        old = facts.rows_of(sandbox, SOURCE_DATABASE, table)
        new = facts.rows_of(sandbox, TARGET_DATABASE, table, without=facts.ADDED_BY_0003)
        assert old, table
        different = [(one, other) for one, other in zip_longest(old, new) if one != other]
        assert different[:3] == [], f"{table}: {len(different)} rows"


def nothing_to_do(sandbox: Sandbox, stage: str) -> None:
    refreshed = sandbox.refresh()
    assert not refreshed.changed, refreshed.output
    looked = sandbox.preview(stage)
    assert not looked.changed, [(step.op, step.name) for step in looked.steps]


def test_provision_leaves_the_application_as_it_is(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "provision")
    now = facts.application(sandbox)
    assert replace(now, structure=[]) == replace(before, structure=[])
    assert facts.exists(sandbox)
    assert facts.contents(sandbox, TARGET_DATABASE) == {}


def test_copy_leaves_the_application_as_it_is_but_for_the_cache(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "copy")
    now = facts.application(sandbox)
    assert replace(now, structure=[], hyperdrive={}) == replace(before, structure=[], hyperdrive={})
    assert now.hyperdrive == without_cache(before.hyperdrive)
    assert facts.contents(sandbox, TARGET_DATABASE) == {name: digest for name, digest in before.contents.items() if name not in NEIGHBOURS}
    nothing_to_do(sandbox, "copy")


class TestCommandLineAtCopy:
    @pytest.fixture(autouse=True)
    def _copied(self, sandbox: Sandbox, before: Application) -> None:
        bring(sandbox, "copy")

    def test_status_says_that_the_old_side_is_live(self, sandbox: Sandbox) -> None:
        code, answer = asked(sandbox, "status")
        assert (code, answer["stage"], answer["writes"]) == (0, "copy", "source")

    def test_verify_finds_both_sides_equal(self, sandbox: Sandbox) -> None:
        code, answer = asked(sandbox, "verify")
        assert code == 0, answer

    def test_verify_finds_a_row_that_differs(self, sandbox: Sandbox) -> None:
        change = "UPDATE feature_requests SET title = title || ' ' WHERE title IS NOT NULL AND id % 1000 = 1"
        with psycopg.connect(sandbox.server.url(TARGET_DATABASE)) as connection:
            assert connection.execute(change).rowcount > 0
        try:
            done = command_line(sandbox, "verify")
        finally:
            undo = "UPDATE feature_requests SET title = rtrim(title) WHERE title IS NOT NULL AND id % 1000 = 1"
            sandbox.psql(TARGET_DATABASE, undo)
        assert done.returncode == 1
        assert "table public.feature_requests" in done.stdout

    def test_nothing_would_have_to_be_carried(self, sandbox: Sandbox) -> None:
        code, answer = asked(sandbox, "rollback", "--dry-run")
        assert (code, answer["written"]) == (0, [])


class TestCutOver:
    @pytest.fixture(autouse=True)
    def _cut_over(self, sandbox: Sandbox, before: Application) -> None:
        bring(sandbox, "cutover")

    def test_the_tables_are_equal_row_for_row_but_for_what_the_migration_added(self, sandbox: Sandbox, before: Application) -> None:
        same_rows(sandbox)
        assert facts.contents(sandbox) == before.contents
        added = sandbox.psql(TARGET_DATABASE, f"SELECT DISTINCT {', '.join(facts.ADDED_BY_0003)} FROM feature_requests")
        assert added == [("claude-code", "anthropic", None, None)]

    def test_the_pending_migration_is_recorded_as_drizzle_does(self, sandbox: Sandbox) -> None:
        query = "SELECT hash, created_at FROM drizzle.__drizzle_migrations ORDER BY id"
        known = [(migration.hash, migration.when) for migration in read_folder(DRIZZLE_FOLDER)]
        assert sandbox.psql(TARGET_DATABASE, query) == known
        assert sandbox.psql(SOURCE_DATABASE, query) == known[:-1]
        assert known[-1][0] == hashlib.sha256((DRIZZLE_FOLDER / "0003_add_agent_support.sql").read_bytes()).hexdigest()

    def test_the_user_owns_everything_that_was_moved(self, sandbox: Sandbox) -> None:
        owned = facts.owners(sandbox)
        assert set(owned.values()) == {USER}
        for name in (*(f"r {table}" for table in TABLES), "S app_config_id_seq", "enum request_status", "enum agent_type"):
            assert name in owned
        assert "schema drizzle" in owned

    def test_the_source_refuses_writes_and_says_where_the_data_went(self, sandbox: Sandbox) -> None:
        for url in (sandbox.application_url, sandbox.admin_url):
            for statement in (OLD, "DELETE FROM request_messages", "INSERT INTO app_config DEFAULT VALUES"):
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="clarity"):
                    sandbox.psql(SOURCE_DATABASE, statement, url=url)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="clarity"):
            sandbox.psql(SOURCE_DATABASE, "TRUNCATE app_config")
        assert sandbox.psql(SOURCE_DATABASE, "SELECT count(*) FROM app_config", url=sandbox.application_url) == [(3,)]

    def test_other_people_s_tables_take_writes_as_before(self, sandbox: Sandbox, before: Application) -> None:
        with psycopg.connect(sandbox.admin_url) as connection:
            for name in NEIGHBOURS:
                assert facts.contents(sandbox)[name] == before.contents[name]
            connection.execute("UPDATE public.billing_accounts SET balance_cents = 0")
            connection.execute("DELETE FROM crm.feature_requests")
            connection.rollback()

    @pytest.mark.parametrize("table", TABLES)
    def test_an_insert_gets_an_id_beyond_every_existing_one(self, sandbox: Sandbox, table: str) -> None:
        with psycopg.connect(sandbox.database_url) as connection:
            largest = connection.execute(f"SELECT max(id) FROM {table}").fetchone()
            cursor = connection.execute(INSERTS[table])
            while cursor.nextset():
                pass
            row = cursor.fetchone()
            connection.rollback()
        assert row is not None and largest is not None
        assert row[0] > largest[0]

    def test_hyperdrive_is_the_one_it_was_on_the_new_origin(self, sandbox: Sandbox, before: Application) -> None:
        now = facts.hyperdrive(sandbox)
        origin = {**before.hyperdrive["origin"], "database": TARGET_DATABASE, "user": USER}
        assert now == {**without_cache(before.hyperdrive), "origin": origin}
        assert now["origin_connection_limit"] == 60
        assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET_DATABASE)
        assert sandbox.outputs()["hyperdriveId"] == before.hyperdrive["id"]

    def test_the_url_in_env_works_and_nothing_else_in_the_file_changed(self, sandbox: Sandbox, before: Application) -> None:
        assert facts.whereabouts(sandbox.database_url) == (USER, TARGET_DATABASE)
        old, new = before.env.splitlines(keepends=True), sandbox.app_env_path.read_bytes().splitlines(keepends=True)
        assert [line for line in new if not line.startswith(b"DATABASE_URL=")] == [line for line in old if not line.startswith(b"DATABASE_URL=")]
        assert len(new) == len(old)
        assert sandbox.app_env_path.stat().st_mode & 0o777 == 0o600
        assert sandbox.outputs(show_secrets=True)["databaseUrl"] == sandbox.database_url

    def test_the_evidence_says_what_was_moved(self, sandbox: Sandbox) -> None:
        evidence = sandbox.outputs()["evidence"]
        counted = {entry["table"]: entry["rows"] for entry in evidence["copy"]["tables"]}
        for table in TABLES:
            assert counted[f"public.{table}"] == len(facts.rows_of(sandbox, SOURCE_DATABASE, table))
        assert evidence["cutover"]["migrations"] == ["0003_add_agent_support"]
        assert evidence["cutover"]["waited_seconds"] < 5

    def test_status_says_that_the_new_side_is_live(self, sandbox: Sandbox) -> None:
        code, answer = asked(sandbox, "status")
        assert (code, answer["stage"], answer["writes"]) == (0, "cutover", "target")
        assert answer["cut_over"]["proved"]
        assert answer["refused_writes"] > 0

    def test_a_second_up_changes_nothing_and_copies_no_row(self, sandbox: Sandbox) -> None:
        placed, noted = facts.placement(sandbox), facts.journal(sandbox, TARGET_DATABASE)
        files = {path: path.read_bytes() for path in (sandbox.app_env_path, sandbox.folder / "cloudflare.json")}
        again = sandbox.up("cutover")
        assert not again.changed, [(step.op, step.name) for step in again.steps]
        assert (facts.placement(sandbox), facts.journal(sandbox, TARGET_DATABASE)) == (placed, noted)
        assert {path: path.read_bytes() for path in files} == files

    def test_what_is_replaced_takes_nothing_back(self, sandbox: Sandbox) -> None:
        """The delete of each of these would bring back the old URL, the rows or the log's settings, once its successor was made."""
        files = {path: path.read_bytes() for path in (sandbox.app_env_path, sandbox.folder / "cloudflare.json")}
        stands = facts.structure(sandbox), facts.journal(sandbox, TARGET_DATABASE)
        urns = {str(found["urn"]).rpartition("::")[2]: str(found["urn"]) for found in sandbox.engine.state()["deployment"]["resources"]}
        names = ("settings", "cutover", "env-file", "source-cleanup", "rollback")
        done = sandbox.up("cutover", *(f"--replace={urns[name]}" for name in names))
        assert {step.name for step in done.steps if step.op == "delete-replaced"} == set(names)
        assert {path: path.read_bytes() for path in files} == files
        assert (facts.structure(sandbox), facts.journal(sandbox, TARGET_DATABASE)) == stands

    def test_refresh_changes_nothing_and_the_next_preview_is_empty(self, sandbox: Sandbox) -> None:
        nothing_to_do(sandbox, "cutover")

    def test_a_stage_is_not_skipped_on_the_way_back(self, sandbox: Sandbox) -> None:
        with pytest.raises(EngineError, match="go back to stage copy first"):
            sandbox.preview("provision")
        assert facts.whereabouts(sandbox.database_url) == (USER, TARGET_DATABASE)


def write_on_the_new_side(sandbox: Sandbox) -> None:
    with psycopg.connect(sandbox.database_url) as connection:
        connection.execute(
            "INSERT INTO feature_requests (request_id, origin, repo, description) VALUES ('afterwards', 'web', 'a/b', E'\\u00fc\\n')"
        )
        connection.execute(
            "INSERT INTO request_messages (request_id, type, source, content, metadata)"
            " SELECT 'afterwards', 'agent_summary', 'system', 'message ' || n, jsonb_build_object('n', n) FROM generate_series(1, 50) n"
        )
        connection.execute("UPDATE feature_requests SET title = 'changed afterwards', updated_at = now() WHERE id % 100 = 3")
        connection.execute("UPDATE app_config SET config = config || '{\"afterwards\": true}'")
        connection.execute("DELETE FROM request_messages WHERE id % 50 = 7 AND request_id <> 'afterwards'")


def test_back_brings_the_source_to_life_with_what_was_written_meanwhile(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "cutover")
    write_on_the_new_side(sandbox)
    code, answer = asked(sandbox, "rollback", "--dry-run")
    assert code == 0
    assert {entry["table"]: entry["inserted"] for entry in answer["written"]}["public.request_messages"] == 50
    sandbox.up("copy")
    same_rows(sandbox)
    now = facts.application(sandbox)
    assert now.contents != before.contents
    assert {name: now.contents[name] for name in NEIGHBOURS} == {name: before.contents[name] for name in NEIGHBOURS}
    assert now.env == before.env
    assert now.hyperdrive == without_cache(before.hyperdrive)
    assert all(now.positions[table] >= before.positions[table] for table in TABLES)
    sandbox.psql(SOURCE_DATABASE, OLD, url=sandbox.application_url)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        sandbox.psql(TARGET_DATABASE, OLD)
    assert sandbox.psql(SOURCE_DATABASE, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
    looked = sandbox.preview("copy")
    assert not looked.changed, looked.output


def test_the_second_cut_over_takes_along_what_was_written_to_the_source(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "copy")
    sandbox.psql(SOURCE_DATABASE, "UPDATE feature_requests SET title = 'in between' WHERE id % 100 = 5", url=sandbox.application_url)
    sandbox.up("cutover")
    same_rows(sandbox)
    found = sandbox.psql(TARGET_DATABASE, "SELECT count(*) FROM feature_requests WHERE title = 'in between'")
    assert found[0][0] > 10
    assert facts.whereabouts(sandbox.database_url) == (USER, TARGET_DATABASE)


def test_a_rotated_password_reaches_env_and_hyperdrive_and_touches_nothing_else(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "cutover")
    old_url, old_env, placed = sandbox.database_url, sandbox.app_env_path.read_text(), facts.placement(sandbox)
    sandbox.configure(passwordRevision=2, passwordGraceSeconds=0)
    rotated = sandbox.up("cutover")
    new_url = sandbox.database_url
    assert urlsplit(new_url)._replace(netloc="") == urlsplit(old_url)._replace(netloc="")
    assert urlsplit(new_url).password != urlsplit(old_url).password
    assert sandbox.app_env_path.read_text() == old_env.replace(old_url, new_url)
    assert facts.whereabouts(new_url) == (USER, TARGET_DATABASE)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        facts.whereabouts(old_url)
    assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET_DATABASE)
    assert facts.placement(sandbox) == placed
    touched = {step.name for step in rotated.steps if not step.type.startswith("pulumi:providers:")}
    made = {"password-second", "salt-second", "second-user", "admin-acts-as-second-user"}
    assert touched <= {*made, "claim", "access", "hyperdrive", "env-file", "old-login", "rollback"}, touched
    assert not sandbox.preview("cutover").changed


def test_destroy_leaves_nothing_and_everything_as_it_was(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "cutover")
    rows = {table: facts.rows_of(sandbox, TARGET_DATABASE, table, without=facts.ADDED_BY_0003) for table in TABLES}
    sandbox.destroy()
    now = facts.application(sandbox)
    assert not facts.exists(sandbox)
    assert now.structure == before.structure
    assert now.env == before.env
    assert now.hyperdrive == before.hyperdrive
    assert {table: facts.rows_of(sandbox, SOURCE_DATABASE, table) for table in TABLES} == rows
    assert {name: now.contents[name] for name in NEIGHBOURS} == {name: before.contents[name] for name in NEIGHBOURS}
    sandbox.psql(SOURCE_DATABASE, OLD, url=sandbox.application_url)
    assert facts.whereabouts(facts.connection_string(sandbox))[1] == SOURCE_DATABASE
    assert sandbox.outputs() == {}


def test_up_again_after_a_destroy(sandbox: Sandbox, before: Application) -> None:
    if sandbox.reached() is not None:
        sandbox.destroy()
    sandbox.configure(stage="provision")
    sandbox.climb("cutover")
    same_rows(sandbox)
    assert facts.whereabouts(sandbox.database_url) == (USER, TARGET_DATABASE)
    assert json.loads(json.dumps(sandbox.outputs()))["databaseUrl"] == "[secret]"
    assert Path(sandbox.app_env_path).exists()
