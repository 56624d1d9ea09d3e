"""The stand-in for `random` makes what was asked for, and another one after every change."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.plugins import bcrypt
from sandbox.plugins.random import SPECIAL, RandomPassword
from sandbox.plugins.wire import UNKNOWN, Props
from tests.plugins.client import Engine, Failed
from tests.plugins.replay import Served

CLASSES = {
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "numeric": string.digits,
    "special": SPECIAL,
}


@pytest.fixture
def engine(served: Served) -> Engine:
    return Engine(served.clients["random"], "random")


@settings(max_examples=60, deadline=None)
@given(
    used=st.fixed_dictionaries({name: st.booleans() for name in CLASSES}),
    least=st.fixed_dictionaries({name: st.integers(0, 4) for name in CLASSES}),
    more=st.integers(0, 20),
    special=st.sampled_from([None, "-_", "~"]),
)
def test_a_password_has_its_length_its_characters_and_its_least_numbers(
    used: dict[str, bool], least: dict[str, int], more: int, special: str | None
) -> None:
    length = sum(least.values()) + more
    inputs: Props = {
        "length": length,
        "overrideSpecial": special,
        **used,
        **{"min" + name.capitalize(): number for name, number in least.items()},
    }
    resource = RandomPassword()
    possible = any(used[name] or least[name] for name in CLASSES) and length > 0
    assert bool(list(resource.complaints(inputs))) is not possible
    if not possible:
        return
    password = resource.create(inputs).outputs["result"]
    alphabets = {**CLASSES, "special": special or SPECIAL}
    assert len(password) == length
    for name, alphabet in alphabets.items():
        count = sum(letter in alphabet for letter in password)
        assert count >= least[name]
        assert count == 0 or used[name] or least[name]
    assert set(password) <= set("".join(alphabets.values()))


def test_a_password_is_kept_until_an_input_changes(engine: Engine) -> None:
    made = engine.create("RandomPassword", length=20, special=False, keepers={"a": "1"})
    again = engine.create("RandomPassword", length=20, special=False, keepers={"a": "1"})
    assert made.outputs["result"] != again.outputs["result"]
    assert bcrypt.matches(made.outputs["result"], made.outputs["bcryptHash"])
    assert not bcrypt.matches(made.outputs["result"], again.outputs["bcryptHash"])
    refreshed = engine.refresh(made)
    assert refreshed is not None
    assert refreshed.outputs == made.outputs
    same: Props = {"length": 20, "special": False, "keepers": {"a": "1"}}
    assert engine.diff(made, **same)["changes"] == "DIFF_NONE"
    assert engine.diff(made, **same, upper=True)["changes"] == "DIFF_NONE"  # the default, said aloud
    for change in ({"length": 21}, {"special": True}, {"keepers": {"a": "2"}}, {"minLower": 1}, {"overrideSpecial": "-"}):
        found = engine.diff(made, **{**same, **change})
        assert found["replaces"] == found["diffs"] == list(change)
    assert engine.diff(made, length=20, special=False)["replaces"] == ["keepers"]
    assert engine.diff(made, **{**same, "keepers": {"a": UNKNOWN}})["replaces"] == ["keepers"]
    engine.delete(made)


def test_bytes_have_their_length(engine: Engine) -> None:
    made = engine.create("RandomBytes", length=16)
    assert made.id == made.outputs["base64"]
    assert len(bytes.fromhex(made.outputs["hex"])) == 16
    assert engine.diff(made, length=17)["replaces"] == ["length"]


def test_nothing_is_imported(engine: Engine) -> None:
    with pytest.raises(Failed, match="cannot import"):
        engine.import_("RandomPassword", "a password")


@pytest.mark.parametrize(
    ("password", "hash_"),
    [
        # Test vectors of Openwall's crypt_blowfish (wrapper.c).
        ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
        ("U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
        ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
    ],
)
def test_bcrypt_is_bcrypt(password: str, hash_: str) -> None:
    assert bcrypt.matches(password, hash_)
    assert not bcrypt.matches(password + "x", hash_)
