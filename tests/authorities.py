"""Certificate authorities for tests, and a server's certificate by one of them."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@contextmanager
def authorities() -> Iterator[Path]:
    """A folder with the authorities `right.pem` and `wrong.pem`, and `server.pem` by the first, for 127.0.0.1 and no other host."""
    folder = Path(tempfile.mkdtemp(prefix="clarity-ca-"))
    folder.chmod(0o755)
    for name in ("right", "wrong"):
        _openssl(folder, "req", "-x509", *_CURVE, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    _openssl(folder, "req", *_CURVE, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    signed = ("-in", "server.csr", "-CA", "right.pem", "-CAkey", "right.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    _openssl(folder, "x509", "-req", *signed, "-out", "server.pem")
    (folder / "server.key").chmod(0o600)
    if os.geteuid() == 0:  # the server runs as another user then, which must be able to read its key
        account = pwd.getpwnam("nobody")
        os.chown(folder / "server.key", account.pw_uid, account.pw_gid)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def server_settings(folder: Path) -> dict[str, str]:
    """Settings of a server that shows `server.pem`."""
    return {"ssl": "on", "ssl_cert_file": str(folder / "server.pem"), "ssl_key_file": str(folder / "server.key")}


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
