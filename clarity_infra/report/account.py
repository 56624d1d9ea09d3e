"""What is there to tell of a move? Its account, from the journals in both databases and from what the run itself says.

Nothing in it is secret: labels of databases without login, origins without password. Reads only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import psycopg

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from clarity_infra.move import fence
from clarity_infra.move.discard import COPIED, DISCARDED, STARTED
from clarity_infra.move.journal import Entry, Journal
from clarity_infra.move.model import Move
from clarity_infra.move.state import CLEANED, RESTORED
from clarity_infra.move.status import Side, status

Run = Literal["copy", "cut-over", "roll-back", "clean-up", "restore", "destroy", "look"]
"""What the run that this is the account of did; "look" moved nothing."""

Origins = Mapping[str, Any]
"""Hyperdrive's origin "before" and "after" the move, as the API shows it, and the config's "id". Never a password."""


# Seconds a server has to answer.
_PATIENCE = 3


@dataclasses.dataclass(frozen=True)
class Event:
    """An entry of a journal: what was done, where and when."""

    at: datetime.datetime
    where: str
    step: str
    run: str


@dataclasses.dataclass(frozen=True)
class Account:
    """All that a report tells. Evidence is what `copy`, `cut_over`, `go_back` and `clean_up` give; None where there is none (any more)."""

    run: Run
    stack: str
    at: datetime.datetime
    source: str
    target: str
    stage: str = ""
    side: Side | None = None
    failed: str = ""
    copy: Mapping[str, Any] | None = None
    copied_at: datetime.datetime | None = None
    cut_over: Mapping[str, Any] | None = None
    cut_over_at: datetime.datetime | None = None
    back: Mapping[str, Any] | None = None
    cleaned: Mapping[str, Any] | None = None
    refused: int = 0
    migrations: Sequence[str] = ()
    rehearsed: Mapping[str, Any] | None = None
    origins: Origins | None = None
    next_steps: Sequence[str] = ()
    history: Sequence[Event] = ()

    @property
    def cut_over_proved(self) -> bool:
        """Whether both sides were proved equal at the cut-over."""
        return bool((self.cut_over or {}).get("proved"))


def look(move: Move, *, run: Run = "look", next_steps: Sequence[str] = (), origins: Origins | None = None) -> Account:
    """The account as far as the databases know it. A database that cannot be asked, or is gone, leaves its part out."""
    account = Account(
        run=run,
        stack=move.stack,
        at=datetime.datetime.now(datetime.UTC),
        source=move.source.label(),
        target=move.target.label(),
        next_steps=tuple(next_steps),
        origins=origins,
    )
    answers = _answers(move.source)
    if answers:
        with contextlib.suppress(ClarityError, psycopg.Error):
            account = _with_status(account, move)
    ours = _entries(move.source, move.stack) if answers else []
    theirs = _entries(move.target, move.stack)
    source, target = _Entries(ours), _Entries(theirs)
    copied = target.last(STARTED, COPIED, DISCARDED)
    back = source.last("fenced", "cut over", "gone back", "lifted")
    cleaned = target.last(CLEANED, RESTORED)
    settled = source.last("cut over")
    return dataclasses.replace(
        account,
        copy=copied.facts if copied and copied.step == COPIED else None,
        copied_at=copied.at if copied and copied.step == COPIED else None,
        cut_over=settled.facts if settled else None,
        cut_over_at=settled.at if settled else None,
        back=back.facts if back and back.step == "gone back" else None,
        cleaned=cleaned.facts if cleaned and cleaned.step == CLEANED else None,
        migrations=_applied(target),
        history=_history(account, ours, theirs),
    )


def of_run(before: Account, after: Account, evidence: Mapping[str, Any], failed: str = "") -> Account:
    """The account of a run that just ended: what is known now, what only the run knows, and what it removed in the end."""
    told = dataclasses.replace(after, failed=failed)
    match before.run:
        case "copy" if evidence:
            told = dataclasses.replace(told, copy={**(told.copy or {}), **evidence}, rehearsed=evidence.get("migrations"))
        case "cut-over" if evidence:
            told = dataclasses.replace(told, cut_over={**(told.cut_over or {}), **evidence})
        case "roll-back" | "destroy" if evidence:
            told = dataclasses.replace(told, back={**(told.back or {}), **evidence})
        case "clean-up" if evidence:
            told = dataclasses.replace(told, cleaned={**(told.cleaned or {}), **evidence})
    if before.run != "destroy":
        return told
    # The way back leaves neither journal nor target: what was there is known from before.
    return dataclasses.replace(
        told,
        copy=told.copy or before.copy,
        copied_at=told.copied_at or before.copied_at,
        cut_over=told.cut_over or before.cut_over,
        cut_over_at=told.cut_over_at or before.cut_over_at,
        migrations=told.migrations or before.migrations,
        refused=max(told.refused, before.refused),
        history=told.history or before.history,
    )


def _with_status(account: Account, move: Move) -> Account:
    with move.source.connect(purpose="report") as source:
        refused = fence.hits(source, move.stack)
    found = status(move, target_exists=_answers(move.target))
    return dataclasses.replace(account, stage=found.stage, side=found.side, refused=refused)


def _answers(endpoint: Endpoint) -> bool:
    """Whether there is such a database and it answers soon: a report is not what anybody waits for."""
    try:
        endpoint.connect(purpose="report", patience=_PATIENCE).close()
    except ClarityError:
        return False
    return True


def _entries(endpoint: Endpoint, stack: str) -> list[Entry]:
    with contextlib.suppress(ClarityError, psycopg.Error), endpoint.connect(purpose="report", patience=_PATIENCE) as connection:
        return Journal(connection, stack).entries()
    return []


class _Entries:
    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries

    def last(self, *steps: str) -> Entry | None:
        return next((entry for entry in reversed(self._entries) if entry.step in steps), None)


def _applied(target: _Entries) -> Sequence[str]:
    migrated = target.last("migrated")
    return tuple(migrated.facts.get("applied") or ()) if migrated else ()


def _history(account: Account, source: Sequence[Entry], target: Sequence[Entry]) -> tuple[Event, ...]:
    """Both journals in the order of time; what was written to both at once is told once."""
    events = [Event(entry.at, account.source, entry.step, str(entry.run)) for entry in source]
    noted = {(event.step, event.run) for event in events}
    events += [Event(entry.at, account.target, entry.step, str(entry.run)) for entry in target if (entry.step, str(entry.run)) not in noted]
    return tuple(sorted(events, key=lambda event: event.at))
