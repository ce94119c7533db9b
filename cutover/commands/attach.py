"""Put a session's summary and link on a GitHub issue or pull request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cutover.commands.common import tell
from cutover.core.errors import Inconclusive, UsageProblem
from cutover.core.masking import MASK, Secret

if TYPE_CHECKING:
    import httpx

PAGE, MOST_PAGES, DEADLINE_S = 100, 50, 30.0


@click.command
@click.argument("folder", type=click.Path(path_type=Path), default=Path("reports/latest"))
@click.option(
    "--ticket", "url", required=True, metavar="URL", help="https://github.com/OWNER/REPO/issues/N or /pull/N"
)
@click.option("--link", metavar="URL", help="Where the report can be read; in GitHub Actions the run's page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of sentences.")
def command(folder: Path, url: str, link: str | None, as_json: bool) -> int:
    """Comment on a ticket how the session in FOLDER ended; called again, the comment is updated.

    The token is read from GITHUB_TOKEN, the address of the API from GITHUB_API_URL.
    """
    from cutover.report import ticket
    from cutover.report.folder import read

    there = ticket.ticket(url, os.environ.get("GITHUB_SERVER_URL") or "https://github.com")
    seen = read(folder)
    text = ticket.comment(seen, ticket.run_link(os.environ) if link is None else link)
    with _client(ticket.api(os.environ), _token()) as client:
        number = ticket.earlier(_comments(client, there.comments), ticket.marker(seen))
        if number is None:
            answer = _asked(client, "POST", there.comments, {"body": text})
        else:
            answer = _asked(client, "PATCH", there.comment(number), {"body": text})
    where = str(answer.get("html_url") or url)
    word = "commented on" if number is None else "updated the comment on"
    tell(as_json, {"comment": where, "updated": number is not None}, [f"{word} {url}: {where}"])
    return 0


def _token() -> Secret:
    value = os.environ.get("GITHUB_TOKEN", "").strip()
    if not value:
        raise UsageProblem(
            "GITHUB_TOKEN is not set: a token that may write issues is needed to comment on a ticket"
        )
    MASK.learn([value])
    return Secret(value)


def _client(base: str, token: Secret) -> httpx.Client:
    import httpx

    headers = {
        "Authorization": f"Bearer {token.reveal()}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "pytest-cutover",
    }
    # A redirect would carry the token to wherever it points.
    return httpx.Client(base_url=base, headers=headers, timeout=DEADLINE_S, follow_redirects=False)


def _comments(client: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    """All comments of the ticket, page after page."""
    for page in range(1, MOST_PAGES + 1):
        rows = _asked(client, "GET", f"{path}?per_page={PAGE}&page={page}")
        yield from rows
        if len(rows) < PAGE:
            return


def _asked(client: httpx.Client, method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """The API's answer; raises UsageProblem for a refusal and Inconclusive for silence, each in one line."""
    import httpx

    try:
        response = client.request(method, path, json=body)
        answer = response.json() if response.content else {}
    except httpx.HTTPError as error:
        raise Inconclusive(
            MASK(f"{client.base_url} did not answer: {str(error) or type(error).__name__}")
        ) from error
    except ValueError as error:
        raise Inconclusive(
            f"{client.base_url} answered {response.status_code} with something that is no JSON"
        ) from error
    if response.is_success:
        return answer
    said = answer.get("message", "") if isinstance(answer, dict) else ""
    line = " ".join(MASK(f"{method} {path.partition('?')[0]}: {response.status_code} {said}").split())
    raise (UsageProblem if response.status_code < 500 else Inconclusive)(line)  # noqa: PLR2004 - the server's own fault
