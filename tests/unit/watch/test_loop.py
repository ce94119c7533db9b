"""The watch runs each check in its own interval and ends at a sure no or at four unknowns in a row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Outcome, Verdict, no, not_asked, unknown, yes
from cutover.watch.check import BackgroundWatch, Source, WatchCheck, at_once, run_watch

YES, NO, UNKNOWN, NOT_ASKED = (
    yes("q", "y"),
    no("q", "n"),
    unknown("q", "u"),
    not_asked("q", "3 seen, needs 100"),
)


@dataclass
class Time:
    """A clock that advances only by `sleep`."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass(eq=False)
class Scripted(Source[None]):
    """A source with a list of verdicts, one for each poll; the last one stays."""

    ask: Callable[[], None] = field(init=False)
    says: Sequence[Verdict]
    at: list[float] = field(default_factory=list)

    def poll(self, now: float) -> None:
        """Count one answer."""
        self.at.append(now)
        self.count += 1


def check(source: Scripted, name: str = "q") -> WatchCheck:
    """A check whose verdict is the current one of *source*."""
    return WatchCheck(name, source, lambda made: made.says[min(len(made.at), len(made.says)) - 1])


def test_each_check_is_polled_in_its_own_interval() -> None:
    """A quick and a slow check are each polled in their own interval, the slow one not more often."""
    time, quick, slow = Time(), Scripted([YES], every_s=0.5), Scripted([YES], every_s=2.0)
    seen = run_watch([check(quick, "quick"), check(slow, "slow")], 4.0, clock=time.clock, sleep=time.sleep)
    assert [at - 100 for at in quick.at] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4])
    assert [at - 100 for at in slow.at] == pytest.approx([0, 2, 4])
    assert not seen.ended_by
    assert seen.seconds == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("says", "report_only", "ended_by", "ticks"),
    [
        ((YES,), False, "", 11),
        ((YES, YES, NO), False, "q", 3),
        ((NO,), False, "q", 1),
        ((NO,), True, "", 11),
        ((UNKNOWN,), False, "q", 4),
        ((UNKNOWN,), True, "", 11),
        ((UNKNOWN, UNKNOWN, UNKNOWN, YES), False, "", 11),
        ((UNKNOWN, UNKNOWN, UNKNOWN, NOT_ASKED, UNKNOWN, UNKNOWN, UNKNOWN, YES), False, "", 11),
        ((NOT_ASKED,), False, "", 11),
    ],
)
def test_ends_at_the_first_sure_no(
    says: Sequence[Verdict], report_only: bool, ended_by: str, ticks: int
) -> None:
    """A no ends it at once, four unknowns in a row end it, a check that only reports never does."""
    time, source = Time(), Scripted(says, every_s=1.0)
    only = frozenset({"q"} if report_only else ())
    seen = run_watch([check(source)], 10.0, report_only=only, clock=time.clock, sleep=time.sleep)
    assert (seen.ended_by, len(source.at)) == (ended_by, ticks)


def test_nothing_is_polled_after_the_no() -> None:
    """After the no, the remaining checks are not polled any more."""
    time, first, second = Time(), Scripted([NO]), Scripted([YES])
    checks = [check(first, "first"), check(second, "second")]
    seen = run_watch(checks, 10.0, clock=time.clock, sleep=time.sleep)
    assert (seen.ended_by, second.at, time.slept) == ("first", [], [])


def test_a_check_with_a_bug_is_unknown() -> None:
    """An exception in a check is an unknown that names it, not the end of the session."""

    class Broken(Scripted):
        def poll(self, now: float) -> None:
            super().poll(now)
            raise ZeroDivisionError("oops")

    time, source = Time(), Broken([YES], every_s=1.0)
    seen = run_watch([check(source, "broken")], 10.0, clock=time.clock, sleep=time.sleep)
    assert seen.ended_by == "broken"
    assert seen.verdicts["broken"].reason == "could not be asked: ZeroDivisionError: oops"
    assert len(source.at) == 4


class Slow(Scripted):
    """A source that is polled without an answer."""

    def poll(self, now: float) -> None:
        """Count no answer."""
        self.at.append(now)


def test_an_unknown_counts_once_for_each_answer() -> None:
    """A check that still waits for its answer is not unknown again only because it was polled."""
    time, source = Time(), Slow([UNKNOWN], every_s=1.0, count=1)
    assert run_watch([check(source)], 10.0, clock=time.clock, sleep=time.sleep).ended_by == ""


def test_an_exception_counts_each_time() -> None:
    """A source that raises when its answers come in, and counts them, ends the watch at the fourth exception."""

    class Broken(Slow):
        def poll(self, now: float) -> None:
            super().poll(now)
            if len(self.at) % 3 == 0:  # as one that asks in the background does
                raise KeyError("status")

    time, source = Time(), Broken([NOT_ASKED], every_s=1.0)
    seen = run_watch([check(source)], 60.0, clock=time.clock, sleep=time.sleep)
    assert (seen.ended_by, len(source.at)) == ("q", 12)
    assert seen.verdicts["q"].reason == "could not be asked: KeyError: 'status'"


def test_an_exception_is_over_with_the_next_answer() -> None:
    """The check stays unknown after an exception until its source has answered again."""

    class Once(Slow):
        def poll(self, now: float) -> None:
            super().poll(now)
            self.count += len(self.at) == 4
            if len(self.at) == 2:
                raise KeyError("status")

    time, source, ticks = Time(), Once([YES], every_s=1.0, count=1), list[str]()
    run_watch(
        [check(source)], 4.0, on_tick=lambda _left, seen: ticks.append(seen["q"].outcome), clock=time.clock,
        sleep=time.sleep,
    )  # fmt: skip
    assert ticks == ["yes", "unknown", "unknown", "yes", "yes"]


def test_a_late_watch_does_not_catch_up() -> None:
    """After a pause each check is polled once, not once for each poll that was missed."""
    time, source = Time(), Scripted([YES], every_s=1.0)

    def sleep(seconds: float) -> None:
        time.sleep(5.0 if len(time.slept) == 1 else seconds)

    run_watch([check(source)], 8.0, clock=time.clock, sleep=sleep)
    assert [at - 100 for at in source.at] == pytest.approx([0, 1, 6, 7, 8])


def test_progress_is_reported_each_second_and_at_the_end() -> None:
    """Progress is reported once a tick, however often checks are polled, and ends at zero seconds left."""
    time, left = Time(), list[float]()
    run_watch(
        [check(Scripted([YES], every_s=0.1))], 3.0,
        on_tick=lambda seconds, _verdicts: left.append(seconds), clock=time.clock, sleep=time.sleep,
    )  # fmt: skip
    assert left == pytest.approx([3.0, 2.0, 1.0, 0.0], abs=0.05)


def test_without_checks_it_waits() -> None:
    """An empty list is watched for its time, without a verdict."""
    time = Time()
    assert run_watch([], 3.0, clock=time.clock, sleep=time.sleep).verdicts == {}
    assert time.now == pytest.approx(103.0)


def test_every_check_of_a_source_is_judged_and_the_source_is_polled_once() -> None:
    """Several checks share a source: one call in each round, one verdict for each check."""
    time, calls = Time(), list[float]()
    source = Source(lambda: calls.append(time.now), every_s=1.0, start=at_once)
    checks = [WatchCheck(name, source, lambda _source: YES) for name in ("one", "two")]
    seen = run_watch(checks, 3.0, clock=time.clock, sleep=time.sleep)
    assert (list(seen.verdicts), len(calls)) == (["one", "two"], 4)


def test_in_the_background_the_first_sure_no_is_told_once() -> None:
    """It runs while somebody else does something, calls back at its first sure no, and does not begin again."""
    told = threading.Semaphore(0)
    source = Scripted([YES, YES, NO], every_s=0.01)
    watch = BackgroundWatch([check(source, "5xx")], on_end=told.release)
    watch.start()
    assert told.acquire(timeout=20)
    assert watch.stop() == NO
    polled = len(source.at)
    watch.start()
    assert watch.stop() == NO
    assert len(source.at) == polled


def test_in_the_background_it_can_be_stopped_and_go_on() -> None:
    """While it is stopped somebody else runs its checks; what is only reported never ends it."""
    source = Scripted([NO], every_s=0.01)
    watch = BackgroundWatch([check(source, "5xx")], frozenset({"5xx"}))
    for _ in range(2):
        before = len(source.at)
        watch.start()
        while len(source.at) < before + 3:
            pass
        assert watch.stop() is None
        stopped = len(source.at)
        assert run_watch([check(source)], 0.0).ended_by
        assert len(source.at) == stopped + 1


def test_a_silent_sibling_counts_by_its_own_answers() -> None:
    """Its one silence is not counted again each time when another container answers."""

    def silent() -> None:
        raise EngineUnavailable("the Docker engine of web-2 does not answer")

    away = Source(silent, pace_s=12.0, start=at_once)
    there = Source(lambda: None, start=at_once)
    sibling = WatchCheck("restarts", away, lambda _: yes("restarts", "none"), service="jobs on web-2")
    check = WatchCheck("restarts", there, lambda _: yes("restarts", "none"), siblings=(sibling,))
    time = Time()
    result = run_watch([check], 11.0, clock=time.clock, sleep=time.sleep)
    assert result.ended_by == ""
    assert result.verdicts["restarts"].outcome is Outcome.UNKNOWN
    assert there.count > 4 > away.count
