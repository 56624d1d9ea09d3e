"""How does the read-only role leave a database that stays? Everything it was granted there is taken from it."""

from __future__ import annotations

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, ConfigurationError
from clarity_infra.move.names import quoted


def take_everything(database: Endpoint, role: str) -> None:
    """Takes every privilege in the database from `role`, in schemas that later migrations made too, so that it can be dropped.

    A role or a database that is gone is no error. `database` logs in as the admin. Raises ClarityError where the server refuses.
    """
    try:
        connection = database.connect(autocommit=False, purpose="reader")
    except ConfigurationError:
        return  # the database went first, and every privilege in it
    with connection:
        row = connection.execute(
            "SELECT pg_catalog.pg_has_role(current_user, oid, 'USAGE') FROM pg_catalog.pg_roles WHERE rolname = %s", (role,)
        ).fetchone()
        if row is None:
            return
        name, me = sql.Identifier(role), sql.Identifier(database.user)
        try:
            # Only who has a role's privileges may drop what it was granted; an admin that is no superuser takes them for this moment.
            if not row[0]:
                connection.execute(sql.SQL("GRANT {} TO {}").format(name, me))
            connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            if not row[0]:
                connection.execute(sql.SQL("REVOKE {} FROM {}").format(name, me))
        except psycopg.Error as error:
            raise ClarityError(
                f"What {quoted(role)} was granted in {database.label()} could not be taken from it: {error.diag.message_primary}.",
                unchanged="The role is as it was.",
                remedy=f"ask for: DROP OWNED BY {quoted(role)}, then run the same command again.",
            ) from None
