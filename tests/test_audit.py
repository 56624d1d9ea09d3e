"""The audit log: what a user does in the new database is in the server's log, and only its admin can change that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.database_settings import AUDIT, Module, audit, missing_privileges, reset_settings
from sandbox.postgres import Server

PASSWORD = "audited"
# Modules that every server has, in the place of pgaudit: one that logs, and some extension.
LOADED = Module("hstore", "auto_explain.log_format", "json")


@pytest.fixture
def target(server: Server, database: str, new_role: Callable[..., str]) -> Iterator[Endpoint]:
    """A database of a plain CREATEROLE CREATEDB admin that may set what it was granted."""
    admin = new_role("managed", "CREATEROLE CREATEDB", password=PASSWORD)
    with server.connect() as root:
        root.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), sql.Identifier(admin)))
    yield Endpoint("127.0.0.1", server.port, database, admin, PASSWORD, sslmode="disable")
    with server.connect() as root:
        root.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(database)))


def let_set(server: Server, target: Endpoint, *names: str) -> None:
    with server.connect() as root:
        for name in names:
            parameter = sql.SQL(".").join(map(sql.Identifier, name.split(".")))
            root.execute(sql.SQL("GRANT SET ON PARAMETER {} TO {}").format(parameter, sql.Identifier(target.user)))


def own_settings(server: Server, target: Endpoint) -> list[str]:
    with server.connect() as root:
        row = root.execute(
            "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s AND setrole = 0",
            [target.database],
        ).fetchone()
    return list(row[0]) if row else []


def logged(server: Server, mark: str) -> bool:
    return mark in server.log_path.read_text(errors="replace")


def test_what_a_user_says_is_in_the_log_and_what_is_said_elsewhere_is_not(
    server: Server, target: Endpoint, new_role: Callable[..., str]
) -> None:
    let_set(server, target, "log_statement")
    user = new_role("user", password=PASSWORD)
    assert audit(target, AUDIT).warnings == ()
    with server.connect(target.database, user, PASSWORD) as connection:
        connection.execute("SELECT 'by-the-user-%'")
        connection.execute("SELECT %s", ["a-parameter-of-the-user"])
    with server.connect("postgres", target.user, PASSWORD) as connection:
        connection.execute("SELECT 'by-the-admin-elsewhere'")
    assert logged(server, f"{user}@{target.database} LOG:  statement: SELECT 'by-the-user-%'")
    assert logged(server, "a-parameter-of-the-user")
    assert not logged(server, "by-the-admin-elsewhere")


def test_the_user_cannot_switch_it_off(server: Server, target: Endpoint, new_role: Callable[..., str]) -> None:
    let_set(server, target, "log_statement")
    user = new_role("user", password=PASSWORD)
    audit(target, AUDIT)
    names = {"database": sql.Identifier(target.database), "user": sql.Identifier(user)}
    with server.connect(target.database, user, PASSWORD) as connection:
        for statement in (
            "SET log_statement = 'none'",
            "SET LOCAL log_statement = 'none'",
            "SELECT set_config('log_statement', 'none', false)",
            "UPDATE pg_settings SET setting = 'none' WHERE name = 'log_statement'",
            "ALTER DATABASE {database} SET log_statement = 'none'",
            "ALTER DATABASE {database} RESET ALL",
            "ALTER ROLE {user} SET log_statement = 'none'",
            "ALTER ROLE {user} IN DATABASE {database} SET log_statement = 'none'",
            "ALTER SYSTEM SET log_statement = 'none'",
            "GRANT SET ON PARAMETER log_statement TO {user}",
            "SET log_min_messages = 'panic'",
            "CREATE FUNCTION pg_temp.quiet() RETURNS int LANGUAGE sql SET log_statement = 'none' AS 'SELECT 1'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql.SQL(statement).format(**names))
        connection.execute("RESET ALL")
        assert connection.execute("SHOW log_statement").fetchone() == ("all",)
    # With the start-up packet neither.
    with pytest.raises(psycopg.OperationalError, match="permission denied to set parameter"):
        psycopg.connect(server.url(target.database, user, PASSWORD), options="-c log_statement=none")


def test_it_is_taken_back_where_the_database_stays(server: Server, target: Endpoint) -> None:
    let_set(server, target, "log_statement")
    done = audit(target, AUDIT)
    assert own_settings(server, target) == ["log_statement=all"]
    reset_settings(target, done.settings, extension=done.extension)
    assert own_settings(server, target) == []


def test_what_is_not_allowed_is_foreseen_with_the_statement_that_helps(server: Server, target: Endpoint) -> None:
    with target.with_database("postgres").connect() as connection:
        [foreseen] = missing_privileges(connection, target.database, AUDIT)
    [warning] = audit(target, AUDIT).warnings
    assert own_settings(server, target) == []
    statement = foreseen.split("for: ")[1]
    assert warning.endswith(statement)
    with server.connect() as root:
        root.execute(statement.encode())
    with target.with_database("postgres").connect() as connection:
        assert missing_privileges(connection, target.database, AUDIT) == []
    assert audit(target, AUDIT).warnings == ()
    assert own_settings(server, target) == ["log_statement=all"]


def test_what_was_set_by_somebody_else_is_not_missed(server: Server, target: Endpoint) -> None:
    with server.connect() as root:
        root.execute(sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(sql.Identifier(target.database)))
    with target.with_database("postgres").connect() as connection:
        assert missing_privileges(connection, target.database, AUDIT) == []


def test_what_only_the_server_can_be_told_is_advised(server: Server, target: Endpoint, new_role: Callable[..., str]) -> None:
    role = new_role("quiet", password=PASSWORD)
    with server.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {} SET log_statement = 'none'").format(sql.Identifier(role)))
    advice = audit(target, AUDIT).advice
    assert any("set log_connections = 'on'" in line for line in advice)
    assert any("set log_disconnections = 'on'" in line for line in advice)
    assert not any("log_line_prefix" in line for line in advice)
    [line] = [line for line in advice if role in line]
    with server.connect() as root:
        root.execute(line.split("database's: ")[1].encode())
    assert not [line for line in audit(target, AUDIT).advice if role in line]


class TestAModuleThatLogsMore:
    """pgaudit, where a server has it; here one that every server has stands for it."""

    @pytest.fixture
    def loaded(self, server: Server, target: Endpoint) -> Endpoint:
        with server.connect() as root:
            library = LOADED.setting.split(".", maxsplit=1)[0]
            root.execute(
                sql.SQL("ALTER DATABASE {} SET session_preload_libraries = {}").format(sql.Identifier(target.database), sql.Literal(library))
            )
        let_set(server, target, "log_statement", LOADED.setting)
        return target

    def test_loaded_it_is_switched_on_and_off_again(self, server: Server, loaded: Endpoint) -> None:
        done = audit(loaded, AUDIT, module=LOADED)
        assert (done.warnings, done.extension) == ((), LOADED.extension)
        assert done.settings == ("log_statement", LOADED.setting)
        assert f"{LOADED.setting}={LOADED.value}" in own_settings(server, loaded)
        again = audit(loaded, AUDIT, module=LOADED, had=done.extension)
        assert again.extension == LOADED.extension
        reset_settings(loaded, again.settings, extension=again.extension)
        assert own_settings(server, loaded) == ["session_preload_libraries=auto_explain"]
        with loaded.connect() as connection:
            assert connection.execute("SELECT 1 FROM pg_extension WHERE extname = %s", [LOADED.extension]).fetchone() is None

    def test_an_extension_for_superusers_is_asked_for_and_the_run_goes_on(self, server: Server, loaded: Endpoint) -> None:
        done = audit(loaded, AUDIT, module=Module("pageinspect", LOADED.setting, LOADED.value))
        assert LOADED.setting in done.settings
        [warning] = done.warnings
        assert f'CREATE EXTENSION "pageinspect" in database "{loaded.database}"' in warning
        assert done.extension == ""

    def test_installed_and_not_loaded_it_is_advised(self, server: Server, target: Endpoint) -> None:
        let_set(server, target, "log_statement")
        done = audit(target, AUDIT, module=LOADED)
        assert done.settings == ("log_statement",)
        assert any(f"{LOADED.extension} is installed on the server, but not loaded" in line for line in done.advice)

    def test_where_it_is_not_installed_nothing_is_said_of_it(self, server: Server, target: Endpoint) -> None:
        let_set(server, target, "log_statement")
        done = audit(target, AUDIT, module=Module("no_such_extension", "no_such.setting", "x"))
        assert not any("no_such" in line for line in (*done.advice, *done.warnings, *done.settings))
