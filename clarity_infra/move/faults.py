"""Where may a run die? A named point between any two steps, where tests make it die.

In ordinary use `fault` does nothing. Tests replace it (`faults.fault = ...`) to kill, stop or fail a run at a point by name.
"""

from __future__ import annotations

from collections.abc import Callable


def _nothing(_point: str) -> None:
    return None


fault: Callable[[str], None] = _nothing


def reach(point: str) -> None:
    """Says that a run has come to `point`; called between the steps of a cut-over, its way back and a clean-up."""
    fault(point)
