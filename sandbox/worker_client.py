"""What does the application answer? One HTTP request at a time, and an error is an answer too."""

from __future__ import annotations

import dataclasses
import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit


@dataclasses.dataclass(frozen=True)
class Answer:
    """status: 0 where there was none, then `body` is the reason as a text; otherwise what was sent, as JSON where it is JSON."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether the application says that it did what it was asked to."""
        return self.status == 200

    @property
    def reason(self) -> str:
        """Why not, in a few words: the status and the application's `error`."""
        said = self.body.get("error", "") if isinstance(self.body, dict) else self.body if self.status == 0 else ""
        return f"{self.status or 'no answer'} {said}".strip()


def ask(url: str, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = 30) -> Answer:
    """Sends one request to the application at `url`, on a connection of its own, and waits `seconds` at most for each part of the answer."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=seconds)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, parts.path.rstrip("/") + path, text, {"Accept": "application/json", "Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, _read(response.read()))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, "timed out" if isinstance(error, TimeoutError) else type(error).__name__)
    finally:
        connection.close()


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")
