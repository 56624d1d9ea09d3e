"""How is the source database built: the application's tables as Drizzle left them, full, among other people's?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from sandbox.source import rows as contents
from sandbox.source.migrations import Migration, SourceError, apply, read_folder, split_at

DRIZZLE_FOLDER = Path(__file__).parents[1] / "app" / "drizzle"
TABLES = ("app_config", "feature_requests", "request_messages")
NEIGHBOURS = (
    "public.billing_accounts",
    "public.feature_requests_archive",
    "crm.contacts",
    "crm.feature_requests",
)
FEWEST_ROWS = 100
"""Below this not every enum label finds a row."""

_SEED = 20_241_123
_APP_CONFIG_SEQUENCE = 48_211
_TRACKING_SCHEMAS: Mapping[str, str | None] = {"drizzle": "drizzle", "public": "public", "none": None}


@dataclass(frozen=True)
class SourceFacts:
    """What a source was built with.

    rows: rows by table of the application, and sequences: `last_value` by its sequence (both without a schema: public).
    neighbours: rows by table that is not the application's, with its schema.
    applied, pending: migrations in effect, and those that are not.
    tracking_table: where they are recorded; None where they are not.
    seconds: how long it took.
    """

    rows: Mapping[str, int]
    sequences: Mapping[str, int]
    neighbours: Mapping[str, int]
    applied: tuple[Migration, ...]
    pending: tuple[Migration, ...]
    tracking_table: str | None
    seconds: float


def build(
    admin_url: str,
    *,
    rows: int = 20_000,
    tracking: Literal["drizzle", "public", "none"] = "drizzle",
    folder: Path = DRIZZLE_FOLDER,
    upto: str = "0002",
) -> SourceFacts:
    """Builds the source in the database of `admin_url`, owned by its user; one that was interrupted is gone on with.

    Two transactions: the migrations, then everything else. Before PostgreSQL 17 a label that a migration adds to an enum cannot be used
    in that migration's transaction (https://www.postgresql.org/docs/15/sql-altertype.html). Between the two the tables are empty, and
    marked, so that the next build with the same arguments fills them; the last of `NEIGHBOURS` is there only when all is.

    rows: over the application's three tables, at least `FEWEST_ROWS`; a quarter are feature requests. Deterministic.
    tracking: the schema of Drizzle's table of applied migrations; "none" as after `drizzle-kit push`.
    folder, upto: the migrations, and the last of them to apply (its name or the beginning of it).

    The user needs CREATE on the database and on schema public, no more. Raises SourceError where something of the
    same name is there already, where the folder is not what it should be, or where the database cannot be reached.
    """
    started = time.monotonic()
    if rows < FEWEST_ROWS:
        raise SourceError(f"{rows} rows are too few to hold every enum label: ask for {FEWEST_ROWS} or more.")
    applied, pending = split_at(read_folder(folder), upto)
    schema = _TRACKING_SCHEMAS[tracking]
    mark = f"empty, to be filled by the sandbox: {applied[-1].tag}, tracking {tracking}"
    with _connect(admin_url) as connection:
        if not _marked(connection, mark):
            _refuse_what_exists(connection, schema)
            apply(connection, applied, schema)
            _mark(connection, mark)
            connection.commit()
        _fill(connection, rows)
        _mark(connection, None)
        _wind_sequences_on(connection)
        connection.execute(Path(__file__).with_name("neighbours.sql").read_bytes())
        connection.execute(b"ANALYZE")
        return SourceFacts(
            rows={table: _count(connection, "public", table) for table in TABLES},
            sequences={f"{table}_id_seq": _last_value(connection, f"{table}_id_seq") for table in TABLES},
            neighbours={name: _count(connection, *name.split(".")) for name in NEIGHBOURS},
            applied=applied,
            pending=pending,
            tracking_table=None if schema is None else f"{schema}.__drizzle_migrations",
            seconds=time.monotonic() - started,
        )


def _connect(admin_url: str) -> psycopg.Connection:
    try:
        return psycopg.connect(admin_url, connect_timeout=10, client_encoding="utf8")
    except psycopg.OperationalError as error:
        raise SourceError(f"The database for the source cannot be reached: {error}; nothing was changed.") from None
    except psycopg.Error:
        # Its text may repeat the URL, and with it the password.
        raise SourceError("The URL of the database for the source is malformed; nothing was changed.") from None


def _refuse_what_exists(connection: psycopg.Connection, tracking_schema: str | None) -> None:
    names = [("public", table) for table in TABLES] + [tuple(name.split(".")) for name in NEIGHBOURS]
    if tracking_schema is not None:
        names.append((tracking_schema, "__drizzle_migrations"))
    found = connection.execute(
        "SELECT format('%%I.%%I', schemaname, tablename) FROM pg_tables"
        " WHERE (schemaname, tablename) IN (SELECT * FROM unnest(%s::text[], %s::text[]))",
        ([schema for schema, _ in names], [table for _, table in names]),
    ).fetchall()
    if found:
        listed = ", ".join(sorted(name for (name,) in found))
        raise SourceError(f"The database already holds {listed}; nothing was changed. Build the source elsewhere.")


def _marked(connection: psycopg.Connection, mark: str) -> bool:
    """Whether an earlier build with the same migrations was interrupted before it filled the tables."""
    found = connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", (f"public.{TABLES[0]}",)).fetchone()
    return found is not None and found[0] == mark


def _mark(connection: psycopg.Connection, mark: str | None) -> None:
    text = sql.SQL("COMMENT ON TABLE {} IS {}")
    connection.execute(text.format(sql.Identifier("public", TABLES[0]), sql.Literal(mark)))


def _fill(connection: psycopg.Connection, rows: int) -> None:
    labels = _enum_labels(connection)
    requests = rows // 4
    configs = list(contents.app_config(_SEED, labels))
    messages = rows - requests - len(configs)
    _copy(connection, "app_config", contents.APP_CONFIG_COLUMNS, configs)
    _copy(
        connection,
        "feature_requests",
        contents.FEATURE_REQUEST_COLUMNS,
        contents.feature_requests(_SEED, requests, labels),
    )
    _copy(
        connection,
        "request_messages",
        contents.REQUEST_MESSAGE_COLUMNS,
        contents.request_messages(_SEED, messages, requests, labels),
    )


def _enum_labels(connection: psycopg.Connection) -> dict[str, list[str]]:
    found = connection.execute(
        "SELECT t.typname, array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e JOIN pg_type t"
        " ON t.oid = e.enumtypid WHERE t.typnamespace = 'public'::regnamespace GROUP BY t.typname"
    )
    return {name: [str(label) for label in labels] for name, labels in found}


def _copy(connection: psycopg.Connection, table: str, columns: tuple[str, ...], rows: Iterable[contents.Row]) -> None:
    # COPY may give values to columns that are GENERATED ALWAYS AS IDENTITY.
    statement = sql.SQL("COPY public.{} ({}) FROM STDIN").format(sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns)))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _wind_sequences_on(connection: psycopg.Connection) -> None:
    """Upserts draw a number each, though they insert nothing: the configuration's sequence is far ahead of its rows."""
    connection.execute("SELECT setval('public.app_config_id_seq', %s)", (_APP_CONFIG_SEQUENCE,))
    connection.execute("SELECT setval('public.feature_requests_id_seq', max(id) + 7) FROM public.feature_requests")
    connection.execute("SELECT setval('public.request_messages_id_seq', max(id)) FROM public.request_messages")


def _count(connection: psycopg.Connection, schema: str, table: str) -> int:
    return _number(connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table)))


def _last_value(connection: psycopg.Connection, sequence: str) -> int:
    return _number(connection, sql.SQL("SELECT last_value FROM {}").format(sql.Identifier("public", sequence)))


def _number(connection: psycopg.Connection, query: sql.Composed) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None, "a query without FROM restrictions on an aggregate or a sequence returns one row"
    return int(row[0])
