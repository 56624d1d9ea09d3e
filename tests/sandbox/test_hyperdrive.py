"""The data path behaves as Hyperdrive's pooler: it keeps old connections after a change, and its clients notice nothing."""

from __future__ import annotations

import concurrent.futures
import json
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from sandbox.cloudflare import CloudflareApi
from sandbox.postgres import Server

ACCOUNT = "a" * 32
CONFIGS = f"/accounts/{ACCOUNT}/hyperdrive/configs"
PASSWORD = "s3cret"
WHERE = "SELECT current_database()"
WHO = "SELECT pg_backend_pid()"


@dataclass
class Hyperdrive:
    """A config whose origin is the database `old`; `new` is another one for the same user."""

    api: CloudflareApi
    server: Server
    config_id: str
    old: str
    new: str
    user: str

    def connect(self, **more: Any) -> psycopg.Connection:
        return psycopg.connect(self.api.connection_string(self.config_id), autocommit=True, **more)

    def ask(self, question: str) -> Any:
        """The answer to a client that comes and goes."""
        with self.connect() as client:
            return _one(client, question)

    def switch(self, database: str) -> None:
        self._ask_api("PATCH", "", {"origin": {"database": database}})

    def limit(self, connections: int) -> None:
        self._ask_api("PATCH", "", {"origin_connection_limit": connections})

    def restart(self) -> None:
        self._ask_api("POST", "/restart", {})

    def settled(self) -> list[str]:
        """The databases of the pool's connections, once none is in use."""
        deadline = time.monotonic() + 5
        while any(connection.in_use for connection in self.api.connections(self.config_id)):
            assert time.monotonic() < deadline, "a connection stays in use though its client has left"
            time.sleep(0.01)
        return [connection.database for connection in self.api.connections(self.config_id)]

    def terminate(self, database: str) -> None:
        """Ends the sessions on a database, as an admin does, and waits until they are gone."""
        with self.server.connect() as admin:
            admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (database,))

    def _ask_api(self, method: str, path: str, body: Any) -> None:
        httpx.request(
            method,
            f"{self.api.base_url}{CONFIGS}/{self.config_id}{path}",
            json=body,
            headers={"Authorization": "Bearer writes"},
        ).raise_for_status()


def _one(client: psycopg.Connection, question: str) -> Any:
    row = client.execute(question).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def make(server: Server, new_role: Callable[..., str], new_database: Callable[..., str]) -> Callable[..., Hyperdrive]:
    user = new_role("worker", password=PASSWORD)
    old, new = new_database("old"), new_database("new")
    for database in (old, new):
        with server.connect(database) as admin:
            admin.execute("CREATE TABLE notes (id serial PRIMARY KEY, note text)")
            admin.execute(f"GRANT ALL ON notes, notes_id_seq TO {user}")

    def make(api: CloudflareApi) -> Hyperdrive:
        origin = {"scheme": "postgres", "host": "127.0.0.1", "port": server.port, "database": old, "user": user,
                  "password": PASSWORD}  # fmt: skip
        response = httpx.post(
            f"{api.base_url}{CONFIGS}",
            json={"name": "clarity-db", "origin": origin},
            headers={"Authorization": "Bearer writes"},
        )
        return Hyperdrive(api, server, response.json()["result"]["id"], old, new, user)

    return make


@pytest.fixture
def hyperdrive(make: Callable[..., Hyperdrive], api: CloudflareApi) -> Hyperdrive:
    return make(api)


@pytest.fixture
def impatient(make: Callable[..., Hyperdrive], tmp_path: Path) -> Iterator[Hyperdrive]:
    """One that keeps old connections for a second only."""
    with CloudflareApi(tmp_path / "impatient", token="writes", pool_idle=1) as api:
        yield make(api)


# The pool


def test_a_connection_is_used_again(hyperdrive: Hyperdrive) -> None:
    first = hyperdrive.ask(WHO)
    hyperdrive.settled()
    assert hyperdrive.ask(WHO) == first
    with hyperdrive.server.connect() as admin:
        row = admin.execute("SELECT application_name, usename FROM pg_stat_activity WHERE pid = %s", (first,)).fetchone()
    assert row == ("Cloudflare Hyperdrive", hyperdrive.user)


def test_a_client_s_session_does_not_reach_the_next(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect() as client:
        backend = _one(client, WHO)
        client.execute("SET search_path = nowhere")
        client.execute("CREATE TEMP TABLE left_behind ()")
        client.execute("PREPARE mine AS SELECT 1")
        client.execute("BEGIN")
        client.execute("INSERT INTO public.notes (note) VALUES ('never committed')")
        client.close()
    hyperdrive.settled()
    with hyperdrive.connect() as client:
        assert _one(client, WHO) == backend
        assert _one(client, "SHOW search_path") == '"$user", public'
        assert _one(client, "SELECT count(*) FROM pg_prepared_statements") == 0
        assert _one(client, "SELECT to_regclass('left_behind')") is None
        assert _one(client, "SELECT count(*) FROM notes") == 0


def test_after_a_change_old_connections_are_used_on_and_new_ones_go_to_the_new_origin(hyperdrive: Hyperdrive) -> None:
    hyperdrive.ask(WHERE)
    hyperdrive.settled()
    hyperdrive.switch(hyperdrive.new)
    assert hyperdrive.ask(WHERE) == hyperdrive.old, "an old pooled connection is preferred"
    hyperdrive.settled()
    with hyperdrive.connect() as first, hyperdrive.connect() as second:
        assert _one(first, WHERE) == hyperdrive.old
        assert _one(second, WHERE) == hyperdrive.new
    assert sorted(hyperdrive.settled()) == sorted([hyperdrive.old, hyperdrive.new])
    assert hyperdrive.ask(WHERE) == hyperdrive.old


def test_a_client_that_stays_goes_on_writing_to_the_old_origin(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect() as client:
        client.execute("INSERT INTO notes (note) VALUES ('before')")
        hyperdrive.switch(hyperdrive.new)
        client.execute("INSERT INTO notes (note) VALUES ('after')")
    with hyperdrive.server.connect(hyperdrive.old) as admin:
        assert admin.execute("SELECT note FROM notes ORDER BY id").fetchall() == [("before",), ("after",)]


def test_old_connections_are_parted_with_in_the_end(impatient: Hyperdrive) -> None:
    with impatient.connect() as client:
        assert _one(client, WHERE) == impatient.old
        impatient.switch(impatient.new)
        assert _one(client, WHERE) == impatient.old
        deadline = time.monotonic() + 5
        while _one(client, WHERE) == impatient.old:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert _one(client, WHERE) == impatient.new, "the client noticed nothing"


def test_a_transaction_is_not_parted_from_its_connection(impatient: Hyperdrive) -> None:
    with impatient.connect() as client:
        with client.transaction():
            impatient.switch(impatient.new)
            client.execute("INSERT INTO notes (note) VALUES ('old')")
            time.sleep(1.6)
            assert _one(client, WHERE) == impatient.old
        assert _one(client, WHERE) == impatient.new
    with impatient.server.connect(impatient.old) as admin:
        assert admin.execute("SELECT note FROM notes").fetchall() == [("old",)]


def test_unused_connections_are_closed(impatient: Hyperdrive) -> None:
    impatient.ask(WHERE)
    assert impatient.settled()
    time.sleep(1.6)
    assert impatient.settled() == []


def test_going_back_makes_the_old_connections_current(hyperdrive: Hyperdrive) -> None:
    hyperdrive.ask(WHERE)
    hyperdrive.settled()
    hyperdrive.switch(hyperdrive.new)
    hyperdrive.switch(hyperdrive.old)
    assert [connection.former_origin for connection in hyperdrive.api.connections(hyperdrive.config_id)] == [False]


def test_a_restart_drains_the_pool(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect() as idle, hyperdrive.connect() as busy:
        _one(idle, WHERE)
        with busy.transaction():
            _one(busy, WHERE)
            hyperdrive.switch(hyperdrive.new)
            hyperdrive.restart()
            assert _one(idle, WHERE) == hyperdrive.new
            assert _one(busy, WHERE) == hyperdrive.old
        assert _one(busy, WHERE) == hyperdrive.new
    assert set(hyperdrive.settled()) == {hyperdrive.new}


def test_sessions_an_admin_ended_are_replaced_from_the_new_origin(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect() as staying, hyperdrive.connect() as writing:
        _one(staying, WHERE)
        writing.execute("BEGIN")
        writing.execute("INSERT INTO notes (note) VALUES ('lost')")
        hyperdrive.switch(hyperdrive.new)
        hyperdrive.terminate(hyperdrive.old)
        assert _one(staying, WHERE) == hyperdrive.new, "between two transactions nothing is noticed"
        with pytest.raises(psycopg.errors.AdminShutdown):
            writing.execute("COMMIT")
    assert hyperdrive.ask(WHERE) == hyperdrive.new


def test_more_clients_than_connections_take_turns(hyperdrive: Hyperdrive) -> None:
    hyperdrive.limit(5)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with hyperdrive.connect() as client:
                for _ in range(20):
                    with client.transaction():
                        client.execute("INSERT INTO notes (note) VALUES (%s)", (str(number),))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(hyperdrive.settled()) <= 5
    assert hyperdrive.ask("SELECT count(*) FROM notes") == 240


def test_origins_that_refuse_fail_the_client_with_an_error(hyperdrive: Hyperdrive) -> None:
    hyperdrive.api.refuse_origins = True
    with pytest.raises(psycopg.OperationalError, match="Failed to connect to the provided database"):
        hyperdrive.connect()
    hyperdrive.api.refuse_origins = False
    assert hyperdrive.ask(WHERE) == hyperdrive.old


def test_the_string_s_password_is_asked_for(hyperdrive: Hyperdrive) -> None:
    with pytest.raises(psycopg.OperationalError, match="Invalid password"):
        hyperdrive.connect(password="guessed")


def test_a_deleted_config_ends_its_clients(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect() as client:
        _one(client, WHERE)
        hyperdrive._ask_api("DELETE", "", {})
        with pytest.raises(psycopg.OperationalError):
            _one(client, WHERE)


# The cache

NOTES = "SELECT note FROM notes ORDER BY id"


@pytest.fixture
def hasty(make: Callable[..., Hyperdrive], tmp_path: Path) -> Iterator[Hyperdrive]:
    """One whose cache's 75 seconds are over after three."""
    with CloudflareApi(tmp_path / "hasty", token="writes", cache_speed=25) as api:
        yield make(api)


def _write(hyperdrive: Hyperdrive, note: str, database: str | None = None) -> None:
    with hyperdrive.server.connect(database or hyperdrive.old) as admin:
        admin.execute("INSERT INTO notes (note) VALUES (%s)", (note,))


def _notes(client: psycopg.Connection, **how: Any) -> list[str]:
    return [note for (note,) in client.execute(NOTES if not how.get("params") else f"{NOTES} LIMIT %s", **how)]


@pytest.mark.parametrize("how", [{}, {"params": (9,)}, {"params": (9,), "prepare": True}], ids=str)
def test_a_repeated_read_is_answered_from_the_cache_until_that_is_too_old(hasty: Hyperdrive, how: dict[str, Any]) -> None:
    """By the simple protocol, by the extended one, and with a statement that was prepared; for other clients of the config too."""
    with hasty.connect() as client, hasty.connect() as other:
        for each in (client, other):
            each.execute("SELECT note FROM notes WHERE id = %s", **{**how, "params": (0,)})  # both have a connection, and its statements
        _write(hasty, "first")
        for each in (client, other) if how.get("prepare") else ():  # a statement's first use prepares it, which is passed on
            assert _notes(each, **how) == ["first"]
        assert _notes(client, **how) == ["first"]
        kept = time.monotonic()
        _write(hasty, "second")
        assert _notes(client, **how) == _notes(other, **how) == ["first"], "a config's clients share its cache"
        time.sleep(max(0.0, 2.5 - (time.monotonic() - kept)))
        assert _notes(client, **how) == ["first"], "fresh for 60 s of its own, stale for 15 more"
        time.sleep(max(0.0, 3.1 - (time.monotonic() - kept)))
        assert _notes(client, **how) == ["first", "second"]
    given = hasty.api.given(hasty.config_id)
    assert len(given) >= 2 and all(0 <= answer.at - answer.asked < 3.1 for answer in given), "and it tells which were given again"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT note FROM notes FOR UPDATE",
        "SELECT note, current_user FROM notes",
        "SELECT note, now() FROM notes",
        "SELECT note, nextval('notes_id_seq') FROM notes",
        "SELECT note, fickle() FROM notes",
        "SELECT note FROM notes; SELECT note FROM notes",
        "WITH gone AS (DELETE FROM notes WHERE false RETURNING note) SELECT note FROM notes UNION ALL SELECT note FROM gone",
        "SELECT n_tup_ins FROM pg_stat_user_tables",
        "TABLE notes",
    ],
)
def test_only_what_reads_and_nothing_else_is_kept(hasty: Hyperdrive, query: str) -> None:
    with hasty.server.connect(hasty.old) as admin:
        admin.execute("CREATE FUNCTION fickle() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'")
    with hasty.connect() as client:
        _write(hasty, "first")
        rows = len(client.execute(query).fetchall())
        _write(hasty, "second")
        asked_again = len(client.execute(query).fetchall())
        if query == "TABLE notes":  # the one that is kept: the others are not for a reason of their own
            assert (rows, asked_again) == (1, 1)
        elif "pg_stat" not in query:
            assert (rows, asked_again) == (1, 2)
        assert hasty.api.cached(hasty.config_id) == (1 if query == "TABLE notes" else 0)


def test_a_transaction_and_a_session_with_settings_read_for_themselves(hasty: Hyperdrive) -> None:
    with hasty.connect() as client:
        assert _notes(client) == []
        _write(hasty, "first")
        with client.transaction():
            assert _notes(client) == ["first"]
        assert _notes(client) == [], "outside of it the kept answer is given"
        client.execute("SET search_path = public")
        assert _notes(client) == ["first"]


def test_an_error_and_a_read_with_caching_off_are_not_kept(hasty: Hyperdrive) -> None:
    with hasty.connect() as client:
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                client.execute("SELECT 1/0")
        hasty._ask_api("PATCH", "", {"caching": {"disabled": True}})
        assert _notes(client) == []
        _write(hasty, "first")
        assert _notes(client) == ["first"]
        assert hasty.api.cached(hasty.config_id) == 0


def test_what_was_kept_is_given_after_caching_was_switched_off_and_the_origin_changed_until_its_age(hasty: Hyperdrive) -> None:
    """What the cut-over has to wait for: neither purges anything."""
    with hasty.connect() as client:
        _write(hasty, "old")
        _write(hasty, "new", hasty.new)
        assert _notes(client) == ["old"]
        kept = time.monotonic()
        hasty._ask_api("PATCH", "", {"caching": {"disabled": True}})
        hasty.switch(hasty.new)
        hasty.restart()
        assert _notes(client) == ["old"]
        time.sleep(max(0.0, 3.1 - (time.monotonic() - kept)))
        assert _notes(client) == ["new"]


# The protocol


def test_everything_passes_through(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect(prepare_threshold=1) as client:
        large = "x" * 3_000_000
        assert client.execute("SELECT %s::text", (large,)).fetchone() == (large,)
        with client.cursor() as cursor, cursor.copy("COPY notes (note) FROM STDIN") as copy:
            for number in range(2_000):
                copy.write_row((f"line {number}\n",))
        with client.cursor() as cursor, cursor.copy("COPY notes (note) TO STDOUT") as copy:
            assert sum(1 for _ in copy.rows()) == 2_000
        with client.pipeline():
            cursors = [client.execute("SELECT %s::int", (number,)) for number in range(50)]
            assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(50)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute("SELECT 1/0")
        assert _one(client, "SELECT 1") == 1


def test_a_copy_by_the_extended_protocol_leaves_the_connection_usable(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect() as client:
        backend = _one(client, WHO)
        copy = b"COPY notes (note) FROM STDIN"
        client.pgconn.send_query_params(copy, None)
        assert _statuses(client.pgconn) == [psycopg.pq.ExecStatus.COPY_IN]
        client.pgconn.put_copy_data(b"one\ntwo\n")
        client.pgconn.put_copy_end()
        assert _statuses(client.pgconn) == [psycopg.pq.ExecStatus.COMMAND_OK]
        client.pgconn.send_query_params(copy, None)
        assert _statuses(client.pgconn) == [psycopg.pq.ExecStatus.COPY_IN]
        client.pgconn.put_copy_end(b"given up")
        assert _statuses(client.pgconn) == [psycopg.pq.ExecStatus.FATAL_ERROR]
        assert _one(client, "SELECT count(*) FROM notes") == 2
    hyperdrive.settled()
    assert hyperdrive.ask(WHO) == backend


def _statuses(connection: psycopg.pq.abc.PGconn) -> list[int]:
    """Of the results up to the end, or to where a COPY begins. Waits in Python: libpq's own wait would hold the GIL,
    without which the pooler, a thread of this process, cannot answer."""
    statuses: list[int] = []
    connection.flush()
    while True:
        while connection.is_busy():
            select.select([connection.socket], [], [], 10)
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            return statuses
        statuses.append(result.status)
        if result.status == psycopg.pq.ExecStatus.COPY_IN:
            return statuses


def test_whatever_befalls_the_pool_an_acknowledged_write_is_in_one_database_and_once(hyperdrive: Hyperdrive) -> None:
    """Clients write while the origin is changed, the pool restarted, sessions ended, and clients come and go."""
    hyperdrive.limit(5)
    acknowledged: list[str] = []
    unexpected: list[BaseException] = []
    stop = threading.Event()

    def write(number: int) -> None:
        count = 0
        while not stop.is_set():
            try:
                with hyperdrive.connect(prepare_threshold=2) as client:
                    for _ in range(17):
                        count += 1
                        note = f"{number}-{count}"
                        if count % 3:
                            client.execute("INSERT INTO notes (note) VALUES (%s)", (note,))
                        else:
                            with client.transaction():
                                client.execute("INSERT INTO notes (note) VALUES (%s)", (note,))
                                client.execute("SELECT 1")
                        acknowledged.append(note)
            except psycopg.OperationalError:
                continue  # the session under it was ended: whether the write was done, this client cannot know
            except BaseException as error:
                unexpected.append(error)
                return

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for turn in range(6):
        time.sleep(0.4)
        hyperdrive.switch(hyperdrive.new if turn % 2 == 0 else hyperdrive.old)
        (hyperdrive.restart if turn % 3 else lambda: hyperdrive.terminate(hyperdrive.old))()
    stop.set()
    for writer in writers:
        writer.join(timeout=30)
        assert not writer.is_alive()
    assert unexpected == []
    found: list[str] = []
    for database in (hyperdrive.old, hyperdrive.new):
        with hyperdrive.server.connect(database) as admin:
            notes = [note for (note,) in admin.execute("SELECT note FROM notes").fetchall()]
        assert notes, f"nothing was written to {database}"
        found += notes
    assert len(found) == len(set(found))
    assert len(acknowledged) > 100
    assert set(acknowledged) <= set(found)


def test_prepared_statements_follow_their_client_to_another_connection(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect(prepare_threshold=0) as client:
        question = "SELECT current_database(), %s::int"
        assert client.execute(question, (1,)).fetchone() == (hyperdrive.old, 1)
        hyperdrive.switch(hyperdrive.new)
        hyperdrive.restart()
        assert client.execute(question, (2,)).fetchone() == (hyperdrive.new, 2)
        assert _one(client, "SELECT count(*) FROM pg_prepared_statements") >= 1


def test_a_request_can_be_cancelled(hyperdrive: Hyperdrive) -> None:
    with hyperdrive.connect() as client, concurrent.futures.ThreadPoolExecutor() as executor:
        sleeping = executor.submit(client.execute, "SELECT pg_sleep(30)")
        time.sleep(0.3)
        client.cancel_safe(timeout=5)
        with pytest.raises(psycopg.errors.QueryCanceled):
            sleeping.result(timeout=10)
        assert _one(client, "SELECT 1") == 1


def test_a_client_that_vanishes_takes_its_connection_with_it(hyperdrive: Hyperdrive) -> None:
    client = hyperdrive.connect()
    backend = _one(client, WHO)
    client.pgconn.send_query(b"SELECT pg_sleep(1)")
    client.pgconn.flush()
    time.sleep(0.2)
    client.close()
    hyperdrive.settled()
    assert hyperdrive.ask(WHO) != backend


@pytest.mark.node
def test_the_application_s_driver_works_and_follows_a_switch(hyperdrive: Hyperdrive, node: Callable[..., str], tmp_path: Path) -> None:
    script = """
        const { default: postgres } = await import("postgres");
        const sql = postgres(process.env.DATABASE_URL, { max: 5 });
        const [{ where }] = await sql`select current_database() as where`;
        await sql.begin(async (tx) => {
          await tx`insert into notes (note) values (${"caf\\u00e9"})`;
          await tx`insert into notes (note) values (${null})`;
        });
        const all = await Promise.all([1, 2, 3, 4, 5, 6, 7].map((n) => sql`select ${n}::int as n`));
        const notes = await sql`select note from notes order by id`;
        console.log(JSON.stringify({ where, sum: all.flat().reduce((s, r) => s + r.n, 0), notes }));
        await sql.end();
    """
    url = hyperdrive.api.connection_string(hyperdrive.config_id)
    notes = [{"note": "caf\u00e9"}, {"note": None}]
    printed = json.loads(node("node", "--input-type=module", "-e", script, url=url))
    assert printed == {"where": hyperdrive.old, "sum": 28, "notes": notes}
    hyperdrive.switch(hyperdrive.new)
    hyperdrive.restart()
    printed = json.loads(node("node", "--input-type=module", "-e", script, url=url))
    assert printed == {"where": hyperdrive.new, "sum": 28, "notes": notes}


def test_what_was_sent_in_a_transaction_that_died_reaches_no_other_session(hyperdrive: Hyperdrive) -> None:
    """Its first statement was lost with its connection: the next one must not run alone, and be committed, on another."""
    for _ in range(3):
        with pytest.raises(psycopg.Error), hyperdrive.connect() as client:
            client.execute("BEGIN")
            # The session's last words are read after the first pause; its end and the client's statement together after the second.
            hyperdrive.api.stall(0.4, 0.4)
            hyperdrive.terminate(hyperdrive.old)
            time.sleep(0.5)
            client.execute("INSERT INTO notes (note) VALUES ('alone')")
        hyperdrive.settled()
        with hyperdrive.server.connect(hyperdrive.old) as admin:
            assert _one(admin, "SELECT count(*) FROM notes") == 0
