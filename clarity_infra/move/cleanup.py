"""May the old tables go, and how do they go without regret? Asked of the databases, backed up first, dropped without CASCADE.

The backup holds exactly the move set: it is dumped from a scratch database that a verified copy filled, and is read back into
another one and compared before anything is dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, Refused, VerificationFailed
from clarity_infra.move import capture, fence, journal, ledger
from clarity_infra.move.catalog import OURS, read_move_set
from clarity_infra.move.copy import copy
from clarity_infra.move.crossing import PATIENCE_MS, told
from clarity_infra.move.cutover import raise_source_fence
from clarity_infra.move.discard import ties
from clarity_infra.move.faults import reach
from clarity_infra.move.journal import Entry, Journal, exclusive
from clarity_infra.move.model import Move, MoveSet, Progress
from clarity_infra.move.names import Name, quoted
from clarity_infra.move.owners import Owner, acting_as, by_owner, every_owner, owners
from clarity_infra.move.privileges import give_back, read_privileges
from clarity_infra.move.proof import digest_of
from clarity_infra.move.queries import query
from clarity_infra.move.state import CLEANED, CUT_OVER, ENDS, RESTORED
from clarity_infra.move.tools import Tools, find_tools

# How long (milliseconds) the drop waits for readers of the old tables.
LOCK_TIMEOUT_MS = 10_000

# The catalog pg_class by its OID, which is the same in every database.
_RELATIONS = 1259

_DROPS = {
    "table": sql.SQL("DROP TABLE"),
    "sequence": sql.SQL("DROP SEQUENCE"),
    "type": sql.SQL("DROP TYPE"),
    "composite type": sql.SQL("DROP TYPE"),
    "domain": sql.SQL("DROP DOMAIN"),
    "function": sql.SQL("DROP FUNCTION"),
    "procedure": sql.SQL("DROP PROCEDURE"),
    "aggregate": sql.SQL("DROP AGGREGATE"),
    "collation": sql.SQL("DROP COLLATION"),
}


def refuse_clean_up(
    move: Move,
    *,
    monitoring: datetime.timedelta,
    acknowledged: int = 0,
    unproved: str = "",
    contents: bool = False,
) -> list[str]:
    """The reasons for which the old tables may not be dropped yet, each with its remedy; none where they may, or are gone already.

    `monitoring` is the period that must have passed since the cut-over, by the source server's clock; `acknowledged` the number of
    refused writes that somebody has looked into; `unproved` the run (its number, as the refusal names it) whose cut-over somebody
    answers for although its last proof did not pass. `contents` digests the source's tables as well, which reads all their rows.
    """
    with move.source.connect(purpose="clean-up") as source, move.target.connect(purpose="clean-up") as target:
        if cleaned(target, move.stack) is not None:
            return []
        return _reasons(move, source, target, monitoring, acknowledged, unproved=unproved, contents=contents)


def cleaned(target: psycopg.Connection[Any], stack: str) -> Entry | None:
    """The record of a clean-up that still stands, in the target's journal."""
    entry = Journal(target, stack).last(CLEANED, RESTORED)
    return entry if entry is not None and entry.step == CLEANED else None


def _reasons(
    move: Move,
    source: psycopg.Connection[Any],
    target: psycopg.Connection[Any],
    monitoring: datetime.timedelta,
    acknowledged: int,
    *,
    unproved: str,
    contents: bool,
) -> list[str]:
    settled = Journal(source, move.stack).last(*ENDS)
    source_fenced = fence.standing_of(source, move.stack).covers(move.tables)
    if settled is None or settled.step != CUT_OVER or not source_fenced or fence.standing_of(target, move.stack).in_force:
        return ["the application was not cut over to the target, or that was not finished: run `pulumi up` at stage cutover first"]
    reasons = []
    until = datetime.datetime.fromisoformat(settled.facts["at"]) + monitoring
    row = source.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
    if row and row[0] < until:
        reasons.append(f"the monitoring period lasts until {until.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC")
    if not settled.facts.get("proved") and unproved != settled.facts["fenced_by"]:
        reasons += _not_proved(settled)
    refused = fence.hits(source, move.stack)
    if refused > acknowledged:
        reasons.append(
            f"{refused} write(s) to the old tables were refused: find out who still writes there (the server's log has each), then"
            f" set acknowledgeRefusedWrites to {refused}"
        )
    if not _may_make_scratch(source):
        reasons.append(
            f'"{move.source.user}" may not create the scratch database, on the source\'s server, in which the backup is proved; ask for:'
            f" ALTER ROLE {quoted(move.source.user)} CREATEDB"
        )
    if contents:
        reasons += _changed(move, source, settled)
    return reasons


def _may_make_scratch(source: psycopg.Connection[Any]) -> bool:
    row = source.execute("SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    return bool(row and row[0])


def _not_proved(settled: Entry) -> list[str]:
    """Why the digests of both sides did not prove the cut-over, and how somebody answers for it."""
    found = [*settled.facts.get("differences", ()), *settled.facts.get("unproved", ())] or ["it was not made"]
    listed = "".join(f"\n      {text}" for text in found)
    return [
        "the last proof of the cut-over, the digests of both sides, did not pass:"
        f"{listed}\n    compare these rows on both sides (`python -m clarity_infra verify`). If the new database has what it should,"
        f" set acknowledgeUnprovedCutover to {settled.facts['fenced_by']}"
    ]


def _changed(move: Move, source: psycopg.Connection[Any], settled: Entry) -> list[str]:
    """The tables of the source that are not, row for row and column for column, as the cut-over's proof found them."""
    move_set = read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)
    recorded = {facts["table"]: facts["digest"] for facts in settled.facts["tables"]}
    found = {str(table.name): table for table in move_set.with_rows}
    reasons = [f"{name} is gone from the source: it was dropped or renamed by hand" for name in recorded if name not in found]
    reasons += [
        f"{name} came to the source after the cut-over and holds rows, which are nowhere else"
        for name, table in found.items()
        if name not in recorded
        and table.name != move_set.tracking
        and source.execute(sql.SQL("SELECT 1 FROM ONLY {} LIMIT 1").format(table.name.identifier())).fetchone()
    ]
    return reasons + [
        f"{name} was changed behind the fence: its rows or columns are not those that were copied"
        for name, value in recorded.items()
        if name in found and digest_of(source, found[name]).value != value
    ]


@told("Either all of the old tables are in the source or none: they are dropped in one transaction. The target was not touched.")
def clean_up(
    move: Move,
    *,
    run: uuid.UUID,
    backup: Path,
    monitoring: datetime.timedelta,
    acknowledged: int,
    unproved: str = "",
    progress: Progress,
) -> dict[str, Any]:
    """Backs the old tables up into the folder `backup`, proves the backup, and drops them; done already, it changes nothing.

    Gives {"backup": path, "dropped": [...], "kept": [...], "at": ...}. Raises Refused, with nothing dropped, for every reason of
    `refuse_clean_up`, for an object that is not ours and depends on one of ours, and for readers that do not let go.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(move.source.connect(purpose="clean-up"))
        target = stack.enter_context(move.target.connect(purpose="clean-up"))
        stack.enter_context(exclusive(target, move.stack))
        stack.enter_context(exclusive(source, move.stack))
        done = cleaned(target, move.stack) or _dropped(source, target, move.stack)
        if done is not None:
            return done.facts
        progress("comparing the old tables with what was copied")
        reasons = _reasons(move, source, target, monitoring, acknowledged, unproved=unproved, contents=True)
        if reasons:
            raise Refused(
                "The old tables may not be dropped yet:\n" + "\n".join(f"  - {reason}" for reason in reasons),
                unchanged="Nothing was dropped.",
                remedy="resolve each, then run the same command again.",
            )
        archive = _back_up(move, source, backup, run, progress)
        reach("backup proved")
        evidence = _drop(move, source, run, archive, progress)
        reach("old tables dropped")
        Journal(target, move.stack).append(CLEANED, run, **evidence)
        _tidy(source, move.stack)
        ledger.drop(target, move.stack, patience_ms=PATIENCE_MS)
        return evidence


def _dropped(source: psycopg.Connection[Any], target: psycopg.Connection[Any], stack: str) -> Entry | None:
    """A clean-up that died between its two journals: the source's entry is part of the drop itself, and counts."""
    entry = Journal(source, stack).last(CLEANED, RESTORED)
    if entry is None or entry.step != CLEANED:
        return None
    Journal(target, stack).append(CLEANED, entry.run, **entry.facts)
    _tidy(source, stack)
    return entry


def _tidy(source: psycopg.Connection[Any], stack: str) -> None:
    fence.drop(source, stack, patience_ms=LOCK_TIMEOUT_MS)
    capture.drop(source, stack, patience_ms=LOCK_TIMEOUT_MS)


# The backup


def _back_up(move: Move, source: psycopg.Connection[Any], folder: Path, run: uuid.UUID, progress: Progress) -> Path:
    """Writes the archive, restores it once and compares every table with the source. Gives its path."""
    settled = Journal(source, move.stack).last(CUT_OVER)
    assert settled is not None
    tools = find_tools(source.info.server_version // 10000)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    database = re.sub(r"[^A-Za-z0-9._-]", "_", move.source.database)
    archive = folder / f"{move.stack}-{database}-{moment}.dump"
    with _scratch(move, source, "backup") as scratch:
        progress("backing the old tables up")
        copy(dataclasses.replace(move, target=scratch, owner=move.source.user), run=run, progress=lambda _: None)
        _dump(tools, scratch, archive)
    with _scratch(move, source, "readback") as scratch:
        progress("reading the backup back and comparing it")
        tools.run(
            "pg_restore",
            ["--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={scratch.dbname()}", archive],
            scratch,
            doing="Reading the backup back",
        )
        _compare_backup(move, scratch, settled, archive)
    progress(f"backup: {archive}")
    return archive


def _dump(tools: Tools, scratch: Endpoint, archive: Path) -> None:
    """The archive appears under its name only when it is whole, readable by nobody else."""
    partial = archive.with_name(archive.name + ".part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.close(descriptor)
    tools.run(
        "pg_dump",
        ["--format=custom", f"--exclude-schema={journal.SCHEMA}", f"--file={partial}"],
        scratch,
        doing="Backing the old tables up",
    )
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.rename(archive)


def _compare_backup(move: Move, scratch: Endpoint, settled: Entry, archive: Path) -> None:
    with scratch.connect(purpose="clean-up") as connection:
        found = read_move_set(connection, move.tables, tracking=move.tracking, accept=move.accept)
        digests = {str(table.name): digest_of(connection, table).value for table in found.with_rows}
    different = [facts["table"] for facts in settled.facts["tables"] if digests.get(facts["table"]) != facts["digest"]]
    if different:
        raise VerificationFailed(
            [f"{name}: the backup does not hold the rows of the source" for name in different],
            unchanged=f"Nothing was dropped; the backup is at {archive}.",
            remedy="see whether the disk is full or the file was damaged, then run the same command again.",
        )


@contextlib.contextmanager
def _scratch(move: Move, source: psycopg.Connection[Any], purpose: str) -> Iterator[Endpoint]:
    """An empty database on the source's server for the time of the context, with its encoding and collation."""
    name = f"{journal.PREFIX}_{purpose}_{fence.tag(move.stack)}"
    identifier = sql.Identifier(name)

    def drop() -> None:
        source.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))

    row = source.execute(
        "SELECT pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype FROM pg_catalog.pg_database"
        " WHERE datname = pg_catalog.current_database()"
    ).fetchone()
    assert row is not None
    drop()
    try:
        source.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
                identifier, *(sql.Literal(str(value)) for value in row)
            )
        )
    except psycopg.errors.InsufficientPrivilege:
        raise Refused(
            "The backup is proved in a scratch database, which the admin may not create.",
            unchanged="Nothing was dropped.",
            remedy=f"ask for: ALTER ROLE {quoted(move.source.user)} CREATEDB",
        ) from None
    try:
        yield move.source.with_database(name)
    finally:
        drop()


# The drop


def _drop(move: Move, source: psycopg.Connection[Any], run: uuid.UUID, archive: Path, progress: Progress) -> dict[str, Any]:
    """Drops the set in one transaction, and commits only when it is proved that it is gone and nothing else is."""
    settled = Journal(source, move.stack).last(CUT_OVER)
    assert settled is not None
    try:
        with source.transaction():
            source.execute("SELECT set_config('lock_timeout', %s, true)", (str(LOCK_TIMEOUT_MS),))
            move_set = read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept)
            for owner, names in by_owner(every_owner(source, [table.name for table in move_set.tables])).items():
                with acting_as(source, owner):
                    source.execute(
                        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(
                            sql.SQL(", ").join(sql.SQL("ONLY {}").format(name.identifier()) for name in names)
                        )
                    )
            changed = _changed(move, source, settled)
            if changed:
                raise Refused("The old tables were changed meanwhile: " + "; ".join(changed) + ".", unchanged="Nothing was dropped.")
            before, access = _inventory(source), read_privileges(source, move_set.objects)
            dropped, kept = _drop_set(source, move_set)
            _prove(source, move_set, before, kept)
            evidence = {
                "backup": str(archive),
                "dropped": dropped,
                "kept": [text for _, text in kept],
                "tables": settled.facts["tables"],
                "access": access,
                "at": datetime.datetime.now(datetime.UTC).isoformat(),
            }
            Journal(source, move.stack).append(CLEANED, run, **evidence)
            reach("before the drop is committed")
    except psycopg.errors.LockNotAvailable:
        raise Refused(
            f"Somebody reads the old tables and did not let go within {LOCK_TIMEOUT_MS // 1000} s.",
            unchanged="Nothing was dropped.",
            remedy="end these sessions, or wait for them; then run the same command again.",
        ) from None
    progress(f"dropped {len(dropped)} object(s) of the old tables" + (f", kept {len(kept)} that others use" if kept else ""))
    return evidence


def _drop_set(source: psycopg.Connection[Any], move_set: MoveSet) -> tuple[list[str], list[tuple[tuple[int, int], str]]]:
    """All tables, then what only they needed, each as its owner."""
    members = sorted(move_set.objects)
    found = source.execute(query("cleanup_objects"), {"classids": [c for c, _ in members], "objids": [o for _, o in members]}).fetchall()
    rows = [(classid, objid, kind, identity, Owner(role, inherited)) for classid, objid, kind, identity, role, inherited in found]
    tables = {identity: owner for _, _, kind, identity, owner in rows if kind == "table"}
    kept = _kept(source, move_set, [row for row in rows if row[2] != "table"])
    left = [row for row in rows if row[:2] not in {thing for thing, _ in kept}]
    dropped: list[str] = []
    try:
        with source.transaction():
            _drop_tables(source, move_set, tables)
        dropped = [f"table {identity}" for identity in tables]
        left = [row for row in left if row[2] != "table"]
    except Refused:  # a function or type of the set may need a table, and another table it
        for table, statement in ties(source, members):
            with acting_as(source, tables[table]):
                source.execute(statement.encode())
    while left:
        stuck = []
        refusals: list[Refused] = []
        for classid, objid, kind, identity, owner in left:
            if _gone_with_others(source, classid, objid):
                dropped.append(f"{kind} {identity}")
            else:
                try:
                    with source.transaction(), acting_as(source, owner):
                        _drop_one(source, kind, identity)
                    dropped.append(f"{kind} {identity}")
                except Refused as error:
                    stuck.append((classid, objid, kind, identity, owner))
                    # What does not move holds a table, if there is one left; that holds the rest.
                    refusals.insert(0 if kind == "table" else len(refusals), error)
        if len(stuck) == len(left):
            raise refusals[0]
        left = stuck
    return dropped, kept


def _kept(
    source: psycopg.Connection[Any], move_set: MoveSet, rows: Sequence[tuple[int, int, str, str, Owner]]
) -> list[tuple[tuple[int, int], str]]:
    """What is moved and stays in the source too, because something that stays uses it, and what that itself needs.

    What needs one of the tables cannot stay without it.
    """
    tables = {(_RELATIONS, table.oid) for table in move_set.tables}
    needed: set[tuple[int, int]] = set()
    for classid, objid, kind, identity, _ in rows:
        if any(text.startswith(f"{kind} {identity} is used by") for text in move_set.shared):
            found = {(c, o) for c, o in source.execute(query("cleanup_needed"), {"classids": [classid], "objids": [objid]}).fetchall()}
            if not found & tables:
                needed |= found
    return [((classid, objid), f"{kind} {identity}") for classid, objid, kind, identity, _ in rows if (classid, objid) in needed]


def _drop_tables(source: psycopg.Connection[Any], move_set: MoveSet, tables: Mapping[str, Owner]) -> None:
    """In one statement, which takes the tables' foreign keys to each other with them, or one for each role that has to be taken."""
    groups = by_owner(tables)
    if len(groups) > 1:
        _drop_foreign_keys(source, move_set)
    left = list(groups.items())
    while left:
        stuck = []
        for owner, identities in left:
            try:
                with source.transaction(), acting_as(source, owner):
                    _drop_one(source, "table", ", ".join(identities))
            except Refused as error:
                stuck.append((owner, identities))
                refusal = error
        if len(stuck) == len(left):
            raise refusal
        left = stuck


def _drop_foreign_keys(source: psycopg.Connection[Any], move_set: MoveSet) -> None:
    """Those from one table of the set to another: dropped one by one, each would hold the table it refers to."""
    owner_of = every_owner(source, [table.name for table in move_set.tables])
    rows = source.execute(query("cleanup_foreign_keys"), {"tables": [table.oid for table in move_set.tables]}).fetchall()
    for schema, table, constraint in rows:
        name = Name(schema, table)
        with acting_as(source, owner_of[name]):
            source.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name.identifier(), sql.Identifier(constraint)))


def _gone_with_others(source: psycopg.Connection[Any], classid: int, objid: int) -> bool:
    row = source.execute("SELECT identity FROM pg_catalog.pg_identify_object(%s::oid, %s::oid, 0)", (classid, objid)).fetchone()
    return row is None or row[0] is None


def _drop_one(source: psycopg.Connection[Any], kind: str, identity: str) -> None:
    # The identity is the server's own text (pg_identify_object), quoted by it.
    try:
        source.execute(sql.SQL("{} {} RESTRICT").format(_DROPS[kind], sql.SQL(identity)))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise Refused(
            f"An object that does not move depends on {kind} {identity}: {error.diag.message_detail}.",
            unchanged="Nothing was dropped.",
            remedy="drop or change that object yourself, then run the same command again.",
        ) from None


def _inventory(source: psycopg.Connection[Any]) -> dict[tuple[int, int], str]:
    rows = source.execute(query("cleanup_inventory"), {"prefix": OURS}).fetchall()
    return {(classid, oid): identity for classid, oid, identity in rows}


def _prove(
    source: psycopg.Connection[Any],
    move_set: MoveSet,
    before: dict[tuple[int, int], str],
    kept: list[tuple[tuple[int, int], str]],
) -> None:
    """Nothing of the set is left but what is kept on purpose, and nothing that is not of the set is gone."""
    after = _inventory(source)
    stays = {identity for identity, _ in kept}
    left = [text for key, text in after.items() if key in move_set.objects and key not in stays]
    lost = [text for key, text in before.items() if key not in after and key not in move_set.objects]
    if left or lost:
        raise ClarityError(
            "The drop did not do what it should: " + "; ".join([*(f"{t} is left" for t in left), *(f"{t} is gone" for t in lost)]),
            unchanged="It was rolled back; nothing was dropped.",
            remedy="report this.",
        )


# The way back from a clean-up


@told("The target is live and was not touched; the old tables come back in one transaction, all or none.")
def restore(move: Move, archive: Path, *, run: uuid.UUID, progress: Progress) -> dict[str, Any]:
    """Brings the old tables back into the source from a clean-up's backup, fenced, as they were before it.

    The target stays the live side; a stage set back, or `pulumi destroy`, then carries its rows to the source as after any cut-over.
    Raises Refused where tables of that name are there that the backup did not make, or nothing was cleaned up.
    """
    if not archive.is_file():
        raise Refused(f"There is no backup at {archive}.", unchanged="Nothing was changed.", remedy="name the file the clean-up wrote.")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(move.source.connect(purpose="restore"))
        target = stack.enter_context(move.target.connect(purpose="restore"))
        stack.enter_context(exclusive(target, move.stack))
        stack.enter_context(exclusive(source, move.stack))
        entry = cleaned(target, move.stack)
        if entry is None:
            raise Refused("Nothing was cleaned up, so there is nothing to restore.", unchanged="Nothing was changed.")
        names = [Name.parse(facts["table"]) for facts in entry.facts["tables"]]
        access = entry.facts.get("access", [])
        if not _present(source, names):
            progress("restoring the old tables")
            _restore_archive(move, source, archive, entry.facts["kept"], access)
        for note in give_back(source, access):
            progress(f"warning: {note}")
        reach("old tables restored")
        raise_source_fence(move, source, [*names, *move.tables])
        different = [
            name
            for table in read_move_set(source, move.tables, tracking=move.tracking, accept=move.accept).with_rows
            for name in [str(table.name)]
            if {facts["table"]: facts["digest"] for facts in entry.facts["tables"]}.get(name, "") not in ("", digest_of(source, table).value)
        ]
        if different:
            raise VerificationFailed(
                [f"{name}: not the rows that were backed up" for name in different],
                unchanged="The target is live and was not touched; the restored tables are fenced.",
                remedy="drop these tables by hand if they are not needed, and restore again.",
            )
        settled = Journal(source, move.stack).last(CUT_OVER)
        for side in (source, target):
            Journal(side, move.stack).append(RESTORED, run, backup=str(archive))
        if settled is not None:
            Journal(source, move.stack).append(CUT_OVER, run, **settled.facts)
        return {"restored": [str(name) for name in names]}


def _restore_archive(move: Move, source: psycopg.Connection[Any], archive: Path, kept: list[str], access: list[dict[str, Any]]) -> None:
    """Everything of the archive in one transaction, but for schemas, extensions and kept objects that are in the source still.

    As the admin, or as the former owner that may create where the admin may not.
    """
    tools = find_tools(source.info.server_version // 10000)
    there = _there_still(source, kept)
    listing = tools.run("pg_restore", ["--list", archive], doing="Reading the backup")
    entries = [line for line in listing.splitlines() if not any(text in line for text in there)]
    with tempfile.TemporaryDirectory(prefix="clarity-infra-") as folder:
        chosen = Path(folder) / "entries"
        chosen.write_text("\n".join(entries) + "\n", encoding="utf-8")
        tools.run(
            "pg_restore",
            [
                *("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"),
                f"--use-list={chosen}",
                f"--dbname={move.source.dbname()}",
                archive,
            ],
            move.source,
            doing="Restoring the old tables",
            **_maker(source, move, access),
        )


def _maker(source: psycopg.Connection[Any], move: Move, access: list[dict[str, Any]]) -> dict[str, str]:
    """The role to restore as, as an option of the tools; none where the admin may create in every schema of the tables itself."""
    schemas = sorted({name.schema for name in move.tables})
    candidates = [move.source.user, *sorted({str(facts["owner"]) for facts in access} - {move.source.user})]
    rows = source.execute(query("cleanup_makers"), {"roles": candidates, "schemas": schemas}).fetchall()
    able = [str(role) for (role,) in rows]
    return {"role": able[0]} if able and move.source.user not in able else {}


def _there_still(source: psycopg.Connection[Any], kept: list[str]) -> list[str]:
    """How pg_restore's listing shows what need not, and cannot, be made again."""
    schemas = [row[0] for row in source.execute("SELECT nspname FROM pg_catalog.pg_namespace").fetchall()]
    extensions = [row[0] for row in source.execute("SELECT extname FROM pg_catalog.pg_extension").fetchall()]
    shown = [f" SCHEMA - {name} " for name in schemas] + [f" EXTENSION - {name} " for name in extensions]
    shown += [f" COMMENT - SCHEMA {name} " for name in schemas] + [f" COMMENT - EXTENSION {name} " for name in extensions]
    present = {text for text in _inventory(source).values()}
    for text in kept:
        kind, identity = text.split(" ", 1)
        if identity in present:
            shown += _listed(kind, identity)
    return [re.sub(r"[\r\n]", " ", text) for text in shown]  # as a listing shows line breaks in names


def _listed(kind: str, identity: str) -> list[str]:
    """How an object may stand in a listing, which quotes nothing; a domain is a type to the catalogs."""
    if kind in ("type", "sequence"):
        name = Name.parse(identity)
        return [f" {word} {name.schema} {name.name} " for word in ({"type": ("TYPE", "DOMAIN")}.get(kind, (kind.upper(),)))]
    schema, _, name_and_arguments = identity.partition(".")
    return [f" {kind.upper()} {schema} {name_and_arguments} ".replace('"', "")]


def _present(source: psycopg.Connection[Any], names: list[Name]) -> bool:
    found = owners(source, names)
    if found and len(found) != len(names):
        raise Refused(
            f"Some of the tables are in the source already: {', '.join(map(str, found))}.",
            unchanged="Nothing was changed.",
            remedy="rename or drop them, then run the same command again.",
        )
    return bool(found)
