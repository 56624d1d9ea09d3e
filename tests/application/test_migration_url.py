"""Which database drizzle-kit would migrate, and how MASTER_DATABASE_URL of `.env` is changed and put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clarity_infra import migration_url
from clarity_infra.errors import ConfigurationError
from clarity_infra.resources.base import ClarityProvider
from clarity_infra.resources.env_file import EnvFileProvider
from clarity_infra.settings import Settings

APPLICATION = "postgresql://app:old@db.example.com/postgres"
# Written as a person does: in quotes, with parameters that nobody else knows, and a comment.
MASTER = '"postgresql://admin:a%20b@db.example.com:25060/postgres?sslmode=verify-full&application_name=kit"'
TEXT = f"DATABASE_URL={APPLICATION}\r\nexport MASTER_DATABASE_URL={MASTER} # migrations\r\n"
NEW = MASTER.strip('"').replace("/postgres?", "/clarity?")


@pytest.fixture(autouse=True)
def each_call_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a provider deletes here is nothing that the same run has replaced."""
    monkeypatch.setattr(ClarityProvider, "remember_made", lambda _: None)


def settings(folder: Path, text: str = TEXT, **configured: Any) -> Settings:
    (folder / ".env").write_bytes(text.encode())
    values = {"sourceDatabase": "postgres", "switchMasterDatabaseUrl": "true", **configured}
    return Settings.read("test", values.get, environment={}, folder=folder)


class TestNewValue:
    def test_only_the_database_is_another(self, tmp_path: Path) -> None:
        asked = settings(tmp_path)
        assert migration_url.is_switched(asked)
        assert migration_url.switched_url(asked) == NEW

    def test_it_is_the_same_once_it_is_there(self, tmp_path: Path) -> None:
        assert migration_url.switched_url(settings(tmp_path, TEXT.replace("/postgres?", "/clarity?"))) == NEW

    def test_on_another_server_it_is_the_admin_s_url_there(self, tmp_path: Path) -> None:
        asked = settings(tmp_path, targetDatabaseUrl="postgresql://boss:c@other.example.com/postgres", database="clarity two")
        assert migration_url.switched_url(asked).startswith("postgresql://boss:c@other.example.com:5432/clarity%20two?")

    @pytest.mark.parametrize(("text", "env_file"), [(f"DATABASE_URL={APPLICATION}\n", ".env"), (TEXT, "")])
    def test_where_env_has_none_there_is_nothing_to_change(self, tmp_path: Path, text: str, env_file: str) -> None:
        asked = settings(tmp_path, text, envFile=env_file, masterDatabaseUrl="postgresql://admin:a@db.example.com/postgres")
        assert not migration_url.is_switched(asked)

    def test_one_that_cannot_be_read_is_an_error_without_it(self, tmp_path: Path) -> None:
        """The admin's URL is configured elsewhere, so that nobody has read this one before."""
        master = "postgresql://admin:a@db.example.com/postgres"
        asked = settings(tmp_path, TEXT.replace("a%20b", "a[secret]b"), masterDatabaseUrl=master)
        assert "still names the old database" in migration_url.next_step(asked)
        with pytest.raises(ConfigurationError, match=r"MASTER_DATABASE_URL .* is malformed") as raised:
            migration_url.switched_url(asked)
        assert "secret" not in str(raised.value)


class TestNextStep:
    def test_the_old_database_in_env_is_told_with_both_ways_out(self, tmp_path: Path) -> None:
        step = migration_url.next_step(settings(tmp_path, switchMasterDatabaseUrl="false"))
        assert step.startswith(
            "MASTER_DATABASE_URL in .env, which drizzle-kit reads, still names the old database: MASTER_DATABASE_URL=$DATABASE_URL npx"
        )
        assert "belongs to clarity_user" in step
        assert "sourceDatabase postgres" in step and "switchMasterDatabaseUrl true" in step
        assert "a%20b" not in step

    def test_the_new_one_leaves_nothing_to_do(self, tmp_path: Path) -> None:
        assert migration_url.next_step(settings(tmp_path, TEXT.replace("/postgres?", "/clarity?"))) == ""

    def test_an_env_without_it_leads_nobody_astray(self, tmp_path: Path) -> None:
        text = f"DATABASE_URL={APPLICATION}\n"
        assert migration_url.next_step(settings(tmp_path, text, masterDatabaseUrl="postgresql://admin:a@db.example.com/postgres")) == ""

    def test_without_an_env_it_is_told_for_the_machine_where_there_is_one(self, tmp_path: Path) -> None:
        asked = settings(tmp_path, envFile="", masterDatabaseUrl="postgresql://admin:a@db.example.com/postgres")
        assert 'does not name the old database but "clarity"' in migration_url.next_step(asked)
        assert "switchMasterDatabaseUrl" not in migration_url.next_step(asked)


class TestPutBack:
    @pytest.fixture
    def props(self, tmp_path: Path) -> dict[str, Any]:
        asked = settings(tmp_path)
        return {
            "path": str(tmp_path / ".env"),
            "side": "target",
            "values": json.dumps({"DATABASE_URL": "postgresql://clarity_user:new@db.example.com:5432/clarity", "MASTER_DATABASE_URL": NEW}),
            "before": json.dumps({"DATABASE_URL": APPLICATION, "MASTER_DATABASE_URL": MASTER}),
            "variables": ["DATABASE_URL", "MASTER_DATABASE_URL"],
            "stack": asked.stack,
        }

    def text(self, props: dict[str, Any]) -> str:
        return Path(props["path"]).read_bytes().decode()

    def test_there_and_back_leaves_the_same_bytes(self, props: dict[str, Any]) -> None:
        EnvFileProvider().create(props)
        assert f'export MASTER_DATABASE_URL="{NEW}" # migrations\r\n' in self.text(props)
        EnvFileProvider().delete("id", props)
        assert self.text(props) == TEXT

    def test_an_admin_password_changed_since_stays(self, props: dict[str, Any]) -> None:
        EnvFileProvider().create(props)
        Path(props["path"]).write_bytes(self.text(props).replace("a%20b", "rotated").encode())
        EnvFileProvider().update("id", props, {**props, "side": "source"})
        assert self.text(props) == TEXT.replace("a%20b", "rotated")

    def test_a_url_somebody_wrote_since_stays(self, props: dict[str, Any]) -> None:
        EnvFileProvider().create(props)
        Path(props["path"]).write_bytes(self.text(props).replace("/clarity?", "/elsewhere?").encode())
        EnvFileProvider().delete("id", props)
        assert "/elsewhere?" in self.text(props)

    def test_switched_off_later_it_is_put_back_and_the_other_stays(self, props: dict[str, Any]) -> None:
        EnvFileProvider().create(props)
        values = {key: value for key, value in json.loads(props["values"]).items() if key == "DATABASE_URL"}
        off = {**props, "values": json.dumps(values), "variables": ["DATABASE_URL"]}
        EnvFileProvider().update("id", props, off)
        assert f"MASTER_DATABASE_URL={MASTER}" in self.text(off)
        assert "clarity_user:new" in self.text(off)

    def test_a_stack_that_never_recorded_it_leaves_it_alone(self, props: dict[str, Any]) -> None:
        EnvFileProvider().create(props)
        EnvFileProvider().delete("id", {**props, "before": json.dumps({"DATABASE_URL": APPLICATION})})
        assert NEW in self.text(props)
        assert APPLICATION in self.text(props)
