"""How does the structure get across? pg_dump's archive of the source, cut down to the objects of the set, made again by the owner.

The archive's table of contents names each entry by (catalog, object), which is what the set's closure holds; entries without an
identity of their own (comments, attachments, SEQUENCE OWNED BY) are known by what they depend on. No definition is written here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psycopg

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from clarity_infra.move.model import MoveSet
from clarity_infra.move.names import every_name_quoted, quoted
from clarity_infra.move.queries import query
from clarity_infra.move.rows import LOCK_WAIT_MS
from clarity_infra.move.tools import Tools

_ENTRY = re.compile(r"^(?P<id>\d+); (?P<catalog>\d+) (?P<object>\d+) (?P<rest>.*)$")
_DEPENDS = re.compile(r"^;\s+depends on:(?P<ids>(?: \d+)*)")
# What every script starts with whatever is selected.
_FRAME = ("ENCODING", "STDSTRINGS", "SEARCHPATH")
# What there is before the rows, and what comes after them in this order.
Stage = Literal["tables", "indexes", "rest", "keys", "comments"]
# What a verbose script has before each entry. A text inside of a definition may look like it: the entries found are counted.
_HEADER = re.compile(
    r"^--\n-- TOC entry (?P<id>\d+) \(class \d+ OID \d+\)\n(?:-- Dependencies:[ \d]*\n)?-- Name: (?P<name>.*); Type: (?P<type>.*?);.*\n"
    r"(?:-- Data Pos: .*\n)?--\n",
    re.MULTILINE,
)
# More patterns than this are not worth a longer command line: the tables of others are then locked for the time of the dump.
_MAX_PATTERNS = 5000


@dataclasses.dataclass(frozen=True)
class Step:
    """The statements of one entry, to be run in a session and a transaction of their own.

    `tables` are those it works on, by the source's OIDs, and `alone` whether it locks them against other steps. `after` names the
    entries that have to be made before.
    """

    entry: str
    name: str
    script: str
    tables: frozenset[int]
    alone: bool
    after: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Archive:
    """A dump of the source's structure and the list of its entries that belong to the set.

    `post_data` names the entries that come after the rows, `depends_on` has for each entry those that it needs, and `tables` the
    tables, by the source's OIDs, that it is a part of. `mends` are statements that put right what pg_dump does not say, after a stage;
    `extension_schemas` are made with their extensions.
    """

    tools: Tools
    file: Path
    entries: tuple[str, ...]
    folder: Path
    post_data: frozenset[str]
    depends_on: Mapping[str, frozenset[str]]
    tables: Mapping[str, frozenset[int]]
    mends: Mapping[Stage, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    extension_schemas: frozenset[str] = frozenset()

    def script(self, *stages: Stage, without_schemas: frozenset[str] = frozenset()) -> str:
        """The SQL of these stages, without owners, privileges and the schemas named; empty where they have no entry."""
        entries = [line for line in self._of(*stages) if not _is_schema(line, without_schemas | self.extension_schemas)]
        script = _for_any_server(self._restored(entries)) if len(entries) > len(_FRAME) else ""
        mends = (f"\n{statement};\n" for stage in stages for statement in self.mends.get(stage, ()))
        return "".join((script, *mends))

    def steps(self, stage: Stage) -> tuple[str, list[Step]]:
        """The entries of a stage one by one, and what a session has to run before the first of them.

        pg_restore could make them in parallel by itself, but not one of version 17 or newer on a server before 17, and not beside
        other work. Where its script cannot be taken apart for sure, all of a stage is one step.
        """
        entries = self._of(stage)
        wanted = [match["id"] for line in entries if (match := _ENTRY.match(line)) and not match["rest"].startswith(_FRAME)]
        if not wanted:
            return "", []
        text = _for_any_server(self._restored(entries, "--verbose"))
        found = list(_HEADER.finditer(text))
        if not found:
            raise ClarityError("pg_restore wrote a script of an unknown form.", unchanged="The source stays live; the copy is not used.")
        prologue, steps = text[: found[0].start()], text[found[0].start() :]
        if [header["id"] for header in found] != wanted:  # a text in a definition looks like an entry: nobody can take this apart
            every = frozenset().union(*(self.tables.get(entry, frozenset()) for entry in wanted))
            return prologue, [Step(wanted[0], stage, steps, every, alone=True, after=frozenset())]
        ends = [*(header.start() for header in found[1:]), len(text)]
        return prologue, [self._step(header, text[header.end() : end], frozenset(wanted)) for header, end in zip(found, ends, strict=True)]

    def _restored(self, entries: list[str], *how: str) -> str:
        chosen = self.folder / "entries.list"
        chosen.write_text("\n".join(entries) + "\n", encoding="utf-8")
        return self.tools.run("pg_restore", [*_options(chosen), *how, "-f", "-", self.file], doing="Reading the structure of the source")

    def _step(self, header: re.Match[str], script: str, stage: frozenset[str]) -> Step:
        entry = header["id"]
        # An index keeps writers out, not other indexes; its clustered or replica identity mark is a change of the table.
        beside = script.lstrip().startswith("CREATE ") and "ALTER TABLE" not in script
        return Step(
            entry,
            f"{header['type'].lower()} {header['name']}",
            script,
            self.tables.get(entry, frozenset()),
            alone=not beside,
            after=self.depends_on.get(entry, frozenset()) & stage,
        )

    def _of(self, *stages: Stage) -> list[str]:
        return [line for line in self.entries if stage_of(line, self.post_data) in (*stages, "frame")]


def stage_of(line: str, post_data: Container[str]) -> Stage | Literal["frame"]:
    """Where a line of a listing belongs: what takes time can go in parallel, what depends on all of that must not.

    `post_data` names the entries of pg_restore's section of that name: a listing cut down does not tell of a comment. A foreign key to
    a partitioned table needs the last index of its partitions attached, so attachments stand between indexes and keys, in the
    archive's order; the comment on a key comes after it.
    """
    match = _ENTRY.match(line)
    rest = match["rest"] if match else ""
    if rest.startswith(_FRAME):
        return "frame"
    if match is None or match["id"] not in post_data:
        return "tables"
    if rest.startswith("FK CONSTRAINT "):
        return "keys"
    if rest.startswith("COMMENT ") and " CONSTRAINT " in rest:
        return "comments"
    if rest.startswith(("INDEX ", "CONSTRAINT ")) and not rest.startswith("INDEX ATTACH "):
        return "indexes"
    return "rest"


def _options(entries: Path) -> list[str]:
    return [
        f"--use-list={entries}",
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
        "--no-publications",
        "--no-subscriptions",
        "--no-security-labels",
    ]


@contextlib.contextmanager
def dump(connection: psycopg.Connection[Any], endpoint: Endpoint, move_set: MoveSet, tools: Tools, snapshot: str) -> Iterator[Archive]:
    """Dumps the structure of the set as the exported `snapshot` has it; the archive lives as long as the context."""
    with tempfile.TemporaryDirectory(prefix="clarity-infra-") as folder:
        file = Path(folder) / "structure.dump"
        tools.run(
            "pg_dump",
            [
                "--format=custom",
                "--schema-only",
                f"--snapshot={snapshot}",
                f"--lock-wait-timeout={LOCK_WAIT_MS}",
                "--no-publications",
                "--no-subscriptions",
                "--no-security-labels",
                # Newer servers have reserved words that an older one's definitions do not quote.
                "--quote-all-identifiers",
                *_exclusions(connection, move_set),
                f"--file={file}",
            ],
            endpoint,
            doing=f"Reading the structure of {endpoint.label()}",
        )
        listing, after = (
            tools.run("pg_restore", ["--list", how, file], doing="Reading the structure of the source")
            for how in ("--verbose", "--section=post-data")
        )
        depends_on, tables = dependencies(listing)
        post_data = frozenset(match["id"] for match, _ in _entries(after))
        yield Archive(
            tools,
            file,
            tuple(selected(listing, move_set.objects)),
            Path(folder),
            post_data,
            depends_on,
            tables,
            _mends(connection, move_set),
            frozenset(extension.schema for extension in move_set.extensions),
        )


def _mends(connection: psycopg.Connection[Any], move_set: MoveSet) -> dict[Stage, tuple[str, ...]]:
    parameters = {"tables": [table.oid for table in move_set.tables], "schemas": list(move_set.schemas)}
    stages: dict[Stage, str] = {"tables": "structure_mends", "comments": "structure_mends_late"}
    with every_name_quoted(connection):
        return {stage: tuple(str(row[0]) for row in connection.execute(query(name), parameters).fetchall()) for stage, name in stages.items()}


def _exclusions(connection: psycopg.Connection[Any], move_set: MoveSet) -> list[str]:
    members = sorted(move_set.objects)
    rows = connection.execute(
        query("structure_excluded"),
        {
            "classids": [classid for classid, _ in members],
            "objids": [objid for _, objid in members],
            "schemas": list(move_set.schemas),
        },
    ).fetchall()
    if len(rows) > _MAX_PATTERNS:
        rows = [row for row in rows if row[1] is None][:_MAX_PATTERNS]
    return [
        f"--exclude-schema={_pattern(schema)}" if name is None else f"--exclude-table={_pattern(schema)}.{_pattern(name)}"
        for schema, name in rows
    ]


def _pattern(name: str) -> str:
    """A name in pg_dump's pattern language: in double quotes nothing is special but the quote."""
    return '"' + name.replace('"', '""') + '"'


def dependencies(listing: str) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[int]]]:
    """Of every entry of a verbose listing: the entries it depends on, and the tables (OIDs) that it, or the key or index it needs, is of."""
    entries = {match["id"]: (match, frozenset(depends_on)) for match, depends_on in _entries(listing)}
    of_table = ("TABLE ", "CONSTRAINT ", "INDEX ")

    def tables(entry: str, deeper: bool = True) -> frozenset[int]:
        match, depends_on = entries[entry]
        if match["rest"].startswith("TABLE "):
            return frozenset([int(match["object"])])
        near = [other for other in depends_on if other in entries and entries[other][0]["rest"].startswith(of_table)] if deeper else []
        return frozenset().union(*(tables(other, match["rest"].startswith("FK ")) for other in near))

    return {entry: depends_on for entry, (_, depends_on) in entries.items()}, {entry: tables(entry) for entry in entries}


def _entries(listing: str) -> list[tuple[re.Match[str], list[str]]]:
    """The entries of a verbose listing and what each depends on."""
    entries: list[tuple[re.Match[str], list[str]]] = []
    for line in listing.splitlines():
        if match := _ENTRY.match(line):
            entries.append((match, []))
        elif entries and (depends := _DEPENDS.match(line)):
            entries[-1][1].extend(depends["ids"].split())
    return entries


def selected(listing: str, objects: frozenset[tuple[int, int]]) -> Iterator[str]:
    """The lines of a verbose listing whose entries belong to `objects`, in the archive's order."""
    entries = _entries(listing)
    chosen = {
        match["id"]
        for match, _ in entries
        if (int(match["catalog"]), int(match["object"])) in objects and not match["rest"].startswith("EXTENSION ")
    }
    # Made before, by the admin: what else an entry depends on tells whether it belongs to the set.
    extensions = {match["id"] for match, _ in entries if match["rest"].startswith("EXTENSION ")}
    for match, depends_on in entries:
        frame = match["rest"].startswith(_FRAME)
        needed = set(depends_on) - extensions
        follows = match["catalog"] == "0" and bool(needed) and needed <= chosen
        if frame or match["id"] in chosen or follows:
            yield match.group()


def _is_schema(line: str, names: frozenset[str]) -> bool:
    """Whether an entry makes, or comments on, one of these schemas. A listing shows line breaks in names as spaces."""
    match = _ENTRY.match(line)
    if match is None:
        return False
    shown = {re.sub(r"[\r\n]", " ", name) for name in names}
    tags = ((f"SCHEMA - {name} ", f"COMMENT - SCHEMA {name} ", f"COMMENT - SCHEMA {quoted(name)} ") for name in shown)
    return any(match["rest"].startswith(tag) for tag in tags)


def _for_any_server(script: str) -> str:
    r"""The script without what only psql (\restrict) or a newer server understands; both stand outside its entries."""
    head, mark, rest = _cut(script)
    kept = [line for line in head.splitlines() if not line.startswith(("\\", "SET transaction_timeout"))]
    body, _, tail = rest.rpartition("\n--\n-- PostgreSQL database dump complete\n--\n")
    if mark and not body:
        raise ClarityError("pg_restore wrote a script of an unknown form.", unchanged="Nothing was changed.")
    del tail
    return "\n".join(kept) + mark + body


def _cut(script: str) -> tuple[str, str, str]:
    """What stands before the first entry, how that begins, and the rest."""
    first = re.search(r"\n--\n-- (?:Name: |TOC entry )", script)
    return (script[: first.start()], first.group(), script[first.end() :]) if first else (script, "", "")


def run_script(connection: psycopg.Connection[Any], script: str, *, doing: str) -> None:
    """Runs a script in the connection's open transaction. Raises ClarityError that names the entry that failed."""
    try:
        connection.execute(script.encode())
    except psycopg.Error as error:
        raise ClarityError(
            f"{doing}: {_entry_at(script, error)}{error.diag.message_primary or error}."
            + (f" {error.diag.message_detail}" if error.diag.message_detail else ""),
        ) from None


def _entry_at(script: str, error: psycopg.Error) -> str:
    position = error.diag.statement_position
    if not position:
        return ""
    names = re.findall(r"^-- Name: (.*?); Type: (.*?);", script[: int(position)], re.MULTILINE)
    return f"{names[-1][1].lower()} {names[-1][0]}: " if names else ""
