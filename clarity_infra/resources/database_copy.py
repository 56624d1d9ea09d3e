"""The one-time copy with its verification, as a resource: its outputs are the evidence."""

from __future__ import annotations

import uuid
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.errors import Refused
from clarity_infra.move.copy import copied_already, copy, discard_copy
from clarity_infra.move.migrations import rehearse
from clarity_infra.move.status import status
from clarity_infra.resources.base import ClarityProvider, Properties, say, without_provider
from clarity_infra.resources.reported import reported


class DatabaseCopyProvider(ClarityProvider):
    """Copies when the stage first asks for it or `revision` is raised, and never by itself again.

    What was done is decided by the journal in the target: a copy that was finished by a run that died before it could say so is taken over.
    """

    compared = ("active", "revision", "database")

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"copy-{props['database']}", {**without_provider(props), "evidence": self._evidence(props)})

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        if _news.get("live"):  # past the cut-over nothing is copied or discarded; what create recorded stays
            return UpdateResult({**without_provider(_news), "evidence": _olds.get("evidence") or {}})
        if _olds.get("active") and not _news["active"]:
            return UpdateResult({**without_provider(_news), "evidence": self._discarded(_news)})
        return UpdateResult({**without_provider(_news), "evidence": self._evidence(_news)})

    def _discarded(self, props: Properties) -> dict[str, Any]:
        """Back to `provision`: what the copy made in the target goes, but never while the application may be using it."""
        move = self.settings(str(props["stack"])).move
        if status(move, target_exists=True).side != "source":
            raise Refused(
                "The copy is in use: the cut-over was not gone back from.",
                unchanged="Nothing was changed.",
                remedy="go back to stage copy first.",
            )
        discard_copy(move, say)
        return {}

    def _evidence(self, props: Properties) -> dict[str, Any]:
        if not props["active"]:
            return {}
        settings, revision = self.settings(str(props["stack"])), int(props["revision"])
        evidence = copied_already(settings.move, revision)
        if evidence is not None:
            say("the copy in the target is whole and verified: nothing to copy")
        else:
            with reported(settings, "copy") as evidence:
                evidence.update(copy(settings.move, run=uuid.uuid4(), progress=say, revision=revision))
                evidence["migrations"] = rehearse(settings.move, settings.migrations)
            return evidence
        return {**evidence, "migrations": rehearse(settings.move, settings.migrations)}


class DatabaseCopy(Resource, module="clarity", name="DatabaseCopy"):
    """The verified copy of the move set in the target."""

    evidence: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(DatabaseCopyProvider(), name, {"evidence": None, **props}, opts)
