"""Does a session keep its server process? Behind a transaction pooler it does not, and nothing that lasts longer than a transaction works.

The copy shares a snapshot between sessions, the cut-over holds advisory locks and settings: each would be another session's, or gone.
A pooler in session mode, and a proxy that only passes on, keep the process: they are no obstacle. So it is the behaviour that is asked
for, never a name or a port.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import psycopg

from clarity_infra.connection import Endpoint
from clarity_infra.errors import Refused

REMEDY = "use the provider's direct (unpooled) host or port"

# How often a session is asked for its process, each time with one more session in between: a pooler that hands out the process that was
# used last shows at the first, one that goes round its idle processes at the second.
_ROUNDS = 4


def is_pooled(endpoint: Endpoint, connection: psycopg.Connection[Any]) -> bool:
    """Whether `connection`, a session at `endpoint` in autocommit mode, shares server processes with other sessions. Changes nothing.

    Opens a few sessions beside it. Raises Unreachable or ConfigurationError as `Endpoint.connect` does.
    """
    mark = uuid.uuid4().hex
    connection.execute("SELECT pg_catalog.set_config('clarity_infra.session', %s, false)", (mark,))
    mine = _process(connection)
    with contextlib.ExitStack() as others:
        for _ in range(_ROUNDS):
            other = others.enter_context(endpoint.connect(purpose="preflight"))
            if _process(other) == mine:
                return True
            row = connection.execute("SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('clarity_infra.session', true)").fetchone()
            if row != (mine, mark):
                return True
    return False


def refuse_pooled(endpoint: Endpoint, connection: psycopg.Connection[Any]) -> None:
    """Raises Refused where `is_pooled`."""
    if is_pooled(endpoint, connection):
        raise Refused(
            f"{endpoint.label()} is reached through a transaction pooler: sessions share server processes, so that no snapshot, lock or"
            " setting lasts.",
            unchanged="Nothing was changed.",
            remedy=f"{REMEDY}.",
        )


def _process(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])
