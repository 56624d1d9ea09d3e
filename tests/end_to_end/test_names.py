"""Names are data: the oddest ones there are, through configuration, engine, plugins, Hyperdrive and `.env`, there and back."""

from __future__ import annotations

import psycopg

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


def test_there_and_back(new_sandbox: NewSandbox) -> None:
    sandbox = new_sandbox(superuser=False, rows=100)
    names.make_source(sandbox.server)
    configure(sandbox)
    before, env, config = names.access(sandbox.server), sandbox.app_env_path.read_bytes(), facts.hyperdrive(sandbox)
    sandbox.climb("cutover")
    assert facts.whereabouts(sandbox.database_url) == (USER, TARGET)
    assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET)
    for table in (PARENT, CHILD):
        assert names.rows(sandbox.server, SOURCE, table) == names.rows(sandbox.server, TARGET, table)
    write(sandbox)
    assert not sandbox.refresh().changed
    now = {table: names.rows(sandbox.server, TARGET, table) for table in (PARENT, CHILD)}
    sandbox.destroy()
    assert {table: names.rows(sandbox.server, SOURCE, table) for table in (PARENT, CHILD)} == now
    assert names.access(sandbox.server) == before
    assert (sandbox.app_env_path.read_bytes(), facts.hyperdrive(sandbox)) == (env, config)
    write(sandbox)
    left = "SELECT rolname FROM pg_roles WHERE rolname ~ '^(user|rw)\"' UNION ALL SELECT datname FROM pg_database WHERE datname ~ '^new'"
    assert sandbox.psql(SOURCE_DATABASE, left) == []
