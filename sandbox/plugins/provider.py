"""The gRPC service that the stand-ins share: checks, previews, secrets, errors.

The answers follow recordings of the real plugins, which do not take secrets (the engine strips them and marks the
outputs of the same names) and compute previews themselves.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from sandbox.plugins import sdk
from sandbox.plugins.sdk import Complaint
from sandbox.plugins.wire import UNKNOWN, Props, Secret, decode, encode, plain

Kind = Literal["ADD", "DELETE", "UPDATE"]

_NO_SETTINGS = frozenset({"version", "pluginDownloadURL"})
"""What the engine adds to a provider's configuration for its own use."""

_Answer = TypeVar("_Answer")


class Refused(Exception):
    """The stand-in cannot do what it was asked to; the message is for the user and holds no secret."""


@dataclass(frozen=True)
class Difference:
    """What separates a resource as it is from its declaration, by Pulumi names of top-level properties.

    `detailed` is None where the real plugin leaves the details to the engine.
    """

    changed: frozenset[str] = frozenset()
    replacing: frozenset[str] = frozenset()
    stable: frozenset[str] = frozenset()
    detailed: Mapping[str, Kind] | None = None
    delete_before_replace: bool = False


@dataclass(frozen=True)
class State:
    """A resource as its provider sees it. `inputs` is None where they are as they were given."""

    id: str
    outputs: Props
    inputs: Props | None = None


@dataclass(frozen=True)
class Naming:
    """What an input `name` is made of where the program leaves it out."""

    resource: str
    proposed: str
    seed: bytes


class Resource(ABC):
    """One resource type of a provider. All properties come and go without secret wrappings; `secrets` puts them on."""

    token: ClassVar[str]
    secrets: ClassVar[frozenset[str]] = frozenset()
    """Properties that the real plugin marks as secret, a nested one with a dot (`origin.password`)."""

    marks_nothing: ClassVar[bool] = True
    """Whether a secret output that is null or unknown is marked too, as older plugins do."""

    def completed(self, inputs: Props, olds: Props, naming: Naming) -> Props:
        """`inputs` with the defaults that the real plugin fills in on Check."""
        return inputs

    def complaints(self, inputs: Props) -> Iterable[Complaint]:
        """What is wrong with `inputs` beyond names and types."""
        return ()

    @abstractmethod
    def planned(self, inputs: Props, olds: Props | None) -> Props:
        """The outputs that creating (`olds` is None) or updating would lead to, as far as they are known."""

    @abstractmethod
    def difference(self, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
        """How `inputs` differ from the outputs `olds`, leaving out the `ignored` properties."""

    @abstractmethod
    def create(self, inputs: Props) -> State: ...

    @abstractmethod
    def read(self, id_: str, outputs: Props, inputs: Props) -> State | None:
        """The resource as it is now; None: it is gone. `outputs` is empty when it is being imported."""

    @abstractmethod
    def update(self, id_: str, olds: Props, inputs: Props) -> State: ...

    @abstractmethod
    def delete(self, id_: str, outputs: Props) -> None: ...


@dataclass
class Provider(ABC, provider_pb2_grpc.ResourceProviderServicer):
    """One provider plugin: the resources it has, and how it is configured."""

    package: ClassVar[str]
    secret_settings: ClassVar[frozenset[str]] = frozenset()
    accept_resources: ClassVar[bool] = False

    _hidden: set[str] = field(default_factory=set, init=False)
    _settings: Props | None = field(default=None, init=False)
    _resources: dict[str, Resource] = field(default_factory=dict, init=False)

    @abstractmethod
    def resources(self, settings: Props) -> Sequence[Resource]:
        """The resources that this stand-in has, working with the provider's configuration `settings`."""

    def setting_complaints(self, settings: Props) -> Iterable[Complaint]:
        """What is wrong with the provider's configuration beyond names and types."""
        return ()

    def invoke(self, settings: Props, token: str, arguments: Props) -> Props:
        """The result of the function `token`, under the provider's configuration `settings`."""
        raise Refused(f"the stand-in for {self.package} does not provide the function {token}")

    # The methods of the service, in the order in which the engine calls them.

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        return provider_pb2.ProviderHandshakeResponse(
            accept_secrets=False,
            accept_resources=self.accept_resources,
            accept_outputs=False,
            supports_autonaming_configuration=True,
        )

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version=sdk.package_version(self.package))

    def Attach(self, request: Any, context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        def check() -> Any:
            news = decode(request.news)
            settings = self._read_settings(news)
            complaints = [*sdk.provider(self.package).complaints(settings), *self.setting_complaints(settings)]
            return provider_pb2.CheckResponse(inputs=encode(_marked(news, self.secret_settings)), failures=_failures(complaints))

        return self._answer(context, check, request.news)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        olds, news = plain(decode(request.old_inputs)), plain(decode(request.news))
        changed = sorted(name for name in olds.keys() | news.keys() if olds.get(name) != news.get(name))
        if not changed:
            return provider_pb2.DiffResponse()
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_SOME, diffs=changed)

    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:
        def configure() -> Any:
            settings = self._read_settings(decode(request.args))
            self._hidden |= set(_texts(settings, self.secret_settings))
            self._resources = {each.token: each for each in self.resources(settings)}
            self._settings = settings
            return provider_pb2.ConfigureResponse(
                acceptSecrets=False,
                supportsPreview=True,
                acceptResources=self.accept_resources,
                supports_autonaming_configuration=True,
            )

        return self._answer(context, configure, request.args)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        def check() -> Any:
            signature = sdk.resource(self.package, request.type)
            if signature is None:
                raise Refused(f"{self.package} has no resource type {request.type!r}")
            # Check may come before Configure, and needs no connection.
            known = self._resources or {each.token: each for each in self.resources({})}
            resource = self._one_of(known, request.type)
            given = {name: value for name, value in decode(request.news).items() if not name.startswith("__")}
            complaints = list(signature.complaints(given))
            naming = Naming(request.name, request.autonaming.proposed_name, request.randomSeed)
            inputs = given
            if not complaints:
                inputs = resource.completed(given, plain(decode(request.olds)), naming)
                complaints += resource.complaints(plain(inputs))
            return provider_pb2.CheckResponse(inputs=encode(_marked(inputs, resource.secrets, but=(None,))), failures=_failures(complaints))

        return self._answer(context, check, request.news, type_=request.type)

    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:
        def diff() -> Any:
            found = self._resource(request.type).difference(
                plain(decode(request.olds)), plain(decode(request.news)), frozenset(request.ignoreChanges)
            )
            response = provider_pb2.DiffResponse(
                changes=provider_pb2.DiffResponse.DIFF_SOME if found.changed else provider_pb2.DiffResponse.DIFF_NONE,
                diffs=sorted(found.changed),
                replaces=sorted(found.replacing),
                stables=sorted(found.stable),
                deleteBeforeReplace=found.delete_before_replace,
                hasDetailedDiff=found.detailed is not None,
            )
            for path, kind in (found.detailed or {}).items():
                name = kind + ("_REPLACE" if re.split(r"[.\[]", path)[0] in found.replacing else "")
                response.detailedDiff[path].kind = provider_pb2.PropertyDiff.Kind.Value(name)
            return response

        return self._answer(context, diff, request.news, request.olds, type_=request.type)

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        def create() -> Any:
            resource, inputs = self._resource(request.type), plain(decode(request.properties))
            if request.preview:
                return provider_pb2.CreateResponse(properties=self._outputs(resource, resource.planned(inputs, None)))
            made = resource.create(inputs)
            return provider_pb2.CreateResponse(id=made.id, properties=self._outputs(resource, made.outputs))

        return self._answer(context, create, request.properties, type_=request.type)

    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:
        def read() -> Any:
            resource, inputs = self._resource(request.type), plain(decode(request.inputs))
            found = resource.read(request.id, plain(decode(request.properties)), inputs)
            if found is None:
                return provider_pb2.ReadResponse()
            return provider_pb2.ReadResponse(
                id=found.id,
                properties=self._outputs(resource, found.outputs),
                inputs=encode(_marked(inputs if found.inputs is None else found.inputs, resource.secrets, but=(None,))),
            )

        return self._answer(context, read, request.properties, request.inputs, type_=request.type)

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        def update() -> Any:
            resource = self._resource(request.type)
            olds, inputs = plain(decode(request.olds)), plain(decode(request.news))
            if request.preview:
                return provider_pb2.UpdateResponse(properties=self._outputs(resource, resource.planned(inputs, olds)))
            made = resource.update(request.id, olds, inputs)
            return provider_pb2.UpdateResponse(properties=self._outputs(resource, made.outputs))

        return self._answer(context, update, request.olds, request.news, type_=request.type)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        def delete() -> Any:
            self._resource(request.type).delete(request.id, plain(decode(request.properties)))
            return empty_pb2.Empty()

        return self._answer(context, delete, request.properties, type_=request.type)

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        def invoke() -> Any:
            signature = sdk.function(self.package, request.tok)
            if signature is None:
                raise Refused(f"{self.package} has no function {request.tok!r}")
            arguments = plain(decode(request.args))
            complaints = list(signature.complaints(arguments))
            if complaints:
                return provider_pb2.InvokeResponse(failures=_failures(complaints))
            return provider_pb2.InvokeResponse(**{"return": encode(self.invoke(self._configured(), request.tok, arguments))})

        return self._answer(context, invoke, request.args)

    def _resource(self, token: str) -> Resource:
        """The resource type `token`, working with what the provider was configured with."""
        self._configured()
        return self._one_of(self._resources, token)

    def _configured(self) -> Props:
        if self._settings is None:
            raise Refused(f"the provider {self.package} is not configured yet")
        return self._settings

    def _one_of(self, resources: Mapping[str, Resource], token: str) -> Resource:
        if token not in resources:
            raise Refused(
                f"the stand-in for {self.package} does not provide {token}; it has {', '.join(sorted(resources))}. "
                "Install the real plugin to use it"
            )
        return resources[token]

    def _outputs(self, resource: Resource, outputs: Props) -> Any:
        return encode(_marked(outputs, resource.secrets, but=() if resource.marks_nothing else (None, UNKNOWN)))

    def _read_settings(self, news: Props) -> Props:
        """The provider's configuration, whose values other than texts the SDK sends as JSON."""
        inputs = sdk.provider(self.package).inputs
        settings = plain({name: value for name, value in news.items() if name not in _NO_SETTINGS})
        for name, value in settings.items():
            if name in inputs and isinstance(value, str) and not _takes_text(inputs[name]):
                try:
                    settings[name] = json.loads(value)
                except ValueError:
                    continue  # the check of its type says what is wrong
        return dict(settings)

    def _answer(self, context: grpc.ServicerContext, work: Callable[[], _Answer], *messages: Any, type_: str = "") -> _Answer:
        """What `work` answers, or its failure as the call's status, without a secret and without a traceback."""
        try:
            return work()
        except Exception as error:
            secrets = self._secrets_of(type_)
            hidden = self._hidden.union(*(_texts(plain(decode(message)), secrets) for message in messages))
            told = str(error) if isinstance(error, Refused) else f"unexpected {type(error).__name__}: {error}"
            context.abort(grpc.StatusCode.UNKNOWN, without(told, hidden))
            raise AssertionError("abort raises") from None

    def _secrets_of(self, type_: str) -> frozenset[str]:
        known = self._resources.get(type_)
        return self.secret_settings | (known.secrets if known else frozenset())


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` with every one of `secrets` made unreadable. A short one counts only where it stands as a word."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        sought = re.escape(secret)
        text = re.sub(sought if len(secret) >= 8 else rf"(?<!\w){sought}(?!\w)", "[hidden]", text)
    return text


def _takes_text(expected: sdk.Input) -> bool:
    return not list(sdk.Signature("", {"it": expected}).complaints({"it": ""}))


def _texts(properties: Mapping[str, Any], paths: Iterable[str]) -> list[str]:
    """The texts at `paths` in `properties`."""
    found = []
    for path in paths:
        value: Any = properties
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str):
            found.append(value)
    return found


def _marked(properties: Props, paths: Iterable[str], *, but: Sequence[Any] = ()) -> Props:
    """`properties` with the values at `paths` wrapped as secrets, except the values in `but`."""
    marked = dict(properties)
    for path in paths:
        name, _, rest = path.partition(".")
        value = marked.get(name)
        if rest and isinstance(value, dict):
            marked[name] = _marked(value, [rest], but=but)
        elif not rest and name in marked and not isinstance(value, Secret) and not any(value is each for each in but):
            marked[name] = Secret(value)
    return marked


def _failures(complaints: Iterable[Complaint]) -> list[Any]:
    return [provider_pb2.CheckFailure(property=each.path, reason=each.reason) for each in complaints]
