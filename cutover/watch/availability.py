"""Availability for users: our own probes through the proxy, and the endpoints of `[[endpoints]]` that only read."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from typing import Literal

from cutover.core.config_schema import Endpoint, Ready
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.stats import Sequential
from cutover.core.target import ControlProbe
from cutover.core.verdict import Outcome, Verdict, no, not_asked, unknown, yes
from cutover.gate.http_checks import COMPARED, SERVER_ERROR, ask_ready, endpoint, ready_problem
from cutover.proxy.base import named_color
from cutover.system.http import HttpClient, HttpResponse, NoResponse, RequestOptions, send_request
from cutover.watch.check import Source, WatchCheck

STREAK = 3
RECENT = 20

ENDPOINT_STREAK = 3
SAFE_METHODS = frozenset({"GET", "HEAD"})
LOOK = RequestOptions(deadline_s=1.0, tries=1)
LOOKS, LOOKS_S = 20, 0.5  # a no waits for them: more would delay the switch back
NOT_THERE = frozenset({404, 405})

ProbeKind = Literal["good", "failed", "shared", "silent"]


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of one request of ours.

    `failed`: a wrong answer, or none although the control answered; `shared`: the old color fails in the same way
    at the same moment; `silent`: no answer from the service, and none from the control.
    """

    kind: ProbeKind
    text: str
    seconds: float
    color: str | None = None
    old_seconds: float | None = None
    """What the old color needed for the same request in the same moment; None without an old color."""


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks whether the service is ready, as users reach it, and the old color at once; if not, also the control."""

    http: HttpClient
    wanted: Ready
    control: ControlProbe
    color_header: str = ""
    old: HttpClient | None = None
    old_paused: Callable[[], bool] = lambda: False
    """Whether the container of the old color is paused, which is asked after a failure of both."""

    def __call__(self) -> Probe:
        """Send one probe; takes at most the deadlines of the clients."""
        result = ask_ready(self.http, self.wanted, tries=1)
        other = ask_ready(self.old, self.wanted, tries=1) if self.old else None
        is_there = other and (isinstance(other, HttpResponse) or other.kind == "timeout")
        old_seconds = other.seconds if other and is_there else None
        if isinstance(result, NoResponse):
            return Probe(self._kind(None, other), result.reason, result.seconds, None, old_seconds)
        color, problem = named_color(result, self.color_header) or None, ready_problem(result, self.wanted)
        kind = self._kind(result, other) if problem else "good"
        return Probe(kind, problem or f"status {result.status}", result.seconds, color, old_seconds)

    def _kind(self, answer: HttpResponse | None, other: HttpResponse | NoResponse | None) -> ProbeKind:
        if answer is None and not self._control_answers():
            return "silent"
        if other is None:
            return "failed"
        return "shared" if self._same_failure(answer, other) and not self.old_paused() else "failed"

    def _same_failure(self, answer: HttpResponse | None, other: HttpResponse | NoResponse) -> bool:
        if isinstance(other, NoResponse):
            # Refused: the old color is gone, which is no failure that both share.
            return answer is None and other.kind == "timeout"
        same = answer is not None and other.status == answer.status
        return same and bool(ready_problem(other, self.wanted))

    def _control_answers(self) -> bool:
        try:
            return self.control.answers()
        except (EngineUnavailable, OSError):
            return False


@dataclass(slots=True)
class ProbeCounts:
    """What the probes of one watch came to."""

    test: Sequential
    probes: int = 0
    """Good and failed probes; shared and silent ones count for neither."""
    failed: int = 0
    streak: int = 0
    shared: int = 0
    last: Probe | None = None
    last_failure: str = ""
    slowest: float = 0.0
    colors: Counter[str] = field(default_factory=Counter)
    recent: deque[bool] = field(default_factory=lambda: deque(maxlen=RECENT))
    pairs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Seconds that the live and the old color needed for the same request in the same moment."""

    def add(self, probe: Probe) -> None:
        """Count one probe."""
        self.last = probe
        if probe.old_seconds is not None:
            self.pairs.append((probe.seconds, probe.old_seconds))
        if probe.color:
            self.colors[probe.color] += 1
        if probe.kind in {"good", "failed"}:
            bad = probe.kind == "failed"
            self.probes += 1
            self.failed += bad
            self.streak = self.streak + 1 if bad else 0
            self.recent.append(bad)
            self.slowest = max(self.slowest, probe.seconds)
            self.last_failure = probe.text if bad else self.last_failure
            self.test.look((self.failed, self.probes), (sum(self.recent), len(self.recent)))
        elif probe.kind == "shared":
            self.shared += 1
            self.streak = 0


def judge_availability(counts: ProbeCounts, wanted: float) -> Verdict:
    """No at three failed probes in a row, or when fewer than *wanted* succeed for sure.

    Sure is an exact binomial test over all probes and over the last twenty, alpha 0.001, of which each look
    spends its part. A failure that the old color shows too is reported only. A probe whose control failed too
    is unknown.
    """
    question, expected = "availability", f"at least {wanted:.2%} of probes find it ready"
    seen = f"{counts.failed} of {counts.probes} probes failed"
    if counts.streak >= STREAK or counts.test.sure:
        reason = f"expected {expected}, got {seen}, the last one: {counts.last_failure}"
        if counts.streak >= STREAK:
            reason = f"{counts.streak} probes in a row failed: {counts.last_failure}"
        return no(question, reason, expected=expected, seen=seen, failed=counts.failed, probes=counts.probes)
    if counts.last is None:
        return not_asked(question, "0 probes ended, needs 1")
    if counts.last.kind == "silent":
        reason = f"{counts.last.text}, and the control did not answer either"
        return unknown(question, reason, expected=expected)
    if counts.last.kind == "shared":
        return not_asked(question, f"reported: {counts.last.text} from both colors: not this release")
    if counts.streak:
        return not_asked(question, f"{seen}, the last {counts.streak} of them; {STREAK} in a row are a no")
    reason = f"{seen}, slowest {counts.slowest * 1000:.0f} ms"
    reason += f"; {counts.shared} failed for both colors" if counts.shared else ""
    return yes(question, reason, expected=expected, seen=seen, failed=counts.failed, probes=counts.probes)


def judge_color(seen: Counter[str], live: str, silent: str = "") -> Verdict:
    """No at the first answer of another color than *live*: only this release switches the proxy.

    Unknown while the proxy is *silent*, whatever it answered before.
    """
    question, expected = "color", f"every answer by {live}"
    strange = {color: count for color, count in seen.items() if color != live}
    if strange:
        got = ", ".join(f"{count} by {color}" for color, count in strange.items())
        reason = f"expected {expected}, got {got}"
        return no(question, reason, expected=expected, seen=got, answers=dict(seen))
    if silent:
        return unknown(question, silent, expected=expected)
    if not seen:
        return not_asked(question, "no answer named its color")
    return yes(question, f"{seen[live]} answers, all by {live}", expected=expected, answers=dict(seen))


@dataclass(eq=False)
class ProbeSource(Source[Probe]):
    """Sends probes and counts their results; `silent` while neither service nor control answer."""

    wanted: float
    """The share of probes that must succeed."""
    evidence: Evidence
    live: str
    counts: ProbeCounts = field(init=False)

    def __post_init__(self) -> None:
        self.counts = ProbeCounts(Sequential(1 - self.wanted))

    @property
    def silent(self) -> str:
        """Why the last probe got no answer; empty if it got one."""
        last = self.last
        return f"the proxy does not answer: {last.text}" if last and last.kind == "silent" else ""

    def take(self, answer: Probe) -> None:
        """Count one probe and keep it as a sample."""
        self.counts.add(answer)
        color = answer.color or self.live
        if answer.kind == "silent" and "proxy_silent" not in self.evidence.facts:
            self.evidence.fact("proxy_silent", f"the proxy did not answer: {answer.text}")
        if answer.kind == "good":
            self.evidence.sample("probe seconds", color, answer.seconds)
        else:
            self.evidence.sample("probe failed", color, 1.0)


def availability_check(probes: ProbeSource) -> WatchCheck:
    """Whether enough of our own probes are answered."""
    return WatchCheck(
        "availability",
        probes,
        lambda _: judge_availability(probes.counts, probes.wanted),
        even_if_silent=True,
    )


def color_check(probes: ProbeSource) -> WatchCheck:
    """Whether the live color has answered every probe."""
    return WatchCheck(
        "color",
        probes,
        lambda _: judge_color(probes.counts.colors, probes.live, probes.silent),
        even_if_silent=True,
    )


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """The verdict on one endpoint, and the old color's verdict if that one is a no."""

    live: Verdict
    old: Verdict | None = None

    @property
    def bad(self) -> bool:
        """Whether the answer was wrong or missing; a slow one is the business of the check "latency"."""
        return self.live.outcome is Outcome.NO and not self.live.evidence.get("only_slow")

    @property
    def shared(self) -> bool:
        """Whether the old color answers wrongly too."""
        return self.bad and self.old is not None and self.old.outcome is Outcome.NO


def readable(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints that can be requested again and again: GET or HEAD, without `writes`."""
    return tuple(each for each in endpoints if each.method in SAFE_METHODS and not each.writes)


def request_endpoints(
    wanted: Sequence[Endpoint],
    http: HttpClient,
    control: ControlProbe,
    old: HttpClient | None,
    old_paused: Callable[[], bool] = lambda: False,
) -> list[EndpointResult]:
    """Request each endpoint once, and from the *old* color, unless it is paused, those that were answered wrongly."""
    results = [EndpointResult(endpoint(http, control, each)) for each in wanted]
    if any(each.bad for each in results) and old_paused():
        return results
    return [
        EndpointResult(result.live, endpoint(old, COMPARED, each)) if result.bad and old else result
        for each, result in zip(wanted, results, strict=True)
    ]


def judge_endpoints(rounds: int, streaks: dict[str, int], last: Sequence[EndpointResult]) -> Verdict:
    """No when one endpoint is answered wrongly three times in a row, and rightly by the old color."""
    question, expected = "endpoints", "answers as listed"
    sure = next((each for each in last if streaks.get(each.live.question, 0) >= ENDPOINT_STREAK), None)
    if sure is not None:
        reason = f"{sure.live.question}, {streaks[sure.live.question]} times in a row: {sure.live.reason}"
        return no(question, reason, expected=sure.live.expected, **sure.live.evidence)
    if not last:
        return not_asked(question, "not answered yet")
    silent = next((each.live for each in last if each.live.outcome is Outcome.UNKNOWN), None)
    if silent is not None:
        return unknown(question, f"{silent.question}: {silent.reason}", expected=expected)
    shared = next((each.live for each in last if each.shared), None)
    if shared is not None:
        reason = f"reported: {shared.question}: {shared.reason}; for both colors: not this release"
        return not_asked(question, reason)
    odd = next((each.live for each in last if each.bad), None)
    if odd is not None:
        return not_asked(question, f"{odd.question}: {odd.reason}; {ENDPOINT_STREAK} in a row are a no")
    return yes(question, f"{len(last)} asked {rounds} times, all as listed", expected=expected)


@dataclass(eq=False)
class EndpointSource(Source[list[EndpointResult]]):
    """Requests the endpoints in rounds and counts the wrong answers in a row of each."""

    streaks: dict[str, int] = field(default_factory=dict)

    def take(self, answer: list[EndpointResult]) -> None:
        """Count one round."""
        for each in answer:
            name = each.live.question
            self.streaks[name] = self.streaks.get(name, 0) + 1 if each.bad and not each.shared else 0

    def reset(self) -> None:
        """Forget the rounds so far."""
        self.streaks, self.last = {}, None


def endpoints_check(source: EndpointSource) -> WatchCheck:
    """Whether the listed endpoints are still answered as listed."""
    return WatchCheck(
        "endpoints", source, lambda _: judge_endpoints(source.count, source.streaks, source.last or ())
    )


class EndpointState(IntEnum):
    """How an endpoint is answered; the higher the worse."""

    WELL = 0
    SLOW = 1
    FAILS = 2
    SILENT = 3
    """No answer in time: of an old color neither a failure that is shared nor an answer to be worse than."""


@dataclass(frozen=True, slots=True)
class EndpointComparison:
    """Compares how both colors answer the endpoints in the same moment."""

    wanted: tuple[Endpoint, ...]
    live: HttpClient
    old: HttpClient
    slow_s: float
    look: RequestOptions = LOOK

    def __call__(self, *, slow: bool = False) -> str | None:
        """What fails for both colors, or, with *slow*, is slow for the old one; None if the live one is worse."""
        with ThreadPoolExecutor(8) as pool:
            live_states = pool.map(partial(self._state, self.live, EndpointState.FAILS), self.wanted)
            old_states = pool.map(partial(self._state, self.old, EndpointState.WELL), self.wanted)
        excuse = ""
        for each, live, old in zip(self.wanted, live_states, old_states, strict=True):
            if live is None or old is None:
                continue
            if live > old and old < EndpointState.FAILS:
                return None
            if live is old is EndpointState.FAILS:
                excuse = excuse or f"the old color fails {each.label} too"
            elif slow and old in {EndpointState.SLOW, EndpointState.SILENT}:
                excuse = excuse or f"the old color is slow with {each.label} too"
        return excuse

    def _state(self, http: HttpClient, if_gone: EndpointState, wanted: Endpoint) -> EndpointState | None:
        """The worst of up to 20 requests in half a second; *if_gone* without a listener, None without such a path."""
        until = time.monotonic() + LOOKS_S
        for _ in range(LOOKS):
            result = send_request(http, wanted.method, wanted.path, self.look)
            if isinstance(result, NoResponse):
                return EndpointState.SILENT if result.kind == "timeout" else if_gone
            if result.status >= SERVER_ERROR or result.status in NOT_THERE:
                return EndpointState.FAILS if result.status >= SERVER_ERROR else None
            if result.seconds > min(self.slow_s, wanted.max_latency):
                return EndpointState.SLOW
            if time.monotonic() > until:
                break
        return EndpointState.WELL
