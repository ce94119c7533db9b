"""The proof of the switch: its fact, its numbers in words, and one picture of it.

`evidence.facts["proof"]` is, as `fact` makes it:

    {"requests": 2400, "failed": 0, "open_connections": 120, "new_connections": 40,
     "longest_gap_ms": 11.0, "before": "blue", "after": "green",
     "switched_at": 1756947022.4, "bucket_s": 0.05,
     "buckets": [[-0.5, "blue", 31, 0], [0.0, "green", 29, 1], …]}

A bucket is: its beginning in seconds from the switch, who answered, how many requests were answered well, how many
failed. Nobody answered: the colour is empty. `switched_at` is in seconds since 1970.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from cutover.report.charts import (
    HEIGHT,
    LEFT,
    TOP,
    WIDE,
    Scale,
    figure,
    ticks,
    tint,
    vertical,
)
from cutover.report.html import esc
from cutover.report.words import count, duration

MOST_BUCKETS = 240
Buckets = dict[float, dict[str, tuple[int, int]]]


def fact(  # noqa: PLR0913 - a fact has so many parts
    answers: Iterable[tuple[float, str, bool]],
    *,
    switched_at: float,
    before: str,
    after: str,
    open_connections: int = 0,
    new_connections: int = 0,
    bucket_s: float = 0.05,
) -> dict[str, Any]:
    """The fact of a proof from its *answers*: when each came (since 1970), from which colour, whether it was good."""
    rows = sorted(answers)
    times = [at for at, _colour, ok in rows if ok]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    found: Counter[tuple[int, str, bool]] = Counter(
        (int((at - switched_at) // bucket_s), colour, ok) for at, colour, ok in rows
    )
    places = sorted({(number, colour) for number, colour, _ok in found})
    return {
        "requests": len(rows),
        "failed": sum(not ok for _at, _colour, ok in rows),
        "open_connections": open_connections,
        "new_connections": new_connections,
        "longest_gap_ms": round(max(gaps, default=0.0) * 1000, 1),
        "before": before,
        "after": after,
        "switched_at": switched_at,
        "bucket_s": bucket_s,
        "buckets": [
            [round(number * bucket_s, 6), colour, found[number, colour, True], found[number, colour, False]]
            for number, colour in places
        ],
    }


def words(proof: Mapping[str, Any]) -> str:
    """`2,400 requests on 120 open and 40 new connections: 2,400 green, 0 failed, longest gap 11 ms`."""
    answered: Counter[str] = Counter()
    for colours in buckets(proof).values():
        answered.update({colour: good for colour, (good, _bad) in colours.items() if good})
    ways = [f"{proof[key]:,} {name}" for key, name in _WAYS if proof.get(key)]
    on = f" on {' and '.join(ways)} connections" if ways else ""
    by = "".join(f"{number:,} {colour or 'of nobody'}, " for colour, number in answered.items())
    gap = duration(float(proof.get("longest_gap_ms") or 0) / 1000)
    total, failed = int(proof.get("requests", 0)), int(proof.get("failed", 0))
    return f"{count(total, 'request')}{on}: {by}{failed:,} failed, longest gap {gap}"


_WAYS = (("open_connections", "open"), ("new_connections", "new"))


def buckets(proof: Mapping[str, Any]) -> Buckets:
    """The buckets by their beginning, then by colour: how many were answered well, how many failed."""
    found: Buckets = defaultdict(dict)
    for row in proof.get("buckets", ()):
        at, colour, good, bad = (*row, 0)[:4]
        had = found[float(at)].get(str(colour), (0, 0))
        found[float(at)][str(colour)] = (had[0] + int(good), had[1] + int(bad))
    return found


def coarser(found: Buckets, size: float, most: int = MOST_BUCKETS) -> tuple[Buckets, float]:
    """The same requests in at most *most* buckets, and how long each of those is."""
    if not found:
        return found, size
    times = -(-int((max(found) - min(found)) / size + 1) // most)
    wide: Buckets = defaultdict(dict)
    for at, colours in found.items():
        place = (round(at / size) // times) * size * times
        for colour, (good, bad) in colours.items():
            had = wide[place].get(colour, (0, 0))
            wide[place][colour] = (had[0] + good, had[1] + bad)
    return wide, size * times


def picture(proof: Mapping[str, Any]) -> str:
    """Requests per second by colour over time, failures as red crosses, the switch as a line."""
    found, size = coarser(buckets(proof), float(proof.get("bucket_s") or 0.1))
    if not found:
        return ""
    rates = [sum(good for good, _bad in colours.values()) / size for colours in found.values()]
    grid = ticks(0.0, max(rates) or 1.0)
    scale = Scale(min(found), max(found) + size, 0.0, grid[-1], WIDE)
    drawn = "".join(_column(at, colours, size, scale) for at, colours in sorted(found.items()))
    switch = vertical(scale, 0.0, "switch", TOP - 10) if scale.t0 <= 0 <= scale.t1 else ""
    inner = _axes(grid, scale) + drawn + _names(proof, found, scale) + switch
    return figure("requests per second through the proxy, by who answered", inner, f"{words(proof)}.", WIDE)


def _column(at: float, colours: Mapping[str, tuple[int, int]], size: float, scale: Scale) -> str:
    """The bars of one moment, one upon the other, and a cross where a request failed."""
    said, low = "", 0.0
    left, width = scale.x(at), max(0.6, scale.x(at + size) - scale.x(at) - 0.4)
    for colour, (good, _bad) in sorted(colours.items()):
        high = low + good / size
        top, tall = scale.y(high), scale.y(low) - scale.y(high)
        place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{tall:.1f}"'
        said += f'<rect class="bar {tint(colour)}" {place}/>'
        low = high
    failed = sum(bad for _good, bad in colours.values())
    return said + (_cross(left + width / 2, TOP + 8, failed) if failed else "")


def _cross(x: float, y: float, failed: int) -> str:
    lines = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    return f'<path class="failed" d="{lines}"><title>{count(failed, "failed request")}</title></path>'


def _axes(grid: Sequence[float], scale: Scale) -> str:
    said = "".join(
        f'<path class="grid" d="M{LEFT} {scale.y(value):.1f}H{scale.right:.0f}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{scale.y(value) + 3.5:.1f}" text-anchor="end">{value:,.4g}</text>'
        for value in grid
    )
    for at in ticks(scale.t0, scale.t1, 6):
        if scale.t0 <= at <= scale.t1:
            label = "0" if at == 0 else f"{at:+.3g} s"
            said += f'<text class="tick" x="{scale.x(at):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{label}</text>'
    return said


def _names(proof: Mapping[str, Any], found: Buckets, scale: Scale) -> str:
    """Who is which bar, at the right, in the order of their first answer."""
    first = {colour: at for at in sorted(found, reverse=True) for colour in found[at]}
    known = [str(proof.get(key)) for key in ("before", "after")]
    order = [name for name in known if name in first] + sorted(
        set(first) - set(known), key=lambda name: first[name]
    )
    said = ""
    for number, name in enumerate(order):
        x, y = scale.right + 5, TOP + 14 * number
        said += f'<rect class="bar {tint(name)}" x="{x:.0f}" y="{y}" width="8" height="8"/>'
        said += f'<text class="name {tint(name)}" x="{x + 11:.0f}" y="{y + 8}">{esc(name or "nobody")}</text>'
    return said
