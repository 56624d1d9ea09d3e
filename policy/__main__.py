"""The guard as a policy pack: `pulumi preview --policy-pack policy`, and `pulumi up` with the same flag.

The rules are those of `clarity_infra/guard.py`. The engine tells a policy pack what is declared, not what is deleted or replaced: for
that there is the rule that every resource that holds data is still declared, and `python -m clarity_infra guard` on the preview's JSON. It
does tell the stack's outputs, which the JSON does not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy import policy as analyzer
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY, deserialize_properties, serialize_properties

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from clarity_infra import guard

_STACK = "pulumi:pulumi:Stack"
# The one key of the pack's configuration, see `--policy-pack-config`.
_HOURS = "monitoringHours"


def _with_secrets(properties: dict[str, Any], _proxy_secrets: bool = False) -> dict[str, Any]:
    """A validation is handed bare values, so that a secret looks like any other; the SDK's own form for remediations keeps the difference."""
    return deserialize_properties(properties, True)


vars(analyzer)["deserialize_properties"] = _with_secrets


def _resource(args: Any) -> guard.Resource:
    """What the engine tells of a resource, with its secrets marked."""
    return guard.Resource(
        urn=args.urn,
        type=args.resource_type,
        properties=_marked(serialize_properties(args.props)),
        ignored=frozenset(args.opts.ignore_changes),
    )


def _marked(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get(SPECIAL_SIG_KEY) == SPECIAL_SECRET_SIG:
            return guard.Hidden(_marked(value.get("value")))
        return {key: _marked(item) for key, item in value.items()}
    return [_marked(item) for item in value] if isinstance(value, list) else value


def _of(rule: guard.Rule) -> Policy:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        terms = guard.Terms.at_present(float(args.get_config().get(_HOURS, guard.MONITORING_HOURS)))
        for text in rule.broken_by(_resource(args), terms):
            report(text, None)

    return ResourceValidationPolicy(
        name=rule.name,
        description=rule.description,
        validate=validate,
        config_schema=PolicyConfigSchema(
            properties={_HOURS: {"type": "number", "minimum": 0, "default": guard.MONITORING_HOURS}},
        ),
    )


def _is_whole(args: StackValidationArgs, report: ReportViolation) -> None:
    gone = guard.missing(map(_resource, args.resources))
    if gone:
        report(f"no longer declared, so that the engine would delete it: {', '.join(gone)}.", None)


def _outputs_are_secret(args: StackValidationArgs, report: ReportViolation) -> None:
    for found in guard.in_plain_text(_resource(stack) for stack in args.resources if stack.resource_type == _STACK):
        report(found.text, found.urn)


PolicyPack(
    name="clarity-infra",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[
        *map(_of, guard.RULES),
        StackValidationPolicy(name=guard.WHOLE[0], description=guard.WHOLE[1], validate=_is_whole),
        StackValidationPolicy(name=guard.OUTPUTS[0], description=guard.OUTPUTS[1], validate=_outputs_are_secret),
    ],
)
