"""`cutover report comment`: summary and link on a GitHub ticket, against a local server with the same API."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from cutover.cli.reports import comment_command
from cutover.core.errors import ConfigError, Inconclusive
from cutover.core.masking import MASK
from cutover.report.github import Ticket, api_base, ticket_of
from tests.unit.report.commands import error_of, folder_of, run
from tests.unit.report.sessions import good, reverted

TOKEN = "ghp_canary0123456789"
TICKET = "https://github.com/acme/recall/issues/7"


# --- attach ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (TICKET, Ticket("acme", "recall", 7)),
        ("https://github.com/acme/recall/pull/12/", Ticket("acme", "recall", 12)),
        ("https://GitHub.com/a.b/c-d/pull/1?x=1#issuecomment-5", Ticket("a.b", "c-d", 1)),
        ("https://github.com/acme/recall/pull/5/files", Ticket("acme", "recall", 5)),
        ("https://github.com/acme/recall/pull/5/checks?check_run_id=9", Ticket("acme", "recall", 5)),
        ("https://github.com/acme/recall/pull/5/commits/4f1c2aa", Ticket("acme", "recall", 5)),
        ("https://github.com/acme/recall/pull/5/files/4f1c2aa..5e2d3bb#diff-1", Ticket("acme", "recall", 5)),
    ],
)
def test_issues_and_pull_requests_are_tickets(url: str, wanted: Ticket) -> None:
    """URLs of issues and pull requests, as copied from a browser, are accepted."""
    assert ticket_of(url) == wanted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "7",
        "https://github.com/acme/recall",
        "https://github.com/acme/recall/issues/0",
        "https://github.com/acme/recall/issues/7/../8",
        "https://github.com/acme/recall/issues/7/files",
        "https://github.com/acme/recall/pull/7files",
        "https://github.com/acme/recall/pull/7/../8",
        "http://github.com/acme/recall/issues/7",
        "https://github.com.evil.example/acme/recall/issues/7",
        "https://evil@github.com/acme/recall/issues/7",
        "https://[::1/x",
    ],
)
def test_anything_else_is_refused_before_a_token_is_read(url: str, tmp_path: Path) -> None:
    """A bad URL ends with exit 4 and one line that says what was expected; no request is sent."""
    error = error_of(comment_command, "--ticket", url, str(tmp_path))
    assert error.exit_code == 4
    assert "expected https://github.com/OWNER/REPO/issues/N" in str(error)


@pytest.mark.parametrize(
    ("environ", "base"),
    [
        ({}, "https://api.github.com"),
        ({"GITHUB_SERVER_URL": "https://git.acme.example"}, "https://git.acme.example/api/v3"),
        ({"GITHUB_API_URL": "http://127.0.0.1:9/"}, "http://127.0.0.1:9"),
        ({"GITHUB_API_URL": "http://api.example"}, None),
    ],
)
def test_a_token_travels_by_https_only(environ: dict[str, str], base: str | None) -> None:
    """The API's address is that of Actions; http is refused except on loopback."""
    if base is not None:
        assert api_base(environ) == base
        return
    with pytest.raises(ConfigError, match="https only"):
        api_base(environ)


class GitHub(BaseHTTPRequestHandler):
    """The part of GitHub's REST API that comments need, as documented."""

    protocol_version = "HTTP/1.1"
    comments: ClassVar[list[dict[str, Any]]] = []
    failing: ClassVar[list[int]] = []

    def log_message(self, *_words: object) -> None:
        pass

    def answer(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def refused(self) -> bool:
        parts = urlsplit(self.path)
        if self.failing:
            self.answer(self.failing[0], {"message": "Server Error"})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(
                401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"}
            )
        elif not parts.path.startswith("/repos/acme/recall/issues/"):
            self.answer(404, {"message": "Not Found", "status": "404"})
        else:
            return False
        return True

    def sent(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return body

    def do_GET(self) -> None:
        if self.refused():
            return
        query = parse_qs(urlsplit(self.path).query)
        size, page = int(query["per_page"][0]), int(query["page"][0])
        self.answer(200, self.comments[size * (page - 1) : size * page])

    def do_POST(self) -> None:
        body = self.sent()
        if self.refused():
            return
        number = len(self.comments) + 1
        row = {"id": number, "body": body["body"], "html_url": f"{TICKET}#issuecomment-{number}"}
        self.comments.append(row)
        self.answer(201, row)

    def do_PATCH(self) -> None:
        body = self.sent()
        if self.refused():
            return
        row = self.comments[int(self.path.rsplit("/", 1)[1]) - 1]
        row["body"] = body["body"]
        self.answer(200, row)


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[GitHub]]:
    """A local server with the API, and an environment that points to it."""
    monkeypatch.setattr(GitHub, "comments", [])
    monkeypatch.setattr(GitHub, "failing", [])
    monkeypatch.setattr(MASK, "values", set())
    with ThreadingHTTPServer(("127.0.0.1", 0), GitHub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GITHUB_API_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"):
            monkeypatch.delenv(name, raising=False)
        yield GitHub
        server.shutdown()


def test_a_ticket_gets_summary_and_link(github: type[GitHub], tmp_path: Path) -> None:
    """The comment has result, reason and link; the command prints the comment's URL."""
    folder = folder_of(reverted, tmp_path / "r1")
    result = run(comment_command, "--ticket", TICKET, "--link", "https://ci.example/run/5", str(folder))
    assert result.output == f"commented on {TICKET}: {TICKET}#issuecomment-1\n"
    body = github.comments[0]["body"]
    assert body.splitlines()[1] == "## ↩️ ROLLED BACK: recall"
    assert "- **see** https://ci.example/run/5" in body
    assert TOKEN not in result.output + body


def test_a_second_time_updates_the_first_comment(github: type[GitHub], tmp_path: Path) -> None:
    """A session has one comment, found among a hundred others and quotations; another session gets its own."""
    github.comments.extend({"id": number + 1, "body": f"> said {number}"} for number in range(150))
    folder = folder_of(reverted, tmp_path / "r1")
    run(comment_command, "--ticket", TICKET, str(folder))
    github.comments[3]["body"] = "> " + github.comments[150]["body"]
    shutil.copy(folder_of(good, tmp_path / "better") / "evidence.jsonl", folder)
    result = run(comment_command, "--ticket", TICKET, "--json", str(folder))
    assert json.loads(result.output) == {"comment": f"{TICKET}#issuecomment-151", "updated": True}
    assert len(github.comments) == 151
    assert "RELEASED" in github.comments[150]["body"]
    run(comment_command, "--ticket", TICKET, str(tmp_path / "better"))
    assert len(github.comments) == 152


def test_a_workflow_run_is_linked(
    github: type[GitHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside Actions the link is the run, where the report is an artifact."""
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/recall")
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    run(comment_command, "--ticket", TICKET, str(folder_of(good, tmp_path / "r")))
    assert "- **see** https://github.com/acme/recall/actions/runs/42" in github.comments[0]["body"]


def test_refusals_are_one_line(github: type[GitHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, a wrong one, a ticket that is not there: exit 4 with what GitHub said, never the token."""
    folder = str(folder_of(good, tmp_path / "r"))
    other = "https://github.com/acme/other/issues/1"
    assert str(error_of(comment_command, "--ticket", other, folder)).endswith("comments: 404 Not Found")
    monkeypatch.setenv("GITHUB_TOKEN", "wrong-token")
    error = error_of(comment_command, "--ticket", TICKET, folder)
    assert str(error).endswith("401 Bad credentials")
    assert (error.exit_code, "wrong-token" in str(error)) == (4, False)
    monkeypatch.delenv("GITHUB_TOKEN")
    assert "GITHUB_TOKEN is not set" in str(error_of(comment_command, "--ticket", TICKET, folder))
    assert github.comments == []


def test_silence_is_inconclusive(
    github: type[GitHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server error and no answer end with exit 10, a refusal with 4."""
    folder = str(folder_of(good, tmp_path / "r"))
    github.failing.append(502)
    assert isinstance(error_of(comment_command, "--ticket", TICKET, folder), Inconclusive)
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:1")
    error = error_of(comment_command, "--ticket", TICKET, folder)
    assert (error.exit_code, "did not answer" in str(error)) == (10, True)
