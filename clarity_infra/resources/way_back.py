"""What did the application have before? Recorded before anything is changed, because nobody can be asked for it afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, Resource, UpdateResult
from pulumi.output import Unknown

from clarity_infra.connection import split_or_empty
from clarity_infra.env_file import EnvFile
from clarity_infra.resources.base import ClarityProvider, Properties, same, without_provider

# What a rotation of the old password may renew as long as the application is still on the old database.
_CREDENTIALS = ("applicationUrl", "originPassword", "originAccessSecret", "envBefore")
# What somebody may give by name even later: a password that was changed while the application is on the new database.
_GIVEN = ("originPassword", "originAccessSecret")
_URL = "DATABASE_URL"
# Of which file envBefore is; empty where there is none. A state from before this property has none.
_FILE = "envFile"
# What is of before the first copy only: from then on the config has the cache off by our own doing.
_CONFIG = ("hyperdrive",)


class WayBackProvider(ClarityProvider):
    """Keeps what `create` recorded; renews it only while the application is where it was."""

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        if news.get("pointed", news.get("switched")) and not without_provider(olds):
            reason = (
                "the application already uses the new database, and this stack's state does not know what it used before. Nothing was changed. "
                "What to do: restore the stack's state (`pulumi stack import`). Where it is lost: set adoptExisting, then DATABASE_URL and"
                " Hyperdrive's origin to the old database, and run this command again at once: what they name is recorded, and the"
                " application sent to the new one again. In between its writes are refused; none is lost."
            )
            # The engine shows the value of the property that failed, a secret too: it must not be the URL.
            return CheckResult(news, [CheckFailure("switched", reason)])
        return CheckResult(news, [])

    def create(self, props: Properties) -> CreateResult:
        return CreateResult("way-back", without_provider(props))

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        kept, compared = _kept(_olds, _news), [*_CREDENTIALS, *_CONFIG, *([_FILE] if _FILE in _olds else [])]
        return DiffResult(changes=any(not same(_olds.get(key), kept.get(key)) for key in compared))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        return UpdateResult(_kept(_olds, _news))


def _kept(olds: Properties, news: Properties) -> Properties:
    """The new properties, with everything recorded that may no longer be asked for, or could not be asked for at this preview."""
    unseen = {key: olds.get(key) for key in (*_CREDENTIALS, *_CONFIG) if isinstance(news.get(key), Unknown)}
    given = [key for key in _GIVEN if news.get(key) and not isinstance(news.get(key), Unknown)]
    frozen = [key for key in _CONFIG if news.get("copying")]
    if news.get("switched"):
        frozen += [key for key in (*_CREDENTIALS, *_CONFIG) if key not in given]
    kept = {**without_provider(news), **unseen, **{key: olds[key] for key in frozen if olds.get(key)}}
    if news.get("switched") and _is_of_another_file(olds, news):
        kept["envBefore"] = news.get("envBefore")
    if news.get("switched") and "originPassword" in given:
        kept["envBefore"] = _with_password(str(kept["envBefore"]), str(kept.get("hyperdrive") or ""), str(news["originPassword"]))
    return kept


def _is_of_another_file(olds: Properties, news: Properties) -> bool:
    """Whether `envFile` names another file since, or one at last, that was not switched yet: what it has now is what it had before. One that
    was is the recorded file, moved.
    """
    known = olds[_FILE] if _FILE in olds else news.get(_FILE) if json.loads(str(olds.get("envBefore") or "{}")) else ""
    return bool(news.get(_FILE)) and news[_FILE] != known and not news.get("envSwitched")


def _with_password(before: str, hyperdrive: str, password: str) -> str:
    """The old values of `.env` with the password of Hyperdrive's old origin, where DATABASE_URL has the same login."""
    values = json.loads(before or "{}")
    raw, user = values.get(_URL), (json.loads(hyperdrive or "{}").get("origin") or {}).get("user")
    file = EnvFile(Path(), "envFile", f"{_URL}={raw}\n")
    url = split_or_empty((file.get(_URL) or "") if raw else "")
    if not user or unquote(url.username or "") != user or unquote(url.password or "") == password:
        return before
    login, _, place = url.netloc.rpartition("@")
    changed = url._replace(netloc=f"{login.partition(':')[0]}:{quote(password, safe='')}@{place}").geturl()
    return json.dumps({**values, _URL: file.with_value(_URL, changed).raw(_URL)}, sort_keys=True)


class WayBack(Resource, module="clarity", name="WayBack"):
    """The old DATABASE_URL, the text of `.env`'s values, the Hyperdrive config and its origin's password and Access secret."""

    applicationUrl: pulumi.Output[str]
    originPassword: pulumi.Output[str]
    originAccessSecret: pulumi.Output[str]
    envBefore: pulumi.Output[str]
    hyperdrive: pulumi.Output[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(WayBackProvider(), name, props, opts)
