"""`cutover report changes`, `html`, `postmortem` and `comment`, and `cutover journal`: what sessions left."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutover.cli.main import common, json_option, json_text, settings_of, tell, writing
from cutover.core.errors import ConfigError, Inconclusive
from cutover.core.masking import MASK, printable
from cutover.release.history import read_journal
from cutover.report import github
from cutover.report.facts import ReportFolder, folder_of_release, read_report_folder
from cutover.report.page import BLOB, render_changes, render_page
from cutover.report.postmortem import draft_postmortem
from cutover.report.two_sessions import COLUMN, change_lines, changes_between
from cutover.report.write import limit_mode

if TYPE_CHECKING:
    import httpx

PAGE, MOST_PAGES, DEADLINE_S = 100, 50, 30.0
OMITTED = frozenset({"at", "event", "release"})

folder_argument = click.argument("folder", type=click.Path(path_type=Path), default=Path("reports/latest"))


# --- report ------------------------------------------------------------------------------------------------------
class _Reports(click.Group):
    """`cutover report A B` is `cutover report changes A B`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        words = args if self.get_command(ctx, args[0]) else ["changes", *args]
        return super().resolve_command(ctx, words)


@click.group("report", cls=_Reports)
def report_command() -> None:
    """Tell what changed between two sessions, write a page again, draft a postmortem, or comment on a ticket."""


@report_command.command("changes")
@click.argument("first")
@click.argument("second", default="latest")
@click.option(
    "--html", "page", type=click.Path(path_type=Path), metavar="FILE", help="Write it as a page, too."
)
@common
def changes_command(first: str, second: str, page: Path | None, config: str | None, as_json: bool) -> int:
    """Tell what changed between two finished sessions: answers, checks, and figures of users.

    FIRST and SECOND are folders of reports, their names below `reports`, or ids of releases as in `cutover journal`;
    without SECOND it is the latest session. `cutover report FIRST SECOND` does the same.
    """
    before, after = (_session(name, config) for name in (first, second))
    if before.path.resolve() == after.path.resolve():
        raise ConfigError(f"{first} and {second} are the same session, {after.path}; name another one")
    found = changes_between(before, after)
    if page is not None:
        _write_page(page, render_changes(found))
    lines = [*change_lines(found), *([f"{'page':<{COLUMN}}{page}"] if page else [])]
    tell(as_json, found.as_json() | ({"page": str(page)} if page else {}), lines)
    return 0


def _session(name: str, config: str | None) -> ReportFolder:
    """The session in the folder *name*, in the folder of that name below `reports`, or of the release with this id."""
    if Path(name).is_dir():
        return read_report_folder(Path(name))
    try:
        reports = settings_of(config).reports
    except ConfigError as error:
        what = "no such folder of a report; no session of this name either"
        raise ConfigError(f"{name}: {what}: {error}") from error
    if (reports / name).is_dir():
        return read_report_folder(reports / name)
    if found := folder_of_release(reports, name):
        return read_report_folder(found)
    raise ConfigError(
        f"{name}: no folder of a report, no session in {reports} and no release of one; "
        f"commands of `cutover report` are {', '.join(sorted(report_command.commands))}"
    )


@report_command.command("html")
@folder_argument
@click.option("--output", type=click.Path(path_type=Path), help="Another file than FOLDER/report.html.")
@json_option
def html_command(folder: Path, output: Path | None, as_json: bool) -> int:
    """Write FOLDER's report.html again from evidence.jsonl, journal.jsonl and undo.sh.

    A page that contains pytest-html's table is kept; the new one is then written to again.html beside it.
    """
    seen, page = read_report_folder(folder), folder / "report.html"
    keep = page.is_file() and BLOB.search(page.read_text(encoding="utf-8", errors="replace")) is not None
    file = output or (folder / "again.html" if keep else page)
    _write_page(file, render_page(seen.evidence, seen.result, seen.undo, seen.journal))
    facts = {"report": str(file), "status": str(seen.result.status), "lost": seen.evidence.lost}
    tell(as_json, facts, [f"{seen.result.status}  {file}"])
    return 0


def _write_page(file: Path, page: str) -> None:
    with writing(file):
        file.write_text(page, encoding="utf-8", errors="replace")
        limit_mode(file)


# --- postmortem --------------------------------------------------------------------------------------------------
@report_command.command("postmortem")
@folder_argument
@click.option(
    "--output", type=click.Path(path_type=Path), help="A new file to write; an existing one is refused."
)
@json_option
def postmortem_command(folder: Path, output: Path | None, as_json: bool) -> int:
    """Draft a postmortem in Markdown of the session in FOLDER; questions for people are marked with "…"."""
    text = draft_postmortem(read_report_folder(folder))
    if output is None:
        tell(as_json, {"postmortem": text}, [text.rstrip("\n")])
        return 0
    with writing(output):
        try:
            # "x": a draft that somebody has begun to fill in must not be overwritten.
            with output.open("x", encoding="utf-8", errors="replace") as out:
                out.write(text)
        except FileExistsError as error:
            raise ConfigError(f"{output} is there already; name another file or delete it") from error
    tell(as_json, {"file": str(output)}, [f"drafted {output}"])
    return 0


# --- attach ------------------------------------------------------------------------------------------------------
@report_command.command("comment")
@folder_argument
@click.option(
    "--ticket", "url", required=True, metavar="URL", help="https://github.com/OWNER/REPO/issues/N or /pull/N"
)
@click.option("--link", metavar="URL", help="Where the report can be read; in GitHub Actions the run's page.")
@json_option
def comment_command(folder: Path, url: str, link: str | None, as_json: bool) -> int:
    """Comment on a GitHub issue or pull request how the session in FOLDER ended; a second call updates the comment.

    The token is read from GITHUB_TOKEN, the address of the API from GITHUB_API_URL.
    """
    ticket = github.ticket_of(url, os.environ.get("GITHUB_SERVER_URL") or github.SERVER)
    seen = read_report_folder(folder)
    body = {"body": github.comment_body(seen, github.run_link(os.environ) if link is None else link)}
    with _github_client(github.api_base(os.environ)) as client:
        number = github.earlier_comment(_comments(client, ticket.comments), github.comment_marker(seen))
        if number is None:
            answer = _request(client, "POST", ticket.comments, body)
        else:
            answer = _request(client, "PATCH", ticket.comment(number), body)
    where = str(answer.get("html_url") or url)
    done = "commented on" if number is None else "updated the comment on"
    tell(as_json, {"comment": where, "updated": number is not None}, [f"{done} {url}: {where}"])
    return 0


def _github_client(base: str) -> httpx.Client:
    import httpx

    token = os.environ.get("GITHUB_TOKEN", "").strip()
    if not token:
        needed = "a token that may write issues is needed to comment on a ticket"
        raise ConfigError(f"GITHUB_TOKEN is not set: {needed}")
    MASK.learn([token])
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "pytest-cutover",
    }
    # A redirect would send the token to wherever it points.
    return httpx.Client(base_url=base, headers=headers, timeout=DEADLINE_S, follow_redirects=False)


def _comments(client: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    """All comments of the ticket, page after page."""
    for page in range(1, MOST_PAGES + 1):
        rows = _request(client, "GET", f"{path}?per_page={PAGE}&page={page}")
        yield from rows
        if len(rows) < PAGE:
            return


def _request(client: httpx.Client, method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """The API's answer; raises ConfigError for a refusal, Inconclusive for no answer or a server error."""
    import httpx

    try:
        response = client.request(method, path, json=body)
        answer = response.json() if response.content else {}
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        raise Inconclusive(MASK(f"{client.base_url} did not answer: {why}")) from error
    except ValueError as error:
        raise Inconclusive(f"{client.base_url} answered {response.status_code} without JSON") from error
    if response.is_success:
        return answer
    message = answer.get("message", "") if isinstance(answer, dict) else ""
    line = " ".join(MASK(f"{method} {path.partition('?')[0]}: {response.status_code} {message}").split())
    raise (Inconclusive if response.is_server_error else ConfigError)(line)


# --- journal -----------------------------------------------------------------------------------------------------
@click.command("journal")
@common
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N entries.")
@click.option("--release", "only", metavar="ID", help="Only this release.")
def journal_command(config: str | None, as_json: bool, last: int | None, only: str | None) -> int:
    """Print the journal of the state directory, oldest first: each change with its time and its author."""
    rows = [row for row in read_journal(settings_of(config).state) if only in {None, row.get("release")}]
    shown = rows[-last:] if last else rows
    click.echo(json_text(shown) if as_json else "\n".join(journal_lines(shown)))
    return 0


def journal_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each entry, an empty one between two releases."""
    lines: list[str] = []
    for _release, entries in groupby(rows, key=lambda row: row.get("release")):
        lines += ["", *map(_journal_line, entries)]
    return lines[1:] or ["nothing was changed here yet"]


def _journal_line(row: Mapping[str, Any]) -> str:
    """`2025-09-04 01:10:22.431Z  reverted   who ana@runner-7 · why 1 check failed`, without control characters."""
    facts = " · ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}"
        for key, value in row.items()
        if key not in OMITTED and value not in (None, "", [], {})
    )
    at = str(row.get("at", "")).replace("T", " ")
    line = f"{at:<25} {row.get('event', ''):<14} {facts}".rstrip()
    return printable(line).replace("\n", " ").rstrip()
