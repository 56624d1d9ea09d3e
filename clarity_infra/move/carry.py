"""How do rows that changed on one side come to the other? By key: inserted, updated or deleted, each row once.

Never deleted and inserted again, as a cascade would take its children. The receiving tables' own triggers are put to
rest for the transaction, since what they did on the sending side is among the rows already. The order of the rows'
constraints is not computed: what a foreign key or a unique index does not let in yet is postponed until other rows made
way, and only where nothing moves any more (cycles), or hardly anything (chains), foreign keys are made deferrable for the transaction, or
a value that two rows exchange is parked. A row is not deleted while another refers to it that may only be waiting to be led elsewhere: a
cascade would take that one, and what refers to it in turn. Everything happens in the caller's transaction on the receiving side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal, LiteralString

import psycopg
from psycopg import sql

from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move import fence
from clarity_infra.move.names import Name
from clarity_infra.move.owners import Owner, acting_as, owners
from clarity_infra.move.plan import (
    BATCH_KEYS,
    Escaped,
    Key,
    Plan,
    Values,
    batches,
    batches_by_size,
    equal,
    given_keys,
    table_of,
    type_of,
    value_of,
    values_of,
)
from clarity_infra.move.queries import query
from clarity_infra.move.shape import Shape, listed
from clarity_infra.texts import shown

# Carries in a row until both sides are equal: the second repairs what cascades of the first moved.
PASSES = 3
# So many times rows are tried in vain, each by itself, before foreign keys are deferred and all values that are in the way are parked at
# once: of a chain, in which each row waits for another, every round may let in no more than one.
VAIN = 500
# How long (milliseconds) readers are waited for where a table has to be altered before its rows can be written.
READERS_MS = 5_000

_NOT_YET = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.RestrictViolation,
    psycopg.errors.ExclusionViolation,
)


# psycopg logs a warning when a batch fails whose rows are then tried one by one.
logging.getLogger("psycopg").addFilter(lambda record: "error ignored terminating" not in record.msg)


@dataclasses.dataclass
class Carried:
    """How many rows were written to the receiving side; `hit` are the tables of which a cascade may have taken rows that stay."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    hit: set[Name] = dataclasses.field(default_factory=set)

    def add(self, other: Carried) -> None:
        """Counts another carry's rows as well."""
        self.inserted += other.inserted
        self.updated += other.updated
        self.deleted += other.deleted
        self.hit |= other.hit

    def total(self) -> int:
        """All of them."""
        return self.inserted + self.updated + self.deleted


@dataclasses.dataclass
class _Work:
    """Rows of one table to be written in one way. Of rows that had to wait `obstacles` tells why; None: others refer to it still."""

    how: Literal["insert", "update", "delete"]
    shape: Shape
    rows: list[tuple[Key, Values]]
    obstacles: dict[Key, psycopg.Error | None] = dataclasses.field(default_factory=dict)

    def backwards(self) -> _Work:
        """The same from its end: where each row waits for the next one, that is the way to take them."""
        return _Work(self.how, self.shape, self.rows[::-1])


@dataclasses.dataclass(frozen=True)
class _Acting:
    """A foreign key that does something to the rows of `child` that refer to a row which is deleted."""

    child: Name
    owner: Owner
    referred: tuple[str, ...]
    referring: tuple[str, ...]
    types: tuple[str, ...]
    operators: tuple[str, ...]


class NoPlace(Refused):
    """A row that the receiving side cannot hold: a label, a length or a constraint it does not have."""

    def __init__(self, shape: Shape, key: Key, error: psycopg.Error) -> None:
        super().__init__(
            f"{shape.name} {named(shape, key)} has no place on the other side: {error.diag.message_primary}.",
            unchanged="Nothing was changed.",
            remedy="change or delete that row, or have the table that is to receive it take it (a default, a longer type, a constraint less);"
            " then run the same command again.",
        )


def named(shape: Shape, key: Key) -> str:
    """A key as a person reads it: column=value, and no more of a row without a key than its first columns."""
    return ", ".join(f"{column}={shown(part)}" for column, part in list(zip(shape.told_by, key, strict=True))[:4])


class _Stuck(Exception):
    """Nothing that is left can be written before something else of it."""

    def __init__(self, left: list[_Work]) -> None:
        self.left = left


def carry(
    sender: psycopg.Connection,
    receiver: psycopg.Connection,
    shaped: Mapping[Name, Shape],
    plans: Mapping[Name, Plan],
) -> Carried:
    """Writes what `plans` say, in the receiver's transaction, whose own triggers are at rest (see `at_rest`).

    Tables are taken in the order of `shaped`, parents first. Raises Refused where rows cannot be brought in whatever the
    order; the caller rolls back.
    """
    if all(plan.empty() for plan in plans.values()):
        return Carried()
    with _identities_open(receiver, _numbered_anew(sender, receiver, shaped, plans)) as opened:
        shaped = {**shaped, **opened}
        try:
            with receiver.transaction():
                return _write(sender, receiver, shaped, plans, parking=False)
        except (_Stuck, psycopg.errors.ForeignKeyViolation):
            pass
        with _deferrable(receiver, list(shaped)):
            try:
                return _write(sender, receiver, shaped, plans, parking=True)
            except _Stuck as stuck:
                raise _cannot(stuck) from None


def carry_until_equal(
    sender: psycopg.Connection,
    receiver: psycopg.Connection,
    shaped: Mapping[Name, Shape],
    compare: Callable[[Collection[Name]], Mapping[Name, Plan]],
) -> tuple[Carried, Mapping[Name, Plan], list[Name]]:
    """Carries what `compare` finds, and again what cascades on the receiving side have moved meanwhile.

    `compare` is told the tables of which a cascade may have taken rows that nobody noted. Gives what was written, what the first
    comparison found, and the tables that differ still: normally none.
    """
    total, first = Carried(), compare(())
    plans = first
    if all(plan.empty() for plan in plans.values()):
        return total, first, []
    for _ in range(PASSES):
        total.add(carry(sender, receiver, shaped, plans))
        plans = compare(total.hit)
        if all(plan.empty() for plan in plans.values()):
            return total, first, []
    return total, first, [name for name, plan in plans.items() if not plan.empty()]


def _write(
    sender: psycopg.Connection,
    receiver: psycopg.Connection,
    shaped: Mapping[Name, Shape],
    plans: Mapping[Name, Plan],
    *,
    parking: bool,
) -> Carried:
    carried = Carried()
    owner_of = owners(receiver, shaped)
    acting = _acting_keys(receiver, shaped)
    receiver.execute("SET CONSTRAINTS ALL DEFERRED")

    def attempt(works: Iterable[_Work], *, sparing: bool) -> list[_Work]:
        found: list[_Work] = []
        for work in works:
            spared = sparing and work.how == "delete" and any(other.how != "delete" for other in found)
            keys = acting.get(work.shape.name, ()) if spared else ()
            rest = _attempt(receiver, owner_of[work.shape.name], work, carried, keys)
            found += [rest] if rest is not None else []
            if not parking and _rows_of(found) >= VAIN:
                raise _Stuck(found)
        return found

    left = attempt(_works(sender, shaped, plans), sparing=True)
    vain, parked, sparing = _rows_of(left), set[tuple[Name, Key, str]](), True
    while left:
        before = _rows_of(left)
        # Inserts and updates first whatever the direction, so that it is known what waits when a row would be deleted.
        turned = [work.backwards() for work in reversed(left)]
        left = attempt(sorted(turned, key=lambda work: work.how == "delete"), sparing=sparing)
        vain += _rows_of(left)
        moves = _rows_of(left) < before
        if moves and vain < VAIN:
            continue
        if not parking:
            raise _Stuck(left)
        if _park(receiver, owner_of, left, parked, every=vain >= VAIN) or moves:
            continue
        if not sparing or not any(None in work.obstacles.values() for work in left):
            raise _Stuck(left)
        sparing = False
        carried.hit |= _reached({work.shape.name for work in left if work.how == "delete"}, acting)
    receiver.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return carried


def _rows_of(works: Iterable[_Work]) -> int:
    return sum(len(work.rows) for work in works)


def _acting_keys(receiver: psycopg.Connection, tables: Iterable[Name]) -> dict[Name, list[_Acting]]:
    """By the table that is referred to."""
    rows = receiver.execute(query("carry_acting_keys"), listed(tables)).fetchall()
    owner_of = owners(receiver, dict.fromkeys(Name(schema, child) for _, _, schema, child, *_ in rows))
    found: dict[Name, list[_Acting]] = {}
    for schema, table, child_schema, name, *facts in rows:
        child = Name(child_schema, name)
        found.setdefault(Name(schema, table), []).append(_Acting(child, owner_of[child], *map(tuple, facts)))
    return found


def _reached(tables: Iterable[Name], acting: Mapping[Name, Sequence[_Acting]]) -> set[Name]:
    """The tables of which rows may go, or change, when rows of `tables` are deleted."""
    reached: set[Name] = set()
    left = list(tables)
    while left:
        children = {key.child for key in acting.get(left.pop(), ())} - reached
        reached |= children
        left += children
    return reached


def _works(sender: psycopg.Connection, shaped: Mapping[Name, Shape], plans: Mapping[Name, Plan]) -> Iterator[_Work]:
    """Inserts and updates parents first, then deletes children first; rows are read from the sender as they are needed."""
    for how in ("insert", "update"):
        for name, shape in shaped.items():
            todo = plans.get(name, Plan())
            keys = todo.insert if how == "insert" else todo.update
            for batch in batches_by_size(keys, todo.bytes_of):
                if not shape.key:
                    yield _Work("insert", shape, [(row, row) for row in batch])
                    continue
                values = values_of(sender, shape.written, shape, shape.sender, batch)
                rows = [(key, values[number]) for number, key in enumerate(batch, start=1) if number in values]
                yield _Work("insert" if how == "insert" else "update", shape, rows)
    for name, shape in reversed(list(shaped.items())):
        for gone in batches(plans.get(name, Plan()).delete, BATCH_KEYS):
            yield _Work("delete", shape, [(key, ()) for key in gone])


def _attempt(connection: psycopg.Connection, owner: Owner, work: _Work, carried: Carried, spared: Sequence[_Acting] = ()) -> _Work | None:
    """Writes the rows together, or those that can be written one by one; gives what has to wait.

    So do rows to be deleted to which, by one of the keys in `spared`, another row still refers.
    """
    referred_to = _referred_to(connection, owner, work, spared)
    left = _Work(work.how, work.shape, [row for row in work.rows if row[0] in referred_to], dict.fromkeys(referred_to))
    todo = dataclasses.replace(work, rows=[row for row in work.rows if row[0] not in referred_to])
    if todo.rows:
        with acting_as(connection, owner):
            _write_rows(connection, todo, left, carried)
    return left if left.rows else None


def _write_rows(connection: psycopg.Connection, work: _Work, left: _Work, carried: Carried) -> None:
    """Adds to `left` what has to wait."""
    with contextlib.suppress(psycopg.DataError, psycopg.IntegrityError):
        with connection.transaction():
            _write_together(connection, work)
        _count(carried, work.how, len(work.rows))
        return
    statement = _statement(work.shape, work.how)
    for row in work.rows:
        try:
            with connection.transaction():
                connection.execute(statement, _parameters(work, row))
            _count(carried, work.how, 1)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if not _not_yet(work, error):
                raise NoPlace(work.shape, row[0], error) from None
            left.rows.append(row)
            left.obstacles[row[0]] = error


def _not_yet(work: _Work, error: psycopg.Error) -> bool:
    """Whether a row may be written later. What a foreign key would do to other rows may fail until these are what they are to be."""
    elsewhere = work.how == "delete" or error.diag.table_name not in (None, work.shape.name.name)
    return isinstance(error, _NOT_YET) or (isinstance(error, psycopg.IntegrityError) and elsewhere)


def _write_together(connection: psycopg.Connection, work: _Work) -> None:
    """Rows are deleted by one statement, as they may refer to each other."""
    shape = work.shape
    if work.how != "delete" or not shape.key:
        with connection.cursor() as cursor:
            cursor.executemany(_statement(shape, work.how), [_parameters(work, row) for row in work.rows])
        return
    parts = [sql.Identifier("w", f"k{number}") for number, _ in enumerate(shape.key)]
    connection.execute(
        sql.SQL("DELETE FROM ONLY {} AS t USING {} WHERE {}").format(
            table_of(shape.name), given_keys(len(parts)), _by_key(shape, parts, of="t")
        ),
        [list(column) for column in zip(*(key for key, _ in work.rows), strict=True)],
    )


def _by_key(shape: Shape, values: Sequence[sql.Composable], of: str = "") -> sql.Composed:
    """Whether a row of the receiver (of alias `of`, if any) has the key whose parts are given as text."""
    kinds = [shape.receiver[column] for column in shape.key]
    parts = [(Escaped(of, column) if of else Escaped(column)) for column in shape.key]
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}::{}").format(part, equal(shape, kind), value, type_of(kind))
        for part, kind, value in zip(parts, kinds, values, strict=True)
    )


def _referred_to(connection: psycopg.Connection, owner: Owner, work: _Work, by: Sequence[_Acting]) -> set[Key]:
    """Those of the rows to which another row refers, of this table or another, by one of the foreign keys."""
    found: set[Key] = set()
    keys = [key for key, _ in work.rows]
    for acting in by:
        with acting_as(connection, owner):
            values = values_of(connection, acting.referred, work.shape, work.shape.receiver, keys)
        joined = [
            sql.SQL("t.{} {} w.{}::{}").format(Escaped(column), type_of(operator), sql.Identifier(f"k{number}"), type_of(kind))
            for number, (column, kind, operator) in enumerate(zip(acting.referring, acting.types, acting.operators, strict=True))
        ]
        statement = sql.SQL("SELECT DISTINCT w.n FROM {} JOIN ONLY {} AS t ON {}").format(
            given_keys(len(joined)), table_of(acting.child), sql.SQL(" AND ").join(joined)
        )
        if values:
            with acting_as(connection, acting.owner):
                rows = connection.execute(statement, [list(column) for column in zip(*values.values(), strict=True)]).fetchall()
            numbers = list(values)
            found.update(keys[numbers[n - 1] - 1] for (n,) in rows)
    return found


def _count(carried: Carried, how: str, rows: int) -> None:
    if how == "insert":
        carried.inserted += rows
    elif how == "update":
        carried.updated += rows
    else:
        carried.deleted += rows


def _statement(shape: Shape, how: str) -> sql.Composed:
    table = table_of(shape.name)
    if how == "delete" and not shape.key:
        same = sql.SQL(" AND ").join(
            sql.SQL("{}::text IS NOT DISTINCT FROM %s::text").format(value_of(shape, column, shape.receiver)) for column in shape.written
        )
        return sql.SQL("DELETE FROM ONLY {0} WHERE ctid = (SELECT t.ctid FROM ONLY {0} AS t WHERE {1} LIMIT 1)").format(
            table, same if shape.written else sql.SQL("true")
        )
    where = _by_key(shape, [sql.Placeholder()] * len(shape.key))
    if how == "delete":
        return sql.SQL("DELETE FROM ONLY {} WHERE {}").format(table, where)
    if how == "insert" and not shape.written:
        return sql.SQL("INSERT INTO {} DEFAULT VALUES").format(table)
    if how == "insert":
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            table,
            sql.SQL(", ").join(Escaped(column) for column in shape.written),
            sql.SQL(", ").join(sql.Placeholder() for _ in shape.written),
        )
    return sql.SQL("UPDATE ONLY {} SET {} WHERE {}").format(
        table,
        sql.SQL(", ").join(sql.SQL("{} = %s").format(Escaped(column)) for column in _updated(shape)),
        where,
    )


def _updated(shape: Shape) -> tuple[str, ...]:
    """An identity column that is GENERATED ALWAYS cannot be updated: by key it never has to be, and others are opened for it."""
    return tuple(column for column in shape.written if column not in shape.always)


def _parameters(work: _Work, row: tuple[Key, Values]) -> Sequence[str | None]:
    key, values = row
    if work.how == "delete":
        return key
    if work.how == "insert":
        return values
    by_name = dict(zip(work.shape.written, values, strict=True))
    return [*(by_name[column] for column in _updated(work.shape)), *key]


@contextlib.contextmanager
def _deferrable(connection: psycopg.Connection, tables: Iterable[Name]) -> Iterator[None]:
    """Makes the tables' foreign keys deferrable for the time of the transaction: cycles need it.

    Takes ACCESS EXCLUSIVE on the tables that have such keys, so readers wait for the end of the transaction.
    """
    found = connection.execute(query("carry_foreign_keys"), listed(tables)).fetchall()
    owner_of = owners(connection, dict.fromkeys(Name(schema, table) for schema, table, _ in found))

    def alter(clause: LiteralString) -> None:
        for schema, table, constraint in found:
            name = Name(schema, table)
            with acting_as(connection, owner_of[name]), _patient(connection, name):
                connection.execute(sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} " + clause).format(name.identifier(), sql.Identifier(constraint)))

    alter("DEFERRABLE INITIALLY DEFERRED")
    yield
    alter("NOT DEFERRABLE")


def _numbered_anew(
    sender: psycopg.Connection, receiver: psycopg.Connection, shaped: Mapping[Name, Shape], plans: Mapping[Name, Plan]
) -> list[Shape]:
    """The tables in which a row was given another number (SET column = DEFAULT) that only the server may give."""

    def differ(shape: Shape, keys: Sequence[Key]) -> bool:
        here = values_of(sender, shape.given, shape, shape.sender, keys)
        there = values_of(receiver, shape.given, shape, shape.receiver, keys)
        return any(here[number] != values for number, values in there.items() if number in here)

    return [
        shape
        for name, shape in shaped.items()
        if shape.given and any(differ(shape, batch) for batch in batches(plans.get(name, Plan()).update, BATCH_KEYS))
    ]


@contextlib.contextmanager
def _identities_open(connection: psycopg.Connection, shapes: Sequence[Shape]) -> Iterator[dict[Name, Shape]]:
    """Lets the tables' GENERATED ALWAYS columns be written for the time of the transaction; gives the shapes they have then.

    Takes ACCESS EXCLUSIVE on these tables, so readers wait for the end of the transaction.
    """
    holders: dict[tuple[Name, str], None] = {}
    for shape in shapes:
        row = connection.execute(query("carry_identity_holder"), {"schema": shape.name.schema, "table": shape.name.name}).fetchone()
        assert row is not None
        holders.update(dict.fromkeys((Name(*row), column) for column in shape.given))
    owner_of = owners(connection, [name for name, _ in holders])

    def alter(clause: LiteralString) -> None:
        for name, column in holders:
            with acting_as(connection, owner_of[name]), _patient(connection, name):
                connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN {} " + clause).format(name.identifier(), sql.Identifier(column)))

    alter("SET GENERATED BY DEFAULT")
    yield {shape.name: dataclasses.replace(shape, always=shape.always - frozenset(shape.given)) for shape in shapes}
    alter("SET GENERATED ALWAYS")


@contextlib.contextmanager
def _patient(connection: psycopg.Connection, name: Name) -> Iterator[None]:
    """Waits for a table's readers, but not for ever: others queue behind."""
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (str(READERS_MS),))
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise Refused(
            f"Somebody reads {name} and did not let go within {READERS_MS // 1000} s; writing these rows needs the table for a moment.",
            unchanged="Nothing was changed.",
            remedy="end that session, or wait for it; then run the same command again.",
        ) from None
    connection.execute("SELECT set_config('lock_timeout', '0', true)")


def _park(
    connection: psycopg.Connection,
    owner_of: Mapping[Name, Owner],
    left: list[_Work],
    parked: set[tuple[Name, Key, str]],
    *,
    every: bool,
) -> bool:
    """Takes the value of one waiting row, or of `every` one, out of the way of the others; its own write, still to come, sets the right one.

    Whatever the row itself waits for: of two that exchange several values each may be in the other's way by another one.
    """
    indexes: dict[Name, dict[str, None]] = {}
    for work in left:
        for obstacle in work.obstacles.values():
            if obstacle is not None:
                indexes.setdefault(work.shape.name, {})[obstacle.diag.constraint_name or ""] = None
    done = False
    for work in sorted(left, key=lambda work: work.how == "delete"):
        for key, index in itertools.product(work.obstacles, indexes.get(work.shape.name, ())):
            if work.how == "insert" or (work.shape.name, key, index) in parked:
                continue
            parked.add((work.shape.name, key, index))
            with acting_as(connection, owner_of[work.shape.name]):
                done = _park_one(connection, work.shape, key, index) or done
            if done and not every:
                return True
    return done


def _park_one(connection: psycopg.Connection, shape: Shape, key: Key, index: str) -> bool:
    rows = connection.execute(
        query("carry_constraint_columns"),
        {"schema": shape.name.schema, "table": shape.name.name, "index": index},
    ).fetchall()
    where = _by_key(shape, [sql.Placeholder()] * len(shape.key))
    for column, nullable, type_text, category in rows:
        if column in shape.key or column in shape.always or column not in shape.written:
            continue
        for value in _unused(shape, column, nullable, type_text, category):
            with contextlib.suppress(psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError), connection.transaction():
                connection.execute(
                    sql.SQL("UPDATE ONLY {} SET {} = {} WHERE {}").format(table_of(shape.name), Escaped(column), value, where),
                    list(key),
                )
                return True
    return False


# Values that hardly any row of a table has in a column, by the category of its type; a server says which of them a column takes.
# https://www.postgresql.org/docs/current/catalog-pg-type.html#CATALOG-TYPCATEGORY-TABLE
_UNUSED: Mapping[str, tuple[LiteralString, ...]] = {
    "A": ("{column} || {column}",),
    "D": (
        "(SELECT pg_catalog.min(p.{column}) - interval '1 day' FROM {table} AS p WHERE pg_catalog.isfinite(p.{column}))",
        "(time '00:00' + pg_catalog.random() * interval '1 day')::{type}",
    ),
    "E": (
        "(SELECT l FROM pg_catalog.unnest(pg_catalog.enum_range(NULL::{type})) AS l"
        " WHERE NOT EXISTS (SELECT 1 FROM {table} AS p WHERE p.{column} = l) LIMIT 1)",
    ),
    "I": ("(inet 'fd00::' + (pg_catalog.random() * 1e15)::bigint)::{type}", "(inet '10.0.0.0' + (pg_catalog.random() * 1e7)::bigint)::{type}"),
    "N": (
        "(SELECT pg_catalog.min(p.{column}) - 1 FROM {table} AS p)",
        "(SELECT pg_catalog.max(p.{column}) + 1 FROM {table} AS p)",
        "(SELECT (pg_catalog.max(p.{column}::bigint) + 1)::{type} FROM {table} AS p)",
    ),
    "R": ("'empty'::{type}",),
    "S": (
        "{fresh}::{type}",
        "({column}::text || {fresh})::{type}",
        "({fresh} || {column}::text)::{type}",
        "pg_catalog.left({fresh}, 5)::{type}",
    ),
    "T": ("(SELECT pg_catalog.max(p.{column}) + interval '1 day' FROM {table} AS p)",),
    "U": ("{fresh}::{type}", "pg_catalog.to_jsonb({fresh}::text)::{type}", "pg_catalog.convert_to({fresh}, 'UTF8')::{type}"),
}


def _unused(shape: Shape, column: str, nullable: bool, type_text: str, category: str) -> Iterator[sql.Composable]:
    """Values that, as far as can be told, no row of the table has in this column, the best first."""
    if nullable:
        yield sql.SQL("NULL")
    for template in _UNUSED.get(category, ()):
        yield sql.SQL(template).format(
            column=Escaped(column), table=table_of(shape.name), type=type_of(type_text), fresh=sql.Literal(str(uuid.uuid4()))
        )


def _cannot(stuck: _Stuck) -> ClarityError:
    lines = [
        f"{work.shape.name} {named(work.shape, key)} ({work.how}): "
        + ("other rows refer to it" if obstacle is None else str(obstacle.diag.message_primary))
        for work in stuck.left
        for key, obstacle in list(work.obstacles.items())[:10]
    ]
    return Refused(
        "Rows cannot be brought to the other side in any order:\n" + "\n".join(f"  - {line}" for line in lines[:10]),
        unchanged="Nothing was changed.",
        remedy="change the rows so that they do not exchange values under a constraint, then run the same command again.",
    )


@contextlib.contextmanager
def at_rest(connection: psycopg.Connection, tables: Iterable[Name], *, leave: frozenset[str] = frozenset()) -> Iterator[None]:
    """Puts every trigger of the tables to rest for this transaction, and gives each its own state back at the end.

    Fences are triggers too. Those named in `leave` stay at rest.
    """
    names = list(tables)
    owner_of = owners(connection, names)
    rows = connection.execute(query("carry_triggers"), listed(names)).fetchall()
    for schema, table, trigger, _ in rows:
        with acting_as(connection, owner_of[Name(schema, table)]):
            fence.set_trigger_state(connection, Name(schema, table), trigger, "D")
    yield
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for schema, table, trigger, state in rows:
        if trigger not in leave:
            with acting_as(connection, owner_of[Name(schema, table)]):
                fence.set_trigger_state(connection, Name(schema, table), trigger, state)
