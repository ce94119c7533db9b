"""Statistics of the judges: exact binomial tails, sequential tests, quantiles, histograms, slopes; without scipy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

NEGLIGIBLE = 1e-17  # a term this small relative to the sum does not change a double
GROWTH = 1.02  # ratio of neighboring buckets of a histogram: a quantile is exact to 2 %


def binomial_log_pmf(hits: int, trials: int, rate: float) -> float:
    """The logarithm of the probability of exactly *hits* in *trials*."""
    if rate <= 0.0:
        return 0.0 if hits == 0 else -math.inf
    if rate >= 1.0:
        return 0.0 if hits == trials else -math.inf
    ways = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    return ways + hits * math.log(rate) + (trials - hits) * math.log1p(-rate)


def binomial_tail(hits: int, trials: int, rate: float) -> float:
    """The exact probability of *hits* or more in *trials* of probability *rate* each."""
    if hits <= 0:
        return 1.0
    if hits > trials or rate <= 0.0:
        return 0.0
    if hits > trials * rate:
        return _sum_outwards(hits, trials, rate, step=1)
    return max(0.0, 1.0 - _sum_outwards(hits - 1, trials, rate, step=-1))


def _sum_outwards(start: int, trials: int, rate: float, *, step: int) -> float:
    # Away from the mean the terms shrink, so the sum ends early.
    total, hits = 0.0, start
    while 0 <= hits <= trials:
        term = math.exp(binomial_log_pmf(hits, trials, rate))
        total += term
        if term <= total * NEGLIGIBLE:
            break
        hits += step
    return min(1.0, total)


def more_often(hits: int, exposure: float, hits_before: int, exposure_before: float) -> float:
    """The probability of *hits* or more if both windows have the same rate: small means that the rate went up.

    Conditional on the sum, so it needs no rate and is exact with no hits before. An exposure is a number of
    requests or of seconds.
    """
    whole = exposure + exposure_before
    return binomial_tail(hits, hits + hits_before, exposure / whole if whole > 0 else 1.0)


def spent(alpha: float, look: int) -> float:
    """The part of *alpha* that look number *look* (1, 2, …) may use; the parts of all looks add up to *alpha*."""
    return alpha / (look * (look + 1))


@dataclass(slots=True)
class Sequential:
    """Sequential test whether a rate is above a bound.

    Each look tests several counts (all that was seen, the newest window), each with its part of the alpha that
    the look may spend: however many looks there are, a rate within the bound is called too high with a probability
    of at most *alpha*.
    """

    bound: float
    alpha: float = 0.001
    least: int = 1
    """Fewer bad ones than this are never sure: two failures may have one cause."""
    looks: int = 0
    sure: bool = False

    def look(self, *counts: tuple[int, int]) -> bool:
        """Test each (bad, seen) of *counts*; returns whether the rate is too high for sure, which it then stays."""
        self.looks += 1
        level = spent(self.alpha, self.looks) / max(1, len(counts))
        for bad, seen in counts:
            self.sure = self.sure or (bad >= self.least and binomial_tail(bad, seen, self.bound) <= level)
        return self.sure


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least *share* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(slots=True)
class Histogram:
    """Counts of positive values in buckets that grow by 2 %: memory stays constant."""

    buckets: dict[int, int] = field(default_factory=dict)
    count: int = 0

    def add(self, value: float) -> None:
        """Count one value; values below 1e-6 count as 1e-6."""
        bucket = math.ceil(math.log(max(value, 1e-6)) / math.log(GROWTH))
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """The upper edge of the bucket that holds the quantile; 0 if nothing was counted."""
        needed, seen = math.ceil(share * self.count), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= needed:
                return float(GROWTH**bucket)
        return 0.0


@dataclass(frozen=True, slots=True)
class Slope:
    """A Theil-Sen slope, in units of y per unit of x, with the lower end of its 95 % interval."""

    middle: float
    lower: float


def theil_sen(points: Sequence[tuple[float, float]]) -> Slope:
    """The median of all slopes between two points, and its lower bound by Kendall's variance (Sen 1968)."""
    count = len(points)
    slopes = sorted(
        (right[1] - left[1]) / (right[0] - left[0])
        for index, left in enumerate(points)
        for right in points[index + 1 :]
        if right[0] != left[0]
    )
    if not slopes:
        return Slope(0.0, 0.0)
    spread = 1.96 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    rank = math.floor((len(slopes) - spread) / 2)
    return Slope(statistics.median(slopes), slopes[rank - 1] if rank >= 1 else -math.inf)


def minima(points: Sequence[tuple[float, float]], windows: int) -> list[tuple[float, float]]:
    """The lowest point in each of *windows* equal spans of x; spans without a point are left out."""
    if not points:
        return []
    begin, width = points[0][0], (points[-1][0] - points[0][0]) / windows or 1.0
    lowest: dict[int, tuple[float, float]] = {}
    for x, y in points:
        window = min(windows - 1, int((x - begin) / width))
        if window not in lowest or y < lowest[window][1]:
            lowest[window] = (x, y)
    return [lowest[window] for window in sorted(lowest)]
