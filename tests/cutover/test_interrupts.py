"""Ctrl-C, once and twice, at every step of the cut-over and of the way back: what was begun is gone on from by the same command."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

import pytest

from clarity_infra.errors import ClarityError
from clarity_infra.move import faults
from tests.cutover.scene import Scene, writing
from tests.cutover.test_faults import ONCE, check_account, points_of, writable

# When the second one comes, in seconds after the first: into what the first has set going.
AGAIN = (0.0, 0.004, 0.02)


def interrupted(command: Callable[[], object], point: str, number: int) -> None:
    """The command, ended by Ctrl-C when it is at the point: every second time by two of them.

    The second may come anywhere, so the statements are in one function: one that lands between those of a context manager ends the test itself.
    """
    running = True
    at: list[str] = []
    later = threading.Timer(AGAIN[number // 2 % len(AGAIN)], signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if running:
            raise KeyboardInterrupt

    def press(reached: str) -> None:
        if reached == point and not at:
            at.append(reached)
            if number % 2:
                later.start()
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    faults.fault = press
    try:
        try:
            command()
        finally:
            running = False
    except (ClarityError, KeyboardInterrupt):
        running = False  # where the second came before it was said above
    finally:
        faults.fault = lambda _point: None
        if later.ident is not None:
            later.join()  # a signal that came after this would be nobody's
        signal.signal(signal.SIGINT, before)
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
