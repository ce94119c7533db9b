"""The watch: ticks its questions, judges after each tick, stops at the first sure no."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cutover.core.verdict import Outcome, Verdict, unknown

UNKNOWNS_IN_A_ROW = 4


class Watched(Protocol):
    """One question that the watch asks again and again.

    A question that asks in the background may have `asked: int`, the number of answers and silences that it
    has seen: an unknown then counts once for each of them, not once for each tick.
    """

    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def every_s(self) -> float:
        """Seconds between two ticks."""

    def tick(self, now: float) -> None:
        """Ask once and remember; never raises for a silent service, engine or proxy."""

    def verdict(self) -> Verdict:
        """The judgement of all that was seen so far; pure."""


@dataclass(slots=True)
class Observed:
    """What a watch saw: the last verdict of each question, how long it ran, and why it ended."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    seconds: float = 0.0
    ended_by: str = ""
    """Name of the question that ended it early; empty for a full watch."""


@dataclass(slots=True)
class _Row:
    """One question's place in the watch."""

    question: Watched
    due: float
    unknowns: int = 0
    counted: int | None = None
    """How often it had been asked when it was last judged; None for one that does not count."""
    raised: Verdict | None = None
    """The unknown of its last exception, until it has asked once more."""

    def tick(self, now: float) -> Verdict:
        """Ask, judge, and count unknowns in a row."""
        raised = False
        try:
            self.question.tick(now)
            verdict = self.question.verdict()
        except Exception as error:  # noqa: BLE001 - a question with a mistake must not end a watch like a crash
            raised = True
            verdict = unknown(self.question.name, f"could not be asked: {type(error).__name__}: {error}")
        self.due += self.question.every_s
        if self.due <= now:  # a late watch does not catch up
            self.due = now + self.question.every_s
        asked: int | None = getattr(self.question, "asked", None)
        anew = raised or asked is None or asked != self.counted
        if not anew and self.raised is not None:
            return self.raised
        self.raised, self.counted = verdict if raised else None, asked
        if verdict.outcome is not Outcome.UNKNOWN:
            self.unknowns = 0
        elif anew:
            self.unknowns += 1
        return verdict


def watch(  # noqa: PLR0913 - time is an argument, for the tests
    questions: Sequence[Watched],
    duration_s: float,
    *,
    tick_s: float = 1.0,
    report_only: frozenset[str] = frozenset(),
    on_tick: Callable[[float, dict[str, Verdict]], None] = lambda _left, _verdicts: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Observed:
    """Tick *questions* for *duration_s*; end at the first sure no, or at four unknowns in a row.

    Each question is asked when its own time has come; *on_tick* is told the time left and the verdicts each
    *tick_s*, and at the end.
    """
    begun = clock()
    seen = Observed()
    rows = [_Row(each, begun) for each in questions]
    told = begun - tick_s
    while True:
        now = clock()
        for row in (each for each in rows if each.due <= now):
            verdict = seen.verdicts[row.question.name] = row.tick(now)
            if row.question.name not in report_only and _ends(verdict, row.unknowns):
                seen.ended_by = row.question.name
                break
        seen.seconds = clock() - begun
        over = bool(seen.ended_by) or seen.seconds >= duration_s
        if over or now - told >= tick_s:
            told = now
            on_tick(max(0.0, duration_s - seen.seconds), seen.verdicts)
        if over:
            return seen
        sleep(_until(clock(), [begun + duration_s, told + tick_s, *(row.due for row in rows)]))


def _ends(verdict: Verdict, unknowns: int) -> bool:
    """Whether this verdict ends the watch."""
    return verdict.outcome is Outcome.NO or unknowns >= UNKNOWNS_IN_A_ROW


def _until(now: float, moments: Sequence[float]) -> float:
    """Seconds to the next of *moments*, at least a hundredth, so that a late watch does not spin."""
    return max(0.01, min(moments) - now)
