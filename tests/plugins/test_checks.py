"""What the installed SDK does not know, the stand-ins do not accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from pulumi.runtime.proto import provider_pb2

from sandbox.plugins import sdk
from sandbox.plugins.wire import UNKNOWN, Secret, decode, encode
from tests.plugins.replay import Served

ROLE = ("postgresql", "postgresql:index/role:Role")
GRANT = ("postgresql", "postgresql:index/grant:Grant")
DEFAULTS = ("postgresql", "postgresql:index/defaultPrivileges:DefaultPrivileges")
SCHEMA = ("postgresql", "postgresql:index/schema:Schema")
HYPERDRIVE = ("cloudflare", "cloudflare:index/hyperdriveConfig:HyperdriveConfig")
PASSWORD = ("random", "random:index/randomPassword:RandomPassword")
BYTES = ("random", "random:index/randomBytes:RandomBytes")
ORIGIN = {"database": "d", "password": "p", "scheme": "postgres", "user": "u", "host": "h", "port": 5432}
CONFIG = {"accountId": "a", "name": "n", "origin": ORIGIN}
TABLES = {"database": "d", "role": "r", "objectType": "table", "schema": "s", "privileges": ["SELECT"]}


def check(served: Served, kind: tuple[str, str], inputs: Mapping[str, Any], olds: Mapping[str, Any] | None = None) -> Any:
    plugin, token = kind
    return served.clients[plugin].Check(
        provider_pb2.CheckRequest(type=token, name="it", news=encode(inputs), olds=encode(olds or {}), randomSeed=b"\x12\x34\x56\x78")
    )


def without(properties: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in properties.items() if each != name}


REFUSED: list[tuple[tuple[str, str], Mapping[str, Any], str, str]] = [
    (ROLE, {"name": "r", "logn": True}, "logn", "has no property 'logn'"),
    (ROLE, {"name": "r", "search_paths": []}, "search_paths", "has no property"),
    (ROLE, {"name": 5}, "name", "expected a string"),
    (ROLE, {"name": "r", "login": "true"}, "login", "expected a boolean"),
    (ROLE, {"name": "r", "connectionLimit": "5"}, "connectionLimit", "expected a whole number"),
    (ROLE, {"name": "r", "connectionLimit": 1.5}, "connectionLimit", "expected a whole number"),
    (ROLE, {"name": "r", "connectionLimit": True}, "connectionLimit", "expected a whole number"),
    (ROLE, {"name": "r", "roles": "other"}, "roles", "expected a list"),
    (ROLE, {"name": "r", "roles": ["a", 1]}, "roles[1]", "expected a string"),
    (GRANT, without(TABLES, "role"), "role", "missing required property 'role'"),
    (GRANT, {**TABLES, "objectType": "planet"}, "objectType", "planet"),
    (GRANT, without(TABLES, "schema"), "schema", "mandatory"),
    (GRANT, {**TABLES, "privileges": ["EXECUTE"]}, "privileges", "not an allowed privilege"),
    (
        GRANT,
        {**TABLES, "objectType": "schema", "objects": ["t"], "privileges": ["USAGE"]},
        "objects",
        "cannot specify",
    ),
    (DEFAULTS, TABLES, "owner", "missing required property 'owner'"),
    (
        DEFAULTS,
        {**TABLES, "owner": "o", "objectType": "schema", "privileges": ["USAGE"]},
        "schema",
        "cannot specify",
    ),
    (SCHEMA, {"name": "s", "policies": [{"role": "r", "usage": 1}]}, "policies[0].usage", "expected a boolean"),
    (SCHEMA, {"name": "s", "policies": [{"role": "r"}]}, "policies", "does not provide"),
    (HYPERDRIVE, without(CONFIG, "name"), "name", "missing required property 'name'"),
    (HYPERDRIVE, {**CONFIG, "origin": without(ORIGIN, "password")}, "origin.password", "missing required"),
    (HYPERDRIVE, {**CONFIG, "origin": {**ORIGIN, "pasword": "x"}}, "origin.pasword", "has no property"),
    (HYPERDRIVE, {**CONFIG, "origin": {**ORIGIN, "port": "5432"}}, "origin.port", "expected a whole number"),
    (HYPERDRIVE, {**CONFIG, "origin": "postgres://"}, "origin", "expected an object"),
    (HYPERDRIVE, {**CONFIG, "caching": {"disabled": 1}}, "caching.disabled", "expected a boolean"),
    (PASSWORD, {"special": True}, "length", "missing required property 'length'"),
    (PASSWORD, {"length": 8, "keepers": {"a": 1}}, "keepers.a", "expected a string"),
    (PASSWORD, {"length": 3, "minUpper": 2, "minLower": 2}, "length", "at least 4"),
    (
        PASSWORD,
        {"length": 3, "upper": False, "lower": False, "numeric": False, "special": False},
        "length",
        "must be true",
    ),
    (BYTES, {"length": 0}, "length", "at least 1"),
]


@pytest.mark.parametrize(("kind", "inputs", "path", "reason"), REFUSED)
def test_inputs_that_the_sdk_does_not_allow_fail_the_check(
    served: Served, kind: tuple[str, str], inputs: Mapping[str, Any], path: str, reason: str
) -> None:
    failures = check(served, kind, inputs).failures
    assert [(each.property, reason in each.reason) for each in failures] == [(path, True)], failures


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        (ROLE, {}),
        (ROLE, {"name": "r", "roles": [UNKNOWN], "login": UNKNOWN, "connectionLimit": UNKNOWN}),
        (ROLE, {"name": "r", "password": Secret("p"), "roles": []}),
        (GRANT, {**TABLES, "privileges": []}),
        (GRANT, dict.fromkeys(TABLES, UNKNOWN)),
        (DEFAULTS, {**dict.fromkeys(TABLES, UNKNOWN), "owner": UNKNOWN}),
        (HYPERDRIVE, {**CONFIG, "origin": UNKNOWN}),
        (HYPERDRIVE, {**CONFIG, "mtls": {"sslmode": "require"}, "originConnectionLimit": 20}),
        (PASSWORD, {"length": UNKNOWN}),
        (BYTES, {"length": UNKNOWN}),
    ],
)
def test_inputs_that_the_sdk_allows_pass_known_or_not(served: Served, kind: tuple[str, str], inputs: Mapping[str, Any]) -> None:
    assert not check(served, kind, inputs).failures


@pytest.mark.parametrize(
    ("plugin", "token", "reason"),
    [
        ("postgresql", "postgresql:index/nothing:Nothing", "has no resource type"),
        ("postgresql", "postgresql:index/role:Grant", "has no resource type"),
        ("postgresql", "random:index/randomBytes:RandomBytes", "has no resource type"),
        ("postgresql", "gibberish", "has no resource type"),
        ("postgresql", "postgresql:index/extension:Extension", "does not provide"),
        ("cloudflare", "cloudflare:index/record:Record", "does not provide"),
    ],
)
def test_resource_types_that_are_not_there_are_refused(served: Served, plugin: str, token: str, reason: str) -> None:
    with pytest.raises(Exception, match=reason):
        check(served, (plugin, token), {})


def test_functions_that_are_not_there_are_refused(served: Served) -> None:
    served.clients["cloudflare"].Configure(provider_pb2.ConfigureRequest(args=encode({"apiToken": "t"})))
    for token, reason in (
        ("cloudflare:index/getNothing:getNothing", "has no function"),
        ("cloudflare:index/getZone:getZone", "does not provide the function"),
    ):
        with pytest.raises(Exception, match=reason):
            served.clients["cloudflare"].Invoke(provider_pb2.InvokeRequest(tok=token, args=encode({})))
    answer = served.clients["cloudflare"].Invoke(
        provider_pb2.InvokeRequest(tok="cloudflare:index/getIpRanges:getIpRanges", args=encode({"network": "x"}))
    )
    assert [each.property for each in answer.failures] == ["network"]


@pytest.mark.parametrize(
    ("settings", "path", "reason"),
    [
        ({"hots": "h"}, "hots", "has no property"),
        ({"port": "5432x"}, "port", "expected a whole number"),
        ({"port": '"5432"'}, "port", "expected a whole number"),
        ({"superuser": "maybe"}, "superuser", "expected a boolean"),
        ({"sslmode": "on"}, "sslmode", "unknown sslmode"),
        ({"awsRdsIamAuth": "true"}, "awsRdsIamAuth", "does not provide"),
        ({"scheme": "gcppostgres"}, "scheme", "the scheme postgres only"),
        ({"clientcert": '{"cert": "c"}'}, "clientcert.key", "missing required"),
    ],
)
def test_provider_settings_are_checked_too(served: Served, settings: Mapping[str, Any], path: str, reason: str) -> None:
    answer = served.clients["postgresql"].CheckConfig(provider_pb2.CheckRequest(news=encode(settings)))
    assert [(each.property, reason in each.reason) for each in answer.failures] == [(path, True)], answer.failures


def test_provider_settings_that_are_right_pass_and_the_password_becomes_a_secret(served: Served) -> None:
    news = {"host": "h", "port": "5432", "password": "pw", "superuser": "false", "version": "3.18.2"}
    answer = served.clients["postgresql"].CheckConfig(provider_pb2.CheckRequest(news=encode(news)))
    assert not answer.failures
    assert decode(answer.inputs) == {**news, "password": Secret("pw"), "port": "5432"}


def test_a_changed_provider_setting_is_an_update(served: Served) -> None:
    request = provider_pb2.DiffRequest(old_inputs=encode({"host": "a", "port": "1"}), news=encode({"host": "b"}))
    answer = json_format.MessageToDict(served.clients["postgresql"].DiffConfig(request))
    assert answer == {"changes": "DIFF_SOME", "diffs": ["host", "port"]}


def test_a_missing_name_is_made_up_once(served: Served) -> None:
    first = decode(check(served, ROLE, {}).inputs)
    assert first["name"] == "it-1234567"
    assert "name" in first["__defaults"]
    later = decode(check(served, ROLE, {"login": True}, {**first, "name": "it-kept"}).inputs)
    assert later["name"] == "it-kept"
    proposed = provider_pb2.CheckRequest.AutonamingOptions(proposed_name="proposed")
    asked = provider_pb2.CheckRequest(type=ROLE[1], name="it", autonaming=proposed)
    assert decode(served.clients["postgresql"].Check(asked).inputs)["name"] == "proposed"


def test_a_provider_that_is_not_configured_reaches_for_no_server(served: Served) -> None:
    for plugin, token in (ROLE, HYPERDRIVE):
        with pytest.raises(Exception, match="not configured"):
            served.clients[plugin].Create(provider_pb2.CreateRequest(type=token, properties=encode({"name": "r"})))


def test_every_resource_of_the_stand_ins_is_one_of_the_sdk(served: Served) -> None:
    from sandbox.plugins.cloudflare import Cloudflare
    from sandbox.plugins.postgresql import Postgresql
    from sandbox.plugins.random import Random

    for provider in (Random(), Postgresql(), Cloudflare()):
        for resource in provider.resources({}):
            signature = sdk.resource(provider.package, resource.token)
            assert signature is not None
            own = getattr(resource, "attributes", None) or getattr(resource, "inputs", None)
            if own is not None:
                assert signature.inputs.keys() == set(own), resource.token
