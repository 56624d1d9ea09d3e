"""By which of its two logins does the application reach the new database now? Tells a rotation that is not finished."""

from __future__ import annotations

import dataclasses
from typing import Any

from clarity_infra import hyperdrive
from clarity_infra.errors import ClarityError
from clarity_infra.move.names import quoted
from clarity_infra.settings import Settings

# Seconds that one answer of Cloudflare's may take: whoever asks for the state of things is not to wait long for half of it.
_PATIENCE = 3


@dataclasses.dataclass(frozen=True)
class Logins:
    """`wanted` is the login of the configured revision; `used` names the ways that lead to the new database, each with its login.

    `unseen`: why Hyperdrive's is not known; empty where it is.
    """

    revision: int
    wanted: str
    used: tuple[tuple[str, str], ...]
    unseen: str = ""

    @property
    def behind(self) -> tuple[tuple[str, str], ...]:
        """The ways that have the other login still."""
        return tuple((way, login) for way, login in self.used if login != self.wanted)

    @property
    def unfinished(self) -> bool:
        """Whether a rotation is to be finished."""
        return bool(self.behind)

    def lines(self) -> list[str]:
        """For a person; nothing where the application is not on the new database."""
        if not self.used:
            return []
        ways = " and ".join(way for way, _ in self.used)
        if not self.behind:
            told = f"{ways} {'log' if len(self.used) > 1 else 'logs'} in as {quoted(self.wanted)}"
        else:
            late = ", ".join(f"{way} still logs in as {quoted(login)}" for way, login in self.behind)
            told = f"{quoted(self.wanted)} is to take over, {late}: `pulumi up` finishes it, and ends no password before"
        return [f"password: revision {self.revision}, {told}", *([f"Hyperdrive's login is not known: {self.unseen}"] if self.unseen else [])]

    def json(self) -> dict[str, Any]:
        """For machines."""
        return {"revision": self.revision, "wanted": self.wanted, "used": dict(self.used), "unfinished": self.unfinished}


def logins(settings: Settings) -> Logins:
    """Looks at DATABASE_URL and at Hyperdrive, the latter only where there is a second login. Raises ConfigurationError."""
    rotation, application, unseen = settings.rotation, settings.in_use, ""
    places = {"DATABASE_URL": (application.database, application.user) if application else ("", "")}
    if rotation.has_second:
        try:
            origin = (hyperdrive.look(settings, patience=_PATIENCE, to_write=False) or {}).get("origin") or {}
            places["Hyperdrive"] = (str(origin.get("database")), str(origin.get("user")))
        except ClarityError as error:
            unseen = error.what
    used = tuple((way, user) for way, (database, user) in places.items() if settings.is_target(database, user))
    return Logins(rotation.revision, rotation.current, used, unseen)
