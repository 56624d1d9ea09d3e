"""What ALTER DATABASE and ALTER ROLE say of the old side is compared with the new one, and each statement that is given helps."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.session_settings import Login, differences
from sandbox.postgres import Server

SHOWN = "SELECT " + ", ".join(f"current_setting('{name}', true)" for name in ("TimeZone", "search_path", "statement_timeout", "my.own"))


@pytest.fixture
def sides(server: Server, new_role: Callable[..., str], new_database: Callable[..., str]) -> tuple[Login, Login]:
    """Databases are asked for last, so that they go first."""
    roles = new_role("old app", password="role"), new_role('new "app"', password="role")
    databases = new_database("old"), new_database('new "one"')
    admin = Endpoint("127.0.0.1", server.port, "postgres", "postgres", server.superuser_password, sslmode="disable")
    return Login(admin, databases[0], roles[0]), Login(admin, databases[1], roles[1])


def alter(login: Login, *settings: str) -> None:
    names = {"role": sql.Identifier(login.role), "database": sql.Identifier(login.database)}
    with login.admin.connect() as admin:
        for setting in settings:
            admin.execute(sql.SQL("ALTER " + setting).format(**names))


def shown(login: Login) -> tuple[str, ...]:
    endpoint = login.admin.with_login(login.role, "role").with_database(login.database)
    with psycopg.connect(endpoint.conninfo(options="")) as session:
        row = session.execute(SHOWN.encode()).fetchone()
        assert row is not None
        return row


def test_each_statement_makes_the_new_session_begin_as_the_old_one(sides: tuple[Login, Login]) -> None:
    old, new = sides
    alter(old, "DATABASE {database} SET TimeZone = 'Europe/Berlin'", "DATABASE {database} SET statement_timeout = '7s'")
    alter(old, "ROLE {role} SET statement_timeout = '8s'", """ROLE {role} IN DATABASE {database} SET search_path = app, "O'Neil", public""")
    alter(old, "DATABASE {database} SET my.own = 'it''s'", "DATABASE {database} SET log_min_duration_statement = 1")
    alter(new, "ROLE {role} SET TimeZone = 'Asia/Tokyo'", "DATABASE {database} SET statement_timeout = '1h'")
    found = differences(old, new)
    assert [line.split(" is ")[0].lower() for line in found] == ["my.own", "search_path", "statement_timeout", "timezone"]
    assert "and would be the default: ALTER DATABASE" in found[1] and "is '8s' and would be '1h'" in found[2] and "ALTER ROLE" in found[3]
    with new.admin.connect() as admin:
        for line in found:
            admin.execute(("ALTER " + line.split(": ALTER ")[1]).encode())
    assert differences(old, new) == []
    assert shown(new) == shown(old)


@pytest.mark.parametrize("setting", ["search_path = ''", 'search_path = "$user", public', "TimeZone = 'UTC'"])
def test_odd_values_can_be_typed_as_they_are_told(setting: str, sides: tuple[Login, Login]) -> None:
    old, new = sides
    alter(old, "ROLE {role} SET " + setting)
    [line] = differences(old, new)
    alter(new, line.split(": ALTER ")[1])
    assert differences(old, new) == []
    assert shown(new) == shown(old)


def test_the_configuration_of_another_server_is_compared_where_it_changes_what_is_stored(
    sides: tuple[Login, Login], server15: Server, new_database: Callable[..., str]
) -> None:
    old, _ = sides
    elsewhere = Endpoint("127.0.0.1", server15.port, "postgres", "postgres", server15.superuser_password, sslmode="disable")
    new = Login(elsewhere, new_database("elsewhere", on=server15), "nobody yet")
    with server15.connect() as root:
        root.execute("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'")
        root.execute("ALTER SYSTEM SET work_mem = '5MB'")
        root.execute("SELECT pg_reload_conf()")
    try:
        assert [line for line in differences(old, new) if line.startswith("TimeZone")]
        assert not [line for line in differences(old, new) if "work_mem" in line]
        alter(new, next(line for line in differences(old, new) if line.startswith("TimeZone")).split(": ALTER ")[1])
        assert differences(old, new) == []
    finally:
        with server15.connect() as root:
            root.execute("ALTER SYSTEM RESET ALL")
            root.execute("SELECT pg_reload_conf()")
