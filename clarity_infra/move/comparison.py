"""Which of the noted changes differ between the sides? Whole tables are read once, after that only the keys that were found."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping

import psycopg

from clarity_infra.move.capture import Changes
from clarity_infra.move.digest import Method
from clarity_infra.move.names import Name
from clarity_infra.move.plan import Key, Plan, differing, plan
from clarity_infra.move.shape import Shape


@dataclasses.dataclass
class Comparison:
    """Compares sender and receiver by what `changes` tells; rows in `given_up` are left out.

    A table that `changes` names as whole is read whole the first time `make` is called, and again only where a cascade of
    the receiving side may have hit it. `keyless_seconds` is what tables without a key took.
    """

    sender: psycopg.Connection
    receiver: psycopg.Connection
    shaped: Mapping[Name, Shape]
    changes: Changes
    method: Method | None = None
    given_up: Mapping[Name, frozenset[Key]] = dataclasses.field(default_factory=dict)
    keyless_seconds: float = 0.0
    first: dict[Name, Plan] = dataclasses.field(default_factory=dict)
    seen: list[dict[Name, Plan]] = dataclasses.field(default_factory=list)

    def make(self, hit: Collection[Name] = ()) -> dict[Name, Plan]:
        """What has to be carried now. Tables that were `hit` by a cascade are read whole: it notes no keys."""
        found = {name: self._kept(name, self._one(shape, whole=name in hit)) for name, shape in self.shaped.items()}
        self.first = self.first or found
        self.seen.append(found)
        return found

    def touched(self) -> Changes:
        """What was found to differ, to be looked at again later without reading whole tables; what cascades then moved among it."""
        keys: dict[Name, dict[Key, None]] = {}
        whole: set[Name] = set()
        for name, todo in (item for found in self.seen for item in found.items() if not item[1].empty()):
            if self.shaped[name].key:
                keys.setdefault(name, {}).update(dict.fromkeys(todo.keys()))
            else:
                whole.add(name)
        return Changes({name: list(found) for name, found in keys.items()}, frozenset(whole))

    def _one(self, shape: Shape, *, whole: bool) -> Plan:
        gone = self.given_up.get(shape.name, frozenset())
        if whole:
            return differing(self.sender, self.receiver, shape, method=self.method, but=gone)
        if shape.name not in self.changes.whole:
            return plan(self.sender, self.receiver, shape, self.changes.keys.get(shape.name, []), but=gone)
        before = self.first.get(shape.name)
        if before is not None and shape.key and not self._hit_by_cascade(shape):
            return plan(self.sender, self.receiver, shape, before.keys(), but=gone)
        started = time.monotonic()
        found = differing(self.sender, self.receiver, shape, method=self.method, but=gone)
        if not shape.key:
            self.keyless_seconds += time.monotonic() - started
        return found

    def _hit_by_cascade(self, shape: Shape) -> bool:
        parents = (self.first.get(name, Plan()) for name in shape.table.references)
        return any(parent.delete or parent.update for parent in parents)

    def _kept(self, name: Name, found: Plan) -> Plan:
        gone = self.given_up.get(name)
        if not gone:
            return found
        return dataclasses.replace(
            found,
            insert=tuple(key for key in found.insert if key not in gone),
            update=tuple(key for key in found.update if key not in gone),
        )
