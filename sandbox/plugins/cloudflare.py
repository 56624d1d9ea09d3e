"""The stand-in for the plugin `cloudflare`: HyperdriveConfig, MtlsCertificate and the function getIpRanges.

Run as `python -m sandbox.plugins.cloudflare`. It talks to the API that `baseUrl` or CLOUDFLARE_BASE_URL names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sandbox.plugins.cloudflare_api import Api, NotFound
from sandbox.plugins.provider import Difference, Provider, Refused, Resource, State
from sandbox.plugins.server import serve
from sandbox.plugins.wire import UNKNOWN, Props

_WRITE_ONLY = ("password", "accessClientSecret")
"""What of an origin the API never gives back."""


class _ApiResource(Resource):
    """A resource that the API holds under an account."""

    marks_nothing = False
    collection: ClassVar[str]
    inputs: ClassVar[frozenset[str]]
    computed: ClassVar[frozenset[str]]
    """Outputs that the API makes."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def path(self, account: str, id_: str = "") -> str:
        return f"accounts/{account}/{self.collection}" + (f"/{id_}" if id_ else "")

    def outputs(self, account: str, result: Props) -> Props:
        """The outputs that an answer of the API means, without what it says nothing of."""
        known = self.inputs | self.computed
        found = {name: value for name, value in _camel(result).items() if name in known}
        return {**_without_nothing(found), "accountId": account}

    def read(self, id_: str, outputs: Props, inputs: Props) -> State | None:
        account, _, own_id = id_.rpartition("/")
        account = account or outputs.get("accountId", "")
        if not account:
            raise Refused(f"{self.token} {id_!r} was not imported: its ID is <account ID>/<ID>")
        try:
            result = self.api.call("GET", self.path(account, own_id))
        except NotFound:
            return None
        return self.found(own_id, self.outputs(account, result), outputs, inputs)

    def found(self, id_: str, now: Props, outputs: Props, inputs: Props) -> State:
        """What a read gives, from what the API says `now` and what the state held."""
        return State(id_, now, _restricted(now, inputs) if inputs else self.imported_inputs(now))

    def imported_inputs(self, outputs: Props) -> Props:
        return {name: value for name, value in outputs.items() if name in self.inputs}

    def delete(self, id_: str, outputs: Props) -> None:
        try:
            self.api.call("DELETE", self.path(outputs["accountId"], id_))
        except NotFound:
            return


class HyperdriveConfig(_ApiResource):
    """A Hyperdrive config. Only another account replaces it; its password is the one last declared."""

    token = "cloudflare:index/hyperdriveConfig:HyperdriveConfig"
    collection = "hyperdrive/configs"
    secrets = frozenset(f"origin.{name}" for name in _WRITE_ONLY)
    inputs = frozenset({"accountId", "caching", "integration", "mtls", "name", "origin", "originConnectionLimit"})
    computed = frozenset({"id", "createdOn", "modifiedOn", "restartedOn"})

    def planned(self, inputs: Props, olds: Props | None) -> Props:
        wanted = {name: value for name, value in inputs.items() if value is not None}
        made = {"id": UNKNOWN, "createdOn": UNKNOWN, "modifiedOn": UNKNOWN}
        if olds is None:
            return {**wanted, "caching": self._caching(wanted, None) or UNKNOWN, **made}
        kept = {name: olds[name] for name in self.computed if name in olds}
        planned = {**wanted, **kept}
        if "caching" in olds or "caching" in wanted:
            planned["caching"] = self._caching(wanted, olds.get("caching"))
        # The real plugin overlooks that a new password alone makes a new date of change.
        if _without_write_only(planned) != _without_write_only(olds):
            planned["modifiedOn"] = UNKNOWN
        return planned

    def difference(self, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
        planned = self.planned(inputs, olds)
        names = {name for name in planned.keys() | olds.keys() if planned.get(name) != olds.get(name)} - ignored
        if names == {"modifiedOn"}:
            names = set()
        differing = frozenset(names)
        return Difference(changed=differing, replacing=differing & {"accountId"})

    def create(self, inputs: Props) -> State:
        result = self.api.call("POST", self.path(inputs["accountId"]), self._body(inputs, {}))
        return self._settled(inputs, result)

    def update(self, id_: str, olds: Props, inputs: Props) -> State:
        result = self.api.call("PUT", self.path(inputs["accountId"], id_), self._body(inputs, olds))
        return self._settled(inputs, result)

    def found(self, id_: str, now: Props, outputs: Props, inputs: Props) -> State:
        return super().found(id_, _with_write_only(now, outputs), outputs, inputs)

    def imported_inputs(self, outputs: Props) -> Props:
        # Caching may be left to the API, and is then not the program's.
        return {name: value for name, value in super().imported_inputs(outputs).items() if name != "caching"}

    def _settled(self, inputs: Props, result: Props) -> State:
        now = _with_write_only(self.outputs(inputs["accountId"], result), inputs)
        return State(str(now["id"]), now)

    @staticmethod
    def _caching(wanted: Props, prior: Props | None) -> Any:
        if "caching" not in wanted:
            return prior
        caching = wanted["caching"]
        return caching if caching is UNKNOWN or "disabled" in caching else {"disabled": False, **caching}

    def _body(self, inputs: Props, olds: Props) -> Props:
        """The whole object for a POST or PUT; what was there before and is not declared any more is sent as null."""
        own = self.inputs - {"accountId"}
        wanted = {name: value for name, value in inputs.items() if name in own and value is not None}
        # Caching that is not declared at all is the API's to keep; of one that is, single times are taken back like anything else.
        before = {name: value for name, value in olds.items() if name in own and (name != "caching" or name in wanted)}
        body: Props = _snake(_with_nulls(wanted, before))
        return body


class MtlsCertificate(_ApiResource):
    """A certificate in an account, such as the CA that Hyperdrive checks an origin with. Every change replaces it."""

    token = "cloudflare:index/mtlsCertificate:MtlsCertificate"
    collection = "mtls_certificates"
    secrets = frozenset({"privateKey"})
    inputs = frozenset({"accountId", "ca", "certificates", "name", "privateKey"})
    computed = frozenset({"id", "expiresOn", "issuer", "serialNumber", "signature", "updatedAt", "uploadedOn"})

    def planned(self, inputs: Props, olds: Props | None) -> Props:
        wanted = {name: value for name, value in inputs.items() if value is not None}
        return {**wanted, **(dict.fromkeys(self.computed, UNKNOWN) if olds is None else olds)}

    def difference(self, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
        names = self.inputs - ignored
        differing = frozenset(name for name in names if _comparable(inputs.get(name)) != _comparable(olds.get(name)))
        return Difference(changed=differing, replacing=differing)

    def create(self, inputs: Props) -> State:
        body = _snake({name: value for name, value in inputs.items() if name != "accountId"})
        now = self.outputs(inputs["accountId"], self.api.call("POST", self.path(inputs["accountId"]), body))
        return State(str(now["id"]), {**now, **inputs})

    def found(self, id_: str, now: Props, outputs: Props, inputs: Props) -> State:
        merged = dict(now)
        if "privateKey" in outputs:
            merged["privateKey"] = outputs["privateKey"]
        if _comparable(outputs.get("certificates")) == _comparable(now.get("certificates")):
            merged["certificates"] = outputs["certificates"]
        return super().found(id_, merged, outputs, inputs)

    def update(self, id_: str, olds: Props, inputs: Props) -> State:
        raise Refused(f"{self.token} {id_!r} was not updated: every change of it makes a new one")


class Cloudflare(Provider):
    """The provider itself."""

    package = "cloudflare"
    secret_settings = frozenset({"apiKey", "apiToken", "apiUserServiceKey"})
    accept_resources = True

    def resources(self, settings: Props) -> Sequence[Resource]:
        api = Api.of(settings)
        return (HyperdriveConfig(api), MtlsCertificate(api))

    def invoke(self, settings: Props, token: str, arguments: Props) -> Props:
        if token != "cloudflare:index/getIpRanges:getIpRanges":
            return super().invoke(settings, token, arguments)
        networks = arguments.get("networks")
        if networks not in (None, "jdcloud"):
            raise Refused(f"getIpRanges knows the networks 'jdcloud' only, not {networks!r}")
        result = Api.of(settings).call("GET", "ips" + (f"?networks={networks}" if networks else ""))
        known = ("etag", "ipv4Cidrs", "ipv6Cidrs", "jdcloudCidrs")
        return {name: value for name, value in _without_nothing(_camel(result)).items() if name in known}


def _with_write_only(now: Props, declared: Props) -> Props:
    """`now` with the passwords of the origin in `declared`, which the API keeps to itself."""
    secrets = {name: value for name, value in (declared.get("origin") or {}).items() if name in _WRITE_ONLY}
    return {**now, "origin": {**now["origin"], **secrets}} if secrets and "origin" in now else now


def _without_write_only(properties: Props) -> Props:
    origin = properties.get("origin")
    if not isinstance(origin, dict):
        return properties
    return {**properties, "origin": {name: value for name, value in origin.items() if name not in _WRITE_ONLY}}


def _restricted(now: Any, inputs: Any) -> Any:
    """The values of `now` for what the inputs held, at every depth; new properties are the state's alone."""
    if isinstance(now, dict) and isinstance(inputs, dict):
        return {name: _restricted(now[name], inputs[name]) for name in inputs if name in now}
    return now


def _with_nulls(wanted: Props, before: Props) -> Props:
    body: Props = {**dict.fromkeys(before), **wanted}
    for name, value in before.items():
        if isinstance(value, dict) and isinstance(body[name], dict):
            body[name] = _with_nulls(body[name], value)
    return body


def _without_nothing(value: Any) -> Any:
    """`value` without null properties and objects that have become empty."""
    if not isinstance(value, dict):
        return value
    cleaned = {name: _without_nothing(each) for name, each in value.items()}
    return {name: each for name, each in cleaned.items() if each is not None and each != {}}


def _comparable(certificates: Any) -> Any:
    """PEM texts without the white space that does not matter; other values as they are, false and null as one."""
    return "".join(certificates.split()) if isinstance(certificates, str) else certificates or None


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {re.sub(r"_(\w)", lambda found: found[1].upper(), name): _camel(each) for name, each in value.items()}
    return value


def _snake(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name): _snake(v) for name, v in value.items()}
    return value


if __name__ == "__main__":
    serve(Cloudflare())
