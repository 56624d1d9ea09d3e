"""Which commands do README and docs show a person? Every line of a code block, and every code span that begins as a command does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "Pulumi.README.md", *(ROOT / "docs").glob("*.md")])

_PROGRAMS = r"make|pulumi|python3?|\.venv/bin/\w+|pip|psql|npx|npm|gh|git|docker|apt(?:-get)?|createdb|export|source|find|\."
_VARIABLES = r"(?:[A-Z_]+=(?:\"[^\"]*\"|'[^']*'|[^\s'\"]*) )*"
_COMMAND = re.compile(rf"{_VARIABLES}(?:{_PROGRAMS}) \S")


def commands() -> dict[str, list[str]]:
    """The pages on which each command stands, by command. What is joined by && is a command each."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        for command in _of(page.read_text()):
            pages = found.setdefault(command, [])
            if page.name not in pages:
                pages.append(page.name)
    return found


def unknown_lines() -> list[str]:
    """Lines of blocks marked as a shell's that do not begin as a command does: a program that `_PROGRAMS` lacks."""
    lines = [line for page in PAGES for block in _shell_blocks(page.read_text()) for line in block]
    return [line for line in lines if not _COMMAND.match(line)]


def _of(text: str) -> Iterator[str]:
    blocks = [*_shell_blocks(text), *_indented_blocks(text)]
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    for line in [*(line for block in blocks for line in block), *spans]:
        for command in re.split(r" && |; (?=[A-Z_]+=)", line):
            if _COMMAND.match(command):
                yield command


def _shell_blocks(text: str) -> list[list[str]]:
    return [_lines(block) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def _indented_blocks(text: str) -> list[list[str]]:
    return [_lines(block) for block in re.findall(r"(?:^ {4}.*\n?)+", text, re.MULTILINE)]


def _lines(block: str) -> list[str]:
    return [line for line in (re.sub(r"\s+# .*", "", line).strip() for line in block.splitlines()) if line]
