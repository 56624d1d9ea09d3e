"""How is a variable of the application's `.env` changed and put back without disturbing anything else?

The file is read as python-dotenv reads it; only the text of the one value is replaced, atomically, and the file is private to its
owner afterwards. A symbolic link stays one: the file it names is changed.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from clarity_infra.errors import ConfigurationError
from clarity_infra.whole_file import replace_whole

# An assignment: what stands before its value, the value (in single or double quotes, or up to a comment or the end of the line), and the rest.
_HEAD = r"""(?P<head>^[^\S\r\n]*(?:export[^\S\r\n]+)?['"]?{key}['"]?[^\S\r\n]*=[^\S\r\n]*)"""
_VALUE = r"""(?P<value>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\r\n]*?)"""
_TAIL = r"""(?P<tail>[^\S\r\n]*(?:[^\S\r\n]\#[^\r\n]*)?(?:\r\n|\n|\r|$))"""

_PRIVATE = 0o600
_BOM = "\N{BYTE ORDER MARK}"


@dataclasses.dataclass(frozen=True)
class EnvFile:
    """The text of a `.env` at the time it was read; nothing is written before `write`."""

    path: Path
    setting: str
    text: str = dataclasses.field(repr=False)

    @classmethod
    def read(cls, path: Path, *, setting: str) -> EnvFile:
        """Reads the file; `setting` is the configuration key that named it.

        Raises ConfigurationError where it is missing, no file, not readable or not text.
        """
        remedy = f"correct {setting}, or set it to an empty text where there is no such file (a CI machine)."
        if path.is_dir():
            raise ConfigurationError(f"{setting}: {path} is a directory, not a file.", remedy=remedy)
        try:
            text = path.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            raise ConfigurationError(f"{setting}: {path} is not there.", remedy=remedy) from None
        except OSError as error:
            raise ConfigurationError(f"{setting}: {path} cannot be read ({error.strerror}).", remedy=remedy) from None
        return cls(path, setting, text)

    def get(self, key: str) -> str | None:
        """The variable's value, quotes and escapes undone; None where it is not set. Raises ConfigurationError where it stands twice."""
        binding = self._binding(key)
        return binding.value if binding else None

    def raw(self, key: str) -> str | None:
        """The value exactly as it is written, quotes included: what `with_raw` puts back. Raises as `get`."""
        binding = self._binding(key)
        return self._match(binding, key)["value"] if binding else None

    def with_value(self, key: str, value: str) -> EnvFile:
        """With the variable set to `value`, in the quotes the old value had; appended where it was missing. Raises as `get`."""
        old = self.raw(key)
        quote = old[0] if old and old[0] in "'\"" else ""
        return self.with_raw(key, f"{quote}{value}{quote}")

    def with_raw(self, key: str, raw: str | None) -> EnvFile:
        """With the variable's written value replaced by `raw`, or the variable taken out where it is None. Raises as `get`."""
        binding = self._binding(key)
        if binding is None:
            return self if raw is None else dataclasses.replace(self, text=self._appended(f"{key}={raw}"))
        before, original = self._around(binding)
        after = self.text[len(before) + len(original) :]
        match = self._match(binding, key)
        if raw is None:
            text = before + original[: match.start()] + original[match.end() :] + after
            if not match["tail"].endswith(("\n", "\r")):  # the last line without an end: so was the line before it
                text = text.removesuffix("\n").removesuffix("\r")
        else:
            text = before + original[: match.start("value")] + raw + original[match.end("value") :] + after
        return dataclasses.replace(self, text=text)

    def check_writable(self) -> None:
        """Raises ConfigurationError where `write` would fail."""
        target = self.path.resolve()
        if not os.access(target, os.W_OK) or not os.access(target.parent, os.W_OK):
            raise ConfigurationError(
                f"{self.setting}: {self.path} cannot be written.",
                unchanged="Nothing was changed.",
                remedy="give this user the right to write the file and its folder.",
            )

    def write(self) -> None:
        """Puts the text in place of the file at once or not at all, mode 0600. Raises ConfigurationError."""
        self.check_writable()
        replace_whole(self.path, self.text.encode("utf-8", "surrogateescape"), mode=_PRIVATE)

    def _binding(self, key: str) -> Binding | None:
        found = [binding for binding in self._bindings() if binding.key == key and not binding.error]
        if len(found) > 1:
            lines = " and ".join(str(binding.original.line) for binding in found)
            raise ConfigurationError(
                f"{self.setting}: {self.path} sets {key} twice (lines {lines}).",
                unchanged="Nothing was changed.",
                remedy="leave the one that is meant.",
            )
        return found[0] if found else None

    def _bindings(self) -> Iterator[Binding]:
        """What stands in the file after its byte order mark, which Windows' editors write and no reader takes for part of a name."""
        return parse_stream(io.StringIO(self.text.removeprefix(_BOM)))

    def _around(self, binding: Binding) -> tuple[str, str]:
        """The text before the binding's own, and its own."""
        before = _BOM if self.text.startswith(_BOM) else ""
        for other in self._bindings():
            if other.original.line == binding.original.line and other.key == binding.key:
                break
            before += other.original.string
        return before, binding.original.string

    def _match(self, binding: Binding, key: str) -> re.Match[str]:
        match = re.search(_HEAD.format(key=re.escape(key)) + _VALUE + _TAIL, binding.original.string, re.MULTILINE)
        if match is None:
            raise ConfigurationError(
                f"{self.setting}: line {binding.original.line} of {self.path} sets {key} in a form that cannot be edited.",
                unchanged="Nothing was changed.",
                remedy=f"write it as {key}=VALUE on one line.",
            )
        return match

    def _appended(self, line: str) -> str:
        """A file whose last line has no end keeps it so, that taking the line out again gives the same bytes."""
        newline = "\r\n" if "\r\n" in self.text else "\n"
        if self.text and not self.text.endswith(("\n", "\r")):
            return self.text + newline + line
        return self.text + line + newline
