"""What does a client of Hyperdrive see? One connection of PostgreSQL's protocol, whatever stands behind it.

A client keeps the origin connection it was given until it leaves, or until somebody else needs it, or until the pool
parts with it: then it is taken away between two transactions, and the client gets another with its next request,
as in the transaction mode that Hyperdrive documents. Prepared statements follow the client; what it SET does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import secrets
import struct
import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from sandbox.cloudflare.cache import LARGEST_ANSWER, Key
from sandbox.cloudflare.origin import OriginRefused
from sandbox.cloudflare.pool import Member, Pool
from sandbox.cloudflare.wire import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    PROTOCOL_3_0,
    SSL_REQUEST,
    Message,
    ProtocolError,
    ServerRefused,
    Wire,
    error_response,
    receive_until_ready,
)

_BEGINS_A_REQUEST = (b"Q", b"S", b"F")
_ENDS_A_COPY = (b"c", b"f")
_NEEDS_A_SYNC = (b"P", b"B", b"D", b"E", b"C", b"H")
_SYNC = Message(b"S")
_AUTHENTICATED = Message(b"R", struct.pack("!i", 0))
_ASK_FOR_PASSWORD = Message(b"R", struct.pack("!i", 3))
_READY = Message(b"Z", b"I")

_WAITS_FOR_ITS_SYNC = (b"P", b"B", b"D", b"E", b"C")
_TOLD_AT_ANY_TIME = (b"N", b"S", b"A")
# Of a simple query, or of a Parse after its statement's name.
_SETS = re.compile(rb"(?:[^\0]*\0)?\s*(?:set|reset)\b", re.IGNORECASE)

Sessions = MutableMapping[bytes, "ClientSession"]
"""The clients of all pools by the key with which they may cancel."""


@dataclass
class _Asked:
    """A query that the cache may keep the answer to, sent at `at` on the monotonic clock."""

    key: Key
    at: float
    answer: bytearray = field(default_factory=bytearray)


class ClientSession:
    """One client, from its first byte to its last. One that has settings of its own is given no kept answers."""

    def __init__(self, client: Wire, pool: Pool, password: str, sessions: Sessions) -> None:
        self._client = client
        self._pool = pool
        self._password = password
        self._sessions = sessions
        self._key = secrets.token_bytes(8)
        self._member: Member | None = None
        self._answers: asyncio.Task[None] | None = None
        self._releases: set[asyncio.Task[None]] = set()
        self._ended = False
        self._unanswered = 0
        self._unsynced = False
        self._copying = False
        self._last_request = b""
        self._prepared: dict[bytes, Message] = {}
        self._asked: _Asked | None = None
        self._has_settings = False

    async def run(self) -> None:
        """Serves the client until it leaves or the origin ends the connection under it."""
        try:
            if await self._let_in():
                self._sessions[self._key] = self
                await self._greet()
                await self._pass_requests_on()
        except OriginRefused as error:
            await self._say_goodbye(error.sqlstate, f"Failed to connect to the provided database: {error.message}")
        except TimeoutError:
            await self._say_goodbye("58000", "Timed out while waiting for an open slot in the pool.")
        except ProtocolError:
            pass  # the client, or the origin under it, is gone: there is nobody to tell
        finally:
            self._sessions.pop(self._key, None)
            self._part(reusable=self._waits_for_nothing)
            self._client.close()

    async def cancel(self) -> None:
        """Ends what the client runs at the moment."""
        if self._member is not None:
            with contextlib.suppress(OriginRefused, ProtocolError):
                await self._member.connection.cancel()

    # Letting in

    async def _let_in(self) -> bool:
        while True:
            packet = await self._client.receive_startup()
            (code,) = struct.unpack("!i", packet[:4])
            if code in (SSL_REQUEST, GSS_REQUEST):
                await self._client.send_bytes(b"N")
            elif code == CANCEL_REQUEST:
                if (session := self._sessions.get(packet[4:12])) is not None:
                    await session.cancel()
                return False
            elif code >> 16 == PROTOCOL_3_0 >> 16:
                return await self._ask_for_password(code)
            else:
                raise ProtocolError("this is not version 3 of the protocol")

    async def _ask_for_password(self, version: int) -> bool:
        if version != PROTOCOL_3_0:
            await self._client.send(Message(b"v", struct.pack("!ii", PROTOCOL_3_0, 0)))
        await self._client.send(_ASK_FOR_PASSWORD)
        answer = await self._client.receive()
        if answer.kind == b"p" and hmac.compare_digest(answer.body.rstrip(b"\0"), self._password.encode()):
            return True
        await self._say_goodbye("28P01", "Invalid password for the connection string of this Hyperdrive config.")
        return False

    async def _greet(self) -> None:
        member = await self._attach()
        key = Message(b"K", self._key)
        await self._client.send(_AUTHENTICATED, *member.connection.greeting, key, _READY)

    # Requests and answers

    @property
    def _waits_for_nothing(self) -> bool:
        return self._unanswered == 0 and not self._unsynced

    async def _pass_requests_on(self) -> None:
        request: list[Message] = []
        while (message := await self._client.receive()).kind != b"X":
            if self._ended:  # it belongs to a transaction that died: on another connection it would be run alone
                return
            request.append(message)
            if message.kind in _WAITS_FOR_ITS_SYNC:
                continue
            kept = self._kept_answer(request)
            if kept is None:
                await self._pass_on(request)
            else:
                await self._client.send_bytes(kept)
            request = []

    def _kept_answer(self, request: list[Message]) -> bytes | None:
        """The answer that the cache has for a request; where it has none yet, the origin's will be kept."""
        if not self._waits_for_nothing or (self._member is not None and self._member.connection.status != b"I"):
            return None
        self._asked = None
        self._has_settings = self._has_settings or any(_SETS.match(message.body) for message in request if message.kind in (b"Q", b"P"))
        key = None if self._has_settings else self._pool.cache.key(request, self._prepared)
        if key is None:
            return None
        answer = self._pool.cache.find(key)
        if answer is None:
            self._asked = _Asked(key, time.monotonic())
        return answer

    async def _pass_on(self, request: list[Message]) -> None:
        member = self._member or await self._attach()
        for message in request:
            self._note(message)
        try:
            await member.connection.wire.send(*request)
        except ProtocolError:
            if self._answers is not None:
                await self._answers  # it passes the server's last words on
            raise

    def _note(self, message: Message) -> None:
        """Keeps count of the answers that are due; the server ignores a Sync while it reads the rows of a COPY."""
        if message.kind in _ENDS_A_COPY:
            self._copying = False
        if message.kind == b"S" and self._copying:
            return
        if message.kind in _BEGINS_A_REQUEST:
            self._unanswered += 1
            self._last_request = message.kind
        if message.kind == b"S":
            self._unsynced = False
        elif message.kind in _NEEDS_A_SYNC:
            self._unsynced = True
        name = message.body.partition(b"\0")[0]
        if message.kind == b"P" and name:
            self._prepared[name] = message
        elif message.kind == b"C" and name.startswith(b"S"):
            self._prepared.pop(name[1:], None)

    async def _pass_answers_on(self, member: Member) -> None:
        """Until the connection is given back, or ended by the server."""
        try:
            while True:
                message = await member.connection.wire.receive()
                self._note_answer(member, message)
                if self._is_free_of(member) and message.kind == b"E":
                    break  # a session ended between two transactions: the client gets another one
                await self._client.send(message)
                if self._pool.wants(member) and self._is_free_of(member):
                    self._part(reusable=True)
                    return
        except ProtocolError:
            pass
        was_free = self._is_free_of(member)
        self._part(reusable=False)
        if not was_free:
            self._ended = True
            self._client.close()

    def _keep_answer(self, message: Message) -> None:
        """Gathers the origin's answer to a query that the cache may keep, and has it kept once it is whole."""
        if self._asked is None or message.kind in _TOLD_AT_ANY_TIME:
            return
        self._asked.answer += message.encoded()
        if message.kind == b"E" or len(self._asked.answer) > LARGEST_ANSWER:
            self._asked = None
        elif message.kind == b"Z":
            if message.body == b"I":
                self._pool.cache.keep(self._asked.key, bytes(self._asked.answer), self._asked.at)
            self._asked = None

    def _note_answer(self, member: Member, message: Message) -> None:
        self._keep_answer(message)
        if message.kind == b"Z":
            self._unanswered -= 1
            member.connection.status = message.body
        elif message.kind == b"E":
            self._copying = False
        elif message.kind == b"G":
            self._copying = True
            if self._last_request == b"S" and not self._unsynced:  # its Sync is the one the server ignores
                self._unanswered -= 1
                self._unsynced = True

    def _is_free_of(self, member: Member) -> bool:
        return self._waits_for_nothing and member.connection.status == b"I"

    # The origin connection

    async def _attach(self) -> Member:
        member = await self._pool.acquire()
        try:
            for statement in self._prepared.values():
                await member.connection.wire.send(statement, _SYNC)
                with contextlib.suppress(ServerRefused):  # it failed when the client sent it, too
                    await receive_until_ready(member.connection.wire)
        except BaseException:
            await self._pool.release(member, reusable=False)
            raise
        self._member = member
        member.give_back = self._give_back
        self._answers = asyncio.create_task(self._pass_answers_on(member))
        return member

    def _give_back(self) -> bool:
        if self._member is None or not self._is_free_of(self._member):
            return False
        self._part(reusable=True)
        return True

    def _part(self, *, reusable: bool) -> None:
        if self._member is None:
            return
        member, self._member = self._member, None
        if self._answers is not None and self._answers is not asyncio.current_task():
            self._answers.cancel()
        release = asyncio.create_task(self._pool.release(member, reusable=reusable))
        self._releases.add(release)  # the loop itself holds tasks weakly
        release.add_done_callback(self._releases.discard)

    async def _say_goodbye(self, sqlstate: str, text: str) -> None:
        with contextlib.suppress(ProtocolError):
            await self._client.send(error_response(sqlstate, text))
