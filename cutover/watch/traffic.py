"""What users of the live color get, by the proxy's access log: failed requests, latency, and route by route."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from cutover.core.config_schema import Slo
from cutover.core.evidence import Evidence
from cutover.core.stats import Histogram, Sequential, binomial_tail, more_often, quantile, spent
from cutover.core.text import clock_of, percent, spelled, stamp
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.proxy.access_log import (
    FAILED_STATUS,
    LOG_DELAY_S,
    AccessLog,
    LoggedRequest,
    LogTails,
    newest_requests,
)
from cutover.watch.check import Source, Start, WatchCheck, at_once
from cutover.watch.routes import RouteComparison, Routes, judge_routes, shared_failures

ERRORS_ALPHA = 0.001
LEAST_FAILED = 3
RECENT_REQUESTS_S = 10
AGAIN_S = 5.0  # while a log is rotated it may be unreadable for a moment: each 5 s of it count once
LATENCY_WINDOW_S = 5.0
LATENCY_WINDOW_NEEDS = 50
LATENCY_RATIO = 1.5
LATENCY_FLOOR_S = 0.05
LATENCY_ALPHA = 0.001
QUIET_S = LOG_DELAY_S  # less may only be the delay of the log
OLD_SPAN_S = 60.0
LEAST_PAIRS = 10
PAIRED_SHARE = 0.9
PAIRED_RATIO = 3.0  # 20 pairs under load vary
BUSY_RATIO = 2.0
MOST_BUSY = 10.0
WAITS = 4  # a request waits for the CPU several times: in the proxy, in the service, in what it asks
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(slots=True)
class RequestCounts:
    """Requests and how many of them failed: in all, and in each of the newest seconds."""

    requests: int = 0
    failed: int = 0
    seconds: deque[list[int]] = field(default_factory=lambda: deque(maxlen=RECENT_REQUESTS_S))

    def add(self, ts: float, *, failed: bool) -> None:
        """Count one request that ended at *ts*."""
        self.requests += 1
        self.failed += failed
        if not self.seconds or int(ts) > self.seconds[-1][0]:
            self.seconds.append([int(ts), 0, 0])
        self.seconds[-1][1] += 1
        self.seconds[-1][2] += failed

    @property
    def recent(self) -> tuple[int, int]:
        """Failed and all requests of the newest ten seconds that had any."""
        return sum(row[2] for row in self.seconds), sum(row[1] for row in self.seconds)


@dataclass(frozen=True, slots=True)
class OldTraffic:
    """What the old color's users got before the switch."""

    requests: int = 0
    failed: int = 0
    latency: Histogram = field(default_factory=Histogram)
    routes: Routes = field(default_factory=Routes)
    recent: tuple[int, float] = (0, 0.0)
    """How many requests ended in the last minute before the switch, and its length in seconds."""


@dataclass(frozen=True, slots=True)
class LatencyWindow:
    """The latency of one window of at least 5 s and 50 requests, in seconds, by the name of its quantile."""

    requests: int
    quantiles: dict[str, float]


@dataclass(slots=True)
class SlowRun:
    """Windows in a row that are above the bound of one quantile: their slow requests and all of them."""

    slow: int = 0
    seen: int = 0
    worst: tuple[int, int] = (0, 1)
    """The same of the worst one: a start may be slow, and is no proof."""

    def add(self, slow: int, seen: int) -> None:
        """Add one window."""
        self.slow, self.seen = self.slow + slow, self.seen + seen
        self.worst = max(self.worst, (slow, seen), key=lambda each: each[0] / each[1])

    def chance(self, share: float) -> float:
        """How likely that many slow ones are in the windows but the worst, if *share* of all requests is slow."""
        return binomial_tail(self.slow - self.worst[0], self.seen - self.worst[1], share)


@dataclass(slots=True)
class LatencyWindows:
    """The last two closed windows, and the open one."""

    bounds: Mapping[str, float] = field(default_factory=dict)
    """The bound of each quantile that has one, in seconds."""
    closed: tuple[LatencyWindow, ...] = ()
    sure: frozenset[str] = frozenset()
    """The quantiles that are surely above their bound."""
    filling: Histogram = field(default_factory=Histogram)
    begun: float = 0.0
    slow: Counter[str] = field(default_factory=Counter)
    """Requests of the open window that took longer than the bound of the quantile."""
    runs: dict[str, SlowRun] = field(default_factory=dict)
    """Of each quantile that was above its bound in the last window."""
    looks: int = 0

    def add(self, ts: float, seconds: float) -> LatencyWindow | None:
        """Count one request; returns the window that it closes, if that is long and full enough."""
        self.begun = self.begun or ts
        self.filling.add(seconds)
        self.slow.update(name for name, bound in self.bounds.items() if seconds > bound)
        if self.filling.count < LATENCY_WINDOW_NEEDS or ts - self.begun < LATENCY_WINDOW_S:
            return None
        quantiles = {name: self.filling.quantile(share) for name, share in QUANTILES.items()}
        window = LatencyWindow(self.filling.count, quantiles)
        self.closed = (*self.closed, window)[-2:]
        self._look(window)
        self.filling, self.begun, self.slow = Histogram(), 0.0, Counter()
        return window

    def _look(self, window: LatencyWindow) -> None:
        # Of 50 requests three make a p95 and one a p99: a healthy service has such windows by chance.
        self.looks += 1
        level = spent(LATENCY_ALPHA, self.looks) / max(1, len(self.bounds))
        above = (name for name, bound in self.bounds.items() if window.quantiles[name] > bound)
        self.runs = {name: self.runs.get(name) or SlowRun() for name in above}
        for name, run in self.runs.items():
            run.add(self.slow[name], window.requests)
        chances = {name: run.chance(1 - QUANTILES[name]) for name, run in self.runs.items()}
        self.sure = frozenset(name for name, chance in chances.items() if chance <= level)


@dataclass(eq=False)
class TrafficSource(Source[list[LoggedRequest]]):
    """Reads the access logs once for all checks of them; memory stays constant.

    Our own requests are not users'; they are those for *own_paths* where the log does not name their user agent.
    """

    ask: Callable[[], list[LoggedRequest]] = field(init=False)
    logs: LogTails
    live: str
    since: float
    own_paths: frozenset[str]
    evidence: Evidence
    slo: Slo
    before: OldTraffic = field(default_factory=OldTraffic)
    probes: Source[Any] | None = None
    """Our own probes through the proxy: while it does not answer them, its log says nothing about users."""
    probed: bool = False
    """Whether our own probes go through this proxy, so that its log must show some requests."""
    start: Start = field(default=at_once, kw_only=True)
    counts: RequestCounts = field(init=False)
    test: Sequential = field(init=False)
    windows: LatencyWindows = field(init=False)
    routes: RouteComparison = field(init=False)
    answered: deque[tuple[float, int]] = field(default_factory=deque)
    """When the log was read in the last ten seconds (monotonic), and how many requests of users it had until then."""
    shown: set[str] = field(default_factory=set)
    """The places whose log has shown a request of ours."""
    begun: float | None = None
    log_trouble: str = ""
    """Why the log says nothing about users; empty if it does, or while it may be too early."""
    log_troubles: int = 0
    probed_polls: int = 0
    log_troubled_at: float = float("-inf")

    expected: ClassVar[str] = "the proxy's access log"

    def __post_init__(self) -> None:
        self.ask = self.logs.read_new
        self.reset()
        self.reset_latency()
        self.reset_routes()

    @property
    def polls(self) -> int:
        """Number of our own probes that ended while the log was read, and of the times that it said nothing."""
        return self.probed_polls + self.log_troubles

    @property
    def silent(self) -> str:
        """Why nothing can be said about users' requests now."""
        return self.log_trouble or (self.probes.silent if self.probes else "")

    def reset(self) -> None:
        """Forget the failed requests so far."""
        self.counts = RequestCounts()
        self.test = Sequential(self.slo.max_error_rate, ERRORS_ALPHA, LEAST_FAILED)

    def reset_latency(self) -> None:
        """Forget the latency so far."""
        bounds = latency_bounds(self.slo, self.before.latency)
        self.windows = LatencyWindows({name: bound for name, (bound, _) in bounds.items()})

    def reset_routes(self) -> None:
        """Forget the routes so far."""
        self.routes = RouteComparison(self.before.routes)

    def poll(self, now: float) -> None:
        """Read what was logged since the last poll."""
        super().poll(now)
        self.begun = now if self.begun is None else self.begun
        self.answered.append((now, self.counts.requests))
        while self.answered[0][0] < now - QUIET_S:
            self.answered.popleft()
        early = not self.probed or now - self.begun < LOG_DELAY_S
        hidden = "" if early else self.logs.without(self.shown)
        self.log_trouble = self.logs.trouble or (f"{hidden} does not show our own probes" if hidden else "")
        if not self.log_trouble:
            self.probed_polls = self.probes.polls if self.probes else 0
        elif now - self.log_troubled_at >= AGAIN_S:
            self.log_troubles, self.log_troubled_at = self.log_troubles + 1, now

    def take(self, answer: list[LoggedRequest]) -> None:
        """Count users' requests and keep them as samples."""
        self.shown |= {each.place for each in answer if each.is_ours(self.own_paths)}
        fresh = [request for request in answer if self._is_users(request)]
        for request in fresh:
            self.counts.add(request.ts, failed=request.status >= FAILED_STATUS)
            window = None if request.is_tunnel else self.windows.add(request.ts, request.seconds)
            for name, value in (window.quantiles if window else {}).items():
                self.evidence.sample(name, self.live, value)
        self.evidence.sample("requests", self.live, len(fresh))
        self.evidence.sample("5xx", self.live, sum(request.status >= FAILED_STATUS for request in fresh))
        self.routes.add(fresh)
        if fresh:  # a look without new requests would only spend alpha
            self.test.look((self.counts.failed, self.counts.requests), self.counts.recent)

    def _is_users(self, request: LoggedRequest) -> bool:
        return request.color == self.live and request.ts >= self.since and not request.is_ours(self.own_paths)


def traffic_checks(source: TrafficSource) -> tuple[WatchCheck, WatchCheck, WatchCheck]:
    """The checks "5xx", "routes" and "latency"."""

    def judge_failed(found: TrafficSource) -> Verdict:
        if found.silent and not found.test.sure:
            return unknown("5xx", found.silent, expected=found.expected)
        return judge_errors(found.counts, found.test, found.before, found.slo.min_requests, found.routes.now)

    def judge_slow(found: TrafficSource) -> Verdict:
        windows, allowed = found.windows, latency_bounds(found.slo, found.before.latency)
        return judge_user_latency(windows.closed, allowed, windows.sure)

    return (
        WatchCheck("5xx", source, judge_failed, even_if_silent=True),
        WatchCheck("routes", source, lambda found: judge_routes(found.routes, quiet_users(found))),
        WatchCheck("latency", source, judge_slow),
    )


def quiet_users(found: TrafficSource) -> str:
    """What is told when surely fewer requests end than before the switch: users may be waiting for answers."""
    (begun, before), (now, after) = found.answered[0], found.answered[-1]
    ended, seconds = after - before, now - begun
    were, span = found.before.recent
    # The newest look has just been taken, so that ten seconds are never quite full.
    known = min(seconds, span) >= 0.9 * QUIET_S and ended >= 0
    if not known or more_often(were, span, ended, seconds) >= ERRORS_ALPHA:
        return ""
    earlier = f"{were} in {span:.0f} s before the switch"
    return f"{ended} requests ended in {seconds:.0f} s, {earlier}: do users wait?"


def old_traffic(logs: Sequence[AccessLog], color: str, until: float, own_paths: frozenset[str]) -> OldTraffic:
    """What users of *color* got up to *until* (epoch seconds), by the newest part of each log."""
    newest, _ = newest_requests(logs)
    old = (each for each in newest if each.color == color and each.ts < until)
    found = [each for each in old if not each.is_ours(own_paths)]
    latency = Histogram()
    for request in found:
        if not request.is_tunnel:
            latency.add(request.seconds)
    failed = sum(request.status >= FAILED_STATUS for request in found)
    ends = [each.ts for each in found if each.ts >= until - OLD_SPAN_S]
    recent = (len(ends), until - ends[0]) if ends else (0, 0.0)
    return OldTraffic(len(found), failed, latency, Routes.of(found), recent)


@dataclass(frozen=True, slots=True)
class UsersCost:
    """What a release has cost its users, by the access logs."""

    failed: int = 0
    """Requests that were answered with an error, given up by the client, or cut short."""
    span_s: float = 0.0
    """From the first of them to the last."""
    unknown: str = ""
    """Why that may not be all: a log cannot be read, shows no request since the switch, or none before it.

    The preflight has sent one of ours: a log that lacks it was rotated, or is longer than what is read of it.
    """


def cost_since(logs: Sequence[AccessLog], color: str, since: float, own_paths: frozenset[str]) -> UsersCost:
    """What users of *color* got since *since* (epoch); our own requests are left out."""
    newest, troubles = newest_requests(logs)
    requests = [each for each in newest if each.color == color and each.ts >= since]
    at = [each.ts for each in requests if each.failure and not each.is_ours(own_paths)]
    shown = {each.place for each in requests}
    oldest = {each.place: each.ts for each in sorted(newest, key=lambda each: -each.ts)}
    gaps = {
        log: f"{log} goes back to {clock_of(stamp(begins), stamp(since))} only"
        for log in logs
        if (begins := oldest.get(log.place.name, 0.0)) > since
    }
    gaps |= {log: f"{log} shows no request since the switch" for log in logs if log.place.name not in shown}
    return UsersCost(len(at), max(at) - min(at) if at else 0.0, "; ".join((gaps | troubles).values()))


def judge_errors(
    counts: RequestCounts, test: Sequential, old: OldTraffic, needed: int, now: Routes | None = None
) -> Verdict:
    """No when more requests fail than the SLO allows, for sure, and more than the old color's did.

    Sure is an exact binomial test of all requests since the switch and of the newest ten seconds, repeated at
    each look within one alpha of 0.001; fewer than three failed requests are never sure. More than the old
    color's: the chance that both rates are the same is below 0.001, of all requests and of those on the routes that
    fail *now*. A yes needs *needed* requests, a no does not.
    """
    question, expected = "5xx", f"at most {test.bound:.2%} of requests failed"
    bad, seen = counts.recent
    if not seen or bad / seen <= test.bound:
        bad, seen = counts.failed, counts.requests
    got = f"{percent(bad / seen, most=test.bound, places=1)} ({bad} of {seen})" if seen else "no requests"
    had = f"the old color had {old.failed} of {old.requests} before"
    was = had if old.requests else "nothing seen before"
    evidence = {"failed": counts.failed, "requests": counts.requests}
    if test.sure and old.requests and more_often(bad, seen, old.failed, old.requests) >= ERRORS_ALPHA:
        return not_asked(question, f"reported: {got} failed, but {was}: not this release")
    if test.sure and now and (before := shared_failures(old.routes, now, ERRORS_ALPHA)):
        where = f"on these routes the old color had {before} before"
        return not_asked(question, f"reported: {got} failed, but {where}: not this release")
    if test.sure:
        reason = f"expected {expected}, got {got}; {was}"
        return no(question, reason, expected=expected, seen=got, **evidence)
    if counts.requests < needed:
        return not_asked(question, f"{counts.requests} requests, needs {needed}")
    reason = f"{counts.failed} of {counts.requests} requests failed; {was}"
    seen_all = f"{counts.failed} of {counts.requests}"
    return yes(question, reason, expected=expected, seen=seen_all, **evidence)


def latency_bounds(slo: Slo, old: Histogram) -> dict[str, tuple[float, str]]:
    """The bound of each quantile in seconds and its origin: the SLO, else 1.5 times the old color's p95."""
    given = {name: value for name in QUANTILES if (value := getattr(slo, name)) is not None}
    if given:
        return {name: (value, "slo") for name, value in given.items()}
    if old.count < LATENCY_WINDOW_NEEDS:
        return {}
    p95 = old.quantile(QUANTILES["p95"])
    return {"p95": (max(p95 * LATENCY_RATIO, p95 + LATENCY_FLOOR_S), "old color × 1.5")}


def judge_user_latency(
    windows: tuple[LatencyWindow, ...],
    allowed: dict[str, tuple[float, str]],
    sure: Container[str] = frozenset(QUANTILES),
) -> Verdict:
    """No when a quantile is above its bound in two windows in a row, and is one of those that are *sure*.

    A window lasts at least 5 s and has at least 50 requests. Without an SLO the bound is 1.5 times the old
    color's p95 before the switch, and at least 50 ms above it. Sure is an exact binomial test of the requests of all
    windows in a row above the bound but the worst one, repeated at each window within one alpha of 0.001.
    """
    question = "latency"
    if not windows:
        return not_asked(question, f"no window of {LATENCY_WINDOW_NEEDS} requests yet")
    newest = windows[-1]
    most = {name: 1000 * bound for name, (bound, _) in allowed.items()}
    shown = ", ".join(
        f"{name} {spelled(newest.quantiles[name] * 1000, most=most.get(name, math.inf))} ms"
        for name in QUANTILES
    )
    if not allowed:
        reason = f"no [slo], and too few requests before the switch to compare with: {shown}"
        return not_asked(question, reason)
    twice = False
    for name, (bound, origin) in allowed.items():
        expected = f"{name} at most {bound * 1000:.0f} ms ({origin})"
        over = [window for window in windows[-2:] if window.quantiles[name] > bound]
        both = len(over) == 2  # noqa: PLR2004 - two windows in a row
        twice |= both
        if both and name in sure:
            times = (spelled(window.quantiles[name] * 1000, most=bound * 1000) for window in over)
            got = " and ".join(f"{each} ms" for each in times)
            reason = f"expected {expected}, got {got} in two windows in a row"
            return no(question, reason, expected=expected, seen=got, requests=sum(w.requests for w in over))
    expected = ", ".join(f"{name} at most {bound * 1000:.0f} ms" for name, (bound, _) in allowed.items())
    if any(newest.quantiles[name] > bound for name, (bound, _) in allowed.items()):
        how = "once; two windows in a row are a no"
        if twice:
            how = "in two windows in a row, and so few of them may be chance"
        return not_asked(question, f"expected {expected}, got {shown}, {how}")
    return yes(question, f"{shown} of {newest.requests} requests", expected=expected, seen=shown)


def judge_busy_host(
    windows: tuple[LatencyWindow, ...],
    allowed: dict[str, tuple[float, str]],
    pairs: Sequence[tuple[float, float]],
    calm_s: float,
) -> str:
    """Why slow *windows* are not this release's doing; empty if they may be.

    *pairs*: seconds of the same request to the live and to the old color in the same moments; *calm_s*: what the old
    color needed before the switch. The host is busy if the old color needs twice as long as that, and the live color
    at most three times as long as the old one. What users may then need more than allowed is bounded: by the same
    factor as the old color, at most ten, or by four times of what it needs.
    """
    if len(pairs) < LEAST_PAIRS:
        return ""
    live, old = (quantile([pair[side] for pair in pairs], PAIRED_SHARE) for side in (0, 1))
    if old < BUSY_RATIO * calm_s or live > max(PAIRED_RATIO * old, LATENCY_FLOOR_S):
        return ""
    for name, (bound, _) in allowed.items():
        seen = max((window.quantiles[name] for window in windows), default=0.0)
        if seen > max(bound * min(old / max(calm_s, 1e-6), MOST_BUSY), bound + WAITS * old):
            return ""
    return f"the host is busy: the old color needs {old * 1000:.0f} ms where it needed {calm_s * 1000:.0f} ms"
