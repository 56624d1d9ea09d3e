"""How are sizes, spans of time, tables and facts written for people? The same everywhere: preview, report, command line."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

TERMINAL = 80
"""Columns of a terminal that nobody made wider."""
WIDTH = TERMINAL - 4
"""Of these, what the engine leaves for what a program says, which it indents; it fits into a pull request's comment as well."""
_LONGEST_VALUE = 60


def size(count: float) -> str:
    """A number of bytes: 512 B, 16.0 kB, 4.9 MB; in steps of 1024, as PostgreSQL's own `pg_size_pretty`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """A span: 13 ms, 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 0.0995:
        return f"{round(seconds * 1000)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 and whole % 60 else f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows as aligned columns, the first row underlined; the columns numbered in `right` are flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def facts(found: Iterable[tuple[str, str | Iterable[str]]], *, width: int = WIDTH) -> list[str]:
    """Label and text side by side, long texts broken at words and indented; a label with several lines stands at the first."""
    pairs = [(label, [text] if isinstance(text, str) else list(text)) for label, text in found]
    margin = max((len(label) for label, _ in pairs), default=0) + 3
    lines = []
    for label, texts in pairs:
        broken = [
            part
            for text in texts
            for part in textwrap.wrap(text, width - margin, break_long_words=False, break_on_hyphens=False, subsequent_indent="  ") or [""]
        ]
        lines += [f"{label + ':' if number == 0 else '':<{margin}}{part}".rstrip() for number, part in enumerate(broken)]
    return lines


def shown(found: object) -> str:
    """A value of somebody's row, on a part of one line, whatever it holds: what is not printable is escaped, what is long is cut."""
    text = str(found)
    cut = text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in cut)


def counted(number: int, one: str, many: str = "") -> str:
    """1 table, 4 tables."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
