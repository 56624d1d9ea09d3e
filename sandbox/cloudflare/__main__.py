"""Runs the stand-in for Cloudflare until it is asked to end (SIGINT, SIGTERM)."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from sandbox.cloudflare.api import CloudflareApi


def main() -> None:
    options = _options()
    if not options.token:
        raise SystemExit("No token: give --token, or set CLOUDFLARE_API_TOKEN. Nothing was started.")
    asked_to_end = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, asked_to_end)  # before any thread, so that all of them inherit it
    try:
        api = CloudflareApi(
            options.state,
            token=options.token,
            read_only_token=options.read_only_token,
            account=options.account,
            max_configs=options.max_configs,
            pool_idle=options.pool_idle,
            cache_speed=options.cache_speed,
            private_origins=options.private_origins,
            port=options.port,
        )
    except OSError as error:
        raise SystemExit(f"Port {options.port} cannot be used: {error.strerror}. Nothing was started.") from None
    with api:
        if options.port_file is not None:
            _write_whole(options.port_file, f"{api.port}\n")
        print(f"Cloudflare stand-in at {api.base_url}", flush=True)
        signal.sigwait(asked_to_end)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.cloudflare", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="file everything is remembered in (mode 0600)")
    parser.add_argument("--port", type=int, default=0, help="port on the loopback address; 0, the default: a free one")
    parser.add_argument("--port-file", type=Path, help="file the port is written to once requests are answered")
    parser.add_argument("--token", default=os.environ.get("CLOUDFLARE_API_TOKEN"), help="may write; default: CLOUDFLARE_API_TOKEN")
    parser.add_argument(
        "--read-only-token",
        default=os.environ.get("CLOUDFLARE_READ_ONLY_TOKEN"),
        help="may only read; default: CLOUDFLARE_READ_ONLY_TOKEN",
    )
    parser.add_argument("--account", help="the one account the tokens are good for; default: any")
    parser.add_argument("--max-configs", type=int, default=10, help="Hyperdrive configs an account may have")
    parser.add_argument(
        "--pool-idle",
        type=float,
        default=600.0,
        help="seconds a pooled connection is kept unused, and used on after a change of its origin",
    )
    parser.add_argument("--cache-speed", type=float, default=1.0, help="how much faster the seconds of a config's caching go by")
    parser.add_argument("--private-origins", action="store_true", help="take origins in private networks, with or without TLS")
    return parser.parse_args()


def _write_whole(path: Path, text: str) -> None:
    """A reader that waits for the file never sees half of it."""
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


if __name__ == "__main__":
    main()
