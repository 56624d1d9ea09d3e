"""Other servers, other places of the tracking table, other means of sending the application along."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from sandbox.postgres import Server
from sandbox.source import TABLES, read_folder
from sandbox.source.build import DRIZZLE_FOLDER
from sandbox.stack import ACCOUNT_ID, HYPERDRIVE_NAME, SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER, bring

KNOWN = [(migration.hash, migration.when) for migration in read_folder(DRIZZLE_FOLDER)]


def moved(sandbox: Sandbox) -> None:
    """Both sides are equal row for row, and the pending migration was applied once."""
    for table in TABLES:
        rows = facts.rows_of(sandbox, SOURCE_DATABASE, table)
        assert rows
        assert facts.rows_of(sandbox, TARGET_DATABASE, table, without=facts.ADDED_BY_0003) == rows
    assert set(facts.owners(sandbox).values()) == {USER}


@pytest.mark.pg15
def test_postgresql_15_there_and_back_and_gone(server15: Server, new_sandbox: NewSandbox) -> None:
    sandbox = new_sandbox(superuser=False, bindir=server15.bindir)
    assert sandbox.psql(SOURCE_DATABASE, "SHOW server_version")[0][0].startswith("15.")
    before = facts.application(sandbox)
    sandbox.climb("cutover")
    moved(sandbox)
    assert facts.whereabouts(sandbox.database_url) == (USER, TARGET_DATABASE)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="clarity"):
        sandbox.psql(SOURCE_DATABASE, "DELETE FROM request_messages", url=sandbox.application_url)
    sandbox.up("copy")
    now = facts.application(sandbox)
    assert (now.contents, now.env) == (before.contents, before.env)
    sandbox.psql(SOURCE_DATABASE, "UPDATE feature_requests SET title = title", url=sandbox.application_url)
    sandbox.destroy()
    assert facts.application(sandbox).structure == before.structure
    assert facts.application(sandbox).hyperdrive == before.hyperdrive
    assert facts.contents(sandbox) == before.contents


@pytest.fixture(scope="module")
def sandboxes(new_sandbox: NewSandbox) -> dict[str, Sandbox]:
    """One for each place the tracking table may be in besides Drizzle's own schema; both climb at the same time."""
    made = {tracking: new_sandbox(tracking=tracking) for tracking in ("public", "none")}
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda sandbox: sandbox.climb("cutover"), made.values()))
    return made


class TestTracking:
    """Two sandboxes at once, and what Drizzle finds in each after the move."""

    @pytest.mark.parametrize(("tracking", "schema"), [("public", "public"), ("none", "drizzle")])
    def test_the_migration_is_applied_once_and_recorded(self, sandboxes: dict[str, Sandbox], tracking: str, schema: str) -> None:
        sandbox = sandboxes[tracking]
        moved(sandbox)
        assert sandbox.psql(TARGET_DATABASE, f"SELECT hash, created_at FROM {schema}.__drizzle_migrations ORDER BY created_at") == KNOWN

    @pytest.mark.node
    @pytest.mark.parametrize(("tracking", "schema"), [("public", "public"), ("none", "drizzle")])
    def test_drizzle_s_own_migrator_finds_nothing_to_apply(
        self, sandboxes: dict[str, Sandbox], node: Callable[..., str], tracking: str, schema: str
    ) -> None:
        url = sandboxes[tracking].database_url
        assert node("node", "migrate.mjs", "--schema", schema, url=url) == "nothing to apply\n"

    @pytest.mark.node
    def test_drizzle_kit_migrates_the_new_database_as_the_application_s_user(
        self, sandboxes: dict[str, Sandbox], node: Callable[..., str]
    ) -> None:
        assert "migrations applied successfully" in node("npx", "drizzle-kit", "migrate", url=sandboxes["none"].database_url)
        assert sandboxes["none"].psql(TARGET_DATABASE, "SELECT count(*) FROM drizzle.__drizzle_migrations") == [(len(KNOWN),)]

    def test_each_has_a_server_an_account_and_a_stack_of_its_own(self, sandboxes: dict[str, Sandbox]) -> None:
        one, other = sandboxes.values()
        assert one.server.port != other.server.port
        assert one.cloudflare_url != other.cloudflare_url
        assert facts.hyperdrive(one)["id"] != facts.hyperdrive(other)["id"]
        assert one.database_url != other.database_url


def test_a_new_hyperdrive_config_and_no_env_file(new_sandbox: NewSandbox) -> None:
    sandbox = new_sandbox(config={"hyperdriveId": "", "hyperdriveName": "clarity-new", "envFile": ""})
    before = facts.application(sandbox)
    sandbox.climb("cutover")
    moved(sandbox)
    config = facts.hyperdrive(sandbox, "clarity-new")
    assert (config["origin"]["database"], config["origin"]["user"]) == (TARGET_DATABASE, USER)
    assert facts.whereabouts(facts.connection_string(sandbox, "clarity-new")) == (USER, TARGET_DATABASE)
    assert sandbox.outputs()["hyperdriveId"] == config["id"]
    assert not sandbox.preview("cutover").changed
    sandbox.destroy()
    names = [found["name"] for found in sandbox.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs")]
    assert names == [HYPERDRIVE_NAME]
    assert facts.application(sandbox) == before


PHASE_1 = """
CREATE DATABASE clarity;
CREATE ROLE clarity_rw WITH LOGIN;
\\c clarity
GRANT CONNECT ON DATABASE clarity TO clarity_rw;
GRANT pg_read_all_data, pg_write_all_data TO clarity_rw;
CREATE USER clarity_user WITH PASSWORD 'made-by-hand';
GRANT clarity_rw TO clarity_user;
GRANT USAGE ON SCHEMA public TO clarity_rw;
GRANT CREATE ON SCHEMA public TO clarity_rw;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO clarity_rw;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO clarity_rw;
"""
"""The plan's first phase, as a person types it."""


@pytest.fixture(scope="module")
def by_hand(new_sandbox: NewSandbox) -> Sandbox:
    """One without a Cloudflare account, on whose server the plan's first phase was done by hand."""
    sandbox = new_sandbox(config={"cloudflareAccountId": "", "hyperdriveId": "", "adoptExisting": True})
    psql = sandbox.server.bindir / "psql"
    done = subprocess.run([psql, "-X", "-v", "ON_ERROR_STOP=1", sandbox.admin_url], input=PHASE_1, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return sandbox


class TestByHandAndWithoutCloudflare:
    """What the plan's first phase made by hand is taken over; `.env` alone is switched; the copy is made afresh."""

    def test_what_was_made_by_hand_is_taken_over(self, by_hand: Sandbox) -> None:
        oid = by_hand.psql(SOURCE_DATABASE, "SELECT oid FROM pg_database WHERE datname = 'clarity'")
        bring(by_hand, "provision")
        assert by_hand.psql(SOURCE_DATABASE, "SELECT oid FROM pg_database WHERE datname = 'clarity'") == oid
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            facts.whereabouts(by_hand.server.url(TARGET_DATABASE, USER, "made-by-hand"))
        roles = by_hand.psql(SOURCE_DATABASE, "SELECT rolname::text, rolcanlogin FROM pg_roles WHERE rolname ~ '^clarity_(rw|user)' ORDER BY 1")
        assert roles == [("clarity_rw", False), (USER, True)]

    def test_a_raised_revision_makes_the_copy_afresh(self, by_hand: Sandbox) -> None:
        bring(by_hand, "copy")
        first = facts.placement(by_hand)
        by_hand.psql(SOURCE_DATABASE, "DELETE FROM request_messages WHERE id % 10 = 3", url=by_hand.application_url)
        by_hand.configure(copyRevision=2)
        by_hand.up("copy")
        second = facts.placement(by_hand)
        assert all(first[table][0] != second[table][0] for table in TABLES)
        for table in TABLES:
            assert facts.rows_of(by_hand, TARGET_DATABASE, table) == facts.rows_of(by_hand, SOURCE_DATABASE, table)

    def test_the_url_in_env_is_all_that_is_switched(self, by_hand: Sandbox) -> None:
        bring(by_hand, "copy")
        said = by_hand.up("cutover").output
        assert said.index("DATABASE_URL now name(s) the new database") < said.index("writers waited")  # which is said after the comparison
        assert "start anew, at once, what was given DATABASE_URL" in by_hand.outputs()["nextSteps"][0]
        moved(by_hand)
        assert facts.whereabouts(by_hand.database_url) == (USER, TARGET_DATABASE)
        assert facts.hyperdrive(by_hand)["origin"]["database"] == SOURCE_DATABASE
        assert by_hand.outputs().get("hyperdriveId") is None

    def test_destroy_takes_away_what_was_made_by_hand_too(self, by_hand: Sandbox) -> None:
        by_hand.destroy()
        assert not facts.exists(by_hand)
        assert by_hand.psql(SOURCE_DATABASE, "SELECT rolname FROM pg_roles WHERE rolname IN ('clarity_rw', 'clarity_user')") == []
        assert facts.whereabouts(by_hand.database_url)[1] == SOURCE_DATABASE
        by_hand.psql(SOURCE_DATABASE, "UPDATE feature_requests SET title = title", url=by_hand.application_url)
