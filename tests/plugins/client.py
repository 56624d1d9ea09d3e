"""Calls of a stand-in as the engine makes them, for tests of single resources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from sandbox.plugins.wire import Props, decode, encode, plain


class Failed(Exception):
    """The stand-in answered with an error."""


@dataclass
class Made:
    """A resource in the engine's state."""

    type: str
    id: str
    inputs: Props
    outputs: Props


class Engine:
    """Does with one stand-in what the engine does with resources, and keeps no state of its own."""

    def __init__(self, stub: provider_pb2_grpc.ResourceProviderStub, package: str, **settings: Any) -> None:
        self._stub = stub
        self._package = package
        self._call("Configure", provider_pb2.ConfigureRequest(args=encode(settings)))

    def check(self, kind: str, inputs: Props, olds: Props | None = None) -> Props:
        """The inputs after Check; a failure of it raises."""
        request = provider_pb2.CheckRequest(type=self._token(kind), name="it", news=encode(inputs), olds=encode(olds or {}))
        answer = self._call("Check", request)
        if answer.failures:
            raise Failed("; ".join(each.reason for each in answer.failures))
        return dict(plain(decode(answer.inputs)))

    def preview(self, kind: str, **inputs: Any) -> Props:
        checked = self.check(kind, inputs)
        request = provider_pb2.CreateRequest(type=self._token(kind), properties=encode(checked), preview=True)
        return decode(self._call("Create", request).properties)

    def create(self, kind: str, **inputs: Any) -> Made:
        checked = self.check(kind, inputs)
        answer = self._call("Create", provider_pb2.CreateRequest(type=self._token(kind), properties=encode(checked)))
        assert answer.id, "the engine takes no resource without an ID"
        return Made(kind, answer.id, checked, plain(decode(answer.properties)))

    def diff(self, made: Made, ignoring: tuple[str, ...] = (), **inputs: Any) -> dict[str, Any]:
        """The difference that `inputs` make, in the form of the recordings; without inputs, that of the old ones."""
        checked = self.check(made.type, inputs or _declared(made.inputs), made.inputs)
        request = provider_pb2.DiffRequest(
            type=self._token(made.type),
            id=made.id,
            olds=encode(made.outputs),
            old_inputs=encode(made.inputs),
            news=encode(checked),
            ignoreChanges=ignoring,
        )
        return dict(json_format.MessageToDict(self._call("Diff", request)))

    def update(self, made: Made, **inputs: Any) -> Made:
        checked = self.check(made.type, inputs, made.inputs)
        request = provider_pb2.UpdateRequest(
            type=self._token(made.type),
            id=made.id,
            olds=encode(made.outputs),
            old_inputs=encode(made.inputs),
            news=encode(checked),
        )
        return Made(made.type, made.id, checked, plain(decode(self._call("Update", request).properties)))

    def refresh(self, made: Made) -> Made | None:
        """The resource as it is now; None: it is gone."""
        request = provider_pb2.ReadRequest(type=self._token(made.type), id=made.id, properties=encode(made.outputs), inputs=encode(made.inputs))
        return self._read(made.type, request)

    def import_(self, kind: str, id_: str) -> Made | None:
        return self._read(kind, provider_pb2.ReadRequest(type=self._token(kind), id=id_))

    def delete(self, made: Made) -> None:
        request = provider_pb2.DeleteRequest(
            type=self._token(made.type),
            id=made.id,
            properties=encode(made.outputs),
            old_inputs=encode(made.inputs),
        )
        self._call("Delete", request)

    def _read(self, kind: str, request: Any) -> Made | None:
        answer = self._call("Read", request)
        if not answer.id:
            return None
        return Made(kind, answer.id, plain(decode(answer.inputs)), plain(decode(answer.properties)))

    def _token(self, kind: str) -> str:
        return f"{self._package}:index/{kind[0].lower()}{kind[1:]}:{kind}"

    def _call(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._stub, method)(request)
        except grpc.RpcError as error:
            raise Failed(error.details()) from None


def _declared(inputs: Props) -> Props:
    """What the program declared, without what Check filled in."""
    filled_in = inputs.get("__defaults", [])
    return {name: value for name, value in inputs.items() if name not in filled_in and not name.startswith("__")}
