"""One trial of a random schema: what the survey refuses is resolved as it says, the rest must arrive, and a change must be seen.

Whether it arrived is asked of PostgreSQL's own tools, which share no code with the verification: pg_dump of both sides, and COPY.
"""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg

from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.model import Blocker, MoveSet
from clarity_infra.move.names import Name
from clarity_infra.move.rows import session
from clarity_infra.move.survey import survey
from clarity_infra.move.tools import find_tools
from clarity_infra.move.verify import verify
from tests.move.conftest import Scene
from tests.move.random_schema import draw, literal, quoted

ROUNDS = 8


def try_schema(scene: Scene, seed: int, *, superuser: bool = False, verbose: bool = False) -> str:
    """Makes the schema of a seed in the scene's source and moves it; returns what was done in a line. Raises AssertionError."""
    chance = random.Random(seed)
    version = scene.source_server.connect().info.server_version // 10000
    drawn = draw(seed, version=version, superuser=superuser)
    done = _make(scene, drawn.statements, verbose)
    tables = _tables(scene, {Name(*name) for name in drawn.staying})
    accept, resolved = _resolve(scene, tables, chance, verbose)
    if not tables:
        return f"{done} statements, no table"
    moved = [str(table) for table in tables]
    evidence = scene.copy(*moved, accept=accept)
    move_set = move_set_of(scene, moved, accept)
    accepted = tuple(note.removeprefix("accepted: ").split(": ")[0] for note in move_set.notes if note.startswith("accepted: "))
    differences = compare(scene, move_set, accepted)
    assert not differences, "the sides differ, and the verification did not see it:\n" + "\n".join(differences[:20])
    mutated = _mutate(scene, move_set, chance, verbose)
    if chance.random() < 0.2:
        scene.copy(*moved, accept=accept)
    return f"{done} statements, {len(tables)} tables, {sum(t['rows'] for t in evidence['tables'])} rows, {len(resolved)} obstacles, {mutated}"


def _make(scene: Scene, statements: tuple[str, ...], verbose: bool) -> str:
    taken = 0
    with scene.on_source() as source:
        source.execute("SET client_min_messages = error; SET statement_timeout = '10s'")
        for statement in statements:
            try:
                source.execute(statement.encode())
                taken += 1
            except psycopg.Error as error:
                if verbose:
                    print("   refused:", str(error).splitlines()[0], "|", statement[:300])
    return f"{taken}/{len(statements)}"


def _tables(scene: Scene, staying: set[Name]) -> list[Name]:
    with scene.on_source() as source:
        rows = source.execute(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema$' ORDER BY 1, 2"
        ).fetchall()
    return [name for name in (Name(schema, table) for schema, table in rows) if name not in staying]


def move_set_of(scene: Scene, moved: list[str], accept: tuple[str, ...]) -> MoveSet:
    move = scene.move(*moved)
    with session(move.source) as source:
        return read_move_set(source, move.tables, accept=accept)


# Obstacles


def _resolve(scene: Scene, tables: list[Name], chance: random.Random, verbose: bool) -> tuple[tuple[str, ...], list[str]]:
    """Follows the remedies until nothing stands in the way; `tables` grows where a remedy says so."""
    accept: list[str] = []
    resolved: list[str] = []
    for _ in range(ROUNDS):
        if not tables:
            return (), []
        blockers = survey(scene.move(*map(str, tables), accept=tuple(accept))).blockers
        if not blockers:
            return tuple(accept), resolved
        for blocker in blockers:
            if verbose:
                print("   blocker:", blocker)
            resolved.append(blocker.object)
            if blocker.can_accept and chance.random() < 0.5:
                accept.append(blocker.object)
            else:
                _remedy(scene, tables, blocker)
    raise AssertionError(f"the remedies do not help: {[str(blocker) for blocker in blockers]}")


def _remedy(scene: Scene, tables: list[Name], blocker: Blocker) -> None:
    """What a person who reads the remedy would do."""
    named = re.match(r"(?:add|name) (.*?) (?:to|in) `tables`", blocker.remedy)
    meant = re.search(r"(?:refers to|column of|row type of|it needs) table (.*), which does not move", blocker.reason)
    if "its table" in blocker.remedy:
        meant = re.search(r" on (\S.*)()$", blocker.object)
    if named or meant:
        for part in re.split(r", (?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", meant[1] if meant else named[1] if named else ""):
            name = Name.parse(part)
            if name not in tables:
                tables.append(name)
        return
    statement = re.match(
        r"(ask for: |in the target: )?((?:ALTER|GRANT|CREATE|DROP) [A-Z].*?)(?:$|, or| on the target)", blocker.remedy, re.DOTALL
    )
    if statement:
        with scene.on_target(superuser=True) if statement[1] else scene.on_source(superuser=True) as side:
            side.execute(statement[2].encode())
        return
    if blocker.object.startswith(("table ", "column ", "type ")) and not blocker.can_accept:
        _give_up(scene, tables, blocker)
        return
    kind, _, identity = blocker.object.partition(" ")
    drops = {
        "view": f"DROP VIEW {identity} CASCADE",
        "function": f"DROP FUNCTION {identity} CASCADE",
        "publication": f"DROP PUBLICATION {identity}",
    }
    if blocker.object.startswith("default value for "):
        _own_default(scene, blocker.object.removeprefix("default value for "))
        return
    if blocker.object.startswith("materialized view "):
        statement_text = f"DROP MATERIALIZED VIEW {blocker.object.removeprefix('materialized view ')} CASCADE"
    elif kind in ("rule", "policy"):
        statement_text = f"DROP {kind.upper()} {identity}"
    elif blocker.object.startswith("table constraint "):
        constraint, _, table = blocker.object.removeprefix("table constraint ").rpartition(" on ")
        statement_text = f"ALTER TABLE {table} DROP CONSTRAINT {constraint}"
    elif blocker.object.startswith("index "):
        statement_text = f"DROP INDEX {identity}"
    elif kind in drops:
        statement_text = drops[kind]
    else:
        raise AssertionError(f"nobody would know what to do: {blocker}")
    with scene.on_source(superuser=True) as source:
        source.execute(statement_text.encode())


def _own_default(scene: Scene, column: str) -> None:
    """Gives a column a sequence of its own."""
    with scene.on_source(superuser=True) as source:
        rows = source.execute(
            "SELECT attrelid::regclass::text, quote_ident(attname) FROM pg_attribute a,"
            " pg_identify_object('pg_class'::regclass, attrelid, attnum) AS i WHERE i.identity = %s AND attnum > 0 AND NOT attisdropped",
            (column,),
        ).fetchall()
        source.execute(f"CREATE SEQUENCE IF NOT EXISTS public.its_own; GRANT ALL ON SEQUENCE public.its_own TO {quoted(scene.admin)}".encode())
        source.execute(f"ALTER TABLE {rows[0][0]} ALTER COLUMN {rows[0][1]} SET DEFAULT nextval('public.its_own')".encode())


def _give_up(scene: Scene, tables: list[Name], blocker: Blocker) -> None:
    """Drops what has no quicker remedy: a table, a column's type."""
    kind, _, identity = blocker.object.partition(" ")
    with scene.on_source(superuser=True) as source:
        if kind == "column":
            row = source.execute(
                "SELECT format('ALTER TABLE %%s DROP COLUMN %%I CASCADE', attrelid::regclass, attname) FROM pg_attribute a,"
                " pg_identify_object('pg_class'::regclass, attrelid, attnum) AS i WHERE i.identity = %s AND attnum > 0 AND NOT attisdropped"
                " AND NOT (SELECT relispartition FROM pg_class WHERE oid = attrelid)",
                (identity,),
            ).fetchone()
            if row:
                source.execute(row[0].encode())
        else:
            source.execute(f"DROP {kind.upper()} IF EXISTS {identity} CASCADE".encode())
    tables[:] = [name for name in _tables(scene, set()) if name in tables]


# Comparison


def compare(scene: Scene, move_set: MoveSet, accept: tuple[str, ...]) -> list[str]:
    """What pg_dump and COPY see that differs between the sides."""
    return [*_compare_rows(scene, move_set), *_compare_tables(scene, move_set, accept), *_compare_others(scene, move_set, accept)]


def _compare_rows(scene: Scene, move_set: MoveSet) -> list[str]:
    found = []
    with scene.on_source(superuser=True) as source, scene.on_target(superuser=True) as target:
        for table in move_set.with_rows:
            sides = [_lines(side, table.name) for side in (source, target)]
            if sides[0] != sides[1]:
                found.append(
                    f"rows of {table.name}: {(Counter(sides[0]) - Counter(sides[1])).most_common(2)}"
                    f" {(Counter(sides[1]) - Counter(sides[0])).most_common(2)}"
                )
    return found


def _lines(connection: psycopg.Connection[Any], table: Name) -> list[bytes]:
    connection.execute(
        "SET search_path = ''; SET extra_float_digits = 3; SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET IntervalStyle = 'postgres'"
    )
    name = table.identifier().as_string(connection)
    columns = connection.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        (name,),
    ).fetchall()[0][0]
    with connection.cursor().copy(f"COPY (SELECT {columns or ''} FROM ONLY {name} AS t) TO STDOUT".encode()) as rows:
        text = b"".join(bytes(row) for row in rows)
    return sorted(text.split(b"\n"))


Entry = tuple[str, str, str]


def _dump(scene: Scene, *, target: bool, options: list[str]) -> list[tuple[Entry, str]]:
    """The entries of a plain dump: what each is of, and its statements."""
    server, database = (scene.target_server, scene.target) if target else (scene.source_server, scene.source)
    tools = find_tools(scene.target_server.connect().info.server_version // 10000)
    printed = subprocess.run(
        [
            str(tools.folder / "pg_dump"),
            "--schema-only",
            "--no-owner",
            "--no-privileges",
            "--no-publications",
            "--no-tablespaces",
            "--quote-all-identifiers",
            *options,
            server.url(database),
        ],
        capture_output=True,
        check=True,
    ).stdout.decode()
    parts = re.split(r"\n--\n-- Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: .*\n--\n", printed)
    entries = [((parts[i], parts[i + 1], parts[i + 2]), _plain(parts[i + 3])) for i in range(1, len(parts) - 3, 4)]
    return entries


def _plain(text: str) -> str:
    text = text.partition("\n--\n-- PostgreSQL database dump complete")[0]
    lines = [line for line in text.splitlines() if line and not line.startswith(("\\restrict", "\\unrestrict", "SET default_"))]
    # A server before 18 has no names for NOT NULL, and a name that is cut in the middle is no default for pg_dump.
    lines = [re.sub(r' CONSTRAINT "(?:[^"]|"")*_not_null" NOT NULL', " NOT NULL", line) for line in lines]
    # Asked to quote every name, versions still differ in which words are names.
    lines = [re.sub(r'"([a-z_]+)"', r"\1", line) for line in lines]
    if lines and lines[0].startswith("CREATE STATISTICS "):  # in an inheritance child its columns may have another order
        lines = ["CREATE STATISTICS", *sorted(re.split(r"[ ,;\n]+", " ".join(lines)))]
    if "ARRAY[" in text:  # the cast of an array is that of its elements when it is read again
        lines = [re.sub(r"::(character varying|text)(\[\])?|[()]", "", line) for line in lines]
    if "BEGIN ATOMIC" in text:  # results get names when a function is made again
        lines = [re.sub(r' AS ("(?:[^"]|"")+"|\w+)', "", line) for line in lines]
    if "INHERITS (" in text:  # an inheritance child is made with its parents' columns first
        lines = sorted(line.rstrip(",") for line in lines)
    return "\n".join(lines)


def _pattern(name: Name) -> str:
    return f"--table={quoted(name.schema)}.{quoted(name.name)}"


def _accepted(text: str, accept: tuple[str, ...]) -> bool:
    """Whether an entry of the source was left behind by consent: a key or a rule."""
    for thing in accept:
        if thing.startswith("table constraint "):
            name, _, _ = thing.removeprefix("table constraint ").rpartition(" on ")
            bare = name[1:-1].replace('""', '"') if name.startswith('"') else name
            if f"ADD CONSTRAINT {quoted(bare)} FOREIGN KEY" in text:
                return True
            if text.startswith(f"COMMENT ON CONSTRAINT {quoted(bare)} ON"):
                return True
    return text.startswith(("CREATE RULE", "COMMENT ON RULE"))


def _compare_tables(scene: Scene, move_set: MoveSet, accept: tuple[str, ...]) -> list[str]:
    options = [_pattern(table.name) for table in move_set.tables]
    source, target = ([e for e in _dump(scene, target=side, options=options)] for side in (False, True))
    a = Counter(text for _, text in source if text and not _accepted(text, accept))
    b = Counter(text for _, text in target if text)
    return [f"only the source: {text[:1200]}" for text in (a - b)] + [f"only the target: {text[:1200]}" for text in (b - a)]


# What a table's own dump has.
_OF_TABLES = (
    "TABLE",
    "INDEX",
    "CONSTRAINT",
    "FK CONSTRAINT",
    "TRIGGER",
    "POLICY",
    "RULE",
    "DEFAULT",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "ROW SECURITY",
)


def _compare_others(scene: Scene, move_set: MoveSet, accept: tuple[str, ...]) -> list[str]:
    """Types, functions and what else the tables need: each of the target's is the source's, and its comment came along."""
    here = _dump(scene, target=False, options=["--exclude-schema=clarity_infra*"])
    there = [
        (entry, text)
        for entry, text in _dump(scene, target=True, options=["--exclude-schema=clarity_infra*", "--exclude-table=*.clarity_infra*"])
        if text
    ]
    texts = Counter(text for _, text in here)
    found = []
    for entry, text in there:
        if entry[1] == "SCHEMA" or entry[0] == 'SCHEMA "public"' or "clarity_infra" in entry[0] or text.startswith("COMMENT ON EXTENSION"):
            continue
        if not texts[text]:
            found.append(f"only the target has {entry}: {text[:900]}")
    # The name of a comment's entry is quoted, that of what it is on is not.
    arrived = {(f"{kind} {name}".replace('"', ""), schema) for (name, kind, schema), _ in there}
    comments = {entry for entry, _ in there if entry[1] == "COMMENT"}
    for entry, text in here:
        of_ours = entry[0].startswith(("TYPE ", "DOMAIN ", "FUNCTION ", "SEQUENCE ", "COLLATION ", "STATISTICS "))
        if entry[1] == "COMMENT" and of_ours and (entry[0].replace('"', ""), entry[2]) in arrived and entry not in comments:
            found.append(f"a comment is lost: {text}")
    return found


# Mutations


def _mutate(scene: Scene, move_set: MoveSet, chance: random.Random, verbose: bool) -> str:
    """Changes one thing in the target, at random; the verification must see it."""
    move = scene.move(*(str(table.name) for table in move_set.tables))
    with (
        session(move.source.with_login("postgres", scene.source_server.superuser_password)) as source,
        session(move.target.with_login("postgres", scene.target_server.superuser_password)) as target,
    ):
        target.execute("SET session_replication_role = replica")
        clean = verify(source, target, move_set, owner=move.owner).differences
        assert not clean, f"a second look sees what the copy did not: {clean[:10]}"
        statements = list(_mutations(target, move_set))
        chance.shuffle(statements)
        done: list[str] = []
        for statement in statements[:60]:
            if len(done) == 3:
                break
            with _undone(target):
                try:
                    with target.transaction():
                        if not target.execute(statement.encode()).statusmessage or target.execute("SELECT 1") is None:
                            continue
                except psycopg.Error as error:
                    if verbose:
                        print("   mutation refused:", str(error).splitlines()[0], "|", statement[:200])
                    continue
                found = verify(source, target, move_set, owner=move.owner).differences
                if verbose:
                    print("   mutation:", statement[:200], "->", found[:2])
                assert found, f"nobody noticed: {statement}"
                done.append(statement)
    return f"{len(done)} of {len(statements)} changes noticed"


@contextlib.contextmanager
def _undone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        yield


def _mutations(target: psycopg.Connection[Any], move_set: MoveSet) -> Iterator[str]:
    """One change of every kind, to each thing there is that it can be made to."""
    for table in move_set.tables:
        name = f"{quoted(table.name.schema)}.{quoted(table.name.name)}"
        yield f"COMMENT ON TABLE {name} IS 'another'"
        yield f"ALTER TABLE {name} SET (autovacuum_analyze_threshold = 7)"
        yield f"ALTER TABLE {name} {'DISABLE' if table.row_security else 'ENABLE'} ROW LEVEL SECURITY"
        yield f"ALTER TABLE {name} ADD COLUMN one_more integer"
        if table.kind == "r" and _has_rows(target, name):
            yield f"DELETE FROM {name} WHERE ctid = (SELECT ctid FROM ONLY {name} LIMIT 1)"
            if not table.key:
                stored = ", ".join(quoted(column.name) for column in table.stored)
                yield f"INSERT INTO {name} ({stored}) OVERRIDING SYSTEM VALUE SELECT {stored} FROM ONLY {name} LIMIT 1"
        for column in table.columns:
            on = quoted(column.name)
            yield f"COMMENT ON COLUMN {name}.{on} IS 'another'"
            yield f"ALTER TABLE {name} ALTER {on} SET STATISTICS 4321"
            yield f"ALTER TABLE {name} ALTER {on} SET (n_distinct = 12345)"
            yield f"ALTER TABLE {name} ALTER {on} {'DROP' if column.not_null else 'SET'} NOT NULL"
            yield f"ALTER TABLE {name} RENAME {on} TO renamed"
            if not column.generated and not column.identity:
                yield f"ALTER TABLE {name} ALTER {on} {'DROP DEFAULT' if column.default else 'SET DEFAULT NULL::integer + 1'}"
            if not column.generated and table.kind == "r":
                kept = _one(target, f"SELECT count(*) FROM ONLY {name} WHERE {on} IS NOT NULL")
                if kept and not column.not_null:
                    yield f"UPDATE ONLY {name} SET {on} = NULL WHERE ctid = (SELECT ctid FROM ONLY {name} WHERE {on} IS NOT NULL LIMIT 1)"
    yield from _catalog_mutations(target, move_set)


def _has_rows(target: psycopg.Connection[Any], name: str) -> bool:
    return bool(_one(target, f"SELECT count(*) FROM ONLY {name}"))


def _one(target: psycopg.Connection[Any], statement: str) -> Any:
    return target.execute(statement.encode()).fetchall()[0][0]


def _catalog_mutations(target: psycopg.Connection[Any], move_set: MoveSet) -> Iterator[str]:
    tables = [table.name.identifier().as_string(target) for table in move_set.tables]
    queries = (
        "SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index x WHERE indrelid = ANY (%s::regclass[])",
        "SELECT format('COMMENT ON INDEX %s IS ''another''', indexrelid::regclass) FROM pg_index x WHERE indrelid = ANY (%s::regclass[])",
        "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) "
        "FROM pg_constraint WHERE conrelid = ANY (%s::regclass[]) AND contype <> 't'",
        # NOT NULL constraints have names that a server of 15 does not have.
        "SELECT format('COMMENT ON CONSTRAINT %I ON %s IS ''another''', conname, conrelid::regclass) "
        "FROM pg_constraint WHERE conrelid = ANY (%s::regclass[]) AND contype NOT IN ('t', 'n')",
        "SELECT format('ALTER TABLE %s RENAME CONSTRAINT %I TO renamed', conrelid::regclass, conname) "
        "FROM pg_constraint WHERE conrelid = ANY (%s::regclass[]) AND contype NOT IN ('t', 'n')",
        "SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) "
        "FROM pg_trigger WHERE tgrelid = ANY (%s::regclass[]) AND NOT tgisinternal",
        "SELECT format('ALTER TABLE %s %s TRIGGER %I', tgrelid::regclass, CASE WHEN tgenabled = 'D' THEN 'ENABLE' ELSE 'DISABLE' END, tgname)"
        " FROM pg_trigger"
        " WHERE tgrelid = ANY (%s::regclass[]) AND NOT tgisinternal",
        "SELECT format('DROP POLICY %I ON %s', polname, polrelid::regclass) FROM pg_policy WHERE polrelid = ANY (%s::regclass[])",
        "SELECT format('DROP STATISTICS %s.%I', stxnamespace::regnamespace, stxname) "
        "FROM pg_statistic_ext WHERE stxrelid = ANY (%s::regclass[])",
        "SELECT format('COMMENT ON SCHEMA %s IS ''another''', relnamespace::regnamespace) "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        " WHERE c.oid = ANY (%s::regclass[]) AND nspowner::regrole::text ~ 'move_owner'",
    )
    for query in queries:
        for row in target.execute(re.sub(r"%(?!s::regclass)", "%%", query), (tables,)).fetchall():
            yield row[0]
    for sequence in move_set.sequences:
        name = sequence.name.identifier().as_string(target)
        yield f"ALTER SEQUENCE {name} INCREMENT 77"
        yield f"SELECT setval({literal(name)}, (SELECT seqmin + 1 FROM pg_sequence WHERE seqrelid = {literal(name)}::regclass), true)"
        yield f"COMMENT ON SEQUENCE {name} IS 'another'"
    for enum, labels in move_set.enums.items():
        if labels:
            yield f"ALTER TYPE {enum.identifier().as_string(target)} RENAME VALUE {literal(labels[0])} TO 'renamed label'"
    for kind, identities in (("TYPE", move_set.types), ("FUNCTION", move_set.functions)):
        for identity in identities:
            yield f"COMMENT ON {kind} {identity} IS 'another'"
            yield f"ALTER {kind} {identity} OWNER TO postgres"
            if kind == "FUNCTION":
                yield f"ALTER FUNCTION {identity} COST 12345"
