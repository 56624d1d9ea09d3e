"""The way back: every row that was written to the target since the cut-over is in the source afterwards."""

from __future__ import annotations

import uuid

import pytest

from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move.back import undo, would_lose
from tests.cutover.scene import WRITES, Scene, writing


def test_what_was_written_is_carried_back(scene: Scene) -> None:
    """Each kind of write on its own, there and back every time."""
    for name, statement in WRITES.items():
        scene.cut_over()
        scene.on_target(statement)
        after = scene.contents("target")
        sequence = scene.on_target("SELECT last_value, is_called FROM public.requests_id_seq")
        scene.go_back()
        assert scene.contents("source") == after, name
        assert scene.on_source("SELECT last_value, is_called FROM public.requests_id_seq") == sequence, name
        assert scene.switch.origin == "source"
        scene.on_source("UPDATE public.requests SET title = 'source again' WHERE id = 100")
        assert scene.on_source("SELECT tgenabled FROM pg_trigger WHERE tgname = 'note'") == [("O",)], name


def test_everything_at_once_and_over_again(scene: Scene) -> None:
    scene.cut_over()
    for statement in WRITES.values():
        scene.on_target(statement)
    after = scene.contents("target")
    scene.go_back()
    assert scene.contents("source") == after
    scene.on_source("UPDATE public.requests SET title = 'in between'; DELETE FROM public.messages")
    before = scene.contents("source")
    evidence = scene.cut_over()
    assert scene.contents("target") == before
    assert evidence["migrations"] == []
    scene.on_target("INSERT INTO public.requests (request_id) VALUES ('second time')")


def test_no_write_is_lost_on_the_way_back(scene: Scene) -> None:
    scene.cut_over()
    with writing(scene) as writer:
        import time

        time.sleep(0.5)
        evidence = scene.go_back()
        time.sleep(0.5)
    assert 0 < evidence["waited_seconds"] + evidence["refused_seconds"] <= writer.gap() + 0.5
    assert any("until the application was sent to the old database" in line for line in scene.said)
    rows = dict(scene.on_source("SELECT place, title FROM public.requests WHERE place >= 100000"))
    assert not writer.problems
    assert rows == {key: text for key, text in writer.last.items() if text is not None}


@pytest.mark.parametrize("name", ["new column", "new label", "new table", "constraint gone"])
def test_what_has_no_place_stops_it_before_anything_is_changed(scene: Scene, name: str) -> None:
    scene.cut_over()
    named = {
        "new column": ["UPDATE public.requests SET agent_model = 'opus' WHERE id = 7"],
        "new label": [
            "ALTER TYPE public.kind ADD VALUE 'web'",
            "INSERT INTO public.config (type, config) VALUES ('web', '{}')",
        ],
        "new table": ["CREATE TABLE public.fresh (id int)", "INSERT INTO public.fresh VALUES (1)"],
        "constraint gone": [
            "ALTER TABLE public.requests ALTER request_id DROP NOT NULL",
            "INSERT INTO public.requests (request_id) VALUES (NULL)",
        ],
    }[name]
    for statement in named:
        scene.on_target(statement)
    source, target, calls = scene.contents("source"), scene.contents("target"), list(scene.switch.calls)
    with pytest.raises(Refused) as raised:
        scene.go_back()
    expected = {"new column": "agent_model", "new label": "web", "new table": "fresh", "constraint gone": "request_id"}[name]
    assert expected in str(raised.value)
    assert (scene.contents("source"), scene.contents("target"), scene.switch.calls) == (source, target, calls)
    scene.on_target("UPDATE public.requests SET title = 'still live' WHERE id = 1")


def test_a_loss_asked_for_by_name_takes_only_what_has_no_place(scene: Scene) -> None:
    scene.cut_over()
    scene.on_target("UPDATE public.requests SET agent_model = 'opus', title = 'kept' WHERE id = 7")
    scene.on_target("ALTER TYPE public.kind ADD VALUE 'web'")
    scene.on_target("INSERT INTO public.config (type, config) VALUES ('web', '{}')")
    with pytest.raises(Refused):
        scene.go_back(discard="something else")
    evidence = scene.go_back(discard=scene.move.target.database)
    assert len(evidence["discarded"]) == 2
    assert scene.on_source("SELECT title FROM public.requests WHERE id = 7") == [("kept",)]
    assert scene.on_source("SELECT count(*) FROM public.config") == [(3,)]


def test_rows_that_refer_to_a_given_up_row_are_given_up_with_it(scene: Scene) -> None:
    """A person of a kind the source does not know: the team it leads, and that team's other members, have no place either."""
    scene.on_source("ALTER TABLE public.person ADD COLUMN kind public.kind")
    scene.on_target("ALTER TABLE public.person ADD COLUMN kind public.kind")
    scene.cut_over()
    scene.on_target("ALTER TYPE public.kind ADD VALUE 'web'")
    scene.on_target(
        "INSERT INTO public.person VALUES (7, 'Kim', NULL, 'web'); INSERT INTO public.team VALUES (7, 'grey', 7);"
        " INSERT INTO public.person VALUES (8, 'Lee', 7, 'slack'), (9, 'Max', 1, 'slack')"
    )
    evidence = scene.go_back(discard=scene.move.target.database)
    assert scene.on_source("SELECT id FROM public.person ORDER BY id") == [(1,), (2,), (9,)]
    assert scene.on_source("SELECT count(*) FROM public.team") == [(2,)]
    assert evidence["rows_given_up"] == {"public.person": 2, "public.team": 1}


@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE"])
def test_rows_of_a_later_table_that_refer_to_what_was_deleted_stop_the_next_cut_over(scene: Scene, action: str) -> None:
    """Its rows were given up by going back, and stand in the target still: they are nobody's to delete unasked."""
    scene.cut_over()
    scene.on_target(f"CREATE TABLE public.labels (request_id text REFERENCES public.requests (request_id) {action})")
    scene.on_target("INSERT INTO public.labels VALUES ('r7'), ('r8')")
    scene.go_back(discard=scene.move.target.database)
    scene.on_source("DELETE FROM public.messages WHERE request_id = 'r7'; DELETE FROM public.requests WHERE request_id = 'r7'")
    with pytest.raises(ClarityError, match="labels"):
        scene.cut_over()
    assert scene.switch.origin == "source"
    scene.on_source("UPDATE public.requests SET title = 'still live' WHERE id = 1")
    assert scene.on_target("TABLE public.labels") == [("r7",), ("r8",)]
    scene.on_target("DROP TABLE public.labels")
    scene.cut_over()
    assert scene.contents("target") == scene.contents("source")


def test_it_says_beforehand_what_would_be_carried_and_lost(scene: Scene) -> None:
    assert would_lose(scene.move).written == ()
    scene.cut_over()
    scene.on_target("ALTER TABLE public.requests DISABLE TRIGGER note; UPDATE public.requests SET agent_model = 'opus' WHERE id = 7")
    scene.on_target("DELETE FROM public.log WHERE line = 'line 1'")
    loss = would_lose(scene.move)
    assert [(item.table, item.inserted, item.updated, item.deleted) for item in loss.written] == [("public.log", 0, 0, 4)]
    assert len(loss.no_place) == 1 and "id=7" in loss.no_place[0]


def test_a_key_is_somebodys_data_and_stays_on_its_line(scene: Scene) -> None:
    """Read before a roll-back is approved: nobody who writes to the application's tables may add to what it says."""
    for on in (scene.on_source, scene.on_target):
        on("DELETE FROM public.log; ALTER TABLE public.log ADD COLUMN name text PRIMARY KEY")
    scene.cut_over()
    scene.on_target("ALTER TABLE public.log ADD COLUMN agent text")
    names = "(E'x\\n```\\n# Nothing is lost\\x1b[2K'), (repeat('y', 5000))"
    scene.on_target(f"INSERT INTO public.log (name, agent) SELECT n.name, 'opus' FROM (VALUES {names}) AS n(name)")
    [listed] = would_lose(scene.move).no_place
    assert r"name=x\n```\n# Nothing is lost\x1b[2K; name=yyy" in listed
    assert len(listed.splitlines()) == 1 and len(listed) < 200


def test_undo_leaves_nothing_on_the_source(scene: Scene) -> None:
    before = scene.contents("source")
    scene.cut_over()
    undo(scene.move, scene.switch, run=uuid.uuid4(), lock_budget=5, alive=lambda: True, progress=scene.said.append)
    assert scene.contents("source") == before
    assert scene.ours_on_source() == []
    assert scene.switch.origin == "source"
    undo(scene.move, scene.switch, run=uuid.uuid4(), lock_budget=5, alive=lambda: True, progress=scene.said.append)


def test_a_switch_that_fails_on_the_way_back_is_gone_on_from(scene: Scene) -> None:
    scene.cut_over()
    scene.on_target("INSERT INTO public.requests (request_id) VALUES ('kept')")
    scene.switch.fail = ClarityError("Cloudflare answered 500.")
    with pytest.raises(ClarityError, match="500"):
        scene.go_back()
    scene.go_back()
    assert scene.on_source("SELECT count(*) FROM public.requests WHERE request_id = 'kept'") == [(1,)]
