"""Where is a move, and what comes next? One table of transitions, which the code executes and a test enumerates.

Three facts say where a move is, and each is read from where it is true, never from a note beside it:

* whether the source refuses writes (its fence is in force). This fact also says which side is *the truth*: the fence is
  put up, and taken out of force, in the very transaction that has seen the last row carried. While the source takes
  writes it holds every acknowledged write; once it is fenced, the target does.
* whether the target refuses writes. The target is fenced from before a cut-over until the application is sent there, and
  from the moment it is left: it takes writes only while the source is fenced.
* where the application is sent (Cloudflare is asked; "unmanaged" where there is nothing to switch).

No transition leads to two sides that take writes. States in which neither does have a name, and repeating the command
that led there leaves them without anybody's decision; so does the opposite command.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from clarity_infra.errors import Refused

Origin = Literal["source", "target", "unmanaged"]
Command = Literal["cut over", "go back", "give up"]
Step = Literal[
    "close target",
    "freeze source",
    "migrate",
    "switch to target",
    "open target",
    "settle",
    "bring back",
    "switch to source",
    "settle back",
    "lift fence",
    "refuse",
]

# What a crossing leaves in the journals, one word for each thing that was done: in the source
# that its fence was put up, or taken out of force with nothing to bring back; that clients were sent on; that the cut-over was settled;
# that the rows were brought back; in the target that migrations were applied, that it was opened, and that the rows were brought back
# from it (see also `proof`).
FENCED, LIFTED, SENT_ON, CUT_OVER, GONE_BACK = "fenced", "lifted", "clients sent on", "cut over", "gone back"
MIGRATED, OPENED = "migrated", "opened"
# What a clean-up and its undoing leave in both journals.
CLEANED, RESTORED = "cleaned up", "restored"
# The newest of these in the source tells how the last crossing ended.
ENDS = (FENCED, CUT_OVER, LIFTED, GONE_BACK)

ANYWHERE: frozenset[Origin] = frozenset(("source", "target", "unmanaged"))


@dataclasses.dataclass(frozen=True)
class Facts:
    """What was found: which sides refuse writes, where the application is sent, whether migrations wait for the target."""

    source_fenced: bool
    target_fenced: bool
    origin: Origin
    pending: bool = False

    @property
    def name(self) -> str:
        """The state's name, as a person reads it."""
        return _NAMES[(self.source_fenced, self.target_fenced)]

    @property
    def writable(self) -> tuple[str, ...]:
        """The sides that take writes."""
        return tuple(side for side, fenced in (("source", self.source_fenced), ("target", self.target_fenced)) if not fenced)


_NAMES = {
    (False, False): "copied: the source is live, nothing guards the copy yet",
    (False, True): "source live: the copy takes no writes",
    (True, True): "between: neither side takes writes, the target holds everything",
    (True, False): "cut over: the target is live, the source takes no writes",
}


@dataclasses.dataclass(frozen=True)
class Transition:
    """With `command`, in a state with these facts, `step` is taken and leads to the facts in `changes`; None is the end."""

    command: Command
    source_fenced: bool
    target_fenced: bool
    origins: frozenset[Origin]
    step: Step
    changes: tuple[tuple[str, object], ...] = ()
    pending: bool | None = None

    def fits(self, command: Command, facts: Facts) -> bool:
        """Whether this is the transition for the command in this state."""
        return (
            self.command == command
            and self.source_fenced == facts.source_fenced
            and self.target_fenced == facts.target_fenced
            and facts.origin in self.origins
            and self.pending in (None, facts.pending)
        )

    def leads_to(self, facts: Facts) -> Facts:
        """The facts after the step."""
        return dataclasses.replace(facts, **dict(self.changes))  # type: ignore[arg-type]


def _origins(*names: Origin) -> frozenset[Origin]:
    return frozenset(names)


_NOT_TARGET = _origins("source", "unmanaged")
_ARRIVED = _origins("target", "unmanaged")

TRANSITIONS: tuple[Transition, ...] = (
    # command, source fenced, target fenced, origin -> step, what it changes
    Transition("cut over", False, False, _NOT_TARGET, "close target", (("target_fenced", True),)),
    # Somebody sent the application to an unguarded copy by hand: both sides take writes, and which rows count nobody can say.
    Transition("cut over", False, False, _origins("target"), "refuse"),
    Transition("cut over", False, True, ANYWHERE, "freeze source", (("source_fenced", True),)),
    Transition("cut over", True, True, ANYWHERE, "migrate", (("pending", False),), pending=True),
    Transition("cut over", True, True, _origins("source"), "switch to target", (("origin", "target"),), pending=False),
    Transition("cut over", True, True, _ARRIVED, "open target", (("target_fenced", False),), pending=False),
    # Somebody sent the application back by hand, where the fence refuses it.
    Transition("cut over", True, False, _origins("source"), "switch to target", (("origin", "target"),)),
    Transition("cut over", True, False, _ARRIVED, "settle"),
    Transition("go back", True, False, ANYWHERE, "close target", (("target_fenced", True),)),
    Transition("go back", True, True, ANYWHERE, "bring back", (("source_fenced", False),)),
    Transition("go back", False, True, _origins("target"), "switch to source", (("origin", "source"),)),
    Transition("go back", False, True, _NOT_TARGET, "settle back"),
    Transition("go back", False, False, _NOT_TARGET, "settle back"),
    Transition("go back", False, False, _origins("target"), "refuse"),
    # Only by the run that froze the source, and before it opened the target: there is nothing to bring back.
    Transition("give up", True, True, _NOT_TARGET, "lift fence", (("source_fenced", False),)),
)

LAST: frozenset[Step] = frozenset(("settle", "settle back"))


def next_transition(command: Command, facts: Facts) -> Transition:
    """The one transition for this command in this state; raises Refused where the table says that nothing may be done."""
    (transition,) = (row for row in TRANSITIONS if row.fits(command, facts))
    if transition.step == "refuse":
        raise Refused(
            "The application is sent to the target although no cut-over was made: both sides take writes.",
            unchanged="Nothing was changed.",
            remedy="send the application back to the source (set the Hyperdrive config's origin by hand), see which rows were"
            " written to the target meanwhile, and raise copyRevision to make the copy afresh.",
        )
    return transition
