"""Replays recordings of the real plugins against the stand-ins, over gRPC, and says where they differ.

What is not compared literally, and why:
- the port, the API's address and the generated passwords and bytes of a recording become this run's, in requests and in
  expected answers alike; that the generated ones are of the right kind is checked when they first appear;
- IDs and times of the Cloudflare API are made by the fake API, which is told to make those of the recording.
Nothing else is left out: `__defaults`, secret wrappings, unknowns, stables, detailed differences and nulls are compared.
The bridge's `__meta` and `__pulumi_raw_state_delta` are not in the recordings.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from sandbox.plugins import bcrypt
from sandbox.plugins.provider import Provider
from sandbox.plugins.server import start
from tests.plugins.fake_cloudflare import FakeCloudflare

RECORDINGS = Path(__file__).parent / "recordings"
PORT = 55450
API = "http://127.0.0.1:8787/client/v4"

_STEPS = ("preview", "up", "refresh", "noop", "destroy")
_INTERRUPTED = ["rpc error: code = Canceled desc = grpc: the client connection is closing"]
_SECRET = "4dabf18193072939515e22adb298388d"
_REQUESTS = {
    "CheckConfig": provider_pb2.CheckRequest,
    "DiffConfig": provider_pb2.DiffRequest,
    "Configure": provider_pb2.ConfigureRequest,
    "Invoke": provider_pb2.InvokeRequest,
    "Check": provider_pb2.CheckRequest,
    "Diff": provider_pb2.DiffRequest,
    "Create": provider_pb2.CreateRequest,
    "Read": provider_pb2.ReadRequest,
    "Update": provider_pb2.UpdateRequest,
    "Delete": provider_pb2.DeleteRequest,
}


@dataclass(frozen=True)
class Call:
    """One recorded call; `where` says file and line."""

    where: str
    plugin: str
    method: str
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def is_preview(self) -> bool:
        return bool(self.request.get("preview"))


def steps(run: str) -> list[str]:
    """The names of the steps of a run (`1-preview` ...), in the order in which they were recorded."""
    names = [path.stem for path in (RECORDINGS / run).glob("*.jsonl")]
    return sorted(names, key=lambda name: (name.split("-")[0], _STEPS.index(name.split("-")[1])))


def calls(run: str, step: str) -> Iterator[Call]:
    """The calls of one step, but for those whose answer the engine did not wait for."""
    for number, line in enumerate((RECORDINGS / run / f"{step}.jsonl").read_text().splitlines(), 1):
        one = json.loads(line)
        if one.get("errors") == _INTERRUPTED:
            continue
        assert not one.get("errors"), f"{run}/{step}:{number} records an error that the replay does not know"
        yield Call(f"{run}/{step}:{number}", one["plugin"], one["method"], one["request"], one["response"])


@dataclass
class Replay:
    """Replays calls of one run. `mapped` grows as values are generated."""

    plugins: Mapping[str, provider_pb2_grpc.ResourceProviderStub]
    api: FakeCloudflare | None = None
    mapped: dict[Any, Any] = field(default_factory=dict)

    def differences(self, call: Call) -> list[str]:
        """How the stand-in's answer to `call` differs from the recorded one."""
        self._prepare_api(call)
        request = json_format.ParseDict(self._here(call.request), _REQUESTS[call.method]())
        try:
            answer = getattr(self.plugins[call.plugin], call.method)(request)
        except grpc.RpcError as error:
            return [f"{call.where} {call.method} of {call.request.get('name')}: failed: {error.details()}"]
        actual = json_format.MessageToDict(answer)
        if call.method == "Create" and call.plugin == "random" and not call.is_preview:
            self._learn(call, actual)
        found = unlike(self._here(call.response), actual)
        return [f"{call.where} {call.method} of {call.request.get('name')}: {each}" for each in found]

    def _prepare_api(self, call: Call) -> None:
        made = call.response.get("properties") or {}
        if self.api and call.plugin == "cloudflare" and call.method in ("Create", "Update") and not call.is_preview:
            self.api.next_id = made["id"]
            self.api.now = made.get("modifiedOn") or made["uploadedOn"]

    def _learn(self, call: Call, actual: dict[str, Any]) -> None:
        """Takes down what was generated, having seen that it is what it should be."""
        recorded, made = call.response["properties"], actual["properties"]
        if "result" in made:
            password, hashed = made["result"]["value"], made["bcryptHash"]["value"]
            alphabet = "A-Za-z0-9" + ("" if made["special"] is False else re.escape("!@#$%&*()-_=+[]{}<>:?"))
            assert re.fullmatch(f"[{alphabet}]{{{made['length']:.0f}}}", password)
            assert bcrypt.matches(password, hashed)
            assert password not in self.mapped.values()
            self.mapped[recorded["result"]["value"]] = password
            self.mapped[recorded["bcryptHash"]["value"]] = hashed
        else:
            data = base64.b64decode(made["base64"]["value"], validate=True)
            assert len(data) == made["length"]
            assert made["hex"]["value"] == data.hex()
            self.mapped[recorded["base64"]["value"]] = made["base64"]["value"]
            self.mapped[recorded["hex"]["value"]] = data.hex()

    def _here(self, value: Any) -> Any:
        """`value` of the recording as it is in this run."""
        if isinstance(value, dict):
            return {name: self._here(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._here(each) for each in value]
        return value if isinstance(value, bool) else self.mapped.get(value, value)


def unlike(expected: Any, actual: Any, path: str = "answer") -> Iterator[str]:
    """Where `actual` differs from `expected`, in words."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        for name in sorted(expected.keys() | actual.keys()):
            if name not in actual:
                yield f"{path}.{name} is missing, expected {expected[name]!r}"
            elif name not in expected:
                yield f"{path}.{name} is {actual[name]!r}, expected nothing"
            else:
                yield from unlike(expected[name], actual[name], f"{path}.{name}")
    elif isinstance(expected, bool) is not isinstance(actual, bool) or expected != actual:
        yield f"{path} is {actual!r}, expected {expected!r}"


def altered(value: Any) -> Iterator[Any]:
    """Copies of `value`, each with one thing changed: a value, a missing property, an additional one."""
    if isinstance(value, dict):
        yield {**value, "surplus": 1}
        for name in value:
            yield {other: value[other] for other in value if other != name}
            if name != _SECRET:
                yield from ({**value, name: each} for each in altered(value[name]))
    elif isinstance(value, list):
        yield [*value, "surplus"]
        yield from ([*value[:n], *value[n + 1 :]] for n in range(len(value)))
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    else:
        yield f"{value}-altered"


class Served:
    """Stand-ins served on free ports, with a client for each."""

    def __init__(self, **makers: Callable[[], Provider]) -> None:
        started = {name: start(make()) for name, make in makers.items()}
        self._servers = [server for server, _ in started.values()]
        self._channels = {name: grpc.insecure_channel(f"127.0.0.1:{port}") for name, (_, port) in started.items()}
        self.clients = {name: provider_pb2_grpc.ResourceProviderStub(channel) for name, channel in self._channels.items()}

    def stop(self) -> None:
        for channel in self._channels.values():
            channel.close()
        for server in self._servers:
            server.stop(None).wait()
