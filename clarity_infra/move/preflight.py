"""Can these two servers do it? Looks at both sides before anything is made; what it finds is a blocker or a note, never a change."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ConfigurationError
from clarity_infra.move.catalog import OURS
from clarity_infra.move.model import Blocker, MoveSet
from clarity_infra.move.names import quoted
from clarity_infra.move.queries import query
from clarity_infra.move.tools import Tools, find_tools
from clarity_infra.pooler import REMEDY, is_pooled

# The oldest server this is tested with; older ones lack what the queries ask for.
OLDEST = 150000

# Bytes of tables from which on the target's disk is worth a word.
_WORTH_A_LOOK = 1_000_000_000


def major(connection: psycopg.Connection[Any]) -> int:
    """The server's major version."""
    return connection.info.server_version // 10000


def tools_for(source: psycopg.Connection[Any], target: psycopg.Connection[Any]) -> Tools:
    """pg_dump and pg_restore for this pair of servers; raises ConfigurationError."""
    return find_tools(max(major(source), major(target)), best=major(target))


def check_servers(
    source: psycopg.Connection[Any],
    endpoint: Endpoint,
    target: psycopg.Connection[Any] | None,
    move_set: MoveSet,
    *,
    target_endpoint: Endpoint | None = None,
) -> tuple[list[Blocker], list[str]]:
    """Everything about the servers themselves: versions, recovery, poolers, encodings, tools. `target` may be any database of its server.

    `endpoint` and `target_endpoint` are where the two sessions were opened.
    """
    blockers: list[Blocker] = []
    notes: list[str] = []
    for side, connection in (("source", source), ("target", target)):
        if connection is None:
            continue
        blockers += _server(side, connection)
    blockers += _pooler("source", endpoint, source)
    if target is not None and target_endpoint is not None and (target_endpoint.host, target_endpoint.port) != (endpoint.host, endpoint.port):
        blockers += _pooler("target", target_endpoint.with_database(target.info.dbname), target)
    if target is None:
        return blockers, notes
    if major(target) < major(source):
        blockers.append(
            Blocker(
                "target server",
                f"it is PostgreSQL {major(target)}, older than the source's {major(source)}",
                "move to a server at least as new as the source's",
                can_accept=False,
            )
        )
    else:
        try:
            tools_for(source, target)
        except ConfigurationError as error:
            blockers.append(Blocker("pg_dump and pg_restore", error.what, error.remedy, can_accept=False))
    blockers += _collations(target, move_set)
    blockers += _policy_roles(target, move_set)
    blockers += _features(target, move_set)
    return blockers, notes + _room(move_set)


def check_databases(
    source: psycopg.Connection[Any],
    target: psycopg.Connection[Any],
    move_set: MoveSet,
    *,
    owner: str,
    ours: list[int],
) -> tuple[list[Blocker], list[str]]:
    """What only the target database itself can tell. `ours` are the objects an earlier attempt of this stack made there."""
    if same_database(source, target):
        return [
            Blocker(
                "target database",
                "it is the source database itself",
                "name another database as the target",
                can_accept=False,
            )
        ], []
    blockers = _foreign(target, move_set, ours)
    blockers += _extensions(target, move_set)
    blockers += _owner(target, move_set, owner)
    blockers += _parameters(target, move_set, owner)
    encoding_blockers, notes = _encodings(source, target, move_set)
    return blockers + encoding_blockers, notes


def _server(side: str, connection: psycopg.Connection[Any]) -> list[Blocker]:
    if connection.info.server_version < OLDEST:
        return [Blocker(f"{side} server", f"it is PostgreSQL {major(connection)}", "use PostgreSQL 15 or newer", can_accept=False)]
    row = connection.execute(
        "SELECT pg_catalog.pg_is_in_recovery(), r.rolinherit OR r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user"
    ).fetchone()
    if row and row[0]:
        return [Blocker(f"{side} server", "it is a read replica", "name the primary server in the URL", can_accept=False)]
    if row and not row[1]:
        # It would own databases and be a member of roles without having their privileges, to end sessions of theirs among others.
        return [
            Blocker(
                f"{side} admin",
                f'"{connection.info.user}" does not inherit the privileges of the roles it is a member of (NOINHERIT)',
                f"ALTER ROLE {quoted(connection.info.user)} INHERIT",
                can_accept=False,
            )
        ]
    return []


def _pooler(side: str, endpoint: Endpoint, connection: psycopg.Connection[Any]) -> list[Blocker]:
    if not is_pooled(endpoint, connection):
        return []
    reason = "it goes through a transaction pooler, where a snapshot cannot be shared between sessions"
    return [Blocker(f"{side} connection", reason, REMEDY, can_accept=False)]


def same_database(a: psycopg.Connection[Any], b: psycopg.Connection[Any]) -> bool:
    """Whether two sessions are in the same database, whatever their URLs say: one sees the lock that the other holds there."""
    high, low = uuid.uuid4().int & 0x7FFFFFFF, uuid.uuid4().int & 0x7FFFFFFF
    with _locked(a, high, low):
        row = b.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND objsubid = 2"
            " AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))",
            (high, low),
        ).fetchone()
    return bool(row and row[0])


@contextlib.contextmanager
def _locked(connection: psycopg.Connection[Any], high: int, low: int) -> Iterator[None]:
    connection.execute("SELECT pg_catalog.pg_advisory_lock(%s::int4, %s::int4)", (high, low))
    try:
        yield
    finally:
        connection.execute("SELECT pg_catalog.pg_advisory_unlock(%s::int4, %s::int4)", (high, low))


def _room(move_set: MoveSet) -> list[str]:
    """What the target has to have free, where that is worth a look: no server says in SQL how much there is."""
    size = sum(table.bytes for table in move_set.tables)
    if size < _WORTH_A_LOOK:
        return []
    return [
        f"The target's server needs about {2 * size / 1e9:,.1f} GB of free disk for the rows and their write-ahead log, and room for the"
        " indexes: it does not tell how much it has."
    ]


def _collations(target: psycopg.Connection[Any], move_set: MoveSet) -> list[Blocker]:
    rows = target.execute(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c"
        " JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE n.nspname = 'pg_catalog'"
    ).fetchall()
    there = {row[0] for row in rows}
    return [
        Blocker(
            f"collation {name}",
            "the target's server does not have it",
            "install its locale there and run pg_import_system_collations, or give the column another collation",
            can_accept=False,
        )
        for name in move_set.collations
        if name not in there
    ]


# What a target may be unable to take: why, and what to do; the text of the statement begins as the feature's own does.
_LACKING = {
    "lz4": ("its values are compressed with lz4, which the target's server was built without", "{alter} SET COMPRESSION pglz"),
    "xml": (
        "it is of type xml, which the target's server was built without",
        "move to a server that has it (configured with libxml), or change the type to text",
    ),
    "icu": (
        "its provider is ICU, which the target's server was built without",
        "move to a server that has it, or give what uses it another collation",
    ),
    "partition identity": (
        "it is an identity column of a partition alone, which the target's version does not know",
        "{alter} DROP IDENTITY",
    ),
    "nullable child": (
        "it takes NULL and its table's parent does not, which the target's version does not know",
        "{alter} SET NOT NULL, or DROP NOT NULL for the parent",
    ),
    "generated child": (
        "it is generated and its table's parent's is not, which the target's version does not know",
        "take the table out of its parent (NO INHERIT), {alter} DROP EXPRESSION, and put it back (INHERIT)",
    ),
}


def _features(target: psycopg.Connection[Any], move_set: MoveSet) -> list[Blocker]:
    """Columns and types that need what the target's server does not have."""
    lacking = {feature for feature in {name for name, _, _ in move_set.features} if not _has(target, feature)}
    return [
        Blocker(
            thing,
            _LACKING[feature][0],
            _LACKING[feature][1].format(alter=alter),
            can_accept=False,
        )
        for feature, thing, alter in move_set.features
        if feature in lacking
    ]


def _has(target: psycopg.Connection[Any], feature: str) -> bool:
    if feature == "partition identity":
        return target.info.server_version < 170000
    if feature == "nullable child":
        return target.info.server_version < 180000
    if feature == "generated child":
        return target.info.server_version < 160000
    if feature == "icu":
        # initdb takes these from the library; "unicode" alone is there without it.
        return bool(target.execute("SELECT 1 FROM pg_catalog.pg_collation WHERE collname LIKE '%-x-icu' LIMIT 1").fetchall())
    if feature == "lz4":
        row = target.execute("SELECT 'lz4' = ANY (enumvals) FROM pg_catalog.pg_settings WHERE name = 'default_toast_compression'").fetchone()
        return bool(row and row[0])
    try:
        with target.transaction():
            target.execute("SELECT '<a/>'::pg_catalog.xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def _parameters(target: psycopg.Connection[Any], move_set: MoveSet, owner: str) -> list[Blocker]:
    """Functions that set what the owner may not: a parameter of superusers, or one of an extension that is not loaded."""
    rows = target.execute(query("preflight_parameters"), {"names": [name for name, _ in move_set.parameters], "owner": owner}).fetchall()
    barred = {row[0] for row in rows}
    return [
        Blocker(
            f"function {function}",
            f'it sets {name}, and "{owner}" may not in the target',
            f"ask for: GRANT SET ON PARAMETER {name} TO {quoted(owner)} on the target's server, or ALTER FUNCTION {function} RESET {name}",
            can_accept=False,
        )
        for name, function in move_set.parameters
        if name in barred
    ]


def _policy_roles(target: psycopg.Connection[Any], move_set: MoveSet) -> list[Blocker]:
    rows = target.execute(
        "SELECT w.name FROM unnest(%s::text[]) AS w(name) WHERE NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles r WHERE r.rolname = w.name)",
        (list(move_set.policy_roles),),
    ).fetchall()
    return [
        Blocker(
            f"role {row[0]}",
            "a policy of the tables names it, and the target's server does not have it",
            "create the role there, or change the policy",
            can_accept=False,
        )
        for row in rows
    ]


def _foreign(target: psycopg.Connection[Any], move_set: MoveSet, ours: list[int]) -> list[Blocker]:
    rows = target.execute(query("preflight_foreign"), {"prefix": OURS, "ours": ours}).fetchall()
    wanted = {"identities": [*move_set.types, *move_set.functions], "others": list(move_set.others)}
    rows += target.execute(query("preflight_colliding"), {**wanted, "ours": ours}).fetchall()
    if not rows:
        return []
    named = ", ".join(f"{kind} {name}" for kind, name in rows[:10]) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
    return [
        Blocker(
            "target database",
            f"it has objects of its own: {named}",
            "name an empty database as the target, or remove them yourself; nothing that this program did not make is touched",
            can_accept=False,
        )
    ]


_NAMED_BY_BODY = re.compile(r"extension (\S+) is used by (.*), whose body names it", re.DOTALL)


def _or_accept(function: str | None) -> str:
    return f", or accept {function} if it works without" if function else ""


def _extensions(target: psycopg.Connection[Any], move_set: MoveSet) -> list[Blocker]:
    schema_of = {extension.name: extension.schema for extension in move_set.extensions}
    # Where nothing but a body names it, the function can be accepted instead.
    by_body = {match[1]: match[2] for text in move_set.shared if (match := _NAMED_BY_BODY.match(text))}
    blockers = []
    for name, schema, available, may_create in target.execute(query("preflight_extensions"), {"names": list(schema_of)}).fetchall():
        if schema == schema_of[name]:
            continue
        if schema is not None:
            blockers.append(
                Blocker(
                    f"extension {name}",
                    f"it is in schema {quoted(schema)} in the target, in {quoted(schema_of[name])} in the source",
                    f"in the target: ALTER EXTENSION {quoted(name)} SET SCHEMA {quoted(schema_of[name])}, or make it anew there",
                    can_accept=False,
                )
            )
        elif available is None:
            blockers.append(
                Blocker(
                    f"extension {name}",
                    "the tables need it, and the target's server does not have it",
                    f"install its package on the target's server{_or_accept(by_body.get(name))}",
                    can_accept=False,
                )
            )
        elif not may_create:
            blockers.append(
                Blocker(
                    f"extension {name}",
                    f'the tables need it, and "{target.info.user}" may not create it in the target',
                    f"ask for: CREATE EXTENSION {quoted(name)} in database {quoted(target.info.dbname)}{_or_accept(by_body.get(name))}",
                    can_accept=False,
                )
            )
    return blockers


def _owner(target: psycopg.Connection[Any], move_set: MoveSet, owner: str) -> list[Blocker]:
    """The owner must exist, the admin must be able to act as it, and it must be able to create in the schemas of the set."""
    row = target.execute("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s", (owner,)).fetchone()
    if row is None:
        return [Blocker(f"role {owner}", "the target's server does not have it", "create it first", can_accept=False)]
    blockers = []
    rows = target.execute(
        "SELECT w.name, n.oid IS NOT NULL, CASE WHEN n.oid IS NULL"
        " THEN pg_catalog.has_database_privilege(%(owner)s::name, pg_catalog.current_database(), 'CREATE')"
        " ELSE pg_catalog.has_schema_privilege(%(owner)s::name, n.oid, 'CREATE') END"
        " FROM unnest(%(schemas)s::text[]) AS w(name) LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.name",
        {"owner": owner, "schemas": list(move_set.schemas)},
    ).fetchall()
    for schema, exists, allowed in rows:
        if not allowed:
            what = f"SCHEMA {quoted(schema)}" if exists else f"DATABASE {quoted(target.info.dbname)}"
            grant = f"GRANT CREATE ON {what} TO {quoted(owner)}"
            blockers.append(Blocker(f"schema {schema}", f'"{owner}" may not create in it', grant, can_accept=False))
    return blockers


# Locales that sort by code points, whatever they are called.
_BY_CODE_POINTS = {"C", "POSIX", "C.UTF-8", "C.UTF8", "C.utf8"}


@dataclasses.dataclass(frozen=True)
class _Locale:
    """How a database writes and sorts text where nothing else is said; `provider` as pg_database has it."""

    encoding: str
    collate: str
    ctype: str
    provider: str
    name: str | None

    @property
    def order(self) -> tuple[str, str]:
        """What the order of text depends on: equal for two databases that sort alike."""
        if self.provider == "b" or (self.provider == "c" and self.collate in _BY_CODE_POINTS):
            return "code points", ""
        return self.provider, self.collate if self.provider == "c" else str(self.name)

    def __str__(self) -> str:
        return self.collate if self.provider == "c" else str(self.name)


def _locale(connection: psycopg.Connection[Any]) -> _Locale:
    row = connection.execute(
        "SELECT pg_catalog.pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text, datlocprovider::text,"
        " COALESCE(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale')"
        " FROM pg_catalog.pg_database AS d WHERE datname = pg_catalog.current_database()"
    ).fetchone()
    assert row is not None
    return _Locale(*row)


def _encodings(source: psycopg.Connection[Any], target: psycopg.Connection[Any], move_set: MoveSet) -> tuple[list[Blocker], list[str]]:
    a, b = _locale(source), _locale(target)
    blockers = []
    if a.encoding != b.encoding and (b.encoding != "UTF8" or a.encoding == "SQL_ASCII"):
        blockers.append(
            Blocker(
                "target database",
                f"its encoding is {b.encoding}, which may lack characters that the source's {a.encoding} has",
                "create it with ENCODING 'UTF8'"
                if a.encoding != "SQL_ASCII"
                else "dump the source, restore it into one made with ENCODING 'UTF8' (what is no UTF-8 through iconv), and move that",
                can_accept=False,
            )
        )
    members = sorted(move_set.objects)
    tables = [table.oid for table in move_set.tables]
    closure = {"tables": tables, "classids": [classid for classid, _ in members], "objids": [objid for _, objid in members]}
    for kind, thing in source.execute(query("preflight_sorted"), closure).fetchall():
        if kind == "ranges" and a.order != b.order:
            blockers.append(
                Blocker(
                    thing,
                    f"its ranges of text are in the order of {a}, and the target sorts by {b}",
                    "make the target's database anew with the source's locale, or make the table or type anew with a collation of its own",
                    can_accept=False,
                )
            )
        if kind == "hash" and a.encoding != b.encoding:
            blockers.append(
                Blocker(
                    thing,
                    f"it is divided by the hash of text, another in {b.encoding} than in {a.encoding}: rows would belong to other partitions",
                    "divide it by LIST or RANGE, or by the hash of a column that is no text, in a table made anew",
                    can_accept=False,
                )
            )
    notes = []
    if (a.collate, a.ctype, a.provider, a.name) != (b.collate, b.ctype, b.provider, b.name):
        notes.append(
            f"The source sorts text by {a}, the target by {b}: ORDER BY may give another order, lower() and its like other letters."
            " A check or a generated column that depends on them may fail the copy, by name."
        )
    return blockers, notes
