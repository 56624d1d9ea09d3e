"""Which other stacks have a hand in these databases? One server, and one source, may serve several; none may take what is another's."""

from __future__ import annotations

import dataclasses

from clarity_infra.move import fence
from clarity_infra.move.discard import COPIED, DISCARDED, MADE, STARTED
from clarity_infra.move.journal import Journal
from clarity_infra.move.model import Move


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Other stacks by name: `fencing` keep our tables in the source from taking writes, `copying` have a copy of theirs in our target."""

    fencing: tuple[str, ...] = ()
    copying: tuple[str, ...] = ()


def neighbours(move: Move, *, target_exists: bool) -> Neighbours:
    """Looks at both databases. Reads only. Raises Unreachable or ConfigurationError where one cannot be asked."""
    with move.source.connect(purpose="neighbours") as source:
        others = [stack for stack in Journal(source, move.stack).stacks() if stack != move.stack]
        fencing = [stack for stack in others if fence.standing_of(source, stack).in_force & set(move.tables)]
    if not target_exists:
        return Neighbours(tuple(fencing))
    with move.target.connect(purpose="neighbours") as target:
        others = [stack for stack in Journal(target, move.stack).stacks() if stack != move.stack]
        last = {stack: Journal(target, stack).last(STARTED, MADE, COPIED, DISCARDED) for stack in others}
    return Neighbours(tuple(fencing), tuple(stack for stack, entry in last.items() if entry is not None and entry.step != DISCARDED))
