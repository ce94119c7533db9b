"""Proof of a switch: requests on connections that are open before it and on new ones, counted and judged."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Self, TypeVar

import h11

from cutover.core.config import Settings
from cutover.core.text import count
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxy.access_log import OUR_AGENT
from cutover.proxy.base import ProxyClient, named_color
from cutover.system import http

T = TypeVar("T")
POST_BODY = b"{}"
JSON_HEADER = {"content-type": "application/json"}
MAX_KEPT_BYTES = 64 * 1024
MAX_AT_ONCE = 50
SETTLE_PAUSE_S = 0.002
TIMELINE_STEP_MS = 100
MAX_ERRORS = 5
SURE_POLL_S = 0.05
HANGS_S = 2.0
HANGS_RATIO = 10.0
LEAST_HANGING = 3
SERVER_ERROR = 500
COUNTS = (
    "requests", "answered", "wrong", "failed", "failed_before", "failed_in_gap", "posts", "open_connections",
    "new_connections", "reopened", "hanging",
)  # fmt: skip
"""The fields of a report that are added up over several proxies."""


# --- pure: samples and their summary ---
@dataclass(frozen=True, slots=True)
class RequestSample:
    """One request: sent and answered at (monotonic seconds), color, status (0: no response), method, error."""

    started: float
    ended: float
    color: str
    status: int
    method: str = "GET"
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether there was no response, or one with a status of 500 or more."""
        return not 0 < self.status < SERVER_ERROR

    @property
    def problem(self) -> str:
        """What went wrong, in words."""
        unnamed = "" if self.failed else " without a color"
        return self.error or f"{self.method} was answered {self.status}{unnamed}"

    def is_good_from(self, color: str) -> bool:
        """Whether *color* answered, and the request did not fail."""
        return not self.failed and self.color == color


@dataclass(frozen=True, slots=True)
class SwitchReport:
    """Counts and times (milliseconds since the switch was called) of the requests around a switch to `to`.

    `requests` were sent after the first response of `to`: `answered` came from it, `wrong` from another color.
    `failed` counts requests since the call, also those in flight then; `failed_in_gap` those of an announced gap.
    `timeline` has a row [ms, blue, green, failed] for each 100 ms.
    """

    to: str
    requests: int = 0
    answered: int = 0
    wrong: int = 0
    failed: int = 0
    failed_before: int = 0
    failed_in_gap: int = 0
    posts: int = 0
    open_connections: int = 0
    new_connections: int = 0
    reopened: int = 0
    hanging: int = 0
    first_answer_ms: float | None = None
    longest_gap_ms: float = 0.0
    waited_ms: float = 0.0
    timeline: tuple[tuple[int, int, int, int], ...] = ()
    errors: tuple[str, ...] = ()
    way_is_good: bool = True

    def verdict(self) -> Verdict:
        """Yes if `to` answered every request since its first response, and none failed; unknown if all is silent."""
        seen = self.as_json()
        evidence = {key: seen[key] for key in seen if key not in {"timeline", "to"}}
        if self.first_answer_ms is None and not self.way_is_good:
            reason = "neither the service nor the proxy itself answers since the switch"
            return unknown("proof", reason, **evidence)
        trouble = self._trouble()
        if trouble:
            return no("proof", trouble, expected=f"all answered by {self.to}", **evidence)
        return yes("proof", str(self), **evidence)

    def _trouble(self) -> str:
        first_error = f": {self.errors[0]}" if self.errors else ""
        if self.hanging and not self.failed:
            return f"{count(self.hanging, 'request')} without an answer for {HANGS_S:g} s and more"
        if self.first_answer_ms is None:
            return f"no answer from {self.to} {self.waited_ms / 1000:.1f} s after the switch{first_error}"
        if self.failed:
            return f"{count(self.failed, 'request')} failed around the switch{first_error}"
        if self.wrong:
            return f"{self.wrong} of {count(self.requests, 'request')} since then not answered by {self.to}"
        return "" if self.requests else f"no request was sent after the first answer of {self.to}"

    def __str__(self) -> str:
        """`2,400 requests on 120 open and 40 new connections: 2,400 green, 0 failed, …`."""
        gap = f" with {count(self.failed_in_gap, 'failed request')} in it, as announced"
        return (
            f"{count(self.requests, 'request')} on {self.open_connections} open and "
            f"{self.new_connections} new connections: {self.answered:,} {self.to}, {self.failed} failed, "
            f"longest gap {self.longest_gap_ms:.0f} ms{gap if self.failed_in_gap else ''}"
        )

    def as_json(self) -> dict[str, Any]:
        """JSON values for the journal and the report."""
        return asdict(self) | {"timeline": [list(row) for row in self.timeline], "errors": list(self.errors)}


def summarize_switch(
    samples: Sequence[RequestSample],
    to: str,
    called: float,
    *,
    way_is_good: bool = True,
    gap_announced: bool = False,
    **counts: int,
) -> SwitchReport:
    """The report about a switch to *to* that was called at *called*.

    *way_is_good*: the proxy itself answers; any response since the call shows that too. With *gap_announced* (port
    swap) requests may fail until the first response of *to*. *counts* are fields of `SwitchReport`.
    """
    after = [each for each in samples if each.ended >= called]
    settled = min((each.ended for each in after if each.is_good_from(to)), default=None)
    since = [each for each in samples if settled is not None and each.started >= settled]
    failed, in_gap, before = _split_failures(samples, called, settled, gap_announced=gap_announced)
    # If the new color never answered, responses without a color are part of the reason.
    unnamed = [each for each in after if settled is None and not each.failed and not each.color]
    problems = Counter(each.problem for each in [*failed, *unnamed])
    last = max((each.ended for each in samples), default=called)
    return SwitchReport(
        to=to,
        requests=len(since),
        answered=sum(each.is_good_from(to) for each in since),
        wrong=sum(not each.failed and each.color != to for each in since),
        failed=len(failed),
        failed_in_gap=len(in_gap) if gap_announced else 0,
        failed_before=len(before),
        posts=sum(each.method == "POST" for each in since),
        first_answer_ms=None if settled is None else _milliseconds(settled - called),
        longest_gap_ms=_milliseconds(longest_gap(samples, called)),
        waited_ms=_milliseconds(last - called),
        timeline=timeline(samples, called),
        errors=tuple(text for text, _ in problems.most_common(MAX_ERRORS)),
        way_is_good=way_is_good or any(each.status for each in after),
        **counts,
    )


def together(reports: Sequence[SwitchReport]) -> SwitchReport:
    """One report about the switch of several proxies; the times are the longest ones."""
    if len(reports) == 1:
        return reports[0]
    rows = Counter[tuple[int, int]]()
    for each in reports:
        for step, *numbers in each.timeline:
            rows.update({(step, column): number for column, number in enumerate(numbers)})
    firsts = [each.first_answer_ms for each in reports]
    return SwitchReport(
        to=reports[0].to,
        **{name: sum(getattr(each, name) for each in reports) for name in COUNTS},
        first_answer_ms=None if None in firsts else max(filter(None, firsts), default=0.0),
        longest_gap_ms=max(each.longest_gap_ms for each in reports),
        waited_ms=max(each.waited_ms for each in reports),
        timeline=tuple((at, rows[at, 0], rows[at, 1], rows[at, 2]) for at in sorted({at for at, _ in rows})),
        errors=tuple(dict.fromkeys(error for each in reports for error in each.errors))[:MAX_ERRORS],
        way_is_good=all(each.way_is_good for each in reports),
    )


def _split_failures(
    samples: Sequence[RequestSample], called: float, settled: float | None, *, gap_announced: bool
) -> tuple[list[RequestSample], list[RequestSample], list[RequestSample]]:
    """Failed requests: caused by the switch, during its gap, and already failing before.

    The last bad responses of an old color that failed before count as before; a request without a response only if
    one ended in the same way before.
    """
    trouble = [each for each in samples if each.failed and each.ended >= called]
    before = [each for each in samples if each.failed and each.ended < called]
    in_gap = [each for each in trouble if settled is not None and each.started < settled]
    known = {each.error for each in before if each.error}
    as_before = [each for each in in_gap if before and (each.status or each.error in known)]
    excused = {id(each) for each in (in_gap if gap_announced else as_before)}
    failed = [each for each in trouble if id(each) not in excused]
    return failed, in_gap, before if gap_announced else [*before, *as_before]


def has_surely_failed(
    samples: Sequence[RequestSample], to: str, called: float, *, gap_announced: bool = False
) -> bool:
    """Whether the proof of a switch to *to* can only become a no, whatever is answered from now on."""
    after = [each for each in samples if each.ended >= called]
    settled = min((each.ended for each in after if each.is_good_from(to)), default=None)
    failed, _, before = _split_failures(samples, called, settled, gap_announced=gap_announced)
    if settled is None:  # what fails until the first answer may still be excused
        known = {each.error for each in before if each.error}
        excused = (before and (each.status or each.error in known) for each in failed)
        return not gap_announced and not all(excused)
    since = (each for each in after if each.started >= settled)
    return bool(failed) or any(not each.failed and each.color != to for each in since)


def hanging(samples: Sequence[RequestSample], waiting: Sequence[float], called: float, now: float) -> int:
    """How many requests hang: sent since *called*, and nothing at all was answered as long as they wait.

    *waiting* has the times at which the requests in flight were sent. They hang after 2 s, and after ten times the
    slowest answer before the switch; fewer than three say nothing.
    """
    slowest = max((each.ended - each.started for each in samples if each.ended < called), default=0.0)
    since = now - max(HANGS_S, HANGS_RATIO * slowest)
    if any(each.ended >= since and not each.failed for each in samples):
        return 0
    found = sum(called <= each <= since for each in waiting)
    return found if found >= LEAST_HANGING else 0


def longest_gap(samples: Sequence[RequestSample], called: float) -> float:
    """The longest time around and after *called* without a good response, in seconds."""
    ends = sorted(each.ended for each in samples if not each.failed)
    last = max((each.ended for each in samples), default=called)
    return max((late - early for early, late in pairwise([*ends, last]) if late >= called), default=0.0)


def timeline(samples: Sequence[RequestSample], called: float) -> tuple[tuple[int, int, int, int], ...]:
    """Rows [ms since *called*, blue, green, failed], one for each 100 ms, by the end of the requests."""
    seen = Counter(
        (int((each.ended - called) * 1000 // TIMELINE_STEP_MS), "failed" if each.failed else each.color)
        for each in samples
    )
    steps = [step for step, _ in seen]
    return tuple(
        (step * TIMELINE_STEP_MS, seen[step, "blue"], seen[step, "green"], seen[step, "failed"])
        for step in range(min(steps, default=0), max(steps, default=-1) + 1)
    )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


# --- one connection ---
@dataclass(slots=True)
class KeptConnection:
    """One connection that is kept open; if the server closes it between two requests it is opened again, counted.

    Not an `HttpClient`: a pool would hide which connection was closed, and 500 of these need no threads.
    """

    address: http.HttpAddress
    agent: str = OUR_AGENT
    """The user agent: by it the access log tells our requests from those of users."""
    reopened: int = 0
    sent: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """HTTP/1.1 carries one request at a time."""
    _exchange: h11.Connection = field(default_factory=http.new_exchange, repr=False)
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, repr=False)

    async def send(
        self, method: str, path: str, body: bytes = b"", deadline_s: float = 10.0
    ) -> http.HttpResponse | http.NoResponse:
        """The response to one request, complete within *deadline_s*; of its body 64 KiB are kept."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(deadline_s), self.turn:
                reader, writer = await self._open()
                self.sent += 1
                headers = {"user-agent": self.agent} | (JSON_HEADER if body else {})
                writer.write(http.request_bytes(self._exchange, self.address, method, path, headers, body))
                await writer.drain()
                return await self._receive(reader, begun)
        except OSError as error:
            self.close()
            return http.no_response(error, path, time.monotonic() - begun, deadline_s)

    def close(self) -> None:
        """Close it; the next request opens another one."""
        if self._streams is not None:
            with suppress(OSError, RuntimeError):  # the loop is closing
                self._streams[1].close()
        self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None or self._streams[0].at_eof():
            self.reopened += self.sent > 0
            self.close()
            self._exchange, address = http.new_exchange(), self.address
            try:
                self._streams = await asyncio.open_connection(address.host, address.port, ssl=address.tls)
            except (OSError, UnicodeError) as error:
                raise http.connect_error(error) from error
        return self._streams

    async def _receive(self, reader: asyncio.StreamReader, begun: float) -> http.HttpResponse:
        status, headers, body, ended = 0, dict[str, str](), b"", False
        while not ended:
            for event in http.response_events(self._exchange, await reader.read(http.READ_BYTES)):
                if isinstance(event, h11.Response):
                    status, headers = event.status_code, http.header_table(event)
                elif isinstance(event, h11.Data) and len(body) < MAX_KEPT_BYTES:
                    body += event.data
                ended = isinstance(event, h11.EndOfMessage)
        if not http.can_reuse(self._exchange):
            self.close()
        text = http.decoded_body(body[:MAX_KEPT_BYTES], headers)
        return http.HttpResponse(status, headers, text, seconds=time.monotonic() - begun)


# --- the probe of one switch ---
@dataclass(frozen=True, slots=True)
class ProbePlan:
    """What is sent: paths, connections, requests a second on the open ones, rounds over all after the switch."""

    path: str
    post: str = ""
    open_connections: int = 20
    new_connections: int = 10
    rate: float = 50.0
    rounds: int = 3
    deadline_s: float = 10.0
    settle_s: float = 10.0
    gap_announced: bool = False
    """Requests may fail until the new color answers (port swap)."""
    longest_s: float = 300.0
    """The stream ends by itself after this time, whatever becomes of the session."""


@dataclass(slots=True)
class SwitchProbe:
    """Proves one switch: `begin()`, `about_to_switch()`, the switch itself, `prove(to)`; `close()` always.

    The requests run in a thread of their own, so that the session can switch meanwhile.
    """

    client: ProxyClient
    plan: ProbePlan
    _samples: list[RequestSample] = field(default_factory=list)
    _open: list[KeptConnection] = field(default_factory=list)
    _new: list[KeptConnection] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _stream: list[asyncio.Task[None]] = field(default_factory=list)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _called: float | None = None
    _waiting: dict[int, float] = field(default_factory=dict)
    """When each request in flight was sent."""
    _sent: int = 0
    _hanging: int = 0
    _address: http.HttpAddress = field(init=False)

    @classmethod
    def of(cls, settings: Settings, client: ProxyClient, *, has_gap: bool) -> Self:
        """The probe that `[proxy]` describes, at the URL of *client*; it posts nothing while writes are frozen."""
        proxy = settings.proxy
        assert proxy is not None  # noqa: S101 - there is no switch without a [proxy]
        post = "" if settings.freeze else proxy.probe_post_path
        numbers = proxy.open_connections, proxy.new_connections
        return cls(client, ProbePlan(client.path, post, *numbers, gap_announced=has_gap))

    def begin(self) -> Verdict:
        """Open the connections, send a request on each, and keep sending until `prove` or `close`."""
        self._address = http.HttpAddress.of(self.client.url, verify=self.client.verify)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proof", daemon=True)
        self._thread.start()
        self._open = [KeptConnection(self._address) for _ in range(self.plan.open_connections)]
        self._run(self._round(self._open))
        silent = [each.error for each in self._samples if not each.status]
        # A live color that hangs is a reason to switch; a proxy that does not answer is not.
        if silent and not self.client.as_control().answers():
            return unknown("proof", f"{len(silent)} of {len(self._samples)} first requests: {silent[0]}")
        self._run(self._start())
        return yes("proof", f"{len(self._open)} connections are open")

    def about_to_switch(self) -> None:
        """Start the clock of the switch."""
        self._called = time.monotonic()

    def prove(self, to: str, ended: Callable[[], bool] = lambda: False) -> SwitchReport:
        """Send until *to* answers, then on every open and every new connection; returns the report.

        It ends early when the report can only be a no, or when *ended* returns True.
        """
        called = self._called or time.monotonic()
        if not self._ends_early(self._prove(to, called), to, called, ended):
            self._run(self._stop())
        return summarize_switch(
            [*self._samples], to, called,
            open_connections=len(self._open),
            new_connections=len(self._new),
            hanging=self._hanging,
            reopened=sum(each.reopened for each in self._open),
            gap_announced=self.plan.gap_announced,
            way_is_good=self.client.as_control().answers(),
        )  # fmt: skip

    def close(self) -> None:
        """Stop sending and close all connections; may be called twice."""
        if self._loop is None or self._thread is None:
            return
        self._run(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    @property
    def _methods(self) -> tuple[str, ...]:
        return ("GET", "POST") if self.plan.post else ("GET",)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None  # noqa: S101 - begin comes first
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _ends_early(
        self, work: Coroutine[Any, Any, None], to: str, called: float, ended: Callable[[], bool]
    ) -> bool:
        """Run *work* to its end, or give up at the first sure no."""
        assert self._loop is not None  # noqa: S101 - begin comes first
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            with suppress(TimeoutError):
                future.result(SURE_POLL_S)
                return False
            samples, waiting, gap = [*self._samples], [*self._waiting.values()], self.plan.gap_announced
            if not gap:
                self._hanging = hanging(samples, waiting, called, time.monotonic())
            if self._hanging or ended() or has_surely_failed(samples, to, called, gap_announced=gap):
                future.cancel()
                self._run(self._give_up())
                return True

    async def _prove(self, to: str, called: float) -> None:
        if await self._settle(to, called):
            self._new = [KeptConnection(self._address) for _ in range(self.plan.new_connections)]
            for _ in range(self.plan.rounds):
                await self._round([*self._open, *self._new])

    async def _give_up(self) -> None:
        """Stop without waiting for requests in flight: users wait for the switch back."""
        for each in self._stream:
            each.cancel()
        await self._stop()

    async def _settle(self, to: str, called: float) -> bool:
        def settled() -> bool:
            return any(each.is_good_from(to) and each.ended >= called for each in self._samples)

        until = time.monotonic() + self.plan.settle_s
        # A connection of its own: the open ones may still wait for an old color that hangs.
        with closing(KeptConnection(self._address)) as connection:
            while not settled() and time.monotonic() < until:
                await self._once(connection, "GET")
                await asyncio.sleep(SETTLE_PAUSE_S)
        return settled()

    async def _start(self) -> None:
        every = len(self._open) / self.plan.rate
        self._stream = [
            asyncio.create_task(self._user(connection, every, number / self.plan.rate))
            for number, connection in enumerate(self._open)
        ]

    async def _user(self, connection: KeptConnection, every: float, delay: float) -> None:
        """Send at fixed times however slow the responses are, each second request with POST."""
        begun = time.monotonic() + delay
        for number in range(round(self.plan.longest_s / every)):
            if self._stopping.is_set():  # a user who is late does not wait below, and would not notice
                return
            wait = max(0.0, begun + number * every - time.monotonic())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
                return
            await self._once(connection, self._methods[number % len(self._methods)])

    async def _stop(self) -> None:
        # Requests in flight are awaited: canceling them would cause failures that no user has.
        self._stopping.set()
        await asyncio.gather(*self._stream, return_exceptions=True)

    async def _round(self, connections: Sequence[KeptConnection]) -> None:
        gate = asyncio.Semaphore(MAX_AT_ONCE)

        async def each_method(connection: KeptConnection) -> None:
            async with gate:
                for method in self._methods:
                    await self._once(connection, method)

        await asyncio.gather(*(each_method(each) for each in connections))

    async def _once(self, connection: KeptConnection, method: str) -> None:
        path, body = (self.plan.post, POST_BODY) if method == "POST" else (self.plan.path, b"")
        started, self._sent = time.monotonic(), self._sent + 1
        number, self._waiting[self._sent] = self._sent, started
        try:
            got = await connection.send(method, path, body, self.plan.deadline_s)
        finally:
            del self._waiting[number]
        error = got.reason if isinstance(got, http.NoResponse) else ""
        color = named_color(got, self.client.color_header)
        self._samples.append(RequestSample(started, time.monotonic(), color, got.status, method, error))

    async def _hang_up(self) -> None:
        await self._stop()
        for each in (*self._open, *self._new):
            each.close()
        await asyncio.sleep(0)  # the transports close in the next turn of the loop
