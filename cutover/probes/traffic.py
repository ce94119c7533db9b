"""What the users of the live colour get, from the proxy's access log: failed requests and latency."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cutover.core.config_schema import Slo
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.evidence import Evidence
from cutover.probes.windows import Windows, bounds, judge_latency
from cutover.proxies.access_log import SHOWN_S, Request, Tail, parse
from cutover.statistics import Histogram, Sequential, more_often

FAILED = 500
ALPHA = 0.001
LEAST_FAILED = 3
RECENT_S = 10
BACK = 1 << 22  # bytes of log before the switch that the old colour is judged by: some 20,000 requests
AGAIN_S = 5.0  # while a log is rotated it may be unreadable for a moment: each 5 s of it count once


@dataclass(slots=True)
class Counts:
    """Requests and how many of them failed: in all, and in each of the newest seconds."""

    requests: int = 0
    failed: int = 0
    seconds: deque[list[int]] = field(default_factory=lambda: deque(maxlen=RECENT_S))

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
class Before:
    """What the old colour's users got before the switch."""

    requests: int = 0
    failed: int = 0
    latency: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Traffic:
    """Reads the access log once for all questions about it; memory stays constant.

    Requests for *own_paths* (readiness, the proxy's control) are not users'.
    """

    log: Tail
    live: str
    since: float
    own_paths: frozenset[str]
    evidence: Evidence
    before: Before = field(default_factory=Before)
    proxy: Callable[[], tuple[int, str]] = lambda: (0, "")
    """How many of our own probes have ended, and why nobody answered the last one; empty when somebody did."""
    counts: Counts = field(default_factory=Counts)
    windows: Windows = field(default_factory=Windows)
    probed: bool = False
    """Whether our own probes go through the proxy, so that the log must show something."""
    shown: bool = False
    begun: float | None = None
    trouble: str = ""
    """Why the log says nothing about users; empty when it does, or while it may be too early."""
    troubles: int = 0
    troubled_at: float = float("-inf")

    @property
    def asked(self) -> int:
        """How often the proxy was asked, and how often its log said nothing."""
        return self.proxy()[0] + self.troubles

    @property
    def silent(self) -> str:
        """Why nothing can be said of users' requests now; empty when it can."""
        return self.trouble or self.proxy()[1]

    def read(self, now: float) -> int:
        """Take in what was logged since the last read; the number of users' requests in it."""
        logged = self.log.read_new()
        self.shown = self.shown or bool(logged)
        self._look_for_trouble(now)
        fresh = [request for request in logged if self._is_users(request)]
        for request in fresh:
            self.counts.add(request.ts, failed=request.status >= FAILED)
            window = self.windows.add(request.ts, request.seconds)
            for name, value in (window.quantiles if window else {}).items():
                self.evidence.sample(name, self.live, value)
        self.evidence.sample("requests", self.live, len(fresh))
        self.evidence.sample("5xx", self.live, sum(request.status >= FAILED for request in fresh))
        return len(fresh)

    def _look_for_trouble(self, now: float) -> None:
        self.begun = now if self.begun is None else self.begun
        early = self.shown or not self.probed or now - self.begun < SHOWN_S
        self.trouble = self.log.trouble or ("" if early else f"{self.log.path} does not show our own probes")
        if self.trouble and now - self.troubled_at >= AGAIN_S:
            self.troubles, self.troubled_at = self.troubles + 1, now

    def _is_users(self, request: Request) -> bool:
        return request.colour == self.live and request.ts >= self.since and request.path not in self.own_paths


def newest(path: Path) -> list[Request]:
    """The requests in the last 4 MiB of the log; none where there is no log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - BACK))
            text = file.read(BACK).decode(errors="replace")
    except OSError:
        return []
    return [request for line in text.splitlines() if (request := parse(line))]


def before(path: Path, colour: str, until: float, own_paths: frozenset[str]) -> Before:
    """What *colour* did up to *until*, by the newest part of the log."""
    return sum_up(newest(path), colour, until, own_paths)


def failed_since(path: Path, colour: str, since: float, own_paths: frozenset[str]) -> tuple[int, float]:
    """How many of users' requests *colour* failed since *since*, and in how many seconds."""
    at = [
        request.ts
        for request in newest(path)
        if request.colour == colour
        and request.ts >= since
        and request.status >= FAILED
        and request.path not in own_paths
    ]
    return len(at), max(at) - min(at) if at else 0.0


def sum_up(requests: Iterable[Request], colour: str, until: float, own_paths: frozenset[str]) -> Before:
    """The requests that *colour* answered up to *until*, as counts."""
    number = failed = 0
    latency = Histogram()
    for request in requests:
        if request.colour == colour and request.ts < until and request.path not in own_paths:
            number += 1
            failed += request.status >= FAILED
            latency.add(request.seconds)
    return Before(number, failed, latency)


def judge_errors(counts: Counts, test: Sequential, old: Before, needed: int) -> Verdict:
    """No when more requests fail than the SLO allows, for sure, and more than the old colour's did.

    Sure is an exact binomial test of all requests since the switch and of the newest ten seconds, asked again
    at each look within one alpha of 0.001; fewer than three failed ones never are. More than the old colour's:
    the chance that both rates are the same is below 0.001. A yes needs *needed* requests, a no does not.
    """
    question, expected = "5xx", f"at most {test.bound:.2%} of requests failed"
    bad, seen = _worse(counts, test.bound)
    got = f"{bad / seen:.1%} ({bad} of {seen})" if seen else "no requests"
    was = (
        f"the old colour had {old.failed} of {old.requests} before" if old.requests else "nothing seen before"
    )
    if test.sure and old.requests and more_often(bad, seen, old.failed, old.requests) >= ALPHA:
        return not_asked(question, f"reported: {got} failed, but {was}: not this release")
    if test.sure:
        return no(
            question,
            f"expected {expected}, got {got}; {was}",
            expected=expected,
            seen=got,
            failed=counts.failed,
        )
    if counts.requests < needed:
        return not_asked(question, f"{counts.requests} requests, needs {needed}")
    reason = f"{counts.failed} of {counts.requests} requests failed; {was}"
    return yes(question, reason, expected=expected, seen=f"{counts.failed} of {counts.requests}")


def _worse(counts: Counts, bound: float) -> tuple[int, int]:
    """The newest seconds when they are above *bound*, all that was seen else: what a person points at."""
    bad, seen = counts.recent
    return (bad, seen) if seen and bad / seen > bound else (counts.failed, counts.requests)


@dataclass(slots=True)
class Errors:
    """The share of users' requests that fail (5xx), judged by `judge_errors`."""

    traffic: Traffic
    slo: Slo
    every_s: float = 0.5
    name: str = "5xx"
    test: Sequential = field(init=False)

    @property
    def asked(self) -> int:
        """How often it was asked for."""
        return self.traffic.asked

    def __post_init__(self) -> None:
        self.test = Sequential(self.slo.errors, ALPHA, LEAST_FAILED)

    def tick(self, now: float) -> None:
        """Read the log on; a look is spent only when there is something new."""
        if self.traffic.read(now):
            counts = self.traffic.counts
            self.test.look((counts.failed, counts.requests), counts.recent)

    def verdict(self) -> Verdict:
        """The judgement of all requests so far; unknown while log or proxy say nothing."""
        if self.traffic.silent and not self.test.sure:
            return unknown(self.name, self.traffic.silent, expected="the proxy's access log")
        return judge_errors(self.traffic.counts, self.test, self.traffic.before, self.slo.requests_needed)

    def forgive(self) -> None:
        """Begin to count anew."""
        self.traffic.counts = Counts()
        self.test = Sequential(self.slo.errors, ALPHA, LEAST_FAILED)


@dataclass(slots=True)
class Latency:
    """How long users wait, judged by `judge_latency`; looks at what *traffic* has read."""

    traffic: Traffic
    slo: Slo
    every_s: float = 1.0
    name: str = "latency"

    @property
    def asked(self) -> int:
        """How often it was asked for."""
        return self.traffic.asked

    def tick(self, now: float) -> None:
        """Nothing: the question about failed requests has read the log."""

    def verdict(self) -> Verdict:
        """The judgement of the last two windows."""
        if self.traffic.silent:
            return unknown(self.name, self.traffic.silent, expected="the proxy's access log")
        return judge_latency(self.traffic.windows.closed, bounds(self.slo, self.traffic.before.latency))

    def forgive(self) -> None:
        """Begin to count anew."""
        self.traffic.windows = Windows()
