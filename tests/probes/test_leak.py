"""A leak is found, and nothing else is called one: series with warm-up, saw-teeth, steps and noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from cutover.core.verdict import Outcome
from cutover.probes.leak import MB, NEEDS_S, Series, judge_leak

YES, NO, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.NOT_ASKED
Shape = Callable[[float, random.Random], float]


def flat(_minute: float, dice: random.Random) -> float:
    """200 MB with noise."""
    return 200 + dice.gauss(0, 1)


def warming(minute: float, dice: random.Random) -> float:
    """Grows by 60 MB in the first minutes, then no more."""
    return 200 + 60 * (1 - math.exp(-minute / 2)) + dice.gauss(0, 1)


def warming_slowly(minute: float, dice: random.Random) -> float:
    """The same with a time constant of three minutes: it still grows when the first third is over."""
    return 200 + 60 * (1 - math.exp(-minute / 3)) + dice.gauss(0, 1)


def leaking_and_warming(minute: float, dice: random.Random) -> float:
    """Both at once."""
    return warming_slowly(minute, dice) + 2 * minute


def sawtooth(minute: float, dice: random.Random) -> float:
    """A garbage collector that lets go each 40 s."""
    return 200 + 30 * ((minute * 1.5) % 1) + dice.gauss(0, 1)


def step(minute: float, dice: random.Random) -> float:
    """A cache that is filled once, in the tenth minute."""
    return 200 + (40 if minute > 10 else 0) + dice.gauss(0, 1)


def leak(minute: float, dice: random.Random) -> float:
    """Two megabytes a minute."""
    return 200 + 2 * minute + dice.gauss(0, 1)


def slow_leak(minute: float, dice: random.Random) -> float:
    """A fifth of a megabyte a minute: below what the rule promises."""
    return 200 + 0.2 * minute + dice.gauss(0, 1)


@pytest.mark.parametrize(
    ("shape", "outcome"),
    [
        (flat, YES), (warming, YES), (warming_slowly, YES), (sawtooth, YES), (step, YES), (slow_leak, YES),
        (leak, NO), (leaking_and_warming, NO),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)),
)  # fmt: skip
@pytest.mark.parametrize("seed", range(10))
def test_shapes(shape: Shape, outcome: Outcome, seed: int) -> None:
    """In the time that the rule needs a leak of 2 MB a minute is found, and no other shape is called one."""
    dice = random.Random(seed)  # noqa: S311 - noise of a test
    points = [(float(second), shape(second / 60, dice) * MB) for second in range(0, int(NEEDS_S) + 1, 5)]
    verdict = judge_leak(points, 0)
    assert verdict.outcome is outcome, verdict


def test_a_leak_says_when_the_limit_is_reached() -> None:
    """The number that decides about the night: hours to the limit."""
    points = [(float(second), (200 + second / 30) * MB) for second in range(0, 901, 5)]
    verdict = judge_leak(points, 350_000_000)
    assert verdict.reason == "memory grows by 2.0 MB a minute, 8% over 10 min: at its limit in 1.0 h"


@pytest.mark.parametrize("minutes", [0, 1, 14])
def test_too_short_a_time_says_so(minutes: int) -> None:
    """Before a quarter of an hour nobody can tell; that is no answer, and no reason to take a release back."""
    points = [(float(second), second * MB) for second in range(0, minutes * 60 + 1, 5)]
    verdict = judge_leak(points, 0)
    assert (verdict.outcome, verdict.reason) == (
        NOT_ASKED,
        f"{minutes} min seen, 14.5 min needed to tell a leak from a warm-up",
    )


def test_a_watch_of_a_quarter_of_an_hour_can_tell() -> None:
    """The readings of the runbook's longest watch suffice, though the first is late and the last tick early."""
    points = [(float(second), 200 * MB) for second in range(3, 889)]
    assert judge_leak(points, 0).outcome is YES


def test_memory_of_a_long_watch_stays_constant() -> None:
    """A day of readings keeps at most a thousand, from its whole length."""
    series = Series()
    for second in range(86_400):
        series.add(float(second), second * MB)
    assert len(series.points) <= 1000
    assert series.seconds > 86_000
    assert judge_leak(series.points, 0).outcome is NO
    assert Series().seconds < NEEDS_S
