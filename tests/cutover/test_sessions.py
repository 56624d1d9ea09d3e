"""Whose sessions of the application may the admin end? Those of roles whose privileges it has, and what pg_signal_backend reaches."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from clarity_infra.move.queries import query
from sandbox.postgres import Server

PASSWORD = "role"
NAME = "Cloudflare Hyperdrive"
SIGNALS = ("pg_signal_backend", "pg_monitor")
"""What managed servers give their admins; without the second nobody sees by which application a session was opened."""


@pytest.fixture(params=[18, pytest.param(15, marks=pytest.mark.pg15)])
def home(request: pytest.FixtureRequest, server: Server) -> Server:
    return server if request.param == 18 else request.getfixturevalue("server15")


def session(home: Server, database: str, role: str | None = None) -> psycopg.Connection:
    url = home.url(database, role, PASSWORD) if role else home.url(database)
    return psycopg.connect(url, autocommit=True, application_name=NAME)


def lives(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize(("grants", "reaches"), [((), False), (("application",), True), (SIGNALS[:1], False), (SIGNALS, True)])
def test_sessions_within_reach_are_ended_and_no_others(
    grants: tuple[str, ...], reaches: bool, home: Server, new_role: Callable[..., str], new_database: Callable[..., str]
) -> None:
    admin, application = new_role("admin", "CREATEROLE", on=home), new_role("application", on=home)
    database = new_database("ended", on=home)
    with home.connect() as root:
        for grant in grants:
            name = sql.Identifier(application if grant == "application" else grant)
            root.execute(sql.SQL("GRANT {} TO {}").format(name, sql.Identifier(admin)))
    with session(home, database, application) as theirs, session(home, database) as of_the_superuser:
        with psycopg.connect(home.url(database, admin, PASSWORD), autocommit=True) as connection:
            row = connection.execute(query("crossing_end_sessions"), {"applications": [NAME], "users": []}).fetchone()
        assert row == (int(reaches),)
        assert (lives(theirs), lives(of_the_superuser)) == (not reaches, True)
