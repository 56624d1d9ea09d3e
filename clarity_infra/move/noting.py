"""How do triggers note an application's writes without ever failing one? The frame of every function that does: `capture`, `ledger`.

The functions are SECURITY DEFINER with a pinned search_path and pinned text formats, so that what they note is what the run's own sessions
would print. What cannot be noted, for whatever reason, puts the counter beyond its cap, which tells the reader that notes are missing.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

# What makes a value print, and so hash, as in the sessions of this program (see `connection`).
PINNED = (
    ("search_path", "pg_catalog, pg_temp"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "3"),
    ("lc_monetary", "C"),
    ("xmlbinary", "base64"),
)

# OTHERS does not catch a cancelled statement, which is the application's own affair; the inner block keeps even a vanished counter
# from failing its write.
_FRAME = sql.SQL(
    """
BEGIN
  {work}
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  BEGIN
    PERFORM pg_catalog.setval({counter}, {cap} + 1);
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
  RETURN NULL;
END
"""
)


def body(connection: psycopg.Connection, work: sql.SQL, *, counter: sql.Identifier, cap: int, **parts: sql.Composable) -> str:
    """The body of a trigger function that does `work`, statements in which `parts`, {counter} and {cap} are filled in."""
    both = {"counter": sql.Literal(counter.as_string(connection)), "cap": sql.Literal(cap)}
    return _FRAME.format(work=work.format(**both, **parts), **both).as_string(connection)
