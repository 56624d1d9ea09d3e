"""Names are data: parsed as written, shown so that they can be pasted back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarity_infra.errors import ConfigurationError
from clarity_infra.move.names import Name, settled


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("app_config", Name("public", "app_config")),
        ("drizzle.__drizzle_migrations", Name("drizzle", "__drizzle_migrations")),
        ('public."my.table"', Name("public", "my.table")),
        ('"a""b".c', Name('a"b', "c")),
        ("Mixed.Case", Name("Mixed", "Case")),
        ("drop table; --", Name("public", "drop table; --")),
    ],
)
def test_names_are_read_as_they_are_written(text: str, name: Name) -> None:
    assert Name.parse(text) == name


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a.b.c", '"a', '"a"b', "x" * 64, "é" * 32, "a\0b"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="tables"):
        Name.parse(text)


part = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)


@given(part, part)
def test_a_name_that_is_shown_can_be_read_back(schema: str, name: str) -> None:
    assert Name.parse(str(Name(schema, name))) == Name(schema, name)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("((v)::text = ANY ((ARRAY['a'::x, 'b,]'::x])::text[]))", "((v)::text = ANY (ARRAY[('a'::x)::text, ('b,]'::x)::text]))"),
        ("(ARRAY[(1)::smallint])::numeric(10,2)[] + 1", "ARRAY[((1)::smallint)::numeric(10,2)] + 1"),
        (
            """(ARRAY['it''s (ARRAY['::x, f("(ARRAY[", 2)])::"s"."d""[]"[]""",
            """ARRAY[('it''s (ARRAY['::x)::"s"."d""[]", (f("(ARRAY[", 2))::"s"."d""[]"]""",
        ),
        ("(ARRAY[ARRAY['a'::x], ARRAY['b'::x]])::text[]", "ARRAY[ARRAY[('a'::x)::text], ARRAY[('b'::x)::text]]"),
        ("(ARRAY[((ARRAY['a'::x])::text[])[1]])::y[]", "ARRAY[((ARRAY[('a'::x)::text])[1])::y]"),
    ],
)
def test_an_array_that_is_cast_is_read_as_an_array_of_casts(text: str, read: str) -> None:
    assert settled(text) == read
    assert settled(read) == read


@pytest.mark.parametrize(
    "text", ["'(ARRAY[1])::int[]'", '"(ARRAY[1])::int[]"', "(ARRAY[1, 2])[1]", "f(ARRAY[1])::int[]", "(ARRAY['a'", "(ARRAY[1])::text", ""]
)
def test_what_is_no_array_that_is_cast_stays(text: str) -> None:
    assert settled(text) == text
