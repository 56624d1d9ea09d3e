"""As much of the Cloudflare API as the recordings need: Hyperdrive configs, certificates and IP ranges in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

IP_RANGES = {
    "etag": "38f79d050aa027e3be3865e495dcc9bc",
    "ipv4_cidrs": ["173.245.48.0/20", "103.21.244.0/22"],
    "ipv6_cidrs": ["2400:cb00::/32"],
}
TOKEN = "t" * 40

_SECRETS = ("password", "access_client_secret")


class FakeCloudflare:
    """The API at `url`. What it makes gets `next_id` and the time `now`; `failures` are statuses to answer first."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, Any]] = {}
        self.certificates: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.failures: list[int] = []
        self.next_id = ""
        self.now = ""
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[FakeCloudflare]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}/client/v4"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, method: str, parts: list[str], body: Any) -> Any:
        """The result of a call, or None for something that is not there."""
        if parts == ["ips"]:
            return IP_RANGES
        kept = {"hyperdrive": self.configs, "mtls_certificates": self.certificates}[parts[2]]
        id_ = parts[-1] if parts[-1] in kept else None
        if method == "POST":
            id_ = self.next_id
            kept[id_] = {"id": id_}
        if id_ is None:
            return None
        if method == "DELETE":
            return {"id": kept.pop(id_)["id"]}
        if method in ("POST", "PUT") and kept is self.configs:
            kept[id_] = {**_without_nulls(body), "id": id_, "created_on": self.now, "modified_on": self.now}
        elif method == "POST":
            kept[id_] = {
                **body,
                "id": id_,
                "expires_on": "2036-01-01T00:00:00Z",
                "issuer": "CN=Test",
                "serial_number": "1",
                "signature": "SHA256WithRSA",
                "uploaded_on": self.now,
            }
        return kept[id_]


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(each) for name, each in value.items() if each is not None}


def _shown(result: Any) -> Any:
    """A result as the API gives it: without the passwords it holds."""
    if isinstance(result, dict):
        return {name: _shown(value) for name, value in result.items() if name not in (*_SECRETS, "private_key")}
    return result


def _handler(fake: FakeCloudflare) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            fake.requests.append((self.command, self.path, body))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(403, None, [{"code": 10000, "message": "Authentication error"}])
            elif fake.failures:
                self._send(fake.failures.pop(0), None, [{"code": 2015, "message": "try again"}])
            else:
                result = fake.answer(self.command, self.path.removeprefix("/client/v4/").split("/"), body)
                missing = [{"code": 2000, "message": "not found"}]
                self._send(200 if result else 404, _shown(result), [] if result else missing)

        def _send(self, status: int, result: Any, errors: list[dict[str, Any]]) -> None:
            data = json.dumps({"success": not errors, "errors": errors, "messages": [], "result": result}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
