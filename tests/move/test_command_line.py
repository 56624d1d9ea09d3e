"""Does `python -m clarity_infra survey` and `... verify` answer on two URLs, for people and for machines, with a status that means it?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from clarity_infra.__main__ import main
from tests.move.conftest import ADMIN_PASSWORD, Scene

SCHEMA = """
CREATE TYPE state AS ENUM ('on', 'off');
CREATE TABLE a (id integer PRIMARY KEY, s state);
CREATE TABLE b (id integer PRIMARY KEY REFERENCES a);
INSERT INTO a VALUES (1, 'on'), (2, 'off');
"""


@pytest.fixture
def two(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A source with two tables and an empty target, their URLs in the environment."""
    scene.run_source(SCHEMA)
    monkeypatch.setenv("FROM_URL", scene.source_server.url(scene.source, scene.admin, ADMIN_PASSWORD))
    monkeypatch.setenv("TO_URL", scene.target_server.url(scene.target, scene.admin, ADMIN_PASSWORD))
    return scene


def ask(scene: Scene, command: str, *more: str, tables: tuple[str, ...] = ("public.a", "public.b")) -> int:
    """Runs a command on the two URLs and returns its exit status."""
    named = [option for table in tables for option in ("--table", table)]
    return main([command, "--source", "FROM_URL", "--target", "TO_URL", "--user", scene.owner, *named, *more])


def test_survey_says_what_would_move(two: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(two, "survey") == 0
    text = capsys.readouterr().out
    assert "public.a" in text
    assert "public.state" in text
    assert ADMIN_PASSWORD not in text
    assert ask(two, "survey", "--json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [(table["table"], table["rows"]) for table in answer["tables"]] == [("public.a", 2), ("public.b", 0)]
    assert answer["blockers"] == []


def test_survey_says_what_stands_in_the_way(two: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(two, "survey", tables=("public.b",)) == 1
    text = capsys.readouterr().out
    assert "b_id_fkey" in text
    assert "public.a" in text


def test_verify_says_equal_and_then_what_differs(two: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    two.copy("a", "b")
    assert ask(two, "verify") == 0
    said = capsys.readouterr()
    assert said.out.startswith("The two sides are equal.")
    assert "The source is read." in said.err
    with two.on_source() as source:
        source.execute("INSERT INTO a VALUES (3, 'on')")
    assert ask(two, "verify", "--quiet") == 1
    said = capsys.readouterr()
    assert "table public.a: 3 rows in the source, 2 in the target (only in the source: id=3)" in said.out
    assert said.err == ""
    assert ask(two, "verify", "--json", "--quiet") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["equal"], len(answer["differences"])) == (False, 1)


def test_a_question_that_cannot_be_answered(two: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(two, "survey", tables=("public.none",)) == 2
    assert "public.none" in capsys.readouterr().err
    monkeypatch.setenv("FROM_URL", two.source_server.url(two.source, two.admin, "not the password"))
    assert ask(two, "verify", "--json") == 2
    assert "not the password" not in json.loads(capsys.readouterr().out)["error"]


def test_verify_where_row_security_hides_rows(two: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    two.copy("a", "b")
    with two.on_target(superuser=True) as target:
        target.execute("ALTER TABLE a ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    assert ask(two, "verify") == 1
    said = capsys.readouterr()
    assert "cannot be read as a whole" in said.out
    assert "BYPASSRLS" in said.out
