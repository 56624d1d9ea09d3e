"""How is a table named? A schema and a name, both data: never folded, never pasted into SQL."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.errors import ConfigurationError

# Longer identifiers are cut by the server without a word. https://www.postgresql.org/docs/current/sql-syntax-lexical.html
MAX_IDENTIFIER_BYTES = 63


@dataclasses.dataclass(frozen=True, order=True)
class Name:
    """An object in a schema."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str, *, setting: str = "tables") -> Name:
        """Reads `name`, `schema.name` or either part in double quotes (a quote inside is doubled). Nothing is case-folded.

        Raises ConfigurationError that names `setting` for an empty, over-long or badly quoted name.
        """
        parts = _split(text, setting)
        schema, name = ("public", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        for part in (schema, name):
            check_identifier(part, setting)
        return cls(schema, name)

    def identifier(self) -> sql.Identifier:
        """For use in a composed statement."""
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return ".".join(_shown(part) for part in (self.schema, self.name))


def check_identifier(text: str, setting: str) -> str:
    """`text` if a server can hold it as an identifier; raises ConfigurationError that names `setting` otherwise."""
    if not text or "\0" in text:
        raise ConfigurationError(f"{setting}: an empty name.", remedy=f"correct {setting}.")
    if len(text.encode()) > MAX_IDENTIFIER_BYTES:
        raise ConfigurationError(
            f"{setting}: {text!r} is longer than the {MAX_IDENTIFIER_BYTES} bytes PostgreSQL keeps of a name.",
            remedy=f"shorten it in {setting}.",
        )
    return text


def quoted(name: str) -> str:
    """A name as it stands in a statement that a person is told to ask for: in double quotes, a quote inside doubled."""
    return '"' + name.replace('"', '""') + '"'


# A string, or a name that the server quoted. One that folds to itself means the same without its quotes, whatever words it reserves.
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?P<name>(?:[^"]|"")*)\"""")
_FOLDS_TO_ITSELF = re.compile(r"[a-z_][a-z0-9_$]*\Z")


def unquoted(text: str) -> str:
    """A server's SQL, for people and for comparison, with quotes only around the names that cannot be read without."""
    return _QUOTED.sub(lambda match: match["name"] if _FOLDS_TO_ITSELF.match(match["name"] or "") else match[0], text)


# An array in parentheses and what may stand in one: only outside of strings and quoted names is a bracket a bracket.
_PART = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w"])\(ARRAY\[|[()\[\],]""")
_CAST = re.compile(r"""\)::(?P<type>(?:"(?:[^"]|"")*"|[\w.$ ]|\(\d+(?:,-?\d+)?\))+)\[\]""")


def settled(text: str) -> str:
    """SQL that a server wrote, as it writes it once it has read that: of an array that is cast, its elements are.

    A check of a varchar, `v IN ('a', 'b')`, is such an array: every dump of it, loaded, reads differently from what was dumped.
    """
    for start in reversed([part.start() for part in _PART.finditer(text) if part[0] == "(ARRAY["]):
        text = text[:start] + _cast_within(text[start:])
    return text


def _cast_within(text: str) -> str:
    """`text`, which begins with an array in parentheses, with the array's cast at each of its elements."""
    inside, rest = _elements(text[1:])
    cast = _CAST.match(rest)
    return _each_cast(inside, cast["type"]) + rest[cast.end() :] if cast and inside else text


def _each_cast(elements: list[str], type_text: str) -> str:
    def one(element: str) -> str:
        if element.startswith("ARRAY["):
            inside, rest = _elements(element)
            if not rest:
                return _each_cast(inside, type_text)
        return f"({element})::{type_text}"

    return f"ARRAY[{', '.join(map(one, elements))}]"


def _elements(text: str) -> tuple[list[str], str]:
    """The elements of the array that `text` begins with, and what comes after it."""
    begin = len("ARRAY[")
    elements, depth = [], 0
    for part in _PART.finditer(text, begin):
        opens, closes = part[0].count("(") + part[0].count("["), part[0] in (")", "]")
        if part[0][0] in "'\"":
            continue
        if not depth and (closes or part[0] == ","):
            elements.append(text[begin : part.start()].strip())
            begin = part.end()
            if closes:
                return [element for element in elements if element], text[begin:]
        depth += opens - closes
    return [], ""


@contextlib.contextmanager
def every_name_quoted(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """A newer server has more words that it quotes: texts of an older one are for it, and alike, only where every name is quoted."""
    connection.execute("SELECT pg_catalog.set_config('quote_all_identifiers', 'on', false)")
    yield
    connection.execute("SELECT pg_catalog.set_config('quote_all_identifiers', 'off', false)")


def _shown(part: str) -> str:
    plain = part.replace("_", "a").isalnum() and part.isascii() and part == part.lower() and not part[0].isdigit()
    return part if plain else quoted(part)


def _split(text: str, setting: str) -> list[str]:
    parts: list[str] = []
    rest = text.strip()
    while True:
        if rest.startswith('"'):
            part, rest = _quoted(rest[1:], text, setting)
        else:
            part, dot, tail = rest.partition(".")
            rest = dot + tail
        parts.append(part)
        if not rest:
            break
        if not rest.startswith("."):
            raise ConfigurationError(f"{setting}: {text!r} is badly quoted.", remedy='write schema."odd name".')
        rest = rest[1:]
    if len(parts) > 2:
        raise ConfigurationError(
            f"{setting}: {text!r} has more than a schema and a name.", remedy='quote a part that holds a dot: public."my.table".'
        )
    return parts


def _quoted(rest: str, text: str, setting: str) -> tuple[str, str]:
    part = ""
    while True:
        before, quote, rest = rest.partition('"')
        part += before
        if not quote:
            raise ConfigurationError(f"{setting}: {text!r} has a quote that is not closed.", remedy='write schema."odd name".')
        if not rest.startswith('"'):
            return part, rest
        part, rest = part + '"', rest[1:]
