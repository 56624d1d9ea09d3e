"""Calls of the Cloudflare API, made as the real plugin's client makes them.

Source: cloudflare-go (`internal/requestconfig`): which answers are tried again, how often, and the envelope of results.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sandbox.plugins.provider import Refused
from sandbox.plugins.wire import Props

DEFAULT_BASE_URL = "https://api.cloudflare.com/client/v4/"
RETRIES = 10
FIRST_PAUSE_VARIABLE = "SANDBOX_CLOUDFLARE_FIRST_PAUSE"
"""Environment variable with the seconds before the first retry; for tests."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_SECONDS_PER_CALL = 60
_TRIED_AGAIN = frozenset({408, 409, 429})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class NotFound(Refused):
    """The API answered 404."""


@dataclass(frozen=True)
class Api:
    """An account's access to the API at `base_url`, with the headers that prove it."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)

    @staticmethod
    def of(settings: Props) -> Api:
        """Access by `settings`, completed from the environment as the real plugin does it."""

        def setting(name: str, variable: str) -> str:
            return str(settings.get(name) or os.environ.get(variable, ""))

        token, service_key = (
            setting("apiToken", "CLOUDFLARE_API_TOKEN"),
            setting("apiUserServiceKey", "CLOUDFLARE_API_USER_SERVICE_KEY"),
        )
        key, email = setting("apiKey", "CLOUDFLARE_API_KEY"), setting("email", "CLOUDFLARE_EMAIL")
        offered = {
            "Authorization": f"Bearer {token}" if token else "",
            "X-Auth-User-Service-Key": service_key,
            "X-Auth-Key": key,
            "X-Auth-Email": email,
        }
        base_url = setting("baseUrl", "CLOUDFLARE_BASE_URL") or DEFAULT_BASE_URL
        return Api(base_url.rstrip("/") + "/", {name: value for name, value in offered.items() if value})

    def call(self, method: str, path: str, body: Props | None = None) -> Any:
        """The `result` of a call.

        Raises NotFound for 404 and Refused for every other answer that is no success, after the retries that the
        answer allows. The message holds what the API said and nothing of what was sent.
        """
        pause = float(os.environ.get(FIRST_PAUSE_VARIABLE, _FIRST_PAUSE))
        for tries_left in range(RETRIES, -1, -1):
            status, answer, may_try_again = self._try(method, path, body)
            if not may_try_again or not tries_left:
                break
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if status == 404:
            raise NotFound(self._told(method, path, status, answer))
        if status is None or not 200 <= status < 300:
            raise Refused(self._told(method, path, status, answer))
        return answer.get("result") if isinstance(answer, dict) else None

    def _try(self, method: str, path: str, body: Props | None) -> tuple[int | None, Any, bool]:
        """Status (None: no answer), the answer, and whether to try again."""
        request = urllib.request.Request(
            self.base_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={**self.headers, "Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            with self._opener().open(request, timeout=_SECONDS_PER_CALL) as response:
                return response.status, _parsed(response.read()), False
        except urllib.error.HTTPError as error:
            with error:
                told = error.headers.get("x-should-retry")
                again = told == "true" or (told != "false" and (error.code in _TRIED_AGAIN or error.code >= 500))
                return error.code, _parsed(error.read()), again
        except OSError as error:
            return None, str(getattr(error, "reason", error)), True

    def _opener(self) -> urllib.request.OpenerDirector:
        # As the real client does, reach the own machine without a proxy, whatever the environment says.
        if urlsplit(self.base_url).hostname in _LOOPBACK:
            return urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return urllib.request.build_opener()

    def _told(self, method: str, path: str, status: int | None, answer: Any) -> str:
        errors = answer.get("errors") if isinstance(answer, dict) else None
        said = "; ".join(f"{each.get('message')} (code {each.get('code')})" for each in errors or [])
        where = f'{method} "{self.base_url}{path}"'
        return f"{where}: {'no answer' if status is None else status}: {said or str(answer)[:300]}"


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")
