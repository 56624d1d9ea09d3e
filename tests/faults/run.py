"""One command in a process of its own, as the dynamic provider runs it; it tells where it is, and waits there when asked to.

Messages to the parent are pairs: ("at", point), ("said", line), ("done", ""), ("refused", text) for an error that is told to the
user, ("interrupted", "") where somebody pressed Ctrl-C, ("crashed", text) for any other. At the point of the order it waits for one
message before it goes on.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from clarity_infra import hyperdrive_api
from clarity_infra.errors import ClarityError
from clarity_infra.hyperdrive_api import Hyperdrive, Origin, OriginSwitch, longest_stale
from clarity_infra.move import capture, cutover, faults
from clarity_infra.move.back import go_back, undo
from clarity_infra.move.cleanup import clean_up, restore
from clarity_infra.move.cutover import cut_over
from clarity_infra.move.migrations import Migrations
from clarity_infra.move.model import Move
from tests.faults.network import join

Command = Literal["cut over", "go back", "undo", "clean up", "restore"]
Bug = Literal["fence after the switch", "sync skipped", "carry skipped", "cache left on", "cache not waited for"]

API_PATIENCE = 1.5
"""How long (seconds) the run waits for an answer of Cloudflare's once it has prepared; ordinarily 40 s, which a harness cannot spare."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What the process is to do. `point`: where it waits for its parent; empty: nowhere. `namespace`: the network it is in.

    `caching`: what the config had before the move.
    """

    command: Command
    move: Move
    migrations: Path
    account: str
    token: str
    base_url: str
    config: str
    source: Origin
    target: Origin
    backup: Path
    caching: dict[str, Any]
    point: str = ""
    bug: Bug | None = None
    lock_budget: float = 60.0
    namespace: str = ""

    def switch(self) -> OriginSwitch:
        """What the resource builds from its properties."""
        api = Hyperdrive(self.account, self.token, self.base_url)
        return OriginSwitch(api, self.config, "app", self.source, self.target, longest_stale(self.caching), lambda _: None)


def carry_out(parent: Connection, order: Order) -> None:
    """The process's whole life."""
    os.setsid()  # a terminal's Ctrl-C is the harness's affair
    if order.namespace:
        join(order.namespace)
    waited = False

    def at(point: str) -> None:
        nonlocal waited
        parent.send(("at", point))
        if point == order.point and not waited:
            waited = True
            parent.recv()

    faults.fault = at
    if order.bug:
        _plant(order.bug, order.switch())
    try:
        _command(order, lambda line: parent.send(("said", line)))
        parent.send(("done", ""))
    except ClarityError as error:
        parent.send(("refused", str(error)))
    except KeyboardInterrupt:
        parent.send(("interrupted", ""))
    except BaseException:
        parent.send(("crashed", traceback.format_exc()))


def _command(order: Order, progress: Callable[[str], None]) -> None:
    _prepare(order)
    hyperdrive_api._TIMEOUT = API_PATIENCE
    run, move, switch = uuid.uuid4(), order.move, order.switch()
    crossing: dict[str, Any] = {"run": run, "lock_budget": order.lock_budget, "alive": lambda: True, "progress": progress}
    if order.command == "cut over":
        cut_over(move, switch, Migrations(order.migrations), **crossing)
    elif order.command == "go back":
        go_back(move, switch, **crossing)
    elif order.command == "undo":
        undo(move, switch, **crossing)
        switch.put_caching_back(order.caching)
    elif order.command == "clean up":
        # Whoever still knocks at the fence is the harness's own application.
        clean_up(move, run=run, backup=order.backup, monitoring=timedelta(0), acknowledged=1_000_000, progress=progress)
    else:
        restore(move, max(order.backup.glob("*.dump")), run=run, progress=progress)


def _prepare(order: Order) -> None:
    """What the resources do first."""
    switch = order.switch()
    if order.command == "cut over" and switch.where() == "source":
        switch.prepare()
    if order.command in ("go back", "undo") and switch.where() == "target":
        switch.quiet_cache()


def _plant(bug: Bug, switch: OriginSwitch) -> None:
    """Breaks the program in one of the ways that lose writes, or that let readers be told what is no longer so."""
    if bug == "carry skipped":
        take = capture.take

        def forget(*args: Any) -> capture.Changes:
            take(*args)
            return capture.Changes({}, frozenset())

        capture.take = forget  # type: ignore[assignment]
        cutover.COUNTING = -1.0  # the counts under the lock would see it too
    elif bug == "cache left on":
        Hyperdrive.put_caching = lambda *_: None  # type: ignore[method-assign]
    elif bug == "cache not waited for":
        hyperdrive_api._age = lambda modified: math.inf
    elif bug == "sync skipped":
        cutover.set_sequences = lambda *_: None  # type: ignore[attr-defined]
    else:
        put_up = cutover.put_up_on_source

        def too_late(*args: Any) -> None:
            switch.to_target()
            args[1].commit()
            time.sleep(0.5)  # the writes of this moment are what is lost
            put_up(*args)

        cutover.put_up_on_source = too_late  # type: ignore[assignment]
