"""What a reviewer reads, whatever the preview holds. Real previews are in `test_real_stages.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.review_markdown import LONGEST, drift, main, marker, review, unheard

ROOT = Path(__file__).parents[2]
PASSED = {"looked_at": 2, "failed": [], "violations": []}


def step(op: str, name: str = "copy", **more: Any) -> dict[str, Any]:
    return {"op": op, "urn": f"urn:pulumi:dev::clarity-infra::t::{name}", "newState": {"type": "pulumi:t:T", "inputs": {}}, **more}


def preview(*steps: dict[str, Any], said: str = "", severity: str = "info") -> dict[str, Any]:
    counted: dict[str, int] = {}
    for one in steps:
        counted[one["op"]] = counted.get(one["op"], 0) + 1
    return {"steps": list(steps), "changeSummary": counted, "diagnostics": [{"message": said, "severity": severity}] if said else []}


def test_the_first_line_is_the_stack_s_and_holds_nothing_that_ends_a_comment() -> None:
    assert marker("acme/clarity/dev") == "<!-- clarity-infra review of acme/clarity/dev -->"
    assert marker("a--> <script>") == "<!-- clarity-infra review of a--___script_ -->"
    assert review("dev", preview(), PASSED).split("\n")[0] == marker("dev")


@pytest.mark.parametrize(
    ("given", "guard", "verdict"),
    [
        (preview(step("same")), PASSED, "Nothing to change"),
        (preview(step("update")), PASSED, "Ready for review"),
        (preview(step("delete")), {"violations": [{"rule": "r", "urn": "u::n", "text": "t"}]}, "Stopped by the guard"),
        (preview(said="Stage cutover cannot be entered", severity="error"), PASSED, "The preview failed"),
        ({}, {"error": "This is not JSON"}, "The preview failed"),
    ],
)
def test_the_verdict_comes_first(given: dict[str, Any], guard: dict[str, Any], verdict: str) -> None:
    assert f"## {verdict}: stack `dev`" in review("dev", given, guard)


def test_a_plain_error_is_shown_without_the_language_host_s_word_after_it() -> None:
    after = {"message": "error: an unhandled error occurred: program exited with non-zero exit code: 1\n", "severity": "error"}
    failed = preview(said="error: Stage cutover cannot be entered", severity="error")
    text = review("dev", {**failed, "diagnostics": [*failed["diagnostics"], after]}, PASSED)
    assert "Stage cutover cannot be entered" in text
    assert "unhandled" not in text
    assert "## The preview failed" in review("dev", {**failed, "diagnostics": [after]}, PASSED)


def test_what_the_program_says_of_the_data_is_shown_as_it_is() -> None:
    text = review("dev", preview(step("update"), said="stage: copy -> cutover\n  public.app_config   3 rows\n"), PASSED)
    assert "```text\nstage: copy -> cutover\n  public.app_config   3 rows\n```" in text


@pytest.mark.parametrize("said", ["```\n# not a heading", "a ``````` b", "@everyone <img src=x> [a](b)"])
def test_nothing_that_is_said_becomes_markdown(said: str) -> None:
    lines = review("dev", preview(said=said), PASSED).split("\n")
    opened = next(line for line in lines if line.endswith("text") and line.startswith("```"))
    fence = opened.removesuffix("text")
    inside = lines[lines.index(opened) + 1 : lines.index(fence)]
    assert "\n".join(inside) == said


def test_a_name_or_reason_cannot_break_its_table() -> None:
    violation = {"rule": "r", "urn": "u::a|b`c", "text": "x | y\nz @team <b>"}
    text = review("dev", preview(step("delete", "a|b`c")), {"violations": [violation]})
    rows = [line for line in text.split("\n") if line.startswith("| ")]
    assert "| `r` | `a\\|b'c` | x \\| y z @&#8203;team &lt;b> |" in rows


def test_what_the_rules_let_go_is_named_all_the_same() -> None:
    gone = {**PASSED, "taken_away": [{"urn": "u::read-only", "text": 'the read-only role "clarity_ro" goes'}]}
    text = review("dev", preview(step("delete", "read-only")), gone)
    assert '### What is taken away\n\n```text\nthe read-only role "clarity_ro" goes\n```' in text
    assert "## Ready for review" in text
    assert "What is taken away" not in review("dev", preview(step("update")), PASSED)


def test_changes_are_named_without_a_value() -> None:
    old, new = {"inputs": {"stage": "copy", "kept": 1, "__x": 1}}, {"type": "t", "inputs": {"stage": "cutover", "kept": 1, "__x": 2}}
    text = review("dev", preview(step("update", oldState=old, newState=new), step("same", "other")), PASSED)
    assert "| `~` update | `copy` | `t` | `stage` |" in text
    assert "Resources: 1 same, 1 update" in text
    assert "cutover" not in text


def test_the_engine_s_remarks_on_plugins_are_left_out() -> None:
    noise = {"message": "warning: using pulumi-resource-random from $PATH at /opt/bin", "severity": "warning"}
    text = review("dev", {**preview(), "diagnostics": [noise, {"message": "the disk is small", "severity": "warning"}] * 2}, PASSED)
    assert "$PATH" not in text
    assert text.count("the disk is small") == 1


def test_it_is_never_longer_than_a_comment_may_be() -> None:
    text = review("dev", preview(*(step("update", f"resource-{n}") for n in range(500)), said="x" * 200_000), PASSED)
    assert len(text) <= LONGEST + 200
    assert "cut off" in text


@pytest.mark.parametrize("said", ["x\n" * 100_000, "```\n" + "x\n" * 100_000, "x" * 200_000])
def test_what_is_said_of_the_cut_is_not_inside_of_what_was_cut(said: str) -> None:
    lines = review("dev", preview(said=said), PASSED).split("\n")
    fences = [line.removesuffix("text") for line in lines if line.startswith("````" if "```" in said else "```")]
    assert len(fences) == 2 and fences[0] == fences[1]
    assert lines[-2].startswith("**The rest was cut off")


def test_a_failure_that_the_preview_does_not_tell_of_is_told() -> None:
    """As where its plan cannot be written, after all was previewed."""
    whole, said = preview(step("update"), said="stage: copy"), "warning: using pulumi-x from $PATH at /x\nerror: no space left on device\n"
    assert unheard(whole, said) == []
    assert unheard(preview(said="wrong", severity="error"), said, failed=True) == []
    told = unheard(whole, said, failed=True)
    text = review("dev", whole, PASSED, unheard=told)
    assert "## The preview failed" in text and "no space left on device" in text
    assert "stage: copy" in text and "keep every rule" in text


@pytest.mark.parametrize("script", ["preview", "drift"])
def test_an_engine_that_fails_at_the_end_of_a_good_preview_is_told(tmp_path: Path, script: str) -> None:
    engine = tmp_path / "bin" / "pulumi"
    engine.parent.mkdir()
    engine.write_text(f"#!/bin/sh\necho '{json.dumps(preview(step('same')))}'\necho 'error: no space left on device' >&2\nexit 1\n")
    engine.chmod(0o755)
    environment = {"PATH": f"{engine.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(
        [f"scripts/{script}", "nowhere", str(tmp_path / "review")], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    text = (tmp_path / "review" / "review.md").read_text()
    assert done.returncode == 1
    assert "## The preview failed" in text and "no space left on device" in text


def test_drift_is_what_changes_what_died_and_what_cannot_be_asked() -> None:
    assert drift(preview(step("same"), step("read"), step("refresh")), {"writes": "target", "leftovers": []}) == []
    assert drift(preview(step("update")), {}) == ["update copy"]
    found = drift(preview(), {"writes": "between", "leftovers": ["capture on public.app_config"]})
    assert found[0].startswith("neither side takes writes")
    assert found[1] == "left by a run that died: capture on public.app_config"
    assert drift(preview(), {"error": "no server answers"}) == ["the databases could not be asked: no server answers"]


class TestCommandLine:
    def files(self, folder: Path, given: Any, guard: Any = PASSED, status: Any = None) -> list[str]:
        for name, content in (("preview", given), ("guard", guard), ("status", status)):
            (folder / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
        drifted = ["--drift", str(folder / "status.json")] if status is not None else []
        return ["--stack", "dev", "--guard", str(folder / "guard.json"), *drifted, str(folder / "preview.json")]

    def test_it_prints_the_text(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(self.files(tmp_path, preview(step("update")))) == 0
        assert "Ready for review" in capsys.readouterr().out

    @pytest.mark.parametrize(("given", "code", "verdict"), [(preview(), 0, "No drift"), (preview(step("update")), 3, "Drift")])
    def test_drift_has_an_exit_status(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, Any], code: int, verdict: str
    ) -> None:
        assert main(self.files(tmp_path, given, status={"writes": "target"})) == code
        assert f"## {verdict}: stack `dev`" in capsys.readouterr().out

    def test_an_engine_that_said_nothing_is_a_preview_that_failed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(self.files(tmp_path, "", {"error": "This is not JSON"})) == 0
        text = capsys.readouterr().out
        assert "The preview failed" in text
        assert "This is not JSON" in text

    def test_why_there_is_no_preview_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        noise, reason = "warning: using pulumi-language-python from $PATH at /opt", "error: no stack named 'dev' found"
        (tmp_path / "said.txt").write_text(f"{noise}\n{reason}\nerror: open postgres://state:hunter2@db.example.com/state\n")
        arguments = ["--said", str(tmp_path / "said.txt")]
        assert main([*self.files(tmp_path, "", {"error": "This is not JSON"}), *arguments]) == 0
        text = capsys.readouterr().out
        assert f"### There is no preview\n\n```text\n{reason}\nerror: open postgres://***@db.example.com/state\n```" in text
        assert "This is not JSON" not in text
        assert main([*self.files(tmp_path, preview(step("update"))), *arguments]) == 0
        assert reason not in capsys.readouterr().out

    def test_without_the_guard_s_answer_there_is_no_review(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(self.files(tmp_path, preview(), "")) == 2
        assert "cannot be read" in capsys.readouterr().err

    @pytest.mark.parametrize(("given", "said"), [(preview(step("same")), "false"), (preview(step("create")), "true")])
    def test_whether_anything_changes(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, Any], said: str) -> None:
        (tmp_path / "preview.json").write_text(json.dumps(given))
        assert main(["--changes", str(tmp_path / "preview.json")]) == 0
        assert capsys.readouterr().out == f"{said}\n"
