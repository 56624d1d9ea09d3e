"""Cloudflare's addresses: from the API or the list that is kept, in the forms people paste; and whom a server lets in besides."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clarity_infra.connection import Endpoint
from clarity_infra.ip_ranges import PINNED, PINNED_ON, Ranges, admission, others, published
from sandbox.cloudflare import CloudflareApi, Fault
from sandbox.postgres import UNLOGGED_SPEED, Server

TWO = Ranges(("173.245.48.0/20", "2400:cb00::/32"), "a test")


class TestTheRanges:
    def test_they_are_asked_of_the_api(self, tmp_path: Path) -> None:
        with CloudflareApi(tmp_path / "state", token="t") as api:
            found = published("t", api.base_url, patience=5)
        assert found == Ranges(("173.245.48.0/20", "103.21.244.0/22", "2400:cb00::/32"), "Cloudflare's API")

    def test_the_kept_list_is_used_where_the_api_is_in_trouble_and_that_is_said(self, tmp_path: Path) -> None:
        with CloudflareApi(tmp_path / "state", token="t") as api:
            api.faults.add(Fault("status", status=503, methods=["GET"]))
            found = published("t", api.base_url, patience=5)
        assert (found.cidrs, PINNED_ON in found.source) == (PINNED, True)

    def test_an_api_that_never_answers_is_not_waited_for(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            started = time.monotonic()
            found = published("t", f"http://127.0.0.1:{silent.getsockname()[1]}/client/v4", patience=0.5)
        assert time.monotonic() - started < 5
        assert found.cidrs == PINNED

    def test_the_kept_list_holds_networks_each_once(self) -> None:
        networks = [ipaddress.ip_network(cidr) for cidr in PINNED]
        assert len(set(networks)) == len(networks) == 22
        assert all(network.is_global for network in networks)

    @pytest.mark.parametrize(
        ("name", "written"),
        [("clarity", "clarity"), ("Clarity", '"Clarity"'), ("all", '"all"'), ('a "b", c#d', '"a ""b"", c#d"'), ("+clarity", '"+clarity"')],
    )
    def test_lines_for_pg_hba(self, name: str, written: str) -> None:
        assert TWO.hba_lines(name, "clarity_user") == [
            f"hostssl {written} clarity_user 173.245.48.0/20 scram-sha-256",
            f"hostssl {written} clarity_user 2400:cb00::/32 scram-sha-256",
        ]

    def test_lines_for_two_logins(self) -> None:
        assert TWO.hba_lines("clarity", "one", "Two")[0] == 'hostssl clarity one,"Two" 173.245.48.0/20 scram-sha-256'


class TestOthers:
    @pytest.mark.parametrize(
        ("rules", "found"),
        [
            ([(1, "host", "0.0.0.0", "0.0.0.0", "scram-sha-256")], [(1, "0.0.0.0/0")]),
            ([(1, "hostssl", "::", "::", "md5")], [(1, "::/0")]),
            ([(1, "host", "all", None, "trust")], [(1, "0.0.0.0/0"), (1, "::/0")]),
            ([(4, "hostssl", "8.8.0.0", "255.255.0.0", "scram-sha-256")], [(4, "8.8.0.0/16")]),
            ([(1, "hostssl", "173.245.48.0", "255.255.240.0", "scram-sha-256")], []),
            ([(1, "hostssl", "173.245.50.0", "255.255.255.0", "scram-sha-256")], []),
            ([(1, "host", "8.8.8.8", "255.255.255.255", "scram-sha-256")], []),
            ([(1, "host", "127.0.0.1", "255.255.255.255", "trust"), (2, "host", "10.0.0.0", "255.0.0.0", "md5")], []),
            ([(1, "host", "samenet", None, "md5"), (2, "host", ".example.com", None, "md5")], []),
            ([(1, "host", "all", None, "reject"), (2, "host", "0.0.0.0", "0.0.0.0", "md5")], []),
            ([(1, "hostnossl", "all", None, "reject"), (2, "host", "0.0.0.0", "0.0.0.0", "md5")], [(2, "0.0.0.0/0")]),
            ([(1, "host", "0.0.0.0", "0.0.0.0", "md5"), (2, "host", "all", None, "reject")], [(1, "0.0.0.0/0")]),
        ],
    )
    def test_the_first_rule_that_fits_decides(self, rules: list[tuple[Any, ...]], found: list[tuple[int, str]]) -> None:
        assert others(rules, TWO) == found


@pytest.fixture(scope="module")
def admitting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose pg_hba.conf a test may rewrite."""
    folder = tmp_path_factory.mktemp("hba")
    for part in (folder, *folder.parents[:2]):
        part.chmod(0o755)
    server = Server(folder / "server", settings=UNLOGGED_SPEED)
    try:
        server.start()
        with server.connect() as admin:
            admin.execute("CREATE ROLE clarity_rw NOLOGIN")
            admin.execute("CREATE ROLE clarity_user LOGIN IN ROLE clarity_rw")
            admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain-pw'")
        yield server
    finally:
        server.remove()


@pytest.fixture
def rules(admitting: Server) -> Iterator[Callable[..., Endpoint]]:
    path = admitting.data_path / "pg_hba.conf"
    before = path.read_text()

    def write(*lines: str) -> Endpoint:
        path.write_text("\n".join((before, *lines, "")))
        return Endpoint.from_url(admitting.url("postgres"), name="URL")

    yield write
    path.write_text(before)


class TestAskingAServer:
    def test_a_rule_for_everybody_is_a_warning_that_names_its_line(self, rules: Callable[..., Endpoint]) -> None:
        endpoint = rules("hostssl other all 0.0.0.0/0 scram-sha-256", "host all all 0.0.0.0/0 scram-sha-256")
        text, is_warning = admission(endpoint, TWO, "clarity", "clarity_user", patience=5)
        assert is_warning
        assert "(0.0.0.0/0)" in text
        assert text.count("line ") == 1
        assert "What to do: " in text

    def test_the_lines_of_the_output_are_no_reason_to_warn(self, rules: Callable[..., Endpoint]) -> None:
        text, is_warning = admission(rules(*TWO.hba_lines("clarity", "clarity_user")), TWO, "clarity", "clarity_user", patience=5)
        assert not is_warning
        assert "nobody from outside but Cloudflare" in text

    def test_a_rule_for_a_role_the_user_is_member_of_counts(self, rules: Callable[..., Endpoint]) -> None:
        endpoint = rules("host clarity +clarity_rw 8.8.0.0/16 scram-sha-256")
        assert admission(endpoint, TWO, "clarity", "clarity_user", patience=5)[1]
        assert not admission(endpoint, TWO, "clarity", "plain", patience=5)[1]

    def test_where_the_rules_may_not_be_read_that_is_what_is_said(self, admitting: Server) -> None:
        endpoint = Endpoint.from_url(admitting.url("postgres", "plain", "plain-pw"), name="URL")
        text, is_warning = admission(endpoint, TWO, "clarity", "clarity_user", patience=5)
        assert not is_warning
        assert 'cannot be seen, as "plain" may not read pg_hba_file_rules' in text
