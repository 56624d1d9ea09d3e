"""The application's folder of migrations: what is said of one that cannot be used as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clarity_infra.errors import ConfigurationError
from clarity_infra.move.migrations import Migrations, pending, read

NO_DATABASE: Any = None
"""Not asked for anything where there is no tracking table."""


def folder_of(path: Path, count: int) -> Path:
    entries = [{"tag": f"{number:04d}_m", "when": number} for number in range(count)]
    (path / "meta").mkdir()
    (path / "meta" / "_journal.json").write_text(json.dumps({"entries": entries}))
    for entry in entries:
        (path / f"{entry['tag']}.sql").write_text("SELECT 1;")
    return path


def test_a_folder_of_drizzle_kit_1_0_is_told_from_one_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no meta/_journal\.json"):
        read(Migrations(tmp_path))
    (tmp_path / "20261101120000_first").mkdir()
    (tmp_path / "20261101120000_first" / "migration.sql").write_text("SELECT 1;")
    with pytest.raises(ConfigurationError, match=r"laid out as drizzle-kit 1\.0") as raised:
        read(Migrations(tmp_path))
    assert "set migrationsFolder to an empty text" in str(raised.value)


@pytest.mark.parametrize("last", ["", "0999_nowhere"])
def test_of_hundreds_of_migrations_the_newest_are_named(tmp_path: Path, last: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        pending(NO_DATABASE, None, Migrations(folder_of(tmp_path, 400), last))
    text = str(raised.value)
    assert len(text) < 600
    assert "one of the 400 in meta/_journal.json" in text and "0399_m" in text and "0000_m" not in text
    assert "trackingTable" in text or last


def test_of_a_few_all_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="one of: 0000_m, 0001_m, 0002_m"):
        pending(NO_DATABASE, None, Migrations(folder_of(tmp_path, 3)))
