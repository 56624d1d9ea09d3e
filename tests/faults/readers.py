"""Does anybody read what is no longer so? Readers of the application, over connections of Hyperdrive's data path and so through its cache.

Hyperdrive keeps the answers to such reads. What a reader may be told is therefore older than what was written, but only where and
for as long as the caching that is configured allows that, and for as long as a connection to the side that was left lives on.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg

from sandbox.cloudflare import Given
from tests.faults.application import BROKEN, Application, Client, Version

SIDE_VIEW = "harness.side"
"""A view with one row, the name of the side that its database is; a table would be fenced with the application's."""

_NEVER = Version(None, -math.inf, -math.inf, "")


def query_of(key: int) -> str:
    """A text of its own for every key, so that what the cache gave can be told by it; one row, whether the key has one or not."""
    return f"SELECT side.name, row.title FROM {SIDE_VIEW} side LEFT JOIN public.requests row ON row.place = {key}"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one read was told, by which side ("source", "target"); `begun` and `ended` by the monotonic clock."""

    key: int
    begun: float
    ended: float
    side: str
    title: str | None


class Reader(threading.Thread):
    """Reads the rows of some writers, `rate` a second at most. Nobody else reads those, so every answer of the cache is one reader's."""

    def __init__(self, url: Callable[[], str], clients: Sequence[Client], rate: float) -> None:
        super().__init__(name="reader", daemon=True)
        self._url, self._clients, self._pause = url, clients, 1.0 / rate
        self._connection: psycopg.Connection[Any] | None = None
        self.over = threading.Event()
        self.answers: list[Answer] = []
        self.problems: list[str] = []

    def run(self) -> None:
        while not self.over.is_set():
            for key in [key for client in self._clients for key in client.current_keys()]:
                started = time.monotonic()
                self._read(key)
                if self.over.wait(max(0.0, self._pause - (time.monotonic() - started))):
                    break
        self._leave()

    def longest_gap(self) -> float:
        """The longest time without an answer, in seconds."""
        return max((later.ended - earlier.ended for earlier, later in zip(self.answers, self.answers[1:], strict=False)), default=0.0)

    def _read(self, key: int) -> None:
        try:
            begun = time.monotonic()
            row = self._connected().execute(query_of(key).encode()).fetchone()
            assert row is not None
            self.answers.append(Answer(key, begun, time.monotonic(), row[0], row[1]))
        except BROKEN:
            self._leave()
            self.over.wait(0.05)
        except psycopg.Error as error:
            self.problems.append(f"a read failed: {type(error).__name__} {error.diag.message_primary}")
            self._leave()
            self.over.wait(0.05)

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            # What is read within a transaction is never kept.
            self._connection = psycopg.connect(self._url(), connect_timeout=5, autocommit=True, prepare_threshold=None)
        return self._connection

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


@dataclasses.dataclass
class Terms:
    """When a reader may be told what is no longer so (monotonic clock).

    cache_seconds: how long the cache gives an answer again. cache_until: when what it held at the time it was switched off is gone.
    cache_from: when it is on again. left: the side the application leaves, whose connections live on, and over which its last state
    is read, until the command is `done`.
    """

    cache_seconds: float
    cache_until: float = -math.inf
    cache_from: float = math.inf
    left: str = ""
    done: float = math.inf


@dataclasses.dataclass
class Judgement:
    """How many reads there were, how many the cache answered, how many were out of date by the cache or over an old connection.

    `findings`: what was not allowed.
    """

    reads: int = 0
    cached: int = 0
    stale_cached: int = 0
    stale_old: int = 0
    findings: list[str] = dataclasses.field(default_factory=list)

    def text(self) -> str:
        """For the table."""
        return f"{self.stale_cached} cache, {self.stale_old} old" if self.stale_cached or self.stale_old else "-"


class Readers:
    """Readers of everything an application writes, at work for the time of a `with`."""

    def __init__(self, application: Application, url: Callable[[], str], *, readers: int = 2, rate: float = 20.0) -> None:
        self._application = application
        self._readers = [Reader(url, application.clients[number::readers], rate) for number in range(readers)]

    def __enter__(self) -> Readers:
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.over.set()
        for reader in self._readers:
            reader.join(timeout=30)

    def longest_gap(self) -> float:
        """The longest time any of them was without an answer, in seconds."""
        return max(reader.longest_gap() for reader in self._readers)

    def judge(self, given: Iterable[Given], sides: Mapping[str, str], terms: Terms) -> Judgement:
        """What they were told, once they and the application are at an end. `given`: by the cache; `sides`: of the databases, by name."""
        versions = {key: history for client in self._application.clients for key, history in client.versions.items()}
        found = judge((answer for reader in self._readers for answer in reader.answers), versions, given, sides, terms)
        found.findings += [problem for reader in self._readers for problem in reader.problems]
        return found


def judge(
    answers: Iterable[Answer], versions: Mapping[int, Sequence[Version]], given: Iterable[Given], sides: Mapping[str, str], terms: Terms
) -> Judgement:
    """Compares what readers were told with what had been acknowledged by then. `sides`: of the databases, by name."""
    found, wrong = Judgement(), collections.defaultdict[str, list[str]](list)
    times = collections.defaultdict[str, list[float]](list)
    for answer_given in given:
        times[answer_given.query].append(answer_given.at)
    for answer in answers:
        from_cache = any(answer.begun <= at <= answer.ended for at in times[query_of(answer.key)])
        found.reads += 1
        found.cached += from_cache
        history = [_NEVER, *versions.get(answer.key, ())]
        missed = _missed(answer, history)
        if missed is None:
            wrong["told what was never written"].append(f"key {answer.key} was {answer.title!r}")
            continue
        if not missed:
            continue
        found.stale_cached += from_cache
        found.stale_old += not from_cache
        late = answer.begun - (missed[0].acknowledged or answer.begun)
        trouble = _trouble(answer, late, [sides[version.database] for version in missed], from_cache, terms)
        if trouble:
            wrong[trouble].append(f"key {answer.key} on the {answer.side}, {late:.2f} s after {missed[0].title!r} was acknowledged")
    found.findings += [f"{len(examples)} reads were {trouble}, first {examples[0]}" for trouble, examples in wrong.items()]
    return found


def _missed(answer: Answer, history: Sequence[Version]) -> list[Version] | None:
    """The acknowledged writes that an answer does not show, oldest first; None where it shows what was never so."""
    known = max(number for number, version in enumerate(history) if version.acknowledged is not None and version.acknowledged < answer.begun)
    if any(version.title == answer.title for version in history[known:] if version.begun < answer.ended):
        return []
    shown = [number for number, version in enumerate(history[:known]) if version.title == answer.title]
    return list(history[shown[-1] + 1 : known + 1]) if shown else None


def _trouble(answer: Answer, late: float, missed_on: Sequence[str], from_cache: bool, terms: Terms) -> str:
    """Why a reader may not be told what is out of date by `late` seconds; empty where it may. `missed_on`: sides of the writes it misses."""
    if from_cache:
        if set(missed_on) != {answer.side}:
            return "given by the cache what the former side held"
        if terms.cache_until <= answer.begun < terms.cache_from:
            return "out of date and from the cache, which should be off"
        if late > terms.cache_seconds:
            return "out of date for longer than the cache may hold an answer"
        return ""
    if answer.side in missed_on or answer.side != terms.left:
        return "out of date, and neither from the cache nor over an old connection"
    return "over an old connection after the command was done" if answer.begun > terms.done else ""
