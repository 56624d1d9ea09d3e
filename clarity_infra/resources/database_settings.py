"""The new database's own settings (its audit log), as a resource: set on create, reset on delete."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.autovacuum import let_go
from clarity_infra.database_settings import audit, reset_settings
from clarity_infra.errors import ConfigurationError
from clarity_infra.resources.base import ClarityProvider, Properties, say, without_provider


class DatabaseSettingsProvider(ClarityProvider):
    """A setting the admin may not make is a warning with the statement to ask for, and the run goes on."""

    compared = ("values", "database")

    def create(self, props: Properties) -> CreateResult:
        self.remember_made()
        return CreateResult(f"settings-{props['database']}", self._set(props, {}))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        gone = sorted(_names(_olds) - set(_news.get("values") or {}))
        stays = bool(_news.get("values"))
        reset_settings(self.settings(str(_news["stack"])).target, gone, extension="" if stays else _extension(_olds))
        return UpdateResult(self._set(_news, _olds if stays else {}))

    def delete(self, _id: str, _props: Properties) -> None:
        if self.was_replaced:
            return
        server, database = self.settings(str(_props["stack"])).maintenance, str(_props["database"])
        target = server.with_database(database)
        try:
            reset_settings(target, sorted(_names(_props)), extension=_extension(_props))
        except ConfigurationError:
            if server.has_database(database):  # else it was dropped by hand, and its settings with it
                raise
        let_go(target, say)  # the database itself is dropped next

    def _set(self, props: Properties, olds: Properties) -> Properties:
        values = {str(name): str(value) for name, value in props["values"].items()}
        done = audit(self.settings(str(props["stack"])).target, values, had=_extension(olds))
        for warning in done.warnings:
            say(f"warning: {warning}")
        for advice in done.advice:
            say(f"advice: {advice}")
        return {
            **without_provider(props),
            "warnings": list(done.warnings),
            "advice": list(done.advice),
            "applied": list(done.settings),
            "extension": done.extension,
        }


def _names(props: Properties) -> set[str]:
    """What was set, by what was asked for and by what was found on the server."""
    return set(props.get("values") or {}) | set(props.get("applied") or [])


def _extension(props: Properties) -> str:
    return str(props.get("extension") or "")


class DatabaseSettings(Resource, module="clarity", name="DatabaseSettings"):
    """`ALTER DATABASE ... SET` for each of `values`; `warnings` tells which the server did not allow, `advice` what is for its operator."""

    warnings: pulumi.Output[list[str]]
    advice: pulumi.Output[list[str]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        outputs = {"warnings": None, "advice": None, "applied": None, "extension": None}
        super().__init__(DatabaseSettingsProvider(), name, {**outputs, **props}, opts)
