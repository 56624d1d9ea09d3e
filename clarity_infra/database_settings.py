"""Which settings does the new database have of its own, and may the admin make them?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError

# Every statement of this database, in the server's log. https://www.postgresql.org/docs/current/runtime-config-logging.html
AUDIT = {"log_statement": "all"}


def set_settings(target: Endpoint, values: Mapping[str, str]) -> list[str]:
    """Sets each for the whole database, for sessions that begin from now on; returns a warning for each the server does not allow.

    Raises ClarityError where the server refuses a setting for another reason than a missing privilege.
    """
    warnings = []
    with target.connect(purpose="settings") as connection:
        for name, value in values.items():
            try:
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = {}").format(sql.Identifier(target.database), sql.Identifier(name), sql.Literal(value))
                )
            except psycopg.errors.InsufficientPrivilege:
                grant = sql.SQL("GRANT SET ON PARAMETER {} TO {}").format(sql.Identifier(name), sql.Identifier(target.user))
                warnings.append(
                    f'the server does not let "{target.user}" set {name} for database "{target.database}", so this is not done; '
                    f"ask a superuser for: {grant.as_string(connection)}"
                )
            except psycopg.Error as error:
                raise ClarityError(
                    f'The server refused {name} = {value} for database "{target.database}": {error.diag.message_primary}.',
                    remedy="correct the value.",
                ) from None
    return warnings


def reset_settings(target: Endpoint, names: Iterable[str]) -> None:
    """Takes each setting back; one that was never allowed is no error."""
    wanted = list(names)
    if not wanted:
        return
    with target.connect(purpose="settings") as connection:
        for name in wanted:
            try:
                connection.execute(sql.SQL("ALTER DATABASE {} RESET {}").format(sql.Identifier(target.database), sql.Identifier(name)))
            except psycopg.errors.InsufficientPrivilege:
                continue  # it could not be set either
