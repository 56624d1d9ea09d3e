"""Who does the work, and what may be done at the same time? Several workers, each with connections of its own, and a list of items.

Items may claim what they work on (a table), alone or beside others: one that would only wait for a lock is not begun, and what
comes after it in the list is done meanwhile. Items that read and send nothing may be given to further workers from the start: they use
the processor while the others wait for the network or for a disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
    """Works off a list of items with several workers, each with connections of its own, and `readers`, who have the first of them only.

    `run` returns when all is done, or raises the first error after every other worker was stopped and every connection closed.
    """

    def __init__(self, workers: int, *connect: Connect, readers: int = 0) -> None:
        self._workers, self._connect, self._readers = max(1, workers), connect, readers
        self._open: list[psycopg.Connection[Any]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(
        self,
        items: Sequence[Item],
        work: Callable[..., Result],
        *,
        claims: Callable[[Item], Claims] = lambda _: {},
        reading: Callable[[Item], bool] = lambda _: False,
        spare: Sequence[Item] = (),
        beat: Callable[[], None] = lambda: None,
    ) -> list[tuple[Item, Result]]:
        """Calls `work(item, *connections)` for each item, in the list's order as far as their claims allow; `beat` every second.

        Items that are `reading` are for readers too. What is `spare` is done where nothing else can be, and left where all else is done:
        see in the result what was.
        """
        turns = _Turns(items, spare, claims)
        done: list[tuple[Item, Result]] = []
        crew: list[tuple[Sequence[Connect], Callable[[Item], bool]]] = [(self._connect, _any)] * min(self._workers, len(items))
        crew += [(self._connect[:1], reading)] * min(self._readers, sum(map(reading, items)))
        if not crew:
            return done
        with ThreadPoolExecutor(len(crew), thread_name_prefix="clarity-infra") as pool:
            futures = [pool.submit(self._worker, turns, wanted, connect, work, done) for connect, wanted in crew]
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

    def _worker(
        self,
        turns: _Turns[Item],
        wanted: Callable[[Item], bool],
        connect: Sequence[Connect],
        work: Callable[..., Result],
        done: list[tuple[Item, Result]],
    ) -> None:
        with contextlib.ExitStack() as stack:
            connections = []
            for opened in connect:
                connection = stack.enter_context(contextlib.closing(opened()))
                connections.append(connection)
                with self._lock:
                    self._open.append(connection)
            try:
                for item in turns.of(wanted):
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


def _any(_: Any) -> bool:
    return True


@dataclasses.dataclass(frozen=True, eq=False)
class _Turn(Generic[Item]):
    item: Item
    claims: Claims
    spare: bool


class _Turns(Generic[Item]):
    """The items that are left, taken one after the other from any number of threads, each when nothing at work forbids it."""

    def __init__(self, items: Sequence[Item], spare: Sequence[Item], claims: Callable[[Item], Claims]) -> None:
        self._left = [_Turn(item, dict(claims(item)), is_spare) for all_, is_spare in ((items, False), (spare, True)) for item in all_]
        self._undone = len(items)
        self._beside: dict[Hashable, int] = {}
        self._alone: set[Hashable] = set()
        self._changed = threading.Condition()

    def of(self, wanted: Callable[[Item], bool]) -> Iterator[Item]:
        """Takes those that are wanted, for as long as any of them is left."""
        while (taken := self._take(wanted)) is not None:
            try:
                yield taken.item
            finally:
                self._give_back(taken)

    def end(self) -> None:
        """Nothing more is handed out."""
        with self._changed:
            self._left.clear()
            self._changed.notify_all()

    def _take(self, wanted: Callable[[Item], bool]) -> _Turn[Item] | None:
        with self._changed:
            while self._undone and any(wanted(turn.item) for turn in self._left):
                if (turn := self._next(wanted)) is not None:
                    self._left.remove(turn)
                    self._hold(turn.claims)
                    return turn
                self._changed.wait()
            return None

    def _next(self, wanted: Callable[[Item], bool]) -> _Turn[Item] | None:
        awaited: set[Hashable] = set()
        for turn in self._left:
            if turn.spare and awaited & turn.claims.keys():
                continue  # or one spare item after another would keep waiting what has to be done
            if not wanted(turn.item):
                continue
            if all(self._free(thing, alone) for thing, alone in turn.claims.items()):
                return turn
            if not turn.spare:
                awaited |= turn.claims.keys()
        return None

    def _free(self, thing: Hashable, alone: bool) -> bool:
        return thing not in self._alone and not (alone and self._beside.get(thing))

    def _hold(self, claims: Claims) -> None:
        for thing, alone in claims.items():
            if alone:
                self._alone.add(thing)
            else:
                self._beside[thing] = self._beside.get(thing, 0) + 1

    def _give_back(self, turn: _Turn[Item]) -> None:
        with self._changed:
            self._undone -= not turn.spare
            for thing, alone in turn.claims.items():
                if alone:
                    self._alone.discard(thing)
                else:
                    self._beside[thing] -= 1
            self._changed.notify_all()
