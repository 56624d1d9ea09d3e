"""Every secret that can be configured, and every one that is made, is planted and looked for wherever a run leaves something.

All are in the stack's configuration, as on a machine without the application's `.env`: each URL with a login of its own, the token, the
password of Hyperdrive's origin, and the Access clients of the old origin and of the new one.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from psycopg import sql

from clarity_infra.settings import SECRET_KEYS
from sandbox import environment
from sandbox.engine import EngineError
from sandbox.stack import ACCOUNT_ID, APPLICATION_ROLE, MANAGED_ADMIN, SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER
from tests.end_to_end.planted import Processes, holders, named_in, set_secret

OF_THE_SANDBOX = {
    "SANDBOX_SUPERUSER_PASSWORD": "planted-Superuser-0a17",
    "SANDBOX_ADMIN_PASSWORD": "planted Admin/1b28:@%41?&#'\"\\$x`é",
    "SANDBOX_APPLICATION_PASSWORD": 'planted Application=2c39+/:@"é',
    "PULUMI_CONFIG_PASSPHRASE": "planted-Passphrase-3d4a",
    "CLOUDFLARE_API_TOKEN": "planted-Token-4e5b",
}
# What the engine, and so everything it starts, has in its environment because the sandbox gives it there.
IN_THE_ENVIRONMENT = ("PULUMI_CONFIG_PASSPHRASE", "CLOUDFLARE_API_TOKEN")
# By this Pulumi's own Python host gives the program its configuration, decrypted; it is no process of ours, and what we start is not given it.
PROGRAM = "PULUMI_CONFIG="
TARGET_ADMIN_PASSWORD = "planted Target/5f6c:@%&#'\"é"
ORIGIN_PASSWORD = "planted Origin/6a7d:@%&#'\"\\é"
OLD_CLIENT = {"client_id": "old.access", "client_secret": "planted-Old-Client/7b8e'\"="}
NEW_CLIENT = {"client_id": "new.access", "client_secret": "planted-New-Client/8c9f'\"="}
OLD_HOST, NEW_HOST = "old.internal.example.com", "new.internal.example.com"
TARGET_ADMIN, ORIGIN_ROLE = "managed_target", "clarity_hyperdrive"
# The configuration comes before it, so this URL is only what the file has to have again in the end.
APP_ENV = "NODE_ENV=development\nDATABASE_URL=postgresql://nobody@127.0.0.1/nothing\n"
# The sandbox's own file, and the account's storage, which has to know what it connects with.
ALLOWED = {"env", "cloudflare.json"}
# And the application's own file, for the password by which it logs in.
ALLOWED_TO_BE_IN_USE = {*ALLOWED, "app.env"}

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox, scratch: Path, said: list[str], processes: Processes) -> Sandbox:
    """Its server logs every statement; all that is secret is planted, and in the stack's configuration."""

    def plant(folder: Path) -> None:
        folder.mkdir()
        environment.write(folder / "env", OF_THE_SANDBOX)

    made = new_sandbox(
        superuser=False,
        say=said.append,
        settings={"log_statement": "all"},
        before_making=plant,
        config={
            "hyperdriveHost": NEW_HOST,
            "hyperdriveAccessClientId": NEW_CLIENT["client_id"],
            "readWriteRoleLogin": True,
            "passwordGraceSeconds": 0,
        },
    )
    make_roles(made)
    put_behind_access(made)
    for key, value in configured(made).items():
        set_secret(made, key, value)
    made.app_env_path.write_text(APP_ENV)
    return made


def make_roles(sandbox: Sandbox) -> None:
    """An admin for the target and a login for Hyperdrive, so that no two of the configured secrets are the same."""
    with sandbox.server.connect(SOURCE_DATABASE) as root:
        for role, password, attributes in ((TARGET_ADMIN, TARGET_ADMIN_PASSWORD, "CREATEROLE CREATEDB"), (ORIGIN_ROLE, ORIGIN_PASSWORD, "")):
            verifier = root.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
            statement = sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}")
            root.execute(statement.format(sql.Identifier(role), sql.SQL(attributes), sql.Literal(verifier)))
        root.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(APPLICATION_ROLE), sql.Identifier(ORIGIN_ROLE)))
        root.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(ORIGIN_ROLE), sql.Identifier(MANAGED_ADMIN)))


def put_behind_access(sandbox: Sandbox) -> None:
    """Both ways to the server are tunnels, each with a client of its own."""
    ways = ((OLD_HOST, OLD_CLIENT), (NEW_HOST, NEW_CLIENT))
    sandbox.cloudflare_control("", {"tunnels": [{"host": host, "port": sandbox.server.port, **client} for host, client in ways]})
    token = {"access_client_id": OLD_CLIENT["client_id"], "access_client_secret": OLD_CLIENT["client_secret"]}
    login = {"database": SOURCE_DATABASE, "user": ORIGIN_ROLE, "password": ORIGIN_PASSWORD, "scheme": "postgres"}
    config = facts.hyperdrive(sandbox)["id"]
    sandbox.cloudflare_api("PATCH", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs/{config}", {"origin": {"host": OLD_HOST, **login, **token}})


def configured(sandbox: Sandbox) -> dict[str, str]:
    """Every key of Pulumi.yaml that holds a secret."""
    target = f"{quote(TARGET_ADMIN)}:{quote(TARGET_ADMIN_PASSWORD, safe='')}@127.0.0.1:{sandbox.server.port}/{SOURCE_DATABASE}"
    return {
        "masterDatabaseUrl": sandbox.admin_url,
        "databaseUrl": sandbox.application_url,
        "targetDatabaseUrl": f"postgresql://{target}?sslmode=disable",
        "cloudflareApiToken": OF_THE_SANDBOX["CLOUDFLARE_API_TOKEN"],
        "originPassword": ORIGIN_PASSWORD,
        "originAccessSecret": OLD_CLIENT["client_secret"],
        "hyperdriveAccessSecret": NEW_CLIENT["client_secret"],
    }


def planted() -> dict[str, str]:
    """Every secret that somebody gave."""
    return {
        **OF_THE_SANDBOX,
        "the target's admin": TARGET_ADMIN_PASSWORD,
        "originPassword": ORIGIN_PASSWORD,
        "originAccessSecret": OLD_CLIENT["client_secret"],
        "hyperdriveAccessSecret": NEW_CLIENT["client_secret"],
    }


def generated(sandbox: Sandbox) -> dict[str, str]:
    """Every password that the stack has made, of its present revision."""
    outputs = sandbox.outputs(show_secrets=True)
    found = {name: urlsplit(outputs[name]).password for name in ("databaseUrl", "readWriteUrl")}
    assert all(found.values())
    return {f"{name} of revision {sandbox.configured('passwordRevision') or 1}": str(password) for name, password in found.items()}


def run_through(sandbox: Sandbox, scratch: Path) -> dict[str, str]:
    """Previews, every stage to the cut-over, one that failed, a refresh, a rotation; gives the passwords that were made on the way."""

    def events(name: str) -> tuple[str, ...]:
        return "--event-log", str(scratch / f"events-{name}.json")

    sandbox.preview("provision", "-v=8", "--logtostderr", "--logflow")
    sandbox.up("provision", *events("provision"))
    sandbox.up("copy", *events("copy"))
    sandbox.cloudflare_control(body={"refuse_origins": True})
    try:
        with pytest.raises(EngineError, match="Cloudflare"):
            sandbox.up("cutover", *events("failed"))
    finally:
        sandbox.cloudflare_control(body={"refuse_origins": False})
    sandbox.up("cutover", *events("cutover"))
    made = generated(sandbox)
    sandbox.configure(passwordRevision=2)
    sandbox.preview("cutover", "--json", "--show-sames", "--save-plan", str(scratch / "plan.json"))
    sandbox.up("cutover", *events("rotation"))
    sandbox.refresh(*events("refresh"))
    sandbox.preview("cutover", "-v=8", "--logtostderr", "--logflow")
    return {**made, **generated(sandbox)}


def test_every_secret_of_the_configuration_is_planted(sandbox: Sandbox) -> None:
    assert set(configured(sandbox)) == set(SECRET_KEYS)
    written = sandbox.config_file.read_text()
    assert all(f"clarity-infra:{key}:\n    secure: " in written for key in SECRET_KEYS)


def test_none_is_found_but_where_it_is_used(sandbox: Sandbox, scratch: Path, said: list[str], processes: Processes) -> None:
    before = facts.application(sandbox)
    made = run_through(sandbox, scratch)
    assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET_DATABASE), "through the new client's tunnel"
    assert before.hyperdrive["origin"]["access_client_id"] == OLD_CLIENT["client_id"]
    assert facts.hyperdrive(sandbox)["origin"]["access_client_id"] == NEW_CLIENT["client_id"]
    secrets, state = {**planted(), **made}, sandbox.engine.state()
    assert len(made) == 4
    folders = [sandbox.folder, sandbox.server.folder.resolve(), scratch]

    for name, paths in holders(folders, secrets).items():
        assert {path.name for path in paths} <= (ALLOWED_TO_BE_IN_USE if name == "databaseUrl of revision 2" else ALLOWED), name
    shown = [*said, str(state), str(sandbox.outputs()), sandbox.config_file.read_text(), *processes.commands, *processes.environments_of_tools]
    assert named_in(shown, secrets) == {}
    not_given_there = {name: value for name, value in secrets.items() if name not in IN_THE_ENVIRONMENT}
    ours = [environment for environment in processes.environments if PROGRAM not in environment]
    assert named_in(ours, not_given_there) == {}

    # What was looked through is what it is meant to be.
    assert {path.name for path in scratch.glob("events-*.json") if "resOutputsEvent" in path.read_text()} >= {
        f"events-{name}.json" for name in ("provision", "copy", "cutover", "rotation", "refresh")
    }
    assert "CREATE ROLE" in sandbox.server.log_path.read_text(errors="replace")
    assert "pg_dump" in str(processes.commands) and processes.environments_of_tools
    assert (scratch / "plan.json").stat().st_size and any("resource registration" in line or "Marshal" in line for line in said)
    assert holders([sandbox.folder], {"token": OF_THE_SANDBOX["CLOUDFLARE_API_TOKEN"]})["token"] == {sandbox.env_path}


def test_nor_after_a_destroy(sandbox: Sandbox, scratch: Path, said: list[str], processes: Processes) -> None:
    facts.bring(sandbox, "cutover")
    secrets = {**planted(), **generated(sandbox)}
    sandbox.destroy("--event-log", str(scratch / "events-destroy.json"))
    origin = facts.hyperdrive(sandbox)["origin"]
    assert (origin["user"], origin["access_client_id"]) == (ORIGIN_ROLE, OLD_CLIENT["client_id"])
    with psycopg.connect(facts.connection_string(sandbox), autocommit=True) as session:
        assert session.execute("SELECT current_user::text").fetchone() == (ORIGIN_ROLE,)
    assert sandbox.app_env_path.read_text() == APP_ENV
    found = holders([sandbox.folder, sandbox.server.folder.resolve(), scratch], secrets)
    assert {path.name for paths in found.values() for path in paths} <= ALLOWED
    assert named_in([*said, *processes.commands], secrets) == {}
