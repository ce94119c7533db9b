"""How long users wait: the latency of windows of requests, judged twice in a row."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cutover.core.config_schema import Slo
from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.statistics import Histogram

WINDOW_S = 5.0
WINDOW_NEEDS = 50
RATIO = 1.5
FLOOR_S = 0.05
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Window:
    """The latency of one window of at least 5 s and 50 requests, in seconds, by the name of its quantile."""

    requests: int
    quantiles: dict[str, float]


@dataclass(slots=True)
class Windows:
    """The last two closed windows, and the one that fills."""

    closed: tuple[Window, ...] = ()
    filling: Histogram = field(default_factory=Histogram)
    begun: float = 0.0

    def add(self, ts: float, seconds: float) -> Window | None:
        """Take in one request; the window that it closes, if it is long and full enough by now."""
        self.begun = self.begun or ts
        self.filling.add(seconds)
        if self.filling.count < WINDOW_NEEDS or ts - self.begun < WINDOW_S:
            return None
        window = Window(
            self.filling.count, {name: self.filling.quantile(share) for name, share in SHARES.items()}
        )
        self.closed = (*self.closed, window)[-2:]
        self.filling, self.begun = Histogram(), 0.0
        return window


def bounds(slo: Slo, old: Histogram) -> dict[str, tuple[float, str]]:
    """What each quantile may be, and by what: the SLO, else half as much again as the old colour's p95."""
    given = {name: value for name in SHARES if (value := getattr(slo, name)) is not None}
    if given:
        return {name: (value, "slo") for name, value in given.items()}
    if old.count < WINDOW_NEEDS:
        return {}
    return {"p95": (max(old.quantile(0.95) * RATIO, old.quantile(0.95) + FLOOR_S), "old colour × 1.5")}


def judge_latency(windows: tuple[Window, ...], allowed: dict[str, tuple[float, str]]) -> Verdict:
    """No when a quantile is above its bound in two windows in a row.

    A window lasts at least 5 s and has at least 50 requests. Without an SLO the bound is 1.5 times the old
    colour's p95 before the switch, and at least 50 ms above it.
    """
    question = "latency"
    if not windows:
        return not_asked(question, f"no window of {WINDOW_NEEDS} requests yet")
    newest = windows[-1]
    shown = ", ".join(f"{name} {newest.quantiles[name] * 1000:.0f} ms" for name in SHARES)
    if not allowed:
        return not_asked(
            question, f"no [slo], and too few requests before the switch to compare with: {shown}"
        )
    for name, (bound, by) in allowed.items():
        expected = f"{name} at most {bound * 1000:.0f} ms ({by})"
        over = [window for window in windows[-2:] if window.quantiles[name] > bound]
        if len(over) == 2:  # noqa: PLR2004 - twice in a row
            # Rounded up: what is above the bound by a hair is not to read like the bound.
            got = " and ".join(f"{math.ceil(window.quantiles[name] * 1000 - 1e-6)} ms" for window in over)
            reason = f"expected {expected}, got {got} in two windows in a row"
            return no(question, reason, expected=expected, seen=got, requests=sum(w.requests for w in over))
    expected = ", ".join(f"{name} at most {bound * 1000:.0f} ms" for name, (bound, _by) in allowed.items())
    if any(newest.quantiles[name] > bound for name, (bound, _by) in allowed.items()):
        return not_asked(question, f"expected {expected}, got {shown}, once; two windows in a row are a no")
    return yes(question, f"{shown} of {newest.requests} requests", expected=expected, seen=shown)
