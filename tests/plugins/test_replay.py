"""The stand-ins answer as the real plugins did: every recorded call, in order, against a real server."""

from __future__ import annotations

from collections import Counter
from typing import Any

import psycopg
import pytest

from sandbox.postgres import Server
from tests.plugins import replay
from tests.plugins.fake_cloudflare import FakeCloudflare
from tests.plugins.replay import API, PORT, Replay, Served

RUNS = ("superuser", "managed", "scram", "tls", "adopt")
ADOPTED: dict[str, Any] = {
    "id": "d1f7e6c83e794d87ac42ba7aaeba168c",
    "name": "clarity-db",
    "origin": {"database": "postgres", "host": "127.0.0.1", "scheme": "postgres", "user": "postgres"},
    "caching": {"disabled": False},
    "origin_connection_limit": 60,
    "created_on": "2026-11-22T15:52:38Z",
    "modified_on": "2026-11-22T15:52:38Z",
}


@pytest.fixture
def player(recorded_server: Server, recorded_names: None, api: FakeCloudflare, served: Served) -> Replay:
    port = recorded_server.port
    api.configs[ADOPTED["id"]] = {**ADOPTED, "origin": {**ADOPTED["origin"], "port": port}}
    return Replay(served.clients, api, {PORT: port, str(PORT): str(port), API: api.url})


@pytest.mark.parametrize("run", RUNS)
def test_a_recorded_run_is_answered_as_the_real_plugins_answered_it(run: str, player: Replay, recorded_server: Server) -> None:
    methods: Counter[str] = Counter()
    for step in replay.steps(run):
        if step == "2-refresh" and run in ("superuser", "managed"):
            make_table_as_user(recorded_server, player)
        for call in replay.calls(run, step):
            found = player.differences(call)
            assert not found, "\n".join(found)
            methods[call.method] += 1
        if step == "1-up" and run in ("superuser", "managed"):
            assert_provisioned(recorded_server, player)
    assert methods["Check"] >= 2 and methods["Diff"] >= 2
    with recorded_server.connect() as connection:
        left = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^(clarity|scram)' UNION SELECT datname FROM pg_database WHERE datname = 'clarity'"
        ).fetchall()
    assert not left


def test_every_recorded_call_is_replayed() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in replay.RECORDINGS.glob("*/*.jsonl"))
    replayed = sum(1 for run in RUNS for step in replay.steps(run) for _ in replay.calls(run, step))
    interrupted = 1  # a Configure at the end of `adopt`, whose answer the engine did not wait for
    assert replayed == lines - interrupted == 996


@pytest.mark.parametrize("method", ["CheckConfig", "Configure", "Check", "Diff", "Create", "Update"])
@pytest.mark.parametrize("plugin", ["random", "postgresql", "cloudflare"])
def test_an_altered_expectation_is_noticed(plugin: str, method: str, player: Replay) -> None:
    """Wherever a recorded answer is altered, the replay says so; only calls that touch nothing are used."""
    recorded = [call for step in ("1-preview", "1-noop", "3-preview") for call in replay.calls("superuser", step)]
    configures = [call for call in recorded if call.method == "Configure" and call.plugin == plugin]
    assert not player.differences(configures[0])
    chosen = [
        call for call in recorded if (call.plugin, call.method) == (plugin, method) and (call.is_preview or method not in ("Create", "Update"))
    ]
    if not chosen:
        assert (plugin, method) == ("random", "Update")  # nothing of random is ever updated
        return
    player.mapped.update({"<password-2>": "p" * 43, "<bcrypt>": "b" * 60})
    noticed = 0
    for call in chosen[:4]:
        assert not player.differences(call)
        for response in replay.altered(call.response):
            assert player.differences(replay.Call("altered", plugin, method, call.request, response)), response
            noticed += 1
    assert noticed


def make_table_as_user(server: Server, player: Replay) -> None:
    """What the recorded runs did by hand between two steps."""
    with login(server, player) as connection:
        connection.execute("CREATE TABLE public.by_hand (id serial PRIMARY KEY)")


def assert_provisioned(server: Server, player: Replay) -> None:
    with server.connect("clarity") as connection:
        row: Any = connection.execute(
            "SELECT has_database_privilege('clarity_rw', 'clarity', 'CONNECT'),"
            " has_schema_privilege('clarity_user', 'public', 'CREATE'),"
            " (SELECT array_agg(nspowner::regrole::text) FROM pg_namespace WHERE nspname = 'drizzle'),"
            " (SELECT count(*) FROM pg_default_acl)"
        ).fetchone()
    assert list(tuple(row.values()) if isinstance(row, dict) else row) == [True, True, ["clarity_user"], 4]
    with login(server, player) as user:
        assert user.execute("SELECT current_user").fetchone() == ("clarity_user",)


def login(server: Server, player: Replay) -> psycopg.Connection[tuple[Any, ...]]:
    """A session of `clarity_user` with the password that the stand-in for random made."""
    return psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        dbname="clarity",
        user="clarity_user",
        password=player.mapped["<password-2>"],
        sslmode="disable",
    )
