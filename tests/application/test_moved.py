"""The application while it is moved, on the new database, and while it is brought back, by the real engine.

The tests follow one sandbox through its move: those of a class find it where the class before left it.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.engine import EngineError
from sandbox.environment import caller_environment
from sandbox.node_packages import NodePackages
from sandbox.postgres import UNLOGGED_SPEED
from sandbox.stack import PROJECT, SOURCE_DATABASE, Sandbox
from sandbox.worker import Worker
from sandbox.worker_client import ask
from sandbox.worker_smoke import smoke_sandbox
from sandbox.worker_traffic import Traffic, summary, traffic_through
from tests.end_to_end import facts

TARGET = "clarity"
USER = "clarity_user"
LABELS = """
export const labels = pgTable("labels", {
  id: integer().primaryKey().generatedAlwaysAsIdentity(),
  name: text().notNull(),
  requestId: text("request_id").references(() => featureRequests.requestId),
});
"""
RECORD = "SELECT count(*), max(created_at) FROM drizzle.__drizzle_migrations"
LABELLED = """
INSERT INTO feature_requests (request_id, origin, repo, title, description)
  VALUES ('labelled-1', 'web', 'a/b', 'made since', 'of after the move');
INSERT INTO labels (name, request_id) VALUES ('first', 'labelled-1'), ('second', (SELECT min(request_id) FROM feature_requests)), ('third', NULL)
"""
OWNERS = "SELECT relname::text, relowner::regrole::text FROM pg_class WHERE relname IN ('labels', 'labels_id_seq', 'labels_pkey') ORDER BY 1"
RATE = 10
# What a client waits at most between two acknowledged writes, the machine's load included.
LONGEST_GAP = 10

pytestmark = pytest.mark.engine

Kit = Callable[..., str]


@pytest.fixture(scope="module")
def sandbox(home: Path) -> Iterator[Sandbox]:
    made = Sandbox(home / "own", rows=2_000, settings=UNLOGGED_SPEED)
    try:
        made.prepare()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def worker(sandbox: Sandbox, packages: NodePackages, home: Path) -> Iterator[Worker]:
    """The release of before migration 0003, which goes on running throughout."""
    with Worker(packages, home / "worker", sandbox.worker_database_url, release="before") as worker:
        yield worker


@pytest.fixture(scope="module")
def env_before(sandbox: Sandbox) -> bytes:
    return sandbox.app_env_path.read_bytes()


@dataclasses.dataclass
class Move:
    """What clients saw of the move, and where the rows are afterwards."""

    traffic: Traffic
    new: list[str]
    smoke_before: str


@pytest.fixture(scope="module")
def moved(sandbox: Sandbox, worker: Worker, env_before: bytes) -> Move:
    """The sandbox after `make up`, through which clients sent requests."""
    smoke_before = smoke_sandbox(sandbox, print).report()
    with Traffic(worker.url, per_second=RATE) as traffic:
        traffic.wait_for(20)
        for stage in sandbox.stages_to_run("cutover"):
            traffic.mark(stage)
            sandbox.up(stage)
        traffic.mark("after")
        traffic.wait_for(20)
    print(summary(traffic.phases()))
    return Move(traffic, differences(sandbox, TARGET, traffic), smoke_before)


@pytest.fixture(scope="module")
def switched(sandbox: Sandbox, moved: Move) -> Sandbox:
    """The sandbox after the other URL of `.env` was switched as well, as the report offers."""
    sandbox.configure(sourceDatabase=SOURCE_DATABASE, switchMasterDatabaseUrl=True)
    sandbox.up("cutover")
    return sandbox


@pytest.fixture(scope="module")
def labelled(sandbox: Sandbox, switched: Sandbox, packages: NodePackages, home: Path) -> Sandbox:
    """The sandbox after a later release: drizzle-kit has made another table as the application's user, and the application has filled it."""
    kit = kit_in(sandbox, packages, home / "later")
    kit("generate", "--name", "add_labels", schema=LABELS)
    kit("migrate", MASTER_DATABASE_URL=sandbox.database_url)
    sandbox.psql(TARGET, LABELLED, url=sandbox.database_url)
    return sandbox


@pytest.fixture(scope="module")
def back(sandbox: Sandbox, worker: Worker, labelled: Sandbox) -> Iterator[Traffic]:
    """Another client's requests, sent while the sandbox was brought back by `make down`, which gives the later table up by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLARITY_DISCARD_WRITES", TARGET)
        yield bring_back(sandbox, worker)


def bring_back(sandbox: Sandbox, worker: Worker) -> Traffic:
    with Traffic(worker.url, per_second=RATE, prefix="back") as traffic:
        traffic.wait_for(20)
        traffic.mark("destroy")
        sandbox.destroy()
        traffic.mark("after")
        traffic.wait_for(20)
    print(summary(traffic.phases()))
    return traffic


@pytest.fixture
def kit(sandbox: Sandbox, packages: NodePackages, tmp_path: Path) -> Kit:
    return kit_in(sandbox, packages, tmp_path / "application")


def kit_in(sandbox: Sandbox, packages: NodePackages, folder: Path) -> Kit:
    """Runs drizzle-kit in a copy of the application that has the sandbox's `.env`; a variable that is given wins over it."""
    application = packages.copy_application(folder)
    (application / ".env").symlink_to(sandbox.app_env_path)

    def run(*arguments: str, schema: str = "", **variables: str) -> str:
        path = application / "src" / "schema.ts"
        path.write_text(path.read_text() + schema)
        done = subprocess.run(
            [packages.bin / "npx", "drizzle-kit", *arguments],
            cwd=application,
            env={**packages.environment(caller_environment()), **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def differences(sandbox: Sandbox, database: str, *clients: Traffic) -> list[str]:
    with psycopg.connect(sandbox.server.url(database)) as connection:
        return [line for traffic in clients for line in traffic.differences(connection)]


def master_url(env: bytes) -> str:
    """The line of `.env` that drizzle-kit goes by."""
    [line] = [line for line in env.decode().splitlines() if line.startswith("MASTER_DATABASE_URL")]
    return line


def ask_program(sandbox: Sandbox, *command: str) -> subprocess.CompletedProcess[str]:
    """`python -m clarity_infra` in a shell that has sourced the sandbox's file."""
    return subprocess.run(
        ["/bin/sh", "-euc", '. "$0" && exec "$@"', sandbox.env_path, sys.executable, "-m", "clarity_infra", *command, "--quiet"],
        cwd=PROJECT,
        env=caller_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def status(sandbox: Sandbox) -> list[str]:
    """What `status` says."""
    done = ask_program(sandbox, "status", "--source", "MASTER_DATABASE_URL")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


class TestDuringTheMove:
    def test_every_acknowledged_write_is_in_the_new_database_exactly_once(self, moved: Move) -> None:
        assert moved.traffic.acknowledged > 50
        assert moved.new == []

    def test_no_read_gave_anything_but_what_was_written(self, moved: Move) -> None:
        assert moved.traffic.wrong == []

    def test_errors_are_those_of_the_switch_and_are_over_with_it(self, moved: Move) -> None:
        phases = {phase.name: phase for phase in moved.traffic.phases()}
        assert list(phases) == ["before", "provision", "copy", "cutover", "after"]
        for name in ("before", "provision", "copy", "after"):
            assert phases[name].errors.total() == 0, phases[name]
        # A write that meets the fence (25006), or a connection to the old origin that is ended in the middle: both are answered.
        assert all(": 503 " in reason for reason in phases["cutover"].errors), phases["cutover"]
        assert phases["cutover"].errors.total() < phases["cutover"].sent / 2
        assert 0 < phases["cutover"].longest_gap < LONGEST_GAP

    def test_the_checks_passed_on_the_old_database(self, moved: Move) -> None:
        assert "the Worker is on database postgres as clarity_app" in moved.smoke_before
        assert "FAILED" not in moved.smoke_before


class TestAfterTheMove:
    @pytest.fixture(autouse=True)
    def _moved(self, moved: Move) -> None:
        pass

    def test_the_worker_is_on_the_new_database_without_having_been_deployed(self, worker: Worker) -> None:
        assert ask(worker.url, "GET", "/health").body == {"database": TARGET, "user": USER}

    def test_make_smoke_passes_with_the_release_that_knows_the_new_columns(self, sandbox: Sandbox) -> None:
        smoke = smoke_sandbox(sandbox, print)
        assert smoke.passed, smoke.report()
        assert f"the Worker is on database {TARGET} as {USER}" in smoke.report()

    def test_traffic_by_hand_finds_each_write_again_and_leaves_none(self, sandbox: Sandbox) -> None:
        told: list[str] = []
        assert traffic_through(sandbox, 2, per_second=RATE, say=told.append) == []
        assert told[-1].startswith("meanwhile: ") and "writes acknowledged" in told[-1]
        left = "SELECT count(*) FROM feature_requests WHERE starts_with(request_id, 'traffic-') AND request_id !~ '^traffic-[0-9]+$'"
        assert sandbox.psql(TARGET, left) == [(0,)]

    def test_report_and_status_say_that_drizzle_kit_still_finds_the_old_database(self, sandbox: Sandbox, env_before: bytes) -> None:
        assert master_url(sandbox.app_env_path.read_bytes()) == master_url(env_before)
        [step] = [step for step in sandbox.outputs()["nextSteps"] if "MASTER_DATABASE_URL" in step]
        assert "which drizzle-kit reads, still names the old database" in step
        assert "sourceDatabase postgres && pulumi config set clarity-infra:switchMasterDatabaseUrl true && pulumi up" in step
        assert [line for line in status(sandbox) if line.startswith("next: see that MASTER_DATABASE_URL")]

    def test_a_new_migration_is_applied_as_the_user_who_owns_what_it_makes(self, sandbox: Sandbox, kit: Kit) -> None:
        assert "0004_add_labels.sql" in kit("generate", "--name", "add_labels", schema=LABELS)
        try:
            kit("migrate", MASTER_DATABASE_URL=sandbox.database_url)
            assert sandbox.psql(TARGET, RECORD)[0][0] == 5
            assert sandbox.psql(TARGET, OWNERS) == [("labels", USER), ("labels_id_seq", USER), ("labels_pkey", USER)]
            assert sandbox.psql(SOURCE_DATABASE, OWNERS) == []
        finally:
            sandbox.psql(TARGET, "DROP TABLE IF EXISTS labels")
            sandbox.psql(TARGET, "DELETE FROM drizzle.__drizzle_migrations WHERE id > 4")


class TestTheOtherUrl:
    def test_only_its_database_is_another_one(self, switched: Sandbox, env_before: bytes) -> None:
        expected = master_url(env_before).replace(f"/{SOURCE_DATABASE}?", f"/{TARGET}?")
        assert master_url(switched.app_env_path.read_bytes()) == expected != master_url(env_before)
        assert not [step for step in switched.outputs()["nextSteps"] if "MASTER_DATABASE_URL" in step]

    def test_there_is_nothing_left_to_do_and_the_source_is_still_found(self, switched: Sandbox) -> None:
        looked = switched.preview("cutover")
        assert not looked.changed, [(step.op, step.name) for step in looked.steps]

    def test_drizzle_kit_with_the_application_s_env_applies_nothing(self, switched: Sandbox, kit: Kit) -> None:
        before = switched.psql(TARGET, RECORD), switched.psql(SOURCE_DATABASE, RECORD)
        assert "migrations applied successfully" in kit("migrate")
        assert (switched.psql(TARGET, RECORD), switched.psql(SOURCE_DATABASE, RECORD)) == before
        assert (before[0][0][0], before[1][0][0]) == (4, 3)


class TestALaterMigration:
    """The way back after a release that made a table which the old database does not have."""

    LOST = "public.labels: 3 row(s) with a table the source does not have"

    def test_it_leaves_nothing_to_do(self, labelled: Sandbox) -> None:
        looked = labelled.preview("cutover")
        assert not looked.changed, [(step.op, step.name) for step in looked.steps]

    def test_the_preview_of_the_way_back_counts_what_has_no_place(self, labelled: Sandbox) -> None:
        try:
            looked = labelled.preview("copy").output
        finally:
            labelled.configure(stage="cutover")
        said = " ".join(looked.split())
        assert self.LOST in said
        assert "public.feature_requests: " in said and "inserted" in said
        assert f"stops this run, with nothing changed; to lose it all the same: CLARITY_DISCARD_WRITES={TARGET}" in said

    def test_a_dry_run_counts_it_too(self, labelled: Sandbox) -> None:
        done = ask_program(labelled, "rollback", "--dry-run", "--source", "MASTER_DATABASE_URL", "--target", "DATABASE_URL", "--user", USER)
        assert done.returncode == 1, done.stdout + done.stderr
        assert self.LOST in done.stdout

    @pytest.mark.parametrize("way", ["up", "destroy"])
    def test_it_stops_before_anything_is_changed(self, labelled: Sandbox, worker: Worker, way: str) -> None:
        before = facts.application(labelled), labelled.psql(TARGET, "TABLE labels"), labelled.psql(TARGET, RECORD)
        with pytest.raises(EngineError) as stopped:
            labelled.up("copy") if way == "up" else labelled.destroy()
        labelled.configure(stage="cutover")
        assert "The source has no place for what was written since the cut-over" in str(stopped.value)
        assert self.LOST in str(stopped.value)
        assert f"CLARITY_DISCARD_WRITES={TARGET}" in str(stopped.value)
        assert (facts.application(labelled), labelled.psql(TARGET, "TABLE labels"), labelled.psql(TARGET, RECORD)) == before
        assert ask(worker.url, "GET", "/health").body == {"database": TARGET, "user": USER}

    def test_given_up_by_name_all_the_rest_is_carried_and_another_cut_over_goes_on(
        self, labelled: Sandbox, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CLARITY_DISCARD_WRITES", TARGET)
        labelled.up("copy")
        assert ask(worker.url, "GET", "/health").body == {"database": SOURCE_DATABASE, "user": "clarity_app"}
        assert labelled.psql(SOURCE_DATABASE, "SELECT title FROM feature_requests WHERE request_id = 'labelled-1'") == [("made since",)]
        monkeypatch.delenv("CLARITY_DISCARD_WRITES")
        labelled.up("cutover")
        assert ask(worker.url, "GET", "/health").body == {"database": TARGET, "user": USER}
        assert labelled.psql(TARGET, "SELECT count(*) FROM labels") == [(3,)]


class TestAfterTheWayBack:
    def test_every_acknowledged_write_of_either_time_is_in_the_old_database_exactly_once(
        self, sandbox: Sandbox, moved: Move, back: Traffic
    ) -> None:
        assert back.acknowledged > 20 + 20
        assert differences(sandbox, SOURCE_DATABASE, moved.traffic, back) == []
        assert back.wrong == []

    def test_errors_are_over_with_it(self, worker: Worker, back: Traffic) -> None:
        before, destroy, after = back.phases()
        assert (before.errors.total(), after.errors.total()) == (0, 0)
        assert destroy.errors.total() < destroy.sent / 2
        assert destroy.longest_gap < LONGEST_GAP
        assert ask(worker.url, "GET", "/health").body == {"database": SOURCE_DATABASE, "user": "clarity_app"}

    def test_env_is_what_it_was_byte_for_byte(self, sandbox: Sandbox, back: Traffic, env_before: bytes) -> None:
        assert sandbox.app_env_path.read_bytes() == env_before
