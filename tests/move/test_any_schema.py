"""Does what nobody here thought of arrive, or is it refused by name? Random schemas, and by name what they have found so far."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from clarity_infra.errors import ClarityError, VerificationFailed
from clarity_infra.move.survey import survey
from clarity_infra.move.verify import verify_move
from sandbox.postgres import Server
from tests.move.conftest import Scene, make_scene
from tests.move.trial import compare, move_set_of, try_schema

MANAGED = "CREATEDB CREATEROLE BYPASSRLS"

# A few of the hundreds that were tried by hand, chosen for what is in them. Others: `try_schema` with another seed.
SEEDS = {("18", "18"): (24, 69), ("15", "15"): (58, 73), ("15", "18"): (29, 98)}


@pytest.mark.pg15
@pytest.mark.parametrize(("source", "target", "seed"), [(*pair, seed) for pair, seeds in SEEDS.items() for seed in seeds])
def test_a_random_schema(request: pytest.FixtureRequest, source: str, target: str, seed: int) -> None:
    servers = [request.getfixturevalue("server" if version == "18" else "server15") for version in (source, target)]
    superuser = seed % 2 == 0
    with make_scene(*servers, attributes="SUPERUSER" if superuser else MANAGED) as scene:
        try_schema(scene, seed, superuser=superuser)


# What the random schemas found: each was lost, refused without need, or taken for a difference.
FOUND = {
    "a schema that holds types of the set but no table of it": """
        CREATE SCHEMA only_tables;
        CREATE TYPE public.feeling AS ENUM ('a', 'b');
        CREATE FUNCTION public.quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TABLE only_tables.t (id integer PRIMARY KEY, m public.feeling);
        CREATE TRIGGER g AFTER INSERT ON only_tables.t FOR EACH ROW EXECUTE FUNCTION public.quiet();
        INSERT INTO only_tables.t VALUES (1, 'a');
    """,
    "names that a newer server reserves": """
        CREATE SCHEMA "merge_action";
        CREATE TYPE "merge_action"."json_value" AS ("json_scalar" json, "system_user" integer);
        CREATE FUNCTION "merge_action"."json_exists"("system_user" integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1';
        CREATE SEQUENCE "merge_action"."json_object";
        CREATE TABLE "merge_action"."system_user" (
            "system_user" integer PRIMARY KEY DEFAULT nextval('"merge_action"."json_object"') CONSTRAINT "json_array" CHECK ("system_user" > 0),
            "json_value" "merge_action"."json_value" DEFAULT ROW('[ ]', 1),
            j json DEFAULT '"json"',
            d date CHECK (EXTRACT(year FROM d) > 0)
        );
        CREATE INDEX "json_query" ON "merge_action"."system_user" ("merge_action"."json_exists"("system_user"));
        CREATE POLICY "json_table" ON "merge_action"."system_user" USING ("system_user" > 0);
        INSERT INTO "merge_action"."system_user" VALUES (1, ROW('{"a" : 1}', 2));
    """,
    "an extension in a schema of its own": """
        CREATE SCHEMA "Ext ""ension";
        COMMENT ON SCHEMA "Ext ""ension" IS 'of the extension';
        CREATE EXTENSION hstore SCHEMA "Ext ""ension";
        CREATE SCHEMA extended;
        CREATE TABLE extended.t (id integer PRIMARY KEY, h "Ext ""ension".hstore DEFAULT '"a"=>"1"');
        INSERT INTO extended.t (id) VALUES (1);
    """,
    "a domain's default of an extension's type": """
        CREATE EXTENSION citext;
        CREATE SCHEMA polite;
        CREATE DOMAIN polite.name AS citext DEFAULT 'Ann';
        CREATE TABLE polite.t (id integer PRIMARY KEY, p polite.name);
        INSERT INTO polite.t (id) VALUES (1);
    """,
    "inheritance children that differ from what is above them": """
        CREATE SCHEMA family;
        CREATE TABLE family.above (a text, b text, c text DEFAULT 'above', d varchar(20) DEFAULT 'above');
        CREATE TABLE family.child (more integer) INHERITS (family.above);
        CREATE TABLE family.grandchild () INHERITS (family.child);
        ALTER TABLE ONLY family.above ALTER a SET STORAGE MAIN, ALTER b SET COMPRESSION pglz;
        ALTER TABLE ONLY family.child ALTER c DROP DEFAULT, ALTER d DROP DEFAULT;
        ALTER TABLE ONLY family.grandchild ALTER b SET COMPRESSION pglz, ALTER d SET DEFAULT 'grandchild';
        CREATE TABLE family.parted (k integer, d varchar(20) DEFAULT 'above') PARTITION BY RANGE (k);
        CREATE TABLE family.part PARTITION OF family.parted DEFAULT;
        ALTER TABLE family.part ALTER d DROP DEFAULT;
        INSERT INTO family.grandchild VALUES ('a', 'b', 'c', 'd', 1);
        INSERT INTO family.part VALUES (1, 'd');
    """,
    "statistics of an inheritance child with its columns in another order": """
        CREATE SCHEMA ordered;
        CREATE TABLE ordered.above (a integer, d integer);
        CREATE TABLE ordered.below (z integer, d integer, a integer);
        ALTER TABLE ordered.below INHERIT ordered.above;
        CREATE STATISTICS ordered.s ON d, z FROM ordered.below;
    """,
    "a foreign key of a partition under a name of its own": """
        CREATE SCHEMA keyed;
        CREATE TABLE keyed.k (id integer PRIMARY KEY);
        CREATE TABLE keyed.p (a integer, r integer) PARTITION BY RANGE (a);
        CREATE TABLE keyed.part (a integer, r integer, CONSTRAINT "its ""own"" %s" FOREIGN KEY (r) REFERENCES keyed.k) PARTITION BY LIST (a);
        CREATE TABLE keyed.leaf (a integer, r integer, CONSTRAINT "of 'leaf'" FOREIGN KEY (r) REFERENCES keyed.k);
        ALTER TABLE keyed.part ATTACH PARTITION keyed.leaf DEFAULT;
        ALTER TABLE keyed.p ADD CONSTRAINT whole FOREIGN KEY (r) REFERENCES keyed.k;
        ALTER TABLE keyed.p ATTACH PARTITION keyed.part DEFAULT;
        COMMENT ON CONSTRAINT "of 'leaf'" ON keyed.leaf IS 'a leaf''s';
        INSERT INTO keyed.k VALUES (1);
        INSERT INTO keyed.p VALUES (1, 1);
    """,
    "an empty tsquery": """
        CREATE SCHEMA asking;
        CREATE TABLE asking.t (q tsquery, qs tsquery[]);
        INSERT INTO asking.t VALUES ('', ARRAY['', 'a & b']::tsquery[]);
    """,
    "a check that was validated below and not above": """
        CREATE SCHEMA valid;
        CREATE TABLE valid.above (x integer);
        INSERT INTO valid.above VALUES (-1);
        CREATE TABLE valid.below () INHERITS (valid.above);
        ALTER TABLE valid.above ADD CONSTRAINT positive CHECK (x > 0) NOT VALID;
        ALTER TABLE valid.below VALIDATE CONSTRAINT positive;
        INSERT INTO valid.below VALUES (1);
    """,
    "functions whose body the server keeps parsed": """
        CREATE SCHEMA parsed;
        CREATE FUNCTION parsed.twice(part text) RETURNS text LANGUAGE sql IMMUTABLE RETURN $1;
        CREATE FUNCTION parsed.again(part text) RETURNS text LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT $1; END;
        CREATE TABLE parsed.t (
            id integer PRIMARY KEY, v text CHECK (parsed.twice(v) <> 'x'), g text GENERATED ALWAYS AS (parsed.again(v)) STORED
        );
        INSERT INTO parsed.t VALUES (1, 'v');
    """,
    "a range that stays and is made of an enum that moves": """
        CREATE SCHEMA ranging;
        CREATE TYPE ranging.mood AS ENUM ('a', 'b');
        CREATE TYPE ranging.moods AS RANGE (SUBTYPE = ranging.mood);
        CREATE TABLE ranging.t (id integer PRIMARY KEY, m ranging.mood);
        INSERT INTO ranging.t VALUES (1, 'b');
    """,
    "functions and a sequence that only bodies name": """
        CREATE SCHEMA called;
        CREATE SEQUENCE called."next One" START 41;
        SELECT nextval('called."next One"');
        CREATE TYPE called.mood AS ENUM ('fine');
        CREATE FUNCTION called.deepest(called.mood) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
        CREATE FUNCTION called.deeper() RETURNS text LANGUAGE sql AS $$ SELECT called.deepest('fine') $$;
        CREATE FUNCTION called.numbered() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN nextval('called."next One"'); END $$;
        CREATE FUNCTION called.touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := called.deeper(); RETURN NEW; END $$;
        CREATE TABLE called.t (id bigint PRIMARY KEY DEFAULT called.numbered(), v text);
        CREATE TRIGGER touched BEFORE INSERT ON called.t FOR EACH ROW EXECUTE FUNCTION called.touched();
        INSERT INTO called.t DEFAULT VALUES;
    """,
    "an aggregate that a parsed body calls, and what an extension takes with it": """
        CREATE SCHEMA summed;
        CREATE AGGREGATE summed.total(integer)
            (SFUNC = pg_catalog.int4pl, STYPE = integer, INITCOND = '0', PARALLEL = SAFE, COMBINEFUNC = pg_catalog.int4pl);
        CREATE FUNCTION summed.six() RETURNS integer LANGUAGE sql IMMUTABLE
            BEGIN ATOMIC SELECT summed.total(x) FROM generate_series(1, 3) x; END;
        CREATE TABLE summed.t (id integer PRIMARY KEY DEFAULT summed.six());
        ALTER FUNCTION summed.six() DEPENDS ON EXTENSION citext;
        ALTER INDEX summed.t_pkey DEPENDS ON EXTENSION citext;
        INSERT INTO summed.t DEFAULT VALUES;
    """,
    "functions and types that need a table, and tables that need them": """
        CREATE SCHEMA rowed;
        CREATE TABLE rowed.base (id integer PRIMARY KEY, v text);
        CREATE FUNCTION rowed.fine(rowed.base) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.id > 0';
        CREATE FUNCTION rowed.named(rowed.base) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT rowed.fine($1)';
        CREATE POLICY p ON rowed.base USING (rowed.named(base));
        CREATE TYPE rowed.wrap AS (b rowed.base, n integer);
        CREATE TABLE rowed.holder (id integer PRIMARY KEY REFERENCES rowed.base, w rowed.wrap, bs rowed.base[]);
        ALTER TABLE rowed.base ADD COLUMN held integer REFERENCES rowed.holder;
        CREATE TABLE rowed.counted (n bigint, at timestamp) PARTITION BY RANGE (n);
        CREATE TABLE rowed.counted_1 PARTITION OF rowed.counted DEFAULT;
        CREATE FUNCTION rowed.next() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM rowed.counted; END;
        ALTER TABLE rowed.counted ALTER n SET DEFAULT rowed.next();
        INSERT INTO rowed.base VALUES (1, 'v');
        INSERT INTO rowed.holder VALUES (1, ROW(ROW(1, 'v', NULL), 2), ARRAY[ROW(2, 'w', 3)::rowed.base]);
    """,
    "an identity column whose sequence is of another type": """
        CREATE SCHEMA alike;
        CREATE TABLE alike.a (id integer GENERATED ALWAYS AS IDENTITY (MAXVALUE 1000), n smallint GENERATED BY DEFAULT AS IDENTITY);
        CREATE TABLE alike.b (LIKE alike.a INCLUDING ALL);
        ALTER SEQUENCE alike.a_n_seq AS bigint;
        INSERT INTO alike.a DEFAULT VALUES;
        INSERT INTO alike.b DEFAULT VALUES;
    """,
    "what only texts name: types, an extension, a text search configuration, a sequence": """
        CREATE SCHEMA named;
        CREATE SCHEMA "named too";
        CREATE EXTENSION fuzzystrmatch SCHEMA "named too";
        CREATE TYPE named.humour AS ENUM ('fine');
        CREATE DOMAIN named.small AS integer CHECK (VALUE < 9);
        CREATE TYPE named.pair AS (one named.small);
        CREATE TEXT SEARCH CONFIGURATION named.words (COPY = pg_catalog.simple);
        CREATE SEQUENCE named."Old_seq";
        CREATE FUNCTION named.touched() RETURNS trigger LANGUAGE plpgsql SET search_path = named AS $$
            DECLARE one humour; two "named"."small" := 1; three pair;
            BEGIN one := 'fine'; three.one := two; NEW.v := one || ' ' || three.one || ' ' || "named too".soundex(NEW.v); RETURN NEW; END $$;
        CREATE TABLE named.t (
            id integer PRIMARY KEY DEFAULT nextval(('named."Old_seq"'::text)::regclass), v text, w tsvector
        );
        CREATE TRIGGER a_touched BEFORE INSERT ON named.t FOR EACH ROW EXECUTE FUNCTION named.touched();
        CREATE TRIGGER b_words BEFORE INSERT ON named.t
            FOR EACH ROW EXECUTE FUNCTION pg_catalog.tsvector_update_trigger(w, 'named.words', v);
        INSERT INTO named.t (v) VALUES ('v');
    """,
    "a comment on a schema": """
        CREATE SCHEMA "new one";
        COMMENT ON SCHEMA "new one" IS 'it''s new';
        CREATE TABLE "new one".t (id integer PRIMARY KEY);
        INSERT INTO "new one".t VALUES (1);
    """,
    "a comment on a schema that the owner has in the target": """
        CREATE SCHEMA there;
        COMMENT ON SCHEMA there IS 'there';
        CREATE TABLE there.t (id integer PRIMARY KEY);
    """,
}


@pytest.fixture(scope="module", params=["18 to 18", pytest.param("15 to 18", marks=pytest.mark.pg15)])
def servers(request: pytest.FixtureRequest) -> tuple[Server, Server]:
    """Source and target where the versions are the same, and where they are not."""
    return request.getfixturevalue("server" if request.param.startswith("18") else "server15"), request.getfixturevalue("server")


@pytest.fixture(scope="module")
def arrived(servers: tuple[Server, Server]) -> Iterator[tuple[Scene, dict[str, list[str]]]]:
    """All of `FOUND`, copied twice: what the first copy made is removed again. With it the tables of each."""
    tables: dict[str, list[str]] = {}
    with make_scene(*servers, attributes=MANAGED) as scene:
        with scene.on_target(superuser=True) as target:
            target.execute(f"CREATE SCHEMA there AUTHORIZATION {scene.owner}".encode())
        for what, statements in FOUND.items():
            scene.run_source(statements)
            tables[what] = [table for table in _tables(scene) if table not in itertools.chain(*tables.values())]
        every = list(itertools.chain(*tables.values()))
        assert survey(scene.move(*every)).blockers == ()
        scene.copy(*every)
        scene.copy(*every)
        yield scene, tables


def _tables(scene: Scene) -> list[str]:
    with scene.on_source() as source:
        rows = source.execute(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema$'"
        ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize("what", FOUND)
def test_what_random_schemas_found_arrives(arrived: tuple[Scene, dict[str, list[str]]], what: str) -> None:
    scene, tables = arrived
    assert compare(scene, move_set_of(scene, tables[what], ()), ()) == []


def test_what_only_bodies_name_works_in_the_target(arrived: tuple[Scene, dict[str, list[str]]]) -> None:
    scene, _ = arrived
    with scene.on_target() as target, target.transaction(force_rollback=True):
        assert target.execute("INSERT INTO called.t DEFAULT VALUES RETURNING id, v").fetchone() == (43, "fine")
    notes = survey(scene.move("called.t")).notes
    kept = ("function called.deepest", "function called.deeper", "function called.numbered", "sequence called.")
    named = [any(note.startswith(name) and "whose body names it" in note for note in notes) for name in kept]
    assert named == [True, True, False, True]  # the default's own function is needed as the server itself knows


def test_types_extensions_and_configurations_that_only_texts_name_work_in_the_target(arrived: tuple[Scene, dict[str, list[str]]]) -> None:
    scene, _ = arrived
    with scene.on_target() as target, target.transaction(force_rollback=True):
        row = target.execute("INSERT INTO named.t (v) VALUES ('v') RETURNING id, v, w::text").fetchone()
    assert row == (2, "fine 1 V000", "'1':2 'fine':1 'v000':3")
    notes = [note for note in survey(scene.move("named.t")).notes if "names it" in note]
    assert [note.partition(" is used")[0] for note in sorted(notes)] == [
        "extension fuzzystrmatch",
        'sequence named."Old_seq"',
        "text search configuration named.words",
        "type named.humour",
        "type named.pair",
        "type named.small",
    ]


def test_what_a_function_that_stays_names_is_kept(scene: Scene) -> None:
    scene.run_source(
        "CREATE TYPE mood AS ENUM ('fine'); CREATE TABLE t (m mood);"
        " CREATE FUNCTION stays() RETURNS void LANGUAGE plpgsql AS 'DECLARE m public.mood; BEGIN END'"
    )
    kept = "type public.mood is used by function public.stays(), whose body names it and which stays: it is moved, and kept in the source."
    assert survey(scene.move("t")).move_set.shared == (kept,)


def test_tables_that_a_body_names_without_from_are_seen(scene: Scene) -> None:
    scene.run_source(
        "CREATE TABLE a (id integer); CREATE TABLE b (id integer); CREATE TABLE t (v text);"
        " CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ DECLARE x b.id%TYPE; BEGIN SELECT t.v INTO NEW.v FROM public.t, a WHERE a.id = 1; RETURN NEW; END $$;"
        " CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"
    )
    reasons = [blocker.reason for blocker in survey(scene.move("t")).blockers]
    assert sorted(reasons) == [f"its body names relation public.{name}, which does not move" for name in "ab"]


def test_a_comment_on_a_schema_that_the_owner_had_is_brought(arrived: tuple[Scene, dict[str, list[str]]]) -> None:
    with arrived[0].on_target() as target:
        assert target.execute("SELECT obj_description('there'::regnamespace, 'pg_namespace')").fetchall() == [("there",)]


def test_a_comment_on_a_schema_that_was_changed_is_a_difference(scene: Scene) -> None:
    scene.run_source("CREATE SCHEMA ours; COMMENT ON SCHEMA ours IS 'ours'; CREATE TABLE ours.t (id integer PRIMARY KEY);")
    scene.copy("ours.t")
    assert verify_move(scene.move("ours.t"), progress=lambda _: None).differences == ()
    with scene.on_target(superuser=True) as target:
        target.execute("COMMENT ON SCHEMA ours IS 'another'")
    found = verify_move(scene.move("ours.t"), progress=lambda _: None).differences
    assert found == ("schema \"ours\": its comment is 'another', in the source 'ours'",)


# What cannot be made in the target: the object that is named, and what the remedy does.
REFUSED = {
    "a hash of an enum": (
        "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN moods AS mood[];"
        " CREATE TABLE t (m moods) PARTITION BY HASH (m); CREATE TABLE p PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "table public.t",
        "DROP TABLE t; CREATE TABLE t (m moods) PARTITION BY LIST (m)",
    ),
    "a function that only a superuser may make": (
        "CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE LEAKPROOF AS 'SELECT $1';"
        " CREATE TABLE t (a integer CHECK (f(a) > 0))",
        "function public.f(integer)",
        None,
    ),
    "a function that sets what the owner may not": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql SET log_min_messages = 'error' AS 'BEGIN RETURN NEW; END';"
        " CREATE TABLE t (a integer); CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "function public.f()",
        "ALTER FUNCTION f() RESET log_min_messages",
    ),
    "a function that can only be made after a key": (
        "CREATE TABLE t (id integer PRIMARY KEY, v text);"
        " CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM (SELECT id, v FROM t GROUP BY id) AS q; END;"
        " CREATE POLICY p ON t USING (f() > 0)",
        "function public.f()",
        "CREATE OR REPLACE FUNCTION f() RETURNS bigint LANGUAGE sql"
        " BEGIN ATOMIC SELECT count(*) FROM (SELECT id, v FROM t GROUP BY id, v) AS q; END",
    ),
    "a foreign key whose triggers are disabled": (
        "CREATE TABLE t (id integer PRIMARY KEY, up integer CONSTRAINT k REFERENCES t); INSERT INTO t VALUES (1, 1);"
        " ALTER TABLE t DISABLE TRIGGER ALL",
        "table constraint k on public.t",
        None,
    ),
    "a foreign key that rows break while its triggers are disabled": (
        "CREATE TABLE t (id integer PRIMARY KEY, up integer CONSTRAINT k REFERENCES t); ALTER TABLE t DISABLE TRIGGER ALL;"
        " INSERT INTO t VALUES (1, 2)",
        "table constraint k on public.t",
        "ALTER TABLE t DROP CONSTRAINT k; ALTER TABLE t ADD CONSTRAINT k FOREIGN KEY (up) REFERENCES t NOT VALID",
    ),
    "an access method of its own": (
        "CREATE ACCESS METHOD mine TYPE TABLE HANDLER heap_tableam_handler; CREATE TABLE t (a integer) USING mine; INSERT INTO t VALUES (1)",
        "table public.t",
        None,
    ),
    "an aggregate that only a superuser may make": (
        "CREATE AGGREGATE gathered(anynonarray) (SFUNC = array_agg_transfn, STYPE = internal, FINALFUNC = array_agg_finalfn, FINALFUNC_EXTRA);"
        " CREATE FUNCTION f() RETURNS integer[] LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT gathered(x) FROM generate_series(1, 3) x; END;"
        " CREATE TABLE t (a integer[] DEFAULT f())",
        "aggregate public.gathered(pg_catalog.anynonarray)",
        "ALTER TABLE t ALTER a DROP DEFAULT",
    ),
    "an index of the whole that a partition lacks": (
        "CREATE TABLE t (a integer) PARTITION BY RANGE (a); CREATE TABLE p PARTITION OF t DEFAULT; CREATE INDEX i ON ONLY t (a);"
        " CREATE INDEX pi ON p (a)",
        "index public.i",
        "ALTER INDEX i ATTACH PARTITION pi",
    ),
    "a check that rows have come to break": (
        "CREATE TABLE t (a timestamptz, CONSTRAINT \"k k\" CHECK (a > now() - interval '1 second'), CHECK (a >= date '2000-01-01'))"
        " PARTITION BY RANGE (a);"
        " CREATE TABLE p PARTITION OF t DEFAULT; INSERT INTO t VALUES (now()); SELECT pg_sleep(1.1)",
        'table constraint "k k" on public.p',
        None,
    ),
    "names of a table that stays and of an index": (
        "CREATE SCHEMA far; CREATE TABLE far.other (id integer); CREATE TYPE goes AS ENUM ('a');"
        ' CREATE TABLE t (id integer PRIMARY KEY, "r r" regclass, types regtype[], g goes);'
        " INSERT INTO t VALUES (1, 'far.other', '{goes[],t,integer}'), (2, 't_pkey', NULL), (3, 't', NULL), (4, '123456789', NULL)",
        'column public.t."r r"',
        None,
    ),
    "an identity whose sequence counts beyond its column": (
        "CREATE TABLE t (id integer GENERATED ALWAYS AS IDENTITY); ALTER SEQUENCE t_id_seq AS bigint MAXVALUE 5000000000;"
        " INSERT INTO t DEFAULT VALUES",
        "sequence public.t_id_seq",
        None,
    ),
    "an operator class": (
        "CREATE OPERATOR CLASS mine FOR TYPE integer USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,"
        " FUNCTION 1 btint4cmp(integer, integer); CREATE TABLE t (a integer); CREATE INDEX i ON t (a mine)",
        "operator class public.mine USING btree",
        "DROP INDEX i",
    ),
    "parents that store a column in different ways": (
        "CREATE TABLE up (v text STORAGE MAIN); CREATE TABLE up_too (v text STORAGE EXTERNAL);"
        " CREATE TABLE t (v text); ALTER TABLE t INHERIT up; ALTER TABLE t INHERIT up_too",
        "column public.t.v",
        None,
    ),
    "an identity that inherits a default": (
        "CREATE TABLE up (a integer DEFAULT 1); CREATE TABLE t (a integer GENERATED ALWAYS AS IDENTITY) INHERITS (up)",
        "column public.t.a",
        None,
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_target_would_not_take_is_refused_and_the_remedy_helps(server: Server, what: str) -> None:
    statements, thing, remedy = REFUSED[what]
    with make_scene(server, server, attributes="SUPERUSER") as scene:
        scene.run_source(statements)
        tables = [name for name in ("t", "up", "up_too") if f"TABLE {name} " in statements]
        (blocker,) = [found for found in survey(scene.move(*tables)).blockers if found.object == thing]
        assert not blocker.can_accept
        scene.run_source(remedy or blocker.remedy.partition(", or")[0])
        assert survey(scene.move(*tables)).blockers == ()
        scene.copy(*tables)


# Checks that PostgreSQL lets a table have, and that no dump of it can be loaded with.
LOADED = {
    "a check that reads another table": (
        "CREATE TABLE z (a integer); INSERT INTO z VALUES (1);"
        " CREATE FUNCTION known(integer) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT EXISTS (SELECT FROM public.z WHERE a = $1)';"
        " CREATE TABLE t (a integer CONSTRAINT k CHECK (known(a))); INSERT INTO t VALUES (1)",
        "table constraint k on public.t",
        "ALTER TABLE t DROP CONSTRAINT k; ALTER TABLE t ADD CONSTRAINT k CHECK (known(a)) NOT VALID",
    ),
    "a check that calls a function without its schema": (
        "CREATE TABLE z (a integer); CREATE FUNCTION helper(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        " CREATE FUNCTION f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END';"
        " CREATE TABLE t (a integer CHECK (f(a) > 0), b integer DEFAULT helper(1)); INSERT INTO t VALUES (1)",
        "function public.f(integer)",
        "ALTER FUNCTION public.f(integer) SET search_path = public",
    ),
    "a check whose function calls another that needs its schema": (
        "CREATE TABLE z (a integer); CREATE FUNCTION helper(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        " CREATE FUNCTION g(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END';"
        " CREATE FUNCTION f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN public.g($1); END';"
        " CREATE TABLE t (a integer CHECK (f(a) > 0)); INSERT INTO t VALUES (1)",
        "function public.g(integer)",
        None,
    ),
    "a partition key that calls a function without its schema": (
        "CREATE TABLE z (a integer); CREATE SCHEMA far;"
        " CREATE FUNCTION far.helper(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
        " SET search_path = public, far;"
        " CREATE FUNCTION f(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN helper($1); END';"
        " CREATE TABLE t (a integer) PARTITION BY RANGE (f(a)); CREATE TABLE p PARTITION OF t FOR VALUES FROM (0) TO (5);"
        " INSERT INTO t VALUES (1)",
        "function public.f(integer)",
        None,
    ),
    "a check whose function names a type without its schema": (
        "CREATE TABLE z (a integer); CREATE DOMAIN small AS integer;"
        " CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1::small';"
        " CREATE TABLE t (a integer CHECK (f(a) > 0)); INSERT INTO t VALUES (1)",
        "function public.f(integer)",
        None,
    ),
}


@pytest.mark.parametrize("what", LOADED)
def test_what_fails_while_rows_are_loaded_is_told_before(scene: Scene, what: str) -> None:
    statements, thing, remedy = LOADED[what]
    scene.run_source(statements)
    (blocker,) = survey(scene.move("t", "z")).blockers
    assert (blocker.object, blocker.can_accept) == (thing, True)
    scene.run_source(remedy or blocker.remedy.partition(", or")[0])
    assert survey(scene.move("t", "z")).blockers == ()
    scene.copy("t", "z")


@pytest.mark.pg15
def test_an_index_that_calls_a_function_of_an_extension(server15: Server, server: Server) -> None:
    """The server of 15 makes the index with the session's search path; no dump of it can be loaded."""
    with make_scene(server15, server) as scene:
        scene.run_source(
            "CREATE SCHEMA extensions; CREATE EXTENSION unaccent SCHEMA extensions; CREATE TABLE t (v text);"
            " SET search_path = public, extensions;"
            " CREATE FUNCTION f(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT unaccent('unaccent', $1) $$;"
            " CREATE INDEX ON t (f(v)); INSERT INTO t VALUES (chr(233))"
        )
        (blocker,) = survey(scene.move("t")).blockers
        assert blocker.remedy.startswith('ALTER FUNCTION public.f(pg_catalog.text) SET search_path = "public", "extensions", or')
        scene.run_source(blocker.remedy.partition(", or")[0])
        scene.copy("t")


@pytest.mark.pg15
def test_what_a_server_was_built_without(server15: Server, server: Server) -> None:
    """The embedded server has neither lz4 nor libxml nor ICU."""
    with make_scene(server15, server) as scene:
        scene.run_source("CREATE COLLATION c (provider = icu, locale = 'en')")
        scene.run_source("CREATE TABLE t (packed text COMPRESSION lz4, x xml, y text COLLATE c); INSERT INTO t VALUES (repeat('x', 9000), NULL)")
        blockers = {blocker.object: blocker for blocker in survey(scene.move("t")).blockers}
        assert set(blockers) == {"column public.t.packed", "column public.t.x", "collation public.c"}
        assert blockers["column public.t.packed"].remedy == "ALTER TABLE public.t ALTER COLUMN packed SET COMPRESSION pglz"
        scene.run_source(blockers["column public.t.packed"].remedy + "; ALTER TABLE t ALTER x TYPE text, ALTER y TYPE text")
        scene.copy("t")


@pytest.mark.pg15
def test_an_identity_of_a_partition_alone(server15: Server, server: Server) -> None:
    with make_scene(server15, server) as scene:
        scene.run_source(
            "CREATE TABLE t (k integer, id integer NOT NULL) PARTITION BY RANGE (k);"
            " CREATE TABLE part (k integer, id integer GENERATED ALWAYS AS IDENTITY); ALTER TABLE t ATTACH PARTITION part DEFAULT"
        )
        (blocker,) = survey(scene.move("t")).blockers
        assert (blocker.object, blocker.remedy) == ("column public.part.id", "ALTER TABLE public.part ALTER COLUMN id DROP IDENTITY")
        scene.run_source(blocker.remedy)
        scene.copy("t")


def test_a_partition_that_is_half_detached(scene: Scene) -> None:
    """A concurrent DETACH that gave up waiting has hidden the rows already; a dump would show them again."""
    scene.run_source(
        "CREATE TABLE t (a integer) PARTITION BY RANGE (a); CREATE TABLE p PARTITION OF t FOR VALUES FROM (0) TO (9);"
        " CREATE TABLE r PARTITION OF t FOR VALUES FROM (9) TO (20);"
        " INSERT INTO t VALUES (1), (10)"
    )
    with scene.on_source() as reader, scene.on_source() as detaching:
        reader.execute("BEGIN; LOCK t IN ACCESS SHARE MODE")
        detaching.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            detaching.execute("ALTER TABLE t DETACH PARTITION r CONCURRENTLY")
    (blocker,) = survey(scene.move("t")).blockers
    assert (blocker.object, blocker.remedy) == ("table public.r", "ALTER TABLE public.t DETACH PARTITION public.r FINALIZE")
    scene.run_source(blocker.remedy)
    scene.copy("t")
    with scene.on_target() as target:
        assert target.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_a_replica_identity_whose_index_was_dropped(scene: Scene) -> None:
    scene.run_source(
        "CREATE TABLE t (a integer PRIMARY KEY, b integer NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY USING INDEX t_b_key;"
        " ALTER TABLE t DROP CONSTRAINT t_b_key; INSERT INTO t VALUES (1, 1)"
    )
    scene.copy("t")
    with scene.on_target() as target:  # as the server treats it in the source, the primary key notwithstanding
        assert target.execute("SELECT relreplident::text FROM pg_class WHERE relname = 't'").fetchall() == [("n",)]


OLD_CHILDREN = (
    "CREATE TABLE up (a integer, b integer, c integer NOT NULL); CREATE TABLE t (b integer GENERATED ALWAYS AS (c * 2) STORED)"
    " INHERITS (up); ALTER TABLE ONLY up ALTER a SET NOT NULL; ALTER TABLE t ALTER c DROP NOT NULL;"
    " INSERT INTO t VALUES (NULL, DEFAULT, NULL), (1, DEFAULT, 2);"
    " CREATE UNLOGGED TABLE parted (a integer) PARTITION BY RANGE (a); CREATE TABLE part PARTITION OF parted DEFAULT"
)


@pytest.mark.pg15
def test_what_children_have_otherwise_than_their_parents_only_in_older_servers(server15: Server, server: Server) -> None:
    with make_scene(server15, server) as scene:
        scene.run_source(OLD_CHILDREN)
        blockers = {blocker.object: blocker.remedy for blocker in survey(scene.move("t", "up", "parted")).blockers}
        assert set(blockers) == {"column public.t.a", "column public.t.b", "column public.t.c"}
        assert "(NO INHERIT), ALTER TABLE public.t ALTER COLUMN b DROP EXPRESSION" in blockers.pop("column public.t.b")
        scene.run_source("ALTER TABLE t NO INHERIT up; ALTER TABLE t ALTER b DROP EXPRESSION; DELETE FROM t WHERE a IS NULL")
        scene.run_source("; ".join(remedy.partition(", or")[0] for remedy in blockers.values()) + "; ALTER TABLE t INHERIT up")
        scene.copy("t", "up", "parted")


@pytest.mark.pg15
def test_children_that_take_null_where_their_parents_do_not(server15: Server) -> None:
    with make_scene(server15, server15) as scene:
        scene.run_source(OLD_CHILDREN)
        scene.copy("t", "up", "parted")


def test_rows_that_break_a_foreign_key_of_the_source(scene: Scene) -> None:
    scene.run_source("CREATE TABLE a (id integer PRIMARY KEY); CREATE TABLE t (a integer CONSTRAINT k REFERENCES a)")
    with scene.on_source(superuser=True) as source:
        source.execute("SET session_replication_role = replica; INSERT INTO t VALUES (5)")
    with pytest.raises(ClarityError, match=r'fk constraint t k: .*Key \(a\)=\(5\) is not present in table "a"') as caught:
        scene.copy("a", "t")
    assert "NOT VALID" in caught.value.remedy
    scene.run_source("ALTER TABLE t DROP CONSTRAINT k, ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES a NOT VALID")
    scene.copy("a", "t")


def test_rows_that_break_a_check_of_the_source(scene: Scene) -> None:
    scene.run_source(
        "CREATE FUNCTION f(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';"
        " CREATE TABLE t (a integer CONSTRAINT k CHECK (f(a))); INSERT INTO t VALUES (1);"
        " CREATE OR REPLACE FUNCTION f(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 1'"
    )
    with pytest.raises(ClarityError, match='violates check constraint "k"') as caught:
        scene.copy("t")
    assert "NOT VALID" in caught.value.remedy


def test_generated_columns_that_the_source_computed_otherwise(scene: Scene) -> None:
    """A function that says it is immutable was replaced since."""
    scene.run_source(
        "CREATE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';"
        " CREATE TABLE t (id integer PRIMARY KEY, g integer GENERATED ALWAYS AS (f(id)) STORED); INSERT INTO t VALUES (1), (2);"
        " CREATE OR REPLACE FUNCTION f(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 2';"
    )
    with pytest.raises(VerificationFailed, match=r"2 rows, other contents in the generated columns alone \(g\): .* \(different: id=1, id=2\)"):
        scene.copy("t")
    scene.run_source("UPDATE t SET id = id")
    scene.copy("t")


def _made_anew(server: Server, database: str, owner: str, how: str) -> None:
    with server.connect() as superuser:
        superuser.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)))
        superuser.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 {}").format(sql.Identifier(database), sql.Identifier(owner), sql.SQL(how))
        )


@pytest.mark.pg15
def test_ranges_of_text_where_the_target_sorts_otherwise(server15: Server) -> None:
    with make_scene(server15, server15) as scene:
        _made_anew(server15, scene.source, scene.admin, "LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C.UTF-8'")
        scene.run_source(
            "CREATE TYPE words AS RANGE (SUBTYPE = text); CREATE TABLE t (v text) PARTITION BY RANGE (v);"
            " CREATE TABLE p PARTITION OF t FOR VALUES FROM ('a') TO ('M');"
            " CREATE TABLE u (w words, v text) PARTITION BY HASH (v); CREATE TABLE h PARTITION OF u FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
            """ CREATE TABLE c (v text COLLATE "C") PARTITION BY RANGE (v); INSERT INTO t VALUES ('b'); INSERT INTO u VALUES ('[a,M]')"""
        )
        blockers = survey(scene.move("t", "u", "c")).blockers
        assert [blocker.object for blocker in blockers] == ["table public.t", "type public.words"]
        assert "in the order of en, and the target sorts by C" in blockers[0].reason
        scene.run_source('DROP TABLE t; ALTER TABLE u DROP w; DROP TYPE words; CREATE TABLE t (v text COLLATE "C") PARTITION BY RANGE (v)')
        scene.copy("t", "u", "c")


def test_a_hash_of_text_in_another_encoding(scene: Scene) -> None:
    _made_anew(scene.source_server, scene.source, scene.admin, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    scene.run_source(
        "CREATE TABLE t (v text, n integer) PARTITION BY HASH (v); CREATE TABLE p0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        " CREATE TABLE p1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        " INSERT INTO t SELECT chr(200 + i), i FROM generate_series(1, 20) i"
    )
    (blocker,) = survey(scene.move("t")).blockers
    assert blocker.object == "table public.t"
    scene.run_source("CREATE TABLE u (LIKE t) PARTITION BY LIST (v); CREATE TABLE q PARTITION OF u DEFAULT; INSERT INTO u SELECT * FROM t")
    scene.copy("u")


def test_an_extension_that_is_somewhere_else_in_the_target(scene: Scene) -> None:
    scene.run_source("CREATE EXTENSION citext; CREATE TABLE t (name citext PRIMARY KEY)")
    with scene.on_target(superuser=True) as target:
        target.execute("CREATE SCHEMA elsewhere; CREATE EXTENSION citext SCHEMA elsewhere")
    (blocker,) = survey(scene.move("t")).blockers
    assert blocker.object == "extension citext"
    with scene.on_target(superuser=True) as target:
        target.execute('ALTER EXTENSION "citext" SET SCHEMA "public"')
    scene.copy("t")
