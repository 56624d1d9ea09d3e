"""Where did the time go? Steps as bars on one axis of time, drawn as SVG; what is inside another step stands indented below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clarity_infra.report.markup import Markup, join, tag
from clarity_infra.texts import duration

_WIDTH, _ROW, _LABEL, _VALUE = 860, 26, 270, 90
_TICKS = 4
_ROUND = (1, 2, 5, 10)


def bars(steps: Sequence[Mapping[str, Any]], *, title: str) -> Markup:
    """The picture of `steps` (`step`, `from`, `seconds`), as wide as its page."""
    whole = max((step["from"] + step["seconds"] for step in steps), default=0.0) or 1.0
    axis = _axis(whole)
    scale = (_WIDTH - _LABEL - _VALUE) / max(whole, axis[-1])
    height = _ROW * len(steps) + 28
    rows = [_row(step, number, scale, _depth(step, steps)) for number, step in enumerate(steps)]
    lines = [_tick(at, _LABEL + at * scale, height) for at in axis]
    spoken = "; ".join(f"{step['step']} {duration(step['seconds'])}" for step in steps)
    return tag(
        "svg",
        tag("title", f"{title}: {spoken}"),
        *lines,
        *rows,
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        class_="bars",
    )


def _row(step: Mapping[str, Any], number: int, scale: float, depth: int) -> Markup:
    top = number * _ROW
    start, width = _LABEL + step["from"] * scale, max(step["seconds"] * scale, 2.0)
    waits = "wait" in step["step"]
    return join(
        tag("text", str(step["step"]), x=8 + 16 * depth, y=top + 17, class_="label"),
        tag(
            "rect",
            x=round(start, 1),
            y=top + 5,
            width=round(width, 1),
            height=_ROW - 10,
            rx=2,
            class_="bar waits" if waits else "bar inner" if depth else "bar",
        ),
        tag("text", duration(step["seconds"]), x=_WIDTH - 4, y=top + 17, class_="value", text_anchor="end"),
    )


def _tick(at: float, x: float, height: int) -> Markup:
    return join(
        tag("line", x1=round(x, 1), x2=round(x, 1), y1=0, y2=height - 22, class_="grid"),
        tag("text", f"{at:g} s", x=round(x, 1), y=height - 6, class_="tick", text_anchor="middle"),
    )


def _axis(whole: float) -> list[float]:
    """Round numbers from 0 up to about the whole."""
    rough = whole / _TICKS
    power = 10.0
    while power > rough:
        power /= 10
    while power * 10 <= rough:
        power *= 10
    step = next(power * factor for factor in _ROUND if power * factor >= rough)
    return [step * number for number in range(int(whole / step) + 1)]


def _depth(step: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> int:
    """How many other steps this one is inside of."""
    begin, end = step["from"], step["from"] + step["seconds"]
    slack = 0.002  # the figures were rounded to milliseconds
    return sum(
        1
        for other in steps
        if other is not step
        and other["from"] <= begin + slack
        and other["from"] + other["seconds"] >= end - slack
        and (other["seconds"], -steps.index(other)) > (step["seconds"], -steps.index(step))
    )
