"""The commands for a server of one's own, as README and docs show them: from `pulumi stack init` through every stage, back, and to the end.

The server is the sandbox's; all else is as on a person's machine: `.env`, the stack's file, the Pulumi command line.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox import node_packages
from sandbox.postgres import UNLOGGED_SPEED
from sandbox.stack import ACCOUNT_ID, SOURCE_DATABASE, Sandbox
from tests.authorities import authorities
from tests.docs.walk import Place, Step, checked_out, person_runs, shell

pytestmark = [pytest.mark.engine, pytest.mark.node]

TARGET = "clarity"


def sql(database: str, statement: str) -> Callable[[Place], None]:
    def execute(place: Place) -> None:
        with psycopg.connect(place.known[database], autocommit=True) as connection:
            connection.execute(statement.encode())

    return execute


def write_env(place: Place) -> None:
    """Step 2: `.env.example`, filled in."""
    values = {"MASTER_DATABASE_URL": place.known["master"], "DATABASE_URL": place.known["application"]}
    example = (place.folder / ".env.example").read_text().splitlines()
    lines = [f"{name}={values[name]}" if (name := line.partition("=")[0]) in values else line for line in example]
    for name in (".env", ".env.staging"):
        (place.folder / name).write_text("\n".join(lines) + "\n")


def write_certificate(place: Place) -> None:
    (place.folder / "certificates").mkdir()
    with authorities() as folder:
        shutil.copy(folder / "right.pem", place.folder / "certificates" / "server-ca.pem")


def prepare_clean_up(place: Place) -> None:
    sql("source", "DROP VIEW report")(place)
    for setting in ("stage cleanup", "monitoringHours 0", "backupFolder ../backup"):
        person_runs(f"pulumi config set {setting}")(place)


def empty_attributes(place: Place) -> None:
    """What an engine leaves that is killed in the wrong moment; the sandbox's own writes none."""
    (Path(place.known["state"]) / ".pulumi" / "stacks" / "clarity-infra" / "dev.json.attrs").touch()
    Step("pulumi stack output", code=-1, says="failed to load checkpoint: EOF").run(place)


def name_token(place: Place) -> None:
    place.environment["CLOUDFLARE_API_TOKEN"] = place.known["token"]


def use_node(place: Place) -> None:
    """drizzle-kit is run in the application's folder, with its `.env` and packages."""
    packages = node_packages.install(print)
    place.environment |= packages.environment(place.environment)
    application = place.folder.parent / "application"
    (application / "node_modules").symlink_to(packages.modules)
    (application / ".env").symlink_to(place.folder / ".env")


AT_ONCE = {"up": "up --skip-preview"}
"""For those that a preview of was looked at before."""

STEPS = [
    # A real server, in five steps.
    Step("python3 -m venv .venv", filled={".venv": "../another-venv"}),
    Step(". .venv/bin/activate", filled={".venv": "../another-venv"}),
    Step("pip install -r requirements.txt", says="already satisfied", variables={"PIP_NO_INDEX": "1"}),
    Step("pip install -r policy/requirements.txt", says="already satisfied", variables={"PIP_NO_INDEX": "1"}),
    Step("pulumi login", says="Logged in"),
    Step("pulumi login --local", says="Logged in", variables={"HOME": "..", "PULUMI_HOME": "../another-home", "PULUMI_BACKEND_URL": ""}),
    Step("pulumi stack init dev", before=write_env),
    Step(
        "pulumi config set --path 'tables[0]' orders",
        after=person_runs("pulumi config get tables && pulumi config rm tables"),  # Clarity's three are the default
    ),
    Step("pulumi config set migrationsFolder ../application/drizzle"),
    Step("pulumi config set cloudflareAccountId <account>", filled={"<account>": ACCOUNT_ID}),
    Step("pulumi config set hyperdriveId <id>", filled={"<id>": lambda place: place.known["hyperdrive"]}),
    Step(
        "export CLOUDFLARE_API_TOKEN=<token with Account > Hyperdrive > Edit>",
        filled={"<token with Account > Hyperdrive > Edit>": lambda place: place.known["token"]},
        after=name_token,
    ),
    Step("pulumi config set --secret masterDatabaseUrl", stdin=lambda place: place.known["master"]),
    Step("pulumi config set KEY VALUE", filled={"KEY VALUE": "cacheDrainSeconds 1"}),
    Step("pulumi preview", says="to create"),
    Step("pulumi up", says="created"),
    Step("pulumi config set stage copy"),
    Step("python -m clarity_infra survey", code=1, says="view public.report", before=sql("source", "CREATE VIEW report AS TABLE app_config")),
    Step("pulumi config set --path 'accept[0]' 'view public.report'"),
    Step("pulumi config set copyRevision 2"),
    Step("pulumi up", says="verified", filled=AT_ONCE),
    Step("python -m clarity_infra verify"),
    Step("pulumi config set sourceDatabase postgres"),
    Step("pulumi config set switchMasterDatabaseUrl true"),
    Step("pulumi config set lockBudget 300"),
    Step("pulumi config set stage cutover"),
    Step("pulumi up", says="the source takes no more writes", filled=AT_ONCE),
    # Looking at it.
    Step("python -m clarity_infra status", says="stage: cutover"),
    Step("python -m clarity_infra report", says=".html"),
    Step("pulumi stack output", says="writersWaited"),
    Step("pulumi stack output summary", says="both sides equal, row for row"),
    Step("pulumi stack output databaseUrl --show-secrets", says=f"/{TARGET}"),
    Step(". ./.env", before=use_node),
    Step(
        'MASTER_DATABASE_URL="$DATABASE_URL" npx drizzle-kit migrate',
        says="migrations applied successfully",
        filled={"MASTER_": "cd ../application; . ./.env; MASTER_"},
    ),
    # Reviewed in a pull request.
    Step("pulumi preview --json --show-sames > preview.json"),
    Step("python -m clarity_infra guard preview.json", says="keep all"),
    # A new password, as it was reviewed.
    Step("pulumi config set passwordRevision 2", before=person_runs("pulumi config set passwordGraceSeconds 0")),
    Step("pulumi preview --policy-pack policy", filled={"--policy-pack policy": "--policy-pack policy --save-plan plan.json"}),
    Step("pulumi up --plan", filled={"--plan": "--plan plan.json"}),
    # The clean-up, and what there is after it.
    Step("pulumi config set acknowledgeRefusedWrites 12"),
    Step("pulumi up", before=prepare_clean_up, filled=AT_ONCE),
    Step("pulumi destroy", code=-1, says="because it is protected"),
    Step("python -m clarity_infra restore", says="Restored, and fenced"),
    Step("pulumi up", before=person_runs("pulumi config set stage cutover"), filled=AT_ONCE),
    # Going back.
    Step("python -m clarity_infra rollback --dry-run", says="going back carries nothing and loses nothing"),
    Step("pulumi config set stage copy"),
    Step("pulumi up", says="the source takes writes again", filled=AT_ONCE),
    Step(
        "find ~/.pulumi/stacks -name '*.attrs' -size 0 -delete",
        before=empty_attributes,
        filled={"~": lambda place: place.known["state"]},
        after=person_runs("pulumi stack output"),
    ),
    Step("pulumi cancel"),
    Step("CLARITY_DISCARD_WRITES=clarity pulumi destroy", says="deleted"),
    # Another environment, with other settings.
    Step("pulumi stack init staging"),
    Step("pulumi config set envFile .env.staging"),
    Step("pulumi config set database clarity_staging"),
    Step("pulumi config set passwordForm plain"),
    Step("pulumi config set sslRootCert certificates/server-ca.pem", before=write_certificate),
    Step("pulumi preview", says="clarity_staging"),
    Step("pulumi config set --secret originAccessSecret", stdin="secret"),
    Step('pulumi config set envFile ""'),
]

NOT_RUN = {
    "make lint": "it looks at the whole tree for 40 s and at no stack",
    "npx wrangler deploy": "it needs an account of Cloudflare's; the file that it reads is tried by tests/end_to_end/test_second_config.py",
    "pulumi config set --secret originPassword": "it needs a password changed behind the stack's back: tests/end_to_end/test_by_hand.py",
    "pulumi stack import": "it needs a state that was lost; without one: tests/end_to_end/test_by_hand.py",
    "pulumi stack rename": "the other commands need the stack under its name",
    "pulumi -v=9": "shown as what is not to be used: it prints secrets",
}
"""The commands that are not run by these tests, and why."""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with checked_out() as folder:
        sandbox = Sandbox(folder.parent / "server", rows=2_000, settings=UNLOGGED_SPEED, stack="unused", project=folder)
        try:
            sandbox.prepare()
            ours = ("PULUMI_HOME", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "CLOUDFLARE_BASE_URL")
            environment = {**shell(), **{name: sandbox.variables[name] for name in ours}, "PATH": sandbox.engine.environment["PATH"]}
            environment["PULUMI_SKIP_CONFIRMATIONS"] = "true"  # instead of a person who answers "yes"
            known = {
                "master": sandbox.admin_url,
                "application": sandbox.application_url,
                "source": sandbox.server.url(SOURCE_DATABASE),
                "target": sandbox.server.url(TARGET),
                "hyperdrive": str(sandbox.configured("hyperdriveId")),
                "token": sandbox.variables["CLOUDFLARE_API_TOKEN"],
                "state": str(sandbox.state_path),
            }
            yield Place(folder, environment, known=known)
        finally:
            sandbox.remove()


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_it_does_what_is_said_of_it(place: Place, step: Step) -> None:
    step.take(place)
