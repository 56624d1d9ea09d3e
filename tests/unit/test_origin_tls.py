"""How Cloudflare verifies the new origin: by the CA that was configured, tried before the switch, and back to what it was on the way back."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clarity_infra.errors import ConfigurationError
from clarity_infra.hyperdrive_api import Hyperdrive, Origin, OriginSwitch
from sandbox.cloudflare import CloudflareApi
from sandbox.postgres import UNLOGGED_SPEED, Server
from tests.authorities import authorities, server_settings

pytestmark = pytest.mark.pg15

ACCOUNT = "a" * 32


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with authorities() as made:
        yield made


@pytest.fixture(scope="module")
def secure(folder: Path, server15: Server) -> Iterator[Server]:
    """The embedded PostgreSQL has no TLS, so this one is Debian's."""
    home = Path(tempfile.mkdtemp(prefix="clarity-origin-tls-"))
    home.chmod(0o755)
    server = Server(home / "server", bindir=server15.bindir, settings={**UNLOGGED_SPEED, **server_settings(folder)})
    try:
        server.start()
        yield server
    finally:
        server.remove()
        shutil.rmtree(home)


@pytest.fixture
def way(secure: Server, folder: Path, tmp_path: Path) -> Iterator[tuple[CloudflareApi, dict[str, OriginSwitch]]]:
    """A config on the old origin, and a switch for each authority."""
    with CloudflareApi(tmp_path / "state", token="t") as api:
        old = Origin("127.0.0.1", secure.port, "postgres", "postgres", secure.superuser_password)
        new = dataclasses.replace(old, database="template1")
        made = api.configs.create(ACCOUNT, {"name": "clarity-db", "origin": old.parameters(), "caching": {"disabled": True}})

        def switch(name: str) -> OriginSwitch:
            body = {"ca": True, "certificates": (folder / f"{name}.pem").read_text(), "name": name}
            verified = {"sslmode": "verify-full", "ca_certificate_id": api.certificates.create(ACCOUNT, body)["id"]}
            service = Hyperdrive(ACCOUNT, "t", api.base_url)
            return OriginSwitch(service, made["id"], "clarity-db", old, new, 0.0, lambda _: None, {}, verified)

        yield api, {name: switch(name) for name in ("right", "wrong")}


def shown(api: CloudflareApi) -> list[dict[str, Any]]:
    """The account's configs without the times of their changes."""
    return [{key: value for key, value in config.items() if key != "modified_on"} for config in api.configs.all(ACCOUNT)]


def test_the_right_authority_verifies_the_new_origin_only(way: tuple[CloudflareApi, dict[str, OriginSwitch]]) -> None:
    api, switches = way
    before = shown(api)
    switch = switches["right"]
    assert switch.prepare() == "Cloudflare connected to the new origin"
    assert shown(api) == before
    switch.to_target()
    [config] = shown(api)
    assert config["mtls"] == switch.target_mtls
    assert switch.where() == "target"
    switch.to_source()
    assert shown(api) == before
    assert "mtls" not in before[0]


def test_a_wrong_authority_or_host_is_refused_before_anything_is_changed(way: tuple[CloudflareApi, dict[str, OriginSwitch]]) -> None:
    api, switches = way
    before = shown(api)
    elsewhere = dataclasses.replace(switches["right"], target=dataclasses.replace(switches["right"].target, host="localhost"))
    for switch in (switches["wrong"], elsewhere):
        with pytest.raises(ConfigurationError, match="Cloudflare refused: a connection to the new origin") as raised:
            switch.prepare()
        assert "2012 TLS with" in str(raised.value)
        assert "What to do: " in str(raised.value)
        assert shown(api) == before
        with pytest.raises(ConfigurationError, match="Cloudflare refused: the origin of"):
            switch.to_target()  # what an account without room for a trial comes to: the old origin stays
        assert shown(api) == before


def test_what_a_config_had_stays_where_no_authority_is_given(way: tuple[CloudflareApi, dict[str, OriginSwitch]]) -> None:
    api, switches = way
    [config] = shown(api)
    mtls = switches["right"].target_mtls
    api.configs.edit(ACCOUNT, config["id"], {"mtls": mtls})
    kept = dataclasses.replace(switches["right"], source_mtls=None, target_mtls=None)
    assert kept.prepare() == "Cloudflare connected to the new origin"
    kept.to_target()
    assert shown(api)[0]["mtls"] == mtls
