"""Watch checks: a slow answer delays no other check, and a failure of both colors does not revert a release."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Outcome, Verdict, no, not_asked, unknown, yes
from cutover.watch.check import (
    Excuse,
    OldColorTrouble,
    Source,
    WatchCheck,
    at_once,
    never_asked,
    report_shared,
    run_watch,
)

LONG_S = 60.0
YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED


@dataclass(eq=False)
class Recorder(Source[int]):
    """A source that keeps every answer."""

    taken: list[int] = field(default_factory=list)

    def take(self, answer: int) -> None:
        """Keep one answer."""
        self.taken.append(answer)


def test_a_quick_answer_comes_with_its_own_poll() -> None:
    """An answer that arrives at once is taken by the poll that asked for it."""
    for source in (Source(lambda: 7, grace_s=LONG_S), Source(lambda: 7, start=at_once)):
        source.poll(0.0)
        assert (source.last, source.polls) == (7, 1)


def test_a_slow_answer_is_not_waited_for() -> None:
    """No second call is started while one is running; its answer is taken by a later poll."""
    go, calls = threading.Event(), list[int]()

    def ask() -> int:
        calls.append(1)
        go.wait(LONG_S)
        return len(calls)

    source = Recorder(ask, grace_s=0.001)
    source.poll(0.0)
    source.poll(1.0)
    assert (source.taken, source.polls) == ([], 0)
    go.set()
    now, end = 2.0, time.monotonic() + LONG_S
    while not source.taken and time.monotonic() < end:
        source.poll(now)
        now += 1.0
        time.sleep(0.001)
    assert source.taken == [1]


def test_several_calls_may_run_at_once() -> None:
    """Up to `at_most` calls run at the same time, so a hung probe does not stop the next one."""
    go, asked = threading.Event(), threading.Semaphore(0)

    def ask() -> None:
        asked.release()
        go.wait(LONG_S)

    source = Source(ask, at_most=2, grace_s=0.001)
    for now in range(4):
        source.poll(float(now))
    assert source.running == 2
    assert asked.acquire(timeout=LONG_S)
    assert asked.acquire(timeout=LONG_S)
    assert not asked.acquire(timeout=0.01)
    go.set()


def test_an_exception_is_raised_by_the_poll_that_collects_it() -> None:
    """An exception of *ask* reaches the caller of the poll, and the next poll asks again."""
    source = Source(lambda: 1 // 0, start=at_once)
    for now in (0.0, 1.0):
        with pytest.raises(ZeroDivisionError):
            source.poll(now)


def test_polling_more_often_asks_no_more_often() -> None:
    """Answers are taken at every poll; a new call starts only after `pace_s` seconds."""
    asked: list[float] = []
    source = Source(lambda: asked.append(0.0), pace_s=2.0, start=at_once)
    polls = []
    for tick in range(9):
        source.poll(tick / 2)
        polls.append(source.polls)
    assert polls == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert len(asked) == 3


def test_two_checks_poll_their_source_once_in_a_round() -> None:
    """A source that two checks share is polled once for each moment."""
    source = Recorder(lambda: 7, start=at_once)
    for now in (0.0, 0.0, 1.0, 1.0):
        source.poll(now)
    assert source.taken == [7, 7]


def test_a_silent_engine_is_unknown_until_it_answers() -> None:
    """Not asked before the first answer; unknown while silent, unless the check is judged also then (`even_if_silent`)."""
    answers: list[int | EngineUnavailable] = [EngineUnavailable("mute"), 7]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, EngineUnavailable):
            raise answer
        return answer

    source = Source(ask, start=at_once)
    check = WatchCheck("q", source, lambda found: yes("q", f"{found.last}"))
    sure = WatchCheck("q", source, lambda found: no("q", found.silent), even_if_silent=True)
    assert check.verdict() == not_asked("q", "not answered yet") == sure.verdict()
    source.poll(0.0)
    assert (check.verdict(), sure.verdict(), source.polls) == (unknown("q", "mute"), no("q", "mute"), 1)
    source.poll(1.0)
    assert (check.verdict(), source.silent, source.polls) == (yes("q", "7"), "", 2)


@dataclass(eq=False)
class Preset(Source[None]):
    """A source whose check has *outcome* until it is reset."""

    ask: Callable[[], None] = field(init=False)
    outcome: Outcome
    resets: int = 0

    def __post_init__(self) -> None:
        self.count = 3

    def poll(self, now: float) -> None:
        """Do nothing: there is no new answer."""

    def reset(self) -> None:
        """Forget the outcome."""
        self.resets += 1
        self.outcome = NOT_ASKED


def judge(source: Preset) -> Verdict:
    """The outcome, with a reason."""
    if source.outcome is NO:
        return no("5xx", "got 40.0% (40 of 100)")
    if source.outcome is UNKNOWN:
        return unknown("5xx", "the log is gone")
    return yes("5xx", "fine") if source.outcome is YES else not_asked("5xx", "needs 100")


def excused(source: Preset, trouble: Callable[[], str]) -> WatchCheck:
    """A check whose no does not count while *trouble* returns a text."""
    return WatchCheck("5xx", source, judge, Excuse(trouble, source.reset))


def test_a_no_of_this_release_stands() -> None:
    """A no counts while the old color has no trouble."""
    check = excused(Preset(NO), lambda: "")
    check.poll(0.0)
    assert check.verdict().outcome is NO


def test_a_no_of_both_is_reported() -> None:
    """If the old color has the same trouble, the no is only reported and the counts are reset."""
    source = Preset(NO)
    check = excused(source, lambda: "the old color answers /readyz with 503 too")
    check.poll(0.0)
    verdict = check.verdict()
    assert (verdict.outcome, source.resets) == (NOT_ASKED, 1)
    assert verdict.reason == (
        "reported: got 40.0% (40 of 100); the old color answers /readyz with 503 too: not this release"
    )
    source.outcome = YES
    check.poll(1.0)
    assert check.verdict().outcome is YES


@pytest.mark.parametrize("outcome", [YES, NOT_ASKED, UNKNOWN])
def test_an_excuse_hides_no_unknown(outcome: Outcome) -> None:
    """While the excuse holds, a log or an engine that gives no answer any more is unknown."""
    source = Preset(NO)
    check = excused(source, lambda: "the database is down for both")
    check.poll(0.0)
    source.outcome = outcome
    check.poll(1.0)
    assert check.verdict().outcome is outcome
    assert check.verdict().reason.startswith("reported: ") is (outcome is NOT_ASKED)


def test_trouble_that_ends_excuses_no_longer() -> None:
    """The next no counts again once the old color has recovered."""
    source, words = Preset(NO), ["the database is down for both"]
    check = excused(source, lambda: words[0])
    check.poll(0.0)
    source.outcome, words[0] = NO, ""
    check.poll(1.0)
    assert check.verdict().outcome is NO


def test_the_old_color_is_asked_only_for_a_no() -> None:
    """The old color gets no request for a yes or a check that was not asked."""

    def never() -> str:
        raise AssertionError("asked")

    for outcome in (YES, NOT_ASKED):
        excused(Preset(outcome), never).poll(0.0)


def test_several_noes_share_one_look() -> None:
    """The old color is asked at most once a second."""
    now, asked = [0.0], list[float]()

    def ask() -> str:
        asked.append(now[0])
        return f"trouble at {now[0]:g}"

    trouble = OldColorTrouble(ask, lambda: now[0])
    said = []
    for now[0] in (0.0, 0.5, 0.9, 1.0):
        said.append(trouble())
    assert said == ["trouble at 0", "trouble at 0", "trouble at 0", "trouble at 1"]
    assert asked == [0.0, 1.0]


def test_what_both_colors_share_does_not_revert_a_release() -> None:
    """A no on a full disk or an old certificate is only reported during a release, and counts otherwise."""
    verdicts = [no("tls", "13 days left", seen="13 days"), yes("disk", "/: 50% free")]
    reported = report_shared(verdicts, releasing=True)
    assert [each.outcome for each in reported] == [NOT_ASKED, YES]
    assert reported[0].reason == "reported: 13 days left; both colors share it: not this release"
    assert reported[0].seen == "13 days"
    assert report_shared(verdicts, releasing=False) == verdicts


def test_a_source_that_raises_ends_the_watch() -> None:
    """Each exception is one more unknown in a row, also for a check with an excuse."""

    class Broken(Preset):
        def poll(self, now: float) -> None:
            raise ZeroDivisionError(f"at {now:g}")

    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    seen = run_watch([excused(Broken(NOT_ASKED), lambda: "")], 60.0, clock=lambda: now[0], sleep=sleep)
    assert (seen.ended_by, seen.verdicts["5xx"].reason) == (
        "5xx",
        "could not be asked: ZeroDivisionError: at 1.5",
    )
    assert seen.seconds == 1.5


def test_a_check_that_cannot_be_asked_says_why() -> None:
    """Such a check is listed as not asked with its reason, before and after a poll."""
    check = never_asked("health", "a plain URL has no container")
    for _ in range(2):
        assert check.verdict() == not_asked("health", "a plain URL has no container")
        check.poll(0.0)
