"""A network between a program and a server that can stop passing bytes, as one that is cut in two does."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 1 << 16


class Link:
    """Listens on `port` of `address`, the loopback one where none is given, and passes bytes to and from `server_port`, until it is `cut`.

    While it is cut nothing arrives on either side, not even the end of a connection; `mend` lets through what was held up.
    """

    def __init__(self, server_port: int, address: str = "127.0.0.1") -> None:
        self.server_port, self.address = server_port, address
        self._passing = threading.Event()
        self._passing.set()
        self._listener = socket.create_server((address, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="link", daemon=True).start()

    def cut(self) -> None:
        """Nothing is passed on from now on."""
        self._passing.clear()

    def mend(self) -> None:
        """Everything is passed on again, what was held up first."""
        self._passing.set()

    def close(self) -> None:
        """Ends every connection."""
        self.mend()
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._passing.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.server_port), timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ends |= {client, server}
        other = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        other.start()
        self._pump(client, server)
        other.join()
        self._ends -= {client, server}
        client.close()
        server.close()

    def _pump(self, giver: socket.socket, taker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := giver.recv(_CHUNK):
                self._passing.wait()
                taker.sendall(chunk)
        self._passing.wait()
        for end in (giver, taker):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
