"""Drizzle's own migrator finds in the built source exactly what it would have left there itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import source
from sandbox.postgres import Server
from sandbox.source.build import DRIZZLE_FOLDER

Run = Callable[..., str]
TRACKING = "SELECT * FROM {}.__drizzle_migrations ORDER BY id"
TRACKING_TABLE = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = 'drizzle.__drizzle_migrations'::regclass AND a.attnum > 0 ORDER BY a.attnum
"""
COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relname = ANY(%s) AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 ORDER BY c.relname, a.attnum
"""

pytestmark = pytest.mark.node


@pytest.fixture(scope="session")
def folder_to_0002(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application's migrations as they were before 0003 was written."""
    folder = tmp_path_factory.mktemp("before") / "drizzle"
    shutil.copytree(DRIZZLE_FOLDER, folder)
    journal = folder / "meta" / "_journal.json"
    content = json.loads(journal.read_text())
    content["entries"] = content["entries"][:3]
    journal.write_text(json.dumps(content))
    return folder


def test_on_the_source_the_migrator_applies_nothing_up_to_0002(server: Server, database: str, node: Run, folder_to_0002: Path) -> None:
    source.build(server.url(database), rows=200)
    printed = node("node", "migrate.mjs", "--folder", str(folder_to_0002), url=server.url(database))
    assert printed == "nothing to apply\n"


def test_on_the_source_the_migrator_applies_0003_and_then_nothing(server: Server, database: str, node: Run) -> None:
    source.build(server.url(database), rows=200)
    assert node("node", "migrate.mjs", url=server.url(database)) == "applied 0003_add_agent_support\n"
    assert node("node", "migrate.mjs", url=server.url(database)) == "nothing to apply\n"


def test_the_tracking_table_is_the_one_the_migrator_makes(
    server: Server, new_database: Callable[..., str], node: Run, folder_to_0002: Path
) -> None:
    built, migrated = new_database(), new_database()
    source.build(server.url(built), rows=200)
    printed = node("node", "migrate.mjs", "--folder", str(folder_to_0002), url=server.url(migrated))
    assert printed.count("applied") == 3
    found = []
    for database in (built, migrated):
        with server.connect(database) as connection:
            found.append(
                (
                    connection.execute(TRACKING.format("drizzle")).fetchall(),
                    connection.execute(TRACKING_TABLE).fetchall(),
                    connection.execute(COLUMNS, (list(source.TABLES),)).fetchall(),
                    connection.execute(
                        "SELECT t.typname, e.enumsortorder, e.enumlabel FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid ORDER BY 1, 2"
                    ).fetchall(),
                )
            )
    assert found[0] == found[1]
    assert [len(part) for part in found[0]] == [3, 3, 54, 39]


def test_with_the_tracking_table_in_public(server: Server, database: str, node: Run) -> None:
    source.build(server.url(database), rows=200, tracking="public")
    printed = node("node", "migrate.mjs", "--schema", "public", url=server.url(database))
    assert printed == "applied 0003_add_agent_support\n"


def test_without_tracking_the_migrator_starts_over_and_fails(server: Server, database: str, node: Run) -> None:
    source.build(server.url(database), rows=200, tracking="none")
    assert "already exists" in node("node", "migrate.mjs", url=server.url(database), succeeds=False)


def test_drizzle_kit_migrates_as_the_application_s_configuration_says(server: Server, database: str, node: Run) -> None:
    source.build(server.url(database), rows=200)
    assert "migrations applied successfully" in node("npx", "drizzle-kit", "migrate", url=server.url(database))
    with server.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM drizzle.__drizzle_migrations").fetchone() == (4,)


def test_the_schema_and_the_migrations_agree(server: Server, database: str, node: Run) -> None:
    assert "No schema changes" in node("npx", "drizzle-kit", "generate", url=server.url(database))
    assert "Everything's fine" in node("npx", "drizzle-kit", "check", url=server.url(database))


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (DRIZZLE_FOLDER.parent / "package-lock.json").read_text()
