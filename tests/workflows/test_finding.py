"""The mark of what was found: the same for the preview and the `up` after it, another one after every step of any run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pulumi.output import Unknown

from clarity_infra.move import faults
from clarity_infra.move.finding import finding
from clarity_infra.move.status import status
from clarity_infra.resources.claim import ClaimProvider
from clarity_infra.resources.cutover import CutoverProvider
from tests.cutover.conftest import new_scene, no_fault, scene
from tests.cutover.scene import Scene

__all__ = ["new_scene", "no_fault", "scene"]


class Died(BaseException):
    """What a run dies of here."""


def mark(scene: Scene) -> str:
    return finding(scene.move, target_exists=True)


def side(scene: Scene) -> str:
    found = status(scene.move, target_exists=True)
    return "unsettled" if found.side == "source" and found.leftovers else found.side


def dies_at(point: str, command: Callable[[], object]) -> None:
    def die(reached: str) -> None:
        if reached == point:
            raise Died(point)

    faults.fault = die
    try:
        with pytest.raises(Died):
            command()
    finally:
        faults.fault = lambda _: None


def points_of(command: Callable[[], object]) -> list[str]:
    seen: dict[str, None] = {}
    faults.fault = seen.setdefault
    try:
        command()
    finally:
        faults.fault = lambda _: None
    return list(seen)


def test_looking_and_writing_do_not_change_it(scene: Scene) -> None:
    before = mark(scene)
    scene.on_source("UPDATE public.requests SET title = title")
    assert mark(scene) == before
    scene.cut_over()
    after = mark(scene)
    scene.on_target("UPDATE public.requests SET title = title")
    assert mark(scene) == after != before


def test_a_side_that_does_not_exist_yet_is_not_asked(scene: Scene) -> None:
    assert finding(scene.move, target_exists=False) != mark(scene)


def test_a_run_that_dies_twice_at_the_same_point_is_noticed_twice(scene: Scene) -> None:
    """Though the stack's state has recorded the first one, and nothing else in it differs."""
    scene.cut_over()
    points = points_of(scene.go_back)
    scene.cut_over()
    looked = 0
    for point in points[::3]:  # enough to come by every state, as each is left by several steps
        marks = []
        for _ in range(2):
            dies_at(point, scene.go_back)
            found = side(scene)
            marks.append(mark(scene))
            scene.cut_over()
            assert side(scene) == "target"
        if found != "target":
            looked += 1
            olds = {"side": "target", "looked": marks[0]}
            provider = CutoverProvider()
            assert provider.diff("id", olds, {"side": "target", "found": found, "looked": marks[1]}).changes, point
            assert not provider.diff("id", olds, {"side": "target", "found": found, "looked": marks[0]}).changes
    assert looked >= 2


UNSEEN: Any = Unknown()  # type: ignore[no-untyped-call]


class TestOutOfReach:
    """A preview that cannot see the databases hands unknown values to the providers."""

    def test_nothing_is_taken_up_for_what_is_not_known(self) -> None:
        news = {"side": "target", "found": UNSEEN, "looked": UNSEEN}
        assert not CutoverProvider().diff("id", {"side": "target", "looked": "x"}, news).changes
        assert CutoverProvider().diff("id", {"side": "source", "looked": "x"}, news).changes

    def test_nothing_is_refused_for_what_is_not_known(self) -> None:
        news = {"database": "clarity", "existing": UNSEEN, "copied": UNSEEN, "live": UNSEEN, "imports": UNSEEN, "adopt": False}
        assert ClaimProvider().check({}, news).failures == []
        assert ClaimProvider().check({**news, "copying": False}, news).failures == []

    def test_what_is_known_is_refused_still(self) -> None:
        olds = {"database": "clarity", "copying": True, "revision": 1}
        news = {"database": "other", "copied": UNSEEN, "live": UNSEEN, "revision": 1}
        assert [failure.property for failure in ClaimProvider().check(olds, news).failures] == ["database"]
