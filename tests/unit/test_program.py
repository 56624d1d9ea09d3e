"""What the program declares, at every stage, under Pulumi's mocks: no engine, no server."""

from __future__ import annotations

import asyncio
import json
import runpy
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks as pulumi_mocks

from clarity_infra import program
from clarity_infra.ip_ranges import Ranges
from clarity_infra.review import Review
from clarity_infra.settings import KEYS, STAGES, Settings

ROOT = Path(__file__).parents[2]
ADMIN = "postgresql://admin:pw-MASTER@127.0.0.1:5432/postgres"
CONFIG = {
    "id": "c" * 32,
    "name": "clarity-db",
    "origin": {"host": "db.example.com", "port": 5432, "database": "postgres", "user": "admin", "scheme": "postgres"},
    "caching": {"disabled": False, "max_age": 60, "stale_while_revalidate": 15},
    "origin_connection_limit": 60,
}
SECRET = "4dabf18193072939515e22adb298388d"


class Recorder(pulumi_mocks.Mocks):
    """Answers as the plugins do, as far as the program uses the answer, and keeps what was declared."""

    def __init__(self, live: str = "") -> None:
        self.declared: dict[str, pulumi_mocks.MockResourceArgs] = {}
        self._live = live

    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.declared[f"{args.typ}::{args.name}"] = args
        outputs = dict(args.inputs)
        if args.typ == "random:index/randomPassword:RandomPassword":
            outputs["result"] = "pw-GENERATED"
        if args.typ == "random:index/randomBytes:RandomBytes":
            outputs["base64"] = "c2FsdHNhbHRzYWx0c2FsdA=="
        if args.typ == "pulumi-python:dynamic/clarity:Cutover" and self._live:
            outputs["side"] = self._live
        return f"{args.name}-id", outputs

    def call(self, args: pulumi_mocks.MockCallArgs) -> Any:
        raise AssertionError(f"the program calls {args.token}")

    def of(self, typ: str) -> dict[str, pulumi_mocks.MockResourceArgs]:
        return {key.split("::")[1]: args for key, args in self.declared.items() if key.startswith(typ + "::")}


def declare(monkeypatch: pytest.MonkeyPatch, stage: str, *, live: str = "", **configured: Any) -> Recorder:
    """What is declared at a stage. `live`: the side the switch is at in state, where the engine leaves that resource out (`--target`)."""
    values = {
        "stage": stage,
        "envFile": "",
        "masterDatabaseUrl": ADMIN,
        "databaseUrl": ADMIN,
        "cloudflareAccountId": "a" * 32,
        "cloudflareApiToken": "pw-TOKEN",
        "hyperdriveId": "c" * 32,
        "backupFolder": "backups",
        **configured,
    }
    settings = Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment={}, folder=ROOT)
    wanted = "target" if settings.at_least("cutover") else "source"
    monkeypatch.setattr(program, "begin", lambda: (settings, Review(hyperdrive=CONFIG, side=wanted, wanted=wanted)))
    recorder = Recorder(live)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.runtime.set_mocks(recorder, project="clarity-infra", stack="dev", preview=False)

    def run() -> None:
        runpy.run_path(str(ROOT / "__main__.py"))

    pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]
    return recorder


@pytest.fixture
def cutover(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return declare(monkeypatch, "cutover")


def test_every_stage_declares_the_same_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [set(declare(monkeypatch, stage).declared) for stage in STAGES]
    assert sets[0] == sets[1] == sets[2] == sets[3]
    assert len(sets[0]) > 30


def test_nothing_uses_a_default_provider_of_postgresql_or_cloudflare(cutover: Recorder) -> None:
    for key, args in cutover.declared.items():
        if key.startswith(("postgresql:", "cloudflare:")):
            wanted = "::admin::" if key.startswith("postgresql:") else "::cloudflare::"
            assert args.provider is not None and wanted in args.provider, key


def test_the_admin_provider_is_explicit_about_tls_privileges_and_patience(cutover: Recorder) -> None:
    inputs = cutover.of("pulumi:providers:postgresql")["admin"].inputs
    assert inputs["sslmode"] == "disable"  # loopback
    assert inputs["superuser"] in (False, "false")
    assert float(inputs["connectTimeout"]) == 15


def test_passwords_are_secret_wherever_they_are_declared(cutover: Recorder) -> None:
    def plain(value: Any) -> str:
        if isinstance(value, dict):
            return "" if SECRET in value else " ".join(plain(item) for item in value.values())
        return " ".join(plain(item) for item in value) if isinstance(value, list) else str(value)

    for key, args in cutover.declared.items():
        if key.startswith("pulumi:providers:"):
            continue  # the SDK marks a provider's password itself
        assert "pw-" not in plain(args.inputs), key


def test_the_server_is_given_a_verifier_and_in_clear_only_where_asked(monkeypatch: pytest.MonkeyPatch, cutover: Recorder) -> None:
    def given(recorder: Recorder) -> str:
        value = recorder.of("postgresql:index/role:Role")["user"].inputs["password"]
        return str(value["value"] if isinstance(value, dict) else value)

    assert given(cutover).startswith("SCRAM-SHA-256$4096:")
    assert given(declare(monkeypatch, "copy", passwordForm="plain")) == "pw-GENERATED"


def test_the_user_is_member_by_roles_and_the_role_cannot_log_in(cutover: Recorder) -> None:
    roles = cutover.of("postgresql:index/role:Role")
    assert roles["user"].inputs["roles"] == ["clarity_rw"]
    assert roles["user"].inputs["login"] is True
    assert roles["read-write"].inputs["login"] is False
    assert not roles["read-write"].inputs.get("roles")
    membership = cutover.of("postgresql:index/grantRole:GrantRole")["admin-acts-as-user"].inputs
    assert (membership["role"], membership["grantRole"]) == ("admin", "clarity_user")


def test_the_plans_wider_privileges_stay_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    roles = declare(monkeypatch, "copy", grantAllData="true", readWriteRoleLogin="true").of("postgresql:index/role:Role")
    assert roles["read-write"].inputs["roles"] == ["pg_read_all_data", "pg_write_all_data"]
    assert roles["read-write"].inputs["login"] is True


def test_public_is_left_nothing_and_both_creators_have_default_privileges(cutover: Recorder) -> None:
    grants = cutover.of("postgresql:index/grant:Grant")
    revoked = {name for name, args in grants.items() if args.inputs["role"] == "public"}
    assert revoked == {"public-database", "public-schema-public"}
    assert all(grants[name].inputs["privileges"] == [] for name in revoked)
    defaults = cutover.of("postgresql:index/defaultPrivileges:DefaultPrivileges")
    found = {
        (args.inputs["role"], args.inputs["owner"], args.inputs.get("schema"), args.inputs["objectType"]): args.inputs["privileges"]
        for args in defaults.values()
    }
    kinds = {"table", "sequence", "function"}
    assert {key for key in found if key[1] == "admin" and key[0] == "clarity_rw"} == {
        ("clarity_rw", "admin", schema, kind) for schema in ("public", "drizzle") for kind in kinds
    }
    # The owner's hold in the whole database: migrations make schemas too.
    assert {key for key in found if key[1] == "clarity_user" and key[0] == "clarity_rw"} == {
        ("clarity_rw", "clarity_user", None, kind) for kind in kinds | {"schema"}
    }
    public = {key: privileges for key, privileges in found.items() if key[0] == "public"}
    assert public == {("public", creator, None, "function"): [] for creator in ("admin", "clarity_user")}


def test_a_reader_may_select_and_nothing_else_and_is_made_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch, cutover: Recorder) -> None:
    assert "read-only" not in cutover.of("postgresql:index/role:Role")
    declared = declare(monkeypatch, "cutover", readOnlyRole="clarity_ro")
    role = declared.of("postgresql:index/role:Role")["read-only"].inputs
    assert (role["name"], role["login"], role.get("roles")) == ("clarity_ro", False, None)
    grants = [
        *declared.of("postgresql:index/grant:Grant").values(),
        *declared.of("postgresql:index/defaultPrivileges:DefaultPrivileges").values(),
    ]
    given = {word for args in grants if args.inputs["role"] == "clarity_ro" for word in args.inputs["privileges"]}
    assert given == {"CONNECT", "USAGE", "SELECT"}


def test_logins_take_turns_and_the_former_password_is_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def revisions(recorder: Recorder) -> dict[str, str]:
        passwords = recorder.of("random:index/randomPassword:RandomPassword")
        return {name: args.inputs["keepers"]["revision"] for name, args in passwords.items()}

    first, second, third = (declare(monkeypatch, "cutover", passwordRevision=str(number)) for number in (1, 2, 3))
    assert revisions(first) == {"password": "1"}
    assert revisions(second) == {"password": "1", "password-second": "2"}
    assert revisions(third) == {"password": "3", "password-second": "2"}
    role = second.of("postgresql:index/role:Role")["second-user"].inputs
    assert (role["name"], role["roles"], role["assumeRole"]) == ("clarity_user_2", ["clarity_user"], "clarity_user")
    old = [recorder.of("pulumi-python:dynamic/clarity:OldLogin")["old-login"].inputs["former"] for recorder in (first, second, third)]
    assert old == ["", "clarity_user", "clarity_user_2"]
    users = [recorder.of("pulumi-python:dynamic/clarity:AccessCheck")["access"].inputs["user"] for recorder in (first, second, third)]
    assert users == ["clarity_user", "clarity_user_2", "clarity_user"]


def test_a_read_write_role_that_logs_in_has_a_password(monkeypatch: pytest.MonkeyPatch, cutover: Recorder) -> None:
    assert cutover.of("postgresql:index/role:Role")["read-write"].inputs.get("password") is None
    role = declare(monkeypatch, "copy", readWriteRoleLogin="true").of("postgresql:index/role:Role")["read-write"].inputs
    assert str(role["password"]["value"]).startswith("SCRAM-SHA-256$4096:")


def test_hyperdrive_follows_the_stage_and_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def config(stage: str) -> dict[str, Any]:
        return dict(declare(monkeypatch, stage).of("cloudflare:index/hyperdriveConfig:HyperdriveConfig")["hyperdrive"].inputs)

    def origin(inputs: dict[str, Any]) -> dict[str, Any]:
        value = inputs["origin"]
        return dict(value["value"] if SECRET in value else value)

    before, copying, after, done = (config(stage) for stage in STAGES)
    assert origin(before) == origin(copying)
    assert origin(before)["database"] == "postgres"
    assert origin(before)["user"] == "admin"
    assert origin(after)["database"] == "clarity"
    assert origin(after)["user"] == "clarity_user"
    assert origin(after)["host"] == "db.example.com"
    for inputs in (before, copying, after, done):
        assert inputs["originConnectionLimit"] == 60
        assert int(origin(inputs)["port"]) == 5432
    assert before["caching"] == done["caching"] == {"disabled": False, "maxAge": 60, "staleWhileRevalidate": 15}
    assert copying["caching"] == after["caching"] == {"disabled": True}


@pytest.mark.parametrize(("stage", "live", "database"), [("cutover", "source", "postgres"), ("copy", "target", "clarity")])
def test_what_names_the_live_side_waits_for_the_switch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str, live: str, database: str
) -> None:
    """With `pulumi up --target` of one of them the switch is left as it is in state."""
    file = tmp_path / "wrangler.jsonc"
    file.write_text(json.dumps({"hyperdrive": [{"binding": "HYPERDRIVE", "id": "c" * 32}]}))
    recorder = declare(monkeypatch, stage, live=live, hyperdriveWay="second-config", hyperdriveName="second", wranglerFile=str(file))
    origin = recorder.of("cloudflare:index/hyperdriveConfig:HyperdriveConfig")["hyperdrive-second"].inputs["origin"]
    assert origin["value"]["database"] == database
    for follower in ("EnvFile::env-file", "WranglerFile::wrangler-file"):
        assert recorder.declared[f"pulumi-python:dynamic/clarity:{follower}"].inputs["side"] == live


def test_a_second_config_is_made_beside_the_one_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "wrangler.jsonc"
    file.write_text(json.dumps({"hyperdrive": [{"binding": "HYPERDRIVE", "id": "c" * 32}]}))
    second = {"hyperdriveWay": "second-config", "hyperdriveName": "second", "wranglerFile": str(file)}
    for stage, side in zip(STAGES, ("source", "source", "target", "target"), strict=True):
        recorder = declare(monkeypatch, stage, **second)
        [(name, config)] = recorder.of("cloudflare:index/hyperdriveConfig:HyperdriveConfig").items()
        assert name == "hyperdrive-second", "under the name of the adopted one it would be taken for that"
        assert not config.resource_id, "nothing is imported"
        switched = recorder.of("pulumi-python:dynamic/clarity:Cutover")["cutover"].inputs
        assert (switched["hyperdriveId"], switched["hyperdriveName"]) == ("", "second")
        written = recorder.of("pulumi-python:dynamic/clarity:WranglerFile")["wrangler-file"].inputs
        assert (written["side"], written["hyperdriveId"], written["path"]) == (side, "hyperdrive-second-id", str(file))


def test_the_new_origin_alone_is_verified_by_the_configured_ca(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Settings, "authority", "PEM")
    for stage in STAGES:
        recorder = declare(monkeypatch, stage, hyperdriveCaFile="ca.pem")
        [authority] = recorder.of("cloudflare:index/mtlsCertificate:MtlsCertificate").values()
        assert (authority.inputs["ca"], authority.inputs["certificates"]) == (True, "PEM")
        verified = {"sslmode": "verify-full", "ca_certificate_id": "origin-ca-id"}
        switched = recorder.of("pulumi-python:dynamic/clarity:Cutover")["cutover"].inputs
        assert (json.loads(switched["oldMtls"]), json.loads(switched["newMtls"])) == ({}, verified)
        declared = recorder.of("cloudflare:index/hyperdriveConfig:HyperdriveConfig")["hyperdrive"].inputs.get("mtls")
        shown = {"sslmode": "verify-full", "caCertificateId": "origin-ca-id"}
        assert declared == (shown if stage in ("cutover", "cleanup") else None), stage


def test_the_addresses_to_let_in_are_an_output_in_both_forms(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"masterDatabaseUrl": ADMIN, "envFile": ""}
    settings = Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment={}, folder=ROOT)
    found = program.addresses(settings, Review(ranges=Ranges(("10.0.0.0/8",), "a test")))
    lines = ["hostssl clarity clarity_user,clarity_user_2 10.0.0.0/8 scram-sha-256"]
    assert found == {"from": "a test", "cidrs": ["10.0.0.0/8"], "pg_hba": lines}
    assert program.addresses(settings, Review()) is None


def test_the_recorded_way_back_is_json_of_what_the_config_had(cutover: Recorder) -> None:
    inputs = cutover.of("pulumi-python:dynamic/clarity:WayBack")["way-back"].inputs
    assert json.loads(inputs["hyperdrive"])["origin"] == CONFIG["origin"]


def test_dynamic_providers_are_stored_by_name(cutover: Recorder) -> None:
    dynamic = {key: args for key, args in cutover.declared.items() if key.startswith("pulumi-python:dynamic/clarity:")}
    assert len(dynamic) == 10
    for key, args in dynamic.items():
        assert len(args.inputs["__provider"]) < 300, key
