"""URLs as providers hand them out: what works, and what is refused with its reason and without the password."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clarity_infra.connection import Endpoint
from clarity_infra.errors import ClarityError, ConfigurationError, Unreachable

PASSWORD = "hunter2-SECRET"

REFUSED = {
    "": "is not set",
    "nonsense": "is not a postgres:// URL",
    "mysql://u:p@h/d": "is not a postgres:// URL",
    f"postgresql://u:{PASSWORD}@h:port/d": "malformed",
    f"postgresql://u:{PASSWORD}@h:99999/d": "malformed",
    f"postgresql://u:{PASSWORD}@[::1/d": "malformed",
    f"postgresql://u:{PASSWORD}@/d?host=/var/run/postgresql": "names no TCP host",
    f"postgresql://u:{PASSWORD}@%2Fvar%2Frun%2Fpostgresql/d": "names no TCP host",
    f"postgresql:///d?user=u&password={PASSWORD}": "names no TCP host",
    f"postgresql://:{PASSWORD}@h/d": "names no user",
    f"postgresql://a%3Ab:{PASSWORD}@h/d": "colon",
    f"postgresql://u:{PASSWORD}@h": "one database name",
    f"postgresql://u:{PASSWORD}@h/": "one database name",
    f"postgresql://u:{PASSWORD}/x@h/d": "malformed",
    f"postgresql://u:{PASSWORD}#x@h/d": "malformed|no TCP|one database",
    f"postgresql://u:{PASSWORD}@h1,h2/d": "several hosts",
    f"postgresql://u:{PASSWORD}@ep-x-pooler.eu.neon.tech/d": "pooler",
    f"postgresql://u:{PASSWORD}@db.supabase.co:6543/d": "pooler",
    f"postgresql://u:{PASSWORD}@h:6432/d": "pooler",
    f"postgresql://u:{PASSWORD}@h/d?pgbouncer=true": "pooler",
    f"postgresql://u:{PASSWORD}@h/d?schema=public": "not known here: schema",
    f"postgresql://u:{PASSWORD}@h/d?sslmode=maybe": "sslmode=maybe is not known",
    f"postgresql://u:{PASSWORD}@h/d?sslmode=require": "does not prove",
    f"postgresql://u:{PASSWORD}@h/d?sslmode=disable": "does not prove",
    f"postgresql://u:{PASSWORD}@h/d?sslrootcert=/no/such/ca.pem": "CA file",
}


@pytest.mark.parametrize("url", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_reason(url: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[url]) as raised:
        Endpoint.from_url(url, name="MASTER_DATABASE_URL")
    assert "MASTER_DATABASE_URL" in str(raised.value)
    assert "What to do" in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_every_refusal_has_its_own_message() -> None:
    assert len(set(REFUSED.values())) >= 14


def test_encoded_characters_of_a_password_are_undone_and_done_again() -> None:
    endpoint = Endpoint.from_url("postgresql://us%40er:p%40ss%3A%2F%3F%23%25word@h.example:5433/my%20db", name="X")
    assert (endpoint.user, endpoint.password, endpoint.database, endpoint.port) == ("us@er", "p@ss:/?#%word", "my db", 5433)
    assert Endpoint.from_url(endpoint.url(), name="X").password == endpoint.password


def test_verified_tls_is_the_default_away_from_this_machine() -> None:
    assert Endpoint.from_url("postgres://u:p@db.example.com/d", name="X").sslmode == "verify-full"
    assert Endpoint.from_url("postgres://u:p@127.0.0.1/d", name="X").sslmode == "disable"
    assert Endpoint.from_url("postgres://u:p@[::1]/d", name="X").sslmode == "disable"
    assert Endpoint.from_url("postgres://u:p@localhost/d?sslmode=require", name="X").sslmode == "require"
    weak = Endpoint.from_url("postgres://u:p@db.example.com/d?sslmode=require", name="X", allow_weak_tls=True)
    assert weak.sslmode == "require"


def test_verified_tls_names_a_file_with_the_systems_certificates() -> None:
    endpoint = Endpoint.from_url("postgres://u:p@db.example.com/d", name="X")
    assert endpoint.sslrootcert == "system" or Path(endpoint.sslrootcert).is_file()


def test_a_providers_parameters_are_passed_on() -> None:
    url = "postgres://u:p@ep-x.eu.neon.tech/d?sslmode=verify-full&channel_binding=require&options=endpoint%3Dep-x"
    conninfo = Endpoint.from_url(url, name="X").conninfo()
    assert re.search(r"channel_binding='?require", conninfo)
    assert "endpoint=ep-x" in conninfo


def test_neither_repr_nor_label_shows_the_password() -> None:
    endpoint = Endpoint.from_url(f"postgres://u:{PASSWORD}@127.0.0.1/d", name="X")
    assert PASSWORD not in repr(endpoint) + endpoint.label()


def test_an_unreachable_host_is_told_from_a_refused_login() -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        Endpoint.from_url(f"postgres://u:{PASSWORD}@127.0.0.1:1/d", name="X").connect()


def test_the_password_of_a_tool_is_in_a_file_for_its_time_only() -> None:
    endpoint = Endpoint.from_url(f"postgres://u:{PASSWORD}@127.0.0.1/d", name="X")
    with endpoint.tool_environment() as environment:
        passfile = Path(environment["PGPASSFILE"])
        assert passfile.stat().st_mode & 0o777 == 0o600
        assert PASSWORD in passfile.read_text()
        assert not any(PASSWORD in value for value in environment.values())
    assert not passfile.exists()


def test_errors_are_of_one_family() -> None:
    assert issubclass(ConfigurationError, ClarityError)
    assert issubclass(Unreachable, ClarityError)
