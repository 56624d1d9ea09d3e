"""The application that is to be deployed with a second Hyperdrive config: deployed while it is moved, and again on the way back.

The Worker's binding has the ID that stands in wrangler.jsonc, as `wrangler deploy` would read it. The tests follow one sandbox.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox.engine import Run
from sandbox.node_packages import NodePackages
from sandbox.postgres import UNLOGGED_SPEED
from sandbox.stack import SOURCE_DATABASE, Sandbox
from sandbox.worker import Worker
from sandbox.worker_client import ask
from sandbox.worker_traffic import Traffic, summary

TARGET, USER = "clarity", "clarity_user"
RATE = 20

pytestmark = pytest.mark.engine


class Deployments:
    """The application under an address of its own: each deployment takes over from the one before, as at Cloudflare's edge."""

    def __init__(self, sandbox: Sandbox, packages: NodePackages, folder: Path) -> None:
        self._sandbox, self._packages, self._folder = sandbox, packages, folder
        self.running: list[tuple[str, Worker]] = []

    @property
    def wrangler(self) -> Path:
        return self._sandbox.folder / "wrangler.jsonc"

    @property
    def configured(self) -> str:
        """The ID in wrangler.jsonc."""
        document = json.loads(re.sub(r"^\s*//.*$", "", self.wrangler.read_text(), flags=re.MULTILINE))
        return str(document["hyperdrive"][0]["id"])

    @property
    def bound(self) -> str:
        """The ID of the latest deployment's binding."""
        return self.running[-1][0]

    @property
    def url(self) -> str:
        return self.running[-1][1].url

    def deploy(self) -> str:
        """Starts the Worker with the ID that stands in the file; gives its URL. The one before goes on until `end_old`."""
        identifier = self.configured
        connection_string = str(self._sandbox.cloudflare_control(f"/connection/{identifier}")["connection_string"])
        worker = Worker(self._packages, self._folder / str(len(self.running)), connection_string, release="before")
        self.running.append((identifier, worker.__enter__()))
        return worker.url

    def end_old(self) -> None:
        for _, worker in self.running[:-1]:
            worker.stop()

    def end(self) -> None:
        for _, worker in self.running:
            worker.stop()


@pytest.fixture(scope="module")
def sandbox(home: Path) -> Iterator[Sandbox]:
    made = Sandbox(
        home / "own",
        rows=2_000,
        settings=UNLOGGED_SPEED,
        config={"hyperdriveWay": "second-config", "hyperdriveName": "clarity-second"},
    )
    try:
        made.prepare()
        file = made.folder / "wrangler.jsonc"
        binding = {"binding": "HYPERDRIVE", "id": made.configured("hyperdriveId")}
        file.write_text("// The application's.\n" + json.dumps({"name": "clarity", "hyperdrive": [binding]}, indent=2))
        made.configure(wranglerFile=str(file))
        made.climb("copy")
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def deployments(sandbox: Sandbox, packages: NodePackages, home: Path) -> Iterator[Deployments]:
    made = Deployments(sandbox, packages, home / "deployments")
    try:
        made.deploy()
        yield made
    finally:
        made.end()


def redeploy_meanwhile(deployments: Deployments, traffic: Traffic, run: Run) -> None:
    """Deploys as soon as the file has another ID, while the run goes on, and ends the deployment before with what it had under way."""
    while deployments.configured == deployments.bound:
        assert run.process.poll() is None, run.output
        time.sleep(0.02)
    traffic.mark("redeployed")
    traffic.send_to(deployments.deploy())
    deployments.end_old()


def move(sandbox: Sandbox, deployments: Deployments, stage: str, prefix: str) -> Traffic:
    """Brings the sandbox to a stage under traffic, with a deployment in the middle of it."""
    with Traffic(deployments.url, per_second=RATE, prefix=prefix) as traffic:
        traffic.wait_for(20)
        traffic.mark("switch")
        with sandbox.started("up", stage=stage) as run:
            redeploy_meanwhile(deployments, traffic, run)
            run.wait()
        traffic.mark("after")
        traffic.wait_for(20)
    print(summary(traffic.phases()))
    return traffic


@pytest.fixture(scope="module")
def moved(sandbox: Sandbox, deployments: Deployments) -> Traffic:
    return move(sandbox, deployments, "cutover", "there")


@pytest.fixture(scope="module")
def back(sandbox: Sandbox, deployments: Deployments, moved: Traffic) -> Traffic:
    return move(sandbox, deployments, "copy", "back")


def differences(sandbox: Sandbox, database: str, *clients: Traffic) -> list[str]:
    with psycopg.connect(sandbox.server.url(database)) as connection:
        return [line for traffic in clients for line in traffic.differences(connection)]


def after(traffic: Traffic) -> int:
    """Errors once the run has come to its end."""
    return {phase.name: phase.errors.total() for phase in traffic.phases()}["after"]


def test_every_acknowledged_write_is_in_the_new_database(sandbox: Sandbox, deployments: Deployments, moved: Traffic) -> None:
    assert (differences(sandbox, TARGET, moved), moved.wrong) == ([], [])
    assert after(moved) == 0
    assert deployments.configured == deployments.bound == sandbox.outputs()["hyperdriveId"] != sandbox.configured("hyperdriveId")
    assert ask(deployments.url, "GET", "/health").body == {"database": TARGET, "user": USER}


def test_every_acknowledged_write_is_in_the_old_database_after_the_way_back(
    sandbox: Sandbox, deployments: Deployments, moved: Traffic, back: Traffic
) -> None:
    assert (differences(sandbox, SOURCE_DATABASE, moved, back), back.wrong) == ([], [])
    assert after(back) == 0
    assert deployments.configured == deployments.bound == sandbox.configured("hyperdriveId")
    assert ask(deployments.url, "GET", "/health").body == {"database": SOURCE_DATABASE, "user": "clarity_app"}
