"""Open-loop load: users ask at fixed times on connections that they keep, however slow the answers are.

What is measured counts from the moment in which the request was due, so that a stalled server cannot hide its
own stall; the whole is bounded in connections, rate and time, and goes to where the test says.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise

from cutover.proxy.ask import named_color
from cutover.proxy.proof import KeptConnection
from cutover.system.http import HttpAddress, NoResponse, TlsVerify

SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Ask:
    """One kind of request, and which of a user's requests it is: each *every*-th."""

    method: str
    path: str
    body: bytes = b""
    every: int = 1


HALF_POST = (Ask("GET", "/version"), Ask("POST", "/echo", b'{"text": "hello"}', every=2))


@dataclass(frozen=True, slots=True)
class Shot:
    """One request: when it was due, sent and answered (monotonic seconds), by whom, how."""

    due: float
    sent: float
    ended: float
    color: str
    status: int
    ask: Ask
    error: str = ""
    release: str = ""
    """Which release said so of itself, in X-Release."""

    @property
    def failed(self) -> bool:
        """No answer, or one that says that the server failed."""
        return not 0 < self.status < SERVER_ERROR


@dataclass(slots=True)
class Load:
    """What was asked so far; complete after the `with` block."""

    shots: list[Shot] = field(default_factory=list)
    connections: list[KeptConnection] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def failed(self) -> list[Shot]:
        """Those that failed."""
        return [each for each in self.shots if each.failed]

    @property
    def reopened(self) -> int:
        """Connections that the proxy closed between two requests."""
        return sum(each.reopened for each in self.connections)

    def by(self, color: str) -> int:
        """How many *color* answered."""
        return sum(each.color == color for each in self.shots)

    def latencies(self, early: float = 0.0, late: float = float("inf")) -> list[float]:
        """Seconds from due to answered of those due in a time, sorted, without the slow ones on purpose."""
        return sorted(
            each.ended - each.due
            for each in self.shots
            if early <= each.due < late and not each.failed and "slow" not in each.ask.path
        )

    def longest_gap(self) -> float:
        """The longest time in which nobody was answered, in seconds; those that are slow on purpose do not count."""
        ends = sorted(each.ended for each in self.shots if not each.failed and "slow" not in each.ask.path)
        return max((late - early for early, late in pairwise(ends)), default=0.0)


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value that *share* of them do not exceed; 0 of nothing."""
    return (
        sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else 0.0
    )


@contextmanager
def load(  # every number is a promise of the caller
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
    """Send *rate* requests a second over *connections* until the block ends; requests under way are awaited."""
    place = HttpAddress.of(url, verify=verify)
    seen = Load(connections=[KeptConnection(place) for _ in range(connections)])
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="load", daemon=True)
    thread.start()

    async def user(number: int, connection: KeptConnection) -> None:
        every = connections / rate
        begun = time.monotonic() + number / rate
        for turn in range(1, round(longest_s / every) + 2):
            if seen.stopping.is_set():  # who is late does not wait below, and would never notice
                return
            due = begun + (turn - 1) * every
            with suppress(TimeoutError):
                await asyncio.wait_for(seen.stopping.wait(), max(0.0, due - time.monotonic()))
                return
            # Neighbors ask for different things at the same time.
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
