"""The application's Node packages, and the stand-in for Cloudflare."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.cloudflare import CloudflareApi
from sandbox.source.build import DRIZZLE_FOLDER

APPLICATION = DRIZZLE_FOLDER.parent
UNREACHABLE = ("ENOTFOUND", "ECONNREFUSED", "EAI_AGAIN", "ETIMEDOUT")

Run = Callable[..., str]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a command in a copy of the application with its packages installed; gives what it printed."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node or npm is not installed")
    application = tmp_path_factory.mktemp("application") / "app"
    shutil.copytree(APPLICATION, application, ignore=shutil.ignore_patterns("node_modules"))
    installed = subprocess.run(["npm", "ci", "--prefer-offline", "--no-progress"], cwd=application, capture_output=True, text=True, check=False)
    if installed.returncode != 0 and any(sign in installed.stderr for sign in UNREACHABLE):
        pytest.skip("npm cannot reach its registry")
    assert installed.returncode == 0, installed.stderr

    def run(*command: str, url: str, succeeds: bool = True) -> str:
        done = subprocess.run(
            command,
            cwd=application,
            env={**os.environ, "DATABASE_URL": url, "MASTER_DATABASE_URL": url},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def api(tmp_path: Path) -> Iterator[CloudflareApi]:
    """A stand-in that runs, with two tokens; pooled connections are kept for a minute."""
    with CloudflareApi(tmp_path / "cloudflare.json", token="writes", read_only_token="reads", pool_idle=60) as api:
        yield api
