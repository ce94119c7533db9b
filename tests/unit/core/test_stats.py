"""The arithmetic agrees with exact values, and a sequential test keeps its promise however often it looks."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from cutover.core.stats import (
    Histogram,
    Sequential,
    binomial_tail,
    minima,
    more_often,
    quantile,
    spent,
    theil_sen,
)


@pytest.mark.parametrize("rate", [Fraction(1, 1000), Fraction(1, 100), Fraction(1, 2), Fraction(9, 10)])
@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (1, 1), (3, 3), (2, 40), (5, 100), (40, 40), (21, 40)])
def test_binomial_tail_is_exact(hits: int, trials: int, rate: Fraction) -> None:
    """The tail is the sum of the exact terms."""
    exact = sum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(hits, trials + 1))
    assert binomial_tail(hits, trials, float(rate)) == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize(
    ("hits", "trials", "rate", "expected"),
    [(0, 0, 0.1, 1.0), (1, 0, 0.1, 0.0), (1, 5, 0.0, 0.0), (3, 2, 0.5, 0.0), (5, 5, 1.0, 1.0)],
)
def test_binomial_tail_at_its_edges(hits: int, trials: int, rate: float, expected: float) -> None:
    """Nothing seen, impossible counts and impossible rates have their plain answers."""
    assert binomial_tail(hits, trials, rate) == expected


def test_binomial_tail_of_a_million() -> None:
    """A long watch is judged as exactly and as quickly as a short one."""
    assert binomial_tail(10_500, 1_000_000, 0.01) == pytest.approx(3.15857e-7, rel=1e-4)
    assert binomial_tail(10_000, 1_000_000, 0.01) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("before", "after", "chance"),
    [(0, 3, 0.125), (0, 5, 0.031), (0, 6, 0.016), (5, 15, 0.021), (50, 70, 0.041)],
)
def test_two_windows_are_compared_by_their_sum(before: int, after: int, chance: float) -> None:
    """The conditional test gives the values of the table that the rules were made from."""
    assert more_often(after, 60.0, before, 60.0) == pytest.approx(chance, abs=0.001)


def test_a_longer_window_may_hold_more() -> None:
    """Counts are compared by exposure: ten times the time, ten times the errors is no change."""
    assert more_often(50, 600.0, 5, 60.0) > 0.3
    assert more_often(50, 60.0, 5, 60.0) < 1e-6


@pytest.mark.parametrize(
    ("hits", "exposure", "before", "exposure_before", "chance"),
    [(0, 60, 5, 60, 1.0), (5, 60, 0, 0, 1.0), (5, 0, 5, 60, 0.0), (0, 0, 0, 0, 1.0), (3, 0, 0, 0, 1.0)],
)
def test_windows_without_length(
    hits: int, exposure: float, before: int, exposure_before: float, chance: float
) -> None:
    """Nothing seen is always likely, nothing to compare with proves nothing, errors in no time at all do."""
    assert more_often(hits, exposure, before, exposure_before) == chance


def test_all_looks_together_spend_one_alpha() -> None:
    """However often one looks, the parts sum up to alpha and never to more."""
    assert sum(spent(0.001, look) for look in range(1, 10_000)) == pytest.approx(0.001, rel=0.001)
    assert sum(spent(0.001, look) for look in range(1, 10_000)) < 0.001


def test_a_rate_within_the_bound_is_left_alone() -> None:
    """A hundred watches at exactly the bound, each looked at 200 times: none is called too high."""
    dice, wrong = random.Random(1), 0  # noqa: S311 - dice of a test
    for _ in range(100):
        test, bad, seen = Sequential(0.01), 0, 0
        for _ in range(200):
            seen += 10
            bad += sum(dice.random() < 0.01 for _ in range(10))
            test.look((bad, seen))
        wrong += test.sure
    assert wrong <= 1


@pytest.mark.parametrize(("rate", "requests"), [(1.0, 4), (0.5, 20), (0.1, 200), (0.03, 2000)])
def test_a_rate_above_the_bound_is_found_soon(rate: float, requests: int) -> None:
    """The further above the bound of 1 %, the fewer requests it takes."""
    test, step = Sequential(0.01), max(1, requests // 20)
    for seen in range(step, requests + 1, step):
        test.look((round(seen * rate), seen))
    assert test.sure


def test_a_pair_may_be_one_accident() -> None:
    """Below the least number of bad ones nothing is sure, however unlikely it is."""
    assert Sequential(0.01).look((2, 2))
    assert not Sequential(0.01, least=3).look((2, 2))
    assert Sequential(0.01, least=3).look((3, 3))


def test_a_long_good_past_does_not_hide_a_bad_present() -> None:
    """The newest window is judged beside the whole, so that an hour of good requests hides nothing."""
    test = Sequential(0.01, looks=3600)
    assert test.look((30, 100_030), (30, 60))
    assert not Sequential(0.01, looks=3600).look((30, 100_030))


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.95, 4), (0.0, 1), (1.0, 4), (0.25, 1)])
def test_quantile(share: float, value: float) -> None:
    """The smallest value that the share does not exceed."""
    assert quantile([4, 1, 3, 2], share) == value


def test_histogram_agrees_with_the_values() -> None:
    """A quantile from buckets is right to 2 % over six orders of magnitude."""
    dice = random.Random(2)  # noqa: S311 - dice of a test
    values = [dice.lognormvariate(-3, 2) for _ in range(5000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    for share in (0.5, 0.95, 0.99):
        assert histogram.quantile(share) == pytest.approx(quantile(values, share), rel=0.021)
    assert Histogram().quantile(0.95) == 0.0
    assert len(histogram.buckets) < 1200


def test_theil_sen_ignores_one_outlier() -> None:
    """The slope of a line is found beside a wild point, and its lower bound is positive."""
    points = [(float(x), 2.0 * x + 1) for x in range(8)]
    points[3] = (3.0, 500.0)
    slope = theil_sen(points)
    assert slope.middle == pytest.approx(2.0)
    assert slope.lower > 0


@pytest.mark.parametrize("points", [[], [(0.0, 1.0)], [(0.0, 1.0), (0.0, 2.0)], [(0.0, 1.0), (1.0, 9.0)]])
def test_too_few_points_are_never_a_sure_slope(points: list[tuple[float, float]]) -> None:
    """Two points are a line, and no proof."""
    assert theil_sen(points).lower <= 0


def test_minima_are_the_valleys() -> None:
    """Each window gives its lowest point, the last point belongs to the last window."""
    points = [(float(x), float(x % 5)) for x in range(21)]
    assert minima(points, 4) == [(0.0, 0.0), (5.0, 0.0), (10.0, 0.0), (15.0, 0.0)]
    assert minima([], 4) == []
    assert minima([(1.0, 7.0)], 4) == [(1.0, 7.0)]
