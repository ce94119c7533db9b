"""The four words that a question can be answered with, and the verdict that carries one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What a question was answered with; only YES ever passes."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One question with its answer, why in one line, and what was seen.

    `reason` is lower case without a full stop, with units, to be read on a phone.
    `evidence` holds JSON values only, from an allow-list: never an environment or a header with a secret.
    """

    question: str
    outcome: Outcome
    reason: str
    expected: str = ""
    seen: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """The line a person reads first, and its evidence below."""
        head = f"{self.question}: {self.reason}"
        return "\n".join([head, *(f"    {key}: {value}" for key, value in self.evidence.items())])

    @property
    def ok(self) -> bool:
        """Whether this verdict lets a release pass."""
        return self.outcome is Outcome.YES

    def named(self, question: str) -> Verdict:
        """The same verdict under another question's name."""
        return replace(self, question=question)

    def of(self, what: str) -> Verdict:
        """The same verdict, whose reason says of what it is."""
        return replace(self, reason=f"{what}: {self.reason}")

    def as_json(self) -> dict[str, Any]:
        """A dictionary of JSON values, the form in which evidence is written."""
        return asdict(self) | {"outcome": str(self.outcome), "evidence": dict(self.evidence)}


def yes(question: str, reason: str, *, expected: str = "", seen: str = "", **evidence: Any) -> Verdict:
    """A question answered as hoped."""
    return Verdict(question, Outcome.YES, reason, expected, seen, evidence)


def no(question: str, reason: str, *, expected: str = "", seen: str = "", **evidence: Any) -> Verdict:
    """A wrong answer, or silence although the way to the service is known good."""
    return Verdict(question, Outcome.NO, reason, expected, seen, evidence)


def unknown(question: str, reason: str, *, expected: str = "", seen: str = "", **evidence: Any) -> Verdict:
    """A question that was asked and whose control failed too."""
    return Verdict(question, Outcome.UNKNOWN, reason, expected, seen, evidence)


def not_asked(question: str, reason: str) -> Verdict:
    """A question that this target or configuration cannot be asked; it does not count."""
    return Verdict(question, Outcome.NOT_ASKED, reason)


def shortened(text: str, most: int = 300) -> str:
    """*text* in one line, cut to what a report can show."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}… ({len(text)} characters)"
