"""How do rows that changed on one side come to the other? By key: inserted, updated or deleted, each row once.

Never deleted and inserted again, as a cascade would take its children. The receiving tables' own triggers are put to
rest for the transaction, since what they did on the sending side is among the rows already. The order of the rows'
constraints is not computed: what a foreign key or a unique index does not let in yet is postponed until other rows made
way, and only where nothing moves any more (cycles) foreign keys are made deferrable for the transaction, or a value that
two rows exchange is parked. Everything happens in the caller's transaction on the receiving side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext

from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move import fence
from clarity_infra.move.differences import changed_keys
from clarity_infra.move.digest import Method
from clarity_infra.move.model import Table
from clarity_infra.move.names import Name
from clarity_infra.move.owners import Owner, acting_as, owners
from clarity_infra.move.queries import query

# A row's key, each column as the server prints it under our sessions' pinned settings.
# For a table without a key all its stored columns stand for it.
Key = tuple[str | None, ...]
Values = tuple[str | None, ...]

# Keys looked up in one statement, and bytes of rows held in memory at a time.
BATCH_KEYS = 500
BATCH_BYTES = 8 * 1024 * 1024

# Carries in a row until both sides are equal: the second repairs what cascades of the first moved.
PASSES = 3

_NOT_YET = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.RestrictViolation,
    psycopg.errors.ExclusionViolation,
)


# psycopg logs a warning when a batch fails whose rows are then tried one by one.
logging.getLogger("psycopg").addFilter(lambda record: "error ignored terminating" not in record.msg)


@dataclasses.dataclass(frozen=True)
class Shape:
    """One table as both sides have it. `compared` are the columns both have; `written` those a row is written with.

    `sender` and `receiver` give the type of each column there.
    """

    table: Table
    compared: tuple[str, ...]
    written: tuple[str, ...]
    always: frozenset[str]
    sender: Mapping[str, str]
    receiver: Mapping[str, str]

    @property
    def name(self) -> Name:
        """The table's name, the same on both sides."""
        return self.table.name

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the key; empty for a table without one."""
        return self.table.key or ()


@dataclasses.dataclass
class Carried:
    """How many rows were written to the receiving side."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def add(self, other: Carried) -> None:
        """Counts another carry's rows as well."""
        self.inserted += other.inserted
        self.updated += other.updated
        self.deleted += other.deleted

    def total(self) -> int:
        """All of them."""
        return self.inserted + self.updated + self.deleted


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as one side's catalog has it."""

    name: str
    type: str
    generated: bool
    identity: str
    not_null: bool
    default: str | None


def columns(connection: psycopg.Connection, tables: Iterable[Name]) -> dict[Name, tuple[Column, ...]]:
    """The columns of the tables that exist in this database."""
    found: dict[Name, list[Column]] = {}
    for schema, table, *facts in connection.execute(query("carry_columns"), _listed(tables)).fetchall():
        listed = found.setdefault(Name(schema, table), [])
        if facts[0] is not None:
            listed.append(Column(*facts))
    return {name: tuple(facts) for name, facts in found.items()}


def _listed(tables: Iterable[Name]) -> dict[str, list[str]]:
    names = list(tables)
    return {"schemas": [name.schema for name in names], "names": [name.name for name in names]}


def shapes(sender: psycopg.Connection, receiver: psycopg.Connection, tables: Sequence[Table]) -> dict[Name, Shape]:
    """How each table with rows of its own looks on both sides; columns that one side alone has are left out.

    Raises Refused for a table, or a column of its key, that a side does not have.
    """
    with_rows = [table for table in tables if table.kind == "r"]
    here = columns(sender, [table.name for table in with_rows])
    there = columns(receiver, [table.name for table in with_rows])
    return {table.name: _shape(table, here.get(table.name), there.get(table.name)) for table in with_rows}


def _shape(table: Table, here: tuple[Column, ...] | None, there: tuple[Column, ...] | None) -> Shape:
    if here is None or there is None:
        raise _not_alike(table, "one side does not have it")
    sender, receiver = {column.name: column for column in here}, {column.name: column for column in there}
    both = tuple(name for name in table.column_names if name in sender and name in receiver)
    missing = [name for name in (table.key or ()) if name not in both]
    if missing:
        raise _not_alike(table, f"its key column {missing[0]} is gone")
    return Shape(
        table=table,
        compared=both,
        written=tuple(name for name in both if not receiver[name].generated),
        always=frozenset(name for name in both if receiver[name].identity == "a"),
        sender={name: sender[name].type for name in both},
        receiver={name: receiver[name].type for name in both},
    )


def _not_alike(table: Table, reason: str) -> Refused:
    return Refused(
        f"Table {table.name} is not the same on both sides: {reason}.",
        unchanged="Nothing was changed.",
        remedy="see which migration changed it; rows cannot be carried from one form to the other.",
    )


# Looking rows up


@dataclasses.dataclass(frozen=True)
class _Row:
    """One row found by a key that was asked for: the key it has, what it holds, how much that is."""

    key: Key
    digest: bytes
    length: int


class Escaped(sql.Identifier):
    """An identifier in a statement with parameters, where psycopg would take a percent sign in a name for one of them."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """The quoted name with every percent sign doubled."""
        return super().as_bytes(context).replace(b"%", b"%%")


def _table(name: Name) -> Escaped:
    return Escaped(name.schema, name.name)


def _type(text: str) -> sql.SQL:
    """A type as `format_type` prints it: quoted by the server already, from its catalog, never from outside."""
    return sql.SQL(text.replace("%", "%%"))


def _wanted(shape: Shape, types: Mapping[str, str]) -> sql.Composed:
    """`FROM` clause that joins the table to the keys in the parameters, numbered as they come."""
    return sql.SQL("FROM ROWS FROM ({}) WITH ORDINALITY AS w({}, n) JOIN ONLY {} AS t ON {}").format(
        sql.SQL(", ").join(sql.SQL("pg_catalog.unnest(%s::text[])") for _ in shape.key),
        sql.SQL(", ").join(Escaped(f"k{number}") for number, _ in enumerate(shape.key)),
        _table(shape.name),
        sql.SQL(" AND ").join(
            sql.SQL("t.{} = w.{}::{}").format(Escaped(column), Escaped(f"k{number}"), _type(types[column]))
            for number, column in enumerate(shape.key)
        ),
    )


def _content(names: Sequence[str]) -> sql.Composed:
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(sql.SQL("t.{}").format(Escaped(n)) for n in names))


def _look_up(connection: psycopg.Connection, shape: Shape, types: Mapping[str, str], keys: Sequence[Key]) -> dict[int, _Row]:
    """What this side has for each key, by the key's position; the digest does not depend on a server's own hash."""
    statement = sql.SQL(
        "SELECT w.n, ARRAY[{keys}]::text[], pg_catalog.sha256(pg_catalog.convert_to({row}, 'UTF8')), pg_catalog.octet_length({row}) {source}"
    ).format(
        keys=sql.SQL(", ").join(sql.SQL("t.{}::text").format(Escaped(column)) for column in shape.key),
        row=_content(shape.compared),
        source=_wanted(shape, types),
    )
    rows = connection.execute(statement, _columnwise(keys)).fetchall()
    return {number: _Row(tuple(key), bytes(digest), length) for number, key, digest, length in rows}


def absent(receiver: psycopg.Connection, shape: Shape, keys: Sequence[Key]) -> list[Key]:
    """Those of the keys under which the receiving side has no row."""
    missing: list[Key] = []
    for batch in _batches(keys, BATCH_KEYS):
        there = _look_up(receiver, shape, shape.receiver, batch)
        missing += [key for number, key in enumerate(batch, start=1) if number not in there]
    return missing


def _columnwise(keys: Sequence[Key]) -> list[list[str | None]]:
    return [list(column) for column in zip(*keys, strict=True)]


def _values(connection: psycopg.Connection, shape: Shape, keys: Sequence[Key]) -> dict[int, Values]:
    """The rows to write, each value as the type's own output function prints it."""
    statement = sql.SQL("SELECT w.n, {} {}").format(
        sql.SQL(", ").join(sql.SQL("t.{}").format(Escaped(column)) for column in shape.written),
        _wanted(shape, shape.sender),
    )
    cursor = connection.execute(statement, _columnwise(keys))
    result = cursor.pgresult
    assert result is not None
    encoding = connection.info.encoding

    def text(row: int, column: int) -> str | None:
        value = result.get_value(row, column)
        return None if value is None else value.decode(encoding)

    found = {int(text(row, 0) or 0): tuple(text(row, column) for column in range(1, result.nfields)) for row in range(result.ntuples)}
    cursor.close()
    return found


# What differs


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to happen to one table's rows, by key; `bytes_of` bounds how many are read at a time."""

    insert: tuple[Key, ...] = ()
    update: tuple[Key, ...] = ()
    delete: tuple[Key, ...] = ()
    bytes_of: Mapping[Key, int] = dataclasses.field(default_factory=dict, repr=False)

    def empty(self) -> bool:
        """Whether the sides are equal."""
        return not (self.insert or self.update or self.delete)

    def keys(self) -> tuple[Key, ...]:
        """Every key concerned."""
        return self.insert + self.update + self.delete


def plan(sender: psycopg.Connection, receiver: psycopg.Connection, shape: Shape, keys: Iterable[Key]) -> Plan:
    """Compares the rows of these keys on both sides."""
    insert: dict[Key, None] = {}
    update: dict[Key, None] = {}
    delete: dict[Key, None] = {}
    lengths: dict[Key, int] = {}
    for batch in _batches(list(dict.fromkeys(keys)), BATCH_KEYS):
        here = _look_up(sender, shape, shape.sender, batch)
        there = _look_up(receiver, shape, shape.receiver, batch)
        for number, key in enumerate(batch, start=1):
            ours, theirs = here.get(number), there.get(number)
            if ours is not None:
                lengths[key] = lengths[ours.key] = ours.length
            if ours is not None and theirs is None:
                insert[ours.key] = None
            elif ours is not None and theirs is not None and ours.digest != theirs.digest:
                update[theirs.key] = None
                lengths[theirs.key] = ours.length
            elif ours is None and theirs is not None:
                delete[theirs.key] = None
    return Plan(tuple(insert), tuple(update), tuple(delete), lengths)


def differing(sender: psycopg.Connection, receiver: psycopg.Connection, shape: Shape, *, method: Method | None = None) -> Plan:
    """Compares the whole of a table on both sides."""
    found = changed_keys(sender, receiver, shape.table, columns=shape.compared, method=method)
    if not shape.key:
        return Plan(insert=tuple(found.only_a), delete=tuple(found.only_b))
    return plan(sender, receiver, shape, [*found.only_a, *found.only_b, *found.differ])


def _batches(items: Sequence[Key], size: int) -> Iterator[Sequence[Key]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _batches_by_size(keys: Sequence[Key], lengths: Mapping[Key, int]) -> Iterator[list[Key]]:
    batch: list[Key] = []
    size = 0
    for key in keys:
        if batch and (len(batch) >= BATCH_KEYS or size + lengths.get(key, 0) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size += lengths.get(key, 0)
    if batch:
        yield batch


# Writing them


@dataclasses.dataclass
class _Work:
    """Rows of one table to be written in one way."""

    how: Literal["insert", "update", "delete"]
    shape: Shape
    rows: list[tuple[Key, Values]]
    obstacles: dict[Key, psycopg.Error] = dataclasses.field(default_factory=dict)


class NoPlace(Refused):
    """A row that the receiving side cannot hold: a label, a length or a constraint it does not have."""

    def __init__(self, shape: Shape, key: Key, error: psycopg.Error) -> None:
        super().__init__(
            f"{shape.name} {named(shape, key)} has no place on the other side: {error.diag.message_primary}.",
            unchanged="Nothing was changed.",
            remedy="change or delete that row, or ask for the loss by name.",
        )


def named(shape: Shape, key: Key) -> str:
    """A key as a person reads it: column=value, and no more of a row without a key than its first columns."""
    columns_of_key = shape.key or tuple(column.name for column in shape.table.stored)
    return ", ".join(f"{column}={value}" for column, value in list(zip(columns_of_key, key, strict=True))[:4])


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
    names = list(shaped)
    try:
        with receiver.transaction():
            return _write(sender, receiver, shaped, plans, parking=False)
    except (_Stuck, psycopg.errors.ForeignKeyViolation):
        pass
    with _deferrable(receiver, names):
        try:
            return _write(sender, receiver, shaped, plans, parking=True)
        except _Stuck as stuck:
            raise _cannot(stuck) from None


def carry_until_equal(
    sender: psycopg.Connection,
    receiver: psycopg.Connection,
    shaped: Mapping[Name, Shape],
    compare: Callable[[], Mapping[Name, Plan]],
) -> tuple[Carried, Mapping[Name, Plan], list[Name]]:
    """Carries what `compare` finds, and again what cascades on the receiving side have moved meanwhile.

    Gives what was written, what the first comparison found, and the tables that differ still: normally none.
    """
    total, first = Carried(), compare()
    plans = first
    if all(plan.empty() for plan in plans.values()):
        return total, first, []
    for _ in range(PASSES):
        total.add(carry(sender, receiver, shaped, plans))
        plans = compare()
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
    receiver.execute("SET CONSTRAINTS ALL DEFERRED")
    left = [rest for work in _works(sender, shaped, plans) if (rest := _attempt(receiver, owner_of[work.shape.name], work, carried)) is not None]
    parked: set[tuple[Name, Key, str]] = set()
    while left:
        before = sum(len(work.rows) for work in left)
        left = [rest for work in left if (rest := _attempt(receiver, owner_of[work.shape.name], work, carried)) is not None]
        if sum(len(work.rows) for work in left) < before:
            continue
        if not parking or not _park_one(receiver, owner_of, left, parked):
            raise _Stuck(left)
    receiver.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return carried


def _works(sender: psycopg.Connection, shaped: Mapping[Name, Shape], plans: Mapping[Name, Plan]) -> Iterator[_Work]:
    """Inserts and updates parents first, then deletes children first; rows are read from the sender as they are needed."""
    for how in ("insert", "update"):
        for name, shape in shaped.items():
            todo = plans.get(name, Plan())
            keys = todo.insert if how == "insert" else todo.update
            for batch in _batches_by_size(keys, todo.bytes_of):
                if not shape.key:
                    yield _Work("insert", shape, [(row, row) for row in batch])
                    continue
                values = _values(sender, shape, batch)
                rows = [(key, values[number]) for number, key in enumerate(batch, start=1) if number in values]
                yield _Work("insert" if how == "insert" else "update", shape, rows)
    for name, shape in reversed(list(shaped.items())):
        for gone in _batches(plans.get(name, Plan()).delete, BATCH_KEYS):
            yield _Work("delete", shape, [(key, ()) for key in gone])


def _attempt(connection: psycopg.Connection, owner: Owner, work: _Work, carried: Carried) -> _Work | None:
    """Writes the rows together, or those that can be written one by one; gives what has to wait."""
    if not work.rows:
        return None
    statement, parameters = _statement(work.shape, work.how), [_parameters(work, row) for row in work.rows]
    left = _Work(work.how, work.shape, [])
    with acting_as(connection, owner):
        with contextlib.suppress(psycopg.DataError, psycopg.IntegrityError):
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(statement, parameters)
            _count(carried, work.how, len(work.rows))
            return None
        for row, values in zip(work.rows, parameters, strict=True):
            try:
                with connection.transaction():
                    connection.execute(statement, values)
                _count(carried, work.how, 1)
            except _NOT_YET as error:
                left.rows.append(row)
                left.obstacles[row[0]] = error
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                raise NoPlace(work.shape, row[0], error) from None
    return left if left.rows else None


def _count(carried: Carried, how: str, rows: int) -> None:
    if how == "insert":
        carried.inserted += rows
    elif how == "update":
        carried.updated += rows
    else:
        carried.deleted += rows


def _statement(shape: Shape, how: str) -> sql.Composed:
    table = _table(shape.name)
    if how == "delete" and not shape.key:
        same = sql.SQL(" AND ").join(
            sql.SQL("t.{}::text IS NOT DISTINCT FROM %s::text").format(Escaped(column.name)) for column in shape.table.stored
        )
        return sql.SQL("DELETE FROM ONLY {0} WHERE ctid = (SELECT t.ctid FROM ONLY {0} AS t WHERE {1} LIMIT 1)").format(
            table, same if shape.table.stored else sql.SQL("true")
        )
    where = sql.SQL(" AND ").join(sql.SQL("{} = %s::{}").format(Escaped(column), _type(shape.receiver[column])) for column in shape.key)
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
    """An identity column that is GENERATED ALWAYS cannot be updated, and by key it never has to be."""
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
    names = list(tables)
    found = connection.execute(query("carry_foreign_keys"), _listed(names)).fetchall()
    owner_of = owners(connection, names)

    def alter(clause: LiteralString) -> None:
        for schema, table, constraint in found:
            name = Name(schema, table)
            with acting_as(connection, owner_of[name]):
                connection.execute(sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} " + clause).format(name.identifier(), sql.Identifier(constraint)))

    alter("DEFERRABLE INITIALLY DEFERRED")
    yield
    alter("NOT DEFERRABLE")


def _park_one(
    connection: psycopg.Connection,
    owner_of: Mapping[Name, Owner],
    left: list[_Work],
    parked: set[tuple[Name, Key, str]],
) -> bool:
    """Takes the value of one waiting row out of the way of the others; its own write, still to come, sets the right one."""
    for work in left:
        for key, obstacle in work.obstacles.items():
            index = obstacle.diag.constraint_name or ""
            if work.how != "update" or (work.shape.name, key, index) in parked:
                continue
            parked.add((work.shape.name, key, index))
            with acting_as(connection, owner_of[work.shape.name]):
                if _park(connection, work.shape, key, index):
                    return True
    return False


def _park(connection: psycopg.Connection, shape: Shape, key: Key, index: str) -> bool:
    rows = connection.execute(
        query("carry_constraint_columns"),
        {"schema": shape.name.schema, "table": shape.name.name, "index": index},
    ).fetchall()
    where = sql.SQL(" AND ").join(sql.SQL("{} = %s::{}").format(Escaped(column), _type(shape.receiver[column])) for column in shape.key)
    for column, nullable, type_text, category in rows:
        if column in shape.key or column in shape.always or column not in shape.written:
            continue
        value = _unused(shape, column, nullable, type_text, category)
        if value is None:
            continue
        with contextlib.suppress(psycopg.errors.IntegrityError, psycopg.errors.DataError), connection.transaction():
            connection.execute(
                sql.SQL("UPDATE ONLY {} SET {} = {} WHERE {}").format(_table(shape.name), Escaped(column), value, where),
                list(key),
            )
            return True
    return False


def _unused(shape: Shape, column: str, nullable: bool, type_text: str, category: str) -> sql.Composable | None:
    """A value that no row of the table has in this column."""
    if nullable:
        return sql.SQL("NULL")
    named, table = Escaped(column), _table(shape.name)
    if category == "N":
        return sql.SQL("(SELECT pg_catalog.min(p.{}) - 1 FROM {} AS p)").format(named, table)
    if category in ("S", "U") and type_text in ("text", "character varying", "uuid", "bytea", "jsonb"):
        fresh = str(uuid.uuid4())
        return sql.Literal(f'"{fresh}"' if type_text == "jsonb" else fresh)
    if category == "D":
        return sql.SQL("(SELECT pg_catalog.min(p.{0}) - interval '1 day' FROM {1} AS p WHERE pg_catalog.isfinite(p.{0}))").format(named, table)
    if category == "E":
        return sql.SQL(
            "(SELECT l FROM pg_catalog.unnest(pg_catalog.enum_range(NULL::{})) AS l"
            " WHERE NOT EXISTS (SELECT 1 FROM {} AS p WHERE p.{} = l) LIMIT 1)"
        ).format(_type(type_text), table, named)
    return None


def _cannot(stuck: _Stuck) -> ClarityError:
    lines = [
        f"{work.shape.name} {named(work.shape, key)} ({work.how}): {obstacle.diag.message_primary}"
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
    rows = connection.execute(query("carry_triggers"), _listed(names)).fetchall()
    for schema, table, trigger, _ in rows:
        with acting_as(connection, owner_of[Name(schema, table)]):
            fence.set_trigger_state(connection, Name(schema, table), trigger, "D")
    yield
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for schema, table, trigger, state in rows:
        if trigger not in leave:
            with acting_as(connection, owner_of[Name(schema, table)]):
                fence.set_trigger_state(connection, Name(schema, table), trigger, state)
