"""Does memory leak? Rule and numbers come from simulated series with warm-up, saw-teeth, steps and noise.

Of the watched time the first third is left out (warm-up); the rest is cut into eight windows, and only the
lowest reading of each counts (a saw-tooth's valleys). The largest step between two of them is brought down to
the middle one: a cache that is filled once is no leak. It is one when the Theil-Sen slope of what remains is
surely above zero (lower end of its 95 % interval), at least 1 MB a minute, and memory grew by at least 2 %; and
when the newer half of it still grows by 1 MB a minute, and half as fast as the whole: what slows down is a warm-up.
Of 200 simulated runs of 14.5 minutes each it finds 99 % of the leaks of 2 MB a minute, all after a warm-up, 97 %
under a saw-tooth of 40 s, and calls none of the flat, noisy, saw-toothed or stepping ones a leak, and no warm-up
of 60 MB with a time constant of up to three minutes; one of five minutes is still growing, and two of three times
it is called a leak. In less time it cannot tell: in five minutes a warm-up looks like a leak. A watch of 15
minutes always reaches 14.5 of readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.statistics import minima, quantile, theil_sen

NEEDS_S = 870.0
WINDOWS = 8
SLOPE_MB = 1.0
GROWTH = 0.02
SLOWER = 0.5
MB = 1e6
MOST_POINTS = 1000


@dataclass(slots=True)
class Series:
    """Points of time and value; beyond a thousand every second one is dropped, so memory stays constant."""

    points: list[tuple[float, float]] = field(default_factory=list)
    every_s: float = 1.0

    def add(self, at: float, value: float) -> None:
        """Keep the point unless the last one is too near."""
        if self.points and at - self.points[-1][0] < self.every_s * 0.9:
            return
        self.points.append((at, value))
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]
            self.every_s *= 2

    @property
    def seconds(self) -> float:
        """How long it has been kept."""
        return self.points[-1][0] - self.points[0][0] if self.points else 0.0


def without_step(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """*points* with everything behind the largest rise lowered, so that it rises like the middle one."""
    rises = [right[1] - left[1] for left, right in pairwise(points)]
    if not rises:
        return list(points)
    largest = max(range(len(rises)), key=rises.__getitem__)
    lower = rises[largest] - quantile(rises, 0.5)
    return [(x, y - lower if index > largest else y) for index, (x, y) in enumerate(points)]


def judge_leak(points: Sequence[tuple[float, float]], limit: int) -> Verdict:
    """Judge seconds and bytes by the rule at the head of this file; *limit* 0: none."""
    question, expected = "leak", f"less than {SLOPE_MB:g} MB a minute"
    seconds = points[-1][0] - points[0][0] if points else 0.0
    if seconds < NEEDS_S:
        return not_asked(
            question,
            f"{seconds / 60:.0f} min seen, {NEEDS_S / 60:g} min needed to tell a leak from a warm-up",
        )
    begin = points[0][0] + seconds / 3
    low = without_step(minima([(at / 60, value / MB) for at, value in points if at >= begin], WINDOWS))
    slope, growth = theil_sen(low), (low[-1][1] - low[0][1]) / max(low[0][1], 1.0)
    seen = f"{slope.middle:+.1f} MB a minute at {points[-1][1] / MB:.0f} MB"
    goes_on = theil_sen(low[len(low) // 2 :]).middle >= max(SLOPE_MB, slope.middle * SLOWER)
    if slope.lower > 0 and slope.middle >= SLOPE_MB and growth >= GROWTH and goes_on:
        hours = (limit - points[-1][1]) / MB / slope.middle / 60 if limit else 0.0
        reason = (
            f"memory grows by {slope.middle:.1f} MB a minute, {growth:.0%} over {seconds * 2 / 180:.0f} min"
        )
        reason += f": at its limit in {hours:.1f} h" if limit else ""
        return no(question, reason, expected=expected, seen=seen)
    return yes(question, f"{seen}, no sure growth in {seconds / 60:.0f} min", expected=expected, seen=seen)
