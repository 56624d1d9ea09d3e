"""What the resources of the stand-in for `postgresql` have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from sandbox.plugins import attributes
from sandbox.plugins.attributes import Attributes
from sandbox.plugins.pg.connection import Server
from sandbox.plugins.provider import Difference, Naming, Resource, State
from sandbox.plugins.wire import UNKNOWN, Props


class Managed(Resource):
    """A resource that a server holds and whose attributes it is asked for.

    Subclasses make, find, change and remove it; `found` in their answers holds what the server says of it.
    """

    attributes: ClassVar[Attributes]
    is_named: ClassVar[bool] = False
    """Whether a name is made up where the program gives none."""

    importable: ClassVar[bool] = False

    def __init__(self, server: Server) -> None:
        self.server = server

    @abstractmethod
    def make(self, planned: Props) -> str:
        """Makes the resource and gives its ID."""

    @abstractmethod
    def find(self, id_: str, state: Props) -> Props | None:
        """What the server says of the resource now; None: it is gone."""

    def change(self, olds: Props, planned: Props, changed: frozenset[str]) -> str:
        """Changes the resource in place and gives its ID."""
        raise NotImplementedError(f"{self.token} has nothing that changes in place")

    @abstractmethod
    def remove(self, state: Props) -> None: ...

    def completed(self, inputs: Props, olds: Props, naming: Naming) -> Props:
        inputs = attributes.fill_in(self.attributes, inputs)
        return attributes.fill_in_name(inputs, olds, naming) if self.is_named else inputs

    def planned(self, inputs: Props, olds: Props | None) -> Props:
        id_ = UNKNOWN if olds is None else olds.get("id")
        return {**attributes.plan(self.attributes, inputs, olds), "id": id_}

    def difference(self, olds: Props, inputs: Props, ignored: frozenset[str]) -> Difference:
        return attributes.compare(self.attributes, olds, inputs, ignored)

    def create(self, inputs: Props) -> State:
        planned = attributes.plan(self.attributes, inputs, None)
        return self._settled(self.make(_without_unknown(planned)), planned)

    def update(self, id_: str, olds: Props, inputs: Props) -> State:
        planned = attributes.plan(self.attributes, inputs, olds)
        changed = attributes.changed(self.attributes, inputs, olds)
        return self._settled(self.change(olds, _without_unknown(planned), changed), planned)

    def read(self, id_: str, outputs: Props, inputs: Props) -> State | None:
        if not outputs and not self.importable:
            return None  # the real plugin has no importer here either, and finds nothing
        state = {name: outputs.get(name, each.default) for name, each in self.attributes.items()}
        found = self.find(id_, state)
        if found is None:
            return None
        now = {**state, **found, "id": id_}
        return State(id_, now, attributes.taken_inputs(self.attributes, now, inputs))

    def delete(self, id_: str, outputs: Props) -> None:
        self.remove({name: outputs.get(name) for name in self.attributes})

    def _settled(self, id_: str, planned: Props) -> State:
        found = self.find(id_, _without_unknown(planned)) or {}
        return State(id_, {**attributes.settle(self.attributes, planned, found), "id": id_})


def _without_unknown(planned: Props) -> Props:
    return {name: None if value is UNKNOWN else value for name, value in planned.items()}
