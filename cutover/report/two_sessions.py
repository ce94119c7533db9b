"""What changed between two finished sessions: verdicts, what users got, and what each release answered differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC
from statistics import median
from typing import Any, Literal

from cutover.core.evidence import Check, Evidence, tests_not_asked, without_target
from cutover.core.text import count
from cutover.core.verdict import WORST_FIRST, Outcome
from cutover.report import facts
from cutover.report.charts import title_and_unit
from cutover.report.facts import ReportFolder

SERIES = ("p50", "p95", "p99", "memory MB", "cpu cores")
"""Series of the watch whose median is a figure of a session."""
MOST_LINES = 40
COLUMN = 10
SeenIn = Literal["first", "both", "second"]
CheckKey = tuple[int, str, str]
"""Stage, test without its target, question."""
Checks = dict[CheckKey, tuple[Outcome, str]]
"""The outcome of each check and its reason."""


@dataclass(frozen=True, slots=True)
class CheckChange:
    """A check with another outcome in the second session."""

    stage: int
    test: str
    question: str
    was: Outcome
    now: Outcome
    reason: str
    """Of the second session."""

    @property
    def text(self) -> str:
        """`smoke/test_ready.py::test_ready: yes → no: ready: expected status 200, got 503`."""
        return f"{self.test}: {self.was} → {self.now}: {self.question}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of both sessions; None where it is not known."""

    name: str
    """Its last word is the unit, as of a series: `p95`, `memory MB`."""
    was: float | None
    now: float | None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Title, first value, second value, and the change in percent if there is one."""
        title, spell = title_and_unit(self.name)
        was, now = ("unknown" if each is None else spell(each) for each in (self.was, self.now))
        if not self.was or self.now is None or self.now == self.was:
            return title, was, now, ""
        return title, was, now, f"{self.now / self.was - 1:+.0%}"


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """A difference that the check `compare` of one session or of both has recorded."""

    seen_in: SeenIn
    difference: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionChanges:
    """What differs between the *first* and the *second* session."""

    first: ReportFolder
    second: ReportFolder
    checks: tuple[CheckChange, ...]
    """The worst outcome in the second session first."""
    same: int
    """How many checks have the same outcome in both."""
    only_first: int
    only_second: int
    """How many checks the other session does not have."""
    figures: tuple[Figure, ...]
    answers: tuple[AnswerChange, ...]
    """Those of the second session only come first."""

    @property
    def checks_sentence(self) -> str:
        """`2 changed, 12 the same, 3 only in the first`."""
        only = [("the first", self.only_first), ("the second", self.only_second)]
        rest = [f"{times:,} only in {which}" for which, times in only if times]
        return ", ".join([f"{len(self.checks):,} changed", f"{self.same:,} the same", *rest])

    @property
    def answers_sentence(self) -> str:
        """What both sessions found that their new release answered differently from the one before it."""
        compared = [bool(facts.comparison_of(each.evidence)) for each in (self.first, self.second)]
        if not all(compared):
            only = f"only the {'first' if compared[0] else 'second'}"
            return f"{only if any(compared) else 'neither session'} compared answers"
        found = Counter[str](each.seen_in for each in self.answers)
        where = (("second", "only in the second"), ("both", "in both"), ("first", "only in the first"))
        return ", ".join(f"{count(found[key], 'difference')} {said}" for key, said in where)

    def as_json(self) -> dict[str, Any]:
        """A dictionary of JSON values."""
        return {
            "first": _session_json(self.first),
            "second": _session_json(self.second),
            "checks": [asdict(each) for each in self.checks],
            "same_checks": self.same,
            "checks_only_in": {"first": self.only_first, "second": self.only_second},
            "figures": [asdict(each) for each in self.figures],
            "answers": [{**each.difference, "seen_in": each.seen_in} for each in self.answers],
        }


def changes_between(first: ReportFolder, second: ReportFolder) -> SessionChanges:
    """Compare two sessions."""
    was, now = _checks(first.evidence), _checks(second.evidence)
    _add_not_asked(was, now, first.evidence)
    _add_not_asked(now, was, second.evidence)
    both = [key for key in was if key in now]
    changed = [CheckChange(*key, was[key][0], *now[key]) for key in both if was[key][0] is not now[key][0]]
    return SessionChanges(
        first,
        second,
        tuple(sorted(changed, key=lambda each: WORST_FIRST.index(each.now))),
        len(both) - len(changed),
        len(was) - len(both),
        len(now) - len(both),
        tuple(_figures(first, second)),
        tuple(_answers(first.evidence, second.evidence)),
    )


def _checks(evidence: Evidence) -> Checks:
    """The worst outcome of each check."""
    worst: dict[CheckKey, Check] = {}
    for check in evidence.checks:
        key = (check.stage, *check.comparable)
        if key not in worst or check.verdict.rank < worst[key].verdict.rank:
            worst[key] = check
    return {key: (check.verdict.outcome, check.verdict.reason) for key, check in worst.items()}


def _add_not_asked(mine: Checks, theirs: Checks, evidence: Evidence) -> None:
    """Add those checks of *theirs* whose test this session has left out; it records no question for them."""
    targets = {facts.fact_text(evidence.facts, "target"), *(check.target for check in evidence.checks)}
    left_out = {}
    for reason, tests in tests_not_asked(evidence).items():
        for test in tests:
            name = test
            for target in sorted(targets):
                name = without_target(name, target)
            left_out[name] = reason
    for key in theirs:
        if key not in mine and key[1] in left_out:
            mine[key] = Outcome.NOT_ASKED, left_out[key[1]]


def _figures(first: ReportFolder, second: ReportFolder) -> Iterator[Figure]:
    """Those that at least one session has."""
    was, now = _numbers(first), _numbers(second)
    for name in was:
        if was[name] is not None or now[name] is not None:
            yield Figure(name, was[name], now[name])


def _numbers(seen: ReportFolder) -> dict[str, float | None]:
    evidence = seen.evidence
    color = facts.fact_text(facts.fact_mapping(evidence.facts, "to"), "color")
    lines = {name: evidence.series.get((name, color)) for name in SERIES}
    medians = {name: median(each.value for each in line) if line else None for name, line in lines.items()}
    of_users = [each.verdict.evidence for each in evidence.checks if each.verdict.question == "5xx"]
    last: Mapping[str, Any] = next((each for each in reversed(of_users) if each.get("requests")), {})
    requests, failed = facts.fact_number(last, "requests"), facts.fact_number(last, "failed")
    lasted, proof = facts.span(evidence), facts.fact_mapping(evidence.facts, "proof")
    return {
        "requests of users": requests,
        "failed requests share": failed / requests if requests and failed is not None else None,
        **medians,
        "longest gap of the switch ms": facts.fact_number(proof, "longest_gap_ms"),
        "duration seconds": lasted[1] - lasted[0] if lasted else None,
    }


def _answers(first: Evidence, second: Evidence) -> Iterator[AnswerChange]:
    was, now = _differences(first), _differences(second)
    yield from (AnswerChange("second", each) for key, each in now.items() if key not in was)
    yield from (AnswerChange("both", each) for key, each in now.items() if key in was)
    yield from (AnswerChange("first", each) for key, each in was.items() if key not in now)


def _differences(evidence: Evidence) -> dict[tuple[str, ...], Mapping[str, Any]]:
    rows = facts.comparison_of(evidence).get("differences") or ()
    return {tuple(str(row.get(key)) for key in ("route", "kind", "where")): row for row in rows}


def _session_json(seen: ReportFolder) -> dict[str, Any]:
    return {
        "folder": str(seen.path),
        "status": str(seen.result.status),
        "tags": facts.tags(seen.evidence.facts),
        "compared": facts.comparison_of(seen.evidence).get("compared", 0),
    }


# --- text --------------------------------------------------------------------------------------------------------
def change_lines(found: SessionChanges) -> list[str]:
    """What changed, as lines for a terminal."""
    answers = [f"{each.seen_in}: {each.difference.get('text', '')}" for each in found.answers]
    figures = [
        f"{title}: {was} → {now}{f' ({change})' if change else ''}"
        for title, was, now, change in (each.cells for each in found.figures)
    ]
    return [
        *_lines("first", [_session_line(found.first)]),
        *_lines("second", [_session_line(found.second)]),
        *_lines("answers", [found.answers_sentence, *answers]),
        *_lines("checks", [found.checks_sentence, *(each.text for each in found.checks)]),
        *_lines("figures", figures),
    ]


def _session_line(seen: ReportFolder) -> str:
    """`RELEASED · sha-1 → sha-2 · 2025-09-04 01:06:20 UTC · reports/…`."""
    lasted = facts.span(seen.evidence)
    tags = " → ".join(facts.tags(seen.evidence.facts))
    ended = facts.Times(UTC).full(lasted[1]) if lasted else ""
    return " · ".join(filter(None, (str(seen.result.status), tags, ended, str(seen.path))))


def _lines(label: str, texts: list[str]) -> list[str]:
    more = len(texts) - MOST_LINES
    shown = [*texts[:MOST_LINES], *([f"{more:,} more, see --json"] if more > 0 else [])]
    return [f"{'' if n else label:<{COLUMN}}{text}" for n, text in enumerate(shown)]
