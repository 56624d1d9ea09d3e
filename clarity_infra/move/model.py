"""What is a move, and what does it consist of? Plain facts, read from a catalog once and passed around."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

from clarity_infra.connection import Endpoint
from clarity_infra.move.names import Name

# Takes one finished line of text for the person who watches.
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Move:
    """What is asked for: `tables` of database `source` are to live in database `target`, owned there by `owner`.

    Both endpoints log in as the admin of their server. `tracking` names Drizzle's table: "auto", "none" or "schema.table".
    `logins`: every role by which the application comes to act as the owner; where none is named, the owner logs in itself.
    `maintenance` names a database that the target's server has before the target; where none is named, the source's does on its own server, and
    `postgres`, which most servers have, on another.
    `accept` holds the object texts of blockers that are accepted; `workers` bounds the pairs of connections rows travel on.
    """

    stack: str
    source: Endpoint
    target: Endpoint
    owner: str
    tables: tuple[Name, ...]
    logins: tuple[str, ...] = ()
    tracking: str = "auto"
    accept: tuple[str, ...] = ()
    workers: int = 4
    maintenance: str = ""

    @property
    def before_target(self) -> Endpoint:
        """The target's server as it is reached while the target does not exist."""
        same_server = (self.source.host, self.source.port) == (self.target.host, self.target.port)
        return self.target.with_database(self.maintenance or (self.source.database if same_server else "postgres"))


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as the application sees it. `type` is `format_type`'s text, `default` the deparsed expression."""

    name: str
    type: str
    generated: bool
    identity: Literal["", "a", "d"]
    not_null: bool
    default: str | None = None
    binary: bool = False  # whether its values may travel in COPY's binary format
    enum: bool = False  # whether its type is an enum itself, not an array or a domain of one


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the set. `key` is the primary key, else the first unique index that identifies every row, else None.

    `kind` is "r" (has rows of its own) or "p" (partitioned, its rows are its partitions'). `bytes` counts TOAST, not indexes;
    `estimated_rows` is the catalog's estimate, -1 where the table was never analyzed.
    """

    name: Name
    oid: int
    kind: Literal["r", "p"]
    columns: tuple[Column, ...]
    key: tuple[str, ...] | None
    parents: tuple[Name, ...]
    children: tuple[Name, ...]
    references: tuple[Name, ...]
    estimated_rows: int
    bytes: int
    pages: int
    row_security: bool
    forced_row_security: bool
    heap: bool

    @property
    def stored(self) -> tuple[Column, ...]:
        """The columns whose values are data, not computed."""
        return tuple(column for column in self.columns if not column.generated)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Every column's name, in the catalog's order."""
        return tuple(column.name for column in self.columns)

    @property
    def toasted(self) -> bool:
        """Whether a good part of the values is large enough to be kept outside of the rows (TOAST), by sizes in the server's usual pages."""
        return self.bytes > self.pages * 8192 * 1.1 + 65536


@dataclasses.dataclass(frozen=True)
class Sequence:
    """A sequence of the set; `table` and `column` where one owns it (serial and identity columns)."""

    name: Name
    oid: int
    table: Name | None
    column: str | None
    identity: bool


@dataclasses.dataclass(frozen=True)
class Blocker:
    """Why the move cannot be made faithfully. `accept` in the configuration removes it by `object` where `can_accept`."""

    object: str
    reason: str
    remedy: str
    can_accept: bool = True

    def __str__(self) -> str:
        return f"{self.object}: {self.reason}. What to do: {self.remedy}"


@dataclasses.dataclass(frozen=True)
class Extension:
    """An extension the set needs, with its version and the schema of its objects."""

    name: str
    version: str
    schema: str


@dataclasses.dataclass(frozen=True)
class MoveSet:
    """The tables that move, parents before the tables that reference them where there is no cycle, and what they need.

    `features` has each column or type that needs something a server may not have ("lz4", "partition identity"): what, object,
    and for a column the beginning of the statement that alters it. `parameters` has each function that sets a server parameter: what, object.
    `objects` identifies everything that moves by (catalog, object) as `pg_depend` does; it is true of one database only.
    `shared` tells what the tables that stay need too: it is moved, and kept in the source for good.
    """

    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    enums: Mapping[Name, tuple[str, ...]]
    types: tuple[str, ...]
    functions: tuple[str, ...]
    others: tuple[str, ...]
    extensions: tuple[Extension, ...]
    schemas: tuple[str, ...]
    collations: tuple[str, ...]
    policy_roles: tuple[str, ...]
    features: tuple[tuple[str, str, str], ...]
    parameters: tuple[tuple[str, str], ...]
    tracking: Name | None
    blockers: tuple[Blocker, ...]
    notes: tuple[str, ...]
    shared: tuple[str, ...] = ()
    objects: frozenset[tuple[int, int]] = dataclasses.field(default=frozenset(), repr=False)

    def table(self, name: Name) -> Table:
        """The table of that name; raises KeyError."""
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(str(name))

    @property
    def with_rows(self) -> tuple[Table, ...]:
        """The tables that hold rows of their own: all but partitioned parents."""
        return tuple(table for table in self.tables if table.kind == "r")
