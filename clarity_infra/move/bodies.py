"""What do the bodies of functions call and read? The server keeps text bodies as text, so this is a careful look at words.

A function or sequence that a body of the set names moves with it, and stays in the source too. A name may stand for something else, so
what is left is an obstacle that can be accepted. A statement that is put together at run time cannot be read at all: the functions that run
such are named, so that somebody looks.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from clarity_infra.move.model import Blocker
from clarity_infra.move.queries import query

# A comment, a name (bare or quoted, as many parts as there are), or a quoted string.
_WORDS = re.compile(
    r"""--[^\n]* | /\*.*?\*/
      | (?P<name> (?:[^\W\d][\w$]* | "(?:[^"]|"")+") (?:\s*\.\s*(?:[^\W\d][\w$]* | "(?:[^"]|"")+"))* )
      | (?P<other> \S)""",
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(r'[^\W\d][\w$]*|"(?:[^"]|"")+"')
# Words after which a relation is named, and words that may stand between.
_BEFORE_RELATION = {"from", "join", "into", "update", "table", "truncate", "using", "only", "copy", "lock"}
_RELATION_FUNCTIONS = {"nextval", "currval", "setval", "lastval"}


@dataclasses.dataclass(frozen=True)
class Findings:
    """`blockers`: functions of the set that name something that stays, and the other way round. `notes`: what could not be read."""

    blockers: list[Blocker]
    notes: list[str]


class Bodies:
    """The bodies of all functions of a database that are not an extension's, and the names they may mean. `ours`: LIKE pattern of our own."""

    def __init__(self, connection: psycopg.Connection[Any], ours: str) -> None:
        self._known: dict[tuple[str, str], list[dict[str, Any]]] = {}
        with connection.cursor(row_factory=dict_row) as cursor:
            functions = cursor.execute(query("catalog_bodies"), {"prefix": ours}).fetchall()
            names = cursor.execute(query("catalog_names"), {"prefix": ours}).fetchall() if functions else []
        for row in names:
            self._known.setdefault((row["kind"], row["name"]), []).append(row)
        self._read = [(function, _named_in(function["prosrc"], self._known)) for function in functions]

    def helpers(self, members: Collection[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """Functions, and sequences of no column, that are not of the set but named by a body that is; and who names each."""
        return {
            (row["classid"], row["oid"]): f"{function['object']}, whose body names it"
            for function, named in self._read
            for row in named
            if (function["classid"], function["oid"]) in members and row["helps"] and (row["classid"], row["oid"]) not in members
        }

    def findings(self, members: Collection[tuple[int, int]]) -> Findings:
        """What the bodies say of the set and of what stays."""
        found: list[Blocker] = []
        unread: dict[bool, list[str]] = {True: [], False: []}
        for function, named in self._read:
            moves = (function["classid"], function["oid"]) in members
            if _built_at_run_time(function["language"], function["prosrc"]):
                unread[moves].append(function["object"])
            if moves and function["caller"]:
                found += _while_loading(function, named)
            for row in named:
                found += _left_apart(function, row, moves=moves, other_moves=(row["classid"], row["oid"]) in members)
        return Findings(found, [_UNREAD[moves].format(", ".join(objects)) for moves, objects in unread.items() if objects])


def _left_apart(function: dict[str, Any], row: dict[str, Any], *, moves: bool, other_moves: bool) -> list[Blocker]:
    thing = f"{row['kind']} {row['nspname']}.{row['name']}"
    if moves and not other_moves:
        also = "add it to `tables`" if row["is_table"] else "make it in the target first"
        return [
            Blocker(
                function["object"],
                f"its body names {thing}, which does not move",
                f"{also}, rewrite the function, or accept it if it works without",
            )
        ]
    if not moves and other_moves and row["kind"] == "relation":
        return [
            Blocker(
                function["object"],
                f"it stays, and its body names {thing}, which moves",
                "drop it, or accept that it stays behind and sees the old rows only",
            )
        ]
    return []


def _while_loading(function: dict[str, Any], named: list[dict[str, Any]]) -> list[Blocker]:
    """What a function that is called for every row may not do: read other rows, or need a search path. No dump can say either."""
    relations = sorted(f"{row['nspname']}.{row['name']}" for row in named if row["kind"] == "relation")
    bare = {parts[0] for kind, parts in _mentions(function["prosrc"]) if kind == "function" and len(parts) == 1}
    helpers = sorted(row["name"] for row in named if row["kind"] == "function" and row["name"] in bare)
    blockers = []
    if relations:
        blockers.append(
            Blocker(
                function["caller"],
                f"it calls {function['object']}, whose body reads {relations[0]}: its rows may not be there when it is asked",
                "drop it and add it again with NOT VALID, so that it is made after the rows; or accept it if it works without",
            )
        )
    elif helpers and not function["pinned"]:
        blockers.append(
            Blocker(
                function["object"],
                f"{function['caller']} calls it, and its body calls {helpers[0]} without a schema, where nothing finds it during the load",
                f"{function['pin']}, or accept it if the server's own is meant",
            )
        )
    return blockers


# By whether the functions move.
_UNREAD = {
    True: "Put together at run time, so not checked: the statements of {}, which move. See that what they name moves too.",
    False: "Put together at run time, so not checked: the statements of {}, which stay. See that they name no table that moves.",
}


def _built_at_run_time(language: str, body: str) -> bool:
    """Whether a body runs statements that it puts together, or is in a language of which nobody here reads a word."""
    if language == "sql":
        return False
    if language != "plpgsql":
        return True
    words = [parts[-1] if parts else text for text, parts in _words(body)]
    # EXECUTE FUNCTION is a part of CREATE TRIGGER.
    return any(word == "execute" and following not in ("function", "procedure") for word, following in itertools.pairwise(words))


def _named_in(body: str, known: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The known objects the body names where a relation or a function call can stand."""
    found: dict[int, dict[str, Any]] = {}
    for kind, parts in _mentions(body):
        for row in known.get((kind, parts[-1]), ()):
            if len(parts) == 1 or parts[-2] == row["nspname"]:
                found[row["oid"]] = row
    return list(found.values())


def _mentions(body: str) -> Iterator[tuple[str, list[str]]]:
    """(kind, parts of the name) of everything that reads like a relation or a call; names folded as the server folds them."""
    words = _words(body)
    for position, (_, parts) in enumerate(words):
        if not parts:
            continue
        before = words[position - 1][1] if position else []
        after = words[position + 1][0] if position + 1 < len(words) else ""
        if (before and before[-1] in _BEFORE_RELATION) or after == "%" or len(parts) > 1 or _in_string_call(words, position):
            yield "relation", parts
        if after == "(":
            yield "function", parts


def _words(body: str) -> list[tuple[str, list[str]]]:
    """The names of a body with their parts, folded, and between them other characters with none; comments are left out."""
    words: list[tuple[str, list[str]]] = []
    for match in _WORDS.finditer(body):
        if match["name"]:
            words.append((match["name"], [_folded(part) for part in _PART.findall(match["name"])]))
        elif match["other"]:
            words.append((match["other"], []))
    return words


def _in_string_call(words: list[tuple[str, list[str]]], position: int) -> bool:
    """Whether the word is the quoted argument of nextval and its like."""
    window = [part for _, parts in words[max(0, position - 4) : position] for part in parts]
    return words[position - 1][0] == "'" and bool(_RELATION_FUNCTIONS & set(window))


def _folded(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()
