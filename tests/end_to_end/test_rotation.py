"""A password is rotated while clients connect twenty times a second, by `.env` and through Hyperdrive: none is refused, the old one is dead.

As a managed admin, one stack from provision to destroy, through five revisions; each test brings the stack to the stage it needs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import psycopg
import pytest

from sandbox.engine import EngineError
from sandbox.source import NEIGHBOURS
from sandbox.stack import SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import ROLE, TARGET_DATABASE, USER, Application, bring

SECOND = "clarity_user_2"
GRACE = 3
PAUSE = 0.05
REFUSED = "password authentication failed"

pytestmark = pytest.mark.timeout(1500)


class Connecting:
    """A client that asks for its URL, connects, reads, and leaves, every 50 ms; `refused` holds every failure with its reason."""

    def __init__(self, url: Callable[[], str]) -> None:
        self.logins: Counter[str] = Counter()
        self.refused: list[str] = []
        self._url = url
        self._asked_to_end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Connecting:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        time.sleep(0.5)
        self._asked_to_end.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._asked_to_end.is_set():
            try:
                with psycopg.connect(self._url(), autocommit=True, connect_timeout=10, prepare_threshold=None) as connection:
                    connection.execute("SELECT count(*) FROM feature_requests")
                    row = connection.execute("SELECT session_user::text || ' as ' || current_user").fetchone()
                    self.logins[str(row[0]) if row else ""] += 1
            except (psycopg.Error, OSError) as error:
                self.refused.append(str(error))
            time.sleep(PAUSE)


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox) -> Sandbox:
    return new_sandbox(superuser=False, config={"passwordGraceSeconds": GRACE, "readOnlyRole": "clarity_ro", "readWriteRoleLogin": True})


@pytest.fixture(scope="module")
def before(sandbox: Sandbox) -> Application:
    return facts.application(sandbox)


def url_of_output(sandbox: Sandbox) -> str:
    return str(sandbox.outputs(show_secrets=True)["databaseUrl"])


def url_of_role(sandbox: Sandbox) -> str:
    return str(sandbox.outputs(show_secrets=True)["readWriteUrl"])


def login_of(url: str) -> str:
    return str(urlsplit(url).username)


def refused(url: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=REFUSED):
        facts.whereabouts(url)


def rotated(sandbox: Sandbox, stage: str, revision: int) -> tuple[Connecting, Connecting]:
    """Raises the revision under both clients' eyes."""
    sandbox.configure(passwordRevision=revision)
    hyperdrive = facts.connection_string(sandbox)
    with Connecting(lambda: sandbox.database_url) as by_env, Connecting(lambda: hyperdrive) as by_hyperdrive:
        sandbox.up(stage)
    return by_env, by_hyperdrive


def nobody_was_refused(*clients: Connecting) -> None:
    for client in clients:
        assert client.refused == []
        assert sum(client.logins.values()) > 40


def test_while_the_application_is_on_the_old_database(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "provision")
    first = url_of_output(sandbox)
    assert facts.whereabouts(first) == (USER, TARGET_DATABASE)
    nobody_was_refused(*rotated(sandbox, "provision", 2))
    second = url_of_output(sandbox)
    assert (login_of(first), login_of(second)) == (USER, SECOND)
    assert facts.whereabouts(second) == (USER, TARGET_DATABASE)
    refused(first)
    assert facts.application(sandbox).env == before.env
    bring(sandbox, "copy")
    nobody_was_refused(*rotated(sandbox, "copy", 3))
    refused(second)
    assert login_of(url_of_output(sandbox)) == USER
    assert facts.whereabouts(url_of_output(sandbox)) == (USER, TARGET_DATABASE)


def test_two_rotations_after_the_cut_over(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "cutover")
    placed = facts.placement(sandbox)
    for revision, login, former in ((4, SECOND, USER), (5, USER, SECOND)):
        old, old_of_role = sandbox.database_url, url_of_role(sandbox)
        assert facts.whereabouts(old_of_role) == (ROLE, TARGET_DATABASE)
        by_env, by_hyperdrive = rotated(sandbox, "cutover", revision)
        nobody_was_refused(by_env, by_hyperdrive)
        assert set(by_env.logins) == {f"{login} as {USER}", f"{former} as {USER}"}
        assert login_of(sandbox.database_url) == login
        refused(old)
        refused(old_of_role)  # a role with one password has it replaced in place
        assert facts.whereabouts(url_of_role(sandbox)) == (ROLE, TARGET_DATABASE)
        assert facts.whereabouts(sandbox.database_url) == (USER, TARGET_DATABASE)
        assert facts.hyperdrive(sandbox)["origin"]["user"] == login
        if login == SECOND:
            what_it_makes_is_the_owner_s(sandbox)
    assert not sandbox.refresh().changed
    assert not sandbox.preview("cutover").changed
    assert facts.placement(sandbox) == placed


def what_it_makes_is_the_owner_s(sandbox: Sandbox) -> None:
    """Also in a session that a pool has reset; and the roles that own nothing reach it as they reach the rest."""
    with psycopg.connect(sandbox.database_url, autocommit=True, prepare_threshold=None) as session:
        session.execute("DISCARD ALL")
        session.execute("CREATE SCHEMA made_later CREATE TABLE made_later.things (id serial PRIMARY KEY)")
        session.execute("CREATE FUNCTION made_later.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        session.execute("CREATE TABLE public.made_later (id integer)")
    owner = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace IN ('made_later'::regnamespace, 'public'::regnamespace)"
    assert sandbox.psql(TARGET_DATABASE, owner) == [(USER,)]
    rights = (
        "SELECT r, has_schema_privilege(r, 'made_later', 'USAGE'), has_table_privilege(r, 'made_later.things', 'SELECT'),"
        " has_table_privilege(r, 'made_later.things', 'DELETE'), has_sequence_privilege(r, 'made_later.things_id_seq', 'USAGE'),"
        " has_function_privilege(r, 'made_later.one()', 'EXECUTE') FROM unnest(ARRAY['clarity_ro', 'clarity_rw']) AS r ORDER BY r"
    )
    assert sandbox.psql(TARGET_DATABASE, rights) == [
        ("clarity_ro", True, True, False, False, False),
        ("clarity_rw", True, True, True, True, True),
    ]


def test_a_revision_that_is_set_back_or_skips_one_is_refused(sandbox: Sandbox, before: Application) -> None:
    bring(sandbox, "cutover")
    if not sandbox.configured("passwordRevision"):
        sandbox.configure(passwordRevision=2)
        sandbox.up("cutover")
    now, url = int(sandbox.configured("passwordRevision")), sandbox.database_url
    refusals = ((now - 1, sandbox.preview, f"cannot be set back to {now - 1}"), (now + 2, sandbox.up, "would replace the password"))
    for wrong, attempt, told in refusals:
        sandbox.configure(passwordRevision=wrong)
        with pytest.raises(EngineError) as raised:
            attempt("cutover")
        assert told in raised.value.result.output
    sandbox.configure(passwordRevision=now)
    assert (sandbox.database_url, facts.whereabouts(url)) == (url, (USER, TARGET_DATABASE))


def test_a_rotation_that_is_killed_is_finished_by_the_next(sandbox: Sandbox, before: Application) -> None:
    """Before the switch and after it; meanwhile and afterwards every client gets in."""
    bring(sandbox, "cutover")
    revision, hyperdrive = int(sandbox.configured("passwordRevision") or 1), facts.connection_string(sandbox)
    for text in ("access check", "until the password"):
        revision += 1
        old = sandbox.database_url
        sandbox.configure(passwordRevision=revision)
        with Connecting(lambda: sandbox.database_url) as by_env, Connecting(lambda: hyperdrive) as by_hyperdrive:
            with sandbox.started("up", stage="cutover") as run:
                run.wait_for(text, timeout=240)
                os.kill(run.pid, signal.SIGKILL)
            time.sleep(GRACE + 2)  # what the killed engine left behind goes on to its end, but may not end the password
            assert facts.whereabouts(old) == (USER, TARGET_DATABASE)
            sandbox.up("cutover")
        nobody_was_refused(by_env, by_hyperdrive)
        refused(old)
        assert login_of(sandbox.database_url) != login_of(old)


def test_one_that_is_killed_at_the_switch_has_ended_nothing(sandbox: Sandbox, before: Application, tmp_path: Path) -> None:
    """Hyperdrive has the new login, `.env` and the outputs the former one: both work until the next run, which begins where this one died."""
    bring(sandbox, "cutover")
    revision, hyperdrive = int(sandbox.configured("passwordRevision") or 1) + 1, facts.connection_string(sandbox)
    old, other = sandbox.database_url, SECOND if login_of(sandbox.database_url) == USER else USER
    sandbox.configure(passwordRevision=revision)
    sandbox.cloudflare_control("", {"faults": [{"kind": "drop", "seconds": 30, "methods": ["PUT"]}]})
    with Connecting(lambda: sandbox.database_url) as by_env, Connecting(lambda: hyperdrive) as by_hyperdrive:
        with sandbox.started("up", stage="cutover") as run:
            within(240, lambda: facts.hyperdrive(sandbox)["origin"]["user"] == other)
            run.kill()
        sandbox.cloudflare_control("", {"clear": True})
        time.sleep(GRACE + 2)  # what the killed engine left behind goes on to its end

        assert (sandbox.database_url, url_of_output(sandbox), sandbox.outputs()["login"]) == (old, old, login_of(old))
        assert facts.whereabouts(old) == (USER, TARGET_DATABASE)
        answer = status(sandbox, tmp_path, "--json")
        told = json.loads(answer)
        assert told["logins"] == {
            "revision": revision,
            "wanted": other,
            "used": {"DATABASE_URL": login_of(old), "Hyperdrive": other},
            "unfinished": True,
        }
        assert told["next_steps"][0].endswith("finishes the rotation of the password")
        late = f'"{other}" is to take over, DATABASE_URL still logs in as "{login_of(old)}": `pulumi up` finishes it'
        assert late in status(sandbox, tmp_path)

        done = sandbox.up("cutover")
    assert f'the application logs in as "{other}" from now on' in done.output
    nobody_was_refused(by_env, by_hyperdrive)
    assert set(by_env.logins) == {f"{login_of(old)} as {USER}", f"{other} as {USER}"}
    refused(old)
    assert (login_of(sandbox.database_url), url_of_output(sandbox), sandbox.outputs()["login"]) == (other, sandbox.database_url, other)
    assert f'DATABASE_URL and Hyperdrive log in as "{other}"' in status(sandbox, tmp_path)


def within(seconds: float, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status(sandbox: Sandbox, folder: Path, *arguments: str) -> str:
    """What `python -m clarity_infra status` says of the stack, asked where a person has its file beside Pulumi.yaml."""
    for file, text in (
        (folder / "Pulumi.yaml", sandbox.project / "Pulumi.yaml"),
        (folder / f"Pulumi.{sandbox.stack}.yaml", sandbox.config_file),
    ):
        file.write_text(text.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "clarity_infra", "status", "--stack", sandbox.stack, *arguments],
        cwd=folder,
        env={**sandbox.engine.environment, "PYTHONPATH": str(sandbox.project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_back_and_forth_and_away_after_rotations(sandbox: Sandbox, before: Application) -> None:
    """Going back in the very update that rotates and takes the reader away, and destroy with sessions of the second login at work."""
    bring(sandbox, "cutover")
    sandbox.psql(TARGET_DATABASE, "DROP TABLE IF EXISTS public.made_later")
    revision = int(sandbox.configured("passwordRevision") or 1)
    sandbox.configure(passwordRevision=revision + 1, readOnlyRole=None)
    sandbox.up("copy")
    now = facts.application(sandbox)
    assert (now.env, now.hyperdrive["origin"]) == (before.env, before.hyperdrive["origin"])
    assert not sandbox.psql(SOURCE_DATABASE, "SELECT 1 FROM pg_roles WHERE rolname = 'clarity_ro'")
    if revision % 2 == 0:
        sandbox.configure(passwordRevision=revision + 2)
    sandbox.up("cutover")
    assert login_of(sandbox.database_url) == SECOND
    with psycopg.connect(sandbox.database_url, autocommit=True) as session:
        session.execute("SELECT count(*) FROM feature_requests")
        sandbox.destroy()
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    now = facts.application(sandbox)
    assert not facts.exists(sandbox)
    assert now.structure == before.structure
    assert (now.env, now.hyperdrive) == (before.env, before.hyperdrive)
    assert {name: now.contents[name] for name in NEIGHBOURS} == {name: before.contents[name] for name in NEIGHBOURS}
