"""A no that the old colour would earn as well: what fails for both is not this release's doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cutover.core.verdict import Outcome, Verdict, not_asked
from cutover.watching import Watched

KEEP_S = 1.0  # several questions say no in the same moment: one look at the old colour serves them all


@runtime_checkable
class Forgiving(Watched, Protocol):
    """A question that can forget what it counted."""

    def forgive(self) -> None:
        """Begin to count anew: what was seen so far was not this release's doing."""


@dataclass(slots=True)
class OldTrouble:
    """Whether the old colour is in trouble too, in words; asked at most once a second."""

    ask: Callable[[], str]
    clock: Callable[[], float] = time.monotonic
    at: float = float("-inf")
    words: str = ""

    def __call__(self) -> str:
        """What is wrong with the old colour; empty when it is well, or nothing can be said."""
        if self.clock() - self.at >= KEEP_S:
            self.words, self.at = self.ask(), self.clock()
        return self.words


@dataclass(slots=True)
class Excused:
    """*question*, whose no is only reported while the old colour has the same trouble.

    Taking a release back helps nobody when the database is down: before a no counts, the old colour is asked
    whether it is ready and reaches its dependencies. When it is not, the counts begin anew.
    """

    question: Forgiving
    trouble: Callable[[], str]
    excuse: str = ""

    @property
    def name(self) -> str:
        """The question's own name."""
        return self.question.name

    @property
    def every_s(self) -> float:
        """The question's own pace."""
        return self.question.every_s

    @property
    def asked(self) -> int | None:
        """The question's own count; None for one that does not count."""
        return getattr(self.question, "asked", None)

    def tick(self, now: float) -> None:
        """Tick the question; look at the old colour only when it says no."""
        self.question.tick(now)
        verdict = self.question.verdict()
        if verdict.outcome is Outcome.YES:
            self.excuse = ""
        elif verdict.outcome is Outcome.NO and (trouble := self.trouble()):
            self.excuse = f"reported: {verdict.reason}; {trouble}: not this release"
            self.question.forgive()

    def verdict(self) -> Verdict:
        """The question's own verdict, or why its no does not count."""
        verdict = self.question.verdict()
        if self.excuse and verdict.outcome is not Outcome.NO:
            return not_asked(self.name, self.excuse)
        return verdict


def shared(verdicts: Iterable[Verdict], *, releasing: bool) -> list[Verdict]:
    """*verdicts* about what both colours share: during a release a no is only told, for going back mends nothing."""
    return [
        not_asked(each.question, f"reported: {each.reason}; both colours share it: not this release")
        if releasing and each.outcome is Outcome.NO
        else each
        for each in verdicts
    ]
