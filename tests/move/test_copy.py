"""Does the copy converge? Killed, failed, run again, discarded; and what it leaves of the source's life while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clarity_infra.errors import ClarityError, Refused, VerificationFailed
from clarity_infra.move import copy as copy_module
from clarity_infra.move import digest as digest_module
from clarity_infra.move import journal, preflight, rows
from clarity_infra.move.copy import copied_already, copy, discard_copy
from clarity_infra.move.crew import Crew
from clarity_infra.move.model import Column
from clarity_infra.move.rows import session
from clarity_infra.move.survey import survey
from clarity_infra.move.tools import Tools, find_tools
from clarity_infra.move.verify import verify_move
from sandbox.postgres import Server
from tests.move.conftest import ADMIN_PASSWORD, Scene, make_scene

SCHEMA = """
CREATE TYPE state AS ENUM ('on', 'off');
CREATE SCHEMA apart;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE a (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s state, v text);
CREATE TABLE apart.b (id serial PRIMARY KEY REFERENCES a, v text);
CREATE TRIGGER touch BEFORE UPDATE ON a FOR EACH ROW EXECUTE FUNCTION touch();
CREATE SEQUENCE free; ALTER TABLE a ADD f bigint DEFAULT nextval('free');
INSERT INTO a (s, v) SELECT 'on', repeat('v', 100) || i FROM generate_series(1, 20000) i;
INSERT INTO apart.b (v) SELECT 'b' FROM generate_series(1, 20000);
"""
TABLES = ("a", "apart.b")


@pytest.fixture
def filled(scene: Scene) -> Scene:
    """A scene whose source has two tables in two schemas."""
    scene.run_source(SCHEMA)
    return scene


def leftovers(scene: Scene) -> list[str]:
    """Everything in the target that is neither the server's nor the journal's."""
    with scene.on_target() as target:
        found = target.execute(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname !~ '^pg_|^information|^clarity_infra'"
            " UNION ALL SELECT typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE nspname = 'public'"
            " UNION ALL SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE nspname = 'public'"
            " UNION ALL SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information|^clarity_infra|^public$|^drizzle$'"
        ).fetchall()
    return [row[0] for row in found]


def sessions(server: Server) -> int:
    """Sessions of ours that are still there."""
    with server.connect() as superuser:
        return int(superuser.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'clarity-infra%'").fetchall()[0][0])


def wait_for_no_sessions(server: Server) -> None:
    """Ends are seen by a server a moment later."""
    deadline = time.monotonic() + 10
    while sessions(server):
        assert time.monotonic() < deadline, "sessions were left at work"
        time.sleep(0.05)


def test_a_copy_says_what_it_did(filled: Scene) -> None:
    lines: list[str] = []
    evidence = copy(filled.move(*TABLES), run=uuid.uuid4(), progress=lines.append, revision=7)
    assert [(table["table"], table["rows"]) for table in evidence["tables"]] == [("public.a", 20000), ("apart.b", 20000)]
    assert evidence["sequences"]["public.a_id_seq"] == {"last_value": "20000", "is_called": True}
    assert evidence["enums"] == {"public.state": ["on", "off"]}
    assert evidence["verified"]["rows"] == 40000
    assert lines[0].startswith("Copying 2 tables")
    move = filled.move(*TABLES)
    assert (copied_already(move, 7) or {})["tables"] == evidence["tables"]
    assert copied_already(move, 8) is None
    wait_for_no_sessions(filled.target_server)


def test_discarding_leaves_the_target_as_it_was(filled: Scene) -> None:
    filled.copy(*TABLES)
    assert "a" in leftovers(filled)
    discard_copy(filled.move(*TABLES), lambda _: None)
    assert leftovers(filled) == []
    assert copied_already(filled.move(*TABLES), 0) is None
    discard_copy(filled.move(*TABLES), lambda _: None)


def test_discarding_stops_at_what_is_not_ours(filled: Scene) -> None:
    filled.copy(*TABLES)
    with filled.on_target(superuser=True) as target:
        target.execute("CREATE TABLE theirs (id integer REFERENCES a)")
    with pytest.raises(Refused, match="theirs"):
        discard_copy(filled.move(*TABLES), lambda _: None)
    with filled.on_target(superuser=True) as target:
        assert target.execute("SELECT count(*) FROM a").fetchall() == [(20000,)]


def test_discarding_stops_at_a_renamed_table(filled: Scene) -> None:
    filled.copy(*TABLES)
    with filled.on_target(superuser=True) as target:
        target.execute("ALTER TABLE a RENAME TO kept")
    with pytest.raises(Refused, match=r"public\.kept"):
        discard_copy(filled.move(*TABLES), lambda _: None)


def test_two_runs_at_once(filled: Scene) -> None:
    move = filled.move(*TABLES)
    with session(move.target) as other, journal.exclusive(other, move.stack), pytest.raises(Refused, match="Another run"):
        filled.copy(*TABLES)
    filled.copy(*TABLES)


STEPS = ("_make_tables", "_make_indexes", "_make_keys", "_verify", "_evidence")


@pytest.mark.parametrize("step", STEPS)
def test_a_copy_that_fails_at_any_step_is_made_afresh(filled: Scene, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure before or after each step; the next run clears what was left and succeeds."""
    original = getattr(copy_module._Copy, step)

    def before(*_: Any) -> None:
        raise ClarityError("fault before")

    def after(*arguments: Any) -> None:
        original(*arguments)
        raise ClarityError("fault after")

    for fault in (before, after):
        with monkeypatch.context() as patch:
            patch.setattr(copy_module._Copy, step, fault)
            with pytest.raises(ClarityError, match="fault"):
                filled.copy(*TABLES)
        assert copied_already(filled.move(*TABLES), 0) is None
        assert survey(filled.move(*TABLES)).blockers == ()
    wait_for_no_sessions(filled.target_server)
    assert filled.copy(*TABLES)["verified"]["differences"] == 0


def spoil_what_arrives(patch: pytest.MonkeyPatch, filled: Scene, where: str) -> None:
    """Changes these rows of a in the target as soon as the last row has arrived."""
    original = rows.copy_rows

    def spoil(*arguments: Any, **more: Any) -> Any:
        copied = original(*arguments, **more)
        with filled.on_target() as target:
            target.execute(f"UPDATE public.a SET v = 'spoiled' WHERE {where}".encode())
        return copied

    patch.setattr(copy_module, "copy_rows", spoil)


def test_a_copy_that_is_not_equal_fails_and_the_next_is_right(filled: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        spoil_what_arrives(patch, filled, "id IN (7, 8)")
        with pytest.raises(VerificationFailed, match="source stays live") as caught:
            filled.copy(*TABLES)
    assert caught.value.differences == ("table public.a: 20000 rows, other contents (different: id=7, id=8)",)
    assert copied_already(filled.move(*TABLES), 0) is None
    assert filled.copy(*TABLES)["verified"]["differences"] == 0


CHILD = """
import sys, uuid
from clarity_infra.move.copy import copy
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from clarity_infra.connection import Endpoint
source, target, owner, *tables = sys.argv[1:]
move = Move("test", Endpoint.from_url(source, name="S"), Endpoint.from_url(target, name="T"), owner, tuple(map(Name.parse, tables)), workers=2)
copy(move, run=uuid.uuid4(), progress=lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize("line", ["Copying", "rows copied", "Verifying"])
def test_killed_it_starts_again_and_the_source_took_writes(filled: Scene, line: str) -> None:
    """`kill -9` at three moments; a writer goes on all the time, also between the two runs."""
    urls = [
        filled.source_server.url(filled.source, filled.admin, ADMIN_PASSWORD),
        filled.target_server.url(filled.target, filled.admin, ADMIN_PASSWORD),
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *urls, filled.owner, *TABLES],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    for text in child.stdout:
        if line in text:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    with filled.on_source() as source:
        source.execute("INSERT INTO a (s, v) VALUES ('off', 'written in between')")
    # The lock of the killed run goes with its session, which the server may notice a moment later.
    deadline = time.monotonic() + 30
    while True:
        try:
            evidence = filled.copy(*TABLES)
            break
        except Refused:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert evidence["tables"][0]["rows"] == 20001
    assert verify_move(filled.move(*TABLES), progress=lambda _: None).differences == ()


def test_what_a_killed_run_left_at_work_is_ended(filled: Scene) -> None:
    """Here a session that stands for its pg_restore, with a lock on a table of the copy."""
    filled.copy(*TABLES)
    with filled.move(*TABLES).target.connect(role=filled.owner, purpose="tool") as orphan:
        orphan.execute("BEGIN; LOCK TABLE public.a")
        assert filled.copy(*TABLES)["verified"]["differences"] == 0
        with pytest.raises(psycopg.OperationalError):
            orphan.execute("SELECT 1")


def test_writers_go_on_and_the_copy_is_of_one_moment(filled: Scene) -> None:
    """Rows come in pairs, one a table, all the time: a copy of one moment has as many of each."""
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with filled.on_source() as source:
            while not stop.is_set():
                with source.transaction():
                    source.execute("INSERT INTO a (s, v) VALUES ('on', 'pair')")
                    source.execute("INSERT INTO apart.b (v) VALUES ('pair')")
                written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        evidence = filled.copy(*TABLES)
    finally:
        stop.set()
        writer.join()
    assert written > 0
    assert evidence["tables"][0]["rows"] == evidence["tables"][1]["rows"]
    assert int(evidence["sequences"]["public.a_id_seq"]["last_value"]) >= evidence["tables"][0]["rows"]
    found = verify_move(filled.move(*TABLES), progress=lambda _: None).differences
    assert any("only in the source" in difference for difference in found)


def test_ddl_that_waits_for_the_copy_is_let_through(filled: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """DDL queues behind the snapshot and everything queues behind the DDL: the copy gives up, the application goes on."""
    monkeypatch.setattr(rows, "LOCK_WAIT_MS", 1000)
    original = copy_module._Copy._make_tables
    ddl = threading.Thread(target=filled.run_source, args=("ALTER TABLE a ADD late integer",))

    def with_ddl(attempt: Any, archive: Any) -> None:
        original(attempt, archive)
        ddl.start()
        time.sleep(0.5)

    with monkeypatch.context() as patch:
        patch.setattr(copy_module._Copy, "_make_tables", with_ddl)
        with pytest.raises(Refused, match="locked by somebody else for longer than 1 s"):
            filled.copy(*TABLES)
    ddl.join(timeout=10)
    assert not ddl.is_alive()
    assert filled.copy(*TABLES)["verified"]["differences"] == 0


def test_a_big_table_goes_in_ranges(filled: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PART_BYTES", 200_000)
    monkeypatch.setattr(rows, "DIGEST_PART_BYTES", 150_000)
    filled.run_source("UPDATE a SET v = v || 'x' WHERE id % 3 = 0")
    with session(filled.move(*TABLES).source) as source:
        move_set = survey(filled.move(*TABLES)).move_set
        found = rows.parts(move_set.tables, rows.PART_BYTES)
        assert len(found) > 10
        assert found[0].condition() is not None
        assert source is not None
    assert filled.copy(*TABLES)["tables"][0]["rows"] == 20000


@pytest.mark.parametrize("limited", ["ROLE {admin} CONNECTION LIMIT 8", "DATABASE {target} CONNECTION LIMIT 8"])
def test_a_copy_takes_no_more_than_half_of_the_sessions_that_are_left(scene: Scene, limited: str) -> None:
    """A small server has 80 places, most of them the application's: eight workers would ask for twenty, and fail."""
    tables = [f"t{number}" for number in range(8)]
    scene.run_source(";".join(f"CREATE TABLE {table} (id integer PRIMARY KEY); INSERT INTO {table} VALUES (1)" for table in tables))
    with scene.target_server.connect() as superuser:
        superuser.execute(sql.SQL(f"ALTER {limited}").format(admin=sql.Identifier(scene.admin), target=sql.Identifier(scene.target)))
    move, said = scene.move(*tables, workers=8), list[str]()
    (note,) = [note for note in survey(move).notes if "workers" in note]
    assert f"more sessions of {scene.admin}" in note and "of 8 workers" in note
    evidence = copy(move, run=uuid.uuid4(), progress=said.append)
    assert 1 <= evidence["workers"] < 4 and [line for line in said if "of 8 workers" in line]
    assert sum(entry["rows"] for entry in evidence["tables"]) == 8
    assert not verify_move(move, progress=said.append).differences


def test_workers_are_as_many_as_are_asked_for_where_there_is_room(filled: Scene) -> None:
    assert filled.copy(*TABLES, workers=4)["workers"] == 4
    assert not [note for note in survey(filled.move(*TABLES, workers=4)).notes if "workers" in note]


def test_rows_that_cannot_arrive_stop_every_worker(filled: Scene) -> None:
    """A check that the source's rows no longer meet: the copy says so, and no session stays at work."""
    filled.run_source("CREATE FUNCTION low(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'")
    filled.run_source("CREATE TABLE bad (v integer CONSTRAINT is_low CHECK (public.low(v))); INSERT INTO bad VALUES (1), (100);")
    filled.run_source("CREATE OR REPLACE FUNCTION low(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 10'")
    with pytest.raises(ClarityError, match=r"public\.bad: its rows could not be copied: .*is_low"):
        filled.copy(*TABLES, "bad")
    wait_for_no_sessions(filled.target_server)


def test_a_crew_cancels_what_is_still_at_work(filled: Scene) -> None:
    def work(item: int, connection: psycopg.Connection[Any]) -> None:
        if item:
            connection.execute("SELECT pg_sleep(60)")
        raise ValueError("the first error")

    started = time.monotonic()
    with pytest.raises(ValueError, match="the first error"):
        Crew(2, lambda: session(filled.move(*TABLES).source)).run([1, 0], work)
    assert time.monotonic() - started < 10
    wait_for_no_sessions(filled.source_server)


@pytest.mark.pg15
def test_newer_tools_than_the_servers(server15: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_restore 17 and newer cannot talk to older servers by itself: its script is run instead."""
    monkeypatch.setattr(preflight, "tools_for", lambda *_: find_tools(18))
    with make_scene(server15, server15) as scene:
        scene.run_source(SCHEMA)
        evidence = scene.copy(*TABLES)
        assert evidence["verified"]["differences"] == 0


def test_an_error_of_a_tool_names_it_and_no_password(filled: Scene) -> None:
    tools = find_tools(18)
    with pytest.raises(ClarityError) as caught:
        tools.run("pg_dump", ["--table=nothing_like_it"], filled.move(*TABLES).source, doing="Trying")
    assert "pg_dump 18 failed" in str(caught.value)
    assert ADMIN_PASSWORD not in str(caught.value)
    assert isinstance(tools, Tools)


# Not `getrusage`: its maximum counts what the parent had at the time of the fork. In kB. (proc(5), /proc/pid/status)
TELL_PEAK = "print('PEAK', next(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')), flush=True)\n"


def test_large_values_need_little_memory(filled: Scene) -> None:
    """60 MB in rows of 2 MB: the client's memory stays near a few rows."""
    filled.run_source("CREATE TABLE big (id integer, v text); ALTER TABLE big ALTER v SET STORAGE EXTERNAL;")
    filled.run_source("INSERT INTO big SELECT i, repeat(md5(i::text), 62500) FROM generate_series(1, 30) i")
    script = CHILD + TELL_PEAK
    urls = [
        filled.source_server.url(filled.source, filled.admin, ADMIN_PASSWORD),
        filled.target_server.url(filled.target, filled.admin, ADMIN_PASSWORD),
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *urls, filled.owner, "big"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    peak = int(done.stdout.split("PEAK ")[1]) / 1024
    assert peak < 150, f"{peak:.0f} MiB"


def test_a_slow_target_slows_the_source_and_fills_no_memory(filled: Scene) -> None:
    """The target's session stops for five seconds in a load of 200 MB: the source's waits with it, and the client keeps little."""
    filled.run_source("CREATE TABLE big (id integer, v text)")
    filled.run_source("INSERT INTO big SELECT i, repeat(md5(i::text), 31) FROM generate_series(1, 200000) i")
    script = CHILD + TELL_PEAK
    urls = [
        filled.source_server.url(filled.source, filled.admin, ADMIN_PASSWORD),
        filled.target_server.url(filled.target, filled.admin, ADMIN_PASSWORD),
    ]
    command = [sys.executable, "-c", script, *urls, filled.owner, "big"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        # The source sends only when the target has said that it is ready to load.
        at_work(filled.source_server, "clarity-infra copy", "COPY % TO STDOUT %")
        loading = at_work(filled.target_server, "clarity-infra copy rows", "COPY % FROM STDIN %")
        os.kill(loading, signal.SIGSTOP)
        try:
            time.sleep(5)
            sending = at_work(filled.source_server, "clarity-infra copy", "COPY % TO STDOUT %", within=0)
        finally:
            os.kill(loading, signal.SIGCONT)
        printed, _ = child.communicate()
    assert child.returncode == 0
    assert sending
    peak = int(printed.split("PEAK ")[1]) / 1024
    assert peak < 150, f"{peak:.0f} MiB"


def at_work(server: Server, application: str, statement: str, *, within: float = 30) -> int:
    """The process of the session that runs a statement like this one, waited for."""
    deadline = time.monotonic() + within
    with server.connect() as superuser:
        while True:
            found = superuser.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND state = 'active' AND query LIKE %s", (application, statement)
            ).fetchone()
            if found:
                return int(found[0])
            assert time.monotonic() < deadline, f"no session runs {statement}"
            time.sleep(0.01)


def test_rows_too_large_for_their_text_are_digested_column_by_column(filled: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose text the server cannot hold, here by a text made too long on purpose, in some ranges of a table only."""
    monkeypatch.setattr(rows, "DIGEST_PART_BYTES", 300_000)
    original = digest_module._hashed_value

    def too_long(value: sql.Composable, column: Column) -> sql.Composable:
        taken = original(value, column)
        return sql.SQL("CASE WHEN t.id = 10000 THEN repeat('x', 2000000000) ELSE {} END").format(taken) if column.enum else taken

    monkeypatch.setattr(digest_module, "_hashed_value", too_long)
    evidence = filled.copy(*TABLES)
    kinds = {table["table"]: table["digest"].split(":")[0] for table in evidence["tables"]}
    assert kinds == {"public.a": "server-columns", "apart.b": "server-row"}
    assert evidence["verified"]["differences"] == 0
    spoil_what_arrives(monkeypatch, filled, "id = 7")
    with pytest.raises(VerificationFailed, match=r"table public\.a: 20000 rows, other contents"):
        filled.copy(*TABLES)


def test_indexes_of_partitions_whose_type_is_an_extensions(scene: Scene) -> None:
    """A dump has what attaches them to the whole's depend on the extension too, which is no part of the set."""
    scene.run_source(
        "CREATE EXTENSION citext; CREATE EXTENSION pg_trgm;"
        " CREATE TABLE t (n citext, pc integer, x text, PRIMARY KEY (n, pc)) PARTITION BY LIST (pc);"
        " CREATE TABLE p0 PARTITION OF t FOR VALUES IN (1, 2); CREATE TABLE p1 PARTITION OF t DEFAULT;"
        " CREATE INDEX ON t USING gin (x gin_trgm_ops); INSERT INTO t VALUES ('a', 1, 'one'), ('b', 3, 'three')"
    )
    scene.copy("t")
    with scene.on_target() as target:
        attached = target.execute("SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE c.relkind = 'i'")
        assert attached.fetchone() == (4,)
