"""A source whose tables belong to other roles than the admin: the whole way, as a managed admin that is their member."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from clarity_infra.errors import Refused
from clarity_infra.move.catalog import read_move_set
from clarity_infra.move.cleanup import clean_up, restore
from clarity_infra.move.survey import survey
from sandbox.postgres import Server
from tests.cutover.scene import WRITES, Scene

OWNED = """
SELECT c.relkind::text, c.oid::regclass::text, c.relowner::regrole::text, ARRAY(SELECT a::text FROM unnest(c.relacl) AS a ORDER BY 1)::text
 FROM pg_class c
 WHERE c.relnamespace::regnamespace::text IN ('public', 'drizzle') AND c.relkind IN ('r', 'S') AND c.relname NOT LIKE 'clarity_infra%'
UNION ALL SELECT 'type', t.oid::regtype::text, t.typowner::regrole::text, t.typacl::text FROM pg_type t
 WHERE t.typtype = 'e' AND t.typnamespace = 'public'::regnamespace
UNION ALL SELECT 'function', p.oid::regprocedure::text, p.proowner::regrole::text, p.proacl::text FROM pg_proc p
 WHERE p.pronamespace = 'public'::regnamespace AND p.proname NOT LIKE 'clarity_infra%'
UNION ALL SELECT 'column', a.attrelid::regclass::text || '.' || a.attname, '', a.attacl::text FROM pg_attribute a WHERE a.attacl IS NOT NULL
 AND a.attrelid::regclass::text !~ '^pg_'
ORDER BY 1, 2
"""
APPLICATION = '"app; DROP ""x"" %s"'
"""Whom the application logs in as; as it is written in SQL."""


@pytest.fixture
def homes(new_scene: Callable[..., Scene], server: Server, request: pytest.FixtureRequest) -> Callable[[int], Scene]:
    """A scene on a server of a major version."""
    return lambda version: new_scene(on=server if version == 18 else request.getfixturevalue("server15"))


@pytest.fixture
def keepers() -> Iterator[Callable[[Scene], tuple[str, str]]]:
    """Gives a scene's tables to two other roles, one of them with an odd name, and lets the application's role in."""
    made: list[tuple[Server, str]] = []

    def give(scene: Scene) -> tuple[str, str]:
        names = (f"keeper_{uuid.uuid4().hex[:8]}", f'odd "keeper" %s;-- {uuid.uuid4().hex[:8]}')
        with scene.server.connect(scene.move.source.database) as root:
            for name in names:
                root.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(name)))
                made.append((scene.server, scene.move.source.database))
            root.execute(sql.SQL("DROP ROLE IF EXISTS {0}; CREATE ROLE {0}").format(sql.SQL(APPLICATION)))
            for schema in ("public", "drizzle"):
                root.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}, {}").format(sql.Identifier(schema), *map(sql.Identifier, names)))
            objects = root.execute(
                "SELECT 'TABLE ' || oid::regclass, relname = 'messages' FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace::regnamespace::text IN ('public', 'drizzle') AND relname NOT LIKE 'clarity_infra%'"
                " UNION ALL SELECT 'TYPE ' || oid::regtype, true FROM pg_type WHERE typname = 'kind'"
                " UNION ALL SELECT 'FUNCTION ' || oid::regprocedure, false FROM pg_proc WHERE proname = 'note'"
            ).fetchall()
            for text, odd in objects:
                root.execute(sql.SQL("ALTER {} OWNER TO {}").format(sql.SQL(text), sql.Identifier(names[odd])))
            root.execute(
                sql.SQL(
                    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {0};"
                    " GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {0};"
                    " GRANT UPDATE (title) ON public.requests TO {0} WITH GRANT OPTION; GRANT SELECT ON public.team TO PUBLIC;"
                    " REVOKE ALL ON FUNCTION public.note() FROM PUBLIC"
                ).format(sql.SQL(APPLICATION))
            )
        return names

    yield give
    for home, database in made:
        with home.connect(database) as root:
            for (role,) in root.execute("SELECT rolname FROM pg_roles WHERE rolname ~ 'keeper' OR rolname ~ '^app;'").fetchall():
                root.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
                root.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def join(scene: Scene, names: tuple[str, ...], *, inherit: bool) -> None:
    """Makes the admin a member of the owners; without inheritance (PostgreSQL 16) it may take their roles and has nothing by itself."""
    admin = sql.Identifier(scene.move.source.user)
    with scene.server.connect(scene.move.source.database) as root:
        for name in names:
            option = sql.SQL("" if inherit else " WITH INHERIT FALSE, SET TRUE")
            root.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(name), admin) + option)


def let_read(scene: Scene) -> None:
    with scene.server.connect(scene.move.source.database) as root:
        for schema in ("public", "drizzle"):
            for kind in ("TABLES", "SEQUENCES"):
                root.execute(
                    sql.SQL("GRANT SELECT ON ALL {} IN SCHEMA {} TO {}").format(
                        sql.SQL(kind), sql.Identifier(schema), sql.Identifier(scene.move.source.user)
                    )
                )


@pytest.mark.parametrize(
    ("version", "inherit"),
    [(18, True), (18, False), pytest.param(15, True, marks=pytest.mark.pg15)],
)
def test_there_and_back_and_gone_and_restored(
    homes: Callable[[int], Scene], keepers: Callable[[Scene], tuple[str, str]], tmp_path: Path, version: int, inherit: bool
) -> None:
    scene = homes(version)
    join(scene, keepers(scene), inherit=inherit)
    if not inherit:
        let_read(scene)
    with scene.server.connect(scene.move.source.database) as root:
        before = root.execute(OWNED).fetchall()
        scene.cut_over()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            root.execute("DELETE FROM public.messages")
        for name, statement in WRITES.items():
            if name != "truncate":
                scene.on_target(statement)
        scene.go_back()
        assert scene.contents("source") == scene.contents("target")
        assert root.execute(OWNED).fetchall() == before
        scene.cut_over()
        evidence = clean_up(
            scene.move, run=uuid.uuid4(), backup=tmp_path / "backup", monitoring=timedelta(0), acknowledged=1, progress=scene.said.append
        )
        assert root.execute(OWNED).fetchall() == []
        restore(scene.move, Path(evidence["backup"]), run=uuid.uuid4(), progress=scene.said.append)
        assert root.execute(OWNED).fetchall() == before
        scene.go_back()
        assert root.execute(OWNED).fetchall() == before
        root.execute(sql.SQL("SET ROLE {}").format(sql.SQL(APPLICATION)))
        root.execute("INSERT INTO public.messages (request_id, content) SELECT request_id, 'again' FROM public.requests LIMIT 1")


def refusals(scene: Scene) -> list[str]:
    """What stands in the way of a copy, in the admin's own words."""
    with scene.move.source.connect() as connection:
        return [str(blocker) for blocker in read_move_set(connection, scene.move.tables).blockers]


def test_an_admin_that_is_no_member_is_told_the_statement(scene: Scene, keepers: Callable[[Scene], tuple[str, str]]) -> None:
    names = keepers(scene)
    asked: list[str] = []
    while len(asked) < 3:
        try:
            refusals(scene)
            break
        except Refused as error:
            asked.append(str(error).split("What to do: ")[1].split(", or use")[0])
            with scene.server.connect(scene.move.source.database) as root:
                root.execute(asked[-1])
    assert len(asked) == len(names)
    assert refusals(scene) == []


@pytest.mark.parametrize("version", [18, pytest.param(15, marks=pytest.mark.pg15)])
def test_an_admin_that_inherits_nothing_is_told_the_statement(homes: Callable[[int], Scene], version: int) -> None:
    scene = homes(version)
    with scene.server.connect() as root:
        root.execute(sql.SQL("ALTER ROLE {} NOINHERIT").format(sql.Identifier(scene.move.source.user)))
    blockers = [blocker for blocker in survey(scene.move).blockers if "NOINHERIT" in blocker.reason]
    assert [blocker.object for blocker in blockers] == ["source admin", "target admin"]
    with scene.server.connect() as root:
        root.execute(blockers[0].remedy.encode())
    assert not any("NOINHERIT" in blocker.reason for blocker in survey(scene.move).blockers)


def test_what_may_not_be_read_is_told_with_the_statement(scene: Scene, keepers: Callable[[Scene], tuple[str, str]]) -> None:
    join(scene, keepers(scene), inherit=False)
    with scene.server.connect(scene.move.source.database) as root:
        root.execute(sql.SQL("GRANT USAGE ON SCHEMA drizzle, public TO {}").format(sql.Identifier(scene.move.source.user)))
        found = refusals(scene)
        assert any(text.startswith("table public.requests: ") for text in found)
        assert any(text.startswith("sequence public.requests_id_seq: ") for text in found)
        for text in found:
            root.execute(text.split("What to do: ")[1].split(", or ")[0])
    assert refusals(scene) == []


def test_administering_a_role_is_not_acting_as_it(scene: Scene, keepers: Callable[[Scene], tuple[str, str]]) -> None:
    """Since PostgreSQL 16 who made a role is its member, but may neither use its privileges nor take it."""
    names = keepers(scene)
    with scene.server.connect(scene.move.source.database) as root:
        for name in names:
            root.execute(
                sql.SQL("GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE").format(
                    sql.Identifier(name), sql.Identifier(scene.move.source.user)
                )
            )
    with pytest.raises(Refused) as raised:
        refusals(scene)
    with scene.move.source.connect() as admin:
        admin.execute(str(raised.value).split("What to do: ")[1].split(", or use")[0])
