"""Which planned changes may no review wave through? Rules on what the engine is about to do, the same for `preview --json` and the policy pack.

A rule looks at one resource at a time: what it is to be, and, where the engine tells, what is to be done to it. This module needs the
standard library only, so that the policy pack, which the engine runs in an environment of its own, can use it as it is.
"""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

# What stands for a secret's value: the engine writes it so in `preview --json`, and nothing here ever needs the value itself.
SECRET = "[secret]"
# What the engine writes for a value that is not known yet. https://github.com/pulumi/pulumi sdk/go/common/resource/plugin/rpc.go
UNKNOWN = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
# Hours between the cut-over and the clean-up that a stack's configuration cannot go below unless whoever runs the guard says so.
MONITORING_HOURS = 24.0

# What holds rows, or what the way back begins from, with the word a person uses for it.
KEPT = {
    "postgresql:index/database:Database": "the database",
    "postgresql:index/role:Role": "a role",
    "cloudflare:index/hyperdriveConfig:HyperdriveConfig": "the Hyperdrive config",
    "pulumi-python:dynamic/clarity:DatabaseCopy": "the copy",
    "pulumi-python:dynamic/clarity:Cutover": "the cut-over",
    "pulumi-python:dynamic/clarity:WayBack": "the record of the way back",
    "pulumi-python:dynamic/clarity:Rollback": "the way back",
    "pulumi-python:dynamic/clarity:SourceCleanup": "the clean-up",
}
# Without these no stack of this program is whole; the Hyperdrive config is there only where one is managed.
_ALWAYS = frozenset(KEPT) - {"cloudflare:index/hyperdriveConfig:HyperdriveConfig"}

_DATABASE = "postgresql:index/database:Database"
_ROLE = "postgresql:index/role:Role"
# The role that is made where `readOnlyRole` names one, as its URN ends: it owns nothing and nobody logs in by it, so that neither the
# application nor the copy stands on it. Every other role stays.
_OPTIONAL = f"clarity:database:ClarityDatabase${_ROLE}::read-only"
_CLEAN_UP = "pulumi-python:dynamic/clarity:SourceCleanup"
_CUT_OVER = "pulumi-python:dynamic/clarity:Cutover"
_POSTGRESQL = "pulumi:providers:postgresql"
_CLOUDFLARE = "pulumi:providers:cloudflare"
_HYPERDRIVE = "cloudflare:index/hyperdriveConfig:HyperdriveConfig"
_GRANTS = frozenset(
    {
        "postgresql:index/grant:Grant",
        "postgresql:index/defaultPrivileges:DefaultPrivileges",
        "postgresql:index/grantRole:GrantRole",
    }
)
_SCHEMA = "postgresql:index/schema:Schema"

# https://www.pulumi.com/docs/iac/cli/commands/pulumi_preview/: operations of a step after which the old resource is no more.
_REMOVES = frozenset({"delete", "replace", "create-replacement", "delete-replaced", "import-replacement", "discard-replaced"})
_GOES = frozenset({"delete", "delete-replaced", "discard-replaced"})
# A change of any of these drops the database and makes it anew (provider-facts 13).
_REPLACING = frozenset({"template", "encoding", "lcCollate", "lcCtype"})
# libpq's words for a connection that certainly is encrypted. https://www.postgresql.org/docs/current/libpq-ssl.html
_ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})

_SECRET_KEY = re.compile(r"(password|passwd|secret|token|apikey|privatekey|credentials?)$")
_SECRET_TEXT = (
    (re.compile(r"[a-z][a-z0-9+.-]*://[^\s/:@\"']*:(?!\*+@|\[secret\]@)[^\s/@\"]+@", re.I), "a URL with a password"),
    (re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"]*[?&]password=(?!\*+|\[secret\])[^\s&\"]", re.I), "a URL with a password"),
    (re.compile(r"^(?=.*\b(?:host|hostaddr|dbname|user)\s*=).*\bpassword\s*=\s*'?(?!\*+|\[secret\])[^\s']", re.S), "a password"),
    (re.compile(r'"(?:password|secret|token)"\s*:\s*"(?!\[secret\]")[^"]+"'), "a password in JSON"),
    (re.compile(r"SCRAM-SHA-256\$\d+:"), "a password's verifier"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key"),
)
# Said, as an error, of a plugin that on a busy machine is slow to confirm that it may be ended, after all is done: the run is a whole one.
_SLOW_END = re.compile(r"^(error: )?Detected that \S+ exited prematurely")
# Said after the error itself, by the language host, of a program that ended with a plain error: it tells nothing more.
_PLAIN_END = re.compile(r"^(error: )?an unhandled error occurred: program exited with non-zero exit code: 1$", re.IGNORECASE)
_URL = re.compile(r"postgres(?:ql)?://[^\s\"<>]+", re.I)
# What libpq takes in a URL's place, and a word of it. https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-KEYWORD-VALUE
_WORD = re.compile(r"\b(host|hostaddr|sslmode)\s*=\s*'?([^\s']+)")


class Unreadable(Exception):
    """What was given is not the output of `pulumi preview --json`; the message says what is wrong with it."""


class Hidden:
    """A secret, as the policy pack sees one: it may be looked into for what must hold of every value, and is never shown."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return SECRET


@dataclasses.dataclass(frozen=True)
class Resource:
    """One resource as it is to be. `op` is what is done to it, None where the engine does not tell.

    In `properties` a secret is `SECRET` or `Hidden`, what is not known yet one of `UNKNOWN`.
    """

    urn: str
    type: str
    properties: Mapping[str, Any]
    op: str | None = None
    ignored: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Violation:
    """A rule that a resource breaks, and how."""

    rule: str
    urn: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.urn.rsplit('::', 1)[-1]}: {self.text}"


@dataclasses.dataclass(frozen=True)
class Notice:
    """What is about to go, by the rules, and what that means."""

    urn: str
    text: str

    def __str__(self) -> str:
        return f"to be seen: {self.text}"


@dataclasses.dataclass(frozen=True)
class Terms:
    """What rules need to know that no resource says: the time, and the shortest monitoring period in hours."""

    now: datetime.datetime
    monitoring_hours: float = MONITORING_HOURS

    @classmethod
    def at_present(cls, monitoring_hours: float = MONITORING_HOURS) -> Terms:
        """These terms, now."""
        return cls(datetime.datetime.now(datetime.UTC), monitoring_hours)


@dataclasses.dataclass(frozen=True)
class Rule:
    """`broken_by` gives a text for each way in which a resource breaks the rule."""

    name: str
    description: str
    broken_by: Callable[[Resource, Terms], Iterable[str]]


def _keeps(resource: Resource, _: Terms) -> Iterator[str]:
    what = KEPT.get(resource.type)
    if what is None or _is_optional(resource):
        return
    if resource.op in _REMOVES:
        done = "deleted" if resource.op == "delete" else "replaced, that is deleted and made anew"
        yield f"{what} would be {done}. Going back is a lower stage or `pulumi destroy`, never a side effect of `pulumi up`."
    elif resource.type == _DATABASE and not resource.ignored >= _REPLACING:
        missing = ", ".join(sorted(_REPLACING - resource.ignored))
        yield f"a change of {missing} would drop the database to make it anew: list them in ignore_changes."


def _is_optional(resource: Resource) -> bool:
    """Whether this is the deletion of a role that may be taken away on request; one that may log in is none."""
    return resource.op == "delete" and resource.urn.endswith(_OPTIONAL) and resource.properties.get("login") is False


def _hides(resource: Resource, _: Terms) -> Iterator[str]:
    for path, what in _plain_secrets(resource.properties):
        yield f"{path} holds {what} in plain text: give it to Pulumi as a secret (`pulumi.Output.secret`)."


def _plain_secrets(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where a secret stands in plain text, and what it is."""
    for path, value in _leaves(properties):
        if not isinstance(value, str) or not value or value == SECRET or value in UNKNOWN:
            continue
        key = re.sub(r"[^a-z]", "", path[-1].lower()) if path else ""
        what = next((what for pattern, what in _SECRET_TEXT if pattern.search(value)), "")
        if what or _SECRET_KEY.search(key):
            yield ".".join(path), what or "a secret"


def _encrypts(resource: Resource, _: Terms) -> Iterator[str]:
    properties = resource.properties
    if resource.type == _POSTGRESQL:
        host, mode = _text(properties.get("host")), _text(properties.get("sslmode"))
        if not _is_here(host) and mode not in _ENCRYPTED:
            yield f"the connection to {host or 'the server'} has sslmode {mode or 'unset'}, which may go without TLS: use verify-full."
    elif resource.type == _CLOUDFLARE:
        url = _text(properties.get("baseUrl"))
        if url.lower().startswith("http:"):
            for host in _elsewhere(_place(url)[0]):
                yield f"the API token would go to {host} in clear: use https."
    elif resource.type == _HYPERDRIVE:
        mtls = _bare(properties.get("mtls"))
        mode = _text(mtls.get("sslmode")) if isinstance(mtls, Mapping) else ""
        if mode and mode not in _ENCRYPTED:
            yield f"Hyperdrive's sslmode is {mode}, which may go without TLS: leave it out or use require, verify-ca or verify-full."
    for path, value in _leaves(properties, in_secrets=True):
        for hosts, mode in _places(_text(value)):
            if mode and mode not in _ENCRYPTED:
                for host in _elsewhere(hosts):
                    yield f"{'.'.join(path)} names {host} with sslmode {mode}, which may go without TLS: use verify-full."


def _excludes_public(resource: Resource, _: Terms) -> Iterator[str]:
    """Taking everything away from PUBLIC is a grant without privileges (provider-facts 7)."""
    properties = resource.properties
    if resource.type in _GRANTS and _text(properties.get("role")).lower() == "public":
        given = properties.get("privileges") if "privileges" in properties else properties.get("grantRole")
        if given not in (None, [], ()):
            listed = ", ".join(map(_text, given)) if isinstance(given, list | tuple) else _text(given)
            yield f"every role of the server would get {listed}: grant it to a role of the application's own."
    if resource.type == _SCHEMA:
        for policy in _items(properties.get("policies")):
            if _text(policy.get("role")).lower() in ("", "public"):
                yield "a policy of the schema names no role, which means every role of the server: name one."


def _waits(resource: Resource, terms: Terms) -> Iterator[str]:
    properties = resource.properties
    if resource.type != _CLEAN_UP or _bare(properties.get("active")) in (False, None) or resource.op == "same":
        return  # one of which it is not known whether it is to go may go
    hours = max(terms.monitoring_hours, _number(properties.get("monitoringHours")))
    since = _time(_text(properties.get("cutOverAt")))
    if since is None:
        yield "the old tables would be dropped, and the stack does not know since when the application is on the new database."
        return
    passed = (terms.now - since).total_seconds() / 3600
    if passed < hours:
        yield f"the old tables would be dropped {passed:.1f} h after the cut-over; {hours:g} h of monitoring come first."


_SECRETS = Rule("secrets-are-secret", "No password, and no URL with one, stands in a resource or a setting in plain text.", _hides)
RULES = (
    Rule("keep-what-holds-data", "No database, role, copy or Hyperdrive config is deleted or replaced, but for a read-only role.", _keeps),
    _SECRETS,
    Rule("connections-use-tls", "A connection to anywhere but this machine is encrypted.", _encrypts),
    Rule("nothing-for-public", "Nothing is granted to PUBLIC, that is to every role of the server.", _excludes_public),
    Rule("clean-up-in-its-time", "The old tables are not dropped before the monitoring period is over.", _waits),
)
WHOLE = ("stack-is-whole", "Every resource that holds data is still declared, so that none is deleted.")
OUTPUTS = ("outputs-are-secret", "No output of the stack holds a password, or a URL with one, in plain text.")


def violations(resources: Iterable[Resource], terms: Terms) -> list[Violation]:
    """Every rule that a resource breaks; of one that goes, what it was is no matter any more."""
    return [
        Violation(rule.name, resource.urn, text)
        for resource in resources
        for rule in (RULES[:1] if resource.op in _GOES else RULES)
        for text in rule.broken_by(resource, terms)
    ]


def in_configuration(preview: Mapping[str, Any]) -> list[Violation]:
    """Every setting, of whatever project, that is a secret and stands in the stack's file in clear; the engine hides those it knows as such."""
    return [
        Violation(
            _SECRETS.name,
            "configuration",
            f"{path} holds {what} in plain text: set it again with `pulumi config set --secret`, and change what was in the file.",
        )
        for path, what in _plain_secrets(preview.get("config") or {})
    ]


def taken_away(resources: Iterable[Resource]) -> list[Notice]:
    """What no rule keeps and somebody may miss all the same, for the reviewer to see."""
    return [
        Notice(
            resource.urn,
            f'the read-only role "{_text(resource.properties.get("name"))}" and every privilege it has go; '
            "who is its member, to read what the application has, cannot do so any more.",
        )
        for resource in resources
        if _is_optional(resource)
    ]


def in_plain_text(resources: Iterable[Resource]) -> list[Violation]:
    """Every plain secret among the properties of the resources, for whoever is told the stack's outputs."""
    return [Violation(OUTPUTS[0], resource.urn, text) for resource in resources for text in _hides(resource, Terms.at_present())]


def missing(resources: Iterable[Resource]) -> list[str]:
    """What a stack of this program declares always, and this one does not: the engine would delete it. None for other programs' stacks.

    For whoever is told what is declared and not what is deleted, such as a policy pack.
    """
    declared = list(resources)
    types = {resource.type for resource in declared}
    if not types & set(KEPT):
        return []
    gone = [KEPT[kind] for kind in KEPT if kind in _ALWAYS - types]
    managed = any(resource.type == _CUT_OVER and _text(resource.properties.get("account")) for resource in declared)
    return gone + ([KEPT[_HYPERDRIVE]] if managed and _HYPERDRIVE not in types else [])


def planned(preview: str) -> tuple[list[Resource], Mapping[str, Any]]:
    """The resources of `pulumi preview --json`, and the whole document. Raises Unreadable.

    Where the engine was told to `--show-sames`, what does not change is looked at too.
    """
    try:
        document = json.loads(preview)
    except ValueError:
        raise Unreadable("This is not JSON: give the output of `pulumi preview --json`, its stdout alone.") from None
    if not isinstance(document, dict) or not {"steps", "diagnostics", "changeSummary"} & set(document):
        raise Unreadable("This is JSON, but not the output of `pulumi preview --json`.")
    return [_resource(step) for step in document.get("steps") or []], document


def failures(preview: Mapping[str, Any]) -> list[str]:
    """What the engine reported as an error: such a preview did not come to its end."""
    said = [str(found.get("message", "")).strip() for found in preview.get("diagnostics") or [] if found.get("severity") == "error"]
    failed = [text for text in said if not _SLOW_END.search(text)]
    return [text for text in failed if not _PLAIN_END.search(text)] or failed


def _resource(step: Mapping[str, Any]) -> Resource:
    """Of something that goes, what it was; the engine gives inputs of what is to be, and outputs of what is."""
    new, old = step.get("newState") or {}, step.get("oldState") or {}
    state = new or old
    properties = {**(state.get("outputs") or {}), **(state.get("inputs") or {})}
    return Resource(
        urn=str(step.get("urn") or state.get("urn") or ""),
        type=str(state.get("type") or ""),
        properties=properties,
        op=str(step.get("op") or ""),
        ignored=frozenset(state.get("ignoreChanges") or ()),
    )


def _leaves(value: Any, path: tuple[str, ...] = (), *, in_secrets: bool = False) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value inside, with the keys that lead to it; what the engine keeps for itself is left out."""
    if in_secrets and isinstance(value, Hidden):
        value = value.value
    if isinstance(value, Mapping):
        for key in value:
            if not str(key).startswith("__"):
                yield from _leaves(value[key], (*path, str(key)), in_secrets=in_secrets)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, (*path[:-1], f"{path[-1] if path else ''}[{number}]"), in_secrets=in_secrets)
    else:
        yield path, value


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Hidden) else value


def _text(value: Any) -> str:
    """A value as text; empty for what is not there, not text, or not known."""
    bare = _bare(value)
    return bare if isinstance(bare, str) and bare not in UNKNOWN and bare != SECRET else ""


def _items(value: Any) -> list[Mapping[str, Any]]:
    bare = _bare(value)
    return [item for item in bare if isinstance(item, Mapping)] if isinstance(bare, list | tuple) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _time(text: str) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _places(text: str) -> Iterator[tuple[list[str], str]]:
    """The hosts, and the sslmode, empty where none is named, of every PostgreSQL connection that a text describes."""
    urls = _URL.findall(text)
    for url in urls:
        yield _place(url.rstrip("'"))
    if not urls:
        words = _WORD.findall(text)
        hosts = [host for key, value in words if key != "sslmode" for host in value.split(",")]
        if hosts:
            yield hosts, next((value for key, value in words if key == "sslmode"), "")


def _place(url: str) -> tuple[list[str], str]:
    """Every host that a URL leads to, by its parameters too, and its sslmode; no host where it cannot be read."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        named = [urlsplit(f"//{place}").hostname or "" for place in parts.netloc.rpartition("@")[2].split(",")]
    except ValueError:
        return [], ""
    told = [host for key in ("host", "hostaddr") for value in query.get(key, []) for host in value.split(",")]
    return [*filter(None, named), *told], (query.get("sslmode") or [""])[-1]


def _elsewhere(hosts: Iterable[str]) -> list[str]:
    return [host for host in hosts if not _is_here(host)]


def _is_here(host: str) -> bool:
    """Whether a host is this machine: by name, by address, or as the folder of a socket."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
