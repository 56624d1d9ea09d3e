"""A stack is moved as the workflows move it: previewed, judged, and brought to the stage by the plan that was saved, through the real engine.

Each test goes on from where the one before it left the stack.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.end_to_end import facts
from tests.end_to_end.facts import TARGET_DATABASE, USER
from tests.workflows.conftest import STACK, Checkout

DATA = "### What this does to the data"


def secrets_of(checkout: Checkout) -> list[str]:
    """Every password there is to leak."""
    sandbox = checkout.sandbox
    urls = (sandbox.admin_url, sandbox.application_url, sandbox.database_url)
    return [urlsplit(url).password or "" for url in urls] + [sandbox.variables["CLOUDFLARE_API_TOKEN"]]


def says_no_secret(checkout: Checkout) -> None:
    for path in checkout.review.iterdir():
        text = path.read_text()
        assert not [secret for secret in secrets_of(checkout) if secret in text], path.name


def left_as_it_was(checkout: Checkout) -> None:
    """Neither an `up` nor a look at night finds anything to do."""
    again = checkout.sandbox.up(str(checkout.sandbox.configured("stage")))
    assert not again.changed, [(step.op, step.name) for step in again.steps]


def test_where_there_is_no_new_database_a_destroy_is_not_held_up(checkout: Checkout) -> None:
    """As after one that did not come to its end: what counts beforehand finds nothing, and does not fail."""
    counted = checkout.run("count-rollback")
    assert counted.returncode == 0, counted.stdout + counted.stderr
    assert "carries nothing and loses nothing" in counted.stdout


@pytest.mark.parametrize("stage", ["provision", "copy", "cutover"])
def test_the_saved_plan_brings_the_stack_to_the_stage(checkout: Checkout, stage: str) -> None:
    previewed = checkout.preview(stage, GITHUB_SHA="0123456789abcdef", RUN_URL="https://example.com/runs/1")
    assert previewed.returncode == 0, previewed.stderr + checkout.text
    assert checkout.text.startswith(f"<!-- clarity-infra review of {STACK} -->\n")
    assert f"## Ready for review: stack `{STACK}`" in checkout.text
    assert DATA in checkout.text
    assert stage in checkout.text.partition(DATA)[2]
    assert "resources keep every rule" in checkout.text
    assert "commit 0123456789ab, [this run](https://example.com/runs/1)" in checkout.text
    assert "using pulumi-" not in checkout.text
    says_no_secret(checkout)
    assert "ciphertext" in (checkout.review / "plan.json").read_text()
    brought = checkout.up()
    assert brought.returncode == 0, brought.stdout[-3000:] + brought.stderr
    assert checkout.sandbox.reached() == stage


def test_afterwards_there_is_nothing_to_do_and_nothing_drifted(checkout: Checkout) -> None:
    left_as_it_was(checkout)
    looked = checkout.run("drift", str(checkout.review))
    assert looked.returncode == 0, looked.stderr + checkout.text
    assert f"## No drift: stack `{STACK}`" in checkout.text
    assert not (checkout.review / "plan.json").exists()
    assert checkout.answer("status")["writes"] == "target"


def test_the_evidence_that_is_kept_has_the_report_and_no_secret(checkout: Checkout) -> None:
    checkout.sandbox.configure(reportFolder=None)  # a checkout's own; the sandbox's reports are elsewhere
    try:
        gathered = checkout.run("evidence", str(checkout.folder / "evidence"))
    finally:
        checkout.sandbox.configure(reportFolder=str(checkout.sandbox.folder / "reports"))
    assert gathered.returncode == 0, gathered.stderr
    kept = {path.name: path.read_text() for path in (checkout.folder / "evidence").iterdir()}
    assert not [name for name, text in kept.items() for secret in secrets_of(checkout) if secret in text]
    outputs, told = json.loads(kept["outputs.json"]), json.loads(kept["status.json"])
    assert (outputs["databaseUrl"], outputs["evidence"]["cutover"]["proved"], told["writes"]) == ("[secret]", True, "target")
    assert [name for name in kept if name.startswith(f"{STACK}-") and name.endswith(".html")]


def test_a_stack_that_is_not_there_leaves_its_reasons(checkout: Checkout, tmp_path: Path) -> None:
    """After a destroy that took the stack as well the report of the run is still kept, and the rest says why it is missing."""
    folder = checkout.folder / ".clarity" / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("gone", "gone-elsewhere"):
        (folder / f"{name}-20260101T000000Z-destroy.html").write_text("<p>as it was</p>")
    gathered = checkout.run("evidence", str(tmp_path), stack="gone")
    assert gathered.returncode == 0, gathered.stderr
    assert "the stack has no outputs" in gathered.stderr
    assert [path.name for path in tmp_path.glob("*.html")] == ["gone-20260101T000000Z-destroy.html"]
    assert checkout.run("preview", str(checkout.review), stack="gone").returncode == 1
    assert "### There is no preview\n\n```text\nerror: no stack named 'gone' found" in checkout.text
    assert json.loads((tmp_path / "status.json").read_text())["error"]


def test_what_somebody_changed_by_hand_is_drift(checkout: Checkout) -> None:
    sandbox = checkout.sandbox
    identifier = sandbox.outputs()["hyperdriveId"]
    path = f"/accounts/{sandbox.variables['CLOUDFLARE_ACCOUNT_ID']}/hyperdrive/configs/{identifier}"
    before = sandbox.cloudflare_api("GET", path)["origin_connection_limit"]
    sandbox.cloudflare_api("PATCH", path, {"origin_connection_limit": 20})
    try:
        looked = checkout.run("drift", str(checkout.review))
        assert looked.returncode == 3, looked.stderr + checkout.text
        assert f"## Drift: stack `{STACK}`" in checkout.text
        assert "update hyperdrive" in checkout.text
    finally:
        sandbox.cloudflare_api("PATCH", path, {"origin_connection_limit": before})


def test_a_plan_that_no_longer_fits_is_refused_before_anything_is_changed(checkout: Checkout) -> None:
    assert checkout.preview("cutover").returncode == 0
    checkout.sandbox.configure(passwordRevision=2)
    try:
        refused = checkout.up()
        assert refused.returncode != 0
        assert "violates plan" in refused.stdout + refused.stderr
        assert "start the workflow up by hand for a new plan" in refused.stderr
        assert facts.whereabouts(checkout.sandbox.database_url) == (USER, TARGET_DATABASE)
    finally:
        checkout.sandbox.configure(passwordRevision=None)


def test_a_replacement_of_what_holds_data_is_stopped(checkout: Checkout) -> None:
    steps = checkout.answer("preview")["steps"]
    held = {step["urn"].rsplit("::", 1)[-1]: step["urn"] for step in steps}
    replaced = ["database", "user", "read-write", "copy", "hyperdrive"]
    stopped = checkout.preview("cutover", *(f"--replace={held[name]}" for name in replaced))
    assert stopped.returncode == 1
    broken = {found["urn"].rsplit("::", 1)[-1]: found["rule"] for found in checkout.answer("guard")["violations"]}
    assert {name: broken.get(name) for name in replaced} == dict.fromkeys(replaced, "keep-what-holds-data")
    assert "## Stopped by the guard" in checkout.text
    assert not (checkout.review / "plan.json").exists()


def test_a_clean_up_before_its_time_is_stopped_whatever_the_stack_says(checkout: Checkout) -> None:
    checkout.sandbox.configure(monitoringHours=0)
    try:
        stopped = checkout.preview("cleanup")
        assert stopped.returncode == 1, checkout.text
        (found,) = checkout.answer("guard")["violations"]
        assert found["rule"] == "clean-up-in-its-time"
        assert checkout.preview("cleanup", MONITORING_HOURS="0").returncode == 0, checkout.text
        refused = checkout.up()
        assert refused.returncode != 0
        assert "clean-up-in-its-time" in refused.stdout
        assert checkout.sandbox.reached() == "cutover"
    finally:
        checkout.sandbox.configure(monitoringHours=None)


def test_the_plan_of_the_way_back(checkout: Checkout) -> None:
    counted = checkout.run("count-rollback")
    assert counted.returncode == 0, counted.stdout + counted.stderr
    stage = ("--config", "clarity-infra:stage=copy")  # as the workflow, which cannot change the stack's file on main
    previewed = checkout.run("preview", str(checkout.review), *stage)
    assert previewed.returncode == 0, previewed.stderr + checkout.text
    back = checkout.run("up", str(checkout.review / "plan.json"), *stage)
    assert back.returncode == 0, back.stdout[-3000:] + back.stderr
    assert checkout.sandbox.reached() == "copy"


def test_a_plan_made_where_the_databases_are_out_of_reach_fits_what_the_update_finds(checkout: Checkout) -> None:
    """Many teams preview on machines that cannot see the database."""
    checkout.sandbox.server.stop()
    try:
        previewed = checkout.preview("cutover")
    finally:
        checkout.sandbox.server.start()
    assert previewed.returncode == 0, previewed.stderr + checkout.text
    assert "### Warnings" in checkout.text
    brought = checkout.up()
    assert brought.returncode == 0, brought.stdout[-3000:] + brought.stderr
    assert facts.whereabouts(checkout.sandbox.database_url) == (USER, TARGET_DATABASE)
    left_as_it_was(checkout)


def test_a_preview_that_fails_says_why_and_leaves_no_plan(checkout: Checkout) -> None:
    failed = checkout.preview("provision")
    assert failed.returncode == 1
    assert "## The preview failed" in checkout.text
    assert "go back to stage copy first" in checkout.text
    assert not (checkout.review / "plan.json").exists()
    assert json.loads((checkout.review / "guard.json").read_text())["failed"]
    checkout.sandbox.configure(stage="cutover")
