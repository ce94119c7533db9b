"""The watch: ticks its questions, judges after each tick, stops at the first sure no."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cutover.verdict import Outcome, Verdict

UNKNOWNS_IN_A_ROW = 4


class Watched(Protocol):
    """One question that the watch asks again and again."""

    name: str
    every_s: float

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


def watch(
    questions: Sequence[Watched],
    duration_s: float,
    *,
    tick_s: float = 1.0,
    report_only: frozenset[str] = frozenset(),
    on_tick: Callable[[float, dict[str, Verdict]], None] = lambda _left, _verdicts: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Observed:
    """Tick *questions* for *duration_s*; end at the first sure no, or when one is unknown four times in a row."""
    begun = clock()
    seen = Observed()
    due = dict.fromkeys((each.name for each in questions), begun)
    unknowns = dict.fromkeys(due, 0)
    while True:
        now = clock()
        for each in questions:
            if due[each.name] <= now:
                each.tick(now)
                due[each.name] = max(due[each.name] + each.every_s, now)
                verdict = seen.verdicts[each.name] = each.verdict()
                unknowns[each.name] = unknowns[each.name] + 1 if verdict.outcome is Outcome.UNKNOWN else 0
                if each.name in report_only:
                    continue
                if verdict.outcome is Outcome.NO or unknowns[each.name] >= UNKNOWNS_IN_A_ROW:
                    seen.ended_by, seen.seconds = each.name, clock() - begun
                    return seen
        seen.seconds = clock() - begun
        on_tick(max(0.0, duration_s - seen.seconds), seen.verdicts)
        if seen.seconds >= duration_s:
            return seen
        sleep(max(0.01, min(tick_s, begun + duration_s - clock())))
