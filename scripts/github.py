"""What do the workflows ask of GitHub? One comment kept up to date, one issue for drift, and the plan that was reviewed.

    python scripts/github.py comment NUMBER review.md             writes or edits the comment that begins with the same line
    python scripts/github.py issue --title TITLE drift.md         opens the issue, or brings the open one up to date
    python scripts/github.py issue --title TITLE --close          closes it where it is open
    python scripts/github.py plan-name --stack STACK COMMIT       prints the name of the artifact that holds a commit's plan
    python scripts/github.py in-a-name --stack STACK              prints the stack's name as an artifact's may hold it
    python scripts/github.py reviewed-plan --stack STACK COMMIT   prints `number=`, `run-id=` and `name=` of the plan's artifact

Reads GITHUB_API_URL, GITHUB_REPOSITORY and GITHUB_TOKEN, as GitHub sets them for a job. Exit status 1 where GitHub refuses, or where
there is no reviewed plan; the message says what to do. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

# https://docs.github.com/en/rest/about-the-rest-api/api-versions
_API_VERSION = "2022-11-28"
_PAGE = 100
_PATIENCE = 30


class GitHubError(Exception):
    """GitHub refused, did not answer, or has not what was asked for; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A plan that was reviewed in a pull request: the artifact's name and the run that holds it."""

    number: int
    run_id: int
    name: str


class GitHub:
    """The REST API of one repository. Every method raises GitHubError."""

    def __init__(self, repository: str, token: str, url: str = "https://api.github.com") -> None:
        self._base = f"{url.rstrip('/')}/repos/{repository}"
        self._token = token

    def comment(self, number: int, body: str) -> str:
        """Writes a comment on a pull request, or edits the one a workflow wrote that begins with the same line. Gives its address."""
        first = body.split("\n", 1)[0]
        for found in self._all(f"/issues/{number}/comments"):
            if _by_a_workflow(found) and str(found["body"]).split("\n", 1)[0].strip() == first:
                return str(self._ask("PATCH", f"/issues/comments/{found['id']}", {"body": body})["html_url"])
        return str(self._ask("POST", f"/issues/{number}/comments", {"body": body})["html_url"])

    def issue(self, title: str, body: str) -> str:
        """Opens an issue, or gives the open one of that title, opened by a workflow, a new text. Gives its address."""
        found = self._open_issue(title)
        if found is not None:
            return str(self._ask("PATCH", f"/issues/{found['number']}", {"body": body})["html_url"])
        return str(self._ask("POST", "/issues", {"title": title, "body": body})["html_url"])

    def close_issue(self, title: str) -> str:
        """Closes the open issue of that title that a workflow opened. Gives its address, empty where there is none."""
        found = self._open_issue(title)
        if found is None:
            return ""
        return str(self._ask("PATCH", f"/issues/{found['number']}", {"state": "closed", "state_reason": "completed"})["html_url"])

    def reviewed_plan(self, stack: str, commit: str) -> Plan:
        """The plan of the pull request that `commit` merged, as its last preview saved it.

        Where there is none the message tells how a plan is made and approved afresh.
        """
        way_out = "Start the workflow `up` by hand: it makes a plan of what is on the branch now, and waits for an approval of that."
        merged = [pull for pull in self._all(f"/commits/{commit}/pulls") if pull.get("merge_commit_sha") == commit and pull.get("merged_at")]
        if len(merged) != 1:
            raise GitHubError(f"Commit {commit} is not the merge of one pull request, so no plan was reviewed. {way_out}")
        number, head = int(merged[0]["number"]), str(merged[0]["head"]["sha"])
        name = plan_name(stack, head)
        artifacts = [
            artifact
            for artifact in self._all("/actions/artifacts", name=name)
            if artifact["name"] == name and not artifact["expired"] and _of_this_repository(artifact, head)
        ]
        if not artifacts:
            raise GitHubError(f"Pull request {number} has no saved plan for stack {stack} (it was stopped, or has expired). {way_out}")
        newest = max(artifacts, key=lambda artifact: str(artifact["created_at"]))
        return Plan(number, int(newest["workflow_run"]["id"]), name)

    def _open_issue(self, title: str) -> Mapping[str, Any] | None:
        issues = self._all("/issues", state="open")
        return next((found for found in issues if found["title"] == title and "pull_request" not in found and _by_a_workflow(found)), None)

    def _all(self, path: str, **parameters: str) -> Iterator[Mapping[str, Any]]:
        """Every entry of a list, page after page."""
        page = 1
        while True:
            query = urlencode({**parameters, "per_page": _PAGE, "page": page})
            answer = self._ask("GET", f"{path}?{query}")
            entries = answer if isinstance(answer, list) else answer.get("artifacts") or []
            yield from entries
            if len(entries) < _PAGE:
                return
            page += 1

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self._base + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Accept": "application/vnd.github+json",
                "Content-Type": "application/json",
                "X-GitHub-Api-Version": _API_VERSION,
            },
        )
        shown = f"{method} {path.partition('?')[0]}"
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            hint = " Does the job have the permission for it?" if error.code in (403, 404) else ""
            raise GitHubError(f"GitHub answered {shown} with {error.code}.{hint}") from None
        except (urllib.error.URLError, TimeoutError, ValueError) as error:
            raise GitHubError(f"GitHub did not answer {shown}: {type(error).__name__}. Run the job again.") from None


def plan_name(stack: str, commit: str) -> str:
    """The name of the artifact that holds a commit's plan."""
    return f"plan-{in_a_name(stack)}-{commit}"


def in_a_name(stack: str) -> str:
    """A stack as part of an artifact's name, which may not hold the slash between an organization and a stack."""
    return quote(stack, safe="").replace("%", "_")


def _by_a_workflow(found: Mapping[str, Any]) -> bool:
    """A person may quote the first line of a comment; what a person wrote is not edited."""
    return (found.get("user") or {}).get("type") == "Bot"


def _of_this_repository(artifact: Mapping[str, Any], head: str) -> bool:
    """Whether it was made by a run on that commit, and not in a fork."""
    run = artifact.get("workflow_run") or {}
    return run.get("head_sha") == head and run.get("repository_id") == run.get("head_repository_id")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line described at the top of the module."""
    parser = argparse.ArgumentParser(description="What the workflows ask of GitHub.")
    commands = parser.add_subparsers(dest="command", required=True)
    comment = commands.add_parser("comment")
    comment.add_argument("number", type=int)
    comment.add_argument("file", type=Path)
    issue = commands.add_parser("issue")
    issue.add_argument("--title", required=True)
    issue.add_argument("--close", action="store_true")
    issue.add_argument("file", type=Path, nargs="?")
    plan = commands.add_parser("reviewed-plan")
    plan.add_argument("--stack", required=True)
    plan.add_argument("commit")
    name = commands.add_parser("plan-name")
    name.add_argument("--stack", required=True)
    name.add_argument("commit")
    part = commands.add_parser("in-a-name")
    part.add_argument("--stack", required=True)
    options = parser.parse_args(arguments)
    try:
        print(_done(options))
    except GitHubError as error:
        print(f"::error::{error}", file=sys.stderr)
        return 1
    return 0


def _done(options: argparse.Namespace) -> str:
    if options.command == "plan-name":
        return plan_name(options.stack, options.commit)
    if options.command == "in-a-name":
        return in_a_name(options.stack)
    repository, token = (os.environ.get(variable, "") for variable in ("GITHUB_REPOSITORY", "GITHUB_TOKEN"))
    if not repository or not token:
        raise GitHubError("GITHUB_REPOSITORY and GITHUB_TOKEN must be set.")
    github = GitHub(repository, token, os.environ.get("GITHUB_API_URL", "https://api.github.com"))
    if options.command == "comment":
        return github.comment(options.number, options.file.read_text())
    if options.command == "issue":
        if options.close:
            return github.close_issue(options.title)
        if options.file is None:
            raise GitHubError("Name the file with the issue's text.")
        return github.issue(options.title, options.file.read_text())
    found = github.reviewed_plan(options.stack, options.commit)
    return f"number={found.number}\nrun-id={found.run_id}\nname={found.name}"


if __name__ == "__main__":
    sys.exit(main())
