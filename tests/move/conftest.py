"""A source and an empty target, each on a server of its choice, with an admin as managed servers give one: no superuser."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.move.copy import copy
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from sandbox.postgres import Server

FOLDER = Path(__file__).parent
ADMIN_PASSWORD = "admin's password"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Scene:
    """One source, one target, and who acts on them. `admin` and `owner` exist on both servers."""

    source_server: Server
    target_server: Server
    source: str
    target: str
    admin: str
    owner: str

    def on_source(self, *, superuser: bool = False) -> psycopg.Connection[Any]:
        """A session in the source."""
        return self._session(self.source_server, self.source, superuser)

    def on_target(self, *, superuser: bool = False) -> psycopg.Connection[Any]:
        """A session in the target."""
        return self._session(self.target_server, self.target, superuser)

    def _session(self, server: Server, database: str, superuser: bool) -> psycopg.Connection[Any]:
        return server.connect(database) if superuser else server.connect(database, self.admin, ADMIN_PASSWORD)

    def endpoint(self, server: Server, database: str) -> Endpoint:
        """The admin's endpoint."""
        return Endpoint.from_url(server.url(database, self.admin, ADMIN_PASSWORD), name="TEST_URL")

    def move(self, *tables: str, **more: Any) -> Move:
        """The move of these tables."""
        return Move(
            stack="test",
            source=self.endpoint(self.source_server, self.source),
            target=self.endpoint(self.target_server, self.target),
            owner=self.owner,
            tables=tuple(Name.parse(table) for table in tables),
            **{"workers": 2, **more},
        )

    def copy(self, *tables: str, **more: Any) -> dict[str, Any]:
        """Copies these tables and returns the evidence."""
        return copy(self.move(*tables, **more), run=uuid.uuid4(), progress=lambda _: None)

    def run_source(self, statements: str) -> None:
        """Runs statements in the source as its admin; what an empty line divides is committed apart."""
        with self.on_source() as connection:
            for statement in statements.split("\n\n"):
                connection.execute(statement.encode())

    def make_hostile(self) -> None:
        """Settings of both databases that change how values print, how names resolve and how long anything may take."""
        for server, database in ((self.source_server, self.source), (self.target_server, self.target)):
            with server.connect() as superuser:
                for setting in HOSTILE_SETTINGS:
                    superuser.execute(sql.SQL("ALTER DATABASE {} SET {}").format(sql.Identifier(database), sql.SQL(setting)))


HOSTILE_SETTINGS = (
    "TimeZone = 'Asia/Kolkata'",
    "DateStyle = 'German, DMY'",
    "IntervalStyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "extra_float_digits = -5",
    "statement_timeout = '100ms'",
    "idle_in_transaction_session_timeout = '100ms'",
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'serializable'",
    "search_path = 'nowhere'",
    "lock_timeout = '100ms'",
    "xmlbinary = 'hex'",
    "row_security = on",
    "standard_conforming_strings = off",
    "quote_all_identifiers = on",
    "array_nulls = off",
    "transform_null_equals = on",
    "session_replication_role = replica",
    "check_function_bodies = on",
    "gin_fuzzy_search_limit = 1",
)


@contextlib.contextmanager
def make_scene(source: Server, target: Server, *, attributes: str = "CREATEDB CREATEROLE") -> Iterator[Scene]:
    """Makes databases and roles, and removes them."""
    number = next(_numbers)
    scene = Scene(source, target, f"move_source_{number}", f"move target {number}", f"move admin {number}", f"move_owner_{number}")
    servers = {id(server): server for server in (source, target)}.values()
    admin, owner = sql.Identifier(scene.admin), sql.Identifier(scene.owner)
    for server in servers:
        with server.connect() as superuser:
            superuser.execute(
                sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(
                    admin, sql.SQL(" ").join(map(sql.SQL, attributes.split())), sql.Literal(ADMIN_PASSWORD)
                )
            )
            superuser.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'owner'").format(owner))
            superuser.execute(sql.SQL("GRANT {} TO {}").format(owner, admin))
    with source.connect() as superuser:
        superuser.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(sql.Identifier(scene.source), admin))
    with target.connect() as superuser:
        superuser.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(sql.Identifier(scene.target), admin))
        superuser.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(scene.target), owner))
    with scene.on_target() as connection:
        connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(owner))
        connection.execute(sql.SQL("CREATE SCHEMA drizzle"))
        connection.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA drizzle TO {}").format(owner))
    try:
        yield scene
    finally:
        for server, database in ((source, scene.source), (target, scene.target)):
            with server.connect() as superuser:
                superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
        for server in servers:
            with server.connect() as superuser:
                for role in (admin, owner):
                    superuser.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
                    superuser.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture(scope="session", params=["18 to 18", "15 to 15", "15 to 18"])
def pair(request: pytest.FixtureRequest) -> tuple[Server, Server]:
    """Source and target server in every direction the tools allow."""
    versions = request.param.split(" to ")
    source, target = (request.getfixturevalue("server" if version == "18" else "server15") for version in versions)
    return source, target


@pytest.fixture
def scene(server: Server) -> Iterator[Scene]:
    """Empty source and target, both on the embedded server."""
    with make_scene(server, server) as made:
        yield made
