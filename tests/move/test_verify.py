"""Can the verification fail? Every one of these changes to the target must turn it red, and say what was changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from clarity_infra.move import verify as verify_module
from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.digest import Digest, Method, digest
from clarity_infra.move.model import MoveSet
from clarity_infra.move.names import Name
from clarity_infra.move.rows import session
from clarity_infra.move.verify import negative_control, verify
from sandbox.postgres import Server
from tests.move.conftest import Scene
from tests.move.test_fidelity import hostile

ODD = '"Odd ""Schema"".%s"'

# What is done to the target, and what the verification must say.
MUTATIONS = {
    "a row gone": ("DELETE FROM public.duplicates WHERE ctid = (SELECT min(ctid) FROM public.duplicates)", "table public.duplicates"),
    "a row twice": ("INSERT INTO public.duplicates SELECT * FROM public.duplicates LIMIT 1", "table public.duplicates"),
    "one row twice and another gone": (
        "DELETE FROM public.duplicates WHERE b = ''; INSERT INTO public.duplicates VALUES (1, 'NULL')",
        "table public.duplicates",
    ),
    "two cells swapped": (
        "UPDATE public.options SET words = CASE id WHEN 1 THEN 'Word 2' ELSE 'Word 1' END WHERE id IN (1, 2)",
        "table public.options: 400 rows, other contents (different: id=1, id=2)",
    ),
    "NULL to the empty string": ("UPDATE public.duplicates SET b = '' WHERE b IS NULL", "table public.duplicates"),
    "minus zero to zero": ("UPDATE public.values SET f = '0' WHERE id = 3", "different: id=3"),
    "1.0 to 1.00": ("UPDATE public.values SET n = 1.00 WHERE id = 3", "different: id=3"),
    "json spacing": ("""UPDATE public.values SET j = '{"a":1,"a":2}' WHERE id = 1""", "different: id=1"),
    "a trailing space": ("UPDATE public.values SET t = t || ' ' WHERE id = 5", "different: id=5"),
    "a NULL in an array": ("UPDATE public.values SET texts[3] = 'NULL' WHERE id = 1", "different: id=1"),
    "a byte in an array": ("UPDATE public.values SET bytes[1] = '\\x00fe' WHERE id = 2", "different: id=2"),
    "BC to AD": ("UPDATE public.values SET d = '0044-03-15' WHERE id = 3", "different: id=3"),
    "an array's lower bound": ("UPDATE public.values SET a = '{5,6}' WHERE id = 4", "different: id=4"),
    "one label in a row": ("UPDATE public.enums SET plain = 'added after' WHERE plain = 'added before'", "table public.enums"),
    "a row of a child table moved to its parent": (
        "WITH gone AS (DELETE FROM ONLY public.flying RETURNING name) INSERT INTO public.animal SELECT name FROM gone",
        "table public.flying",
    ),
    "a key exchanged for its decomposed twin": (
        'UPDATE public.U&"caf\\00E9" SET U&"\\00E9" = U&"e\\0301", U&"e\\0301" = U&"\\00E9"',
        "table public.",
    ),
    "a table without columns": ("INSERT INTO public.no_columns DEFAULT VALUES", "table public.no_columns: 3 rows in the source, 4"),
    "a label renamed": ("ALTER TYPE public.mood RENAME VALUE 'a' TO 'z'", "enum public.mood"),
    "two labels exchanged": (
        "ALTER TYPE public.mood RENAME VALUE 'a' TO 'tmp'; ALTER TYPE public.mood RENAME VALUE 'b' TO 'a';"
        " ALTER TYPE public.mood RENAME VALUE 'tmp' TO 'b'",
        "enum public.mood",
    ),
    "a label of an unused enum": ("ALTER TYPE public.unused_label RENAME VALUE 'one' TO 'two'", "enum public.unused_label"),
    "a sequence moved": ("ALTER SEQUENCE public.never_called RESTART 43", "sequence public.never_called: it stands at 43"),
    "a sequence called": ("ALTER SEQUENCE public.free_standing RESTART 9007199254741005", "sequence public.free_standing"),
    "a sequence's increment": ("ALTER SEQUENCE public.free_standing INCREMENT 4", "sequence public.free_standing: its definition"),
    "a sequence's owner column": ("ALTER SEQUENCE public.shared_by_two OWNED BY NONE", "sequence public.shared_by_two: its owned by"),
    "an index dropped": ("DROP INDEX public.options_hash", "index public.options_hash: it is missing"),
    "an index added": ("CREATE INDEX more ON public.options (n)", "index public.more: it is in the target only"),
    "an index made invalid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.options_hash'::regclass",
        "index public.options_hash: its valid is 'false'",
    ),
    "an index with another condition": (
        "DROP INDEX public.options_partial; CREATE INDEX options_partial ON public.options (n DESC NULLS LAST) WHERE n > 11",
        "index public.options_partial: its definition",
    ),
    "a cluster mark": ("ALTER TABLE public.options SET WITHOUT CLUSTER", "index public.options_id: its clustered"),
    "a replica identity": ("ALTER TABLE public.child REPLICA IDENTITY DEFAULT", "table public.child: its replica identity"),
    "a constraint dropped": ('ALTER TABLE public.child DROP CONSTRAINT "no overlap"', 'constraint "no overlap" on public.child'),
    "a constraint unvalidated": (
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'to an index'",
        'constraint "to an index" on public.child: its validated',
    ),
    "a constraint validated": (
        'ALTER TABLE public.child VALIDATE CONSTRAINT "not valid"',
        'constraint "not valid" on public.child: its',
    ),
    "a value that a check lists": (
        'ALTER TABLE public.chosen DROP CONSTRAINT "one of",'
        """ ADD CONSTRAINT "one of" CHECK (v IN ('a', 'b, ")', 'it''s (ARRAY[', ')::text'))""",
        'constraint "one of" on public.chosen: its definition',
    ),
    "a constraint not deferrable": (
        "ALTER TABLE public.child ALTER CONSTRAINT child_parent_fkey NOT DEFERRABLE",
        "constraint child_parent_fkey on public.child: its definition",
    ),
    "a foreign key not enforced": (
        "ALTER TABLE public.child DISABLE TRIGGER ALL",
        "constraint child_parent_fkey on public.child: its state of triggers",
    ),
    "an extension in another schema": ("ALTER EXTENSION citext SET SCHEMA pg_catalog", "extension citext: its schema"),
    "a function that goes with an extension": (
        "ALTER FUNCTION public.quiet() DEPENDS ON EXTENSION citext",
        "function public.quiet(): its extensions",
    ),
    "a primary key dropped": ("ALTER TABLE public.empty DROP CONSTRAINT empty_pkey", "constraint empty_pkey on public.empty"),
    "a column nullable": (
        "ALTER TABLE public.sequences_too ALTER COLUMN t DROP NOT NULL",
        "column public.sequences_too.t: its not null",
    ),
    "a default changed": ("ALTER TABLE public.options ALTER COLUMN late SET DEFAULT 'later'", "column public.options.late: its default"),
    "a default lost": ("ALTER TABLE public.options ALTER COLUMN late DROP DEFAULT", "column public.options.late: its default is not set"),
    "a column's type": ("ALTER TABLE public.options ALTER COLUMN n TYPE numeric(40, 20)", "column public.options.n: its type"),
    "a column's collation": (
        'DROP INDEX public.options_id; ALTER TABLE public.options ALTER COLUMN late TYPE text COLLATE "C"',
        "column public.options.late: its collation",
    ),
    "a column's storage": ("ALTER TABLE public.options ALTER COLUMN plain SET STORAGE MAIN", "column public.options.plain: its storage"),
    "a column's compression": (
        "ALTER TABLE public.options ALTER COLUMN packed SET COMPRESSION DEFAULT",
        "column public.options.packed: its compression",
    ),
    "a column's statistics target": ("ALTER TABLE public.options ALTER COLUMN n SET STATISTICS -1", "its statistics target"),
    "an identity BY DEFAULT": (
        "ALTER TABLE public.sequences ALTER COLUMN always SET GENERATED BY DEFAULT",
        "column public.sequences.always: its identity",
    ),
    "a generated column made plain": (
        "ALTER TABLE public.only_generated ALTER COLUMN g DROP EXPRESSION",
        "column public.only_generated.g: its generated",
    ),
    "a column renamed": ("ALTER TABLE public.triggered RENAME COLUMN v TO w", "column public.triggered.v: it is missing"),
    "a column added": ("ALTER TABLE public.triggered ADD COLUMN w text", "column public.triggered.w: it is in the target only"),
    "a fillfactor": ("ALTER TABLE public.options SET (fillfactor = 70)", "table public.options: its options"),
    "a TOAST option": ("ALTER TABLE public.options RESET (toast.autovacuum_enabled)", "table public.options: its options of TOAST"),
    "an unlogged table logged": ("ALTER TABLE public.unlogged SET LOGGED", "table public.unlogged: its persistence"),
    "a rule that takes writes away": (
        "CREATE RULE lost AS ON INSERT TO public.triggered DO INSTEAD NOTHING",
        "rule lost on public.triggered: it is in the target only",
    ),
    "a trigger disabled": ("ALTER TABLE public.triggered DISABLE TRIGGER a_on", "trigger a_on on public.triggered: its enabled"),
    "a trigger no more ALWAYS": ("ALTER TABLE public.triggered ENABLE TRIGGER b_always", "trigger b_always on public.triggered: its enabled"),
    "a trigger dropped": ("DROP TRIGGER e_off ON public.triggered", "trigger e_off on public.triggered: it is missing"),
    "a function's body": (
        "CREATE OR REPLACE FUNCTION public.quiet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
        "function public.quiet(): its definition",
    ),
    "row security off": ("ALTER TABLE public.secured DISABLE ROW LEVEL SECURITY", "table public.secured: its row security"),
    "row security not forced": ("ALTER TABLE public.secured NO FORCE ROW LEVEL SECURITY", "table public.secured: its forced row security"),
    "a policy's condition": ('ALTER POLICY "see ""own""" ON public.secured USING (true)', 'policy "see ""own""" on public.secured: its using'),
    "a policy's roles": ("ALTER POLICY p ON public.secured TO PUBLIC", "policy p on public.secured: its roles"),
    "a comment on a table lost": ("COMMENT ON TABLE public.options IS NULL", "table public.options: its comment"),
    "a comment on a column lost": ("COMMENT ON COLUMN public.options.words IS NULL", "column public.options.words: its comment"),
    "a comment on a constraint changed": (
        "COMMENT ON CONSTRAINT \"to an index\" ON public.child IS 'another'",
        'constraint "to an index" on public.child: its comment',
    ),
    "a comment on a type lost": ("COMMENT ON TYPE public.mood IS NULL", "type public.mood: its comment"),
    "a comment on a text search configuration lost": (
        "COMMENT ON TEXT SEARCH CONFIGURATION public.plain_words IS NULL",
        "text search configuration public.plain_words: its comment",
    ),
    "an owner of a table": ("ALTER TABLE public.empty OWNER TO postgres", 'table public.empty: it belongs to "postgres"'),
    "an owner of a type": ("ALTER TYPE public.mood OWNER TO postgres", 'type public.mood: it belongs to "postgres"'),
    "an owner of a function": ("ALTER FUNCTION public.quiet() OWNER TO postgres", 'function public.quiet(): it belongs to "postgres"'),
    "extended statistics dropped": ("DROP STATISTICS public.options_statistics", "statistics public.options_statistics"),
    "a domain's constraint": ('ALTER DOMAIN public.nice_text DROP CONSTRAINT "is nice"', 'constraint "is nice" on public.nice_text'),
    "a domain's default": ("ALTER DOMAIN public.nice_text DROP DEFAULT", "type public.nice_text: its default"),
    "a composite's attribute": ('ALTER TYPE public.pair RENAME ATTRIBUTE "Right Part" TO r', "type public.pair: its attributes"),
    "a partition detached": (f"ALTER TABLE public.measured DETACH PARTITION {ODD}.measured_2", f"table {ODD}.measured_2: its partition bound"),
    "an inheritance child let go": ("ALTER TABLE public.bat NO INHERIT public.animal", "table public.bat: its parents"),
    "an operator's estimator": (
        "ALTER OPERATOR public.=== (text, text) SET (RESTRICT = NONE)",
        "operator public.===(pg_catalog.text,pg_catalog.text): its operator",
    ),
    "a text search mapping": (
        "ALTER TEXT SEARCH CONFIGURATION public.plain_words DROP MAPPING FOR word",
        "text search configuration public.plain_words: its mappings",
    ),
    "a text search dictionary's option": (
        "ALTER TEXT SEARCH DICTIONARY public.passing (ACCEPT = true)",
        "text search dictionary public.passing: its options",
    ),
    "an owner of a text search dictionary": (
        "ALTER TEXT SEARCH DICTIONARY public.passing OWNER TO postgres",
        'text search dictionary public.passing: it belongs to "postgres"',
    ),
    "two cells of 1,200 exchanged": ("UPDATE public.very_wide SET column_1 = 2, column_2 = 1", "table public.very_wide"),
    "two cells of one column exchanged, of a type hashed as stored": (
        "UPDATE public.sequences SET c = 3 - c",
        "different: always=1, always=2",
    ),
    "a bigint that the server's own hash of integers folds alike": (
        "UPDATE public.sequences SET c = c # 4294967297 WHERE always = 1",
        "different: always=1",
    ),
    "a time that the server's own hash of times folds alike": (
        # From 0 to 4294967297 microseconds after 2000-01-01.
        "UPDATE public.values SET tz = timestamptz '2000-01-01 01:11:34.967297Z' WHERE id = 3",
        "different: id=3",
    ),
    "a table gone": ("DROP TABLE public.duplicates", "table public.duplicates: it is missing"),
}


METHODS: tuple[Method, ...] = ("server", "sha256")


@pytest.fixture(scope="module")
def sides(server: Server) -> Iterator[tuple[Scene, psycopg.Connection[Any], psycopg.Connection[Any], MoveSet]]:
    """The hostile schema, copied, and a session of a superuser on each side."""
    for scene, tables in hostile(server, server):
        scene.copy(*tables)
        move = scene.move(*tables)
        superuser = {"user": "postgres", "password": server.superuser_password}
        with (
            session(move.source.with_login(*superuser.values())) as source,
            session(move.target.with_login(*superuser.values())) as target,
        ):
            yield scene, source, target, read_move_set(source, move.tables)


Sides = tuple[Scene, psycopg.Connection[Any], psycopg.Connection[Any], MoveSet]


def test_equal_sides_are_equal(sides: Sides) -> None:
    scene, source, target, move_set = sides
    assert verify(source, target, move_set, owner=scene.owner).differences == ()


@pytest.mark.parametrize("change", MUTATIONS)
def test_every_change_is_found_and_named(sides: Sides, change: str) -> None:
    scene, source, target, move_set = sides
    statements, told = MUTATIONS[change]
    with target.transaction(force_rollback=True):
        target.execute("ALTER TABLE public.triggered DISABLE TRIGGER USER" if "flying" in statements else "SELECT 1")
        target.execute(statements.encode())
        target.execute("SET CONSTRAINTS ALL IMMEDIATE")
        found = verify(source, target, move_set, owner=scene.owner).differences
    assert any(told in difference for difference in found), found


def test_at_most_ten_keys_are_named(sides: Sides) -> None:
    scene, source, target, move_set = sides
    with target.transaction(force_rollback=True):
        target.execute("UPDATE public.options SET words = words || '!'")
        (found,) = verify(source, target, move_set, owner=scene.owner).differences
    # The table has no primary key but a unique index on `id`, which identifies its rows.
    assert found.startswith("table public.options: 400 rows, other contents (different: id=")
    assert found.count("id=") == verify_module.KEYS_NAMED


def test_the_other_way_to_hash_finds_the_same(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the servers' own hash cannot be used, SHA-256 does the same."""
    scene, source, target, move_set = sides
    monkeypatch.setattr(verify_module, "probed", lambda a, b: "sha256")
    assert verify(source, target, move_set, owner=scene.owner).differences == ()
    with target.transaction(force_rollback=True):
        target.execute("UPDATE public.values SET f = '0' WHERE id = 3")
        (found,) = verify(source, target, move_set, owner=scene.owner).differences
    assert 'table public."values"' in found or "table public.values" in found


# Of the table "values", which has a column of most types.
IN_VALUES = [change for change, (statement, _) in MUTATIONS.items() if "UPDATE public.values" in statement]


@pytest.mark.parametrize("change", [None, *IN_VALUES])
def test_column_by_column_the_same_is_found(sides: Sides, change: str | None) -> None:
    """How tables are digested that have rows whose text is too large."""
    _, source, target, move_set = sides
    table = move_set.table(Name("public", "values"))
    with target.transaction(force_rollback=True):
        if change:
            target.execute(MUTATIONS[change][0].encode())
        found = [digest(side, table, method=method, grain="columns") for side in (source, target) for method in METHODS]
    assert (found[: len(METHODS)] == found[len(METHODS) :]) == (change is None)


def test_the_negative_control_notices_a_digest_that_cannot_differ(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, source, target, move_set = sides
    blind = Digest(1, "server-row:0:0")
    monkeypatch.setattr(verify_module, "digest", lambda *_, **__: blind)
    assert negative_control(target, [(move_set.table(Name("public", "triggered")), blind, blind)], "server") == "failed"
    found = verify(source, target, move_set, owner=scene.owner).differences
    assert any("negative control" in difference for difference in found)
