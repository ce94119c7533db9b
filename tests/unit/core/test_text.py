from __future__ import annotations

import pytest

from cutover.core.text import count, countdown, duration, join_list, spelled, utc


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 ms"),
        (0.0016, "1.6 ms"),
        (0.011, "11 ms"),
        (0.4, "0.4 s"),
        (2, "2 s"),
        (12.6, "12.6 s"),
        (48.2, "48 s"),
        (59.7, "1 min"),
        (192, "3 min 12 s"),
        (8040, "2 h 14 min"),
        (90000, "1 d 1 h"),
        (-0.4, "-0.4 s"),
    ],
)
def test_a_duration_has_at_most_two_numbers(seconds: float, said: str) -> None:
    """A duration has at most two numbers, each with its unit."""
    assert duration(seconds) == said


@pytest.mark.parametrize(("left", "said"), [(552, "09:12"), (0, "00:00"), (-1, "00:00"), (4152, "1:09:12")])
def test_a_clock_counts_down_to_zero(left: float, said: str) -> None:
    """Remaining time is never negative."""
    assert countdown(left) == said


def test_words_are_counted_and_joined() -> None:
    """Singular and plural, thousands separators, lists with "and", times in UTC."""
    assert [count(1, "check"), count(2400, "request"), count(2, "entry", "entries")] == [
        "1 check",
        "2,400 requests",
        "2 entries",
    ]
    assert [join_list([]), join_list(["a"]), join_list(["a", "b", "c"])] == ["", "a", "a, b and c"]
    assert utc(1756947022) == "2025-09-04 00:50:22 UTC"


@pytest.mark.parametrize(
    ("value", "bounds", "places", "said"),
    [
        (300.2, {"most": 300}, 0, "301"),
        (299.8, {"most": 300}, 0, "300"),
        (300.0, {"most": 300}, 0, "300"),
        (412.4, {"most": 300}, 0, "412"),
        (299.9, {"most": 299.6}, 0, "301"),
        (13.6, {"least": 14}, 0, "13"),
        (14.4, {"least": 14}, 0, "14"),
        (9.7, {"least": 10}, 0, "9"),
        (1.004, {"most": 1.0}, 2, "1.01"),
        (1.004, {}, 2, "1.00"),
    ],
)
def test_a_value_that_breaks_a_bound_is_not_spelled_like_it(
    value: float, bounds: dict[str, float], places: int, said: str
) -> None:
    """Else a no reads like a yes; any other value is rounded as usual."""
    assert spelled(value, **bounds, places=places) == said
