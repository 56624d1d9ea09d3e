"""A few faults of every kind, in the time an ordinary test run has; `python -m tests.faults` does them all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clarity_infra.move.state import TRANSITIONS
from tests.faults import breakage
from tests.faults.harness import COMMANDS, Case, Result, every_case, never_hit, points_of, table, try_out, without_fault
from tests.faults.points import every_point, named_points, table_points
from tests.faults.run import Bug
from tests.faults.stage import House

# Where the cache was off already, nobody has to wait for it.
SHORT = (
    without_fault("cut over"),
    Case("cut over", "before the fence is committed", "run killed", breakage.kill_run, cached=0),
    Case("cut over", "fence committed", "run killed", breakage.kill_run, two_servers=True),
    Case("cut over", "source locked", "run stopped", breakage.stop_run),
    Case("cut over", "rest carried", "backend of the source killed", breakage.kill_backend("source"), cached=0),
    Case("cut over", "before migrate", "server of the target restarted", breakage.restart("target"), two_servers=True, cached=0),
    Case("cut over", "before switch to target", "Cloudflare 500", breakage.cloudflare("status")),
    Case("go back", "before switch to source", "Cloudflare accepts, no answer", breakage.cloudflare("drop", count=1)),
    Case("go back", "before the source is opened", "run killed", breakage.kill_run),
    Case("clean up", "before the drop is committed", "run killed", breakage.kill_run),
    Case("cut over", "rest carried", "network to the source cut", breakage.partition("source"), two_servers=True, cached=0),
    Case("go back", "before the source is opened", "disk of the source's log full", breakage.full_log("source"), small_log="source"),
)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as house:
        yield house


@pytest.mark.parametrize("case", SHORT, ids=lambda case: f"{case.command}, {case.point or 'no point'}, {case.name}")
def test_it_holds(house: House, case: Case) -> None:
    result = try_out(house, case)
    print(f"\n{table([result])}")
    assert not result.findings
    assert result.written > 0


@pytest.mark.parametrize("bug", ["fence after the switch", "sync skipped", "carry skipped"])
def test_a_planted_bug_turns_it_red(house: House, bug: Bug) -> None:
    result = try_out(house, Case("cut over", "brought near", "none", lambda _stage, run: run.go_on(), bug=bug, cached=0))
    assert result.findings


@pytest.mark.parametrize(
    ("bug", "cached", "seen"),
    [
        ("cache left on", 1, "out of date and from the cache, which should be off"),
        ("cache not waited for", 60, "given by the cache what the former side held"),
    ],
)
def test_a_reader_who_is_told_what_is_no_longer_so_turns_it_red(house: House, bug: Bug, cached: int, seen: str) -> None:
    result = try_out(house, Case("cut over", "brought near", "none", lambda _stage, run: run.go_on(), bug=bug, cached=cached))
    assert seen in " ".join(result.reads.findings)


def test_the_points_are_those_of_the_table_and_of_the_source() -> None:
    steps = {row.step for row in TRANSITIONS if row.step not in ("refuse", "lift fence")}
    assert {f"{when} {step}" for step in steps for when in ("before", "after")} <= every_point()
    assert {"source locked", "fence committed", "source opened", "fence lifted", "before the drop is committed"} <= named_points()
    assert table_points("cut over")[0] == "before close target"


def test_the_whole_harness_leaves_no_point_out(house: House) -> None:
    alone = [try_out(house, without_fault(command)) for command in COMMANDS]
    assert not [result.findings for result in alone if result.findings]
    cases = list(every_case(points_of(alone)))
    assert len(cases) >= 60
    assert len({(case.command, case.point, case.name, case.where) for case in cases}) == len(cases)
    assert never_hit([Result(case) for case in cases]) == []
