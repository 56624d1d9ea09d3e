"""How long did each step of a run take? Noted as the steps are taken, so that a report can show where the time went."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass
class Steps:
    """The steps of one run, in the order they began; a step may hold others. Taken by one thread."""

    clock: Callable[[], float] = time.monotonic
    _began: float = dataclasses.field(init=False)
    _taken: list[dict[str, Any]] = dataclasses.field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._began = self.clock()

    @contextlib.contextmanager
    def taking(self, step: str) -> Iterator[None]:
        """Notes when the step begins and how long it takes, also where it fails."""
        noted: dict[str, Any] = {"step": step, "from": self.clock(), "seconds": None}
        self._taken.append(noted)
        try:
            yield
        finally:
            noted["seconds"] = self.clock() - noted["from"]

    def json(self) -> list[dict[str, Any]]:
        """For evidence: `step`, `from` (seconds after the run began) and `seconds`; of a step that is under way, its time so far."""
        now = self.clock()
        return [
            {
                "step": noted["step"],
                "from": round(noted["from"] - self._began, 3),
                "seconds": round(now - noted["from"] if noted["seconds"] is None else noted["seconds"], 3),
            }
            for noted in self._taken
        ]
