"""The evidence of a session: checks, steps, samples and facts, written to and read from evidence.jsonl.

One line is one JSON object with its `kind`: `check` (with the id by which reports refer to it), `step`, `samples` or
`fact`. The file is appended to as things happen, so that a killed session leaves its evidence too.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cutover.core.masking import MASK
from cutover.core.verdict import Outcome, Verdict

BATCH = 200  # samples in one line of the file
MOST_POINTS = 1000  # samples of one series in memory; a chart shows fewer
STEPS = frozenset({"prepare", "deploy", "switch"})
PARAMETERS = re.compile(r"\[(.*)\]$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Check:
    """One recorded verdict: its id, and which test of which target in which stage it came from."""

    id: int
    """Unique in its session, in the order of recording, from 1."""
    test: str
    """A pytest node id, or `deploy::up` for a check of the release itself."""
    target: str
    stage: int
    """0 gate, 1 through the proxy, 2 watch."""
    verdict: Verdict
    seconds: float
    """How long it took."""
    at: float
    """When it ended, in seconds since 1970."""
    cause: int | None = None
    """The id of the check that made this test fail: it could not run because a step of the release had failed."""

    @property
    def bad(self) -> bool:
        """Whether the outcome is no or unknown."""
        return self.verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}

    @property
    def of_release(self) -> bool:
        """Whether the release itself recorded it, like `deploy::up`, and no test."""
        return self.test.partition("::")[0] in STEPS

    @property
    def comparable(self) -> tuple[str, str]:
        """The test without its target, and the question: equal for the same check before and after the switch."""
        return without_target(self.test, self.target), self.verdict.question


def without_target(test: str, target: str) -> str:
    """The node id *test* without *target* among its parameters."""
    found = PARAMETERS.search(test)
    if found is None:
        return test
    rest, base = found[1].replace(target, "", 1).strip("-"), test[: found.start()]
    return f"{base}[{rest}]" if rest else base


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the release, for example `deploy green`: its result and how long it took."""

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
    color: str
    at: float
    value: float


@dataclass(slots=True)
class Evidence:
    """Everything that one session recorded."""

    file: Path | None = None
    """Where it is appended to."""
    clock: Callable[[], float] = time.time
    on_check: Callable[[Check], None] | None = None
    on_step: Callable[[Step], None] | None = None
    """Called with each row after it was recorded; must not raise."""
    checks: list[Check] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    series: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    """(series, color) -> its samples; a long series keeps only its lowest and highest ones, the file has all."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts of the whole session by name; `cutover.report.facts` lists them."""
    lost: int = 0
    """Lines that could not be written, for example to a full disk, or could not be read back."""
    _unwritten: list[Sample] = field(default_factory=list)

    @property
    def samples(self) -> list[Sample]:
        """The samples of all series, in the order in which the series began."""
        return [each for line in self.series.values() for each in line]

    def check(
        self,
        test: str,
        target: str,
        stage: int,
        verdict: Verdict,
        seconds: float,
        *,
        cause: int | None = None,
    ) -> Check:
        """Record a verdict; returns it with its id."""
        row = Check(len(self.checks) + 1, test, target, stage, verdict, seconds, self.clock(), cause)
        self.checks.append(row)
        self._write("check", asdict(row) | {"verdict": verdict.as_json()})
        if self.on_check is not None:
            self.on_check(row)
        return row

    def step(self, moment: str, name: str, text: str, seconds: float, outcome: str = "yes") -> Step:
        """Record a step of the release."""
        row = Step(moment, name, MASK(text), seconds, self.clock(), outcome)
        self.steps.append(row)
        self._write("step", asdict(row))
        if self.on_step is not None:
            self.on_step(row)
        return row

    def sample(self, series: str, color: str, value: float) -> None:
        """Record a point of a series; points are written in batches because there are many."""
        point = Sample(series, color, self.clock(), value)
        self.keep_sample(point)
        self._unwritten.append(point)
        if len(self._unwritten) >= BATCH:
            self.flush()

    def keep_sample(self, point: Sample) -> None:
        """Keep *point* in memory, whose size does not grow with the length of the watch."""
        line = self.series.setdefault((point.series, point.color), [])
        line.append(point)
        if len(line) > MOST_POINTS:
            line[:] = [each for at in range(0, len(line), 4) for each in _extremes(line[at : at + 4])]

    def fact(self, key: str, value: Any) -> None:
        """Record a fact of the whole session, a JSON value."""
        self.facts[key] = value
        self._write("fact", {"key": key, "value": value})

    def flush(self) -> None:
        """Write the samples that are not in the file yet."""
        # One step: the watch in the background adds samples too.
        points, self._unwritten = self._unwritten, []
        rows = [[each.series, each.color, each.at, each.value] for each in points]
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
            # A full disk must not stop a release, least of all a revert; the report says how many lines are missing.
            self.lost += 1


def _extremes(points: list[Sample]) -> list[Sample]:
    """The lowest and the highest of some neighboring samples, so that no peak is lost."""
    low, high = (choose(points, key=lambda point: point.value) for choose in (min, max))
    return sorted({low, high}, key=lambda point: point.at)


def load_evidence(file: Path) -> Evidence:
    """The evidence in *file*; damaged lines, as a killed session leaves them, are counted as lost. Raises OSError."""
    evidence = Evidence()
    for line in _lines(file):
        try:
            _read_row(evidence, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            evidence.lost += 1
    return evidence


def _read_row(evidence: Evidence, row: dict[str, Any]) -> None:
    match row.pop("kind"):
        case "check":
            verdict = row.pop("verdict")
            verdict["outcome"] = Outcome(verdict["outcome"])
            evidence.checks.append(Check(verdict=Verdict(**verdict), **row))
        case "step":
            evidence.steps.append(Step(**row))
        case "samples":
            for each in row["rows"]:
                evidence.keep_sample(Sample(*each))
        case "fact":
            evidence.facts[row["key"]] = row["value"]


def by_test(checks: Iterable[Check]) -> list[tuple[Check, ...]]:
    """The verdicts of each test, the worst first: its outcome is that of the first one."""
    found: dict[str, list[Check]] = {}
    for check in checks:
        found.setdefault(check.test, []).append(check)
    return [tuple(sorted(rows, key=lambda row: row.verdict.rank)) for rows in found.values()]


def tests_not_asked(evidence: Evidence) -> dict[str, list[str]]:
    """Reason -> the tests that were not asked: those that could not be, and those whose verdicts all say so."""
    found: dict[str, list[str]] = {}
    for test, reason in evidence.facts.get("not asked") or ():
        found.setdefault(str(reason), []).append(str(test))
    listed = {test for tests in found.values() for test in tests}
    for first, *_ in by_test(evidence.checks):
        if first.verdict.outcome is Outcome.NOT_ASKED and first.test not in listed:
            found.setdefault(first.verdict.reason, []).append(first.test)
    return found


def count_outcomes(evidence: Evidence) -> Counter[Outcome]:
    """How many checks have which outcome: the one count of every report.

    A check is a test with all its verdicts. What the release itself recorded is a step, and counts only if it is bad.
    """
    firsts = [rows[0] for rows in by_test(evidence.checks)]
    counts = Counter(each.verdict.outcome for each in firsts if each.bad or not each.of_release)
    counts[Outcome.NOT_ASKED] = sum(map(len, tests_not_asked(evidence).values()))
    return counts


def outcome_counts(evidence: Evidence) -> str:
    """`14 passed`, `12 passed, 1 failed, 1 unknown, 3 not asked`; `no check ran` if there is none."""
    found = count_outcomes(evidence)
    return ", ".join(f"{found[each]:,} {each.counted}" for each in Outcome if found[each]) or "no check ran"


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file with one in each line; damaged lines and a missing file are left out.

    Raises OSError for one that is there and cannot be read.
    """
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError):
        for line in _lines(file):
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                rows += [row] if isinstance(row, dict) else []
    return rows


def _lines(file: Path) -> list[str]:
    """The lines of a file; U+2028 and its like, at which `str.splitlines` splits too, stand in JSON as they are."""
    return [line for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
