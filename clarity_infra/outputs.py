"""What does a person see of a stack? Its outputs in plain words; all the evidence is in the report and in the databases' journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi

from clarity_infra.texts import TERMINAL, counted, duration, facts, size

README = "Pulumi.README.md"
"""Shown by Pulumi Cloud beside the stack, with `${outputs.name}` filled in. https://www.pulumi.com/docs/iac/concepts/projects/stack-readme/"""

_OF_COPY = ("tables", "seconds", "verify_seconds", "revision", "snapshot_at", "migrations")
_OF_CUT_OVER = ("at", "waited_seconds", "refused_seconds", "carried", "migrations", "proved", "proved_at", "back", "reach")


def readme(*, hyperdrive: bool = True) -> str:
    """The stack's README: the text of the file beside Pulumi.yaml, without the line about `hyperdrive` where it is not managed."""
    lines = Path(README).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if hyperdrive or "${outputs.hyperdrive" not in line)


def summary(*, copy: Any, cutover: Any, cleanup: Any) -> dict[str, pulumi.Output[str]]:
    """One line each, from the resources' evidence."""
    return {
        "live": pulumi.Output.all(cutover, cleanup).apply(lambda both: live(*both)),
        "moved": pulumi.Output.from_input(copy).apply(moved),
        "writersWaited": pulumi.Output.from_input(cutover).apply(waited),
        "report": pulumi.Output.all(cleanup, cutover, copy).apply(report),
    }


def text(stage: str, steps: Sequence[str], *, copy: Any, cutover: Any, cleanup: Any) -> pulumi.Output[str]:
    """All of it on a page: which side is live, what was moved and how it was proved, who waited, what is next."""
    return pulumi.Output.all(copy, cutover, cleanup).apply(lambda found: page(stage, steps, *found))


def page(
    stage: str, steps: Sequence[str], copy: Mapping[str, Any] | None, cutover: Mapping[str, Any] | None, cleanup: Mapping[str, Any] | None
) -> str:
    """What `text` shows, once the evidence is there."""
    found: list[tuple[str, str | list[str]]] = [
        ("stage", stage),
        ("writes are taken by", live(cutover, cleanup)),
        ("moved", [moved(copy), *_rows_and_sizes(copy)]),
        ("writers waited", waited(cutover)),
    ]
    if cutover and "back" not in cutover:
        found.append(("migrations applied", ", ".join(cutover.get("migrations") or []) or "none"))
        found.append(("proof", f"both sides equal, row for row, {cutover.get('proved_at', '')}" if cutover.get("proved") else "missing"))
    if cleanup and cleanup.get("backup"):
        found.append(("backup", str(cleanup["backup"])))
    found.append(("report", report([cleanup, cutover, copy])))
    found.append(("next", list(steps)))
    return "\n".join(facts(found, width=TERMINAL))


def _rows_and_sizes(copy: Mapping[str, Any] | None) -> list[str]:
    tables = (copy or {}).get("tables") or []
    return [f"{entry['table']}: {counted(int(entry['rows']), 'row')}, {size(float(entry['bytes']))}" for entry in tables]


def evidence(*, copy: Any, access: Any, cutover: Any, cleanup: Any) -> dict[str, pulumi.Output[Any]]:
    """What was moved and how it was proved, short enough to be read in a terminal."""
    return {
        "copy": pulumi.Output.from_input(copy).apply(lambda found: _part(found, _OF_COPY)),
        "access": pulumi.Output.from_input(access).apply(
            lambda found: {key: len(texts) for key, texts in (found or {}).items() if isinstance(texts, list)}
        ),
        "cutover": pulumi.Output.from_input(cutover).apply(lambda found: _part(found, _OF_CUT_OVER)),
        "cleanup": pulumi.Output.from_input(cleanup),
    }


def advice(audit: Any, access: Any) -> pulumi.Output[list[str]]:
    """What only the server's operator can set: for the audit log, and against what the access check found the application able to do."""
    return pulumi.Output.all(audit, access).apply(lambda both: [*(both[0] or ()), *((both[1] or {}).get("advice") or ())])


def live(cutover: Mapping[str, Any] | None, cleanup: Mapping[str, Any] | None) -> str:
    """Which side takes the application's writes, as far as this stack's last run knows."""
    if cleanup:
        return "the new database; the old tables are gone"
    if cutover and "back" not in cutover:
        return "the new database; the old tables refuse writes"
    return "the old database"


def moved(copy: Mapping[str, Any] | None) -> str:
    """How much the verified copy holds."""
    tables = (copy or {}).get("tables") or []
    if not tables:
        return "nothing yet"
    rows, sent = sum(int(entry["rows"]) for entry in tables), sum(float(entry["bytes"]) for entry in tables)
    return f"{rows:,} rows in {counted(len(tables), 'table')}, {size(sent)}, verified, in {duration(float((copy or {}).get('seconds') or 0))}"


def waited(cutover: Mapping[str, Any] | None) -> str:
    """How long writers waited at the cut-over."""
    found = cutover or {}
    if found.get("waited_seconds") is None:
        return "no cut-over yet" if "back" not in found else "gone back"
    refused = f", then refused for {duration(float(found['refused_seconds']))}" if found.get("refused_seconds") is not None else ""
    return f"{duration(float(found['waited_seconds']))} at most{refused}"


def report(found: list[Mapping[str, Any] | None]) -> str:
    """The file with the newest report, looked for in the evidence of clean-up, cut-over or way back, and copy."""
    for one in found:
        path = (one or {}).get("report") or ((one or {}).get("back") or {}).get("report")
        if path:
            return str(path)
    return "none yet"


def _part(found: Mapping[str, Any] | None, keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: found[key] for key in keys if found and key in found}
