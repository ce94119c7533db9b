"""How the bench of Swarm judges a release by the answers of its users."""

from __future__ import annotations

import pytest

from benchmarks.bench_swarm import judged
from tests.helpers.load import Ask, Shot

OLD, NEW, BEGUN = "sha-1", "sha-2", 100.0


def answers(*spans: tuple[float, float, str, int]) -> list[Shot]:
    """An answer each second of each span: from, to, release, status."""
    return [
        Shot(at, at, at, "", status, Ask("GET", "/version"), "", release)
        for early, late, release, status in spans
        for at in (early + number for number in range(int(late - early)))
    ]


BEFORE = (95, 110, OLD, 200)
GOOD = (110, 140, NEW, 200)
BROKEN = (112, 118, NEW, 500)


@pytest.mark.parametrize(
    ("spans", "code", "all_traffic", "back", "truth"),
    [
        ((BEFORE, GOOD), 0, 9.0, None, True),
        ((BEFORE, GOOD), 1, 9.0, None, False),
        ((BEFORE, (110, 112, NEW, 200), BROKEN, (118, 140, OLD, 200)), 1, None, 5.0, True),
        ((BEFORE, (110, 112, NEW, 200), BROKEN, (118, 140, OLD, 200)), 0, None, 5.0, False),
        ((BEFORE, (110, 140, NEW, 500)), 0, None, None, False),
        ((BEFORE, (110, 140, NEW, 200), (110, 140, OLD, 200)), 0, None, None, False),
    ],
    ids=[
        "good",
        "good and a false alarm",
        "reverted",
        "reverted and hidden",
        "broken for ever",
        "two releases",
    ],
)
def test_an_exit_code_tells_the_truth_if_users_have_what_it_says(
    spans: tuple[tuple[float, float, str, int], ...],
    code: int,
    all_traffic: float | None,
    back: float | None,
    truth: bool,  # of the table
) -> None:
    """0 means that all users have the new release, anything else that they have another one."""
    row = judged(answers(*spans), NEW, OLD, BEGUN, code)
    assert (row["all_traffic"], row["back"], row["truth"]) == (all_traffic, back, truth)
