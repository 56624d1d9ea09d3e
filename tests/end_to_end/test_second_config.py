"""A second Hyperdrive config beside the application's own, and its ID in the application's wrangler.jsonc: there, back, and gone."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from sandbox.stack import ACCOUNT_ID, HYPERDRIVE_NAME, SOURCE_DATABASE, Sandbox
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER

SECOND = "clarity-second"
WRANGLER = """\
{
  // The sample's Worker. "id": "OLD" in a comment is none.
  "name": "clarity",
  "hyperdrive": [
    { "binding": "OTHER", "id": "ffffffffffffffffffffffffffffffff" },
    { "id" : "OLD", /* by whom? */ "binding": "HYPERDRIVE", },
  ],
}
"""
WRITE = "UPDATE feature_requests SET title = title WHERE id = (SELECT min(id) FROM feature_requests)"


@pytest.fixture(scope="module")
def sandbox(new_sandbox: NewSandbox) -> Sandbox:
    made = new_sandbox(config={"hyperdriveWay": "second-config", "hyperdriveName": SECOND})
    file = wrangler(made)
    file.write_text(WRANGLER.replace("OLD", facts.hyperdrive(made)["id"]))
    made.configure(wranglerFile=str(file))
    return made


def wrangler(sandbox: Sandbox) -> Path:
    return sandbox.folder / "wrangler.jsonc"


def bound(sandbox: Sandbox, file_before: str, old: str, now: str) -> None:
    """The binding's ID is the only text that differs: the last but one place where the old one stood stays, a comment."""
    head, _, tail = file_before.rpartition(old)
    assert wrangler(sandbox).read_text() == head + now + tail


def test_there_and_back_and_gone(sandbox: Sandbox) -> None:
    before, file = facts.application(sandbox), wrangler(sandbox).read_text()
    old = before.hyperdrive["id"]

    looked = sandbox.preview("provision")
    assert f"second Hyperdrive config {SECOND}, made by this run: follows the live side; config {old}" in looked.output
    sandbox.climb("copy")
    second = facts.hyperdrive(sandbox, SECOND)
    assert sandbox.outputs()["hyperdriveId"] == second["id"] != old
    for key in ("origin", "origin_connection_limit"):
        assert second[key] == before.hyperdrive[key], "until the cut-over it is as good as the old one, for whoever deploys early"
    assert facts.hyperdrive(sandbox) == before.hyperdrive, "not even its cache is touched"
    assert wrangler(sandbox).read_text() == file
    early = facts.connection_string(sandbox, SECOND)
    assert facts.whereabouts(early)[1] == SOURCE_DATABASE

    looked = sandbox.preview("cutover")
    assert f"binding HYPERDRIVE of wrangler.jsonc: id {old} -> {second['id']}" in looked.output
    assert wrangler(sandbox).read_text() == file
    sandbox.up("cutover")
    bound(sandbox, file, old, second["id"])
    assert facts.whereabouts(early) == (USER, TARGET_DATABASE)
    assert facts.hyperdrive(sandbox) == before.hyperdrive
    assert any(f"deploy the application with the ID of output hyperdriveId (npx wrangler deploy: {wrangler(sandbox)}" in step
               for step in sandbox.outputs()["nextSteps"])  # fmt: skip
    with psycopg.connect(facts.connection_string(sandbox), autocommit=True) as late, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        late.execute(WRITE)  # not deployed yet: refused, not lost
    with psycopg.connect(early, autocommit=True) as deployed:
        assert deployed.execute(WRITE).rowcount == 1
    assert not sandbox.refresh().changed
    assert not sandbox.preview("cutover").changed

    sandbox.up("copy")
    assert wrangler(sandbox).read_text() == file
    assert facts.whereabouts(early)[1] == SOURCE_DATABASE
    sandbox.up("cutover")
    bound(sandbox, file, old, second["id"])

    path = wrangler(sandbox)
    sandbox.configure(wranglerFile=None)
    assert "stays as it is, as the new database is live" in sandbox.up("cutover").output
    bound(sandbox, file, old, second["id"])  # the next deployment goes where the rows are
    sandbox.configure(wranglerFile=str(path))
    sandbox.up("cutover")
    moved = path.rename(path.with_name("wrangler-moved.jsonc"))
    sandbox.configure(wranglerFile=str(moved))
    sandbox.up("cutover")
    moved.rename(path)
    sandbox.configure(wranglerFile=str(path))
    sandbox.up("cutover")
    bound(sandbox, file, old, second["id"])

    sandbox.destroy()
    assert wrangler(sandbox).read_text() == file
    names = [found["name"] for found in sandbox.cloudflare_api("GET", f"/accounts/{ACCOUNT_ID}/hyperdrive/configs")]
    assert names == [HYPERDRIVE_NAME]
    now = facts.application(sandbox)
    assert (now.structure, now.env, now.hyperdrive) == (before.structure, before.env, before.hyperdrive)
