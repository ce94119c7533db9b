"""What a session left, read back: its facts by name, its result, the folder of its report.

A session records any of these with `evidence.fact(name, value)` as soon as it knows them; none is required:

| name | value |
|---|---|
| `project`, `target`, `who`, `command`, `release` | texts; `release` is the id of the release |
| `from`, `to` | `{"color": "blue", "tag": "sha-1", "digest": "sha256:…"}` |
| `began`, `ended` | seconds since 1970, or RFC 3339 |
| `time_zone` | an IANA name, `[approval] time_zone`; empty: the zone of this machine |
| `not asked` | `[[test, reason], …]` |
| `switched_at` | seconds since 1970 |
| `proof` | see `cutover.report.charts` |
| `versions` | `{"pytest": "9.2.0", …}` |
| `hosts` | of a release on several hosts: `[{"host", "outcome", "text", "before", "now", "reports"}, …]` |
| `logs` | `{"green": "the end of its log"}` |
| `result` | `SessionResult.as_json()` |
"""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from importlib import metadata
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cutover.core.errors import ConfigError
from cutover.core.evidence import Evidence, Step, count_outcomes, load_evidence, read_json_lines
from cutover.core.result import (
    INCONCLUSIVE,
    Outcomes,
    Running,
    SessionResult,
    Status,
    reasons_of,
    result_from_json,
)
from cutover.core.verdict import Outcome

PACKAGES = ("pytest-cutover", "pytest", "pytest-html", "pytest-testinfra", "httpx", "docker")


@dataclass(frozen=True, slots=True)
class Times:
    """Formats moments (seconds since 1970) in the team's time zone."""

    zone: tzinfo

    def full(self, at: float) -> str:
        """`2025-09-04 10:10:22 JST (01:10:22 UTC)`; only UTC where the zone equals it."""
        local, utc = datetime.fromtimestamp(at, self.zone), datetime.fromtimestamp(at, UTC)
        if local.utcoffset() == utc.utcoffset():
            return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
        day = f"{utc:%Y-%m-%d} " if local.date() != utc.date() else ""
        return f"{local:%Y-%m-%d %H:%M:%S %Z} ({day}{utc:%H:%M:%S} UTC)"

    def short(self, at: float) -> str:
        """`10:10:22`, local."""
        return f"{datetime.fromtimestamp(at, self.zone):%H:%M:%S}"

    def pair(self, at: float) -> tuple[str, str]:
        """Local time and UTC; the second is empty where both are equal."""
        local, utc = self.short(at), Times(UTC).short(at)
        return local, "" if local == utc else utc

    @property
    def name(self) -> str:
        """The name of the zone: `JST`."""
        return datetime.now(self.zone).strftime("%Z") or "local"


def times(facts: Mapping[str, Any]) -> Times:
    """The time zone of the team; UTC if this machine does not know it."""
    name = str(facts.get("time_zone") or "")
    try:
        return Times(ZoneInfo(name) if name else datetime.now().astimezone().tzinfo or UTC)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return Times(UTC)


def fact_text(facts: Mapping[str, Any], key: str) -> str:
    """The fact as text, empty if it is not known."""
    value = facts.get(key)
    return "" if value is None else str(value)


def fact_mapping(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The fact as a mapping, empty if it is not known or not a mapping."""
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}


def fact_time(facts: Mapping[str, Any], key: str) -> float | None:
    """The fact as seconds since 1970, recorded as a number or as RFC 3339; None if it is not known."""
    value = facts.get(key)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value).timestamp()
        return None
    return fact_number(facts, key)


def fact_number(facts: Mapping[str, Any], key: str) -> float | None:
    """The fact as a number; None if it is none."""
    value = facts.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def tags(facts: Mapping[str, Any]) -> list[str]:
    """The tags before and after, as far as they are known."""
    return [tag for key in ("from", "to") if (tag := fact_text(fact_mapping(facts, key), "tag"))]


def comparison_of(evidence: Evidence) -> Mapping[str, Any]:
    """The evidence of the check `compare`, empty if nothing was compared."""
    found = (check.verdict.evidence for check in evidence.checks if check.verdict.question == "compare")
    return next((each for each in found if "differences" in each), {})


def versions() -> dict[str, str]:
    """The versions of what ran here."""
    found = {"Python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def with_moments(steps: Iterable[Step]) -> list[tuple[str, Step]]:
    """Each step with its moment, empty where the step before has the same."""
    found, last = [], ""
    for step in steps:
        found.append((step.moment if step.moment != last else "", step))
        last = step.moment or last
    return found


def span(evidence: Evidence) -> tuple[float, float] | None:
    """When the session began and ended: its own facts, else its first and last record; None if there is neither."""
    seen = [step.at - step.seconds for step in evidence.steps] + [step.at for step in evidence.steps]
    seen += [check.at for check in evidence.checks]
    began, ended = fact_time(evidence.facts, "began"), fact_time(evidence.facts, "ended")
    if began is None and not seen:
        return None
    first = min(seen) if began is None else began
    return first, max([first, *seen]) if ended is None else ended


def result_of(evidence: Evidence) -> SessionResult:
    """The result that the session recorded; for a session that died before it, that it died and its last step."""
    try:
        return result_from_json(fact_mapping(evidence.facts, "result"))
    except ValueError:
        return _died(evidence)


def _died(evidence: Evidence) -> SessionResult:
    # Nothing is claimed about what runs now: only what the evidence contains.
    last = evidence.steps[-1] if evidence.steps else None
    before = fact_mapping(evidence.facts, "from")
    seen = f"its last step was {last.name}: {last.text}" if last else "it left no step"
    running = (Running(fact_text(before, "color"), fact_text(before, "tag"), "ran before"),)
    bad = any(check.bad for check in evidence.checks)
    return SessionResult(
        status=Status.INCONCLUSIVE,
        project=fact_text(evidence.facts, "project") or "the service",
        exit_code=-1,
        sentence=f"the session died before it could say how it ended; {seen}. Ask `cutover status` what runs now.",
        reasons=reasons_of(Outcomes((), INCONCLUSIVE), evidence.checks) if bad else (),
        next_steps=("cutover status", "cutover recover"),
        running=running if before else (),
        as_before=False,
        passed=count_outcomes(evidence)[Outcome.YES],
    )


# --- the folder of a report ----------------------------------------------------------------------------------
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
    """The session whose report is in *path*; raises ConfigError if a file of it cannot be read."""
    file, script = path / "evidence.jsonl", path / "undo.sh"
    if not file.is_file():
        example = "name a folder below reports/, for example reports/latest"
        raise ConfigError(f"{path}: no evidence.jsonl there; {example}")
    try:
        evidence = load_evidence(file)
        undo = script.read_text(encoding="utf-8", errors="replace") if script.is_file() else ""
        journal = read_json_lines(path / "journal.jsonl")
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    evidence.facts.setdefault("logs", saved_logs(path))
    return ReportFolder(path, evidence, result_of(evidence), undo, journal)


def folder_of_release(reports: Path, release: str) -> Path | None:
    """The newest folder below *reports* whose session made the release with this id; None if there is none."""
    row = {"kind": "fact", "key": "release", "value": release}
    for file in sorted(reports.glob("*/evidence.jsonl"), reverse=True):
        if file.parent.is_symlink():
            continue  # `latest`
        # A killed session may have left half a line.
        with contextlib.suppress(OSError, ValueError), file.open(encoding="utf-8", errors="replace") as lines:
            if any(release in line and json.loads(line) == row for line in lines):
                return file.parent
    return None


def saved_logs(path: Path) -> dict[str, str]:
    """Name -> the end of each log that was saved in the folder of a report, at most twenty."""
    found = {}
    for file in sorted(path.glob("*.log"))[:MOST_LOGS]:
        with contextlib.suppress(OSError):
            found[file.stem] = file.read_text(encoding="utf-8", errors="replace")[-MOST_LOG:]
    return found
