"""How fast is the copy beside its peers? Builds the data once, then runs every way in turn, several rounds, and prints medians.

`make bench`, or `python -m sandbox.bench --megabytes 700 --rounds 3`. One server holds source and target, so that all ways share one
machine alike; read the ratios, not the seconds. "CPU s" is what the clients' processes and the server's sessions used together, which a
busy machine changes less. Ways whose tools are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
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
from clarity_infra.move import completion
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
from sandbox.postgres import Server, server_version, wheel_bindir

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


# What pgcopydb 0.18 compares two tables by, for a version that cannot yet (Debian 12 has 0.10).
_PGCOPYDB_COMPARES = """
SELECT count(1), encode(sha256(format('%s-%s', sum(hashtext(({})::text)::bigint), count(1))::bytea), 'hex') FROM ONLY {}
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a way took: seconds by the clock, and of processor time."""

    wall: float
    cpu: float


class Bench:
    """The server, its data, and the ways to copy them."""

    def __init__(self, server: Server, megabytes: int) -> None:
        self.server, self.megabytes, self.tools = server, megabytes, find_tools(int(server_version(server.bindir).split(".")[0]))
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
        if not shutil.which("pgcopydb"):
            print("pgcopydb is not installed (Debian: apt install pgcopydb): left out")
        elif self.tools.version > _pgcopydb_postgres():
            print(f"pgcopydb's tools are of PostgreSQL {_pgcopydb_postgres()}, too old for this server (try --postgres 15): left out")
        else:
            ways["pgcopydb clone"] = self._timed(lambda: self._pgcopydb(compare=False))
            ways["pgcopydb clone, compare data"] = self._timed(lambda: self._pgcopydb(compare=True))
        return ways

    def measured(self, way: Callable[[], float]) -> Cost:
        """Runs a way and adds up what it cost; the postmaster is told of a session's processor time when that has ended."""
        before = self._cpu()
        wall = way()
        deadline = time.monotonic() + 5
        while self._sessions() and time.monotonic() < deadline:
            time.sleep(0.05)
        return Cost(wall, self._cpu() - before)

    def _cpu(self) -> float:
        """Seconds of this process, its ended children and the server's ended sessions so far."""
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        stat = Path(f"/proc/{self.server.pid}/stat")
        fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else []
        # cutime and cstime, the 16th and 17th of proc(5)'s fields; the first two were cut off.
        return own + sum(int(ticks) for ticks in fields[13:15]) / os.sysconf("SC_CLK_TCK")

    def _sessions(self) -> int:
        with self.server.connect() as superuser:
            statement = "SELECT count(*) FROM pg_stat_activity WHERE datname IN (%s, %s)"
            return int(superuser.execute(statement, (SOURCE, TARGET)).fetchall()[0][0])

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
                stack.enter_context(mock.patch.object(attempt, "_verify", lambda *_: Verification((), {})))
                stack.enter_context(mock.patch.object(completion, "parts", lambda *_: []))
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
            run = functools.partial(subprocess.run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            run(["pgcopydb", "clone", "--no-owner", "--table-jobs", "2", "--index-jobs", "2", *common])
            if compare and b"compare" in subprocess.run(["pgcopydb", "help"], capture_output=True, check=True).stderr:
                run(["pgcopydb", "compare", "data", *common])
            elif compare:
                self._compare_as_pgcopydb_does()

    def _compare_as_pgcopydb_does(self) -> None:
        """Its query, on both sides at once, one table after the other."""
        for name in TABLES:
            with self.server.connect(SOURCE) as source:
                columns = read_move_set(source, [name]).tables[0].column_names
            statement = sql.SQL(_PGCOPYDB_COMPARES).format(sql.SQL(", ").join(map(sql.Identifier, columns)), name.identifier()).as_string()
            sides = [self._process("psql", "-q", "-d", side, "-c", statement, stdout=subprocess.PIPE) for side in (SOURCE, TARGET)]
            if len({side.communicate()[0] for side in sides}) != 1:
                raise RuntimeError(f"{name} was not copied right")

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


def _pgcopydb_postgres() -> int:
    """The major version of the pg_dump that pgcopydb finds."""
    printed = subprocess.run(["pg_dump", "--version"], capture_output=True, text=True, check=True).stdout
    return int(printed.split()[2].split(".")[0])


def main() -> int:
    """Runs the bench and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=700, help="about how much data, indexes not counted (default 700)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all ways, alternating (default 3)")
    parser.add_argument("--postgres", type=int, choices=(15, 18), default=18, help="the server: Debian's 15 or the wheel's 18 (default)")
    parser.add_argument("--folder", type=Path, help="where the server's data are kept for the next run (default: a temporary folder)")
    parser.add_argument("--only", action="append", help="only ways whose name holds this text; may be repeated")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="clarity-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    settings = {"shared_buffers": "256MB", "max_wal_size": "8GB", "checkpoint_timeout": "30min", "maintenance_work_mem": "256MB"}
    bindir = wheel_bindir() if options.postgres == 18 else Path("/usr/lib/postgresql/15/bin")
    server = Server(folder / "server", bindir=bindir, settings=settings, superuser_password="bench")
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
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for number in range(1, rounds + 1):
        for name, way in ways.items():
            bench.empty_target()
            costs[name].append(cost := bench.measured(way))
            print(f"round {number}: {name}: {cost.wall:.2f} s, {cost.cpu:.2f} CPU s, load {os.getloadavg()[0]:.1f}", flush=True)
    medians = {name: Cost(statistics.median(c.wall for c in all_), statistics.median(c.cpu for c in all_)) for name, all_ in costs.items()}
    version = server_version(bench.server.bindir)
    print(f"\nPostgreSQL {version}, {bench.megabytes} MB, {bench.wide + bench.narrow:,} rows, medians of {rounds} rounds, {os.cpu_count()} CPUs")
    print(f"{'':<40}{'s':>8}{'CPU s':>8}{'of pg_dump | psql':>20}{'by CPU':>8}")
    base = medians.get("pg_dump | psql")
    for name, median in medians.items():
        whole = base is not None and not name.startswith("rows only")
        ratios = f"{median.wall / base.wall:>20.2f}{median.cpu / base.cpu:>8.2f}" if base and whole else ""
        print(f"{name:<40}{median.wall:>8.2f}{median.cpu:>8.2f}{ratios}")
    verified, plain = medians.get("this, verified"), medians.get("this, not verified")
    if verified and plain:
        print(f"verification's share: {1 - plain.wall / verified.wall:.0%} of the time, {1 - plain.cpu / verified.cpu:.0%} by CPU")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    sys.exit(main())
