"""What does a reviewer read in a pull request? `pulumi preview --json` and the guard's answer as one Markdown text.

    python scripts/review_markdown.py --stack STACK --guard guard.json preview.json > review.md
    python scripts/review_markdown.py --stack STACK --guard guard.json --drift status.json preview.json > review.md
    python scripts/review_markdown.py --changes preview.json          prints true or false

Prints nothing of a resource but names: values stay in the engine's own output. Exit status 2 where a file cannot be read; with `--drift`,
which takes what `python -m clarity_infra status --json` answered, 3 where something is not as the stack has recorded it and wants it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# GitHub takes 65,536 characters; what is left is for the line that says that something was cut off.
# https://docs.github.com/en/rest/issues/comments
LONGEST = 65_000
_MANY_CHANGES = 60

_MARKS = {
    "create": "+",
    "update": "~",
    "delete": "-",
    "replace": "+-",
    "create-replacement": "++",
    "delete-replaced": "--",
    "import": "=",
    "read": ">",
}
# Said after the error itself of a program that ended with a plain error.
_PLAIN_END = re.compile(r"^(error: )?an unhandled error occurred: program exited with non-zero exit code: 1$", re.IGNORECASE)
# Said by the engine of every plugin that stands on PATH, or is slow to end after all is done; it tells a reviewer nothing.
_NOISE = re.compile(r"^(warning: |error: )?(using pulumi-\S+ from \$PATH at |Detected that \S+ exited prematurely)")

# A state may be kept where a URL logs in, and GitHub hides no secret in a comment.
_LOGIN = re.compile(r"://[^\s/@]+@")


def marker(stack: str) -> str:
    """The first line of a stack's comment, by which the next run finds it again."""
    return f"<!-- clarity-infra review of {re.sub(r'[^A-Za-z0-9_./-]', '_', stack)} -->"


def review(
    stack: str,
    preview: Mapping[str, Any],
    guard: Mapping[str, Any],
    *,
    drifted: Sequence[str] | None = None,
    unheard: Sequence[str] = (),
    commit: str = "",
    run_url: str = "",
) -> str:
    """The whole text. `guard` is what `python -m clarity_infra guard --json` answered; `drifted` what `drift` found, where it was asked for;
    `unheard` what the engine said where it ended before there was a preview.
    """
    said = [found for found in preview.get("diagnostics") or [] if not _NOISE.match(str(found.get("message", "")))]
    failed = _texts(said, "error")
    errors = [text for text in failed if not _PLAIN_END.match(text)] or failed
    parts = [
        marker(stack),
        f"## {_verdict(guard, errors, unheard, preview, drifted)}: stack `{_inline(stack)}`",
        *_fenced("Not as it was left", list(drifted or [])),
        *_fenced("What the engine said" if preview else "There is no preview", unheard),
        *([] if unheard and not preview else _guard_part(guard)),
        *_fenced("What is taken away", [str(found["text"]) for found in guard.get("taken_away") or []]),
        *(_fenced("Errors", errors)),
        *(_fenced("Warnings", _texts(said, "warning"))),
        *(_fenced("What this does to the data", _texts(said, "info", "info#err"))),
        *_changes_part(_changing(preview), preview.get("changeSummary") or {}),
        _footer(commit, run_url),
    ]
    return _cut("\n\n".join(part for part in parts if part) + "\n")


def drift(preview: Mapping[str, Any], status: Mapping[str, Any]) -> list[str]:
    """What is not as the stack has recorded it and wants it: resources that a refreshed preview would change, and data between two sides."""
    found = [f"{step['op']} {_name(str(step.get('urn', '')))}" for step in _changing(preview)]
    if status.get("writes") == "between":
        found.append("neither side takes writes: a run died between two steps; run `pulumi up` again")
    found += [f"left by a run that died: {text}" for text in status.get("leftovers") or []]
    return found + ([f"the databases could not be asked: {status['error']}"] if "error" in status else [])


def _changing(preview: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [step for step in preview.get("steps") or [] if step.get("op") not in ("same", "read", "refresh", None)]


def _verdict(
    guard: Mapping[str, Any], errors: Sequence[str], unheard: Sequence[str], preview: Mapping[str, Any], drifted: Sequence[str] | None
) -> str:
    if errors or unheard or "error" in guard:
        return "The preview failed"
    if drifted is not None:
        return "Drift" if drifted else "No drift"
    if guard.get("violations"):
        return "Stopped by the guard"
    changing = {op: count for op, count in (preview.get("changeSummary") or {}).items() if op not in ("same", "read") and count}
    return "Nothing to change" if not changing else "Ready for review"


def _guard_part(guard: Mapping[str, Any]) -> list[str]:
    if "error" in guard:
        return [*_fenced("The guard could not judge", [str(guard["error"])])]
    broken = guard.get("violations") or []
    if not broken:
        return [f"Guard: {guard.get('looked_at', 0)} resources keep every rule."] if not guard.get("failed") else []
    rows = [f"| `{_inline(found['rule'])}` | `{_inline(_name(found['urn']))}` | {_cell(found['text'])} |" for found in broken]
    return ["\n".join(["| Rule broken | Resource | Why |", "|---|---|---|", *rows])]


def _changes_part(changing: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    counted = ", ".join(f"{count} {op}" for op, count in sorted(summary.items()) if count)
    if not changing:
        return [f"Resources: {counted}." if counted else "No resource was looked at."]
    rows = [
        f"| `{_MARKS.get(str(step['op']), '?')}` {_cell(str(step['op']))} | `{_inline(_name(str(step.get('urn', ''))))}`"
        f" | `{_inline(_type(step))}` | {_cell(', '.join(_changed(step)))} |"
        for step in changing[:_MANY_CHANGES]
    ]
    more = [f"... and {len(changing) - _MANY_CHANGES} more."] if len(changing) > _MANY_CHANGES else []
    table = "\n".join(["| | Resource | Type | Changes |", "|---|---|---|---|", *rows])
    return ["\n\n".join([f"<details><summary>Resources: {counted}</summary>", table, *more, "</details>"])]


def _changed(step: Mapping[str, Any]) -> list[str]:
    """Names of the properties that change, never their values."""
    if step.get("op") not in ("update", "replace", "create-replacement"):
        return []
    found = set(step.get("detailedDiff") or {}) | set(step.get("diffReasons") or [])
    if not found:
        old, new = ((step.get(state) or {}).get("inputs") or {} for state in ("oldState", "newState"))
        found = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    return sorted(f"`{_inline(str(key))}`" for key in found if not str(key).startswith("__"))


def _texts(diagnostics: Iterable[Mapping[str, Any]], *severities: str) -> list[str]:
    texts = [str(found.get("message", "")).rstrip() for found in diagnostics if found.get("severity") in severities]
    return list(dict.fromkeys(text for text in texts if text.strip()))


def _fenced(title: str, texts: Sequence[str]) -> list[str]:
    """A block in which nothing is Markdown, a mention or HTML, whatever it holds."""
    if not texts:
        return []
    text = "\n".join(texts)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"### {title}\n\n{fence}text\n{text}\n{fence}"]


def _footer(commit: str, run_url: str) -> str:
    said = [f"commit {_inline(commit)[:12]}" if commit else "", f"[this run]({run_url})" if re.match(r"https?://\S+$", run_url) else ""]
    shown = ", ".join(part for part in said if part)
    return f"<sub>{shown}. Nothing was changed by this preview.</sub>" if shown else "<sub>Nothing was changed by this preview.</sub>"


def _cut(text: str) -> str:
    """The text, within what GitHub takes; a block that is left open is closed, so that what is said of the cut is read."""
    if len(text) <= LONGEST:
        return text
    kept, fence = text[:LONGEST].rsplit("\n", 1)[0], ""
    for line in kept.split("\n"):
        if not fence and re.fullmatch(r"`{3,}text", line):
            fence = line.removesuffix("text")
        elif line == fence:
            fence = ""
    return f"{kept}\n{fence}\n\n**The rest was cut off, as GitHub takes no more: `pulumi preview` in a terminal shows all of it.**\n"


def _read(path: Path) -> Mapping[str, Any]:
    """The preview; empty where the engine ended before there was one."""
    try:
        found = json.loads(path.read_text())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _name(urn: str) -> str:
    return urn.rsplit("::", 1)[-1]


def unheard(preview: Mapping[str, Any], said: str, *, failed: bool = False) -> list[str]:
    """What the engine said beside a preview that it did not begin (no such stack, no passphrase, no way into the state), or that it ended
    with a failure which is not in it (a plan that could not be written).
    """
    in_it = preview and not (failed and not _texts(preview.get("diagnostics") or [], "error"))
    lines = [] if in_it else [line for line in said.splitlines() if line.strip() and not _NOISE.match(line)]
    return [_LOGIN.sub("://***@", line) for line in lines]


def _type(step: Mapping[str, Any]) -> str:
    state = step.get("newState") or step.get("oldState") or {}
    return str(state.get("type") or "")


def _inline(text: str) -> str:
    """Text for the inside of a code span in a table."""
    return re.sub(r"\s+", " ", text).replace("`", "'").replace("|", "\\|")


def _cell(text: str) -> str:
    """Text for a cell of a table, where no HTML and no mention comes to life."""
    plain = re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"@(?=\w)", "@&#8203;", plain)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line described at the top of the module."""
    parser = argparse.ArgumentParser(description="Prints a preview as Markdown.")
    parser.add_argument("preview", type=Path)
    parser.add_argument("--changes", action="store_true", help="only whether anything would change")
    parser.add_argument("--stack", default="")
    parser.add_argument("--guard", type=Path, help="the answer of `python -m clarity_infra guard --json`")
    parser.add_argument("--drift", type=Path, metavar="STATUS", help="the answer of `python -m clarity_infra status --json`")
    parser.add_argument("--said", type=Path, help="what the engine said on stderr")
    parser.add_argument("--failed", action="store_true", help="the engine's exit status was not 0")
    parser.add_argument("--commit", default="")
    parser.add_argument("--run-url", default="")
    options = parser.parse_args(arguments)
    try:
        preview = _read(options.preview)
        if options.changes:
            print("true" if _changing(preview) else "false")
            return 0
        guard = json.loads(options.guard.read_text()) if options.guard else {}
        drifted = drift(preview, json.loads(options.drift.read_text())) if options.drift else None
        lines = unheard(preview, options.said.read_text(), failed=options.failed) if options.said else []
    except (OSError, ValueError) as error:
        print(f"error: the preview or the guard's answer cannot be read: {type(error).__name__}", file=sys.stderr)
        return 2
    print(review(options.stack, preview, guard, drifted=drifted, unheard=lines, commit=options.commit, run_url=options.run_url), end="")
    return 3 if drifted else 0


if __name__ == "__main__":
    sys.exit(main())
