"""How does the account of a move read? As one HTML file that needs nothing else: no network, no script; light and dark.

The page forbids itself to load anything (its Content-Security-Policy), and every text on it is escaped.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from clarity_infra.report.account import Account, Run
from clarity_infra.report.bars import bars
from clarity_infra.report.markup import Child, Markup, join, tag
from clarity_infra.settings import STAGES
from clarity_infra.texts import counted, duration, size

_TITLES: Mapping[Run, str] = {
    "copy": "Copy",
    "cut-over": "Cut-over",
    "roll-back": "Way back",
    "clean-up": "Clean-up",
    "restore": "Restore",
    "destroy": "Way back and removal",
    "look": "State of the move",
}
_VERDICTS: Mapping[Run, str] = {
    "copy": "copied and verified",
    "cut-over": "the application is on the new database",
    "roll-back": "the application is on the old database again",
    "clean-up": "backed up, proved and dropped",
    "restore": "the old tables are back, fenced",
    "destroy": "everything is as it was before the move",
    "look": "read from the databases",
}
_SIDES = {"source": "the old database", "target": "the new database", "between": "neither side, until the run is repeated"}
_STEPS = {
    "copy-started": "copy begun",
    "copy-made": "tables, types and sequences made",
    "copied": "copy finished and verified",
    "copy-discarded": "copy thrown away",
    "fenced": "old tables fenced: they refuse writes",
    "migrated": "migrations applied",
    "digested": "tables that a migration writes anew digested before it",
    "watched": "what is written from here on is noted until both sides are compared",
    "opened": "new database takes writes",
    "clients sent on": "old connections ended",
    "migration-made": "what migrations made is noted",
    "cut over": "cut-over finished, both sides compared",
    "lifted": "fence lifted: the old tables take writes",
    "gone back": "gone back to the old database",
    "cleaned up": "old tables dropped",
    "restored": "old tables restored",
}
_DIGEST_SHOWN = 16
_ARROW, _DASH = "\N{RIGHTWARDS ARROW}", "\N{EN DASH}"


def page(account: Account) -> str:
    """The whole file."""
    title = f"{_TITLES[account.run]}, stack {account.stack}"
    body = join(
        _head(account, title),
        _where(account),
        _tables(account),
        _times(account),
        _waits(account),
        _migrations(account),
        _hyperdrive(account),
        _carried(account),
        _dropped(account),
        _evidence(account),
        _next(account),
        _history(account),
        tag("footer", f"Written by clarity-infra at {_moment(account.at)}. Times are UTC; the databases' own clocks where they noted them."),
    )
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Markup(files(__package__).joinpath("page.css").read_text(encoding="utf-8"))),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", body)), lang="en") + "\n"


def _head(account: Account, title: str) -> Markup:
    verdict = tag("span", "failed" if account.failed else _VERDICTS[account.run], class_="verdict bad" if account.failed else "verdict good")
    return tag(
        "header",
        tag("h1", title),
        tag("p", f"{account.source} {_ARROW} {account.target}, {_moment(account.at)}", class_="soft"),
        verdict,
        tag("p", account.failed, class_="told") if account.failed else None,
        _figures(account),
    )


def _figures(account: Account) -> Markup | None:
    copy, cut_over = account.copy or {}, account.cut_over or {}
    tables = copy.get("tables") or []
    figures = [
        ("tables", f"{len(tables):,}" if tables else ""),
        ("rows", f"{sum(int(entry['rows']) for entry in tables):,}" if tables else ""),
        ("size as sent", size(sum(float(entry["bytes"]) for entry in tables)) if tables else ""),
        ("copy took", duration(float(copy["seconds"])) if copy.get("seconds") else ""),
        ("writers waited", duration(float(cut_over["waited_seconds"])) if cut_over.get("waited_seconds") is not None else ""),
        ("writes refused since", f"{account.refused:,}" if cut_over and account.side == "target" else ""),
    ]
    shown = [tag("div", tag("dt", label), tag("dd", value)) for label, value in figures if value]
    return tag("dl", *shown, class_="figures") if shown else None


def _where(account: Account) -> Markup | None:
    if account.run == "destroy" and not account.failed:
        return _section("Where it stands", tag("p", "The old database is live; what this stack made is being removed."))
    if account.side is None:
        return None
    here = STAGES.index(account.stage) if account.stage in STAGES else -1
    stages = [tag("li", name, class_="here" if number == here else "passed" if number < here else None) for number, name in enumerate(STAGES)]
    return _section(
        "Where it stands",
        tag("ol", *stages, class_="stages"),
        tag("p", "Writes are taken by ", tag("strong", _SIDES[account.side]), "."),
    )


def _tables(account: Account) -> Markup | None:
    copied = {str(entry["table"]): entry for entry in (account.copy or {}).get("tables") or []}
    proved = {str(entry["table"]): entry for entry in (account.cut_over or {}).get("tables") or []}
    if not copied and not proved:
        return None
    rows = [
        [
            tag("code", name),
            _number(copied.get(name), "rows"),
            size(float(copied[name]["bytes"])) if name in copied else _DASH,
            tag("code", _digest(str(copied[name]["digest"]))) if name in copied else _DASH,
            _number(proved.get(name), "rows") if proved else None,
            tag("code", _digest(str(proved[name]["digest"]))) if name in proved else (_DASH if proved else None),
        ]
        for name in dict.fromkeys((*copied, *proved))
    ]
    headings: list[tuple[str, bool]] = [("table", False), ("rows copied", True), ("size as sent", True), ("digest", False)]
    if proved:
        headings += [("at the cut-over", True), ("digest, both sides" if account.cut_over_proved else "digest", False)]
    total = ["all", f"{_sum(copied, 'rows'):,}", size(_sum(copied, "bytes")), "", *([f"{_sum(proved, 'rows'):,}", ""] if proved else [])]
    return _section("What was moved", _table(headings, rows, total))


def _times(account: Account) -> Markup | None:
    found = [
        ("The copy", (account.copy or {}).get("steps") or []),
        ("The cut-over", (account.cut_over or {}).get("steps") or []),
        ("The way back", (account.back or {}).get("steps") or []),
    ]
    pictures = [join(tag("h3", title, class_="soft"), bars(steps, title=title)) for title, steps in found if steps]
    if not pictures:
        return None
    inner = any("wait" in step["step"] for _, steps in found for step in steps)
    key = tag(
        "p",
        tag("span", "", class_="key"),
        "a step",
        *((tag("span", "", class_="key inner"), "inside another") if inner else ()),
        *((tag("span", "", class_="key waits"), "writers wait") if inner else ()),
        class_="soft legend",
    )
    slowest = sorted((account.copy or {}).get("tables") or [], key=lambda entry: -float(entry["seconds"]))[:5]
    words = (
        tag("p", "Longest to copy: " + ", ".join(f"{entry['table']} {duration(float(entry['seconds']))}" for entry in slowest) + ".")
        if slowest
        else None
    )
    return _section("Where the time went", *pictures, key, words)


def _waits(account: Account) -> Markup | None:
    found = account.cut_over or {}
    if found.get("waited_seconds") is None:
        return None
    lines: list[Child] = [
        f"Writers waited {duration(float(found['waited_seconds']))} at most while the rest was carried.",
    ]
    refused = found.get("refused_seconds")
    refused = _until_open(found.get("steps") or []) if refused is None else float(refused)
    if refused is not None:
        lines.append(f"Then writes were refused for {duration(refused)}, until the new database took them from whoever had been sent there.")
    lines += [
        f"{counted(int(found.get('carried') or 0), 'change')} carried while they waited.",
        f"{counted(int(found.get('sessions_ended') or 0), 'session')} of the application ended on the old database.",
        f"{counted(account.refused, 'write')} refused by the old tables since." if account.side == "target" else None,
    ]
    return _section("What writers noticed", _list(lines))


def _until_open(steps: Sequence[Mapping[str, Any]]) -> float | None:
    """From the end of the lock, which the fence followed at once, to the opening of the target."""
    ends = {step["step"]: step["from"] + step["seconds"] for step in steps}
    if "freeze source" in ends and "open target" in ends:
        return float(ends["open target"] - ends["freeze source"])
    return None


def _migrations(account: Account) -> Markup | None:
    rehearsed = account.rehearsed or {}
    applied = list((account.cut_over or {}).get("migrations") or account.migrations)
    waiting = [str(tag_) for tag_ in rehearsed.get("pending") or () if tag_ not in applied]
    if not applied and not waiting:
        return None
    return _section(
        "Migrations",
        tag("p", "Applied at the cut-over: ", *_codes(applied), ".") if applied else None,
        tag("p", "Pending, rehearsed in ", duration(float(rehearsed.get("seconds") or 0)), " and rolled back: ", *_codes(waiting), ".")
        if waiting
        else None,
    )


def _hyperdrive(account: Account) -> Markup | None:
    origins = account.origins or {}
    if not origins.get("before") and not origins.get("after"):
        return None
    now = {"source": "before", "target": "after"}.get(account.side or "")
    rows = [
        [f"{when} the move", tag("code", _origin(origins.get(when))), "in effect" if when == now else ""]
        for when in ("before", "after")
        if origins.get(when)
    ]
    title = f"Hyperdrive {origins['id']}" if origins.get("id") else "Hyperdrive"
    return _section(title, _table([("origin", False), ("user, host, database", False), ("", False)], rows))


def _origin(origin: Mapping[str, Any] | None) -> str:
    found = origin or {}
    place = f"{found['host']}:{found['port']}" if found.get("port") else str(found.get("host") or found.get("service_id") or "")
    return f"{found.get('user')} at {place}/{found.get('database')}"


def _carried(account: Account) -> Markup | None:
    back = account.back or {}
    if not back:
        return None
    rows = [
        [tag("code", name), *(f"{int(counts.get(kind) or 0):,}" for kind in ("inserted", "updated", "deleted"))]
        for name, counts in (back.get("carried") or {}).items()
    ]
    headings = [("table", False), ("inserted", True), ("changed", True), ("deleted", True)]
    given_up = [str(text) for text in back.get("discarded") or ()]
    return _section(
        "What was carried back",
        _table(headings, rows) if rows else tag("p", "Nothing had been written to the new database since the cut-over."),
        join(tag("p", "Given up, as asked for by name:"), _list(given_up)) if given_up else None,
    )


def _dropped(account: Account) -> Markup | None:
    cleaned = account.cleaned or {}
    if not cleaned:
        return None
    kept = [str(text) for text in cleaned.get("kept") or ()]
    return _section(
        "What was dropped",
        _list([tag("code", str(text)) for text in cleaned.get("dropped") or ()]),
        join(tag("p", "Kept, as others use it:"), _list([tag("code", text) for text in kept])) if kept else None,
        tag("p", "The backup: ", tag("code", str(cleaned.get("backup") or ""))),
    )


def _evidence(account: Account) -> Markup | None:
    copy, cut_over = account.copy or {}, account.cut_over or {}
    verified = copy.get("verified") or {}
    lines: list[Child] = []
    if verified:
        rows, tables = int(verified.get("rows") or 0), int(verified.get("tables") or 0)
        lines += [
            f"Copy: {rows:,} rows in {counted(tables, 'table')}, number and digest of each equal on both sides, in one snapshot"
            + (f" taken at {_moment(_parsed(copy['snapshot_at']))}." if copy.get("snapshot_at") else "."),
            f"{int(verified.get('aspects_of_structure') or 0):,} aspects of structure are equal, the labels of"
            f" {counted(int(verified.get('enums') or 0), 'enum')} and {counted(int(verified.get('sequences') or 0), 'sequence')} among them.",
            f"The digest tells a changed row apart: {verified['negative_control']}." if verified.get("negative_control") else None,
        ]
    if copy.get("source_version"):
        lines.append(f"PostgreSQL {copy['source_version']} {_ARROW} {copy.get('target_version')}.")
    if cut_over:
        when = f" at {_moment(account.cut_over_at)}" if account.cut_over_at else ""
        lines.append(
            f"Cut-over: every row of both sides was compared and is equal{when}."
            if cut_over.get("proved")
            else "Cut-over: both sides are not proved equal; the clean-up is refused until they are."
        )
    lines += [f"Note: {text}" for text in copy.get("notes") or ()]
    return _section("Evidence", _list(lines)) if lines else None


def _next(account: Account) -> Markup | None:
    return _section("What is next", _list(map(_step, account.next_steps))) if account.next_steps else None


def _step(text: str) -> Markup:
    """A step as it is told; what is to be typed stands before the colon."""
    command, colon, why = text.partition(": ")
    return join(tag("code", command), colon, why) if command.startswith("pulumi ") else join(text)


def _history(account: Account) -> Markup | None:
    if not account.history:
        return None
    rows = [
        [tag("span", _moment(event.at), class_="moment"), _STEPS.get(event.step, event.step), event.where, tag("code", event.run[:8])]
        for event in account.history
    ]
    return _section("History", _table([("when", False), ("what", False), ("where", False), ("run", False)], rows))


# Small parts


def _section(title: str, *children: Child) -> Markup:
    return tag("section", tag("h2", title), *children)


def _table(headings: Sequence[tuple[str, bool]], rows: Iterable[Sequence[Child]], total: Sequence[Child] = ()) -> Markup:
    """A table; a heading says whether its column holds numbers; a cell that is None has no column."""

    def line(cells: Sequence[Child], **attributes: str) -> Markup:
        shown = [cell for cell in cells if cell is not None]
        return tag(
            "tr",
            *(tag("td", cell, class_="number" if numeric else None) for cell, (_, numeric) in zip(shown, headings, strict=True)),
            **attributes,
        )

    heads = (tag("th", text, class_="number" if numeric else None) for text, numeric in headings)
    body = [line(cells) for cells in rows]
    if total and len(body) > 1:
        body.append(line(total, class_="sum"))
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body))


def _list(lines: Iterable[Child]) -> Markup:
    return tag("ul", *(tag("li", line) for line in lines if line is not None))


def _codes(names: Sequence[str]) -> list[Child]:
    shown: list[Child] = []
    for number, name in enumerate(names):
        shown += [", " if number else "", tag("code", name)]
    return shown


def _number(entry: Mapping[str, Any] | None, key: str) -> str:
    return f"{int(entry[key]):,}" if entry else _DASH


def _sum(entries: Mapping[str, Mapping[str, Any]], key: str) -> int:
    return sum(int(entry[key]) for entry in entries.values())


def _digest(text: str) -> str:
    """The start of a digest, without the name of the method that made it."""
    return (text.partition(":")[2] or text)[:_DIGEST_SHOWN]


def _parsed(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def _moment(at: datetime.datetime) -> str:
    return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
