"""How far is a long step, and how often should whoever watches hear of it?

A person at a terminal gets a line every few seconds. A log that nobody reads as it grows (CI, no terminal) gets one for each tenth
of the work, never two within half a minute, and one now and then all the same, so that nobody takes a long step for a dead one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from clarity_infra.move.model import Progress, Table
from clarity_infra.move.names import Name
from clarity_infra.texts import duration

# How many tables a line names; the others that are under way are counted.
_NAMED = 3
# A table is not called done before its last part was carried and checked, whatever the catalog's estimate said.
_ALMOST = 0.99


@dataclasses.dataclass(frozen=True)
class Rhythm:
    """When the next line is due: `apart` seconds after the last one if `share` more of the work is done, after `silence` in any case.

    `still` is how often, in seconds, a step without a measure of its own says that it is still at work.
    """

    apart: float
    share: float
    silence: float
    still: float

    def due(self, since: float, more: float) -> bool:
        """Whether a line is due, `since` seconds after the last one and with `more` of the work (0 to 1) done."""
        return since >= self.silence or (since >= self.apart and more >= self.share)


TERMINAL = Rhythm(apart=3.0, share=0.0, silence=3.0, still=10.0)
LOG = Rhythm(apart=30.0, share=0.1, silence=240.0, still=60.0)


def rhythm(environment: Mapping[str, str] | None = None) -> Rhythm:
    """`LOG` in CI (the variable CI is set) and where no terminal controls this process, else `TERMINAL`.

    The process's own streams do not tell: under the engine they are pipes, also where a person sits in front of it.
    """
    if (os.environ if environment is None else environment).get("CI", "") not in ("", "0", "false"):
        return LOG
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return LOG
    return TERMINAL


class Pace:
    """Keeps count of rows that travel, from several threads, and tells of it: percentage, rows, rate, time left, table by table."""

    def __init__(
        self,
        tables: Sequence[Table],
        progress: Progress,
        *,
        when: Rhythm | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tables = {table.name: table for table in tables}
        self._progress, self._when, self._clock = progress, when or rhythm(), clock
        self._rows = dict.fromkeys(self._tables, 0)
        self._bytes = dict.fromkeys(self._tables, 0)
        self._finished = dict.fromkeys(self._tables, 0.0)
        self._lock = threading.Lock()
        self._started = self._last = clock()
        self._told = 0.0

    def add(self, table: Name, rows: int, size: int) -> None:
        """Another batch of a table's rows was carried, `size` bytes as they travel."""
        with self._lock:
            self._rows[table] += rows
            self._bytes[table] += size

    def done(self, table: Name, share: float = 1.0) -> None:
        """`share` of what is to be done with a table (0 to 1) is finished: rows carried, rows digested, whichever comes first."""
        with self._lock:
            self._finished[table] += share

    def tell(self) -> None:
        """Says how far it is if a line is due; to be called often."""
        with self._lock:
            now = self._clock()
            share = self._share()
            if not self._when.due(now - self._last, share - self._told):
                return
            self._last, self._told = now, share
            line = self._line(share, now - self._started)
        self._progress(line)

    def _share(self) -> float:
        whole = sum(self._weight(name) for name in self._tables)
        return sum(self._weight(name) * self._of(name) for name in self._tables) / whole if whole else 1.0

    def _weight(self, name: Name) -> int:
        return max(self._tables[name].bytes, 1)

    def _of(self, name: Name) -> float:
        """How much of a table is done: by the catalog's estimate of its rows, or where it has none by size."""
        table = self._tables[name]
        if self._finished[name] > 1 - 1e-6:
            return 1.0
        reached = self._rows[name] / table.estimated_rows if table.estimated_rows > 0 else self._bytes[name] / max(table.bytes, 1)
        return min(_ALMOST, reached)

    def _line(self, share: float, seconds: float) -> str:
        rows, size = sum(self._rows.values()), sum(self._bytes.values())
        left = seconds * (1 - share) / share if share > 0.01 else None
        parts = [
            f"{share:4.0%} copied",
            f"{rows:,} rows",
            f"{size / 1e6 / max(seconds, 1e-3):,.1f} MB/s",
            f"about {duration(left)} left" if left is not None else "time left not known yet",
        ]
        return ", ".join(parts) + self._under_way()

    def _under_way(self) -> str:
        moving = [name for name in self._tables if 0 < self._of(name) < 1]
        moving.sort(key=lambda name: -self._weight(name))
        named = [f"{name} {self._of(name):.0%}" for name in moving[:_NAMED]]
        if len(moving) > _NAMED:
            named.append(f"{len(moving) - _NAMED} more")
        return " (" + ", ".join(named) + ")" if named else ""


@contextlib.contextmanager
def still(progress: Progress, doing: str, *, when: Rhythm | None = None) -> Iterator[None]:
    """Says now and then that a step without a measure of its own is still at work, and for how long."""
    every = (when or rhythm()).still
    over = threading.Event()
    started = time.monotonic()

    def tell() -> None:
        while not over.wait(every):
            progress(f"still {doing}, {duration(time.monotonic() - started)}")

    teller = threading.Thread(target=tell, name="clarity-infra progress", daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()
