"""The whole way back, as the last resource of the graph: `pulumi destroy` begins with its delete."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move.back import undo
from clarity_infra.move.journal import Journal
from clarity_infra.move.state import CLEANED, RESTORED
from clarity_infra.resources.base import ClarityProvider, Properties, engine_lives, say, without_provider
from clarity_infra.resources.cutover import switch_of
from clarity_infra.resources.env_file import check_restorable, restore
from clarity_infra.resources.reported import origins_of, reported
from clarity_infra.settings import Settings


class RollbackProvider(ClarityProvider):
    """Create only records what the way back needs; delete refuses, or brings rows, origin and `.env` back, before anything else is deleted."""

    compared = (
        "account",
        "hyperdriveId",
        "hyperdriveName",
        "oldOrigin",
        "newOrigin",
        "oldMtls",
        "newMtls",
        "caching",
        "path",
        "values",
        "before",
        "stack",
    )

    def create(self, props: Properties) -> CreateResult:
        self.remember_made()
        return CreateResult("rollback", without_provider(props))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(without_provider(_news))

    def delete(self, _id: str, _props: Properties) -> None:
        if self.was_replaced:
            return
        settings = self.settings(str(_props["stack"]))
        prove_credentials(settings, _props)
        refuse_only_copy(settings)
        check_restorable(_props)
        switch = switch_of(_props, settings)
        if switch.where() == "target":
            switch.prove_way_back()
            switch.quiet_cache()
        with reported(settings, "destroy", origins_of(_props)) as evidence:
            made = undo(
                settings.move,
                switch,
                run=uuid.uuid4(),
                discard=settings.discard,
                lock_budget=float(settings.configuration.lock_budget),
                alive=engine_lives,
                progress=say,
            )
            evidence.update(made)
        if _props.get("caching"):
            switch.put_caching_back(json.loads(str(_props["caching"])))
        restore(_props)


def refuse_only_copy(settings: Settings) -> None:
    """Raises Refused after a clean-up: the new database is the only copy then."""
    with settings.source.connect(purpose="rollback") as source:
        entry = Journal(source, settings.stack).last(CLEANED, RESTORED)
    if entry is not None and entry.step == CLEANED:
        raise Refused(
            f'The old tables were dropped: database "{settings.target.database}" is the only copy, and it is not destroyed.',
            unchanged="Nothing was changed.",
            remedy="bring the old tables back first: `python -m clarity_infra restore`.",
        )


def prove_credentials(settings: Settings, props: Properties) -> None:
    """Raises ClarityError where the source, the target's server or Cloudflare does not accept what we hold; nothing was changed then."""
    try:
        settings.source.connect(purpose="rollback").close()
        settings.maintenance.connect(purpose="rollback").close()
        switch_of(props, settings).where()
    except ClarityError as error:
        raise ClarityError(
            f"The way back cannot begin: {error.what}",
            unchanged="Nothing was changed.",
            remedy="run `pulumi up` first, so that the stack knows the present credentials, then `pulumi destroy` again.",
        ) from None


class Rollback(Resource, module="clarity", name="Rollback"):
    """What `pulumi destroy` needs to bring everything back."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(RollbackProvider(), name, props, opts)
