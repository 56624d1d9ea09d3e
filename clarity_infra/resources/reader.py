"""The read-only role's end, as a resource: what nobody declared, later schemas' tables, is taken from it before it is dropped."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource

from clarity_infra.reader import take_everything
from clarity_infra.resources.base import ClarityProvider, Properties, same, without_provider


class ReaderProvider(ClarityProvider):
    """Create only records which role it is; delete takes what it was granted in the database."""

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"reader-{props['role']}", without_provider(props))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        replaces = [key for key in ("role", "database") if not same(_olds.get(key), _news.get(key))]
        return DiffResult(changes=bool(replaces), replaces=replaces, delete_before_replace=True)

    def delete(self, _id: str, _props: Properties) -> None:
        settings = self.settings(str(_props["stack"]))
        take_everything(settings.target.with_database(str(_props["database"])), str(_props["role"]))


class Reader(Resource, module="clarity", name="Reader"):
    """The role that may only read."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(ReaderProvider(), name, props, opts)
