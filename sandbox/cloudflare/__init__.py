"""A stand-in for Cloudflare: its Hyperdrive API over HTTP, and the pooling connections that Hyperdrive gives Workers.

`python -m sandbox.cloudflare --help` runs it on its own.
"""

from sandbox.cloudflare.api import CloudflareApi
from sandbox.cloudflare.cache import Given
from sandbox.cloudflare.datapath import PooledConnection
from sandbox.cloudflare.errors import ApiError
from sandbox.cloudflare.faults import Fault, Request

__all__ = ["ApiError", "CloudflareApi", "Fault", "Given", "PooledConnection", "Request"]
