"""The oddest names there are: of an admin, an application, databases, roles, a schema, tables and whatever belongs to them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from psycopg import sql

from sandbox.postgres import Server

PASSWORD = "pw ;'\"%\\"
ODD = "\"'; DROP TABLE x; -- %s %(x)s \\ $$ {0} \N{LATIN SMALL LETTER E WITH ACUTE}"


def odd(start: str, *, without: str = "", more: str = "") -> str:
    """A name of 63 bytes, the most PostgreSQL keeps, that begins with `start`."""
    text = start + "".join(character for character in ODD + more if character not in without)
    assert len(text.encode()) <= 63
    return text + "z" * (63 - len(text.encode()))


SOURCE = odd("old", more="\n?#/=@")
TARGET = odd("new", without="'%", more="./=@:")
USER = odd("user", more="\n?#/@:")
ROLE = odd("rw", more="\n?#/@:")
ADMIN = odd("admin", without=":", more="\n?#/@")
KEEPER = odd("keeper", more="\n?#/@:=")
APPLICATION = odd("app", more="\n?#/@")
SCHEMA = odd("schema", more="\n.,")
PARENT = odd("parent", more="\n.,")
CHILD = odd("child", more="\n.,")
COLUMN = odd("column", more="\n.,")
KIND = odd("kind", more="\n.,")
LABELS = [odd("label", more="\n.,"), "a,b", '"', "\\", "", " ", "null", "{}", "'"]

MAKE = sql.SQL(
    """
CREATE TYPE {kind} AS ENUM ({labels});
CREATE TABLE {parent} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {column} text UNIQUE CHECK ({column} <> {value}),
  k {kind}[] DEFAULT {default});
CREATE TABLE {child} ({column} text REFERENCES {parent} ({column}) ON UPDATE CASCADE, {kind_column} {kind} DEFAULT {label}, n serial,
  PRIMARY KEY ({column}, n));
CREATE INDEX {index} ON {child} (lower({column})) WHERE {column} <> {value};
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {body};
CREATE TRIGGER {function_only} BEFORE INSERT ON {child} FOR EACH ROW EXECUTE FUNCTION {function}({value});
COMMENT ON COLUMN {child}.{column} IS {value};
INSERT INTO {parent} ({column}, k) SELECT {value} || g, ARRAY[{label}, '']::{kind}[] FROM generate_series(1, 200) AS g;
INSERT INTO {child} ({column}) SELECT {column} FROM {parent};
GRANT USAGE ON SCHEMA {schema} TO {application};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {application};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {application};
"""
).format(
    kind=sql.Identifier(SCHEMA, KIND),
    kind_column=sql.Identifier(KIND),
    labels=sql.SQL(", ").join(map(sql.Literal, LABELS)),
    label=sql.Literal(LABELS[0]),
    default=sql.Literal(["'", LABELS[0]]),
    parent=sql.Identifier(SCHEMA, PARENT),
    child=sql.Identifier(SCHEMA, CHILD),
    column=sql.Identifier(COLUMN),
    index=sql.Identifier(odd("index", more="\n.,")),
    function=sql.Identifier(SCHEMA, odd("function", more="\n.,")),
    function_only=sql.Identifier(odd("trigger", more="\n.,")),
    body=sql.Literal("BEGIN RETURN NEW; END -- " + ODD),
    value=sql.Literal(ODD),
    schema=sql.Identifier(SCHEMA),
    application=sql.Identifier(APPLICATION),
)


def shown(schema: str, name: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))


def url(server: Server, database: str, user: str) -> str:
    login = f"{quote(user, safe='')}:{quote(PASSWORD, safe='')}"
    return f"postgresql://{login}@127.0.0.1:{server.port}/{quote(database, safe='')}?sslmode=disable"


def make_source(server: Server) -> None:
    """The old database, its people and its tables: these belong to a role that the admin is a member of, not to the admin."""
    admin, keeper, application, source = map(sql.Identifier, (ADMIN, KEEPER, APPLICATION, SOURCE))
    with server.connect() as root:
        for role, attributes in ((admin, "CREATEROLE CREATEDB LOGIN"), (keeper, ""), (application, "LOGIN")):
            root.execute(sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(role, sql.SQL(attributes), sql.Literal(PASSWORD)))
        root.execute(sql.SQL("GRANT {}, {} TO {}").format(keeper, application, admin))
        root.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(source))
        root.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(source, admin))
    with server.connect(SOURCE) as root:
        root.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(SCHEMA), keeper))
        root.execute(sql.SQL("SET ROLE {}").format(keeper))
        root.execute(MAKE)


def rows(server: Server, database: str, table: str) -> list[str]:
    """Every row of a table as text."""
    with server.connect(database) as root:
        found = root.execute(sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(SCHEMA, table)))
        return [str(row[0]) for row in found]


def access(server: Server) -> list[tuple[Any, ...]]:
    """The tables and sequences of the old schema, whose they are, and who may use them."""
    with server.connect(SOURCE) as root:
        return root.execute(
            "SELECT relname, relowner::regrole::text, ARRAY(SELECT a::text FROM unnest(relacl) AS a ORDER BY 1) FROM pg_class"
            " WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s) AND relkind IN ('r', 'S') ORDER BY 1",
            [SCHEMA],
        ).fetchall()


WRITES = [
    sql.SQL("INSERT INTO {} ({}) VALUES ('written') ON CONFLICT DO NOTHING").format(sql.Identifier(SCHEMA, PARENT), sql.Identifier(COLUMN)),
    sql.SQL("UPDATE {} SET {} = {} WHERE id = 9").format(sql.Identifier(SCHEMA, PARENT), sql.Identifier(COLUMN), sql.Literal(ODD + "changed")),
    sql.SQL("DELETE FROM {} WHERE {} LIKE '%7'").format(sql.Identifier(SCHEMA, CHILD), sql.Identifier(COLUMN)),
]
"""What an application does to the tables."""
