"""How does the structure get across? pg_dump's archive of the source, cut down to the objects of the set, made again by the owner.

The archive's table of contents names each entry by (catalog, object), which is what the set's closure holds; entries without an
identity of their own (comments, attachments, SEQUENCE OWNED BY) are known by what they depend on. No definition is written here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psycopg

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError
from clarity_infra.move.model import MoveSet
from clarity_infra.move.queries import query
from clarity_infra.move.rows import LOCK_WAIT_MS
from clarity_infra.move.tools import Tools

_ENTRY = re.compile(r"^(?P<id>\d+); (?P<catalog>\d+) (?P<object>\d+) (?P<rest>.*)$")
_DEPENDS = re.compile(r"^;\s+depends on:(?P<ids>(?: \d+)*)")
# What every script starts with whatever is selected.
_FRAME = ("ENCODING", "STDSTRINGS", "SEARCHPATH")
# What comes after the rows is made in this order.
Stage = Literal["indexes", "rest", "keys"]
# The first server that knows the setting; pg_restore from 17 on sets it without asking.
_TRANSACTION_TIMEOUT = 170000
# More patterns than this are not worth a longer command line: the tables of others are then locked for the time of the dump.
_MAX_PATTERNS = 5000


@dataclasses.dataclass(frozen=True)
class Archive:
    """A dump of the source's structure and the list of its entries that belong to the set."""

    tools: Tools
    file: Path
    entries: tuple[str, ...]
    folder: Path

    def script(self, section: str, *, without_schemas: frozenset[str] = frozenset(), stage: Stage | None = None) -> str:
        """The SQL of a section ("pre-data", "post-data"), or one stage of it, without owners, privileges and the schemas named."""
        entries = [line for line in self._of(stage) if not _is_schema(line, without_schemas)]
        text = self.tools.run(
            "pg_restore",
            [*_options(self._list(entries)), f"--section={section}", "-f", "-", self.file],
            doing="Reading the structure of the source",
        )
        return _for_any_server(text)

    def restore(self, stage: Stage, endpoint: Endpoint, *, role: str, jobs: int, **settings: str) -> None:
        """Makes a stage of the post-data section in the target, as `role`, several entries at a time."""
        entries = self._of(stage)
        if len(entries) == len(_FRAME):
            return
        self.tools.run(
            "pg_restore",
            [
                *_options(self._list(entries)),
                "--section=post-data",
                f"--role={role}",
                "--exit-on-error",
                f"--jobs={jobs}",
                f"--dbname={endpoint.database}",
                self.file,
            ],
            endpoint,
            doing=f"Making indexes and constraints in {endpoint.label()}",
            **settings,
        )

    def _of(self, stage: Stage | None) -> list[str]:
        return [line for line in self.entries if stage is None or stage_of(line) in (stage, "frame")]

    def _list(self, entries: list[str]) -> Path:
        path = self.folder / "entries.list"
        path.write_text("\n".join(entries) + "\n", encoding="utf-8")
        return path


def stage_of(line: str) -> Stage | Literal["frame"]:
    """Where a line of a listing belongs: what takes time can go in parallel, what depends on all of that must not.

    pg_restore's jobs may add a foreign key to a partitioned table before the last index of its partitions is attached (seen with
    15.18), so attachments stand between indexes and keys, in the archive's order.
    """
    match = _ENTRY.match(line)
    rest = match["rest"] if match else ""
    if rest.startswith(_FRAME):
        return "frame"
    if rest.startswith("FK CONSTRAINT ") or (rest.startswith("COMMENT ") and " CONSTRAINT " in rest):
        return "keys"
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
                *_exclusions(connection, move_set),
                f"--file={file}",
            ],
            endpoint,
            doing=f"Reading the structure of {endpoint.label()}",
        )
        listing = tools.run("pg_restore", ["--list", "--verbose", file], doing="Reading the structure of the source")
        yield Archive(tools, file, tuple(selected(listing, move_set.objects)), Path(folder))


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


def selected(listing: str, objects: frozenset[tuple[int, int]]) -> Iterator[str]:
    """The lines of a verbose listing whose entries belong to `objects`, in the archive's order."""
    entries: list[tuple[re.Match[str], list[str]]] = []
    for line in listing.splitlines():
        if match := _ENTRY.match(line):
            entries.append((match, []))
        elif entries and (depends := _DEPENDS.match(line)):
            entries[-1][1].extend(depends["ids"].split())
    chosen = {
        match["id"]
        for match, _ in entries
        if (int(match["catalog"]), int(match["object"])) in objects and not match["rest"].startswith("EXTENSION ")
    }
    for match, depends_on in entries:
        frame = match["rest"].startswith(_FRAME)
        follows = match["catalog"] == "0" and bool(depends_on) and set(depends_on) <= chosen
        if frame or match["id"] in chosen or follows:
            yield match.group()


def _is_schema(line: str, names: frozenset[str]) -> bool:
    """Whether an entry makes, or comments on, one of these schemas. A listing shows line breaks in names as spaces."""
    match = _ENTRY.match(line)
    if match is None:
        return False
    shown = {re.sub(r"[\r\n]", " ", name) for name in names}
    return any(match["rest"].startswith((f"SCHEMA - {name} ", f"COMMENT - SCHEMA {name} ")) for name in shown)


def _for_any_server(script: str) -> str:
    r"""The script without what only psql (\restrict) or a newer server understands; both stand outside its entries."""
    head, mark, rest = script.partition("\n--\n-- Name: ")
    kept = [line for line in head.splitlines() if not line.startswith(("\\", "SET transaction_timeout"))]
    body, _, tail = rest.rpartition("\n--\n-- PostgreSQL database dump complete\n--\n")
    if mark and not body:
        raise ClarityError("pg_restore wrote a script of an unknown form.", unchanged="Nothing was changed.")
    del tail
    return "\n".join(kept) + mark + body


def runs_on(tools: Tools, server_version: int) -> bool:
    """Whether this pg_restore can talk to that server itself."""
    return tools.version < _TRANSACTION_TIMEOUT // 10000 or server_version >= _TRANSACTION_TIMEOUT


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
