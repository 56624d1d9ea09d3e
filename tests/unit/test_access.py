"""The access check finds what is missing and what is too much, each by name; it leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg import sql

from clarity_infra.access import check_access
from clarity_infra.connection import Endpoint
from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.move.names import Name
from sandbox.postgres import Server

PASSWORD = "of-the-application"
TABLES = (Name("public", "things"), Name("drizzle", "__drizzle_migrations"))


@dataclass
class Scene:
    """The two databases as the stack makes them, for a user and a role of the test's own."""

    server: Server
    source: str
    target: str
    user: str
    role: str

    def endpoint(self, database: str, user: str = "postgres", password: str | None = None) -> Endpoint:
        secret = self.server.superuser_password if password is None else password
        return Endpoint("127.0.0.1", self.server.port, database, user, secret, sslmode="disable")

    def run(self, statement: str, database: str | None = None) -> None:
        """As the superuser; {user}, {role}, {target} are names."""
        names = {"user": self.user, "role": self.role, "target": self.target, "source": self.source}
        with self.server.connect(database or self.target) as admin:
            admin.execute(sql.SQL(statement).format(**{key: sql.Identifier(value) for key, value in names.items()}))

    def check(self, **other: object) -> dict[str, list[str]]:
        given = {"role": self.role, "tables": TABLES, **other}
        return check_access(
            self.endpoint(self.target, self.user, PASSWORD),
            self.endpoint(self.target),
            self.endpoint(self.source),
            **given,  # type: ignore[arg-type]
        )

    def wrong(self, **other: object) -> str:
        with pytest.raises(Refused) as raised:
            self.check(**other)
        assert "The application goes on with the database and the login it has." in str(raised.value)
        assert "What to do" in str(raised.value)
        assert PASSWORD not in str(raised.value)
        return str(raised.value)

    def objects(self) -> list[tuple[str, str]]:
        with self.server.connect(self.target) as admin:
            return admin.execute(
                "SELECT 'relation', oid::regclass::text FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'drizzle')"
                " UNION ALL SELECT 'type', oid::regtype::text FROM pg_type WHERE typnamespace = 'public'::regnamespace"
                " UNION ALL SELECT 'role', rolname::text FROM pg_roles UNION ALL SELECT 'database', datname::text FROM pg_database ORDER BY 1, 2"
            ).fetchall()


@pytest.fixture
def scene(server: Server, new_role: Callable[..., str], new_database: Callable[..., str]) -> Scene:
    """Databases are asked for last, so that they go first: the roles have privileges in them."""
    made = Scene(server, new_database("source"), new_database("target"), new_role("user", password=PASSWORD), new_role("rw"))
    made.run("ALTER ROLE {role} NOLOGIN")
    made.run("GRANT {role} TO {user}")
    made.run("REVOKE ALL ON DATABASE {target} FROM PUBLIC")
    made.run("GRANT CONNECT ON DATABASE {target} TO {role}")
    made.run("GRANT CREATE ON DATABASE {target} TO {user}")
    made.run("GRANT USAGE, CREATE ON SCHEMA public TO {role}")
    made.run("CREATE SCHEMA drizzle AUTHORIZATION {user}")
    made.run("CREATE TABLE public.things (id integer PRIMARY KEY, what text)")
    made.run("ALTER TABLE public.things OWNER TO {user}")
    made.run("CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)")
    made.run("ALTER TABLE drizzle.__drizzle_migrations OWNER TO {user}")
    made.run("CREATE TABLE public.theirs (id integer)", made.source)
    return made


def test_what_the_stack_makes_passes_and_nothing_is_left(scene: Scene) -> None:
    before = scene.objects()
    found = scene.check()
    assert "read public.things" in found["allowed"]
    assert "insert into drizzle.__drizzle_migrations" in found["allowed"]
    assert "create schema drizzle if it does not exist" in found["allowed"]
    for refused in ("create a role", "switch the audit log off", "become the admin", f"read tables of database {scene.source}"):
        assert refused in found["refused"]
    assert scene.objects() == before


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER TABLE public.things OWNER TO postgres", "it cannot read public.things"),
        ("REVOKE INSERT ON public.things FROM {user}", "it cannot insert into public.things"),
        ("REVOKE DELETE ON public.things FROM {user}", "it cannot delete rows of public.things"),
        ("REVOKE UPDATE ON public.things FROM {user}", "it cannot lock rows of public.things"),
        ("REVOKE CREATE ON DATABASE {target} FROM {user}", "it cannot create schema drizzle"),
        ("REVOKE CREATE ON SCHEMA public FROM {role}", "it cannot create a table in schema public"),
        ("ALTER SCHEMA drizzle OWNER TO postgres", "it cannot create a table in schema drizzle"),
        ("DROP TABLE public.things", "it cannot read public.things"),
    ],
)
def test_what_is_missing_is_found(scene: Scene, statement: str, message: str) -> None:
    scene.run(statement)
    assert message in scene.wrong()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("ALTER ROLE {user} CREATEROLE", "it can create a role"),
        ("ALTER DATABASE {target} OWNER TO {user}", "it can change the database's settings"),
        ("ALTER ROLE {user} SUPERUSER", "it can make itself a superuser"),
        ("GRANT SET ON PARAMETER log_statement TO {user}", "it can switch the audit log off"),
        ("GRANT SELECT ON pg_catalog.pg_authid TO {user}", "it can read password hashes"),
        ("GRANT {role} TO {user} WITH ADMIN OPTION", "it can grant its role to others"),
        ("GRANT pg_execute_server_program TO {user}", "it can run a program on the server"),
        ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO {user}", "it can read a file on the server"),
        ("GRANT SET ON PARAMETER session_replication_role TO {user}", "it can switch triggers off"),
        ("ALTER ROLE {user} CREATEDB", "it can create a database"),
        ("ALTER ROLE {user} BYPASSRLS", "it can bypass row security"),
        ("GRANT CONNECT ON DATABASE {target} TO PUBLIC", "everybody (PUBLIC) has CONNECT"),
        ("GRANT pg_read_server_files TO {user}", "it is a member of pg_read_server_files, which reaches beyond its database"),
        ("GRANT pg_read_all_data TO {role}", "it is a member of pg_read_all_data"),
        ("GRANT pg_signal_backend TO {user}", "it is a member of pg_signal_backend"),
        ("GRANT EXECUTE ON FUNCTION pg_catalog.lo_import(text) TO {user}", "it can read a file into a large object"),
        ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) TO {user}", "it can list the server's files"),
        ("GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO {user}", "it can reload the server's configuration"),
        ("ALTER ROLE {user} SET role TO {role}", "it acts as "),
    ],
)
def test_what_is_too_much_is_found(scene: Scene, statement: str, message: str) -> None:
    scene.run(statement)
    try:
        assert message in scene.wrong()
    finally:
        if "PARAMETER" in statement:
            scene.run(statement.replace("GRANT SET", "REVOKE SET").replace(" TO ", " FROM "))
        if "ALTER DATABASE" in statement:
            scene.run("ALTER DATABASE {target} OWNER TO postgres")
        if "ADMIN OPTION" in statement:
            scene.run("REVOKE ADMIN OPTION FOR {role} FROM {user}")


def test_a_login_that_acts_as_the_owner_passes(scene: Scene, new_role: Callable[..., str]) -> None:
    second = new_role("second", password=PASSWORD)
    scene.run(f"GRANT {{user}} TO {second}")
    owner, scene.user = scene.user, second
    assert f'it acts as "{second}", and what it makes would not belong to "{owner}"' in scene.wrong(owner=owner)
    scene.run(f"ALTER ROLE {{user}} SET role TO {owner}")
    assert "become the admin" in scene.check(owner=owner)["refused"]


def test_a_reader_that_cannot_read_or_can_write_is_found(scene: Scene, new_role: Callable[..., str]) -> None:
    reader = new_role("reader")
    assert f'"{reader}" cannot read public.things' in scene.wrong(reader=reader)
    scene.run(f"GRANT USAGE ON SCHEMA public, drizzle TO {reader}")
    scene.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public, drizzle TO {reader}")
    assert scene.check(reader=reader)["allowed"]
    scene.run(f"GRANT USAGE ON SEQUENCE drizzle.__drizzle_migrations_id_seq TO {reader}")
    assert f'"{reader}" can write to drizzle.__drizzle_migrations_id_seq' in scene.wrong(reader=reader)
    scene.run(f"GRANT TRUNCATE ON public.things TO {reader}")
    assert f'"{reader}" can write to public.things' in scene.wrong(reader=reader)


def test_tables_of_another_database_within_reach_are_found(scene: Scene) -> None:
    scene.run("GRANT SELECT ON public.theirs TO PUBLIC", scene.source)
    assert f"it can read tables of database {scene.source}: public.theirs" in scene.wrong()
    assert scene.check(own_database_only=False)["refused"]


def test_what_an_extension_brings_along_is_none_of_the_old_tables(scene: Scene) -> None:
    """pg_stat_statements, which most managed servers have, lets everybody read its views."""
    scene.run("CREATE EXTENSION pg_stat_statements", scene.source)
    assert f"read tables of database {scene.source}" in scene.check()["refused"]


@pytest.mark.parametrize(("extension", "refused"), [("dblink", False), ("postgres_fdw", False), ("file_fdw", True)])
def test_extensions_that_a_server_lets_everybody_make(scene: Scene, extension: str, refused: bool) -> None:
    """Neon's has dblink and postgres_fdw so: the admin cannot change it, so it is told and stops nothing. What reads files is another matter."""
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder) / "extension" / f"{extension}.control"
        control.parent.mkdir()
        control.write_text("default_version = '1.0'\ntrusted = true\n")
        control.with_name(f"{extension}--1.0.sql").touch()
        for path in (Path(folder), control.parent):
            path.chmod(0o755)
        scene.run(f"ALTER ROLE {{user}} SET extension_control_path = '{folder}:$system'")
        if refused:
            assert f"it can create extension {extension}" in scene.wrong()
            return
        found = scene.check()
    (advice,) = found["advice"]
    assert extension in advice and scene.user in advice and "only the server's operator" in advice
    assert "create an extension that leads out of the database" not in found["refused"]


def test_who_may_reach_all_data_by_configuration_reaches_it(scene: Scene) -> None:
    """grantAllData: pg_read_all_data reads the server's own tables too, the passwords' among them."""
    scene.run("GRANT pg_read_all_data, pg_write_all_data TO {role}")
    found = scene.check(own_database_only=False)
    assert "become the admin" in found["refused"]
    assert "read password hashes" not in found["refused"]
    assert "it can read password hashes" in scene.wrong()


def test_a_database_that_lets_nobody_in_is_refused_too(scene: Scene) -> None:
    scene.run("REVOKE CONNECT ON DATABASE {source} FROM PUBLIC")
    assert f"connect to database {scene.source}" in scene.check()["refused"]


def test_before_the_copy_there_are_no_tables_to_reach(scene: Scene) -> None:
    assert not any(what.startswith("read ") for what in scene.check(tables=())["allowed"])


def test_a_login_that_is_refused_is_told_without_the_password(scene: Scene) -> None:
    with pytest.raises(ConfigurationError, match="refused the password") as raised:
        check_access(
            scene.endpoint(scene.target, scene.user, "another-password"),
            scene.endpoint(scene.target),
            scene.endpoint(scene.source),
            role=scene.role,
            tables=TABLES,
        )
    assert "another-password" not in str(raised.value)
