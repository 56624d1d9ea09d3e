"""The application's Wrangler file: one ID changes and nothing else, or nothing does and the reason is told."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.dynamic import Config, ConfigureRequest

from clarity_infra.errors import ConfigurationError
from clarity_infra.resources import wrangler_file
from clarity_infra.resources.wrangler_file import WranglerFileProvider
from clarity_infra.settings import PROJECT
from clarity_infra.wrangler import WranglerFile

OLD, NEW, OTHER = "0" * 32, "1" * 32, "2" * 32

JSONC = f"""\
// "id": "{OLD}" in a comment is none.
{{
\t"$schema": "node_modules/wrangler/config-schema.json",
\t"name": "clarity", /* "hyperdrive": [{{ "binding": "HYPERDRIVE", "id": "{OLD}" }}] */
\t"vars": {{ "COPY_OF_ID": "{OLD}", "URL": "https://example.com/ // no comment", "TEXT": "a \\"quoted\\" word" }},
\t"hyperdrive": [
\t\t{{ "binding": "OTHER", "id": "{OTHER}" }},
\t\t{{
\t\t\t"id" : "{OLD}", // {OLD}
\t\t\t"binding": "HYPERDRIVE",
\t\t\t"localConnectionString": "postgres://localhost/x",
\t\t}},
\t],
\t"kv_namespaces": [{{ "binding": "HYPERDRIVE", "id": "{OLD}" }}]
}}
"""
TOML = f"""\
name = "clarity" # id = "{OLD}"
[vars]
COPY_OF_ID = "{OLD}"

[[hyperdrive]]
binding = "OTHER"
id = "{OTHER}"

[[hyperdrive]] # the application's
id    = '{OLD}'   # {OLD}
binding = "HYPERDRIVE"

[[env.staging.hyperdrive]]
binding = "STAGED"
id = "{OLD}"
"""
IN_JSONC = f'"id" : "{OLD}"'
IN_TOML = f"id    = '{OLD}'"


def written(tmp_path: Path, text: str, name: str = "wrangler.jsonc") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def refusal(path: Path, binding: str = "HYPERDRIVE", environment: str = "") -> str:
    """What is said of a file that cannot be used; it is as it was."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigurationError) as raised:
        WranglerFile.read(path, binding, environment).with_id(NEW)
    assert "wranglerFile: " in str(raised.value)
    assert "What to do: " in str(raised.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    return str(raised.value)


class TestWhatIsChanged:
    @pytest.mark.parametrize(
        ("name", "text", "place"),
        [
            ("wrangler.jsonc", JSONC, IN_JSONC),
            ("wrangler.json", json.dumps({"hyperdrive": [{"binding": "HYPERDRIVE", "id": OLD}]}), f'"id": "{OLD}"'),
            ("wrangler.jsonc", JSONC.replace("\n", "\r\n"), IN_JSONC),
            ("wrangler.jsonc", "\N{BYTE ORDER MARK}" + JSONC, IN_JSONC),
            ("wrangler.toml", "\N{BYTE ORDER MARK}" + TOML, IN_TOML),
            ("wrangler.jsonc", JSONC.replace("clarity", "Klarheit für alle \N{SNOWMAN}"), IN_JSONC),
            ("wrangler.toml", TOML, IN_TOML),
            ("wrangler.toml", f'hyperdrive = [{{ binding = "HYPERDRIVE", id = "{OLD}" }}]', f'id = "{OLD}"'),
        ],
    )
    def test_the_one_id_and_no_other_byte(self, tmp_path: Path, name: str, text: str, place: str) -> None:
        assert text.count(place) == 1
        path = written(tmp_path, text, name)
        file = WranglerFile.read(path, "HYPERDRIVE")
        assert file.id == OLD
        file.with_id(NEW).write()
        assert path.read_bytes() == text.replace(place, place.replace(OLD, NEW)).encode()
        WranglerFile.read(path, "HYPERDRIVE").with_id(OLD).write()
        assert path.read_bytes() == text.encode()

    @pytest.mark.parametrize(("environment", "at"), [("top-level", 0), ("staging", 1), ("production", 2)])
    def test_of_several_sections_the_one_that_is_named(self, tmp_path: Path, environment: str, at: int) -> None:
        """The same binding with the same ID everywhere: only the place tells them apart."""
        bound = {"hyperdrive": [{"binding": "HYPERDRIVE", "id": OLD}]}
        text = json.dumps({**bound, "env": {"staging": bound, "production": bound, "test": {}}}, indent=2)
        path = written(tmp_path, text)
        WranglerFile.read(path, "HYPERDRIVE", environment).with_id(NEW).write()
        found = json.loads(path.read_text())
        sections = [found, found["env"]["staging"], found["env"]["production"]]
        assert [section["hyperdrive"][0]["id"] for section in sections] == [NEW if number == at else OLD for number in range(3)]

    def test_the_only_section_that_has_the_binding_need_not_be_named(self, tmp_path: Path) -> None:
        path = written(tmp_path, TOML, "wrangler.toml")
        file = WranglerFile.read(path, "STAGED")
        assert file.label() == "binding STAGED in env.staging of wrangler.toml"
        file.with_id(NEW).write()
        found = tomllib.loads(path.read_text())
        assert found["env"]["staging"]["hyperdrive"][0]["id"] == NEW
        assert found["hyperdrive"] == tomllib.loads(TOML)["hyperdrive"]

    @given(st.text(st.sampled_from("/*\"\\,]} \n\r\t'0{["), max_size=40))
    def test_whatever_stands_in_a_string_is_no_comment(self, text: str) -> None:
        value = json.dumps({"x": text, "hyperdrive": [{"binding": "H", "id": OLD, "y": text}]})
        changed = WranglerFile(Path("wrangler.jsonc"), "H", "top-level", value).with_id(NEW)
        assert changed.text == value.replace(f'"id": "{OLD}"', f'"id": "{NEW}"')

    def test_permissions_stay_and_a_link_stays_one(self, tmp_path: Path) -> None:
        path = written(tmp_path, JSONC)
        path.chmod(0o664)
        link = tmp_path / "link.jsonc"
        link.symlink_to(path)
        WranglerFile.read(link, "HYPERDRIVE").with_id(NEW).write()
        assert link.is_symlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
        assert WranglerFile.read(path, "HYPERDRIVE").id == NEW
        assert sorted(os.listdir(tmp_path)) == ["link.jsonc", "wrangler.jsonc"]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"name": "x"}', "has no Hyperdrive binding HYPERDRIVE"),
            ('{"hyperdrive": "none"}', "has no Hyperdrive binding HYPERDRIVE"),
            ('{"hyperdrive": [{"binding": "HYPERDRIVE"}]}', "binding HYPERDRIVE of wrangler.jsonc has no id"),
            ('{"hyperdrive": [{"binding": "HYPERDRIVE", "id": ""}]}', "has no id"),
            ('{"hyperdrive": [{"binding": "HYPERDRIVE", "id": 7}]}', "has no id"),
            ('{"hyperdrive": [{"binding": "HYPERDRIVE", "id": "a"}, {"binding": "HYPERDRIVE", "id": "b"}]}', "2 times in the top level"),
            ('{"hyperdrive": [{"binding": "HYPERDRIVE", "id": "a", "id": "b"}]}', "id stand(s) twice in one object"),
            ('{"hyperdrive": [{"binding": "HYPERDRIVE", "id": "\\u0061bc"}]}', "written in a form that cannot be edited"),
            ('{"hyperdrive": [', "wrangler.jsonc cannot be understood"),
            ("{ /* no end", "cannot be understood"),
            ("[]", "holds no object"),
        ],
    )
    def test_a_file_in_which_the_place_is_not_certain(self, tmp_path: Path, text: str, message: str) -> None:
        assert message in refusal(written(tmp_path, text))

    def test_several_sections_and_none_named(self, tmp_path: Path) -> None:
        bound = {"hyperdrive": [{"binding": "HYPERDRIVE", "id": OLD}]}
        path = written(tmp_path, json.dumps({**bound, "env": {"staging": bound}}))
        text = refusal(path)
        assert "in several places: env.staging, the top level" in text
        assert "wranglerEnvironment" in text
        assert "has no section env.production; it has staging" in refusal(path, environment="production")
        assert "no Hyperdrive binding DATABASE in env.staging" in refusal(path, "DATABASE", "staging")

    def test_a_file_that_is_not_there_or_no_text(self, tmp_path: Path) -> None:
        assert "cannot be read (No such file or directory)" in refusal(tmp_path / "wrangler.jsonc")
        assert "cannot be read (Is a directory)" in refusal(tmp_path)
        path = tmp_path / "wrangler.toml"
        path.write_bytes(b"\xff\xfe")
        assert "not UTF-8" in refusal(path)

    def test_a_file_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = written(tmp_path, JSONC)
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write whatever the mode says
        assert "cannot be written" in refusal(path)


class TestAsAResource:
    @pytest.fixture
    def provider(self, monkeypatch: pytest.MonkeyPatch) -> WranglerFileProvider:
        """Of a stack that is on the old database when something is deleted, as it is after `Rollback`'s delete."""
        monkeypatch.setattr(wrangler_file, "_source_is_live", lambda _: True)
        provider = WranglerFileProvider()
        provider.configure(ConfigureRequest(config=Config(raw_config={}, project_name=PROJECT)))
        return provider

    def props(self, path: Path, side: str, **other: str) -> dict[str, str]:
        return {"path": str(path), "binding": "HYPERDRIVE", "environment": "", "side": side, "hyperdriveId": NEW, "stack": "dev", **other}

    def test_there_and_back_leaves_the_same_bytes(self, tmp_path: Path, provider: WranglerFileProvider) -> None:
        path = written(tmp_path, JSONC)
        made = provider.create(self.props(path, "source")).outs or {}
        assert (made["before"], path.read_text()) == (OLD, JSONC)
        gone = provider.update("id", made, self.props(path, "target")).outs or {}
        assert gone["before"] == OLD
        assert path.read_text() == JSONC.replace(IN_JSONC, f'"id" : "{NEW}"')
        back = provider.update("id", gone, self.props(path, "source")).outs or {}
        assert path.read_text() == JSONC
        provider.update("id", back, self.props(path, "target"))
        provider.delete("id", gone)
        assert path.read_text() == JSONC

    def test_an_id_that_somebody_bound_since_stays(self, tmp_path: Path, provider: WranglerFileProvider) -> None:
        path = written(tmp_path, JSONC)
        made = provider.create(self.props(path, "target")).outs or {}
        WranglerFile.read(path, "HYPERDRIVE").with_id("3" * 32).write()
        provider.delete("id", made)
        assert WranglerFile.read(path, "HYPERDRIVE").id == "3" * 32

    def test_another_file_gets_the_id_and_the_first_one_its_own_back(self, tmp_path: Path, provider: WranglerFileProvider) -> None:
        path = written(tmp_path, JSONC)
        other = written(tmp_path, TOML, "wrangler.toml")
        made = provider.create(self.props(path, "target")).outs or {}
        moved = provider.update("id", made, self.props(other, "target")).outs or {}
        assert path.read_text() == JSONC
        assert WranglerFile.read(other, "HYPERDRIVE").id == NEW
        provider.delete("id", moved)
        assert other.read_text() == TOML

    def test_where_the_new_database_is_live_the_second_config_stays_bound(
        self, tmp_path: Path, provider: WranglerFileProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file was taken out of the configuration; the old config leads to tables that take no writes."""
        path = written(tmp_path, JSONC)
        made = provider.create(self.props(path, "target")).outs or {}
        monkeypatch.setattr(wrangler_file, "_source_is_live", lambda _: False)
        provider.delete("id", made)
        assert WranglerFile.read(path, "HYPERDRIVE").id == NEW
