"""The stand-in for `postgresql` does with a server what the real plugin does, its traps included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import sql

from sandbox.plugins.pg.connection import Server as Reached
from sandbox.plugins.wire import UNKNOWN, Props
from sandbox.postgres import Server, free_port
from tests.plugins.client import Engine, Failed
from tests.plugins.conftest import ADMIN_PASSWORD
from tests.plugins.replay import Served

NAMES = ("grp", "usr", "other")
ALL_ON_TABLES: Props = {"objectType": "table", "schema": "public", "privileges": ["SELECT", "INSERT"]}
VERIFIER = (
    "SCRAM-SHA-256$4096:CYToCYJVHqueN3SDWRnZjA==$Bz9LwWUjfHiJUajO5dDCroEi1pllBHSzAx76UKo16ro=:zaQmCiI1qEjZiXHtOtx78jxkwYrBmD4My6OF4ygdP6I="
)


def drop_all(server: Server) -> None:
    with server.connect() as connection:
        connection.execute("DROP DATABASE IF EXISTS plugin_db WITH (FORCE)")
        for name in NAMES:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
                connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(name)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def as_admin(recorded_server: Server, served: Served) -> Iterator[Callable[..., Engine]]:
    """An engine with the stand-in as the superuser, or as another admin."""

    def connect(username: str = "postgres", **settings: Any) -> Engine:
        values = {
            "host": "127.0.0.1",
            "port": str(recorded_server.port),
            "username": username,
            "password": ADMIN_PASSWORD,
            "sslmode": "disable",
            "superuser": "true" if username == "postgres" else "false",
            "connectTimeout": "5",
            **settings,
        }
        return Engine(served.clients["postgresql"], "postgresql", **values)

    drop_all(recorded_server)
    yield connect
    drop_all(recorded_server)


def login(server: Server, database: str = "postgres", user: str = "usr", password: str = "secret") -> Any:
    return psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        dbname=database,
        user=user,
        password=password,
        sslmode="disable",
        autocommit=True,
    )


def one(server: Server, query: Any, *parameters: Any, database: str = "postgres") -> Any:
    """The only value of the only row."""
    with psycopg.connect(server.url(database), sslmode="disable") as connection:
        row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None


IS_MEMBER = "SELECT pg_has_role(%s, %s, 'MEMBER')"
ADMINS = pytest.mark.parametrize("admin", ["postgres", "managed"])


@ADMINS
def test_an_update_of_a_role_takes_away_a_membership_that_is_not_its_own(
    admin: str, as_admin: Callable[..., Engine], recorded_server: Server
) -> None:
    engine = as_admin(admin)
    engine.create("Role", name="grp")
    user = engine.create("Role", name="usr", login=True)
    engine.create("GrantRole", role="usr", grantRole="grp")
    assert one(recorded_server, IS_MEMBER, "usr", "grp")

    refreshed = engine.refresh(user)
    assert refreshed is not None
    assert refreshed.outputs["roles"] == ["grp"]
    drift = engine.diff(refreshed)
    assert (drift["changes"], drift["diffs"], drift["detailedDiff"]) == (
        "DIFF_SOME",
        ["roles"],
        {"roles": {"kind": "DELETE"}},
    )
    engine.update(user, name="usr", login=True, connectionLimit=5)
    assert not one(recorded_server, IS_MEMBER, "usr", "grp")

    own = engine.update(user, name="usr", login=True, roles=["grp"])
    own = engine.update(own, name="usr", login=True, roles=["grp"], connectionLimit=7)
    assert one(recorded_server, IS_MEMBER, "usr", "grp")
    assert engine.diff(own)["changes"] == "DIFF_NONE"
    refreshed = engine.refresh(own)
    assert refreshed is not None
    assert engine.diff(refreshed)["changes"] == "DIFF_NONE"


def test_everything_a_role_has_is_set_read_back_and_changed(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin()
    engine.create("Role", name="grp")
    wanted: Props = {
        "name": "usr",
        "login": True,
        "password": "secret",
        "createDatabase": True,
        "createRole": True,
        "inherit": False,
        "replication": True,
        "bypassRowLevelSecurity": True,
        "superuser": True,
        "connectionLimit": 3,
        "validUntil": "2030-01-01 00:00:00+00",
        "searchPaths": ["one", "Two three"],
        "statementTimeout": 1000,
        "idleInTransactionSessionTimeout": 2000,
        "assumeRole": "grp",
        "roles": ["grp"],
    }
    made = engine.create("Role", **wanted)
    assert {name: made.outputs[name] for name in wanted} == wanted
    refreshed = engine.refresh(made)
    assert refreshed is not None
    assert {name: refreshed.outputs[name] for name in wanted} == wanted
    assert engine.diff(refreshed)["changes"] == "DIFF_NONE"

    less: Props = {"name": "other", "login": True, "password": "secret2"}
    assert engine.diff(refreshed, **less)["diffs"] == sorted(
        [*(set(wanted) - {"login"})],
    )
    changed = engine.update(refreshed, **less)
    assert changed.outputs["statementTimeout"] == 0
    assert one(recorded_server, "SELECT rolconfig FROM pg_roles WHERE rolname = 'other'") is None
    with login(recorded_server, user="other", password="secret2") as connection:
        assert not connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()[0]


def test_a_role_is_dropped_with_what_it_owns_here_and_not_with_what_it_owns_elsewhere(
    as_admin: Callable[..., Engine], recorded_server: Server
) -> None:
    engine = as_admin("managed")
    role = engine.create("Role", name="usr", login=True, password="secret")
    database = engine.create("Database", name="plugin_db", owner="usr")
    with login(recorded_server, "plugin_db") as connection:
        connection.execute("CREATE TABLE t (a int)")
    with pytest.raises(Failed, match=r"could not delete role usr.*cannot be dropped because some objects depend on it"):
        engine.delete(role)
    current = engine.refresh(database)
    assert current is not None
    assert current.outputs["owner"] == "usr"  # the failed delete was rolled back
    engine.delete(database)
    engine.delete(role)
    assert one(recorded_server, "SELECT count(*) FROM pg_roles WHERE rolname = 'usr'") == 0


def test_dropping_a_database_in_use_as_a_managed_admin_leaves_it_closed(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin("managed")
    engine.create("Role", name="usr", login=True, password="secret")
    database = engine.create("Database", name="plugin_db")
    with login(recorded_server, "plugin_db"):
        with pytest.raises(Failed, match="permission denied to terminate process"):
            engine.delete(database)
        assert one(recorded_server, "SELECT datallowconn FROM pg_database WHERE datname = 'plugin_db'") is False
        engine.create("GrantRole", role="managed", grantRole="usr")
        engine.delete(database)
    assert one(recorded_server, "SELECT count(*) FROM pg_database WHERE datname = 'plugin_db'") == 0


def test_a_membership_read_back_has_the_creators_admin_option(as_admin: Callable[..., Engine]) -> None:
    engine = as_admin("managed")
    engine.create("Role", name="usr", login=True)
    member = engine.create("GrantRole", role="managed", grantRole="usr")
    assert member.id == "managed_usr_false"
    refreshed = engine.refresh(member)
    assert refreshed is not None
    drift = engine.diff(refreshed)
    assert drift["replaces"] == ["withAdminOption"]
    assert engine.diff(refreshed, ignoring=("withAdminOption",))["changes"] == "DIFF_NONE"


def test_a_grant_covers_the_tables_of_its_moment(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin("managed")
    engine.create("Role", name="grp")
    engine.create("Database", name="plugin_db")
    with login(recorded_server, "plugin_db", "managed", ADMIN_PASSWORD) as connection:
        connection.execute("CREATE TABLE first (a int)")
        grant = engine.create("Grant", role="grp", database="plugin_db", **ALL_ON_TABLES)
        same = engine.refresh(grant)
        assert same is not None
        assert engine.diff(same)["changes"] == "DIFF_NONE"
        connection.execute("CREATE TABLE second (a int)")
    later = engine.refresh(grant)
    assert later is not None
    assert later.outputs["privileges"] == []
    found = engine.diff(later, role="grp", database="plugin_db", **ALL_ON_TABLES)
    assert found["detailedDiff"] == {"privileges[0]": {}, "privileges[1]": {}}  # ADD is the zero of its type
    engine.update(later, role="grp", database="plugin_db", **ALL_ON_TABLES)
    assert one(recorded_server, "SELECT has_table_privilege('grp', 'second', 'INSERT')", database="plugin_db")
    engine.delete(grant)
    assert not one(recorded_server, "SELECT has_table_privilege('grp', 'second', 'INSERT')", database="plugin_db")


@ADMINS
def test_a_grant_acts_for_the_owners_of_others_tables_and_keeps_no_membership(
    admin: str, as_admin: Callable[..., Engine], recorded_server: Server
) -> None:
    engine = as_admin(admin)
    engine.create("Role", name="grp")
    engine.create("Role", name="usr", login=True, password="secret")
    engine.create("Database", name="plugin_db", owner="usr")
    with login(recorded_server, "plugin_db") as connection:
        connection.execute("CREATE TABLE t (a int); CREATE TABLE u (a int); CREATE SEQUENCE s")
    named = {**ALL_ON_TABLES, "objects": ["t"], "privileges": ["ALL"]}
    grant = engine.create("Grant", role="grp", database="plugin_db", **named)
    assert grant.id == "grp_plugin_db_public_table_t"
    may = "SELECT array[has_table_privilege('grp', 't', 'DELETE'), has_table_privilege('grp', 'u', 'SELECT')]"
    assert one(recorded_server, may, database="plugin_db") == [True, False]
    refreshed = engine.refresh(grant)
    assert refreshed is not None
    assert engine.diff(refreshed)["changes"] == "DIFF_NONE"  # ALL stands for each of them
    engine.delete(grant)
    assert one(recorded_server, may, database="plugin_db") == [False, False]
    memberships = "SELECT count(*) FROM pg_auth_members WHERE pg_get_userbyid(roleid) = 'usr' AND set_option"
    assert one(recorded_server, memberships) == 0


def test_a_grant_on_anothers_database_says_nothing_and_grants_nothing(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    as_admin().create("Database", name="plugin_db")
    engine = as_admin("managed")
    engine.create("Role", name="grp")
    grant = engine.create("Grant", role="grp", database="plugin_db", objectType="database", privileges=["CREATE", "CONNECT"])
    assert grant.outputs["privileges"] in ([], None)
    assert not one(recorded_server, "SELECT has_database_privilege('grp', 'plugin_db', 'CREATE')")
    assert engine.diff(grant)["changes"] == "DIFF_SOME"


def test_grants_side_by_side_deadlock_as_a_managed_admin(as_admin: Callable[..., Engine]) -> None:
    """The real plugin's trap: its locks on roles and their members cross. Hence grants are chained."""
    engine = as_admin("managed")
    engine.create("Role", name="grp")
    engine.create("Role", name="usr", login=True, roles=["grp"])
    engine.create("Database", name="plugin_db")
    usage: Props = {"database": "plugin_db", "objectType": "schema", "schema": "public", "privileges": ["USAGE"]}
    jobs: list[tuple[str, Props]] = [("Grant", {"role": "grp", **usage})]
    jobs.append(("Schema", {"name": "drizzle", "database": "plugin_db", "owner": "usr"}))
    jobs += [("Grant", {"role": "grp", "database": "plugin_db", **ALL_ON_TABLES})] * 2
    jobs += [
        ("DefaultPrivileges", {"role": "grp", "owner": owner, "database": "plugin_db", **ALL_ON_TABLES})
        for owner in ("managed", "usr", "managed", "usr")
    ]

    def made(job: tuple[str, Props]) -> str:
        kind, inputs = job
        try:
            return engine.create(kind, **inputs).id
        except Failed as failed:
            return str(failed)

    with ThreadPoolExecutor(len(jobs)) as threads:
        rounds = (list(threads.map(made, jobs)) for _ in range(10))
        assert any("could not get advisory lock" in told and "deadlock detected" in told for each in rounds for told in each)


def test_no_privileges_for_public_revoke_and_a_delete_gives_nothing_back(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin("managed")
    engine.create("Role", name="grp")
    engine.create("Database", name="plugin_db")
    may = "SELECT has_database_privilege('grp', 'plugin_db', 'CONNECT')"
    assert one(recorded_server, may)
    grant = engine.create("Grant", role="public", database="plugin_db", objectType="database", privileges=[])
    assert not one(recorded_server, may)
    engine.delete(grant)
    assert not one(recorded_server, may)


def test_a_replaced_grant_is_deleted_first(as_admin: Callable[..., Engine]) -> None:
    engine = as_admin()
    engine.create("Role", name="grp")
    engine.create("Database", name="plugin_db")
    usage: Props = {"database": "plugin_db", "objectType": "schema", "schema": "public", "privileges": ["USAGE"]}
    grant = engine.create("Grant", role="grp", **usage)
    found = engine.diff(grant, role="public", **usage)
    assert found["replaces"] == ["role"]
    assert found["deleteBeforeReplace"] is True
    assert found["detailedDiff"] == {"role": {"kind": "UPDATE_REPLACE"}}


@ADMINS
def test_default_privileges_are_those_of_the_creator(admin: str, as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin(admin)
    engine.create("Role", name="grp")
    engine.create("Role", name="usr", login=True, password="secret")
    engine.create("Database", name="plugin_db", owner="usr")
    for owner in ("usr", admin):
        last = engine.create("DefaultPrivileges", role="grp", database="plugin_db", owner=owner, **ALL_ON_TABLES)
    with login(recorded_server, "plugin_db") as connection:
        connection.execute("CREATE TABLE t (a int)")
    assert one(recorded_server, "SELECT has_table_privilege('grp', 't', 'INSERT')", database="plugin_db")
    refreshed = engine.refresh(last)
    assert refreshed is not None
    assert engine.diff(refreshed)["changes"] == "DIFF_NONE"
    fewer = engine.update(refreshed, role="grp", database="plugin_db", owner=admin, **{**ALL_ON_TABLES, "privileges": ["SELECT"]})
    assert fewer.outputs["privileges"] == ["SELECT"]
    engine.delete(fewer)
    assert engine.refresh(fewer) is None


def test_default_privileges_that_the_server_does_not_store_are_an_error(as_admin: Callable[..., Engine]) -> None:
    engine = as_admin()
    engine.create("Role", name="usr")
    engine.create("Database", name="plugin_db")
    with pytest.raises(Failed, match="the server holds none"):
        engine.create(
            "DefaultPrivileges",
            role="usr",
            owner="usr",
            database="plugin_db",
            objectType="table",
            privileges=["ALL"],
        )


def test_a_superuser_setting_that_is_not_true_fails_after_the_role_was_made(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    with pytest.raises(Failed, match=r"could not read role password.*`superuser = false`"):
        as_admin("managed", superuser="true").create("Role", name="usr", login=True, password="secret")
    assert one(recorded_server, "SELECT count(*) FROM pg_roles WHERE rolname = 'usr'") == 1


def test_passwords_are_stored_as_given_and_a_backslash_doubled(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin()
    role = engine.create("Role", name="usr", login=True, password=VERIFIER)
    assert one(recorded_server, "SELECT rolpassword FROM pg_authid WHERE rolname = 'usr'") == VERIFIER
    refreshed = engine.refresh(role)
    assert refreshed is not None
    assert engine.diff(refreshed)["changes"] == "DIFF_NONE"
    role = engine.update(role, name="usr", login=True, password="it's \\ odd")
    with login(recorded_server, password="it's \\\\ odd"):
        pass
    with recorded_server.connect() as connection:
        connection.execute("ALTER ROLE usr PASSWORD NULL")
    gone = engine.refresh(role)
    assert gone is not None
    assert gone.outputs["password"] is None
    assert engine.diff(gone, name="usr", login=True, password="new")["detailedDiff"] == {"password": {}}


def test_previews_need_no_server_and_other_calls_say_which_one_is_missing(as_admin: Callable[..., Engine]) -> None:
    engine = as_admin(port=str(free_port()), password="hidden-password")
    planned = engine.preview("Database", name="plugin_db", owner=UNKNOWN)
    assert planned["owner"] is UNKNOWN
    began = time.monotonic()
    with pytest.raises(Failed, match=r"could not connect to database 'postgres' on 127\.0\.0\.1:\d+ as 'postgres'") as e:
        engine.create("Role", name="usr")
    assert time.monotonic() - began < 10
    assert "hidden-password" not in str(e.value)


def test_a_wrong_password_is_told_without_any_of_it(as_admin: Callable[..., Engine]) -> None:
    with pytest.raises(Failed, match="password authentication failed") as caught:
        as_admin(password="wr0ng-password").create("Role", name="usr")
    assert "wr0ng" not in str(caught.value)


def test_a_statement_with_a_password_is_not_in_the_error(as_admin: Callable[..., Engine]) -> None:
    engine = as_admin()
    with pytest.raises(Failed, match="invalid input syntax for type timestamp") as caught:
        engine.create("Role", name="usr", password="very-secret-word", validUntil="very-secret-word")
    assert "very-secret-word" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_an_existing_role_and_database_are_not_taken_over_but_imported(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin()
    engine.create("Role", name="usr", login=True, connectionLimit=4)
    engine.create("Database", name="plugin_db", connectionLimit=9)
    engine.create("Schema", name="s.x", database="plugin_db", owner="usr")
    with pytest.raises(Failed, match='role "usr" already exists'):
        engine.create("Role", name="usr")
    with pytest.raises(Failed, match='database "plugin_db" already exists'):
        engine.create("Database", name="plugin_db")

    role = engine.import_("Role", "usr")
    assert role is not None
    assert role.inputs == {
        "name": "usr",
        "login": True,
        "connectionLimit": 4,
        "inherit": True,
        "validUntil": "infinity",
        "encryptedPassword": True,
        "__defaults": ["encryptedPassword", "inherit", "validUntil"],
    }
    assert engine.diff(role)["changes"] == "DIFF_NONE"
    database = engine.import_("Database", "plugin_db")
    assert database is not None
    assert database.outputs["template"] == "template0"
    assert engine.diff(database, name="plugin_db", connectionLimit=9)["changes"] == "DIFF_NONE"
    schema = engine.import_("Schema", "plugin_db.s.x")
    assert schema is not None
    assert engine.diff(schema, name="s.x", database="plugin_db", owner="usr")["changes"] == "DIFF_NONE"
    assert engine.import_("GrantRole", "usr_grp_false") is None
    assert engine.import_("Role", "nobody here") is None


def test_a_database_is_made_of_template0_and_replaced_by_what_cannot_change(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin()
    engine.create("Role", name="usr")
    database = engine.create("Database", name="plugin_db")
    assert (database.outputs["template"], database.outputs["encoding"]) == ("template0", "UTF8")
    assert database.outputs["owner"] == "postgres"
    found = engine.diff(database, name="plugin_db", encoding="SQL_ASCII")
    assert (found["replaces"], found["deleteBeforeReplace"]) == (["encoding"], True)
    changed = engine.update(database, name="plugin_db", owner="usr", connectionLimit=2, isTemplate=True)
    assert {changed.outputs[name] for name in ("owner", "connectionLimit")} == {"usr", 2}
    engine.delete(changed)  # a template is made an ordinary database first
    assert engine.refresh(changed) is None


@ADMINS
def test_a_schema_that_exists_is_taken_over_and_not_dropped_with_content(
    admin: str, as_admin: Callable[..., Engine], recorded_server: Server
) -> None:
    engine = as_admin(admin)
    engine.create("Role", name="usr", login=True, password="secret")
    engine.create("Database", name="plugin_db")
    with login(recorded_server, "plugin_db", admin, ADMIN_PASSWORD) as connection:
        connection.execute("CREATE SCHEMA drizzle")
        schema = engine.create("Schema", name="drizzle", database="plugin_db", owner="usr")
    with login(recorded_server, "plugin_db") as connection:
        connection.execute("CREATE TABLE drizzle.t (a int)")
        with pytest.raises(Failed, match="cannot drop schema drizzle because other objects depend on it"):
            engine.delete(schema)
        connection.execute("DROP TABLE drizzle.t")
    engine.delete(schema)
    assert engine.refresh(schema) is None
    engine.delete(schema)  # one that is gone already is no error


def test_names_are_data(as_admin: Callable[..., Engine], recorded_server: Server) -> None:
    engine = as_admin()
    name = 'o"dd; %s {} \\ name'
    try:
        role = engine.create("Role", name=name, login=True, password="secret")
        database = engine.create("Database", name=name, owner=name)
        grant = engine.create("Grant", role=name, database=name, **ALL_ON_TABLES)
        default = engine.create("DefaultPrivileges", role=name, owner="postgres", database=name, **ALL_ON_TABLES)
        schema = engine.create("Schema", name=name, database=name, owner=name)
        for made in (schema, default, grant, database, role):
            refreshed = engine.refresh(made)
            assert refreshed is not None
            assert engine.diff(refreshed)["changes"] == "DIFF_NONE"
            engine.delete(made)
    finally:
        with recorded_server.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


@pytest.mark.pg15
def test_a_managed_admin_of_postgresql_15_can_do_the_same(server15: Server, served: Served) -> None:
    drop_all(server15)
    with server15.connect() as connection:
        connection.execute("CREATE ROLE managed15 LOGIN CREATEROLE CREATEDB PASSWORD 'admin'")
    engine = Engine(
        served.clients["postgresql"],
        "postgresql",
        host="127.0.0.1",
        port=str(server15.port),
        username="managed15",
        password="admin",
        sslmode="disable",
        superuser="false",
    )
    try:
        made = [
            engine.create("Role", name="grp"),
            engine.create("Role", name="usr", login=True, password="secret", roles=["grp"]),
            engine.create("GrantRole", role="managed15", grantRole="usr"),
            engine.create("Database", name="plugin_db"),
            engine.create("Schema", name="drizzle", database="plugin_db", owner="usr"),
            engine.create("Grant", role="grp", database="plugin_db", **ALL_ON_TABLES),
            engine.create("DefaultPrivileges", role="grp", database="plugin_db", owner="usr", **ALL_ON_TABLES),
        ]
        for each in made:
            refreshed = engine.refresh(each)
            assert refreshed is not None
            assert engine.diff(refreshed)["changes"] == "DIFF_NONE", each
        with login(server15, "plugin_db"):
            for each in reversed(made):
                engine.delete(each)
    finally:
        drop_all(server15)
        with server15.connect() as connection:
            connection.execute("DROP OWNED BY managed15; DROP ROLE managed15")


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {"sslmode": "require"}),
        ({"sslmode": "disable"}, {"sslmode": "disable"}),
        ({"sslrootcert": "ca.pem"}, {"sslmode": "verify-ca", "sslrootcert": "ca.pem"}),
        ({"sslmode": "require", "sslrootcert": "system"}, {"sslmode": "verify-full", "sslrootcert": "system"}),
        (
            {"sslmode": "verify-full", "sslrootcert": "ca.pem", "clientcert": {"cert": "c", "key": "k"}},
            {"sslmode": "verify-full", "sslrootcert": "ca.pem", "sslcert": "c", "sslkey": "k"},
        ),
    ],
)
def test_tls_is_what_the_settings_say(settings: Props, options: Props, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    found = Reached.of(settings).options
    assert {name: value for name, value in found.items() if name.startswith("ssl")} == options


def test_an_encrypted_connection_is_wanted_where_nothing_is_said(as_admin: Callable[..., Engine]) -> None:
    with pytest.raises(Failed, match="SSL"):
        as_admin(sslmode="").create("Role", name="usr")


def test_settings_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PGHOST", "h"), ("PGPORT", "1"), ("PGUSER", "u"), ("PGSUPERUSER", "false")):
        monkeypatch.setenv(name, value)
    server = Reached.of({"host": "given"})
    assert (server.host, server.port, server.user, server.is_superuser) == ("given", 1, "u", False)
    assert Reached.of({"superuser": True}).is_superuser
