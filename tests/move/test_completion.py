"""Is what comes after the rows made side by side, in an order that works, and nothing of it lost?"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from clarity_infra.errors import ClarityError
from clarity_infra.move import preflight, structure
from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.crew import Crew
from clarity_infra.move.rows import session
from clarity_infra.move.structure import Archive
from clarity_infra.move.tools import find_tools
from sandbox.postgres import Server
from tests.move.conftest import Scene, make_scene


def test_items_that_claim_the_same_thing_alone_never_meet() -> None:
    """Items in order, the first that nothing forbids; what claims nothing goes on beside."""
    at_work: list[str] = []
    met: set[frozenset[str]] = set()
    lock = threading.Lock()

    def work(item: str) -> None:
        with lock:
            at_work.append(item)
            met.add(frozenset(at_work))
        time.sleep(0.05)
        with lock:
            at_work.remove(item)

    claims = {"key": {"t": True}, "index 1": {"t": False}, "index 2": {"t": False}, "other": {}}
    done = Crew(3).run(list(claims), work, claims=lambda item: claims[item])
    assert sorted(item for item, _ in done) == sorted(claims)
    assert {"key", "other"} in met
    assert {"index 1", "index 2"} in met or {"index 1", "index 2", "other"} in met
    assert not any("key" in together and together & {"index 1", "index 2"} for together in met)


def test_spare_items_fill_the_time_and_keep_nothing_waiting() -> None:
    """Readers take what is theirs from the start; what is spare is left when all else is done, and never begun before what waits for it."""
    began: list[str] = []
    lock = threading.Lock()

    def work(item: str, *_: Any) -> None:
        with lock:
            began.append(item)
        time.sleep(0.1)

    claims = {"index": {"t": False}, "key": {"t": True}}
    spare = [f"spare {number}" for number in range(50)]
    done = [item for item, _ in Crew(3).run(list(claims), work, claims=lambda item: claims.get(item, {"t": False}), spare=spare)]
    assert {"index", "key"} <= set(done) < {"index", "key", *spare}
    assert began[0] == "index" and began.index("key") < 4

    began.clear()
    items = ["row 1", "row 2", "digest 1", "digest 2"]
    done = [item for item, _ in Crew(1, readers=1).run(items, work, reading=lambda item: item.startswith("digest"))]
    assert sorted(done) == sorted(items)
    assert set(began[:2]) == {"row 1", "digest 1"}


def test_what_waits_for_a_claim_ends_when_another_item_fails() -> None:
    def work(item: int) -> None:
        time.sleep(0.1)
        raise ValueError("the first error")

    started = time.monotonic()
    with pytest.raises(ValueError, match="the first error"):
        Crew(2).run([1, 2], work, claims=lambda _: {"t": True})
    assert time.monotonic() - started < 5


SCHEMA = r"""
CREATE TABLE a (id integer PRIMARY KEY, v text, w integer UNIQUE, x integer NOT NULL);
CREATE INDEX a_forged ON a (v) WHERE v <> '
--
-- TOC entry 1 (class 1259 OID 1)
-- Name: forged; Type: INDEX; Schema: public; Owner: -
--
DROP TABLE a;';
CREATE UNIQUE INDEX a_marked ON a (x);
ALTER TABLE a REPLICA IDENTITY USING INDEX a_marked;
CREATE INDEX a_clustered ON a (v);
ALTER TABLE a CLUSTER ON a_clustered;
COMMENT ON INDEX a_clustered IS 'an index';
CREATE TABLE b (id integer PRIMARY KEY, a integer CONSTRAINT b_to_a REFERENCES a, back integer);
ALTER TABLE a ADD CONSTRAINT a_to_b FOREIGN KEY (w) REFERENCES b;
COMMENT ON CONSTRAINT b_to_a ON b IS 'a key';
COMMENT ON CONSTRAINT a_pkey ON a IS 'a primary key';
INSERT INTO b SELECT i, NULL, i FROM generate_series(1, 500) i;
INSERT INTO a SELECT i, 'v' || i, i, i FROM generate_series(1, 500) i;
"""


def plain(schema: str) -> str:
    """The schema without the index whose text looks like an entry of its own."""
    begin, end = schema.index("CREATE INDEX a_forged"), schema.index("CREATE UNIQUE INDEX a_marked")
    return schema[:begin] + schema[end:]


def steps_of(scene: Scene, stage: structure.Stage) -> list[structure.Step]:
    """The steps of a stage of the tables a and b."""
    move = scene.move("a", "b")
    with session(move.source) as source:
        source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        move_set = read_move_set(source, move.tables)
        snapshot = source.execute("SELECT pg_export_snapshot()").fetchall()[0][0]
        with structure.dump(source, move.source, move_set, preflight.tools_for(source, source), snapshot) as archive:
            return archive.steps(stage)[1]


def test_each_step_knows_its_tables_and_whether_it_locks_them(scene: Scene) -> None:
    scene.run_source(plain(SCHEMA))
    indexes = {step.name.split()[-1]: step for step in steps_of(scene, "indexes")}
    assert {name: step.alone for name, step in indexes.items()} == {
        "a_pkey": True,
        "a_w_key": True,
        "b_pkey": True,
        "a_marked": True,
        "a_clustered": True,
    }
    assert indexes["a_pkey"].tables == indexes["a_marked"].tables != indexes["b_pkey"].tables
    assert all(len(step.tables) == 1 for step in indexes.values())
    keys = {step.name.split()[-1]: step for step in steps_of(scene, "keys")}
    both = indexes["a_pkey"].tables | indexes["b_pkey"].tables
    assert {name: step.tables for name, step in keys.items()} == {"b_to_a": both, "a_to_b": both}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_marks_comments_and_crossing_keys_arrive(scene: Scene, workers: int) -> None:
    """Keys that lock the same two tables in either order, and two indexes that alter their table, side by side."""
    scene.run_source(plain(SCHEMA))
    assert scene.copy("a", "b", workers=workers)["verified"]["differences"] == 0


def test_a_definition_that_looks_like_an_entry_is_not_taken_for_one(scene: Scene) -> None:
    """It cannot be taken apart for sure, so it is made in one piece."""
    scene.run_source(SCHEMA)
    assert len(steps_of(scene, "indexes")) == 1
    assert scene.copy("a", "b")["verified"]["differences"] == 0


def test_an_index_that_cannot_be_made_is_named(scene: Scene) -> None:
    """A function of the index fails in the target, as one that depends on the search path would."""
    scene.run_source("CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1';")
    scene.run_source("CREATE TABLE a (id integer PRIMARY KEY); INSERT INTO a VALUES (0); CREATE INDEX a_f ON a (public.f(id));")
    scene.run_source("CREATE OR REPLACE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 1 / $1';")
    with pytest.raises(ClarityError, match=r"index a_f: division by zero"):
        scene.copy("a")


@pytest.mark.pg15
def test_older_servers_get_their_indexes_side_by_side_too(server15: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tools of 18, whose pg_restore cannot talk to servers before 17."""
    monkeypatch.setattr(preflight, "tools_for", lambda *_: find_tools(18))
    made: list[int] = []
    original = Crew.run

    def counted(crew: Any, items: Any, *arguments: Any, **more: Any) -> Any:
        made.append(len(items))
        return original(crew, items, *arguments, **more)

    monkeypatch.setattr(Crew, "run", counted)
    with make_scene(server15, server15) as scene:
        scene.run_source(plain(SCHEMA))
        assert scene.copy("a", "b")["verified"]["differences"] == 0
    assert 5 in made


def test_an_archive_whose_entries_do_not_match_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.run_source(plain(SCHEMA))
    monkeypatch.setattr(Archive, "_restored", lambda *_: "")
    with pytest.raises(ClarityError, match="unknown form"):
        steps_of(scene, "indexes")
