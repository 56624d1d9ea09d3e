"""The commands by which somebody tries the project on one machine, as README and docs show them, from the first `make up` to `make clean`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox import node_packages
from sandbox.stack import Sandbox
from sandbox.worker import Worker
from tests.docs.walk import Place, Step, checked_out, shell

pytestmark = [pytest.mark.engine, pytest.mark.node]


def deploy(place: Place) -> None:
    """An application that runs somewhere, and is known by its URL alone."""
    sandbox = Sandbox(place.folder / ".sandbox", config_file=place.folder / "Pulumi.sandbox.yaml", project=place.folder)
    worker = Worker(node_packages.install(print), place.folder / ".sandbox" / "deployed", sandbox.worker_database_url)
    place.known["deployed"] = place.ends.enter_context(worker).url


STEPS = [
    Step("make docs"),
    Step("make test", says="passed", variables={"PYTEST": "tests/unit/test_scram.py", "WORKERS": "1"}),
    Step("STAGE=copy make up", says="Stage copy, after"),
    Step("make preview", says="stage: copy -> cutover"),
    Step("make up", says="Stage cutover, after"),
    Step("make smoke", says="0 failed"),
    Step(
        "make smoke URL=https://application.example.com SMOKE=\"--path /health --path '/api/requests?limit=1'\"",
        says="2 checks, 0 failed",
        filled={"https://application.example.com": lambda place: place.known["deployed"]},
        before=deploy,
        after=lambda place: place.ends.close(),
    ),
    Step("make traffic", says="0 acknowledged writes were not found", variables={"TRAFFIC": "--seconds 2"}),
    Step(". .sandbox/env"),
    Step('psql "$DATABASE_URL"', says="feature_requests", stdin="\\dt\n", filled={"psql": ". .sandbox/env; psql"}),
    Step("make down", says="the application is where it was"),
    Step("make clean", says="removed the sandbox"),
    Step("make bench", says="this, verified", variables={"BENCH": "--megabytes 1 --rounds 1 --only this"}),
    Step("make bench-cutover", says="cut over", variables={"BENCH": "--rows 1000 --forward"}),
    Step("make faults", says="0 red", variables={"FAULTS": "--only none"}),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with checked_out() as folder:
        if not (folder / ".venv" / ".installed").exists():
            (folder / ".venv").unlink()  # not made by make, which would install into it what it needs
        place = Place(folder, shell())
        try:
            yield place
        finally:
            place.ends.close()
            Step("make clean").take(Place(place.folder, place.environment))


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_it_does_what_is_said_of_it(place: Place, step: Step) -> None:
    step.take(place)
