"""Which names can the PostgreSQL provider's plugin not be given? It writes some into a URL, and one into SQL, as they stand.

Read in the source of terraform-provider-postgresql, on which the plugin is built: `config.go` (connStr) puts the database's name into
the path of a URL without encoding it; `resource_postgresql_database.go` (terminateBConnections) puts the name of a database that is
dropped between single quotes; `resource_postgresql_schema.go` reads a schema's privileges by cutting each at its first "=", also where
that is part of a role's name. A server refuses the reserved names itself, half way through the `up`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from clarity_infra.errors import ConfigurationError

_UNCHANGED = "Nothing was changed."


def check_dropped_database(name: str, setting: str) -> None:
    """Raises ConfigurationError for a database that the plugin could not connect to, or could not drop."""
    check_connected_database(name, setting)
    if "'" in name:
        raise ConfigurationError(
            f"{setting}: {name!r} has a single quote, and the PostgreSQL plugin could not drop a database of that name.",
            unchanged=_UNCHANGED,
            remedy=f"choose a name without it in {setting}.",
        )


def check_connected_database(name: str, setting: str) -> None:
    """Raises ConfigurationError for a database that the plugin could not connect to."""
    wrong = sorted({character for character in name if character in "?#%" or unicodedata.category(character) == "Cc"})
    if wrong:
        raise ConfigurationError(
            f"{setting}: {name!r} has {', '.join(map(repr, wrong))}, and the PostgreSQL plugin cannot connect to a database of that name.",
            unchanged=_UNCHANGED,
            remedy=f"choose a name without it in {setting}."
            if setting.endswith(":database")
            else "set TARGET_DATABASE_URL to another database of the same server (postgres, say): the plugin then connects to that one.",
        )


def check_roles(roles: Mapping[str, str]) -> None:
    """Raises ConfigurationError for a role, by its setting, that the server reserves or whose privileges the plugin could not read."""
    for setting, name in roles.items():
        if name.startswith("pg_") or name in ("public", "none"):
            raise ConfigurationError(
                f"{setting}: PostgreSQL reserves the role name {name!r}.", unchanged=_UNCHANGED, remedy=f"choose another in {setting}."
            )
        if "=" in name:
            raise ConfigurationError(
                f"{setting}: {name!r} has an equals sign, and the PostgreSQL plugin cannot read the privileges of a role of that name.",
                unchanged=_UNCHANGED,
                remedy=f"choose a name without it in {setting}.",
            )


def host(name: str) -> str:
    """A host as the plugin takes it: an IPv6 address needs its brackets, as it stands in a URL."""
    return f"[{name}]" if ":" in name else name
