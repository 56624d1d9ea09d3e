"""Where do clients connect? A port of the loopback address for each config, which behaves as its Hyperdrive does.

One thing the real service has is missing: a query that runs for a minute is not ended.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sandbox.cloudflare import origin as origins
from sandbox.cloudflare.cache import Cache, Given
from sandbox.cloudflare.origin import Network, Origin
from sandbox.cloudflare.pool import Pool
from sandbox.cloudflare.session import ClientSession, Sessions
from sandbox.cloudflare.wire import Wire

T = TypeVar("T")

DEFAULT_LIMIT = 60
"""Connections of a config that sets no limit: that of a paid plan."""


@dataclass(frozen=True)
class Serving:
    """What of a config concerns its clients."""

    origin: Origin
    limit: int
    caching: Mapping[str, Any]


@dataclass
class _Door:
    server: asyncio.Server
    pool: Pool
    clients: set[asyncio.Task[None]]


@dataclass(frozen=True)
class PooledConnection:
    """What `DataPath.connections` tells: the origin's database, the backend's process ID, whether a client holds it."""

    database: str
    process: int
    in_use: bool
    former_origin: bool


class DataPath:
    """The pools of all configs, in an event loop of their own thread. Its methods may be called from any thread."""

    def __init__(self, network: Network, idle_seconds: float, cache_speed: float) -> None:
        self._network = network
        self._idle_seconds = idle_seconds
        self._cache_speed = cache_speed
        self._doors: dict[str, _Door] = {}
        self._sessions: Sessions = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hyperdrive", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends every client and every origin connection."""
        for config_id in list(self._doors):
            self.close(config_id)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def check(self, origin: Origin) -> None:
        """Tries an origin as Hyperdrive does before it accepts it. Raises OriginRefused."""
        self._do(origins.check(origin, self._network))

    def open(self, config_id: str, serving: Serving, password: str, port: int) -> int:
        """Begins to serve a config on `port`, or on a free one where that is 0 or taken; gives the port."""
        return self._do(self._open(config_id, serving, password, port))

    def change(self, config_id: str, serving: Serving) -> None:
        """New connections go to the new origin from now on; pooled ones are used on, kept answers given on."""

        async def change() -> None:
            pool = self._doors[config_id].pool
            pool.cache.configure(serving.caching)
            pool.change(serving.origin, serving.limit)

        self._do(change())

    def restart(self, config_id: str) -> None:
        """Drains the pool: no transaction that begins after this runs on a connection from before it."""
        self._do(self._doors[config_id].pool.restart())

    def stall(self, *pauses: float) -> None:
        """Passes nothing on for so many seconds, with one look at what has arrived between two pauses. Returns at once."""

        def pause(*left: float) -> None:
            if left[1:]:
                self._loop.call_soon(pause, *left[1:])
            time.sleep(left[0])

        self._loop.call_soon_threadsafe(pause, *pauses)

    def connections(self, config_id: str) -> list[PooledConnection]:
        async def look() -> list[PooledConnection]:
            return [
                PooledConnection(
                    member.connection.origin.database,
                    member.connection.process,
                    member.idle_since is None,
                    member.old_until is not None,
                )
                for member in self._doors[config_id].pool.members()
            ]

        return self._do(look())

    def cached(self, config_id: str) -> int:
        """How many answers a config's cache keeps."""
        return self._doors[config_id].pool.cache.kept()

    def given(self, config_id: str) -> list[Given]:
        """The kept answers that a config's clients were given."""
        return self._doors[config_id].pool.cache.given()

    def close(self, config_id: str) -> None:
        """Stops serving a config and ends its clients."""
        door = self._doors.pop(config_id, None)
        if door is not None:
            self._do(self._close(door))

    async def _open(self, config_id: str, serving: Serving, password: str, port: int) -> int:
        cache = Cache(self._cache_speed)
        cache.configure(serving.caching)
        pool = Pool(serving.origin, serving.limit, self._idle_seconds, self._network, cache)
        clients: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            clients.add(task)
            try:
                await ClientSession(Wire(reader, writer), pool, password, self._sessions).run()
            except asyncio.CancelledError:
                pass  # the config is being closed; asyncio's own streams would log it as an error
            finally:
                clients.discard(task)

        try:
            server = await asyncio.start_server(serve, "127.0.0.1", port)
        except OSError:
            if port == 0:
                raise
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._doors[config_id] = _Door(server, pool, clients)
        return int(server.sockets[0].getsockname()[1])

    async def _close(self, door: _Door) -> None:
        door.server.close()
        clients = list(door.clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await door.pool.close()
        await asyncio.sleep(0)  # transports close with the next turn of the loop

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
