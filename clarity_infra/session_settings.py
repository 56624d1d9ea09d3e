"""Do the application's sessions begin with the same settings in the new database as in the old one?

`ALTER DATABASE ... SET` and `ALTER ROLE ... SET` are not moved: what they say is for a database or a role of the old side. Where it is the
time zone, `now()` is stored as another `timestamp` from then on; where it is the search path, tables are not found. So both sides are
compared, and whoever reviews is given the statements.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg

from clarity_infra.connection import Endpoint
from clarity_infra.move.names import quoted
from clarity_infra.move.queries import query

# What the configuration of a server may say differently than that of another, of all that changes what is stored, found or shown.
_OF_THE_SERVER = (
    *("TimeZone", "DateStyle", "IntervalStyle", "search_path", "standard_conforming_strings", "bytea_output", "array_nulls", "xmloption"),
    *("default_transaction_isolation", "default_text_search_config", "transform_null_equals", "lc_monetary", "lc_numeric", "lc_time"),
)
# For the server's log, or for who may act as whom: each side's own.
_NOT_THE_APPLICATION_S = ("log_", "pgaudit.", "role", "session_authorization")
# Lists, whose stored text is written into SQL as it is. https://www.postgresql.org/docs/current/runtime-config-client.html
_LISTS = ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")


@dataclasses.dataclass(frozen=True)
class Login:
    """A role that logs in to a database; `admin` reaches its server, in any database."""

    admin: Endpoint
    database: str
    role: str


@dataclasses.dataclass(frozen=True)
class _Setting:
    name: str
    value: str
    of_the_role: bool


def differences(old: Login, new: Login) -> list[str]:
    """For each setting that sessions of `new` do not begin with as those of `old` do: what it was and is, and the statement that helps.

    Of what the servers themselves are configured with, only what changes the meaning of data is compared. Reads only.
    """
    elsewhere = (old.admin.host, old.admin.port) != (new.admin.host, new.admin.port)
    (before, servers_before), (after, servers_after) = (_settings(login, of_the_server=elsewhere) for login in (old, new))
    found = []
    for key, setting in ({key: value for key, value in servers_before.items() if key in servers_after} | before).items():
        now = after.get(key) or servers_after.get(key)
        if key.startswith(_NOT_THE_APPLICATION_S) or (now is not None and now.value == setting.value):
            continue
        helps = _statement(new, setting, role=now is not None and now.of_the_role)
        found.append(f"{setting.name} is {setting.value!r} and would be {repr(now.value) if now else 'the default'}: {helps}")
    return found


def _settings(login: Login, *, of_the_server: bool) -> tuple[dict[str, _Setting], dict[str, _Setting]]:
    """What database and role have, and what is known of the server's own configuration."""
    with login.admin.connect(purpose="review") as connection:
        found = _configured(connection, login.database, login.role)
        if not of_the_server:
            return found, {}
        # What the admin's own session begins with says nothing of the server where a database or the admin has a setting of its own.
        own = _configured(connection, login.admin.database, login.admin.user)
        rows = connection.execute("SELECT name, reset_val FROM pg_catalog.pg_settings WHERE name = ANY (%s)", (list(_OF_THE_SERVER),))
        return found, {name.lower(): _Setting(name, value, of_the_role=False) for name, value in rows if name.lower() not in own}


def _configured(connection: psycopg.Connection[Any], database: str, role: str) -> dict[str, _Setting]:
    rows = connection.execute(query("session_settings"), {"database": database, "role": role}).fetchall()
    return {name.lower(): _Setting(name, value, of_the_role) for name, value, of_the_role in rows}


def _statement(login: Login, setting: _Setting, *, role: bool) -> str:
    whom = f"ROLE {quoted(login.role)} IN DATABASE {quoted(login.database)}" if role else f"DATABASE {quoted(login.database)}"
    name = ".".join(map(quoted, setting.name.split(".")))
    as_it_is = setting.name in _LISTS and '""' not in setting.value
    value = setting.value if as_it_is else "'" + setting.value.replace("'", "''").strip('"' if setting.name in _LISTS else "") + "'"
    return f"ALTER {whom} SET {name} TO {value}"
