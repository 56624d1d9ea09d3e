"""Which Hyperdrive config does the application's Wrangler file bind, and how is that one ID changed without touching anything else?

A Worker's `wrangler.jsonc` (or .json, .toml) names the config it is deployed with by ID, once at the top level and once in each named
environment: bindings are not inherited. https://developers.cloudflare.com/workers/wrangler/configuration/#hyperdrive

Only the text of the one `id` is replaced. Where it stands is proved rather than computed: of all places where the ID is written, the
right one is that whose replacement changes the parsed file in exactly the binding's `id`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from clarity_infra.errors import ConfigurationError
from clarity_infra.whole_file import replace_whole

SETTING = "wranglerFile"
TOP_LEVEL = "top-level"
"""What `wranglerEnvironment` says for the bindings outside of every `env` section."""

# Strings are matched first, so that what looks like a comment in one is none; of a comma the last one before a closing bracket goes.
_BLANK = r"//[^\r\n]*|/\*.*?\*/"
_JSONC = re.compile(rf'("(?:[^"\\]|\\.)*")|{_BLANK}|,(?=(?:\s|{_BLANK})*[\]}}])', re.DOTALL)

_NOTHING = "Nothing was changed."
_BOM = "\N{BYTE ORDER MARK}"


@dataclasses.dataclass(frozen=True)
class WranglerFile:
    """The text of a Wrangler file at the time it was read, and the binding in it that is meant; nothing is written before `write`."""

    path: Path
    binding: str
    section: str
    text: str

    @classmethod
    def read(cls, path: Path, binding: str, environment: str = "") -> WranglerFile:
        """Reads the file and finds the binding, in section `env.ENVIRONMENT` or, for `top-level`, outside of every section.

        Raises ConfigurationError where the file cannot be read, parsed or written, or the binding is missing, not alone, or
        without an ID; and where it stands in several sections and none is named.
        """
        try:
            text = path.read_bytes().decode()
        except (OSError, ValueError) as error:
            reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else "it is not UTF-8 text"
            raise _refused(f"{path} cannot be read ({reason})", f"correct {SETTING}, or leave it out") from None
        if not os.access(path.resolve(), os.W_OK) or not os.access(path.resolve().parent, os.W_OK):
            raise _refused(f"{path} cannot be written", "give this user the right to write the file and its folder")
        section = _section(path, _parsed(path, text), binding, environment)
        found = cls(path, binding, section, text)
        _ = found.id
        return found

    @property
    def id(self) -> str:
        """The ID of the Hyperdrive config that the binding names now. Raises ConfigurationError where it has none."""
        value = self._entry(_parsed(self.path, self.text)).get("id")
        if not isinstance(value, str) or not value:
            raise _refused(f"{self.label()} has no id", "write the ID of the Hyperdrive config that the application uses now")
        return value

    def label(self) -> str:
        """File, binding and section, for messages."""
        where = "" if self.section == TOP_LEVEL else f" in env.{self.section}"
        return f"binding {self.binding}{where} of {self.path.name}"

    def with_id(self, new: str) -> WranglerFile:
        """The same file with another ID in the binding and every other byte as it is. Raises ConfigurationError."""
        old = self.id
        if old == new:
            return self
        wanted = copy.deepcopy(_parsed(self.path, self.text))
        self._entry(wanted)["id"] = new
        texts = [text for text in _replacements(self.text, old, new) if _parses_to(self.path, text, wanted)]
        if len(texts) != 1:
            raise _refused(
                f"the id of {self.label()} is written in a form that cannot be edited",
                'write it as "id": "..." (JSON) or id = "..." (TOML) without escapes',
            )
        return dataclasses.replace(self, text=texts[0])

    def write(self) -> None:
        """Puts the text in place of the file at once or not at all, its permissions as they are. Raises ConfigurationError."""
        try:
            replace_whole(self.path, self.text.encode())
        except OSError as error:
            raise _refused(f"{self.path} cannot be written ({error.strerror})", "give this user the right to write the file") from None

    def _entry(self, data: dict[str, Any]) -> dict[str, Any]:
        (entry,) = _entries(_sections(data)[self.section], self.binding)
        return entry


def _section(path: Path, data: dict[str, Any], binding: str, environment: str) -> str:
    """The one section that is meant."""
    sections = _sections(data)
    if environment and environment not in sections:
        known = ", ".join(name for name in sections if name != TOP_LEVEL) or "none"
        raise _refused(f"{path.name} has no section env.{environment}; it has {known}", "correct wranglerEnvironment")
    wanted = [environment] if environment else list(sections)
    found = [name for name in wanted for _ in _entries(sections[name], binding)]
    if not found:
        where = f" in {_named(environment)}" if environment else ""
        raise _refused(f"{path.name} has no Hyperdrive binding {binding}{where}", "set wranglerBinding to the binding's name")
    if len(set(found)) > 1:
        raise _refused(
            f"{path.name} has binding {binding} in several places: {', '.join(_named(name) for name in found)}",
            f"say which this stack is about with wranglerEnvironment: an environment's name, or {TOP_LEVEL}",
        )
    if len(found) > 1:
        raise _refused(f"{path.name} has binding {binding} {len(found)} times in {_named(found[0])}", "leave the one that is meant")
    return found[0]


def _named(section: str) -> str:
    return "the top level" if section == TOP_LEVEL else f"env.{section}"


def _sections(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    environments = data.get("env")
    named = environments.items() if isinstance(environments, dict) else ()
    return {**{str(name): section for name, section in named if isinstance(section, dict)}, TOP_LEVEL: data}


def _entries(section: dict[str, Any], binding: str) -> list[dict[str, Any]]:
    entries = section.get("hyperdrive")
    found = entries if isinstance(entries, list) else []
    return [entry for entry in found if isinstance(entry, dict) and entry.get("binding") == binding]


def _replacements(text: str, old: str, new: str) -> Iterator[str]:
    """The text with one of the places where `old` stands in quotes changed, for each of them."""
    for match in re.finditer(rf"(?P<quote>[\"']){re.escape(old)}(?P=quote)", text):
        start = match.start() + 1
        yield text[:start] + new + text[start + len(old) :]


def _parses_to(path: Path, text: str, wanted: dict[str, Any]) -> bool:
    try:
        return _parsed(path, text) == wanted
    except ConfigurationError:
        return False


def _parsed(path: Path, text: str) -> dict[str, Any]:
    parse: Callable[[str], Any] = tomllib.loads if path.suffix == ".toml" else _parsed_jsonc
    try:
        data = parse(text.removeprefix(_BOM))
    except ValueError as error:
        raise _refused(f"{path.name} cannot be understood: {error}", "correct the file; `npx wrangler deploy --dry-run` checks it") from None
    if not isinstance(data, dict):
        raise _refused(f"{path.name} holds no object", f"correct {SETTING}")
    return data


def _parsed_jsonc(text: str) -> Any:
    """JSON with comments and trailing commas. A comment leaves a space and its line ends, so that errors name the right line."""

    def plain(match: re.Match[str]) -> str:
        return match[1] or " " + "\n" * match[0].count("\n")

    return json.loads(_JSONC.sub(plain, text), object_pairs_hook=_without_twins)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twins = sorted({key for key in keys if keys.count(key) > 1})
    if twins:
        raise ValueError(f"{', '.join(twins)} stand(s) twice in one object")
    return dict(pairs)


def _refused(what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"{SETTING}: {what}.", unchanged=_NOTHING, remedy=f"{remedy}.")
