"""The end of the move: the old tables backed up and dropped, when the stage asks for it and the evidence allows it."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.errors import Refused
from clarity_infra.move.cleanup import clean_up
from clarity_infra.resources.base import ClarityProvider, Properties, say, without_provider
from clarity_infra.resources.reported import reported


class SourceCleanupProvider(ClarityProvider):
    """Does nothing until `active`; its delete refuses, as the new database is then the only copy."""

    compared = ("active",)

    def create(self, props: Properties) -> CreateResult:
        self.remember_made()
        return CreateResult("source-cleanup", {**without_provider(props), "evidence": self._cleaned(props)})

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        evidence = self._cleaned(_news) or _olds.get("evidence") or {}
        return UpdateResult({**without_provider(_news), "evidence": evidence})

    def delete(self, _id: str, _props: Properties) -> None:
        if _props.get("active") and not self.was_replaced:
            raise Refused(
                "The old tables were dropped: the new database is the only copy, and it is not destroyed.",
                unchanged="Nothing was changed.",
                remedy="bring the source back first: `python -m clarity_infra restore`.",
            )

    def _cleaned(self, props: Properties) -> dict[str, Any]:
        if not props["active"]:
            return {}
        settings = self.settings(str(props["stack"]))
        with reported(settings, "clean-up") as evidence:
            made = clean_up(
                settings.move,
                run=uuid.uuid4(),
                backup=settings.folder / Path(settings.configuration.backup_folder),
                monitoring=timedelta(hours=settings.configuration.monitoring_hours),
                acknowledged=settings.configuration.acknowledge_refused_writes,
                unproved=settings.configuration.acknowledge_unproved_cutover,
                progress=say,
            )
            evidence.update(made)
        return evidence


class SourceCleanup(Resource, module="clarity", name="SourceCleanup"):
    """What was dropped from the source, and where its backup is."""

    evidence: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(SourceCleanupProvider(), name, {"evidence": None, **props}, opts)
