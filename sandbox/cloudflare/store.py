"""What does the service remember? Everything, in one JSON file that only its owner may read: it holds passwords."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Store:
    """Records by kind, account and ID. Loaded from `path` where that exists, and written there with every change.

    lock: to be held where a change rests on what was read before. A record is replaced, never changed in place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lock = threading.RLock()
        self._records: dict[str, dict[str, dict[str, Record]]] = {}
        if path.exists():
            self._records = json.loads(path.read_text("utf-8"))

    def all(self, kind: str, account: str) -> dict[str, Record]:
        with self.lock:
            return dict(self._records.get(kind, {}).get(account, {}))

    def accounts(self, kind: str) -> list[str]:
        return list(self._records.get(kind, {}))

    def put(self, kind: str, account: str, record_id: str, record: Record) -> None:
        with self.lock:
            self._records.setdefault(kind, {}).setdefault(account, {})[record_id] = record
            self._save()

    def delete(self, kind: str, account: str, record_id: str) -> None:
        with self.lock:
            del self._records[kind][account][record_id]
            self._save()

    def _save(self) -> None:
        """Writes a new file and puts it in the old one's place: a process that dies here leaves one of the two."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")  # made with mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(self._records, file, indent=1)
            os.replace(name, self._path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
