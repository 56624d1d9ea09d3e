"""What does a server store of a password? The SCRAM-SHA-256 verifier, made here so that the clear password never reaches its log."""

from __future__ import annotations

import base64
import hashlib
import hmac

# PostgreSQL's own default (scram_iterations); the server takes any count it finds in a verifier.
ITERATIONS = 4096


def verifier(password: str, salt: str) -> str:
    """The verifier PostgreSQL would store for an ASCII `password` and a base64 `salt` (RFC 5803, RFC 5802).

    The form is that of src/common/scram-common.c, scram_build_secret: SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.
    """
    raw = base64.b64decode(salt)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), raw, ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    text = (base64.b64encode(part).decode() for part in (raw, stored_key, server_key))
    return "SCRAM-SHA-256${}:{}${}:{}".format(ITERATIONS, *text)
