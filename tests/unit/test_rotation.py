"""Logins take turns, and the one whose turn is over loses its password and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from clarity_infra.reader import take_everything
from clarity_infra.rotation import Rotation, end_password
from sandbox.postgres import Server

PASSWORD = "of-a-login"


@pytest.mark.parametrize(
    ("revision", "current", "former", "revisions"),
    [(1, "user", "", (1, 0)), (2, "second", "user", (1, 2)), (3, "user", "second", (3, 2)), (8, "second", "user", (7, 8))],
)
def test_whose_turn_it_is(revision: int, current: str, former: str, revisions: tuple[int, int]) -> None:
    rotation = Rotation("user", "second", revision)
    assert (rotation.current, rotation.former) == (current, former)
    assert tuple(map(rotation.revision_of, rotation.logins)) == revisions
    assert rotation.has_second is (revision > 1)


def admin_of(server: Server, database: str, user: str = "postgres", password: str = "") -> Endpoint:
    return Endpoint("127.0.0.1", server.port, database, user, password or server.superuser_password, sslmode="disable")


def logs_in(server: Server, database: str, login: str) -> bool:
    try:
        server.connect(database, user=login, password=PASSWORD).close()
    except psycopg.OperationalError as error:
        assert "password authentication failed" in str(error)
        return False
    return True


def test_a_password_ends_and_a_session_does_not(server: Server, new_role: Callable[..., str], database: str) -> None:
    login, said = new_role("login", password=PASSWORD), list[str]()
    with server.connect(database, user=login, password=PASSWORD) as session:
        for _ in range(2):
            assert end_password(admin_of(server, database), login, grace=0, alive=lambda: True, progress=said.append) == 1
            assert not logs_in(server, database, login)
        assert session.execute("SELECT 1").fetchone() == (1,)
    assert said == []


def test_nothing_ends_once_whoever_wanted_it_is_gone(server: Server, new_role: Callable[..., str], database: str) -> None:
    login, answers, said = new_role("login", password=PASSWORD), iter((True, False)), list[str]()
    with pytest.raises(ClarityError, match="is gone"):
        end_password(admin_of(server, database), login, grace=5, alive=lambda: next(answers), progress=said.append)
    assert logs_in(server, database, login)
    assert said == [f'5 s until the password of "{login}" ends: pools and processes may still come with it']


def test_an_admin_that_may_not_is_told_what_to_ask_for(server: Server, new_role: Callable[..., str], database: str) -> None:
    login, weak = new_role("login", password=PASSWORD), new_role("weak", password=PASSWORD)
    with pytest.raises(ClarityError, match=f'ask for: ALTER ROLE "{login}" PASSWORD NULL'):
        end_password(admin_of(server, database, weak, PASSWORD), login, grace=0, alive=lambda: True, progress=lambda _: None)
    assert logs_in(server, database, login)


def test_a_reader_leaves_a_database_that_stays(server: Server, new_role: Callable[..., str], new_database: Callable[..., str]) -> None:
    """As an admin that is no superuser, who is not a member of the reader."""
    admin, database = new_role("managed", "CREATEROLE", password=PASSWORD), new_database()
    with server.connect(database) as root:
        root.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(database), sql.Identifier(admin)))
    with server.connect(database, user=admin, password=PASSWORD) as connection:
        connection.execute(f"CREATE ROLE reader_of_{admin}")
        connection.execute("CREATE SCHEMA later CREATE TABLE later.things (i integer)")
        connection.execute(f"GRANT USAGE ON SCHEMA later TO reader_of_{admin}")
        connection.execute(f"GRANT SELECT ON later.things TO reader_of_{admin}")
        for _ in range(2):
            take_everything(admin_of(server, database, admin, PASSWORD), f"reader_of_{admin}")
        connection.execute(f"DROP ROLE reader_of_{admin}")
    take_everything(admin_of(server, database, admin, PASSWORD), f"reader_of_{admin}")
    take_everything(admin_of(server, "no_such_database", admin, PASSWORD), f"reader_of_{admin}")
