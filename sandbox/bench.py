"""How fast is the copy beside its peers? Builds the data once, then runs every way in turn, several rounds, and prints medians.

`make bench`, or `python -m sandbox.bench --megabytes 700 --rounds 3`. One server of the wheel holds source and target, so that all ways
share one machine alike; read the ratios, not the seconds. Ways whose tools are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.move import copy as copy_module
from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.copy import copy
from clarity_infra.move.digest import probed
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from clarity_infra.move.rows import copy_rows, session
from clarity_infra.move.structure import run_script
from clarity_infra.move.tools import find_tools
from clarity_infra.move.verify import Verification
from sandbox.postgres import Server, wheel_bindir

SOURCE, TARGET, OWNER = "bench_source", "bench_target", "bench_owner"
TABLES = (Name("public", "wide"), Name("public", "narrow"))

# About 410 bytes a row of `wide` and 130 of `narrow`, indexes not counted.
_STRUCTURE = """
CREATE TYPE state AS ENUM ('pending', 'processing', 'completed', 'error');
CREATE TABLE wide (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state state NOT NULL DEFAULT 'pending', title text NOT NULL, body text,
    doc jsonb NOT NULL, at timestamptz NOT NULL);
CREATE TABLE narrow (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, wide bigint NOT NULL REFERENCES wide, kind state NOT NULL, note text,
    cost numeric(10, 2), at timestamp NOT NULL);
"""
_WIDE = """
INSERT INTO wide (state, title, body, doc, at)
SELECT (enum_range(NULL::state))[1 + i %% 4], 'request ' || i, repeat(md5(i::text), 8),
       jsonb_build_object('key', md5(i::text), 'labels', jsonb_build_array('a', i, NULL)), timestamptz '2024-01-01' + i * interval '1 second'
  FROM generate_series(1, %s) AS i
"""
_NARROW = """
INSERT INTO narrow (wide, kind, note, cost, at)
SELECT 1 + i %% %s, (enum_range(NULL::state))[1 + i %% 4], md5(i::text) || md5((-i)::text), i / 100.0,
       timestamp '2024-01-01' + i * interval '1 second'
  FROM generate_series(1, %s) AS i
"""
_INDEXES = "CREATE INDEX wide_state ON wide (state, at); CREATE INDEX wide_title ON wide (title); CREATE INDEX narrow_wide ON narrow (wide)"


class Bench:
    """The server, its data, and the ways to copy them."""

    def __init__(self, server: Server, megabytes: int) -> None:
        self.server, self.megabytes, self.tools = server, megabytes, find_tools(18)
        self.wide, self.narrow = megabytes * 1425, megabytes * 2850

    def build(self) -> None:
        """Makes the source, once for each size."""
        with self.server.connect() as superuser:
            superuser.execute(
                sql.SQL("DO $$ BEGIN CREATE ROLE {} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$").format(sql.Identifier(OWNER))
            )
            made = superuser.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (SOURCE,)).fetchone()
            if made and made[0] == str(self.megabytes):
                return
            superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(SOURCE)))
            superuser.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(SOURCE)))
        print(f"building about {self.megabytes} MB ...", flush=True)
        with self.server.connect(SOURCE) as source:
            source.execute(_STRUCTURE.encode())
            source.execute(_WIDE.encode(), (self.wide,))
            source.execute(_NARROW.encode(), (self.wide, self.narrow))
            source.execute(_INDEXES.encode())
            source.execute("VACUUM ANALYZE")
        with self.server.connect() as superuser:
            superuser.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(SOURCE), sql.Literal(str(self.megabytes))))

    def empty_target(self) -> None:
        """An empty target, and a checkpoint so that no way pays for the one before it."""
        with self.server.connect() as superuser:
            superuser.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(TARGET)))
            superuser.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(TARGET)))
            superuser.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(TARGET), sql.Identifier(OWNER)))
        with self.server.connect(TARGET) as target:
            target.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {}").format(sql.Identifier(OWNER)))
        with self.server.connect() as superuser:
            superuser.execute("CHECKPOINT")

    @property
    def move(self) -> Move:
        """The move of both tables."""
        return Move(
            "bench",
            Endpoint.from_url(self.server.url(SOURCE), name="SOURCE"),
            Endpoint.from_url(self.server.url(TARGET), name="TARGET"),
            OWNER,
            TABLES,
            workers=2,
        )

    def ways(self) -> dict[str, Callable[[], float]]:
        """Each way by name; it copies into the empty target and gives its seconds."""
        ways = {
            "this, verified": self._timed(lambda: self._copy(verified=True)),
            "this, not verified": self._timed(lambda: self._copy(verified=False)),
            "pg_dump | psql": self._timed(self._dump_psql),
            "pg_dump -Fd -j2, pg_restore -j2": self._timed(self._dump_restore),
            "rows only: COPY | COPY in psql, binary": self._rows_pipe,
            "rows only: this, one connection": lambda: self._rows_this(1),
            "rows only: this, two connections": lambda: self._rows_this(2),
        }
        if shutil.which("pgcopydb"):
            ways["pgcopydb clone"] = self._timed(lambda: self._pgcopydb(compare=False))
            ways["pgcopydb clone, compare data"] = self._timed(lambda: self._pgcopydb(compare=True))
        else:
            print("pgcopydb is not installed (Debian: apt install pgcopydb): left out")
        return ways

    def _timed(self, way: Callable[[], None]) -> Callable[[], float]:
        def run() -> float:
            started = time.monotonic()
            way()
            return time.monotonic() - started

        return run

    def _copy(self, *, verified: bool) -> None:
        attempt = copy_module._Copy
        with contextlib.ExitStack() as stack:
            if not verified:
                rows = functools.partial(copy_rows, digests=False)
                stack.enter_context(mock.patch.object(copy_module, "copy_rows", rows))
                stack.enter_context(mock.patch.object(attempt, "_verify", lambda *_: (Verification((), {}), 0.0)))
            copy(self.move, run=uuid.uuid4(), progress=lambda _: None)

    def _dump_psql(self) -> None:
        with self._process("pg_dump", "--no-owner", SOURCE, stdout=subprocess.PIPE) as dump:
            self._run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", TARGET, stdin=dump.stdout, stdout=subprocess.DEVNULL)

    def _dump_restore(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._run("pg_dump", "-Fd", "-j2", "-f", f"{folder}/dump", SOURCE)
            self._run("pg_restore", "-j2", "--no-owner", "-d", TARGET, f"{folder}/dump")

    def _pgcopydb(self, *, compare: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            common = ["--dir", f"{folder}/state", "--source", self.server.url(SOURCE), "--target", self.server.url(TARGET)]
            commands = [["clone", "--no-owner", "--table-jobs", "2", "--index-jobs", "2"]] + ([["compare", "data"]] if compare else [])
            for command in commands:
                subprocess.run(["pgcopydb", *command, *common], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)

    def _empty_tables(self) -> None:
        with self.server.connect(TARGET) as target:
            run_script(target, _STRUCTURE.replace("PRIMARY KEY", "").replace("REFERENCES wide", ""), doing="Making the tables")
            target.execute(sql.SQL("ALTER TABLE wide OWNER TO {}").format(sql.Identifier(OWNER)))
            target.execute(sql.SQL("ALTER TABLE narrow OWNER TO {}").format(sql.Identifier(OWNER)))

    def _rows_pipe(self) -> float:
        """The raw pipe, one table after the other: what one connection can do."""
        self._empty_tables()
        started = time.monotonic()
        for table in TABLES:
            out = f"COPY {table.name} TO STDOUT (FORMAT binary)"
            into = f"COPY {table.name} FROM STDIN (FORMAT binary)"
            with self._process("psql", "-q", "-d", SOURCE, "-c", out, stdout=subprocess.PIPE) as source:
                self._run("psql", "-q", "-d", TARGET, "-c", into, stdin=source.stdout)
        return time.monotonic() - started

    def _rows_this(self, workers: int) -> float:
        self._empty_tables()
        with session(self.move.source) as source, session(self.move.target) as target:
            move_set = read_move_set(source, TABLES)
            source.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = source.execute("SELECT pg_export_snapshot()").fetchall()[0][0]
            started = time.monotonic()
            copy_rows(
                self.move.source,
                self.move.target,
                move_set.tables,
                snapshot=snapshot,
                owner=OWNER,
                workers=workers,
                progress=lambda _: None,
                method=probed(source, target),
                digests=False,
            )
            return time.monotonic() - started

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port),
            "PGUSER": "postgres",
            "PGPASSWORD": self.server.superuser_password,
        }

    def _process(self, tool: str, *arguments: str, **more: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([str(self.tools.folder / tool), *arguments], env=self._environment(), **more)  # type: ignore[call-overload, no-any-return]

    def _run(self, tool: str, *arguments: str, **more: object) -> None:
        subprocess.run([str(self.tools.folder / tool), *arguments], env=self._environment(), check=True, **more)  # type: ignore[call-overload]


def main() -> int:
    """Runs the bench and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=700, help="about how much data, indexes not counted (default 700)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all ways, alternating (default 3)")
    parser.add_argument("--folder", type=Path, help="where the server's data are kept for the next run (default: a temporary folder)")
    parser.add_argument("--only", action="append", help="only ways whose name holds this text; may be repeated")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="clarity-bench-"))
    folder.chmod(0o755)
    settings = {"shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "maintenance_work_mem": "256MB"}
    server = Server(folder / "server", bindir=wheel_bindir(), settings=settings, superuser_password="bench")
    try:
        with server:
            _measure(Bench(server, options.megabytes), options.rounds, options.only)
    finally:
        if options.folder is None:
            server.remove()
            shutil.rmtree(folder)
    return 0


def _measure(bench: Bench, rounds: int, only: list[str] | None) -> None:
    bench.build()
    ways = {name: way for name, way in bench.ways().items() if not only or any(text in name for text in only)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        for name, way in ways.items():
            bench.empty_target()
            seconds[name].append(way())
            print(f"round {number}: {name}: {seconds[name][-1]:.2f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians.get("pg_dump | psql", 0.0)
    print(f"\n{bench.megabytes} MB, {bench.wide + bench.narrow:,} rows, medians of {rounds} rounds, {os.cpu_count()} CPUs")
    print(f"{'':<42}{'seconds':>9}{'of pg_dump | psql':>20}")
    for name, median in medians.items():
        ratio = f"{median / base:.2f}" if base and not name.startswith("rows only") else ""
        print(f"{name:<42}{median:>9.2f}{ratio:>20}")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
