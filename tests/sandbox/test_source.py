"""The source database holds what a move has to get right, and is built the same way each time."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox import source
from sandbox.postgres import Server
from sandbox.source.build import DRIZZLE_FOLDER, FEWEST_ROWS

ROWS = 2_000

CONTENT = """
SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
    SELECT 'c' || t::text AS line FROM app_config t
    UNION ALL SELECT 'f' || t::text FROM feature_requests t
    UNION ALL SELECT 'm' || t::text FROM request_messages t
) AS lines
"""


def test_rows_are_spread_over_the_tables_and_counted(server: Server, database: str) -> None:
    facts = source.build(server.url(database), rows=ROWS)
    assert facts.rows == {"app_config": 3, "feature_requests": 500, "request_messages": 1497}
    assert sum(facts.rows.values()) == ROWS
    with server.connect(database) as connection:
        for name, rows in {**facts.rows, **facts.neighbours}.items():
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (rows,)
    assert set(facts.neighbours) == set(source.NEIGHBOURS)
    assert all(facts.neighbours.values())


def test_the_default_is_twenty_thousand_rows_within_ten_seconds(server: Server, database: str) -> None:
    facts = source.build(server.url(database))
    assert sum(facts.rows.values()) == 20_000
    assert facts.seconds < 10


def test_two_builds_are_equal(server: Server, new_database: Callable[..., str]) -> None:
    digests = set()
    for database in (new_database(), new_database()):
        source.build(server.url(database), rows=ROWS)
        with server.connect(database) as connection:
            digests.add(connection.execute(CONTENT).fetchone())
    assert len(digests) == 1


def test_every_label_of_every_enum_has_a_row(server: Server, database: str) -> None:
    source.build(server.url(database), rows=FEWEST_ROWS)
    with server.connect(database) as connection:
        columns = connection.execute(
            "SELECT c.relname, a.attname, t.oid, (SELECT count(*) FROM pg_enum e WHERE e.enumtypid = t.oid)"
            " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid"
            " WHERE t.typtype = 'e' AND c.relkind = 'r' AND NOT a.attisdropped"
        ).fetchall()
        assert len(columns) == 6
        for table, column, _, labels in columns:
            assert connection.execute(f"SELECT count(DISTINCT {column}) FROM {table}").fetchone() == (labels,), column


def test_labels_are_in_the_order_of_the_application(server: Server, database: str) -> None:
    source.build(server.url(database), rows=ROWS)
    with server.connect(database) as connection:
        order = connection.execute("SELECT enum_range(NULL::request_status)::text").fetchone()
    assert order == ("{pending,issue_created,processing,awaiting_clarification,pr_created,completed,cancelled,error}",)


@pytest.mark.parametrize(
    ("what", "query"),
    [
        ("a text that looks like COPY's NULL", r"SELECT count(*) FROM request_messages WHERE content = '\N'"),
        ("a text that looks like COPY's end", r"SELECT count(*) FROM request_messages WHERE content = '\.'"),
        ("an empty text beside NULL", "SELECT least(count(*) FILTER (WHERE actor_name = ''),"
                                      " count(*) FILTER (WHERE actor_name IS NULL)) FROM request_messages"),
        ("a line break", r"SELECT count(*) FROM request_messages WHERE content ~ '\n'"),
        ("a tab", r"SELECT count(*) FROM request_messages WHERE content ~ '\t'"),
        ("a backslash", r"SELECT count(*) FROM request_messages WHERE content LIKE '%\\\\%'"),
        ("a character of four bytes", "SELECT count(*) FROM request_messages WHERE strpos(content, chr(128640)) > 0"),
        ("a JSON null beside NULL", "SELECT least(count(*) FILTER (WHERE metadata = 'null'),"
                                    " count(*) FILTER (WHERE metadata IS NULL)) FROM request_messages"),
        ("every JSON type", "SELECT (count(DISTINCT jsonb_typeof(metadata)) = 6)::int FROM request_messages"),
        ("an infinite timestamp", "SELECT count(*) FROM request_messages WHERE created_at = 'infinity'"),
        ("a timestamp before Christ", "SELECT count(*) FROM request_messages WHERE created_at < '0001-01-01'"
                                      " AND created_at <> '-infinity'"),
        ("the greatest bigint", "SELECT count(*) FROM feature_requests WHERE issue_id = 9223372036854775807"),
        ("an empty key", "SELECT count(*) FROM feature_requests WHERE request_id = ''"),
    ],
)  # fmt: skip
def test_there_is(what: str, query: str, built: psycopg.Connection) -> None:
    found = built.execute(query).fetchone()
    assert found is not None and found[0] > 0, what


def test_a_few_texts_are_a_megabyte_long(built: psycopg.Connection) -> None:
    found = built.execute(
        "SELECT (SELECT count(*) FROM feature_requests WHERE octet_length(description) >= 1048576),"
        " (SELECT count(*) FROM request_messages WHERE octet_length(content) >= 1048576),"
        " (SELECT count(*) FROM request_messages WHERE octet_length(metadata::text) >= 1048576)"
    ).fetchone()
    assert found == (3, 2, 1)


def test_sequences_are_beyond_every_id_and_the_configuration_s_far_beyond(built: psycopg.Connection) -> None:
    for table in source.TABLES:
        last, greatest = built.execute(f"SELECT (SELECT last_value FROM {table}_id_seq), max(id) FROM {table}").fetchone() or (0, 1)
        assert last >= greatest, table
        if table == "app_config":
            assert last > 10 * greatest
    count, greatest = built.execute("SELECT count(*), max(id) FROM feature_requests").fetchone() or (0, 0)
    assert greatest > count, "the ids have gaps"


def test_migrations_are_recorded_by_hash_and_time(server: Server, database: str) -> None:
    facts = source.build(server.url(database), rows=ROWS)
    journal = json.loads((DRIZZLE_FOLDER / "meta" / "_journal.json").read_text())["entries"]
    expected = [
        (number, hashlib.sha256((DRIZZLE_FOLDER / f"{entry['tag']}.sql").read_bytes()).hexdigest(), entry["when"])
        for number, entry in enumerate(journal[:3], start=1)
    ]
    with server.connect(database) as connection:
        assert connection.execute("SELECT * FROM drizzle.__drizzle_migrations ORDER BY id").fetchall() == expected
        assert connection.execute("SELECT to_regtype('agent_type')").fetchone() == (None,)
    assert [migration.tag for migration in facts.pending] == ["0003_add_agent_support"]


@pytest.mark.parametrize(("tracking", "place"), [("public", "public.__drizzle_migrations"), ("none", None)])
def test_tracking_elsewhere_or_not_at_all(server: Server, database: str, tracking: str, place: str | None) -> None:
    facts = source.build(server.url(database), rows=ROWS, tracking=tracking)  # type: ignore[arg-type]
    assert facts.tracking_table == place
    with server.connect(database) as connection:
        found = connection.execute("SELECT schemaname || '.' || tablename FROM pg_tables WHERE tablename = '__drizzle_migrations'").fetchall()
        assert found == ([(place,)] if place else [])
        assert connection.execute("SELECT to_regnamespace('drizzle')").fetchone() == (None,)


def test_a_later_migration_can_be_asked_for(server: Server, database: str) -> None:
    facts = source.build(server.url(database), rows=ROWS, upto="0003_add_agent_support")
    assert facts.pending == ()
    with server.connect(database) as connection:
        assert connection.execute("SELECT DISTINCT agent_type::text FROM feature_requests").fetchall() == [("claude-code",)]


def test_an_admin_without_superuser_can_build_it(server: Server, new_role: Callable[..., str], database: str) -> None:
    admin = new_role("managed", "CREATEROLE CREATEDB", password="secret")
    with server.connect(database) as connection:
        connection.execute(f"ALTER DATABASE {database} OWNER TO {admin}")
    source.build(server.url(database, admin, "secret"), rows=ROWS)
    with server.connect(database) as connection:
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [(admin,)]


def test_it_is_not_built_over_what_is_there(server: Server, database: str) -> None:
    with server.connect(database) as connection:
        connection.execute("CREATE TABLE feature_requests (precious text)")
        with pytest.raises(source.SourceError, match=r"already holds public\.feature_requests; nothing was changed"):
            source.build(server.url(database), rows=ROWS)
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


def test_a_failed_build_leaves_nothing(server: Server, database: str, tmp_path: Path) -> None:
    folder = tmp_path / "drizzle"
    shutil.copytree(DRIZZLE_FOLDER, folder)
    with (folder / "0002_add_task_tracking.sql").open("a") as file:
        file.write("--> statement-breakpoint\nSELECT 1/0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        source.build(server.url(database), rows=ROWS, folder=folder)
    with server.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert connection.execute("SELECT to_regnamespace('drizzle')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 10}, "too few"),
        ({"upto": "0009"}, "names 0 migrations"),
        ({"upto": "000"}, "names 4 migrations"),
        ({"folder": Path("no/such/folder")}, "_journal.json does not exist"),
    ],
)
def test_what_cannot_be_built_is_said(server: Server, database: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(source.SourceError, match=message):
        source.build(server.url(database), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["postgresql://admin:hunter2@127.0.0.1:1/postgres", "postgresql://admin:hunter2@[bad"])
def test_an_error_never_holds_the_password(url: str) -> None:
    with pytest.raises(source.SourceError) as raised:
        source.build(url)
    assert "hunter2" not in str(raised.value)


@pytest.fixture(scope="module")
def built(server: Server) -> Iterator[psycopg.Connection]:
    """A connection to a source of the usual size that tests only read."""
    with server.connect() as admin:
        admin.execute("CREATE DATABASE source_that_is_read TEMPLATE template0")
        source.build(server.url("source_that_is_read"))
        with server.connect("source_that_is_read") as connection:
            yield connection
        admin.execute("DROP DATABASE source_that_is_read WITH (FORCE)")
