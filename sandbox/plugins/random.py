"""The stand-in for the plugin `random`: RandomPassword and RandomBytes.

Run as `python -m sandbox.plugins.random`. Everything lives in Pulumi's state, so a read gives back what it was given,
and every changed input replaces the resource.
"""

from __future__ import annotations

import base64
import secrets
import string
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from sandbox.plugins import bcrypt
from sandbox.plugins.provider import Difference, Provider, Refused, Resource, State
from sandbox.plugins.sdk import Complaint
from sandbox.plugins.server import serve
from sandbox.plugins.wire import UNKNOWN, Props, has_unknown

SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
"""The special characters used where `overrideSpecial` is not given (the provider's documentation)."""

_CLASSES = {
    "upper": ("minUpper", string.ascii_uppercase),
    "lower": ("minLower", string.ascii_lowercase),
    "numeric": ("minNumeric", string.digits),
    "special": ("minSpecial", SPECIAL),
}


class _Random(Resource):
    """A value made once and kept in state."""

    marks_nothing = False
    made: ClassVar[frozenset[str]]
    """The outputs that are made on create."""

    @abstractmethod
    def make(self, outputs: Props) -> State:
        """The resource with its value, from the `outputs` that follow from the inputs."""

    def settled(self, inputs: Props) -> Props:
        """The outputs that follow from the inputs."""
        return inputs

    def planned(self, inputs: Props, olds: Props | None) -> Props:
        return {**self.settled(inputs), **(dict.fromkeys(self.made, UNKNOWN) if olds is None else olds)}

    def difference(self, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
        wanted = self.settled(inputs)
        names = (wanted.keys() | olds.keys()) - self.made - ignored
        differing = frozenset(name for name in names if wanted.get(name) != olds.get(name))
        return Difference(changed=differing, replacing=differing)

    def create(self, inputs: Props) -> State:
        return self.make(self.settled(inputs))

    def read(self, id_: str, outputs: Props, inputs: Props) -> State | None:
        if not outputs:
            raise Refused(f"{self.token} {id_!r} was not imported: the stand-in for random cannot import")
        return State(id_, outputs)

    def update(self, id_: str, olds: Props, inputs: Props) -> State:
        raise Refused(f"{self.token} was not updated: every change of it makes a new one")

    def delete(self, id_: str, outputs: Props) -> None:
        pass  # there is nothing outside the state


class RandomPassword(_Random):
    """A password from a set of characters, with a least number of each class."""

    token = "random:index/randomPassword:RandomPassword"
    secrets = frozenset({"result", "bcryptHash"})
    made = frozenset({"id", "result", "bcryptHash"})

    def settled(self, inputs: Props) -> Props:
        given = {name: value for name, value in inputs.items() if value is not None}
        numeric = given.get("numeric", given.get("number", True))
        least = {minimum: given.get(minimum, 0) for minimum, _ in _CLASSES.values()}
        used = {name: given.get(name, True) for name in _CLASSES}
        return {**given, **least, **used, "numeric": numeric, "number": numeric}

    def complaints(self, inputs: Props) -> Iterable[Complaint]:
        wanted = self.settled(inputs)
        if has_unknown(wanted):
            return
        least = sum(wanted[minimum] for minimum, _ in _CLASSES.values())
        if wanted["length"] < max(least, 1):
            yield Complaint("length", f"length is {wanted['length']}, must be at least {max(least, 1)}")
        if not any(self._alphabets(wanted).values()):
            yield Complaint("length", "one of upper, lower, numeric and special must be true")

    def make(self, outputs: Props) -> State:
        alphabets = self._alphabets(outputs)
        letters = [secrets.choice(alphabets[name]) for name in alphabets for _ in range(outputs[_CLASSES[name][0]])]
        everything = "".join(alphabets.values())
        letters += [secrets.choice(everything) for _ in range(outputs["length"] - len(letters))]
        secrets.SystemRandom().shuffle(letters)
        password = "".join(letters)
        return State("none", {**outputs, "id": "none", "result": password, "bcryptHash": bcrypt.hashed(password)})

    @staticmethod
    def _alphabets(wanted: Props) -> dict[str, str]:
        """The characters of each class in use; a class with a least number is in use whatever its switch says."""
        alphabets = {name: alphabet for name, (minimum, alphabet) in _CLASSES.items() if wanted[name] or wanted[minimum]}
        if "special" in alphabets and wanted.get("overrideSpecial"):
            alphabets["special"] = wanted["overrideSpecial"]
        return alphabets


class RandomBytes(_Random):
    """Random bytes, as base64 and as hexadecimal digits."""

    token = "random:index/randomBytes:RandomBytes"
    secrets = frozenset({"base64", "hex"})
    made = frozenset({"base64", "hex"})

    def complaints(self, inputs: Props) -> Iterable[Complaint]:
        length = inputs["length"]
        if length is not UNKNOWN and length < 1:
            yield Complaint("length", f"length is {length}, must be at least 1")

    def make(self, outputs: Props) -> State:
        data = secrets.token_bytes(outputs["length"])
        text = base64.b64encode(data).decode()
        return State(text, {**outputs, "base64": text, "hex": data.hex()})


class Random(Provider):
    """The provider itself; it has no configuration."""

    package = "random"
    accept_resources = True

    def resources(self, settings: Props) -> Sequence[Resource]:
        return (RandomPassword(), RandomBytes())


if __name__ == "__main__":
    serve(Random())
