"""Which Drizzle migrations are pending, how long do they take, and are they in effect? Read, rehearsed and applied as Drizzle does.

What is pending is decided as Drizzle's migrator decides it: every entry of `meta/_journal.json` whose `when` is greater than the
greatest `created_at` of the tracking table. Source: drizzle-orm, `pg-core/dialect.ts` (migrate) and `migrator.ts`
(readMigrationFiles): statements are split at `--> statement-breakpoint`, all run in one transaction, and each file leaves a row
with the SHA-256 of its text and its `when`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.errors import ClarityError, ConfigurationError
from clarity_infra.move import fence
from clarity_infra.move.discard import record_grown
from clarity_infra.move.journal import Journal
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from clarity_infra.move.queries import query
from clarity_infra.move.sequences import own_sequences, set_sequences
from clarity_infra.move.state import MIGRATED

BREAKPOINT = "--> statement-breakpoint"
TRACKING_TABLE = "__drizzle_migrations"
# Where Drizzle keeps the table unless told otherwise, and the other place the application's plan names.
TRACKING_PLACES = (Name("drizzle", TRACKING_TABLE), Name("public", TRACKING_TABLE))

# How many migrations a message lists at most.
_LISTED = 10

# How long a migration may wait for a lock of somebody else's on the target, in milliseconds.
LOCK_TIMEOUT_MS = 5_000

# Settings that our sessions pin and that a migration's statements must see as the application's own session would.
_AS_THE_APPLICATION = (
    "search_path",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "bytea_output",
    "extra_float_digits",
    "check_function_bodies",
    "default_table_access_method",
    "default_tablespace",
    "row_security",
    "array_nulls",
    "transform_null_equals",
    "xmlbinary",
    "xmloption",
)


@dataclasses.dataclass(frozen=True)
class Migrations:
    """The application's migrations folder (the one with `meta/_journal.json`); None where it has none.

    `last_migration` is the tag of the newest one in effect, needed only where the database has no tracking table.
    """

    folder: Path | None
    last_migration: str = ""


@dataclasses.dataclass(frozen=True)
class Migration:
    """One file of the folder: `when` in milliseconds since 1970, `digest` the SHA-256 of its text in hexadecimal."""

    tag: str
    when: int
    digest: str
    statements: tuple[str, ...]


def read(migrations: Migrations) -> tuple[Migration, ...]:
    """Every migration the folder's journal names, in its order.

    Raises ConfigurationError for a folder, a journal or a file that is not there or cannot be read.
    """
    if migrations.folder is None:
        return ()
    return tuple(_migration(migrations.folder, entry) for entry in _journal_entries(migrations.folder))


def _journal_entries(folder: Path) -> list[dict[str, Any]]:
    path = folder / "meta" / "_journal.json"
    remedy = "set migrationsFolder to the folder drizzle-kit writes to (it holds meta/_journal.json)."
    if not folder.is_dir():
        raise ConfigurationError(f"The migrations folder {folder} is not there.", remedy=remedy)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["entries"]
        return [{"tag": str(entry["tag"]), "when": int(entry["when"])} for entry in entries]
    except FileNotFoundError:
        if any(folder.glob("*/migration.sql")):
            raise ConfigurationError(
                f"The migrations folder {folder} is laid out as drizzle-kit 1.0 does it, without a journal, and is not read here.",
                remedy="apply what is pending with drizzle-kit, set migrationsFolder to an empty text, and make later migrations after the"
                " cut-over.",
            ) from None
        raise ConfigurationError(f"The migrations folder {folder} has no meta/_journal.json.", remedy=remedy) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read as Drizzle's journal: {type(error).__name__}.",
            remedy="restore it from version control; drizzle-kit writes it.",
        ) from None


def _migration(folder: Path, entry: dict[str, Any]) -> Migration:
    path = folder / f"{entry['tag']}.sql"
    try:
        content = path.read_bytes()
    except OSError:
        raise ConfigurationError(
            f"The journal of {folder} names {entry['tag']}, but {path.name} is not there.",
            remedy="restore the file from version control, or remove its entry with drizzle-kit.",
        ) from None
    text = content.decode("utf-8", errors="replace")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Migration(entry["tag"], entry["when"], digest, tuple(text.split(BREAKPOINT)))


def tracking_table(connection: psycopg.Connection, setting: str) -> Name | None:
    """The tracking table in this database: the one `setting` names, or found where Drizzle keeps it ("auto"); None for "none"."""
    if setting == "none":
        return None
    places = TRACKING_PLACES if setting == "auto" else (Name.parse(setting, setting="tracking"),)
    for place in places:
        found = connection.execute(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
            (place.schema, place.name),
        ).fetchone()
        if found:
            return place
    return None


def target_tracking(connection: psycopg.Connection, setting: str) -> Name | None:
    """The tracking table of the target, where Drizzle's own is made even if the source has none ("none")."""
    return tracking_table(connection, "auto" if setting == "none" else setting)


def wait(connection: psycopg.Connection, setting: str, migrations: Migrations) -> bool:
    """Whether `apply` still has something to do on the target: a pending migration, or Drizzle's table to make."""
    if not read(migrations):
        return False
    tracking = target_tracking(connection, setting)
    return tracking is None or bool(pending(connection, tracking, migrations))


def pending(connection: psycopg.Connection, tracking: Name | None, migrations: Migrations) -> tuple[Migration, ...]:
    """The migrations Drizzle would still apply to this database, in the journal's order; none where there is no folder.

    Raises ConfigurationError where neither a tracking table nor `last_migration` says what is in effect, or where the folder
    cannot be read.
    """
    known = read(migrations)
    if not known:
        return ()
    newest = _newest_recorded(connection, tracking)
    if newest is None:
        newest = _configured_last(known, migrations.last_migration).when
    return tuple(migration for migration in known if migration.when > newest)


def _newest_recorded(connection: psycopg.Connection, tracking: Name | None) -> int | None:
    if tracking is None:
        return None
    query = sql.SQL("SELECT max(created_at) FROM {}").format(tracking.identifier())
    row = connection.execute(query).fetchone()
    return int(row[0]) if row and row[0] is not None else None


def _configured_last(known: tuple[Migration, ...], tag: str) -> Migration:
    if not tag:
        raise ConfigurationError(
            "The database has no record of applied migrations (no __drizzle_migrations table, or an empty one).",
            unchanged="Nothing was changed.",
            remedy="where drizzle.config.ts names another table or schema for it, set trackingTable to that, as schema.table; where there is"
            f" none, set lastMigration to the newest migration in effect, {_one_of(known)}.",
        )
    for migration in known:
        if migration.tag == tag:
            return migration
    raise ConfigurationError(
        f"lastMigration names {tag!r}, which the migrations folder does not have.",
        remedy=f"correct it to {_one_of(known)}.",
    )


def _one_of(known: tuple[Migration, ...]) -> str:
    """The tags to choose from, of many the newest."""
    listed = ", ".join(migration.tag for migration in known[-_LISTED:])
    return f"one of: {listed}" if len(known) <= _LISTED else f"one of the {len(known)} in meta/_journal.json, of which the newest are: {listed}"


def rehearse(move: Move, migrations: Migrations) -> dict[str, Any]:
    """Applies what is pending to the copy, as the owner, in a transaction that is rolled back.

    Gives {"pending": [tags], "seconds": float, "rewritten": [tables whose rows the migrations write anew]}.
    Raises ClarityError, naming migration and statement, where one fails.
    """
    with move.target.connect(autocommit=False, role=move.owner, purpose="migrations") as connection:
        tracking = target_tracking(connection, move.tracking)
        todo = pending(connection, tracking, migrations)
        connection.rollback()
        before, sequences, started = _storage(connection), own_sequences(connection), time.monotonic()
        try:
            with fence.suspended(connection):
                _run(connection, todo, tracking)
            seconds, after = time.monotonic() - started, _storage(connection)
        finally:
            connection.rollback()
            # What a sequence gave away stays given away after a rollback: the copy would no longer be equal.
            moved = own_sequences(connection)
            set_sequences(connection, {name: state for name, state in sequences.items() if moved.get(name) != state})
            connection.commit()
    rewritten = sorted(name for name, facts in before.items() if not _still_readable(facts, after.get(name)))
    return {"pending": [migration.tag for migration in todo], "seconds": round(seconds, 3), "rewritten": rewritten}


def apply(move: Move, migrations: Migrations, run: uuid.UUID, *, fenced: str, copied: Iterable[Name], rewritten: Iterable[str]) -> list[str]:
    """Applies what is pending to the target, as Drizzle would, in one transaction; gives the tags applied, none where nothing is pending.

    Where the target has no tracking table, Drizzle's own is made with the rows it would have had, so that Drizzle's migrator
    afterwards applies nothing. What they make is recorded, so that a later copy can take it away again; and that they were applied,
    since which fence (`fenced`), and which of the `copied` tables' rows they changed: what they wrote, and what a rehearsal saw
    `rewritten`. Raises ClarityError where a statement fails; then nothing was changed.
    """
    if not read(migrations):
        return []
    started = time.monotonic()
    with move.target.connect(autocommit=False, role=move.owner, purpose="migrations") as connection:
        tracking = target_tracking(connection, move.tracking)
        todo = pending(connection, tracking, migrations)
        if todo or tracking is None:
            with fence.suspended(connection):
                before = set(_objects(connection))
                tracking = tracking or _make_tracking_table(connection, migrations)
                _run(connection, todo, tracking)
            wrote = {str(Name(schema, name)) for schema, name in connection.execute(_WRITTEN)} | set(rewritten if todo else ())
            connection.execute("SET LOCAL ROLE NONE")
            new = [found for found in _objects(connection) if found not in before]
            journal = Journal(connection, move.stack).open()
            record_grown(connection, move.stack, run, new)
            # In their own transaction: a run that dies after it leaves the next one to know what became of the rows.
            journal.append(
                MIGRATED,
                run,
                fenced=fenced,
                applied=[migration.tag for migration in todo],
                changed=sorted(wrote & {str(name) for name in copied if name != tracking}),
                seconds=round(time.monotonic() - started, 3),
            )
        connection.commit()
    return [migration.tag for migration in todo]


# What this transaction has written, by the server's own statistics of it.
_WRITTEN = "SELECT schemaname, relname FROM pg_catalog.pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"


def _objects(connection: psycopg.Connection) -> list[tuple[int, int]]:
    return list(connection.execute(query("migrations_objects")).fetchall())


def _make_tracking_table(connection: psycopg.Connection, migrations: Migrations) -> Name:
    """Drizzle's own table, with a row for every migration up to the configured last one."""
    table = TRACKING_PLACES[0]
    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(table.schema)))
    connection.execute(sql.SQL("CREATE TABLE {} (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)").format(table.identifier()))
    known = read(migrations)
    last = _configured_last(known, migrations.last_migration)
    for migration in known:
        if migration.when <= last.when:
            _record(connection, migration, table)
    return table


def _run(connection: psycopg.Connection, todo: tuple[Migration, ...], tracking: Name | None) -> None:
    if not todo:
        return
    _refuse_ends(todo)
    with _settings_of_the_application(connection):
        for migration in todo:
            for number, statement in enumerate(migration.statements, start=1):
                _run_statement(connection, migration, number, statement)
            if tracking is not None:
                _record(connection, migration, tracking)
        _check_deferred(connection, todo)


# What holds words that are no statements: comments, strings, quoted names, bodies.
_QUOTED = re.compile(
    r"""--[^\n]*|/\*.*?\*/|\b[eE]'(?:\\.|''|[^'\\])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$(?:[^\W\d]\w*)?\$).*?\1""",
    re.DOTALL,
)
_ENDS = re.compile(r"\s*(commit|end|abort|rollback(?!\s+(?:(?:work|transaction)\s+)?to\b)|prepare\s+transaction)\b", re.IGNORECASE)
_ATOMIC = re.compile(r"\bbegin\s+atomic\b", re.IGNORECASE)
# What is left of a body that begins in a statement and does not end there.
_OPEN_BODY = re.compile(r"(?<![\w$])\$(?:[^\W\d]\w*)?\$")


def _refuse_ends(todo: Iterable[Migration]) -> None:
    """Raises ClarityError for a migration that ends the transaction it runs in: a rehearsal of it could not be rolled back. One that is
    split inside of a body is told as such: the rest of a body holds such words too.
    """
    for migration in todo:
        for number, statement in enumerate(migration.statements, start=1):
            plain = _QUOTED.sub(" ", statement)
            if _OPEN_BODY.search(plain):
                raise ClarityError(
                    f"Migration {migration.tag} is split inside of a quoted body, at the end of its statement {number}.",
                    unchanged="None of the pending migrations was applied.",
                    remedy=f"take the `{BREAKPOINT}` out of the body: Drizzle splits the text there too.",
                )
            ends = [found[1] for part in plain.split(";") if (found := _ENDS.match(part))]
            # The body of a function in standard SQL ends with the same word as a transaction may.
            ends = [word for word in ends if not (word.lower() == "end" and _ATOMIC.search(plain))]
            if ends:
                raise ClarityError(
                    f"Migration {migration.tag} ends its transaction at its statement {number} ({ends[0].upper()}).",
                    unchanged="None of the pending migrations was applied.",
                    remedy="take BEGIN and COMMIT out of it: Drizzle runs all pending migrations in one transaction of its own.",
                )


def _run_statement(connection: psycopg.Connection, migration: Migration, number: int, statement: str) -> None:
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        raise ClarityError(
            f"Migration {migration.tag} fails at its statement {number}: {error.diag.message_primary or type(error).__name__}.",
            unchanged="None of the pending migrations was applied.",
            remedy="correct the migration (it runs as the owner of the tables, in one transaction, as Drizzle runs it).",
        ) from None


def _check_deferred(connection: psycopg.Connection, todo: Iterable[Migration]) -> None:
    """What the commit would refuse, said as what it is."""
    try:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except psycopg.Error as error:
        raise ClarityError(
            f"Migration(s) {', '.join(migration.tag for migration in todo)} leave what a deferred constraint does not allow:"
            f" {error.diag.message_primary or type(error).__name__}.",
            unchanged="None of the pending migrations was applied.",
            remedy="correct the migration (all that are pending run in one transaction, as Drizzle runs them).",
        ) from None


def _record(connection: psycopg.Connection, migration: Migration, tracking: Name) -> None:
    connection.execute(
        sql.SQL("INSERT INTO {} (hash, created_at) VALUES (%s, %s)").format(tracking.identifier()),
        (migration.digest, migration.when),
    )


@contextmanager
def _settings_of_the_application(connection: psycopg.Connection) -> Iterator[None]:
    """The session's settings as a login of the current role to this database would have them, while the context lasts.

    Ours are given back after it, not only with the transaction: what is read of a journal then would not be understood otherwise.
    """
    ours = connection.execute(
        "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.unnest(%s::text[]) AS s(name)", (list(_AS_THE_APPLICATION),)
    ).fetchall()
    for name in _AS_THE_APPLICATION:
        connection.execute(sql.SQL("SET LOCAL {} TO DEFAULT").format(sql.Identifier(name)))
    connection.execute(query("migrations_role_settings"))
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(LOCK_TIMEOUT_MS),))
    yield
    connection.execute(
        "SELECT pg_catalog.set_config(s.name, s.value, true) FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[]))"
        " AS s(name, value)",
        ([name for name, _ in ours], [value for _, value in ours]),
    )


def _storage(connection: psycopg.Connection) -> dict[str, tuple[int, list[str]]]:
    """File and columns of every ordinary table, by which a rewrite shows."""
    rows = connection.execute(query("migrations_storage"))
    return {str(Name(schema, name)): (node, columns) for schema, name, node, columns in rows}


def _still_readable(before: tuple[int, list[str]], after: tuple[int, list[str]] | None) -> bool:
    """Whether a snapshot from before still reads this table's old columns: same file, no old column gone, renamed or retyped."""
    return after is not None and before[0] == after[0] and after[1][: len(before[1])] == before[1]
