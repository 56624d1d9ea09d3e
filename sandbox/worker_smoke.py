"""Does the application work where it is now? The plan's step "deploy and test the application", as checks that leave nothing behind.

Against the sample application everything it does is tried; against a deployed one only what reads. Where the database can be reached as
the application reaches it, its structure is compared with Drizzle's own snapshot as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from sandbox import node_packages
from sandbox.drizzle_snapshot import Snapshot
from sandbox.source.build import DRIZZLE_FOLDER
from sandbox.stack import APPLICATION_ROLE, SOURCE_DATABASE, Sandbox, last_migration
from sandbox.worker import Worker
from sandbox.worker_client import Answer, ask

HEALTH = "/health"
_RECORDED = "SELECT max(created_at) FROM drizzle.__drizzle_migrations"
_LARGEST_ID = "SELECT coalesce(max(id), 0) FROM public.{}"
_SLOW_SECONDS = 10


class SmokeError(Exception):
    """The checks could not be begun; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Check:
    """What was checked, and what was found instead of what was expected; nothing where all is well."""

    what: str
    problem: str = ""
    seconds: float = 0.0


class Smoke:
    """Collects checks; one that fails does not keep the next from being made."""

    def __init__(self, url: str) -> None:
        self.checks: list[Check] = []
        self._url = url

    @property
    def passed(self) -> bool:
        """Whether something was checked, and nothing was found wrong."""
        return bool(self.checks) and not any(check.problem for check in self.checks)

    def report(self) -> str:
        """A line a check, and one for all."""
        lines = [
            f"{'FAILED' if check.problem else 'ok    '}  {check.what}{': ' if check.problem else ''}{check.problem}" for check in self.checks
        ]
        failed = sum(bool(check.problem) for check in self.checks)
        seconds = sum(check.seconds for check in self.checks)
        return "\n".join([*lines, f"{len(self.checks)} checks, {failed} failed, {seconds:.1f} s"])

    # What is checked anywhere

    def answers(self, path: str, *, place: tuple[str, str] | None = None) -> None:
        """A path is answered with 200 in good time; where the answer tells database and user, they are `place`, unless that is None."""
        with self._checking(f"GET {path} is answered") as wrong:
            started = time.monotonic()
            answer = ask(self._url, "GET", path)
            wrong(_not_ok(answer))
            seconds = time.monotonic() - started
            wrong(f"after {seconds:.1f} s" if seconds > _SLOW_SECONDS else "")
        if place and answer.ok and isinstance(answer.body, dict) and "database" in answer.body:
            with self._checking(f"the Worker is on database {place[0]} as {place[1]}") as wrong:
                found = (str(answer.body["database"]), str(answer.body.get("user", "")))
                wrong("" if found == place else f"it is on {found[0]} as {found[1]}")

    def structure(self, connection: psycopg.Connection[Any], snapshot: Snapshot) -> None:
        """The database has what the snapshot says, sequences are beyond what is in use, and the migration is recorded."""
        with self._checking(f"tables, columns and enum labels are those of {snapshot.tag}") as wrong:
            wrong("; ".join(snapshot.differences(connection)))
        with self._checking("every sequence is beyond the values in use") as wrong:
            wrong("; ".join(snapshot.sequences_behind(connection)))

    def recorded(self, connection: psycopg.Connection[Any], snapshot: Snapshot) -> None:
        """Drizzle takes the snapshot's migration for the last one applied."""
        with self._checking(f"{snapshot.tag} is the last migration in Drizzle's record") as wrong:
            row = connection.execute(_RECORDED).fetchone()
            wrong("" if row and row[0] == snapshot.when else f"the record's newest created_at is {row[0] if row else None}, not {snapshot.when}")

    # What the sample application does

    def everything(self, connection: psycopg.Connection[Any], snapshot: Snapshot) -> None:
        """Makes, reads, changes and deletes through the routes; every row it made is gone afterwards, also where a check failed."""
        name = f"smoke-{secrets.token_hex(6)}"
        try:
            self._writes(name, connection, snapshot)
        finally:
            with self._checking("what the checks wrote is deleted") as wrong:
                ask(self._url, "DELETE", f"/api/requests/{name}")  # where a check failed it may be there still
                answer = ask(self._url, "GET", f"/api/requests/{name}")
                wrong("" if answer.status == 404 else answer.reason)

    def _writes(self, name: str, connection: psycopg.Connection[Any], snapshot: Snapshot) -> None:
        path = f"/api/requests/{name}"
        largest = {table: _largest(connection, table) for table in ("feature_requests", "request_messages")}
        message = {"type": "initial_request", "source": "web", "content": "a \u00fc, a ' and a \\", "metadata": {"nested": [1, None]}}
        body = {"requestId": name, "origin": "web", "repo": "a/b", "title": "smoke", "description": "made by make smoke", "issueId": None}
        with self._checking("a request is made with its message, under ids beyond all others") as wrong:
            made = ask(self._url, "POST", "/api/requests", {**body, "messages": [message]})
            wrong(_not_ok(made))
            if made.ok:
                ids = {"feature_requests": made.body["id"], "request_messages": made.body["messages"][0]["id"]}
                wrong("; ".join(f"{table}: {new} is not beyond {largest[table]}" for table, new in ids.items() if new <= largest[table]))
        with self._checking("it is read as it was written, with the defaults of its columns") as wrong:
            answer = ask(self._url, "GET", path)
            wrong(_not_ok(answer) or _unlike(answer.body, {**body, "status": "pending", "taskStatus": "pending", "retryCount": 0}))
            wrong(_unlike(answer.body["messages"][0], message) if answer.ok and answer.body["messages"] else "no message")
        with self._checking("it is among the newest of the list") as wrong:
            answer = ask(self._url, "GET", "/api/requests?limit=100")
            wrong(_not_ok(answer) or ("" if name in [row["requestId"] for row in answer.body] else "it is not"))
        self._enums(path, message, snapshot)
        self._refusals(path, name, body, message)
        with self._checking("it is changed, and the database has the change") as wrong:
            wrong(_not_ok(ask(self._url, "PATCH", path, {"title": "changed", "prNumber": 7})))
            row = connection.execute("SELECT title, pr_number FROM public.feature_requests WHERE request_id = %s", (name,)).fetchone()
            wrong("" if row == ("changed", 7) else f"it has {row}")
        with self._checking("the configuration is read") as wrong:
            answer = ask(self._url, "GET", "/api/config")
            found = connection.execute("SELECT id, type::text FROM public.app_config ORDER BY id").fetchall()
            wrong(_not_ok(answer) or ("" if [(row["id"], row["type"]) for row in answer.body] == found else "not as the database has it"))
        with self._checking("it is deleted with its messages") as wrong:
            wrong(_not_ok(ask(self._url, "DELETE", path)))
            query = "SELECT count(*) FROM public.request_messages WHERE request_id = %s"
            row = connection.execute(query, (name,)).fetchone()
            wrong("" if row == (0,) else f"{row[0] if row else None} message(s) left")

    def _enums(self, path: str, message: dict[str, Any], snapshot: Snapshot) -> None:
        for enum, key in (("request_status", "status"), ("task_status", "taskStatus"), ("request_origin", "origin")):
            self._labels(enum, key, snapshot, lambda body: ask(self._url, "PATCH", path, body))
        for enum, key in (("message_type", "type"), ("message_source", "source")):
            self._labels(enum, key, snapshot, lambda body: ask(self._url, "POST", f"{path}/messages", {**message, **body}))

    def _labels(self, enum: str, key: str, snapshot: Snapshot, send: Callable[[dict[str, Any]], Answer]) -> None:
        """Sends each label, and one that there is not, as `key`."""
        labels = snapshot.labels(enum)
        with self._checking(f"every {enum} is taken ({len(labels)} labels), and no other") as wrong:
            problems = {label: _not_ok(send({key: label})) for label in labels}
            wrong("; ".join(f"{label}: {problem}" for label, problem in problems.items() if problem))
            answer = send({key: "no such label"})
            wrong("" if answer.status == 400 else f"no such label: {answer.reason}")

    def _refusals(self, path: str, name: str, body: dict[str, Any], message: dict[str, Any]) -> None:
        with self._checking("a second request of the same name, and a message of none, are refused") as wrong:
            for answer in (
                ask(self._url, "POST", "/api/requests", body),
                ask(self._url, "POST", f"{path}-none/messages", message),
            ):
                wrong("" if answer.status == 409 else answer.reason)

    @contextlib.contextmanager
    def _checking(self, what: str) -> Iterator[Callable[[str], None]]:
        """Notes a check. The function it gives takes what was found wrong; the first one counts, an empty text is nothing."""
        problems: list[str] = []
        started = time.monotonic()
        try:
            yield lambda problem: problems.append(problem) if problem else None
        except psycopg.Error as error:
            problems.append(f"{error.sqlstate or type(error).__name__} {error.diag.message_primary or ''}".strip())
        except (LookupError, TypeError) as error:
            problems.append(f"the answer has another form than expected ({type(error).__name__} {error})")
        self.checks.append(Check(what, problems[0] if problems else "", time.monotonic() - started))


def smoke_deployed(
    url: str, paths: Sequence[str] = (HEALTH,), *, database: psycopg.Connection[Any] | None = None, migrations: Path | None = None
) -> Smoke:
    """The checks of a deployed application, which only read: its paths, and its database as it logs in, where one is given.

    Raises SmokeError.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SmokeError(f"{url!r} is no URL of an application. Nothing was asked; name it as https://application.example.com.")
    snapshot = _snapshot(migrations) if database and migrations else None
    smoke = Smoke(url)
    place = (database.info.dbname, database.info.user) if database else None
    for path in paths:
        smoke.answers(path, place=place)
    if database and snapshot:
        database.read_only = True
        smoke.structure(database, snapshot)
        smoke.recorded(database, snapshot)
    return smoke


def _snapshot(folder: Path) -> Snapshot:
    try:
        return Snapshot.read(folder)
    except (OSError, ValueError, LookupError) as error:
        raise SmokeError(f"{folder} is no folder of Drizzle's with a snapshot ({type(error).__name__}). Nothing was asked.") from None


def smoke_sandbox(sandbox: Sandbox, say: Callable[[str], None]) -> Smoke:
    """All checks, through a Worker in workerd on the sandbox's Hyperdrive config, whichever side is live.

    Raises NodeError, WorkerError, and what `Sandbox.reached` raises.
    """
    moved = sandbox.reached() in ("cutover", "cleanup")
    new = (str(sandbox.configured("database") or "clarity"), str(sandbox.configured("user") or "clarity_user"))
    place = new if moved else (SOURCE_DATABASE, APPLICATION_ROLE)
    snapshot = Snapshot.read(DRIZZLE_FOLDER, upto="" if moved else last_migration())
    packages = node_packages.install(say)
    say(f"the application's Worker, in workerd, through Hyperdrive; the {'new' if moved else 'old'} database is live")
    with (
        Worker(packages, sandbox.folder / "worker", sandbox.worker_database_url, release="index" if moved else "before") as worker,
        psycopg.connect(sandbox.database_url, autocommit=True, connect_timeout=10) as connection,
    ):
        smoke = Smoke(worker.url)
        smoke.answers(HEALTH, place=place)
        smoke.structure(connection, snapshot)
        if moved:  # before, the application's login has no business with Drizzle's record
            smoke.recorded(connection, snapshot)
        smoke.everything(connection, snapshot)
    return smoke


def _largest(connection: psycopg.Connection[Any], table: str) -> int:
    row = connection.execute(sql.SQL(_LARGEST_ID).format(sql.Identifier(table))).fetchone()
    return int(row[0]) if row else 0


def _not_ok(answer: Answer) -> str:
    return "" if answer.ok else answer.reason


def _unlike(found: Any, wanted: dict[str, Any]) -> str:
    """What of `wanted` is another way in what was found."""
    return "; ".join(f"{key} is {found.get(key)!r}" for key, value in wanted.items() if found.get(key) != value)
