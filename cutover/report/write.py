"""The files of a session's report: page, JUnit, undo script, journal, job summary, `reports/latest`."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover.core.evidence import Evidence
from cutover.core.result import SessionResult


@dataclass(frozen=True, slots=True)
class ReleaseFiles:
    """What a release left in the state directory; all empty if the session changed nothing."""

    release: str = ""
    """The id of the release."""
    undo: str = ""
    """The undo script before it was run or deleted."""
    journal: Sequence[Mapping[str, Any]] = ()
    """The journal entries of this release, oldest first."""


def write_report(
    folder: Path,
    evidence: Evidence,
    result: SessionResult,
    not_asked: Mapping[str, Sequence[str]],
    files: ReleaseFiles,
) -> None:
    """Write report.html, undo.sh and journal.jsonl to *folder*, and complete its evidence.jsonl and junit.xml.

    *not_asked* maps a reason to the tests that could not be asked. Raises OSError.
    """
    # Imported here because the templates are slow to load and needed at the very end only.
    from cutover.report.facts import versions
    from cutover.report.page import finish_junit, finish_page

    evidence.flush()
    evidence.fact("versions", versions())
    evidence.fact("ended", time.time())
    evidence.fact("not asked", [[test, why] for why, tests in not_asked.items() for test in tests])
    if files.release:
        evidence.fact("release", files.release)
    evidence.fact("result", result.as_json())
    if files.undo:
        with contextlib.suppress(OSError):
            (folder / "undo.sh").write_text(files.undo, encoding="utf-8", errors="replace")
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in files.journal)
            (folder / "journal.jsonl").write_text(lines, encoding="utf-8", errors="replace")
    finish_page(folder / "report.html", evidence, result, files.undo, files.journal)
    finish_junit(folder / "junit.xml", evidence, result)
    for file in folder.iterdir():
        if not file.is_symlink():
            limit_mode(file)


def limit_mode(file: Path) -> None:
    """Take from *file* what more than 0640 (a folder: 0750) permits; its owner may have chosen less."""
    mode = stat.S_IMODE(file.stat().st_mode)
    file.chmod(mode & (0o750 if file.is_dir() else 0o640))


def write_job_summary(path: Path, evidence: Evidence, result: SessionResult) -> None:
    """Append the summary to the file that a CI shows for the job (GITHUB_STEP_SUMMARY). Raises OSError."""
    from cutover.report.github import summary

    with path.open("a", encoding="utf-8", errors="replace") as out:
        out.write(summary(evidence, result))


def point_latest_to(folder: Path) -> None:
    """Make the link `latest` beside *folder* point to it; does nothing where links cannot be made."""
    with contextlib.suppress(OSError):
        draft = folder.parent / f".latest-{os.getpid()}"
        draft.symlink_to(folder.name)
        draft.replace(folder.parent / "latest")
