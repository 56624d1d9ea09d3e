"""Does the digest see every bit of every column, wherever in a table it is, and only that?"""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.digest import Digest, digest
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from tests.move.conftest import Scene

# A type, a value, and values that some hash of the server takes for the same one: folded, scaled, of another sign, empty.
ALIKE = (
    ("bigint", "0", "4294967297", "-1"),
    ("bigint", "5", "-5", "NULL"),
    ("integer", "0", "1", "NULL"),
    ("numeric", "1.0", "1.00", "-1.0"),
    ("timestamp", "2000-01-01 00:00:00", "2000-01-01 01:11:34.967297", "1999-12-31 23:59:59.999999"),
    ("timestamptz", "2000-01-01 00:00:00+00", "2000-01-01 01:11:34.967297+00", "infinity"),
    ("text", "", "NULL", " "),
    ("jsonb", '{"a": 1.0}', '{"a": 1.00}', "null"),
    ("json", '{"a":1}', '{"a": 1}', "NULL"),
    ("double precision", "0", "-0", "NaN"),
    ("boolean", "false", "true", "NULL"),
    ("text[]", "{}", "{NULL}", "NULL"),
)
# So many that the last ones are past those which are hashed one by one.
REPEATED = 8


def table_of(connection: psycopg.Connection[Any], name: str) -> Table:
    (table,) = read_move_set(connection, [Name("public", name)]).tables
    return table


@pytest.fixture
def wide(scene: Scene) -> tuple[psycopg.Connection[Any], Table]:
    """A table of one row with each type again and again."""
    types = [row[0] for _ in range(REPEATED) for row in ALIKE]
    values = [None if row[1] == "NULL" else row[1] for _ in range(REPEATED) for row in ALIKE]
    columns = [sql.SQL("{} {}").format(sql.Identifier(f"c{number}"), sql.SQL(type_name)) for number, type_name in enumerate(types)]
    connection = scene.on_source()
    connection.execute(sql.SQL("CREATE TABLE wide ({})").format(sql.SQL(", ").join(columns)))
    connection.execute(sql.SQL("INSERT INTO wide VALUES ({})").format(sql.SQL(", ").join(map(sql.Literal, values))))
    return connection, table_of(connection, "wide")


def test_every_column_counts_wherever_it_stands(wide: tuple[psycopg.Connection[Any], Table]) -> None:
    connection, table = wide
    found: set[Digest] = {digest(connection, table)}
    number = 0
    for _ in range(REPEATED):
        for _, original, *others in ALIKE:
            column = sql.Identifier(f"c{number}")
            number += 1
            for other in others:
                change = sql.SQL("UPDATE wide SET {} = {}")
                connection.execute(change.format(column, sql.Literal(None if other == "NULL" else other)))
                found.add(digest(connection, table))
                connection.execute(change.format(column, sql.Literal(original)))
    assert number == len(table.columns) > 64
    assert len(found) == 1 + REPEATED * sum(len(row) - 2 for row in ALIKE), "two contents have the same digest"
    assert digest(connection, table) in found


def test_values_cannot_change_places(scene: Scene) -> None:
    """Neither within a row nor within a column, for each type beside itself and beside another."""
    connection = scene.on_source()
    uuids = ("00112233-4455-6677-8899-aabbccddeeff", "10112233-4455-6677-8899-aabbccddeeff")
    for type_name, (one, other) in {"bigint": "12", "integer": "12", "numeric": "12", "text": "ab", "uuid": uuids}.items():
        connection.execute(sql.SQL("DROP TABLE IF EXISTS pair; CREATE TABLE pair (a {0}, b {0}, c text)").format(sql.SQL(type_name)).as_bytes())
        found = set()
        for rows in (
            [(one, other, "x"), (one, one, "y")],
            [(other, one, "x"), (one, one, "y")],
            [(one, one, "x"), (one, other, "y")],
            [(one, one, "x"), (other, one, "y")],
            [(one, None, "x"), (one, one, "y")],
            [(None, one, "x"), (one, one, "y")],
            [(None, None, "x"), (one, one, "y")],
            [(one, one, "x"), (one, one, "x")],
        ):
            connection.execute("TRUNCATE pair")
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO pair VALUES (%s, %s, %s)", rows)
            found.add(digest(connection, table_of(connection, "pair")))
        assert len(found) == 8, type_name


def test_how_a_value_is_kept_does_not_matter(scene: Scene) -> None:
    """Out of line, compressed or plain: the same digest; what the catalog says of sizes decides how it is read, not what it is."""
    connection = scene.on_source()
    found = set()
    for storage in ("EXTERNAL", "EXTENDED", "PLAIN"):
        connection.execute(sql.SQL("DROP TABLE IF EXISTS kept; CREATE TABLE kept (id bigint, v text, w jsonb)").as_bytes())
        connection.execute(sql.SQL("ALTER TABLE kept ALTER v SET STORAGE {}").format(sql.SQL(storage)))
        connection.execute(
            "INSERT INTO kept SELECT i, repeat(md5(i::text), 200), jsonb_build_object('k', repeat('v', 50)) FROM generate_series(1, 40) i"
        )
        table = table_of(connection, "kept")
        assert table.toasted == (storage == "EXTERNAL")
        for size in (table.bytes, 10**9, 0):
            found.add(digest(connection, dataclasses.replace(table, bytes=size)))
    assert len(found) == 1
