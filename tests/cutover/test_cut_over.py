"""A cut-over and its way back on real servers."""

from __future__ import annotations

import psycopg
import pytest

from tests.cutover.scene import Scene, writing


def test_the_target_becomes_the_live_side(scene: Scene) -> None:
    before = scene.contents("source")
    evidence = scene.cut_over()
    assert scene.contents("target") == before == scene.contents("source")
    assert evidence["proved"] and evidence["migrations"] == ["0001_agents"]
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match=scene.move.target.database):
        scene.on_source("UPDATE public.requests SET title = 'x' WHERE false")
    scene.on_target("UPDATE public.requests SET title = 'x' WHERE id = 1")
    assert scene.switch.origin == "target"


def test_no_write_is_lost_and_none_is_there_twice(scene: Scene) -> None:
    with writing(scene) as writer:
        import time

        time.sleep(0.5)
        scene.cut_over()
        time.sleep(0.5)
    rows = dict(scene.on_target("SELECT place, title FROM public.requests WHERE place >= 100000"))
    assert not writer.problems
    assert rows == {key: text for key, text in writer.last.items() if text is not None}
    print("gap", writer.gap(), "refused", writer.refused, len(writer.acknowledged), scene.said)
