"""Stand-ins are put on PATH for what is missing, and for nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from sandbox.plugins import sdk
from sandbox.plugins.install import STOOD_IN, install

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def empty(tmp_path: Path) -> dict[str, str]:
    """An environment in which no plugin is installed."""
    return {"PATH": "/usr/bin:/bin", "PULUMI_HOME": str(tmp_path / "home")}


def written(bin_dir: Path) -> list[str]:
    return sorted(path.name.removeprefix("pulumi-resource-") for path in bin_dir.iterdir())


def test_everything_that_is_missing_is_written_and_told(tmp_path: Path, empty: dict[str, str]) -> None:
    told = install(tmp_path / "bin", Path(sys.executable), PROJECT, environment=empty)
    assert written(tmp_path / "bin") == ["cloudflare", "postgresql", "pulumi-python", "random"]
    assert "postgresql: stand-in (the real plugin is not installed)" in told
    assert len(told) == 4
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in (tmp_path / "bin").iterdir())


def test_a_real_plugin_in_the_plugin_folder_is_preferred(tmp_path: Path, empty: dict[str, str]) -> None:
    bin_dir, plugins = tmp_path / "bin", tmp_path / "home" / "plugins"
    install(bin_dir, Path(sys.executable), PROJECT, environment=empty)
    (plugins / f"resource-random-v{sdk.package_version('random')}").mkdir(parents=True)
    (plugins / "resource-cloudflare-v1.0.0").mkdir()
    half = f"resource-postgresql-v{sdk.package_version('postgresql')}"
    (plugins / half).mkdir()
    (plugins / f"{half}.partial").touch()
    told = install(bin_dir, Path(sys.executable), PROJECT, environment=empty)
    assert written(bin_dir) == ["cloudflare", "postgresql", "pulumi-python"]
    assert not any(line.startswith("random") for line in told)
    assert len(install(bin_dir, Path(sys.executable), PROJECT, only_missing=False, environment=empty)) == 4


def test_a_real_plugin_on_path_is_preferred_and_another_stand_in_is_none(tmp_path: Path, empty: dict[str, str]) -> None:
    real, other, bin_dir = tmp_path / "real", tmp_path / "other", tmp_path / "bin"
    install(other, Path(sys.executable), PROJECT, environment=empty)
    real.mkdir()
    (real / "pulumi-resource-pulumi-python").write_text("#!/bin/sh\nexit 1\n")
    (real / "pulumi-resource-pulumi-python").chmod(0o755)
    path = os.pathsep.join([str(bin_dir), str(other), str(real)])
    install(bin_dir, Path(sys.executable), PROJECT, environment={**empty, "PATH": path})
    assert written(bin_dir) == ["cloudflare", "postgresql", "random"]


def test_odd_characters_in_paths_survive(tmp_path: Path, empty: dict[str, str]) -> None:
    project = tmp_path / 'it\'s a $HOME "project"'
    project.mkdir()
    (project / "sandbox").symlink_to(PROJECT / "sandbox")
    bin_dir = tmp_path / "bin"
    install(bin_dir, Path(sys.executable), project, environment=empty)
    with started(bin_dir / "pulumi-resource-random", tmp_path) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        process.terminate()


@pytest.mark.parametrize("name", STOOD_IN)
def test_a_plugin_prints_its_port_serves_and_ends_when_told(name: str, tmp_path: Path, empty: dict[str, str]) -> None:
    install(tmp_path / "bin", Path(sys.executable), PROJECT, environment=empty)
    with started(tmp_path / "bin" / f"pulumi-resource-{name}", tmp_path) as process:
        assert process.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{int(process.stdout.readline())}") as channel:
            client = provider_pb2_grpc.ResourceProviderStub(channel)
            assert client.GetPluginInfo(empty_pb2.Empty()).version == sdk.package_version(name)
            handshake = client.Handshake(provider_pb2.ProviderHandshakeRequest(engine_address="127.0.0.1:1"))
            assert not handshake.accept_secrets
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stdout.read() == ""


def test_a_plugin_ends_with_the_process_that_started_it(tmp_path: Path, empty: dict[str, str]) -> None:
    install(tmp_path / "bin", Path(sys.executable), PROJECT, environment=empty)
    plugin = tmp_path / "bin" / "pulumi-resource-random"
    engine = f"'{plugin}' 127.0.0.1:1 > '{tmp_path}/port' & echo $! > '{tmp_path}/pid'; sleep 60"
    with subprocess.Popen(["/bin/sh", "-c", engine], start_new_session=True) as process:
        deadline = time.monotonic() + 30
        while not (tmp_path / "port").exists() or not (tmp_path / "port").read_text().endswith("\n"):
            assert time.monotonic() < deadline, "the plugin printed no port"
            time.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        process.kill()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "the plugin outlived its engine"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether the process works still; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def started(executable: Path, folder: Path) -> subprocess.Popen[str]:
    """The plugin as the engine starts it: in a working directory of its own, with its address."""
    return subprocess.Popen([executable, "127.0.0.1:1"], cwd=folder, stdout=subprocess.PIPE, text=True)
