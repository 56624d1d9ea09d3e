"""Are the database and the roles this stack's to make? And is what is moved still what was moved?"""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, Resource
from pulumi.output import Unknown

from clarity_infra import admin
from clarity_infra.errors import ClarityError, ConfigurationError, Unreachable
from clarity_infra.hyperdrive_api import Hyperdrive
from clarity_infra.resources.base import ClarityProvider, Properties, failure, same, without_provider
from clarity_infra.settings import PROJECT

# What is made by its name, and what each is called in the configuration.
_NAMES = {"database": "database", "target": "the target's server", "roles": "user or readWriteRole"}
_OTHER_NAMES = "for other names run `pulumi destroy` with the old ones, then `pulumi up` with the others"
# How a claim names a Hyperdrive config that existed before: by its ID.
ADOPTED = "adopted "
# Seconds that Cloudflare's answer may take at a preview.
_PATIENCE = 3
# What gives the server a password it did not have, once the claim was made.
_PASSWORDS = ("passwordRevision", "passwordForm", "readWriteLogin")


class ClaimProvider(ClarityProvider):
    """Recorded before anything is made, so that from then on what exists is known to be this stack's.

    At preview: refuses a database or role that somebody else made, a change of their names, and one of tables or source once data was
    copied.
    """

    compared = (
        *("database", "target", "roles", "tables", "source", "tracking", "revision", "copying", "hyperdrive"),
        *("second", "reader", *_PASSWORDS),
    )

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        seen = {key: value for key, value in news.items() if not isinstance(value, Unknown)}  # the databases may be out of a preview's reach
        if not without_provider(olds):
            return CheckResult(news, _taken(seen))  # the review has tried what the server takes
        if self._replaces_a_lost_config(olds, seen):
            olds = {**olds, "hyperdrive": seen["hyperdrive"]}
        failures = [*_changed(olds, seen), *_taken_later(olds, seen), *_reader_renamed(olds, seen), *_rotated(olds, seen)]
        return CheckResult(news, failures or self._verifier_refused(olds, seen))

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"claim-{props['database']}", without_provider(props))

    def _replaces_a_lost_config(self, olds: Properties, news: Properties) -> bool:
        """Whether another adopted Hyperdrive config is named because the former was deleted: nothing of it is left that should follow."""
        before, wanted = str(olds.get("hyperdrive") or ""), str(news.get("hyperdrive") or "")
        if before == wanted or not before.startswith(ADOPTED) or not wanted.startswith(ADOPTED):
            return False
        settings = self.settings(str(news["stack"]))
        api = Hyperdrive(
            settings.configuration.cloudflare_account_id, settings.cloudflare_token, settings.cloudflare_base_url, patience=_PATIENCE
        )
        try:
            return api.is_gone(before.removeprefix(ADOPTED))
        except ClarityError:
            return False  # which is told where it matters; until then the config is the one that was claimed

    def _verifier_refused(self, olds: Properties, news: Properties) -> list[CheckFailure]:
        """A password that is to be made, in a form the server refuses: the plugin would fail half way, in its own words."""
        if news.get("passwordForm") != "scram" or all(same(olds.get(key), news.get(key)) for key in _PASSWORDS):
            return []
        try:
            admin.check_verifier(self.settings(str(news["stack"])).maintenance)
        except Unreachable:
            return []  # which the review has said; the `up` asks again
        except ConfigurationError as error:
            return [failure("passwordForm", error)]
        return []


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
        old, new = olds.get(key), news.get(key)
        if key == "tables" and old and new:  # the order of a list says nothing
            return sorted(old) != sorted(new)
        return key in olds and old != new

    elsewhere = any(map(differs, ("database", "target")))
    if not news.get("copied") and not (elsewhere and olds.get("copying")):
        return _renamed([told for key, told in _NAMES.items() if differs(key)])
    raised = float(news.get("revision") or 0) > float(olds.get("revision") or 0) and not news.get("live")
    by_revision = {"tables": "tables", "tracking": "trackingTable", "source": "the source"}
    by_nothing = {**_NAMES, "hyperdrive": "the Hyperdrive config"}
    fixed = by_nothing if raised else {**by_revision, **by_nothing}
    changed = [key for key in fixed if differs(key)]
    told = [fixed[key] for key in changed]
    if news.get("live") and float(news.get("revision") or 0) != float(olds.get("revision") or 0):
        told.append("copyRevision")
    if not told:
        return []
    remedy = f"set the configuration back; {_OTHER_NAMES}"
    if any(key == "hyperdrive" for key in changed):
        remedy = "set the configuration back, or go back to stage provision first, with the old one"
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


def _renamed(told: list[str]) -> list[CheckFailure]:
    """Names of what was made are what grants and settings find it by, to take themselves back: they end with it, or never."""
    if not told:
        return []
    text = f"{', '.join(told)} changed after they were made. Nothing was changed. What to do: set the configuration back; {_OTHER_NAMES}."
    return [CheckFailure("database", text)]


def _taken_later(olds: Properties, news: Properties) -> list[CheckFailure]:
    """Roles that are made later than the others: what exists by such a name before it was claimed is somebody else's."""
    if news.get("adopt"):
        return []
    keys = {"second": "secondUser", "reader": "readOnlyRole"}
    taken = [key for key in keys if news.get(key) and news[key] != olds.get(key) and f'role "{news[key]}"' in (news.get("existing") or [])]
    return [
        CheckFailure(
            key,
            f'role "{news[key]}" exists already and this stack did not make it. Nothing was changed. '
            f"What to do: choose another name in {keys[key]}, or let the stack take it over with `pulumi config set adoptExisting true`.",
        )
        for key in taken
    ]


def _reader_renamed(olds: Properties, news: Properties) -> list[CheckFailure]:
    """The plugin renames the role first, then finds nobody by the old name to take the grants back from, at every `up` from then on."""
    before, wanted = olds.get("reader"), news.get("reader")
    if not before or not wanted or before == wanted:
        return []
    return [
        CheckFailure(
            "reader",
            f'readOnlyRole is "{before}" since it was made. Nothing was changed. What to do: set it back; for another name take it away'
            f" (`pulumi config rm {PROJECT}:readOnlyRole`), run `pulumi up`, then set the other and run `pulumi up` again.",
        )
    ]


def _rotated(olds: Properties, news: Properties) -> list[CheckFailure]:
    """A password that was taken away does not come back, and one that is in use is not replaced."""
    before, wanted = int(olds.get("passwordRevision") or 0), int(news.get("passwordRevision") or 0)
    told = ""
    if wanted < before:
        told = (
            f"passwordRevision is {before} and cannot be set back to {wanted}: the password of revision {wanted} was taken away. Nothing was"
            f" changed. What to do: set it to {before}; {before + 1} makes a new password."
        )
    elif before and wanted > before and (used := _login_of(wanted, news)) in (news.get("loginsInUse") or []):
        told = (
            f'passwordRevision {wanted} would replace the password of "{used}", by which the application logs in now, under its feet.'
            f" Nothing was changed. What to do: set it to the revision that begins or finishes the rotation to the other login, run"
            f" `pulumi up`, then go on: {wanted - 1} comes before {wanted}."
        )
    elif olds.get("second") and news.get("second") and olds["second"] != news["second"]:
        told = f'secondUser is "{olds["second"]}" since it was made. Nothing was changed. What to do: set it back.'
    return [CheckFailure("passwordRevision", told)] if told else []


def _login_of(revision: int, news: Properties) -> str:
    """Odd revisions are the owner's, even ones the second login's (`rotation`)."""
    return str(news["roles"][1] if revision % 2 else news.get("second"))


class Claim(Resource, module="clarity", name="Claim"):
    """This stack's claim to database and roles."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(ClaimProvider(), name, props, opts)
