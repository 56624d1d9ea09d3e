"""The application's Wrangler file, as a resource: from the cut-over on it binds the second Hyperdrive config, on the way back the old one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.move.fence import standing_of
from clarity_infra.move.journal import Journal
from clarity_infra.move.state import CLEANED, RESTORED
from clarity_infra.resources.base import ClarityProvider, Properties, say, without_provider
from clarity_infra.settings import Settings
from clarity_infra.wrangler import WranglerFile


class WranglerFileProvider(ClarityProvider):
    """Writes one ID. `before` is the one that was found at the first run: what is put back."""

    compared = ("path", "binding", "environment", "side", "hyperdriveId")

    def create(self, props: Properties) -> CreateResult:
        return CreateResult("wrangler-file", self._written(props, self._former(props)))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        elsewhere = any(_olds.get(key) != _news.get(key) for key in ("path", "binding", "environment"))
        if elsewhere and Path(str(_olds["path"])).exists():  # a file that was moved is not there any more
            restore(_olds)
        return UpdateResult(self._written(_news, self._former(_news) if elsewhere else str(_olds["before"])))

    def delete(self, _id: str, _props: Properties) -> None:
        """On the way back, which `Rollback` has gone before this, and where `wranglerFile` is taken out of the configuration at any time."""
        if _source_is_live(self.settings(str(_props["stack"]))):
            restore(_props)
        else:
            say(f"{_read(_props).label()}: stays as it is, as the new database is live; nothing puts the old id back any more")

    def _former(self, props: Properties) -> str:
        """The ID to put back: the one in the file, unless that is the second config's, where the file was this stack's before."""
        found = _read(props).id
        used = self.settings(str(props["stack"])).configuration.hyperdrive_id
        return used if used and found == props["hyperdriveId"] else found

    def _written(self, props: Properties, before: str) -> Properties:
        kept = {**without_provider(props), "before": before}
        if props["side"] == "target":
            write(kept)
        else:
            restore(kept)
        return kept


def write(props: Properties) -> None:
    """Binds the second config. Raises ConfigurationError where the file cannot be written; it is then as it was."""
    _change(_read(props), str(props["hyperdriveId"]))


def restore(props: Properties) -> None:
    """Binds the config there was before, unless somebody bound another one since. Raises as `write`."""
    found = _read(props)
    if found.id == props["hyperdriveId"]:
        _change(found, str(props["before"]))


def _change(found: WranglerFile, wanted: str) -> None:
    if found.id != wanted:
        found.with_id(wanted).write()
        say(f"{found.label()}: id {found.id} -> {wanted}; the application is sent by it once it is deployed")


def _source_is_live(settings: Settings) -> bool:
    """Whether the application belongs on the old database. Raises Unreachable or ConfigurationError where that cannot be asked."""
    with settings.source.connect(purpose="wrangler file") as source:
        cleaned = Journal(source, settings.stack).last(CLEANED, RESTORED)
        return not standing_of(source, settings.stack).in_force and (cleaned is None or cleaned.step == RESTORED)


def _read(props: Properties) -> WranglerFile:
    return WranglerFile.read(Path(str(props["path"])), str(props["binding"]), str(props["environment"] or ""))


class WranglerFileResource(Resource, module="clarity", name="WranglerFile"):
    """The ID of the Hyperdrive config that the application is deployed with."""

    before: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(WranglerFileProvider(), name, {"before": None, **props}, opts)
