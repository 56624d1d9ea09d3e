"""A schema nobody thought of: statements that make one, drawn at random from everything PostgreSQL lets a table have.

The same seed gives the same statements. Some of them are refused by a server (two features that do not go together, a version that
lacks one): whoever runs them goes on with the next, so every combination that a server does take is drawn sooner or later.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence

# Names that trip programs up. Newer servers quote some of them, older ones do not (json_value, system_user).
NAMES = (
    "plain",
    "Capital",
    "select",
    "sp ace",
    "do.t",
    'quo"te',
    "apo'strophe",
    "per%cent %s %(x)s",
    "new\nline",
    "tab\t",
    "back\\slash",
    "\u00e9",
    "e\u0301",
    "\u65e5\u672c",
    "json_value",
    "system_user",
    "merge_action",
    "first",
    "second",
    "bucket",
    "k0",
    "t",
    "x",
    "n",
    "v",
    "w",
    "row",
    "$dollar",
    "a$b",
    "1digit",
    "; DROP TABLE x; --",
    "-- Name: a; Type: TABLE; Schema: b; Owner: c",
    "/*",
    "{0}",
    " edge ",
    "\U0001f600",
    ".",
    "*",
    "?",
    "[a-z]",
    "A|B",
    "^a$",
    "user",
    "window",
    "period",
    "virtual",
    "\\N",
    "int[]",
    "cr\rlf",
    "a name of sixty bytes, which leaves three of them for the no",
)


def quoted(name: str) -> str:
    """A name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as it stands in a statement."""
    return "'" + text.replace("'", "''") + "'"


@dataclasses.dataclass(frozen=True)
class Type:
    """A type and expressions that give values of it; `base` is what a domain is made over."""

    name: str
    values: tuple[str, ...]
    kind: str = "base"
    sub: Type | None = None


def _built_in(name: str, *values: str) -> Type:
    return Type(name, tuple(f"CAST({literal(value)} AS {name})" for value in values))


BUILT_IN = (
    _built_in("integer", "0", "-2147483648", "2147483647", "7"),
    _built_in("bigint", "0", "-9223372036854775808", "9007199254740993", "4294967297"),
    _built_in("smallint", "0", "-32768", "3"),
    _built_in("numeric", "NaN", "Infinity", "1.0", "1.00", "-0.000", "1e-20", "123456789012345678901234567890.1234567890"),
    _built_in("numeric(10,2)", "NaN", "1.10", "-99999999.99"),
    _built_in("double precision", "-0", "0", "NaN", "-Infinity", "0.30000000000000004", "1e-308"),
    _built_in("real", "-0", "NaN", "3.4e38", "1e-40"),
    _built_in("boolean", "t", "f"),
    _built_in("text", "", " ", "\\N", "NULL", "a\nb\r\t\\.", "e\u0301", "\u00e9", "\U0001f600", "x" * 9000, "trailing "),
    _built_in("varchar(20)", "", "\\.", "a b  "),
    _built_in("char(5)", "", "a", "ab "),
    _built_in('"char"', "a", "", "\\"),
    _built_in("name", "", "a b"),
    _built_in("bytea", "\\x", "\\x00ff5c", "\\x" + "00" * 3000),
    _built_in("date", "infinity", "4713-01-01 BC", "0044-03-15 BC", "2024-02-29"),
    _built_in("timestamp", "infinity", "294276-12-31", "2000-01-01 00:00:00.000001"),
    _built_in("timestamptz", "-infinity", "0044-03-15 BC", "2024-03-31 02:30:00+01"),
    _built_in("timestamp(3)", "2024-03-31 02:30:00.1234"),
    _built_in("time", "24:00", "00:00:00.000001"),
    _built_in("timetz", "12:00+05:30", "12:00-12:34:56"),
    _built_in("interval", "1 year -2 mons 3 days 04:05:06.789", "-178000000 years", "0"),
    _built_in("interval day to second", "1 day 04:05:06.789"),
    _built_in("uuid", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    _built_in("json", '{"a" : 1,  "a":2}', "[ ]", "null"),
    _built_in("jsonb", '{"a": 1.0, "b": [null]}', "null", '"\\\\u0000"', "1.00"),
    _built_in("jsonpath", "$.a[*] ? (@ > 1)", "strict $"),
    _built_in("xml", "<a>b</a>", ""),
    _built_in("inet", "10.0.0.1/8", "::1", "10.0.0.1"),
    _built_in("cidr", "10.0.0.0/8", "::/0"),
    _built_in("macaddr", "08:00:2b:01:02:03"),
    _built_in("macaddr8", "08:00:2b:01:02:03:04:05"),
    _built_in("bit(3)", "101"),
    _built_in("bit varying", "", "1", "0" * 100),
    _built_in("point", "(1,-0)", "(NaN,Infinity)"),
    _built_in("line", "{1,2,3}"),
    _built_in("lseg", "[(0,0),(1,1)]"),
    _built_in("box", "(1,1),(0,0)"),
    _built_in("path", "[(0,0),(1,1)]", "((0,0),(1,1))"),
    _built_in("polygon", "((0,0),(1,1),(1,0))"),
    _built_in("circle", "<(0,0),1>"),
    _built_in("tsvector", "b:1 a:2A,3", ""),
    _built_in("tsquery", "a & !b | (c <-> d:*)", ""),
    _built_in("int4range", "empty", "[1,5)", "(,)"),
    _built_in("numrange", "[1.0,1.00]", "(,1)"),
    _built_in("daterange", "[2020-01-01,infinity)", "(,)"),
    _built_in("tstzrange", "[2020-01-01,2021-01-01)"),
    _built_in("int8multirange", "{}", "{[1,2),[5,9)}"),
    _built_in("datemultirange", "{[2020-01-01,2021-01-01)}"),
    _built_in("oid", "0", "4294967295"),
    _built_in("xid", "7"),
    _built_in("xid8", "18446744073709551615"),
    _built_in("cid", "7"),
    _built_in("tid", "(1,2)"),
    _built_in("pg_lsn", "16/B374D848"),
    _built_in("money", "-92233720368547758.08", "1"),
    _built_in("regtype", "integer", "-"),
    _built_in("regclass", "pg_catalog.pg_class"),
    _built_in("regproc", "pg_catalog.now"),
    _built_in("regprocedure", "pg_catalog.length(text)"),
    _built_in("regrole", "pg_monitor"),
    _built_in("regnamespace", "pg_catalog"),
    _built_in("int2vector", "1 2 3"),
    _built_in("oidvector", "1 2 3"),
    _built_in("aclitem", "postgres=r/postgres"),
    _built_in("txid_snapshot", "10:20:10,14,15"),
    _built_in("pg_snapshot", "10:20:10,14,15"),
    _built_in("refcursor", "c"),
)

ORDERED = ("integer", "bigint", "smallint", "numeric", "text", "date", "timestamptz", "uuid", "varchar(20)", "char(5)")


@dataclasses.dataclass
class Column:
    """A column as it was drawn; `given` is false where the server gives its values."""

    name: str
    type: Type
    given: bool = True
    not_null: bool = False


@dataclasses.dataclass
class Table:
    """A table as it was drawn; `keys` are lists of columns that something unique is over, `leaf` false for partitioned ones."""

    schema: str
    name: str
    columns: list[Column]
    keys: list[list[str]] = dataclasses.field(default_factory=list)
    kind: str = "plain"

    def __str__(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


@dataclasses.dataclass(frozen=True)
class Schema:
    """Statements in their order, each to be run by itself, and the names of tables that were drawn to stay behind."""

    statements: tuple[str, ...]
    staying: tuple[tuple[str, str], ...]


def draw(seed: int, *, version: int, superuser: bool) -> Schema:
    """The schema of a seed, for a server of a major version and a role that is a superuser or not."""
    return _Drawing(random.Random(seed), version, superuser).draw()


class _Drawing:
    def __init__(self, chance: random.Random, version: int, superuser: bool) -> None:
        self.chance = chance
        self.version = version
        self.superuser = superuser
        self.statements: list[str] = []
        self.schemas: list[str] = ["public"]
        self.types: list[Type] = []
        self.enums: list[Type] = []
        self.tables: list[Table] = []
        self.staying: list[Table] = []
        self.immutable: list[tuple[str, str]] = []  # a function of one argument, and the type it takes and gives
        self.triggers: list[str] = []
        self.sequences: list[str] = []
        self.collations: list[str] = ['"C"', '"default"', '"POSIX"']
        self.numbers = itertools.count(1)
        self.used: set[str] = set()

    # Small draws

    def maybe(self, share: float) -> bool:
        return self.chance.random() < share

    def pick(self, things: Sequence[str]) -> str:
        return self.chance.choice(things)

    def run(self, statement: str) -> None:
        self.statements.append(statement)

    def name(self) -> str:
        while True:
            name = self.pick(NAMES) if self.maybe(0.5) else self.pick(("thing", "item", "part", "note", "kind"))
            if name in self.used:
                name = f"{name}{next(self.numbers)}"
            if name not in self.used and len(name.encode()) <= 63:
                self.used.add(name)
                return name

    def place(self) -> str:
        """A new object's schema and name."""
        return f"{quoted(self.pick(self.schemas))}.{quoted(self.name())}"

    def text(self) -> str:
        return literal(
            self.pick(("a comment", "it's %s", "line\nbreak", "-- Name: x; Type: TABLE; Schema: y; Owner: z", "\\.", "\u00e9\U0001f600", "$$"))
        )

    def comment(self, on: str, share: float = 0.3) -> None:
        if self.maybe(share):
            self.run(f"COMMENT ON {on} IS {self.text()}")

    def value(self, of: Type) -> str:
        return "NULL" if self.maybe(0.15) else self.pick(of.values)

    # The parts in their order

    def draw(self) -> Schema:
        self.draw_schemas()
        for _ in range(self.chance.randint(1, 3)):
            self.draw_enum()
        for _ in range(self.chance.randint(2, 6)):
            self.chance.choice((self.draw_domain, self.draw_composite, self.draw_range, self.draw_function, self.draw_collation))()
        for _ in range(self.chance.randint(1, 3)):
            self.draw_function()
        for _ in range(self.chance.randint(1, 3)):
            self.draw_trigger_function()
        for _ in range(self.chance.randint(0, 3)):
            self.draw_sequence()
        for _ in range(self.chance.randint(2, 5)):
            self.chance.choice(
                (self.draw_table, self.draw_table, self.draw_table, self.draw_partitioned, self.draw_inheritance, self.draw_typed)
            )()
        for table in list(self.tables):
            self.draw_rows(table)
        for table in list(self.tables):
            self.draw_parts(table)
        self.draw_keys()
        self.draw_late()
        self.draw_outside()
        return Schema(tuple(self.statements), tuple((table.schema, table.name) for table in self.staying))

    def draw_schemas(self) -> None:
        self.comment("SCHEMA public", 0.2)
        for _ in range(self.chance.randint(1, 3)):
            name = self.name()
            self.schemas.append(name)
            self.run(f"CREATE SCHEMA {quoted(name)}")
            self.comment(f"SCHEMA {quoted(name)}", 0.5)
        if self.maybe(0.15):
            self.run("CREATE EXTENSION citext")
            self.types.append(_built_in("public.citext", "Ann", "ann"))
        if self.maybe(0.15):
            self.run("CREATE EXTENSION btree_gist")
        if self.maybe(0.1):
            where = quoted(self.pick(self.schemas))
            self.run(f"CREATE EXTENSION hstore SCHEMA {where}")
            self.types.append(_built_in(f"{where}.hstore", '"a"=>NULL, "b"=>"1"'))

    def draw_enum(self) -> None:
        place = self.place()
        labels = self.chance.sample(["a", "b", "B", "it's", '"', "", "\\", "\u00e9", "e\u0301", "%s", "new\nline", "NULL", "{}", "x" * 63], 4)
        self.run(f"CREATE TYPE {place} AS ENUM ({', '.join(map(literal, labels[:2]))})")
        for label in labels[2:]:
            how = self.pick(("BEFORE", "AFTER"))
            self.run(f"ALTER TYPE {place} ADD VALUE {literal(label)} {how} {literal(labels[0])}")
        self.comment(f"TYPE {place}")
        made = Type(place, tuple(f"CAST({literal(label)} AS {place})" for label in labels), "enum")
        self.types.append(made)
        self.enums.append(made)

    def draw_collation(self) -> None:
        place = self.place()
        how = self.pick(
            (
                "provider = libc, locale = 'C'",
                "provider = icu, locale = 'en'",
                "provider = icu, locale = 'und-u-ks-level2', deterministic = false",
            )
        )
        self.run(f"CREATE COLLATION {place} ({how})")
        self.comment(f"COLLATION {place}")
        self.collations.append(place)

    def draw_domain(self) -> None:
        base = self.any_type()
        place = self.place()
        parts = []
        if base.name in ("text", "varchar(20)") and self.maybe(0.4):
            parts.append(f"COLLATE {self.pick(self.collations)}")
        if self.maybe(0.3):
            parts.append(f"DEFAULT {self.pick(base.values)}")
        if self.maybe(0.2):
            parts.append("NOT NULL" if self.maybe(0.5) or self.version < 17 else f"CONSTRAINT {quoted(self.name())} NOT NULL")
        for _ in range(self.chance.randint(0, 2)):
            condition = f"VALUE IS DISTINCT FROM {self.pick(base.values)} OR true" if base.kind != "base" else self.condition("VALUE", base)
            parts.append(f"CONSTRAINT {quoted(self.name())} CHECK ({condition})")
        self.run(f"CREATE DOMAIN {place} AS {base.name} {' '.join(parts)}")
        self.comment(f"DOMAIN {place}")
        if self.maybe(0.2):
            constraint = quoted(self.name())
            self.run(f"ALTER DOMAIN {place} ADD CONSTRAINT {constraint} CHECK (VALUE IS NOT NULL OR true) NOT VALID")
            self.comment(f"CONSTRAINT {constraint} ON DOMAIN {place}", 0.6)
        self.types.append(Type(place, tuple(f"CAST({value} AS {place})" for value in base.values), "domain", base))

    def condition(self, value: str, of: Type) -> str:
        """A condition that some values meet; `of` has a text."""
        fits = [function for function, takes in self.immutable if takes == of.name]
        if fits and self.maybe(0.5):
            return f"{self.pick(fits)}({value}) IS NOT NULL OR {value} IS NULL"
        return self.pick(
            (
                f"{value}::text <> 'never'",
                f"length({value}::text) >= 0",
                f"{value} IS NULL OR {value}::text NOT LIKE '%\\%never'",
                f"CASE WHEN {value} IS NULL THEN true ELSE {value}::text <> ALL (ARRAY['never', 'ever']) END",
                f"COALESCE({value}::text, '') || 'x' ~ 'x$'",
                f"({value}::text, 1) IS DISTINCT FROM ('never', 2)",
                f"{value}::text NOT IN ('never', 'ever')",
                f"{value}::text COLLATE \"C\" < 'zzz' OR {value}::text >= 'zzz' OR {value} IS NULL",
                f"upper({value}::text) IS NOT NULL OR {value} IS NULL",
                f"NULLIF({value}::text, 'a') IS NULL OR greatest({value}::text, 'b') >= 'b'",
                f"substring({value}::text FROM 1 FOR 2) IS DISTINCT FROM 'qq'",
                f"EXTRACT(year FROM date '2020-01-01') = 2020 OR {value}::text SIMILAR TO 'x'",
                f"position('zz' IN {value}::text) = 0 OR {value} IS NOT NULL OR {value} IS NULL",
                f"trim(both 'x' from {value}::text) IS NOT NULL OR {value} IS NULL",
                f"interval '1 day' < interval '2 days' AND ({value} IS NULL) IS NOT UNKNOWN",
                f"overlay({value}::text PLACING 'x' FROM 1) IS NOT NULL OR {value} IS NULL",
            )
        )

    def any_type(self, *, deep: bool = True) -> Type:
        own = self.types
        base = self.chance.choice(own) if own and self.maybe(0.45) else self.chance.choice(BUILT_IN)
        if deep and self.maybe(0.15):
            return Type(
                f"{base.name}[]",
                (
                    f"CAST(ARRAY[{', '.join(self.value(base) for _ in range(3))}] AS {base.name}[])",
                    f"CAST('{{}}' AS {base.name}[])",
                    f"CAST(ARRAY[[{self.pick(base.values)}], [{self.value(base)}]] AS {base.name}[])",
                ),
                "array",
                base,
            )
        return base

    def draw_composite(self) -> None:
        place = self.place()
        parts = [(self.name(), self.any_type()) for _ in range(self.chance.randint(1, 4))]
        self.run(f"CREATE TYPE {place} AS ({', '.join(f'{quoted(name)} {of.name}' for name, of in parts)})")
        self.comment(f"TYPE {place}")
        self.comment(f"COLUMN {place}.{quoted(parts[0][0])}", 0.4)
        if self.maybe(0.2) and len(parts) > 1:
            self.run(f"ALTER TYPE {place} DROP ATTRIBUTE {quoted(parts.pop(0)[0])}")
        values = tuple(f"CAST(ROW({', '.join(self.value(of) for _, of in parts)}) AS {place})" for _ in range(3))
        self.types.append(Type(place, values, "composite"))

    def draw_range(self) -> None:
        place, multirange = self.place(), self.place()
        sub = self.chance.choice([t for t in (*BUILT_IN, *self.enums, *self.types) if t.name in ORDERED or t.kind in ("enum", "domain")])
        parts = [f"SUBTYPE = {sub.name}"]
        if self.maybe(0.5):
            parts.append(f"MULTIRANGE_TYPE_NAME = {multirange}")
        if sub.name == "text" and self.maybe(0.5):
            parts.append(f"COLLATION = {self.pick(self.collations)}")
        if sub.name == "bigint" and self.maybe(0.6):
            difference = self.place()
            self.run(
                f"CREATE FUNCTION {difference}(bigint, bigint) RETURNS double precision LANGUAGE sql IMMUTABLE"
                " AS 'SELECT $1::float8 - $2::float8'"
            )
            parts.append(f"SUBTYPE_DIFF = {difference}")
        self.run(f"CREATE TYPE {place} AS RANGE ({', '.join(parts)})")
        self.comment(f"TYPE {place}")
        one = f"{place}({sub.values[0]}, {sub.values[0]}, '[]')"
        empty = f"CAST('empty' AS {place})"
        self.types.append(Type(place, (one, empty, f"CAST('(,)' AS {place})"), "range"))
        if len(parts) > 1 and "MULTIRANGE" in parts[1]:
            self.comment(f"TYPE {multirange}", 0.5)
            self.types.append(Type(multirange, (f"{multirange}({one})", f"CAST('{{}}' AS {multirange})"), "range"))

    def draw_function(self) -> None:
        """An immutable function of one argument."""
        of = self.chance.choice([t for t in (*BUILT_IN[:10], *self.types)])
        place = self.place()
        cost = self.pick(
            (
                "",
                "COST 7",
                "PARALLEL SAFE",
                "STRICT",
                "SECURITY DEFINER",
                "SET search_path = pg_catalog",
                "SET DateStyle = 'ISO, DMY' SET work_mem = '1MB'",
            )
        )
        body = self.pick(
            (
                f"LANGUAGE sql IMMUTABLE {cost} AS $body$ SELECT $1 -- '%s' \n $body$",
                f"LANGUAGE plpgsql IMMUTABLE {cost} AS $body$ BEGIN RETURN $1; END $body$",
                f"LANGUAGE sql IMMUTABLE {cost} RETURN $1",
                f"LANGUAGE sql IMMUTABLE {cost} BEGIN ATOMIC SELECT $1; END",
            )
        )
        self.run(f"CREATE FUNCTION {place}({quoted(self.name())} {of.name}) RETURNS {of.name} {body}")
        self.comment(f"FUNCTION {place}")
        self.immutable.append((place, of.name))
        if self.maybe(0.15) and self.superuser:
            self.run(f"ALTER FUNCTION {place} LEAKPROOF")

    def draw_trigger_function(self) -> None:
        place = self.place()
        self.run(f"CREATE FUNCTION {place}() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN RETURN COALESCE(NEW, OLD); END $body$")
        self.comment(f"FUNCTION {place}()")
        self.triggers.append(place)

    def draw_sequence(self) -> None:
        place = self.place()
        how = self.pick(
            (
                "",
                "AS smallint CYCLE",
                "INCREMENT -1 MINVALUE -9223372036854775808",
                "START 9007199254740993 CACHE 5",
                "MAXVALUE 2",
                "AS integer INCREMENT 10 START 5",
            )
        )
        self.run(f"CREATE {'UNLOGGED ' if self.maybe(0.2) else ''}SEQUENCE {place} {how}")
        for _ in range(self.chance.randint(0, 2)):
            self.run(f"SELECT nextval({literal(place)}::regclass)")
        self.comment(f"SEQUENCE {place}")
        self.sequences.append(place)

    # Tables

    def draw_columns(self, count: int) -> list[Column]:
        """Columns, the first of a type that can be a key."""
        columns = [Column(self.column_name(), self.chance.choice([t for t in BUILT_IN if t.name in ORDERED]))]
        columns += [Column(self.column_name(), self.any_type()) for _ in range(count)]
        return columns

    def column_name(self) -> str:
        name = self.pick(NAMES) if self.maybe(0.4) else self.pick("abcdefgh")
        return (
            f"{name[:20]}{next(self.numbers)}" if self.maybe(0.7) else f"{name}{next(self.numbers)}"[-63:] if len(name.encode()) < 55 else "long"
        )

    def defined(self, column: Column, *, plain: bool = False) -> str:
        """A column's definition."""
        parts = [quoted(column.name), column.type.name]
        if column.type.name in ("text", "varchar(20)") and self.maybe(0.25):
            parts.append(f"COLLATE {self.pick(self.collations)}")
        if column.type.name in ("text", "bytea", "jsonb", "numeric") and self.maybe(0.2):
            parts.insert(2, f"COMPRESSION {self.pick(('pglz', 'lz4'))}")
        whole = column.type.name in ("integer", "bigint", "smallint")
        fits = [function for function, takes in self.immutable if takes == column.type.name]
        if plain:
            pass
        elif whole and self.maybe(0.3):
            how = self.pick(("", "(START 100 INCREMENT -7 MINVALUE -1000 MAXVALUE 1000 CYCLE)", "(SEQUENCE NAME %s)", "(CACHE 20)"))
            kind = self.pick(("ALWAYS", "BY DEFAULT"))
            parts.append(f"GENERATED {kind} AS IDENTITY {how.replace('%s', self.place())}")
            column.not_null = True
        elif whole and self.sequences and self.maybe(0.4):
            parts.append(f"DEFAULT nextval({literal(self.pick(self.sequences))})")
        elif self.maybe(0.3):
            value = self.pick(column.type.values)
            parts.append(f"DEFAULT {self.pick(fits)}({value})" if fits and self.maybe(0.6) else f"DEFAULT {value}")
        if self.maybe(0.15) and not column.not_null and not plain:
            parts.append(f"CONSTRAINT {quoted(self.name())} NOT NULL" if self.maybe(0.5) else "NOT NULL")
            column.not_null = True
        if self.maybe(0.2):
            no_inherit = " NO INHERIT" if self.maybe(0.1) else ""
            parts.append(f"CONSTRAINT {quoted(self.name())} CHECK ({self.condition(quoted(column.name), column.type)}){no_inherit}")
        return " ".join(parts)

    def computed(self, columns: list[Column]) -> list[tuple[Column, str]]:
        """Generated columns over the others."""
        found = []
        for _ in range(self.chance.randint(0, 2)):
            of = self.chance.choice(columns)
            fits = [function for function, takes in self.immutable if takes == of.type.name]
            kind = "VIRTUAL" if self.version >= 18 and self.maybe(0.4) else "STORED"
            value = f"{self.pick(fits)}({quoted(of.name)})" if fits and kind == "STORED" else quoted(of.name)
            made = Column(self.column_name(), of.type, given=False)
            found.append((made, f"{quoted(made.name)} {of.type.name} GENERATED ALWAYS AS ({value}) {kind}"))
        return found

    def new_table(self, columns: list[Column], kind: str = "plain") -> Table:
        table = Table(self.pick(self.schemas), self.name(), columns, kind=kind)
        self.tables.append(table)
        return table

    def options(self) -> str:
        if self.maybe(0.7):
            return ""
        return (
            " WITH ("
            + self.pick(
                (
                    "fillfactor = 71",
                    "autovacuum_enabled = off, toast.autovacuum_enabled = off",
                    "toast_tuple_target = 200",
                    "parallel_workers = 2",
                )
            )
            + ")"
        )

    def draw_table(self) -> None:
        columns = self.draw_columns(self.chance.randint(0, 7))
        computed = self.computed(columns) if self.maybe(0.4) else []
        lines = [self.defined(column) for column in columns] + [text for _, text in computed]
        self.chance.shuffle(lines)
        if self.maybe(0.2):
            lines.insert(self.chance.randint(0, len(lines)), '"to be dropped" integer')
        table = self.new_table(columns)
        lines += self.key_lines(table)
        self.run(f"CREATE {'UNLOGGED ' if self.maybe(0.1) else ''}TABLE {table} ({', '.join(lines)}){self.options()}")
        table.columns = columns + [column for column, _ in computed]
        if any('"to be dropped"' in line for line in lines):
            self.run(f'ALTER TABLE {table} DROP COLUMN "to be dropped"')
        if self.maybe(0.1):
            serial = Column(self.column_name(), BUILT_IN[1], given=False)
            self.run(f"ALTER TABLE {table} ADD COLUMN {quoted(serial.name)} bigserial")
            table.columns.append(serial)

    def key_lines(self, table: Table) -> list[str]:
        lines = []
        first = table.columns[0].name
        if self.maybe(0.7):
            how = self.pick(
                ("", "", f" INCLUDE ({quoted(table.columns[-1].name)})", " WITH (fillfactor = 80)", " DEFERRABLE INITIALLY DEFERRED")
            )
            lines.append(f"{f'CONSTRAINT {quoted(self.name())} ' if self.maybe(0.3) else ''}PRIMARY KEY ({quoted(first)}){how}")
            if "DEFERRABLE" not in how:
                table.keys.append([first])
        if self.maybe(0.3):
            other = self.chance.choice(table.columns)
            if other.type.name in ORDERED:
                nulls = "NULLS NOT DISTINCT " if self.maybe(0.2) else ""
                lines.append(
                    f"UNIQUE {nulls}({quoted(other.name)}, {quoted(first)})" if other.name != first else f"UNIQUE {nulls}({quoted(first)})"
                )
                table.keys.append([other.name, first] if other.name != first else [first])
        if self.version >= 18 and self.maybe(0.15):
            during = Column(self.column_name(), next(t for t in BUILT_IN if t.name == "daterange"))
            whom = Column(self.column_name(), next(t for t in BUILT_IN if t.name == "int4range"))
            table.columns += [during, whom]
            lines += [f"{quoted(c.name)} {c.type.name}" for c in (during, whom)]
            lines.append(f"CONSTRAINT {quoted(self.name())} UNIQUE ({quoted(whom.name)}, {quoted(during.name)} WITHOUT OVERLAPS)")
        for column in table.columns:
            if column.type.name in ("int4range", "daterange", "box", "circle") and self.maybe(0.5):
                where = f" WHERE ({quoted(column.name)} IS NOT NULL)" if self.maybe(0.5) else ""
                operator = "&&"
                lines.append(f"CONSTRAINT {quoted(self.name())} EXCLUDE USING gist ({quoted(column.name)} WITH {operator}){where}")
        return lines

    def draw_typed(self) -> None:
        place = self.place()
        columns = self.draw_columns(self.chance.randint(0, 3))
        self.run(f"CREATE TYPE {place} AS ({', '.join(f'{quoted(c.name)} {c.type.name}' for c in columns)})")
        table = self.new_table(columns, "typed")
        self.run(
            f"CREATE TABLE {table} OF {place} ({quoted(columns[0].name)} WITH OPTIONS PRIMARY KEY)"
            if self.maybe(0.6)
            else f"CREATE TABLE {table} OF {place}"
        )

    def draw_partitioned(self) -> None:
        columns = self.draw_columns(self.chance.randint(1, 5))
        by = columns[1] if self.maybe(0.4) else columns[0]
        method = self.pick(("RANGE", "LIST", "HASH"))
        table = self.new_table(columns, "partitioned")
        computed = [] if self.maybe(0.7) else [pair for pair in self.computed(columns[:1])]
        lines = [self.defined(column) for column in columns] + [text for _, text in computed]
        if by is columns[0] and self.maybe(0.6):
            lines.append(f"PRIMARY KEY ({quoted(by.name)})")
            table.keys.append([by.name])
        expression = (
            f"({quoted(by.name)})" if self.maybe(0.8) else f"(({quoted(by.name)}::text))" if method != "HASH" else f"({quoted(by.name)})"
        )
        self.run(f"CREATE TABLE {table} ({', '.join(lines)}) PARTITION BY {method} {expression}")
        table.columns = columns + [column for column, _ in computed]
        bounds = self.bounds(method, by, "::text" in expression)
        for number, bound in enumerate(bounds):
            part = Table(self.pick(self.schemas), self.name(), columns, kind="partition")
            if self.maybe(0.4):  # made apart, with its columns in another order, attached later
                shuffled = list(columns)
                self.chance.shuffle(shuffled)
                extra = ['"to be dropped" integer'] if self.maybe(0.4) else []
                if not computed:
                    inside = [f"{quoted(c.name)} {c.type.name}{' NOT NULL' if self.maybe(0.2) else ''}" for c in shuffled]
                    self.run(f"CREATE TABLE {part} ({', '.join([*extra, *inside])})")
                else:
                    self.run(f"CREATE TABLE {part} (LIKE {table} INCLUDING ALL)")
                    extra = []
                if extra:
                    self.run(f'ALTER TABLE {part} DROP COLUMN "to be dropped"')
                if self.maybe(0.3):
                    self.run(f"CREATE INDEX ON {part} ({quoted(columns[0].name)})")
                for column in columns:
                    if column.not_null:
                        named = (
                            f"ADD CONSTRAINT {quoted(self.name())} NOT NULL {quoted(column.name)}"
                            if self.version >= 18 and self.maybe(0.3)
                            else None
                        )
                        self.run(f"ALTER TABLE {part} {named or f'ALTER {quoted(column.name)} SET NOT NULL'}")
                self.run(
                    f"ALTER TABLE {part} ADD CONSTRAINT {quoted(self.name())} CHECK ({self.condition(quoted(columns[0].name), columns[0].type)})"
                )
                self.run(self.like_checks(table, part))
                self.run(f"ALTER TABLE {table} ATTACH PARTITION {part} {bound}")
            elif number == 0 and self.maybe(0.5):
                self.run(f"CREATE TABLE {part} PARTITION OF {table} {bound} PARTITION BY HASH ({quoted(columns[0].name)})")
                for remainder in (0, 1):
                    leaf = f"{quoted(self.pick(self.schemas))}.{quoted(self.name())}"
                    self.run(f"CREATE TABLE {leaf} PARTITION OF {part} FOR VALUES WITH (MODULUS 2, REMAINDER {remainder})")
            else:
                self.run(f"CREATE TABLE {part} PARTITION OF {table} {bound}{self.options()}")
                if self.maybe(0.3):
                    column = self.chance.choice(columns)
                    self.run(f"ALTER TABLE {part} ALTER {quoted(column.name)} SET DEFAULT {self.pick(column.type.values)}")
            self.comment(f"TABLE {part}")

    def like_checks(self, table: Table, part: Table) -> str:
        """Gives a table that is to be attached the checks that its parent has."""
        return (
            "DO $do$ DECLARE k record; BEGIN FOR k IN SELECT conname, pg_get_constraintdef(oid) AS d FROM pg_constraint"
            f" WHERE conrelid = {literal(str(table))}::regclass AND contype = 'c' LOOP"
            f" EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', {literal(str(part))}, k.conname, k.d); END LOOP; END $do$"
        )

    def bounds(self, method: str, by: Column, as_text: bool) -> list[str]:
        if method == "HASH":
            return [f"FOR VALUES WITH (MODULUS 3, REMAINDER {remainder})" for remainder in range(3)]
        default = ["DEFAULT"] if self.maybe(0.9) else []
        if as_text:
            return ["FOR VALUES FROM (MINVALUE) TO ('m')" if method == "RANGE" else "FOR VALUES IN ('0', 'a')", *default]
        values = list(by.type.values[:3])
        if method == "LIST":
            return [f"FOR VALUES IN ({values[0]})", *([f"FOR VALUES IN ({values[1]}, NULL)"] if len(values) > 1 else []), *default]
        if self.maybe(0.5):
            return [f"FOR VALUES FROM (MINVALUE) TO ({values[0]})", f"FOR VALUES FROM ({values[0]}) TO (MAXVALUE)", *default]
        return [f"FOR VALUES FROM ({values[0]}) TO (MAXVALUE)", *default]

    def draw_inheritance(self) -> None:
        columns = self.draw_columns(self.chance.randint(0, 3))
        parent = self.new_table(columns, "parent")
        self.run(f"CREATE TABLE {parent} ({', '.join(self.defined(column) for column in columns)})")
        other = self.draw_columns(1)
        second = self.new_table(other, "parent") if self.maybe(0.5) else None
        if second:
            self.run(f"CREATE TABLE {second} ({', '.join(self.defined(column) for column in other)})")
        more = self.draw_columns(self.chance.randint(0, 2))
        parents = [parent, *([second] if second else [])]
        child = Table(self.pick(self.schemas), self.name(), [*columns, *(other if second else []), *more], kind="child")
        if self.maybe(0.5):
            lines = [self.defined(column) for column in more]
            if self.maybe(0.3):
                lines.append(self.defined(columns[0]))
            self.run(f"CREATE TABLE {child} ({', '.join(lines)}) INHERITS ({', '.join(map(str, parents))})")
        else:
            inside = [self.defined(column, plain=True) for column in [*more, *columns, *(other if second else [])]]
            for column in columns + other:
                if column.not_null:
                    inside = [f"{line} NOT NULL" if line.startswith(quoted(column.name) + " ") else line for line in inside]
            self.run(f"CREATE TABLE {child} ({', '.join(inside)})")
            for up in parents:
                self.run(self.like_checks(up, child))
                self.run(f"ALTER TABLE {child} INHERIT {up}")
        self.tables.append(child)
        if self.maybe(0.3):
            self.run(f"ALTER TABLE {child} ALTER {quoted(columns[0].name)} SET DEFAULT {self.pick(columns[0].type.values)}")
        if self.maybe(0.3):
            grandchild = Table(self.pick(self.schemas), self.name(), child.columns, kind="child")
            self.run(f"CREATE TABLE {grandchild} () INHERITS ({child})")
            self.tables.append(grandchild)

    def draw_rows(self, table: Table) -> None:
        given = [column for column in table.columns if column.given]
        for _ in range(self.chance.choice((0, 3, 12, 30))):
            values = [
                (quoted(c.name), self.pick(c.type.values) if c.not_null else self.value(c.type)) for c in given if self.maybe(0.9) or c.not_null
            ]
            if values:
                self.run(
                    f"INSERT INTO {table} ({', '.join(c for c, _ in values)}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(v for _, v in values)})"
                )
            else:
                self.run(f"INSERT INTO {table} DEFAULT VALUES")
        columns = ", ".join(quoted(column.name) for column in given)
        if self.maybe(0.3) and not table.keys:
            self.run(f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM ONLY {table} LIMIT 2")
        if table.keys and self.maybe(0.5) and table.columns[0].type.name in ("integer", "bigint", "numeric", "text"):
            first = table.columns[0]
            self.run(
                f"INSERT INTO {table} ({quoted(first.name)}) OVERRIDING SYSTEM VALUE"
                f" SELECT (100 + i)::{first.type.name} FROM generate_series(1, 40) i"
            )

    # What hangs on tables

    def draw_parts(self, table: Table) -> None:
        for _ in range(self.chance.randint(0, 3)):
            self.draw_index(table)
        for _ in range(self.chance.randint(0, 2)):
            self.draw_trigger(table)
        if self.maybe(0.25):
            self.draw_statistics(table)
        if self.maybe(0.2):
            self.draw_policies(table)
        self.comment(f"TABLE {table}")
        column = self.chance.choice(table.columns)
        self.comment(f"COLUMN {table}.{quoted(column.name)}")
        for _ in range(self.chance.randint(0, 3)):
            column = self.chance.choice(table.columns)
            on = quoted(column.name)
            what = self.pick(
                (
                    f"ALTER {on} SET STORAGE {self.pick(('MAIN', 'EXTERNAL', 'PLAIN', 'EXTENDED'))}",
                    f"ALTER {on} SET STATISTICS {self.chance.choice((0, 77, 1000))}",
                    f"ALTER {on} SET (n_distinct = -0.5, n_distinct_inherited = 7)",
                    f"REPLICA IDENTITY {self.pick(('FULL', 'NOTHING'))}",
                    f"ADD CONSTRAINT {quoted(self.name())} CHECK ({on}::text <> 'no') NOT VALID",
                    f"ADD CONSTRAINT {quoted(self.name())} CHECK ({on} IS NOT NULL) NOT ENFORCED"
                    if self.version >= 18
                    else "SET (fillfactor = 55)",
                    f"ADD CONSTRAINT {quoted(self.name())} NOT NULL {on} NOT VALID" if self.version >= 18 else "SET WITHOUT CLUSTER",
                    f"ADD COLUMN {quoted(self.column_name())} integer DEFAULT {self.chance.randint(0, 9)} NOT NULL",
                    f"ALTER {on} DROP DEFAULT",
                    f"ALTER {on} SET COMPRESSION {self.pick(('pglz', 'lz4'))}",
                    "SET (autovacuum_vacuum_scale_factor = 0.3, log_autovacuum_min_duration = 100)",
                )
            )
            self.run(f"ALTER TABLE {'ONLY ' if self.maybe(0.15) else ''}{table} {what}")

    def draw_index(self, table: Table) -> None:
        column = self.chance.choice(table.columns)
        on, name = quoted(column.name), self.name()
        textual = column.type.name in ("text", "varchar(20)")
        fits = [function for function, takes in self.immutable if takes == column.type.name]
        forms = [
            f"({on})",
            f"({on} DESC NULLS LAST)",
            f"({on}) WHERE {on} IS NOT NULL",
            f"({on}) INCLUDE ({quoted(table.columns[0].name)})",
            f"(({on}::text), {quoted(table.columns[0].name)})",
            f"USING hash ({on})",
            f"USING brin ({on}) WITH (pages_per_range = 7)",
            f"USING gist ({on})",
            f"USING gin ({on})",
            f"USING spgist ({on})",
            f"(({on} IS NULL)) WHERE {on}::text <> 'x'",
        ]
        if textual:
            forms += [f"({on} text_pattern_ops)", f'(lower({on}) COLLATE "C")', f"({on} COLLATE {self.pick(self.collations)} DESC)"]
            forms += [f"USING gin (to_tsvector('simple', {on}))"]
        if fits:
            forms.append(f"(({self.pick(fits)}({on})))")
        unique = "UNIQUE " if self.maybe(0.25) else ""
        nulls = " NULLS NOT DISTINCT" if unique and self.maybe(0.3) else ""
        form = self.pick(forms)
        if " WHERE " in form and nulls:
            form = form.replace(" WHERE ", f"{nulls} WHERE ", 1)
            nulls = ""
        only = "ONLY " if self.maybe(0.1) and table.kind == "partitioned" else ""
        self.run(f"CREATE {unique}INDEX {quoted(name)} ON {only}{table} {form}{nulls}")
        index = f"{quoted(table.schema)}.{quoted(name)}"
        self.comment(f"INDEX {index}")
        if unique and form == f"({on})":
            table.keys.append([column.name])
            if self.maybe(0.3):
                self.run(f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX {quoted(name)}")
        if self.maybe(0.1):
            self.run(f"ALTER TABLE {table} CLUSTER ON {quoted(name)}")
        if "((" in form and self.maybe(0.3):
            self.run(f"ALTER INDEX {index} ALTER COLUMN 1 SET STATISTICS 55")
        if only:
            self.run(
                "DO $do$ DECLARE p record; BEGIN FOR p IN SELECT inhrelid::regclass AS r FROM pg_inherits"
                f" WHERE inhparent = {literal(str(table))}::regclass LOOP"
                f" EXECUTE format('CREATE INDEX %I ON %s {form.replace('%', '%%').replace(chr(39), chr(39) * 2)}', 'part of ' || p.r, p.r);"
                f" EXECUTE format('ALTER INDEX %s ATTACH PARTITION %s.%I', {literal(index)},"
                " (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = p.r), 'part of ' || p.r); END LOOP; END $do$"
            )

    def draw_trigger(self, table: Table) -> None:
        name, function = quoted(self.name()), self.pick(self.triggers)
        column = quoted(self.chance.choice(table.columns).name)
        form = self.pick(
            (
                f"CREATE TRIGGER {name} BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW WHEN (NEW.* IS DISTINCT FROM NULL)"
                f" EXECUTE FUNCTION {function}('a %s', '')",
                f"CREATE TRIGGER {name} AFTER UPDATE OF {column} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
                f"CREATE TRIGGER {name} AFTER INSERT ON {table} REFERENCING NEW TABLE AS {quoted(self.name())}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
                f"CREATE CONSTRAINT TRIGGER {name} AFTER DELETE ON {table} DEFERRABLE INITIALLY DEFERRED"
                f" FOR EACH ROW EXECUTE FUNCTION {function}()",
                f"CREATE TRIGGER {name} BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
                f"CREATE TRIGGER {name} AFTER DELETE ON {table} FOR EACH ROW WHEN (OLD.{column}::text <> 'x') EXECUTE FUNCTION {function}()",
            )
        )
        self.run(form)
        self.comment(f"TRIGGER {name} ON {table}")
        if self.maybe(0.4):
            self.run(
                f"ALTER TABLE {'ONLY ' if self.maybe(0.4) else ''}{table}"
                f" {self.pick(('DISABLE', 'ENABLE ALWAYS', 'ENABLE REPLICA'))} TRIGGER {name}"
            )

    def draw_statistics(self, table: Table) -> None:
        place = self.place()
        first, second = (quoted(self.chance.choice(table.columns).name) for _ in range(2))
        form = self.pick(
            (
                f"(ndistinct, mcv) ON {first}, {second}",
                f"ON {first}, {second}",
                f"ON ({first}::text)",
                f"(dependencies) ON {first}, ({second} IS NULL)",
            )
        )
        self.run(f"CREATE STATISTICS {place} {form} FROM {table}")
        self.comment(f"STATISTICS {place}")
        if self.maybe(0.3):
            self.run(f"ALTER STATISTICS {place} SET STATISTICS 99")

    def draw_policies(self, table: Table) -> None:
        name = quoted(self.name())
        column = self.chance.choice(table.columns)
        condition = self.condition(quoted(column.name), column.type)
        self.run(
            f"CREATE POLICY {name} ON {table} AS {self.pick(('PERMISSIVE', 'RESTRICTIVE'))} FOR {self.pick(('ALL', 'SELECT', 'UPDATE'))}"
            f" TO {self.pick(('PUBLIC', 'pg_monitor, pg_signal_backend', 'CURRENT_USER'))} USING ({condition})"
        )
        self.comment(f"POLICY {name} ON {table}")
        for word in ("ENABLE", "FORCE"):
            if self.maybe(0.6):
                self.run(f"ALTER TABLE {table} {word} ROW LEVEL SECURITY")

    def draw_keys(self) -> None:
        """Foreign keys, in circles too."""
        for _ in range(self.chance.randint(0, 5)):
            to = self.chance.choice(self.tables)
            if not to.keys:
                continue
            key = self.chance.choice(to.keys)
            of = self.chance.choice(self.tables)
            types = {column.name: column.type for column in to.columns}
            referring = [Column(self.column_name(), types[name]) for name in key if name in types]
            for column in referring:
                self.run(f"ALTER TABLE {of} ADD COLUMN {quoted(column.name)} {column.type.name}")
            of.columns += referring
            how = " ".join(
                (
                    self.pick(("", "", "MATCH FULL")),
                    self.pick(
                        (
                            "",
                            "ON DELETE CASCADE",
                            "ON DELETE SET NULL",
                            "ON UPDATE CASCADE ON DELETE SET DEFAULT",
                            f"ON DELETE SET NULL ({quoted(referring[0].name)})",
                        )
                    ),
                    self.pick(("", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED")),
                    self.pick(("", "", "NOT VALID", "NOT ENFORCED" if self.version >= 18 else "")),
                )
            )
            name = quoted(self.name())
            columns, target = (", ".join(quoted(n) for n in names) for names in ([c.name for c in referring], key))
            self.run(f"ALTER TABLE {of} ADD CONSTRAINT {name} FOREIGN KEY ({columns}) REFERENCES {to} ({target}) {how}")
            self.comment(f"CONSTRAINT {name} ON {of}")
            if self.maybe(0.6):
                self.run(
                    f"UPDATE ONLY {of} SET ({columns}) = (SELECT {target} FROM {to} LIMIT 1)"
                    if len(referring) > 1
                    else f"UPDATE ONLY {of} SET {columns} = (SELECT {target} FROM {to} LIMIT 1)"
                )

    def draw_late(self) -> None:
        """What is done to a schema after it has been used."""
        for _ in range(self.chance.randint(0, 4)):
            table = self.chance.choice(self.tables)
            column = self.chance.choice(table.columns)
            on = quoted(column.name)
            self.run(
                self.pick(
                    (
                        f"ALTER TABLE {table} RENAME COLUMN {on} TO {quoted(column.name[:40] + ' renamed')}",
                        f"ALTER TABLE {table} DROP COLUMN {on}",
                        f"ALTER TABLE {table} ALTER {on} TYPE text USING {on}::text",
                        f"ALTER TABLE {table} ADD COLUMN {quoted(self.column_name())} text DEFAULT 'late'",
                        f"UPDATE {table} SET {on} = DEFAULT",
                        f"DELETE FROM {table} WHERE ctid IN (SELECT ctid FROM {table} LIMIT 2)",
                        f"ALTER TABLE {table} SET SCHEMA {quoted(self.pick(self.schemas))}",
                        f"CREATE INDEX ON {table} ({on})",
                        f"VACUUM FULL {table}",
                        f"ANALYZE {table}",
                    )
                )
            )
        if self.enums and self.maybe(0.3):
            self.run(f"ALTER TYPE {self.chance.choice(self.enums).name} RENAME VALUE 'a' TO 'z'")
        if self.sequences and self.maybe(0.3):
            table = self.chance.choice(self.tables)
            self.run(f"ALTER SEQUENCE {self.pick(self.sequences)} OWNED BY {table}.{quoted(table.columns[0].name)}")

    def draw_outside(self) -> None:
        """What stays behind and uses what moves, or is used by it."""
        for _ in range(self.chance.randint(0, 3)):
            table = self.chance.choice(self.tables)
            on = quoted(self.chance.choice(table.columns).name)
            self.run(
                self.pick(
                    (
                        f"CREATE VIEW {self.place()} AS SELECT {on} FROM {table}",
                        f"CREATE MATERIALIZED VIEW {self.place()} AS SELECT * FROM {table}",
                        f"CREATE FUNCTION {self.place()}() RETURNS bigint LANGUAGE sql AS {literal(f'SELECT count(*) FROM {table}')}",
                        f"CREATE FUNCTION {self.place()}() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count({on}) FROM {table}; END",
                        f"CREATE FUNCTION {self.place()}({table}) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
                        f"CREATE RULE {quoted(self.name())} AS ON DELETE TO {table} WHERE false DO ALSO NOTHING",
                        f"CREATE PUBLICATION {quoted(self.name())} FOR TABLE {table}",
                    )
                )
            )
        if self.maybe(0.3) and self.enums:
            staying = Table(self.pick(self.schemas), self.name(), [])
            self.staying.append(staying)
            table = self.chance.choice(self.tables)
            self.run(f"CREATE TABLE {staying} (id integer PRIMARY KEY, feeling {self.chance.choice(self.enums).name})")
            if table.keys and self.maybe(0.5):
                key = self.chance.choice(table.keys)
                types = {column.name: column.type.name for column in table.columns}
                self.run(f"ALTER TABLE {staying} ADD COLUMN r {types.get(key[0], 'integer')}")
                self.run(f"ALTER TABLE {staying} ADD CONSTRAINT {quoted(self.name())} FOREIGN KEY (r) REFERENCES {table} ({quoted(key[0])})")
            if self.maybe(0.3):
                self.run(f"ALTER TABLE {table} ADD COLUMN refers integer REFERENCES {staying}")
        elif self.maybe(0.15):
            table = self.chance.choice(self.tables)
            self.staying.append(table)
        if self.superuser and self.maybe(0.1):
            self.run("CREATE FUNCTION public.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END'")
            self.run(f"CREATE EVENT TRIGGER {quoted(self.name())} ON ddl_command_end EXECUTE FUNCTION public.on_ddl()")
