from __future__ import annotations

import re

import pytest

from cutover.evidence import Sample, Step
from cutover.report.charts import charts, marks_of, spelled, thinned, ticks
from cutover.report.proof import buckets, coarser, fact, picture, words


def clock(at: float) -> str:
    """Seconds as they are."""
    return f"{at:.0f} s"


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 0.09, [0, 0.025, 0.05, 0.075, 0.1]),
        (0, 1, [0, 0.25, 0.5, 0.75, 1.0]),
        (0, 184.2, [0, 50, 100, 150, 200]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (5, 5, [5, 6.25]),
        (0, 0, [0, 0.25]),
    ],
)
def test_ticks_are_round_and_cover_the_values(low: float, high: float, wanted: list[float]) -> None:
    """Every axis has round numbers and room for its lowest and highest value."""
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    if high > low:
        assert found == wanted


def test_thinning_keeps_every_peak() -> None:
    """A single slow answer among thousands stays visible."""
    points = [(float(at), 1.0) for at in range(10_000)]
    points[7777] = (7777.0, 99.0)
    kept = thinned(points, 300)
    assert len(kept) <= 300
    assert (7777.0, 99.0) in kept
    assert kept == sorted(kept)


def test_each_series_is_a_picture_with_its_marks() -> None:
    """Both colours are named, what happened is a line with its name, and the numbers are there in words."""
    samples = [
        Sample("p95 latency seconds", colour, 100.0 + n, 0.08)
        for n in range(9)
        for colour in ("blue", "green")
    ]
    steps = [
        Step("T-0", "switch", "", 0.1, 101.0),
        Step("", "undo", "", 0.1, 107.0),
        Step("T-10m", "deploy green", "", 1, -9999.0),
    ]
    drawn = charts(samples, steps, clock)
    assert drawn.count("<svg") == 1
    names = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {"blue", "green", "switch", "take back", "100 s", "108 s"} <= set(names)
    assert "deploy" not in names
    assert "<h3>p95 latency</h3>" in drawn
    assert "blue: median 80 ms, highest 80 ms, 9 points" in drawn


def test_numbers_that_are_none_draw_nothing() -> None:
    """A value that is no number, or a series without any, is no picture and no error."""
    odd = [Sample("x", "blue", 1.0, float("nan")), Sample("x", "blue", 1.0, float("inf"))]
    assert charts(odd, [], clock) == ""
    assert "<circle" in charts([Sample("x", "", 1.0, 0.0)], [], clock)


@pytest.mark.parametrize(
    ("series", "value", "said"),
    [
        ("memory bytes", 181e6, ("memory", "181 MB")),
        ("5xx share", 0.048, ("5xx", "4.8 %")),
        ("cpu percent", 20, ("cpu", "20 %")),
        ("p95 seconds", 0.084, ("p95", "84 ms")),
        ("restarts", 3, ("restarts", "3")),
    ],
)
def test_a_series_names_its_unit(series: str, value: float, said: tuple[str, str]) -> None:
    """The last word of a series is its unit, and every number on the axis carries it."""
    name, spell = spelled(series)
    assert (name, spell(value)) == said


def test_steps_that_change_traffic_are_marks() -> None:
    """Deploy, switch and take-back are marked; a watch or a gate is not."""
    steps = [
        Step("", name, "", 0, 1.0) for name in ("deploy green", "switch", "watch", "undo", "smoke[green]")
    ]
    assert [name for _at, name in marks_of(steps)] == ["deploy", "switch", "take back"]


def test_the_proof_counts_what_was_answered() -> None:
    """The fact of a proof is computed from its answers: who, how many, failures, the longest gap."""
    answers = [(9.9, "blue", True), (10.0, "green", True), (10.011, "green", False), (10.3, "green", True)]
    seen = fact(
        answers, switched_at=10.0, before="blue", after="green", open_connections=3, new_connections=1
    )
    assert words(seen) == (
        "4 requests on 3 open and 1 new connections: 1 blue, 2 green, 1 failed, longest gap 0.3 s"
    )
    assert seen["buckets"] == [[-0.1, "blue", 1, 0], [0.0, "green", 1, 1], [0.3, "green", 1, 0]]


def test_the_proof_is_one_picture() -> None:
    """Colours as bars, failures as crosses, the switch as a line."""
    answers = [(n / 100, "blue" if n < 300 else "green", n != 400) for n in range(600)]
    drawn = picture(fact(answers, switched_at=3.0, before="blue", after="green"))
    assert drawn.count('class="failed"') == 1
    assert ">switch</text>" in drawn
    assert drawn.count('class="bar blue"') > 10
    assert drawn.count('class="bar green"') > 10


def test_rows_without_failures_and_no_rows_are_fine() -> None:
    """A bucket may leave its failures out; a proof without buckets has no picture."""
    assert buckets({"buckets": [[0.0, "green", 3]]})[0.0]["green"] == (3, 0)
    assert picture({"requests": 3}) == ""


def test_many_buckets_become_few_and_lose_nothing() -> None:
    """A long proof is drawn coarser with the same number of requests."""
    found = {n * 0.05: {"green": (2, 1)} for n in range(5000)}
    wide, size = coarser(found, 0.05)
    assert len(wide) <= 240
    assert size == pytest.approx(1.05)
    assert sum(good for colours in wide.values() for good, _bad in colours.values()) == 10_000
