"""Which login does the application use, and how does a password end without a client being refused? Two logins take turns.

PostgreSQL keeps one password for a role, so a password that is replaced in place leaves a moment in which the application still has the
old one. Here odd revisions log in as the owner of the tables, even ones as a second login that is its member and takes its role at
login (`ALTER ROLE ... SET role`, which `DISCARD ALL` and `RESET ROLE` come back to: tried on 15.18 and 18.6). The new login is ready before
the application hears of it, and the former one loses its password when nobody comes with it any more.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from clarity_infra.move.model import Progress
from clarity_infra.move.names import quoted

# Seconds between two looks at whether the run is still wanted.
_LOOK = 1.0


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Who logs in at a revision of the password: `user`, who owns the tables, or `second`, who acts as it."""

    user: str
    second: str
    revision: int

    @property
    def logins(self) -> tuple[str, str]:
        """Both logins, whether the second was made yet or not: each is the application."""
        return self.user, self.second

    @property
    def current(self) -> str:
        """The login of this revision."""
        return self.of(self.revision)

    @property
    def former(self) -> str:
        """The login whose turn it was before, and will be next; empty while there never was another."""
        return self.of(self.revision - 1) if self.has_second else ""

    @property
    def has_second(self) -> bool:
        """Whether the second login is needed: from the second revision on."""
        return self.revision > 1

    def of(self, revision: int) -> str:
        """The login of any revision."""
        return self.user if revision % 2 else self.second

    def given(self, login: str) -> Rotation:
        """How far the rotation is where the application is given `login`: another one than the current is the former revision's."""
        return dataclasses.replace(self, revision=self.revision_of(login))

    def revision_of(self, login: str) -> int:
        """The newest revision up to this one whose password `login` has."""
        return self.revision if login == self.current else self.revision - 1


def end_password(
    admin: Endpoint,
    login: str,
    *,
    grace: float,
    alive: Callable[[], bool],
    progress: Progress,
) -> int:
    """Takes the password of `login` away once `grace` seconds have passed; gives how many of its sessions in the database live on.

    Nobody can log in by it any more; what is connected stays connected, as ending a session would fail what it is doing. Done already,
    it changes nothing. Raises ClarityError where whoever started this run is gone meanwhile (nothing is taken away then) or the
    server does not let it.
    """
    _wait(grace, login, alive, progress)
    with admin.connect(purpose="rotation") as connection:
        try:
            # No password is part of the statement, so the server's log may have it.
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD NULL").format(sql.Identifier(login)))
        except psycopg.Error as error:
            raise ClarityError(
                f"The password of {quoted(login)} could not be taken away: {error.diag.message_primary}.",
                unchanged="The application uses the new login already; the old password still works.",
                remedy=f"run `pulumi up` again, or ask for: ALTER ROLE {quoted(login)} PASSWORD NULL",
            ) from None
        row = connection.execute(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity"
            " WHERE datname = pg_catalog.current_database() AND usename = %s AND backend_type = 'client backend'",
            (login,),
        ).fetchone()
    return int(row[0]) if row else 0


def _wait(grace: float, login: str, alive: Callable[[], bool], progress: Progress) -> None:
    if grace > 0:
        progress(f"{grace:.0f} s until the password of {quoted(login)} ends: pools and processes may still come with it")
    until = time.monotonic() + grace
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(_LOOK, left))
        _insist(alive, login)
    _insist(alive, login)


def _insist(alive: Callable[[], bool], login: str) -> None:
    if not alive():
        raise ClarityError(
            f"The run that was to end the password of {quoted(login)} is gone.",
            unchanged="Both logins work.",
            remedy="run `pulumi up` again; it goes on from here.",
        )
