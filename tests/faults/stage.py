"""Servers, databases and a Hyperdrive config as they stand before a command, made anew for every case from templates."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from clarity_infra.connection import Endpoint
from clarity_infra.hyperdrive_api import Origin
from clarity_infra.move.journal import Journal
from clarity_infra.move.model import Move
from clarity_infra.move.names import Name
from sandbox.cloudflare import CloudflareApi
from sandbox.postgres import UNLOGGED_SPEED, Server, ServerError
from tests.cutover.scene import ROWS, STRUCTURE, TABLES, copy_rows, migrations_folder
from tests.faults.link import Link
from tests.faults.network import Cable, NoNamespace, namespace
from tests.faults.readers import SIDE_VIEW
from tests.faults.run import Bug, Command, Order, carry_out

Side = Literal["source", "target"]
SIDES: tuple[Side, ...] = ("source", "target")
ACCOUNT = "f" * 32
# The password is no word that a message may hold for another reason.
ADMIN, OWNER, PASSWORD = "admin", "app", "n0t-t0-be-t0ld"
DISK_MB = 40
LOG_MB = 128

# A server that loses an acknowledged commit when one of its processes dies would be blamed on the program.
_SETTINGS = {**UNLOGGED_SPEED, "synchronous_commit": "on", "shared_buffers": "32MB", "max_connections": "80", "autovacuum_naptime": "1h"}


@dataclasses.dataclass
class Stage:
    """One case's two databases, the config that sends the application to one of them, and the way to run a command there."""

    servers: dict[Side, Server]
    databases: dict[Side, str]
    links: dict[Side, Link | Cable]
    api: CloudflareApi
    config: str
    order: Order
    disk: Path | None = None
    wal: Path | None = None

    def cache(self, *, on: bool) -> None:
        """What the stack's stages declare of the config: caching off from `copy` on, and at `cleanup` what it was."""
        self.order.switch().api.put_caching(self.config, self.order.caching if on else {"disabled": True})

    def caching(self) -> dict[str, Any]:
        """What the config has now."""
        found: dict[str, Any] = self.api.configs.get(ACCOUNT, self.config)["caching"]
        return found

    def root(self, side: Side) -> psycopg.Connection[Any]:
        """A superuser's session that goes round every link."""
        return self.servers[side].connect(self.databases[side])

    def url(self) -> str:
        """Where the application connects."""
        return self.api.connection_string(self.config)

    def origin(self) -> Side:
        """The side that Hyperdrive sends new connections to."""
        found = self.api.configs.get(ACCOUNT, self.config)["origin"]
        place = (found["port"], found["database"])
        return "source" if place == (self.order.source.port, self.order.source.database) else "target"

    def writable(self) -> list[Side]:
        """The sides that take a write now, tried by the role the application has there; one that keeps it waiting does not."""
        sides: list[Side] = []
        for side in SIDES:
            origin = self.order.source if side == "source" else self.order.target
            with contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.UndefinedTable, psycopg.errors.LockNotAvailable):
                with self.servers[side].connect(self.databases[side], origin.user, origin.password) as connection:
                    connection.execute("SET lock_timeout = '2s'")
                    connection.execute("UPDATE public.requests SET title = title WHERE false")
                sides.append(side)
        return sides

    def guarded(self) -> bool:
        """Whether any fence was put up yet: before the first cut-over nothing guards the copy, and nobody is sent there."""
        for side in SIDES:
            with self.root(side) as connection:
                if connection.execute("SELECT 1 FROM pg_trigger WHERE tgname LIKE 'clarity_infra_fence_%%' LIMIT 1").fetchone():
                    return True
        return False

    def backends(self, side: Side) -> list[int]:
        """The server processes of the run's sessions on one side."""
        with self.root(side) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'clarity-infra %%'"
                " ORDER BY application_name NOT LIKE '%%lock', pid"
            ).fetchall()
        return [int(row[0]) for row in rows]

    def leftovers(self) -> list[str]:
        """What of ours is on the source."""
        with self.root("source") as connection:
            rows = connection.execute(
                "SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname LIKE 'clarity_infra%%'"
                " UNION ALL SELECT 'relation ' || relname FROM pg_class WHERE relname LIKE 'clarity_infra%%' AND relkind IN ('r', 'S')"
                " UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname LIKE 'clarity_infra%%'"
            ).fetchall()
        return [str(row[0]) for row in rows]

    def old_tables(self) -> list[str]:
        """The tables of the move that are in the source."""
        with self.root("source") as connection:
            rows = connection.execute("SELECT relname FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'", (list(TABLES),)).fetchall()
        return [str(row[0]) for row in rows]

    def start(self, command: Command, *, point: str = "", bug: Bug | None = None, lock_budget: float = 60.0) -> Run:
        """The command in a process of its own, which waits at `point`, and at most `lock_budget` seconds for writers."""
        return Run(dataclasses.replace(self.order, command=command, point=point, bug=bug, lock_budget=lock_budget))


class Run:
    """A command at work: what it said, and how it ended."""

    def __init__(self, order: Order) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.faults.run"])
        self._ours, theirs = context.Pipe()
        self.process: ForkServerProcess = context.Process(target=carry_out, args=(theirs, order), daemon=True)
        self.process.start()
        theirs.close()
        self.points: list[str] = []
        self.said: list[str] = []
        self.outcome, self.text = "", ""
        self.command = order.command
        self._point = order.point

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def reach(self, seconds: float = 60.0) -> bool:
        """Waits until the run stands at its point; False where it ended without coming by."""
        return self._listen(self._point, seconds)

    def go_on(self) -> None:
        """Lets it leave its point."""
        with contextlib.suppress(OSError):
            self._ours.send("go on")

    def over(self, seconds: float) -> bool:
        """Waits until it has ended; False where it is at work still after so many seconds."""
        deadline = time.monotonic() + seconds
        while not self.outcome and time.monotonic() < deadline:
            if self._ours.poll(0.05):
                self._listen(None, 0.05, one=True)
        return bool(self.outcome)

    def wait(self, seconds: float = 90.0) -> str:
        """How it ended: "done", "refused", "crashed", or "killed" where it ended without a word, "hung" where it did not."""
        self._listen(None, seconds)
        self.process.join(5 if self.outcome != "hung" else 0)
        if self.outcome == "hung":
            self.process.kill()
            self.process.join(5)
        self._ours.close()
        return self.outcome

    def _listen(self, point: str | None, seconds: float, *, one: bool = False) -> bool:
        """Takes messages until the run has ended or stands at `point`, or `one` message; then True only where it stands there."""
        while not self.outcome:
            if not self._ours.poll(seconds):
                self.outcome, self.text = "hung", f"no word in {seconds:.0f} s after {self.points[-1:]}"
                return False
            try:
                kind, text = self._ours.recv()
            except (EOFError, OSError):
                self.outcome = "killed"
                return False
            if kind == "at":
                self.points.append(text)
                if text == point:
                    return True
            elif kind == "said":
                self.said.append(text)
            else:
                self.outcome, self.text = kind, text
            if one:
                break
        return False


class House:
    """The servers and the stand-in for Cloudflare, for the time of a `with`; `stage` builds one case's databases on them."""

    def __init__(self, **settings: str) -> None:
        self._settings = {**_SETTINGS, **settings}
        self.folder = Path(tempfile.mkdtemp(prefix="clarity-faults-"))
        self.folder.chmod(0o755)
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._made: set[tuple[str, bool]] = set()
        self.disk_reason, self.network_reason = "", ""
        self._namespace = ""
        self._cables: dict[Side, Cable] = {}
        self._small_log: tuple[Server, Path] | None = None

    def __enter__(self) -> House:
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._network()
        self.servers = [self._server("one"), self._server("two")]
        self.api = self._stack.enter_context(CloudflareApi(self.folder / "cloudflare", token="token", max_configs=100))
        self._api_url = self.api.base_url
        if self._namespace:
            way = Link(urlsplit(self.api.base_url).port or 0, self._api_address)
            self._stack.callback(way.close)
            self._api_url = self.api.base_url.replace(f"127.0.0.1:{way.server_port}", f"{way.address}:{way.port}")
        self.migrations = self.folder / "drizzle"
        migrations_folder(self.migrations)
        self.disk = self._small_disk()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _network(self) -> None:
        """A namespace for the runs, with a cable to each side and one to Cloudflare; says why there is none, if so."""
        try:
            self._namespace, (source, target, api) = self._stack.enter_context(namespace(3))
        except NoNamespace as error:
            self.network_reason = str(error)
            print(f"partitions are made by a proxy, not by a network namespace: {error}")
            return
        self._cables, self._api_address = {"source": source, "target": target}, api.address

    def _server(self, name: str) -> Server:
        listens = ",".join(["127.0.0.1", *(cable.address for cable in self._cables.values())])
        server = Server(self.folder / name, settings={**self._settings, "listen_addresses": listens})
        self._stack.callback(server.remove)
        server.start()
        with server.connect() as root:
            with (server.data_path / "pg_hba.conf").open("a") as rules:
                rules.writelines(f"host all all {cable.address}/30 scram-sha-256\n" for cable in self._cables.values())
            root.execute("SELECT pg_reload_conf()")
            root.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE CREATEDB PASSWORD '{PASSWORD}'")
        with server.connect("postgres", ADMIN, PASSWORD) as admin:
            admin.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
            admin.execute(f"GRANT {OWNER} TO {ADMIN}")
        return server

    @contextlib.contextmanager
    def stage(
        self,
        *,
        two_servers: bool,
        cut_over: bool = False,
        small_disk: Side | None = None,
        small_log: Side | None = None,
        cached: int = 0,
    ) -> Iterator[Stage]:
        """A stage as after a copy, or as after a cut-over.

        `cached`: how long, in seconds, the application's config of before the move keeps an answer; it does still where nothing is cut over.

        `small_disk`: that side's database lies on a disk that can be filled; `small_log`: that side is a server of its own, whose
        write-ahead log lies on such a disk.
        """
        with contextlib.ExitStack() as stack:
            servers: dict[Side, Server] = {"source": self.servers[0], "target": self.servers[1 if two_servers else 0]}
            place, wal = "two" if two_servers else "one", None
            if small_log is not None:
                servers[small_log], wal = self.server_with_small_log()
                place = f"log_{small_log}"
            built = self._build(stack, servers, place, cut_over=cut_over, small_disk=small_disk, cached=cached)
            built.wal = wal
            yield built

    def _build(
        self,
        stack: contextlib.ExitStack,
        servers: dict[Side, Server],
        place: str,
        *,
        cut_over: bool,
        small_disk: Side | None,
        cached: int,
    ) -> Stage:
        self._prepare(servers, place, cut_over)
        number = next(self._numbers)
        databases: dict[Side, str] = {"source": f"old_{number}", "target": f"clarity_{number}"}
        for side in SIDES:
            where = small_disk if small_disk == side else None
            self._database(servers[side], databases[side], _template(side, place, cut_over), on_disk=where is not None)
            stack.callback(_drop, servers[side], databases[side])
        made = self._stage(stack, servers, databases, sent_to="target" if cut_over else "source", cached=cached)
        made.disk = self.disk if small_disk else None
        return made

    def _stage(
        self, stack: contextlib.ExitStack, servers: dict[Side, Server], databases: dict[Side, str], *, sent_to: Side, cached: int = 0
    ) -> Stage:
        ends: dict[Side, tuple[str, int]] = {side: (cable.address, servers[side].port) for side, cable in self._cables.items()}
        links: dict[Side, Link | Cable] = dict(self._cables)
        for side in SIDES if not ends else ():
            link = Link(servers[side].port)
            stack.callback(link.close)
            links[side], ends[side] = link, (link.address, link.port)
        users: dict[Side, str] = {"source": ADMIN, "target": OWNER}
        origins = {side: Origin("127.0.0.1", servers[side].port, databases[side], users[side], PASSWORD) for side in SIDES}
        off: dict[str, Any] = {"disabled": True}
        caching = {"disabled": False, "max_age": cached, "stale_while_revalidate": 0} if cached else off
        config = self.api.configs.create(
            ACCOUNT,
            {"name": databases["source"], "origin": origins[sent_to].parameters(), "caching": caching if sent_to == "source" else off},
        )
        stack.callback(self.api.configs.delete, ACCOUNT, config["id"])
        stack.callback(self.api.faults.clear)
        backup = self.folder / f"backup-{databases['source']}"
        order = Order(
            "cut over",
            _move(ends, databases),
            self.migrations,
            ACCOUNT,
            self.api.token,
            self._api_url,
            config["id"],
            origins["source"],
            origins["target"],
            backup,
            caching,
            namespace=self._namespace,
        )
        stack.callback(shutil.rmtree, backup, ignore_errors=True)
        return Stage(servers, databases, links, self.api, config["id"], order)

    # Templates

    def _prepare(self, servers: dict[Side, Server], place: str, cut_over: bool) -> None:
        key = (place, cut_over)
        if key in self._made:
            return
        names: dict[Side, str] = {side: _template(side, place, cut_over) for side in SIDES}
        if not cut_over:
            for side in SIDES:
                self._database(servers[side], names[side], "template0")
                _name_side(servers[side], names[side], side)
            _fill(_move({side: ("127.0.0.1", servers[side].port) for side in SIDES}, names))
        else:
            self._prepare(servers, place, False)
            for side in SIDES:
                self._database(servers[side], names[side], _template(side, place, False))
            with contextlib.ExitStack() as stack:
                run = self._stage(stack, servers, names, sent_to="source").start("cut over")
                if run.wait() != "done":
                    raise AssertionError(f"the cut-over without a fault ended so: {run.outcome} {run.text}")
        self._made.add(key)

    def _database(self, server: Server, name: str, template: str, *, on_disk: bool = False) -> None:
        # The other strategy logs a sequence's page as it stands, without the values the server may give out before it logs the
        # next: after a crash the copy's sequence would give them out again.
        with server.connect() as root:
            root.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy OWNER {} {}").format(
                    sql.Identifier(name),
                    sql.Identifier(template),
                    sql.Identifier(ADMIN),
                    sql.SQL("TABLESPACE small_disk" if on_disk else ""),
                )
            )
            root.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(sql.Identifier(name), sql.Identifier(OWNER)))
        with server.connect(name) as root:
            root.execute(f"GRANT CREATE ON SCHEMA public TO {OWNER}")

    # A disk that can be filled

    def _small_disk(self) -> Path | None:
        """A small file system with a tablespace of each server; None, with `disk_reason`, where this machine lets nobody mount."""
        disk = self.folder / "disk"
        disk.mkdir()
        if os.geteuid() != 0:
            self.disk_reason = "only root may mount a small file system"
            return None
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0755", "none", str(disk)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            self.disk_reason = f"mount: {done.stderr.strip()}"
            return None
        self._stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
        for server in self.servers:
            place = disk / server.folder.name
            place.mkdir()
            owner = server.data_path.stat()
            os.chown(place, owner.st_uid, owner.st_gid)
            with server.connect() as root:
                root.execute(sql.SQL("CREATE TABLESPACE small_disk OWNER {} LOCATION {}").format(sql.Identifier(ADMIN), sql.Literal(str(place))))
        # The servers go before the disk they write to.
        for server in self.servers:
            self._stack.callback(server.stop)
        return disk

    def server_with_small_log(self) -> tuple[Server, Path]:
        """A server whose write-ahead log lies on a disk that can be filled, and that disk; made once. Needs a `disk`."""
        if self._small_log is None:
            assert self.disk is not None
            server, disk = self._server("small-log"), self.folder / "log-disk"
            disk.mkdir()
            size = f"size={LOG_MB}m,mode=0755"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(disk)], capture_output=True, text=True, check=True)
            self._stack.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
            self._stack.callback(server.stop)
            with server.connect() as root:
                # A few segments, so that the disk has room for what an ordinary case writes.
                for setting in ("max_wal_size = '48MB'", "min_wal_size = '32MB'"):
                    root.execute(f"ALTER SYSTEM SET {setting}".encode())
            server.stop()
            log, owner = server.data_path / "pg_wal", server.data_path.stat()
            shutil.move(log, disk / "pg_wal")
            log.symlink_to(disk / "pg_wal")
            for path in (disk / "pg_wal", *(disk / "pg_wal").rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)
            server.start()
            self._small_log = server, disk
        return self._small_log


def _template(side: Side, place: str, cut_over: bool) -> str:
    return f"{side}_{place}_{'moved' if cut_over else 'copied'}"


def _move(places: dict[Side, tuple[str, int]], databases: dict[Side, str]) -> Move:
    ends = {side: Endpoint(*places[side], databases[side], ADMIN, PASSWORD, sslmode="disable") for side in SIDES}
    return Move("dev", ends["source"], ends["target"], OWNER, tuple(Name("public", table) for table in TABLES), workers=2)


def _name_side(server: Server, database: str, side: Side) -> None:
    """Lets a read of any kind tell which side answered it."""
    schema, view = SIDE_VIEW.split(".")
    with server.connect(database) as root:
        root.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        root.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO PUBLIC").format(sql.Identifier(schema)))
        root.execute(sql.SQL("CREATE VIEW {} AS SELECT {}::text AS name").format(sql.Identifier(schema, view), sql.Literal(side)))
        root.execute(sql.SQL("GRANT SELECT ON {} TO PUBLIC").format(sql.Identifier(schema, view)))


def _fill(move: Move) -> None:
    with psycopg.connect(move.source.conninfo(), autocommit=True) as connection:
        connection.execute(STRUCTURE.encode())
        connection.execute(ROWS.encode())
    with psycopg.connect(move.target.conninfo(), autocommit=True) as connection:
        connection.execute(f"SET ROLE {OWNER}")
        connection.execute(STRUCTURE.encode())
    copy_rows(move)
    with move.target.connect() as connection:
        Journal(connection, move.stack).open().append("copied", uuid.uuid4())


def _drop(server: Server, database: str) -> None:
    """Where a fault has just ended a server, it may still be recovering."""
    deadline = time.monotonic() + 60
    while True:
        try:
            server.start()
            with server.connect() as root:
                root.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            return
        except (ServerError, psycopg.OperationalError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
