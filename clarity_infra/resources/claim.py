"""Are the database and the roles this stack's to make? And is what is moved still what was moved?"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, Resource

from clarity_infra.resources.base import ClarityProvider, Properties, without_provider


class ClaimProvider(ClarityProvider):
    """Recorded before anything is made, so that from then on what exists is known to be this stack's.

    At preview: refuses a database or role that somebody else made, and a change of names, tables or source once data was copied.
    """

    compared = ("database", "target", "roles", "tables", "source", "tracking", "revision", "copying")

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        failures = list(_taken(news)) if not without_provider(olds) else list(_changed(olds, news))
        return CheckResult(news, failures)

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"claim-{props['database']}", without_provider(props))


def _taken(news: Properties) -> list[CheckFailure]:
    existing = list(news.get("existing") or [])
    if not existing or news.get("adopt"):
        return []
    imports = "; ".join(news.get("imports") or [])
    return [
        CheckFailure(
            "database",
            f"{', '.join(existing)} exist(s) already and this stack did not make it. Nothing was changed. What to do: let the stack take over "
            f"what is there with `pulumi config set adoptExisting true`, or import it yourself ({imports}), or choose other names.",
        )
    ]


def _changed(olds: Properties, news: Properties) -> list[CheckFailure]:
    """Once data is in the target, `copied` says so; then these inputs may change only together with a raised revision, or not at all.

    `copied` was looked up in the database that is named now; whether the one that was named before held a copy, the old `copying` tells.
    """

    def differs(key: str) -> bool:
        return key in olds and olds[key] != news.get(key)

    elsewhere = any(map(differs, ("database", "target")))
    if not news.get("copied") and not (elsewhere and olds.get("copying")):
        return []
    raised = float(news.get("revision") or 0) > float(olds.get("revision") or 0) and not news.get("live")
    by_revision = {"tables": "tables", "tracking": "trackingTable", "source": "the source"}
    by_nothing = {"database": "database", "target": "the target's server", "roles": "user or readWriteRole"}
    fixed = by_nothing if raised else {**by_revision, **by_nothing}
    changed = [key for key in fixed if differs(key)]
    told = [fixed[key] for key in changed]
    if news.get("live") and float(news.get("revision") or 0) != float(olds.get("revision") or 0):
        told.append("copyRevision")
    if not told:
        return []
    remedy = "set the configuration back, or go back to stage provision first, with the old names"
    if news.get("live"):
        remedy = "the application lives in the new database now: set the configuration back"
    elif not any(key in by_nothing for key in changed):
        remedy = "raise copyRevision to copy afresh, or go back to stage provision first"
    return [
        CheckFailure(
            changed[0] if changed else "revision",
            f"{', '.join(told)} changed after the data was copied. Nothing was changed. What to do: {remedy}.",
        )
    ]


class Claim(Resource, module="clarity", name="Claim"):
    """This stack's claim to database and roles."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(ClaimProvider(), name, props, opts)
