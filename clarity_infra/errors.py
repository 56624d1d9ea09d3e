"""What went wrong, told to the person who has to act on it."""

from __future__ import annotations

from collections.abc import Iterable


class ClarityError(Exception):
    """An error a user can act on.

    The text says what is wrong and with which object; `unchanged` what was left as it was; `remedy` what to do next. None of
    them may hold a password or a URL with one.
    """

    def __init__(self, what: str, *, unchanged: str = "", remedy: str = "") -> None:
        self.what, self.unchanged, self.remedy = what, unchanged, remedy
        super().__init__("\n".join(part for part in (what, unchanged, remedy and f"What to do: {remedy}") if part))


class ConfigurationError(ClarityError):
    """The configuration, the environment or `.env` says something that cannot be used."""


class Unreachable(ClarityError):
    """A server did not answer, or has no room for a session now: nothing is known about it."""


class Refused(ClarityError):
    """Something was asked for that would lose data or cannot be done faithfully; nothing was changed."""


class Blocked(Refused):
    """The survey found objects that stand in the way of the move, each named in `blockers`; `seen` is all else that was found, as text."""

    def __init__(self, blockers: Iterable[str], *, remedy: str = "", seen: Iterable[str] = ()) -> None:
        self.blockers, self.seen = tuple(blockers), tuple(seen)
        lines = "\n".join(f"  - {blocker}" for blocker in self.blockers)
        super().__init__(f"The move is blocked:\n{lines}", unchanged="Nothing was changed.", remedy=remedy)


class VerificationFailed(ClarityError):
    """The two sides differ; `differences` names table and kind of each."""

    def __init__(self, differences: Iterable[str], *, unchanged: str, remedy: str) -> None:
        self.differences = tuple(differences)
        lines = "\n".join(f"  - {difference}" for difference in self.differences)
        super().__init__(f"The two sides are not equal:\n{lines}", unchanged=unchanged, remedy=remedy)
