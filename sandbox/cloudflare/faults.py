"""How can the service be made to fail, and what was it asked?"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

WRITES = ("POST", "PUT", "PATCH", "DELETE")
_LONGEST_LOG = 10_000


@dataclass
class Fault:
    """What befalls the next `count` requests with one of `methods` whose path holds `path`.

    kind: "status" answers with `status` and does nothing; "hang" does nothing, waits `seconds` and ends the connection
    without an answer; "drop" does what is asked, waits `seconds` and ends the connection without an answer.
    """

    kind: Literal["status", "hang", "drop"]
    status: int = 500
    seconds: float = 0.0
    count: int = 1
    methods: Sequence[str] = WRITES
    path: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("status", "hang", "drop"):
            raise TypeError(f"kind is {self.kind!r}, not status, hang or drop")


@dataclass(frozen=True)
class Request:
    """A request as the log keeps it. body: without passwords and keys. status: None where no answer was given."""

    at: float
    method: str
    path: str
    body: Any
    status: int | None


class Faults:
    """The faults that are still to come, in their order. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def pending(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that befalls this request; it is counted as used."""
        with self._lock:
            for fault in self._faults:
                if method in fault.methods and fault.path in path:
                    fault.count -= 1
                    if fault.count <= 0:
                        self._faults.remove(fault)
                    return fault
        return None


class RequestLog:
    """The requests so far. May be used from any thread."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque(maxlen=_LONGEST_LOG)

    def add(self, method: str, path: str, body: Any, status: int | None) -> None:
        self._requests.append(Request(time.time(), method, path, _without_secrets(body), status))

    def all(self) -> list[Request]:
        return list(self._requests)


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        secret = ("password", "private_key", "access_client_secret")
        return {key: _without_secrets(item) for key, item in value.items() if key not in secret}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value
