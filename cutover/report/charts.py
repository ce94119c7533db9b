"""Charts as inline SVG: each series of the watch, and the requests across the switch.

Every color has a shape too (blue is dashed, green is solid), and every line and mark has its name beside it.

The fact `proof` of a session is what `cutover.proxy.proof.SwitchReport.as_json` makes:

    {"to": "green", "requests": 2400, "answered": 2400, "failed": 0, "failed_in_gap": 0,
     "open_connections": 120, "new_connections": 40, "first_answer_ms": 1.6, "longest_gap_ms": 11.0,
     "timeline": [[-200, 31, 0, 0], [-100, 29, 0, 0], [0, 1, 30, 0], …]}

A row of the timeline: its beginning in milliseconds since the switch, requests answered by blue, by green, and failed.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from cutover.core.evidence import Sample, Step
from cutover.core.text import count, duration
from cutover.report.escape import html_text, safe_markup

NARROW, WIDE, HEIGHT = 520, 1040, 190
LEFT, RIGHT, TOP, BOTTOM = 62, 56, 26, 22
MOST_BUCKETS = 240
BUCKET_S = 0.1
COLORS = ("blue", "green")
NAME_ROOM = 9
"""Letters of a line's name beside it."""
QUANTILE = re.compile(r"p\d{1,3}")
MARKED: Mapping[str, str] = {
    "deploy": "deploy",
    "up": "deploy",
    "switch": "switch",
    "undo": "revert",
    "revert": "revert",
    "flip": "revert",
}
"""First word of a step's name -> the label of its mark."""
Point = tuple[float, float]
"""Time and value."""
Bucket = Mapping[str, int]
"""How many requests blue and green answered, and how many failed."""
Spell = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps times and values to coordinates of the picture."""

    t0: float
    t1: float
    v0: float
    v1: float
    width: int = NARROW

    @property
    def right(self) -> float:
        """Where the plot ends and the names begin."""
        return self.width - RIGHT

    def x(self, at: float) -> float:
        """The horizontal place of a time."""
        return LEFT + (self.right - LEFT) * (at - self.t0) / ((self.t1 - self.t0) or 1.0)

    def y(self, value: float) -> float:
        """The vertical place of a value."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.v0) / ((self.v1 - self.v0) or 1.0)


# --- numbers -----------------------------------------------------------------------------------------------------
def marks_of(steps: Iterable[Step]) -> list[tuple[float, str]]:
    """The end and label of each step that changed traffic or containers: deploy, switch, revert."""
    labels = ((step.at, MARKED.get(step.name) or MARKED.get(step.name.split(" ")[0])) for step in steps)
    return [(at, label) for at, label in labels if label]


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers from *low* or below to *high* or above, about *most* of them."""
    rough = ((high - low) or abs(high) or 1.0) / most
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * nice for nice in (1, 2, 2.5, 5, 10) if size * nice >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(float(n * step), 12) for n in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most *most* points: the lowest and highest of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / max(1, most // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def title_and_unit(series: str) -> tuple[str, Spell]:
    """The title of a series and how its values are written; the last word of its name is the unit."""
    if QUANTILE.fullmatch(series):
        series = f"{series} latency seconds"
    title, _, unit = series.rpartition(" ")
    match unit:
        case "seconds":
            return title, _seconds
        case "ms":
            return title, lambda value: _seconds(value / 1000)
        case "MB" | "cores":
            return title, lambda value: f"{value:,.4g} {unit}"
        case "bytes":
            return title, lambda value: f"{value / 1e6:,.4g} MB"
        case "share" | "ratio":
            return title, lambda value: f"{value * 100:.3g} %"
        case "percent" | "%":
            return title, lambda value: f"{value:.3g} %"
    return series, lambda value: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # noqa: PLR2004


def _seconds(value: float) -> str:
    # `duration` rounds too much for an axis: ticks at 0.25 s and 0.75 s would read 0.2 s and 0.8 s.
    if not value or abs(value) >= 60:  # noqa: PLR2004 - minutes are read as minutes
        return duration(value) if value else "0"
    return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"


# --- series of the watch -----------------------------------------------------------------------------------------
def series_charts(samples: Iterable[Sample], steps: Iterable[Step], clock: Spell, most: int = 300) -> Markup:
    """One figure for each series, in the order in which they began; *clock* writes a time."""
    found: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if math.isfinite(sample.value):
            found[sample.series][sample.color].append((sample.at, sample.value))
    marks = marks_of(steps)
    drawn = (_series_chart(series, lines, marks, clock, most) for series, lines in found.items())
    return safe_markup("".join(drawn))


def _series_chart(
    series: str, lines: Mapping[str, list[Point]], marks: Iterable[tuple[float, str]], clock: Spell, most: int
) -> str:
    points = [point for line in lines.values() for point in line]
    times, values = [at for at, _value in points], [value for _at, value in points]
    title, spell = title_and_unit(series)
    if not any(values):
        span = f"{clock(min(times))} to {clock(max(times))}"
        return _figure(title, "", f"{spell(0.0)} in each of {count(len(values), 'point')}, {span}.")
    grid = ticks(min(0.0, *values), max(values) or 1.0)
    if all(float(value).is_integer() for value in values):
        grid = [value for value in grid if value.is_integer()]  # half an error cannot happen
    first, last = min(times), max(times)
    room = max(last - first, 1)
    near = [(at, name) for at, name in marks if first - room <= at <= last + room]
    moments = [first, last, *(at for at, _name in near)]
    scale = Scale(min(moments), max(moments), grid[0], grid[-1])
    labels = [
        (scale.t0 + (scale.t1 - scale.t0) * n / 3, anchor)
        for n, anchor in enumerate(("start", "middle", "middle", "end"))
    ]
    drawn = (
        _value_axis(grid, scale, spell),
        *(_time_label(at, clock(at), scale, anchor) for at, anchor in labels),
        *(_line(color, thinned(line, most), scale) for color, line in lines.items()),
        _line_names(lines, scale),
        # Names on two levels, so that marks near each other can be read.
        *(_mark(scale, at, name, TOP - 14 + 11 * (n % 2)) for n, (at, name) in enumerate(sorted(near))),
    )
    summary = ", ".join(f"{color or 'all'}: {_line_summary(line, spell)}" for color, line in lines.items())
    thin = any(len(line) > most for line in lines.values())
    note = " Thinned to its lowest and highest values." if thin else ""
    return _figure(title, "".join(drawn), f"{summary}.{note}")


def _line_summary(line: Sequence[Point], spell: Spell) -> str:
    values = sorted(value for _at, value in line)
    return f"median {spell(values[len(values) // 2])}, highest {spell(values[-1])}, {len(values):,} points"


def _line(color: str, line: Sequence[Point], scale: Scale) -> str:
    css = f"line {_css(color)}"
    if len(line) == 1 or {value for _at, value in line} == {1.0}:
        # Single events, each with the value 1, are dots: a line would show them as lasting.
        return "".join(
            f'<circle class="{css} dot" cx="{scale.x(at):.1f}" cy="{scale.y(value):.1f}" r="2.5"/>'
            for at, value in line
        )
    path = " ".join(f"{scale.x(at):.1f},{scale.y(value):.1f}" for at, value in line)
    return f'<polyline class="{css}" points="{path}"/>'


def _line_names(lines: Mapping[str, Sequence[Point]], scale: Scale) -> str:
    drawn, floor = "", -math.inf
    for y, color in sorted((scale.y(line[-1][1]), color) for color, line in lines.items()):
        floor = max(y + 4, floor + 12)  # moved apart where they would overlap
        drawn += _name(color, scale.right + 5, floor)
    return drawn


# --- requests across the switch ----------------------------------------------------------------------------------
def proof_sentence(proof: Mapping[str, Any]) -> str:
    """`2,400 requests on 120 open and 40 new connections: 2,400 green, 0 failed, longest gap 11 ms`."""
    kinds = (("open_connections", "open"), ("new_connections", "new"))
    ways = [f"{proof[key]:,} {name}" for key, name in kinds if proof.get(key)]
    on = f" on {' and '.join(ways)} connections" if ways else ""
    by = f"{int(proof.get('answered') or 0):,} {proof.get('to') or 'answered'}"
    gap = duration(float(proof.get("longest_gap_ms") or 0) / 1000)
    total, failed = int(proof.get("requests") or 0), int(proof.get("failed") or 0)
    text = f"{count(total, 'request')}{on}: {by}, {failed:,} failed, longest gap {gap}"
    announced = int(proof.get("failed_in_gap") or 0)
    return f"{text} with {count(announced, 'failed request')} in it, as announced" if announced else text


def timeline_buckets(proof: Mapping[str, Any]) -> dict[float, Bucket]:
    """The timeline by the beginning of its rows, in seconds since the switch."""
    return {
        float(row[0]) / 1000: {"blue": int(row[1]), "green": int(row[2]), "failed": int(row[3])}
        for row in proof.get("timeline") or ()
    }


def coarser(found: Mapping[float, Bucket]) -> tuple[dict[float, Bucket], float]:
    """The same requests in at most 240 buckets, and the length of a bucket in seconds."""
    times = max(1, -(-round((max(found) - min(found)) / BUCKET_S + 1) // MOST_BUCKETS)) if found else 1
    wide: dict[float, dict[str, int]] = defaultdict(lambda: {"blue": 0, "green": 0, "failed": 0})
    for at, bucket in found.items():
        place = (round(at / BUCKET_S) // times) * BUCKET_S * times
        for key, number in bucket.items():
            wide[place][key] += number
    return dict(wide), BUCKET_S * times


def proof_chart(proof: Mapping[str, Any]) -> Markup:
    """Requests per second by color over time, failures as crosses, the switch as a line; empty without a timeline.

    Without a request it says so in place of an empty picture.
    """
    found, size = coarser(timeline_buckets(proof))
    if not found:
        return safe_markup("")
    title = "requests per second through the proxy, by who answered"
    if not any(number for bucket in found.values() for number in bucket.values()):
        return safe_markup(_figure(title, "", "No request was sent, so nothing is drawn.", WIDE))
    grid = ticks(0.0, max(sum(bucket[color] for color in COLORS) / size for bucket in found.values()) or 1.0)
    scale = Scale(min(found), max(found) + size, 0.0, grid[-1], WIDE)
    labels = [at for at in ticks(scale.t0, scale.t1, 6) if scale.t0 <= at <= scale.t1]
    drawn = (
        _value_axis(grid, scale, lambda value: f"{value:,.4g}"),
        *(_time_label(at, f"{at:+.3g} s" if at else "0", scale) for at in labels),
        *(_bars(at, bucket, size, scale) for at, bucket in sorted(found.items())),
        _legend(found, scale),
        _mark(scale, 0.0, "switch", TOP - 10) if scale.t0 <= 0 <= scale.t1 else "",
    )
    first = proof.get("first_answer_ms")
    since = ""
    if first is not None:
        since = f"First answer of {proof.get('to')} after {duration(first / 1000)}; since then "
    return safe_markup(_figure(title, "".join(drawn), f"{since}{proof_sentence(proof)}.", WIDE))


def _bars(at: float, bucket: Bucket, size: float, scale: Scale) -> str:
    drawn, low = "", 0.0
    left, width = scale.x(at), max(0.6, scale.x(at + size) - scale.x(at) - 0.4)
    for color in COLORS:
        high = low + bucket[color] / size
        if high > low:
            place = f'x="{left:.1f}" y="{scale.y(high):.1f}" width="{width:.1f}"'
            drawn += f'<rect class="bar {_css(color)}" {place} height="{scale.y(low) - scale.y(high):.1f}"/>'
        low = high
    return drawn + (_cross(left + width / 2, TOP + 8, bucket["failed"]) if bucket["failed"] else "")


def _cross(x: float, y: float, failed: int) -> str:
    lines = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return f'<path class="failed" d="{lines}"><title>{count(failed, "failed request")}</title></path>'


def _legend(found: Mapping[float, Bucket], scale: Scale) -> str:
    totals = {key: sum(bucket[key] for bucket in found.values()) for key in (*COLORS, "failed")}
    drawn, x, y = "", scale.right + 5, TOP
    for color in COLORS:
        if totals[color]:
            drawn += f'<rect class="bar {_css(color)}" x="{x:.0f}" y="{y}" width="8" height="8"/>'
            drawn += _name(color, x + 11, y + 8)
            y += 14
    if totals["failed"]:
        drawn += _cross(x + 4, y + 4, totals["failed"])
        drawn += f'<text class="back" x="{x + 11:.0f}" y="{y + 8}">failed</text>'
    return drawn


# --- parts of a picture ------------------------------------------------------------------------------------------
def _figure(title: str, inner: str, caption: str, width: int = NARROW) -> str:
    name, picture = html_text(title), ""
    if inner:
        look = f'viewBox="0 0 {width} {HEIGHT}" class="w{width}"'
        drawn = f'<svg {look} role="img" aria-label="{name}">{inner}</svg>'
        picture = f'<div class="wide">{drawn}</div>'
    return f"<figure><h3>{name}</h3>{picture}<figcaption>{html_text(caption)}</figcaption></figure>"


def _css(color: str) -> str:
    word = color.rpartition(" ")[2]  # "web-1 green" is green on one of several hosts
    return word if word in COLORS else "other"


def _name(color: str, x: float, y: float) -> str:
    name = color if len(color) <= NAME_ROOM else color.partition(" ")[0][:NAME_ROOM]
    return f'<text class="name {_css(color)}" x="{x:.0f}" y="{y:.1f}">{html_text(name)}</text>'


def _value_axis(grid: Iterable[float], scale: Scale, spell: Spell) -> str:
    return "".join(
        f'<path class="grid" d="M{LEFT} {scale.y(value):.1f}H{scale.right:.0f}"/><text class="tick" x="{LEFT - 6}" '
        f'y="{scale.y(value) + 3.5:.1f}" text-anchor="end">{html_text(spell(value))}</text>'
        for value in grid
    )


def _time_label(at: float, text: str, scale: Scale, anchor: str = "middle") -> str:
    place = f'x="{scale.x(at):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}"'
    return f'<text class="tick" {place}>{html_text(text)}</text>'


def _mark(scale: Scale, moment: float, name: str, y: float) -> str:
    x = scale.x(moment)
    late = x > scale.right - 70  # then there is room for its name only at its left
    css = "back" if name == "revert" else "event"
    place = f'x="{x - 4 if late else x + 4:.1f}" y="{y + 4:.1f}" text-anchor="{"end" if late else "start"}"'
    line = f'<path class="{css}" d="M{x:.1f} {y - 4:.1f}V{HEIGHT - BOTTOM}"/>'
    return f'{line}<text class="{css}" {place}>{html_text(name)}</text>'
