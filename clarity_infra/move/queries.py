"""Where is a query's text? In `sql/`, one complete statement a file, runnable in psql once its parameters are filled in."""

from __future__ import annotations

import functools
import importlib.resources


@functools.cache
def query(name: str) -> bytes:
    """The statement in `sql/NAME.sql`; parameters are psycopg's named ones, explained in the file's header.

    Lines of comment are taken out: psycopg would find the parameters they explain.
    """
    text = importlib.resources.files("clarity_infra.move").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).encode()
