"""The application: it writes over connections of Hyperdrive's data path, and keeps account of what it was told is there.

Inserts, updates and deletes, parents with children, some transactions of 300 ms, a table without a key. Each key belongs to
one client, which knows what states it can be in: one state where every write was answered, two where the connection was
lost while a commit was under way. Such a key is not used again, so that the two stay two. Others may read meanwhile (`readers`).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

FIRST_PLACE = 100_000
"""Keys of the application; smaller ones are of the rows that were copied."""

_KEYS = 6
SLOW = 0.3

_PARENT = (
    "INSERT INTO public.requests (request_id, title, place) VALUES (%s, %s, %s) ON CONFLICT (place) DO UPDATE SET title = excluded.title"
    " RETURNING current_database()"
)
_CHILD = "INSERT INTO public.messages (request_id, content) VALUES (%s, %s)"
_UPDATE = "UPDATE public.requests SET title = %s WHERE place = %s RETURNING current_database()"
_DELETE = "DELETE FROM public.requests WHERE place = %s RETURNING current_database()"
_LINE = "INSERT INTO public.log (line) VALUES (%s)"

# What a server or a network that breaks down says, as it did to applications before there was this program.
BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)
# An operational error too, but one that only another holder of locks can bring about.
_VICTIM = (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)


@dataclasses.dataclass(frozen=True)
class State:
    """A row of `requests` and its messages; `title` is None where there is no row."""

    title: str | None = None
    messages: tuple[str, ...] = ()

    def written(self, title: str, message: str | None) -> State:
        """With a new title, and one message more where there is one."""
        return State(title, (*self.messages, message) if message else self.messages)


@dataclasses.dataclass(frozen=True)
class Version:
    """What a write made of a row's title: begun and acknowledged at, by the monotonic clock; not acknowledged, it may have been made or not.

    `database` is where it was made.
    """

    title: str | None
    begun: float
    acknowledged: float | None
    database: str


class Client(threading.Thread):
    """One client with a connection of its own, `rate` writes a second at most; `slow` is what some of its transactions last longer."""

    def __init__(self, url: Callable[[], str], number: int, rate: float, slow: float) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._url, self._number, self._pause, self._slow = url, number, 1.0 / rate, slow
        self.keys = range(FIRST_PLACE + number * 10_000, FIRST_PLACE + (number + 1) * 10_000)
        self._next_key = self.keys.start
        self._keys = [self._new_key() for _ in range(_KEYS)]
        self._connection: psycopg.Connection[Any] | None = None
        self.over = threading.Event()
        self.states: dict[int, frozenset[State]] = {}
        self.versions: dict[int, list[Version]] = {}
        self._database = ""
        self.lines: dict[str, bool] = {}
        self.acknowledged: list[float] = []
        self.refused: list[float] = []
        self.problems: list[str] = []

    def run(self) -> None:
        mark = 0
        while not self.over.is_set():
            mark += 1
            started = time.monotonic()
            self._write(mark)
            self.over.wait(max(0.0, self._pause - (time.monotonic() - started)))
        self._leave()

    def current_keys(self) -> tuple[int, ...]:
        """Those it writes to at the moment."""
        return tuple(self._keys)

    def _new_key(self) -> int:
        self._next_key += 1
        return self._next_key

    def _write(self, mark: int) -> None:
        key = self._keys[mark % _KEYS]
        text = f"client {self._number} mark {mark}"
        before = self.states.get(key, frozenset((State(),)))
        live = any(state.title is not None for state in before)
        work: list[tuple[str, tuple[Any, ...]]]
        line = None
        if mark % 9 == 4:
            work, after, line = [(_LINE, (text,))], before, text
        elif mark % 13 == 5 and live:
            work, after = [(_DELETE, (key,))], frozenset((State(),))
        elif mark % 3 == 1 and live:
            work, after = [(_UPDATE, (text, key))], frozenset(state.written(text, None) for state in before)
        else:
            work = [(_PARENT, (f"w{key}", text, key)), (_CHILD, (f"w{key}", text))]
            after = frozenset(state.written(text, text) for state in before)
        begun = time.monotonic()
        outcome = self._transaction(work, self._slow if mark % 17 == 7 else 0.0)
        if outcome == "nothing":
            return
        certain = outcome == "done"
        if line is not None:
            self.lines[line] = certain
        else:
            self.states[key] = after if certain else before | after
            title = next(iter(after)).title
            self.versions.setdefault(key, []).append(Version(title, begun, self.acknowledged[-1] if certain else None, self._database))
            if not certain:
                self._keys[mark % _KEYS] = self._new_key()

    def _transaction(self, work: list[tuple[str, tuple[Any, ...]]], pause: float) -> str:
        """The outcome: done once the commit was answered, nothing where none can have happened, else unknown."""
        committing = False
        try:
            connection = self._connected()
            for statement, values in work:
                cursor = connection.execute(statement.encode(), values)
                for row in cursor if cursor.description else ():
                    self._database = str(row[0])
                time.sleep(pause / len(work))
            committing = True
            connection.commit()
            self.acknowledged.append(time.monotonic())
            return "done"
        except psycopg.errors.ReadOnlySqlTransaction:
            self.refused.append(time.monotonic())
            self._go_on(0.02)
        except _VICTIM as error:
            self.problems.append(f"{type(error).__name__}: {error.diag.message_primary}")
            self._go_on(0.05)
        except BROKEN:
            self._leave()
            self.over.wait(0.05)
            return "unknown" if committing else "nothing"
        except psycopg.Error as error:
            self.problems.append(f"{type(error).__name__}: {error.diag.message_primary}")
            self._go_on(0.05)
        return "nothing"

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._url(), connect_timeout=5, prepare_threshold=None)
        return self._connection

    def _go_on(self, pause: float) -> None:
        try:
            if self._connection is not None:
                self._connection.rollback()
        except psycopg.Error:
            self._leave()
        self.over.wait(pause)

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


class Application:
    """Some clients at work, from `__enter__` to `__exit__`; `first` is the first one's number, which no other application's has."""

    def __init__(self, url: Callable[[], str], *, clients: int = 4, rate: float = 20.0, slow: float = SLOW, first: int = 0) -> None:
        self.clients = [Client(url, first + number, rate, slow) for number in range(clients)]

    def __enter__(self) -> Application:
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.over.set()
        for client in self.clients:
            client.join(timeout=30)

    def write_again(self, seconds: float) -> bool:
        """Waits until every client has written once more; False where one could not within that time."""
        since, deadline = time.monotonic(), time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(client.acknowledged and client.acknowledged[-1] > since for client in self.clients):
                return True
            time.sleep(0.02)
        return False

    def gap(self) -> float:
        """The longest time any client was without an acknowledged write, in seconds."""
        return sum(self.longest_gap())

    def longest_gap(self) -> tuple[float, float]:
        """The same in its two parts: first the client waited, then it was refused."""
        gaps = (
            (later - earlier, earlier, later, client)
            for client in self.clients
            for earlier, later in zip(client.acknowledged, client.acknowledged[1:], strict=False)
        )
        length, earlier, later, client = max(gaps, key=lambda gap: gap[0], default=(0.0, 0.0, 0.0, self.clients[0]))
        refused = min((at for at in client.refused if earlier < at < later), default=later)
        return length - (later - refused), later - refused

    def written(self) -> int:
        """Acknowledged writes."""
        return sum(len(client.acknowledged) for client in self.clients)

    def refused(self) -> int:
        """Writes that a fence refused."""
        return sum(len(client.refused) for client in self.clients)

    def audit(self, connection: psycopg.Connection[Any]) -> list[str]:
        """What is not as the clients were told, in the live database: lost, there twice, or never written."""
        found = [problem for client in self.clients for problem in client.problems]
        titles = dict(connection.execute("SELECT place, title FROM public.requests WHERE place >= %s", (FIRST_PLACE,)).fetchall())
        messages: dict[int, list[str]] = collections.defaultdict(list)
        for key, content in connection.execute(
            "SELECT substr(request_id, 2)::int, content FROM public.messages WHERE request_id ~ '^w[0-9]{6}$'"
        ):
            messages[key].append(content)
        states = {key: possible for client in self.clients for key, possible in client.states.items()}
        for key, possible in states.items():
            there = (titles.get(key), sorted(messages.get(key, [])))
            if there not in [(state.title, sorted(state.messages)) for state in possible]:
                found.append(f"key {key} is {there[0]!r} with {len(there[1])} messages, not {_shown(possible)}")
        mine = {key for key in titles for client in self.clients if key in client.keys}
        found += [f"key {key} was never acknowledged" for key in mine - states.keys()]
        lines = collections.Counter(row[0] for row in connection.execute("SELECT line FROM public.log WHERE line LIKE 'client %'"))
        for line, certain in ((line, certain) for client in self.clients for line, certain in client.lines.items()):
            if lines[line] not in ((1,) if certain else (0, 1)):
                found.append(f"log line {line!r} is there {lines[line]} times")
        return found


def _shown(possible: frozenset[State]) -> str:
    return " or ".join(f"{state.title!r} with {len(state.messages)} messages" for state in possible)
