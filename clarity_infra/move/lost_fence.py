"""Did somebody take the fence off the old tables of an application that was moved? Then it is put back, or the run stops.

A fence goes up, and out of force, in the transaction that says so in the source's journal. So a target that was opened and never
left, beside old tables that take writes, is no transition of ours: a trigger was dropped by hand, schema `clarity_infra` was, or the
tables were made anew from a backup. Taken for a copy that waits for its cut-over, the target would be made equal to the old tables, and
every row written to it since would be lost.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

import psycopg

from clarity_infra.errors import Refused
from clarity_infra.move import fence
from clarity_infra.move.crossing import Crossing
from clarity_infra.move.discard import DISCARDED, STARTED
from clarity_infra.move.journal import Entry, Journal
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from clarity_infra.move.owners import owners
from clarity_infra.move.proof import digest_of
from clarity_infra.move.state import CLEANED, CUT_OVER, FENCED, GONE_BACK, LIFTED, OPENED, RESTORED


@dataclasses.dataclass(frozen=True)
class LostFence:
    """`tables` of the source take writes although the target is live. `fence` is the run that had fenced them, as text; `settled` what
    the cut-over's proof recorded of them, None where there was none.
    """

    fence: str
    tables: tuple[Name, ...]
    settled: Entry | None

    def changed(self, connection: psycopg.Connection, way: Crossing) -> list[str]:
        """The tables that do not hold what they held under the fence, or of which nobody can tell."""
        recorded = {facts["table"]: facts["digest"] for facts in self.settled.facts["tables"]} if self.settled else {}
        mine = [table for table in way.moved.with_rows if table.name in self.tables]
        return [str(table.name) for table in mine if recorded.get(str(table.name)) != digest_of(connection, table).value]


def lost_fence(move: Move, source: psycopg.Connection, target: psycopg.Connection) -> LostFence | None:
    """What of the fence that belongs on the old tables is not there; None where all is as the journals say."""
    here, there = Journal(source, move.stack), Journal(target, move.stack)
    opened = there.last(OPENED, GONE_BACK, STARTED, DISCARDED)
    if opened is None or opened.step != OPENED or _cleaned(here, there):
        return None
    run = str(opened.facts.get("fenced") or "")
    if _ended(here.entries(FENCED, LIFTED, GONE_BACK), run):
        return None
    settled = next((found for found in (_settled(here, run), _settled(there, run)) if found is not None), None)
    names = [Name.parse(facts["table"]) for facts in settled.facts["tables"]] if settled else list(move.tables)
    open_tables = frozenset(owners(source, names)) - fence.standing_of(source, move.stack).in_force
    return LostFence(run, tuple(sorted(open_tables)), settled) if open_tables else None


def all_of(move: Move) -> str:
    """What `discard` has to be for everything written to the new database since the cut-over to be given up."""
    return f"all of {move.target.database}"


def refuse_changed(connection: psycopg.Connection, way: Crossing, lost: LostFence) -> None:
    """Raises Refused where somebody wrote to the source since its fence was taken off, or nobody can tell."""
    move, changed = way.move, lost.changed(connection, way)
    if not changed:
        return
    since = "whether they were written to since, nobody can tell" if lost.settled is None else f"{', '.join(changed)} changed since"
    keep_target = f"CLARITY_DISCARD_WRITES={move.source.database} gives up what was written to the old tables"
    raise Refused(
        f"The application lives in database {move.target.database}, but the old tables {', '.join(map(str, lost.tables))} take writes too:"
        f" somebody took their fence off, and {since}.",
        unchanged="Nothing was changed.",
        remedy="see which rows were written where since then, bring over by hand what is to stay, and name what is given up, before the same"
        f" command: {keep_target}; CLARITY_DISCARD_WRITES='{all_of(move)}', with stage copy or `pulumi destroy`, everything that was written"
        " to the new ones.",
    )


def record(journal: Journal, lost: LostFence) -> None:
    """A journal that was dropped with the fence says again what the other side's does."""
    if not lost.fence or any(str(entry.run) == lost.fence for entry in journal.entries(FENCED)):
        return
    journal.append(FENCED, uuid.UUID(lost.fence), put_back=True)
    if lost.settled is not None:
        journal.append(CUT_OVER, lost.settled.run, **lost.settled.facts)


def _ended(entries: Sequence[Entry], run: str) -> bool:
    """Whether the source's journal tells how that fence ended."""
    begun = [number for number, entry in enumerate(entries) if entry.step == FENCED and run in ("", str(entry.run))]
    return bool(begun) and any(entry.step in (LIFTED, GONE_BACK) for entry in entries[begun[-1] :])


def _settled(journal: Journal, run: str) -> Entry | None:
    entry = journal.last(CUT_OVER)
    return entry if entry is not None and entry.facts.get("fenced_by") == run else None


def _cleaned(*journals: Journal) -> bool:
    return any(entry is not None and entry.step == CLEANED for entry in (journal.last(CLEANED, RESTORED) for journal in journals))
