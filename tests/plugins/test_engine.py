"""The real Pulumi engine works with the stand-ins: up, nothing to do, refresh, update, rotation, destroy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psycopg
import pulumi
import pulumi_cloudflare as cloudflare
import pulumi_postgresql as postgresql
import pulumi_random as random
import pytest
from pulumi import automation

from sandbox.engine import state_url
from sandbox.plugins.cloudflare_api import FIRST_PAUSE_VARIABLE
from sandbox.plugins.install import install
from sandbox.postgres import Server
from tests.plugins.conftest import ADMIN_PASSWORD
from tests.plugins.fake_cloudflare import TOKEN, FakeCloudflare

PROJECT = Path(__file__).parents[2]
ACCOUNT = "a" * 32
CONFIG_ID = "c" * 32

FAILING = """
import pulumi, pulumi_postgresql as postgresql, pulumi_random as random
from pulumi import automation

def program():
{body}

stack = automation.create_or_select_stack("test", project_name="plugins", program=program)
try:
    stack.up()
except automation.CommandError as error:
    print(error)
else:
    raise SystemExit("the engine reports no failure")
"""

pytestmark = pytest.mark.engine


@pytest.fixture
def pulumi_cli() -> Path:
    """The CLI that PULUMI_CLI or PATH names."""
    found = os.environ.get("PULUMI_CLI") or shutil.which("pulumi")
    if not found:
        pytest.skip("no Pulumi CLI: put one on PATH or name it in PULUMI_CLI")
    return Path(found)


@pytest.fixture
def engine_environment(pulumi_cli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """For an engine that finds nothing but the stand-ins and keeps its state in a folder of the test."""
    bin_dir, backend, home = tmp_path / "bin", tmp_path / "backend", tmp_path / "home"
    backend.mkdir()
    path = os.pathsep.join([str(bin_dir), str(pulumi_cli.parent), "/usr/bin", "/bin"])
    told = install(bin_dir, Path(sys.executable), PROJECT, environment={"PATH": path, "PULUMI_HOME": str(home)})
    assert sum("stand-in" in line for line in told) == 3
    monkeypatch.setenv("PATH", path)  # the Automation API looks for the CLI there
    return {
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": state_url(backend),
        "PULUMI_CONFIG_PASSPHRASE": "passphrase",
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
        FIRST_PAUSE_VARIABLE: "0.001",
    }


@pytest.fixture
def new_stack(engine_environment: dict[str, str]) -> Callable[[Callable[[], None]], automation.Stack]:
    """Makes a stack of an inline program."""

    def make(program: Callable[[], None]) -> automation.Stack:
        return automation.create_or_select_stack(
            "test",
            project_name="plugins",
            program=program,
            opts=automation.LocalWorkspaceOptions(env_vars=engine_environment),
        )

    return make


@pytest.fixture
def run_alone(engine_environment: dict[str, str], tmp_path: Path) -> Callable[[str], str]:
    """Runs a program that is to fail, and gives what is told of it.

    In a process of its own, as the SDK leaves the coroutine of an inline program unfinished when the engine fails.
    """

    def run(body: str) -> str:
        script = tmp_path / "failing.py"
        script.write_text(FAILING.format(body=textwrap.indent(body, "    ")))
        done = subprocess.run(
            [sys.executable, script], check=False, env={**os.environ, **engine_environment}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


class Program:
    """The resources that the project declares, with what the test changes between two runs."""

    def __init__(self, server: Server, api: FakeCloudflare, admin: str) -> None:
        self.server, self.api, self.admin = server, api, admin
        self.connection_limit = -1
        self.privileges = ["USAGE", "CREATE"]
        self.rotation = "1"
        self.database = "postgres"

    def __call__(self) -> None:
        password = random.RandomPassword("password", length=43, special=False, keepers={"rotation": self.rotation})
        provider = postgresql.Provider(
            "admin",
            host="127.0.0.1",
            port=self.server.port,
            username=self.admin,
            password=ADMIN_PASSWORD,
            sslmode="disable",
            connect_timeout=10,
            superuser=self.admin == "postgres",
        )
        opts = pulumi.ResourceOptions(provider=provider)
        rw = postgresql.Role("rw", name="clarity_rw", opts=opts)
        user = postgresql.Role(
            "user",
            name="clarity_user",
            login=True,
            password=password.result,
            roles=[rw.name],
            connection_limit=self.connection_limit,
            opts=opts,
        )
        member = postgresql.GrantRole(
            "member",
            role=self.admin,
            grant_role=user.name,
            opts=pulumi.ResourceOptions(provider=provider, delete_before_replace=True, ignore_changes=["with_admin_option"]),
        )
        database = postgresql.Database("clarity", name="clarity", opts=pulumi.ResourceOptions(provider=provider, depends_on=[rw, user, member]))
        last: list[pulumi.Resource] = []

        def chained() -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(provider=provider, depends_on=last[-1:], delete_before_replace=True)

        for name, role, privileges in (("connect", rw.name, ["CONNECT"]), ("public", "public", [])):
            last.append(
                postgresql.Grant(
                    name,
                    role=role,
                    database=database.name,
                    object_type="database",
                    privileges=privileges,
                    opts=chained(),
                )
            )
        last.append(
            postgresql.Grant(
                "usage",
                role=rw.name,
                database=database.name,
                schema="public",
                object_type="schema",
                privileges=self.privileges,
                opts=chained(),
            )
        )
        last.append(postgresql.Schema("drizzle", name="drizzle", database=database.name, owner=user.name, opts=chained()))
        for owner in (self.admin, user.name):
            last.append(
                postgresql.DefaultPrivileges(
                    f"default-{len(last)}",
                    role=rw.name,
                    database=database.name,
                    schema="public",
                    owner=owner,
                    object_type="table",
                    privileges=["SELECT", "INSERT"],
                    opts=chained(),
                )
            )
        account = cloudflare.Provider("cf", api_token=TOKEN, base_url=self.api.url)
        cloudflare.HyperdriveConfig(
            "hyperdrive",
            account_id=ACCOUNT,
            name="clarity-db",
            origin={
                "scheme": "postgres",
                "host": "127.0.0.1",
                "port": self.server.port,
                "database": self.database,
                "user": user.name,
                "password": password.result,
            },
            caching={"disabled": True},
            opts=pulumi.ResourceOptions(provider=account, depends_on=last[-1:]),
        )
        ranges = cloudflare.get_ip_ranges(opts=pulumi.InvokeOptions(provider=account))
        pulumi.export("cidrs", ranges.ipv4_cidrs)
        pulumi.export("password", password.result)


def changes(result: automation.UpResult | automation.PreviewResult) -> dict[str, int]:
    """How many resources were or would be changed, by kind of change."""
    summary = result.change_summary if isinstance(result, automation.PreviewResult) else result.summary.resource_changes or {}
    return {str(getattr(kind, "value", kind)): count for kind, count in summary.items() if str(kind) != "same"}


@pytest.mark.parametrize("admin", ["postgres", "managed"])
def test_the_engine_provisions_updates_and_destroys(
    admin: str,
    new_stack: Callable[[Callable[[], None]], automation.Stack],
    recorded_server: Server,
    recorded_names: None,
    api: FakeCloudflare,
) -> None:
    api.next_id, api.now = CONFIG_ID, "2026-11-22T16:00:00Z"
    program = Program(recorded_server, api, admin)
    stack = new_stack(program)

    before = len(api.requests)
    assert changes(stack.preview())["create"] >= 14
    assert {method for method, *_ in api.requests[before:]} == {"GET"}  # nothing but the IP ranges
    up = stack.up()
    assert up.outputs["cidrs"].value == ["173.245.48.0/20", "103.21.244.0/22"]
    assert up.outputs["password"].secret
    first = up.outputs["password"].value
    assert login(recorded_server, first) == "clarity_user"
    assert api.configs[CONFIG_ID]["origin"]["password"] == first
    assert not changes(stack.preview())

    refreshed = stack.refresh()
    assert not set(refreshed.summary.resource_changes or {}) - {"same"}
    assert not changes(stack.preview())

    program.connection_limit, program.privileges, program.database = 7, ["USAGE"], "clarity"
    assert changes(stack.up()) == {"update": 3}
    assert api.configs[CONFIG_ID]["origin"]["database"] == "clarity"
    with recorded_server.connect() as connection:
        row = connection.execute(
            "SELECT rolconnlimit, pg_has_role('clarity_user', 'clarity_rw', 'MEMBER') FROM pg_roles WHERE rolname = 'clarity_user'"
        ).fetchone()
    assert tuple(row.values() if isinstance(row, dict) else row or ()) == (7, True)

    program.rotation = "2"
    rotated = stack.up()
    assert changes(rotated) == {"update": 2, "replace": 1}
    second = rotated.outputs["password"].value
    assert second != first
    assert login(recorded_server, second) == "clarity_user"
    with pytest.raises(psycopg.OperationalError):
        login(recorded_server, first)

    with session(recorded_server, second):  # a session of the application does not stop it
        stack.destroy()
    assert not api.configs
    with recorded_server.connect() as connection:
        assert not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'clarity'").fetchall()
        assert not connection.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE 'clarity%'").fetchall()


def test_what_is_declared_wrongly_fails_the_preview(run_alone: Callable[[str], str]) -> None:
    told = run_alone("random.RandomPassword('password', length=3, min_upper=4)")
    assert "length is 3, must be at least 4" in told


def test_a_failed_create_is_told_without_the_password(run_alone: Callable[[str], str], recorded_server: Server) -> None:
    told = run_alone(
        f"admin = postgresql.Provider('admin', host='127.0.0.1', port={recorded_server.port}, password={ADMIN_PASSWORD!r}, sslmode='disable')\n"
        "opts = pulumi.ResourceOptions(provider=admin)\n"
        "postgresql.Role('user', name='managed', password='a-very-secret-password', opts=opts)"
    )
    assert 'role "managed" already exists' in told
    assert "a-very-secret-password" not in told


def session(server: Server, password: str) -> psycopg.Connection[tuple[str]]:
    return psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        dbname="clarity",
        user="clarity_user",
        password=password,
        sslmode="disable",
    )


def login(server: Server, password: str) -> str:
    with session(server, password) as connection:
        row = connection.execute("SELECT current_user::text").fetchone()
    return row[0] if row else ""
