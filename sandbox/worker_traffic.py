"""Does the application go on working while it is moved, and is everything it said it wrote in the database that is live afterwards?

Requests go to the Worker at a steady rate, whether the ones before were answered or not, as those of real users do. Each one's answer is
kept account of; an answer other than 200 to a write leaves open whether it was done, so that row is left alone from then on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
import secrets
import statistics
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import psycopg

from sandbox import node_packages
from sandbox.stack import Sandbox
from sandbox.worker import Worker
from sandbox.worker_client import Answer, ask

_MIX = ("create", "message", "update", "read", "create", "message", "update", "delete", "list", "config")
_WRITES = ("create", "message", "update", "delete")
_CLIENTS = 16
_PATIENCE_SECONDS = 60
_ROWS = """
SELECT r.request_id, r.title,
       ARRAY(SELECT m.content FROM public.request_messages m WHERE m.request_id = r.request_id ORDER BY m.content)
FROM public.feature_requests r WHERE starts_with(r.request_id, %s)
"""

_REMOVE = (
    "DELETE FROM public.request_messages WHERE starts_with(request_id, %s)",
    "DELETE FROM public.feature_requests WHERE starts_with(request_id, %s)",
)


@dataclasses.dataclass(frozen=True)
class State:
    """A request as it stands in the database: its title, and the contents of its messages in order."""

    title: str
    messages: tuple[str, ...]


@dataclasses.dataclass
class _Row:
    """`expected`: the states it may be in, None for not there; more than one where a write was not answered with 200."""

    request_id: str
    expected: list[State | None]


@dataclasses.dataclass(frozen=True)
class Sent:
    """One request and its answer. Times in seconds of the monotonic clock; `due` is when it was to be sent."""

    kind: str
    due: float
    answered: float
    answer: Answer
    wrong: str = ""
    """What a read gave that it should not have; empty where all is well."""

    @property
    def acknowledged(self) -> bool:
        """Whether it is a write that the application says it did."""
        return self.kind in _WRITES and self.answer.ok


@dataclasses.dataclass(frozen=True)
class Phase:
    """What happened between two marks. `longest_gap` is that between two acknowledged writes, in seconds, also across the marks."""

    name: str
    sent: int
    acknowledged: int
    errors: Counter[str]
    longest_gap: float
    median: float
    slowest: float


class Traffic:
    """Sends requests from entering the block to leaving it.

    url: the application's. per_second: requests. prefix: begins every `request_id` it makes.

        with Traffic(worker.url) as traffic:
            sandbox.climb()
            traffic.mark("after")
        assert traffic.differences(connection) == []
    """

    def __init__(self, url: str, *, per_second: float = 25, prefix: str = "traffic", seed: int = 1) -> None:
        self._url = url
        self._interval = 1 / per_second
        self._prefix = prefix
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._rows: list[_Row] = []
        self._idle: deque[_Row] = deque()
        self._sent: list[Sent] = []
        self._marks: list[tuple[str, float]] = []
        self._asked_to_end = threading.Event()
        self._clients = ThreadPoolExecutor(_CLIENTS, thread_name_prefix="traffic")
        self._clock = threading.Thread(target=self._send_steadily, daemon=True)

    def __enter__(self) -> Traffic:
        self.mark("before")
        self._clock.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Waits until what was sent is answered."""
        self._asked_to_end.set()
        self._clock.join()
        self._clients.shutdown(cancel_futures=kind is not None)

    def mark(self, name: str) -> None:
        """Begins a phase of that name."""
        self._marks.append((name, time.monotonic()))

    def send_to(self, url: str) -> None:
        """From now on requests go to another deployment of the application; those under way are answered by the one before."""
        self._url = url

    def wait_for(self, more: int, *, seconds: float = 30) -> None:
        """Returns once so many more writes were acknowledged. Raises TimeoutError."""
        deadline, wanted = time.monotonic() + seconds, self.acknowledged + more
        while self.acknowledged < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"only {self.acknowledged} of {wanted} writes were acknowledged within {seconds} s: {self._errors(self._sent)}"
                )
            time.sleep(0.02)

    # What came of it

    @property
    def acknowledged(self) -> int:
        """Writes answered with 200."""
        with self._lock:
            return sum(sent.acknowledged for sent in self._sent)

    @property
    def wrong(self) -> list[str]:
        """What reads gave that they should not have."""
        with self._lock:
            return [sent.wrong for sent in self._sent if sent.wrong]

    def differences(self, connection: psycopg.Connection[Any]) -> list[str]:
        """Where a database differs from what was acknowledged, row by row; to be asked when no request is under way. Raises psycopg.Error."""
        found = {str(row[0]): State(row[1], tuple(row[2])) for row in connection.execute(_ROWS, (f"{self._prefix}-",))}
        stated = {row.request_id: row.expected for row in self._rows}
        wrong = [
            f"{request_id}: is {found.get(request_id)}, may be {expected}"
            for request_id, expected in stated.items()
            if found.get(request_id) not in expected
        ]
        return wrong + [f"{request_id}: nobody asked for it" for request_id in found.keys() - stated.keys()]

    def remove(self, connection: psycopg.Connection[Any]) -> None:
        """Deletes the rows it made. Raises psycopg.Error."""
        for statement in _REMOVE:
            connection.execute(statement, (f"{self._prefix}-",))

    def phases(self) -> list[Phase]:
        """What happened in each phase; a request belongs to the one in which it was answered."""
        with self._lock:
            everything = sorted(self._sent, key=lambda sent: sent.answered)
        times = [sent.answered for sent in everything if sent.acknowledged]
        ends = [start for _, start in self._marks[1:]] + [float("inf")]
        return [
            self._phase(name, [sent for sent in everything if start <= sent.answered < end], _longest_gap(times, start, end))
            for (name, start), end in zip(self._marks, ends, strict=True)
        ]

    def _phase(self, name: str, sent: Sequence[Sent], longest_gap: float) -> Phase:
        took = [one.answered - one.due for one in sent] or [0.0]
        acknowledged = sum(one.acknowledged for one in sent)
        return Phase(name, len(sent), acknowledged, self._errors(sent), longest_gap, statistics.median(took), max(took))

    @staticmethod
    def _errors(sent: Sequence[Sent]) -> Counter[str]:
        return Counter(f"{one.kind}: {one.answer.reason}" for one in sent if not one.answer.ok)

    # Sending

    def _send_steadily(self) -> None:
        start = time.monotonic()
        for number in itertools.count():
            due = start + number * self._interval
            if self._asked_to_end.wait(max(0.0, due - time.monotonic())):
                return
            self._clients.submit(self._send, _MIX[number % len(_MIX)], number, due)

    def _send(self, kind: str, number: int, due: float) -> None:
        row = None if kind in ("create", "list", "config") else self._take()
        if row is None and kind not in ("list", "config"):
            kind, row = "create", self._new_row(number)
        answer, wrong = self._look(kind, row) if kind not in _WRITES or row is None else (self._write(kind, row, number), "")
        with self._lock:
            self._sent.append(Sent(kind, due, time.monotonic(), answer, wrong))

    def _new_row(self, number: int) -> _Row:
        row = _Row(f"{self._prefix}-{number}", [None])
        with self._lock:
            self._rows.append(row)
        return row

    def _take(self) -> _Row | None:
        """A row that no request is under way for; None where there is none."""
        with self._lock:
            self._idle.rotate(self._random.randrange(len(self._idle)) if self._idle else 0)
            return self._idle.popleft() if self._idle else None

    def _write(self, kind: str, row: _Row, number: int) -> Answer:
        before = row.expected[0]
        after, method, path, body = _wanted(kind, row.request_id, before, number)
        row.expected = [before, after]  # until it is answered, either
        answer = ask(self._url, method, path, body, seconds=_PATIENCE_SECONDS)
        if answer.ok:
            row.expected = [after]
            if after is not None:
                with self._lock:
                    self._idle.append(row)
        return answer

    def _look(self, kind: str, row: _Row | None) -> tuple[Answer, str]:
        """Reads; what was written before must be there."""
        if row is None:
            path = "/api/config" if kind == "config" else "/api/requests?limit=20"
            answer = ask(self._url, "GET", path, seconds=_PATIENCE_SECONDS)
            return answer, f"{path}: nothing there" if answer.ok and not answer.body else ""
        answer = ask(self._url, "GET", f"/api/requests/{row.request_id}", seconds=_PATIENCE_SECONDS)
        expected = row.expected[0]
        with self._lock:
            self._idle.append(row)
        if answer.status == 404:
            return answer, f"{row.request_id}: not found, should be {expected}"
        if answer.ok:
            seen = State(answer.body["title"], tuple(sorted(message["content"] for message in answer.body["messages"])))
            return answer, "" if seen == expected else f"{row.request_id}: read as {seen}, should be {expected}"
        return answer, ""


def _wanted(kind: str, request_id: str, before: State | None, number: int) -> tuple[State | None, str, str, dict[str, Any] | None]:
    """The state after a write, and the request that brings it about."""
    path, text = f"/api/requests/{request_id}", f"{number}: \u00fc, ' and \\"
    if kind == "delete":
        return None, "DELETE", path, None
    if kind == "update" and before is not None:
        return State(text, before.messages), "PATCH", path, {"title": text, "status": "processing"}
    message = {"type": "follow_up_request", "source": "web", "content": text, "metadata": {"number": number}}
    if kind == "message" and before is not None:
        return State(before.title, tuple(sorted((*before.messages, text)))), "POST", f"{path}/messages", message
    body = {"requestId": request_id, "origin": "web", "repo": "a/b", "title": text, "description": "written meanwhile", "messages": [message]}
    return State(text, (text,)), "POST", "/api/requests", body


def _longest_gap(times: Sequence[float], start: float, end: float) -> float:
    """The longest time between two that follow each other, of which a part lies between start and end; `times` ascends."""
    gaps = (after - before for before, after in itertools.pairwise(times) if after > start and before < end)
    return max(gaps, default=0.0)


def summary(phases: Sequence[Phase]) -> str:
    """The phases as lines for people."""
    lines = []
    for phase in phases:
        lines.append(
            f"{phase.name}: {phase.sent} requests, {phase.acknowledged} writes acknowledged, longest gap between two {phase.longest_gap:.2f} s,"
            f" answered in {phase.median * 1000:.0f} ms (median), {phase.slowest:.2f} s (slowest)"
        )
        lines += [f"  {count} x {reason}" for reason, count in phase.errors.most_common()]
    return "\n".join(lines)


def traffic_through(sandbox: Sandbox, seconds: float, *, per_second: float, say: Callable[[str], None]) -> list[str]:
    """Sends requests to the sandbox's application for so long, or until Ctrl-C; whatever is done to the sandbox meanwhile.

    Tells what happened, and gives the writes that were acknowledged and are not in the database that is live afterwards. Its rows are
    deleted. Raises NodeError, WorkerError, SandboxError, EngineError, and psycopg.Error where that database cannot be reached.
    """
    with Worker(node_packages.install(say), sandbox.folder / "traffic", sandbox.worker_database_url, release="before") as worker:
        say(f"sending {per_second:g} requests a second for {seconds:g} s")
        with (
            Traffic(worker.url, per_second=per_second, prefix=f"traffic-{secrets.token_hex(4)}") as traffic,
            contextlib.suppress(KeyboardInterrupt),
        ):
            traffic.mark("meanwhile")
            time.sleep(seconds)
    with psycopg.connect(sandbox.database_url, autocommit=True, connect_timeout=10) as connection:
        lost = [*traffic.wrong, *traffic.differences(connection)]
        with contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction):  # the fence, where a switch is under way: they stay
            traffic.remove(connection)
    say(summary(traffic.phases()[1:]))
    return lost
