"""What cannot be moved faithfully is refused by name, with a way out, before anything is made."""

from __future__ import annotations

import dataclasses
import time

import psycopg
import pytest
from psycopg import sql

from clarity_infra.errors import Blocked, ConfigurationError, Refused
from clarity_infra.move import preflight
from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.rows import session
from clarity_infra.move.survey import survey
from clarity_infra.move.tools import find_tools
from sandbox.postgres import Server
from tests.move.conftest import Scene, make_scene

SCHEMA = """
CREATE TYPE state AS ENUM ('on', 'off');
CREATE TABLE a (id integer PRIMARY KEY, s state, o oid);
CREATE TABLE b (id integer PRIMARY KEY REFERENCES a);
CREATE TABLE other (id integer PRIMARY KEY, s state);
INSERT INTO a VALUES (1, 'on'), (2, 'off');
"""

# What is made beside the tables a and b; the object and the words of the blocker; whether it can be accepted.
OBSTACLES = {
    "a key from a table that stays": (
        "ALTER TABLE other ADD FOREIGN KEY (id) REFERENCES a",
        "table constraint other_id_fkey on public.other",
        True,
    ),
    "a key to a table that stays": (
        "ALTER TABLE a ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES other NOT VALID",
        "table constraint k on public.a",
        True,
    ),
    "a view": ("CREATE VIEW v AS SELECT id FROM a", "view public.v", True),
    "a view of whole rows": ("CREATE VIEW v AS SELECT a FROM a", "view public.v", True),
    "a materialised view": ("CREATE MATERIALIZED VIEW m AS SELECT id FROM b", "materialized view public.m", True),
    "a rule": ("CREATE RULE r AS ON INSERT TO a DO INSTEAD NOTHING", "rule r on public.a", True),
    "a publication": ("CREATE PUBLICATION p FOR TABLE a", "publication p", True),
    "a function that stays and reads a table": (
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.a'",
        "function public.f()",
        True,
    ),
    "a function that stays and takes a row": (
        "CREATE FUNCTION f(a) RETURNS integer LANGUAGE sql AS 'SELECT $1.id'",
        "function public.f(public.a)",
        True,
    ),
    "a function of the new kind that stays": (
        "CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM a; END",
        "function public.f()",
        True,
    ),
    "a trigger's function that calls what has to stay": (
        "CREATE FUNCTION helper() RETURNS SETOF other LANGUAGE sql AS 'SELECT * FROM other';"
        " CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM helper(); RETURN NEW; END $$;"
        " CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
        "function public.f()",
        True,
    ),
    "a trigger's function that writes to a table that stays": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO other VALUES (NEW.id); RETURN NEW; END $$;"
        " CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
        "function public.f()",
        True,
    ),
    "a policy that reads a table that stays": (
        "CREATE POLICY p ON a USING (id IN (SELECT id FROM other))",
        "policy p on public.a",
        False,
    ),
    "a policy of a table that stays": (
        "CREATE POLICY p ON other USING (id IN (SELECT id FROM a))",
        "policy p on public.other",
        True,
    ),
    "a cast of the enum": ("CREATE CAST (state AS text) WITH INOUT", "cast (public.state AS pg_catalog.text)", True),
    "a partition without its parent": (
        "CREATE TABLE whole (id integer) PARTITION BY LIST (id); CREATE TABLE part (id integer);"
        " ALTER TABLE a RENAME TO a_old; CREATE TABLE a PARTITION OF whole DEFAULT",
        "table public.a",
        False,
    ),
    "an inheritance child without its parent": ("CREATE TABLE up (id integer NOT NULL); ALTER TABLE a INHERIT up", "table public.a", False),
    "large objects": ("SELECT lo_from_bytea(0, 'x')", "column public.a.o", True),
    "large objects, referred to within a domain of a domain": (
        "CREATE DOMAIN d AS oid; CREATE DOMAIN e AS d[]; ALTER TABLE b ADD e e; SELECT lo_from_bytea(0, 'x')",
        "column public.b.e",
        True,
    ),
    "a sequence of a table that stays": (
        "CREATE TABLE owning (id serial); ALTER TABLE a ADD n integer DEFAULT nextval('owning_id_seq')",
        "sequence public.owning_id_seq",
        False,
    ),
    "a default of a table that stays from a sequence that moves": (
        "ALTER TABLE b ADD n serial; ALTER TABLE other ADD n integer DEFAULT nextval('b_n_seq')",
        "default value for public.other.n",
        False,
    ),
    "a column of another table's row type": ("ALTER TABLE a ADD r other", "type public.other", False),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_each_obstacle_is_named_and_stops_the_copy(scene: Scene, obstacle: str) -> None:
    statements, name, can_accept = OBSTACLES[obstacle]
    scene.run_source(SCHEMA)
    scene.run_source(statements)
    looked = survey(scene.move("a", "b"))
    named = [blocker for blocker in looked.blockers if blocker.object == name]
    assert named, [str(blocker) for blocker in looked.blockers]
    assert all(blocker.reason and blocker.remedy for blocker in named)
    assert {blocker.can_accept for blocker in named} == {can_accept}
    assert name in looked.text()
    with pytest.raises(Blocked, match="Nothing was changed") as caught:
        scene.copy("a", "b")
    assert any(text.startswith(name) for text in caught.value.blockers)
    assert _tables(scene) == []
    if can_accept:
        scene.copy("a", "b", accept=tuple(blocker.object for blocker in looked.blockers))
    else:
        with pytest.raises(Blocked):
            scene.copy("a", "b", accept=tuple(blocker.object for blocker in looked.blockers))


@pytest.mark.parametrize("key", ["ALTER TABLE other ADD UNIQUE (s)", "CREATE UNIQUE INDEX ON other (s)"])
def test_a_key_to_a_table_that_stays_is_all_that_is_named(scene: Scene, key: str) -> None:
    """Not the key or index that it refers to, with the advice to drop that: the table may be the provider's own (Supabase's auth.users)."""
    scene.run_source(f"{SCHEMA}; {key}; ALTER TABLE a ADD CONSTRAINT k FOREIGN KEY (s) REFERENCES other (s) NOT VALID")
    assert [blocker.object for blocker in survey(scene.move("a", "b")).blockers] == ["table constraint k on public.a"]
    scene.copy("a", "b", accept=("table constraint k on public.a",))


def _tables(scene: Scene) -> list[str]:
    with scene.on_target() as target:
        rows = target.execute(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema|^clarity_infra' ORDER BY 1"
        ).fetchall()
    return [row[0] for row in rows]


def test_nothing_stands_in_the_way_of_plain_tables_and_sharing_is_reported(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    looked = survey(scene.move("a", "b"), count=True)
    assert looked.blockers == ()
    assert looked.rows == {"public.a": 2, "public.b": 0}
    assert any("type public.state" in note and "public.other" in note for note in looked.notes)
    assert looked.json()["blockers"] == []


def test_statements_that_are_put_together_at_run_time_are_said_to_be_unread(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    scene.run_source(
        """
        CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('DELETE FROM %I', TG_ARGV[0]); RETURN NEW; END $$;
        CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f('other');
        CREATE FUNCTION stays() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DELETE FROM ' || 'a'; END $$;
        CREATE FUNCTION plain() RETURNS void LANGUAGE plpgsql AS
            $$ BEGIN -- execute
            CREATE TRIGGER made BEFORE INSERT ON pg_temp.x FOR EACH ROW EXECUTE FUNCTION public.nothing(); END $$
        """
    )
    looked = survey(scene.move("a", "b"))
    assert looked.blockers == ()
    unread = [note for note in looked.notes if "run time" in note]
    assert [("public.f()" in note, "public.stays()" in note) for note in unread] == [(True, False), (False, True)]
    assert "plain()" not in "".join(unread)
    assert "public.f()" in looked.text()


@pytest.mark.parametrize(
    ("tables", "error", "words"),
    [
        (["a", "missing"], ConfigurationError, "no table public.missing"),
        (["a", "A"], ConfigurationError, "did you mean public.a"),
        (["a", "b", "public.a"], ConfigurationError, "public.a twice"),
        (["a", "a_view"], ConfigurationError, "is a view, not a table"),
        (["nowhere.a"], ConfigurationError, "no table nowhere.a"),
        ([], ConfigurationError, "names no table"),
        (["foreign_owned"], Refused, 'belongs to "postgres"'),
    ],
)
def test_a_table_that_cannot_be_meant(scene: Scene, tables: list[str], error: type[Exception], words: str) -> None:
    scene.run_source(SCHEMA + "CREATE VIEW a_view AS SELECT 1 AS one;")
    with scene.on_source(superuser=True) as source:
        source.execute("CREATE TABLE foreign_owned (id integer)")
    with pytest.raises(error, match=words):
        survey(scene.move(*tables))


def test_the_tracking_table_is_found_named_or_left_out(scene: Scene) -> None:
    scene.run_source(SCHEMA + "CREATE TABLE __drizzle_migrations (id serial PRIMARY KEY, hash text, created_at bigint);")
    assert str(survey(scene.move("a", "b")).move_set.tracking) == "public.__drizzle_migrations"
    assert survey(scene.move("a", "b", tracking="none")).move_set.tracking is None
    with pytest.raises(ConfigurationError, match=r"no table drizzle\.__drizzle_migrations"):
        survey(scene.move("a", "b", tracking="drizzle.__drizzle_migrations"))
    scene.run_source("CREATE SCHEMA drizzle; CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text, created_at bigint);")
    looked = survey(scene.move("a", "b"))
    assert str(looked.move_set.tracking) == "drizzle.__drizzle_migrations"
    assert any("Two tracking tables" in note for note in looked.notes)


def test_an_admin_whom_row_security_binds(scene: Scene) -> None:
    scene.run_source(SCHEMA + "ALTER TABLE a ENABLE ROW LEVEL SECURITY; ALTER TABLE a FORCE ROW LEVEL SECURITY;")
    (blocker,) = survey(scene.move("a", "b")).blockers
    assert (blocker.object, blocker.can_accept) == ("table public.a", False)
    assert "BYPASSRLS" in blocker.remedy


def test_an_invalid_index(scene: Scene) -> None:
    scene.run_source(SCHEMA + "INSERT INTO other VALUES (1, 'on'), (2, 'on'); CREATE INDEX i ON a (s);")
    with scene.on_source(superuser=True) as source:
        source.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass")
    (blocker,) = survey(scene.move("a", "b")).blockers
    assert blocker.object == "index public.i"


def test_a_target_with_objects_of_its_own_is_left_as_it_is(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    with scene.on_target() as target:
        target.execute("CREATE TABLE mine (id integer); INSERT INTO mine VALUES (1); CREATE VIEW mine_too AS SELECT 1 AS one")
    with pytest.raises(Blocked, match=r"table public\.mine, view public\.mine_too|view public\.mine_too.*table public\.mine"):
        scene.copy("a", "b")
    assert _tables(scene) == ["mine"]


def test_a_type_of_the_same_name_in_the_target(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    with scene.on_target() as target:
        target.execute("CREATE TYPE state AS ENUM ('other')")
    with pytest.raises(Blocked, match=r"type public\.state"):
        scene.copy("a", "b")


def test_a_collation_an_operator_and_a_configuration_of_the_same_name_in_the_target(scene: Scene) -> None:
    scene.run_source(
        """
        CREATE COLLATION c (provider = libc, locale = 'C');
        CREATE TEXT SEARCH CONFIGURATION words (COPY = pg_catalog.simple);
        CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
        CREATE OPERATOR === (FUNCTION = same, LEFTARG = text, RIGHTARG = text);
        CREATE TABLE a (v text COLLATE c CHECK (v === v), w tsvector DEFAULT to_tsvector('words', ''));
        """
    )
    with scene.on_target() as target:
        target.execute("CREATE COLLATION c (provider = libc, locale = 'POSIX'); CREATE TEXT SEARCH CONFIGURATION words (COPY = english)")
        target.execute("CREATE FUNCTION other(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'")
        target.execute("CREATE OPERATOR === (FUNCTION = other, LEFTARG = text, RIGHTARG = text)")
    (blocker,) = survey(scene.move("a")).blockers
    named = ("collation public.c", "operator public.===(pg_catalog.text,pg_catalog.text)", "text search configuration public.words")
    assert [thing in blocker.reason for thing in named] == [True, True, True]


def test_the_source_itself_as_the_target(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    move = scene.move("a", "b")
    # By another name of the same host, so that only the databases themselves can tell.
    itself = dataclasses.replace(move, target=dataclasses.replace(move.source, host="localhost"))
    assert [blocker.object for blocker in survey(itself, target_exists=True).blockers] == ["target database"]


def test_a_target_that_does_not_exist_yet(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    move = scene.move("a", "b")
    looked = survey(dataclasses.replace(move, target=move.target.with_database("not made yet")))
    assert (looked.target_exists, looked.blockers) == (False, ())
    assert "does not exist yet" in looked.text()


def test_an_owner_who_may_not_create(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    with scene.on_target(superuser=True) as target:
        target.execute(sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(sql.Identifier(scene.owner)))
    (blocker,) = survey(scene.move("a", "b")).blockers
    assert blocker.remedy == f'GRANT CREATE ON SCHEMA "public" TO "{scene.owner}"'


def test_an_extension_that_the_admin_may_not_create(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    with scene.on_source(superuser=True) as source:
        source.execute("CREATE EXTENSION file_fdw; CREATE EXTENSION isn; CREATE EXTENSION cube; CREATE EXTENSION earthdistance")
        source.execute("ALTER TABLE a ADD e earth")
    objects = [blocker.object for blocker in survey(scene.move("a", "b")).blockers]
    assert objects == ["extension earthdistance"]


def test_an_extension_that_only_a_body_names_can_be_done_without(scene: Scene) -> None:
    with scene.on_source(superuser=True) as source:
        source.execute("CREATE EXTENSION dblink")
    scene.run_source(
        "CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.id < 0 THEN PERFORM dblink_exec('', ''); END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    (blocker,) = survey(scene.move("t")).blockers
    assert blocker.object == "extension dblink"
    assert blocker.remedy.endswith(", or accept function public.f() if it works without")
    scene.copy("t", accept=("function public.f()",))
    with scene.on_target() as target:
        assert target.execute("SELECT 1 FROM pg_extension WHERE extname = 'dblink'").fetchall() == []
    with scene.on_target(superuser=True) as target:
        target.execute("CREATE EXTENSION dblink")
    scene.copy("t", accept=("function public.f()",))


def test_a_collation_and_a_role_that_the_target_lacks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.run_source(SCHEMA)
    move = scene.move("a", "b")
    with session(move.source) as source, session(move.target) as target:
        move_set = read_move_set(source, move.tables)
        lacking = dataclasses.replace(move_set, collations=('pg_catalog."xx_XX"',), policy_roles=("nobody_here",))
        blockers, _ = preflight.check_servers(source, move.source, target, lacking)
    assert [blocker.object for blocker in blockers] == ['collation pg_catalog."xx_XX"', "role nobody_here"]


def test_the_room_that_large_tables_need_is_said(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    move = scene.move("a", "b")
    with session(move.source) as source, session(move.target) as target:
        move_set = read_move_set(source, move.tables)
        large = dataclasses.replace(move_set, tables=tuple(dataclasses.replace(table, bytes=3 * 10**9) for table in move_set.tables))
        notes = {size: preflight.check_servers(source, move.source, target, of)[1] for size, of in (("small", move_set), ("large", large))}
    assert notes["small"] == []
    assert "needs about 12.0 GB of free disk" in notes["large"][0]


def test_a_transaction_pooler_is_seen_by_what_it_does(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sessions that share one server process are what a transaction pooler makes of them."""
    scene.run_source(SCHEMA)
    move = scene.move("a", "b")
    with session(move.source) as source:

        class Shared:
            def connect(self, **_: object) -> Shared:
                return self

            def __enter__(self) -> psycopg.Connection[tuple[object, ...]]:
                return source

            def __exit__(self, *_: object) -> None:
                pass

        blockers = preflight._pooler("source", Shared(), source)  # type: ignore[arg-type]
    assert [blocker.object for blocker in blockers] == ["source connection"]


@pytest.mark.pg15
def test_a_target_older_than_the_source(server: Server, server15: Server) -> None:
    with make_scene(server, server15) as scene:
        scene.run_source(SCHEMA)
        (blocker,) = survey(scene.move("a", "b")).blockers
    assert "older than the source's 18" in blocker.reason


@pytest.mark.pg15
def test_tools_are_taken_by_version(server15: Server) -> None:
    assert find_tools(15, best=15).version == 15
    assert find_tools(18).version == 18
    with pytest.raises(ConfigurationError, match=r"pg_dump and pg_restore of PostgreSQL 99 or newer, and found only 15, 18"):
        find_tools(99)


def test_another_encoding(scene: Scene) -> None:
    scene.run_source(SCHEMA)
    with scene.target_server.connect() as superuser:
        superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(scene.target)))
        superuser.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'").format(
                sql.Identifier(scene.target), sql.Identifier(scene.admin)
            )
        )
    with scene.on_target() as target:
        target.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(scene.owner)))
    (blocker,) = survey(scene.move("a", "b")).blockers
    assert "LATIN1" in blocker.reason


def test_a_look_does_not_wait_behind_somebodys_ddl(scene: Scene) -> None:
    with scene.on_source() as session:
        session.execute("CREATE TABLE a (id integer PRIMARY KEY)")
    with scene.on_source() as blocker:
        blocker.autocommit = False
        blocker.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(Refused, match=r"is locked by somebody else for longer than 4 s"):
            survey(scene.move("a"))
        assert time.monotonic() - started < 15
        blocker.rollback()
    assert not survey(scene.move("a")).blockers
