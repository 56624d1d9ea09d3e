"""Are the two sides equal? Rows, content, structure by definition, enum labels, sequences, owners, and proof that it could have failed.

Nothing here changes anything; every comparison says table and kind of each difference, and names up to ten keys.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import Refused
from clarity_infra.move.catalog import OURS, read_move_set
from clarity_infra.move.differences import Changes, Key, changed_keys
from clarity_infra.move.digest import Digest, Grain, Method, RowTooLarge, digest, probed, without
from clarity_infra.move.model import Move, MoveSet, Progress, Table
from clarity_infra.move.names import Name, every_name_quoted, quoted, settled, unquoted
from clarity_infra.move.pace import still
from clarity_infra.move.queries import query
from clarity_infra.move.room import fitting
from clarity_infra.move.rows import digest_tables, session
from clarity_infra.move.sequences import State, read_sequences
from clarity_infra.texts import shown

# More keys of one table than this help nobody.
KEYS_NAMED = 10

Digests = Mapping[Name, Digest]


@dataclasses.dataclass(frozen=True)
class Verification:
    """`differences` is empty where the sides are equal; `evidence` is what was compared, for the record."""

    differences: tuple[str, ...]
    evidence: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """The same for machines."""
        return {**self.evidence, "equal": not self.differences, "differences": list(self.differences)}

    def text(self) -> str:
        """The same for people."""
        compared = (
            f"{self.evidence.get('tables', 0)} tables with {self.evidence.get('rows', 0):,} rows,"
            f" {self.evidence.get('aspects_of_structure', 0):,} aspects of their structure, {self.evidence.get('sequences', 0)} sequences"
            f" and {self.evidence.get('enums', 0)} enums were compared; control: {self.evidence.get('negative_control', 'none')}."
        )
        if not self.differences:
            return f"The two sides are equal. {compared}"
        return "\n".join([f"The two sides differ in {len(self.differences)} ways. {compared}", *(f"  - {d}" for d in self.differences)])


def verify(
    source: psycopg.Connection[Any],
    target: psycopg.Connection[Any],
    move_set: MoveSet,
    *,
    owner: str,
    source_digests: Digests | None = None,
    target_digests: Digests | None = None,
    states: Mapping[Name, State] | None = None,
    forced: bool = True,
) -> Verification:
    """Compares the set, as it was read from `source`, with the objects of the same names in `target`.

    Digests given for both sides of a table, and sequence states, are taken as they are; the rest is read here. The caller decides
    what each connection sees: the copy's snapshot, a lock, or what is there now. `forced=False` leaves the FORCE mark of row security
    out, which a copy sets last.
    """
    names = [table.name for table in move_set.tables]
    there = read_present(target, names)
    differences = [f"table {name}: it is missing in the target" for name in names if name not in there]
    present = [name for name in names if name in there]
    if not present:
        return Verification(tuple(differences), {"tables": 0})
    target_set = read_move_set(target, present, tracking="none")
    method = probed(source, target)
    tables = [table for table in move_set.with_rows if table.name in there]
    compared = []
    for table in tables:
        a, b = (source_digests or {}).get(table.name), (target_digests or {}).get(table.name)
        compared.append((table, a, b) if a and b else (table, *_digests(source, target, table, method)))
    differences += [text for table, a, b in compared for text in _content(source, target, table, a, b)]
    structure, aspects = compare_structure(source, target, move_set, target_set, but=() if forced else ("forced row security",))
    differences += structure
    # None is moved, and one that came since takes writes somewhere else.
    differences += [f"{blocker.object}: it is in the target only" for blocker in target_set.blockers if blocker.object.startswith("rule ")]
    differences += compare_enums(move_set, target_set)
    wanted = states if states is not None else read_sequences(source, move_set.sequences)
    differences += compare_sequences(wanted, read_sequences(target, target_set.sequences))
    differences += foreign_owners(target, target_set, owner)
    differences += compare_schemas(source, target, move_set, owner)
    control = negative_control(target, compared, method)
    if control == "failed":
        differences.append("negative control: a table with a row left out was found equal; nothing here can be trusted")
    return Verification(
        tuple(differences),
        {
            "method": method,
            "tables": len(compared),
            "rows": sum(b.rows for _, _, b in compared),
            "aspects_of_structure": aspects,
            "enums": len(target_set.enums),
            "sequences": len(wanted),
            "negative_control": control,
            "differences": len(differences),
        },
    )


def verify_move(move: Move, *, progress: Progress) -> Verification:
    """Verifies the move set of the source against the target as both are now, each in one snapshot; changes nothing.

    On a source that is being written to it finds what was written since the copy: that is what it is for. The target is read as its
    owner, or as the admin where row security is forced there. Raises Refused where whoever reads a side may not see all of it.
    """
    with _frozen(move.source, None) as (source, source_snapshot):
        move_set = read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)
        role = None if _forced(move.target, move_set) else move.owner
        with _frozen(move.target, role) as (target, target_snapshot):
            method = probed(source, target)
            progress(f"Comparing {len(move_set.tables)} tables of {move.source.label()} and {move.target.label()}.")
            present = comparable(target, move_set)
            workers, _ = fitting(move, source, target)
            with _readable(move.source, None), still(progress, "reading the source"):
                a = digest_tables(lambda: _joined(move.source, None, source_snapshot), present, workers=workers, method=method, grains={})
            progress("The source is read.")
            with _readable(move.target, role), still(progress, "reading the target"):
                b = digest_tables(lambda: _joined(move.target, role, target_snapshot), present, workers=workers, method=method, grains={})
            progress("The target is read.")
            same = {name for name in a if a[name].value.split(":")[0] == b[name].value.split(":")[0]}
            return verify(
                source,
                target,
                move_set,
                owner=move.owner,
                source_digests={name: a[name] for name in same},
                target_digests={name: b[name] for name in same},
            )


def _forced(target: Endpoint, move_set: MoveSet) -> bool:
    """Whether one of the tables binds even its owner to its policies."""
    names = [table.name for table in move_set.tables]
    with session(target, purpose="verify") as connection:
        rows = connection.execute(
            "SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " JOIN unnest(%s::text[], %s::text[]) AS w(schema, name) ON w.schema = n.nspname AND w.name = c.relname"
            " WHERE c.relrowsecurity AND c.relforcerowsecurity",
            ([name.schema for name in names], [name.name for name in names]),
        ).fetchall()
    return bool(rows)


@contextlib.contextmanager
def _readable(endpoint: Endpoint, role: str | None) -> Iterator[None]:
    """Says what is missing where a side cannot be read as a whole: a privilege, or a way past row security."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        who = role or endpoint.user
        raise Refused(
            f'{endpoint.label()} cannot be read as a whole by "{who}": {error.diag.message_primary}.',
            unchanged="Nothing was changed.",
            remedy=f"GRANT the owner of its tables TO {quoted(who)} (WITH INHERIT TRUE), or where row security is forced"
            f" ALTER ROLE {quoted(who)} BYPASSRLS; then run the same command again.",
        ) from None


@contextlib.contextmanager
def _frozen(endpoint: Endpoint, role: str | None) -> Iterator[tuple[psycopg.Connection[Any], str]]:
    with session(endpoint, role=role, purpose="verify") as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection, str(connection.execute("SELECT pg_catalog.pg_export_snapshot()").fetchall()[0][0])


def _joined(endpoint: Endpoint, role: str | None, snapshot: str) -> psycopg.Connection[Any]:
    connection = session(endpoint, role=role, purpose="verify")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
    return connection


def read_present(connection: psycopg.Connection[Any], names: list[Name]) -> set[Name]:
    """Which of the tables exist in a database."""
    rows = connection.execute(query("catalog_resolve"), {"schemas": [n.schema for n in names], "names": [n.name for n in names]}).fetchall()
    return {Name(row[0], row[1]) for row in rows if row[2] is not None and row[3] in ("r", "p")}


def comparable(target: psycopg.Connection[Any], move_set: MoveSet) -> list[Table]:
    """The tables that hold rows and whose every column the target has too, under the same name."""
    there = read_present(target, [table.name for table in move_set.with_rows])
    return [table for table in move_set.with_rows if table.name in there and set(_known_columns(target, table)) == set(table.column_names)]


# Content


def _digests(source: psycopg.Connection[Any], target: psycopg.Connection[Any], table: Table, method: Method) -> tuple[Digest, Digest]:
    columns = _known_columns(target, table)
    try:
        return digest(source, table, method=method), digest(target, table, columns, method=method)
    except RowTooLarge:
        return digest(source, table, method=method, grain="columns"), digest(target, table, columns, method=method, grain="columns")


def _known_columns(connection: psycopg.Connection[Any], table: Table) -> list[str]:
    """The table's columns that this side has, of the same type: others are told as such, not as an error of a query."""
    rows = connection.execute(
        "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a"
        " JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
        (table.name.schema, table.name.name),
    ).fetchall()
    there = {(row[0], unquoted(row[1])) for row in rows}
    return sorted(column.name for column in table.columns if (column.name, unquoted(column.type)) in there)


def _content(source: psycopg.Connection[Any], target: psycopg.Connection[Any], table: Table, a: Digest, b: Digest) -> list[str]:
    if a == b:
        return []
    kind = f"{a.rows} rows in the source, {b.rows} in the target" if a.rows != b.rows else f"{a.rows} rows, other contents"
    columns = _known_columns(target, table)
    if set(columns) != set(table.column_names) or (table.key and not set(table.key) <= set(columns)):
        return [f"table {table.name}: {kind}; its columns differ"]
    kind += _computed_anew(source, target, table, a, b)
    try:
        changes = changed_keys(source, target, table, limit=KEYS_NAMED)
    except psycopg.Error as error:  # rows too large for their text: the digests have said enough
        return [f"table {table.name}: {kind} (the keys could not be compared: {error.diag.message_primary})"]
    return [f"table {table.name}: {kind}{_keys(changes)}"]


def _computed_anew(source: psycopg.Connection[Any], target: psycopg.Connection[Any], table: Table, a: Digest, b: Digest) -> str:
    """Words for rows that differ in nothing but what the servers computed of them."""
    generated = [column.name for column in table.columns if column.generated]
    if not generated or a.rows != b.rows:
        return ""
    method: Method = "sha256" if a.value.startswith("sha256") else "server"
    grain: Grain = "columns" if "-columns:" in a.value else "row"
    given = [column.name for column in table.stored]
    if digest(source, table, given, method=method, grain=grain) != digest(target, table, given, method=method, grain=grain):
        return ""
    return (
        f" in the generated columns alone ({', '.join(generated)}): the source has what their expressions gave when the rows were written, the"
        " target what they give today and here; an UPDATE of these rows in the source computes them anew there"
    )


def _keys(changes: Changes) -> str:
    named = [
        f"{what} {', '.join(_key(changes.key_columns, key) for key in keys)}"
        for what, keys in (
            ("only in the source:", changes.only_a),
            ("only in the target:", changes.only_b),
            ("different:", changes.differ),
        )
        if keys
    ]
    return f" ({'; '.join(named)})" if named else ""


def _key(columns: tuple[str, ...], key: Key) -> str:
    values = [f"{column}={'NULL' if value is None else shown(value)}" for column, value in zip(columns, key, strict=True)]
    return " ".join(values[:4]) + (" ..." if len(values) > 4 else "")


def negative_control(target: psycopg.Connection[Any], compared: list[tuple[Table, Digest, Digest]], method: Method) -> str:
    """Takes one row out of the digest of the smallest table that has any: what is left must differ from the source's."""
    having_rows = sorted((item for item in compared if item[2].rows), key=lambda item: item[2].rows)
    if not having_rows:
        return "no rows"
    table, of_source, of_target = having_rows[0]
    one = sql.SQL("t.ctid = (SELECT o.ctid FROM ONLY {} AS o LIMIT 1)").format(table.name.identifier())
    grain: Grain = "columns" if "-columns:" in of_source.value else "row"
    row = digest(target, table, _known_columns(target, table), where=one, method=method, grain=grain)
    altered = without(of_target, row)
    # The content alone must tell: a difference in the count of rows would prove nothing of the hashes.
    return f"told apart on {table.name}" if row.rows == 1 and altered.value != of_source.value else "failed"


# Structure

ONLY_IN_TARGET = ": it is in the target only"

_Aspects = dict[tuple[str, str], str | None]


def compare_structure(
    source: psycopg.Connection[Any],
    target: psycopg.Connection[Any],
    source_set: MoveSet,
    target_set: MoveSet,
    *,
    but: Collection[str] = (),
) -> tuple[list[str], int]:
    """What differs in the definitions of the two sides' objects, in all aspects `but` those named, and how many aspects were compared."""
    versions = (source.info.server_version, target.info.server_version)
    known = {"not_null": min(versions) >= 180000, "partition_identity": len({version >= 170000 for version in versions}) == 1}
    a, b = (_structure(side, move_set, known) for side, move_set in ((source, source_set), (target, target_set)))
    alike = len({version // 10000 for version in versions}) == 1
    objects_a, objects_b = {thing for thing, _ in a}, {thing for thing, _ in b}
    differences = [f"{thing}: it is missing in the target" for thing in sorted(objects_a - objects_b)]
    # An extension more is nobody's loss: a body may name what only the target's has, or what the source was accepted without.
    differences += [f"{thing}{ONLY_IN_TARGET}" for thing in sorted(objects_b - objects_a) if not thing.startswith("extension ")]
    for thing, aspect in sorted(a.keys() & b.keys()):
        if aspect in but:
            continue
        left, right = a[thing, aspect], b[thing, aspect]
        if left != right and not _means_the_same(aspect, left, right, alike=alike):
            differences.append(f"{thing}: its {aspect} is {_value(right)}, in the source {_value(left)}")
    return differences, len(a)


# What is in a function of these is a text that the server keeps as it was given.
_BODY = "AS $function$"


def _means_the_same(aspect: str, a: str | None, b: str | None, *, alike: bool) -> bool:
    """Whether two servers' texts differ only in what a server itself changes when it reads its own; between versions (not `alike`) also
    in how they quote names: even asked to quote all, they do not quote the same."""
    if a is None or b is None or aspect.startswith("comment"):
        return False
    if not alike:
        a, b = unquoted(a), unquoted(b)
    return a == b or (_BODY not in a and settled(a) == settled(b))


def _value(text: str | None) -> str:
    return "not set" if text is None else f"'{shown(unquoted(text))}'"


def _structure(connection: psycopg.Connection[Any], move_set: MoveSet, known: Mapping[str, bool]) -> _Aspects:
    with every_name_quoted(connection):
        rows = connection.execute(
            query("verify_structure"),
            {
                "tables": [table.oid for table in move_set.tables],
                "prefix": OURS,
                **known,
                **_members(move_set),
            },
        ).fetchall()
    return {(unquoted(row[0]), row[1]): row[2] for row in rows}


def _members(move_set: MoveSet) -> dict[str, list[int]]:
    ordered = sorted(move_set.objects)
    return {"classids": [classid for classid, _ in ordered], "objids": [objid for _, objid in ordered]}


def compare_schemas(source: psycopg.Connection[Any], target: psycopg.Connection[Any], move_set: MoveSet, owner: str) -> list[str]:
    """Schemas of the set that are gone, or whose comment is another; where a schema is somebody else's than the owner's, so is its comment."""

    def comments(connection: psycopg.Connection[Any]) -> dict[str, tuple[str | None, str]]:
        rows = connection.execute(
            "SELECT n.nspname::text, pg_catalog.obj_description(n.oid, 'pg_namespace'), pg_catalog.pg_get_userbyid(n.nspowner)::text"
            " FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY (%s)",
            (list(move_set.schemas),),
        ).fetchall()
        return {name: (comment, who) for name, comment, who in rows}

    here, there = comments(source), comments(target)
    differences = [f"schema {quoted(name)}: it is missing in the target" for name in sorted(here.keys() - there.keys())]
    for name, (comment, who) in sorted(there.items()):
        if who == owner and name in here and comment != here[name][0]:
            differences.append(f"schema {quoted(name)}: its comment is {_value(comment)}, in the source {_value(here[name][0])}")
    return differences


def compare_enums(source_set: MoveSet, target_set: MoveSet) -> list[str]:
    """Enums whose labels, or whose labels' order, are not the same."""
    return [
        f"enum {name}: its labels are {list(target_set.enums.get(name, ()))}, in the source {list(labels)}"
        for name, labels in source_set.enums.items()
        if target_set.enums.get(name) != labels
    ]


def compare_sequences(source: Mapping[Name, State], target: Mapping[Name, State]) -> list[str]:
    """Sequences of the target that do not stand where the source's stood."""
    return [
        f"sequence {name}: it stands at {_state(target.get(name))}, in the source at {_state(state)}"
        for name, state in source.items()
        if target.get(name) != state
    ]


def _state(state: State | None) -> str:
    if state is None:
        return "nothing: it is missing"
    return f"{state.last_value}{'' if state.is_called else ' (not called yet)'}"


def foreign_owners(target: psycopg.Connection[Any], target_set: MoveSet, owner: str) -> list[str]:
    """Objects of the set in the target that somebody else owns."""
    rows = target.execute(query("verify_owners"), _members(target_set)).fetchall()
    return [f'{thing}: it belongs to "{who}", not to "{owner}"' for thing, who in rows if who != owner]
