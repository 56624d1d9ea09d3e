"""What a provider accepts, as its installed Python SDK says.

The generated SDK of a provider holds its schema: each resource has a class of arguments whose annotations name every
input, its type, and whether it may be left out. Reading it from there means that there is no second list to keep.
"""

from __future__ import annotations

import collections.abc
import importlib
import importlib.util
import inspect
import json
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
from pulumi import _types as pulumi_types
from pulumi.runtime import rpc

from sandbox.plugins.wire import UNKNOWN, Secret

# Pulumi writes `Input[T]` with the forward reference `Output[T]`, which only these names can resolve.
_NAMES_IN_INPUT = {"Output": pulumi.Output, "T": Any}


@dataclass(frozen=True)
class Complaint:
    """What is wrong with one input; `path` is its Pulumi name, with a dot before a nested one."""

    path: str
    reason: str


@dataclass(frozen=True)
class Input:
    """One input of a resource, function or nested object: what it may hold, and whether it may be left out."""

    type: Any
    required: bool


@dataclass(frozen=True)
class Signature:
    """The inputs of a resource, function, provider or nested object, by Pulumi name."""

    of: str
    inputs: Mapping[str, Input]

    def complaints(self, given: Mapping[str, Any], path: str = "") -> Iterator[Complaint]:
        """What the SDK's classes would not allow in `given`; a value not known yet fits any type."""
        for name in given.keys() - self.inputs.keys():
            known = ", ".join(sorted(self.inputs))
            yield Complaint(path + name, f"{self.of} has no property {name!r}; it has {known}")
        for name, each in self.inputs.items():
            value = given.get(name)
            if value is not None:
                yield from _mismatches(value, each.type, path + name)
            elif each.required:
                yield Complaint(path + name, f"missing required property {name!r} of {self.of}")


def package_version(package: str) -> str:
    """The version of the plugin that the SDK `pulumi_<package>` belongs to."""
    # Found without an import, which takes seconds for the larger ones.
    found = importlib.util.find_spec(f"pulumi_{package}")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"the Python package pulumi_{package} is not installed; install requirements.txt")
    return str(json.loads(Path(found.origin).with_name("pulumi-plugin.json").read_text())["version"])


@cache
def resource(package: str, token: str) -> Signature | None:
    """The inputs of the resource type `token` (such as `random:index/randomBytes:RandomBytes`); None: no such type."""
    sdk = _package(package)
    module = rpc.get_resource_module(package, token.removeprefix(f"{package}:").rpartition(":")[0], "")
    class_name = getattr(module, "mod_info", {"classes": {}})["classes"].get(token)
    return _of_arguments(token, getattr(sdk, f"{class_name}Args")) if class_name else None


@cache
def provider(package: str) -> Signature:
    """The configuration of the provider of `package`."""
    sdk = _package(package)
    return _of_arguments(f"pulumi:providers:{package}", sdk.ProviderArgs)


@cache
def function(package: str, token: str) -> Signature | None:
    """The arguments of the function `token` (such as `cloudflare:index/getIpRanges:getIpRanges`); None: no such one."""
    sdk = _package(package)
    called = getattr(sdk, _snake(token.rpartition(":")[2]), None)
    if not callable(called):
        return None
    hints = typing.get_type_hints(called, localns=_NAMES_IN_INPUT)
    parameters = [each for each in inspect.signature(called).parameters.values() if each.name != "opts"]
    return Signature(token, {_camel(each.name): Input(hints[each.name], each.default is each.empty) for each in parameters})


@cache
def _package(name: str) -> types.ModuleType:
    with warnings.catch_warnings():
        # Importing a generated SDK runs the class bodies of its deprecated resources, each with a warning.
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module(f"pulumi_{name}")


@cache
def _of_arguments(of: str, arguments: type) -> Signature:
    hints = typing.get_type_hints(vars(arguments)["__init__"], localns=_NAMES_IN_INPUT)
    names = pulumi_types.input_type_py_to_pulumi_names(arguments)
    parameters = inspect.signature(arguments).parameters
    return Signature(of, {names[each.name]: Input(hints[each.name], each.default is each.empty) for each in parameters.values()})


def _mismatches(value: Any, expected: Any, path: str) -> Iterator[Complaint]:
    if isinstance(value, Secret):
        value = value.value
    if value is UNKNOWN:
        return
    choices = list(_choices(expected))
    tried = [list(_mismatches_one(value, choice, path)) for choice in choices]
    if tried and all(tried):
        yield from min(tried, key=lambda each: (len(each), -max(len(one.path) for one in each)))


def _mismatches_one(value: Any, expected: Any, path: str) -> Iterator[Complaint]:
    origin = typing.get_origin(expected)
    if isinstance(expected, type) and pulumi_types.is_input_type(expected):
        if isinstance(value, dict):
            yield from _of_arguments(f"{path!r}", expected).complaints(value, path + ".")
        else:
            yield _wrong(value, "an object", path)
    elif origin is collections.abc.Sequence:
        if isinstance(value, list):
            for number, each in enumerate(value):
                yield from _mismatches(each, typing.get_args(expected)[0], f"{path}[{number}]")
        else:
            yield _wrong(value, "a list", path)
    elif origin is collections.abc.Mapping:
        if isinstance(value, dict):
            for name, each in value.items():
                yield from _mismatches(each, typing.get_args(expected)[1], f"{path}.{name}")
        else:
            yield _wrong(value, "a map", path)
    elif expected is not Any and not _is_instance(value, expected):
        wanted = {str: "a string", int: "a whole number", float: "a number", bool: "a boolean"}
        yield _wrong(value, wanted.get(expected, str(expected)), path)


def _is_instance(value: Any, expected: type) -> bool:
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, expected)


def _choices(expected: Any) -> Iterator[Any]:
    """The types that a value may have on the wire, where nothing is awaited and None was left out."""
    if typing.get_origin(expected) not in (typing.Union, types.UnionType):
        yield expected
        return
    for choice in typing.get_args(expected):
        if choice is not type(None) and typing.get_origin(choice) not in (collections.abc.Awaitable, pulumi.Output):
            yield from _choices(choice)


def _wrong(value: Any, wanted: str, path: str) -> Complaint:
    got = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return Complaint(path, f"expected {wanted} for {path!r}, got {got.get(type(value), type(value).__name__)}")


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)
