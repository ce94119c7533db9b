"""What a session saw, as one list of records that every report is made from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cutover.core.masking import MASK
from cutover.core.verdict import Outcome, Verdict

BATCH = 200  # points of the watch in one line of the file
MOST_POINTS = 1000  # of one series in memory; a chart shows fewer


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one test: which test, on which target, in which stage, how long, with what verdict."""

    test: str
    target: str
    stage: int
    verdict: Verdict
    seconds: float
    at: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the run of show: `deploy green`, what came of it, how long it took."""

    moment: str
    """`T-15m`, `T-10m`, `T-0`, `T+15m` or empty."""
    name: str
    text: str
    seconds: float
    at: float
    """When it ended, in seconds since 1970."""
    outcome: str = "yes"


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of a series of the watch."""

    series: str
    colour: str
    at: float
    value: float


@dataclass(slots=True)
class Evidence:
    """All that one session saw; appended to a file as it comes, so that a killed session leaves it too."""

    file: Path | None = None
    clock: Callable[[], float] = time.time
    checks: list[Check] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    series: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    """Each colour's points of each series: in memory the lowest and highest where there are many, in the file all."""
    again: list[dict[str, Any]] = field(default_factory=list)
    """Checks of a gate that ran again as a child, after a take-back or on a new schema."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Who, from, to, proof of the switch, times: what `cutover.report.facts` lists, and what else is worth it."""
    lost: int = 0
    """Lines that could not be written, for example to a full disk, and lines of a file that cannot be read."""
    _unwritten: list[Sample] = field(default_factory=list)
    """The points that are not in the file yet."""

    @property
    def samples(self) -> list[Sample]:
        """The points of all series, in the order in which these were first seen."""
        return [each for line in self.series.values() for each in line]

    def check(self, test: str, target: str, stage: int, verdict: Verdict, seconds: float) -> Check:
        """Keep the verdict of one check."""
        row = Check(test, target, stage, verdict, seconds, self.clock())
        self.checks.append(row)
        self._write("check", asdict(row) | {"verdict": verdict.as_json()})
        return row

    def step(self, moment: str, name: str, text: str, seconds: float, outcome: str = "yes") -> Step:
        """Keep one line of the run of show."""
        row = Step(moment, name, MASK(text), seconds, self.clock(), outcome)
        self.steps.append(row)
        self._write("step", asdict(row))
        return row

    def sample(self, series: str, colour: str, value: float) -> None:
        """Keep one point of a series; points are written in batches, for the watch ticks often."""
        point = Sample(series, colour, self.clock(), value)
        self.take(point)
        self._unwritten.append(point)
        if len(self._unwritten) >= BATCH:
            self.flush()

    def take(self, point: Sample) -> None:
        """Keep *point* in memory, which stays constant however long the watch is."""
        line = self.series.setdefault((point.series, point.colour), [])
        line.append(point)
        if len(line) > MOST_POINTS:
            line[:] = [each for at in range(0, len(line), 4) for each in _ends(line[at : at + 4])]

    def fact(self, key: str, value: Any) -> None:
        """Keep a fact of the whole session, a JSON value."""
        self.facts[key] = value
        self._write("fact", {"key": key, "value": value})

    def flush(self) -> None:
        """Write the points that are not in the file yet."""
        rows = [[each.series, each.colour, each.at, each.value] for each in self._unwritten]
        self._unwritten.clear()
        if rows:
            self._write("samples", {"rows": rows})

    def _write(self, kind: str, row: dict[str, Any]) -> None:
        if self.file is None:
            return
        line = json.dumps(MASK.within({"kind": kind, **row}), ensure_ascii=False) + "\n"
        try:
            with self.file.open("a", encoding="utf-8", errors="replace") as out:
                out.write(line)
        except OSError:
            # A full disk is no reason to stop a release, least of all a take-back; the report says what is lost.
            self.lost += 1


def _ends(points: list[Sample]) -> list[Sample]:
    """The lowest and the highest of some neighbouring points, so that no peak is lost."""
    low, high = (choose(points, key=lambda point: point.value) for choose in (min, max))
    return sorted({low, high}, key=lambda point: point.at)


def load(file: Path) -> Evidence:
    """The evidence that a session wrote to *file*; damaged lines, as a killed session leaves them, are counted."""
    evidence = Evidence()
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            _take_in(evidence, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            evidence.lost += 1
    return evidence


def _take_in(evidence: Evidence, row: dict[str, Any]) -> None:
    kind = row.pop("kind")
    if kind == "check":
        verdict = row.pop("verdict")
        verdict["outcome"] = Outcome(verdict["outcome"])
        evidence.checks.append(Check(verdict=Verdict(**verdict), **row))
    elif kind == "step":
        evidence.steps.append(Step(**row))
    elif kind == "samples":
        for each in row["rows"]:
            evidence.take(Sample(*each))
    elif kind == "fact":
        evidence.facts[row["key"]] = row["value"]
