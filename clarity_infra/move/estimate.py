"""How long would it take? Ranges from measured rates (docs/speed.md, docs/faults.md), narrowed by what this environment's own copy took."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from clarity_infra.move.model import Table
from clarity_infra.texts import duration

# Rows and bytes a second of a verified copy on two processors, source and target on one server: with both, the estimate for each of the
# measured copies is within a fifth of what they took (3.0 million rows of 233 B in 36 s, 20 million of 68 B in 214 s).
ROWS_A_SECOND = 110_000
BYTES_A_SECOND = 80e6
# What a copy takes however small it is: connections, pg_dump, the making of tables.
LEAST = 0.8
# Other servers, disks and the network between them make the measured rates right within these factors only.
_ELSEWHERE = (0.5, 4.0)
# Where this environment has made a copy already, its own rate is known.
_HERE = (0.6, 2.0)
# Seconds writers were without an acknowledged write at a cut-over, from ten thousand rows to ten million, at 290 writes a second.
_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 1.0


@dataclasses.dataclass(frozen=True)
class Span:
    """Between `low` and `high` seconds."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        if self.high < 1:
            return "less than 1 s"
        low, high = _text(self.low), _text(self.high)
        if low == high:
            return f"about {low}"
        alike = low.rpartition(" ")[2] == high.rpartition(" ")[2] and low.count(" ") == high.count(" ") == 1
        return f"{low.rpartition(' ')[0] if alike else low} to {high}"


def _text(seconds: float) -> str:
    rounded = _round(seconds)
    return f"{rounded:g} s" if rounded < 10 else duration(rounded)


def _round(seconds: float) -> float:
    """One figure that means something."""
    if seconds < 1:
        return max(0.1, round(seconds, 1))
    if seconds < 10:
        return round(seconds)
    step = 5 if seconds < 60 else 10 if seconds < 120 else 60 if seconds < 7200 else 600
    return round(seconds / step) * step


def copying(tables: Iterable[Table], copied: Mapping[str, Any] | None = None) -> Span | None:
    """A verified copy of the tables; `copied` is the evidence of an earlier one. None where sizes are not known (never analyzed)."""
    return _span(list(tables), copied, LEAST)


def comparing(tables: Iterable[Table], copied: Mapping[str, Any] | None = None) -> Span | None:
    """The comparison of tables on both sides, about half the work of a copy."""
    found = _span(list(tables), copied, 0.0)
    return Span(found.low / 2, found.high / 2) if found else None


def waiting(keyless: Iterable[Table], copied: Mapping[str, Any] | None = None) -> Span | None:
    """How long writers wait at a cut-over: a moment, and as long as it takes to compare the tables without a key whole."""
    whole = comparing(keyless, copied)
    return Span(_SHORTEST_WAIT, _LONGEST_WAIT) + whole if whole else None


def _span(tables: list[Table], copied: Mapping[str, Any] | None, least: float) -> Span | None:
    stored = [table for table in tables if table.kind == "r"]
    if any(table.estimated_rows < 0 and table.bytes for table in stored):
        return None
    rows = sum(max(table.estimated_rows, 0) for table in stored)
    seconds = least + _work(rows, sum(table.bytes for table in stored))
    factors = _ELSEWHERE
    took = float((copied or {}).get("seconds") or 0)
    if copied and took:
        found = copied.get("tables") or []
        expected = LEAST + _work(sum(int(entry["rows"]) for entry in found), sum(int(entry["bytes"]) for entry in found))
        here = took / expected
        factors = (_HERE[0] * here, _HERE[1] * here)
    return Span(seconds * factors[0], seconds * factors[1])


def _work(rows: int, size: int) -> float:
    return rows / ROWS_A_SECOND + size / BYTES_A_SECOND
