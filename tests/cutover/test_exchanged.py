"""Two rows that exchange a value which is unique and never empty: whatever its type, each gets the other's."""

from __future__ import annotations

from collections.abc import Callable

from tests.cutover.scene import Scene

STRUCTURE = """
CREATE DOMAIN public.address AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE public.account (
  id integer PRIMARY KEY, email text NOT NULL, work public.address NOT NULL UNIQUE, short varchar(6) NOT NULL UNIQUE, at time NOT NULL UNIQUE,
  day date NOT NULL UNIQUE, address inet NOT NULL UNIQUE, number oid NOT NULL UNIQUE, small smallint NOT NULL UNIQUE,
  span int4range NOT NULL, EXCLUDE USING gist (span WITH &&), list integer[] NOT NULL UNIQUE, lasts interval NOT NULL UNIQUE,
  body bytea NOT NULL UNIQUE, document jsonb NOT NULL UNIQUE, key uuid NOT NULL UNIQUE, tag text NOT NULL, active boolean NOT NULL);
CREATE UNIQUE INDEX ON public.account (lower(email));
CREATE UNIQUE INDEX ON public.account (tag) WHERE active;
INSERT INTO public.account VALUES
  (1, 'A@x', 'a@x', 'abcdef', '10:00', '2024-01-01', '10.0.0.1', 100, -32768, '[1,5)', '{1}', '1 day', 'one', '{"a": 1}',
   '00000000-0000-0000-0000-000000000001', 'first', true),
  (2, 'B@x', 'b@x', 'ghijkl', '11:00', '2024-01-02', '10.0.0.2', 101, 5, '[5,9)', '{2}', '2 days', 'two', '{"b": 2}',
   '00000000-0000-0000-0000-000000000002', 'second', true);
"""
EXCHANGED = ("email", "work", "short", "at", "day", "address", "number", "small", "span", "list", "lasts", "body", "document", "key", "tag")


def test_values_of_every_type_are_exchanged(copied_scene: Callable[..., Scene]) -> None:
    scene = copied_scene(STRUCTURE, "account")
    scene.cut_over()
    columns = ", ".join(EXCHANGED)
    scene.on_target(
        "CREATE TEMPORARY TABLE kept AS TABLE public.account; DELETE FROM public.account;"
        f" INSERT INTO public.account (id, active, {columns}) SELECT 3 - id, active, {columns} FROM kept"
    )
    after = scene.on_target("SELECT id, account::text FROM public.account ORDER BY id")
    scene.go_back()
    assert scene.on_source("SELECT id, account::text FROM public.account ORDER BY id") == after
