"""Planning and comparing as the Terraform SDK does it, which the postgresql plugin is built on.

A declaration says nothing of most attributes. What the plan makes of the silence depends on the attribute: its default,
what the server says (computed), or nothing; and nothing equals an empty or zero value that the state happens to hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.plugins.provider import Difference, Kind, Naming
from sandbox.plugins.wire import UNKNOWN, Props

FILLED_IN = "__defaults"
"""The input in which the real plugin keeps the names of those it filled in."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of a resource: `computed` ones are known to the server, `replaces` ones cannot change in place."""

    default: bool | int | str | None = None
    computed: bool = False
    replaces: bool = False
    holds: Literal["one", "set", "list"] = "one"


Attributes = Mapping[str, Attribute]


def fill_in(attributes: Attributes, inputs: Props) -> Props:
    """`inputs` with the defaults that are not zero, and the list of those that were filled in."""
    missing = {name: each.default for name, each in attributes.items() if each.default and inputs.get(name) is None}
    return {**inputs, **missing, FILLED_IN: sorted(missing)}


def fill_in_name(inputs: Props, olds: Props, naming: Naming) -> Props:
    """`inputs` with a `name`: the old one if it was made up as well, or a new one."""
    if inputs.get("name") is not None:
        return inputs
    kept = olds.get("name") if "name" in olds.get(FILLED_IN, []) else None
    name = kept or naming.proposed or f"{naming.resource}-{naming.seed.hex()[:7]}"
    return {**inputs, "name": name, FILLED_IN: sorted([*inputs.get(FILLED_IN, []), "name"])}


def plan(attributes: Attributes, inputs: Props, olds: Props | None) -> Props:
    """The value of every attribute after a create (`olds` is None) or an update, `UNKNOWN` where the server decides."""
    return {name: _planned(each, inputs.get(name), name, olds) for name, each in attributes.items()}


def changed(attributes: Attributes, inputs: Props, olds: Props) -> frozenset[str]:
    """The attributes whose planned value differs from the one in `olds`."""
    planned = plan(attributes, inputs, olds)
    return frozenset(name for name in attributes if not _same(olds.get(name), planned[name]))


def compare(attributes: Attributes, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
    """The difference as the real plugin reports it: attribute by attribute, element by element in a set."""
    planned = plan(attributes, inputs, olds)
    differing = changed(attributes, inputs, olds) - ignored
    replacing = frozenset(name for name in differing if attributes[name].replaces)
    detailed: dict[str, Kind] = {}
    for name in differing:
        detailed.update(_details(attributes[name], name, olds.get(name), planned[name], inputs.get(name)))
    return Difference(
        changed=differing,
        replacing=replacing,
        stable=frozenset(name for name, each in attributes.items() if each.replaces) - replacing,
        detailed=detailed,
        # A name of the user's own cannot be held by the old and the new resource at once.
        delete_before_replace=bool(replacing) and "name" in inputs and "name" not in inputs.get(FILLED_IN, ["name"]),
    )


def settle(attributes: Attributes, planned: Props, found: Props) -> Props:
    """The state after a create or update: what was `found` on the server, but nothing where nothing was planned.

    Values that the server does not know stay as planned.
    """
    state = {name: None if value is UNKNOWN else value for name, value in planned.items()}
    for name, value in found.items():
        nothing = attributes[name].holds != "one" and not value and planned[name] is None
        state[name] = None if nothing else value
    return state


def taken_inputs(attributes: Attributes, outputs: Props, inputs: Props) -> Props:
    """The inputs after a read: those that were given, with their values of now; on import, those that say something."""
    if inputs:
        return {name: value if name not in attributes else outputs.get(name) for name, value in inputs.items() if name != FILLED_IN or value}
    telling = {name: value for name, value in outputs.items() if name in attributes and value not in (None, "", [], 0)}
    defaulted = [name for name, value in telling.items() if value == attributes[name].default]
    return {
        **{name: value for name, value in telling.items() if not attributes[name].computed or name == "owner"},
        FILLED_IN: sorted(defaulted),
    }


def _planned(attribute: Attribute, given: Any, name: str, olds: Props | None) -> Any:
    prior = olds.get(name) if olds else None
    if attribute.holds != "one" and given is not UNKNOWN:
        if given:
            return sorted(given, key=str) if attribute.holds == "set" else given
        if attribute.computed:
            return UNKNOWN if olds is None else prior
        return prior if prior == [] else None
    if given is not None:
        return given
    if attribute.computed:
        return UNKNOWN if olds is None else prior
    if attribute.default is not None:
        return attribute.default
    return prior if _is_nothing(prior) else None


def _same(prior: Any, planned: Any) -> bool:
    if planned is UNKNOWN:
        return False
    return bool(prior == planned or (_is_nothing(prior) and _is_nothing(planned)))


def _is_nothing(value: Any) -> bool:
    return value is None or (value is not UNKNOWN and value in ("", 0, [], False))


def _details(attribute: Attribute, name: str, prior: Any, planned: Any, given: Any) -> dict[str, Kind]:
    if attribute.holds != "one" and isinstance(prior, list) and isinstance(planned, list):
        gone: dict[str, Kind] = {f"{name}[{prior.index(each)}]": "DELETE" for each in prior if each not in planned}
        order = given if isinstance(given, list) else planned
        come: dict[str, Kind] = {f"{name}[{order.index(each)}]": "ADD" for each in planned if each not in prior}
        both: dict[str, Kind] = {path: "UPDATE" for path in gone.keys() & come.keys()}
        return {**gone, **come, **both}
    if prior is None:
        return {name: "ADD"}
    if planned is None:
        return {name: "DELETE"}
    return {name: "UPDATE"}
