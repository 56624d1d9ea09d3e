"""Hyperdrive keeps connections to the former origin for minutes: what of them is given up, so that the application is refused no longer?"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from clarity_infra.hyperdrive_api import OriginSwitch
from clarity_infra.move.back import go_back
from clarity_infra.move.crossing import Crossing
from clarity_infra.move.cutover import cut_over
from clarity_infra.move.migrations import Migrations
from sandbox.cloudflare import Fault
from tests.faults.application import Application
from tests.faults.run import Command
from tests.faults.stage import House, Stage


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as house:
        yield house


def carry_out(stage: Stage, command: Command) -> dict[str, Any]:
    more: dict[str, Any] = {"run": uuid.uuid4(), "lock_budget": 10.0, "alive": lambda: True, "progress": lambda _: None}
    if command == "cut over":
        return cut_over(stage.order.move, stage.order.switch(), Migrations(stage.order.migrations), **more)
    return go_back(stage.order.move, stage.order.switch(), **more)


@pytest.fixture
def powerless(monkeypatch: pytest.MonkeyPatch) -> None:
    """An admin that may end nobody's sessions, as on a server where the application's role is not its."""
    monkeypatch.setattr(Crossing, "end_sessions", lambda *_args, **_more: 0)


@pytest.mark.parametrize("command", ["cut over", "go back"])
def test_the_pool_is_drained_where_no_session_may_be_ended(house: House, powerless: None, command: Command) -> None:
    with house.stage(two_servers=False, cut_over=command == "go back") as stage, Application(stage.url) as application:
        assert application.write_again(10)
        assert carry_out(stage, command)["connections_drained"] is True
        assert application.write_again(5)


def test_without_that_old_connections_are_refused_still(house: House, powerless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round: it is the draining that does it."""
    monkeypatch.setattr(OriginSwitch, "drop_old_connections", lambda _self: False)
    with house.stage(two_servers=False) as stage, Application(stage.url) as application:
        assert application.write_again(10)
        carry_out(stage, "cut over")
        assert not application.write_again(3)
        assert application.refused()


def test_a_pool_that_cannot_be_drained_stops_nothing(house: House) -> None:
    with house.stage(two_servers=False) as stage, Application(stage.url) as application:
        stage.api.faults.add(Fault("status", status=500, count=99, path="/restart", methods=("POST",)))
        assert application.write_again(10)
        evidence = carry_out(stage, "cut over")
        assert evidence["connections_drained"] is False and evidence["proved"]
        assert application.write_again(5)
