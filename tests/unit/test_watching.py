"""The watch asks each question in its own time and ends when it must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.watching import watch

YES, NO, UNKNOWN, NOT_ASKED = (
    yes("q", "y"),
    no("q", "n"),
    unknown("q", "u"),
    not_asked("q", "3 seen, needs 100"),
)


@dataclass
class Time:
    """A clock that only sleeping moves."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Scripted:
    """A question whose verdicts are written down; the last one stays."""

    says: Sequence[Verdict]
    name: str = "q"
    every_s: float = 1.0
    at: list[float] = field(default_factory=list)

    def tick(self, now: float) -> None:
        self.at.append(now)

    def verdict(self) -> Verdict:
        return self.says[min(len(self.at), len(self.says)) - 1]


def test_each_question_is_asked_in_its_own_time() -> None:
    """A quick and a slow question are each asked at their own pace, the slow one not more often."""
    time, quick, slow = Time(), Scripted([YES], "quick", 0.5), Scripted([YES], "slow", 2.0)
    seen = watch([quick, slow], 4.0, clock=time.clock, sleep=time.sleep)
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
    """A no ends it at once, four unknowns in a row end it, what only reports never does."""
    time, question = Time(), Scripted(says)
    only = frozenset({"q"} if report_only else ())
    seen = watch([question], 10.0, report_only=only, clock=time.clock, sleep=time.sleep)
    assert (seen.ended_by, len(question.at)) == (ended_by, ticks)


def test_nothing_is_asked_after_the_no() -> None:
    """The flip is the very next thing: questions behind the no are not asked any more."""
    time, first, second = Time(), Scripted([NO], "first"), Scripted([YES], "second")
    seen = watch([first, second], 10.0, clock=time.clock, sleep=time.sleep)
    assert (seen.ended_by, second.at, time.slept) == ("first", [], [])


def test_a_question_with_a_mistake_is_unknown() -> None:
    """An exception in a question is an unknown that names it, not the end of the session."""

    class Broken(Scripted):
        def tick(self, now: float) -> None:
            super().tick(now)
            raise ZeroDivisionError("oops")

    time, question = Time(), Broken([YES], "broken")
    seen = watch([question], 10.0, clock=time.clock, sleep=time.sleep)
    assert seen.ended_by == "broken"
    assert seen.verdicts["broken"].reason == "could not be asked: ZeroDivisionError: oops"
    assert len(question.at) == 4


def test_an_unknown_counts_once_for_each_answer() -> None:
    """A question that still waits for its answer is not unknown again only because it was ticked."""

    @dataclass
    class Slow(Scripted):
        asked: int = 1

    time, question = Time(), Slow([UNKNOWN])
    assert watch([question], 10.0, clock=time.clock, sleep=time.sleep).ended_by == ""


def test_a_mistake_counts_each_time_it_is_made() -> None:
    """A question that raises when its answers come in, and counts them, ends the watch at the fourth exception."""

    @dataclass
    class Broken(Scripted):
        asked: int = 0

        def tick(self, now: float) -> None:
            super().tick(now)
            if len(self.at) % 3 == 0:  # as one that asks in the background does
                raise KeyError("status")

    time, question = Time(), Broken([NOT_ASKED])
    seen = watch([question], 60.0, clock=time.clock, sleep=time.sleep)
    assert (seen.ended_by, len(question.at)) == ("q", 12)
    assert seen.verdicts["q"].reason == "could not be asked: KeyError: 'status'"


def test_a_mistake_is_over_with_the_next_answer() -> None:
    """Until then the question stays unknown, for nothing was answered meanwhile."""

    @dataclass
    class Once(Scripted):
        asked: int = 0

        def tick(self, now: float) -> None:
            super().tick(now)
            self.asked += len(self.at) == 4
            if len(self.at) == 2:
                raise KeyError("status")

    time, question, told = Time(), Once([YES]), list[str]()
    watch(
        [question], 4.0, on_tick=lambda _left, seen: told.append(seen["q"].outcome), clock=time.clock,
        sleep=time.sleep,
    )  # fmt: skip
    assert told == ["yes", "unknown", "unknown", "yes", "yes"]


def test_a_late_watch_does_not_catch_up() -> None:
    """After a pause each question is asked once, not once for each time that was missed."""
    time, question = Time(), Scripted([YES])

    def sleep(seconds: float) -> None:
        time.sleep(5.0 if len(time.slept) == 1 else seconds)

    watch([question], 8.0, clock=time.clock, sleep=sleep)
    assert [at - 100 for at in question.at] == pytest.approx([0, 1, 6, 7, 8])


def test_progress_is_told_each_second_and_at_the_end() -> None:
    """The live line moves once a tick, however often questions are asked, and ends at zero."""
    time, told = Time(), list[float]()
    watch(
        [Scripted([YES], every_s=0.1)], 3.0,
        on_tick=lambda left, _verdicts: told.append(left), clock=time.clock, sleep=time.sleep,
    )  # fmt: skip
    assert told == pytest.approx([3.0, 2.0, 1.0, 0.0], abs=0.05)


def test_without_questions_it_waits() -> None:
    """An empty list is watched for its time, and says nothing."""
    time = Time()
    assert watch([], 3.0, clock=time.clock, sleep=time.sleep).verdicts == {}
    assert time.now == pytest.approx(103.0)
