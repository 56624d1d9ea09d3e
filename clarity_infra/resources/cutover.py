"""Which side is live? Goes forward and back by update, upstream of Hyperdrive and `.env`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, UpdateResult
from pulumi.output import Unknown

from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.hyperdrive_api import Hyperdrive, NoSwitch, Origin, OriginSwitch, longest_stale
from clarity_infra.move.back import go_back
from clarity_infra.move.cutover import cut_over
from clarity_infra.move.names import quoted
from clarity_infra.move.status import status
from clarity_infra.resources.base import ClarityProvider, Properties, engine_lives, same, say, without_provider
from clarity_infra.resources.env_file import check_restorable, restore, write
from clarity_infra.resources.reported import origins_of, reported
from clarity_infra.settings import Settings


class CutoverProvider(ClarityProvider):
    """Brings the live side to `side`. `found` is what the databases said when the program looked: a run that died between two
    steps is taken up again even where Pulumi's state says there is nothing to do. `looked` marks what was found (`move.finding`): a
    refresh asks for the difference with the inputs of the last update, whose finding that very update has dealt with. Both are unknown
    where a preview could not see the databases; what is to be taken up is then seen by the `up`.
    """

    def create(self, props: Properties) -> CreateResult:
        self.remember_made()
        return CreateResult("cutover", {**without_provider(props), "evidence": self._brought(props, {})})

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        found, looked = _news.get("found"), _news.get("looked")
        seen = not isinstance(found, Unknown) and not isinstance(looked, Unknown)
        stale = seen and found not in (None, "", _news.get("side")) and not same(_olds.get("looked"), looked)
        return DiffResult(changes=stale or not same(_olds.get("side"), _news.get("side")))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult({**without_provider(_news), "evidence": self._brought(_news, _olds.get("evidence") or {})})

    def delete(self, _id: str, _props: Properties) -> None:
        """Deletes nothing. `Rollback`, whose delete comes first, has gone back by now; where it never came into the state, because
        whatever is declared before it failed each time or was left out (`pulumi up --exclude`), nobody has, and the new database with
        every row written since is dropped next.
        """
        if self.was_replaced:
            return
        settings = self.settings(str(_props["stack"]))
        if status(settings.move, target_exists=settings.target_exists()).side != "source":
            raise Refused(
                "The application was sent over, and the resource that brings it back (rollback) is not in this stack's state.",
                unchanged=f"Database {quoted(settings.configuration.database)} and the fence of the old tables stay as they are.",
                remedy="run `pulumi up`, the whole of it, until it ends without an error; then `pulumi destroy` again.",
            )

    def _brought(self, props: Properties, before: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings(str(props["stack"]))
        switch = switch_of(props, settings)
        budget = float(settings.configuration.lock_budget)
        if props["side"] == "target":
            reach = switch.prepare() if switch.where() == "source" else ""
            if reach:
                say(reach)
            with reported(settings, "cut-over", origins_of(props)) as evidence:
                made = cut_over(
                    settings.move,
                    switch,
                    settings.migrations,
                    run=uuid.uuid4(),
                    discard=settings.discard,
                    lock_budget=budget,
                    alive=engine_lives,
                    progress=say,
                    opened=lambda: _name_target(props),
                )
                evidence.update(made)
            return {**evidence, "reach": reach}
        if props.get("found") in ("", "source") and not before:
            return {}
        check_restorable(props)
        if switch.where() == "target":
            switch.prove_way_back()
            switch.quiet_cache()
        with reported(settings, "roll-back", origins_of(props)) as went:
            made = go_back(
                settings.move,
                switch,
                run=uuid.uuid4(),
                discard=settings.discard,
                lock_budget=budget,
                alive=engine_lives,
                progress=say,
            )
            went.update(made)
        # An `up` that ended after it had written `.env` left the resource of that with the old side in its state.
        restore(props)
        return {"back": went}


def _name_target(props: Properties) -> None:
    """Writes `.env`: what reads it is refused until then, however long the rest takes. Where that fails, its resource fails by it."""
    if props.get("path"):
        with contextlib.suppress(ConfigurationError):
            write(props)


def switch_of(props: Properties, settings: Settings) -> OriginSwitch | NoSwitch:
    """The means to send the application to a side, from what the resource was given."""
    if not props.get("account"):
        return NoSwitch()
    return OriginSwitch(
        api=Hyperdrive(str(props["account"]), settings.cloudflare_token, settings.cloudflare_base_url),
        config=str(props.get("hyperdriveId") or ""),
        name=str(props["hyperdriveName"]),
        source=Origin.from_json(str(props["oldOrigin"])),
        # A rotation that is under way, or was when a run died, leaves the config with the former login: it is the target all the same.
        target=dataclasses.replace(Origin.from_json(str(props["newOrigin"])), aliases=settings.rotation.logins),
        cache_seconds=_cache_seconds(props, settings),
        say=say,
        source_mtls=_object(props, "oldMtls"),
        target_mtls=_object(props, "newMtls"),
    )


def _cache_seconds(props: Properties, settings: Settings) -> float:
    """Seconds the cache has to be off before the switch: as configured, else as long as it may serve what it holds."""
    configured = settings.configuration.cache_drain_seconds
    return float(configured) if configured >= 0 else longest_stale(_object(props, "caching") or {})


def _object(props: Properties, key: str) -> dict[str, Any] | None:
    """An object that was handed over as JSON; None where a state from before this property has none."""
    text = props.get(key)
    found: dict[str, Any] | None = json.loads(str(text)) if text else None
    return found


class Cutover(Resource, module="clarity", name="Cutover"):
    """The live side, `source` or `target`, and the evidence of how it came to be."""

    side: pulumi.Output[str]
    evidence: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(CutoverProvider(), name, {"evidence": None, **props}, opts)
