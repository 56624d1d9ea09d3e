"""The proof that the application's user may do what it must and nothing else, as a resource."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.access import check_access
from clarity_infra.move.names import Name
from clarity_infra.resources.base import ClarityProvider, Properties, say, without_provider


class AccessCheckProvider(ClarityProvider):
    """Runs again whenever the stage, the password or the copy changes."""

    compared = ("stage", "password", "copied", "user", "role", "database", "ownDatabaseOnly", "reader")

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"access-{props['user']}", self._checked(props))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(self._checked(_news))

    def _checked(self, props: Properties) -> Properties:
        settings = self.settings(str(props["stack"]))
        found = check_access(
            settings.target.with_login(str(props["user"]), str(props["password"])),
            settings.target,
            settings.source,
            role=str(props["role"]),
            tables=[Name.parse(text) for text in props["tables"]],
            own_database_only=bool(props["ownDatabaseOnly"]),
            owner=str(props.get("owner") or ""),
            reader=str(props.get("reader") or ""),
        )
        say(f"access check: {len(found['allowed'])} things the application does work, {len(found['refused'])} others are refused")
        for advice in found.get("advice", ()):
            say(f"advice: {advice}")
        return {**without_provider(props), "found": found}


class AccessCheck(Resource, module="clarity", name="AccessCheck"):
    """What was tried as the application's user, and what came of it."""

    user: pulumi.Output[str]
    password: pulumi.Output[str]
    found: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(AccessCheckProvider(), name, {"found": None, **props}, opts)
