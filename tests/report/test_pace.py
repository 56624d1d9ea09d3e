"""What somebody hears who watches a long copy: often enough at a terminal, seldom in a log, never batch by batch."""

from __future__ import annotations

import dataclasses
import re
import time
import uuid
from collections.abc import Callable

import pytest

from clarity_infra.move import crew, pace
from clarity_infra.move.copy import copy
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.pace import LOG, TERMINAL, Pace, Rhythm, rhythm, still
from tests.report.conftest import Environment


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def table(name: str, *, rows: int, size: int) -> Table:
    return Table(
        name=Name("public", name),
        oid=1,
        kind="r",
        columns=(),
        key=("id",),
        parents=(),
        children=(),
        references=(),
        estimated_rows=rows,
        bytes=size,
        pages=1,
        row_security=False,
        forced_row_security=False,
        heap=True,
    )


BIG, SMALL, NEVER = (
    table("big", rows=1_000_000, size=90_000_000),
    table("small", rows=1000, size=10_000_000),
    table("never", rows=-1, size=10**7),
)


def copying(when: Rhythm, *, seconds: int, tables: tuple[Table, ...] = (BIG, SMALL)) -> list[str]:
    """What is said during a copy at a steady rate that takes `seconds`, asked every second."""
    clock, said = Clock(), list[str]()
    counted = Pace(tables, said.append, when=when, clock=clock)
    for second in range(seconds):
        clock.now += 1
        for one in tables:
            for part in (0, 1):  # two batches
                begin, end = (2 * second + part) / (2 * seconds), (2 * second + part + 1) / (2 * seconds)
                rows = max(one.estimated_rows, 100)
                counted.add(one.name, int(rows * end) - int(rows * begin), int(one.bytes * end) - int(one.bytes * begin))
        counted.tell()
    return said


class TestHowOften:
    def test_at_a_terminal_every_few_seconds(self) -> None:
        assert len(copying(TERMINAL, seconds=60)) == 20

    def test_in_a_log_never_twice_within_half_a_minute(self) -> None:
        assert len(copying(LOG, seconds=60)) <= 2
        assert len(copying(LOG, seconds=25)) == 0

    def test_in_a_log_a_line_for_each_tenth_of_a_long_copy(self) -> None:
        assert 9 <= len(copying(LOG, seconds=1800)) <= 10

    def test_in_a_log_a_copy_of_many_hours_still_shows_life(self) -> None:
        assert 5 * 3600 / 300 <= len(copying(LOG, seconds=5 * 3600)) <= 5 * 3600 / 240

    @pytest.mark.parametrize("value", ["true", "1", "woodpecker"])
    def test_ci_is_a_log(self, value: str) -> None:
        assert rhythm({"CI": value}) is LOG

    def test_a_terminal_is_the_one_that_controls_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.open", lambda *_: 99)
        monkeypatch.setattr("os.close", lambda _: None)
        assert rhythm({}) is TERMINAL
        assert rhythm({"CI": "false"}) is TERMINAL

        def none(*_: object) -> int:
            raise OSError("no such device or address")

        monkeypatch.setattr("os.open", none)
        assert rhythm({}) is LOG


class TestWhatIsSaid:
    def test_percentage_rows_rate_time_left_and_tables(self) -> None:
        line = copying(TERMINAL, seconds=60)[9]
        assert line == " 50% copied, 500,500 rows, 1.7 MB/s, about 30 s left (public.big 50%, public.small 50%)"

    def test_it_grows_and_the_time_left_shrinks(self) -> None:
        said = copying(TERMINAL, seconds=100)
        shares = [int(line.split("%")[0]) for line in said]
        assert shares == sorted(shares)
        assert shares[-1] >= 95
        left = [int(found[1]) for line in said if (found := re.search(r"about (\d+) s left", line))]
        assert left == sorted(left, reverse=True)

    def test_a_table_is_done_when_it_was_checked_not_when_its_estimate_is_reached(self) -> None:
        clock, said = Clock(), list[str]()
        counted = Pace((BIG, SMALL), said.append, when=TERMINAL, clock=clock)
        counted.add(BIG.name, 5_000_000, 1)
        counted.add(SMALL.name, 10, 1)
        counted.done(SMALL.name)
        clock.now += 10
        counted.tell()
        assert "public.big 99%" in said[0]
        assert "public.small" not in said[0]

    def test_without_an_estimate_size_tells(self) -> None:
        assert "public.never 50%" in copying(TERMINAL, seconds=60, tables=(NEVER,))[9]

    def test_many_tables_are_counted_not_listed(self) -> None:
        tables = tuple(dataclasses.replace(BIG, name=Name("public", f"t{number}")) for number in range(7))
        assert copying(TERMINAL, seconds=60, tables=tables)[5].endswith(", 4 more)")

    def test_parts_of_a_table_add_up(self) -> None:
        clock, said = Clock(), list[str]()
        counted = Pace((BIG,), said.append, when=TERMINAL, clock=clock)
        for _ in range(3):
            counted.done(BIG.name, 1 / 3)
        clock.now += 5
        counted.tell()
        assert said[0].startswith("100% copied")


def test_a_step_without_a_measure_says_that_it_is_at_work() -> None:
    said: list[str] = []
    with still(said.append, "making indexes", when=Rhythm(0, 0, 0, still=0.05)):
        time.sleep(0.3)
    count = len(said)
    assert 2 <= count <= 6
    assert said[0].startswith("still making indexes, ")
    time.sleep(0.15)
    assert len(said) == count


SLOW = """
CREATE FUNCTION slow(integer) RETURNS boolean LANGUAGE sql AS 'SELECT pg_sleep(0.002) IS NOT NULL AND $1 > 0';
CREATE DOMAIN slowly AS integer CHECK (slow(VALUE));
CREATE TABLE waits (id integer PRIMARY KEY, n integer, wide text);
INSERT INTO waits SELECT g, g, repeat(md5(g::text), 250) FROM generate_series(1, 1500) g;
ANALYZE waits;
"""


def test_a_slow_copy_is_told_from_beginning_to_end(new_environment: Callable[[], Environment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row costs the target two milliseconds: a domain of the column checks it, and the function that does so sleeps."""
    environment = new_environment()
    environment.provision()
    environment.on(environment.source, *(statement for statement in SLOW.split(";\n") if statement.strip()))
    environment.on(
        environment.source,
        "ALTER TABLE waits ADD COLUMN checked slowly",
        "ALTER FUNCTION slow(integer) SET search_path = ''",
    )
    environment.on(environment.source, "UPDATE waits SET checked = n WHERE id <= 1200")
    monkeypatch.setattr(crew, "_HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(pace, "TERMINAL", Rhythm(0.3, 0.0, 0.3, still=10.0))
    monkeypatch.setattr(pace, "rhythm", lambda: pace.TERMINAL)
    said: list[str] = []
    evidence = copy(environment.settings(tables='["waits", "app_config"]').move, run=uuid.uuid4(), progress=said.append)
    told = [line for line in said if " copied, " in line]
    rows = sum(entry["rows"] for entry in evidence["tables"])
    assert rows == 1503 + 3
    seconds = next(step["seconds"] for step in evidence["steps"] if step["step"] == "rows")
    assert 3 <= len(told) <= seconds / 0.3 + 1
    assert all("public.waits" in line for line in told[1:-1]), told
    shares = [int(line.split("%")[0]) for line in told]
    assert shares == sorted(shares)
