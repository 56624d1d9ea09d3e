"""Each rule on what the engine may say, without the engine."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clarity_infra import guard
from clarity_infra.__main__ import main
from clarity_infra.guard import KEPT, SECRET, UNKNOWN, Hidden, Resource, Terms, Unreadable

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
FIXED = frozenset({"template", "encoding", "lcCollate", "lcCtype"})
SOME_UNKNOWN = sorted(UNKNOWN)[0]


def texts(kind: str, *, op: str | None = "update", ignored: frozenset[str] = FIXED, hours: float = 24, **properties: Any) -> list[str]:
    """What is broken by one resource."""
    found = guard.violations([Resource("urn::name", kind, properties, op, ignored)], Terms(NOW, hours))
    return [f"{violation.rule}: {violation.text}" for violation in found]


class TestWhatHoldsData:
    @pytest.mark.parametrize("kind", KEPT)
    @pytest.mark.parametrize("op", ["delete", "replace", "create-replacement", "delete-replaced", "import-replacement", "discard-replaced"])
    def test_it_stays(self, kind: str, op: str) -> None:
        (text,) = texts(kind, op=op)
        assert text.startswith("keep-what-holds-data: ")

    @pytest.mark.parametrize("kind", KEPT)
    @pytest.mark.parametrize("op", ["create", "update", "same", "import", "read", "refresh", None])
    def test_anything_else_may_be_done_to_it(self, kind: str, op: str | None) -> None:
        assert texts(kind, op=op) == []

    OF_THE_DATABASE = "urn:pulumi:dev::clarity-infra::clarity:database:ClarityDatabase$postgresql:index/role:Role::"

    @pytest.mark.parametrize(
        ("urn", "op", "login", "stays"),
        [
            (OF_THE_DATABASE + "read-only", "delete", False, False),
            (OF_THE_DATABASE + "read-only", "delete", True, True),
            (OF_THE_DATABASE + "read-only", "delete", None, True),
            (OF_THE_DATABASE + "read-only", "replace", False, True),
            (OF_THE_DATABASE + "read-only", "delete-replaced", False, True),
            (OF_THE_DATABASE + "read-write", "delete", False, True),
            (OF_THE_DATABASE + "user", "delete", True, True),
            (OF_THE_DATABASE + "second-user", "delete", True, True),
            ("urn:pulumi:dev::clarity-infra::postgresql:index/role:Role::read-only", "delete", False, True),
        ],
    )
    def test_of_the_roles_the_one_that_only_reads_may_be_taken_away_and_is_named(
        self, urn: str, op: str, login: bool | None, stays: bool
    ) -> None:
        role = Resource(urn, "postgresql:index/role:Role", {"name": "clarity_ro", "login": login}, op)
        assert [found.rule for found in guard.violations([role], Terms(NOW))] == (["keep-what-holds-data"] if stays else [])
        noticed = [str(found) for found in guard.taken_away([role])]
        assert [text.split(" and ")[0] for text in noticed] == ([] if stays else ['to be seen: the read-only role "clarity_ro"'])

    def test_what_holds_none_may_go(self) -> None:
        assert texts("random:index/randomPassword:RandomPassword", op="replace") == []
        assert texts("postgresql:index/grant:Grant", op="delete", role="clarity_rw") == []

    def test_what_goes_may_have_been_wrong(self) -> None:
        assert texts("pulumi:providers:postgresql", op="delete", host="db.example.com", sslmode="disable", note="a://b:c@d") == []

    def test_a_database_whose_change_would_make_it_anew_is_named_with_what_is_missing(self) -> None:
        (text,) = texts("postgresql:index/database:Database", ignored=FIXED - {"encoding"})
        assert "a change of encoding would drop" in text


class TestSecrets:
    @pytest.mark.parametrize(
        "value",
        [
            "postgres://user:pw@db.example.com/x",
            "see postgresql://user:p%40w@[::1]:5432/x for it",
            "https://token:x@example.com",
            "postgres://user:it's@db.example.com/x",
            "POSTGRES://user:pw@db.example.com/x",
            "postgres://db.example.com/x?user=user&password=pw",
            "host=db.example.com user=user password=pw",
            "password = 'p w' host=db.example.com",
            '{"host": "h", "password": "pw"}',
            "SCRAM-SHA-256$4096:c2FsdA==$a:b",
            "-----BEGIN RSA PRIVATE KEY-----",
        ],
    )
    def test_one_in_a_text_is_found_under_any_key(self, value: str) -> None:
        (text,) = texts("any:kind:Kind", nested={"list": ["harmless", {"note": value}]})
        assert text.startswith("secrets-are-secret: nested.list[1].note holds ")
        assert value not in text

    @pytest.mark.parametrize("key", ["password", "adminPassword", "api_token", "clientSecret", "apiKey", "privateKey"])
    def test_a_key_that_names_one_must_hold_a_secret(self, key: str) -> None:
        given: dict[str, Any] = {key: "anything"}
        assert texts("any:kind:Kind", **given)[0].startswith(f"secrets-are-secret: {key} holds a secret")
        for value in (SECRET, Hidden("anything"), SOME_UNKNOWN, "", True, 3, None):
            given = {key: value}
            assert texts("any:kind:Kind", **given) == []

    @pytest.mark.parametrize(
        "value",
        [
            "postgres://user@db.example.com/x",
            "postgres://user:***@db.example.com/x",
            "postgres://user:[secret]@db.example.com/x",
            '{"password": ""}',
            '{"password": "[secret]"}',
            "http://127.0.0.1:8080/client/v4",
            "urn:pulumi:dev::clarity-infra::a:b:C::name@2",
            "postgres://db.example.com/x?user=user&password=***",
            "host=db.example.com user=user password='***'",
            "What to do: set password=... and host",
        ],
    )
    def test_what_looks_a_little_like_one_is_none(self, value: str) -> None:
        assert texts("any:kind:Kind", note=value) == []

    def test_what_the_engine_keeps_for_itself_is_not_looked_at(self) -> None:
        assert texts("any:kind:Kind", __provider="postgres://a:b@c/d") == []


class TestTls:
    @pytest.mark.parametrize("mode", ["disable", "allow", "prefer", None, SOME_UNKNOWN])
    @pytest.mark.parametrize("host", ["db.example.com", "10.0.0.1", "2001:db8::1", SOME_UNKNOWN, None])
    def test_a_server_elsewhere_needs_it(self, host: str | None, mode: str | None) -> None:
        (text,) = texts("pulumi:providers:postgresql", host=host, sslmode=mode)
        assert text.startswith("connections-use-tls: ")

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "/run/postgresql"])
    def test_this_machine_does_not(self, host: str) -> None:
        assert texts("pulumi:providers:postgresql", host=host, sslmode="disable") == []

    @pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
    def test_with_it_any_server_will_do(self, mode: str) -> None:
        assert texts("pulumi:providers:postgresql", host="db.example.com", sslmode=mode) == []

    def test_a_url_inside_a_secret_is_judged_and_not_shown(self) -> None:
        url = "postgresql://u:hunter2@db.example.com/x?sslmode=prefer"
        for value in (Hidden(url), Hidden({"a": [f'{{"DATABASE_URL": "{url}"}}']})):
            (text,) = texts("any:kind:Kind", values=value)
            assert "names db.example.com with sslmode prefer" in text
            assert "hunter2" not in text
        assert texts("any:kind:Kind", values=Hidden(url.replace("db.example.com", "localhost"))) == []
        assert texts("any:kind:Kind", values=Hidden(url.replace("prefer", "verify-full"))) == []

    @pytest.mark.parametrize(
        "place",
        [
            "postgresql://u:hunter2@localhost/x?host=db.example.com&sslmode=disable",
            "postgresql://u:hunter2@localhost/x?hostaddr=db.example.com&sslmode=disable",
            "postgresql://u:hunter2@localhost:1,db.example.com:2/x?sslmode=disable",
            "postgresql://u:it's@db.example.com/x?sslmode=disable",
            "POSTGRESQL://u:hunter2@db.example.com/x?sslmode=disable",
            "host=db.example.com password=hunter2 sslmode=disable",
            "sslmode = 'disable' hostaddr = 'db.example.com'",
        ],
    )
    def test_a_place_is_judged_by_every_host_it_leads_to(self, place: str) -> None:
        (text,) = texts("any:kind:Kind", value=Hidden(place))
        assert "names db.example.com with sslmode disable" in text
        assert texts("any:kind:Kind", value=Hidden(place.replace("disable", "verify-full"))) == []
        assert texts("any:kind:Kind", value=Hidden(place.replace("db.example.com", "127.0.0.1"))) == []

    def test_hyperdrive_and_its_api(self) -> None:
        config = "cloudflare:index/hyperdriveConfig:HyperdriveConfig"
        assert texts(config, mtls={"sslmode": "prefer"})
        assert texts(config, mtls={"sslmode": "require"}) == texts(config, mtls=None) == texts(config, mtls=SOME_UNKNOWN) == []
        assert texts("pulumi:providers:cloudflare", baseUrl="http://api.example.com/v4")
        assert texts("pulumi:providers:cloudflare", baseUrl="HTTP://api.example.com/v4")
        assert texts("pulumi:providers:cloudflare", baseUrl="http://127.0.0.1:1/v4") == []


class TestPublic:
    @pytest.mark.parametrize("role", ["public", "PUBLIC", Hidden("public")])
    def test_nothing_is_granted_to_it(self, role: Any) -> None:
        assert texts("postgresql:index/grant:Grant", role=role, privileges=["CONNECT"])
        assert texts("postgresql:index/grant:Grant", role=role, privileges=SOME_UNKNOWN)
        assert texts("postgresql:index/defaultPrivileges:DefaultPrivileges", role=role, privileges=["SELECT"])
        assert texts("postgresql:index/grantRole:GrantRole", role=role, grantRole="clarity_rw")

    def test_taking_everything_away_from_it_is_what_the_program_does(self) -> None:
        assert texts("postgresql:index/grant:Grant", role="public", privileges=[]) == []

    def test_a_role_of_the_application_may_be_granted_things(self) -> None:
        assert texts("postgresql:index/grant:Grant", role="clarity_rw", privileges=["CONNECT"]) == []

    def test_a_schema_s_policy_without_a_role_means_it(self) -> None:
        assert texts("postgresql:index/schema:Schema", policies=[{"usage": True}])
        assert texts("postgresql:index/schema:Schema", policies=[{"usage": True, "role": "clarity_rw"}]) == []


class TestCleanUp:
    KIND = "pulumi-python:dynamic/clarity:SourceCleanup"

    @pytest.mark.parametrize(
        ("hours_ago", "configured", "floor", "early"),
        [
            (23.9, 24, 24, True),
            (24.1, 24, 24, False),
            (1, 0, 24, True),
            (1, 0, 0, False),
            (30, 48, 24, True),
            (30, 48, 0, True),
            (49, 48, 24, False),
            (-1, 0, 0, True),
        ],
    )
    def test_the_longer_of_both_periods_counts(self, hours_ago: float, configured: int, floor: float, early: bool) -> None:
        at = (NOW - datetime.timedelta(hours=hours_ago)).isoformat()
        assert bool(texts(self.KIND, active=True, cutOverAt=at, monitoringHours=configured, hours=floor)) is early

    @pytest.mark.parametrize("at", ["", None, SOME_UNKNOWN, "yesterday"])
    def test_without_the_time_of_the_cut_over_it_is_too_early(self, at: Any) -> None:
        assert texts(self.KIND, active=True, cutOverAt=at, monitoringHours=0, hours=0)

    @pytest.mark.parametrize("active", [True, Hidden(True), SECRET, SOME_UNKNOWN])
    def test_what_is_not_known_to_stay_may_go(self, active: Any) -> None:
        assert texts(self.KIND, active=active, cutOverAt="", monitoringHours=0)

    def test_before_the_stage_and_after_it_was_done_there_is_nothing_to_wait_for(self) -> None:
        assert texts(self.KIND, active=False, cutOverAt="") == []
        assert texts(self.KIND, op="same", active=True, cutOverAt="") == []


class TestWhole:
    def test_another_program_s_stack_is_none_of_its_business(self) -> None:
        assert guard.missing([Resource("u::a", "aws:s3:Bucket", {})]) == []

    def test_what_is_missing_is_named(self) -> None:
        declared = [Resource(f"u::{kind}", kind, {}) for kind in KEPT if "HyperdriveConfig" not in kind]
        assert guard.missing(declared) == []
        assert guard.missing(declared[1:]) == [KEPT[declared[0].type]]

    def test_the_hyperdrive_config_is_missed_where_one_is_managed(self) -> None:
        declared = [Resource(f"u::{kind}", kind, {"account": "c1"}) for kind in KEPT if "HyperdriveConfig" not in kind]
        assert guard.missing(declared) == ["the Hyperdrive config"]


class TestCommandLine:
    def test_a_preview_that_failed_does_not_pass(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        preview = tmp_path / "preview.json"
        preview.write_text(json.dumps({"diagnostics": [{"severity": "error", "message": "Stage cutover cannot be entered"}]}))
        assert main(["guard", str(preview)]) == 1
        assert "the preview failed: Stage cutover cannot be entered" in capsys.readouterr().out

    def test_what_the_language_host_says_after_an_error_is_left_out_and_never_the_only_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        after = "error: an unhandled error occurred: program exited with non-zero exit code: 1\n"
        preview = tmp_path / "preview.json"
        for said in (["error: Stage cutover cannot be entered\n", after], [after]):
            preview.write_text(json.dumps({"steps": [], "diagnostics": [{"severity": "error", "message": text} for text in said]}))
            assert main(["guard", str(preview), "--json"]) == 1
            assert json.loads(capsys.readouterr().out)["failed"] == [said[0].strip()]

    def test_a_plugin_that_was_slow_to_end_is_no_failure(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = "error: Detected that /opt/bin/pulumi-resource-random exited prematurely. \n  This is *always* a bug in the provider."
        preview = tmp_path / "preview.json"
        preview.write_text(json.dumps({"steps": [], "diagnostics": [{"severity": "error", "message": said}]}))
        assert main(["guard", str(preview)]) == 0
        assert "keep all" in capsys.readouterr().out

    @pytest.mark.parametrize("text", ["", "not JSON", "[]", "{}", '{"steps'])
    def test_what_is_no_preview_is_refused(self, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(Unreadable):
            guard.planned(text)
        preview = tmp_path / "preview.json"
        preview.write_text(text)
        assert main(["guard", str(preview)]) == 2
        assert "What to do: pulumi preview --json" in capsys.readouterr().err

    def test_a_file_that_is_not_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["guard", str(tmp_path / "missing.json")]) == 2
        assert "cannot be read" in capsys.readouterr().err

    def test_a_setting_in_clear_is_named_whosever_it_is(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        config = {
            "clarity-infra:cloudflareApiToken": "",
            "clarity-infra:passwordRevision": "2",
            "clarity-infra:masterDatabaseUrl": SECRET,
            "cloudflare:apiToken": "hunter2",
            "other:where": '{"url": "postgres://u:hunter2@db.example.com/x"}',
        }
        preview = tmp_path / "preview.json"
        preview.write_text(json.dumps({"config": config, "steps": []}))
        assert main(["guard", str(preview)]) == 1
        token, url = capsys.readouterr().out.splitlines()
        assert token.startswith("secrets-are-secret: configuration: cloudflare:apiToken holds a secret in plain text: set it again")
        assert url.startswith("secrets-are-secret: configuration: other:where holds a URL with a password in plain text")
        assert "hunter2" not in token + url

    def test_what_is_taken_away_is_named_and_passes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        old = {"type": "postgresql:index/role:Role", "inputs": {"name": "clarity_ro", "login": False}}
        step = {"op": "delete", "urn": TestWhatHoldsData.OF_THE_DATABASE + "read-only", "oldState": old}
        preview = tmp_path / "preview.json"
        preview.write_text(json.dumps({"steps": [step]}))
        assert main(["guard", str(preview)]) == 0
        assert 'to be seen: the read-only role "clarity_ro"' in capsys.readouterr().out

    def test_a_reader_that_has_read_enough_is_no_failure(self, tmp_path: Path) -> None:
        (tmp_path / "preview.json").write_text('{"steps": [], "changeSummary": {}}')
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "clarity_infra", "guard", str(tmp_path / "preview.json")]
        try:
            done = subprocess.run(command, cwd=Path(guard.__file__).parent.parent, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr) == (0, "")

    def test_nothing_to_do_passes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        preview = tmp_path / "preview.json"
        preview.write_text('{"steps": [], "changeSummary": {}}')
        assert main(["guard", str(preview)]) == 0
        assert "keep all" in capsys.readouterr().out
