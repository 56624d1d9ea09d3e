"""Is what is found now the same as what was found before? A mark of the state a stack's runs left in both databases.

Two looks at databases in which nothing was done between them give the same mark; each step of a cut-over or way back, finished or
not, gives another one. So a preview and the `up` that follows it agree, and a second run that died half way is told from the first.
"""

from __future__ import annotations

import hashlib

from clarity_infra.connection import Endpoint
from clarity_infra.move import fence, journal
from clarity_infra.move.journal import Journal
from clarity_infra.move.model import Move
from clarity_infra.move.queries import query


def finding(move: Move, *, target_exists: bool) -> str:
    """The mark, as short text for a resource's input. Raises Unreachable or ConfigurationError where a side cannot be asked."""
    sides = [move.source, *([move.target] if target_exists else [])]
    seen = "\n".join(_traces(side, move.stack) for side in sides)
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def _traces(endpoint: Endpoint, stack: str) -> str:
    """What changes with every step: the newest entry of the journal, and who last touched the triggers of fence and capture."""
    pattern = f"{journal.PREFIX}_%_{fence.tag(stack)}%".replace("_", r"\_")
    with endpoint.connect(purpose="finding") as connection:
        newest = Journal(connection, stack).last()
        triggers = connection.execute(query("finding_triggers"), {"trigger": pattern}).fetchall()
    entry = f"{newest.step} {newest.run} {newest.at.isoformat()}" if newest else "no entry"
    return "\n".join((endpoint.label(), entry, *(" ".join(row) for row in triggers)))
