"""Is there a finished copy in the target, and what does it prove? Asked of the target's journal, not of Pulumi's state."""

from __future__ import annotations

from typing import Any

from clarity_infra.move.discard import COPIED, DISCARDED, MADE, STARTED
from clarity_infra.move.journal import Journal
from clarity_infra.move.model import Move


def finished_copy(move: Move) -> dict[str, Any] | None:
    """The evidence of the last copy of this stack where it was finished and verified, else None."""
    with move.target.connect(purpose="evidence") as target:
        entry = Journal(target, move.stack).last(STARTED, MADE, COPIED, DISCARDED)
    return dict(entry.facts) if entry is not None and entry.step == COPIED else None
