"""The watch loop: polls each check in its own interval and stops at the first sure no; also in the background."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cutover.core.verdict import Outcome, Verdict, unknown
from cutover.watch.check import WatchCheck

UNKNOWNS_IN_A_ROW = 4
STOP_S = 15.0  # longer than a check looks at the old color before its no counts


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
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> WatchResult:
    """Run *checks* for *duration_s* seconds; end early at the first no, or at four unknowns in a row of one check.

    Checks named in *report_only* never end the watch. *on_tick* gets the seconds left and the verdicts so far,
    every *tick_s* seconds and at the end. It ends early too when *stopped* returns True.
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
        over = bool(result.ended_by) or result.seconds >= duration_s or stopped()
        if over or now - ticked >= tick_s:
            ticked = now
            on_tick(max(0.0, duration_s - result.seconds), result.verdicts)
        if over:
            return result
        next_at = min([begun + duration_s, ticked + tick_s, *(row.due for row in rows)])
        sleep(max(0.01, next_at - clock()))  # at least 10 ms, so that a late watch does not spin


@dataclass(eq=False)
class BackgroundWatch:
    """Runs *checks* in a thread of its own while the session does something else, until `stop` or the first sure no.

    `start` and `stop` may be called in turn: while it is stopped, its checks may be run by somebody else.
    """

    checks: Sequence[WatchCheck]
    report_only: frozenset[str] = frozenset()
    on_end: Callable[[], None] = lambda: None
    """Called in its thread when a check has ended it."""
    ended: Verdict | None = None
    """The verdict of the check that ended it."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Go on watching, unless it watches already or a check has ended it."""
        if self._thread is None and self.ended is None and self.checks:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="cutover-watch", daemon=True)
            self._thread.start()

    def stop(self) -> Verdict | None:
        """Stop watching; the verdict of the check that ended it before."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_S)
        self._thread = None
        return self.ended

    def _run(self) -> None:
        seen = run_watch(
            self.checks, math.inf, report_only=self.report_only, stopped=self._stop.is_set, sleep=self._wait
        )
        if seen.ended_by:
            self.ended = seen.verdicts[seen.ended_by]
            self.on_end()

    def _wait(self, seconds: float) -> None:
        self._stop.wait(seconds)
