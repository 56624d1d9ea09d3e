"""Who does the work, and what may be done at the same time? Several workers, each with connections of its own, and a list of items.

Items may claim what they work on (a table), alone or beside others: one that would only wait for a lock is not begun, and what
comes after it in the list is done meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

import psycopg

Item = TypeVar("Item")
Result = TypeVar("Result")
Connect = Callable[[], psycopg.Connection[Any]]

# What an item works on, and whether nothing else may work on that meanwhile.
Claims = Mapping[Any, bool]

# How often `beat` is called, in seconds; whoever counts the rows decides whether the person who watches hears of it.
_HEARTBEAT_SECONDS = 1.0


class Crew:
    """Works off a list of items with several workers, each with connections of its own.

    `run` returns when all is done, or raises the first error after every other worker was stopped and every connection closed.
    """

    def __init__(self, workers: int, *connect: Connect) -> None:
        self._workers, self._connect = max(1, workers), connect
        self._open: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(
        self,
        items: Sequence[Item],
        work: Callable[..., Result],
        *,
        claims: Callable[[Item], Claims] = lambda _: {},
        beat: Callable[[], None] = lambda: None,
    ) -> list[tuple[Item, Result]]:
        """Calls `work(item, *connections)` for each item, in the list's order as far as their claims allow; `beat` every second."""
        turns = _Turns(items, claims)
        done: list[tuple[Item, Result]] = []
        count = min(self._workers, len(items))
        if not count:
            return done
        with ThreadPoolExecutor(count, thread_name_prefix="clarity-infra") as pool:
            futures = [pool.submit(self._worker, turns, work, done) for _ in range(count)]
            try:
                pending = set(futures)
                while pending:
                    finished, pending = wait(pending, timeout=_HEARTBEAT_SECONDS, return_when=FIRST_EXCEPTION)
                    if any(future.exception() for future in finished):
                        break
                    if not finished:
                        beat()
            finally:
                self._stop.set()
                turns.end()
                self._cancel(futures)
        for future in futures:
            future.result()
        return done

    def _worker(self, turns: _Turns[Item], work: Callable[..., Result], done: list[tuple[Item, Result]]) -> None:
        with contextlib.ExitStack() as stack:
            connections = []
            for connect in self._connect:
                connection = stack.enter_context(contextlib.closing(connect()))
                connections.append(connection)
                with self._lock:
                    self._open.append(connection)
            try:
                for item in turns:
                    done.append((item, work(item, *connections)))
            except BaseException:
                if self._stop.is_set():
                    return  # it was cancelled because another one failed, and that one's error is told
                self._stop.set()
                turns.end()
                raise
            finally:
                with self._lock:
                    for connection in connections:
                        self._open.remove(connection)

    def _cancel(self, futures: Sequence[Any]) -> None:
        """Ends what is still at work: the statement is cancelled until its worker has seen that it should stop."""
        while not all(future.done() for future in futures):
            with self._lock:
                at_work = list(self._open)
            for connection in at_work:
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5)
            wait(futures, timeout=0.2)


class _Turns(Generic[Item]):
    """The items that are left. Iterating, from any number of threads, takes one after the other, each when nothing at work forbids it."""

    def __init__(self, items: Sequence[Item], claims: Callable[[Item], Claims]) -> None:
        self._left = [(item, dict(claims(item))) for item in items]
        self._beside: dict[Hashable, int] = {}
        self._alone: set[Hashable] = set()
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[Item]:
        while (taken := self._take()) is not None:
            item, claims = taken
            try:
                yield item
            finally:
                self._give_back(claims)

    def end(self) -> None:
        """Nothing more is handed out."""
        with self._changed:
            self._left.clear()
            self._changed.notify_all()

    def _take(self) -> tuple[Item, Claims] | None:
        with self._changed:
            while self._left:
                for position, (_, claims) in enumerate(self._left):
                    if all(self._free(thing, alone) for thing, alone in claims.items()):
                        taken = self._left.pop(position)
                        self._hold(claims)
                        return taken
                self._changed.wait()
            return None

    def _free(self, thing: Hashable, alone: bool) -> bool:
        return thing not in self._alone and not (alone and self._beside.get(thing))

    def _hold(self, claims: Claims) -> None:
        for thing, alone in claims.items():
            if alone:
                self._alone.add(thing)
            else:
                self._beside[thing] = self._beside.get(thing, 0) + 1

    def _give_back(self, claims: Claims) -> None:
        with self._changed:
            for thing, alone in claims.items():
                if alone:
                    self._alone.discard(thing)
                else:
                    self._beside[thing] -= 1
            self._changed.notify_all()
