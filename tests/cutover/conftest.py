"""A scene: a move whose copy was made, by a plain CREATEROLE CREATEDB admin that is no superuser."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from clarity_infra.move import faults
from clarity_infra.move.copy import copy
from clarity_infra.move.journal import Journal
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.names import Name
from sandbox.postgres import Server
from tests.cutover.scene import Scene, build

_numbers = itertools.count(1)
_PASSWORD = "managed"


@pytest.fixture
def new_scene(server: Server, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Makes scenes: `new_scene()`; `new_scene(superuser=True)`; `new_scene(on=server15)`."""
    made: list[tuple[Server, str, str, tuple[str, str]]] = []

    def make(*, superuser: bool = False, on: Server | None = None) -> Scene:
        home, number = on or server, next(_numbers)
        admin, owner, source, target = (f"{part}_{number}" for part in ("admin", "app", "old", "clarity"))
        attributes = "SUPERUSER" if superuser else "CREATEROLE CREATEDB"
        with home.connect() as root:
            root.execute(f"CREATE ROLE {admin} LOGIN {attributes} PASSWORD '{_PASSWORD}'")
        with home.connect(user=admin, password=_PASSWORD, database="postgres") as connection:
            connection.execute(f"CREATE ROLE {owner} LOGIN PASSWORD '{_PASSWORD}'")
            if not superuser:
                connection.execute(f"GRANT {owner} TO {admin}")
            for database in (source, target):
                connection.execute(f"CREATE DATABASE {database} TEMPLATE template0")
        made.append((home, admin, owner, (source, target)))
        with home.connect(target, user=admin, password=_PASSWORD) as connection:
            connection.execute(f"GRANT CREATE ON SCHEMA public TO {owner}")
            connection.execute(f"GRANT CREATE ON DATABASE {target} TO {owner}")
        return build(home, source=source, target=target, admin=admin, password=_PASSWORD, owner=owner, folder=tmp_path / f"drizzle{number}")

    yield make
    for home, admin, owner, databases in made:
        with home.connect() as root:
            for database in databases:
                root.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            for role in (owner, admin):
                root.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
                root.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.fixture
def scene(new_scene: Callable[..., Scene]) -> Scene:
    """A scene on the embedded PostgreSQL 18 with a managed admin."""
    return new_scene()


@pytest.fixture
def copied_scene(new_scene: Callable[..., Scene]) -> Callable[..., Scene]:
    """Makes scenes of other tables, by the copy itself: `copied_scene("CREATE TABLE public.t ...", "t")`; no migrations."""

    def make(structure: str, *tables: str, **more: Any) -> Scene:
        scene = new_scene(**more)
        scene.on_target("DROP OWNED BY CURRENT_USER CASCADE")
        with scene.move.target.connect() as target:
            Journal(target, scene.move.stack).forget()
            target.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(scene.move.owner)))
            target.execute(
                sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(*map(sql.Identifier, (scene.move.target.database, scene.move.owner)))
            )
        scene.on_source(structure)
        scene.move = dataclasses.replace(scene.move, tables=tuple(Name("public", table) for table in tables), tracking="none")
        scene.migrations = Migrations(None)
        copy(scene.move, run=uuid.uuid4(), progress=scene.said.append)
        return scene

    return make


@pytest.fixture(autouse=True)
def no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with a program that does not die; `monkeypatch` puts that back."""
    monkeypatch.setattr(faults, "fault", lambda _point: None)
