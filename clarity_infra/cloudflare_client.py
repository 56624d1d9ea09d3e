"""How is Cloudflare's API asked? By the official SDK, with limits that hold wherever its name leads."""

from __future__ import annotations

from typing import Any

import httpx
from cloudflare import Cloudflare, DefaultHttpxClient

from clarity_infra.patience import within

# Seconds to connect, for each of the API's addresses. A machine that may not go there is told so before the time an answer may take is over.
_CONNECT = 5.0


def client(token: str, base_url: str | None, *, timeout: float, retries: int) -> Cloudflare:
    """One that tries `retries` times more, and gives an answer that has begun `timeout` seconds between two of its parts."""
    return Cloudflare(api_token=token, base_url=base_url, timeout=httpx.Timeout(timeout, connect=min(_CONNECT, timeout)), max_retries=retries)


def impatient_client(token: str, base_url: str | None, *, patience: float) -> Cloudflare:
    """One that asks once, and whose answer is there within `patience` seconds, the name's resolution and all addresses together."""
    return Cloudflare(api_token=token, base_url=base_url, timeout=patience, max_retries=0, http_client=_Impatient(patience))


class _Impatient(DefaultHttpxClient):
    """The SDK's own client, which goes by the environment's proxies as that does."""

    def __init__(self, patience: float) -> None:
        super().__init__()
        self._patience = patience

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """As `httpx.Client.send`. Raises httpx.TimeoutException where the whole answer is not there in time."""
        try:
            return within(self._patience, lambda: super(_Impatient, self).send(request, **options), late=httpx.Response.close)
        except TimeoutError:
            raise httpx.ConnectTimeout(f"no answer within {self._patience} s", request=request) from None
