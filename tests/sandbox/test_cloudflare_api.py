"""The stand-in answers as Cloudflare's API does: asked over HTTP, and by Cloudflare's own SDK."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudflare
import httpx
import psycopg
import pytest

from sandbox.cloudflare import CloudflareApi, Fault
from sandbox.postgres import Server, free_port

ACCOUNT = "a" * 32
CONFIGS = f"/accounts/{ACCOUNT}/hyperdrive/configs"
PASSWORD = "s3cret-\u00fc%/@"


@pytest.fixture
def http(api: CloudflareApi) -> Iterator[httpx.Client]:
    """A client that may write."""
    with _client(api) as client:
        yield client


def _client(api: CloudflareApi, token: str = "writes", seconds: float = 10) -> httpx.Client:
    return httpx.Client(base_url=api.base_url, headers={"Authorization": f"Bearer {token}"}, timeout=seconds)


@pytest.fixture
def origin(server: Server, new_role: Callable[..., str]) -> dict[str, Any]:
    """An origin that is there, with a user of its own."""
    user = new_role("worker", password=PASSWORD)
    return {
        "scheme": "postgres",
        "host": "127.0.0.1",
        "port": server.port,
        "database": "postgres",
        "user": user,
        "password": PASSWORD,
    }


def _refusal(response: httpx.Response) -> tuple[int, int]:
    """The HTTP status, and the code in an envelope that says nothing else."""
    body = response.json()
    assert body["success"] is False and body["result"] is None and len(body["errors"]) == 1
    return response.status_code, body["errors"][0]["code"]


def _create(http: httpx.Client, origin: dict[str, Any], **more: Any) -> dict[str, Any]:
    response = http.post(CONFIGS, json={"name": "clarity-db", "origin": origin, **more})
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()["result"]
    return result


# Configs


def test_a_config_is_told_as_it_was_stated_but_for_the_password(http: httpx.Client, origin: dict[str, Any]) -> None:
    created = _create(http, origin, caching={"disabled": False, "max_age": 30}, origin_connection_limit=7)
    assert len(created["id"]) == 32
    assert created["origin"] == {key: value for key, value in origin.items() if key != "password"}
    assert created["caching"] == {"disabled": False, "max_age": 30}
    assert created["origin_connection_limit"] == 7
    assert created["created_on"] == created["modified_on"]
    read = http.get(f"{CONFIGS}/{created['id']}").json()
    assert read == {"success": True, "errors": [], "messages": [], "result": created}
    assert http.get(CONFIGS).json()["result"] == [created]
    for response in (http.get(f"{CONFIGS}/{created['id']}"), http.get(CONFIGS)):
        assert PASSWORD not in response.text and json.dumps(PASSWORD)[1:-1] not in response.text


def test_put_returns_what_it_leaves_out_to_the_default(http: httpx.Client, origin: dict[str, Any]) -> None:
    created = _create(http, origin, caching={"disabled": True}, origin_connection_limit=60)
    replaced = http.put(f"{CONFIGS}/{created['id']}", json={"name": "renamed", "origin": origin}).json()["result"]
    assert replaced["id"] == created["id"] and replaced["created_on"] == created["created_on"]
    assert replaced["name"] == "renamed"
    assert replaced["caching"] == {"disabled": False}
    assert "origin_connection_limit" not in replaced and "mtls" not in replaced


def test_put_takes_null_for_left_out(http: httpx.Client, origin: dict[str, Any]) -> None:
    created = _create(http, origin, origin_connection_limit=60)
    body = {"name": "clarity-db", "origin": origin, "caching": None, "mtls": None, "origin_connection_limit": None}
    replaced = http.put(f"{CONFIGS}/{created['id']}", json=body).json()["result"]
    assert "origin_connection_limit" not in replaced


def test_patch_changes_what_it_states(http: httpx.Client, origin: dict[str, Any]) -> None:
    created = _create(http, origin, origin_connection_limit=60)
    url = f"{CONFIGS}/{created['id']}"
    patched = http.patch(url, json={"caching": {"disabled": True}}).json()["result"]
    assert patched["origin_connection_limit"] == 60 and patched["caching"] == {"disabled": True}
    patched = http.patch(url, json={"origin": {"database": "template1"}}).json()["result"]
    assert patched["origin"]["database"] == "template1" and patched["origin"]["user"] == origin["user"]
    assert _refusal(http.patch(url, json={"origin": {"database": "nowhere"}})) == (400, 2014)


def test_custom_caching_is_dropped_where_caching_is_disabled(http: httpx.Client, origin: dict[str, Any]) -> None:
    assert _create(http, origin, caching={"disabled": True, "max_age": 30})["caching"] == {"disabled": True}


def test_a_deleted_config_is_gone(http: httpx.Client, origin: dict[str, Any]) -> None:
    url = f"{CONFIGS}/{_create(http, origin)['id']}"
    assert http.delete(url).json() == {"success": True, "errors": [], "messages": [], "result": None}
    for method in ("GET", "DELETE"):
        assert _refusal(http.request(method, url))[0] == 404
    assert http.put(url, json={"name": "x", "origin": origin}).status_code == 404


def test_a_name_is_given_once(http: httpx.Client, origin: dict[str, Any]) -> None:
    _create(http, origin)
    assert http.post(CONFIGS, json={"name": "clarity-db", "origin": origin}).status_code == 409
    other = http.post(CONFIGS, json={"name": "other", "origin": origin}).json()["result"]
    assert http.put(f"{CONFIGS}/{other['id']}", json={"name": "clarity-db", "origin": origin}).status_code == 409
    elsewhere = f"/accounts/{'b' * 32}/hyperdrive/configs"
    assert http.post(elsewhere, json={"name": "clarity-db", "origin": origin}).status_code == 200


def test_an_account_has_a_number_of_configs(tmp_path: Path, origin: dict[str, Any]) -> None:
    with CloudflareApi(tmp_path / "state", token="writes", max_configs=2) as api, _client(api) as http:
        for name in ("one", "two"):
            assert http.post(CONFIGS, json={"name": name, "origin": origin}).status_code == 200
        refused = http.post(CONFIGS, json={"name": "three", "origin": origin})
        assert refused.status_code == 400 and "its limit" in refused.text


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": "n" * 64},
        {"origin": None},
        {"origin": {"scheme": "mysql"}},
        {"origin": {"port": "5432"}},
        {"origin": {"port": 0}},
        {"origin": {"password": None}},
        {"origin": {"service_id": "vpc"}},
        {"caching": {"disabled": "yes"}},
        {"caching": {"disabled": False, "max_age": -1}},
        {"origin_connection_limit": 4},
        {"origin_connection_limit": 101},
        {"mtls": {"sslmode": "prefer"}},
        {"mtls": {"sslmode": "verify-full"}},
        {"mtls": {"sslmode": "require", "ca_certificate_id": "x"}},
        {"surprise": 1},
    ],
)
def test_a_body_that_is_not_a_config_is_refused(http: httpx.Client, origin: dict[str, Any], body: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"name": "clarity-db", "origin": origin, **body}
    if isinstance(body.get("origin"), dict):
        whole["origin"] = origin | body["origin"]
    assert http.post(CONFIGS, json=whole).status_code == 400
    assert http.get(CONFIGS).json()["result"] == []


# The origin is tried before it is accepted


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"host": "no-such-host.invalid"}, 2008),
        ({"host": "192.168.77.77"}, 2009),
        ({"port": "a free one"}, 2011),
        ({"password": "wrong"}, 2013),
        ({"user": "nobody-of-that-name"}, 2013),
        ({"database": "no_such_database"}, 2014),
    ],
)
def test_an_origin_that_cannot_be_used_is_refused_with_hyperdrive_s_code(
    http: httpx.Client, origin: dict[str, Any], change: dict[str, Any], code: int
) -> None:
    kept = _create(http, origin)
    if "port" in change:
        change = {"port": free_port()}
    body = {"name": "clarity-db", "origin": origin | change}
    assert _refusal(http.put(f"{CONFIGS}/{kept['id']}", json=body)) == (400, code)
    assert _refusal(http.post(CONFIGS, json=body | {"name": "second"})) == (400, code)
    assert http.get(CONFIGS).json()["result"] == [kept], "a refusal changes nothing"


def test_an_origin_that_may_not_be_connected_to_is_2015(http: httpx.Client, server: Server, database: str, origin: dict[str, Any]) -> None:
    with server.connect() as admin:
        admin.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    refused = http.post(CONFIGS, json={"name": "x", "origin": origin | {"database": database}})
    assert _refusal(refused) == (400, 2015)


def test_a_listener_that_is_no_database_is_refused(http: httpx.Client, origin: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        started = time.monotonic()
        with _answering(listener, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
            refused = http.post(CONFIGS, json={"name": "x", "origin": origin | {"port": port}})
    status, code = _refusal(refused)
    assert status == 400 and code in (2010, 2015)
    assert time.monotonic() - started < 5


@contextlib.contextmanager
def _answering(listener: socket.socket, answer: bytes) -> Iterator[None]:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    thread.join()


def test_origins_can_be_made_unreachable(http: httpx.Client, api: CloudflareApi, origin: dict[str, Any]) -> None:
    api.refuse_origins = True
    assert _refusal(http.post(CONFIGS, json={"name": "x", "origin": origin})) == (400, 2011)
    api.refuse_origins = False
    _create(http, origin)


SERVICE = "0191a0e5-0000-7000-8000-000000000001"
TOKEN = {"access_client_id": "client.access", "access_client_secret": "sesame"}


@pytest.fixture
def ways(api: CloudflareApi, server: Server, origin: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The same origin by each of the three ways."""
    control = {"tunnels": [{"host": "db.internal", "client_id": "client.access", "client_secret": "sesame", "port": server.port}],
               "services": [{"id": SERVICE, "port": server.port}]}  # fmt: skip
    httpx.post(f"http://127.0.0.1:{api.port}/__control", json=control, headers={"Authorization": "Bearer writes"}).raise_for_status()
    login = {key: value for key, value in origin.items() if key not in ("host", "port")}
    return {"public": origin, "access": {**login, "host": "db.internal", **TOKEN}, "service": {**login, "service_id": SERVICE}}


@pytest.mark.parametrize("way", ["access", "service"])
def test_an_origin_need_not_be_public(http: httpx.Client, api: CloudflareApi, ways: dict[str, dict[str, Any]], way: str) -> None:
    created = _create(http, ways[way])
    assert created["origin"] == {key: value for key, value in ways[way].items() if key not in ("password", "access_client_secret")}
    with psycopg.connect(api.connection_string(created["id"])) as client:
        assert client.execute("SELECT current_user::text").fetchone() == (ways[way]["user"],)
    assert "sesame" not in json.dumps([request.body for request in api.log()])


@pytest.mark.parametrize("first", ["public", "access", "service"])
def test_patch_goes_from_one_way_to_another_and_keeps_the_login(http: httpx.Client, ways: dict[str, dict[str, Any]], first: str) -> None:
    path = f"{CONFIGS}/{_create(http, ways[first])['id']}"
    for second in ("public", "service", "access", first):
        way = {key: value for key, value in ways[second].items() if key in ("host", "port", "service_id", *TOKEN)}
        changed = http.patch(path, json={"origin": way}).json()["result"]["origin"]
        assert changed == {key: value for key, value in ways[second].items() if key not in ("password", "access_client_secret")}


@pytest.mark.parametrize(
    ("way", "change", "status"),
    [
        ("access", {"port": 5432}, 400),
        ("access", {"access_client_secret": None}, 400),
        ("access", {"access_client_secret": "guessed"}, 2010),
        ("access", {"host": "other.internal"}, 2010),
        ("service", {"host": "db.internal"}, 400),
        ("service", {"service_id": "0191a0e5-0000-7000-8000-00000000000f"}, 2010),
        ("public", TOKEN, 400),
    ],
)
def test_a_way_that_is_none_is_refused(
    http: httpx.Client, ways: dict[str, dict[str, Any]], way: str, change: dict[str, Any], status: int
) -> None:
    refused = http.post(CONFIGS, json={"name": "x", "origin": {**ways[way], **change}})
    code = _refusal(refused)[1]
    assert code == status if status > 2000 else code not in range(2008, 2017)
    mtls = {"sslmode": "require"}
    assert http.post(CONFIGS, json={"name": "x", "origin": ways["service"], "mtls": mtls}).status_code == 400


# Tokens


def test_a_bad_token_and_one_without_write_are_refused(api: CloudflareApi, origin: dict[str, Any]) -> None:
    body = {"name": "x", "origin": origin}
    with _client(api, "guessed") as http:
        assert _refusal(http.get(CONFIGS)) == (401, 10000)
        assert _refusal(http.get("/user/tokens/verify")) == (401, 1000)
    with _client(api, "reads") as http:
        assert http.get(CONFIGS).status_code == 200
        for path in ("/user/tokens/verify", f"/accounts/{ACCOUNT}/tokens/verify"):
            assert http.get(path).json()["result"]["status"] == "active"
        assert _refusal(http.post(CONFIGS, json=body)) == (403, 10000)
        assert _refusal(http.delete(f"{CONFIGS}/x")) == (403, 10000)
        assert http.get(f"http://127.0.0.1:{api.port}/__control").status_code == 403
    with httpx.Client(base_url=api.base_url) as http:
        assert _refusal(http.get(CONFIGS)) == (401, 10000)
        assert http.get("/ips").status_code == 200


def test_tokens_are_good_for_their_account(tmp_path: Path) -> None:
    with CloudflareApi(tmp_path / "state", token="writes", account=ACCOUNT) as api, _client(api) as http:
        assert http.get(f"/accounts/{ACCOUNT}").json()["result"]["id"] == ACCOUNT
        assert _refusal(http.get(f"/accounts/{'b' * 32}")) == (403, 10000)
        assert _refusal(http.get("/accounts/short/hyperdrive/configs")) == (404, 7003)
        assert _refusal(http.get("/zones")) == (404, 7003)


# What is remembered


def test_the_state_survives_a_restart_and_is_nobody_else_s(tmp_path: Path, origin: dict[str, Any]) -> None:
    state = tmp_path / "state"
    with CloudflareApi(state, token="writes") as api, _client(api) as http:
        created = _create(http, origin)
        address = api.connection_string(created["id"])
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
    with CloudflareApi(state, token="writes") as api, _client(api) as http:
        assert http.get(CONFIGS).json()["result"] == [created]
        assert api.connection_string(created["id"]) == address
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


# Faults


def test_a_write_fails_as_often_as_told_and_reads_go_on(http: httpx.Client, api: CloudflareApi, origin: dict[str, Any]) -> None:
    api.faults.add(Fault("status", status=429), Fault("status", status=500, count=2))
    body = {"name": "clarity-db", "origin": origin}
    answers = []
    for _ in range(4):
        answers.append(http.post(CONFIGS, json=body).status_code)
        assert http.get(CONFIGS).status_code == 200
    assert answers == [429, 500, 500, 200]


def test_a_dropped_answer_was_done_nonetheless(http: httpx.Client, api: CloudflareApi, origin: dict[str, Any]) -> None:
    config = _create(http, origin)
    api.faults.add(Fault("drop", methods=("PUT",)))
    body = {"name": "clarity-db", "origin": origin | {"database": "template1"}}
    with pytest.raises(httpx.RemoteProtocolError):
        http.put(f"{CONFIGS}/{config['id']}", json=body)
    assert http.get(f"{CONFIGS}/{config['id']}").json()["result"]["origin"]["database"] == "template1"


def test_a_write_that_hangs_was_not_done(api: CloudflareApi, origin: dict[str, Any]) -> None:
    api.faults.add(Fault("hang", seconds=1))
    with _client(api, seconds=0.3) as http, pytest.raises(httpx.ReadTimeout):
        http.post(CONFIGS, json={"name": "clarity-db", "origin": origin})
    with _client(api) as http:
        assert http.get(CONFIGS).json()["result"] == []


def test_faults_and_the_log_over_http(http: httpx.Client, api: CloudflareApi, origin: dict[str, Any]) -> None:
    control = f"http://127.0.0.1:{api.port}/__control"
    told = http.post(control, json={"faults": [{"kind": "status", "status": 503, "path": "/hyperdrive/"}]}).json()
    assert told["result"]["faults"][0]["status"] == 503
    body = {"name": "clarity-db", "origin": origin}
    assert http.post(CONFIGS, json=body).status_code == 503
    config = http.post(CONFIGS, json=body).json()["result"]
    http.put(f"{CONFIGS}/{config['id']}", json={"name": "clarity-db", "origin": origin | {"database": "template1"}})
    log = http.get(f"{control}/log")
    assert PASSWORD not in json.dumps(log.json(), ensure_ascii=False)
    entries = log.json()["result"]
    assert [(entry["method"], entry["status"]) for entry in entries] == [("POST", 503), ("POST", 200), ("PUT", 200)]
    assert entries[2]["body"]["origin"]["database"] == "template1"
    for wrong in ({"kind": "status", "surprise": 1}, {"kind": "burn"}, {}):
        assert http.post(control, json={"faults": [wrong]}).status_code == 400
    shown = http.get(f"{control}/connection/{config['id']}").json()["result"]
    assert shown == {"connection_string": api.connection_string(config["id"]), "connections": []}


# Certificates and TLS


def test_a_certificate_is_told_without_its_key(http: httpx.Client, certificate: tuple[Path, Path]) -> None:
    certificate_pem, key_pem = (path.read_text() for path in certificate)
    url = f"/accounts/{ACCOUNT}/mtls_certificates"
    uploaded = http.post(url, json={"ca": True, "certificates": certificate_pem, "name": "origin-ca"}).json()["result"]
    assert uploaded["issuer"] == "CN=localhost" and uploaded["signature"] == "SHA256WithRSA"
    assert uploaded["expires_on"] > uploaded["uploaded_on"]
    client = http.post(url, json={"ca": False, "certificates": certificate_pem, "private_key": key_pem})
    assert "PRIVATE KEY" not in client.text + http.get(url).text
    assert len(http.get(url).json()["result"]) == 2
    assert http.post(url, json={"ca": True, "certificates": "-----BEGIN nonsense"}).status_code == 400
    assert http.delete(f"{url}/{uploaded['id']}").json()["result"]["id"] == uploaded["id"]
    assert http.get(f"{url}/{uploaded['id']}").status_code == 404


@pytest.mark.pg15
def test_verify_full_takes_the_origin_whose_certificate_the_authority_signed(
    http: httpx.Client, tls_server: Server, certificate: tuple[Path, Path]
) -> None:
    url = f"/accounts/{ACCOUNT}/mtls_certificates"
    authority = http.post(url, json={"ca": True, "certificates": certificate[0].read_text(), "name": "ca"}).json()
    ca_id = authority["result"]["id"]
    origin = {
        "scheme": "postgres",
        "host": "localhost",
        "port": tls_server.port,
        "database": "postgres",
        "user": "postgres",
        "password": tls_server.superuser_password,
    }
    mtls = {"sslmode": "verify-full", "ca_certificate_id": ca_id}
    created = _create(http, origin, mtls=mtls)
    assert created["mtls"] == mtls
    assert _refusal(http.put(f"{CONFIGS}/{created['id']}", json={
        "name": "clarity-db", "origin": origin | {"host": "127.0.0.1"}, "mtls": mtls})) == (400, 2012)  # fmt: skip
    assert http.delete(f"{url}/{ca_id}").status_code == 400, "a certificate in use is kept"


def test_a_configured_authority_makes_tls_mandatory_here_too(http: httpx.Client, origin: dict[str, Any], certificate: tuple[Path, Path]) -> None:
    url = f"/accounts/{ACCOUNT}/mtls_certificates"
    ca_id = http.post(url, json={"ca": True, "certificates": certificate[0].read_text()}).json()["result"]["id"]
    mtls = {"sslmode": "verify-ca", "ca_certificate_id": ca_id}
    assert _refusal(http.post(CONFIGS, json={"name": "x", "origin": origin, "mtls": mtls})) == (400, 2012)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "server.crt", folder / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    ssl.create_default_context(cafile=certificate)
    return certificate, key


@pytest.fixture(scope="module")
def tls_server(server15: Server, certificate: tuple[Path, Path]) -> Iterator[Server]:
    """A PostgreSQL with TLS, which the embedded one is built without."""
    folder = Path(tempfile.mkdtemp(prefix="clarity-tls-"))
    folder.chmod(0o755)
    server = Server(folder / "server", bindir=server15.bindir)
    try:
        server.start()
        data = server.data_path
        for path in certificate:
            copied = data / path.name
            shutil.copy(path, copied)
            copied.chmod(0o600)
            shutil.chown(copied, data.stat().st_uid, data.stat().st_gid)
        with server.connect() as admin:
            admin.execute("ALTER SYSTEM SET ssl = on")
            admin.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        server.remove()
        shutil.rmtree(folder)


# Other clients


def test_cloudflare_s_own_sdk_understands_the_answers(api: CloudflareApi, origin: dict[str, Any]) -> None:
    client = cloudflare.Cloudflare(api_token="writes", base_url=api.base_url, max_retries=0)
    created = client.hyperdrive.configs.create(account_id=ACCOUNT, name="clarity-db", origin=origin)  # type: ignore[call-overload]
    assert created is not None
    listed = list(client.hyperdrive.configs.list(account_id=ACCOUNT, per_page=1))
    assert [config.id for config in listed] == [created.id]
    edited = client.hyperdrive.configs.edit(created.id, account_id=ACCOUNT, caching={"disabled": True})
    assert edited is not None and edited.caching is not None and edited.caching.disabled is True
    restarted = client.hyperdrive.configs.restart(created.id, account_id=ACCOUNT)
    assert restarted is not None
    client.hyperdrive.configs.delete(created.id, account_id=ACCOUNT)
    with pytest.raises(cloudflare.NotFoundError):
        client.hyperdrive.configs.get(created.id, account_id=ACCOUNT)
    addresses = client.ips.list()
    assert addresses is not None and addresses.ipv4_cidrs


def test_it_runs_as_a_process_and_is_the_same_after_a_kill(tmp_path: Path, origin: dict[str, Any]) -> None:
    port_file, state = tmp_path / "port", tmp_path / "state"
    command = [sys.executable, "-m", "sandbox.cloudflare", "--state", str(state), "--port-file", str(port_file),
               "--token", "writes", "--read-only-token", "reads"]  # fmt: skip

    def started(*more: str) -> tuple[subprocess.Popen[str], httpx.Client]:
        process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "Cloudflare stand-in at http://127.0.0.1:" in process.stdout.readline()
        base_url = f"http://127.0.0.1:{port_file.read_text().strip()}/client/v4"
        return process, httpx.Client(base_url=base_url, headers={"Authorization": "Bearer writes"})

    process, http = started()
    with http:
        created = _create(http, origin)
    process.kill()
    process.communicate()
    process, http = started("--port", port_file.read_text().strip())
    with http:
        assert http.get(CONFIGS).json()["result"] == [created]
    process.terminate()
    assert process.communicate(timeout=10)[0] == ""
    assert process.returncode == 0


def test_without_a_token_it_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.cloudflare", "--state", str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, env={}, check=False)
    assert done.returncode == 1 and "give --token" in done.stderr and not (tmp_path / "state").exists()
