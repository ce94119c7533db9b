"""The facts of a session that its report is headed with: their names and shapes, and how they are read.

A session calls `evidence.fact(key, value)` with any of these, each as soon as it is known; none is required:

| key | value |
|---|---|
| `project`, `target`, `who`, `command`, `release` | texts; `release` is the id that `open` names |
| `from`, `to` | `{"colour": "blue", "tag": "sha-1", "digest": "sha256:…"}` |
| `began`, `ended` | seconds since 1970, or RFC 3339 |
| `time_zone` | an IANA name, `[show] time_zone`; empty: the machine's own |
| `not asked` | `[[test, reason], …]` |
| `switched_at` | seconds since 1970 |
| `proof` | see `cutover.report.proof` |
| `versions` | `{"pytest": "9.2.0", …}` |
| `logs` | `{"green": "the last lines of its log, as saved before it was stopped"}` |
| `ending` | `Ending.as_json()` |
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cutover.evidence import Evidence
from cutover.report.ending import Ending, Running, Why, Word, from_json


@dataclass(frozen=True, slots=True)
class Times:
    """Writes moments in the team's own time beside UTC."""

    zone: tzinfo

    def full(self, at: float) -> str:
        """`2025-09-04 10:10:22 JST (01:10:22 UTC)`; where local time is UTC, once."""
        local, utc = datetime.fromtimestamp(at, self.zone), datetime.fromtimestamp(at, UTC)
        if local.utcoffset() == utc.utcoffset():
            return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
        day = f"{utc:%Y-%m-%d} " if local.date() != utc.date() else ""
        return f"{local:%Y-%m-%d %H:%M:%S %Z} ({day}{utc:%H:%M:%S} UTC)"

    def short(self, at: float) -> str:
        """`10:10:22`, local."""
        return f"{datetime.fromtimestamp(at, self.zone):%H:%M:%S}"

    def pair(self, at: float) -> tuple[str, str]:
        """Local time and UTC; the second one is empty where both are the same."""
        utc = f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"
        local = self.short(at)
        return local, "" if local == utc else utc

    @property
    def name(self) -> str:
        """What the zone is called: `JST`."""
        return datetime.now(self.zone).strftime("%Z") or "local"


def times(facts: Mapping[str, Any]) -> Times:
    """The clock of this session's team; a zone that this machine does not know is UTC."""
    name = str(facts.get("time_zone") or "")
    try:
        return Times(ZoneInfo(name) if name else datetime.now().astimezone().tzinfo or UTC)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return Times(UTC)


def text(facts: Mapping[str, Any], key: str) -> str:
    """The fact as text, empty where it is not known."""
    value = facts.get(key)
    return "" if value is None else str(value)


def mapping(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The fact as a mapping, empty where it is not known or of another shape."""
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}


def number(facts: Mapping[str, Any], key: str) -> float | None:
    """The fact as a number, None where it is not known."""
    value = facts.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def versions() -> dict[str, str]:
    """What the report says of the machinery that made it: the fact `versions`."""
    from importlib import metadata

    found = {"Python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in ("pytest-cutover", "pytest", "pytest-html", "pytest-testinfra", "httpx", "docker"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def not_asked(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """What was not asked: reason and tests, in the order in which they were found."""
    found: dict[str, list[str]] = {}
    for test, reason in facts.get("not asked") or ():
        found.setdefault(str(reason), []).append(str(test))
    return found


def moment(facts: Mapping[str, Any], key: str) -> float | None:
    """The fact as seconds since 1970, whether it was kept so or as RFC 3339; None where it is not known."""
    value = facts.get(key)
    if not isinstance(value, str):
        return number(facts, key)
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        return None


def span(evidence: Evidence) -> tuple[float, float] | None:
    """When the session began and ended: as it said itself, else from its first and last record."""
    seen = [step.at - step.seconds for step in evidence.steps] + [step.at for step in evidence.steps]
    seen += [check.at for check in evidence.checks]
    began, ended = moment(evidence.facts, "began"), moment(evidence.facts, "ended")
    if began is None and not seen:
        return None
    first = min(seen) if began is None else began
    return first, max([first, *seen]) if ended is None else ended


def ending_of(evidence: Evidence) -> Ending:
    """The ending that the session wrote down; for one that died before, that it died, and what it saw last."""
    said = mapping(evidence.facts, "ending")
    try:
        return from_json(said)
    except (KeyError, ValueError, TypeError):
        return died(evidence)


def died(evidence: Evidence) -> Ending:
    """The ending of a session that could not say one: nothing is claimed of what runs now."""
    last = evidence.steps[-1] if evidence.steps else None
    before = mapping(evidence.facts, "from")
    seen = f"its last step was {last.name}: {last.text}" if last else "it left no step"
    return Ending(
        word=Word.INCONCLUSIVE,
        project=text(evidence.facts, "project") or "the service",
        exit_code=-1,
        sentence=f"the session died before it could say how it ended; {seen}. Ask `cutover status` what runs now.",
        why=tuple(
            Why(check.test, f"{check.verdict.question}: {check.verdict.reason}")
            for check in evidence.checks
            if check.verdict.outcome in {"no", "unknown"}
        ),
        next=("cutover status", "cutover recover"),
        running=(Running(text(before, "colour"), text(before, "tag"), "ran before"),) if before else (),
        as_before=False,
        proven=sum(check.verdict.ok for check in evidence.checks),
    )
