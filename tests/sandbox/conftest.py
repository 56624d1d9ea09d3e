"""The stand-in for Cloudflare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.cloudflare import CloudflareApi


@pytest.fixture
def api(tmp_path: Path) -> Iterator[CloudflareApi]:
    """A stand-in that runs, with two tokens; pooled connections are kept for a minute."""
    with CloudflareApi(tmp_path / "cloudflare.json", token="writes", read_only_token="reads", pool_idle=60) as api:
        yield api
