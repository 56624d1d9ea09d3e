"""The HTML report of a move: true, complete, safe to open, and readable in a real browser."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from clarity_infra.__main__ import main
from clarity_infra.errors import Refused
from clarity_infra.report.account import Account, Event, Run, look, of_run
from clarity_infra.report.bars import bars
from clarity_infra.report.file import write
from clarity_infra.report.markup import Markup, tag
from clarity_infra.report.page import page
from clarity_infra.resources import reported as module
from clarity_infra.resources.reported import origins_of, reported
from sandbox.stack import PROJECT
from tests.report import browser
from tests.report.conftest import PASSWORD, ROWS, Environment

HOSTILE = """<script>alert(1)</script><img src=x onerror=alert(2)> "'&amp; </style></title> ]]>"""
ORIGINS = {
    "id": "config-id",
    "before": {"host": "db.example.com", "port": 5432, "user": "app", "database": "postgres"},
    "after": {"host": "db.example.com", "port": 5432, "user": "clarity_user", "database": "clarity"},
}
VOID = {"meta", "br", "img"}
BAR, DARK_BAR, WAITS, DARK_PAPER = (0x3B, 0x6E, 0xA8), (0x6E, 0xA3, 0xDC), (0xC2, 0x57, 0x1A), (0x1A, 0x21, 0x2B)


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed in its place. `elements` and `words` are what is on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All that can be read, in one line."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def moved(new_environment: Callable[[], Environment]) -> Environment:
    """An environment that was moved, with a write that was refused afterwards."""
    environment = new_environment()
    environment.provision()
    environment.copy()
    environment.cut_over()
    return environment


@pytest.fixture(scope="module")
def account(moved: Environment) -> Account:
    return look(moved.settings("cutover").move, run="cut-over", next_steps=["pulumi config set stage cleanup"], origins=ORIGINS)


@pytest.fixture(scope="module")
def file(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(account, tmp_path_factory.mktemp("browser"))


class TestWhatItTells:
    """On a move that was made."""

    def test_every_table_with_its_rows_and_digests(self, account: Account) -> None:
        text = Reader(page(account)).text
        for name, rows in (("app_config", 3), ("feature_requests", ROWS // 4), ("request_messages", ROWS - ROWS // 4 - 3)):
            assert re.search(rf"public\.{name} {rows} [\d.]+ [kM]?B -?\d+ {rows} -?\d+", text), text
        assert "0003_add_agent_support" in text

    def test_evidence_waits_and_origins(self, account: Account) -> None:
        text = Reader(page(account)).text
        assert re.search(r"Writers waited [\d.]+ m?s at most", text)
        assert re.search(r"[\d,]+ aspects of structure are equal", text)
        assert "every row of both sides was compared and is equal" in text
        assert "app at db.example.com:5432/postgres" in text
        assert "clarity_user at db.example.com:5432/clarity in effect" in text
        assert "pulumi config set stage cleanup" in text
        assert "old tables fenced: they refuse writes" in text

    def test_the_steps_are_drawn_one_after_another(self, account: Account) -> None:
        for evidence, first, last in ((account.copy, "structure", "verification"), (account.cut_over, "close target", "settle")):
            steps = {step["step"]: step for step in (evidence or {})["steps"]}
            assert steps[first]["from"] <= steps[last]["from"]
            assert all(step["seconds"] >= 0 for step in steps.values())
        rectangles = [attributes for name, attributes in Reader(page(account)).elements if name == "rect"]
        assert len(rectangles) == sum(len((evidence or {})["steps"]) for evidence in (account.copy, account.cut_over))
        assert any(attributes["class"] == "bar waits" for attributes in rectangles)

    def test_no_password_is_in_it(self, account: Account) -> None:
        assert PASSWORD not in page(account)

    def test_the_side_that_takes_writes(self, account: Account) -> None:
        assert "Writes are taken by the new database ." in Reader(page(account)).text

    def test_the_command_line_says_why_the_sides_differ_now(
        self, moved: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("OLD", moved.server.url(moved.source, moved.admin, PASSWORD))
        monkeypatch.setenv("NEW", moved.server.url(moved.target, moved.admin, PASSWORD))
        asked = ["verify", "--source", "OLD", "--target", "NEW", "--user", moved.user, "--quiet"]
        assert main([*asked, "--stack", "tried"]) == 1  # of the migration that the cut-over applied
        *differences, said = capsys.readouterr().out.splitlines()
        assert "agent_type" in "".join(differences)
        assert said.startswith("The application writes to the new database since 20")
        assert main([*asked, "--stack", "another"]) == 1
        assert "The application writes" not in capsys.readouterr().out

    def test_the_command_line_writes_it(self, moved: Environment, tmp_path: Path) -> None:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "clarity_infra", "report", "--stack", "tried", "--folder", str(tmp_path / "here")),
                *("--source", "OLD", "--target", "NEW", "--user", moved.user),
            ],
            cwd=PROJECT,
            env={
                **os.environ,
                "OLD": moved.server.url(moved.source, moved.admin, PASSWORD),
                "NEW": moved.server.url(moved.target, moved.admin, PASSWORD),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        [file] = (tmp_path / "here").iterdir()
        assert done.stdout.strip() == str(file)
        assert "every row of both sides was compared" in file.read_text()


class TestSafeToOpen:
    """Nothing that comes from a database, a configuration or an error can become markup, and the page loads nothing."""

    @pytest.fixture
    def hostile(self, account: Account) -> Account:
        def spoiled(value: Any) -> Any:
            if isinstance(value, str) and not re.fullmatch(r"[\d+:T.-]+", value):
                return HOSTILE
            if isinstance(value, Mapping):
                return {HOSTILE if key == "x" else key: spoiled(inner) for key, inner in value.items()}
            return [spoiled(inner) for inner in value] if isinstance(value, list | tuple) else value

        return dataclasses.replace(
            account,
            stack=HOSTILE,
            source=HOSTILE,
            target=HOSTILE,
            stage=HOSTILE,
            failed=HOSTILE,
            copy=spoiled(account.copy),
            cut_over=spoiled(account.cut_over),
            back={"carried": {HOSTILE: {"inserted": 1}}, "discarded": [HOSTILE]},
            cleaned={"dropped": [HOSTILE], "kept": [HOSTILE], "backup": HOSTILE},
            migrations=[HOSTILE],
            rehearsed={"pending": [HOSTILE], "seconds": 1.0},
            origins={"id": HOSTILE, "before": {"host": HOSTILE, "user": HOSTILE, "database": HOSTILE}},
            next_steps=[HOSTILE],
            history=[Event(account.at, HOSTILE, HOSTILE, HOSTILE)],
        )

    def test_no_text_becomes_markup(self, hostile: Account, account: Account) -> None:
        names = {name for name, _ in Reader(page(hostile)).elements}
        assert not names & {"script", "img", "iframe", "link", "object"}
        assert page(hostile).count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
        assert not [key for _, attributes in Reader(page(hostile)).elements for key in attributes if key.startswith("on")]

    def test_it_loads_nothing_and_forbids_itself_to(self, account: Account) -> None:
        text = page(account)
        assert not re.search(r"\b(src|href|action|srcset)\s*=|url\(|@import|https?://", text)
        [policy] = [attributes["content"] for name, attributes in Reader(text).elements if "Content-Security-Policy" in attributes.values()]
        assert policy == "default-src 'none'; style-src 'unsafe-inline'"

    def test_markup_stays_and_text_is_escaped(self) -> None:
        assert tag("p", "<b>", tag("i", "&"), Markup("<hr>"), title='"') == '<p title="&quot;">&lt;b&gt;<i>&amp;</i><hr></p>'

    def test_a_file_name_is_one_name(self, account: Account, tmp_path: Path) -> None:
        path = write(dataclasses.replace(account, stack="../org/dev"), tmp_path / "a" / "b")
        assert path.parent == tmp_path / "a" / "b"
        assert [file.name for file in path.parent.iterdir()] == [path.name]


class TestInABrowser:
    """Chromium, without a window."""

    def test_it_reads_what_was_written(self, file: Path) -> None:
        document = browser.shown(file)
        for text in ("public.feature_requests", "Where the time went", "writers wait", "Evidence"):
            assert text in document

    def test_the_bars_are_drawn_on_light_and_on_dark(self, file: Path) -> None:
        light, dark = browser.picture(file), browser.picture(file, dark=True)
        assert light[BAR] > 1000
        assert light[WAITS] > 10
        assert light[(255, 255, 255)] > light.total() / 3
        assert dark[DARK_BAR] > 1000
        assert dark[DARK_PAPER] > dark.total() / 3
        assert dark[(255, 255, 255)] < dark.total() / 100

    def test_a_narrow_window_still_shows_it(self, file: Path) -> None:
        assert browser.picture(file, width=500)[BAR] > 200


MOMENT = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize("run", ["copy", "cut-over", "roll-back", "clean-up", "restore", "destroy", "look"])
def test_a_report_of_almost_nothing_can_be_read(run: Run) -> None:
    text = Reader(page(Account(run=run, stack="dev", at=MOMENT, source="here", target="there"))).text
    assert "stack dev" in text
    assert "2026-11-23 12:00:00 UTC" in text


def test_a_failed_run_says_so_and_not_that_all_is_well() -> None:
    account = Account(run="cut-over", stack="dev", at=MOMENT, source="here", target="there", failed="No lock.\nNothing was changed.")
    text = Reader(page(account)).text
    assert "failed No lock. Nothing was changed." in text
    assert "the application is on the new database" not in text


def test_what_a_destroy_took_away_is_known_from_before() -> None:
    before = Account(run="destroy", stack="dev", at=MOMENT, source="here", target="there", copy={"tables": []}, refused=3)
    after = dataclasses.replace(before, copy=None, refused=0)
    told = of_run(before, after, {"carried": {"public.t": {"inserted": 2, "updated": 0, "deleted": 1}}})
    assert (told.copy, told.refused) == ({"tables": []}, 3)
    assert "public.t 2 0 1" in Reader(page(told)).text


def test_bars_of_steps_that_took_no_time_and_of_hours() -> None:
    for seconds in (0.0, 0.001, 0.9, 59.0, 90_000.0):
        drawn = bars([{"step": "only", "from": 0.0, "seconds": seconds}], title="t")
        assert 2 <= drawn.count("<line") <= 12 or seconds == 0.0
        assert "<rect" in drawn


def test_a_provider_s_process_does_not_import_what_only_the_program_needs() -> None:
    """The generated SDKs take seconds to import, and each `up` starts the providers' process anew."""
    modules = ("database_copy", "cutover", "source_cleanup", "rollback")
    code = "".join(f"import clarity_infra.resources.{name}\n" for name in modules)
    code += "import sys; print([name for name in ('pulumi_cloudflare', 'pulumi_postgresql', 'pulumi_random') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class TestTheRunThatWritesIt:
    """The context in which a provider does its work."""

    def test_done_and_failed_and_where_it_says_so(self, moved: Environment, capsys: pytest.CaptureFixture[str]) -> None:
        settings = moved.settings("cutover")
        with reported(settings, "cut-over", ORIGINS) as evidence:
            evidence["carried"] = 7
        assert evidence["report"].startswith(str(moved.folder / "reports" / "tried-"))
        assert "7 changes carried" in Reader(Path(evidence["report"]).read_text()).text
        with pytest.raises(Refused), reported(settings, "clean-up"):
            raise Refused("Too early.", unchanged="Nothing was dropped.", remedy="wait.")
        failed = [file.read_text() for file in (moved.folder / "reports").glob("*-clean-up.html")]
        assert len(failed) == 1
        assert "Too early." in failed[0]
        assert capsys.readouterr().err.count("report: ") == 2

    def test_a_folder_that_cannot_be_written_fails_nothing(self, moved: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text("")
        with reported(moved.settings("copy", reportFolder=str(tmp_path / "file")), "copy") as evidence:
            evidence["seconds"] = 1
        assert "the report could not be written" in capsys.readouterr().err
        assert "report" not in evidence

    def test_none_is_written_where_none_is_wanted(self, moved: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "look", lambda *_, **__: pytest.fail("nobody asked for it"))
        with reported(moved.settings("copy", reportFolder=""), "copy") as evidence:
            evidence["seconds"] = 1
        assert evidence == {"seconds": 1}

    def test_origins_are_shown_without_anything_secret(self) -> None:
        props = {
            "account": "a",
            "hyperdriveId": "h",
            "oldOrigin": '{"host": "o", "port": 1, "database": "d", "user": "u", "password": "pw-1", "access_client_secret": "pw-2"}',
            "newOrigin": "",
        }
        assert origins_of(props) == {"id": "h", "before": {"host": "o", "port": 1, "database": "d", "user": "u"}, "after": {}}
        assert origins_of({}) is None
