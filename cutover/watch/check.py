"""A watch check: a source that is polled in the background, and a pure judge of what it has seen; the watch loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Generic, TypeVar

from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Outcome, Verdict, not_asked, unknown
from cutover.system.process import in_thread

T = TypeVar("T")
Start = Callable[[Callable[[], None]], None]
ANSWER_GRACE_S = 0.05  # most answers arrive at once: waiting this long for them saves a whole interval
TROUBLE_KEPT_S = 1.0  # several checks fail in the same moment: one look at the old color serves them all


def at_once(work: Callable[[], None]) -> None:
    """Run *work* in the calling thread; for tests, and for work that never blocks."""
    work()


@dataclass(eq=False)
class Source(Generic[T]):
    """Calls *ask* again and again in the background, so that one slow answer delays no other check.

    The watch polls each source every `every_s` seconds. A poll takes the answers that have arrived, and calls
    *ask* again if the last call is at least `pace_s` seconds ago and fewer than `at_most` calls are running.
    *ask* needs a deadline of its own. If it raises EngineUnavailable, `silent` says why; any other exception is
    raised by the poll that collects it. Several checks may share a source.
    """

    ask: Callable[[], T]
    _: KW_ONLY
    every_s: float = 0.5
    pace_s: float = 0.0
    at_most: int = 1
    grace_s: float = ANSWER_GRACE_S
    start: Start = in_thread
    last: T | None = None
    """The last answer."""
    count: int = 0
    """Number of answers and silences so far."""
    silence: str = ""
    """Why the last call of *ask* got no answer; empty if it got one."""
    note: str = ""
    """What happened that decides nothing and is to be reported; empty if nothing did."""
    running: int = 0
    """Calls of *ask* that have not been collected."""
    _asked_at: float = float("-inf")
    _polled_at: float = float("-inf")
    _answers: SimpleQueue[tuple[Any, BaseException | None]] = field(default_factory=SimpleQueue)

    expected: ClassVar[str] = ""
    """What should answer, for the verdict while it is silent."""
    pending: ClassVar[str] = "not answered yet"
    """Reason of the verdict before the first answer."""

    @property
    def polls(self) -> int:
        """Number of answers and silences; while it stays the same, there is nothing new to judge."""
        return self.count

    @property
    def silent(self) -> str:
        """Why nothing can be judged now; empty while the source answers."""
        return self.silence

    def take(self, answer: T) -> None:
        """Add one answer to what the judges look at; the default keeps only `last`."""

    def reset(self) -> None:
        """Forget what was counted so far."""
        self.last = None

    def poll(self, now: float) -> None:
        """Take the answers that have arrived, and ask again if it is time; once for each *now*."""
        if now == self._polled_at:  # another check of this source has polled it in this round
            return
        self._polled_at, wait = now, 0.0
        if self.running < self.at_most and now - self._asked_at >= 0.9 * self.pace_s:
            self._asked_at, wait = now, self.grace_s
            self.running += 1
            self.start(self._work)
        while self.running and self._collect(wait):
            wait = 0.0

    def _work(self) -> None:
        try:
            self._answers.put((self.ask(), None))
        except BaseException as error:  # noqa: BLE001 - raised again by the poll that collects it
            self._answers.put((None, error))

    def _collect(self, wait: float) -> bool:
        try:
            answer, error = self._answers.get(timeout=wait) if wait else self._answers.get_nowait()
        except Empty:
            return False
        self.running -= 1
        if isinstance(error, EngineUnavailable):
            self.count, self.silence = self.count + 1, str(error)
        elif error is not None:
            raise error
        else:
            self.count, self.silence, self.last = self.count + 1, "", answer
            self.take(answer)
        return True


@dataclass(slots=True)
class OldColorTrouble:
    """What is wrong with the old color, in words; empty if nothing is. Asks at most once a second."""

    ask: Callable[[], str]
    clock: Callable[[], float] = time.monotonic
    asked_at: float = float("-inf")
    text: str = ""

    def __call__(self) -> str:
        """The text, at most a second old."""
        if self.clock() - self.asked_at >= TROUBLE_KEPT_S:
            self.text, self.asked_at = self.ask(), self.clock()
        return self.text


@dataclass(slots=True)
class Excuse:
    """Suppress a failure that the old color shows too: going back to it would not help.

    *trouble* is called only for a no. If it returns a text, *reset* forgets what was counted, and the check is
    "not asked: reported: …" until its next yes.
    """

    trouble: Callable[[], str]
    reset: Callable[[], None]
    reason: str = ""

    def update(self, verdict: Verdict) -> None:
        """Look at the old color if *verdict* is a no; a yes ends the excuse."""
        if verdict.outcome is Outcome.YES:
            self.reason = ""
        elif verdict.outcome is Outcome.NO and (trouble := self.trouble()):
            self.reason = f"reported: {verdict.reason}; {trouble}: not this release"
            self.reset()

    def apply(self, verdict: Verdict) -> Verdict:
        """*verdict*, or the reason in place of a "not asked" while the excuse holds; an unknown stays one."""
        if self.reason and verdict.outcome is Outcome.NOT_ASKED:
            return not_asked(verdict.question, self.reason)
        return verdict


@dataclass(frozen=True, slots=True, eq=False)
class WatchCheck:
    """One check of the watch: *judge* turns what *source* has seen into a verdict.

    *judge* gets the source and is pure; it is called once the source has answered, and not while it is silent
    (the verdict is then unknown). *name* is what reports and `[checks] report_only` call the check.
    """

    name: str
    source: Source[Any]
    judge: Callable[[Any], Verdict]
    excuse: Excuse | None = None
    even_if_silent: bool = False
    """Call *judge* while the source is silent too: it knows what is sure nevertheless."""
    service: str = ""
    """Put before the reason, for a check of one of several services."""
    siblings: tuple[WatchCheck, ...] = ()
    """The same check of the other services of the release: a no, then an unknown, of any of them is the verdict."""

    def poll(self, now: float) -> None:
        """Poll the source; for a no, look whether the old color is in trouble too."""
        self.source.poll(now)
        for each in self.siblings:
            each.poll(now)
        if self.excuse is not None:
            self.excuse.update(self._judged()[0])

    def verdict(self) -> Verdict:
        """The verdict on all that the source has seen so far."""
        return self.judged()[0]

    def judged(self) -> tuple[Verdict, int]:
        """The verdict, and the poll count of the source that it comes from; the same count means the same answer."""
        verdict, source = self._judged()
        return self.excuse.apply(verdict) if self.excuse else verdict, source.polls

    @property
    def notes(self) -> list[str]:
        """What is to be reported beside the verdict, also of the siblings."""
        return [each.source.note for each in (self, *self.siblings) if each.source.note]

    def reset(self) -> None:
        """Forget what was counted, also for the siblings."""
        for each in (self, *self.siblings):
            each.source.reset()

    def _judged(self) -> tuple[Verdict, Source[Any]]:
        found = [(self._of_source(), self.source), *((each.verdict(), each.source) for each in self.siblings)]
        worst = (Outcome.NO, Outcome.UNKNOWN)
        bad = (each for outcome in worst for each in found if each[0].outcome is outcome)
        return next(bad, found[0])

    def _of_source(self) -> Verdict:
        source = self.source
        if not source.count:
            verdict = not_asked(self.name, source.pending)
        elif source.silent and not self.even_if_silent:
            verdict = unknown(self.name, source.silent, expected=source.expected)
        else:
            verdict = self.judge(source)
        return verdict.of(self.service) if self.service else verdict


def never_asked(name: str, reason: str) -> WatchCheck:
    """A check that this target cannot be asked; it stays in the list, so that reports show the reason."""
    nothing = Source(lambda: None, every_s=3600.0, start=at_once, count=1)
    return WatchCheck(name, nothing, lambda _source: not_asked(name, reason))


def report_shared(verdicts: Iterable[Verdict], *, releasing: bool) -> list[Verdict]:
    """*verdicts* on what both colors share: during a release a no is only reported, as going back would not help."""
    why = "both colors share it: not this release"
    return [each.reported(why) if releasing and each.outcome is Outcome.NO else each for each in verdicts]


# --- the loop ------------------------------------------------------------------------------------------------
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
    check: WatchCheck
    due: float
    unknowns: int = 0
    """Unknown verdicts in a row."""
    counted: int = -1
    """`polls` of the deciding source when the check was judged last."""
    raised: Verdict | None = None
    """The verdict for the last exception; it holds until the source has answered again."""

    def judge(self, now: float) -> Verdict:
        """Poll and judge the check, schedule its next poll, and count unknown verdicts in a row."""
        raised, source = False, self.check.source
        polls = source.polls
        try:
            self.check.poll(now)
            verdict, polls = self.check.judged()
        except Exception as error:  # noqa: BLE001 - a bug in one check must not end the watch with a traceback
            raised = True
            verdict = unknown(self.check.name, f"could not be asked: {type(error).__name__}: {error}")
        self.due += source.every_s
        if self.due <= now:  # after a pause a check is polled once, not once for each missed poll
            self.due = now + source.every_s
        # A source that still waits for its answer has nothing new: its unknown verdict counts once.
        is_new = raised or polls != self.counted
        if not is_new and self.raised is not None:
            return self.raised
        self.raised, self.counted = verdict if raised else None, polls
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
    sleep: Callable[[float], object] = time.sleep,
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
        stop = self._stop
        seen = run_watch(
            self.checks, math.inf, report_only=self.report_only, stopped=stop.is_set, sleep=stop.wait
        )
        if seen.ended_by:
            self.ended = seen.verdicts[seen.ended_by]
            self.on_end()
