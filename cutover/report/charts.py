"""Charts as inline SVG in the page's own colours: each series of the watch, with what happened marked.

Shapes say what colours say: blue is dashed and green is solid, each line is named at its end, and each mark too.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cutover.evidence import Sample, Step
from cutover.report.html import esc
from cutover.report.words import duration

NARROW, WIDE, HEIGHT = 520, 1040, 190
LEFT, RIGHT, TOP, BOTTOM = 62, 56, 26, 22
QUANTILE = re.compile(r"p\d{1,3}")
Point = tuple[float, float]
MARKED: Mapping[str, str] = {
    "deploy": "deploy",
    "up": "deploy",
    "switch": "switch",
    "undo": "take back",
    "take back": "take back",
    "flip": "take back",
}


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps times and values to a place in the picture."""

    t0: float
    t1: float
    v0: float
    v1: float
    width: int = NARROW

    @property
    def right(self) -> float:
        """Where the picture ends and the names begin."""
        return self.width - RIGHT

    def x(self, at: float) -> float:
        """From left to right."""
        return LEFT + (self.right - LEFT) * (at - self.t0) / ((self.t1 - self.t0) or 1.0)

    def y(self, value: float) -> float:
        """From the bottom up."""
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - self.v0) / ((self.v1 - self.v0) or 1.0)


def marks_of(steps: Iterable[Step]) -> list[tuple[float, str]]:
    """When the release was deployed, switched to, taken back: what every chart has as a line."""
    found = []
    for step in steps:
        word = next(
            (word for key, word in MARKED.items() if step.name == key or step.name.startswith(key + " ")), ""
        )
        found += [(step.at, word)] if word else []
    return found


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers from below *low* to above *high*, about *most* of them."""
    width = (high - low) or abs(high) or 1.0
    rough = width / most
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * nice for nice in (1, 2, 2.5, 5, 10) if size * nice >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most *most* points, lowest and highest of each stretch kept, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / max(1, most // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ends = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        kept += sorted(ends)
    return kept


def spelled(series: str) -> tuple[str, Callable[[float], str]]:
    """A series' title and how its values are written; the last word of its name is the unit."""
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
    return series, lambda value: f"{value:,.4g}"


def _seconds(value: float) -> str:
    """As `duration`, with the digits that an axis needs: its ticks at 0.25 s and 0.75 s are neither 0.2 nor 0.8."""
    if not value or abs(value) >= 60:  # noqa: PLR2004 - minutes are read as minutes
        return duration(value) if value else "0"
    return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"


def charts(
    samples: Iterable[Sample], steps: Iterable[Step], clock: Callable[[float], str], most: int = 300
) -> str:
    """One figure for each series, in the order in which they were first seen."""
    found: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        if math.isfinite(sample.value):
            found[sample.series][sample.colour].append((sample.at, sample.value))
    marks = marks_of(steps)
    return "".join(chart(series, lines, marks, clock, most) for series, lines in found.items())


def chart(
    series: str,
    lines: Mapping[str, Sequence[Point]],
    marks: Sequence[tuple[float, str]],
    clock: Callable[[float], str],
    most: int = 300,
) -> str:
    """The lines of one series over time, one for each colour."""
    points = [point for line in lines.values() for point in line]
    title, spell = spelled(series)
    grid = ticks(min(0.0, *(v for _t, v in points)), max(v for _t, v in points) or 1.0)
    if all(float(value).is_integer() for _t, value in points):
        grid = [value for value in grid if value.is_integer()]  # nobody has half an error
    t0, t1 = min(t for t, _v in points), max(t for t, _v in points)
    near = [(at, name) for at, name in marks if t0 - 1.0 * max(t1 - t0, 1) <= at <= t1 + max(t1 - t0, 1)]
    scale = Scale(min([t0, *(at for at, _n in near)]), max([t1, *(at for at, _n in near)]), grid[0], grid[-1])
    drawn = "".join(_line(colour, thinned(line, most), scale) for colour, line in lines.items())
    said = ", ".join(f"{colour or 'all'}: {_summary(line, spell)}" for colour, line in lines.items())
    inner = (
        _grid(grid, scale, spell) + _times(scale, clock) + drawn + _names(lines, scale) + _marks(near, scale)
    )
    thin = (
        " Thinned to its lowest and highest values."
        if any(len(line) > most for line in lines.values())
        else ""
    )
    return figure(title, inner, f"{said}.{thin}")


def figure(title: str, inner: str, said: str, width: int = NARROW) -> str:
    """A picture with its title above and its numbers in words below."""
    picture = f'<svg viewBox="0 0 {width} {HEIGHT}" class="w{width}" role="img" aria-label="{esc(title)}">{inner}</svg>'
    below = f"<figcaption>{esc(said)}</figcaption>"
    return f'<figure><h3>{esc(title)}</h3><div class="wide">{picture}</div>{below}</figure>'


def _summary(line: Sequence[Point], spell: Callable[[float], str]) -> str:
    values = sorted(v for _t, v in line)
    middle = values[len(values) // 2]
    return f"median {spell(middle)}, highest {spell(values[-1])}, {len(values):,} points"


def _line(colour: str, line: Sequence[Point], scale: Scale) -> str:
    kind = f"line {tint(colour)}"
    if len(line) == 1 or {value for _at, value in line} == {1.0}:
        # Things that happened, each a 1, are dots: a line would say that it went on in between.
        return "".join(
            f'<circle class="{kind} dot" cx="{scale.x(at):.1f}" cy="{scale.y(value):.1f}" r="2.5"/>'
            for at, value in line
        )
    path = " ".join(f"{scale.x(at):.1f},{scale.y(value):.1f}" for at, value in line)
    return f'<polyline class="{kind}" points="{path}"/>'


def tint(colour: str) -> str:
    """The style class of a colour; whatever is neither blue nor green has one of its own."""
    return colour if colour in {"blue", "green"} else "other"


def _names(lines: Mapping[str, Sequence[Point]], scale: Scale) -> str:
    """Each line's name beside its end, moved apart where they would cover each other."""
    ends = sorted((scale.y(line[-1][1]), colour) for colour, line in lines.items())
    said, floor = "", float("-inf")
    for y, colour in ends:
        place = max(y + 4, floor + 12)
        floor = place
        said += f'<text class="name {tint(colour)}" x="{scale.right + 5:.0f}" y="{place:.1f}">{esc(colour[:9])}</text>'
    return said


def _grid(grid: Iterable[float], scale: Scale, spell: Callable[[float], str]) -> str:
    return "".join(
        f'<path class="grid" d="M{LEFT} {scale.y(value):.1f}H{scale.right:.0f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{scale.y(value) + 3.5:.1f}" text-anchor="end">{esc(spell(value))}</text>'
        for value in grid
    )


def _times(scale: Scale, clock: Callable[[float], str], many: int = 3) -> str:
    said = ""
    for number in range(many + 1):
        at = scale.t0 + (scale.t1 - scale.t0) * number / many
        anchor = "start" if number == 0 else "end" if number == many else "middle"
        place = f'x="{scale.x(at):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}"'
        said += f'<text class="tick" {place}>{esc(clock(at))}</text>'
    return said


def _marks(marks: Iterable[tuple[float, str]], scale: Scale) -> str:
    """Vertical lines with their names, the names on two levels so that near ones can be read."""
    return "".join(
        vertical(scale, at, name, TOP - 14 + 11 * (number % 2))
        for number, (at, name) in enumerate(sorted(marks))
    )


def vertical(scale: Scale, moment: float, name: str, y: float) -> str:
    """A vertical line with its name at its top, on the side where there is room."""
    x = scale.x(moment)
    late = x > scale.right - 70
    kind = "back" if name == "take back" else "event"
    at = x - 4 if late else x + 4
    anchor = "end" if late else "start"
    label = f'<text class="{kind}" x="{at:.1f}" y="{y + 4:.1f}" text-anchor="{anchor}">{esc(name)}</text>'
    return f'<path class="{kind}" d="M{x:.1f} {y - 4:.1f}V{HEIGHT - BOTTOM}"/>{label}'
