"""The HTTP side: who may ask for what, and how it is answered.

A stand-in for the part of Cloudflare's API (`/client/v4`) that concerns Hyperdrive, for machines without an account.
Every answer has the envelope `success`, `errors`, `messages`, `result`. Besides, `/__control` is for tests:

    GET    /__control                     pending faults, and whether origins are refused
    POST   /__control                     {"faults": [Fault...], "refuse_origins": bool, "clear": bool,
                                           "tunnels": [{"host", "client_id", "client_secret", "port"}...],
                                           "services": [{"id", "port"}...]}
    GET    /__control/log                 the requests so far
    GET    /__control/connection/{id}     {"connection_string": ..., "connections": [...]} of a config

It asks for the token that may write, as it gives connection strings away. Tunnels (hosts behind Cloudflare Access) and services
(Workers VPC) lead to a port of the loopback address, and are remembered until the process ends.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from sandbox.cloudflare.cache import Given
from sandbox.cloudflare.certificates import Certificates
from sandbox.cloudflare.configs import Configs
from sandbox.cloudflare.datapath import DataPath, PooledConnection
from sandbox.cloudflare.errors import ApiError, invalid
from sandbox.cloudflare.faults import WRITES, Fault, Faults, Request, RequestLog
from sandbox.cloudflare.origin import Network, Tunnel
from sandbox.cloudflare.store import Record, Store

_PREFIX = "/client/v4"
_LARGEST_BODY = 1 << 20
_POLL_SECONDS = 0.05
_ACCOUNT = re.compile(r"[0-9a-f]{32}")
_ADDRESSES = {
    "ipv4_cidrs": ["173.245.48.0/20", "103.21.244.0/22"],
    "ipv6_cidrs": ["2400:cb00::/32"],
    "etag": "38f79d050aa027e3be3865e495dcc9bc",
}
"""Some of Cloudflare's published ranges, as recorded."""


class CloudflareApi:
    """The service, in this process.

    state: the file everything is remembered in; one that exists is read. token: may read and write; read_only_token:
    may read. account: the one account the tokens are good for; None: any. max_configs: of an account. pool_idle:
    seconds a pooled origin connection is kept unused, and used on after the origin was changed. cache_speed: how much
    faster than a clock the seconds of a config's caching go by. private_origins: whether addresses of private networks
    count as the loopback address does. port: 0 for a free one.

        with CloudflareApi(tmp_path / "state", token="t") as api:
            httpx.get(f"{api.base_url}/ips")
    """

    def __init__(
        self,
        state: Path,
        *,
        token: str,
        read_only_token: str | None = None,
        account: str | None = None,
        max_configs: int = 10,
        pool_idle: float = 600.0,
        cache_speed: float = 1.0,
        private_origins: bool = False,
        port: int = 0,
    ) -> None:
        self.token = token
        self.read_only_token = read_only_token
        self.account = account
        self.faults = Faults()
        self._log = RequestLog()
        self._network = Network(private_origins=private_origins)
        self._data_path = DataPath(self._network, pool_idle, cache_speed)
        store = Store(state)
        self.certificates = Certificates(store)
        self.configs = Configs(store, self.certificates, self._data_path, max_configs)
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), name="cloudflare", daemon=True)

    @property
    def base_url(self) -> str:
        """What `CLOUDFLARE_BASE_URL` is to be set to."""
        return f"http://127.0.0.1:{self.port}{_PREFIX}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serves the API, and the data path of every config that is remembered."""
        self._data_path.start()
        self.configs.serve_all()
        self._thread.start()

    def stop(self) -> None:
        """Ends every connection, of the API and of the data path."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.end_connections()
        self._data_path.stop()

    def __enter__(self) -> CloudflareApi:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self) -> list[Request]:
        """The requests so far, without secrets."""
        return self._log.all()

    def connection_string(self, config_id: str) -> str:
        """Where a client of the config connects. Raises ApiError."""
        return self.configs.connection_string(config_id)

    def stall(self, *pauses: float) -> None:
        """Holds up all clients for so many seconds, looking once at what came for them between two pauses; returns at once."""
        self._data_path.stall(*pauses)

    def connections(self, config_id: str) -> list[PooledConnection]:
        """The config's connections to origins. Raises ApiError."""
        return self.configs.connections(config_id)

    def cached(self, config_id: str) -> int:
        """How many answers the config's cache keeps. Raises ApiError."""
        return self.configs.cached(config_id)

    def given(self, config_id: str) -> list[Given]:
        """The answers of its cache that the config's clients were given, the newest last. Raises ApiError."""
        return self.configs.given(config_id)

    @property
    def refuse_origins(self) -> bool:
        """Whether every origin is taken for unreachable."""
        return self._network.refuse_origins

    @refuse_origins.setter
    def refuse_origins(self, refuse: bool) -> None:
        self._network.refuse_origins = refuse

    def add_tunnel(self, host: str, *, client_id: str, client_secret: str, port: int) -> None:
        """Puts a port of the loopback address behind Access, as `host`, for one service token."""
        self._network.tunnels[host] = Tunnel(client_id, client_secret, ("127.0.0.1", port))

    def add_service(self, service_id: str, *, port: int) -> None:
        """Makes a Workers VPC service that leads to a port of the loopback address."""
        self._network.services[service_id] = ("127.0.0.1", port)

    def note(self, method: str, path: str, body: Any, status: int | None) -> None:
        self._log.add(method, path, body, status)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, place: tuple[str, int], api: CloudflareApi) -> None:
        super().__init__(place, _Handler)
        self.api = api
        self.connections: set[socket.socket] = set()

    def end_connections(self) -> None:
        """A client that keeps its connection would otherwise be served on by the thread of that connection."""
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _NoAnswer(Exception):
    """A fault wants the connection to end without one."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """The request log replaces lines on stderr."""

    def _serve(self) -> None:
        api, path = self.server.api, urlsplit(self.path).path
        body: Any = None
        status: int | None
        try:
            body = self._read_body()
            status, answer = self._answer_under_faults(path, body)
        except ApiError as error:
            status, answer = error.status, _envelope(None, [{"code": error.code, "message": error.message}])
        except _NoAnswer:
            status, answer = None, {}
        if not path.startswith("/__control"):
            api.note(self.command, path, body, status)
        if status is None:
            self.close_connection = True
        else:
            self._send(status, answer)

    def _answer_under_faults(self, path: str, body: Any) -> tuple[int, Record]:
        fault = None if path.startswith("/__control") else self.server.api.faults.take(self.command, path)
        if fault is None:
            return 200, self._answer(path, body)
        if fault.kind == "status":
            raise ApiError(fault.status, fault.status, "The stand-in was told to fail.")
        if fault.kind == "drop":
            self._answer(path, body)
        time.sleep(fault.seconds)
        raise _NoAnswer

    def _answer(self, path: str, body: Any) -> Record:
        if path.startswith("/__control"):
            self._authorise("control")
            return _envelope(_control(self.server.api, self.command, path, body))
        if not path.startswith(f"{_PREFIX}/"):
            raise _no_route(path)
        return self._route(path.removeprefix(_PREFIX), body)

    def _route(self, path: str, body: Any) -> Record:
        for method, pattern, handle in _ROUTES:
            matched = re.fullmatch(pattern, path)
            if matched is not None and method == self.command:
                if path != "/ips":
                    self._authorise("token" if path.endswith("/tokens/verify") else self.command)
                parts = [unquote(part) for part in matched.groups()]
                self._check_account(path, parts)
                return handle(self.server.api, *parts, *([body] if method in ("POST", "PUT", "PATCH") else []))
        raise _no_route(path)

    def _authorise(self, what: str) -> None:
        api = self.server.api
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        may_write = hmac.compare_digest(given, api.token.encode())
        may_read = may_write or (api.read_only_token is not None and hmac.compare_digest(given, api.read_only_token.encode()))
        if not may_read:
            raise ApiError(401, 1000, "Invalid API Token") if what == "token" else ApiError(401, 10000, "Authentication error")
        if not may_write and (what in WRITES or what == "control"):
            raise ApiError(403, 10000, "Authentication error")

    def _check_account(self, path: str, parts: list[str]) -> None:
        if not path.startswith("/accounts/"):
            return
        if not _ACCOUNT.fullmatch(parts[0]):
            raise _no_route(path)
        if self.server.api.account not in (None, parts[0]):
            raise ApiError(403, 10000, "Authentication error")

    def _read_body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LARGEST_BODY:
            self.close_connection = True
            raise ApiError(413, 20_006, "The request is too large.")
        text = self.rfile.read(length)
        if self.command == "GET" or not text:
            return {}
        try:
            body = json.loads(text)
        except ValueError:
            raise invalid("The request's body is not JSON.") from None
        if not isinstance(body, dict):
            raise invalid("The request's body must be an object.")
        return body

    def _send(self, status: int, answer: Record) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if isinstance(answer.get("result"), list) and self.command == "GET":
            answer = _paged(answer, query)
        text = json.dumps(answer).encode()
        with contextlib.suppress(OSError):  # the client has gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)


def _control(api: CloudflareApi, method: str, path: str, body: Record) -> Any:
    if method == "GET" and path == "/__control/log":
        return [asdict(request) for request in api.log()]
    if method == "GET" and path.startswith("/__control/connection/"):
        config_id = path.rpartition("/")[2]
        return {
            "connection_string": api.connection_string(config_id),
            "connections": [asdict(connection) for connection in api.connections(config_id)],
        }
    if path != "/__control" or method not in ("GET", "POST"):
        raise _no_route(path)
    if body.get("clear"):
        api.faults.clear()
    try:
        api.faults.add(*(Fault(**fault) for fault in body.get("faults", [])))
        for tunnel in body.get("tunnels", []):
            api.add_tunnel(**tunnel)
        for service in body.get("services", []):
            api.add_service(service["id"], port=service["port"])
    except (TypeError, KeyError) as error:
        raise invalid(f"The request is not understood: {error}.") from None
    if "refuse_origins" in body:
        api.refuse_origins = bool(body["refuse_origins"])
    return {"faults": api.faults.pending(), "refuse_origins": api.refuse_origins}


def _envelope(result: Any, errors: list[Record] | None = None) -> Record:
    return {"success": not errors, "errors": errors or [], "messages": [], "result": result}


def _paged(answer: Record, query: dict[str, list[str]]) -> Record:
    everything = answer["result"]
    page, per_page = (_positive(query, key, default) for key, default in (("page", 1), ("per_page", 100)))
    part = everything[(page - 1) * per_page : page * per_page]
    info = {"page": page, "per_page": per_page, "count": len(part), "total_count": len(everything)}
    return {**answer, "result": part, "result_info": info}


def _positive(query: dict[str, list[str]], key: str, default: int) -> int:
    text = query.get(key, [""])[0]
    return int(text) if text.isdecimal() and int(text) > 0 else default


def _no_route(path: str) -> ApiError:
    return ApiError(404, 7003, f"Could not route to {path}, perhaps your object identifier is invalid?")


def _verified(api: CloudflareApi, *_: str) -> Record:
    return {**_envelope({"id": "0" * 32, "status": "active"}), "messages": [_TOKEN_IS_VALID]}


def _account(api: CloudflareApi, account: str) -> Record:
    return _envelope({"id": account, "name": "Sandbox", "type": "standard", "settings": {}})


def _delete_config(api: CloudflareApi, account: str, config_id: str) -> Record:
    api.configs.delete(account, config_id)
    return _envelope(None)


def _delete_certificate(api: CloudflareApi, account: str, certificate_id: str) -> Record:
    used = api.configs.certificates_in_use(account)
    return _envelope(api.certificates.delete(account, certificate_id, used))


_TOKEN_IS_VALID = {"code": 10000, "message": "This API Token is valid and active"}
_HYPERDRIVE = "/accounts/([^/]+)/hyperdrive/configs"
_CERTIFICATES = "/accounts/([^/]+)/mtls_certificates"
_ROUTES: tuple[tuple[str, str, Callable[..., Record]], ...] = (
    ("GET", "/ips", lambda api: _envelope(_ADDRESSES)),
    ("GET", "/user/tokens/verify", _verified),
    ("GET", "/accounts/([^/]+)/tokens/verify", _verified),
    ("GET", "/accounts/([^/]+)", _account),
    ("POST", _HYPERDRIVE, lambda api, account, body: _envelope(api.configs.create(account, body))),
    ("GET", _HYPERDRIVE, lambda api, account: _envelope(api.configs.all(account))),
    ("GET", f"{_HYPERDRIVE}/([^/]+)", lambda api, *names: _envelope(api.configs.get(*names))),
    ("PUT", f"{_HYPERDRIVE}/([^/]+)", lambda api, *rest: _envelope(api.configs.replace(*rest))),
    ("PATCH", f"{_HYPERDRIVE}/([^/]+)", lambda api, *rest: _envelope(api.configs.edit(*rest))),
    ("DELETE", f"{_HYPERDRIVE}/([^/]+)", _delete_config),
    ("POST", f"{_HYPERDRIVE}/([^/]+)/restart", lambda api, *rest: _envelope(api.configs.restart(*rest[:2]))),
    ("POST", _CERTIFICATES, lambda api, account, body: _envelope(api.certificates.create(account, body))),
    ("GET", _CERTIFICATES, lambda api, account: _envelope(api.certificates.all(account))),
    ("GET", f"{_CERTIFICATES}/([^/]+)", lambda api, *names: _envelope(api.certificates.get(*names))),
    ("DELETE", f"{_CERTIFICATES}/([^/]+)", _delete_certificate),
)
