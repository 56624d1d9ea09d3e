"""What is the PostgreSQL provider's plugin given, and what can it not be given?

It writes some names into a URL, and one into SQL, as they stand.

Read in the source of terraform-provider-postgresql, on which the plugin is built: `config.go` (connStr) puts the database's name into
the path of a URL without encoding it; `resource_postgresql_database.go` (terminateBConnections) puts the name of a database that is
dropped between single quotes; `resource_postgresql_schema.go` reads a schema's privileges by cutting each at its first "=", also where
that is part of a role's name. A server refuses the reserved names itself, half way through the `up`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from clarity_infra.connection import Endpoint
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


def check_admin(name: str) -> None:
    """Raises ConfigurationError for an admin whom the plugin could not log in."""
    if ":" in name:  # in a URL it ends the name, and the plugin does not encode it
        raise ConfigurationError(
            f"The admin's URL names the user {name!r}: the PostgreSQL plugin cannot log in a user whose name has a colon.",
            unchanged=_UNCHANGED,
            remedy="use an admin whose name has none.",
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


def connection(endpoint: Endpoint) -> dict[str, Any]:
    """How the plugin reaches what `endpoint` reaches, as verified as that: its settings but the password, which is a secret.

    The driver's words are libpq's: sslmode verify-full checks authority and host, verify-ca the authority. An IPv6 address needs its
    brackets, as it stands in a URL. https://www.pulumi.com/registry/packages/postgresql/
    """
    parameters = dict(endpoint.parameters)
    settings: dict[str, Any] = {
        "host": f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host,
        "port": endpoint.port,
        "username": endpoint.user,
        "database": endpoint.database,
        "sslmode": endpoint.sslmode,
    }
    if endpoint.sslrootcert:
        settings["sslrootcert"] = endpoint.sslrootcert
    if "sslcert" in parameters:
        settings["clientcert"] = {"cert": parameters["sslcert"], "key": parameters["sslkey"]}
    return settings
