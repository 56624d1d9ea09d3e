"""Does a database have what Drizzle's own snapshot of a migration says?

The facts are those of drizzle-kit's snapshots, version 7 (`meta/0003_snapshot.json`): tables with columns, their types, identity and NOT
NULL; enum types with their labels in order. It is read with the application's own login, which sees its own tables or does not.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

_SERIAL = {"serial": "integer", "bigserial": "bigint", "smallserial": "smallint"}
_IDENTITY = {"always": "a", "byDefault": "d"}
_COLUMNS = """
SELECT attname::text, atttypid::regtype::oid, attnotnull, attidentity::text FROM pg_catalog.pg_attribute
WHERE attrelid = pg_catalog.to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""
_LABELS = "SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_catalog.pg_enum WHERE enumtypid = pg_catalog.to_regtype(%s)"
_TYPE = "SELECT pg_catalog.to_regtype(%s)::oid"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The structure after the migration `tag`."""

    tag: str
    when: int
    tables: tuple[Mapping[str, Any], ...]
    enums: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, folder: Path, upto: str = "") -> Snapshot:
        """The snapshot of a Drizzle folder after its newest migration, or after the one whose tag is `upto`.

        Raises FileNotFoundError where the folder has none, ValueError where it has no such migration.
        """
        entries = json.loads((folder / "meta" / "_journal.json").read_text("utf-8"))["entries"]
        chosen = [entry for entry in entries if upto in ("", entry["tag"])]
        if not chosen:
            raise ValueError(f"{folder} has no migration {upto!r}")
        entry = chosen[-1]
        content = json.loads((folder / "meta" / f"{str(entry['tag']).partition('_')[0]}_snapshot.json").read_text("utf-8"))
        return cls(str(entry["tag"]), int(entry["when"]), tuple(content["tables"].values()), tuple(content["enums"].values()))

    def differences(self, connection: psycopg.Connection[Any]) -> list[str]:
        """What is missing or different, a line each. What the database has beyond it is nobody's mistake. Raises psycopg.Error."""
        tables = [line for table in self.tables for line in _table_differences(connection, table)]
        return tables + [line for enum in self.enums for line in _enum_differences(connection, enum)]

    def labels(self, enum: str) -> tuple[str, ...]:
        """The labels of an enum type, in order. Raises KeyError."""
        return {str(found["name"]): tuple(found["values"]) for found in self.enums}[enum]

    def sequences_behind(self, connection: psycopg.Connection[Any]) -> list[str]:
        """Columns with a sequence whose next value is in use already, a line each. Raises psycopg.Error."""
        return [line for table in self.tables for line in _sequence_problems(connection, table)]


def _qualified(thing: Mapping[str, Any]) -> sql.Identifier:
    """A snapshot's table or type as an identifier; Drizzle leaves schema public out."""
    return sql.Identifier(str(thing["schema"] or "public"), str(thing["name"]))


def _table_differences(connection: psycopg.Connection[Any], table: Mapping[str, Any]) -> Iterator[str]:
    name = _qualified(table).as_string(connection)
    found = {row[0]: row[1:] for row in connection.execute(_COLUMNS, (name,))}
    if not found:
        yield f"table {name} is not there"
        return
    for column in table["columns"].values():
        what = f"column {name}.{column['name']}"
        if column["name"] not in found:
            yield f"{what} is not there"
            continue
        kind, not_null, identity = found[column["name"]]
        if kind != _type(connection, column):
            yield f"{what} is not of type {column['type']}"
        if not_null != bool(column["notNull"]):
            yield f"{what} is {'NOT NULL' if not_null else 'nullable'}"
        if identity != _IDENTITY.get((column.get("identity") or {}).get("type", ""), ""):
            yield f"{what} has another identity than the snapshot says"


def _type(connection: psycopg.Connection[Any], column: Mapping[str, Any]) -> int | None:
    """The OID of a snapshot's column type in this database; None where it is not known."""
    written = _SERIAL.get(column["type"], column["type"])
    if column.get("typeSchema"):
        bare, brackets = written.partition("[")[0], "[]" if "[" in written else ""
        written = sql.Identifier(column["typeSchema"], bare).as_string(connection) + brackets
    row = connection.execute(_TYPE, (written,)).fetchone()
    return row[0] if row else None


def _enum_differences(connection: psycopg.Connection[Any], enum: Mapping[str, Any]) -> Iterator[str]:
    name = _qualified(enum).as_string(connection)
    row = connection.execute(_LABELS, (name,)).fetchone()
    found = (row[0] if row else None) or []
    if not found:
        yield f"enum {name} is not there"
    elif found != list(enum["values"]):
        yield f"enum {name} has the labels {', '.join(found)}"


def _sequence_problems(connection: psycopg.Connection[Any], table: Mapping[str, Any]) -> Iterator[str]:
    name = _qualified(table)
    there = {row[0] for row in connection.execute(_COLUMNS, (name.as_string(connection),))}
    for column in (column for column in table["columns"].values() if column["name"] in there):
        row = connection.execute("SELECT pg_catalog.pg_get_serial_sequence(%s, %s)", (name.as_string(connection), column["name"])).fetchone()
        if not row or not row[0]:
            continue
        # The sequence's name comes quoted from PostgreSQL itself; the next value is compared, as a fresh sequence has used none.
        place = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.SQL(row[0]))).fetchone()
        top = connection.execute(sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(column["name"]), name)).fetchone()
        if place and top and top[0] is not None and (place[0] < top[0] or (place[0] == top[0] and not place[1])):
            yield f"{name.as_string(connection)}.{column['name']}: the sequence stands at {place[0]}, the largest value in use is {top[0]}"
