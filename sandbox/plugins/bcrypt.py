"""bcrypt, for the one output of RandomPassword that needs it; the standard library has none.

Provos and Mazieres, "A Future-Adaptable Password Scheme" (USENIX 1999), on Schneier's Blowfish, whose tables are the
first hexadecimal digits of pi. Written to be small, not fast.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import cache
from itertools import cycle

COST = 4
"""Rounds as a power of two: the smallest that bcrypt allows. The real plugin takes 10, which is slow in Python."""

_LONGEST = 72
"""Bytes of a password that bcrypt looks at."""

_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_WORD = 0xFFFFFFFF
_SUBKEYS = 18
_BOX = 256


def hashed(password: str, salt: bytes | None = None, cost: int = COST) -> str:
    """The bcrypt hash of `password`, in the form `$2a$<cost>$<salt><hash>`. `salt` has 16 bytes, random if left out."""
    salt = salt or secrets.token_bytes(16)
    key = password.encode()[:_LONGEST] + b"\0"
    state = _Blowfish()
    state.expand(key, salt)
    for _ in range(1 << cost):
        state.expand(key)
        state.expand(salt)
    text = b"OrpheanBeholderScryDoubt"
    out = b"".join(state.scrambled(text[start : start + 8]) for start in range(0, len(text), 8))
    return f"$2a${cost:02d}${_base64(salt)}{_base64(out[:23])}"


def matches(password: str, hash_: str) -> bool:
    """Whether `hash_` is a bcrypt hash of `password`."""
    _, _, cost, salt_and_hash = hash_.split("$")
    salt = _from_base64(salt_and_hash[:22])[:16]
    return secrets.compare_digest(hashed(password, salt, int(cost)), hash_)


class _Blowfish:
    def __init__(self) -> None:
        words = _digits_of_pi()
        self.subkeys = list(words[:_SUBKEYS])
        self.boxes = [list(words[_SUBKEYS + _BOX * n : _SUBKEYS + _BOX * (n + 1)]) for n in range(4)]

    def encrypt(self, left: int, right: int) -> tuple[int, int]:
        first, second, third, fourth = self.boxes
        for subkey in self.subkeys[:16]:
            left ^= subkey
            mixed = ((first[left >> 24] + second[left >> 16 & 255]) ^ third[left >> 8 & 255]) + fourth[left & 255]
            left, right = right ^ (mixed & _WORD), left
        return right ^ self.subkeys[17], left ^ self.subkeys[16]

    def expand(self, key: bytes, salt: bytes = b"\0" * 16) -> None:
        key_words, salt_words = _words(key), _words(salt)
        self.subkeys = [subkey ^ next(key_words) for subkey in self.subkeys]
        left = right = 0
        for table in (self.subkeys, *self.boxes):
            for index in range(0, len(table), 2):
                left, right = self.encrypt(left ^ next(salt_words), right ^ next(salt_words))
                table[index], table[index + 1] = left, right

    def scrambled(self, block: bytes) -> bytes:
        left, right = int.from_bytes(block[:4], "big"), int.from_bytes(block[4:], "big")
        for _ in range(64):
            left, right = self.encrypt(left, right)
        return left.to_bytes(4, "big") + right.to_bytes(4, "big")


def _words(key: bytes) -> Iterator[int]:
    """The bytes of `key` as big-endian words, over and over."""
    endless = cycle(key)
    while True:
        yield int.from_bytes(bytes(next(endless) for _ in range(4)), "big")


@cache
def _digits_of_pi() -> tuple[int, ...]:
    """The 1042 words after the point of pi in binary, by Machin's formula with 64 bits to spare."""
    count = _SUBKEYS + 4 * _BOX
    bits = 32 * count + 64

    def arctan_of_inverse(x: int) -> int:
        term = total = (1 << bits) // x
        for n in range(3, bits, 2):
            term //= x * x
            if not term:
                break
            total += -(term // n) if n % 4 == 3 else term // n
        return total

    pi = 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))
    fraction = (pi - (3 << bits)) >> 64
    return tuple(fraction >> 32 * (count - 1 - n) & _WORD for n in range(count))


def _base64(data: bytes) -> str:
    """bcrypt's own base64: another alphabet, no padding."""
    bits = int.from_bytes(data, "big") << (-8 * len(data)) % 6
    length = -(-8 * len(data) // 6)
    return "".join(_ALPHABET[bits >> 6 * (length - 1 - n) & 63] for n in range(length))


def _from_base64(text: str) -> bytes:
    bits = 0
    for letter in text:
        bits = bits << 6 | _ALPHABET.index(letter)
    length = 6 * len(text) // 8
    return (bits >> 6 * len(text) - 8 * length).to_bytes(length, "big")
