"""The table of transitions, enumerated: every state, every command, a fault between any two steps."""

from __future__ import annotations

import itertools

import pytest

from clarity_infra.errors import Refused
from clarity_infra.move import state
from clarity_infra.move.state import ANYWHERE, LAST, TRANSITIONS, Command, Facts, next_transition

COMMANDS: tuple[Command, ...] = ("cut over", "go back")
EVERY = [Facts(*facts) for facts in itertools.product((False, True), (False, True), sorted(ANYWHERE), (False, True))]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("facts", EVERY, ids=str)
def test_every_state_has_exactly_one_transition(command: Command, facts: Facts) -> None:
    assert len([row for row in TRANSITIONS if row.fits(command, facts)]) == 1


def steps_from(command: Command, facts: Facts) -> list[Facts]:
    """The states a run of the command goes through, its start first; ends early where it refuses."""
    states = [facts]
    for _ in range(10):
        try:
            transition = next_transition(command, states[-1])
        except Refused:
            return states
        if transition.step in LAST:
            return states
        states.append(transition.leads_to(states[-1]))
    raise AssertionError(f"{command} does not end from {facts}")


def reachable() -> set[Facts]:
    """Every state that any sequence of commands, each dying anywhere, can leave; the application starts on the source."""
    found: set[Facts] = set()
    fresh = {Facts(False, False, origin, pending) for origin in ("source", "unmanaged") for pending in (False, True)}
    while fresh:
        found |= fresh
        fresh = {
            after
            for facts in fresh
            for command in COMMANDS
            for step in steps_from(command, facts)
            # "give up" is taken in the middle of a cut-over whose migration or switch failed.
            for after in [step, *given_up(step)]
        } - found
    return found


def given_up(facts: Facts) -> list[Facts]:
    rows = [row for row in TRANSITIONS if row.fits("give up", facts)]
    return [row.leads_to(facts) for row in rows]


def test_never_two_writable_sides() -> None:
    """Before the first cut-over nothing guards the copy, and nobody is sent there; from then on one side at most takes writes."""
    for facts in reachable():
        assert len(facts.writable) <= 1 or facts.origin != "target", facts
    for row in TRANSITIONS:
        for facts in EVERY:
            if row.step != "refuse" and row.fits(row.command, facts) and len(facts.writable) < 2:
                assert len(row.leads_to(facts).writable) < 2, (row, facts)


def test_no_transition_opens_a_side_before_the_other_is_closed() -> None:
    for row in TRANSITIONS:
        changes = dict(row.changes)
        if changes.get("source_fenced") is False:
            assert row.target_fenced, row
        if changes.get("target_fenced") is False:
            assert row.source_fenced, row


def test_repeating_a_command_leaves_every_state_without_a_decision() -> None:
    for facts in reachable():
        ends = {command: steps_from(command, facts)[-1] for command in COMMANDS}
        assert ends["cut over"].writable == ("target",), facts
        assert ends["cut over"].origin in ("target", "unmanaged"), facts
        # A command to go back from where nothing was ever cut over finds nothing to do.
        assert "source" in ends["go back"].writable, facts
        assert ends["go back"].origin in ("source", "unmanaged"), facts


def test_the_application_is_never_left_on_a_side_that_misses_rows() -> None:
    """While the source is fenced the target has every row, and the application is not sent away from it by going forward."""
    for facts in reachable():
        for step, later in itertools.pairwise(steps_from("cut over", facts)):
            if step.origin == "target" and step.source_fenced:
                assert later.origin == "target"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unguarded_target_that_the_application_writes_to_is_refused(command: Command) -> None:
    with pytest.raises(Refused, match="both sides take writes"):
        next_transition(command, Facts(False, False, "target"))


def test_a_planted_bug_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fence after the switch the enumeration finds two writable sides."""
    bad = state.Transition("cut over", False, True, ANYWHERE, "open target", (("target_fenced", False),))
    rows = tuple(bad if row.step == "freeze source" else row for row in TRANSITIONS)
    monkeypatch.setattr(state, "TRANSITIONS", rows)
    monkeypatch.setattr("tests.cutover.test_state.TRANSITIONS", rows)
    with pytest.raises(AssertionError):
        test_no_transition_opens_a_side_before_the_other_is_closed()
