"""Where can a run be hit? At every step of the table of transitions, and at every point the steps themselves name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import clarity_infra.move
from clarity_infra.move.state import TRANSITIONS


def table_points(command: str) -> list[str]:
    """`before` and `after` each step that the table of transitions has for a command; what is refused is no step."""
    steps = dict.fromkeys(row.step for row in TRANSITIONS if row.command == command and row.step != "refuse")
    return [f"{when} {step}" for step in steps for when in ("before", "after")]


def named_points() -> set[str]:
    """Every point named in the source of the package: the literal arguments of `reach`."""
    folder = Path(clarity_infra.move.__file__).parent
    return {point for file in sorted(folder.glob("*.py")) for point in _reached(ast.parse(file.read_text(encoding="utf-8")))}


def every_point() -> set[str]:
    """All there are: the table's for both directions, and the named ones."""
    return {*table_points("cut over"), *table_points("go back"), *named_points()}


def _reached(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
            (argument,) = node.args
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value
