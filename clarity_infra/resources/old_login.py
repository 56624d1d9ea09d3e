"""The end of a former password, as a resource: the last step of an `up` that rotates."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra import hyperdrive
from clarity_infra.connection import split_or_empty
from clarity_infra.errors import Refused
from clarity_infra.move.names import quoted
from clarity_infra.resources.base import ClarityProvider, Properties, engine_lives, say, without_provider
from clarity_infra.rotation import end_password
from clarity_infra.settings import Settings


class OldLoginProvider(ClarityProvider):
    """Ends the password of the login whose turn it was before, after a grace where the application was on the new database (`live`).

    A run that died in between finds the old revision in state and does it again; the password that is gone is no error.
    """

    compared = ("revision", "former", "database")

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"old-login-{props['database']}", self._ended(props))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._ended(_news))

    def _ended(self, props: Properties) -> Properties:
        login = str(props.get("former") or "")
        if login:
            settings = self.settings(str(props["stack"]))
            _refuse_in_use(settings, login)
            grace = float(settings.configuration.password_grace_seconds) if props.get("live") else 0.0
            left = end_password(settings.target, login, grace=grace, alive=engine_lives, progress=say)
            say(f'the password of login "{login}" ended' + (f"; {left} session(s) it opened before go on until they end" if left else ""))
        return without_provider(props)


def _refuse_in_use(settings: Settings, login: str) -> None:
    """What is declared before was left out of this run (`pulumi up --target`, `--exclude`), or changed by hand behind it. Raises Refused.

    `.env` is read itself: a DATABASE_URL of the environment has what `.env` held when the shell began, and nobody here changes it.
    """
    origin = (hyperdrive.look(settings, to_write=False) or {}).get("origin") or {}
    url = split_or_empty((settings.env_file.get("DATABASE_URL") if settings.env_file else None) or "")
    named = {"DATABASE_URL": (unquote(url.path[1:]), unquote(url.username or "")), "Hyperdrive": (origin.get("database"), origin.get("user"))}
    using = [name for name, found in named.items() if found == (settings.configuration.database, login)]
    if using:
        raise Refused(
            f"The password of {quoted(login)} is not ended: {' and '.join(using)} still log(s) in by it.",
            unchanged="Both logins work.",
            remedy="run `pulumi up`, the whole of it: it has DATABASE_URL and Hyperdrive log in by the other one first.",
        )


class OldLogin(Resource, module="clarity", name="OldLogin"):
    """The login that the application no longer uses, and that nobody can use."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(OldLoginProvider(), name, props, opts)
