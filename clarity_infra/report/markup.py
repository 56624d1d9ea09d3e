"""How is HTML put together so that no text in it can become markup? Every child that is not `Markup` already is escaped."""

from __future__ import annotations

import html


class Markup(str):
    """Text that is HTML already."""


Child = str | Markup | None


def tag(name: str, *children: Child, **attributes: str | float | None) -> Markup:
    """An element: `class_` and the like lose their underscore, inner underscores become dashes, an attribute that is None is left out."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return Markup(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after another."""
    return Markup("".join(child if isinstance(child, Markup) else html.escape(child) for child in children if child is not None))
