"""A report's folder, read back: what the commands about a finished, or dead, session start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover.errors import UsageProblem
from cutover.evidence import Evidence, journal, load
from cutover.report.ending import Ending
from cutover.report.facts import ending_of


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of one session."""

    path: Path
    evidence: Evidence
    ending: Ending
    undo: str
    journal: list[dict[str, Any]]


def read(path: Path) -> Folder:
    """The session whose report is in *path*; raises UsageProblem where there is none."""
    file = path / "evidence.jsonl"
    if not file.is_file():
        raise UsageProblem(
            f"{path}: no evidence.jsonl there; name a folder below reports/, for example reports/latest"
        )
    try:
        evidence = load(file)
    except OSError as error:
        raise UsageProblem(f"{file}: {error.strerror}") from error
    script = path / "undo.sh"
    try:
        undo = script.read_text(encoding="utf-8", errors="replace") if script.is_file() else ""
    except OSError as error:
        raise UsageProblem(f"{script}: {error.strerror}") from error
    return Folder(path, evidence, ending_of(evidence), undo, journal(path / "journal.jsonl"))
