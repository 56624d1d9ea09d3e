"""What belongs to the move? Resolves the configured tables against a database's catalogs; only ever reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from clarity_infra.errors import ConfigurationError, Refused
from clarity_infra.move import journal, model
from clarity_infra.move.bodies import Bodies
from clarity_infra.move.model import Blocker, Column, Extension, MoveSet, Table
from clarity_infra.move.names import Name, quoted
from clarity_infra.move.queries import query

# LIKE pattern of the names of this program's own objects: they exist on a source during and after a cut-over.
OURS = journal.PREFIX.replace("_", r"\_") + "%"

# Where Drizzle keeps its table, its default first. https://orm.drizzle.team/docs/kit-overview
TRACKING = (Name("drizzle", "__drizzle_migrations"), Name("public", "__drizzle_migrations"))

_KINDS = {
    "v": "a view",
    "m": "a materialised view",
    "S": "a sequence",
    "f": "a foreign table",
    "c": "a composite type",
}

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class _Closure:
    """The members of the set as two parallel lists, as the queries take them."""

    members: frozenset[tuple[int, int]]

    def parameters(self) -> dict[str, Any]:
        return {**_pairs(sorted(self.members)), "prefix": OURS}


def _pairs(things: Iterable[tuple[int, int]]) -> dict[str, list[int]]:
    listed = list(things)
    return {"classids": [classid for classid, _ in listed], "objids": [objid for _, objid in listed]}


def read_move_set(
    connection: psycopg.Connection[Any],
    tables: Sequence[Name],
    *,
    tracking: str = "auto",
    accept: Iterable[str] = (),
) -> MoveSet:
    """Resolves `tables`, their partitions and children, the tracking table and everything they need, in this database.

    Raises ConfigurationError for a table that does not exist or is named twice, for a relation that is no table, and Refused for
    one that the current user may not alter. Whatever else stands in the way is in the result's `blockers`.
    """
    notes: list[str] = []
    wanted, tracked = _with_tracking(connection, tables, tracking, notes)
    resolved = _resolve(connection, wanted)
    oids, blockers = _whole_trees(connection, resolved, notes)
    accepted = set(accept)
    bodies = Bodies(connection, OURS)
    closure, left, helpers, crossing = _closure(connection, oids, accepted, bodies)
    blockers += crossing
    objects = _rows(connection, "catalog_objects", {**closure.parameters()})
    dependants, shared = _dependants(connection, closure, left)
    blockers += dependants
    blockers += _obstacles(connection, oids)
    read = bodies.findings(closure.members)
    blockers += read.blockers
    notes += read.notes
    needs = _rows(connection, "catalog_needs", {"tables": oids, **closure.parameters()})
    blockers += _untrusted(needs)
    blockers += _for_superusers(needs)
    blockers += _by_key(needs)
    objects = [row for row in objects if not row["of_extension"]]
    return MoveSet(
        tables=_tables(connection, oids),
        sequences=_sequences(connection, [objid for _, objid in closure.members]),
        enums=_enums(connection, [row["objid"] for row in objects if row["typtype"] == "e"]),
        types=tuple(row["identity"] for row in objects if row["typtype"]),
        functions=tuple(row["identity"] for row in objects if row["catalog"] == "pg_proc"),
        others=tuple(
            f"{row['type']} {row['identity']}"
            for row in objects
            if row["catalog"] not in ("pg_proc", "pg_type", "pg_namespace", "pg_extension", "pg_class")
        ),
        extensions=tuple(Extension(row["name"], row["detail"], row["extra"]) for row in needs if row["kind"] == "extension"),
        schemas=tuple(row["name"] for row in needs if row["kind"] == "schema"),
        collations=tuple(row["name"] for row in needs if row["kind"] == "collation"),
        policy_roles=tuple(row["name"] for row in needs if row["kind"] == "policy role"),
        features=tuple((row["name"], row["detail"], row["extra"]) for row in needs if row["kind"] == "feature"),
        parameters=tuple((row["name"], row["detail"]) for row in needs if row["kind"] == "parameter"),
        tracking=tracked,
        blockers=_unaccepted(blockers, accepted, notes),
        notes=tuple(notes),
        shared=(*shared, *helpers),
        objects=closure.members,
    )


def changed_since(connection: psycopg.Connection[Any], move_set: MoveSet) -> list[str]:
    """The tables of this database that came, went or have other columns since the set was read, and the enums with other labels.

    For a moment in which writers wait: it asks for no more than what would leave rows or values behind.
    """
    tables = _tuples(connection, "catalog_descendants", {"tables": [table.oid for table in move_set.tables]})
    found = {oid: Name(schema, name) for oid, schema, name, kind, *_ in tables if kind != "f"}
    known = {table.oid: table for table in move_set.tables}
    columns: dict[int, list[Column]] = {oid: [] for oid in found}
    for oid, *facts in _tuples(connection, "catalog_columns", {"tables": list(found)}):
        columns[oid].append(Column(*facts))
    changed = [f"{table.name} is gone" for table in move_set.tables if found.get(table.oid) != table.name]
    changed += [f"{name} is new" for oid, name in sorted(found.items(), key=lambda item: item[1]) if oid not in known]
    changed += [
        f"{table.name} has other columns" for oid, table in known.items() if oid in found and columns_of(table) != _columns(columns[oid])
    ]
    labels = _enums(connection, [objid for _, objid in move_set.objects])
    return changed + [f"{name} has other labels" for name, before in move_set.enums.items() if labels.get(name) != before]


def columns_of(table: Table) -> list[str]:
    """What of a table's columns decides which values a row has."""
    return _columns(table.columns)


def _columns(columns: Iterable[Column]) -> list[str]:
    return [f"{quoted(column.name)} {column.type}" + (" generated" if column.generated else "") for column in columns]


def _rows(connection: psycopg.Connection[Any], name: str, parameters: Mapping[str, Any]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query(name), parameters).fetchall()


def _tuples(connection: psycopg.Connection[Any], name: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return connection.execute(query(name), parameters).fetchall()


def _unaccepted(blockers: list[Blocker], accepted: set[str], notes: list[str]) -> tuple[Blocker, ...]:
    found = {blocker.object for blocker in blockers if blocker.can_accept}
    notes.extend(f"accepted: {blocker.object}: {blocker.reason}" for blocker in blockers if blocker.object in accepted & found)
    notes.extend(f'accept names "{text}", which stands in nobody\'s way.' for text in sorted(accepted - found))
    return tuple(dict.fromkeys(b for b in blockers if not (b.can_accept and b.object in accepted)))


# Which tables


def _with_tracking(
    connection: psycopg.Connection[Any], tables: Sequence[Name], tracking: str, notes: list[str]
) -> tuple[list[Name], Name | None]:
    """The configured tables and Drizzle's tracking table, which may be among them."""
    twice = sorted({str(name) for name in tables if list(tables).count(name) > 1})
    if twice:
        raise ConfigurationError(f"tables names {', '.join(twice)} twice.", remedy="name each table once.")
    if tracking == "none":
        return list(tables), None
    if tracking != "auto":
        name = Name.parse(tracking, setting="tracking")
        return [*tables, *([] if name in tables else [name])], name
    found = _rows(
        connection,
        "catalog_resolve",
        {"schemas": [name.schema for name in TRACKING], "names": [name.name for name in TRACKING]},
    )
    present = [Name(row["schema"], row["name"]) for row in found if row["kind"] in ("r", "p")]
    if not present:
        notes.append("No Drizzle tracking table was found: the schema may have been pushed, not migrated.")
        return list(tables), None
    if len(present) > 1:
        notes.append(f"Two tracking tables were found; {present[0]} is taken. Set `tracking` to choose.")
    return [*tables, *([] if present[0] in tables else [present[0]])], present[0]


def _resolve(connection: psycopg.Connection[Any], tables: Sequence[Name]) -> list[int]:
    """The tables' OIDs; every name that cannot be one is an error of its own."""
    if not tables:
        raise ConfigurationError("tables names no table.", remedy="name the tables that are to move.")
    database = connection.info.dbname
    rows = _rows(
        connection,
        "catalog_resolve",
        {"schemas": [name.schema for name in tables], "names": [name.name for name in tables]},
    )
    for row in rows:
        name = Name(row["schema"], row["name"])
        if row["oid"] is None:
            raise ConfigurationError(
                f'There is no table {name} in database "{database}".',
                unchanged="Nothing was changed.",
                remedy=f"did you mean {row['similar']}?" if row["similar"] else "correct its name (and schema) in `tables`.",
            )
        if row["kind"] not in ("r", "p"):
            raise ConfigurationError(
                f"{name} is {_KINDS.get(row['kind'], 'no table')}, not a table.",
                unchanged="Nothing was changed.",
                remedy="name tables only; what they need comes with them.",
            )
        if row["extension"]:
            raise Refused(
                f"{name} belongs to extension {row['extension']}.",
                unchanged="Nothing was changed.",
                remedy="take it out of `tables`; install the extension in the target where it is needed.",
            )
        _check_owner(name, row, connection.info.user)
    return [row["oid"] for row in rows]


def _check_owner(name: Name, row: Row, user: str) -> None:
    if not row["mine"]:
        # A member already, but one that only administers the role (PostgreSQL 16): a grant without options would change nothing.
        options = " WITH INHERIT TRUE, SET TRUE" if row["member"] else ""
        what = "may not act as that role" if row["member"] else "is no member of that role"
        ask = f"GRANT {quoted(row['owner'])} TO {quoted(user)}{options}"
        if row["of_superuser"]:  # a member of a superuser's role can become one
            ask = f"ALTER TABLE {name} OWNER TO {quoted(user)}"
        raise Refused(
            f'{name} belongs to "{row["owner"]}", and "{user}" {what}.',
            unchanged="Nothing was changed.",
            remedy=f"{ask}, or use an admin that may.",
        )


def _whole_trees(connection: psycopg.Connection[Any], tables: list[int], notes: list[str]) -> tuple[list[int], list[Blocker]]:
    """The tables with all their partitions and children; a part without the whole is a blocker."""
    blockers: list[Blocker] = []
    oids: list[int] = []
    for row in _rows(connection, "catalog_descendants", {"tables": tables}):
        name = Name(row["nspname"], row["relname"])
        if row["relkind"] == "f":
            blockers.append(
                Blocker(
                    f"foreign table {name}",
                    "its rows are on another server, as a part of a table that moves",
                    "detach it from its parent first",
                    can_accept=False,
                )
            )
            continue
        if row["added"]:
            _check_owner(name, row, connection.info.user)
            notes.append(f"{name} moves too, as a part of a table that moves.")
        if row["parents_outside"]:
            what = "a partition" if row["relispartition"] else "an inheritance child"
            parents = ", ".join(row["parents_outside"])
            blockers.append(
                Blocker(
                    f"table {name}",
                    f"it is {what} of {parents}, which does not move",
                    f"name {parents} in `tables`, or detach {name} first",
                    can_accept=False,
                )
            )
        oids.append(row["oid"])
    return oids, blockers


# What goes with them


def _closure(
    connection: psycopg.Connection[Any], tables: list[int], accepted: set[str], bodies: Bodies
) -> tuple[_Closure, list[int], list[str], list[Blocker]]:
    """The members of the set, the foreign keys left behind by consent, what moves because a body names it, and what needs a table outside.

    What a body names is found by a word that may mean something else: it moves only where it needs nothing that stays.
    """
    left: list[tuple[int, int]] = []
    helpers: dict[tuple[int, int], str] = {}
    refused: set[tuple[int, int]] = set()

    def read(named: Iterable[tuple[int, int]]) -> tuple[_Closure, list[Row]]:
        seeds = _Closure(frozenset(named)).parameters()
        rows = _tuples(connection, "catalog_closure", {"tables": tables, "left": [key for _, key in left], **seeds})
        closure = _Closure(frozenset((classid, objid) for classid, objid in rows))
        return closure, _rows(connection, "catalog_outside", closure.parameters())

    while True:
        closure, outside = read(helpers)
        leave = [(row["classid"], row["objid"]) for row in outside if row["contype"] == "f" and row["object"] in accepted]
        left += leave
        more = {thing: text for thing, text in bodies.helpers(closure.members, accepted).items() if thing not in refused}
        if not leave and not more:
            break
        if leave:
            continue
        if len(read([*helpers, *more])[1]) <= len(outside):
            helpers.update(more)
            continue
        for thing, text in more.items():
            if len(read([*helpers, thing])[1]) > len(outside):
                refused.add(thing)
            else:
                helpers[thing] = text
    blockers = [_needs_outside(row) for row in outside]
    # An accepted key that was left out no longer shows up above; it is said once, as accepted.
    blockers += [Blocker(text, "it refers to a table that does not move and is left behind", "") for text in _identities(connection, left)]
    shared = helpers | bodies.sharers(closure.members)
    names = _identities(connection, shared)
    moved = [f"{name} is used by {text}: {_moved(name)}." for name, text in zip(names, shared.values(), strict=True)]
    return closure, [key for _, key in left], moved, blockers


def _moved(name: str) -> str:
    return "it is made in the target" if name.startswith("extension ") else "it is moved, and kept in the source"


def _needs_outside(row: Row) -> Blocker:
    if row["contype"] == "f":
        return Blocker(
            row["object"],
            f"this foreign key refers to {row['needs']}, which does not move",
            f"add {row['needs'].removeprefix('table ')} to `tables`, drop the key, or accept that it is left behind",
        )
    if row["member_kind"] == "S":
        return Blocker(
            row["object"],
            f"it is owned by a column of {row['needs']}, which does not move",
            "add that table to `tables`, or give the default a sequence of its own",
            can_accept=False,
        )
    if row["catalog"] == "pg_type":
        return Blocker(
            row["object"],
            f"a column or function of the set uses the row type of {row['needs']}, which does not move",
            "add that table to `tables`, or give the column a type of its own",
            can_accept=False,
        )
    return Blocker(
        row["object"],
        f"it needs {row['needs']}, which does not move",
        "add the table to `tables`, or drop the object",
        can_accept=False,
    )


def _identities(connection: psycopg.Connection[Any], things: Iterable[tuple[int, int]]) -> list[str]:
    rows = connection.execute(
        "SELECT i.type || ' ' || i.identity FROM unnest(%(classids)s::oid[], %(objids)s::oid[]) WITH ORDINALITY AS o(classid, objid, place),"
        " pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS i ORDER BY o.place",
        _pairs(things),
    ).fetchall()
    return [str(row[0]) for row in rows]


_LEFT_BEHIND = "drop it, or accept that it stays behind and sees the old rows only"


def _dependants(connection: psycopg.Connection[Any], closure: _Closure, left: list[int]) -> tuple[list[Blocker], tuple[str, ...]]:
    """What stays and depends on the set: obstacles, and sharers of a type, function or sequence that is moved and kept."""
    blockers: list[Blocker] = []
    shared: list[tuple[str, str]] = []
    for row in _rows(connection, "catalog_dependants", closure.parameters()):
        catalog, thing, needs = row["catalog"], row["object"], row["needs"]
        if catalog in ("pg_publication_rel", "pg_constraint") and (row["objid"] in left or catalog == "pg_publication_rel"):
            continue
        if row["contype"] == "f" and row["needed_kind"] not in ("r", "p"):
            continue  # the index it relies on: said with its table
        if row["contype"] == "f":
            blockers.append(
                Blocker(
                    thing,
                    f"this foreign key of a table that stays refers to {needs}, which moves",
                    "add its table to `tables`, drop the key, or accept that it goes on checking the old rows",
                )
            )
        elif catalog == "pg_rewrite" and row["on_table"]:
            if thing.startswith("rule "):
                continue  # rules on the tables themselves are listed by _obstacles
            blockers.append(Blocker(thing, f"it reads {needs}, which moves", _LEFT_BEHIND))
        elif row["on_owned_sequence"]:
            blockers.append(
                Blocker(
                    thing,
                    f"it takes values from {needs}, which moves with the column that owns it",
                    "give it a sequence of its own",
                    can_accept=False,
                )
            )
        elif row["on_table"] and catalog in ("pg_policy", "pg_proc", "pg_class", "pg_attrdef", "pg_trigger", "pg_constraint"):
            blockers.append(Blocker(thing, f"it uses {needs}, which moves", _LEFT_BEHIND))
        elif catalog in ("pg_proc", "pg_cast", "pg_operator", "pg_opclass", "pg_conversion", "pg_transform"):
            blockers.append(
                Blocker(
                    thing,
                    f"it is made for {needs}, which moves, and would be left behind",
                    "drop it, or accept that the target goes without it",
                )
            )
        else:
            shared.append((thing, f"{needs} is used by {thing} too, which stays: it is moved, and kept in the source."))
    told = {blocker.object for blocker in blockers}
    return blockers, tuple(text for thing, text in shared if thing not in told)


_OBSTACLES = {
    "publication": (
        "it publishes {detail}, and its subscribers would get no change of the moved tables",
        "take the tables out of it (drop it where it is FOR ALL TABLES), or accept that it is left behind",
        True,
    ),
    "subscription": (
        "a subscription writes into it",
        "drop the subscription, or take the table out of it, first",
        False,
    ),
    "rule": ("rules are not moved", "drop it (a trigger does the same), or accept that it is left behind", True),
    "invalid index": (
        "this index of {detail} is invalid, and would arrive valid or not at all",
        "REINDEX INDEX CONCURRENTLY it, or drop it",
        False,
    ),
    "invalid whole index": (
        "this index of {detail} is invalid: not every partition has an index attached to it",
        "make the missing ones and ALTER INDEX ... ATTACH PARTITION each, or drop it",
        False,
    ),
    "unenforced": (
        "the server does not enforce it: its triggers are disabled, and would be enabled in the target",
        "{detail}, or drop it and add it again, NOT VALID where rows break it (the first takes a superuser)",
        False,
    ),
    "access method": (
        "its access method, {detail}, is no extension's, and only a superuser may make one",
        "ALTER TABLE {object} SET ACCESS METHOD heap",
        False,
    ),
    "hashed enum": (
        "it is divided by {detail}, and the hash of an enum is another in every database: its rows would belong to other partitions",
        "divide it by LIST or RANGE, or by the hash of a column that is no enum, in a table made anew",
        False,
    ),
    "large objects": (
        "a column of type {detail} may hold references to large objects, which are not moved",
        "move their content into a bytea column, or accept the column where it holds plain numbers",
        True,
    ),
    "row security": (
        "row security binds the source's admin, who would not see all rows",
        "use an admin with BYPASSRLS: ALTER ROLE ... BYPASSRLS",
        False,
    ),
    "no select": ("the source's admin may not read it", "{detail}", False),
    "no usage": ("the source's admin may not use what is in it", "{detail}", False),
    "identity over default": (
        "it is an identity column that inherits a default, which no dump can make again",
        "{detail}",
        False,
    ),
    "identity range": (
        "it counts beyond the type of its identity column, which no dump can make again",
        "{detail}",
        False,
    ),
    "parents disagree": (
        "its parents store it in different ways, and a table cannot be made with both",
        "{detail}",
        False,
    ),
    "half detached": (
        "it is a partition that was being detached CONCURRENTLY when that was interrupted: its rows are hidden, and would be seen again",
        "{detail}",
        False,
    ),
    "temporary": ("it is a temporary table", "take it out of `tables`", False),
}


def _obstacles(connection: psycopg.Connection[Any], tables: list[int]) -> list[Blocker]:
    blockers = []
    for row in _rows(connection, "catalog_obstacles", {"tables": tables}):
        reason, remedy, can_accept = _OBSTACLES[row["kind"]]
        words = {"detail": row["detail"], "object": row["object"].partition(" ")[2]}
        blockers.append(Blocker(row["object"], reason.format(**words), remedy.format(**words), can_accept))
    return blockers


def _untrusted(needs: list[Row]) -> list[Blocker]:
    return [
        Blocker(
            f"function {row['detail']}",
            f"it is written in {row['name']}, in which only a superuser may create functions",
            "rewrite it in a trusted language, or drop it",
            can_accept=False,
        )
        for row in needs
        if row["kind"] == "language"
    ]


def _for_superusers(needs: list[Row]) -> list[Blocker]:
    """What the owner of the target's tables, who is no superuser, cannot make."""
    blockers = []
    for row in needs:
        if row["kind"] != "superuser":
            continue
        if row["name"] in ("LEAKPROOF", "SUPPORT"):
            thing, what = f"function {row['detail']}", f"it is marked {row['name']}"
            remedy = f"ALTER FUNCTION {row['detail']} NOT LEAKPROOF" if row["name"] == "LEAKPROOF" else "make it again without SUPPORT"
        else:
            thing, what, remedy = (
                f"{row['name']} {row['detail']}",
                "the tables need it",
                "drop what is made with it: indexes, keys, types, text search configurations, functions that call it",
            )
        blockers.append(Blocker(thing, f"{what}, which only a superuser may make", remedy, can_accept=False))
    return blockers


def _by_key(needs: list[Row]) -> list[Blocker]:
    return [
        Blocker(
            f"function {row['detail']}",
            f"it groups by the columns of {quoted(row['name'])} alone, and the tables are made before their keys",
            "name every column that it reads in its GROUP BY, or give it a body in quotes",
            can_accept=False,
        )
        for row in needs
        if row["kind"] == "by key"
    ]


# Facts of the parts


def _tables(connection: psycopg.Connection[Any], oids: list[int]) -> tuple[Table, ...]:
    columns: dict[int, list[Column]] = {oid: [] for oid in oids}
    for oid, *facts in _tuples(connection, "catalog_columns", {"tables": oids}):
        columns[oid].append(Column(*facts))
    rows = _tuples(connection, "catalog_tables", {"tables": oids})
    names = {row[0]: Name(row[1], row[2]) for row in rows}

    def named(others: list[int]) -> tuple[Name, ...]:
        return tuple(names[oid] for oid in others if oid in names)

    tables = [
        Table(
            name=names[oid],
            oid=oid,
            kind=kind,
            columns=tuple(columns[oid]),
            key=tuple(key) if key else None,
            parents=named(parents),
            children=named(children),
            references=named(references),
            estimated_rows=estimated,
            bytes=size,
            pages=pages,
            row_security=secured,
            forced_row_security=forced,
            heap=heap,
        )
        for oid, _, _, kind, estimated, size, pages, secured, forced, heap, parents, children, references, key in rows
    ]
    return _parents_first(tables)


def _parents_first(tables: list[Table]) -> tuple[Table, ...]:
    """By foreign keys, referenced tables before those that refer to them; a cycle is entered at its first name."""
    left = {table.name: table for table in sorted(tables, key=lambda table: table.name)}
    ordered: list[Table] = []
    while left:
        free = [t for t in left.values() if not any(other in left and other != t.name for other in (*t.references, *t.parents))]
        for table in free or [next(iter(left.values()))]:
            ordered.append(left.pop(table.name))
    return tuple(ordered)


def _sequences(connection: psycopg.Connection[Any], objids: list[int]) -> tuple[model.Sequence, ...]:
    return tuple(
        model.Sequence(
            name=Name(schema, name),
            oid=oid,
            table=Name(table_schema, table) if table else None,
            column=column,
            identity=identity,
        )
        for oid, schema, name, table_schema, table, column, identity in _tuples(connection, "catalog_sequences", {"sequences": objids})
    )


def _enums(connection: psycopg.Connection[Any], types: list[int]) -> dict[Name, tuple[str, ...]]:
    return {Name(schema, name): tuple(labels) for schema, name, labels in _tuples(connection, "catalog_enums", {"types": types})}
