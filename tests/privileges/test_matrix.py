"""Who may do what in the new database, on PostgreSQL 18 and 15: made by the real program, tried by logging in and doing it.

The table of attempts is `attempts`; what an owner may do all the same is in `docs/security.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql

from sandbox.postgres import Server
from sandbox.source import NEIGHBOURS
from sandbox.stack import MANAGED_ADMIN, SOURCE_DATABASE, Sandbox
from tests.end_to_end.conftest import NewSandbox
from tests.privileges.attempts import NOT_THE_OWNER, NOT_THE_WRITER, OWNS, READS, REFUSED, WRITES, Attempt

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]

TARGET, OTHER = "clarity", "third"
USER, SECOND, ROLE, READER = "clarity_user", "clarity_user_2", "clarity_rw", "clarity_ro"
PASSWORD = "of-this-test"
LATER = (
    "CREATE SCHEMA later CREATE TABLE later.things (id serial PRIMARY KEY);"
    " CREATE FUNCTION public.guarded() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
    " CREATE FUNCTION public.guarded_write() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS"
    " 'UPDATE public.feature_requests SET title = title WHERE id = 1; SELECT 1::bigint'"
)
"""What a migration of later makes, as the application."""

ALONE = ("CREATE DATABASE", "DROP DATABASE", "ALTER SYSTEM", "CREATE TABLESPACE", "CREATE SUBSCRIPTION")
"""What PostgreSQL runs outside of a transaction only."""


@dataclass
class Scene:
    """A finished cut-over on one server, and a session of each login in each database, opened when it is asked for."""

    sandbox: Sandbox
    logins: dict[str, str]
    open: ExitStack
    names: dict[str, sql.Composable] = field(default_factory=dict)
    sessions: dict[tuple[str, str], psycopg.Connection[Any]] = field(default_factory=dict)

    def session(self, login: str, database: str) -> psycopg.Connection[Any]:
        name = {"target": TARGET, "source": SOURCE_DATABASE, "other": OTHER}[database]
        key = (login, name)
        if key not in self.sessions:
            url = self.sandbox.server.url(name, self.logins[login], PASSWORD)
            made = psycopg.connect(url, autocommit=True, connect_timeout=10, prepare_threshold=None)
            self.sessions[key] = self.open.enter_context(made)
            if login == ROLE and self.logins[login] != ROLE:
                made.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ROLE)))
        return self.sessions[key]

    def has(self, extension: str) -> bool:
        found = self.sandbox.psql(TARGET, f"SELECT 1 FROM pg_available_extensions WHERE name = '{extension}'")
        return not extension or bool(found)

    def came_of(self, login: str, attempt: Attempt) -> str | None:
        """The SQLSTATE of a refusal, None where the statement worked: it is then undone, if a transaction can undo it."""
        try:
            connection = self.session(login, attempt.database)
        except psycopg.OperationalError as error:
            assert "permission denied for database" in str(error), error
            return "42501"
        statement = sql.SQL(attempt.statement).format(**self.names)
        try:
            if attempt.statement.startswith(ALONE):
                _run(connection, statement)
            else:
                with connection.transaction(force_rollback=True):
                    _run(connection, statement)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    def wrong(self, login: str, attempts: tuple[Attempt, ...]) -> list[str]:
        tried = [attempt for attempt in attempts if self.has(attempt.extension)]
        found = [(attempt, self.came_of(login, attempt)) for attempt in tried]
        return [f"{attempt.what}: {came or 'worked'} ({attempt.statement})" for attempt, came in found if came != attempt.sqlstate]


def _run(connection: psycopg.Connection[Any], statement: sql.Composed) -> None:
    if statement.as_string(connection).endswith("TO STDOUT"):
        with connection.cursor().copy(statement) as rows:
            assert sum(1 for _ in rows)
    else:
        connection.execute(statement)


def _scene(sandbox: Sandbox, stack: ExitStack, *, log_in_as_role: bool) -> Scene:
    """The second login is the application's at this revision; the others are given passwords, as their own ended or never were."""
    sandbox.climb("cutover")
    admin = stack.enter_context(psycopg.connect(sandbox.admin_url, autocommit=True))
    with sandbox.server.connect() as root:
        root.execute(sql.SQL("CREATE ROLE reader LOGIN PASSWORD {} IN ROLE {}").format(sql.Literal(PASSWORD), sql.Identifier(READER)))
        root.execute("CREATE ROLE outsider")
        root.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(OTHER)))
        for login in (USER, SECOND, *([ROLE] if log_in_as_role else [])):
            root.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(login), sql.Literal(PASSWORD)))
    sandbox.psql(OTHER, "CREATE TABLE public.theirs (i integer)")
    sandbox.psql(TARGET, LATER, url=sandbox.server.url(TARGET, SECOND, PASSWORD))
    with psycopg.connect(sandbox.admin_url, autocommit=True, dbname=TARGET) as connection:
        connection.execute("GRANT CREATE ON SCHEMA public TO CURRENT_USER")
        connection.execute("CREATE TABLE public.of_the_admin (id integer GENERATED ALWAYS AS IDENTITY)")
    logins = {"user": USER, "second": SECOND, ROLE: ROLE if log_in_as_role else USER, "reader": "reader"}
    names = {
        **{key: sql.Identifier(name) for key, name in (("target", TARGET), ("other", OTHER), ("role", ROLE), ("outsider", "outsider"))},
        "neighbour": sql.Identifier(*NEIGHBOURS[0].split(".")),
        "admin": sql.Identifier(admin.info.user),
        "admin_pid": sql.Literal(admin.info.backend_pid),
    }
    return Scene(sandbox, logins, stack, names)


@pytest.fixture(scope="module")
def scene18(new_sandbox: NewSandbox) -> Iterator[Scene]:
    """PostgreSQL 18, an admin that is no superuser, a role that cannot log in: it is taken by SET ROLE."""
    config = {"readOnlyRole": READER, "passwordRevision": 2}
    with ExitStack() as stack:
        yield _scene(new_sandbox(superuser=False, config=config), stack, log_in_as_role=False)


@pytest.fixture(scope="module")
def scene15(server15: Server, new_sandbox: NewSandbox) -> Iterator[Scene]:
    """PostgreSQL 15, a superuser, a role that logs in by itself."""
    config = {"readOnlyRole": READER, "passwordRevision": 2, "readWriteRoleLogin": True}
    with ExitStack() as stack:
        yield _scene(new_sandbox(bindir=server15.bindir, config=config), stack, log_in_as_role=True)


@pytest.fixture(params=[pytest.param("scene18", id="18"), pytest.param("scene15", id="15", marks=pytest.mark.pg15)])
def scene(request: pytest.FixtureRequest) -> Scene:
    found: Scene = request.getfixturevalue(request.param)
    return found


def test_the_scene_is_what_it_says(scene: Scene) -> None:
    for login, current in (("user", USER), ("second", USER), (ROLE, ROLE), ("reader", "reader")):
        assert scene.session(login, "target").execute("SELECT current_user::text").fetchone() == (current,)
    managed = scene.names["admin"] == sql.Identifier(MANAGED_ADMIN)
    superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = %s"
    with psycopg.connect(scene.sandbox.admin_url) as admin:
        assert admin.execute(superuser, (admin.info.user,)).fetchone() == (not managed,)
    assert len(REFUSED) >= 90


@pytest.mark.parametrize("login", ["user", "second", ROLE, "reader"])
def test_what_nobody_but_an_admin_may_do(scene: Scene, login: str) -> None:
    assert scene.wrong(login, REFUSED) == []


@pytest.mark.parametrize(("login", "attempts"), [(ROLE, NOT_THE_OWNER), ("reader", NOT_THE_OWNER), ("reader", NOT_THE_WRITER)])
def test_what_the_roles_that_own_nothing_may_not_do(scene: Scene, login: str, attempts: tuple[Attempt, ...]) -> None:
    assert scene.wrong(login, attempts) == []


@pytest.mark.parametrize(
    ("login", "attempts"),
    [("user", READS + WRITES + OWNS), ("second", READS + WRITES + OWNS), (ROLE, READS + WRITES), ("reader", READS)],
    ids=["user", "second", "role", "reader"],
)
def test_what_each_must_be_able_to_do(scene: Scene, login: str, attempts: tuple[Attempt, ...]) -> None:
    assert scene.wrong(login, attempts) == []


@pytest.mark.parametrize("login", ["user", "second"])
def test_the_audit_log_cannot_be_switched_off_while_logging_in(scene: Scene, login: str) -> None:
    url = scene.sandbox.server.url(TARGET, scene.logins[login], PASSWORD)
    with pytest.raises(psycopg.OperationalError, match='permission denied to set parameter "log_statement"'):
        psycopg.connect(url, options="-c log_statement=none")


def test_a_grant_that_it_may_not_make_changes_nothing(scene: Scene) -> None:
    """The server warns and goes on, so what is there afterwards is asked."""
    connection = scene.session("user", "target")
    connection.execute(sql.SQL("GRANT ALL ON DATABASE {} TO PUBLIC").format(sql.Identifier(TARGET)))
    public = "SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = current_database() AND grantee = 0"
    assert connection.execute(public).fetchone() == (0,)


def test_an_audit_line_is_written_of_the_application(scene: Scene) -> None:
    """Where the admin is a superuser the audit log is on, and has what the second login does."""
    (setting,) = scene.session("second", "target").execute("SHOW log_statement").fetchone() or ("",)
    scene.session("second", "target").execute("SELECT 'a line for the log'")
    logged = "a line for the log" in scene.sandbox.server.log_path.read_text(errors="replace")
    assert (setting, logged) in (("all", True), ("none", False))
