"""The proof of the switch in the report: its numbers in words, and one picture of it.

`evidence.facts["proof"]` is what `cutover.proxy.proof.Proof.as_json` makes; read here are

    {"to": "green", "requests": 2400, "answered": 2400, "failed": 0, "failed_in_gap": 0,
     "open_connections": 120, "new_connections": 40, "first_answer_ms": 1.6, "longest_gap_ms": 11.0,
     "timeline": [[-200, 31, 0, 0], [-100, 29, 0, 0], [0, 1, 30, 0], …]}

A row of the timeline is: its beginning in milliseconds from the moment before the switch was called, requests that
blue answered, that green answered, that failed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cutover.report.charts import HEIGHT, LEFT, TOP, WIDE, Scale, figure, ticks, tint, vertical
from cutover.report.html import esc
from cutover.report.words import count, duration

MOST_BUCKETS = 240
BUCKET_S = 0.1
Bucket = Mapping[str, int]
"""How many requests blue and green answered, how many failed."""
COLOURS = ("blue", "green")


def words(proof: Mapping[str, Any]) -> str:
    """`2,400 requests on 120 open and 40 new connections: 2,400 green, 0 failed, longest gap 11 ms`."""
    ways = [f"{proof[key]:,} {name}" for key, name in _WAYS if proof.get(key)]
    on = f" on {' and '.join(ways)} connections" if ways else ""
    by = f"{int(proof.get('answered') or 0):,} {proof.get('to') or 'answered'}"
    gap = duration(float(proof.get("longest_gap_ms") or 0) / 1000)
    total, failed = int(proof.get("requests") or 0), int(proof.get("failed") or 0)
    said = f"{count(total, 'request')}{on}: {by}, {failed:,} failed, longest gap {gap}"
    announced = int(proof.get("failed_in_gap") or 0)
    return f"{said} with {count(announced, 'failed request')} in it, as announced" if announced else said


_WAYS = (("open_connections", "open"), ("new_connections", "new"))


def buckets(proof: Mapping[str, Any]) -> dict[float, Bucket]:
    """The timeline by the beginning of its rows, in seconds from the switch."""
    return {
        float(row[0]) / 1000: {"blue": int(row[1]), "green": int(row[2]), "failed": int(row[3])}
        for row in proof.get("timeline") or ()
    }


def coarser(found: Mapping[float, Bucket], most: int = MOST_BUCKETS) -> tuple[dict[float, Bucket], float]:
    """The same requests in at most *most* buckets, and how long each of those is."""
    times = max(1, -(-round((max(found) - min(found)) / BUCKET_S + 1) // most)) if found else 1
    wide: dict[float, dict[str, int]] = defaultdict(lambda: {"blue": 0, "green": 0, "failed": 0})
    for at, bucket in found.items():
        place = (round(at / BUCKET_S) // times) * BUCKET_S * times
        for key, number in bucket.items():
            wide[place][key] += number
    return dict(wide), BUCKET_S * times


def picture(proof: Mapping[str, Any]) -> str:
    """Requests per second by colour over time, failures as red crosses, the switch as a line."""
    found, size = coarser(buckets(proof))
    if not found:
        return ""
    rates = [sum(bucket[colour] for colour in COLOURS) / size for bucket in found.values()]
    grid = ticks(0.0, max(rates) or 1.0)
    scale = Scale(min(found), max(found) + size, 0.0, grid[-1], WIDE)
    drawn = "".join(_column(at, bucket, size, scale) for at, bucket in sorted(found.items()))
    switch = vertical(scale, 0.0, "switch", TOP - 10) if scale.t0 <= 0 <= scale.t1 else ""
    inner = _axes(grid, scale) + drawn + _names(found, scale) + switch
    return figure("requests per second through the proxy, by who answered", inner, f"{_said(proof)}.", WIDE)


def _said(proof: Mapping[str, Any]) -> str:
    """The numbers below the picture: what was counted since when."""
    first = proof.get("first_answer_ms")
    since = (
        f"First answer of {proof.get('to')} after {duration(first / 1000)}; since then "
        if first is not None
        else ""
    )
    return f"{since}{words(proof)}"


def _column(at: float, bucket: Bucket, size: float, scale: Scale) -> str:
    """The bars of one moment, one upon the other, and a cross where a request failed."""
    said, low = "", 0.0
    left, width = scale.x(at), max(0.6, scale.x(at + size) - scale.x(at) - 0.4)
    for colour in COLOURS:
        high = low + bucket[colour] / size
        top, tall = scale.y(high), scale.y(low) - scale.y(high)
        place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{tall:.1f}"'
        said += f'<rect class="bar {tint(colour)}" {place}/>' if high > low else ""
        low = high
    return said + (_cross(left + width / 2, TOP + 8, bucket["failed"]) if bucket["failed"] else "")


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


def _names(found: Mapping[float, Bucket], scale: Scale) -> str:
    """Who is which bar, at the right."""
    shown = [colour for colour in COLOURS if any(bucket[colour] for bucket in found.values())]
    said, x = "", scale.right + 5
    for number, name in enumerate(shown):
        y = TOP + 14 * number
        said += f'<rect class="bar {tint(name)}" x="{x:.0f}" y="{y}" width="8" height="8"/>'
        said += f'<text class="name {tint(name)}" x="{x + 11:.0f}" y="{y + 8}">{esc(name)}</text>'
    if any(bucket["failed"] for bucket in found.values()):
        y = TOP + 14 * len(shown)
        said += _cross(x + 4, y + 4, sum(bucket["failed"] for bucket in found.values()))
        said += f'<text class="back" x="{x + 11:.0f}" y="{y + 8}">failed</text>'
    return said
