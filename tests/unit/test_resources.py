"""The dynamic providers, called as the engine calls them: what they keep, what they compare, what they refuse at preview."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pulumi.dynamic import ConfigureRequest
from pulumi.dynamic.config import Config
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.output import Unknown
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from clarity_infra.errors import ClarityError, ConfigurationError, Refused
from clarity_infra.hyperdrive_api import Hyperdrive, OriginSwitch
from clarity_infra.resources import base, cutover, env_file, rollback
from clarity_infra.resources.access_check import AccessCheckProvider
from clarity_infra.resources.base import ClarityProvider, engine_lives, failure, same, without_provider
from clarity_infra.resources.claim import ClaimProvider
from clarity_infra.resources.cutover import CutoverProvider, switch_of
from clarity_infra.resources.database_copy import DatabaseCopyProvider
from clarity_infra.resources.database_settings import DatabaseSettingsProvider
from clarity_infra.resources.env_file import EnvFileProvider
from clarity_infra.resources.rollback import RollbackProvider
from clarity_infra.resources.source_cleanup import SourceCleanupProvider
from clarity_infra.resources.way_back import WayBackProvider
from clarity_infra.resources.wrangler_file import WranglerFileProvider
from clarity_infra.settings import PROJECT, Settings
from sandbox.plugins.wire import decode, encode
from sandbox.postgres import Server, free_port

UNKNOWN: Any = Unknown()  # type: ignore[no-untyped-call]
ROOT = Path(__file__).parents[2]
PROVIDERS: list[type[ClarityProvider]] = [
    AccessCheckProvider,
    ClaimProvider,
    CutoverProvider,
    DatabaseCopyProvider,
    DatabaseSettingsProvider,
    EnvFileProvider,
    RollbackProvider,
    SourceCleanupProvider,
    WayBackProvider,
    WranglerFileProvider,
]


@pytest.fixture(autouse=True)
def each_call_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a provider deletes here is nothing that the same run has replaced."""
    monkeypatch.setattr(ClarityProvider, "remember_made", lambda _: None)


def configured(provider: ClarityProvider, **values: Any) -> Any:
    """The provider with the stack's configuration, as the engine hands it over."""
    raw = {f"{PROJECT}:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    with unlimited_traceback():
        provider.configure(ConfigureRequest(config=Config(raw_config=raw, project_name=PROJECT)))
    return provider


@contextlib.contextmanager
def unlimited_traceback() -> Iterator[None]:
    """`configure` cuts tracebacks off for its process, which is the tests' here."""
    try:
        yield
    finally:
        with contextlib.suppress(AttributeError):
            del sys.tracebacklimit


def messages(result: Any) -> list[str]:
    return [each.reason for each in result.failures]


class TestWhatAllOfThemDo:
    @pytest.mark.parametrize("kind", PROVIDERS)
    def test_each_is_stored_by_its_name_only(self, kind: type[ClarityProvider]) -> None:
        """Code stored in the state would go on running after it was changed here."""
        text = serialize_provider(kind())
        assert len(text) < 300
        assert text == serialize_provider(kind())

    @pytest.mark.parametrize("kind", PROVIDERS)
    def test_what_is_compared_and_only_that_is_a_change(self, kind: type[ClarityProvider]) -> None:
        provider = kind()
        olds = {key: "same" for key in provider.compared} | {"other": "old", "__provider": "x"}
        if provider.compared:
            assert provider.diff("id", olds, {**olds, "other": "new", "__provider": "y"}).changes is False
        for key in provider.compared:
            assert provider.diff("id", olds, {**olds, key: "changed"}).changes is True
            assert provider.diff("id", olds, {**olds, key: UNKNOWN}).changes is True

    def test_an_update_forgets_nothing_that_create_recorded(self) -> None:
        made = ClarityProvider().update("id", {"evidence": {"rows": 3}, "stage": "copy", "__provider": "x"}, {"stage": "cutover"})
        assert made.outs == {"evidence": {"rows": 3}, "stage": "cutover"}

    def test_an_unknown_value_is_never_the_same(self) -> None:
        assert same("a", "a")
        assert not same("a", UNKNOWN)
        assert not same(UNKNOWN, "a")
        assert without_provider({"__provider": "x", "a": 1}) == {"a": 1}

    def test_an_error_at_preview_shows_no_password(self) -> None:
        shown = failure("url", ConfigurationError("it said postgresql://admin:hunter2@127.0.0.1/postgres", remedy="correct it."))
        assert "hunter2" not in shown.reason
        assert "What to do: correct it." in shown.reason


class TestWhetherTheEngineLives:
    def test_it_is_asked_at_its_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as engine:
            engine.bind(("127.0.0.1", 0))
            engine.listen()
            monkeypatch.setattr(sys, "argv", ["plugin", f"127.0.0.1:{engine.getsockname()[1]}"])
            assert engine_lives()
        assert not engine_lives()

    def test_without_an_address_the_parent_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "argv", ["plugin"])
        monkeypatch.setattr(os, "getppid", lambda: 4711)
        assert engine_lives()
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert not engine_lives()


class TestClaim:
    NEWS = {  # noqa: RUF012 - read only
        "database": "clarity",
        "target": "127.0.0.1:5432",
        "roles": ["clarity_rw", "clarity_user"],
        "tables": ["public.a"],
        "tracking": "auto",
        "source": "postgres",
        "hyperdrive": "adopted c0ffee",
        "revision": 1,
        "existing": [],
        "imports": [],
        "adopt": False,
        "copied": False,
        "copying": False,
        "live": False,
    }

    def check(self, olds: dict[str, Any], **changed: Any) -> list[str]:
        return messages(ClaimProvider().check(olds, {**self.NEWS, **changed}))

    def test_what_somebody_else_made_is_refused_with_both_ways_out(self) -> None:
        taken = {"existing": ['database "clarity"'], "imports": ["pulumi import x clarity"]}
        [told] = self.check({}, **taken)
        assert 'database "clarity" exist(s) already' in told
        assert "adoptExisting true" in told
        assert "pulumi import x clarity" in told
        assert self.check({}, **taken, adopt=True) == []

    def test_what_this_stack_made_is_its_own(self) -> None:
        assert self.check(self.NEWS, existing=['database "clarity"']) == []

    def test_before_the_copy_everything_may_change_but_the_names_of_what_was_made(self) -> None:
        """Renamed, a database's grants look for it by its old name to take themselves back, and the stack can neither go on nor end."""
        assert self.check(self.NEWS, tables=["public.b"], source="other", hyperdrive="made as x", revision=2) == []
        for changed in ({"database": "other"}, {"roles": ["clarity_rw", "other"]}, {"target": "other:5432"}):
            [text] = self.check(self.NEWS, **changed)
            assert "changed after they were made. Nothing was changed." in text
            assert "`pulumi destroy` with the old ones" in text

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"tables": ["public.a", "public.b"]}, "tables changed"),
            ({"tracking": "none"}, "trackingTable changed"),
            ({"source": "elsewhere"}, "the source changed"),
            ({"tables": [], "source": "elsewhere"}, "tables, the source changed"),
        ],
    )
    def test_after_the_copy_what_was_copied_may_change_with_the_revision_only(self, changed: dict[str, Any], told: str) -> None:
        [text] = self.check(self.NEWS, copied=True, **changed)
        assert text.startswith(told)
        assert "raise copyRevision" in text
        assert self.check(self.NEWS, copied=True, revision=2, **changed) == []
        [text] = self.check(self.NEWS, copied=True, live=True, revision=2, **changed)
        assert "copyRevision" in text
        assert "lives in the new database now" in text

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"database": "other"}, "database changed"),
            ({"roles": ["x", "y"]}, "user or readWriteRole changed"),
            ({"target": "other:5432"}, "the target's server changed"),
            ({"hyperdrive": "made as second"}, "the Hyperdrive config changed"),
        ],
    )
    def test_after_the_copy_names_and_place_may_not_change(self, changed: dict[str, Any], told: str) -> None:
        for revision in (1, 2):
            [text] = self.check(self.NEWS, copied=True, revision=revision, **changed)
            assert text.startswith(told)
            assert ("go back to stage provision first" if "hyperdrive" in changed else "`pulumi destroy` with the old ones") in text

    def test_the_same_tables_in_another_order_are_no_change(self) -> None:
        two = {**self.NEWS, "tables": ["public.a", "public.b"]}
        assert self.check(two, copied=True, live=True, tables=["public.b", "public.a"]) == []
        assert self.check(two, copied=True, live=True, tables=["public.b", "public.b"]) != []

    def test_another_config_may_follow_where_the_adopted_one_was_deleted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else such a stack could go neither on nor back."""
        gone = {"c0ffee"}
        monkeypatch.setattr(Hyperdrive, "is_gone", lambda _, config: config in gone)
        account = {"masterDatabaseUrl": "postgresql://a:b@127.0.0.1/postgres", "envFile": "", "cloudflareAccountId": "a" * 32}
        provider = configured(ClaimProvider(), **account, cloudflareApiToken="token")
        news = {**self.NEWS, "stack": "dev", "copied": True, "live": True, "hyperdrive": "adopted another"}
        assert messages(provider.check(self.NEWS, news)) == []
        gone.clear()
        [text] = messages(provider.check(self.NEWS, news))
        assert text.startswith("the Hyperdrive config changed")

    ROTATION = {"second": "clarity_user_2", "reader": "", "passwordRevision": 2, "loginsInUse": ["clarity_user_2"]}  # noqa: RUF012 - read only

    def test_a_password_revision_cannot_be_set_back(self) -> None:
        [told] = self.check({**self.NEWS, **self.ROTATION}, **{**self.ROTATION, "passwordRevision": 1, "second": ""})
        assert told.startswith("passwordRevision is 2 and cannot be set back to 1")
        assert "What to do: set it to 2; 3 makes a new password" in told

    def test_a_password_that_is_in_use_is_not_replaced(self) -> None:
        olds = {**self.NEWS, **self.ROTATION}
        [told] = self.check(olds, **{**self.ROTATION, "passwordRevision": 4})
        assert 'would replace the password of "clarity_user_2", by which the application logs in now' in told
        [told] = self.check(olds, **{**self.ROTATION, "passwordRevision": 3, "loginsInUse": ["clarity_user"]})
        assert '"clarity_user", by which' in told
        assert self.check(olds, **{**self.ROTATION, "passwordRevision": 3}) == []
        first = {**self.ROTATION, "loginsInUse": ["clarity_user"]}
        assert self.check({**olds, "passwordRevision": 1, "second": ""}, **first, copied=True) == []

    def test_roles_of_later_are_refused_where_somebody_else_made_them(self) -> None:
        olds = {**self.NEWS, "second": "", "reader": "", "passwordRevision": 1}
        for key, setting in (("second", "secondUser"), ("reader", "readOnlyRole")):
            made = {"passwordRevision": 1, key: "x", "existing": ['role "x"']}
            [told] = self.check(olds, **made)
            assert told.startswith('role "x" exists already') and setting in told
            assert self.check(olds, **made, adopt=True) == []
            assert self.check({**olds, key: "x"}, **made) == []

    def test_the_second_login_keeps_its_name(self) -> None:
        [told] = self.check({**self.NEWS, **self.ROTATION}, **{**self.ROTATION, "second": "other"})
        assert told.startswith('secondUser is "clarity_user_2" since it was made')

    def test_the_reader_is_not_renamed_but_taken_away_and_made_anew(self) -> None:
        olds = {**self.NEWS, **self.ROTATION, "reader": "one"}
        [told] = self.check(olds, **{**self.ROTATION, "reader": "other"}, copied=True)
        assert told.startswith('readOnlyRole is "one" since it was made. Nothing was changed.')
        assert "pulumi config rm clarity-infra:readOnlyRole" in told
        for before, wanted in (("one", ""), ("", "other"), ("one", "one")):
            assert self.check({**olds, "reader": before}, **{**self.ROTATION, "reader": wanted}, copied=True) == []

    def test_a_copy_in_the_database_of_the_old_name_counts(self) -> None:
        """Nothing is found where the new name points, which says nothing of the old one."""
        [text] = self.check({**self.NEWS, "copying": True}, copied=False, database="other")
        assert text.startswith("database changed")
        [text] = self.check({**self.NEWS, "copying": False}, copied=False, database="other")
        assert text.startswith("database changed after they were made")

    def test_a_state_that_does_not_know_an_input_yet_is_no_change(self) -> None:
        olds = {key: value for key, value in self.NEWS.items() if key not in ("target", "copying")}
        assert self.check(olds, copied=True) == []


class TestWayBack:
    OLDS = {  # noqa: RUF012 - read only
        "applicationUrl": "old-url",
        "originPassword": "old-password",
        "envBefore": "{}",
        "hyperdrive": '{"caching": {"disabled": false}}',
        "copying": False,
        "switched": False,
    }

    def updated(self, **news: Any) -> dict[str, Any]:
        return dict(WayBackProvider().update("id", dict(self.OLDS), {**self.OLDS, **news}).outs or {})

    def test_a_rotated_password_is_taken_over_before_the_switch(self) -> None:
        made = self.updated(applicationUrl="new-url", originPassword="new-password", copying=True, hyperdrive="cache off by us")
        assert (made["applicationUrl"], made["originPassword"]) == ("new-url", "new-password")
        assert made["hyperdrive"] == self.OLDS["hyperdrive"]

    def test_after_the_switch_nothing_of_it_is_forgotten(self) -> None:
        news = {"applicationUrl": "ours", "originPassword": "", "envBefore": "ours", "hyperdrive": "ours", "switched": True, "copying": True}
        made = self.updated(**news)
        assert {key: made[key] for key in ("applicationUrl", "originPassword", "envBefore", "hyperdrive")} == {
            key: self.OLDS[key] for key in ("applicationUrl", "originPassword", "envBefore", "hyperdrive")
        }
        assert WayBackProvider().diff("id", dict(self.OLDS), {**self.OLDS, **news}).changes is False

    def test_after_the_switch_an_old_password_that_was_changed_is_taken_over_where_it_is_given(self) -> None:
        olds = {
            **self.OLDS,
            "hyperdrive": '{"origin": {"user": "app"}}',
            "envBefore": json.dumps(
                {"DATABASE_URL": "'postgresql://app:old%40@h:5432/postgres?sslmode=require'", "MASTER_DATABASE_URL": "kept"}
            ),
        }
        news = {**olds, "originPassword": "it's/new", "envBefore": "ours", "applicationUrl": "ours", "switched": True, "copying": True}
        assert WayBackProvider().diff("id", olds, news).changes
        made = dict(WayBackProvider().update("id", olds, news).outs or {})
        assert (made["originPassword"], made["applicationUrl"]) == ("it's/new", "old-url")
        assert json.loads(made["envBefore"]) == {
            "DATABASE_URL": "'postgresql://app:it%27s%2Fnew@h:5432/postgres?sslmode=require'",
            "MASTER_DATABASE_URL": "kept",
        }
        assert not WayBackProvider().diff("id", made, news).changes
        other = {**olds, "hyperdrive": '{"origin": {"user": "another"}}'}
        assert WayBackProvider().update("id", other, {**news, "hyperdrive": "ours"}).outs["envBefore"] == olds["envBefore"]  # type: ignore[index]

    @pytest.mark.parametrize("known", [{}, {"envFile": ""}, {"envFile": ".env"}], ids=["a state of before", "no file", "another file"])
    def test_a_file_that_is_named_after_the_switch_has_its_own_old_values_recorded(self, known: dict[str, Any]) -> None:
        olds = {**self.OLDS, **known}
        news = {**self.OLDS, "envFile": ".env.two", "envBefore": '{"DATABASE_URL": "two"}', "envSwitched": False, "switched": True}
        assert WayBackProvider().diff("id", olds, news).changes
        made = dict(WayBackProvider().update("id", olds, news).outs or {})
        assert made["envBefore"] == news["envBefore"]
        later = {**news, "envBefore": '{"DATABASE_URL": "ours"}', "envSwitched": True}
        assert not WayBackProvider().diff("id", made, later).changes
        changed_by_hand = {**later, "envSwitched": False}
        assert not WayBackProvider().diff("id", made, changed_by_hand).changes

    def test_a_file_that_was_moved_after_the_switch_keeps_what_was_recorded(self) -> None:
        olds = {**self.OLDS, "envFile": ".env", "envBefore": '{"DATABASE_URL": "old"}'}
        news = {**olds, "envFile": ".env.two", "envBefore": '{"DATABASE_URL": "ours"}', "envSwitched": True, "switched": True}
        assert dict(WayBackProvider().update("id", olds, news).outs or {})["envBefore"] == olds["envBefore"]

    def test_a_stack_that_never_saw_the_old_database_begins_nothing(self) -> None:
        result = WayBackProvider().check({}, {**self.OLDS, "switched": True, "applicationUrl": "postgresql://u:hunter2@h/d"})
        [told] = messages(result)
        assert "does not know what it used before" in told
        # The engine prints the value of the property that failed, even a secret's (seen).
        assert result.failures[0].property == "switched"
        assert messages(WayBackProvider().check(self.OLDS, {**self.OLDS, "switched": True})) == []
        # As the refusal says: pointed back by hand, the old values are there to be recorded, wherever the rows are.
        assert messages(WayBackProvider().check({}, {**self.OLDS, "switched": True, "pointed": False})) == []
        assert len(messages(WayBackProvider().check({}, {**self.OLDS, "switched": True, "pointed": True}))) == 1

    def test_what_a_preview_could_not_see_is_as_it_was_recorded(self) -> None:
        """Cloudflare did not answer: nothing is known, so nothing is said to change."""
        unseen = {key: UNKNOWN for key in ("hyperdrive", "originPassword", "originAccessSecret")}
        assert not WayBackProvider().diff("id", self.OLDS, {**self.OLDS, **unseen}).changes
        assert WayBackProvider().diff("id", self.OLDS, {**self.OLDS, **unseen, "applicationUrl": "rotated"}).changes


class TestEnvFile:
    TEXT = "A=1\r\nexport DATABASE_URL='postgresql://app:old@127.0.0.1:5432/postgres' # the application\r\nB=2\r\n"
    NEW = "postgresql://clarity_user:new@127.0.0.1:5432/clarity?sslmode=disable"

    @pytest.fixture
    def props(self, tmp_path: Path) -> dict[str, Any]:
        path = tmp_path / ".env"
        path.write_bytes(self.TEXT.encode())
        return {
            "path": str(path),
            "side": "source",
            "values": json.dumps({"DATABASE_URL": self.NEW}),
            "before": json.dumps({"DATABASE_URL": "'postgresql://app:old@127.0.0.1:5432/postgres'"}),
            "variables": ["DATABASE_URL"],
        }

    def test_there_and_back_leaves_the_same_bytes(self, props: dict[str, Any]) -> None:
        provider, path = EnvFileProvider(), Path(props["path"])
        provider.create(props)
        assert path.read_bytes() == self.TEXT.encode()
        provider.update("id", props, {**props, "side": "target"})
        assert path.read_bytes() == self.TEXT.replace("postgresql://app:old@127.0.0.1:5432/postgres", self.NEW).encode()
        assert path.stat().st_mode & 0o777 == 0o600
        provider.update("id", {**props, "side": "target"}, props)
        assert path.read_bytes() == self.TEXT.encode()

    def test_a_delete_puts_the_old_value_back(self, props: dict[str, Any]) -> None:
        provider = EnvFileProvider()
        provider.create({**props, "side": "target"})
        provider.delete("id", {**props, "side": "target"})
        assert Path(props["path"]).read_bytes() == self.TEXT.encode()

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_a_file_that_is_no_longer_named_goes_back_with_the_rest_or_is_told_of(
        self, props: dict[str, Any], capsys: pytest.CaptureFixture[str], side: str
    ) -> None:
        provider, path = EnvFileProvider(), Path(props["path"])
        switched = provider.create({**props, "side": "target"}).outs or {}
        text = path.read_bytes()
        provider.update("id", switched, {**props, "path": "", "side": side})
        told = f"{path} is no longer this stack's to change: DATABASE_URL in it name(s) the new database" in capsys.readouterr().err
        assert (path.read_bytes(), told) == ((text, True) if side == "target" else (self.TEXT.encode(), False))

    def test_a_variable_that_was_not_there_is_taken_out_again(self, props: dict[str, Any]) -> None:
        path, props = Path(props["path"]), {**props, "before": json.dumps({"DATABASE_URL": None}), "side": "target"}
        path.write_bytes(b"A=1")
        EnvFileProvider().create(props)
        assert self.NEW.encode() in path.read_bytes()
        EnvFileProvider().delete("id", props)
        assert path.read_bytes() == b"A=1"

    def test_a_value_somebody_changed_since_stays(self, props: dict[str, Any]) -> None:
        path = Path(props["path"])
        path.write_text("DATABASE_URL=postgresql://me:mine@127.0.0.1:5432/elsewhere\n")
        EnvFileProvider().delete("id", props)
        assert "elsewhere" in path.read_text()

    @pytest.mark.parametrize("place", ["clarity_user:a[secret]b@127.0.0.1:5432/clarity", "clarity_user:a[b@127.0.0.1/clarity", "u@h:54x32/c"])
    def test_one_that_cannot_be_read_stays_and_stops_no_delete(self, props: dict[str, Any], place: str) -> None:
        """Python's own words for it, in a traceback, would have what stands between the brackets."""
        path = Path(props["path"])
        path.write_text(f"DATABASE_URL=postgresql://{place}\n")
        env_file.check_restorable(props)
        EnvFileProvider().delete("id", props)
        assert place in path.read_text()

    def test_one_with_a_rotated_password_is_still_ours(self, props: dict[str, Any]) -> None:
        path = Path(props["path"])
        path.write_text(f"DATABASE_URL={self.NEW.replace(':new@', ':rotated@')}\n")
        EnvFileProvider().delete("id", props)
        assert "app:old@" in path.read_text()

    def test_a_file_that_is_gone_stops_no_delete(self, props: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
        """Destroyed from another machine, or another checkout: the stack must be able to end, and says what it leaves."""
        Path(props["path"]).unlink()
        env_file.check_restorable(props)
        EnvFileProvider().delete("id", props)
        assert "DATABASE_URL must be set back to the old database by hand" in capsys.readouterr().err

    def test_where_there_is_no_file_there_is_nothing_to_do(self, props: dict[str, Any]) -> None:
        props["path"] = ""
        for side in ("source", "target"):
            assert EnvFileProvider().create({**props, "side": side}).outs == {**props, "side": side}
        EnvFileProvider().delete("id", props)

    def test_a_file_that_is_gone_is_an_error_that_names_it(self, props: dict[str, Any]) -> None:
        Path(props["path"]).unlink()
        with pytest.raises(ConfigurationError, match="is not there"):
            EnvFileProvider().create({**props, "side": "target"})


def test_what_is_replaced_takes_nothing_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`pulumi up --replace` makes the new one, then deletes the old one, whose delete would be the way back. That both calls come to one
    process is shown in tests/end_to_end/test_lifecycle.py.
    """
    path = tmp_path / ".env"
    path.write_text("DATABASE_URL=postgresql://clarity_user:new@h/clarity\n")
    values, before = {"DATABASE_URL": "postgresql://clarity_user:new@h/clarity"}, {"DATABASE_URL": "old"}
    props = {"path": str(path), "side": "target", "values": json.dumps(values), "before": json.dumps(before), "variables": ["DATABASE_URL"]}
    monkeypatch.undo()
    monkeypatch.setattr(base, "_made", set())
    EnvFileProvider().create(props)
    monkeypatch.setattr(base, "_made", {*base._made, CutoverProvider, RollbackProvider, DatabaseSettingsProvider, SourceCleanupProvider})
    EnvFileProvider().delete("id", props)
    for kind in (CutoverProvider, RollbackProvider, DatabaseSettingsProvider, SourceCleanupProvider):
        kind().delete("id", {"stack": "dev", "active": True})  # none of them can reach a database here
    assert "clarity_user:new" in path.read_text()
    base._made.clear()
    EnvFileProvider().delete("id", props)
    assert path.read_text() == "DATABASE_URL=old\n"


class TestDatabaseSettings:
    @pytest.fixture
    def provider(self, server: Server, database: str) -> DatabaseSettingsProvider:
        made: DatabaseSettingsProvider = configured(DatabaseSettingsProvider(), masterDatabaseUrl=server.url(), database=database, envFile="")
        return made

    def settings_of(self, server: Server, database: str) -> list[str]:
        with server.connect() as admin:
            row = admin.execute(
                "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = %s", (database,)
            ).fetchone()
        return list(row[0]) if row else []

    def test_set_changed_and_reset(self, provider: DatabaseSettingsProvider, server: Server, database: str) -> None:
        props = {"stack": "dev", "database": database, "values": {"log_statement": "all"}}
        made = provider.create(props)
        assert (made.outs or {})["warnings"] == []
        assert self.settings_of(server, database) == ["log_statement=all"]
        provider.update(made.id, props, {**props, "values": {"log_duration": "on"}})
        assert self.settings_of(server, database) == ["log_duration=on"]
        provider.delete(made.id, {**props, "values": {"log_duration": "on"}})
        assert self.settings_of(server, database) == []

    def test_a_database_that_was_dropped_by_hand_stops_no_delete(self, provider: DatabaseSettingsProvider) -> None:
        provider.delete("id", {"stack": "dev", "database": "dropped by hand", "values": {"log_statement": "all"}})

    def test_the_servers_catalog_tells_what_was_dropped_in_whatever_language_it_speaks(
        self, server: Server, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = psycopg.connect

        def translated(conninfo: str, **options: Any) -> Any:
            wanted = conninfo_to_dict(conninfo)["dbname"]
            if wanted != "postgres":
                raise psycopg.OperationalError(f"FATAL:  {said % wanted}")
            return connect(conninfo, **options)

        monkeypatch.setattr(psycopg, "connect", translated)
        provider = configured(DatabaseSettingsProvider(), masterDatabaseUrl=server.url("postgres"), database=database, envFile="")
        props = {"stack": "dev", "values": {"log_statement": "all"}}
        said = 'Datenbank "%s" existiert nicht'
        provider.delete("id", {**props, "database": "dropped by hand"})
        said = 'role of the settings of "%s" does not exist'
        with pytest.raises(ConfigurationError, match="refused the login"):
            provider.delete("id", {**props, "database": database})

    def test_what_the_server_does_not_allow_is_a_warning_with_the_statement_to_ask_for(
        self, server: Server, database: str, new_role: Callable[..., str]
    ) -> None:
        admin_role = new_role("managed", "CREATEDB", password="managed-pw")
        with server.connect() as admin:
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), sql.Identifier(admin_role)))
        url = server.url("postgres", admin_role, "managed-pw")
        provider = configured(DatabaseSettingsProvider(), masterDatabaseUrl=url, database=database, envFile="")
        try:
            made = provider.create({"stack": "dev", "database": database, "values": {"log_statement": "all", "work_mem": "8MB"}})
            [warning] = (made.outs or {})["warnings"]
            assert f'GRANT SET ON PARAMETER "log_statement" TO "{admin_role}"' in warning
            assert self.settings_of(server, database) == ["work_mem=8MB"]
        finally:
            with server.connect() as admin:
                admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(database)))


class TestWhatDoesNothingUntilItsStage:
    """No server is reached: the URL leads nowhere."""

    NOWHERE = "postgresql://admin:pw@127.0.0.1:1/postgres"

    def test_a_copy(self) -> None:
        provider = configured(DatabaseCopyProvider(), masterDatabaseUrl=self.NOWHERE, envFile="")
        props = {"stack": "dev", "database": "clarity", "active": False, "revision": 1, "live": False}
        assert provider.create(props).outs["evidence"] == {}
        live = provider.update("id", {**props, "active": True, "evidence": {"rows": 1}}, {**props, "active": True, "revision": 2, "live": True})
        assert live.outs["evidence"] == {"rows": 1}

    def test_a_clean_up(self) -> None:
        provider = configured(SourceCleanupProvider(), masterDatabaseUrl=self.NOWHERE, envFile="")
        assert provider.create({"stack": "dev", "active": False}).outs["evidence"] == {}
        provider.delete("id", {"active": False})
        with pytest.raises(Refused, match="the only copy"):
            provider.delete("id", {"active": True})

    def test_a_cut_over(self) -> None:
        provider = configured(CutoverProvider(), masterDatabaseUrl=self.NOWHERE, envFile="")
        assert provider.create({"stack": "dev", "side": "source", "found": "source"}).outs["evidence"] == {}


class TestCutover:
    @pytest.mark.parametrize(
        ("was", "wanted", "found", "changes"),
        [
            ("source", "source", "source", False),
            ("target", "target", "target", False),
            ("source", "target", "source", True),
            ("target", "source", "target", True),
            ("target", "target", "between", True),
            ("target", "target", "source", True),
            ("source", "source", "unsettled", True),
            ("source", "source", "target", True),
        ],
    )
    def test_what_the_databases_say_counts_as_much_as_the_state(self, was: str, wanted: str, found: str, changes: bool) -> None:
        """A run that died between two steps is taken up again though Pulumi's state knows of nothing to do."""
        assert CutoverProvider().diff("id", {"side": was, "looked": "1"}, {"side": wanted, "found": found, "looked": "2"}).changes is changes

    @pytest.mark.parametrize(
        ("configured", "caching", "seconds"),
        [
            (None, '{"disabled": false, "max_age": 3600, "stale_while_revalidate": 15}', 3615),
            (None, '{"disabled": false}', 75),
            (None, '{"disabled": true}', 0),
            (None, None, 75),
            ("7", '{"disabled": false, "max_age": 3600}', 7),
        ],
    )
    def test_the_cache_is_off_for_as_long_as_it_may_hold_an_answer(self, configured: str | None, caching: str | None, seconds: float) -> None:
        """`caching` is what the config had before the move; a state from before that was recorded has none."""
        values = {"cacheDrainSeconds": configured, "cloudflareAccountId": "a" * 32, "cloudflareApiToken": "t"}
        origin = json.dumps({"host": "h", "port": 1, "database": "d", "user": "u", "password": "p"})
        props = {"account": "a" * 32, "hyperdriveName": "n", "oldOrigin": origin, "newOrigin": origin, "caching": caching}
        switch = switch_of(props, Settings.read("dev", values.get, environment={}))
        assert isinstance(switch, OriginSwitch)
        assert switch.cache_seconds == seconds

    def test_the_env_file_goes_with_the_switch_whichever_way(self, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Its own resource comes after the comparison of everything; until then the old tables would refuse who reads it."""
        path, old, new = tmp_path / ".env", "postgresql://app:old@h/postgres", "postgresql://clarity_user:new@h/clarity"
        path.write_text(f"DATABASE_URL={old}\n")
        file = {"path": str(path), "values": json.dumps({"DATABASE_URL": new}), "before": json.dumps({"DATABASE_URL": old})}
        props = {"stack": "dev", "side": "target", "found": "source", "variables": ["DATABASE_URL"], **file}
        provider = configured(CutoverProvider(), masterDatabaseUrl=server.url(), envFile="", reportFolder="")
        seen: list[str] = []

        def crossed(*_: Any, opened: Any = None, **__: Any) -> dict[str, Any]:
            seen.append(path.read_text())
            if opened:
                opened()
                seen.append(path.read_text())
            return {}

        monkeypatch.setattr(cutover, "cut_over", crossed)
        monkeypatch.setattr(cutover, "go_back", crossed)
        provider.update("id", {}, props)
        assert seen == [f"DATABASE_URL={old}\n", f"DATABASE_URL={new}\n"]
        provider.update("id", {}, {**props, "side": "source", "found": "target"})
        assert path.read_text() == f"DATABASE_URL={old}\n"
        path.write_text(f"DATABASE_URL={new}\n")
        monkeypatch.setattr(os, "access", lambda *_: False)
        provider.update("id", {}, props)  # the new side is live; the file's own resource says that it could not be written
        monkeypatch.setattr(cutover, "go_back", lambda *_, **__: pytest.fail("the way back was begun"))
        with pytest.raises(ConfigurationError, match="cannot be written"):
            provider.update("id", {}, {**props, "side": "source", "found": "target"})

    def test_where_hyperdrive_is_not_managed_nothing_is_switched(self) -> None:
        assert switch_of({"account": ""}, None).where() == "unmanaged"  # type: ignore[arg-type]


class TestRollback:
    def test_it_refuses_before_anything_is_changed_where_a_login_does_not_do(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("the way back was begun")

        monkeypatch.setattr(rollback, "undo", never)
        monkeypatch.setattr(rollback, "restore", never)
        url = server.url(password="rotated-since")
        provider = configured(RollbackProvider(), masterDatabaseUrl=url, envFile="")
        with pytest.raises(ClarityError, match="The way back cannot begin") as raised:
            provider.delete("id", {"stack": "dev", "account": ""})
        assert "Nothing was changed." in str(raised.value)
        assert "rotated-since" not in str(raised.value)

    @pytest.mark.parametrize("trouble", ["twice", "read-only"])
    def test_it_refuses_before_anything_is_changed_where_env_cannot_be_put_back(
        self, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trouble: str
    ) -> None:
        """Rows and origin brought back, with the application's `.env` on a side that takes no writes, would be half a way back."""
        monkeypatch.setattr(rollback, "undo", lambda *_, **__: pytest.fail("the way back was begun"))
        path, new = tmp_path / ".env", "postgresql://clarity_user:new@127.0.0.1:5432/clarity"
        path.write_text(f"DATABASE_URL={new}\n" * (2 if trouble == "twice" else 1))
        if trouble == "read-only":
            monkeypatch.setattr(os, "access", lambda *_: False)
        props = {
            **{"stack": "dev", "account": "", "path": str(path), "variables": ["DATABASE_URL"]},
            **{"before": json.dumps({"DATABASE_URL": "old"}), "values": json.dumps({"DATABASE_URL": new})},
        }
        with pytest.raises(ConfigurationError, match="twice" if trouble == "twice" else "cannot be written"):
            configured(RollbackProvider(), masterDatabaseUrl=server.url(), envFile="").delete("id", props)

    def test_its_create_does_nothing_but_remember(self) -> None:
        made = RollbackProvider().create({"oldOrigin": "o", "__provider": "x"})
        assert made.outs == {"oldOrigin": "o"}


class TestInTheEnginesOwnProcess:
    """The plugin as the engine starts it, over gRPC."""

    @pytest.fixture
    def plugin(self) -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "pulumi.dynamic", f"127.0.0.1:{free_port()}"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PULUMI_PROJECT": PROJECT},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield provider_pb2_grpc.ResourceProviderStub(channel)
        finally:
            process.terminate()
            process.wait(timeout=10)
            if process.stdout:
                process.stdout.close()

    def test_it_sets_what_it_is_told_and_its_error_is_plain(
        self, plugin: provider_pb2_grpc.ResourceProviderStub, server: Server, database: str
    ) -> None:
        configuration = {f"{PROJECT}:masterDatabaseUrl": server.url(), f"{PROJECT}:database": database, f"{PROJECT}:envFile": ""}
        plugin.Configure(provider_pb2.ConfigureRequest(args=encode(configuration)))
        props = {"__provider": serialize_provider(DatabaseSettingsProvider()), "stack": "dev", "database": database}
        checked = plugin.Check(provider_pb2.CheckRequest(news=encode({**props, "values": {"log_statement": "all"}})))
        assert not checked.failures
        made = plugin.Create(provider_pb2.CreateRequest(properties=checked.inputs))
        assert made.id == f"settings-{database}"
        assert decode(made.properties)["warnings"] == []
        with pytest.raises(grpc.RpcError) as raised:
            plugin.Create(provider_pb2.CreateRequest(properties=encode({**props, "values": {"log_statement": "everything"}})))
        told = raised.value.details()
        assert f'The server refused log_statement = everything for database "{database}"' in told
        assert "What to do: correct the value." in told
        assert 'File "' not in told
        assert server.superuser_password not in told

    def test_a_refusal_at_preview_is_a_failure_of_its_property(self, plugin: provider_pb2_grpc.ResourceProviderStub) -> None:
        plugin.Configure(provider_pb2.ConfigureRequest(args=encode({})))
        news = {**TestClaim.NEWS, "__provider": serialize_provider(ClaimProvider()), "existing": ['role "clarity_user"']}
        answer = plugin.Check(provider_pb2.CheckRequest(news=encode(news)))
        assert [each.property for each in answer.failures] == ["database"]
        assert 'role "clarity_user" exist(s) already' in answer.failures[0].reason
