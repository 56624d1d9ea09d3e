"""Is a network that is cut really cut? What goes into the namespace and out of it stops, and goes on, as it should."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import time
from multiprocessing.connection import Connection
from typing import Any

import pytest

from tests.faults.network import Cable, NoNamespace, join, namespace


def _send(parent: Connection[Any, Any], name: str, place: tuple[str, int]) -> None:
    join(name)
    with socket.create_connection(place, timeout=5) as end:
        for number in range(1000):
            end.sendall(bytes((number % 256,)))
            parent.send(number)
            parent.recv()


def test_nothing_passes_while_a_cable_is_cut() -> None:
    with contextlib.ExitStack() as stack:
        try:
            name, (one, other) = stack.enter_context(namespace(2))
        except NoNamespace as error:
            pytest.skip(f"no network namespace: {error}")
        _cut_and_mend(name, one, other)
    with pytest.raises(FileNotFoundError):
        join(name)


def _cut_and_mend(name: str, one: Cable, other: Cable) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with socket.create_server((one.address, 0)) as server:
        process = context.Process(target=_send, args=(theirs, name, server.getsockname()), daemon=True)
        process.start()
        try:
            end, _ = server.accept()
            end.settimeout(20)
            assert (ours.recv(), end.recv(10)) == (0, b"\x00")
            one.cut()
            ours.send("go on")
            assert ours.recv() == 1  # the sender's kernel takes it, and cannot tell that it does not arrive
            end.settimeout(1.5)
            with pytest.raises(TimeoutError):
                end.recv(10)
            other.cut()
            one.mend()
            mended = time.monotonic()
            end.settimeout(20)
            assert end.recv(10) == b"\x01"
            assert time.monotonic() - mended < 15
        finally:
            process.kill()
            process.join(5)
