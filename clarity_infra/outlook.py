"""What does a reviewer read before an `up`? What it would do to real data, how long that takes, and what cannot be undone.

Only text is made here: what was found comes from the review, which is the one that asks and refuses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from clarity_infra.move import estimate
from clarity_infra.move.back import Loss
from clarity_infra.move.estimate import Span
from clarity_infra.move.model import MoveSet, Table
from clarity_infra.move.status import Status
from clarity_infra.move.survey import Survey, tables_text
from clarity_infra.settings import STAGES, Settings
from clarity_infra.texts import counted, facts

Run = Literal["stay", "provision", "copy", "copy afresh", "cut over", "finish", "clean up", "go back", "discard"]
"""What an `up` is going to do with the data."""

_SIDES = {"source": "the old database", "target": "the new database", "between": "neither side, until this run has ended"}
_NOTHING_LOST = "nothing in this run is irreversible"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the review found. `survey` only where a copy is made, `set` where tables are looked at; `pending` is None where nobody asked."""

    status: Status
    survey: Survey | None = None
    set: MoveSet | None = None
    pending: tuple[str, ...] | None = None
    loss: Loss | None = None
    hyperdrive: dict[str, Any] | None = None


def run_of(settings: Settings, found: Status) -> Run:
    """What an `up` at the configured stage is going to do, from where the environment is."""
    wanted, now = STAGES.index(settings.stage), STAGES.index(found.stage) if found.stage else -1
    if wanted > now:
        return ("provision", "copy", "cut over", "clean up")[wanted]
    if found.stage == "cutover":
        return "go back" if wanted < now else "stay" if found.side == "target" else "finish"
    if found.stage == "copy" and wanted < now:
        return "discard"
    afresh = found.stage == "copy" and (found.copied or {}).get("revision") != settings.configuration.copy_revision
    return "copy afresh" if afresh else "stay"


def outlook(settings: Settings, seen: Seen) -> list[str]:
    """The whole text, line by line."""
    run = run_of(settings, seen.status)
    found = [
        ("now", seen.status.lines()),
        ("this run", _this_run(run, settings, seen)),
        *_pending(run, seen.pending),
        *_times(run, settings, seen),
        ("to undo", _undo(run, settings)),
    ]
    lines = [f"stage: {_stage(settings, seen.status)}", "", *facts(found)]
    if seen.survey is not None:
        return [*lines, "", *seen.survey.text().splitlines()]
    if seen.set is not None and run == "cut over":
        return [*lines, "", *tables_text(seen.set.tables)]
    if seen.loss is not None:
        return [*lines, "", *_loss(seen.loss, settings)]
    return lines


def _stage(settings: Settings, found: Status) -> str:
    now = found.stage or "nothing yet"
    return f"{now}, and stays there" if now == settings.stage else f"{now} -> {settings.stage}"


def _this_run(run: Run, settings: Settings, seen: Seen) -> list[str]:
    database = settings.configuration.database
    target = f'database "{database}"'
    match run:
        case "provision":
            return [f"makes {target}, its roles and their privileges; no row is read or moved, the application is not touched"]
        case "copy" | "copy afresh":
            tables = counted(len(seen.survey.move_set.tables), "table") if seen.survey else "the tables"
            first = "throws the copy away and makes another: " if run == "copy afresh" else ""
            return [
                f"{first}copies {tables} into {target} and verifies the copy, to the last row",
                "the application stays where it is, reads and writes as before",
                *(["switches Hyperdrive's cache off"] if seen.hyperdrive else []),
            ]
        case "cut over" | "finish":
            return [
                "ends what a run that died began:" if run == "finish" else "moves the application to the copy:",
                "1. carries what changed since the copy, while writers go on",
                "2. locks writers out, carries the rest, and has the old tables refuse writes from then on",
                f"3. applies {_migrations(seen.pending)}",
                "4. " + _switch(settings, seen.hyperdrive, back=False),
                "5. compares every row of both sides",
            ]
        case "clean up":
            return [
                f"backs the old tables up into {settings.configuration.backup_folder} and reads the backup back",
                f"drops the old tables, and the types and sequences only they use, from {settings.source.label()}",
            ]
        case "go back":
            return [
                "brings the old database back to life:",
                "1. the new tables refuse writes from then on",
                "2. carries what was written to them since the cut-over",
                "3. " + _switch(settings, seen.hyperdrive, back=True),
            ]
        case "discard":
            return [f"drops the copy from {target}; the old tables are live and were never touched"]
        case _ if seen.status.unfenced:
            return ["puts the fence back on the old tables where it was taken off, if nobody wrote to them since; moves nothing"]
        case _:
            return ["moves nothing"]


def _switch(settings: Settings, config: dict[str, Any] | None, *, back: bool) -> str:
    """Which ways the application is sent by, and where to."""
    ways = []
    if config is not None:
        ways.append(f"Hyperdrive ({config.get('name') or config.get('id')})")
    if settings.configuration.env_file:
        ways.append(f"DATABASE_URL in {settings.configuration.env_file}")
    where = (
        settings.source.label()
        if back
        else f'database "{settings.configuration.database}" on {settings.target.host} as {settings.rotation.current}'
    )
    if not ways:
        return f"the application is to be sent to {where} by hand"
    return f"{' and '.join(ways)} {'name' if len(ways) > 1 else 'names'} {where}"


def _migrations(pending: Sequence[str] | None) -> str:
    return f"{counted(len(pending), 'migration')}: {', '.join(pending)}" if pending else "no migration: none is pending"


def _pending(run: Run, pending: tuple[str, ...] | None) -> list[tuple[str, str]]:
    """The migrations that are waiting, where this run does not name them itself."""
    if pending is None or run in ("cut over", "finish"):
        return []
    return [("migrations", f"to be applied at the cut-over: {', '.join(pending) or 'none'}")]


def _times(run: Run, settings: Settings, seen: Seen) -> list[tuple[str, str]]:
    move_set = seen.survey.move_set if seen.survey else seen.set
    copied = seen.status.copied
    if run in ("provision", "copy", "copy afresh") and move_set is not None:
        what = "the copy, at the next stage: " if run == "provision" else ""
        waits = "none: the copy takes no lock that keeps a writer out; DDL on these tables waits until it is done"
        return [("time", what + _span(estimate.copying(move_set.tables, copied), copied)), ("writers wait", waits)]
    if run == "cut over" and move_set is not None:
        tables = [table for table in move_set.tables if table.name != move_set.tracking]
        return [
            ("time", _span(estimate.comparing(tables, copied), copied) + " in which writers go on"),
            ("writers wait", _wait([table for table in tables if table.kind == "r" and not table.key], settings, copied)),
        ]
    if run == "go back":
        return [("writers wait", "as long as it takes to carry back what is listed below; until then they are refused, not lost")]
    return []


def _span(found: Span | None, copied: dict[str, Any] | None) -> str:
    if found is None:
        return "not known: a table was never analyzed, so the catalog has no estimate of its rows (ANALYZE gives one)"
    return f"{found} (by what the copy took here)" if copied else f"{found} (by rates measured elsewhere; servers and network change it)"


def _wait(keyless: Sequence[Table], settings: Settings, copied: dict[str, Any] | None) -> str:
    found = estimate.waiting(keyless, copied)
    budget = f"a lock that is not had within {settings.configuration.lock_budget} s is given up, with nothing changed"
    if not settings.configuration.cloudflare_account_id:
        budget += "; without Hyperdrive they are refused then, until the application is started anew with the new URL"
    if not keyless:
        return f"{found} at the switch, whatever the size of the tables; {budget}"
    names = ", ".join(str(table.name) for table in keyless)
    return f"{found or 'not known how long'}, as {names} without a key must be compared whole under the lock (a primary key ends that); {budget}"


def _undo(run: Run, settings: Settings) -> list[str]:
    stage = "pulumi config set stage {} && pulumi up"
    match run:
        case "provision":
            return [f"pulumi destroy; {_NOTHING_LOST}"]
        case "copy" | "copy afresh":
            return [f"{stage.format('provision')}, or pulumi destroy; {_NOTHING_LOST}"]
        case "cut over" | "finish":
            return [
                f"{stage.format('copy')}, or pulumi destroy: every row written since is carried back",
                "what is written where only a later migration made a place is listed then, and stops the way back",
            ]
        case "clean up":
            return [
                "IRREVERSIBLE but for the backup: python -m clarity_infra restore brings the old tables back from it",
                "from then on pulumi destroy is refused, as the new database is the only copy",
            ]
        case "go back":
            return [f"{stage.format('cutover')}: another cut-over; {_NOTHING_LOST} but what is listed as lost"]
        case "discard":
            return [f"{stage.format('copy')} makes another copy; {_NOTHING_LOST}"]
        case _:
            return ["there is nothing to undo"]


def _loss(loss: Loss, settings: Settings) -> list[str]:
    """What goes back, and what cannot."""
    carried = [f"{item.table}: {item.inserted:,} inserted, {item.updated:,} changed, {item.deleted:,} deleted" for item in loss.written]
    found: list[tuple[str, list[str]]] = [("carried back", carried or ["nothing was written since the cut-over"])]
    if loss.no_place:
        name = settings.configuration.database
        given_up = settings.discard == name
        found.append(("no place there", list(loss.no_place)))
        found.append(
            (
                "that",
                [f"is LOST by this run, as discardWrites names {name}"]
                if given_up
                else [f"stops this run, with nothing changed; to lose it all the same: CLARITY_DISCARD_WRITES={name}"],
            )
        )
    return facts(found)
