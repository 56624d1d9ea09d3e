"""PostgreSQL's frontend/backend protocol, version 3, as far as a pooler has to speak it.

From the manual's chapter "Frontend/Backend Protocol" and RFC 5802/7677 (SCRAM-SHA-256). Messages are passed on as they
are; only logging in, and what marks the end of a request, is understood.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import stringprep
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

PROTOCOL_3_0 = 196_608
SSL_REQUEST = 80_877_103
GSS_REQUEST = 80_877_104
CANCEL_REQUEST = 80_877_102

_LARGEST_STARTUP_PACKET = 10_000


class ProtocolError(Exception):
    """The other side broke the protocol, or ended the connection inside a message."""


@dataclass(frozen=True)
class Message:
    """One message: its type, a byte, and its body without the length."""

    kind: bytes
    body: bytes = b""

    def encoded(self) -> bytes:
        return self.kind + struct.pack("!i", len(self.body) + 4) + self.body


class Wire:
    """One connection of messages.

    `receive` may be cancelled and called again without losing its place; of two callers the second waits for the first.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._header: bytes | None = None
        self._receiving = asyncio.Lock()  # a reader that was cancelled leaves only with the loop's next turn

    async def receive(self) -> Message:
        """The next message. Raises ProtocolError when the connection has ended."""
        async with self._receiving:
            try:
                if self._header is None:
                    self._header = await self._reader.readexactly(5)
                body = await self._reader.readexactly(struct.unpack("!i", self._header[1:])[0] - 4)
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                raise ProtocolError("the connection was ended") from error
            kind, self._header = self._header[:1], None
            return Message(kind, body)

    async def receive_startup(self) -> bytes:
        """The body of a packet that has no type: startup, TLS, GSS and cancel requests. Raises ProtocolError."""
        try:
            (length,) = struct.unpack("!i", await self._reader.readexactly(4))
            if not 8 <= length <= _LARGEST_STARTUP_PACKET:
                raise ProtocolError("this is no startup packet of PostgreSQL")
            return await self._reader.readexactly(length - 4)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ProtocolError("the connection was ended") from error

    async def send(self, *messages: Message) -> None:
        """Raises ProtocolError when the connection has ended."""
        await self.send_bytes(b"".join(message.encoded() for message in messages))

    async def send_bytes(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise ProtocolError("the connection was ended") from error

    def close(self) -> None:
        self._writer.close()


class ServerRefused(Exception):
    """The server answered a login or a query with an error.

    sqlstate: its five characters. message: the server's text, which names users and databases, never passwords.
    """

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message


def refusal(message: Message) -> ServerRefused:
    """What an ErrorResponse says."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in message.body.split(b"\0") if part}
    return ServerRefused(fields.get(b"C", "XX000"), fields.get(b"M", "an error without a text"))


def error_response(sqlstate: str, text: str) -> Message:
    """A FATAL ErrorResponse."""
    fields = (b"SFATAL", b"VFATAL", b"C" + sqlstate.encode(), b"M" + text.encode())
    return Message(b"E", b"\0".join(fields) + b"\0\0")


def query(text: str) -> Message:
    return Message(b"Q", text.encode() + b"\0")


def startup_packet(parameters: Mapping[str, str]) -> bytes:
    body = struct.pack("!i", PROTOCOL_3_0)
    body += b"".join(part.encode() + b"\0" for pair in parameters.items() for part in pair) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def request_packet(code: int, payload: bytes = b"") -> bytes:
    """A packet without a type: `SSL_REQUEST`, or `CANCEL_REQUEST` with the key of the session to cancel."""
    return struct.pack("!ii", len(payload) + 8, code) + payload


async def authenticate(wire: Wire, user: str, password: str) -> list[Message]:
    """Answers the server's demands until it is ready for a query; gives the messages it sent after it let us in.

    Raises ServerRefused, or ProtocolError where it asks for a method other than a password (plain, MD5, SCRAM-SHA-256).
    """
    scram = _Scram(password)
    while (message := await wire.receive()).kind == b"R":
        (method,) = struct.unpack("!i", message.body[:4])
        if method == 0:
            return await receive_until_ready(wire)
        answer = _answer(method, message.body[4:], user, password, scram)
        if answer is not None:
            await wire.send(Message(b"p", answer))
    if message.kind == b"E":
        raise refusal(message)
    raise ProtocolError("the server does not log in as PostgreSQL does")


async def receive_until_ready(wire: Wire) -> list[Message]:
    """All messages up to and including ReadyForQuery. Raises ServerRefused after an error, ProtocolError."""
    received: list[Message] = []
    error: ServerRefused | None = None
    while not received or received[-1].kind != b"Z":
        received.append(await wire.receive())
        if received[-1].kind == b"E":
            error = refusal(received[-1])
            if b"FATAL\0" in received[-1].body:
                raise error
    if error is not None:
        raise error
    return received


def _answer(method: int, data: bytes, user: str, password: str, scram: _Scram) -> bytes | None:
    match method:
        case 3:
            return password.encode() + b"\0"
        case 5:
            inner = hashlib.md5(password.encode() + user.encode(), usedforsecurity=False).hexdigest()
            return b"md5" + hashlib.md5(inner.encode() + data[:4], usedforsecurity=False).hexdigest().encode() + b"\0"
        case 10:
            if b"SCRAM-SHA-256" not in data.split(b"\0"):
                raise ProtocolError("the server offers no SCRAM-SHA-256")
            first = scram.first()
            return b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first
        case 11:
            return scram.final(data)
        case 12:
            scram.verify(data)
            return None
    raise ProtocolError(f"the server asks for authentication method {method}, which is not a password")


class _Scram:
    """The client's side of SCRAM-SHA-256 without channel binding."""

    def __init__(self, password: str) -> None:
        self._password = _saslprep(password).encode()
        self._bare = b"n=,r=" + base64.b64encode(secrets.token_bytes(18))
        self._signature = b""

    def first(self) -> bytes:
        return b"n,," + self._bare

    def final(self, server_first: bytes) -> bytes:
        fields = {part[:1]: part[2:] for part in server_first.split(b",")}
        if not fields[b"r"].startswith(self._bare.removeprefix(b"n=,r=")):
            raise ProtocolError("the server answered another login than ours")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=biws,r=" + fields[b"r"]
        signed = b",".join((self._bare, server_first, without_proof))
        proof = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return without_proof + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(client_key, proof, strict=True)))

    def verify(self, server_final: bytes) -> None:
        if not hmac.compare_digest(server_final, b"v=" + base64.b64encode(self._signature)):
            raise ProtocolError("the server does not know the password itself")


def _saslprep(password: str) -> str:
    """SASLprep's mapping (RFC 4013, 2.1 and 2.2), as PostgreSQL applies it to passwords beyond ASCII."""
    kept = (" " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c))
    return unicodedata.normalize("NFKC", "".join(kept))
