"""Which answers does Hyperdrive keep, and for how long does it give them again?

As documented under "Query caching": the answer to a query that only reads, outside of a transaction, and that calls no function
PostgreSQL calls volatile or stable, is given again for `max_age` seconds and `stale_while_revalidate` more, whatever was written
meanwhile. https://developers.cloudflare.com/hyperdrive/concepts/query-caching/

Three things are this stand-in's own. A stale answer is not renewed behind the client's back, so that it ends with its age. Switching
the cache off keeps new answers out and purges nothing (Cloudflare documents no purge): what was kept is given until its age ends, as
from an edge that has not heard of the change. And queries of the system's catalogs are never kept.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.cloudflare.origin import OriginConnection
from sandbox.cloudflare.wire import Message, ServerRefused

DEFAULT_TIMES = {"max_age": 60, "stale_while_revalidate": 15}
"""Seconds, where a config does not say."""

LARGEST_ANSWER = 50 * 1024 * 1024
"""Bytes (documentation, "Limits")."""

Key = tuple[bytes, ...]

_LONGEST_MEMORY = 100_000

# What of a query's text says nothing of its kind: literals, quoted names, comments.
_OPAQUE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/", re.DOTALL)
_READS = re.compile(r"[\s(]*(?:select|with|values|table)\b")
_WRITES = re.compile(r"\b(?:insert|update|delete|merge|into|share|nextval)\b|;\s*\S")
_DEPENDS = re.compile(r"\b(?:current_\w+|session_user|user|localtime|localtimestamp|pg_\w+|information_schema)\b")
_CALLS = re.compile(r"\b([a-z_]\w*)\s*\(")
_NAMES = "SELECT DISTINCT proname FROM pg_catalog.pg_proc WHERE provolatile <> 'i'"


@dataclass(frozen=True)
class Given:
    """That a kept answer was given again at `at`; the origin was asked `query` for it at `asked` (monotonic clock, seconds)."""

    query: str
    at: float
    asked: float


@dataclass(frozen=True)
class _Kept:
    answer: bytes
    asked: float
    until: float


class Cache:
    """The kept answers of one config. speed: how much faster than a clock its seconds go by, for tests."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._kept: dict[Key, _Kept] = {}
        self._given: deque[Given] = deque(maxlen=_LONGEST_MEMORY)
        self._seconds: float | None = None
        self._changing: frozenset[str] | None = None

    def configure(self, caching: Mapping[str, Any]) -> None:
        """Takes a config's `caching`; what is kept already keeps its time."""
        times = sum(int(caching.get(key, default)) for key, default in DEFAULT_TIMES.items())
        self._seconds = None if caching.get("disabled") else times / self._speed

    def kept(self) -> int:
        """How many answers there are."""
        now = time.monotonic()
        return sum(now < kept.until for kept in list(self._kept.values()))

    def given(self) -> list[Given]:
        """The kept answers that clients were given, the newest last."""
        return list(self._given)

    def find(self, key: Key) -> bytes | None:
        """The answer that is kept for a request, as it goes over the wire; it counts as given."""
        kept, now = self._kept.get(key), time.monotonic()
        if kept is None or now >= kept.until:
            return None
        self._given.append(Given(key[0].decode(), now, kept.asked))
        return kept.answer

    def keep(self, key: Key, answer: bytes, asked: float) -> None:
        """Keeps the answer to a request that was sent at `asked` on the monotonic clock."""
        now = time.monotonic()
        self._kept = {other: kept for other, kept in self._kept.items() if now < kept.until}
        if self._seconds is not None and len(answer) <= LARGEST_ANSWER:
            self._kept[key] = _Kept(answer, asked, asked + self._seconds)

    async def learn(self, connection: OriginConnection) -> None:
        """Asks the origin, once, which functions are volatile or stable; without an answer nothing is kept. Raises ProtocolError."""
        if self._changing is not None or self._seconds is None:
            return
        try:
            rows = [message for message in await connection.ask(_NAMES) if message.kind == b"D"]
        except ServerRefused:
            return
        self._changing = frozenset(row.body[6:].decode() for row in rows)

    def key(self, request: Sequence[Message], prepared: Mapping[bytes, Message]) -> Key | None:
        """By what the answer to a request is kept; None for one whose answer is not.

        A request is a simple query, or the messages of one extended query with its Sync. `prepared` are the client's named statements.
        """
        if self._changing is None or (found := _statement(request, prepared)) is None:
            return None
        text = _OPAQUE.sub("''", found).lower()
        if not _READS.match(text) or _WRITES.search(text) or _DEPENDS.search(text) or self._changing & set(_CALLS.findall(text)):
            return None
        return (found.encode(), *(message.encoded() for message in request))


def _statement(request: Sequence[Message], prepared: Mapping[bytes, Message]) -> str | None:
    """The text of the one query in a request that asks for all of its rows; None for any other request."""
    kinds = b"".join(message.kind for message in request)
    if kinds == b"Q":
        return _decoded(request[0].body.rstrip(b"\0"))
    if not re.fullmatch(b"P?BD?ES", kinds):
        return None
    by_kind = {message.kind: message.body for message in request}
    portal, name = by_kind[b"B"].split(b"\0", 2)[:2]
    if portal or by_kind[b"E"] != b"\0" + bytes(4):
        return None
    parsed = by_kind.get(b"P") if not name else prepared[name].body if name in prepared and b"P" not in by_kind else None
    return None if parsed is None else _decoded(parsed.split(b"\0", 2)[1])


def _decoded(text: bytes) -> str | None:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return None
