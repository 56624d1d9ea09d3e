"""Can the origin database be reached, and with what error code does Hyperdrive refuse it otherwise?

The codes 2008 to 2016 are those of Cloudflare's documentation, "Hyperdrive: troubleshoot and debug". Two things are
relaxed here, and only for hosts of the loopback network (and of private ones, where that is asked for): such an
address counts as public, and TLS, which Hyperdrive demands of every origin, may be missing there as long as no
certificate authority is configured.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import tempfile
from dataclasses import dataclass, field

from sandbox.cloudflare.wire import (
    CANCEL_REQUEST,
    SSL_REQUEST,
    Message,
    ProtocolError,
    ServerRefused,
    Wire,
    authenticate,
    query,
    receive_until_ready,
    request_packet,
    startup_packet,
)

CONNECT_SECONDS = 15.0
"""Hyperdrive's own limit for a connection to an origin (documentation, "Limits")."""

APPLICATION_NAME = "Cloudflare Hyperdrive"
"""What the origin's pg_stat_activity shows."""


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OriginRefused(Exception):
    """The origin cannot be used. code: Hyperdrive's number. sqlstate: the server's answer, where it gave one."""

    def __init__(self, code: int, message: str, sqlstate: str = "58000") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Tunnel:
    """Where a host behind Access leads, and the service token that it lets in."""

    client_id: str
    client_secret: str = field(repr=False)
    place: tuple[str, int]


@dataclass
class Network:
    """What lies between the service and its origins.

    private_origins: whether addresses of private networks are taken as those of the loopback network are.
    refuse_origins: whether every new connection fails, as if a firewall stood before it. tunnels: the hosts behind Cloudflare
    Access by name. services: the Workers VPC services by ID, each a host and a port.
    """

    private_origins: bool = False
    refuse_origins: bool = False
    tunnels: dict[str, Tunnel] = field(default_factory=dict)
    services: dict[str, tuple[str, int]] = field(default_factory=dict)

    def is_near(self, address: Address) -> bool:
        return address.is_loopback or (self.private_origins and address.is_private)


@dataclass(frozen=True)
class Tls:
    """How the origin's certificate is checked. `authority` and `client` (certificate and key) are PEM texts."""

    mode: str = "require"
    authority: str | None = None
    client: str | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.authority)
        context.check_hostname = self.mode == "verify-full"
        context.verify_mode = ssl.CERT_NONE if self.mode == "require" else ssl.CERT_REQUIRED
        if self.client is not None:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl takes a client's key from a file only
                file.write(self.client)
                file.flush()
                context.load_cert_chain(file.name)
        return context


@dataclass(frozen=True)
class Origin:
    """Where a config's database is, and as whom to log in. Two that are equal are the same origin to a pool.

    Behind Access the host has no port, by a Workers VPC service there is neither.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    tls: Tls = Tls()
    access_client_id: str = ""
    access_client_secret: str = field(default="", repr=False)
    service_id: str = ""


class OriginConnection:
    """A logged-in session on the origin.

    greeting: the ParameterStatus messages a client has to be told. process: the backend's process ID.
    """

    def __init__(self, origin: Origin, network: Network, wire: Wire, login: list[Message]) -> None:
        self.origin = origin
        self._network = network
        self.wire = wire
        self.greeting = [message for message in login if message.kind == b"S"]
        self._key = next(message.body for message in login if message.kind == b"K")
        self.status = b"I"

    @property
    def process(self) -> int:
        return int.from_bytes(self._key[:4], "big")

    async def run(self, text: str) -> None:
        """Sends a simple query and waits for its end. Raises ServerRefused, ProtocolError."""
        await self.wire.send(query(text))
        self.status = (await receive_until_ready(self.wire))[-1].body

    async def ask(self, text: str) -> list[Message]:
        """Sends a simple query and gives the messages of its answer. Raises ServerRefused, ProtocolError."""
        await self.wire.send(query(text))
        return await receive_until_ready(self.wire)

    async def reset(self) -> None:
        """Makes the session as it was after its login. Raises ServerRefused, ProtocolError."""
        if self.status != b"I":
            await self.run("ROLLBACK")
        await self.run("DISCARD ALL")

    async def cancel(self) -> None:
        """Asks the server to end what the session runs at the moment."""
        wire = await _open(self.origin, self._network)
        await wire.send_bytes(request_packet(CANCEL_REQUEST, self._key))
        wire.close()

    def close(self) -> None:
        self.wire.close()


async def connect(origin: Origin, network: Network) -> OriginConnection:
    """Logs in. Raises OriginRefused."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await _log_in(origin, network)
    except TimeoutError:
        raise OriginRefused(2010, f"Cannot connect to {origin.host}:{origin.port}: no answer.") from None


async def check(origin: Origin, network: Network) -> None:
    """What Hyperdrive does before it accepts an origin: logs in and sends the empty query. Raises OriginRefused."""
    connection = await connect(origin, network)
    try:
        await connection.run(";")
    except (ServerRefused, ProtocolError) as error:
        raise OriginRefused(2016, f"The test query failed: {error}.") from None
    finally:
        connection.close()


async def _log_in(origin: Origin, network: Network) -> OriginConnection:
    wire = await _open(origin, network)
    try:
        parameters = {"user": origin.user, "database": origin.database, "application_name": APPLICATION_NAME}
        await wire.send_bytes(startup_packet({**parameters, "client_encoding": "UTF8"}))
        return OriginConnection(origin, network, wire, await authenticate(wire, origin.user, origin.password))
    except ServerRefused as error:
        wire.close()
        raise OriginRefused(_code(error.sqlstate), f"{_text(error.sqlstate)}: {error}.", error.sqlstate) from None
    except BaseException as error:
        wire.close()
        if isinstance(error, ProtocolError):
            raise OriginRefused(2015, f"The database did not complete the login: {error}.") from None
        raise


def _code(sqlstate: str) -> int:
    return {"28P01": 2013, "28000": 2013, "3D000": 2014}.get(sqlstate, 2015)


def _text(sqlstate: str) -> str:
    texts = {2013: "Invalid database credentials", 2014: "The database does not exist"}
    return texts.get(_code(sqlstate), "The database refused the connection")


async def _open(origin: Origin, network: Network) -> Wire:
    """A connection on which nothing was said but about TLS. Raises OriginRefused."""
    if network.refuse_origins:
        raise OriginRefused(2011, "Connection refused: the stand-in was told to refuse origins.")
    connected, is_near = await _reach(_place(origin, network), network)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(connected, request_packet(SSL_REQUEST))
        offers_tls = await loop.sock_recv(connected, 1) == b"S"
        if not offers_tls and not (is_near and origin.tls.mode == "require"):
            raise OriginRefused(2012, f"TLS (SSL) is not supported by the database at {origin.host}:{origin.port}.")
        streams = await asyncio.open_connection(
            sock=connected,
            ssl=origin.tls.context() if offers_tls else None,
            server_hostname=(origin.host or origin.service_id) if offers_tls else None,
        )
        return Wire(*streams)
    except ssl.SSLError as error:
        connected.close()
        raise OriginRefused(2012, f"TLS with {origin.host}:{origin.port} failed: {error.reason}.") from None
    except OSError as error:
        connected.close()
        raise OriginRefused(2010, f"Cannot connect to {origin.host}:{origin.port}: {error.strerror}.") from None
    except BaseException:
        connected.close()
        raise


def _place(origin: Origin, network: Network) -> tuple[str, int]:
    """The host and port behind the way to an origin. Raises OriginRefused."""
    if origin.service_id:
        if origin.service_id not in network.services:
            raise OriginRefused(2010, f"Cannot connect: there is no Workers VPC service {origin.service_id}.")
        return network.services[origin.service_id]
    if not origin.access_client_id:
        return origin.host, origin.port
    tunnel = network.tunnels.get(origin.host)
    if tunnel is None or (tunnel.client_id, tunnel.client_secret) != (origin.access_client_id, origin.access_client_secret):
        raise OriginRefused(2010, f"Cannot connect to {origin.host}: Cloudflare Access does not let this client in.")
    return tunnel.place


async def _reach(place: tuple[str, int], network: Network) -> tuple[socket.socket, bool]:
    """A TCP connection, and whether it is one to a near network. Raises OriginRefused."""
    loop = asyncio.get_running_loop()
    host, port = place
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise OriginRefused(2008, f"Bad hostname: {host} cannot be resolved.") from None
    refusal = OriginRefused(2010, f"Cannot connect to {host}:{port}.")
    for family, kind, protocol, _, resolved in found:
        address = ipaddress.ip_address(str(resolved[0]).split("%", maxsplit=1)[0])
        is_near = network.is_near(address)
        if not (address.is_global or is_near):
            refusal = OriginRefused(2009, f"{host} is not a public IP address.")
            continue
        candidate = socket.socket(family, kind, protocol)
        candidate.setblocking(False)
        try:
            await loop.sock_connect(candidate, resolved)
            return candidate, is_near
        except ConnectionRefusedError:
            refusal = OriginRefused(2011, f"Connection refused by {host}:{port}.")
        except OSError as error:
            refusal = OriginRefused(2010, f"Cannot connect to {host}:{port}: {error.strerror}.")
        except BaseException:
            candidate.close()
            raise
        candidate.close()
    raise refusal
