"""Reading and rendering a session takes work in proportion to its checks: counted, not timed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from cutover.core.evidence import Evidence
from cutover.core.verdict import no
from cutover.report.facts import ReportFolder, read_report_folder, result_of
from cutover.report.github import error_lines, summary
from cutover.report.page import render_page
from cutover.report.postmortem import draft_postmortem

SMALL, LARGE = 5_000, 20_000


class Name(str):
    """A test's name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def dead_session(folder: Path, lines: int) -> Path:
    """The evidence of a session that died after *lines* different failed checks."""
    folder.mkdir()
    first = Evidence(folder / "evidence.jsonl", clock=lambda: 7.0).check("t", "green", 0, no("q", "r"), 0.1)
    row = json.loads((folder / "evidence.jsonl").read_text(encoding="utf-8"))
    with (folder / "evidence.jsonl").open("w", encoding="utf-8") as out:
        for number in range(first.id, lines + 1):
            verdict = row["verdict"] | {"reason": f"reason {number}"}
            test = f"smoke/test_x.py::test_{number}[green]"
            out.write(json.dumps(row | {"id": number, "test": test, "verdict": verdict}) + "\n")
    return folder


def renamed(seen: ReportFolder) -> ReportFolder:
    """The same session, whose names of tests count comparisons."""
    for check in seen.evidence.checks:
        object.__setattr__(check, "test", Name(check.test))
    return ReportFolder(seen.path, seen.evidence, result_of(seen.evidence), "", [])


def work(folder: Path) -> tuple[int, int]:
    """How many calls, and comparisons of names, reading the session and writing all reports takes."""
    calls = 0

    def count(_frame: FrameType, event: str, _arg: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    Name.compared = 0
    sys.setprofile(count)
    try:
        seen = renamed(read_report_folder(folder))
        render_page(seen.evidence, seen.result)
        draft_postmortem(seen)
        summary(seen.evidence, seen.result)
        error_lines(seen.evidence, seen.result)
    finally:
        sys.setprofile(None)
    assert seen.evidence.lost == 0
    return calls, Name.compared


@pytest.mark.timeout(300)
def test_twenty_thousand_checks_cost_four_times_what_five_thousand_cost(tmp_path: Path) -> None:
    """A flood of failed checks is read and rendered: four times the lines are at most about four times the work."""
    work(dead_session(tmp_path / "warm", 10))  # compiles the templates
    calls, compared = work(dead_session(tmp_path / "small", SMALL))
    more_calls, more_compared = work(dead_session(tmp_path / "large", LARGE))
    assert more_calls <= 4.5 * calls
    assert more_compared <= 4.5 * max(compared, SMALL)
