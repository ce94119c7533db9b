"""A ticket on GitHub: which one a URL means, what is written there, which comment there is ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cutover.core.errors import UsageProblem
from cutover.report.folder import Folder
from cutover.report.summary import summary

MOST_BYTES = 60_000  # GitHub refuses a comment of more than 65,536 letters
# A pull request has tabs, and people copy the URL of the one that they look at.
TAB = r"(?:(?<=/)(?:files|checks|commits|changes)(?:/[0-9a-fA-F.]{7,90})?/?)?"
PATH = re.compile(
    rf"/(?P<owner>[\w.-]+)/(?P<repo>[\w.-]+)/(?:issues/(?P<issue>[1-9]\d{{0,9}})/?|pull/(?P<pull>[1-9]\d{{0,9}})/?{TAB})"
)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Ticket:
    """An issue or a pull request; both have the same comments."""

    owner: str
    repo: str
    number: int

    @property
    def comments(self) -> str:
        """The path of its comments below the API's base."""
        return f"/repos/{self.owner}/{self.repo}/issues/{self.number}/comments"

    def comment(self, number: int) -> str:
        """The path of one comment."""
        return f"/repos/{self.owner}/{self.repo}/issues/comments/{number}"


def ticket(url: str, server: str = "https://github.com") -> Ticket:
    """The ticket that *url* means; raises UsageProblem for anything but an issue or pull request on *server*.

    A token is never sent for a ticket elsewhere: who wrote the URL does not decide who gets it.
    """
    wanted = f"{server.rstrip('/')}/OWNER/REPO/issues/N or …/pull/N"
    try:
        parts = urlsplit(url.strip())
        here = urlsplit(server)
    except ValueError as error:
        raise UsageProblem(f"ticket {url!r} is no URL: expected {wanted}") from error
    found = PATH.fullmatch(parts.path)
    if found is None or (parts.scheme, parts.netloc.lower()) != (here.scheme, here.netloc.lower()):
        raise UsageProblem(f"ticket {url!r} is no issue or pull request: expected {wanted}")
    return Ticket(found["owner"], found["repo"], int(found["issue"] or found["pull"]))


def api(environ: Mapping[str, str]) -> str:
    """The base of the API: GITHUB_API_URL as Actions sets it; raises UsageProblem where a token would travel openly."""
    server = urlsplit(environ.get("GITHUB_SERVER_URL") or "https://github.com")
    elsewhere = "https://api.github.com" if server.netloc == "github.com" else f"{server.geturl()}/api/v3"
    base = (environ.get("GITHUB_API_URL") or elsewhere).rstrip("/")
    parts = urlsplit(base)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise UsageProblem(f"GITHUB_API_URL {base!r}: a token is sent by https only")
    return base


def run_link(environ: Mapping[str, str]) -> str:
    """The page of the workflow run that we are in, where the report is an artefact; empty outside Actions."""
    repository, run = environ.get("GITHUB_REPOSITORY"), environ.get("GITHUB_RUN_ID")
    server = environ.get("GITHUB_SERVER_URL") or "https://github.com"
    return f"{server}/{repository}/actions/runs/{run}" if repository and run else ""


def marker(seen: Folder) -> str:
    """The first line of our comment, which nobody sees: one for each session."""
    name = re.sub(r"[^\w.-]", "-", seen.path.resolve().name)
    return f"<!-- pytest-cutover {name} -->"


def comment(seen: Folder, link: str = "") -> str:
    """What is written on the ticket."""
    return f"{marker(seen)}\n{summary(seen.evidence, seen.ending, link, MOST_BYTES)}"


def earlier(comments: Iterable[Mapping[str, Any]], mark: str) -> int | None:
    """Our earlier comment of the same session: it begins with the mark, as no quotation of it does."""
    return next((int(each["id"]) for each in comments if str(each.get("body", "")).startswith(mark)), None)
