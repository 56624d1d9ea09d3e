"""What a move came to, as a short text: evidence, waits, Cloudflare, what is stood in for, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clarity_infra.texts import duration, size, table

_DIGEST_SHOWN = 16


def report(outputs: Mapping[str, Any], *, stand_ins: Sequence[str], env_path: Path, seconds: float) -> str:
    """The report on a stack's outputs after an `up`. A part that the stage has nothing for yet is left out."""
    evidence = outputs.get("evidence") or {}
    parts = [
        f"Stage {outputs.get('stage', 'unknown')}, after {seconds:.0f} s.",
        _tables((evidence.get("copy") or {}).get("tables") or []),
        _cut_over(evidence.get("cutover") or {}),
        _hyperdrive(outputs.get("hyperdrive") or {}),
        f"All of it, with a picture of where the time went: {outputs['report']}" if outputs.get("report") else "",
        _listed("Stood in for, and why:", stand_ins),
        _listed("What to do next:", [*(outputs.get("nextSteps") or []), *_everywhere(env_path)]),
    ]
    return "\n\n".join(part for part in parts if part)


def _tables(tables: Sequence[Mapping[str, Any]]) -> str:
    if not tables:
        return ""
    rows = [("table", "rows", "bytes", "digest", "seconds")]
    for entry in tables:
        rows.append(
            (
                str(entry["table"]),
                f"{int(entry['rows']):,}",
                size(float(entry["bytes"])),
                _digest(str(entry["digest"])),
                f"{float(entry['seconds']):.2f}",
            )
        )
    return table(rows, right=(1, 2, 4))


def _digest(text: str) -> str:
    """The start of a digest, without the name of the method that made it."""
    return text.partition(":")[2][:_DIGEST_SHOWN] or text[:_DIGEST_SHOWN]


def _cut_over(cutover: Mapping[str, Any]) -> str:
    waited = cutover.get("waited_seconds")
    if waited is None:
        return ""
    migrations = ", ".join(cutover.get("migrations") or []) or "none"
    proof = "both sides were proved equal, row for row" if cutover.get("proved") else "the last proof is missing"
    return (
        f"Writers waited {duration(float(waited))} at most at the cut-over; {int(cutover.get('carried') or 0)} changes were carried meanwhile.\n"
        f"Migrations applied: {migrations}; {proof}."
    )


def _hyperdrive(hyperdrive: Mapping[str, Any]) -> str:
    if not hyperdrive.get("id"):
        return ""
    rows = [("Hyperdrive", str(hyperdrive["id"]))]
    rows += [(when, _origin(hyperdrive.get(when))) for when in ("before", "after")]
    return table(rows)


def _origin(value: Any) -> str:
    """An origin on one line, whether it is a text or an object with host, port, database and user."""
    if not isinstance(value, Mapping):
        return str(value if value is not None else "-")
    origin = value.get("origin", value)
    way = origin.get("host") or f"Workers VPC service {origin.get('service_id')}"
    port = f":{origin['port']}" if origin.get("port") else ""
    place = f"{origin.get('user')} at {way}{port}/{origin.get('database')}"
    rest = [f"{name} {setting}" for name, setting in value.items() if name != "origin" and value is not origin]
    return ", ".join([place, *rest])


def _everywhere(env_path: Path) -> list[str]:
    return [
        f'. {env_path} && psql "$DATABASE_URL"   to look at the live database',
        "make smoke   to try the application on the live database: its Worker, in workerd, through Hyperdrive",
        f". {env_path} && pulumi stack output   to use the Pulumi command line on this stack",
        "make down   to go back to where it was; make clean   to remove everything",
    ]


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)]) if lines else ""
