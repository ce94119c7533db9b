"""A report's folder, read back: what the commands about a finished, or dead, session start from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover.core.errors import UsageProblem
from cutover.evidence import Evidence, load
from cutover.report.ending import Ending
from cutover.report.facts import ending_of
from cutover.system.files import read_json_lines as journal


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of one session."""

    path: Path
    evidence: Evidence
    ending: Ending
    undo: str
    journal: list[dict[str, Any]]


MOST_LOG = 60_000


def saved_logs(path: Path) -> dict[str, str]:
    """The end of each log that the session saved beside its report, for the page's fact `logs`."""
    found = {}
    for file in sorted(path.glob("*.log"))[:20]:
        with contextlib.suppress(OSError):
            found[file.stem] = file.read_text(encoding="utf-8", errors="replace")[-MOST_LOG:]
    return found


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
    evidence.facts.setdefault("logs", saved_logs(path))
    script = path / "undo.sh"
    try:
        undo = script.read_text(encoding="utf-8", errors="replace") if script.is_file() else ""
    except OSError as error:
        raise UsageProblem(f"{script}: {error.strerror}") from error
    return Folder(path, evidence, ending_of(evidence), undo, journal(path / "journal.jsonl"))
