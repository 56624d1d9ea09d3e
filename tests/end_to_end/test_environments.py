"""Two environments on one server: another stack and two settings, moved one after the other; neither disturbs the other.

The second stack is made with the Pulumi command line alone, as a person makes it.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from clarity_infra.settings import PROJECT as NAMESPACE
from sandbox.engine import Engine, EngineError, Result
from sandbox.source import TABLES, build
from sandbox.source.build import DRIZZLE_FOLDER
from sandbox.stack import SOURCE_DATABASE, STAGES, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox

STAGING, SOURCE_OF_STAGING = "staging", "staging source"
CHANGE = "UPDATE feature_requests SET title = 'late' WHERE id = (SELECT min(id) FROM feature_requests)"


@dataclasses.dataclass
class Second:
    """A second stack of the sandbox's project, on the sandbox's server, with an application and a source of its own."""

    sandbox: Sandbox
    name: str
    source: str

    def __post_init__(self) -> None:
        self.config_file = self.sandbox.folder / f"Pulumi.{self.name}.yaml"
        self.env_path = self.sandbox.folder / f"{self.name}.env"
        engine = self.sandbox.engine
        environment = {**engine.environment, "PULUMI_STACK": self.name}
        self.engine = Engine(engine.cli, engine.project, stack=self.name, config_file=self.config_file, environment=environment)

    def make(self, **settings: Any) -> None:
        """`pulumi stack init`, and settings by `pulumi config set`."""
        self.env_path.write_text(
            f"MASTER_DATABASE_URL={self.sandbox.server.url(self.source)}\nDATABASE_URL={self.sandbox.server.url(self.source)}\n"
        )
        self.env_path.chmod(0o600)
        self.engine.make_stack()
        self.configure(**settings)

    def configure(self, **settings: Any) -> None:
        for key, value in settings.items():
            self.pulumi("config", "set", f"{NAMESPACE}:{key}", str(value))

    def pulumi(self, *arguments: str) -> str:
        """The command line on this stack, in the project's folder."""
        done = subprocess.run(
            [str(self.engine.cli), "--non-interactive", *arguments, "--stack", self.name, "--config-file", str(self.config_file)],
            cwd=self.engine.project,
            env=dict(self.engine.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, folder: Path, command: str, *arguments: str, **environment: str) -> Any:
        """What `python -m clarity_infra` answers in a folder with the stack's file, where nothing but `pulumi stack select` says which it is."""
        (folder / "Pulumi.yaml").write_text((self.sandbox.project / "Pulumi.yaml").read_text())
        (folder / f"Pulumi.{self.name}.yaml").write_text(self.config_file.read_text())
        known = {key: value for key, value in self.engine.environment.items() if key != "PULUMI_STACK"} | environment
        subprocess.run([str(self.engine.cli), "stack", "select", self.name], cwd=folder, env=known, capture_output=True, check=True)
        done = subprocess.run(
            [sys.executable, "-m", "clarity_infra", command, "--json", *arguments],
            cwd=folder,
            env=known | {"PYTHONPATH": str(self.sandbox.project), "PATH": f"{self.engine.cli.parent}:{known['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def up(self, stage: str) -> Result:
        self.configure(stage=stage)
        return self.engine.run("up")

    def climb(self, wanted: str) -> None:
        for stage in STAGES[: STAGES.index(wanted) + 1]:
            self.up(stage)

    @property
    def application(self) -> tuple[str, str]:
        """Whom this stack's `.env` logs in, and where."""
        [line] = [line for line in self.env_path.read_text().splitlines() if line.startswith("DATABASE_URL=")]
        return facts.whereabouts(line.partition("=")[2].strip("'\""))


def texts(sandbox: Sandbox, database: str) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the application's tables, in the columns that both sides have."""
    added = facts.ADDED_BY_0003
    return {table: facts.rows_of(sandbox, database, table, without=added if table == "feature_requests" else ()) for table in TABLES}


def write(sandbox: Sandbox, database: str) -> None:
    with psycopg.connect(sandbox.server.url(database), autocommit=True) as connection:
        connection.execute(CHANGE.encode())


@pytest.fixture(scope="module")
def production(new_sandbox: NewSandbox) -> Sandbox:
    """The first environment: the sandbox's own stack, cut over."""
    sandbox = new_sandbox()
    sandbox.climb("cutover")
    return sandbox


@pytest.fixture(scope="module")
def staging(production: Sandbox) -> Second:
    """The second: a source of its own, other rows in it, on the same server."""
    with production.server.connect() as root:
        root.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(SOURCE_OF_STAGING)))
    build(production.server.url(SOURCE_OF_STAGING), rows=600)
    second = Second(production, STAGING, SOURCE_OF_STAGING)
    # Two settings make it another environment; the others are of the application, and the same in every one of its stacks.
    second.make(database=STAGING, envFile=second.env_path)
    second.configure(migrationsFolder=DRIZZLE_FOLDER, reportFolder=production.folder / "reports")
    return second


class TestTwoSourcesOneServer:
    """In the order of their moves."""

    def test_the_second_climbs_beside_the_first(self, production: Sandbox, staging: Second) -> None:
        placed, noted = facts.placement(production), facts.journal(production, SOURCE_DATABASE)
        before = texts(production, SOURCE_OF_STAGING)
        staging.climb("cutover")
        assert texts(production, STAGING) == before
        assert staging.application == (f"{STAGING}_user", STAGING)
        assert facts.whereabouts(production.database_url) == (facts.USER, facts.TARGET_DATABASE)
        assert (facts.placement(production), facts.journal(production, SOURCE_DATABASE)) == (placed, noted)
        assert not production.preview("cutover").changed

    def test_the_command_line_asks_of_the_stack_that_is_selected_or_named(self, staging: Second, tmp_path: Path) -> None:
        """Each stack's journal goes by its name, so that by another one nothing would have been moved."""
        whole = f"organization/{NAMESPACE}/{STAGING}"
        for arguments, environment in ([], {}), (["--stack", STAGING], {}), (["--stack", whole], {}), ([], {"PULUMI_STACK": whole}):
            found = staging.ask(tmp_path, "status", *arguments, **environment)
            assert (found["stage"], found["writes"]) == ("cutover", "target"), arguments
            assert found["next_steps"][-1] == f"pulumi config set stage cleanup --stack {STAGING} && pulumi up --stack {STAGING}"
        assert Path(staging.ask(tmp_path, "report", "--folder", str(tmp_path))["report"]).name.startswith(f"{STAGING}-")

    def test_each_fences_its_own_source(self, production: Sandbox, staging: Second) -> None:
        for database, live in ((SOURCE_DATABASE, facts.TARGET_DATABASE), (SOURCE_OF_STAGING, STAGING)):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match=f'"{live}"'):
                write(production, database)
        write(production, facts.TARGET_DATABASE)
        write(production, STAGING)

    def test_neither_user_comes_into_the_other_s_database(self, production: Sandbox, staging: Second) -> None:
        elsewhere = urlsplit(production.database_url)._replace(path=f"/{STAGING}").geturl()
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            facts.whereabouts(elsewhere)

    def test_every_run_that_moved_data_left_its_report(self, production: Sandbox, staging: Second) -> None:
        names = sorted(file.name for file in (production.folder / "reports").glob("*.html"))
        found = [(name.split("-")[0], "-".join(name.removesuffix(".html").split("-")[2:])) for name in names]
        assert sorted(found) == [("sandbox", "copy"), ("sandbox", "cut-over"), (STAGING, "copy"), (STAGING, "cut-over")]
        outputs = staging.engine.outputs()
        assert Path(outputs["report"]).name == [name for name in names if name.startswith(STAGING)][-1]
        assert outputs["live"] == "the new database; the old tables refuse writes"
        assert outputs["moved"].startswith(f"{sum(map(len, texts(production, STAGING).values())) + 3:,} rows in 4 tables")

    def test_the_outputs_can_be_read_and_fill_the_stack_s_readme(self, staging: Second) -> None:
        shown = staging.engine.outputs()
        named = set(_placeholders(shown["readme"]))
        assert named
        assert named <= set(shown)
        assert "postgresql://" not in json.dumps(shown)
        assert all(isinstance(shown[name], str) for name in ("live", "moved", "writersWaited", "report", "stage"))

    def test_one_goes_back_and_the_other_stays(self, production: Sandbox, staging: Second) -> None:
        moved = texts(production, STAGING)
        staging.up("copy")
        assert texts(production, SOURCE_OF_STAGING) == moved
        assert staging.application[1] == SOURCE_OF_STAGING
        assert facts.whereabouts(production.database_url)[1] == facts.TARGET_DATABASE
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            write(production, SOURCE_DATABASE)

    def test_destroying_one_leaves_the_other(self, production: Sandbox, staging: Second) -> None:
        staging.engine.run("destroy")
        assert not facts.exists(production, STAGING)
        assert production.psql(SOURCE_DATABASE, f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{STAGING}%'") == []
        write(production, SOURCE_OF_STAGING)
        assert facts.whereabouts(production.database_url) == (facts.USER, facts.TARGET_DATABASE)
        assert not production.preview("cutover").changed
        assert any(file.name.endswith("-destroy.html") for file in (production.folder / "reports").glob(f"{STAGING}-*"))


class TestOneSource:
    """A second stack takes a copy of what the first one moves: fences and journals are told apart by stack."""

    @pytest.fixture(scope="class")
    @classmethod
    def mirror(cls, production: Sandbox) -> Second:
        second = Second(production, "mirror", SOURCE_DATABASE)
        second.make(database="mirror", envFile=second.env_path)
        second.configure(migrationsFolder=DRIZZLE_FOLDER, reportFolder="")
        return second

    def test_names_of_another_stack_are_refused_at_preview(self, production: Sandbox) -> None:
        thief = Second(production, "thief", SOURCE_DATABASE)
        thief.make(envFile=production.folder / "thief.env")
        for adopt in ("false", "true"):
            thief.configure(adoptExisting=adopt, stage="provision")
            with pytest.raises(EngineError) as refused:
                thief.engine.run("preview")
            assert "Nothing was changed." in refused.value.result.output
            assert 'holds the tables of another stack, "sandbox"' in refused.value.result.output
        assert facts.whereabouts(production.database_url) == (facts.USER, facts.TARGET_DATABASE)

    def test_a_copy_of_tables_that_are_not_live_says_so(self, production: Sandbox, mirror: Second) -> None:
        mirror.up("provision")
        copied = mirror.up("copy")
        assert 'are not live: stack "sandbox" moved the application' in copied.output
        assert texts(production, "mirror") == texts(production, SOURCE_DATABASE)

    def test_a_second_cut_over_from_one_source_is_refused(self, mirror: Second) -> None:
        mirror.configure(stage="cutover")
        with pytest.raises(EngineError) as refused:
            mirror.engine.run("preview")
        assert 'are not live: stack "sandbox"' in refused.value.result.output
        mirror.configure(stage="copy")

    def test_the_first_goes_back_and_over_again_beside_it(self, production: Sandbox, mirror: Second) -> None:
        before = texts(production, "mirror")
        production.up("copy")
        write(production, SOURCE_DATABASE)
        production.up("cutover")
        assert texts(production, "mirror") == before
        assert texts(production, facts.TARGET_DATABASE) == texts(production, SOURCE_DATABASE)

    def test_destroying_the_copy_leaves_the_fence_of_the_first(self, production: Sandbox, mirror: Second) -> None:
        mirror.engine.run("destroy")
        assert not facts.exists(production, "mirror")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            write(production, SOURCE_DATABASE)
        assert not production.preview("cutover").changed
        assert "cut over" in facts.journal(production, SOURCE_DATABASE)


def _placeholders(text: str) -> list[str]:
    return [part.split("}")[0] for part in text.split("${outputs.")[1:]]
