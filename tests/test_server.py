"""The sandbox's own PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sandbox import postgres
from sandbox.postgres import UNLOGGED_SPEED, Server, ServerError, free_port, server_version, wheel_bindir


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="clarity-server-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def fresh(folder: Path) -> Iterator[Server]:
    server = Server(folder / "server", settings=UNLOGGED_SPEED)
    yield server
    server.remove()


def test_it_outlives_its_maker_and_is_attached_to(fresh: Server) -> None:
    fresh.start()
    pid = fresh.pid
    again = Server(fresh.folder, superuser_password=fresh.superuser_password)
    again.start()
    assert (again.pid, again.port) == (pid, fresh.port)


def test_port_and_data_are_kept_over_a_restart(fresh: Server) -> None:
    fresh.start()
    with fresh.connect() as connection:
        connection.execute("CREATE TABLE kept ()")
    url = fresh.url()
    fresh.stop()
    assert not fresh.is_running()
    fresh.start()
    assert fresh.url() == url
    with fresh.connect() as connection:
        assert connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchone() == (True,)


def test_every_way_in_asks_for_the_password(fresh: Server) -> None:
    fresh.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        fresh.connect(password="wrong")
    assert fresh.socket_path
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(host=str(fresh.socket_path), port=fresh.port, user="postgres", passfile=os.devnull)


def test_another_password_does_not_attach(fresh: Server) -> None:
    fresh.start()
    with pytest.raises(ServerError, match=r"does not let its superuser in[\s\S]*make clean") as raised:
        Server(fresh.folder, superuser_password="not-this-one").start()
    assert "not-this-one" not in str(raised.value)


def test_only_the_loopback_address_listens(fresh: Server) -> None:
    fresh.start()
    with fresh.connect() as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)


def test_settings_reach_the_server_and_change_at_a_restart(fresh: Server) -> None:
    fresh.start()
    fresh.stop()
    changed = Server(fresh.folder, superuser_password=fresh.superuser_password, settings={"log_line_prefix": "it's '%m'", "work_mem": "7MB"})
    changed.start()
    with changed.connect() as connection:
        assert connection.execute("SELECT current_setting('log_line_prefix'), current_setting('work_mem')").fetchone() == (
            "it's '%m'",
            "7MB",
        )


def test_a_taken_port_is_named_and_not_exchanged(fresh: Server) -> None:
    fresh.start()
    fresh.stop()
    with socket.socket() as stranger:
        # The server's own closed connections keep the port busy for a while, as far as a plain bind is concerned.
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", fresh.port))
        stranger.listen()
        with pytest.raises(ServerError, match=f"port {fresh.port}.*taken by another process"):
            fresh.start()


def test_a_data_folder_left_half_made_is_made_afresh(fresh: Server) -> None:
    fresh.data_path.mkdir(parents=True)
    (fresh.data_path / "base").mkdir()
    fresh.folder.chmod(0o755)
    fresh.start()
    assert fresh.is_running()


def test_no_password_stays_in_a_file(fresh: Server) -> None:
    fresh.start()
    looking = ["grep", "-rlF", "-e", fresh.superuser_password, str(fresh.folder.resolve())]
    left = subprocess.run(looking, capture_output=True, text=True, check=False)
    assert left.stdout == ""
    assert left.returncode == 1


def test_a_failed_start_shows_the_end_of_the_log(folder: Path) -> None:
    server = Server(folder / "server", settings={**UNLOGGED_SPEED, "shared_buffers": "nonsense"})
    with pytest.raises(ServerError, match="shared_buffers"):
        server.start()
    server.remove()


def test_a_server_never_started_has_no_port(fresh: Server) -> None:
    with pytest.raises(ServerError, match="never started"):
        fresh.url()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that the server's account cannot reach")
def test_as_root_a_private_folder_and_private_binaries_serve_too(folder: Path) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    package = wheel_bindir().parent.parent
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, private / name, symlinks=True)
    server = Server(private / "server", bindir=private / package.name / "pginstall" / "bin", settings=UNLOGGED_SPEED)
    server.start()
    elsewhere = server.folder.resolve()
    try:
        assert private.stat().st_mode & 0o777 == 0o700
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        with server.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.remove()
    assert not elsewhere.exists()
    assert not server.folder.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; as a plain user every test here shows it")
def test_a_plain_user_runs_it_directly(folder: Path, server: Server) -> None:
    """In a forked process, as the interpreter itself may be in a folder that only root can read."""
    server.connect().close()  # what the child would import later is imported now
    os.chown(folder, 65534, 65534)
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            own = Server(folder / "server", bindir=wheel_bindir(), settings=UNLOGGED_SPEED)
            own.start()
            with own.connect() as connection:
                failed = 0 if connection.execute("SELECT 1").fetchone() == (1,) else 1
            own.remove()
        except BaseException:
            (folder / "failure").write_text(traceback.format_exc())
        finally:
            os._exit(failed)
    _, status = os.waitpid(child, 0)
    assert status == 0, (folder / "failure").read_text()


def test_the_wheel_is_postgresql_18() -> None:
    assert server_version(wheel_bindir()).startswith("18.")


@pytest.mark.pg15
def test_debians_postgresql_15_serves_too(server15: Server) -> None:
    with server15.connect() as connection:
        assert connection.info.server_version // 10000 == 15


def test_a_free_port_can_be_bound() -> None:
    port = free_port()
    assert postgres.port_is_free(port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert not postgres.port_is_free(port)
