"""What do the bodies of functions call and read? The server keeps text bodies as text, so this is a careful look at words.

A function, type, text search configuration or sequence that a body of the set names moves with it, and stays in the source too; an
extension whose objects it names is made in the target. A name may stand for something else, so what is left is an obstacle that can be
accepted. A statement that is put together at run time cannot be read at all: the functions that run such are named, so that somebody
looks.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from clarity_infra.move.model import Blocker
from clarity_infra.move.names import quoted
from clarity_infra.move.queries import query

# A comment, a name (bare or quoted, as many parts as there are), or a quoted string.
_WORDS = re.compile(
    r"""--[^\n]* | /\*.*?\*/
      | (?P<name> (?:[^\W\d][\w$]* | "(?:[^"]|"")+") (?:\s*\.\s*(?:[^\W\d][\w$]* | "(?:[^"]|"")+"))* )
      | (?P<other> \S)""",
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(r'[^\W\d][\w$]*|"(?:[^"]|"")+"')
# The catalog pg_proc by its OID, which is the same in every database.
_FUNCTIONS = 1255
# Words after which a relation is named, and words that may stand between.
_BEFORE_RELATION = {"from", "join", "into", "update", "table", "truncate", "using", "only", "copy", "lock"}
_RELATION_FUNCTIONS = {"nextval", "currval", "setval", "lastval"}
# Words that end the list of relations that FROM begins.
_AFTER_RELATIONS = {
    "where",
    "group",
    "order",
    "having",
    "limit",
    "offset",
    "union",
    "except",
    "intersect",
    "set",
    "returning",
    "on",
    "select",
    "for",
}
_SEARCH_FUNCTIONS = {
    "to_tsvector",
    "to_tsquery",
    "plainto_tsquery",
    "phraseto_tsquery",
    "websearch_to_tsquery",
    "ts_headline",
    "tsvector_update_trigger",
}
# Words that a column may follow; a type follows another name only: that of a variable, a column, or AS.
_BEFORE_COLUMN = {
    *_AFTER_RELATIONS,
    *("and", "or", "not", "in", "is", "between", "like", "ilike", "any", "all", "some", "exists", "distinct", "by", "using", "only", "values"),
    *(
        "case",
        "when",
        "then",
        "else",
        "if",
        "elsif",
        "end",
        "begin",
        "loop",
        "while",
        "exit",
        "return",
        "raise",
        "perform",
        "with",
        "default",
        "declare",
    ),
    *("from", "join", "into", "update", "of", "to"),
}


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
        self._read: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
        for function in functions:  # each body is taken apart once: there may be many, and long ones
            words = _words(function["prosrc"])
            mentions = list(_mentions(words))
            function["unread"] = _built_at_run_time(function["language"], words)
            function["bare"] = {(kind, parts[0]) for kind, parts in mentions if len(parts) == 1}
            self._read.append((function, _named_in(mentions, self._known)))

    def helpers(self, members: Collection[tuple[int, int]], accepted: Collection[str]) -> dict[tuple[int, int], str]:
        """What is not of the set but named by a body that is, and can move with it; and who names each.

        That are functions, types, text search configurations, sequences of no column, and extensions, but for those of a function that is
        `accepted` as it is.
        """
        return {
            _id(row): f"{function['object']}, {_names(function)} it"
            for function, named in self._read
            for row in named
            if _id(function) in members
            and row["helps"]
            and _id(row) not in members
            and not (row["extension"] and function["object"] in accepted)
        }

    def sharers(self, members: Collection[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """The functions, types and configurations of the set that a body which stays names; and who names each."""
        return {
            _id(row): f"{function['object']}, {_names(function)} it and which stays"
            for function, named in self._read
            for row in named
            if _id(function) not in members and _id(row) in members and row["kind"] != "relation" and not row["extension"]
        }

    def findings(self, members: Collection[tuple[int, int]]) -> Findings:
        """What the bodies say of the set and of what stays."""
        found: list[Blocker] = []
        unread: dict[bool, list[str]] = {True: [], False: []}
        callers = self._callers(members)
        for function, named in self._read:
            moves = _id(function) in members
            if function["unread"]:
                unread[moves].append(function["object"])
            if moves and _id(function) in callers:
                found += _while_loading(function, named, *callers[_id(function)])
            for row in named:
                found += _left_apart(function, row, moves=moves, other_moves=_id(row) in members)
        return Findings(found, [_UNREAD[moves].format(", ".join(objects)) for moves, objects in unread.items() if objects])

    def _callers(self, members: Collection[tuple[int, int]]) -> dict[tuple[int, int], tuple[str, str]]:
        """The functions that run while rows are loaded or indexes made: the object of the set for which, and who calls it."""
        found = {
            _id(function): (text, text)
            for function, _ in self._read
            for classid, objid, text in function["callers"][::-1]
            if (classid, objid) in members
        }
        spread = list(found)
        while spread:
            caller = spread.pop()
            for function, named in self._read:
                for row in named if _id(function) == caller else ():
                    if row["kind"] == "function" and not row["extension"] and _id(row) not in found:
                        found[_id(row)] = (found[caller][0], function["object"])
                        spread.append(_id(row))
        return found


def _id(row: dict[str, Any]) -> tuple[int, int]:
    return row["classid"], row["oid"]


def _names(function: dict[str, Any]) -> str:
    return "whose body names" if function["classid"] == _FUNCTIONS else "which names"


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
    if not moves and other_moves and row["kind"] == "relation" and not row["extension"]:
        return [
            Blocker(
                function["object"],
                f"it stays, and its body names {thing}, which moves",
                "drop it, or accept that it stays behind and sees the old rows only",
            )
        ]
    return []


def _while_loading(function: dict[str, Any], named: list[dict[str, Any]], needed_by: str, caller: str) -> list[Blocker]:
    """What a function that is called for every row may not do: read other rows, or need a search path. No dump can say either."""
    relations = sorted(f"{row['nspname']}.{row['name']}" for row in named if row["kind"] == "relation" and not row["extension"])
    helpers = sorted(
        (row["name"], row["nspname"]) for row in named if row["kind"] != "relation" and (row["kind"], row["name"]) in function["bare"]
    )
    if relations:
        again = (
            "drop it and add it again with NOT VALID, so that it is made after the rows; or accept it"
            if "constraint" in needed_by
            else "accept it"
        )
        calls = f"it calls {function['object']}" if caller == needed_by else f"it comes to call {function['object']}"
        return [
            Blocker(
                needed_by,
                f"{calls}, whose body reads {relations[0]}: its rows may not be there when it is asked",
                f"{again} if it works without",
            )
        ]
    if helpers and not function["pinned"]:
        path = ", ".join(dict.fromkeys(quoted(schema) for schema in (function["nspname"], *(schema for _, schema in helpers))))
        return [
            Blocker(
                function["object"],
                f"{caller} calls it, and its body names {helpers[0][0]} without a schema, where nothing finds it during the load",
                f"ALTER FUNCTION {function['identity']} SET search_path = {path}, or accept it if the server's own is meant",
            )
        ]
    return []


# By whether the functions move.
_UNREAD = {
    True: "Put together at run time, so not checked: the statements of {}, which move. See that what they name moves too.",
    False: "Put together at run time, so not checked: the statements of {}, which stay. See that they name no table that moves.",
}


def _built_at_run_time(language: str, body: list[tuple[str, list[str]]]) -> bool:
    """Whether a body runs statements that it puts together, or is in a language of which nobody here reads a word."""
    if language == "sql":
        return False
    if language != "plpgsql":
        return True
    words = [parts[-1] if parts else text for text, parts in body]
    # EXECUTE FUNCTION is a part of CREATE TRIGGER.
    return any(word == "execute" and following not in ("function", "procedure") for word, following in itertools.pairwise(words))


def _named_in(mentions: Iterable[tuple[str, list[str]]], known: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The known objects that are mentioned."""
    found: dict[tuple[int, int, str], dict[str, Any]] = {}
    for kind, parts in mentions:
        for row in known.get((kind, parts[-1]), ()):
            if (len(parts) == 1 and not row["hidden"]) or (len(parts) > 1 and parts[-2] == row["nspname"]):
                found.setdefault((*_id(row), f"{kind} {row['name']}"), row)
    return list(found.values())


def _mentions(words: list[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    """(kind, parts of the name) of everything that reads like a relation, a call, a type or a text search configuration; names folded as the
    server folds them.
    """
    listed = _in_list_of_relations(words)
    for position, (_, parts) in enumerate(words):
        if not parts:
            continue
        text, before = words[position - 1] if position else ("", [])
        after = [word for word, _ in words[position + 1 : position + 3]]
        if (
            (before and before[-1] in _BEFORE_RELATION)
            or position in listed
            or after[:1] == ["%"]
            or len(parts) > 1
            or _in_string_call(words, position, _RELATION_FUNCTIONS)
        ):
            yield "relation", parts
        if after[:1] == ["%"] and after[1:] and after[1].lower() == "type" and len(parts) > 1:
            yield "relation", parts[:-1]
        if after[:1] == ["("]:
            yield "function", parts
        if (before and before[-1] not in _BEFORE_COLUMN) or text == ":" or after[:1] == ["'"]:
            yield "type", parts
        if _in_string_call(words, position, _SEARCH_FUNCTIONS):
            yield "configuration", parts


def _in_list_of_relations(words: list[tuple[str, list[str]]]) -> set[int]:
    """The places of names that follow a comma in the list that FROM begins."""
    found: set[int] = set()
    within = [False]
    for position, (text, parts) in enumerate(words):
        if text == "(":
            within.append(False)
        elif text == ")" and len(within) > 1:
            within.pop()
        elif text == ";" or (parts and parts[-1] in _AFTER_RELATIONS):
            within[-1] = False
        elif parts == ["from"]:
            within[-1] = True
        elif parts and within[-1] and words[position - 1][0] == ",":
            found.add(position)
    return found


def _words(body: str) -> list[tuple[str, list[str]]]:
    """The names of a body with their parts, folded, and between them other characters with none; comments are left out."""
    words: list[tuple[str, list[str]]] = []
    for match in _WORDS.finditer(body):
        if match["name"]:
            words.append((match["name"], [_folded(part) for part in _PART.findall(match["name"])]))
        elif match["other"]:
            words.append((match["other"], []))
    return words


def _in_string_call(words: list[tuple[str, list[str]]], position: int, functions: Collection[str]) -> bool:
    """Whether the word is the quoted argument of nextval and its like."""
    window = [part for _, parts in words[max(0, position - 4) : position] for part in parts]
    return words[position - 1][0] == "'" and any(part in functions for part in window)


def _folded(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()
