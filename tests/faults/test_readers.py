"""Which answers to a reader count as out of date, and which of those are right? Made-up histories; the harness judges real ones."""

from __future__ import annotations

import pytest

from sandbox.cloudflare import Given
from tests.faults.application import Version
from tests.faults.readers import Answer, Judgement, Terms, judge, query_of

KEY = 100_001
SIDES = {"old_1": "source", "clarity_1": "target"}
# Two writes on the source, one on the target, one that may have been made or not.
HISTORY = [
    Version("first", 10.0, 10.1, "old_1"),
    Version("second", 20.0, 20.1, "old_1"),
    Version("third", 30.0, 30.1, "clarity_1"),
    Version("fourth", 40.0, None, "clarity_1"),
]
CUT_OVER = Terms(5.0, cache_until=26.0, left="source", done=35.0)


def judged(side: str, title: str | None, begun: float, *, cached: bool = False, terms: Terms = CUT_OVER) -> Judgement:
    """What is said of one read that took a tenth of a second."""
    given = [Given(query_of(KEY), begun + 0.05, begun - 1.0)] if cached else []
    return judge([Answer(KEY, begun, begun + 0.1, side, title)], {KEY: HISTORY}, given, SIDES, terms)


@pytest.mark.parametrize(
    ("side", "title", "begun"),
    [
        ("source", None, 5.0),
        ("source", None, 10.05),
        ("source", "first", 10.05),
        ("source", "first", 15.0),
        ("target", "second", 25.0),
        ("target", "third", 38.0),
        ("target", "third", 50.0),
        ("target", "fourth", 50.0),
    ],
)
def test_what_was_so_while_it_was_read_is_up_to_date(side: str, title: str | None, begun: float) -> None:
    for cached in (False, True):
        found = judged(side, title, begun, cached=cached)
        assert (found.stale_cached, found.stale_old, found.findings, found.cached) == (0, 0, [], int(cached))


def test_the_cache_may_be_late_until_it_is_empty_and_for_as_long_as_it_keeps_answers() -> None:
    found = judged("source", "first", 22.0, cached=True)
    assert (found.stale_cached, found.stale_old, found.findings) == (1, 0, [])
    assert "longer than the cache may hold" in judged("source", "first", 25.5, cached=True).findings[0]
    assert "should be off" in judged("source", "first", 27.0, cached=True).findings[0]
    assert judged("source", "first", 22.0, cached=True, terms=Terms(5.0)).findings, "it was off all the time"
    assert not judged("source", "first", 22.0, cached=True, terms=Terms(5.0, cache_from=21.0)).findings


def test_the_cache_may_never_give_what_the_former_side_held() -> None:
    always_on = Terms(60.0, cache_from=0.0, left="source")
    for title in ("first", "second"):
        assert "the former side" in judged("source", title, 31.0, cached=True, terms=always_on).findings[0]


def test_an_old_connection_may_show_the_last_state_of_the_side_that_is_left_until_the_command_is_done() -> None:
    found = judged("source", "second", 31.0)
    assert (found.stale_cached, found.stale_old, found.findings) == (0, 1, [])
    assert "after the command was done" in judged("source", "second", 36.0).findings[0]
    assert "neither" in judged("source", "first", 31.0).findings[0], "not an earlier one"
    assert "neither" in judged("target", "second", 31.0).findings[0], "nor does the side that is live"


def test_what_was_never_written_is_told_to_nobody() -> None:
    assert "never written" in judged("source", "unheard of", 15.0).findings[0]
    assert "never written" in judged("source", "second", 15.0).findings[0], "not yet"
