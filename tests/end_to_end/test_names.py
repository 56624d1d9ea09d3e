"""Names are data: the oddest ones there are, through configuration, engine, plugins, Hyperdrive and `.env`, there and back."""

from __future__ import annotations

import psycopg
import pytest

from sandbox.stack import ACCOUNT_ID, SOURCE_DATABASE, Sandbox
from tests import names
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.names import CHILD, PARENT, SOURCE, TARGET, USER


def configure(sandbox: Sandbox) -> None:
    """The application's `.env`, its Hyperdrive config and the stack name what was made."""
    server = sandbox.server
    sandbox.app_env_path.write_text(
        f"MASTER_DATABASE_URL={names.url(server, SOURCE, names.ADMIN)}\n"
        f"DATABASE_URL={names.url(server, SOURCE, names.APPLICATION)}\n"
        f"TARGET_DATABASE_URL={names.url(server, SOURCE_DATABASE, names.ADMIN)}\n"
    )
    config = facts.hyperdrive(sandbox)
    origin = {**config["origin"], "database": SOURCE, "user": names.APPLICATION, "password": names.PASSWORD}
    body = {"name": config["name"], "origin": origin, "caching": config["caching"]}
    sandbox.cloudflare_api("PUT", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs/{config['id']}", body)
    sandbox.configure(
        database=TARGET,
        user=USER,
        readWriteRole=names.ROLE,
        tables=[names.shown(names.SCHEMA, PARENT), names.shown(names.SCHEMA, CHILD)],
        trackingTable="none",
        migrationsFolder="",
    )


def write(sandbox: Sandbox) -> None:
    """As the application, by the URL that it has now."""
    with psycopg.connect(sandbox.database_url, autocommit=True) as connection:
        for statement in names.WRITES:
            connection.execute(statement)


@pytest.fixture(scope="module", params=[18, pytest.param(15, marks=pytest.mark.pg15)])
def sandbox(request: pytest.FixtureRequest, new_sandbox: NewSandbox) -> Sandbox:
    bindir = None if request.param == 18 else request.getfixturevalue("server15").bindir
    made = new_sandbox(superuser=False, rows=100, bindir=bindir)
    names.make_source(made.server)
    configure(made)
    return made


@pytest.fixture(scope="module")
def before(sandbox: Sandbox) -> tuple[object, ...]:
    return remembered(sandbox)


def remembered(sandbox: Sandbox) -> tuple[object, ...]:
    """What is to be as it was after the way back."""
    return names.access(sandbox.server), sandbox.app_env_path.read_bytes(), facts.hyperdrive(sandbox)


def test_there(sandbox: Sandbox, before: tuple[object, ...]) -> None:
    facts.bring(sandbox, "cutover")
    assert facts.whereabouts(sandbox.database_url) == (USER, TARGET)
    assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET)
    for table in (PARENT, CHILD):
        assert names.rows(sandbox.server, SOURCE, table) == names.rows(sandbox.server, TARGET, table)
    assert not sandbox.refresh().changed


def test_and_back(sandbox: Sandbox, before: tuple[object, ...]) -> None:
    facts.bring(sandbox, "cutover")
    write(sandbox)
    now = {table: names.rows(sandbox.server, TARGET, table) for table in (PARENT, CHILD)}
    sandbox.destroy()
    assert {table: names.rows(sandbox.server, SOURCE, table) for table in (PARENT, CHILD)} == now
    assert remembered(sandbox) == before
    write(sandbox)
    left = "SELECT rolname FROM pg_roles WHERE rolname ~ '^(user|rw)\"' UNION ALL SELECT datname FROM pg_database WHERE datname ~ '^new'"
    assert sandbox.psql(SOURCE_DATABASE, left) == []
