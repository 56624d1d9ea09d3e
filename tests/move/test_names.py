"""Names are data: the oddest ones there are, copied, cut over, carried back, cleaned up and restored. (With the engine: end_to_end.)"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.move.back import go_back
from clarity_infra.move.cleanup import clean_up, restore
from clarity_infra.move.copy import copy
from clarity_infra.move.cutover import cut_over
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from sandbox.postgres import Server
from tests import names
from tests.cutover.scene import FakeSwitch
from tests.names import ADMIN, APPLICATION, CHILD, KEEPER, PARENT, PASSWORD, SCHEMA, SOURCE, TARGET, USER


@pytest.fixture(params=[18, pytest.param(15, marks=pytest.mark.pg15)])
def home(request: pytest.FixtureRequest, server: Server) -> Iterator[Server]:
    """A server with the old database, and the new one as the provision leaves it."""
    made: Server = server if request.param == 18 else request.getfixturevalue("server15")
    names.make_source(made)
    target, user = sql.Identifier(TARGET), sql.Identifier(USER)
    with made.connect("postgres", ADMIN, PASSWORD) as admin:
        admin.execute(sql.SQL("CREATE ROLE {}").format(user))
        admin.execute(sql.SQL("GRANT {} TO {}").format(user, sql.Identifier(ADMIN)))
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(target))
    with made.connect(TARGET, ADMIN, PASSWORD) as admin:
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(target, user))
        admin.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(SCHEMA), user))
    yield made
    with made.connect() as root:
        for database in (SOURCE, TARGET):
            root.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
        for role in (USER, APPLICATION, KEEPER, ADMIN):
            root.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_copied_cut_over_carried_back_cleaned_up_and_restored(home: Server, tmp_path: Path) -> None:
    source, target = (Endpoint("127.0.0.1", home.port, database, ADMIN, PASSWORD, sslmode="disable") for database in (SOURCE, TARGET))
    move = Move("dev", source, target, USER, (Name(SCHEMA, PARENT), Name(SCHEMA, CHILD)), tracking="none")
    before, switch, run = names.access(home), FakeSwitch(), uuid.uuid4()
    said: list[str] = []

    def across() -> None:
        cut_over(move, switch, Migrations(None), run=uuid.uuid4(), lock_budget=30.0, alive=lambda: True, progress=said.append)

    def back() -> None:
        go_back(move, switch, run=uuid.uuid4(), lock_budget=30.0, alive=lambda: True, progress=said.append)

    copy(move, run=run, progress=said.append)
    across()
    with home.connect(SOURCE, APPLICATION, PASSWORD) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute(names.WRITES[-1])
    with home.connect(TARGET) as root:
        for statement in names.WRITES:
            root.execute(statement)
    now = {table: names.rows(home, TARGET, table) for table in (PARENT, CHILD)}
    back()
    assert {table: names.rows(home, SOURCE, table) for table in (PARENT, CHILD)} == now
    assert names.access(home) == before
    across()
    evidence = clean_up(move, run=run, backup=tmp_path / "backup", monitoring=timedelta(0), acknowledged=1, progress=said.append)
    assert names.access(home) == []
    restore(move, Path(evidence["backup"]), run=run, progress=said.append)
    back()
    assert {table: names.rows(home, SOURCE, table) for table in (PARENT, CHILD)} == now
    assert names.access(home) == before
    assert not [line for line in said if line.startswith("warning")]
    with home.connect(SOURCE, APPLICATION, PASSWORD) as connection:
        for statement in names.WRITES:
            connection.execute(statement)
