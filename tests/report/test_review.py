"""What a reviewer reads at preview, on real databases: the same text in a terminal and in a pull request's comment."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clarity_infra import hyperdrive
from clarity_infra.errors import Blocked, Refused, Unreachable
from clarity_infra.review import review
from clarity_infra.texts import WIDTH
from tests.report.conftest import ROWS, Environment


@pytest.fixture(scope="module")
def environment(new_environment: Callable[[], Environment]) -> Environment:
    """One that the tests of this module bring from stage to stage, in their order."""
    return new_environment()


@pytest.fixture
def unresolved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose resolver answers for no name until the test is over, as one does whose name server is out of reach."""
    over, resolve = threading.Event(), socket.getaddrinfo

    def wait(host: Any, *arguments: Any, **named: Any) -> Any:
        if re.fullmatch(r"[0-9.:]+|localhost", str(host)):
            return resolve(host, *arguments, **named)
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    yield
    over.set()


def text_of(environment: Environment, stage: str, **more: Any) -> str:
    """The review's text, which must be fit to be read: no line too long, nothing but the stages at its head, no password."""
    found = review(environment.settings(stage, **more), preview=True)
    assert found.warnings == ()
    assert [line for line in found.lines if len(line) > WIDTH] == []
    assert found.lines[0].startswith("stage: ")
    text = "\n".join(found.lines)
    assert environment.settings().source.password not in text
    return re.sub(r"\n +", " ", text)


def line_of(text: str, label: str) -> str:
    """What stands behind a label."""
    [found] = re.findall(rf"^{label}: +(.*)$", text, re.MULTILINE)
    return str(found)


class TestFromStageToStage:
    """In the order of a move; each test leaves the environment where the next one needs it."""

    def test_the_first_stage_shows_what_is_there_and_what_is_to_come(self, environment: Environment) -> None:
        text = text_of(environment, "provision")
        assert text.startswith("stage: nothing yet -> provision\n")
        assert "no row is read or moved" in line_of(text, "this run")
        assert line_of(text, "to").endswith("(does not exist yet)")
        assert line_of(text, "migrations") == "to be applied at the cut-over: 0003_add_agent_support"
        assert "nothing in this run is irreversible" in line_of(text, "to undo")
        assert line_of(text, "blockers") == "none"
        assert "public.request_status" in line_of(text, "types")
        assert "public.feature_requests_id_seq" in line_of(text, "sequences")

    def test_each_table_has_rows_size_and_key_and_all_have_a_sum(self, environment: Environment) -> None:
        lines = review(environment.settings("provision"), preview=True).lines
        rows = {line.split()[0]: line.split()[1:] for line in lines if re.match(r"(public|drizzle|all)\b", line)}
        assert rows["public.feature_requests"][0] == f"~{ROWS // 4}"
        assert rows["public.feature_requests"][-1] == "id"
        assert re.fullmatch(r"[\d.]+", rows["public.feature_requests"][1])
        total = sum(int(cells[0].lstrip("~").replace(",", "")) for name, cells in rows.items() if name != "all")
        assert rows["all"][:2] == ["4", f"~{total:,}"]

    def test_a_copy_says_how_long_it_takes_and_that_nobody_waits(self, environment: Environment) -> None:
        environment.provision()
        text = text_of(environment, "copy")
        assert text.startswith("stage: provision -> copy\n")
        assert line_of(text, "this run").startswith("copies 4 tables into database")
        assert re.match(r"[\d.]+ to [\d.]+ s \(by rates measured elsewhere", line_of(text, "time"))
        assert line_of(text, "writers wait").startswith("none")

    def test_where_nothing_moves_it_says_so(self, environment: Environment) -> None:
        environment.copy()
        text = text_of(environment, "copy")
        assert text.startswith("stage: copy, and stays there\n")
        assert line_of(text, "this run") == "moves nothing"
        assert "verified copy:" in line_of(text, "now")

    def test_another_copy_is_judged_by_the_one_before(self, environment: Environment) -> None:
        text = text_of(environment, "copy", copyRevision=2)
        assert line_of(text, "this run").startswith("throws the copy away and makes another")
        assert line_of(text, "time").endswith("(by what the copy took here)")

    def test_a_cut_over_names_migrations_the_wait_and_the_switch(self, environment: Environment) -> None:
        text = text_of(environment, "cutover")
        run = line_of(text, "this run")
        assert "3. applies 1 migration: 0003_add_agent_support" in run
        assert "by hand" in run
        assert line_of(text, "writers wait").startswith("0.1 to 1 s at the switch")
        assert "within 60 s is given up, with nothing changed" in line_of(text, "writers wait")
        assert line_of(text, "writers wait").endswith("until the application is started anew with the new URL")  # here is no Hyperdrive
        assert "carried back" in line_of(text, "to undo")
        assert "NONE" not in text

    def test_settings_that_the_application_s_sessions_would_miss_are_told_with_the_statement(self, environment: Environment) -> None:
        """A `timestamp` that now() fills would be another hour's from the cut-over on."""
        environment.on(environment.source, f"ALTER DATABASE \"{environment.source}\" SET TimeZone = 'Asia/Kolkata'")
        try:
            for settings in (environment.settings("copy", copyRevision=2), environment.settings("cutover")):
                [warning] = review(settings, preview=True).warnings
                assert "the move does not take those" in warning and "Asia/Kolkata' and would be the default" in warning
            environment.on(environment.source, "ALTER DATABASE" + warning.split("ALTER DATABASE")[-1])
            assert review(environment.settings("cutover"), preview=True).warnings == ()
        finally:
            for database in (environment.source, environment.target):
                environment.on(environment.source, f'ALTER DATABASE "{database}" RESET ALL')

    def test_a_table_without_a_key_is_named_with_the_wait_it_costs(self, environment: Environment) -> None:
        environment.on(environment.source, "ALTER TABLE request_messages DROP CONSTRAINT request_messages_pkey")
        try:
            text = text_of(environment, "cutover")
        finally:
            environment.on(environment.source, "ALTER TABLE request_messages ADD PRIMARY KEY (id)")
        assert "as public.request_messages without a key must be compared whole under the lock" in line_of(text, "writers wait")
        assert re.search(r"public\.request_messages .* NONE$", text.split(" all 4")[0].replace(" public", "\npublic"), re.MULTILINE)

    def test_a_source_that_is_no_longer_as_it_was_copied_is_refused_now_not_at_the_cut_over(self, environment: Environment) -> None:
        environment.on(environment.source, "ALTER TABLE app_config ADD COLUMN since integer")
        try:
            with pytest.raises(Refused, match=r"(?s)changed since they were copied: public\.app_config\.since.*raise copyRevision"):
                text_of(environment, "cutover")
        finally:
            environment.on(environment.source, "ALTER TABLE app_config DROP COLUMN since")

    def test_the_way_back_lists_what_is_carried_and_what_has_no_place(self, environment: Environment) -> None:
        environment.cut_over()
        environment.on(
            environment.target,
            "INSERT INTO feature_requests (request_id, origin, repo, description, agent_model) VALUES ('later', 'web', 'a/b', 'c', 'opus')",
            "UPDATE app_config SET config = '{}'",
        )
        text = text_of(environment, "copy")
        assert text.startswith("stage: cutover -> copy\n")
        carried = line_of(text, "carried back")
        assert "public.feature_requests: 1 inserted, 0 changed, 0 deleted" in carried
        assert "public.app_config: 0 inserted, 3 changed, 0 deleted" in carried
        assert "1 row(s) with a value in column agent_model" in line_of(text, "no place there")
        assert line_of(text, "that").endswith(f"CLARITY_DISCARD_WRITES={environment.target}")
        assert "is LOST" in line_of(text_of(environment, "copy", discardWrites=environment.target), "that")

    def test_settings_of_one_login_that_the_next_would_miss_are_told(self, environment: Environment) -> None:
        rotated = environment.settings("cutover", passwordRevision=2)
        assert review(rotated, preview=True).warnings == ()
        with environment.server.connect() as root:
            root.execute(f"ALTER ROLE {environment.user} SET search_path = app, public".encode())
            [warning] = review(rotated, preview=True).warnings
            root.execute(f"ALTER ROLE {environment.user} RESET ALL".encode())
        assert "the new password does not take those" in warning and "search_path is 'app, public'" in warning

    def test_where_hyperdrive_was_sent_back_by_hand_there_is_something_to_do(
        self, environment: Environment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And each time anew: what is done about it leaves its mark, what is done by hand has the config's own time."""
        marks = set()
        for modified in ("then", "later"):
            config = {"id": "c0ffee", "modified_on": modified, "origin": {"database": environment.source, "user": "app", "host": "1.1.1.1"}}
            monkeypatch.setattr(hyperdrive, "look", lambda *_, config=config, **__: config)
            found = review(environment.settings("cutover", originPassword="x"), preview=True)
            assert (found.side, found.live) == ("unsent", True)
            assert any("Hyperdrive sends the application to the old database" in text for text in found.warnings)
            marks.add(found.mark)
        assert len(marks) == 2
        config["origin"] = {**config["origin"], "database": environment.target, "user": environment.user}  # type: ignore[dict-item]
        assert review(environment.settings("cutover"), preview=True).side == "target"
        config["origin"] = {**config["origin"], "database": "a third"}  # type: ignore[dict-item]
        assert review(environment.settings("cutover", originPassword="x"), preview=True).side == "target"

    def test_a_clean_up_says_what_is_irreversible(self, environment: Environment) -> None:
        with pytest.raises(Refused, match="the monitoring period lasts until"):
            text_of(environment, "cleanup", backupFolder="kept")
        text = text_of(environment, "cleanup", backupFolder="kept", monitoringHours=0)
        assert line_of(text, "to undo").startswith("IRREVERSIBLE but for the backup")
        assert "backs the old tables up into kept" in line_of(text, "this run")


def test_what_stands_in_the_way_comes_with_its_remedy_and_with_everything_else(new_environment: Callable[[], Environment]) -> None:
    environment = new_environment()
    environment.on(
        environment.source,
        "CREATE TABLE stays (id int PRIMARY KEY, request int REFERENCES feature_requests (id))",
        "CREATE VIEW looks AS SELECT id FROM app_config",
    )
    with pytest.raises(Blocked) as caught:
        review(environment.settings("provision"), preview=True)
    text = re.sub(r"\n +", " ", "\n".join(caught.value.seen))
    assert len(caught.value.blockers) == 2
    assert line_of(text, "blockers") == "2 objects to deal with first"
    assert len(re.findall(r"^BLOCKER: ", text, re.MULTILINE)) == len(re.findall(r"^what to do: ", text, re.MULTILINE)) == 2
    assert "public.request_messages" in text
    assert "deal with each" in str(caught.value)


def test_rows_that_nobody_counted_are_unknown_and_so_is_the_time(new_environment: Callable[[], Environment]) -> None:
    environment = new_environment()
    environment.on(environment.source, "CREATE TABLE fresh AS SELECT g AS id FROM generate_series(1, 1000) g")
    tables = '["fresh", "app_config"]'
    text = text_of(environment, "provision", tables=tables)
    assert re.search(r"public\.fresh +unknown", text)
    assert "ANALYZE" in line_of(text, "time")
    environment.on(environment.source, "ANALYZE fresh")
    assert re.search(r"public\.fresh +~1,000", text_of(environment, "provision", tables=tables))


class TestBesideAnotherStack:
    """Two environments on one server."""

    @pytest.fixture(scope="class")
    @classmethod
    def first(cls, new_environment: Callable[[], Environment]) -> Environment:
        environment = new_environment()
        environment.provision()
        environment.copy()
        return environment

    def test_a_database_that_another_stack_fills_is_refused(self, first: Environment) -> None:
        thief = first.beside("thief")
        thief.target, thief.user = first.target, first.user
        for stage in ("provision", "copy", "cutover"):  # the last is what a stack finds that was renamed after its copy
            with pytest.raises(Refused, match='holds the tables of another stack, "tried"') as refused:
                review(thief.settings(stage, adoptExisting="true"), preview=True)
            assert "pulumi stack rename tried" in str(refused.value)
            assert "pulumi config set clarity-infra:database <name>" in str(refused.value)

    def test_a_source_that_is_no_longer_live_is_told_and_not_cut_over_again(self, first: Environment) -> None:
        second = first.beside("mirror")
        try:
            second.provision()
            assert review(second.settings("copy"), preview=True).warnings == ()
            first.cut_over()
            [warning] = review(second.settings("copy"), preview=True).warnings
            assert 'are not live: stack "tried" moved the application' in warning
            second.copy()
            with pytest.raises(Refused, match='are not live: stack "tried"'):
                review(second.settings("cutover"), preview=True)
            assert review(first.settings("cutover"), preview=True).warnings == ()
        finally:
            second.remove_target()


class TestOutOfReach:
    """A preview from where the database cannot be seen: the rest stands, with one warning, soon."""

    @staticmethod
    @contextlib.contextmanager
    def black_hole() -> Iterator[int]:
        """A port that takes connections and never says a word."""
        with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
            yield int(listener.getsockname()[1])

    @staticmethod
    def url(port: int) -> str:
        return f"postgresql://admin:pw-SECRET@127.0.0.1:{port}/postgres?sslmode=disable"

    def test_a_server_that_never_answers(self, environment: Environment) -> None:
        with self.black_hole() as port:
            started = time.monotonic()
            found = review(environment.settings("cutover", url=self.url(port)), preview=True)
            assert time.monotonic() - started < 10
        [warning] = found.warnings
        assert "cannot be reached" in warning
        assert "The rest of this preview stands" in warning
        assert "pw-SECRET" not in warning
        assert (found.lines, found.blind, found.stage) == ((), True, "")

    def test_source_and_target_that_both_never_answer(self, environment: Environment) -> None:
        with self.black_hole() as port, self.black_hole() as other:
            started = time.monotonic()
            found = review(environment.settings("copy", url=self.url(port), targetDatabaseUrl=self.url(other)), preview=True)
            assert time.monotonic() - started < 10
        assert len(found.warnings) == 1

    def test_names_that_no_resolver_answers_for(self, environment: Environment, unresolved: None) -> None:
        """Of Cloudflare and of the database, one after the other: a resolver's patience counts for each, and is longer than ours."""
        cloudflare = {"cloudflareAccountId": "a" * 32, "hyperdriveId": "b" * 32, "cloudflareApiToken": "token"}
        url = "postgresql://admin:pw-SECRET@db.example.com/postgres"
        started = time.monotonic()
        found = review(environment.settings("cutover", url=url, databaseUrl=url, **cloudflare), preview=True)
        assert time.monotonic() - started < 10
        config, database = found.warnings
        assert "Cloudflare's API cannot be reached" in config
        assert "db.example.com:5432 cannot be reached: no answer within 5 s" in database

    def test_a_host_with_many_addresses_of_which_none_answers(self, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
        hosts = [f"127.0.0.{number}" for number in range(1, 7)]
        with self.black_hole() as port, contextlib.ExitStack() as stack:
            for host in hosts[1:]:
                stack.enter_context(socket.create_server((host, port), backlog=16))
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            started = time.monotonic()
            url = f"postgresql://admin:pw-SECRET@db.example.com:{port}/postgres"
            assert review(environment.settings("cutover", url=url), preview=True).blind
            assert time.monotonic() - started < 10

    def test_a_port_nobody_listens_on(self, environment: Environment) -> None:
        with self.black_hole() as port:
            pass
        started = time.monotonic()
        found = review(environment.settings("provision", url=self.url(port)), preview=True)
        assert time.monotonic() - started < 3
        assert len(found.warnings) == 1

    def test_on_up_it_is_an_error(self, environment: Environment) -> None:
        with self.black_hole() as port:
            started = time.monotonic()
            with pytest.raises(Unreachable):
                review(environment.settings("provision", url=self.url(port)), preview=False)
            assert time.monotonic() - started < 15
