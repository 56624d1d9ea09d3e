"""The lines that `pulumi stack output` and the stack's README show, and the ranges of time that a preview gives."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from clarity_infra import outputs
from clarity_infra.move.estimate import Span, comparing, copying, waiting
from clarity_infra.texts import TERMINAL, WIDTH, counted, duration, facts, shown, size, table
from sandbox.stack import PROJECT
from tests.report.test_pace import BIG, NEVER, SMALL

COPY = {
    "seconds": 36.0,
    "tables": [{"table": "public.a", "rows": 2_999_000, "bytes": 5e8}, {"table": "public.b", "rows": 1000, "bytes": 2e8}],
}


@pytest.mark.parametrize(
    ("cutover", "cleanup", "shown"),
    [
        ({}, {}, "the old database"),
        (None, None, "the old database"),
        ({"waited_seconds": 0.2}, {}, "the new database; the old tables refuse writes"),
        ({"back": {"carried": {}}}, {}, "the old database"),
        ({"waited_seconds": 0.2}, {"dropped": []}, "the new database; the old tables are gone"),
    ],
)
def test_which_side_is_live(cutover: dict[str, Any] | None, cleanup: dict[str, Any] | None, shown: str) -> None:
    assert outputs.live(cutover, cleanup) == shown


def test_what_was_moved_and_who_waited() -> None:
    assert outputs.moved(COPY) == "3,000,000 rows in 2 tables, 667.6 MB, verified, in 36 s"
    assert outputs.moved({}) == outputs.moved(None) == "nothing yet"
    assert outputs.waited({"waited_seconds": 0.21, "refused_seconds": 0.04}) == "0.2 s at most, then refused for 40 ms"
    assert outputs.waited(None) == "no cut-over yet"


def test_all_of_it_on_a_page() -> None:
    cutover = {
        "waited_seconds": 0.21,
        "migrations": ["0003_add_agent_support"],
        "proved": True,
        "proved_at": "2026-11-23T07:12:43+00:00",
        "report": "of.html",
    }
    shown = outputs.page("cutover", ["try the application", "pulumi config set stage copy && pulumi up: go back"], COPY, cutover, {})
    assert shown.splitlines() == [
        "stage:                cutover",
        "writes are taken by:  the new database; the old tables refuse writes",
        "moved:                3,000,000 rows in 2 tables, 667.6 MB, verified, in 36 s",
        "                      public.a: 2,999,000 rows, 476.8 MB",
        "                      public.b: 1,000 rows, 190.7 MB",
        "writers waited:       0.2 s at most",
        "migrations applied:   0003_add_agent_support",
        "proof:                both sides equal, row for row, 2026-11-23T07:12:43+00:00",
        "report:               of.html",
        "next:                 try the application",
        "                      pulumi config set stage copy && pulumi up: go back",
    ]
    assert all(len(line) <= TERMINAL for line in shown.splitlines())
    assert "nothing yet" in outputs.page("provision", [], None, None, None)
    assert "proof:" not in outputs.page("copy", [], COPY, {"back": {"carried": {}}}, {})


def test_the_newest_report_is_that_of_the_latest_stage() -> None:
    assert outputs.report([{}, {"report": "b.html"}, {"report": "a.html"}]) == "b.html"
    assert outputs.report([None, {"back": {"report": "back.html"}}, {"report": "a.html"}]) == "back.html"
    assert outputs.report([{}, {}, None]) == "none yet"


def test_the_readme_names_outputs_that_the_program_has() -> None:
    named = set(re.findall(r"\$\{outputs\.(\w+)\}", outputs.readme()))
    program = (PROJECT / "__main__.py").read_text()
    exported = set(re.findall(r'pulumi\.export\(\s*"(\w+)"', program)) | {"live", "moved", "writersWaited", "report"}
    assert named and named <= exported
    assert (Path(PROJECT) / outputs.README).exists()


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.1, 0.3, "less than 1 s"),
        (0.4, 4, "0.4 to 4 s"),
        (12, 47, "10 to 45 s"),
        (33, 260, "35 s to 4 min"),
        (4000, 30_000, "67 min to 8 h 20 min"),
        (5, 5, "about 5 s"),
    ],
)
def test_a_span_has_no_more_figures_than_it_knows(low: float, high: float, shown: str) -> None:
    assert str(Span(low, high)) == shown


def test_the_measured_copies_are_within_the_range_that_is_given_for_them() -> None:
    """docs/speed.md: 3.0 million rows, 700 MB, in 36 s; 20 million, 1,366 MB, in 214 s."""
    for rows, megabytes, took in ((3_000_000, 700, 36.0), (20_000_000, 1366, 214.0)):
        found = copying([dataclasses.replace(BIG, estimated_rows=rows, bytes=megabytes * 10**6)])
        assert found is not None
        assert found.low < took < found.high
        assert 0.8 < (found.low * 2) / took < 1.25


def test_what_a_copy_took_here_decides_over_what_was_measured_elsewhere() -> None:
    there = copying([BIG, SMALL])
    slow = copying([BIG, SMALL], {"seconds": 1000.0, "tables": [{"rows": 1_001_000, "bytes": 10**8}]})
    assert there is not None and slow is not None
    assert there.high < slow.low < 1000 < slow.high


def test_nothing_is_said_where_rows_are_not_known() -> None:
    assert copying([BIG, NEVER]) is None
    assert comparing([NEVER]) is None
    assert waiting([NEVER]) is None
    short = waiting([])
    assert short == Span(0.1, 1.0)


def test_texts_are_aligned_and_broken_at_words() -> None:
    lines = facts([("a", "word " * 60), ("longer", ["one", "two"])])
    assert all(len(line) <= WIDTH for line in lines)
    assert lines[-2:] == ["longer:  one", "         two"]
    assert lines[0].startswith("a:       word")
    assert table([("a", "n"), ("bb", "12")], right=(1,)) == "a    n\n--  --\nbb  12"
    assert (size(16384), duration(0.013), duration(200), counted(1, "table"), counted(2, "table")) == (
        "16.0 kB",
        "13 ms",
        "3 min 20 s",
        "1 table",
        "2 tables",
    )


def test_a_value_of_somebody_s_row_is_a_part_of_one_line() -> None:
    assert shown("plain é") == "plain é"
    assert shown(None) == "None"
    assert shown("a\n\x1b[2J\u202eb\\n") == r"a\n\x1b[2J\u202eb\n"
    assert shown("x" * 60) == "x" * 60
    assert shown("x" * 61) == "x" * 57 + "..."
