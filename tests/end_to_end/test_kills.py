"""Killed and interrupted at any time: the next run converges, and until the switch the application writes on as if nothing had happened.

A client writes through Hyperdrive all the time; at the end of each test every write that was acknowledged is on the live side. Runs
are held at the point in question by what a real environment has too: a transaction that keeps a lock, an API that does not answer.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from sandbox.engine import EngineError, Run
from sandbox.stack import SOURCE_DATABASE, Sandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER, connection_string, hyperdrive
from tests.end_to_end.writer import Writer

# So many rows that a copy takes seconds.
ROWS = 10_000
WAITS_FOR_LOCK = "the tables are held by"
FENCED = "the source takes no more writes"
# What the engine says of a program that died, and of a language host that did.
PROGRAM_DIED = "an unhandled error occurred"
HOST_DIED = "error reading from server: EOF"
# Long enough to be killed in; the origin is as it was afterwards.
PUT_HANGS = {"kind": "hang", "seconds": 4.0, "methods": ["PUT"]}

NewSandbox = Callable[..., Sandbox]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox) -> Sandbox:
    """At stage provision; its tests go on from where the one before left it, and bring it where they need it."""
    made = new_sandbox(rows=ROWS)
    made.up("provision")
    return made


@pytest.fixture
def writer(sandbox: Sandbox) -> Iterator[Writer]:
    """A client of Hyperdrive that writes during the whole test; afterwards no acknowledged write is missing on the live side."""
    with Writer(connection_string(sandbox), f"kill-{next(_numbers)}") as writing:
        yield writing
    live = hyperdrive(sandbox)["origin"]["database"]
    there = {row[0] for row in sandbox.psql(live, "SELECT request_id FROM feature_requests WHERE request_id LIKE 'kill-%'")}
    lost = [request for request in writing.acknowledged if request not in there]
    assert lost == []


@pytest.fixture
def orphans(sandbox: Sandbox) -> Iterator[None]:
    """Ends, after the test, what a killed engine left behind: by its ID, as the sandbox knows its own processes."""
    yield
    end_orphans(sandbox)


def end_orphans(sandbox: Sandbox) -> None:
    for pid in sandbox.engine_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def providers(sandbox: Sandbox) -> list[int]:
    """The processes that run the dynamic providers."""
    return [pid for pid, command in sandbox.engine_processes().items() if "pulumi.dynamic" in command]


def kill_provider(sandbox: Sandbox) -> None:
    found = providers(sandbox)
    assert found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_program(sandbox: Sandbox, *, host: bool = False) -> None:
    """Kills the process that runs `__main__.py`, or the language host, which started it."""
    runs_program = ("--run-program", "pulumi-language-python-exec")
    found = [pid for pid, command in language_processes(sandbox).items() if host is not any(word in command for word in runs_program)]
    assert found
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def program_stopped(sandbox: Sandbox) -> Iterator[None]:
    """Neither the program nor its language host does anything for the time of a `with`; the engine and the providers are not told."""
    found = list(language_processes(sandbox))
    assert len(found) > 1
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def language_processes(sandbox: Sandbox) -> dict[int, str]:
    """The language host, ours or Pulumi's own, and what runs the program for it."""
    names = ("sandbox.language_host", "pulumi-language-python")
    return {pid: command for pid, command in sandbox.engine_processes().items() if any(name in command for name in names)}


def failed(run: Run) -> str:
    """The output of a run that ended with an error."""
    with pytest.raises(EngineError) as raised:
        run.wait()
    return raised.value.result.output


def interrupt_twice(run: Run) -> None:
    """Ctrl-C, and once more from somebody who does not want to wait."""
    os.kill(run.pid, signal.SIGINT)
    time.sleep(0.5)
    os.kill(run.pid, signal.SIGINT)
    failed(run)


@contextlib.contextmanager
def afresh(sandbox: Sandbox) -> Iterator[Run]:
    """A run under way that copies: the first one, or another revision."""
    if sandbox.reached() == "copy":
        sandbox.configure(copyRevision=int(sandbox.configured("copyRevision") or 1) + 1)
    with sandbox.started("up", stage="copy") as run:
        yield run


@contextlib.contextmanager
def held(sandbox: Sandbox) -> Iterator[psycopg.Connection[Any]]:
    """A session of the application that has written a row and does not end its transaction."""
    with psycopg.connect(sandbox.application_url) as connection:
        connection.execute("UPDATE app_config SET updated_at = now()")
        yield connection
        connection.rollback()


def sessions(sandbox: Sandbox) -> list[str]:
    """What sessions of the program, its orphans among them, are in the databases."""
    return [
        str(row[0])
        for row in sandbox.psql(SOURCE_DATABASE, "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'clarity-infra%'")
    ]


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def assert_source_is_live(sandbox: Sandbox, writer: Writer) -> None:
    """The application writes on the source, and nothing that watches or refuses its writes is left there."""
    assert hyperdrive(sandbox)["origin"]["database"] == SOURCE_DATABASE
    assert triggers_in_force(sandbox, SOURCE_DATABASE) == []
    writer.wait_for(5)
    written = sandbox.psql(SOURCE_DATABASE, f"SELECT count(*) FROM feature_requests WHERE request_id = '{writer.acknowledged[-1]}'")
    assert written == [(1,)]


def assert_target_is_live(sandbox: Sandbox, writer: Writer) -> None:
    """The application writes to the target, under the new user, and the source refuses every write."""
    assert hyperdrive(sandbox)["origin"]["database"] == TARGET_DATABASE
    assert hyperdrive(sandbox)["origin"]["user"] == USER
    assert f"/{TARGET_DATABASE}" in sandbox.database_url
    assert triggers_in_force(sandbox, TARGET_DATABASE) == []
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="clarity"):
        sandbox.psql(SOURCE_DATABASE, "UPDATE app_config SET updated_at = now()", url=sandbox.application_url)
    writer.wait_for(5)
    written = sandbox.psql(TARGET_DATABASE, f"SELECT count(*) FROM feature_requests WHERE request_id = '{writer.acknowledged[-1]}'")
    assert written == [(1,)]


def triggers_in_force(sandbox: Sandbox, database: str) -> list[tuple[Any, ...]]:
    return sandbox.psql(database, "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'clarity_infra%' AND tgenabled <> 'D'")


def assert_copied_once(sandbox: Sandbox) -> None:
    """The target holds one whole copy that its journal knows, and nothing of an earlier try."""
    steps = sandbox.psql(TARGET_DATABASE, "SELECT step FROM clarity_infra.clarity_infra_journal ORDER BY id DESC LIMIT 1")
    assert steps == [("copied",)]
    tables = sandbox.psql(TARGET_DATABASE, "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
    assert tables == [(3,)]
    assert sandbox.outputs()["evidence"]["copy"]["tables"]


def bring(sandbox: Sandbox, stage: str) -> None:
    """The stack at a stage, whatever it takes: climbs, or goes back by one."""
    if sandbox.reached() == "cutover" and stage == "copy":
        sandbox.up("copy")
    else:
        sandbox.climb(stage)
    assert sandbox.reached() == stage


@pytest.mark.slow
@pytest.mark.usefixtures("orphans")
class TestDuringTheCopy:
    def test_the_provider_is_killed(self, sandbox: Sandbox, writer: Writer) -> None:
        with afresh(sandbox) as run:
            run.wait_for("Copying")
            kill_provider(sandbox)
            output = failed(run)
        assert "Traceback" not in output
        assert_source_is_live(sandbox, writer)
        sandbox.up("copy")
        assert_copied_once(sandbox)
        assert_source_is_live(sandbox, writer)

    def test_the_engine_is_killed(self, sandbox: Sandbox, writer: Writer) -> None:
        """Its provider goes on to the end. A run beside it changes nothing; the one after it takes over what was done whole."""
        with afresh(sandbox) as run:
            run.wait_for("Copying")
            run.kill()
        [orphan] = providers(sandbox)
        os.kill(orphan, signal.SIGSTOP)  # as slow as a big copy
        try:
            with pytest.raises(EngineError) as raised:
                sandbox.up("copy")
            assert "Another run of stack sandbox is at work" in raised.value.result.output
            assert "This run changed nothing" in raised.value.result.output
            assert_source_is_live(sandbox, writer)
        finally:
            os.kill(orphan, signal.SIGCONT)
        wait_until(lambda: not sessions(sandbox))
        result = sandbox.up("copy")
        assert "the copy in the target is whole and verified: nothing to copy" in result.output
        assert_copied_once(sandbox)
        assert_source_is_live(sandbox, writer)

    def test_the_program_is_killed(self, sandbox: Sandbox, writer: Writer) -> None:
        """The engine lets the step that is under way come to its end, and begins no other."""
        with afresh(sandbox) as run:
            run.wait_for("Copying")
            kill_program(sandbox)
            output = failed(run)
        assert PROGRAM_DIED in output
        assert "Traceback" not in output
        assert_source_is_live(sandbox, writer)
        result = sandbox.up("copy")
        assert "Copying" not in result.output
        assert_copied_once(sandbox)
        assert_source_is_live(sandbox, writer)

    def test_the_program_is_stopped(self, sandbox: Sandbox, writer: Writer) -> None:
        """The copy is made meanwhile; what comes after it waits for the program."""
        with afresh(sandbox) as run:
            run.wait_for("Copying")
            with program_stopped(sandbox):
                run.wait_for("report: ")
                assert_source_is_live(sandbox, writer)
                assert run.process.poll() is None
            run.wait()
        assert_copied_once(sandbox)
        assert_source_is_live(sandbox, writer)

    def test_interrupted_once_it_ends_what_it_does(self, sandbox: Sandbox, writer: Writer) -> None:
        with afresh(sandbox) as run:
            run.wait_for("Copying")
            os.kill(run.pid, signal.SIGINT)
            failed(run)
        assert_source_is_live(sandbox, writer)
        result = sandbox.up("copy")
        assert "Copying" not in result.output
        assert_copied_once(sandbox)

    def test_interrupted_twice_it_stops(self, sandbox: Sandbox, writer: Writer) -> None:
        with afresh(sandbox) as run, psycopg.connect(sandbox.server.url()) as locking:
            run.wait_for("stage: ")  # the program has looked
            locking.execute("LOCK TABLE app_config IN ACCESS EXCLUSIVE MODE")  # and the copy waits
            wait_until(lambda: "clarity-infra snapshot" in sessions(sandbox))
            interrupt_twice(run)
            locking.rollback()
        assert_source_is_live(sandbox, writer)
        wait_until(lambda: not sessions(sandbox))
        sandbox.up("copy")
        assert_copied_once(sandbox)
        assert_source_is_live(sandbox, writer)

    def test_two_runs_at_once(self, sandbox: Sandbox, writer: Writer) -> None:
        with afresh(sandbox) as first:
            first.wait_for("Copying")
            with sandbox.engine.started("up") as second:
                output = failed(second)
            assert "the stack is currently locked by 1 lock(s)" in output
            first.wait()
        assert_copied_once(sandbox)
        assert_source_is_live(sandbox, writer)


@pytest.mark.slow
@pytest.mark.usefixtures("orphans")
class TestAtTheCutOver:
    @pytest.fixture(autouse=True)
    def _copied(self, sandbox: Sandbox) -> Iterator[None]:
        bring(sandbox, "copy")
        yield
        sandbox.cloudflare_control("", {"clear": True})

    def test_the_provider_is_killed_before_the_fence(self, sandbox: Sandbox, writer: Writer) -> None:
        with held(sandbox), sandbox.started("up", stage="cutover") as run:
            run.wait_for(WAITS_FOR_LOCK)
            kill_provider(sandbox)
            output = failed(run)
            assert "Traceback" not in output
        wait_until(lambda: not sessions(sandbox))
        assert_source_is_live(sandbox, writer)

    def test_the_engine_is_killed_before_the_fence(self, sandbox: Sandbox, writer: Writer) -> None:
        """The orphan finds that its engine is gone and lets go; until it has, a second run is refused."""
        with held(sandbox):
            with sandbox.started("up", stage="cutover") as run:
                run.wait_for(WAITS_FOR_LOCK)
                run.kill()
            with pytest.raises(EngineError) as raised:
                sandbox.up("cutover")
            assert "Another run of stack sandbox is at work" in raised.value.result.output
        wait_until(lambda: not sessions(sandbox))
        assert_source_is_live(sandbox, writer)

    def test_the_language_host_is_killed_before_the_fence(self, sandbox: Sandbox, writer: Writer) -> None:
        """The engine says so at once, and waits for the step under way: the cut-over is made; the next run does what comes after it."""
        with sandbox.started("up", stage="cutover") as run:
            with held(sandbox):
                run.wait_for(WAITS_FOR_LOCK)
                kill_program(sandbox, host=True)
                run.wait_for(HOST_DIED)
            output = failed(run)
        assert "Traceback" not in output
        self._assert_switched(sandbox, writer)
        sandbox.up("cutover")
        assert_target_is_live(sandbox, writer)

    def test_the_program_is_stopped_before_the_fence(self, sandbox: Sandbox, writer: Writer) -> None:
        with sandbox.started("up", stage="cutover") as run, contextlib.ExitStack() as stopped:
            with held(sandbox):
                run.wait_for(WAITS_FOR_LOCK)
                stopped.enter_context(program_stopped(sandbox))
            run.wait_for("report: ")
            self._assert_switched(sandbox, writer)
            assert run.process.poll() is None
            stopped.close()
            run.wait()
        assert_target_is_live(sandbox, writer)

    def test_the_program_is_killed_at_the_switch(self, sandbox: Sandbox, writer: Writer) -> None:
        sandbox.cloudflare_control("", {"faults": [PUT_HANGS]})
        with sandbox.started("up", stage="cutover") as run:
            run.wait_for(FENCED)
            kill_program(sandbox)
            output = failed(run)
        assert PROGRAM_DIED in output
        self._assert_switched(sandbox, writer)
        sandbox.up("cutover")
        assert_target_is_live(sandbox, writer)

    def test_the_program_is_stopped_and_then_killed_on_the_way_back(self, sandbox: Sandbox, writer: Writer) -> None:
        """Rows, application and `.env` go back while it stands; what Pulumi declares follows with the next run."""
        sandbox.up("cutover")
        with sandbox.started("up", stage="copy") as run:
            run.wait_for("trying out")
            with program_stopped(sandbox):
                run.wait_for("report: ")
                assert hyperdrive(sandbox)["origin"]["database"] == SOURCE_DATABASE
                wait_until(lambda: f"/{SOURCE_DATABASE}" in sandbox.database_url)
                writer.wait_for(5)
                kill_program(sandbox)
            output = failed(run)
        assert PROGRAM_DIED in output
        sandbox.up("copy")
        assert_source_is_live(sandbox, writer)
        assert f"/{SOURCE_DATABASE}" in sandbox.database_url

    def _assert_switched(self, sandbox: Sandbox, writer: Writer) -> None:
        """The application is on the target, by Hyperdrive and by `.env`, and writes there."""
        assert hyperdrive(sandbox)["origin"]["database"] == TARGET_DATABASE
        assert f"/{TARGET_DATABASE}" in sandbox.database_url
        writer.wait_for(5)

    def test_interrupted_twice_before_the_fence(self, sandbox: Sandbox, writer: Writer) -> None:
        """The run after it, and after the two that were killed before, cuts over."""
        with held(sandbox), sandbox.started("up", stage="cutover") as run:
            run.wait_for(WAITS_FOR_LOCK)
            interrupt_twice(run)
        wait_until(lambda: not sessions(sandbox))
        assert_source_is_live(sandbox, writer)
        sandbox.up("cutover")
        assert_target_is_live(sandbox, writer)

    def test_interrupted_once_before_the_fence(self, sandbox: Sandbox, writer: Writer) -> None:
        """What is under way comes to its end, the switch too; the next run does what comes after it."""
        with sandbox.started("up", stage="cutover") as run:
            with held(sandbox):
                run.wait_for(WAITS_FOR_LOCK)
                os.kill(run.pid, signal.SIGINT)
            failed(run)
        assert hyperdrive(sandbox)["origin"]["database"] == TARGET_DATABASE
        writer.wait_for(5)
        sandbox.up("cutover")
        assert_target_is_live(sandbox, writer)

    def test_the_provider_is_killed_at_the_switch(self, sandbox: Sandbox, writer: Writer) -> None:
        """Neither side takes writes then, which is a state that the next run leaves."""
        sandbox.cloudflare_control("", {"faults": [PUT_HANGS]})
        with sandbox.started("up", stage="cutover") as run:
            run.wait_for(FENCED)
            kill_provider(sandbox)
            failed(run)
        wait_until(lambda: not sessions(sandbox))
        assert triggers_in_force(sandbox, SOURCE_DATABASE)
        assert triggers_in_force(sandbox, TARGET_DATABASE)
        sandbox.cloudflare_control("", {"clear": True})
        looked = sandbox.preview("cutover")
        assert "neither side until the run is repeated" in looked.output
        sandbox.up("cutover")
        assert_target_is_live(sandbox, writer)

    def test_the_provider_is_killed_at_the_switch_and_one_goes_back(self, sandbox: Sandbox, writer: Writer) -> None:
        sandbox.cloudflare_control("", {"faults": [PUT_HANGS]})
        with sandbox.started("up", stage="cutover") as run:
            run.wait_for(FENCED)
            kill_provider(sandbox)
            failed(run)
        wait_until(lambda: not sessions(sandbox))
        sandbox.cloudflare_control("", {"clear": True})
        sandbox.up("copy")
        assert_source_is_live(sandbox, writer)

    def test_the_engine_is_killed_at_the_switch(self, sandbox: Sandbox, writer: Writer) -> None:
        """The orphan does the whole cut-over; the next run finds it done, and does what comes after."""
        sandbox.cloudflare_control("", {"faults": [PUT_HANGS]})
        with sandbox.started("up", stage="cutover") as run:
            run.wait_for(FENCED)
            run.kill()
        wait_until(lambda: not sessions(sandbox))
        assert hyperdrive(sandbox)["origin"]["database"] == TARGET_DATABASE
        assert f"/{TARGET_DATABASE}" in sandbox.database_url
        sandbox.up("cutover")
        assert_target_is_live(sandbox, writer)
        assert sandbox.outputs()["evidence"]["cutover"]["proved"] is True
        assert not sandbox.preview("cutover").changed
