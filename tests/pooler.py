"""A pooler in front of a server, as pgbouncer is one: on any port, in transaction mode or in session mode."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, Literal, TypeVar

from clarity_infra.connection import Endpoint
from sandbox.cloudflare.wire import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    SSL_REQUEST,
    Message,
    ProtocolError,
    Wire,
    authenticate,
    startup_packet,
)

T = TypeVar("T")
Mode = Literal["transaction", "round robin", "session"]
"""`transaction`: a server process is given back at the end of each transaction, and the one used last is handed out first; `round
robin`: the one idle for longest is (pgbouncer's `server_round_robin`). `session`: a client keeps its process until it leaves."""

_ENDS_A_REQUEST = (b"Q", b"S", b"c", b"f")
_READY = b"Z"
_WANTS_ROWS = b"G"


class _Pooler:
    def __init__(self, behind: Endpoint, mode: Mode) -> None:
        self._behind = behind
        self._mode = mode
        self._idle: list[Wire] = []
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self, server: asyncio.Server) -> None:
        server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        for process in self._idle:
            process.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        client = Wire(reader, writer)
        with contextlib.suppress(asyncio.CancelledError, ProtocolError):
            if await self._let_in(client):
                await self._pass_on(client)
        client.close()
        self._clients.discard(task)

    async def _let_in(self, client: Wire) -> bool:
        """Everybody; the key for cancelling is the pooler's own, as pgbouncer's is."""
        while True:
            (code,) = struct.unpack("!i", (await client.receive_startup())[:4])
            if code in (SSL_REQUEST, GSS_REQUEST):
                await client.send_bytes(b"N")
            elif code == CANCEL_REQUEST:
                return False
            else:
                break
        process, greeting = await self._log_in()
        self._idle.append(process)
        await client.send(Message(b"R", struct.pack("!i", 0)), *greeting, Message(b"K", struct.pack("!ii", 1, 2)), Message(_READY, b"I"))
        return True

    async def _log_in(self) -> tuple[Wire, list[Message]]:
        wire = Wire(*await asyncio.open_connection(self._behind.host, self._behind.port))
        await wire.send_bytes(startup_packet({"user": self._behind.user, "database": self._behind.database, "client_encoding": "UTF8"}))
        told = await authenticate(wire, self._behind.user, self._behind.password)
        return wire, [message for message in told if message.kind == b"S"]

    async def _pass_on(self, client: Wire) -> None:
        process: Wire | None = None
        try:
            while (message := await client.receive()).kind != b"X":
                process = process or await self._take()
                await process.send(message)
                if message.kind in _ENDS_A_REQUEST and await self._answer(client, process) and self._mode != "session":
                    self._idle.append(process)
                    process = None
        finally:
            if process is not None:
                process.close()

    async def _take(self) -> Wire:
        if not self._idle:
            return (await self._log_in())[0]
        return self._idle.pop(0 if self._mode == "round robin" else -1)

    async def _answer(self, client: Wire, process: Wire) -> bool:
        """Passes the answer on; whether the transaction is over with it."""
        while True:
            message = await process.receive()
            await client.send(message)
            if message.kind == _READY:
                return message.body == b"I"
            if message.kind == _WANTS_ROWS:
                return False


@contextlib.contextmanager
def pooler(behind: Endpoint, mode: Mode) -> Iterator[Endpoint]:
    """The same database by way of a pooler, for the time of the context."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    pool = _Pooler(behind, mode)
    server = do(pool.start())
    try:
        port = int(server.sockets[0].getsockname()[1])
        yield Endpoint(behind.host, port, behind.database, behind.user, behind.password, sslmode="disable")
    finally:
        do(pool.stop(server))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
