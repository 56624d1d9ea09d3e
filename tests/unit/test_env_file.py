"""`.env` is edited in one value only, and has the same bytes again on the way back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_infra.env_file import EnvFile
from clarity_infra.errors import ConfigurationError

NEW = "postgresql://clarity_user:s3cret@db.example.com:5432/clarity?sslmode=verify-full"
KEY = "DATABASE_URL"


def env(folder: Path, text: str) -> EnvFile:
    path = folder / ".env"
    path.write_bytes(text.encode())
    return EnvFile.read(path, setting="envFile")


LINES = [
    "DATABASE_URL=postgres://u:p@h/d # the old one\n",
    "export DATABASE_URL='postgres://u:p@h/d'\n",
    'DATABASE_URL = "postgres://u:p@h/d"   \n',
    "DATABASE_URL=\n",
    "DATABASE_URL=x\r\n",
    "  DATABASE_URL=x",
    "",
]
FRAMES = ["{}", "A=1\n{}", "# a comment\r\nA='x'\r\n\r\n{}", "A=1", "\ufeff{}", "\ufeffA=1\n{}"]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("line", LINES)
def test_a_change_and_its_undoing_leave_the_same_bytes(tmp_path: Path, frame: str, line: str) -> None:
    before = env(tmp_path, frame.format(line))
    raw = before.raw(KEY)
    before.with_value(KEY, NEW).write()
    changed = EnvFile.read(before.path, setting="envFile")
    assert changed.get(KEY) == NEW
    assert changed.get("A") == before.get("A")
    changed.with_raw(KEY, raw).write()
    assert before.path.read_bytes() == frame.format(line).encode()


@given(st.lists(st.sampled_from(["A=1\n", "# c\n", "\n", 'B="x y"\n', "export C='z'\n", "D\n"]), max_size=6), st.integers(0, 6))
def test_other_lines_are_never_touched(tmp_path_factory: pytest.TempPathFactory, lines: list[str], at: int) -> None:
    folder = tmp_path_factory.mktemp("env")
    text = "".join(lines[:at]) + "DATABASE_URL=old\n" + "".join(lines[at:])
    assert env(folder, text).with_value(KEY, NEW).text == text.replace("DATABASE_URL=old", f"DATABASE_URL={NEW}")


def test_quotes_crlf_export_and_comment_stay(tmp_path: Path) -> None:
    text = "export DATABASE_URL='old' # keep me\r\nX=1\r\n"
    assert env(tmp_path, text).with_value(KEY, NEW).text == f"export DATABASE_URL='{NEW}' # keep me\r\nX=1\r\n"


def test_the_file_is_private_afterwards(tmp_path: Path) -> None:
    file = env(tmp_path, "DATABASE_URL=old\n")
    file.path.chmod(0o644)
    file.with_value(KEY, NEW).write()
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    real = tmp_path / "real.env"
    real.write_text("DATABASE_URL=old\n")
    link = tmp_path / ".env"
    link.symlink_to(real)
    EnvFile.read(link, setting="envFile").with_value(KEY, NEW).write()
    assert link.is_symlink()
    assert real.read_text() == f"DATABASE_URL={NEW}\n"


def test_a_variable_that_stands_twice_is_refused_with_its_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"sets DATABASE_URL twice \(lines 1 and 3\)"):
        env(tmp_path, "DATABASE_URL=a\nX=1\nDATABASE_URL=b\n").raw(KEY)


def test_a_missing_file_and_a_directory_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not there") as missing:
        EnvFile.read(tmp_path / ".env", setting="envFile")
    assert "CI machine" in missing.value.remedy
    with pytest.raises(ConfigurationError, match="is a directory"):
        EnvFile.read(tmp_path, setting="envFile")


def test_a_file_that_cannot_be_written_is_refused_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = env(tmp_path, "DATABASE_URL=old\n")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everything
    with pytest.raises(ConfigurationError, match="cannot be written"):
        file.with_value(KEY, NEW).write()
    assert file.path.read_text() == "DATABASE_URL=old\n"


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"NAME=\xff\xfe\nDATABASE_URL=old\n")
    EnvFile.read(path, setting="envFile").with_value(KEY, NEW).write()
    assert path.read_bytes() == b"NAME=\xff\xfe\nDATABASE_URL=" + NEW.encode() + b"\n"
