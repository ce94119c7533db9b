"""Open-loop load: requests are sent at fixed times on keep-alive connections, however slow the responses are.

Latency counts from the time when a request was due, so that a stalled server cannot hide its stall (coordinated
omission). Connections, rate and duration are bounded.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise

from cutover.proxy.base import named_color
from cutover.proxy.proof import KeptConnection
from cutover.system.http import HttpAddress, NoResponse, TlsVerify

SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request, sent as every *every*-th request of a connection."""

    method: str
    path: str
    body: bytes = b""
    every: int = 1


HALF_POST = (Ask("GET", "/version"), Ask("POST", "/echo", b'{"text": "hello"}', every=2))


@dataclass(frozen=True, slots=True)
class Shot:
    """One request: when it was due, sent and answered (monotonic seconds), and the response."""

    due: float
    sent: float
    ended: float
    color: str
    status: int
    ask: Ask
    error: str = ""
    release: str = ""
    """Release in the X-Release header of the response."""

    @property
    def failed(self) -> bool:
        """Whether there was no response or one with a server error."""
        return not 0 < self.status < SERVER_ERROR


@dataclass(slots=True)
class Load:
    """Requests so far; complete after the `with` block."""

    shots: list[Shot] = field(default_factory=list)
    connections: list[KeptConnection] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def failed(self) -> list[Shot]:
        """The failed requests."""
        return [each for each in self.shots if each.failed]

    @property
    def reopened(self) -> int:
        """Number of connections that the proxy closed between two requests."""
        return sum(each.reopened for each in self.connections)

    def by(self, color: str) -> int:
        """Number of responses from *color*."""
        return sum(each.color == color for each in self.shots)

    def latencies(self, early: float = 0.0, late: float = float("inf")) -> list[float]:
        """Sorted latencies in seconds of the requests due in the interval, without deliberately slow ones."""
        return sorted(
            each.ended - each.due
            for each in self.shots
            if early <= each.due < late and not each.failed and "slow" not in each.ask.path
        )

    def longest_gap(self) -> float:
        """Longest time without a response in seconds; deliberately slow requests are excluded."""
        ends = sorted(each.ended for each in self.shots if not each.failed and "slow" not in each.ask.path)
        return max((late - early for early, late in pairwise(ends)), default=0.0)


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which *share* of *sorted_values* lie; 0 if there are none."""
    return (
        sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else 0.0
    )


@contextmanager
def load(  # many parameters, all of them the caller's choice
    url: str,
    *,
    connections: int = 100,
    rate: float = 200.0,
    asks: Sequence[Ask] = HALF_POST,
    longest_s: float = 300.0,
    deadline_s: float = 60.0,
    verify: TlsVerify = True,
    header: str = "X-Color",
) -> Iterator[Load]:
    """Send *rate* requests per second over *connections* until the block ends, then wait for requests in flight."""
    place = HttpAddress.of(url, verify=verify)
    seen = Load(connections=[KeptConnection(place, "a user") for _ in range(connections)])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="load", daemon=True)
    thread.start()

    async def user(number: int, connection: KeptConnection) -> None:
        every = connections / rate
        begun = time.monotonic() + number / rate
        for turn in range(1, round(longest_s / every) + 2):
            if seen.stopping.is_set():  # a late connection never waits below, where it would notice
                return
            due = begun + (turn - 1) * every
            with suppress(TimeoutError):
                await asyncio.wait_for(seen.stopping.wait(), max(0.0, due - time.monotonic()))
                return
            # Neighboring connections send different requests at the same time.
            ask = [each for each in asks if (turn + number) % each.every == 0][-1]
            sent = time.monotonic()
            answer = await connection.send(ask.method, ask.path, ask.body, deadline_s)
            color = named_color(answer, header)
            release = answer.headers.get("x-release", "")
            error = answer.reason if isinstance(answer, NoResponse) else ""
            shot = Shot(due, sent, time.monotonic(), color, answer.status, ask, error, release)
            seen.shots.append(shot)

    async def everybody() -> None:
        await asyncio.gather(*(user(*each) for each in enumerate(seen.connections)))

    running = asyncio.run_coroutine_threadsafe(everybody(), loop)
    try:
        yield seen
    finally:
        loop.call_soon_threadsafe(seen.stopping.set)
        running.result(deadline_s + 10)
        for each in seen.connections:
            loop.call_soon_threadsafe(each.close)
        loop.call_soon_threadsafe(lambda: loop.call_soon(loop.stop))
        thread.join()
        loop.close()
