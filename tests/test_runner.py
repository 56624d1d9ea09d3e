"""The sandbox's runner: a stack of its own, the real engine on it, what it keeps and what it reports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest

from clarity_infra.texts import size, table
from sandbox import __main__ as command_line
from sandbox import environment, language_host
from sandbox.background import Background, BackgroundError
from sandbox.engine import EngineError, stale_lock_owner
from sandbox.postgres import UNLOGGED_SPEED
from sandbox.report import report
from sandbox.stack import ACCOUNT_ID, MANAGED_ADMIN, PROJECT, Sandbox, SandboxError

PROGRAM = """
import pulumi
from provider import Slow

print("the program runs")
config = pulumi.Config()
stage = config.require("stage")
made = Slow("made", stage)
pulumi.export("stage", stage)
pulumi.export("password", pulumi.Output.secret("told to nobody"))
if stage == "cleanup":
    raise pulumi.RunError("not before a day has passed")
if config.get("discardWrites"):
    raise KeyError("a mistake in the program")
"""
PROVIDER = """
import sys
import time
from pulumi.dynamic import CreateResult, Resource, ResourceProvider, UpdateResult

class Provider(ResourceProvider):
    def create(self, inputs):
        for step in range(3):
            print(f"step {step} of create", file=sys.stderr, flush=True)
            time.sleep(0.3)
        return CreateResult("made", inputs)

    def update(self, id, old, new):
        return UpdateResult(new)

    def delete(self, id, outputs):
        pass

class Slow(Resource):
    def __init__(self, name, stage):
        super().__init__(Provider(), name, {"stage": stage})
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A small program in a folder of its own, under the project's real Pulumi.yaml; the name has a space."""
    folder = Path(tempfile.mkdtemp(prefix="clarity project-"))
    shutil.copy(PROJECT / "Pulumi.yaml", folder)
    (folder / "__main__.py").write_text(PROGRAM)
    (folder / "provider.py").write_text(PROVIDER)
    yield folder
    shutil.rmtree(folder)


def make_sandbox(project: Path, *, superuser: bool) -> Iterator[Sandbox]:
    folder = Path(tempfile.mkdtemp(prefix="clarity sandbox-"))
    made = Sandbox(folder / "own", superuser=superuser, rows=200, settings=UNLOGGED_SPEED, project=project)
    try:
        made.prepare()
        yield made
    finally:
        made.remove()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def by_superuser(project: Path) -> Iterator[Sandbox]:
    yield from make_sandbox(project, superuser=True)


@pytest.fixture(scope="module")
def by_managed_admin(project: Path) -> Iterator[Sandbox]:
    yield from make_sandbox(project, superuser=False)


@pytest.fixture(params=["by_superuser", "by_managed_admin"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """A sandbox of each kind, ready for its first `up`."""
    found: Sandbox = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def empty(by_superuser: Sandbox) -> Sandbox:
    """A sandbox with nothing in its stack."""
    by_superuser.configure(stage="provision", discardWrites=None)
    by_superuser.destroy()
    return by_superuser


@pytest.mark.engine
class TestEngine:
    def test_it_climbs_once_and_then_changes_nothing(self, empty: Sandbox) -> None:
        assert empty.reached() is None
        assert empty.stages_to_run("cutover") == ["provision", "copy", "cutover"]
        first, second, third = empty.climb("cutover")
        assert first.changes["create"] == 2
        assert [step.op for step in first.steps if step.name == "made"] == ["create"]
        assert second.changes == third.changes == {"same": 1, "update": 1}
        assert "step 2 of create" in first.output
        assert empty.reached() == "cutover"
        [again] = empty.climb("cutover")
        assert not again.changed

    def test_a_higher_stage_is_not_gone_back_from(self, empty: Sandbox) -> None:
        empty.climb("copy")
        assert empty.stages_to_run("provision") == ["copy"]
        assert empty.stages_to_run("cutover") == ["cutover"]

    def test_preview_shows_the_next_stage_and_leaves_the_configured_one(self, empty: Sandbox) -> None:
        empty.climb("provision")
        seen = empty.preview_from_here()
        assert seen.changes == {"same": 1, "update": 1}
        assert empty.configured("stage") == "provision"
        assert empty.reached() == "provision"

    def test_destroy_and_refresh(self, empty: Sandbox) -> None:
        empty.up("provision")
        assert not empty.refresh().changed
        assert empty.destroy().changes == {"delete": 2}
        assert empty.outputs() == {}

    def test_a_refusal_of_the_program_is_said_without_a_traceback(self, empty: Sandbox) -> None:
        with pytest.raises(EngineError) as raised:
            empty.preview("cleanup")
        output = raised.value.result.output
        assert "error: not before a day has passed" in output
        assert "program exited with non-zero exit code: 1" in output  # as with the official host
        assert "Traceback" not in output
        assert raised.value.exit_code > 0

    def test_a_mistake_in_the_program_is_said_with_its_place(self, empty: Sandbox) -> None:
        empty.configure(discardWrites="clarity")
        with pytest.raises(EngineError, match="a mistake in the program") as raised:
            empty.preview("provision")
        assert "__main__.py" in raised.value.result.output

    def test_a_stage_that_failed_is_run_again(self, empty: Sandbox) -> None:
        empty.climb("cutover")
        with pytest.raises(EngineError):
            empty.up("cleanup")
        assert empty.stages_to_run("cleanup") == ["cleanup"]

    def test_a_killed_engine_leaves_a_lock_that_the_next_run_takes_away(self, empty: Sandbox) -> None:
        with empty.started("up", stage="provision") as run:
            run.wait_for("step 1 of create")
            run.kill()
            with pytest.raises(EngineError) as raised:
                run.wait()
            assert raised.value.exit_code == -9
        assert stale_lock_owner(empty.state_path) == run.pid
        assert empty.up("provision").changes["create"] >= 1
        assert stale_lock_owner(empty.state_path) is None

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are looked up in /proc, which Linux has")
    def test_what_a_killed_engine_left_is_seen_and_ended_with_the_sandbox(self, project: Path) -> None:
        for sandbox in make_sandbox(project, superuser=True):
            with sandbox.started("up", stage="provision") as run:
                run.wait_for("step 1 of create")
                assert run.pid in sandbox.engine_processes()
                run.kill()
            left = sandbox.engine_processes()
            assert any("pulumi.dynamic" in command for command in left.values())
        assert not any(Path(f"/proc/{pid}").exists() and pid in sandbox.engine_processes() for pid in left)

    def test_the_program_does_not_outlive_its_engine(self, empty: Sandbox) -> None:
        with empty.started("up", stage="provision") as run:
            run.wait_for("step 1 of create")
            run.kill()
        deadline = time.monotonic() + 10
        while any("language_host" in command for command in empty.engine_processes().values()):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def test_a_run_left_alone_is_ended(self, empty: Sandbox) -> None:
        with empty.started("up", stage="provision") as run:
            run.wait_for("step 0 of create")
        assert run.process.returncode == -9

    def test_what_is_never_printed_is_not_waited_for_for_ever(self, empty: Sandbox) -> None:
        with empty.started("preview", stage="provision") as run, pytest.raises(TimeoutError, match="never printed"):
            run.wait_for("never printed")

    def test_a_step_that_says_nothing_for_long_is_seen_to_be_alive(self, empty: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sandbox.engine._SILENCE_SECONDS", 0)
        shown: list[str] = []
        result = empty.engine.run("up", on_line=shown.append)
        assert any("still at work" in line for line in shown)
        assert "still at work" not in result.output

    def test_secrets_are_shown_only_when_asked_for(self, empty: Sandbox) -> None:
        result = empty.up("provision")
        assert "told to nobody" not in result.output
        assert empty.outputs()["password"] == "[secret]"
        assert empty.outputs(show_secrets=True)["password"] == "told to nobody"

    def test_an_unknown_stage_is_refused(self, empty: Sandbox) -> None:
        with pytest.raises(SandboxError, match="no stage 'everything'"):
            empty.stages_to_run("everything")

    def test_the_command_line_works_by_hand_once_the_file_is_sourced(self, empty: Sandbox, project: Path) -> None:
        empty.up("provision")
        by_hand = project / f"Pulumi.{empty.stack}.yaml"
        shutil.copy(empty.config_file, by_hand)
        try:
            script = '. "$0" && pulumi up --yes --color never && psql "$DATABASE_URL" -Atc "SELECT current_user"'
            done = subprocess.run(
                ["/bin/sh", "-euc", script, str(empty.env_path)],
                cwd=project,
                env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            by_hand.unlink()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 unchanged" in done.stdout
        assert done.stdout.splitlines()[-1] == "clarity_app"


@pytest.mark.engine
class TestSandbox:
    def test_making_it_again_changes_nothing(self, sandbox: Sandbox) -> None:
        variables, pids = sandbox.variables, (sandbox.server.pid, sandbox.cloudflare.pid)
        configs = sandbox.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs")
        config_file = sandbox.config_file.read_text()
        again = Sandbox(sandbox.folder, superuser=MANAGED_ADMIN not in sandbox.admin_url, rows=200, project=sandbox.project)
        again.prepare()
        assert again.variables == variables
        assert (again.server.pid, again.cloudflare.pid) == pids
        assert again.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs") == configs
        assert again.config_file.read_text() == config_file

    def test_it_comes_back_after_a_stop_where_it_was(self, sandbox: Sandbox) -> None:
        variables = sandbox.variables
        sandbox.stop()
        assert sandbox.cloudflare.pid is None
        sandbox.prepare()
        assert sandbox.variables == variables

    def test_the_hyperdrive_config_to_adopt_has_settings_of_its_own(self, sandbox: Sandbox) -> None:
        [config] = sandbox.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs")
        assert config["id"] == sandbox.configured("hyperdriveId")
        assert config["origin_connection_limit"] == 60
        assert config["caching"]["disabled"] is False
        assert config["origin"]["database"] == "postgres"

    def test_the_admin_is_what_was_asked_for_and_owns_the_tables(self, sandbox: Sandbox) -> None:
        with psycopg.connect(sandbox.admin_url) as connection:
            superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
            owners = connection.execute(
                "SELECT DISTINCT tableowner = current_user FROM pg_tables WHERE tablename IN ('app_config', 'feature_requests')"
            ).fetchall()
        assert superuser == (MANAGED_ADMIN not in sandbox.admin_url,)
        assert owners == [(True,)]

    def test_the_application_reads_and_writes_its_tables_and_nothing_else(self, sandbox: Sandbox) -> None:
        with psycopg.connect(sandbox.application_url) as connection:
            connection.execute("DELETE FROM request_messages")
            connection.rollback()
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("SELECT * FROM billing_accounts")

    def test_passwords_are_where_they_may_be_and_nowhere_else(self, sandbox: Sandbox) -> None:
        allowed = {"env", "app.env", "cloudflare.json"}  # the last is Cloudflare's own storage, which has to know it
        seen = set()
        for name, value in sandbox.variables.items():
            if not name.endswith(("PASSWORD", "PASSPHRASE", "TOKEN")):
                continue
            for folder in (sandbox.folder, sandbox.server.folder.resolve()):
                found = subprocess.run(["grep", "-rlF", "-e", value, folder], capture_output=True, text=True, check=False)
                names = {Path(path).name for path in found.stdout.splitlines()}
                assert names <= allowed, name
                seen |= names
        assert "env" in seen
        for path in (sandbox.env_path, sandbox.app_env_path, sandbox.folder / "cloudflare.json"):
            assert path.stat().st_mode & 0o777 == 0o600, path

    def test_what_a_person_changed_in_the_configuration_stays(self, sandbox: Sandbox) -> None:
        sandbox.configure(lockBudget=7, cacheDrainSeconds=3)
        sandbox.prepare()
        assert (sandbox.configured("lockBudget"), sandbox.configured("cacheDrainSeconds")) == (7, 3)
        sandbox.configure(lockBudget=None, cacheDrainSeconds=0)
        assert sandbox.configured("lockBudget") is None


def test_two_commands_do_not_work_on_one_sandbox_at_once(tmp_path: Path) -> None:
    first, second = command_line._alone(tmp_path / "own"), command_line._alone(tmp_path / "own")
    with first, pytest.raises(SandboxError, match="another command is at work"), second:
        pass
    with command_line._alone(tmp_path / "own"):
        pass


class TestEnvironmentFile:
    def test_a_shell_and_the_reader_see_what_was_written(self, tmp_path: Path) -> None:
        variables = {"PLAIN": "x", "ODD": 'it\'s "a" $HOME `id` \\ #', "EMPTY": "", "SPACES": " a  b "}
        path = tmp_path / "env"
        environment.write(path, variables, path_before="/first/one two", path_after="/last")
        assert path.stat().st_mode & 0o777 == 0o600
        assert environment.read(path) == variables
        printed = subprocess.run(
            ["/bin/sh", "-euc", f'. "$0"; exec {sys.executable} -c "import json, os; print(json.dumps(dict(os.environ)))"', path],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        seen = json.loads(printed.stdout)
        assert {name: seen[name] for name in variables} == variables
        assert seen["PATH"] == "/first/one two:/usr/bin:/bin:/last"

    def test_nothing_of_another_server_stack_or_account_is_taken_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("PGHOST", "PULUMI_ACCESS_TOKEN", "CLOUDFLARE_API_TOKEN", "DATABASE_URL", "MASTER_DATABASE_URL"):
            monkeypatch.setenv(name, "another")
        monkeypatch.setenv("CLARITY_DISCARD_WRITES", "clarity")
        seen = environment.caller_environment()
        assert "another" not in seen.values()
        assert seen["CLARITY_DISCARD_WRITES"] == "clarity"
        assert "PATH" in seen

    def test_a_file_that_is_not_there_has_nothing(self, tmp_path: Path) -> None:
        assert environment.read(tmp_path / "env") == {}


class TestBackground:
    COMMAND = ("import sys, time, pathlib; pathlib.Path(sys.argv[1]).write_text('up'); time.sleep(600)",)

    def test_it_goes_on_and_is_found_again_and_ended(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready"
        process = Background(tmp_path, "thing", mark=str(ready))
        process.start([sys.executable, "-c", *self.COMMAND, str(ready)], environment=dict(os.environ), ready=ready)
        again = Background(tmp_path, "thing", mark=str(ready))
        assert again.pid == process.pid is not None
        again.stop()
        assert Background(tmp_path, "thing", mark=str(ready)).pid is None
        again.stop()

    def test_a_stranger_with_its_process_id_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thing.pid").write_text(str(os.getpid()))
        process = Background(tmp_path, "thing", mark="no such mark in any command line")
        assert process.pid is None
        process.stop()

    def test_one_that_does_not_start_shows_what_it_printed(self, tmp_path: Path) -> None:
        process = Background(tmp_path, "thing", mark="print")
        with pytest.raises(BackgroundError, match="no such luck"):
            process.start([sys.executable, "-c", "print('no such luck')"], environment=dict(os.environ), ready=tmp_path / "ready")
        assert process.pid is None


class TestLanguageHost:
    def test_a_real_host_is_preferred_wherever_the_engine_looks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ours, beside, linked = tmp_path / "bin", tmp_path / "pulumi", tmp_path / "linked"
        for folder in (ours, beside, linked):
            folder.mkdir()
        (beside / "pulumi").touch()
        (linked / "pulumi").symlink_to(beside / "pulumi")
        monkeypatch.setenv("PATH", f"{ours}:/usr/bin:/bin")
        target = ours / "pulumi-language-python"
        assert language_host.install(ours, beside / "pulumi")
        assert os.access(target, os.X_OK)
        assert language_host.install(ours, beside / "pulumi"), "its own stand-in on PATH is not a real host"
        real = beside / target.name
        real.write_text("#!/bin/sh\n")
        real.chmod(0o755)
        for cli in (beside / "pulumi", linked / "pulumi"):
            target.write_text(f"#!/bin/sh\n{language_host._MARK}\n")
            assert language_host.install(ours, cli) == []
            assert not target.exists()


class TestReport:
    OUTPUTS: ClassVar[dict[str, Any]] = {
        "stage": "cutover",
        "evidence": {
            "copy": {"tables": [{"table": "public.a", "rows": 12345, "bytes": 2048, "digest": "ab" * 20, "seconds": 1.5}]},
            "cutover": {"waited_seconds": 0.25, "carried": 7, "migrations": ["0003_x"], "proved": True},
        },
        "hyperdrive": {
            "id": "0f" * 16,
            "before": {"origin": {"host": "h", "port": 5, "database": "postgres", "user": "u"}, "limit": 60},
            "after": {"host": "h", "port": 5, "database": "clarity", "user": "clarity_user"},
        },
        "nextSteps": ["deploy the Worker"],
    }

    def test_it_has_every_part(self) -> None:
        text = report(self.OUTPUTS, stand_ins=["random: stand-in"], env_path=Path(".sandbox/env"), seconds=61.4)
        assert text.splitlines()[0] == "Stage cutover, after 61 s."
        for part in (
            "public.a  12,345  2.0 kB  abababababababab     1.50",
            "Writers waited 0.2 s at most at the cut-over; 7 changes were carried meanwhile.",
            "Migrations applied: 0003_x; both sides were proved equal",
            "before      u at h:5/postgres, limit 60",
            "after       clarity_user at h:5/clarity",
            "  random: stand-in",
            "  deploy the Worker",
        ):
            assert part in text

    def test_a_stage_without_evidence_has_none(self) -> None:
        text = report({"stage": "provision"}, stand_ins=[], env_path=Path("env"), seconds=1)
        assert "digest" not in text
        assert "Writers" not in text

    def test_columns_are_aligned(self) -> None:
        assert table([("a", "n"), ("bbb", "12")], right=(1,)) == "a     n\n---  --\nbbb  12"

    @pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 kB"), (5 * 1024**4, "5.0 TB")])
    def test_sizes(self, count: int, shown: str) -> None:
        assert size(count) == shown
