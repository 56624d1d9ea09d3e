"""Ctrl-C, once and twice, at every step of the cut-over and of the way back: what was begun is gone on from by the same command."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from clarity_infra.errors import ClarityError
from clarity_infra.move import faults
from tests.cutover.scene import Scene, writing
from tests.cutover.test_faults import ONCE, check_account, points_of, writable

# When the second one comes, in seconds after the first: into what the first has set going.
AGAIN = (0.0, 0.004, 0.02)


@contextlib.contextmanager
def pressed(point: str, again: float | None) -> Iterator[list[str]]:
    """Sends SIGINT to this process when a run is at the point, and a second one later; gives where it did."""
    running = True
    at: list[str] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if running:
            raise KeyboardInterrupt

    def press(reached: str) -> None:
        if reached == point and not at:
            at.append(reached)
            if again is not None:
                threading.Timer(again, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    faults.fault = press
    try:
        with contextlib.suppress(KeyboardInterrupt):
            try:
                yield at
            finally:
                running = False
    finally:
        faults.fault = lambda _point: None
        time.sleep(again or 0.0)
        signal.signal(signal.SIGINT, before)


def interrupted(command: Callable[[], object], point: str, number: int) -> None:
    """The command, ended by Ctrl-C at the point: every second time by two of them."""
    again = AGAIN[number // 2 % len(AGAIN)] if number % 2 else None
    with pressed(point, again) as at, contextlib.suppress(ClarityError):
        command()
    assert at == [point]


def test_at_every_step_of_the_cut_over_and_of_the_way_back(scene: Scene) -> None:
    """Once or twice by turns; `python -m tests.faults` does both at each, to a process of its own."""
    there = points_of(scene, scene.cut_over)
    back = points_of(scene, scene.go_back)
    assert len(there) >= 18 and len(back) >= 8
    with writing(scene) as writer:
        for number, point in enumerate(point for point in there if point not in ONCE):
            interrupted(scene.cut_over, point, number)
            assert len(writable(scene)) <= 1, point
            scene.cut_over()
            assert (writable(scene), scene.switch.origin) == (["target"], "target"), point
            if number < len(back):
                interrupted(scene.go_back, back[number], number)
                assert len(writable(scene)) <= 1, back[number]
            scene.go_back()
            assert (writable(scene), scene.switch.origin) == (["source"], "source"), point
    check_account(scene, writer, "source")


@pytest.mark.parametrize(("point", "number"), [(point, number) for number, point in enumerate(ONCE)])
def test_at_a_step_of_the_first_cut_over(scene: Scene, point: str, number: int) -> None:
    interrupted(scene.cut_over, point, number)
    assert scene.cut_over()["proved"]
    assert (writable(scene), scene.switch.origin) == (["target"], "target")
