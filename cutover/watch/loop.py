"""The watch loop: polls each check in its own interval and stops at the first sure no."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cutover.core.verdict import Outcome, Verdict, unknown
from cutover.watch.check import WatchCheck

UNKNOWNS_IN_A_ROW = 4


@dataclass(slots=True)
class WatchResult:
    """The last verdict of each check by its name, and how the watch ended."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    seconds: float = 0.0
    ended_by: str = ""
    """Name of the check that ended the watch early; empty for a full watch."""


@dataclass(slots=True)
class _Row:
    """The state of one check in the loop."""

    check: WatchCheck
    due: float
    unknowns: int = 0
    """Unknown verdicts in a row."""
    counted: int = -1
    """`polls` of the source when the check was judged last."""
    raised: Verdict | None = None
    """The verdict for the last exception; it holds until the source has answered again."""

    def judge(self, now: float) -> Verdict:
        """Poll and judge the check, schedule its next poll, and count unknown verdicts in a row."""
        raised = False
        try:
            self.check.poll(now)
            verdict = self.check.verdict()
        except Exception as error:  # noqa: BLE001 - a bug in one check must not end the watch with a traceback
            raised = True
            verdict = unknown(self.check.name, f"could not be asked: {type(error).__name__}: {error}")
        source = self.check.source
        self.due += source.every_s
        if self.due <= now:  # after a pause a check is polled once, not once for each missed poll
            self.due = now + source.every_s
        # A source that still waits for its answer has nothing new: its unknown verdict counts once.
        is_new = raised or source.polls != self.counted
        if not is_new and self.raised is not None:
            return self.raised
        self.raised, self.counted = verdict if raised else None, source.polls
        if verdict.outcome is not Outcome.UNKNOWN:
            self.unknowns = 0
        elif is_new:
            self.unknowns += 1
        return verdict


def run_watch(  # noqa: PLR0913 - time is an argument, for the tests
    checks: Sequence[WatchCheck],
    duration_s: float,
    *,
    tick_s: float = 1.0,
    report_only: frozenset[str] = frozenset(),
    on_tick: Callable[[float, dict[str, Verdict]], None] = lambda _left, _verdicts: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> WatchResult:
    """Run *checks* for *duration_s* seconds; end early at the first no, or at four unknowns in a row of one check.

    Checks named in *report_only* never end the watch. *on_tick* gets the seconds left and the verdicts so far,
    every *tick_s* seconds and at the end.
    """
    begun = clock()
    result = WatchResult()
    rows = [_Row(each, begun) for each in checks]
    ticked = begun - tick_s
    while True:
        now = clock()
        for row in (each for each in rows if each.due <= now):
            name = row.check.name
            verdict = result.verdicts[name] = row.judge(now)
            ends = verdict.outcome is Outcome.NO or row.unknowns >= UNKNOWNS_IN_A_ROW
            if ends and name not in report_only:
                result.ended_by = name
                break
        result.seconds = clock() - begun
        over = bool(result.ended_by) or result.seconds >= duration_s
        if over or now - ticked >= tick_s:
            ticked = now
            on_tick(max(0.0, duration_s - result.seconds), result.verdicts)
        if over:
            return result
        next_at = min([begun + duration_s, ticked + tick_s, *(row.due for row in rows)])
        sleep(max(0.01, next_at - clock()))  # at least 10 ms, so that a late watch does not spin
