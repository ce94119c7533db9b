"""GitHub: job summary and annotations within its limits, and the comment on an issue or pull request.

GitHub refuses a summary of more than 1 MiB as a whole, and drops all but ten annotations of a kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cutover.core.errors import ConfigError
from cutover.core.evidence import Check, Evidence, outcome_counts
from cutover.core.result import SessionResult, sentence_of
from cutover.core.text import count, duration
from cutover.report.charts import proof_sentence
from cutover.report.escape import markdown_code, markdown_text, one_line
from cutover.report.facts import ReportFolder, fact_mapping, fact_text, span, tags, times, with_moments

MOST_SUMMARY_BYTES = 1_000_000
MOST_COMMENT_BYTES = 60_000  # GitHub refuses a comment of more than 65,536 letters
MOST_ANNOTATIONS = 10
MOST_STEPS = 60
SHAPES = {"good": "✅", "failed": "↩️", "operator": "🚨", "unsure": "❔"}
MARKS: Mapping[str, str] = {"yes": "✓", "no": "✗", "unknown": "?", "not asked": "·"}
# A pull request has tabs, and people copy the URL of the tab that they look at.
TAB = r"(?:(?<=/)(?:files|checks|commits|changes)(?:/[0-9a-fA-F.]{7,90})?/?)?"
PATH = re.compile(
    rf"/(?P<owner>[\w.-]+)/(?P<repo>[\w.-]+)/(?:issues/(?P<issue>[1-9]\d{{0,9}})/?|pull/(?P<pull>[1-9]\d{{0,9}})/?{TAB})"
)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SERVER = "https://github.com"


# --- summary -----------------------------------------------------------------------------------------------------
def summary(evidence: Evidence, result: SessionResult, link: str = "", most: int = MOST_SUMMARY_BYTES) -> str:
    """Markdown of at most *most* bytes: result, counts, reasons, steps, then as many checks as fit, the worst first."""
    lines = [*_head(evidence, result, link), *_steps(evidence)]
    rows = [_check_row(check) for check in sorted(evidence.checks, key=lambda check: check.verdict.rank)]
    size = sum(len(line.encode()) + 1 for line in lines) + 500  # room for the sentence on what is left out
    fit = 0
    for row in rows:
        size += len(row.encode()) + 1
        if size > most:
            break
        fit += 1
    if fit:
        lines += ["", "<details><summary>Every check</summary>", ""]
        lines += ["| | check | target | what it said | took |", "|---|---|---|---|--:|", *rows[:fit]]
        lines += ["", "</details>"]
    if fit < len(rows):
        left = count(len(rows) - fit, "more check")
        lines += ["", f"{left} left out: evidence.jsonl in the report has all."]
    whole = "\n".join(lines) + "\n"
    if len(whole.encode()) <= most:
        return whole
    note = "\n\nThis summary was cut; the report has everything.\n"
    return whole.encode()[: most - len(note.encode())].decode(errors="ignore") + note


def _head(evidence: Evidence, result: SessionResult, link: str) -> Iterator[str]:
    facts, lasted = evidence.facts, span(evidence)
    yield f"## {SHAPES[result.status.kind]} {result.status}: {markdown_text(result.project)}"
    yield from ("", f"**{markdown_text(sentence_of(result))}**", "")
    yield " · ".join(
        part
        for part in (
            outcome_counts(evidence),
            f"exit {result.exit_code}" if result.exit_code >= 0 else "no exit code",
            " → ".join(map(markdown_code, tags(facts))),
            f"by {markdown_text(fact_text(facts, 'who'))}" if fact_text(facts, "who") else "",
            f"{duration(lasted[1] - lasted[0])} from {times(facts).full(lasted[0])}" if lasted else "",
        )
        if part
    )
    for reason in result.reasons:
        yield f"- **why** {f'{markdown_code(reason.test)} ' if reason.test else ''}{markdown_text(reason.text)}"
    yield from (f"- **tried** {markdown_text(each)}" for each in result.tried)
    named = (("now", result.differs), ("users", result.users))
    yield from (f"- **{name}** {markdown_text(text)}" for name, text in named if text)
    if result.command:
        yield f"- **run** {markdown_code(result.command)} {markdown_text(result.command_where)}"
    yield from (f"- **note** {markdown_text(each)}" for each in result.notes)
    yield from (f"- **next** {markdown_text(each)}" for each in result.next_steps)
    if link or result.report:
        yield f"- **see** {link or markdown_code(result.report)}"


def _steps(evidence: Evidence) -> Iterator[str]:
    if not evidence.steps:
        return
    clock = times(evidence.facts)
    yield from ("", f"| | {clock.name} | step | what came of it | took |", "|---|---|---|---|--:|")
    for moment, step in with_moments(evidence.steps[:MOST_STEPS]):
        name, text = markdown_text(step.name), markdown_text(step.text)
        at = clock.short(step.at - step.seconds)
        yield f"| {moment} | {at} | {MARKS.get(step.outcome, '?')} {name} | {text} | {duration(step.seconds)} |"
    proof = fact_mapping(evidence.facts, "proof")
    if proof.get("requests"):
        yield from ("", f"Proof of the switch: {markdown_text(proof_sentence(proof))}.")


def _check_row(check: Check) -> str:
    outcome, text = check.verdict.outcome, f"{check.verdict.question}: {check.verdict.reason}"
    took = duration(check.seconds) if check.seconds else ""
    name, target = markdown_code(check.test), markdown_text(check.target)
    return f"| {MARKS[outcome]} {outcome} | {name} | {target} | {markdown_text(text)} | {took} |"


def error_lines(evidence: Evidence, result: SessionResult) -> list[str]:
    """`::error` lines for the result and what failed, at most ten; the tenth says how many more there are."""
    bad = sorted((check for check in evidence.checks if check.bad), key=lambda check: check.verdict.rank)
    if not bad and result.exit_code == 0:
        return []
    shown = bad if len(bad) < MOST_ANNOTATIONS else bad[: MOST_ANNOTATIONS - 2]
    lines = [_error(str(result.status), sentence_of(result))]
    lines += [_error(check.test, f"{check.verdict.question}: {check.verdict.reason}") for check in shown]
    if len(shown) < len(bad):
        more = count(len(bad) - len(shown), "more check")
        lines.append(_error("more", f"{more} failed: see the job summary"))
    return lines


def _error(title: str, text: str) -> str:
    # Separators are escaped: otherwise a service could write workflow commands of its own.
    named = one_line(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::error title={named}::{one_line(text).replace('%', '%25')}"


# --- comment -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Ticket:
    """An issue or a pull request; GitHub's API treats the comments of both alike."""

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


def ticket_of(url: str, server: str = SERVER) -> Ticket:
    """The ticket at *url*; raises ConfigError unless it is an issue or pull request on *server*.

    The check of the server keeps the token from being sent to another one.
    """
    wanted = f"{server.rstrip('/')}/OWNER/REPO/issues/N or …/pull/N"
    try:
        parts, here = urlsplit(url.strip()), urlsplit(server)
    except ValueError as error:
        raise ConfigError(f"ticket {url!r} is no URL: expected {wanted}") from error
    found = PATH.fullmatch(parts.path)
    if found is None or (parts.scheme, parts.netloc.lower()) != (here.scheme, here.netloc.lower()):
        raise ConfigError(f"ticket {url!r} is no issue or pull request: expected {wanted}")
    return Ticket(found["owner"], found["repo"], int(found["issue"] or found["pull"]))


def api_base(environ: Mapping[str, str]) -> str:
    """The base of the API, GITHUB_API_URL in Actions; raises ConfigError if it is neither https nor loopback."""
    server = urlsplit(environ.get("GITHUB_SERVER_URL") or SERVER)
    default = "https://api.github.com" if server.netloc == "github.com" else f"{server.geturl()}/api/v3"
    base = (environ.get("GITHUB_API_URL") or default).rstrip("/")
    parts = urlsplit(base)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ConfigError(f"GITHUB_API_URL {base!r}: a token is sent by https only")
    return base


def run_link(environ: Mapping[str, str]) -> str:
    """The page of this workflow run, where the report is an artifact; empty outside Actions."""
    repository, run = environ.get("GITHUB_REPOSITORY"), environ.get("GITHUB_RUN_ID")
    server = environ.get("GITHUB_SERVER_URL") or SERVER
    return f"{server}/{repository}/actions/runs/{run}" if repository and run else ""


def comment_marker(seen: ReportFolder) -> str:
    """The first, invisible line of our comment: one for each session."""
    name = re.sub(r"[^\w.-]", "-", seen.path.resolve().name)
    return f"<!-- pytest-cutover {name} -->"


def comment_body(seen: ReportFolder, link: str = "") -> str:
    """The text of our comment."""
    return f"{comment_marker(seen)}\n{summary(seen.evidence, seen.result, link, MOST_COMMENT_BYTES)}"


def earlier_comment(comments: Iterable[Mapping[str, Any]], marker: str) -> int | None:
    """The id of our comment for the same session: it begins with *marker*, as a quotation of it does not."""
    return next((int(each["id"]) for each in comments if str(each.get("body", "")).startswith(marker)), None)
