"""The stand-in for `cloudflare` asks the API as the real plugin does, and keeps what the API does not give back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.cloudflare import CloudflareApi
from sandbox.plugins.cloudflare import Cloudflare
from sandbox.plugins.cloudflare_api import DEFAULT_BASE_URL, RETRIES, Api
from sandbox.plugins.provider import Refused
from sandbox.plugins.wire import UNKNOWN, Props, Secret
from sandbox.postgres import Server, free_port
from tests.plugins.client import Engine, Failed
from tests.plugins.conftest import ADMIN_PASSWORD
from tests.plugins.fake_cloudflare import TOKEN, FakeCloudflare
from tests.plugins.replay import Served

ACCOUNT = "a" * 32
ORIGIN: Props = {
    "scheme": "postgres",
    "host": "db.example",
    "port": 5432,
    "database": "postgres",
    "user": "u",
    "password": "origin-password",
}
CONFIG: Props = {"accountId": ACCOUNT, "name": "n", "origin": ORIGIN, "caching": {"disabled": True}}
PATH = f"/client/v4/accounts/{ACCOUNT}/hyperdrive/configs"


@pytest.fixture
def connect(api: FakeCloudflare, served: Served) -> Callable[..., Engine]:
    api.next_id, api.now = "c" * 32, "2026-01-01T00:00:00Z"

    def connected(**settings: Any) -> Engine:
        return Engine(served.clients["cloudflare"], "cloudflare", **{"apiToken": TOKEN, "baseUrl": api.url, **settings})

    return connected


def test_a_config_is_posted_put_and_deleted_whole(connect: Callable[..., Engine], api: FakeCloudflare) -> None:
    engine = connect()
    made = engine.create("HyperdriveConfig", **CONFIG, originConnectionLimit=20)
    assert api.requests[-1] == (
        "POST",
        PATH,
        {"name": "n", "origin": ORIGIN, "caching": {"disabled": True}, "origin_connection_limit": 20},
    )
    assert made.outputs["origin"]["password"] == "origin-password"
    other = {**ORIGIN, "database": "clarity"}
    del other["port"]
    updated = engine.update(made, **{**CONFIG, "origin": other, "caching": {"disabled": False, "maxAge": 30}})
    assert api.requests[-1] == (
        "PUT",
        f"{PATH}/{made.id}",
        {
            "name": "n",
            "origin": {**other, "port": None},
            "caching": {"disabled": False, "max_age": 30},
            "origin_connection_limit": None,
        },
    )
    assert updated.outputs["caching"] == {"disabled": False, "maxAge": 30}
    assert "originConnectionLimit" not in updated.outputs
    refreshed = engine.refresh(updated)
    assert refreshed is not None
    assert refreshed.outputs == updated.outputs
    # apijson/encoder.go of the real provider: what the state had and the plan has not goes as null, in nested objects too.
    engine.update(updated, **CONFIG)
    assert api.requests[-1][2]["caching"] == {"disabled": True, "max_age": None}
    engine.delete(updated)
    assert api.requests[-1][:2] == ("DELETE", f"{PATH}/{made.id}")
    assert engine.refresh(updated) is None
    engine.delete(updated)  # one that is gone already is no error


def test_what_the_api_adds_is_a_difference_after_a_refresh(connect: Callable[..., Engine], api: FakeCloudflare) -> None:
    engine = connect()
    made = engine.create("HyperdriveConfig", **{**CONFIG, "caching": {"disabled": False}})
    api.configs[made.id]["caching"] = {"disabled": False, "max_age": 60}
    refreshed = engine.refresh(made)
    assert refreshed is not None
    assert refreshed.inputs["caching"] == {"disabled": False}
    assert "caching" in engine.diff(refreshed)["diffs"]
    api.configs[made.id].update(caching={"disabled": False}, mtls={"sslmode": None})
    refreshed = engine.refresh(made)
    assert refreshed is not None
    assert engine.diff(refreshed)["changes"] == "DIFF_NONE"


def test_only_another_account_replaces(connect: Callable[..., Engine]) -> None:
    engine = connect()
    made = engine.create("HyperdriveConfig", **CONFIG)
    assert "replaces" not in engine.diff(made, **{**CONFIG, "name": "other", "caching": {"disabled": False}})
    assert engine.diff(made, **{**CONFIG, "accountId": "b"})["replaces"] == ["accountId"]
    assert engine.diff(made)["changes"] == "DIFF_NONE"


def test_an_import_needs_the_account_and_finds_no_password(connect: Callable[..., Engine], api: FakeCloudflare) -> None:
    engine = connect()
    api.configs["known"] = {"id": "known", "name": "n", "origin": {**ORIGIN, "password": "not ours"}}
    found = engine.import_("HyperdriveConfig", f"{ACCOUNT}/known")
    assert found is not None
    assert found.id == "known"
    assert found.outputs["accountId"] == ACCOUNT
    assert "password" not in found.outputs["origin"]
    assert engine.import_("HyperdriveConfig", f"{ACCOUNT}/unknown") is None
    with pytest.raises(Failed, match="its ID is <account ID>/<ID>"):
        engine.import_("HyperdriveConfig", "known")


def test_a_certificate_is_compared_by_what_it_says(connect: Callable[..., Engine], api: FakeCloudflare) -> None:
    engine = connect()
    certificate: Props = {"accountId": ACCOUNT, "ca": True, "certificates": "-----BEGIN-----\nabc\n-----END-----\n"}
    planned = engine.preview("MtlsCertificate", **certificate)
    assert planned["id"] is UNKNOWN
    made = engine.create("MtlsCertificate", **certificate, privateKey="key")
    assert api.requests[-1][2] == {"ca": True, "certificates": certificate["certificates"], "private_key": "key"}
    assert made.outputs["privateKey"] == "key"
    api.certificates[made.id]["certificates"] = certificate["certificates"].strip()
    refreshed = engine.refresh(made)
    assert refreshed is not None
    assert refreshed.outputs["certificates"] == certificate["certificates"]
    assert engine.diff(refreshed)["changes"] == "DIFF_NONE"
    other = {**certificate, "certificates": "another"}
    assert engine.diff(refreshed, **other, privateKey="key")["replaces"] == ["certificates"]
    engine.delete(made)
    assert not api.certificates


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_answers_that_may_pass_are_tried_ten_times_more(status: int, connect: Callable[..., Engine], api: FakeCloudflare) -> None:
    engine = connect()
    api.failures = [status] * RETRIES
    assert engine.create("HyperdriveConfig", **CONFIG).id == api.next_id
    assert len(api.requests) == RETRIES + 1
    api.failures = [status] * (RETRIES + 2)
    with pytest.raises(Failed, match=rf"{status}: try again \(code 2015\)"):
        engine.create("HyperdriveConfig", **CONFIG)
    assert len(api.failures) == 1


def test_answers_that_will_not_pass_are_told_at_once_without_a_secret(connect: Callable[..., Engine], api: FakeCloudflare) -> None:
    engine = connect(apiToken="another-token-of-mine")
    with pytest.raises(Failed, match=r"403: Authentication error \(code 10000\)") as caught:
        engine.create("HyperdriveConfig", **CONFIG)
    assert len(api.requests) == 1
    assert "another-token-of-mine" not in str(caught.value)
    assert "origin-password" not in str(caught.value)


def test_an_api_that_is_not_there_is_told(connect: Callable[..., Engine]) -> None:
    with pytest.raises(Failed, match=r"no answer.*refused"):
        connect(baseUrl=f"http://127.0.0.1:{free_port()}").create("HyperdriveConfig", **CONFIG)


def test_access_comes_from_settings_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_BASE_URL", "CLOUDFLARE_API_KEY", "CLOUDFLARE_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    assert Api.of({"apiToken": "t"}) == Api(DEFAULT_BASE_URL, {"Authorization": "Bearer t"})
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://there/v4")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "from-environment")
    assert Api.of({}) == Api("http://there/v4/", {"Authorization": "Bearer from-environment"})
    assert Api.of({"apiKey": "k", "email": "e"}).headers["X-Auth-Key"] == "k"
    assert "from-environment" not in repr(Api.of({}))


def test_secrets_are_marked(connect: Callable[..., Engine]) -> None:
    planned = connect().preview("HyperdriveConfig", **CONFIG)
    assert planned["origin"]["password"] == Secret("origin-password")
    assert "origin-password" not in repr(planned["origin"]["password"])


def test_the_sandboxs_api_and_the_stand_in_understand_each_other(recorded_server: Server, served: Served, tmp_path: Path) -> None:
    origin: Props = {**ORIGIN, "host": "127.0.0.1", "port": recorded_server.port, "user": "postgres", "password": ADMIN_PASSWORD}
    config: Props = {"accountId": ACCOUNT, "name": "n", "origin": origin, "caching": {"disabled": False}}
    with CloudflareApi(tmp_path / "state", token=TOKEN) as api:
        engine = Engine(served.clients["cloudflare"], "cloudflare", apiToken=TOKEN, baseUrl=api.base_url)
        made = engine.create("HyperdriveConfig", **config, originConnectionLimit=20)
        other: Props = {**config, "origin": {**origin, "database": "template1"}, "caching": {"disabled": True}}
        updated = engine.update(made, **other)
        for state, inputs in ((made, {**config, "originConnectionLimit": 20}), (updated, other)):
            assert engine.diff(state, **inputs)["changes"] == "DIFF_NONE"
        refreshed = engine.refresh(updated)
        assert refreshed is not None
        assert refreshed.outputs == updated.outputs
        with pytest.raises(Failed, match="password authentication failed"):
            engine.update(updated, **{**other, "origin": {**origin, "password": "wrong-password"}})
        adopted = engine.import_("HyperdriveConfig", f"{ACCOUNT}/{made.id}")
        assert adopted is not None
        assert engine.diff(adopted, **other)["diffs"] == ["origin"]
        engine.delete(updated)
        assert engine.refresh(updated) is None


def test_an_origin_behind_access_is_adopted_and_keeps_its_secret(recorded_server: Server, served: Served, tmp_path: Path) -> None:
    """The API never gives the client's secret back, and knows no port here: neither may show as a difference."""
    login: Props = {"scheme": "postgres", "database": "postgres", "user": "postgres", "password": ADMIN_PASSWORD, "host": "db.internal"}
    origin: Props = {**login, "accessClientId": "client.access", "accessClientSecret": "sesame-secret"}
    config: Props = {"accountId": ACCOUNT, "name": "n", "caching": {"disabled": False}}
    with CloudflareApi(tmp_path / "state", token=TOKEN) as api:
        api.add_tunnel("db.internal", client_id="client.access", client_secret="sesame-secret", port=recorded_server.port)
        engine = Engine(served.clients["cloudflare"], "cloudflare", apiToken=TOKEN, baseUrl=api.base_url)
        made = engine.create("HyperdriveConfig", **config, origin=origin)
        assert engine.diff(made, **config, origin=origin)["changes"] == "DIFF_NONE"
        refreshed = engine.refresh(made)
        assert refreshed is not None
        assert refreshed.outputs == made.outputs
        assert engine.diff(refreshed, **config, origin=origin)["changes"] == "DIFF_NONE"
        adopted = engine.import_("HyperdriveConfig", f"{ACCOUNT}/{made.id}")
        assert adopted is not None
        updated = engine.update(adopted, **config, origin={**origin, "database": "template1"})
        assert api.configs.get(ACCOUNT, made.id)["origin"]["access_client_id"] == "client.access"
        assert "port" not in updated.outputs["origin"]
        planned = engine.preview("HyperdriveConfig", **config, origin=origin)
        assert planned["origin"]["accessClientSecret"] == Secret("sesame-secret")


def test_ip_ranges_of_another_network_are_refused() -> None:
    with pytest.raises(Refused, match="jdcloud"):
        Cloudflare().invoke({}, "cloudflare:index/getIpRanges:getIpRanges", {"networks": "other"})
