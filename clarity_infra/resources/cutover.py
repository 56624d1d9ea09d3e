"""Which side is live? Goes forward and back by update, upstream of Hyperdrive and `.env`."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, UpdateResult

from clarity_infra.hyperdrive_api import Hyperdrive, NoSwitch, Origin, OriginSwitch
from clarity_infra.move.back import go_back
from clarity_infra.move.cutover import cut_over
from clarity_infra.resources.base import ClarityProvider, Properties, engine_lives, same, say, without_provider
from clarity_infra.settings import Settings


class CutoverProvider(ClarityProvider):
    """Brings the live side to `side`. `found` is what the databases said when the program looked: a run that died between two
    steps is taken up again even where Pulumi's state says there is nothing to do. `looked` tells one look from another: a refresh asks
    for the difference with the inputs of the last update, whose finding that very update has dealt with.
    """

    def create(self, props: Properties) -> CreateResult:
        return CreateResult("cutover", {**without_provider(props), "evidence": self._brought(props, {})})

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        stale = _news.get("found") not in (None, "", _news.get("side")) and not same(_olds.get("looked"), _news.get("looked"))
        return DiffResult(changes=stale or not same(_olds.get("side"), _news.get("side")))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult({**without_provider(_news), "evidence": self._brought(_news, _olds.get("evidence") or {})})

    def _brought(self, props: Properties, before: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(str(props["stack"]))
        switch = switch_of(props, settings)
        budget = float(settings.configuration.lock_budget)
        if props["side"] == "target":
            reach = switch.prepare() if switch.where() == "source" else ""
            if reach:
                say(reach)
            evidence = cut_over(
                settings.move,
                switch,
                settings.migrations,
                run=uuid.uuid4(),
                lock_budget=budget,
                alive=engine_lives,
                progress=say,
            )
            return {**evidence, "reach": reach}
        if props.get("found") in ("", "source") and not before:
            return {}
        went = go_back(
            settings.move,
            switch,
            run=uuid.uuid4(),
            discard=settings.discard,
            lock_budget=budget,
            alive=engine_lives,
            progress=say,
        )
        return {"back": went}


def switch_of(props: Properties, settings: Settings) -> OriginSwitch | NoSwitch:
    """The means to send the application to a side, from what the resource was given."""
    if not props.get("account"):
        return NoSwitch()
    return OriginSwitch(
        api=Hyperdrive(str(props["account"]), settings.cloudflare_token, settings.cloudflare_base_url),
        config=str(props.get("hyperdriveId") or ""),
        name=str(props["hyperdriveName"]),
        source=Origin(**json.loads(str(props["oldOrigin"]))),
        target=Origin(**json.loads(str(props["newOrigin"]))),
        drain=float(settings.configuration.cache_drain_seconds),
        say=say,
    )


class Cutover(Resource, module="clarity", name="Cutover"):
    """The live side, `source` or `target`, and the evidence of how it came to be."""

    side: pulumi.Output[str]
    evidence: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(CutoverProvider(), name, {"evidence": None, **props}, opts)
