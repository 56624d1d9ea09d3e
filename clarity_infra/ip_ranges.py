"""From which addresses does Cloudflare connect, how are they let in, and can the server be seen to let in others?

Hyperdrive connects from Cloudflare's published ranges. https://developers.cloudflare.com/hyperdrive/configuration/firewall-and-networking-configuration/
They are asked of the API (GET /ips); where that does not answer, the list below serves, and it is said that it did.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from typing import Any

import cloudflare
import psycopg

from clarity_infra.cloudflare_client import impatient_client
from clarity_infra.connection import Endpoint
from clarity_infra.move.queries import query

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PINNED_ON = "2026-02-11"
"""The day on which `PINNED` was what https://www.cloudflare.com/ips/ said."""

PINNED = (
    *("173.245.48.0/20", "103.21.244.0/22", "103.22.200.0/22", "103.31.4.0/22", "141.101.64.0/18", "108.162.192.0/18"),
    *("190.93.240.0/20", "188.114.96.0/20", "197.234.240.0/22", "198.41.128.0/17", "162.158.0.0/15", "104.16.0.0/13"),
    *("104.24.0.0/14", "172.64.0.0/13", "131.0.72.0/22"),
    *("2400:cb00::/32", "2606:4700::/32", "2803:f800::/32", "2405:b500::/32", "2405:8100::/32", "2a06:98c0::/29", "2c0f:f248::/32"),
)

# Names that pg_hba.conf takes as they are; in quotes every other one loses its special meaning too.
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_KEYWORDS = ("all", "sameuser", "samerole", "samegroup", "replication")
_EVERYBODY: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@dataclasses.dataclass(frozen=True)
class Ranges:
    """Cloudflare's address ranges in CIDR notation, IPv4 first, and where they are from."""

    cidrs: tuple[str, ...]
    source: str

    def hba_lines(self, database: str, *users: str) -> list[str]:
        """Lines for pg_hba.conf that let `users` into `database` from these ranges, over TLS and with a SCRAM password only."""
        names = f"{_hba_name(database)} {','.join(map(_hba_name, users))}"
        return [f"hostssl {names} {cidr} scram-sha-256" for cidr in self.cidrs]


def published(token: str, base_url: str | None, *, patience: float) -> Ranges:
    """The ranges as the API tells them within `patience` seconds; else the pinned ones, with the day they are from."""
    pinned = Ranges(PINNED, f"a list of {PINNED_ON}, as Cloudflare did not tell the present one")
    try:
        found = impatient_client(token, base_url, patience=patience).ips.list()
    except cloudflare.CloudflareError:
        return pinned
    told = (*(getattr(found, "ipv4_cidrs", None) or ()), *(getattr(found, "ipv6_cidrs", None) or ()))
    try:
        networks = [str(ipaddress.ip_network(cidr)) for cidr in told]
    except ValueError:
        return pinned
    return Ranges(tuple(networks), "Cloudflare's API") if networks else pinned


def admission(endpoint: Endpoint, ranges: Ranges, database: str, user: str, *, patience: int) -> tuple[str, bool]:
    """What can be seen of whom the server lets in as `user` to `database`: a sentence, and whether it is a warning.

    Raises Unreachable or ConfigurationError where the server cannot be asked.
    """
    try:
        with endpoint.connect(purpose="review", patience=patience) as connection:
            rules = connection.execute(query("ip_ranges_admission"), {"database": database, "user": user}).fetchall()
    except psycopg.Error as error:
        denied = isinstance(error, psycopg.errors.InsufficientPrivilege)
        reason = f'"{endpoint.user}" may not read pg_hba_file_rules' if denied else str(error.diag.message_primary or type(error).__name__)
        return f"cannot be seen, as {reason}; nor can a firewall before the server. The output cloudflareAddresses lists what to let in", False
    allowed = others(rules, ranges)
    if not allowed:
        return "by pg_hba.conf nobody from outside but Cloudflare and single hosts; a firewall before the server cannot be seen", False
    lines = ", ".join(f"line {number} ({network})" for number, network in allowed)
    return (
        f'The server on {endpoint.host}:{endpoint.port} also lets others in to database "{database}": pg_hba.conf {lines}. What to do: replace'
        " these rules by the lines of the output cloudflareAddresses and those of your own machines, unless a firewall before it does the same.",
        True,
    )


def others(rules: list[tuple[Any, ...]], ranges: Ranges) -> list[tuple[int, str]]:
    """Line and network of every rule that lets in whole networks that are public and not Cloudflare's.

    `rules` are (line number, type, address, netmask, method), in the file's order: the first that fits a connection decides on it.
    """
    cloudflares = [ipaddress.ip_network(cidr) for cidr in ranges.cidrs]
    refused: list[Network] = []
    found: list[tuple[int, str]] = []
    for number, kind, address, netmask, method in rules:
        for network in _networks(address, netmask):
            if method == "reject":
                refused += [network] if kind == "host" else []
            elif not any(_within(network, known) for known in (*refused, *cloudflares)) and not _near(network):
                found.append((int(number), str(network)))
    return found


def _networks(address: str | None, netmask: str | None) -> tuple[Network, ...]:
    """The networks of a rule; none for a host's name and for the server's own networks (samehost, samenet)."""
    if address == "all":
        return _EVERYBODY
    try:
        host = ipaddress.ip_address(address or "")
        length = bin(int(ipaddress.ip_address(netmask))).count("1") if netmask else host.max_prefixlen
        return (ipaddress.ip_network(f"{host}/{length}", strict=False),)
    except ValueError:
        return ()


def _within(network: Network, other: Network) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]


def _near(network: Network) -> bool:
    """A network nobody outside can be in, or a single host, which somebody has named on purpose."""
    return network.num_addresses == 1 or network.is_loopback or network.is_private or network.is_link_local


def _hba_name(name: str) -> str:
    if _PLAIN.fullmatch(name) and name not in _KEYWORDS:
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
