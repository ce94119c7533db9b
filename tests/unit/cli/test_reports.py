"""`cutover report html`, `postmortem` and `journal`: from complete and incomplete report folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from cutover.cli.reports import html_command, journal_lines, postmortem_command
from cutover.core.errors import ConfigError
from cutover.report.facts import read_report_folder
from cutover.report.page import finish_page
from cutover.report.postmortem import draft_postmortem
from tests.unit.report.commands import error_of, folder_of, run
from tests.unit.report.sessions import Session, good, reverted, rollback_failed


# --- report ----------------------------------------------------------------------------------------------------------
def test_a_report_is_written_again_from_its_files(tmp_path: Path) -> None:
    """`cutover report html DIR` makes the page of a session that died before it could."""
    folder = folder_of(reverted, tmp_path / "r")
    result = run(html_command, str(folder))
    assert result.output == f"ROLLED BACK  {folder}/report.html\n"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Users saw 31 failed requests" in page
    assert "restore-service.sh" in page
    assert 'id="journal"' in page


def test_a_page_with_pytests_table_is_never_lost(tmp_path: Path) -> None:
    """A page with pytest-html's table is kept; the new page is written beside it."""
    folder = folder_of(good, tmp_path / "r")
    theirs = '<html><head></head><body data-jsonblob="{}"></body></html>'
    (folder / "report.html").write_text(theirs, encoding="utf-8")
    result = run(html_command, str(folder), "--json")
    assert json.loads(result.output)["report"].endswith("again.html")
    assert (folder / "report.html").read_text(encoding="utf-8") == theirs


@pytest.mark.parametrize("command", [html_command, postmortem_command])
def test_a_folder_without_evidence_is_one_line(command: click.Command, tmp_path: Path) -> None:
    """A wrong folder ends with exit 4 and a line that names it."""
    error = error_of(command, str(tmp_path / "none"))
    assert isinstance(error, ConfigError)
    assert "no evidence.jsonl there" in str(error)


# --- postmortem ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("session", "said"),
    [
        (
            good,
            ["# Postmortem: recall, RELEASED", "Going back would take 1.6 ms", "1,198 requests on 120 open"],
        ),
        (
            reverted,
            [
                "# Postmortem: recall, ROLLED BACK",
                "31 in 12.6 s",
                "reverted in 1.2 s",
                "only under traffic",
                "could not be answered",
                "journal: *reverted*",
            ],
        ),
        (
            rollback_failed,
            ["an operator is needed", "tried: undo step 2 of 3", "What did the operator do"],
        ),
    ],
)
def test_a_draft_has_what_machines_know(
    session: Callable[[Path], Session], said: list[str], tmp_path: Path
) -> None:
    """Timeline, impact, what went well, questions and gaps are filled in from the evidence, in order."""
    text = draft_postmortem(read_report_folder(folder_of(session, tmp_path / "r")))
    parts = [
        "Timeline",
        "What happened",
        "Impact",
        "What went well",
        "Questions for people",
        "Gaps in the runbook",
    ]
    places = [text.index(f"\n## {part}\n") for part in [*parts, "Actions"]]
    assert places == sorted(places)
    for each in said:
        assert each in text
    assert "| 09:50:00 | 00:50:00 | T-15m | **preflight** 12 checks" in text
    assert "not asked: \\[proxy\\] url is plain http" in text


def test_a_draft_of_a_dead_session_claims_nothing(tmp_path: Path) -> None:
    """What killed the session is a question in the draft."""
    folder = folder_of(good, tmp_path / "r")
    rows = (folder / "evidence.jsonl").read_text(encoding="utf-8").splitlines()[:14]
    (folder / "evidence.jsonl").write_text("\n".join(rows), encoding="utf-8")
    text = draft_postmortem(read_report_folder(folder))
    assert "the session died before it could say how it ended" in text
    assert "What killed the session" in text
    assert "Exit code" not in text


def test_a_draft_that_people_filled_in_is_not_written_over(tmp_path: Path) -> None:
    """The second `--output` to the same file is refused."""
    folder = folder_of(reverted, tmp_path / "r")
    words = (str(folder), "--output", str(tmp_path / "pm.md"))
    assert run(postmortem_command, *words).output == f"drafted {tmp_path}/pm.md\n"
    assert "is there already" in str(error_of(postmortem_command, *words))
    assert run(postmortem_command, str(folder)).output == (tmp_path / "pm.md").read_text(encoding="utf-8")


# --- journal ---------------------------------------------------------------------------------------------------------
def test_a_journal_is_one_line_for_each_entry() -> None:
    """Time, event and facts; an empty line before each release; control characters are replaced."""
    rows: list[dict[str, Any]] = [
        {"at": "2025-09-04T01:10:22.431Z", "event": "open", "release": "a", "who": "ana", "x": None},
        {"at": "2025-09-04T01:12:00.000Z", "event": "did", "release": "b", "code": 0, "said": "\x1b[2J"},
    ]
    assert journal_lines(rows) == [
        "2025-09-04 01:10:22.431Z  open           who ana",
        "",
        "2025-09-04 01:12:00.000Z  did            code 0 · said",
    ]
    assert journal_lines([]) == ["nothing was changed here yet"]


def test_the_folder_of_a_session_makes_the_same_page_as_the_session(tmp_path: Path) -> None:
    """`cutover report html` and the session's own end use one function."""
    folder = folder_of(rollback_failed, tmp_path / "r")
    run(html_command, str(folder))
    again = (folder / "report.html").read_text(encoding="utf-8")
    seen = read_report_folder(folder)
    finish_page(folder / "report.html", seen.evidence, seen.result, seen.undo, seen.journal)
    assert (folder / "report.html").read_text(encoding="utf-8") == again
