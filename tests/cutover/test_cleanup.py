"""The old tables go when they may, exactly they, with a backup that was read back; and they can come back."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from clarity_infra.errors import ClarityError, Refused
from clarity_infra.move import faults
from clarity_infra.move.cleanup import clean_up, refuse_clean_up, restore
from tests.cutover.scene import TABLES, Scene

AT_ONCE = timedelta(0)


def cleaned_up(scene: Scene, folder: Path, **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"monitoring": AT_ONCE, "acknowledged": 0, "run": uuid.uuid4(), "progress": scene.said.append}
    return clean_up(scene.move, backup=folder / "backup", **{**settings, **more})


def relations(scene: Scene) -> list[str]:
    return sorted(
        row[0]
        for row in scene.on_source(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('public', 'drizzle')"
            " AND c.relname NOT LIKE 'clarity_infra%'"
            " UNION ALL SELECT typname FROM pg_type WHERE typtype = 'e' AND typnamespace = 'public'::regnamespace"
        )
    )


def test_before_the_cut_over_nothing_goes(scene: Scene, tmp_path: Path) -> None:
    assert "not cut over" in refuse_clean_up(scene.move, monitoring=AT_ONCE)[0]
    with pytest.raises(Refused, match="not cut over"):
        cleaned_up(scene, tmp_path)


def test_each_reason_is_named(scene: Scene, tmp_path: Path) -> None:
    scene.cut_over()
    assert refuse_clean_up(scene.move, monitoring=AT_ONCE, contents=True) == []
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        scene.on_source("DELETE FROM public.log")
    with scene.server.connect(scene.move.source.database) as root:
        root.execute("ALTER TABLE public.log DISABLE TRIGGER USER; DELETE FROM public.log")
        root.execute(
            "DO $$ DECLARE t name; BEGIN SELECT tgname INTO t FROM pg_trigger WHERE tgrelid = 'public.log'::regclass;"
            " EXECUTE format('ALTER TABLE public.log ENABLE ALWAYS TRIGGER %I', t); END $$"
        )
    reasons = refuse_clean_up(scene.move, monitoring=timedelta(hours=24), contents=True)
    assert [text for text in ("monitoring period", "1 write", "public.log was changed") if not any(text in r for r in reasons)] == []
    assert len(refuse_clean_up(scene.move, monitoring=AT_ONCE, acknowledged=1)) == 0
    with pytest.raises(Refused):
        cleaned_up(scene, tmp_path, acknowledged=1)
    assert "requests" in relations(scene)


def test_an_admin_that_may_not_prove_the_backup_is_told_before_the_time_has_come(scene: Scene) -> None:
    """Its server is not the target's, so that nothing asked it for CREATEDB until then."""
    scene.cut_over()
    with scene.server.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {} NOCREATEDB").format(sql.Identifier(scene.move.source.user)))
    (reason,) = refuse_clean_up(scene.move, monitoring=AT_ONCE)
    assert "may not create the scratch database" in reason
    with scene.server.connect() as root:
        root.execute(reason.split("ask for: ")[1].encode())
    assert refuse_clean_up(scene.move, monitoring=AT_ONCE) == []


def test_exactly_the_set_goes_and_comes_back(scene: Scene, tmp_path: Path) -> None:
    scene.on_source("CREATE TABLE public.not_ours (id int PRIMARY KEY, k public.kind); INSERT INTO public.not_ours VALUES (1, 'slack')")
    others = scene.on_source("SELECT id, k::text FROM public.not_ours")
    before, rows = relations(scene), scene.contents("source")
    scene.cut_over()
    scene.on_target("INSERT INTO public.requests (request_id) VALUES ('after the cut-over')")
    evidence = cleaned_up(scene, tmp_path)
    assert relations(scene) == ["kind", "not_ours", "not_ours_pkey"]
    assert scene.on_source("SELECT id, k::text FROM public.not_ours") == [(1, "slack")]
    assert evidence["kept"] == ["type public.kind"]
    assert cleaned_up(scene, tmp_path) == evidence
    archive = Path(evidence["backup"])
    assert archive.stat().st_mode & 0o777 == 0o600
    assert not [row for row in scene.on_source("SELECT datname FROM pg_database") if row[0].startswith("clarity_infra")]
    restore(scene.move, archive, run=uuid.uuid4(), progress=scene.said.append)
    assert relations(scene) == before
    assert scene.on_source("SELECT id, k::text FROM public.not_ours") == others
    assert scene.contents("source") == rows
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        scene.on_source("DELETE FROM public.log")
    after = scene.contents("target")
    scene.go_back()
    assert scene.contents("source") == after


def test_what_was_kept_is_not_made_again_whatever_its_name(scene: Scene, tmp_path: Path) -> None:
    """A listing of pg_restore's shows names unquoted, with spaces for line breaks, and calls a domain what the catalogs call a type."""
    for run in (scene.on_source, scene.on_target):
        run(
            'CREATE SCHEMA IF NOT EXISTS "s.c h"; CREATE TYPE "s.c h"."odd ""type\n%s" AS ENUM (\'x\');'
            ' CREATE DOMAIN "s.c h"."a.domain" AS int; CREATE SEQUENCE "s.c h"."a ""sequence";'
            ' ALTER TABLE public.log ADD a "s.c h"."odd ""type\n%s", ADD b "s.c h"."a.domain",'
            ' ADD c bigint DEFAULT nextval(\'"s.c h"."a ""sequence"\')'
        )
    scene.on_source(
        'CREATE TABLE public.not_ours (a "s.c h"."odd ""type\n%s", b "s.c h"."a.domain", c bigint DEFAULT nextval(\'"s.c h"."a ""sequence"\'))'
    )
    scene.cut_over()
    evidence = cleaned_up(scene, tmp_path)
    assert len(evidence["kept"]) == 3
    restore(scene.move, Path(evidence["backup"]), run=uuid.uuid4(), progress=scene.said.append)
    assert "log" in relations(scene)


def test_what_a_body_names_is_kept_with_all_it_needs(scene: Scene, tmp_path: Path) -> None:
    """Others may call it as well, which no catalog says."""
    for run in (scene.on_source, scene.on_target):
        run(
            "CREATE TYPE public.mood AS ENUM ('fine');"
            " CREATE FUNCTION public.helper(public.mood[]) RETURNS text LANGUAGE sql AS 'SELECT $1[1]::text';"
            " CREATE FUNCTION public.touched() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM helper('{fine}'); RETURN NEW; END $$;"
            " CREATE TRIGGER touched BEFORE DELETE ON public.log FOR EACH ROW EXECUTE FUNCTION public.touched()"
        )
    scene.cut_over()
    evidence = cleaned_up(scene, tmp_path)
    assert sorted(evidence["kept"]) == ["function public.helper(public.mood[])", "type public.mood"]
    assert "function public.touched()" in evidence["dropped"]
    assert scene.on_source("SELECT public.helper('{fine}')") == [("fine",)]
    restore(scene.move, Path(evidence["backup"]), run=uuid.uuid4(), progress=scene.said.append)
    assert "log" in relations(scene)


def test_functions_and_types_that_need_a_table_go_with_the_tables_that_need_them(scene: Scene, tmp_path: Path) -> None:
    for run in (scene.on_source, scene.on_target):
        run(
            "CREATE FUNCTION public.fine(public.log) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.line IS NOT NULL';"
            " CREATE FUNCTION public.shown(public.log) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT public.fine($1)';"
            " CREATE POLICY p ON public.log USING (public.shown(log));"
            " CREATE TYPE public.wrap AS (l public.log); ALTER TABLE public.audit ADD w public.wrap"
        )
    scene.cut_over()
    evidence = cleaned_up(scene, tmp_path)
    assert {"function public.fine(public.log)", "function public.shown(public.log)", "table public.log"} <= set(evidence["dropped"])
    assert evidence["kept"] == []
    assert relations(scene) == []
    restore(scene.move, Path(evidence["backup"]), run=uuid.uuid4(), progress=scene.said.append)
    assert "log" in relations(scene)


@pytest.mark.parametrize("table", ["requests", "config"])
def test_what_depends_on_the_set_stops_it_with_its_name(scene: Scene, tmp_path: Path, table: str) -> None:
    scene.cut_over()
    scene.on_source(f"CREATE VIEW public.theirs AS SELECT id FROM public.{table}")
    with pytest.raises(ClarityError, match="theirs"):
        cleaned_up(scene, tmp_path)
    assert set(TABLES) <= set(relations(scene))


@pytest.mark.parametrize("point", ["backup proved", "before the drop is committed", "old tables dropped"])
def test_a_clean_up_that_dies_is_gone_on_from(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    scene.cut_over()

    def die(reached: str) -> None:
        if reached == point:
            raise KeyboardInterrupt

    monkeypatch.setattr(faults, "fault", die)
    with pytest.raises(KeyboardInterrupt):
        cleaned_up(scene, tmp_path)
    monkeypatch.setattr(faults, "fault", lambda _: None)
    assert cleaned_up(scene, tmp_path)["dropped"]
    assert relations(scene) == []
