from __future__ import annotations

import re

import pytest

from cutover.core.evidence import Sample as Point
from cutover.core.evidence import Step
from cutover.proxy.proof import RequestSample, summarize_switch
from cutover.report.charts import (
    coarser,
    marks_of,
    proof_chart,
    proof_sentence,
    series_charts,
    thinned,
    ticks,
    timeline_buckets,
    title_and_unit,
)


def clock(at: float) -> str:
    """Seconds, unchanged."""
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
    """Both colors and all marks are named, and the numbers are in the caption."""
    samples = [
        Point("p95 latency seconds", color, 100.0 + n, 0.08) for n in range(9) for color in ("blue", "green")
    ]
    steps = [
        Step("T-0", "switch", "", 0.1, 101.0),
        Step("", "undo", "", 0.1, 107.0),
        Step("T-10m", "deploy green", "", 1, -9999.0),
    ]
    drawn = series_charts(samples, steps, clock)
    assert drawn.count("<svg") == 1
    names = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {"blue", "green", "switch", "revert", "100 s", "108 s"} <= set(names)
    assert "deploy" not in names
    assert "<h3>p95 latency</h3>" in drawn
    assert "blue: median 80 ms, highest 80 ms, 9 points" in drawn


@pytest.mark.parametrize("highest", [1, 3, 10, 45, 4000])
def test_counts_are_drawn_with_whole_numbers(highest: int) -> None:
    """A series of whole numbers, as JSON has them, has an axis of whole numbers."""
    drawn = series_charts(
        [Point("requests", "green", 1.0, 0), Point("requests", "green", 2.0, highest)], [], clock
    )
    assert drawn.count("<svg") == 1
    ticks_drawn = re.findall(r'<text class="tick"[^>]*text-anchor="end">([^<]*)</text>', drawn)
    assert ticks_drawn
    assert all(each.replace(",", "").isdigit() for each in ticks_drawn if not each.endswith(" s"))


def test_lines_of_several_hosts_have_their_names_and_the_shapes_of_their_colors() -> None:
    """`web-1 green` is drawn as green and named web-1 beside its line; the caption has the whole name."""
    samples = [Point("x", f"web-{n} green", float(at), at * 0.5) for n in (1, 2) for at in range(3)]
    drawn = series_charts(samples, [], clock)
    assert drawn.count('<polyline class="line green"') == 2
    assert {">web-1</text>", ">web-2</text>"} <= {*re.findall(r">web-\d</text>", drawn)}
    assert "web-2 green: median" in drawn


def test_numbers_that_are_none_draw_nothing() -> None:
    """Values that are not finite, and series without values, are left out."""
    odd = [Point("x", "blue", 1.0, float("nan")), Point("x", "blue", 1.0, float("inf"))]
    assert series_charts(odd, [], clock) == ""
    assert "<circle" in series_charts([Point("x", "", 1.0, 1.0)], [], clock)


def test_zeros_are_said_in_words() -> None:
    """A series of zeros, and a switch without a request, have a sentence in place of an empty picture."""
    samples = [Point("5xx share", color, float(at), 0.0) for at in range(9) for color in ("blue", "green")]
    drawn = series_charts(samples, [], clock)
    assert (
        drawn == "<figure><h3>5xx</h3><figcaption>0 % in each of 18 points, 0 s to 8 s.</figcaption></figure>"
    )
    quiet = proof_chart({"requests": 0, "timeline": [[-100, 0, 0, 0], [0, 0, 0, 0]]})
    assert "<svg" not in quiet
    assert "No request was sent" in quiet


@pytest.mark.parametrize(
    ("series", "value", "said"),
    [
        ("memory bytes", 181e6, ("memory", "181 MB")),
        ("5xx share", 0.048, ("5xx", "4.8 %")),
        ("cpu percent", 20, ("cpu", "20 %")),
        ("memory MB", 181, ("memory", "181 MB")),
        ("requests of users", 41204, ("requests of users", "41,204")),
        ("requests of users", 642, ("requests of users", "642")),
        ("cpu cores", 0.25, ("cpu", "0.25 cores")),
        ("x seconds", 0.25, ("x", "250 ms")),
        ("x seconds", 90, ("x", "1 min 30 s")),
        ("p99", 0.084, ("p99 latency", "84 ms")),
        ("redis ms", 1.2, ("redis", "1.2 ms")),
        ("p95 seconds", 0.084, ("p95", "84 ms")),
        ("restarts", 3, ("restarts", "3")),
    ],
)
def test_a_series_names_its_unit(series: str, value: float, said: tuple[str, str]) -> None:
    """The last word of a series is its unit, and every number on the axis carries it."""
    name, spell = title_and_unit(series)
    assert (name, spell(value)) == said


def test_what_is_counted_has_whole_ticks() -> None:
    """An axis of counts has no fractions."""
    drawn = series_charts([Point("5xx", "green", float(at), float(at % 2)) for at in range(9)], [], clock)
    assert "0.25" not in drawn
    assert {"0", "1"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", drawn))


def test_steps_that_change_traffic_are_marks() -> None:
    """Deploy, switch and revert are marked; watch and gate are not."""
    steps = [
        Step("", name, "", 0, 1.0) for name in ("deploy green", "switch", "watch", "undo", "smoke[green]")
    ]
    assert [name for _at, name in marks_of(steps)] == ["deploy", "switch", "revert"]


def test_the_proof_is_said_in_one_line() -> None:
    """Requests, connections, answers, failures and the longest gap are in one sentence."""
    seen = summarize_switch(
        [
            RequestSample(-0.2, -0.1, "blue", 200),
            RequestSample(0.0, 0.002, "green", 200),
            RequestSample(0.1, 0.3, "green", 200),
        ],
        "green",
        0.0,
        open_connections=3,
        new_connections=1,
    ).as_json()
    assert (
        proof_sentence(seen)
        == "1 request on 3 open and 1 new connections: 1 green, 0 failed, longest gap 0.3 s"
    )
    assert proof_sentence(seen | {"failed_in_gap": 2}).endswith(
        "0.3 s with 2 failed requests in it, as announced"
    )
    assert proof_sentence({}) == "0 requests: 0 answered, 0 failed, longest gap 0.0 ms"


def test_the_proof_is_one_picture() -> None:
    """Bars for colors, crosses for failures, a line for the switch, each with its name."""
    samples = [RequestSample(n / 100 - 3, n / 100 - 3, "blue", 200) for n in range(300)]
    samples += [RequestSample(n / 100, n / 100, "green", 500 if n == 100 else 200) for n in range(300)]
    drawn = proof_chart(summarize_switch(samples, "green", 0.0).as_json())
    assert drawn.count('class="failed"') == 2
    assert drawn.count('class="bar blue"') == 31
    assert drawn.count('class="bar green"') == 31
    assert {"switch", "blue", "green", "failed"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", drawn))


def test_a_proof_without_a_timeline_has_no_picture() -> None:
    """Without a timeline there is no chart."""
    assert proof_chart({"requests": 3}) == ""


def test_many_buckets_become_few_and_lose_nothing() -> None:
    """A long timeline is drawn in fewer buckets with the same number of requests."""
    wide, size = coarser(timeline_buckets({"timeline": [[n * 100, 2, 1, 0] for n in range(-100, 4900)]}))
    assert len(wide) <= 240
    assert size == pytest.approx(2.1)
    assert sum(bucket["blue"] for bucket in wide.values()) == 10_000


def test_things_that_happened_are_dots() -> None:
    """Single failures are dots, not a line from one to the next."""
    drawn = series_charts([Point("probe failed", "green", float(at), 1.0) for at in (1, 5, 9)], [], clock)
    assert drawn.count("<circle") == 3
    assert "<polyline" not in drawn
