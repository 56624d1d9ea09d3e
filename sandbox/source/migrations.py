"""Which migrations does a Drizzle folder hold, and how does Drizzle record them?

The facts are those of drizzle-orm's `migrator.js` and `pg-core/dialect.js` (0.45): the journal decides the order, a
file is split at `--> statement-breakpoint`, the recorded hash is the sha256 of the file's text, and `created_at` is
the journal's `when`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

BREAKPOINT = b"--> statement-breakpoint"


class SourceError(Exception):
    """The source cannot be built as asked. Its text names what is wrong and says that nothing was changed."""


@dataclass(frozen=True)
class Migration:
    """One entry of the journal with its file.

    tag: the file's name without `.sql`.
    when: milliseconds since 1970, from the journal; Drizzle's `created_at`.
    statements: what Drizzle sends, one by one.
    hash: lower-case hexadecimal sha256 of the file.
    """

    tag: str
    when: int
    statements: tuple[bytes, ...]
    hash: str


def read_folder(folder: Path) -> tuple[Migration, ...]:
    """All migrations of `folder`, in the journal's order.

    Raises SourceError where the journal, or a file it names, is missing.
    """
    journal = folder / "meta" / "_journal.json"
    try:
        entries = json.loads(journal.read_text("utf-8"))["entries"]
        return tuple(_read(folder / f"{entry['tag']}.sql", entry["tag"], entry["when"]) for entry in entries)
    except FileNotFoundError as error:
        raise SourceError(f"Migration file {error.filename} does not exist; nothing was changed.") from None


def _read(file: Path, tag: str, when: int) -> Migration:
    text = file.read_bytes()
    return Migration(tag, when, tuple(text.split(BREAKPOINT)), hashlib.sha256(text).hexdigest())


def split_at(migrations: tuple[Migration, ...], upto: str) -> tuple[tuple[Migration, ...], tuple[Migration, ...]]:
    """Those up to and including the one whose tag is, or begins with, `upto`; and those after it.

    Raises SourceError unless exactly one migration is meant.
    """
    meant = [index for index, migration in enumerate(migrations) if migration.tag.startswith(upto)]
    if len(meant) != 1:
        known = ", ".join(migration.tag for migration in migrations)
        raise SourceError(f"{upto!r} names {len(meant)} migrations, not one of: {known}; nothing was changed.")
    return migrations[: meant[0] + 1], migrations[meant[0] + 1 :]


def apply(connection: psycopg.Connection, migrations: tuple[Migration, ...], tracking_schema: str | None) -> None:
    """Applies `migrations` on `connection`, in its transaction, and records them in `tracking_schema` as Drizzle does.

    With None nothing is recorded, as after `drizzle-kit push`.
    """
    tracking = None if tracking_schema is None else sql.Identifier(tracking_schema, "__drizzle_migrations")
    if tracking_schema is not None and tracking is not None:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(tracking_schema)))
        connection.execute(
            sql.SQL("CREATE TABLE IF NOT EXISTS {} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)").format(tracking)
        )
    for migration in migrations:
        for statement in migration.statements:
            connection.execute(statement)
        if tracking is not None:
            connection.execute(
                sql.SQL("INSERT INTO {} (hash, created_at) VALUES (%s, %s)").format(tracking),
                (migration.hash, migration.when),
            )
