"""Which connection to the origin does a client get, and what becomes of it afterwards?

As Cloudflare's documentation has it ("Rotate database credentials"): a change of the origin does not end the
connections there are; they are used on, and only new ones go to the new origin.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.cloudflare.cache import Cache
from sandbox.cloudflare.origin import Network, Origin, OriginConnection, OriginRefused, connect
from sandbox.cloudflare.wire import ProtocolError, ServerRefused

WAIT_SECONDS = 15.0
"""How long a client waits for a free connection."""

_RESET_SECONDS = 5.0


@dataclass(eq=False)
class Member:
    """A connection of the pool.

    idle_since: when its last client left; None while one holds it. old_until: how long it may be used on, once its
    origin is no longer the config's. give_back: asks the client that holds it to part with it, if it is between two
    transactions; says whether it did.
    """

    connection: OriginConnection
    idle_since: float | None = None
    old_until: float | None = None
    give_back: Callable[[], bool] | None = None
    watcher: asyncio.Task[None] | None = None

    @property
    def expired(self) -> bool:
        return self.old_until is not None and time.monotonic() >= self.old_until


class Pool:
    """The connections of one config. Everything here runs in one event loop.

    cache: the answers that are kept for its clients. limit: how many there may be. idle_seconds: how long an unused one
    is kept, and how long one to a former origin is used on after the change.
    """

    def __init__(self, origin: Origin, limit: int, idle_seconds: float, network: Network, cache: Cache) -> None:
        self.cache = cache
        self._origin = origin
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._network = network
        self._members: set[Member] = set()
        self._opening = 0
        self._waiting = 0
        self._changed = asyncio.Condition()
        self._keeper = asyncio.create_task(self._keep())

    def members(self) -> list[Member]:
        return list(self._members)

    def change(self, origin: Origin, limit: int) -> None:
        """From now on new connections go to `origin`; those there are stay for `idle_seconds`."""
        self._origin, self._limit = origin, limit
        for member in self._members:
            if member.connection.origin == origin:
                member.old_until = None
            elif member.old_until is None:
                member.old_until = time.monotonic() + self._idle_seconds

    async def acquire(self) -> Member:
        """An idle connection, one to a former origin first, or a new one. Raises OriginRefused, TimeoutError."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            while True:
                self._part_with_expired()
                if (member := self._take_idle()) is not None:
                    return member
                if len(self._members) + self._opening < self._limit:
                    self._opening += 1
                    break
                await self._wait_for_one()
        return await self._open()

    def wants(self, member: Member) -> bool:
        """Whether its client should give the connection back now that a transaction has ended."""
        return member.expired or self._waiting > 0

    async def release(self, member: Member, *, reusable: bool) -> None:
        """Takes a connection back: reset, it serves the next client; otherwise, or where that fails, it is closed."""
        member.give_back = None
        try:
            if reusable and member in self._members and not member.expired:
                async with asyncio.timeout(_RESET_SECONDS):
                    await member.connection.reset()
                member.idle_since = time.monotonic()
                member.watcher = asyncio.create_task(self._watch(member))
            else:
                self._drop(member)
        except (ServerRefused, ProtocolError, TimeoutError):
            self._drop(member)
        await self._tell()

    async def restart(self) -> None:
        """Lets go of every connection: the idle at once, the others at the end of their transactions."""
        for member in self.members():
            member.old_until = 0.0
        self._part_with_expired()
        await self._tell()

    async def close(self) -> None:
        self._keeper.cancel()
        for member in self.members():
            self._drop(member)

    def _take_idle(self) -> Member | None:
        idle = [member for member in self._members if member.idle_since is not None]
        if not idle:
            return None
        member = min(idle, key=_preference)
        member.idle_since = None
        if member.watcher is not None:
            member.watcher.cancel()
            member.watcher = None
        return member

    async def _wait_for_one(self) -> None:
        self._waiting += 1
        try:
            for member in self.members():
                if member.give_back is not None and member.give_back():
                    break
            await self._changed.wait()
        finally:
            self._waiting -= 1

    async def _open(self) -> Member:
        try:
            member = Member(await connect(self._origin, self._network))
            await self._learn(member)
            if member.connection.origin != self._origin:  # it was changed while the login was under way
                member.old_until = time.monotonic() + self._idle_seconds
            self._members.add(member)
            return member
        finally:
            self._opening -= 1
            await self._tell()

    async def _learn(self, member: Member) -> None:
        try:
            await self.cache.learn(member.connection)
        except ProtocolError:
            member.connection.close()
            raise OriginRefused(2010, "The connection to the database was lost.") from None

    async def _watch(self, member: Member) -> None:
        """Notices the end of an idle connection: a server that was stopped, or a session that was terminated."""
        with contextlib.suppress(ProtocolError):
            while (await member.connection.wire.receive()).kind != b"E":
                pass
        self._drop(member)
        await self._tell()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 4))
            self._part_with_expired()
            for member in self.members():
                if member.idle_since is not None and time.monotonic() - member.idle_since > self._idle_seconds:
                    self._drop(member)
            await self._tell()

    def _part_with_expired(self) -> None:
        for member in self.members():
            if member.expired and member.idle_since is not None:
                self._drop(member)
            elif member.expired and member.give_back is not None:
                member.give_back()

    def _drop(self, member: Member) -> None:
        self._members.discard(member)
        member.connection.close()
        if member.watcher is not None and member.watcher is not asyncio.current_task():
            member.watcher.cancel()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _preference(member: Member) -> tuple[bool, float]:
    """Former origins first, then what was used last."""
    return member.old_until is None, -(member.idle_since or 0.0)
