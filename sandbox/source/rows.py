"""What stands in the application's tables? Rows of every kind that a careless copy gets wrong.

Every row follows from its number and a seed: two builds are equal, and no more than one row is held at a time, so that
the same generators serve for thousands of rows and for millions. Values are PostgreSQL's own text forms, None is NULL.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

Value = str | int | None
Row = tuple[Value, ...]
Labels = Mapping[str, Sequence[str]]
"""Enum labels, in order, by the name of the enum."""

MEBIBYTE = 1 << 20
_EPOCH = datetime(2024, 1, 1)

APP_CONFIG_COLUMNS = ("id", "type", "config", "created_at", "updated_at")
FEATURE_REQUEST_COLUMNS = (
    "id", "request_id", "origin", "repo", "title", "description", "request_type", "status",
    "slack_user_id", "slack_user_name", "slack_channel_id", "slack_channel_name", "slack_thread_ts", "response_url",
    "issue_id", "issue_number", "issue_title", "issue_body", "issue_labels", "issue_author", "issue_url",
    "web_user_id", "web_user_email", "repository_url", "repository_name", "repository_id", "repository_owner",
    "repository_name_only", "app_id", "task_status", "pr_url", "pr_number", "pr_branch_name", "retry_count",
    "last_retry_at", "cost_usd", "duration_ms", "created_at", "updated_at", "processed_at",
)  # fmt: skip
REQUEST_MESSAGE_COLUMNS = (
    "id", "request_id", "type", "source", "content", "actor_id", "actor_name", "metadata", "created_at",
)  # fmt: skip

AWKWARD_TEXTS = (
    "",
    " ",
    "\\N",
    "\\.",
    "NULL",
    "null",
    "first line\nsecond line\n",
    "carriage\r\nreturn",
    "\ttab\tbetween\t",
    "back\\slash \\n \\t \\\\ \\x41 \\u0041",
    "'single' \"double\" `tick` $$dollar$$ E'\\''",
    "a;b -- comment /* block */",
    "%s %(name)s %% {braces} :psql @var",
    "rocket \U0001f680 family \U0001f469\u200d\U0001f469\u200d\U0001f467 flag \U0001f3f3\ufe0f\u200d\U0001f308",
    "composed \u00e9, decomposed e\u0301",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "\u6f22\u5b57 \u304b\u306a \ud55c\uae00",
    "zero\u200bwidth\u00a0space\ufeff",
    "control \x01\x02\x1b[31m\x1f\x7f",
    "last code point \U0010ffff and \uffff",
    "trailing space ",
    "{not json",
    "a,b,\"c\"",
)  # fmt: skip
AWKWARD_JSON = (
    "null",
    "{}",
    "[]",
    '""',
    "true",
    "0",
    "-0",
    "1e-30",
    "123456789012345678901234567890.123456789",
    "1E+400",
    '"text with \\"quotes\\" and \\\\ and \\n"',
    '[1, "two", null, false, [], {}]',
    '{"a": {"b": {"c": [{"d": null}]}}}',
    '{"twice": 1, "twice": 2}',
    '{"": "empty key", " ": "blank key", "\\u00e9": "key beyond ASCII"}',
    '{"emoji": "\\ud83d\\ude80", "control": "\\u0001"}',
    '["bug", "enhancement", "needs: triage"]',
)
AWKWARD_TIMESTAMPS = (
    "infinity",
    "-infinity",
    "0044-03-15 12:00:00 BC",
    "4713-01-01 00:00:00 BC",
    "294276-12-31 23:59:59.999999",
    "1970-01-01 00:00:00",
    "2000-02-29 23:59:59.999999",
    "1582-10-10 00:00:00",
)
AWKWARD_KEYS = ("", "REQ-case", "req-case", "with space", "it's \"quoted\"", "tab\tand\\slash", "\u00fcml\u00e4ut",
                "\U0001f680", "%2Fencoded", "n" * 1500)  # fmt: skip
_EXTREME_BIGINTS = (9223372036854775807, -9223372036854775808, 0, -1, 4294967296)
_EXTREME_INTEGERS = (2147483647, -2147483648, 0)


def request_id(number: int) -> str:
    """The `request_id` of the feature request `number` (from 0): a key a message can name without looking it up."""
    if number < len(AWKWARD_KEYS):
        return AWKWARD_KEYS[number]
    return "req_" + hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()


def app_config(seed: int, labels: Labels) -> Iterator[Row]:
    """One row for each `config_type`: the column is unique. The ids have gaps, as upserts leave them."""
    rng = random.Random(f"{seed} app_config")
    for number, label in enumerate(labels["config_type"]):
        config = {"enabled": True, "token": None, "limits": {"perHour": number * 50}, "names": list(AWKWARD_TEXTS)}
        yield 17 + number * 101, label, json.dumps(config), _moment(rng), _moment(rng)


def feature_requests(seed: int, count: int, labels: Labels) -> Iterator[Row]:
    """`count` feature requests with ascending ids that have gaps; every label of the enums appears."""
    rng = random.Random(f"{seed} feature_requests")
    large = _places_of_large_values(count, 3)
    last_id = 0
    for number in range(count):
        last_id += rng.choice((1, 1, 1, 2, 5))
        name = rng.choice(("clarity", "web-app", "Infra.Tools", "d\u00e9mo"))
        owner = rng.choice(("acme", "globex", "example-org"))
        yield (
            last_id,
            request_id(number),
            _label(rng, number, labels["request_origin"]),
            f"{owner}/{name}",
            _maybe(rng, _text(rng)),
            _large_text(rng, large[number]) if number in large else _text(rng),
            _maybe(rng, rng.choice(("feature", "bug", "question", ""))),
            _label(rng, number, labels["request_status"]),
            _maybe(rng, f"U{rng.getrandbits(40):010X}"),
            _maybe(rng, _text(rng)),
            _maybe(rng, f"C{rng.getrandbits(40):010X}"),
            _maybe(rng, rng.choice(AWKWARD_TEXTS)),
            _maybe(rng, f"{rng.randrange(1_600_000_000, 1_800_000_000)}.{rng.randrange(10**6):06}"),
            _maybe(rng, f"https://hooks.example.com/{rng.getrandbits(64):x}?a=1&b=%20"),
            _issue_id(rng, number),
            _maybe(rng, _integer(rng)),
            _maybe(rng, _text(rng)),
            _maybe(rng, _text(rng)),
            _maybe(rng, _json(rng)),
            _maybe(rng, f"author{rng.randrange(200)}"),
            _maybe(rng, f"https://github.example.com/{owner}/{name}/issues/{number}"),
            _maybe(rng, f"{rng.getrandbits(128):032x}"),
            _maybe(rng, f"user+{rng.randrange(999)}@example.com"),
            _maybe(rng, f"https://github.example.com/{owner}/{name}"),
            _maybe(rng, f"{owner}/{name}"),
            _maybe(rng, _integer(rng)),
            _maybe(rng, owner),
            _maybe(rng, name),
            _maybe(rng, str(rng.randrange(10**6))),
            None if number % 9 == 8 else _label(rng, number, labels["task_status"]),
            _maybe(rng, f"https://github.example.com/{owner}/{name}/pull/{number}"),
            _maybe(rng, _integer(rng)),
            _maybe(rng, f"feature/{rng.getrandbits(32):x}-{rng.choice(('a b', 'x', '#1'))}"),
            rng.choice((0, 0, 0, 1, 2, None)),
            _maybe(rng, _timestamp(rng)),
            _maybe(rng, _integer(rng)),
            _maybe(rng, rng.randrange(10**7)),
            _moment(rng),
            _moment(rng),
            _maybe(rng, _timestamp(rng)),
        )


def request_messages(seed: int, count: int, requests: int, labels: Labels) -> Iterator[Row]:
    """`count` messages, spread over the first `requests` feature requests; every label of the enums appears."""
    rng = random.Random(f"{seed} request_messages")
    large = _places_of_large_values(count, 2)
    last_id = 0
    for number in range(count):
        last_id += rng.choice((1, 1, 1, 1, 3))
        yield (
            last_id,
            request_id(rng.randrange(requests)),
            _label(rng, number, labels["message_type"]),
            _label(rng, number, labels["message_source"]),
            _large_text(rng, large[number]) if number in large else _text(rng),
            _maybe(rng, f"U{rng.getrandbits(40):010X}"),
            _maybe(rng, rng.choice(AWKWARD_TEXTS)),
            json.dumps({"log": _large_text(rng, 0)}) if number == count // 2 else _maybe(rng, _json(rng)),
            _timestamp(rng),
        )


def _label(rng: random.Random, number: int, labels: Sequence[str]) -> str:
    """Each label in turn at first, so that none is missing; then any."""
    return labels[number] if number < len(labels) else rng.choice(labels)


def _maybe(rng: random.Random, value: Value) -> Value:
    return None if rng.random() < 0.3 else value


def _text(rng: random.Random) -> str:
    if rng.random() < 0.25:
        return rng.choice(AWKWARD_TEXTS)
    words = rng.choices(("please", "add", "a", "dark", "mode", "to", "the", "page", "caf\u00e9", "and", "fix"), k=12)
    return " ".join(words) + f" #{rng.getrandbits(32)}"


def _json(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return rng.choice(AWKWARD_JSON)
    return json.dumps({"tool": rng.choice(("bash", "edit")), "ms": rng.randrange(10**6), "args": [_text(rng)]})


def _integer(rng: random.Random) -> int:
    return rng.choice(_EXTREME_INTEGERS) if rng.random() < 0.02 else rng.randrange(100_000)


def _issue_id(rng: random.Random, number: int) -> int | None:
    """Unique where it is not NULL: the extremes once, then numbers that grow with the row."""
    if number < len(_EXTREME_BIGINTS):
        return _EXTREME_BIGINTS[number]
    return None if rng.random() < 0.4 else 1_000_000_000_000 + number * 13


def _moment(rng: random.Random) -> str:
    """A moment of the application's life, in microseconds."""
    return str(_EPOCH + timedelta(microseconds=rng.randrange(2 * 365 * 86_400 * 10**6)))


def _timestamp(rng: random.Random) -> str:
    return rng.choice(AWKWARD_TIMESTAMPS) if rng.random() < 0.02 else _moment(rng)


def _places_of_large_values(count: int, kinds: int) -> dict[int, int]:
    """Which rows hold a text of a mebibyte, and of which kind: spread over the table, whatever its size."""
    return {count * (kind + 1) // (kinds + 1): kind for kind in range(kinds)}


def _large_text(rng: random.Random, kind: int) -> str:
    """A mebibyte of text: one that compresses, one that does not, one of characters beyond ASCII."""
    if kind == 0:
        return ("the same line over and over\n" * (MEBIBYTE // 28 + 1))[:MEBIBYTE]
    if kind == 1:
        return base64.b64encode(rng.randbytes(MEBIBYTE * 3 // 4)).decode()
    return "\U0001f680\u6f22\n" * (MEBIBYTE // 8)
