"""Verdict: the result of one check, with its reason and evidence; Finding: what is wrong in a file, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The four possible outcomes of a check. Only YES passes."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_ASKED = "not asked"

    @property
    def counted(self) -> str:
        """The word beside a number of checks, as pytest says it: `14 passed, 1 failed`."""
        return {"yes": "passed", "no": "failed"}.get(self.value, self.value)


WORST_FIRST = (Outcome.NO, Outcome.UNKNOWN, Outcome.YES, Outcome.NOT_ASKED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check.

    `reason` is one line in lower case without a full stop; numbers have units.
    `evidence` holds JSON values from an allow-list: never an environment or a header that carries a secret.
    """

    question: str
    outcome: Outcome
    reason: str
    expected: str = ""
    seen: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return `question: reason`, followed by one indented line for each piece of evidence."""
        head = f"{self.question}: {self.reason}"
        return "\n".join([head, *(f"    {key}: {value}" for key, value in self.evidence.items())])

    @property
    def ok(self) -> bool:
        """Whether the outcome is YES."""
        return self.outcome is Outcome.YES

    @property
    def rank(self) -> int:
        """Sort key: the worst outcome first."""
        return WORST_FIRST.index(self.outcome)

    def named(self, question: str) -> Verdict:
        """Return a copy with another check name."""
        return replace(self, question=question)

    def of(self, what: str) -> Verdict:
        """Return a copy whose reason starts with *what*, the name of the thing that was checked."""
        return replace(self, reason=f"{what}: {self.reason}")

    def reported(self, why: str) -> Verdict:
        """The same verdict as "not asked: reported: …": it stays in the reports and decides nothing."""
        return replace(self, outcome=Outcome.NOT_ASKED, reason=f"reported: {self.reason}; {why}")

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON values, as evidence.jsonl stores it."""
        return asdict(self) | {"outcome": str(self.outcome), "evidence": dict(self.evidence)}


def yes(question: str, reason: str, *, expected: str = "", seen: str = "", **evidence: Any) -> Verdict:
    """Return a verdict for a check that passed."""
    return Verdict(question, Outcome.YES, reason, expected, seen, evidence)


def no(question: str, reason: str, *, expected: str = "", seen: str = "", **evidence: Any) -> Verdict:
    """Return a verdict for a wrong answer, or for no answer although the path to the service is up."""
    return Verdict(question, Outcome.NO, reason, expected, seen, evidence)


def unknown(question: str, reason: str, *, expected: str = "", seen: str = "", **evidence: Any) -> Verdict:
    """Return a verdict for a check that got no answer and whose control probe failed too."""
    return Verdict(question, Outcome.UNKNOWN, reason, expected, seen, evidence)


def not_asked(question: str, reason: str) -> Verdict:
    """Return a verdict for a check that does not apply to this target or configuration; it does not count."""
    return Verdict(question, Outcome.NOT_ASKED, reason)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: where it is, what it is, and what to do."""

    where: str
    what: str
    todo: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.todo}"


def shortened(text: str, most: int = 300) -> str:
    """Return *text* on one line, cut to *most* characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}… ({len(text)} characters)"


Asks = Mapping[str, Callable[[], Verdict | Iterable[Verdict]]]
"""Name of a check -> asks it."""
AssertVerdict = Callable[[Verdict | Iterable[Verdict] | Asks], None]
"""The type of the fixture `assert_verdict`: it records verdicts as evidence and fails the test on no or unknown.

Of a mapping each check is asked in turn, until one fails; one that `[checks] off` names is not asked at all.
"""
