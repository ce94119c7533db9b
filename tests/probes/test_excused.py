"""What fails for both colours takes no release back, and says so."""

from __future__ import annotations

from dataclasses import dataclass

from cutover.core.verdict import Outcome, Verdict, no, not_asked, yes
from cutover.probes.excused import Excused, OldTrouble, shared
from cutover.watching import watch


@dataclass
class Question:
    """Says *outcome* until it is forgiven."""

    outcome: Outcome
    name: str = "5xx"
    every_s: float = 0.5
    asked: int = 3
    forgiven: int = 0

    def tick(self, now: float) -> None:
        pass

    def verdict(self) -> Verdict:
        if self.outcome is Outcome.NO:
            return no(self.name, "got 40.0% (40 of 100)")
        return yes(self.name, "fine") if self.outcome is Outcome.YES else not_asked(self.name, "needs 100")

    def forgive(self) -> None:
        self.forgiven += 1
        self.outcome = Outcome.NOT_ASKED


def test_a_no_of_this_release_stands() -> None:
    """While the old colour is well, a no is a no."""
    question = Excused(Question(Outcome.NO), lambda: "")
    question.tick(0.0)
    assert question.verdict().outcome is Outcome.NO
    assert (question.name, question.every_s, question.asked) == ("5xx", 0.5, 3)


def test_a_no_of_both_is_reported() -> None:
    """With the old colour in the same trouble the no is told, and the counts begin anew until a yes."""
    inner = Question(Outcome.NO)
    question = Excused(inner, lambda: "the old colour answers /readyz with 503 too")
    question.tick(0.0)
    verdict = question.verdict()
    assert (verdict.outcome, inner.forgiven) == (Outcome.NOT_ASKED, 1)
    assert verdict.reason == (
        "reported: got 40.0% (40 of 100); the old colour answers /readyz with 503 too: not this release"
    )
    inner.outcome = Outcome.YES
    question.tick(1.0)
    assert question.verdict().outcome is Outcome.YES


def test_trouble_that_ends_excuses_no_longer() -> None:
    """Once the old colour is well again, the next no counts."""
    inner, words = Question(Outcome.NO), ["the database is down for both"]
    question = Excused(inner, lambda: words[0])
    question.tick(0.0)
    inner.outcome, words[0] = Outcome.NO, ""
    question.tick(1.0)
    assert question.verdict().outcome is Outcome.NO


def test_the_old_colour_is_asked_only_for_a_no() -> None:
    """A watch that goes well costs the old colour nothing."""

    def never() -> str:
        raise AssertionError("asked")

    for outcome in (Outcome.YES, Outcome.NOT_ASKED):
        Excused(Question(outcome), never).tick(0.0)


def test_several_noes_share_one_look() -> None:
    """Within a second the old colour is asked once."""
    now, asked = [0.0], list[float]()

    def ask() -> str:
        asked.append(now[0])
        return f"trouble at {now[0]:g}"

    trouble = OldTrouble(ask, lambda: now[0])
    said = []
    for now[0] in (0.0, 0.5, 0.9, 1.0):
        said.append(trouble())
    assert said == ["trouble at 0", "trouble at 0", "trouble at 0", "trouble at 1"]
    assert asked == [0.0, 1.0]


def test_what_both_colours_share_takes_no_release_back() -> None:
    """A full disk or an old certificate is told during a release; without one it is the no that it is."""
    verdicts = [no("tls", "13 days left"), yes("disk", "/: 50% free")]
    told = shared(verdicts, releasing=True)
    assert [each.outcome for each in told] == [Outcome.NOT_ASKED, Outcome.YES]
    assert told[0].reason == "reported: 13 days left; both colours share it: not this release"
    assert shared(verdicts, releasing=False) == verdicts


def test_a_question_that_raises_ends_the_watch() -> None:
    """One that does not count its answers is unknown again at each exception, excused or not."""

    class Broken:
        name, every_s = "5xx", 0.5

        def tick(self, now: float) -> None:
            raise ZeroDivisionError(f"at {now:g}")

        def verdict(self) -> Verdict:
            return not_asked(self.name, "needs 100")

        def forgive(self) -> None:
            pass

    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    seen = watch([Excused(Broken(), lambda: "")], 60.0, clock=lambda: now[0], sleep=sleep)
    assert (seen.ended_by, seen.verdicts["5xx"].reason) == (
        "5xx",
        "could not be asked: ZeroDivisionError: at 1.5",
    )
    assert seen.seconds == 1.5
