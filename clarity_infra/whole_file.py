"""How is a user's file replaced so that a reader finds the old text or the new one, never half of either?"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def replace_whole(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Puts `data` in place of the file at once or not at all. A symbolic link stays one: the file it names is changed.

    `mode` limits the permissions the file has; left out, they stay. Raises OSError.
    """
    target = path.resolve()
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        before = target.stat()
        if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()) and os.geteuid() == 0:
            os.chown(name, before.st_uid, before.st_gid)  # root edits a user's file: it stays the user's
        permissions = stat.S_IMODE(before.st_mode)
        os.chmod(name, permissions if mode is None else permissions & mode)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
