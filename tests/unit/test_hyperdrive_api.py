"""Hyperdrive by the official SDK, against the stand-in: what it answers, what is left as it was, what a lost answer means."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from clarity_infra import hyperdrive, hyperdrive_api
from clarity_infra.errors import ClarityError, ConfigurationError, Unreachable
from clarity_infra.hyperdrive_api import Hyperdrive, NoSwitch, Origin, OriginSwitch, longest_stale
from clarity_infra.settings import KEYS, Settings
from sandbox.cloudflare import CloudflareApi, Fault
from sandbox.postgres import Server, free_port

ACCOUNT = "a" * 32
PASSWORD = "s3cret-pass"
WRITES, READS = "token-writes", "token-reads"
CACHE = {"disabled": False, "max_age": 30, "stale_while_revalidate": 5}
LIMIT = 37


@pytest.fixture
def service(tmp_path: Path) -> Iterator[CloudflareApi]:
    with CloudflareApi(tmp_path / "state", token=WRITES, read_only_token=READS, max_configs=3) as running:
        yield running


@pytest.fixture
def origins(server: Server, new_role: Callable[..., str]) -> tuple[Origin, Origin]:
    """The origin before and the one after: two users of one server."""
    old, new = (
        Origin(host="127.0.0.1", port=server.port, database="postgres", user=new_role(name, password=PASSWORD), password=PASSWORD)
        for name in ("before", "after")
    )
    return old, new


@pytest.fixture
def config(service: CloudflareApi, origins: tuple[Origin, Origin]) -> dict[str, Any]:
    """A config with settings of its own, as the service shows it."""
    body = {"name": "clarity-db", "origin": origins[0].parameters(), "caching": CACHE, "origin_connection_limit": LIMIT}
    return service.configs.create(ACCOUNT, body)


def api(service: CloudflareApi, token: str = WRITES) -> Hyperdrive:
    return Hyperdrive(ACCOUNT, token, service.base_url)


def switch(service: CloudflareApi, origins: tuple[Origin, Origin], made: dict[str, Any], **other: Any) -> OriginSwitch:
    given: dict[str, Any] = {"config": made["id"], "name": made["name"], "cache_seconds": 0.0, "say": lambda _: None, **other}
    return OriginSwitch(api=api(service), source=origins[0], target=origins[1], **given)


def shown(service: CloudflareApi, config: dict[str, Any]) -> dict[str, Any]:
    """What the service has of a config but for the time of its last change."""
    return {key: value for key, value in service.configs.get(ACCOUNT, config["id"]).items() if key != "modified_on"}


def assert_plain(error: ClarityError) -> None:
    assert "What to do" in str(error)
    for secret in (PASSWORD, WRITES, READS, "token-wrong"):
        assert secret not in str(error)


class TestAsking:
    def test_a_config_is_found_by_its_id_and_by_its_name(self, service: CloudflareApi, config: dict[str, Any]) -> None:
        found = api(service).get(config["id"])
        assert found["origin_connection_limit"] == LIMIT
        assert found["origin"]["database"] == "postgres"
        assert "password" not in found["origin"]
        named = api(service).named("clarity-db")
        assert named is not None
        assert named["id"] == config["id"]
        assert api(service).named("another") is None

    def test_one_that_does_not_exist(self, service: CloudflareApi) -> None:
        with pytest.raises(ConfigurationError, match=f"does not know Hyperdrive config {'f' * 32} in account {ACCOUNT}") as raised:
            api(service).get("f" * 32)
        assert_plain(raised.value)

    def test_a_token_that_is_none(self, service: CloudflareApi, config: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError, match="does not accept the API token") as raised:
            api(service, "token-wrong").get(config["id"])
        assert_plain(raised.value)

    def test_a_token_that_may_only_read(self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]) -> None:
        reading = api(service, READS)
        assert reading.get(config["id"])["id"] == config["id"]
        for attempt in (reading.check_may_write, lambda: reading.put_origin(config, origins[1]), lambda: reading.proves(origins[1], "x")):
            with pytest.raises(ConfigurationError, match="token may") as raised:
                attempt()
            assert_plain(raised.value)
        assert service.configs.all(ACCOUNT) == [config]

    def test_asking_whether_one_may_write_changes_nothing(self, service: CloudflareApi, config: dict[str, Any]) -> None:
        api(service).check_may_write()
        assert service.configs.all(ACCOUNT) == [config]

    def test_a_service_that_does_not_answer(self) -> None:
        with pytest.raises(Unreachable, match="cannot be reached"):
            Hyperdrive(ACCOUNT, WRITES, f"http://127.0.0.1:{free_port()}/client/v4").get("f" * 32)

    def test_with_little_patience_one_that_never_answers_is_told_soon_and_asked_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            impatient = Hyperdrive(ACCOUNT, WRITES, f"http://127.0.0.1:{silent.getsockname()[1]}/client/v4", patience=1)
            started = time.monotonic()
            with pytest.raises(Unreachable, match="cannot be reached"):
                impatient.get("f" * 32)
            assert 1 <= time.monotonic() - started < 5

    def test_little_patience_is_for_all_addresses_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hosts = [f"127.0.0.{number}" for number in range(1, 7)]
        with contextlib.ExitStack() as stack:
            port = 0
            for host in hosts:  # the backlog is full, so that not even a connection comes about
                listener = stack.enter_context(socket.create_server((host, port), backlog=0))
                port = int(listener.getsockname()[1])
                for _ in range(3):
                    waiting = stack.enter_context(socket.socket())
                    waiting.setblocking(False)
                    waiting.connect_ex((host, port))
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            started = time.monotonic()
            with pytest.raises(Unreachable, match="cannot be reached"):
                Hyperdrive(ACCOUNT, WRITES, f"http://api.example.com:{port}/client/v4", patience=1).get("f" * 32)
            assert time.monotonic() - started < 4

    def test_a_service_in_trouble_is_not_the_users_mistake(self, service: CloudflareApi, config: dict[str, Any]) -> None:
        service.faults.add(Fault("status", status=503, count=3, methods=["GET"]))
        with pytest.raises(Unreachable, match="did not do it"):
            api(service).get(config["id"])

    def test_trouble_that_passes_is_not_told(self, service: CloudflareApi, config: dict[str, Any]) -> None:
        service.faults.add(Fault("status", status=503, methods=["GET"]))
        assert api(service).get(config["id"])["id"] == config["id"]


class TestSwitching:
    def test_the_origin_changes_and_everything_else_stays(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        before, way = shown(service, config), switch(service, origins, config)
        assert way.where() == "source"
        way.to_target()
        assert way.where() == "target"
        assert shown(service, config) == {**before, "origin": {**before["origin"], "user": origins[1].user}}
        way.to_source()
        assert way.where() == "source"
        assert shown(service, config) == before

    def test_a_config_without_an_id_is_switched_by_its_name(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        switch(service, origins, config, config="").to_target()
        assert service.configs.get(ACCOUNT, config["id"])["origin"]["user"] == origins[1].user
        with pytest.raises(ConfigurationError, match="There is no Hyperdrive config other"):
            switch(service, origins, config, config="", name="other").where()

    @pytest.mark.parametrize("kind", ["drop", "hang"])
    def test_after_a_lost_answer_asking_tells(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin], kind: Any
    ) -> None:
        """`drop` did it and `hang` did not; as many as are tried. What became of it is what a GET says."""
        service.faults.add(Fault(kind, count=3, methods=["PUT"]))
        way = switch(service, origins, config)
        with pytest.raises(Unreachable) as raised:
            way.to_target()
        assert_plain(raised.value)
        assert way.where() == ("target" if kind == "drop" else "source")

    def test_an_origin_out_of_reach_is_refused_and_the_old_one_stays(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        before = shown(service, config)
        wrong = Origin("127.0.0.1", origins[1].port, "postgres", origins[1].user, "wrong-" + PASSWORD)
        with pytest.raises(ConfigurationError, match="Cloudflare refused") as raised:
            api(service).put_origin(config, wrong)
        assert_plain(raised.value)
        assert shown(service, config) == before

    def test_an_origin_that_is_neither(self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]) -> None:
        other = Origin("127.0.0.1", 1, "elsewhere", "somebody", PASSWORD)
        with pytest.raises(ConfigurationError, match="neither the old nor the new one") as raised:
            switch(service, (other, origins[1]), config).where()
        assert_plain(raised.value)

    def test_where_it_is_not_managed_there_is_nothing_to_switch(self) -> None:
        way = NoSwitch()
        way.to_target()
        assert way.where() == "unmanaged"
        way.to_source()
        assert "not managed" in way.prepare()


class TestPreparing:
    def test_the_cache_is_switched_off_and_waited_for(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        lines: list[str] = []
        started = time.monotonic()
        said = switch(service, origins, config, cache_seconds=1.5, say=lines.append).prepare()
        assert time.monotonic() - started >= 0.5  # the service tells the time of its changes in whole seconds
        assert said == "Cloudflare connected to the new origin"
        assert lines[0] == "switching Hyperdrive's cache off"
        after = service.configs.get(ACCOUNT, config["id"])
        assert after["caching"]["disabled"] is True
        assert after["origin_connection_limit"] == LIMIT
        assert after["origin"] == config["origin"]
        time.sleep(1.5)
        lines.clear()
        switch(service, origins, config, cache_seconds=1.5, say=lines.append).prepare()
        assert lines == []

    def test_the_throw_away_config_is_gone_afterwards(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        assert api(service).proves(origins[1], "reach") == "Cloudflare connected to the new origin"
        assert [found["id"] for found in service.configs.all(ACCOUNT)] == [config["id"]]

    def test_a_new_origin_out_of_reach_is_found_before_anything_is_fenced(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        unreachable = Origin("127.0.0.1", free_port(), "clarity", "clarity_user", PASSWORD)
        with pytest.raises(ConfigurationError, match="a connection to the new origin") as raised:
            api(service).proves(unreachable, "reach")
        assert_plain(raised.value)
        assert service.configs.all(ACCOUNT) == [config]

    def test_an_old_origin_that_takes_its_login_no_more_is_found_before_anything_is_closed(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        changed = dataclasses.replace(origins[0], port=free_port())
        with pytest.raises(ConfigurationError, match=r"a connection to the old origin.*\nNothing was changed\.\n.*originPassword") as raised:
            switch(service, (changed, origins[1]), config).prove_way_back()
        assert_plain(raised.value)
        switch(service, origins, config).prove_way_back()
        assert service.configs.all(ACCOUNT) == [config]

    def test_no_room_for_another_config_is_said_and_no_error(self, service: CloudflareApi, origins: tuple[Origin, Origin]) -> None:
        for number in range(3):
            service.configs.create(ACCOUNT, {"name": f"theirs-{number}", "origin": origins[0].parameters()})
        assert "no room" in api(service).proves(origins[1], "reach")
        assert len(service.configs.all(ACCOUNT)) == 3

    def test_what_a_run_that_died_left_is_removed_by_the_next(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        """Killed between making the throw-away config and removing it: its name would be taken for ever, its place too."""
        service.faults.add(Fault("drop", methods=["POST"]))
        with pytest.raises(Unreachable):
            api(service).proves(origins[1], "reach")
        assert len(service.configs.all(ACCOUNT)) == 2
        assert api(service).proves(origins[1], "reach") == "Cloudflare connected to the new origin"
        assert [found["id"] for found in service.configs.all(ACCOUNT)] == [config["id"]]

    def test_a_removal_whose_answer_is_lost_is_no_error(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        service.faults.add(Fault("drop", methods=["DELETE"]))
        assert api(service).proves(origins[1], "reach") == "Cloudflare connected to the new origin"
        assert [found["id"] for found in service.configs.all(ACCOUNT)] == [config["id"]]


class TestWhatTheCacheHolds:
    """A client that reads through Hyperdrive while it is switched. The stand-in's 75 seconds are over after five."""

    WHICH = "SELECT place FROM public.whereabouts"

    @pytest.fixture
    def hasty(self, tmp_path: Path) -> Iterator[CloudflareApi]:
        with CloudflareApi(tmp_path / "hasty", token=WRITES, cache_speed=15) as running:
            yield running

    @pytest.fixture
    def places(self, server: Server, new_database: Callable[..., str], origins: tuple[Origin, Origin]) -> tuple[Origin, Origin]:
        """The origins in two databases, each of which says which one it is."""
        found = []
        for name, origin in zip(("old", "new"), origins, strict=True):
            database = new_database(name)
            with server.connect(database) as admin:
                admin.execute("CREATE TABLE whereabouts AS SELECT %s::text AS place", (name,))
                admin.execute("GRANT SELECT ON whereabouts TO PUBLIC")
            found.append(dataclasses.replace(origin, database=database))
        return found[0], found[1]

    def answers(self, hasty: CloudflareApi, places: tuple[Origin, Origin], *, waits: float, keep: bool = False) -> tuple[str, str]:
        """What a client reads right before the preparation, and once it is switched; `keep`: caching is left on."""
        made = hasty.configs.create(ACCOUNT, {"name": "clarity-db", "origin": places[0].parameters(), "caching": {"disabled": False}})
        way = switch(hasty, places, made, cache_seconds=waits)
        with psycopg.connect(hasty.connection_string(made["id"]), autocommit=True) as client:

            def read() -> str:
                row = client.execute(self.WHICH).fetchone()
                assert row is not None
                return str(row[0])

            before = read()
            if not keep:
                way.prepare()
            way.to_target()
            hasty.configs.restart(ACCOUNT, made["id"])
            return before, read()

    def test_no_answer_from_before_the_switch_is_given_after_it(self, hasty: CloudflareApi, places: tuple[Origin, Origin]) -> None:
        assert self.answers(hasty, places, waits=5) == ("old", "new")

    @pytest.mark.parametrize("keep", [True, False])
    def test_without_the_wait_there_would_be_one(self, hasty: CloudflareApi, places: tuple[Origin, Origin], keep: bool) -> None:
        """Otherwise the test before this one would show nothing."""
        assert self.answers(hasty, places, waits=0, keep=keep) == ("old", "old")

    def test_on_the_way_back_a_cache_that_is_on_is_waited_for_and_one_that_is_off_is_not(
        self, hasty: CloudflareApi, places: tuple[Origin, Origin]
    ) -> None:
        """It is on after a clean-up that was taken back. Where it is off, going back costs no second."""
        made = hasty.configs.create(ACCOUNT, {"name": "clarity-db", "origin": places[1].parameters(), "caching": {"disabled": False}})
        lines: list[str] = []
        way = switch(hasty, places, made, cache_seconds=5, say=lines.append)
        with psycopg.connect(hasty.connection_string(made["id"]), autocommit=True) as client:
            assert client.execute(self.WHICH).fetchone() == ("new",)
            way.quiet_cache()
            way.to_source()
            hasty.configs.restart(ACCOUNT, made["id"])
            assert client.execute(self.WHICH).fetchone() == ("old",)
        assert lines == ["switching Hyperdrive's cache off", "waiting 5 s until no answer of Hyperdrive's cache can be in use"]
        way.quiet_cache()
        assert len(lines) == 2

    @pytest.mark.parametrize(
        ("caching", "seconds"),
        [
            ({}, 75),
            ({"disabled": False}, 75),
            ({"disabled": True}, 0),
            ({"disabled": False, "max_age": 3600}, 3615),
            ({"disabled": False, "max_age": 10, "stale_while_revalidate": 0}, 10),
        ],
    )
    def test_how_long_is_by_the_configs_own_times(self, caching: dict[str, Any], seconds: float) -> None:
        assert longest_stale(caching) == seconds

    def test_a_time_without_fractions_may_be_a_second_later(self) -> None:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        assert hyperdrive_api._age((now - datetime.timedelta(seconds=10)).isoformat()) < 10
        assert hyperdrive_api._age((now - datetime.timedelta(seconds=10, microseconds=1)).isoformat()) > 10
        assert hyperdrive_api._age(None) == 0


class TestOtherWaysToTheDatabase:
    """Behind Cloudflare Access, and by a Workers VPC service: no port, and a secret that the API never gives back."""

    SERVICE = "0191a0e5-0000-7000-8000-000000000001"

    @pytest.fixture
    def hidden(self, service: CloudflareApi, origins: tuple[Origin, Origin]) -> tuple[Origin, Origin]:
        """The origins behind a tunnel."""
        port = origins[0].port
        assert port is not None
        service.add_tunnel("db.internal.example.com", client_id="client.access", client_secret="sesame-secret", port=port)
        service.add_service(self.SERVICE, port=port)
        way = {"host": "db.internal.example.com", "port": None, "access_client_id": "client.access", "access_client_secret": "sesame-secret"}
        old, new = (dataclasses.replace(origin, **way) for origin in origins)  # type: ignore[arg-type]
        return old, new

    def test_one_behind_access_is_switched_there_and_back(self, service: CloudflareApi, hidden: tuple[Origin, Origin]) -> None:
        made = service.configs.create(ACCOUNT, {"name": "clarity-db", "origin": hidden[0].parameters(), "origin_connection_limit": LIMIT})
        assert "port" not in made["origin"]
        assert "access_client_secret" not in made["origin"]
        before, way = shown(service, made), switch(service, hidden, made)
        assert way.where() == "source"
        assert way.prepare() == "Cloudflare connected to the new origin"
        way.to_target()
        assert way.where() == "target"
        with psycopg.connect(service.connection_string(made["id"]), autocommit=True) as client:
            assert client.execute("SELECT current_user::text").fetchone() == (hidden[1].user,)
        way.to_source()
        assert way.where() == "source"
        assert {**shown(service, made), "caching": {}} == {**before, "caching": {}}

    def test_a_wrong_secret_is_found_before_anything_is_fenced(self, service: CloudflareApi, hidden: tuple[Origin, Origin]) -> None:
        made = service.configs.create(ACCOUNT, {"name": "clarity-db", "origin": hidden[0].parameters()})
        wrong = dataclasses.replace(hidden[1], access_client_secret="other-secret")
        with pytest.raises(ConfigurationError, match=r"new origin db.internal.example.com/postgres through Cloudflare Access") as raised:
            switch(service, (hidden[0], wrong), made).prepare()
        assert_plain(raised.value)
        assert "secret" not in str(raised.value)
        assert "other-secret" not in repr(wrong)

    def test_one_by_a_vpc_service(self, service: CloudflareApi, origins: tuple[Origin, Origin]) -> None:
        port = origins[0].port
        assert port is not None
        service.add_service(self.SERVICE, port=port)
        old, new = (dataclasses.replace(origin, host="", port=None, service_id=self.SERVICE) for origin in origins)
        made = service.configs.create(ACCOUNT, {"name": "clarity-db", "origin": old.parameters()})
        way = switch(service, (old, new), made)
        assert way.where() == "source"
        way.to_target()
        assert way.where() == "target"
        elsewhere = dataclasses.replace(new, service_id="0191a0e5-0000-7000-8000-000000000002")
        with pytest.raises(ConfigurationError, match="Workers VPC service 0191a0e5-0000-7000-8000-000000000002"):
            switch(service, (old, elsewhere), made).api.proves(elsewhere, "reach")

    def test_a_public_host_of_the_same_name_is_another_place(self, hidden: tuple[Origin, Origin]) -> None:
        behind = {"host": "db.internal.example.com", "access_client_id": "another", "database": "postgres", "user": hidden[0].user}
        assert hidden[0].same_place(behind), "the token may have been rotated"
        assert not hidden[0].same_place({**behind, "access_client_id": None, "port": 5432})
        public = Origin("db.internal.example.com", 5432, "postgres", hidden[0].user, PASSWORD)
        assert public.same_place({"host": public.host, "database": "postgres", "user": public.user})
        assert not public.same_place(behind)


class TestWhatTheProgramMakesOfIt:
    """Origins and passwords, from what was recorded and configured."""

    ADMIN = "postgresql://admin:pw@db.example.com:5432/postgres?sslmode=verify-full"
    RECORDED = json.dumps({"origin": {"host": "tunnel.example.com", "port": 5433, "database": "postgres", "user": "app"}})

    @staticmethod
    def settings(**configured: Any) -> Settings:
        values = {"masterDatabaseUrl": TestWhatTheProgramMakesOfIt.ADMIN, "envFile": "", **configured}
        return Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment={}, folder=Path.cwd())

    def test_the_new_origin_keeps_the_host_cloudflare_uses_today(self) -> None:
        made = json.loads(hyperdrive.new_origin(self.RECORDED, self.settings(), "new-pw"))
        assert (made["host"], made["port"], made["database"], made["user"]) == ("tunnel.example.com", 5433, "clarity", "clarity_user")
        assert made["password"] == "new-pw"

    def test_another_server_or_a_configured_host_is_another_host(self) -> None:
        elsewhere = "postgresql://admin:pw@new.example.com:5439/postgres?sslmode=verify-full"
        made = json.loads(hyperdrive.new_origin(self.RECORDED, self.settings(targetDatabaseUrl=elsewhere), "p"))
        assert (made["host"], made["port"]) == ("new.example.com", 5439)
        made = json.loads(hyperdrive.new_origin(self.RECORDED, self.settings(hyperdriveHost="t2.example.com", hyperdrivePort=7), "p"))
        assert (made["host"], made["port"]) == ("t2.example.com", 7)

    def test_the_old_origin_is_what_was_recorded(self) -> None:
        made = json.loads(hyperdrive.old_origin(self.RECORDED, "old-pw"))
        assert made == {**json.loads(self.RECORDED)["origin"], "scheme": "postgres", "password": "old-pw"}
        assert hyperdrive.old_origin("", "x") == hyperdrive.new_origin("", self.settings(), "x") == ""

    def test_a_second_config_is_made_from_the_one_in_use_and_then_found_by_its_name(
        self, service: CloudflareApi, config: dict[str, Any], origins: tuple[Origin, Origin]
    ) -> None:
        def look(name: str) -> dict[str, Any] | None:
            way = {"hyperdriveWay": "second-config", "hyperdriveId": config["id"], "hyperdriveName": name}
            values = {"masterDatabaseUrl": self.ADMIN, "envFile": "", "cloudflareAccountId": ACCOUNT, "cloudflareApiToken": WRITES, **way}
            environment = {"CLOUDFLARE_BASE_URL": service.base_url}
            return hyperdrive.look(Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment=environment))

        made = look("second")
        assert made == {"name": "second", **{key: config[key] for key in ("origin", "caching", "origin_connection_limit")}}
        with pytest.raises(ConfigurationError, match=f"the name of the config that the application uses now \\({config['id']}\\)"):
            look("clarity-db")
        second = service.configs.create(ACCOUNT, {**made, "origin": origins[0].parameters()})
        service.configs.delete(ACCOUNT, config["id"])
        found = look("second")
        assert found is not None
        assert found["id"] == second["id"], "the first config is not needed any more"

    @pytest.mark.parametrize(
        ("stage", "bound", "planned"),
        [
            ("copy", "a" * 32, f"id {'a' * 32} stays until the cut-over"),
            ("cutover", "a" * 32, f"id {'a' * 32} -> {'b' * 32}; the application is sent by it once it is deployed"),
            ("cutover", "b" * 32, "names the second config already"),
            ("copy", "b" * 32, f"id {'b' * 32} -> the one it had before"),
        ],
    )
    def test_a_reviewer_reads_what_becomes_of_the_wrangler_file(self, tmp_path: Path, stage: str, bound: str, planned: str) -> None:
        (tmp_path / "wrangler.jsonc").write_text(json.dumps({"hyperdrive": [{"binding": "HYPERDRIVE", "id": bound}]}))
        way = {
            "hyperdriveWay": "second-config",
            "hyperdriveId": "a" * 32,
            "wranglerFile": "wrangler.jsonc",
            "originPassword": "pw",
            "stage": stage,
        }
        values = {"masterDatabaseUrl": self.ADMIN, "envFile": "", **way}
        settings = Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment={}, folder=tmp_path)
        config = {**json.loads(self.RECORDED), "id": "b" * 32, "name": "second"}
        hyperdrive.check(config, settings)
        told, file = hyperdrive.plan(config, settings)
        assert f"second ({'b' * 32}): follows the live side; config {'a' * 32}, which the application uses, stays as it is" in told
        assert file == f"binding HYPERDRIVE of wrangler.jsonc: {planned}"

    def test_a_wrangler_file_that_binds_a_third_config_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "wrangler.jsonc").write_text(json.dumps({"hyperdrive": [{"binding": "HYPERDRIVE", "id": "e" * 32}]}))
        way = {"hyperdriveWay": "second-config", "hyperdriveId": "a" * 32, "wranglerFile": "wrangler.jsonc", "originPassword": "pw"}
        values = {"masterDatabaseUrl": self.ADMIN, "envFile": "", **way}
        settings = Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment={}, folder=tmp_path)
        with pytest.raises(ConfigurationError, match=f"has id {'e' * 32}, and hyperdriveId says that the application uses {'a' * 32}"):
            hyperdrive.check({**json.loads(self.RECORDED), "name": "second"}, settings)

    def test_in_place_there_is_nothing_to_plan(self) -> None:
        assert hyperdrive.plan({**json.loads(self.RECORDED), "name": "clarity-db"}, self.settings()) == []

    ACCESS = json.dumps({"origin": {"host": "db.internal", "database": "postgres", "user": "app", "access_client_id": "client.access"}})
    SERVICE = json.dumps({"origin": {"database": "postgres", "user": "app", "service_id": "vpc-1"}})

    def test_an_origin_behind_access_stays_behind_it_and_gets_no_port(self) -> None:
        old = json.loads(hyperdrive.old_origin(self.ACCESS, "old-pw", "sesame"))
        assert old == {**json.loads(self.ACCESS)["origin"], "access_client_secret": "sesame", "password": "old-pw", "scheme": "postgres"}
        new = json.loads(hyperdrive.new_origin(self.ACCESS, self.settings(), "new-pw", "sesame"))
        assert new == {**old, "database": "clarity", "user": "clarity_user", "password": "new-pw"}
        assert Origin.from_json(json.dumps(new)).parameters() == new
        other = self.settings(hyperdriveHost="clarity.internal")
        assert json.loads(hyperdrive.new_origin(self.ACCESS, other, "p", "s"))["host"] == "clarity.internal"

    def test_an_origin_by_a_vpc_service_has_neither_host_nor_port(self) -> None:
        old = json.loads(hyperdrive.old_origin(self.SERVICE, "old-pw"))
        assert old == {**json.loads(self.SERVICE)["origin"], "password": "old-pw", "scheme": "postgres"}
        new = json.loads(hyperdrive.new_origin(self.SERVICE, self.settings(), "new-pw"))
        assert new == {**old, "database": "clarity", "user": "clarity_user", "password": "new-pw"}
        assert Origin.from_json(json.dumps(new)).parameters() == new

    def test_another_way_to_the_new_database_is_configured(self) -> None:
        def made(recorded: str, **configured: Any) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(hyperdrive.new_origin(recorded, self.settings(**configured), "p", "of-old"))
            return {key: value for key, value in found.items() if key not in ("database", "user", "password", "scheme")}

        token = {"hyperdriveAccessClientId": "second.access", "hyperdriveAccessSecret": "of-new"}
        behind = {"access_client_id": "second.access", "access_client_secret": "of-new"}
        assert made(self.ACCESS, **token) == {"host": "db.internal", **behind}
        assert made(self.RECORDED, hyperdriveHost="h.internal", **token) == {"host": "h.internal", **behind}
        assert made(self.RECORDED, hyperdriveServiceId="vpc-2") == made(self.ACCESS, hyperdriveServiceId="vpc-2") == {"service_id": "vpc-2"}
        assert made(self.ACCESS, hyperdriveHost="public.example.com", hyperdrivePort=5433) == {"host": "public.example.com", "port": 5433}
        assert made(self.SERVICE, hyperdriveHost="public.example.com") == {"host": "public.example.com", "port": 5432}

    def test_the_way_to_another_server_behind_access_is_not_guessed(self) -> None:
        elsewhere = {"targetDatabaseUrl": "postgresql://admin:pw@new.example.com:5439/postgres?sslmode=verify-full"}
        for recorded in (self.ACCESS, self.SERVICE):
            with pytest.raises(ConfigurationError, match=r"not known how Cloudflare reaches the new database server new\.example\.com"):
                hyperdrive.new_origin(recorded, self.settings(**elsewhere), "p")
        moved = json.loads(hyperdrive.new_origin(self.ACCESS, self.settings(**elsewhere, hyperdriveHost="new.internal"), "p", "s"))
        assert (moved["host"], moved["access_client_id"]) == ("new.internal", "client.access")

    def test_the_secret_of_access_is_configured_or_missed(self) -> None:
        config = json.loads(self.ACCESS)
        assert hyperdrive.origin_access_secret(config, self.settings(originAccessSecret="sesame")) == "sesame"
        same = self.settings(hyperdriveAccessClientId="client.access", hyperdriveAccessSecret="sesame")
        assert hyperdrive.origin_access_secret(config, same) == "sesame"
        assert hyperdrive.origin_access_secret(json.loads(self.RECORDED), self.settings()) == ""
        other = self.settings(hyperdriveAccessClientId="second.access", hyperdriveAccessSecret="of-new")
        for settings in (self.settings(), other):
            with pytest.raises(ConfigurationError, match=r"behind Cloudflare Access \(client client.access\)") as raised:
                hyperdrive.origin_access_secret(config, settings)
            assert "pulumi config set --secret clarity-infra:originAccessSecret" in str(raised.value)

    LOCAL = "postgresql://admin:pw@127.0.0.1:5432/postgres"

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "::1", "192.168.7.7"])
    def test_a_host_that_only_this_machine_reaches_is_refused(self, host: str) -> None:
        config = {"origin": {"host": host, "port": 5432, "database": "postgres", "user": "admin"}}
        local = self.settings(masterDatabaseUrl=self.LOCAL, databaseUrl=self.LOCAL)
        with pytest.raises(ConfigurationError, match=f"Cloudflare cannot reach the database server at {host}") as raised:
            hyperdrive.check(config, local)
        assert "hyperdriveHost" in str(raised.value)
        hyperdrive.check({"origin": {**config["origin"], "host": "db.example.com"}}, local)

    def test_a_stand_in_on_this_machine_reaches_it(self) -> None:
        config = {"origin": {"host": "127.0.0.1", "port": 5432, "database": "postgres", "user": "admin"}}
        values = {"masterDatabaseUrl": self.LOCAL, "databaseUrl": self.LOCAL, "envFile": ""}
        environment = {"CLOUDFLARE_BASE_URL": "http://127.0.0.1:1/client/v4"}
        hyperdrive.check(config, Settings.read("dev", values.get, keys=dict.fromkeys((*KEYS, *values)), environment=environment))

    def test_the_new_origin_is_verified_by_the_ca_and_the_old_one_as_before(self) -> None:
        recorded = json.dumps({**json.loads(self.RECORDED), "mtls": {"sslmode": "require", "mtls_certificate_id": "ours"}})
        assert json.loads(hyperdrive.old_mtls(recorded)) == {"sslmode": "require", "mtls_certificate_id": "ours"}
        assert json.loads(hyperdrive.new_mtls(recorded, self.settings(), "")) == json.loads(hyperdrive.old_mtls(recorded))
        verified = json.loads(hyperdrive.new_mtls(recorded, self.settings(), "ca-1"))
        assert verified == {"sslmode": "verify-full", "ca_certificate_id": "ca-1", "mtls_certificate_id": "ours"}
        assert json.loads(hyperdrive.new_mtls(recorded, self.settings(hyperdriveServiceId="vpc"), "")) == {}
        assert hyperdrive.old_mtls("") == hyperdrive.new_mtls("", self.settings(), "ca-1") == ""

    def test_the_old_password_is_that_of_the_same_user_or_none(self) -> None:
        config = json.loads(self.RECORDED)
        same = self.settings(databaseUrl="postgresql://app:app-pw@db.example.com/postgres?sslmode=verify-full")
        assert hyperdrive.origin_password(config, same) == "app-pw"
        assert hyperdrive.origin_password(config, self.settings(originPassword="given")) == "given"
        other = self.settings(databaseUrl="postgresql://another:other-pw@db.example.com/postgres?sslmode=verify-full")
        for settings, message in ((other, 'logs in as "app", DATABASE_URL as "another"'), (self.settings(), "password of Hyperdrive's present")):
            with pytest.raises(ConfigurationError, match=message) as raised:
                hyperdrive.origin_password(config, settings)
            assert "originPassword" in str(raised.value)
            assert "other-pw" not in str(raised.value)

    def test_once_switched_no_old_password_is_asked_for(self) -> None:
        switched = {"origin": {"database": "clarity", "user": "clarity_user"}}
        assert hyperdrive.points_at_target(switched, self.settings())
        assert hyperdrive.origin_password(switched, self.settings()) == ""
        assert hyperdrive.origin_password(switched, self.settings(originPassword="changed since")) == "changed since"
        left_on_the_way_back = self.settings(databaseUrl="postgresql://clarity_user:new-pw@db.example.com/clarity?sslmode=verify-full")
        assert hyperdrive.origin_password(json.loads(self.RECORDED), left_on_the_way_back) == ""
        assert not hyperdrive.points_at_target(None, self.settings())
