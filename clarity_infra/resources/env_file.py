"""The application's `.env`, as a resource: names the live side, and has its old values back on the way back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pulumi
from pulumi.dynamic import CreateResult, Resource, UpdateResult

from clarity_infra.connection import split_or_empty
from clarity_infra.env_file import EnvFile
from clarity_infra.migration_url import database_of, with_database
from clarity_infra.resources.base import ClarityProvider, Properties, say, without_provider


class EnvFileProvider(ClarityProvider):
    """Edits only the variables of `values`; a `path` that is empty means that there is no file to edit."""

    compared = ("path", "side", "values")

    def create(self, props: Properties) -> CreateResult:
        self.remember_made()
        return CreateResult("env-file", self._written(props))

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        released = [key for key in _olds.get("variables") or [] if key not in _news["variables"]]
        if released:  # no longer ours to change, so it is as it was before it was
            restore({**_olds, "variables": released})
        if _olds.get("path") != _news.get("path"):
            _let_go(_olds, _news)
        return UpdateResult(self._written(_news))

    def delete(self, _id: str, _props: Properties) -> None:
        if not self.was_replaced:
            restore(_props)

    def _written(self, props: Properties) -> Properties:
        if props.get("path"):
            if props["side"] == "target":
                write(props)
            else:
                restore(props)
        return without_provider(props)


def write(props: Properties) -> None:
    """Sets every variable of `values`. Raises ConfigurationError where the file cannot be written; it is then as it was."""
    before = EnvFile.read(Path(str(props["path"])), setting="envFile")
    after = before
    for key, value in json.loads(str(props["values"])).items():
        after = after.with_value(key, value)
    if after.text != before.text:
        after.write()
        say(f"{before.path.name}: {', '.join(json.loads(str(props['values'])))} now name(s) the new database")


def _let_go(olds: Properties, news: Properties) -> None:
    """Of a file that `envFile` no longer names: it goes back with the rest where that is now, and never again by itself. Raises as `write`."""
    path = Path(str(olds.get("path") or ""))
    if not olds.get("path") or not path.exists() or _restored(olds) is None:  # moved, or as it was before it was this stack's
        return
    if news["side"] == "source":
        restore(olds)
    else:
        say(
            f"warning: {path} is no longer this stack's to change: {' and '.join(olds['variables'])} in it name(s) the new database, and must be"
            " set by hand where you go back or rotate the password"
        )


def restore(props: Properties) -> None:
    """Puts back the values that are still ours, written as they were; a value somebody changed since stays. Raises as `write`.

    A file that is gone has nothing to put back: a stack may be destroyed from another machine than the one it was made on.
    """
    path = Path(str(props.get("path") or ""))
    if props.get("path") and not path.exists():
        say(f"warning: {path} is not there; where it is, {' and '.join(props['variables'])} must be set back to the old database by hand")
    elif (after := _restored(props)) is not None:
        after.write()
        say(f"{path.name}: old values put back")


def check_restorable(props: Properties) -> None:
    """Raises ConfigurationError where `restore` would."""
    if Path(str(props.get("path") or "")).exists() and (after := _restored(props)) is not None:
        after.check_writable()


def _restored(props: Properties) -> EnvFile | None:
    """The file with its old values; None where there is no such file, or nothing to put back. Raises ConfigurationError."""
    if not props.get("path"):
        return None
    before = EnvFile.read(Path(str(props["path"])), setting="envFile")
    after, old = before, json.loads(str(props["before"]))
    new = json.loads(str(props["values"]))
    logins = props.get("logins") or []
    for key in props["variables"]:
        if key in old and _names_same_database(before.get(key) or "", new.get(key) or "", logins):
            after = _put_back(after, key, old[key])
    return after if after.text != before.text else None


def _put_back(file: EnvFile, key: str, raw: str | None) -> EnvFile:
    """With the variable as it was written before; where only the database differs, a password changed since stays."""
    now, old = file.get(key) or "", file.with_raw(key, raw).get(key) or ""
    moved = with_database(now, database_of(old))
    rotated = _names_same_database(moved, old, ()) and split_or_empty(now).password != split_or_empty(old).password
    return file.with_value(key, moved) if rotated else file.with_raw(key, raw)


def _names_same_database(url: str, other: str, logins: Sequence[str]) -> bool:
    """Whether two URLs differ in their password, and in which of `logins` they name, at most: a rotated one is still ours.

    One that cannot be read is nobody's of ours.
    """
    one, two = split_or_empty(url), split_or_empty(other)
    same_login = one.username == two.username or unquote(one.username or "") in logins
    return bool(one.netloc) and same_login and (one.hostname, one.port, one.path) == (two.hostname, two.port, two.path)


class EnvFileResource(Resource, module="clarity", name="EnvFile"):
    """The variables of `.env` that name a database."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None, **props: Any) -> None:
        super().__init__(EnvFileProvider(), name, props, opts)
