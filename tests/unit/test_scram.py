"""The verifier is the one the server itself would store: by the RFC's example, by libpq, and by a login."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from clarity_infra.scram import verifier
from sandbox.postgres import Server

# RFC 7677, section 3: the exchange of user "user" with password "pencil".
SALT = "W22ZaJ0SNY7soEsUEjb6gQ=="
PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
MESSAGES = (
    "n=user,r=rOprNGfwEbeRWgbNEkqO,"
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)


def keys(text: str) -> tuple[bytes, bytes]:
    """StoredKey and ServerKey of a verifier."""
    stored, server = text.rpartition("$")[2].split(":")
    return base64.b64decode(stored), base64.b64decode(server)


def test_the_keys_are_those_of_the_rfcs_example() -> None:
    made = verifier("pencil", SALT)
    assert made.startswith(f"SCRAM-SHA-256$4096:{SALT}$")
    stored, server = keys(made)
    assert base64.b64encode(hmac.digest(server, MESSAGES.encode(), "sha256")).decode() == SIGNATURE
    signature = hmac.digest(stored, MESSAGES.encode(), "sha256")
    client_key = bytes(a ^ b for a, b in zip(base64.b64decode(PROOF), signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def test_libpq_makes_the_same_of_the_same_salt(server: Server) -> None:
    with server.connect() as connection:
        theirs = connection.pgconn.encrypt_password(b"43-letters-and-digits", b"user", b"scram-sha-256").decode()
    salt = theirs.split("$")[1].partition(":")[2]
    assert verifier("43-letters-and-digits", salt) == theirs


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64), st.binary(min_size=16, max_size=16))
def test_it_is_the_same_on_every_run_and_another_for_another_salt(password: str, salt: bytes) -> None:
    text = base64.b64encode(salt).decode()
    other = base64.b64encode(bytes([salt[0] ^ 1, *salt[1:]])).decode()
    assert verifier(password, text) == verifier(password, text)
    assert keys(verifier(password, text)) != keys(verifier(password, other))
    assert password not in verifier(password, text) or len(password) < 4


def test_a_server_stores_it_as_it_is_and_lets_the_password_in(server: Server, new_role: Callable[..., str]) -> None:
    made, role = verifier("the-clear-one", SALT), new_role("scram")
    with server.connect() as admin:
        admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(made)))
        assert admin.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,)).fetchone() == (made,)
    server.connect(user=role, password="the-clear-one").close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        server.connect(user=role, password="another")


def test_a_password_that_is_not_ascii_is_refused_as_it_would_need_normalising() -> None:
    with pytest.raises(UnicodeEncodeError):
        verifier("pässword", SALT)
