"""Read the folder of a session's report back, also that of a session that died."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover.core.errors import ConfigError
from cutover.core.evidence import Evidence, load_evidence, read_json_lines
from cutover.core.result import SessionResult
from cutover.report.facts import result_of

MOST_LOG = 60_000
MOST_LOGS = 20


@dataclass(frozen=True, slots=True)
class ReportFolder:
    """The files of one session."""

    path: Path
    evidence: Evidence
    result: SessionResult
    undo: str
    """The undo script; empty if there is none."""
    journal: list[dict[str, Any]]


def read_report_folder(path: Path) -> ReportFolder:
    """The session whose report is in *path*; raises ConfigError if its evidence or undo script cannot be read."""
    file, script = path / "evidence.jsonl", path / "undo.sh"
    if not file.is_file():
        example = "name a folder below reports/, for example reports/latest"
        raise ConfigError(f"{path}: no evidence.jsonl there; {example}")
    try:
        evidence = load_evidence(file)
        undo = script.read_text(encoding="utf-8", errors="replace") if script.is_file() else ""
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    evidence.facts.setdefault("logs", saved_logs(path))
    return ReportFolder(path, evidence, result_of(evidence), undo, read_json_lines(path / "journal.jsonl"))


def saved_logs(path: Path) -> dict[str, str]:
    """Name -> the end of each log that was saved in the folder of a report, at most twenty."""
    found = {}
    for file in sorted(path.glob("*.log"))[:MOST_LOGS]:
        with contextlib.suppress(OSError):
            found[file.stem] = file.read_text(encoding="utf-8", errors="replace")[-MOST_LOG:]
    return found
