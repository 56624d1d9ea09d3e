"""Where is the report kept? One file a run in the configured folder; it appears under its name only when it is whole."""

from __future__ import annotations

import re
from pathlib import Path

from clarity_infra.report.account import Account
from clarity_infra.report.page import page


def write(account: Account, folder: Path) -> Path:
    """Writes the report into `folder`, which is made where it is missing. Gives its path. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    stack = re.sub(r"[^\w.-]", "_", account.stack)
    path = folder / f"{stack}-{account.at:%Y%m%dT%H%M%SZ}-{account.run}.html"
    partial = path.with_name(path.name + ".part")
    partial.write_text(page(account), encoding="utf-8")
    partial.replace(path)
    return path
