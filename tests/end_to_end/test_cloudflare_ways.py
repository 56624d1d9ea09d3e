"""What Cloudflare may be besides reachable and public: behind Access, verified by a CA of one's own, or out of reach."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from sandbox.engine import EngineError
from sandbox.postgres import Server
from sandbox.stack import ACCOUNT_ID, APPLICATION_ROLE, HYPERDRIVE_NAME, SOURCE_DATABASE, STAGES, Sandbox
from tests.authorities import authorities, server_settings
from tests.end_to_end import facts
from tests.end_to_end.conftest import NewSandbox
from tests.end_to_end.facts import TARGET_DATABASE, USER
from tests.end_to_end.planted import set_secret

CONFIGS = f"/accounts/{ACCOUNT_ID}/hyperdrive/configs"
CERTIFICATES = f"/accounts/{ACCOUNT_ID}/mtls_certificates"


# Behind Access


def test_an_origin_behind_access_stays_behind_it(new_sandbox: NewSandbox) -> None:
    """The API never gives the client's secret, so it is configured; nothing gives such an origin a port."""
    sandbox = new_sandbox()
    client = {"client_id": "client.access", "client_secret": "sesame-open-secret"}
    sandbox.cloudflare_control("", {"tunnels": [{"host": "db.internal.example.com", "port": sandbox.server.port, **client}]})
    token = {"access_client_id": client["client_id"], "access_client_secret": client["client_secret"]}
    origin = {"host": "db.internal.example.com", "database": SOURCE_DATABASE, "user": APPLICATION_ROLE, "scheme": "postgres", **token}
    config = facts.hyperdrive(sandbox)
    sandbox.cloudflare_api("PATCH", f"{CONFIGS}/{config['id']}", {"origin": origin})
    before = facts.application(sandbox)

    with pytest.raises(EngineError) as raised:
        sandbox.preview("provision")
    assert "behind Cloudflare Access (client client.access)" in raised.value.result.output
    set_secret(sandbox, "originAccessSecret", client["client_secret"])
    sandbox.climb("cutover")
    now = facts.hyperdrive(sandbox)
    moved = {**before.hyperdrive["origin"], "database": TARGET_DATABASE, "user": USER}
    assert now == {**before.hyperdrive, "origin": moved, "caching": {"disabled": True}}
    assert "port" not in now["origin"]
    assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET_DATABASE)
    outputs = sandbox.outputs()
    assert outputs["hyperdrive"]["after"] == moved
    assert outputs.get("cloudflareAddresses") is None, "a tunnel comes from within"
    assert client["client_secret"] not in str(outputs)
    assert not sandbox.preview("cutover").changed
    sandbox.destroy()
    assert facts.application(sandbox).hyperdrive == before.hyperdrive
    assert facts.whereabouts(facts.connection_string(sandbox)) == (APPLICATION_ROLE, SOURCE_DATABASE)


# Cached reads


@pytest.mark.parametrize("way", ["in-place", "second-config"])
def test_the_cache_is_off_from_the_copy_on_and_as_it_was_after_the_clean_up(new_sandbox: NewSandbox, way: str) -> None:
    """With times of its own, which no default has; the config that is followed is the adopted one, or the second."""
    sandbox = new_sandbox(rows=200, config={"hyperdriveWay": way, "monitoringHours": 0})
    followed = HYPERDRIVE_NAME if way == "in-place" else "clarity-second"
    sandbox.configure(hyperdriveName=followed)
    caching = {"disabled": False, "max_age": 30, "stale_while_revalidate": 5}
    sandbox.cloudflare_api("PATCH", f"{CONFIGS}/{facts.hyperdrive(sandbox)['id']}", {"caching": caching})
    before = facts.hyperdrive(sandbox)
    assert before["caching"] == caching

    found = {}
    for stage in STAGES:
        sandbox.up(stage)
        found[stage] = facts.hyperdrive(sandbox, followed)["caching"]
        assert way == "in-place" or facts.hyperdrive(sandbox) == before, "the one the application has is left alone"
    assert found == {"provision": caching, "copy": {"disabled": True}, "cutover": {"disabled": True}, "cleanup": caching}
    assert sandbox.psql(SOURCE_DATABASE, "SELECT to_regclass('public.feature_requests')") == [(None,)]
    assert facts.whereabouts(facts.connection_string(sandbox, followed)) == (USER, TARGET_DATABASE)
    assert not sandbox.preview("cleanup", "--refresh").changed


# A CA of one's own


@pytest.mark.pg15
def test_the_new_origin_is_verified_by_the_configured_ca(server15: Server, new_sandbox: NewSandbox) -> None:
    """The embedded PostgreSQL has no TLS, so this one is Debian's. What a wrong CA comes to: tests/unit/test_origin_tls.py."""
    with authorities() as folder:
        sandbox = new_sandbox(bindir=server15.bindir, settings=server_settings(folder), config={"hyperdriveCaFile": str(folder / "right.pem")})
        before = facts.application(sandbox)
        sandbox.climb("copy")
        assert "mtls" not in facts.hyperdrive(sandbox), "the old origin is verified as it was"
        sandbox.up("cutover")
        [authority] = sandbox.cloudflare_api("GET", CERTIFICATES)
        assert authority["certificates"] == (folder / "right.pem").read_text()
        assert facts.hyperdrive(sandbox)["mtls"] == {"sslmode": "verify-full", "ca_certificate_id": authority["id"]}
        assert facts.whereabouts(facts.connection_string(sandbox)) == (USER, TARGET_DATABASE)
        assert not sandbox.preview("cutover").changed
        sandbox.destroy()
        assert facts.application(sandbox).hyperdrive == before.hyperdrive
        assert sandbox.cloudflare_api("GET", CERTIFICATES) == []


# Out of reach


@contextlib.contextmanager
def silenced(sandbox: Sandbox) -> Iterator[None]:
    """The API takes connections and never answers, as behind a firewall that swallows."""
    pid = sandbox.cloudflare.pid
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def gone(sandbox: Sandbox) -> Iterator[None]:
    """Nobody listens where the API was."""
    sandbox.cloudflare.stop()
    try:
        yield
    finally:
        sandbox.prepare()


def warned(output: str) -> int:
    """How many warnings say so: the engine shows each as it comes, and again at the end."""
    return output.partition("Diagnostics:")[2].count("warning: Cloudflare's API cannot be reached")


def test_cloudflare_out_of_reach_is_one_warning_at_preview_and_an_error_on_up(new_sandbox: NewSandbox) -> None:
    """Before the first `up`, where the config is yet to be imported, and after it."""
    sandbox = new_sandbox()
    before = facts.application(sandbox)
    for out_of_reach in (silenced, gone):
        with out_of_reach(sandbox):
            looked = sandbox.preview("provision")
        assert warned(looked.output) == 1
        assert "what would happen to the Hyperdrive config cannot be told from here" in looked.output
        assert "public.feature_requests" in looked.output, "the rest of the preview is there"
        assert ("create", "hyperdrive") in [(step.op, step.name) for step in looked.steps]
    with gone(sandbox), pytest.raises(EngineError) as raised:
        sandbox.up("provision")
    assert "error: Cloudflare's API cannot be reached" in raised.value.result.output
    assert facts.application(sandbox) == before

    sandbox.up("provision")
    with gone(sandbox):
        looked = sandbox.preview("provision")
    assert warned(looked.output) == 1
    assert not looked.changed, "what was recorded is taken to be there still"
    assert facts.application(sandbox).hyperdrive == before.hyperdrive
