"""Bar charts as SVG for the benchmark page, readable on light and dark backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LABEL, BAR, VALUE, HIGH, GAP, TITLE = 150, 210, 120, 18, 8, 34
OURS, THEIRS = "#1a7f37", "#b35900"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, a value with its label for each panel, and whether it measures this project."""

    name: str
    values: Sequence[float]
    words: Sequence[str]
    ours: bool


def chart(titles: Sequence[str], bars: Sequence[Bar]) -> str:
    """An SVG with one panel per title, side by side; each panel has its own scale starting at zero."""
    panel = BAR + VALUE
    width, height = LABEL + panel * len(titles), TITLE + len(bars) * (HIGH + GAP) + GAP
    box = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, title in enumerate(titles):
        left = LABEL + number * panel
        parts.append(f'<text x="{left}" y="20" font-weight="bold" fill="#222">{escape(title)}</text>')
        most = max((bar.values[number] for bar in bars), default=0) or 1.0
        for row, bar in enumerate(bars):
            top, long = TITLE + row * (HIGH + GAP), max(1.0, BAR * bar.values[number] / most)
            color = OURS if bar.ours else THEIRS
            parts += [
                f'<rect x="{left}" y="{top}" width="{long:.0f}" height="{HIGH}" fill="{color}"/>',
                f'<text x="{left + long + 6:.0f}" y="{top + 14}" fill="#222">{escape(bar.words[number])}</text>',
            ]
    for row, bar in enumerate(bars):
        parts.append(
            f'<text x="8" y="{TITLE + row * (HIGH + GAP) + 14}" fill="#222">{escape(bar.name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])
