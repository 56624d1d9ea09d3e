"""What can be configured? Writes `docs/configuration.md` from the schema in `Pulumi.yaml`: `python scripts/configuration_reference.py`.

`--check` writes nothing and exits with 1 where the page is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from clarity_infra.settings import _IN_ENV_FILE, SECRET_KEYS, VARIABLES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"

_HEAD = """# Configuration

Made from `Pulumi.yaml` by `make docs`; not to be edited here.

Set a key with `pulumi config set KEY VALUE` (`--secret` for a secret, `--path 'tables[0]'` for a list). A key that is misspelt, out of range
or contradicts another is refused at preview, with all that is wrong named at once. A secret is refused where it was set without `--secret`,
since the stack's file would hold it in clear. Where a variable is named, it is read when the key is not set: from the environment, then,
for the URLs, from the application's `.env`; for DATABASE_URL, which is switched there, the file comes first.
"""


def sections() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The keys of the schema under the comments that head them in the file, in its order."""
    text = (ROOT / "Pulumi.yaml").read_text(encoding="utf-8")
    schema = yaml.safe_load(text)["config"]
    heading = ""
    found: dict[str, dict[str, Any]] = {}
    for line in text.split("\nconfig:\n", 1)[1].splitlines():
        if line.startswith("  # "):
            if found:
                yield heading, found
            heading, found = line.removeprefix("  # "), {}
        elif line.startswith("  ") and not line.startswith("   ") and line.strip().endswith(":"):
            key = line.strip().removesuffix(":")
            found[key] = schema[key]
    yield heading, found


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for heading, keys in sections():
        parts.append(f"\n## {heading.removesuffix('.')}\n")
        parts += [_entry(key, facts) for key, facts in keys.items()]
    return "\n".join(parts)


def _entry(key: str, facts: dict[str, Any]) -> str:
    notes = [str(facts["type"]), f"default {_shown(facts.get('default'))}"]
    if key in SECRET_KEYS:
        notes.append("secret")
    if key in VARIABLES:
        notes.append(f"variable `{VARIABLES[key]}`" + (", also in `.env`" if key in _IN_ENV_FILE else ""))
    description = str(facts["description"]).removeprefix("(secret) ")
    return f"- **`{key}`** ({'; '.join(notes)}): {description}"


def _shown(value: Any) -> str:
    if value in ("", None):
        return "empty"
    if isinstance(value, list):
        return f"`{', '.join(value)}`" if value else "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def main(arguments: list[str]) -> int:
    """Writes or checks the page; the exit status."""
    if "--check" in arguments:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page() + "\n" else 1
    PAGE.write_text(page() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
