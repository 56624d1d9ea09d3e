"""A network of its own for the run: a namespace of the kernel's, joined to each side by a cable that can be cut.

Only root can make one (`ip netns`, package iproute2). A cable is a pair of virtual Ethernet devices, and cut by taking down its end
here: from then on nothing arrives at either end, neither bytes nor the word that a connection has ended, and each side's kernel goes
on sending the same segments, as in a partition of a real network.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_NUMBERS = itertools.count()
# Nobody's: RFC 2544 keeps it for tests of networks.
_NET = "198.18"


class Cable:
    """One way between the namespace and this machine, whose `address` is its end here."""

    def __init__(self, namespace: str, number: int) -> None:
        block = (os.getpid() * 8 + number) % (256 * 64)
        third, fourth = block // 64, block % 64 * 4
        self.address, self._there = f"{_NET}.{third}.{fourth + 1}", f"{_NET}.{third}.{fourth + 2}"
        self._device = f"cv{os.getpid()}n{number}"[:15]
        _ip("link", "add", self._device, "type", "veth", "peer", "name", f"eth{number}", "netns", namespace)
        _ip("address", "add", f"{self.address}/30", "dev", self._device)
        _ip("link", "set", self._device, "up")
        _ip("-n", namespace, "address", "add", f"{self._there}/30", "dev", f"eth{number}")
        _ip("-n", namespace, "link", "set", f"eth{number}", "up")

    def cut(self) -> None:
        """Nothing gets through from now on."""
        _ip("link", "set", self._device, "down")

    def mend(self) -> None:
        """Everything gets through again, as soon as it is sent again."""
        _ip("link", "set", self._device, "up")


class NoNamespace(Exception):
    """This machine lets nobody make a namespace; the message says why."""


@contextmanager
def namespace(cables: int) -> Iterator[tuple[str, list[Cable]]]:
    """A namespace with so many cables, by name; raises NoNamespace where there can be none."""
    if os.geteuid() != 0:
        raise NoNamespace("only root may make a network namespace")
    if shutil.which("ip") is None:
        raise NoNamespace("there is no program ip (Debian's package iproute2)")
    name = f"clarity-faults-{os.getpid()}-{next(_NUMBERS)}"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        raise NoNamespace(f"ip netns add: {str(error.stderr).strip()}") from None
    try:
        try:
            _ip("-n", name, "link", "set", "lo", "up")
            made = [Cable(name, number) for number in range(cables)]
        except subprocess.CalledProcessError as error:
            raise NoNamespace(f"ip {' '.join(error.cmd[1:4])}: {str(error.stderr).strip()}") from None
        yield name, made
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", name)  # the cables go with it


def join(name: str) -> None:
    """This thread, and those it starts, are in the namespace from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
