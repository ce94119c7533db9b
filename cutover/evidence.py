"""What a session saw, as one list of records that every report is made from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cutover.secret import MASK
from cutover.verdict import Verdict


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
    samples: list[Sample] = field(default_factory=list)
    again: list[dict[str, Any]] = field(default_factory=list)
    """Checks of a gate that ran again as a child, after a take-back or on a new schema."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Who, from, to, proof of the switch, times, exit code: what the head of the report says."""

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
        """Keep one point of a series; points are not written one by one, the watch ticks often."""
        self.samples.append(Sample(series, colour, self.clock(), value))

    def fact(self, key: str, value: Any) -> None:
        """Keep a fact of the whole session, a JSON value."""
        self.facts[key] = value
        self._write("fact", {"key": key, "value": value})

    def _write(self, kind: str, row: dict[str, Any]) -> None:
        if self.file is None:
            return
        line = MASK(json.dumps({"kind": kind, **row}, ensure_ascii=False, default=str))
        with self.file.open("a", encoding="utf-8") as out:
            out.write(line + "\n")
