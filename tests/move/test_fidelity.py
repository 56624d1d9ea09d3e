"""Does everything that belongs to the tables arrive? One large hostile schema, copied in every direction, by a plain admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from clarity_infra.move.names import Name
from clarity_infra.move.verify import verify_move
from sandbox.postgres import Server
from tests.move.conftest import FOLDER, Scene, make_scene

STAYING = {"stays", "stays_too"}


def hostile(source: Server, target: Server) -> Iterator[tuple[Scene, tuple[str, ...]]]:
    """A scene whose source holds the hostile schema, and the names of its tables."""
    with make_scene(source, target, attributes="CREATEDB CREATEROLE BYPASSRLS") as scene:
        # The compatible way to BYPASSRLS is a superuser's; what the schema itself needs is done by the admin.
        scene.run_source((FOLDER / "hostile.sql").read_text())
        with scene.on_source() as connection:
            if connection.info.server_version >= 180000:
                connection.execute((FOLDER / "hostile_18.sql").read_bytes())
            rows = connection.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_|^information_schema' AND c.relname <> ALL (%s)",
                (list(STAYING),),
            ).fetchall()
        scene.make_hostile()
        yield scene, tuple(str(Name(schema, name)) for schema, name in rows)


@pytest.fixture(scope="module")
def copied(pair: tuple[Server, Server]) -> Iterator[tuple[Scene, tuple[str, ...], dict[str, Any]]]:
    """The hostile schema, copied."""
    for scene, tables in hostile(*pair):
        yield scene, tables, scene.copy(*tables)


Copied = tuple[Scene, tuple[str, ...], dict[str, Any]]


def test_the_copy_is_verified_and_a_second_look_agrees(copied: Copied) -> None:
    scene, tables, evidence = copied
    assert evidence["verified"]["differences"] == 0
    assert evidence["verified"]["negative_control"].startswith("told apart")
    assert len(evidence["tables"]) == len(tables)
    looked = verify_move(scene.move(*tables), progress=lambda _: None)
    assert looked.differences == ()


def test_every_value_is_the_same_byte_for_byte(copied: Copied) -> None:
    """By PostgreSQL's own COPY of both sides, which shares no code with the digests."""
    scene, tables, _ = copied
    with scene.on_source(superuser=True) as source, scene.on_target(superuser=True) as target:
        for side in (source, target):
            # The databases were made hostile; only what prints alike can be compared here.
            side.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET extra_float_digits = 3; SET bytea_output = 'hex';")
            side.execute("SET statement_timeout = 0; SET search_path = ''; SET idle_in_transaction_session_timeout = 0")
        for text in tables:
            assert _lines(source, text) == _lines(target, text), text


def _lines(connection: psycopg.Connection[Any], table: str) -> list[bytes]:
    columns = connection.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        (table,),
    ).fetchall()[0][0]
    with connection.cursor().copy(f"COPY (SELECT {columns or ''} FROM ONLY {table} AS t) TO STDOUT".encode()) as rows:
        text = b"".join(bytes(row) for row in rows)
    return sorted(text.split(b"\n"))


def test_everything_belongs_to_the_owner(copied: Copied) -> None:
    scene, _, _ = copied
    with scene.on_target(superuser=True) as target:
        others = target.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname !~ '^pg_|^information_schema|^clarity_infra' AND c.relowner <> %s::regrole AND c.relkind <> 'i'",
            (scene.owner,),
        ).fetchall()
        types = target.execute(
            "SELECT t.typname FROM pg_type t WHERE t.typtype IN ('e', 'd') AND t.oid > 16384 AND t.typowner <> %s::regrole", (scene.owner,)
        ).fetchall()
    assert others == []
    assert types == []


def test_what_stays_was_not_touched(copied: Copied) -> None:
    scene, _, evidence = copied
    with scene.on_target() as target:
        assert target.execute("SELECT to_regclass('public.stays'), to_regclass('public.stays_view')").fetchall() == [(None, None)]
    assert any("public.stays" in note and "public.mood" in note for note in evidence["notes"])


def test_sequences_go_on_where_they_stood(copied: Copied) -> None:
    scene, _, evidence = copied
    assert evidence["sequences"]["public.free_standing"]["last_value"] == "9007199254741002"
    assert evidence["sequences"]["public.never_called"] == {"last_value": "42", "is_called": False}
    with scene.on_target(superuser=True) as target:
        target.execute("SET default_transaction_read_only = off; SET search_path = public; SET statement_timeout = 0")
        with target.transaction(force_rollback=True), pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
            target.execute("SELECT nextval('at_its_limit')")
        with target.transaction(force_rollback=True):
            row = target.execute("INSERT INTO sequences (e) VALUES (1) RETURNING always, a, c").fetchone()
    assert row == (2147483647, 9007199254741005, 42)


def test_no_trigger_fired_and_each_kept_its_state(copied: Copied) -> None:
    scene, _, _ = copied
    with scene.on_target(superuser=True) as target:
        states = dict(
            target.execute(
                "SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'public.triggered'::regclass AND NOT tgisinternal"
            ).fetchall()
        )
    assert states == {"a_on": "O", "b_always": "A", "c_replica": "R", "d_constraint": "O", "e_off": "D"}


def test_row_security_is_forced_again(copied: Copied) -> None:
    scene, _, evidence = copied
    with scene.on_target(superuser=True) as target:
        assert target.execute("SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = 'public.secured'::regclass").fetchall() == [
            (True, True)
        ]
    assert {"table": "public.secured", "rows": 30}.items() <= next(t for t in evidence["tables"] if t["table"] == "public.secured").items()


def test_copied_again_it_is_the_same(copied: Copied) -> None:
    scene, tables, first = copied
    second = scene.copy(*tables)
    assert [(t["table"], t["rows"], t["digest"]) for t in second["tables"]] == [(t["table"], t["rows"], t["digest"]) for t in first["tables"]]
