"""Names are data: an admin, an application, a database, roles, a schema and tables with the oddest names, through the whole path.

The tables belong to another role than the admin, who is no superuser.
"""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import yaml
from psycopg import sql

from clarity_infra.move import cleanup as move
from clarity_infra.settings import PROJECT, Settings
from sandbox.postgres import Server
from sandbox.stack import ACCOUNT_ID, SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import bring

PASSWORD = "pw ;'\"%\\"
ODD = "\"'; DROP TABLE x; -- %s %(x)s \\ $$ {0} \N{LATIN SMALL LETTER E WITH ACUTE}"


def odd(start: str, *, without: str = "", more: str = "") -> str:
    """A name of 63 bytes, the most PostgreSQL keeps, that begins with `start`."""
    text = start + "".join(character for character in ODD + more if character not in without)
    assert len(text.encode()) <= 63
    return text + "z" * (63 - len(text.encode()))


SOURCE = odd("old", more="\n?#/=@")
TARGET = odd("new", without="'%", more="./=@:")
USER = odd("user", more="\n?#/@:")
ROLE = odd("rw", more="\n?#/@:")
ADMIN = odd("admin", without=":", more="\n?#/@")
KEEPER = odd("keeper", more="\n?#/@:=")
APPLICATION = odd("app", more="\n?#/@")
SCHEMA = odd("schema", more="\n.,")
PARENT = odd("parent", more="\n.,")
CHILD = odd("child", more="\n.,")
COLUMN = odd("column", more="\n.,")
KIND = odd("kind", more="\n.,")
LABELS = [odd("label", more="\n.,"), "a,b", '"', "\\", "", " ", "null", "{}", "'"]

MAKE = sql.SQL(
    """
CREATE TYPE {kind} AS ENUM ({labels});
CREATE TABLE {parent} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {column} text UNIQUE CHECK ({column} <> {value}), k {kind}[] DEFAULT {default});
CREATE TABLE {child} ({column} text REFERENCES {parent} ({column}) ON UPDATE CASCADE, {kind_column} {kind} DEFAULT {label}, n serial,
  PRIMARY KEY ({column}, n));
CREATE INDEX {index} ON {child} (lower({column})) WHERE {column} <> {value};
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {body};
CREATE TRIGGER {function_only} BEFORE INSERT ON {child} FOR EACH ROW EXECUTE FUNCTION {function}({value});
COMMENT ON COLUMN {child}.{column} IS {value};
INSERT INTO {parent} ({column}, k) SELECT {value} || g, ARRAY[{label}, '']::{kind}[] FROM generate_series(1, 200) AS g;
INSERT INTO {child} ({column}) SELECT {column} FROM {parent};
GRANT USAGE ON SCHEMA {schema} TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {application};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {application};
"""
).format(
    kind=sql.Identifier(SCHEMA, KIND),
    kind_column=sql.Identifier(KIND),
    labels=sql.SQL(", ").join(map(sql.Literal, LABELS)),
    label=sql.Literal(LABELS[0]),
    default=sql.Literal(["'", LABELS[0]]),
    parent=sql.Identifier(SCHEMA, PARENT),
    child=sql.Identifier(SCHEMA, CHILD),
    column=sql.Identifier(COLUMN),
    index=sql.Identifier(odd("index", more="\n.,")),
    function=sql.Identifier(SCHEMA, odd("function", more="\n.,")),
    function_only=sql.Identifier(odd("trigger", more="\n.,")),
    body=sql.Literal("BEGIN RETURN NEW; END -- " + ODD),
    value=sql.Literal(ODD),
    schema=sql.Identifier(SCHEMA),
    application=sql.Identifier(APPLICATION),
)


def shown(schema: str, name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))


def url(server: Server, database: str, user: str) -> str:
    login = f"{quote(user, safe='')}:{quote(PASSWORD, safe='')}"
    return f"postgresql://{login}@127.0.0.1:{server.port}/{quote(database, safe='')}?sslmode=disable"


def make_source(sandbox: Sandbox) -> None:
    """The database, its people and its tables; the application's `.env` and its Hyperdrive config name them."""
    admin, keeper, application, source = map(sql.Identifier, (ADMIN, KEEPER, APPLICATION, SOURCE))
    with sandbox.server.connect() as root:
        for role, attributes in ((admin, "CREATEROLE CREATEDB LOGIN"), (keeper, ""), (application, "LOGIN")):
            root.execute(sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(role, sql.SQL(attributes), sql.Literal(PASSWORD)))
        root.execute(sql.SQL("GRANT {}, {} TO {}").format(keeper, application, admin))
        root.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(source))
        root.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(source, admin))
    with sandbox.server.connect(SOURCE) as root:
        root.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(SCHEMA), keeper))
        root.execute(sql.SQL("SET ROLE {}").format(keeper))
        root.execute(MAKE)
    sandbox.app_env_path.write_text(
        f"MASTER_DATABASE_URL={url(sandbox.server, SOURCE, ADMIN)}\n"
        f"DATABASE_URL={url(sandbox.server, SOURCE, APPLICATION)}\n"
        f"TARGET_DATABASE_URL={url(sandbox.server, SOURCE_DATABASE, ADMIN)}\n"
    )
    config = facts.hyperdrive(sandbox)
    origin = {**config["origin"], "database": SOURCE, "user": APPLICATION, "password": PASSWORD}
    body = {"name": config["name"], "origin": origin, "caching": config["caching"]}
    sandbox.cloudflare_api("PUT", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs/{config['id']}", body)
    sandbox.configure(
        database=TARGET,
        user=USER,
        readWriteRole=ROLE,
        tables=[shown(SCHEMA, PARENT), shown(SCHEMA, CHILD)],
        trackingTable="none",
        migrationsFolder="",
        monitoringHours=0,
    )


@pytest.fixture(scope="module", params=[18, pytest.param(15, marks=pytest.mark.pg15)])
def sandbox(request: pytest.FixtureRequest, new_sandbox: NewSandbox, server15: Server) -> Sandbox:
    made = new_sandbox(superuser=False, rows=100, bindir=server15.bindir if request.param == 15 else None)
    make_source(made)
    return made


def rows(sandbox: Sandbox, database: str, table: str) -> list[str]:
    with sandbox.server.connect(database) as root:
        found = root.execute(sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(SCHEMA, table)))
        return [str(row[0]) for row in found]


def write(sandbox: Sandbox) -> None:
    """As the application, by the URL that it has now."""
    with psycopg.connect(sandbox.database_url, autocommit=True) as connection:
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING")
        for _ in range(2):
            connection.execute(statement.format(sql.Identifier(SCHEMA, PARENT), sql.Identifier(COLUMN), sql.Literal("written")))
        connection.execute(sql.SQL("DELETE FROM {} WHERE {} LIKE '%7'").format(sql.Identifier(SCHEMA, CHILD), sql.Identifier(COLUMN)))


def test_the_whole_way_and_back(sandbox: Sandbox) -> None:
    before = access(sandbox)
    old_env, old_config = sandbox.app_env_path.read_bytes(), facts.hyperdrive(sandbox)
    bring(sandbox, "cutover")
    assert facts.whereabouts(sandbox.database_url) == (USER, TARGET)
    assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET)
    assert rows(sandbox, SOURCE, CHILD) == rows(sandbox, TARGET, CHILD)
    write(sandbox)
    now = {table: rows(sandbox, TARGET, table) for table in (PARENT, CHILD)}
    bring(sandbox, "copy")
    assert {table: rows(sandbox, SOURCE, table) for table in (PARENT, CHILD)} == now
    assert not sandbox.refresh().changed
    bring(sandbox, "cleanup")
    assert access(sandbox) == []
    restore(sandbox)
    sandbox.configure(stage="cutover")
    sandbox.destroy()
    assert {table: rows(sandbox, SOURCE, table) for table in (PARENT, CHILD)} == now
    assert access(sandbox) == before
    assert (sandbox.app_env_path.read_bytes(), facts.hyperdrive(sandbox)) == (old_env, old_config)
    write(sandbox)
    assert not sandbox.psql(
        SOURCE_DATABASE, "SELECT 1 FROM pg_roles WHERE rolname ~ '^(user|rw)\"' UNION ALL SELECT 1 FROM pg_database WHERE datname ~ '^new'"
    )


def access(sandbox: Sandbox) -> list[tuple[Any, ...]]:
    """The tables and sequences of the old schema, whose they are, and who may use them."""
    with sandbox.server.connect(SOURCE) as root:
        return root.execute(
            "SELECT relname, relowner::regrole::text, ARRAY(SELECT a::text FROM unnest(relacl) AS a ORDER BY 1) FROM pg_class"
            " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s) AND relkind IN ('r', 'S') ORDER BY 1",
            [SCHEMA],
        ).fetchall()


def restore(sandbox: Sandbox) -> None:
    """What `python -m clarity_infra restore` does, with the sandbox's configuration."""
    document = yaml.safe_load(sandbox.config_file.read_text())["config"]
    values = {key.removeprefix(f"{PROJECT}:"): value for key, value in document.items() if key.startswith(f"{PROJECT}:")}
    raw = {key: json.dumps(value) if isinstance(value, list) else value for key, value in values.items()}
    settings = Settings.read(sandbox.stack, raw.get, environment=sandbox.engine.environment, folder=sandbox.project)
    [backup] = (sandbox.folder / "backup").iterdir()
    said: list[str] = []
    move.restore(settings.move, backup, run=uuid.uuid4(), progress=said.append)
    assert not [line for line in said if line.startswith("warning")]
