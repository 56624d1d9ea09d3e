"""Which way has which login is told without a server, and without Cloudflare where that does not answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clarity_infra import hyperdrive
from clarity_infra.logins import Logins, logins
from clarity_infra.settings import Settings
from sandbox.postgres import free_port

TARGET = "postgresql://{}:pw@127.0.0.1:5432/clarity"


def settings(application: str, revision: int, *, hyperdrive_managed: bool = True) -> Settings:
    values: dict[str, Any] = {
        "masterDatabaseUrl": "postgresql://admin:pw@127.0.0.1:5432/postgres",
        "databaseUrl": application,
        "envFile": "",
        "passwordRevision": revision,
        **({"cloudflareAccountId": "a" * 32, "hyperdriveId": "c" * 32} if hyperdrive_managed else {}),
    }
    environment = {"CLOUDFLARE_API_TOKEN": "token", "CLOUDFLARE_BASE_URL": f"http://127.0.0.1:{free_port()}/client/v4"}
    return Settings.read("dev", values.get, environment=environment, folder=Path.cwd())


def test_before_the_cut_over_there_is_nothing_to_tell() -> None:
    found = logins(settings("postgresql://app:pw@127.0.0.1:5432/postgres", 1))
    assert (found.lines(), found.unfinished, found.unseen) == ([], False, "")


def test_without_a_second_login_cloudflare_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyperdrive, "look", lambda *_, **__: pytest.fail("asked"))
    assert logins(settings(TARGET.format("clarity_user"), 1)).lines() == ['password: revision 1, DATABASE_URL logs in as "clarity_user"']


def test_where_cloudflare_does_not_answer_that_is_said_and_the_rest_stands() -> None:
    found = logins(settings(TARGET.format("clarity_user"), 2))
    assert found.unfinished and found.used == (("DATABASE_URL", "clarity_user"),)
    told, unseen = found.lines()
    assert told.startswith('password: revision 2, "clarity_user_2" is to take over, DATABASE_URL still logs in as "clarity_user"')
    assert unseen.startswith("Hyperdrive's login is not known: Cloudflare's API cannot be reached")


@pytest.mark.parametrize(
    ("used", "unfinished", "told"),
    [
        ((("DATABASE_URL", "b"), ("Hyperdrive", "b")), False, 'DATABASE_URL and Hyperdrive log in as "b"'),
        ((("Hyperdrive", "b"),), False, 'Hyperdrive logs in as "b"'),
        ((("DATABASE_URL", "b"), ("Hyperdrive", "a")), True, '"b" is to take over, Hyperdrive still logs in as "a": `pulumi up` finishes it'),
    ],
)
def test_each_way_that_is_behind_is_named(used: tuple[tuple[str, str], ...], unfinished: bool, told: str) -> None:
    found = Logins(4, "b", used)
    assert found.unfinished is unfinished
    [line] = found.lines()
    assert line.startswith("password: revision 4, ") and told in line
    assert found.json() == {"revision": 4, "wanted": "b", "used": dict(used), "unfinished": unfinished}


def test_without_hyperdrive_the_file_alone_counts() -> None:
    found = logins(settings(TARGET.format("clarity_user_2"), 2, hyperdrive_managed=False))
    assert (found.used, found.unfinished, found.unseen) == ((("DATABASE_URL", "clarity_user_2"),), False, "")
