"""How long does a client wait for its next acknowledged write, and where is each of them afterwards?"""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType

import psycopg

_INSERT = "INSERT INTO feature_requests (request_id, origin, repo, description) VALUES (%s, 'web', 'a/b', 'written meanwhile')"
_PAUSE_SECONDS = 0.01
_PAUSE_AFTER_ERROR = 0.05


class Writer:
    """A client that inserts one row after another into feature_requests until it is left; an error makes it connect anew.

    A row that was not acknowledged is not tried again: it may be there or not. `acknowledged` holds the `request_id` of each that was.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self.acknowledged: list[str] = []
        self.errors: Counter[str] = Counter()
        self.longest_gap = 0.0
        """Seconds between two acknowledged writes."""
        self._url = url
        self._prefix = prefix
        self._asked_to_end = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        self.wait_for(5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.wait_for(5)
        self._asked_to_end.set()
        self._thread.join(timeout=30)

    def wait_for(self, more: int, timeout: float = 30) -> None:
        """Returns once so many more writes were acknowledged. Raises TimeoutError."""
        deadline, wanted = time.monotonic() + timeout, len(self.acknowledged) + more
        while len(self.acknowledged) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no write was acknowledged for {timeout} s: {self.errors.most_common(3)}")
            time.sleep(0.01)

    def _write(self) -> None:
        number, last = 0, time.monotonic()
        while not self._asked_to_end.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5, prepare_threshold=None) as connection:
                    while not self._asked_to_end.is_set():
                        number += 1
                        request = f"{self._prefix}-{number}"
                        connection.execute(_INSERT, (request,))
                        now = time.monotonic()
                        self.acknowledged.append(request)
                        self.longest_gap, last = max(self.longest_gap, now - last), now
                        time.sleep(_PAUSE_SECONDS)
            except psycopg.Error as error:
                self.errors[f"{error.sqlstate} {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"] += 1
                time.sleep(_PAUSE_AFTER_ERROR)
