"""What the admin lacks is told before anything is made, with the statement that helps; so is a server that refuses a password's form."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pulumi.dynamic import ConfigureRequest
from pulumi.dynamic.config import Config

from clarity_infra import admin, scram
from clarity_infra.connection import Endpoint
from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.move.survey import survey
from clarity_infra.resources.claim import ClaimProvider
from clarity_infra.review import review
from clarity_infra.settings import PROJECT, Settings
from sandbox.postgres import UNLOGGED_SPEED, Server

PASSWORD = "of-the-admin"


@pytest.fixture(params=[18, pytest.param(15, marks=pytest.mark.pg15)])
def home(request: pytest.FixtureRequest, server: Server) -> Server:
    return server if request.param == 18 else request.getfixturevalue("server15")


@pytest.fixture
def poor(home: Server, new_role: Callable[..., str], new_database: Callable[..., str]) -> Iterator[Endpoint]:
    """An admin that may do nothing but own the tables of a source."""
    role = new_role('poor "admin"', password=PASSWORD, on=home)
    source = new_database("source", on=home)
    with home.connect(source) as root:
        root.execute(
            sql.SQL(
                "CREATE TABLE public.one (id int PRIMARY KEY); ALTER TABLE public.one OWNER TO {0}; GRANT CREATE ON DATABASE {1} TO {0}"
            ).format(sql.Identifier(role), sql.Identifier(source))
        )
    yield Endpoint("127.0.0.1", home.port, source, role, PASSWORD, sslmode="disable")


def settings(endpoint: Endpoint, more: Mapping[str, Any] | None = None) -> Settings:
    values = {
        "masterDatabaseUrl": endpoint.url(),
        "envFile": "",
        "tables": '["one"]',
        "trackingTable": "none",
        "auditLog": False,
        "database": f"new_{endpoint.database}",
        "user": f"user_{endpoint.database}",
        "readWriteRole": f"rw_{endpoint.database}",
        **(more or {}),
    }
    return Settings.read("dev", values.get, environment={}, folder=Path.cwd())


def asked(endpoint: Endpoint, more: Mapping[str, Any] | None = None) -> list[str]:
    with pytest.raises(Refused, match="may not make what is to be made") as raised:
        review(settings(endpoint, more), preview=True)
    return str(raised.value).split("ask a superuser for: ")[1].split("; ")


def test_each_statement_that_is_asked_for_is_the_one_that_helps(home: Server, poor: Endpoint) -> None:
    statements = asked(poor)
    assert [statement.rsplit(" ", 1)[1] for statement in statements] == ["CREATEROLE", "CREATEDB"]
    with home.connect() as root:
        for statement in statements:
            root.execute(statement.encode())
    assert review(settings(poor), preview=True).stage == ""


@pytest.mark.parametrize(
    ("setting", "refusal"),
    [
        ("SET role = {group}", "act as .*cannot work with"),
        ("IN DATABASE {source} SET role = {group}", "act as .*cannot work with"),
        ("SET default_transaction_read_only = on", "are read-only from the start"),
    ],
)
def test_settings_that_make_its_sessions_unfit_are_told_before_anything_is_made(
    setting: str, refusal: str, home: Server, poor: Endpoint, new_role: Callable[..., str]
) -> None:
    group = new_role("group", on=home)
    names = {"admin": sql.Identifier(poor.user), "group": sql.Identifier(group), "source": sql.Identifier(poor.database)}
    with home.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {admin} CREATEROLE CREATEDB; GRANT {group} TO {admin}").format(**names))
        root.execute(sql.SQL("ALTER ROLE {admin} " + setting).format(**names))
    with pytest.raises(Refused, match=refusal) as raised:
        review(settings(poor), preview=True)
    assert "Nothing was changed." in str(raised.value)
    with home.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {admin} RESET ALL; ALTER ROLE {admin} IN DATABASE {source} RESET ALL").format(**names))
    assert review(settings(poor), preview=True).stage == ""


@pytest.mark.parametrize("where", ["ROLE {admin}", "ROLE {admin} IN DATABASE {source}", "DATABASE {source}"])
def test_timeouts_that_would_end_the_plugin_s_sessions_are_told_with_what_helps(where: str, home: Server, poor: Endpoint) -> None:
    """Our own sessions do without; a database that the plugin could not drop is left, and lets nobody in."""
    names = {"admin": sql.Identifier(poor.user), "source": sql.Identifier(poor.database)}
    with home.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {admin} CREATEROLE CREATEDB").format(**names))
        assert not [text for text in review(settings(poor), preview=True).warnings if "plugin" in text]
        for setting in ("statement_timeout = '2s'", "idle_in_transaction_session_timeout = '200ms'", "lock_timeout = '1min'"):
            root.execute(sql.SQL(f"ALTER {where} SET {setting}").format(**names))
    (told,) = [text for text in review(settings(poor), preview=True).warnings if "plugin" in text]
    assert "begin with statement_timeout = 2000 ms, idle_in_transaction_session_timeout = 200 ms." in told
    helps = [part.removeprefix("ALTER ROLE").strip() for part in told.split("as that user: ")[1].split(" (where")[0].split("; ")]
    with psycopg.connect(poor.conninfo(), autocommit=True) as own:
        for part in helps:
            target = sql.SQL("{admin} IN DATABASE {source}").format(**names) if "IN DATABASE" in where else sql.SQL("{admin}").format(**names)
            own.execute(sql.SQL("ALTER ROLE {} SET {}").format(target, sql.SQL(part.split(" SET ")[1])))
    assert not [text for text in review(settings(poor), preview=True).warnings if "plugin" in text]


def test_what_exists_must_be_the_admins_to_change(
    home: Server, poor: Endpoint, new_database: Callable[..., str], new_role: Callable[..., str]
) -> None:
    names = {"adoptExisting": True, "grantAllData": True, "database": new_database("theirs", on=home), "user": new_role('their "one"', on=home)}
    with home.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {} CREATEROLE CREATEDB").format(sql.Identifier(poor.user)))
    statements = asked(poor, names)
    assert any(statement.startswith("ALTER DATABASE") for statement in statements)
    with home.connect() as root:
        if root.info.server_version >= 160000:
            assert len(statements) == 3
        for statement in statements:
            root.execute(statement.encode())
        assert review(settings(poor, names), preview=True).stage in ("", "provision")
        root.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(str(names["database"]))))


def test_a_role_that_is_there_reaches_every_table_only_where_the_admin_may_let_it(
    home: Server, poor: Endpoint, new_database: Callable[..., str], new_role: Callable[..., str]
) -> None:
    """As where grantAllData is set after the stage that made the roles."""
    database, role = new_database("made", on=home), new_role("reaching", on=home)
    names = {"grantAllData": True, "database": database, "readWriteRole": role}
    made = {"admin": sql.Identifier(poor.user), "database": sql.Identifier(database), "role": sql.Identifier(role)}
    with home.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {admin} CREATEROLE CREATEDB; ALTER DATABASE {database} OWNER TO {admin}").format(**made))
        if root.info.server_version >= 160000:
            [statement] = asked(poor, names)
            assert statement.startswith("GRANT pg_read_all_data, pg_write_all_data TO ")
            root.execute(sql.SQL("GRANT pg_read_all_data TO {role}").format(**made))
            assert asked(poor, names) == [statement]
            root.execute(sql.SQL("GRANT pg_write_all_data TO {role}").format(**made))
        assert review(settings(poor, names), preview=True).stage == "provision"
        root.execute(sql.SQL("ALTER DATABASE {database} OWNER TO postgres").format(**made))


def test_a_superuser_lacks_nothing(server: Server) -> None:
    with server.connect() as root:
        assert admin.lacking(root, database="postgres", roles=["postgres"], all_data=True) == []


def test_a_server_that_takes_verifiers_is_left_as_it_was(server: Server) -> None:
    endpoint = Endpoint("127.0.0.1", server.port, "postgres", "postgres", server.superuser_password, sslmode="disable")
    admin.check_verifier(endpoint)
    with server.connect() as root:
        assert root.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE 'clarity_infra_probe%'").fetchone() is None


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """The contrib module passwordcheck refuses some verifiers, those of the role's own name: this makes the probe's one of them."""
    seen: list[str] = []
    original = scram.verifier

    def of_the_name(_: str, salt: str) -> str:
        return original(seen[-1], salt)

    def known(size: int) -> str:
        seen.append("clarity_infra_probe_" + "x" * size)
        return "x" * size

    monkeypatch.setattr("clarity_infra.admin.secrets.token_hex", known)
    monkeypatch.setattr(scram, "verifier", of_the_name)
    server = Server(tmp_path / "server", settings={**UNLOGGED_SPEED, "shared_preload_libraries": "passwordcheck"})
    try:
        server.start()
        yield Endpoint("127.0.0.1", server.port, "postgres", "postgres", server.superuser_password, sslmode="disable")
        with server.connect() as root:
            assert root.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE 'clarity_infra_probe%'").fetchone() is None
    finally:
        server.remove()


def test_a_server_that_refuses_verifiers_is_told_with_the_setting(refusing: Endpoint) -> None:
    with pytest.raises(ConfigurationError, match=r"refuses a password(?s:.)*passwordForm plain"):
        admin.check_verifier(refusing)
    with refusing.connect() as root:
        root.execute("CREATE TABLE public.one (id int PRIMARY KEY)")
    with pytest.raises(ConfigurationError, match="passwordForm plain"):
        review(settings(refusing), preview=False)
    assert review(settings(refusing, {"passwordForm": "plain"}), preview=False).stage == ""
    with refusing.connect() as root:
        root.execute("CREATE ROLE theirs")
    taken_over = {"user": "theirs", "adoptExisting": True}
    with pytest.raises(ConfigurationError, match="passwordForm plain"):
        review(settings(refusing, taken_over), preview=False)


def test_a_server_that_refuses_verifiers_is_told_at_the_preview_of_a_later_password(refusing: Endpoint) -> None:
    """The stack was made with passwordForm plain, or on a server that has changed since."""
    before = {"stack": "dev", "database": "clarity", "roles": ["clarity_rw", "clarity_user"], "passwordRevision": 1, "readWriteLogin": False}
    provider = ClaimProvider()
    raw = {f"{PROJECT}:masterDatabaseUrl": refusing.url(), f"{PROJECT}:envFile": ""}
    provider.configure(ConfigureRequest(config=Config(raw_config=raw, project_name=PROJECT)))
    del sys.tracebacklimit
    scram_, plain = {**before, "passwordForm": "scram"}, {**before, "passwordForm": "plain"}
    for olds, news in (
        (scram_, {**scram_, "passwordRevision": 2}),
        (plain, {**scram_, "passwordRevision": 2}),
        (plain, scram_),
        (scram_, {**scram_, "readWriteLogin": True}),
    ):
        [told] = provider.check(olds, news).failures
        assert told.property == "passwordForm"
        assert "refuses a password that is given as a SCRAM verifier" in told.reason and "passwordForm plain" in told.reason
    for olds, news in ((scram_, scram_), (plain, {**plain, "passwordRevision": 2}), (scram_, {**plain, "passwordRevision": 2})):
        assert provider.check(olds, news).failures == []


def test_a_server_without_a_database_named_postgres_serves_too(tmp_path: Path) -> None:
    """The database an admin is given has another name at some providers, and is then the only one."""
    server = Server(tmp_path / "server", settings=UNLOGGED_SPEED)
    try:
        server.start()
        with server.connect() as root:
            root.execute(sql.SQL("CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD {}").format(sql.Literal(PASSWORD)))
            root.execute("CREATE DATABASE defaultdb OWNER boss")
        with server.connect("defaultdb") as root:
            root.execute("CREATE TABLE public.one (id int PRIMARY KEY); ALTER TABLE public.one OWNER TO boss")
            root.execute("DROP DATABASE postgres WITH (FORCE)")
        boss = Endpoint("127.0.0.1", server.port, "defaultdb", "boss", PASSWORD, sslmode="disable")
        looked_at = settings(boss)
        assert review(looked_at, preview=True).stage == ""
        assert not survey(looked_at.move).target_exists
        assert not survey(dataclasses.replace(looked_at.move, maintenance="")).target_exists
    finally:
        server.remove()


def test_a_server_whose_rules_keep_the_new_database_s_logins_out_is_told_before_it_is_made(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", settings=UNLOGGED_SPEED)
    try:
        server.start()
        with server.connect() as root:
            root.execute(sql.SQL("CREATE ROLE boss LOGIN CREATEROLE CREATEDB PASSWORD {}").format(sql.Literal(PASSWORD)))
            root.execute("CREATE TABLE public.one (id int PRIMARY KEY); ALTER TABLE public.one OWNER TO boss")
        boss = Endpoint("127.0.0.1", server.port, "postgres", "boss", PASSWORD, sslmode="disable")

        def told(*rules: str) -> str:
            (server.data_path / "pg_hba.conf").write_text("".join(f"host {rule} 127.0.0.1/32 scram-sha-256\n" for rule in rules))
            server.stop()
            server.start()
            with pytest.raises(Refused, match=r"pg_hba\.conf") as raised:
                review(settings(boss), preview=True)
            assert "Nothing was changed." in str(raised.value) and PASSWORD not in str(raised.value)
            return str(raised.value)

        assert 'have the server admit "boss" to database "new_postgres"' in told("postgres all")
        assert 'have the server admit "user_postgres" to database "new_postgres"' in told("postgres all", "all boss")
        (server.data_path / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        server.stop()
        server.start()
        assert review(settings(boss), preview=True).stage == ""
    finally:
        server.remove()


def test_a_provider_that_is_known_to_refuse_them_is_warned_of() -> None:
    assert "passwordForm plain" in admin.verifier_warning(Endpoint("ep-x-1.eu-central-1.aws.neon.tech", 5432, "d", "u", "p"))
    assert admin.verifier_warning(Endpoint("db.example.com", 5432, "d", "u", "p")) == ""
