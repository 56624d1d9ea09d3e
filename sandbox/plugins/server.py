"""Runs a provider as a plugin process: prints its port, serves, and ends with the engine."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent import futures

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from sandbox.plugins.provider import Provider

_CALLS_AT_ONCE = 32
_LARGEST_MESSAGE = 400 * 1024 * 1024
"""Bytes; the engine's own limit (`sdk/go/common/util/rpcutil`)."""

_SECONDS_BETWEEN_LOOKS = 1.0


def start(provider: Provider) -> tuple[grpc.Server, int]:
    """Starts to serve `provider` on a free port of the loopback address, and gives the server and the port."""
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_CALLS_AT_ONCE),
        options=[
            ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
            ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ],
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def serve(provider: Provider) -> None:
    """Serves `provider` until the process is told to end or the engine that started it is gone.

    The engine reads the port from the first line of stdout. Calls still at work then are given up, as they are when a
    real plugin is killed: their connections close, and the databases roll back.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    engine = os.getppid()
    server, port = start(provider)
    print(port, flush=True)
    while not ended.wait(_SECONDS_BETWEEN_LOOKS) and os.getppid() == engine:
        pass
    server.stop(grace=None)
    sys.stdout.flush()
    os._exit(0)
