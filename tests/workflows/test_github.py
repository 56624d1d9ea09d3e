"""What the workflows ask of GitHub, of a small server that keeps comments, issues and artifacts as GitHub's API shows them."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.github import GitHub, GitHubError, Plan, main, plan_name

TOKEN = "a-token"
BOT = {"login": "github-actions[bot]", "type": "Bot"}
PERSON = {"login": "someone", "type": "User"}
HEAD, MERGE = "1" * 40, "2" * 40


class FakeGitHub(http.server.ThreadingHTTPServer):
    """One repository; lists come in pages of `page` entries at most, whatever is asked for up to 100."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments: list[dict[str, Any]] = []
        self.issues: list[dict[str, Any]] = []
        self.pulls: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.refuses: int = 0
        self.calls: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> Any:
        made = {"id": len(self.comments) + 1, "html_url": f"{self.url}/shown", "user": BOT}
        if match := re.fullmatch(r"/issues/(\d+)/comments", path):
            if method == "GET":
                return self._page([comment for comment in self.comments if comment["on"] == int(match[1])], query)
            self.comments.append({**made, **body, "on": int(match[1])})
            return self.comments[-1]
        if match := re.fullmatch(r"/issues/comments/(\d+)", path):
            (found,) = [comment for comment in self.comments if comment["id"] == int(match[1])]
            return found.update(body) or found
        if path == "/issues" and method == "GET":
            return self._page([issue for issue in self.issues if issue["state"] == query["state"][0]], query)
        if path == "/issues":
            self.issues.append({**made, "number": len(self.issues) + 1, "state": "open", **body})
            return self.issues[-1]
        if match := re.fullmatch(r"/issues/(\d+)", path):
            (found,) = [issue for issue in self.issues if issue["number"] == int(match[1])]
            return found.update(body) or found
        if match := re.fullmatch(r"/commits/(\w+)/pulls", path):
            return self._page(self.pulls.get(match[1], []), query)
        if path == "/actions/artifacts":
            named = [artifact for artifact in self.artifacts if artifact["name"] == query["name"][0]]
            return {"total_count": len(named), "artifacts": self._page(named, query)}
        raise KeyError(path)

    @staticmethod
    def _page(entries: list[Any], query: dict[str, list[str]]) -> list[Any]:
        size, page = int(query["per_page"][0]), int(query["page"][0])
        return entries[size * (page - 1) : size * page]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeGitHub

    def _serve(self) -> None:
        url = urlsplit(self.path)
        self.server.calls.append(f"{self.command} {url.path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        code, answer = 200, None
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            code = 401
        elif self.server.refuses:
            code = self.server.refuses
        else:
            answer = self.server.answer(self.command, url.path.removeprefix("/repos/owner/name"), parse_qs(url.query), body)
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    do_GET = do_POST = do_PATCH = _serve

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def fake() -> Iterator[FakeGitHub]:
    with FakeGitHub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def github(fake: FakeGitHub) -> GitHub:
    return GitHub("owner/name", TOKEN, fake.url)


@pytest.fixture
def command(fake: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line with the environment of a job."""
    for name, value in (("GITHUB_REPOSITORY", "owner/name"), ("GITHUB_TOKEN", TOKEN), ("GITHUB_API_URL", fake.url)):
        monkeypatch.setenv(name, value)
    return lambda *arguments: main(list(map(str, arguments)))


def artifact(name: str, run: int, **more: Any) -> dict[str, Any]:
    of_run = {"id": run, "head_sha": HEAD, "repository_id": 1, "head_repository_id": 1, **more.pop("workflow_run", {})}
    return {"name": name, "expired": False, "created_at": f"2026-11-{run:02}T00:00:00Z", "workflow_run": of_run, **more}


class TestComment:
    def test_the_same_one_is_edited_run_after_run(self, fake: FakeGitHub, github: GitHub) -> None:
        for text in ("first", "second", "third"):
            github.comment(7, f"<!-- review of dev -->\n{text}")
        assert [comment["body"] for comment in fake.comments] == ["<!-- review of dev -->\nthird"]

    def test_each_stack_and_each_pull_request_has_its_own(self, fake: FakeGitHub, github: GitHub) -> None:
        github.comment(7, "<!-- review of dev -->\n1")
        github.comment(7, "<!-- review of prod -->\n2")
        github.comment(8, "<!-- review of dev -->\n3")
        assert [(comment["on"], comment["body"][-1]) for comment in fake.comments] == [(7, "1"), (7, "2"), (8, "3")]

    def test_it_is_found_behind_any_number_of_others(self, fake: FakeGitHub, github: GitHub) -> None:
        fake.comments = [{"id": 1000 + n, "on": 7, "body": "talk", "user": PERSON, "html_url": ""} for n in range(250)]
        fake.comments.append({"id": 5, "on": 7, "body": "<!-- review of dev -->\nold", "user": BOT, "html_url": ""})
        github.comment(7, "<!-- review of dev -->\nnew")
        assert len(fake.comments) == 251
        assert fake.comments[-1]["body"].endswith("new")

    def test_what_a_person_wrote_is_not_edited(self, fake: FakeGitHub, github: GitHub) -> None:
        fake.comments = [{"id": 5, "on": 7, "body": "<!-- review of dev -->\nquoted", "user": PERSON, "html_url": ""}]
        github.comment(7, "<!-- review of dev -->\nnew")
        assert [comment["body"][-6:] for comment in fake.comments] == ["quoted", "->\nnew"]

    def test_by_its_command(self, fake: FakeGitHub, command: Callable[..., int], tmp_path: Path) -> None:
        (tmp_path / "review.md").write_text("<!-- x -->\ntext")
        assert command("comment", 7, tmp_path / "review.md") == 0
        assert fake.comments[0]["body"] == "<!-- x -->\ntext"


class TestIssue:
    def test_one_stays_open_as_long_as_there_is_drift(self, fake: FakeGitHub, github: GitHub) -> None:
        github.issue("Drift of stack dev", "first night")
        github.issue("Drift of stack dev", "second night")
        github.issue("Drift of stack prod", "another")
        assert [(issue["title"], issue["body"], issue["state"]) for issue in fake.issues] == [
            ("Drift of stack dev", "second night", "open"),
            ("Drift of stack prod", "another", "open"),
        ]
        github.close_issue("Drift of stack dev")
        assert [issue["state"] for issue in fake.issues] == ["closed", "open"]
        assert github.close_issue("Drift of stack dev") == ""
        github.issue("Drift of stack dev", "later")
        assert len(fake.issues) == 3

    def test_pull_requests_and_what_people_opened_are_left_alone(self, fake: FakeGitHub, github: GitHub) -> None:
        common = {"title": "Drift of stack dev", "state": "open", "html_url": "", "body": ""}
        fake.issues = [{**common, "number": 1, "user": PERSON}, {**common, "number": 2, "user": BOT, "pull_request": {}}]
        github.issue("Drift of stack dev", "text")
        assert [issue["body"] for issue in fake.issues] == ["", "", "text"]


class TestReviewedPlan:
    @pytest.fixture(autouse=True)
    def _merged(self, fake: FakeGitHub) -> None:
        fake.pulls[MERGE] = [{"number": 7, "merge_commit_sha": MERGE, "merged_at": "2026-11-23T00:00:00Z", "head": {"sha": HEAD}}]

    def test_the_newest_of_the_merged_commit_is_taken(self, fake: FakeGitHub, github: GitHub) -> None:
        name = plan_name("dev", HEAD)
        fake.artifacts = [artifact(name, 3), artifact(name, 9), artifact(name, 5), artifact(plan_name("prod", HEAD), 20)]
        assert github.reviewed_plan("dev", MERGE) == Plan(7, 9, name)

    @pytest.mark.parametrize(
        "more",
        [
            {"expired": True},
            {"workflow_run": {"head_sha": "3" * 40}},
            {"workflow_run": {"head_repository_id": 2}},
        ],
        ids=["expired", "of another commit", "of a fork"],
    )
    def test_no_other_will_do(self, fake: FakeGitHub, github: GitHub, more: dict[str, Any]) -> None:
        fake.artifacts = [artifact(plan_name("dev", HEAD), 3, **more)]
        with pytest.raises(GitHubError, match=r"Pull request 7 has no saved plan for stack dev.*Start the workflow `up` by hand"):
            github.reviewed_plan("dev", MERGE)

    def test_a_commit_that_no_pull_request_merged_has_none(self, fake: FakeGitHub, github: GitHub) -> None:
        fake.pulls["4" * 40] = [{"number": 8, "merge_commit_sha": MERGE, "merged_at": "2026", "head": {"sha": HEAD}}]
        for commit in ("4" * 40, "5" * 40):
            with pytest.raises(GitHubError, match="no plan was reviewed"):
                github.reviewed_plan("dev", commit)

    def test_its_command_prints_what_a_job_writes_into_its_outputs(
        self, fake: FakeGitHub, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        fake.artifacts = [artifact(plan_name("dev", HEAD), 3)]
        assert command("reviewed-plan", "--stack", "dev", MERGE) == 0
        assert capsys.readouterr().out == f"number=7\nrun-id=3\nname=plan-dev-{HEAD}\n"

    def test_a_name_holds_nothing_that_an_artifact_s_may_not(self) -> None:
        assert plan_name("acme/clarity:prod", HEAD) == f"plan-acme_2Fclarity_3Aprod-{HEAD}"
        assert not re.search(r'["<>:|*?\r\n\\/]', plan_name('a"<>:|*?\\/b', HEAD))


class TestRefusals:
    @pytest.mark.parametrize(("code", "said"), [(403, "permission"), (404, "permission"), (500, "with 500")])
    def test_what_github_refuses_is_said_in_a_line(
        self, fake: FakeGitHub, command: Callable[..., int], capsys: pytest.CaptureFixture[str], code: int, said: str
    ) -> None:
        fake.refuses = code
        assert command("issue", "--title", "x", "--close") == 1
        error = capsys.readouterr().err
        assert error.startswith("::error::GitHub answered GET /issues with ")
        assert said in error
        assert TOKEN not in error

    def test_nobody_there(self) -> None:
        with pytest.raises(GitHubError, match="did not answer GET /issues"):
            GitHub("owner/name", TOKEN, "http://127.0.0.1:9").close_issue("x")

    def test_without_a_job_s_environment(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.delenv("GITHUB_TOKEN", raising=False)
        assert main(["issue", "--title", "x", "--close"]) == 1
        assert "GITHUB_TOKEN must be set" in capsys.readouterr().err
