"""The new database's own settings (its audit log), as a resource: set on create, reset on delete."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.database_settings import reset_settings, set_settings
from clarity_infra.resources.base import ClarityProvider, Properties, say, without_provider


class DatabaseSettingsProvider(ClarityProvider):
    """A setting the admin may not make is a warning with the statement to ask for, and the run goes on."""

    compared = ("values", "database")

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"settings-{props['database']}", self._set(props))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        gone = sorted(set(_olds.get("values") or {}) - set(_news.get("values") or {}))
        reset_settings(self.settings(str(_news["stack"])).target, gone)
        return UpdateResult(self._set(_news))

    def delete(self, _id: str, _props: Properties) -> None:
        reset_settings(self.settings(str(_props["stack"])).target, sorted(_props.get("values") or {}))

    def _set(self, props: Properties) -> Properties:
        warnings = set_settings(self.settings(str(props["stack"])).target, {str(k): str(v) for k, v in props["values"].items()})
        for warning in warnings:
            say(f"warning: {warning}")
        return {**without_provider(props), "warnings": warnings}


class DatabaseSettings(Resource, module="clarity", name="DatabaseSettings"):
    """`ALTER DATABASE ... SET` for each of `values`; `warnings` tells which the server did not allow."""

    warnings: pulumi.Output[list[str]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(DatabaseSettingsProvider(), name, {"warnings": None, **props}, opts)
