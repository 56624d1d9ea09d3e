"""Where is an environment, who takes writes, and how old is the evidence? Answered from the databases alone; reads only."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Literal

from clarity_infra.connection import Endpoint
from clarity_infra.move import capture, fence, ledger
from clarity_infra.move.cutover import gap_text
from clarity_infra.move.discard import COPIED, DISCARDED, MADE, STARTED
from clarity_infra.move.journal import Entry, Journal
from clarity_infra.move.lost_fence import lost_fence
from clarity_infra.move.model import Move
from clarity_infra.move.state import CLEANED, CUT_OVER, ENDS, FENCED, OPENED, RESTORED

Side = Literal["source", "target", "between"]

_SECONDS_OF_AN_HOUR = 3600


@dataclasses.dataclass(frozen=True)
class Status:
    """What was found. `stage` is "" where there is no target database yet; `side` takes the writes, "between" is neither.

    `unfenced` names old tables that take writes too, although the target is live: somebody took their fence off.

    `leftovers` names what a run that died left behind and the next one removes; `refused` counts the writes the fence refused.
    """

    stage: str
    side: Side
    since: datetime.datetime | None
    now: datetime.datetime
    copied: dict[str, Any] | None = None
    copied_at: datetime.datetime | None = None
    cut_over: dict[str, Any] | None = None
    cut_over_at: datetime.datetime | None = None
    refused: int = 0
    leftovers: tuple[str, ...] = ()
    unfenced: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For a person, a fact a line."""
        sides = {"source": "the old database", "target": "the new database", "between": "neither side until the run is repeated"}
        found = [f"writes are taken by: {sides[self.side]}"]
        if self.since is not None:
            found.append(f"since: {self.since:%Y-%m-%d %H:%M:%S %Z}")
        if self.copied_at is not None and self.copied is not None:
            rows = sum(int(table["rows"]) for table in self.copied.get("tables", []))
            found.append(f"verified copy: {rows:,} rows, {_age(self.now - self.copied_at)} old")
        if self.cut_over_at is not None and self.cut_over is not None:
            found.append(
                f"cut over {_age(self.now - self.cut_over_at)} ago, {_proof(self.cut_over)}; {self.refused} write(s) refused by the fence since"
            )
            found += [text for text in (gap_text(self.cut_over),) if text]
            found += [f"not proved equal: {text}" for key in ("differences", "unproved") for text in self.cut_over.get(key, ())]
        if self.unfenced:
            found.append(f"WRITTEN TO AS WELL, as somebody took the fence off: {', '.join(self.unfenced)} in the old database; pulumi up")
        return found + [f"left by a run that died: {text}" for text in self.leftovers]

    def json(self) -> dict[str, Any]:
        """For machines; times in ISO 8601."""
        return {
            "stage": self.stage or None,
            "writes": self.side,
            "since": self.since.isoformat() if self.since else None,
            "copied_at": self.copied_at.isoformat() if self.copied_at else None,
            "cut_over_at": self.cut_over_at.isoformat() if self.cut_over_at else None,
            "evidence_age_seconds": (self.now - self.copied_at).total_seconds() if self.copied_at else None,
            "cut_over": self.cut_over,
            "refused_writes": self.refused,
            "leftovers": list(self.leftovers),
            "unfenced": list(self.unfenced),
        }


@dataclasses.dataclass(frozen=True)
class _Seen:
    """One side, as far as this stack is concerned."""

    fenced: bool
    entries: tuple[Entry, ...]
    refused: int
    leftovers: tuple[str, ...]
    ledgers: tuple[str, ...]
    now: datetime.datetime

    def last(self, *steps: str) -> Entry | None:
        """The newest entry of these steps."""
        return next((entry for entry in reversed(self.entries) if entry.step in steps), None)


def status(move: Move, *, target_exists: bool) -> Status:
    """Looks at both databases. Raises Unreachable or ConfigurationError where one cannot be asked."""
    source = _look(move.source, move)
    if not target_exists:
        return Status("", "between" if source.fenced else "source", None, source.now, leftovers=source.leftovers)
    target = _look(move.target, move)
    copy, cut_over = target.last(STARTED, MADE, COPIED, DISCARDED), source.last(*ENDS)
    copied = copy if copy is not None and copy.step == COPIED else None
    live = cut_over if cut_over is not None and cut_over.step in (FENCED, CUT_OVER) else None
    dropped = target.last(CLEANED, RESTORED)
    cleaned = dropped if dropped is not None and dropped.step == CLEANED else None
    unfenced = _unfenced(move) if target.last(OPENED) else ()
    if unfenced:  # the source's journal may have gone with its fence
        cut_over = cut_over or target.last(CUT_OVER)
    side: Side = "source" if not source.fenced else "between" if target.fenced else "target"
    if cleaned is not None or (unfenced and side == "source"):
        side = "target"
    # A fence on an idle copy is no leftover: a way back leaves it on purpose, so that never two sides take writes.
    leftovers = source.leftovers if side == "source" else ()
    if side == "target" and live is not None and live.step == CUT_OVER:
        leftovers = target.ledgers
    stage = "cleanup" if cleaned else "cutover" if side != "source" else "copy" if copied else "provision"
    newest = {"cleanup": cleaned, "cutover": live, "copy": copied}.get(stage)
    return Status(
        stage=stage,
        side=side,
        since=newest.at if newest else None,
        now=target.now,
        copied=copied.facts if copied else None,
        copied_at=copied.at if copied else None,
        cut_over=live.facts if live else None,
        cut_over_at=live.at if live else None,
        refused=source.refused,
        leftovers=leftovers,
        unfenced=unfenced,
    )


def _unfenced(move: Move) -> tuple[str, ...]:
    with move.source.connect(purpose="status") as source, move.target.connect(purpose="status") as target:
        lost = lost_fence(move, source, target)
    return tuple(map(str, lost.tables)) if lost else ()


def _look(endpoint: Endpoint, move: Move) -> _Seen:
    with endpoint.connect(purpose="status") as connection:
        row = connection.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
        captured = capture.leftovers(connection, move.stack)
        return _Seen(
            fenced=bool(fence.standing_of(connection, move.stack).in_force),
            entries=tuple(Journal(connection, move.stack).entries()),
            refused=fence.hits(connection, move.stack),
            leftovers=tuple(f"capture on {name}" for name in captured),
            ledgers=tuple(f"ledger on {name}, which does nothing any more" for name in ledger.leftovers(connection, move.stack)),
            now=row[0] if row else datetime.datetime.now(datetime.UTC),
        )


def _proof(cut_over: dict[str, Any]) -> str:
    if "proved" not in cut_over:
        return "not proved equal yet: repeat the run"
    return "proved equal" if cut_over["proved"] else "not proved equal: somebody has to answer for it before the clean-up"


def _age(span: datetime.timedelta) -> str:
    seconds = int(span.total_seconds())
    if seconds < _SECONDS_OF_AN_HOUR:
        return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"
    return f"{seconds // _SECONDS_OF_AN_HOUR} h {seconds % _SECONDS_OF_AN_HOUR // 60} min"
