"""The proof of a switch, asked for: on connections that are held open over it, and on new ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cutover.core.config import Settings
from cutover.core.verdict import Verdict, unknown, yes
from cutover.proxies.asking import Way, colour_of
from cutover.proxies.samples import Proof, Sample, weigh
from cutover.proxies.wire import Connection, Place

T = TypeVar("T")
POST_BODY = b"{}"
AT_ONCE = 50
PAUSE_S = 0.002


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked: connections, requests a second on the open ones, rounds over all afterwards."""

    path: str
    post: str = ""
    open_connections: int = 20
    new_connections: int = 10
    rate: float = 50.0
    rounds: int = 3
    deadline_s: float = 10.0
    settle_s: float = 10.0
    gap_announced: bool = False
    """A port swap: nobody answers for a while, and everybody was told so."""
    longest_s: float = 300.0
    """The stream ends by itself after this time, whatever becomes of the session."""


@dataclass(slots=True)
class Prover:
    """Proves one switch: `begin()`, `about_to_switch()`, the switch itself, `prove(to)`; `close()` always.

    The requests run on a thread of their own, so that the session may do the switch meanwhile.
    """

    way: Way
    plan: Plan
    _samples: list[Sample] = field(default_factory=list)
    _open: list[Connection] = field(default_factory=list)
    _new: list[Connection] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _stream: list[asyncio.Task[None]] = field(default_factory=list)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _called: float | None = None
    _place: Place | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """GET, and POST where the service allows a harmless one."""
        return ("GET", "POST") if self.plan.post else ("GET",)

    @classmethod
    def of(cls, settings: Settings) -> Prover:
        """The prover that `[proxy]` describes; it posts nothing where writes are frozen meanwhile."""
        proxy = settings.proxy
        assert proxy is not None  # noqa: S101 - there is no switch without a [proxy]
        way = Way.of(settings)
        plan = Plan(
            way.path,
            "" if settings.freeze else proxy.post,
            proxy.open_connections,
            proxy.new_connections,
            gap_announced=proxy.driver == "port-swap",
        )
        return cls(way, plan)

    def begin(self) -> Verdict:
        """Open the connections, ask once on each, and go on asking until `prove` or `close`."""
        self._place = Place.of(self.way.url, verify=self.way.verify)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proof", daemon=True)
        self._thread.start()
        self._open = [Connection(self._place) for _ in range(self.plan.open_connections)]
        self._run(self._round(self._open))
        silent = [each.error for each in self._samples if not each.status]
        # A live colour that hangs is a reason to switch; a proxy that is silent by itself is none.
        if silent and not self.way.as_control().answers():
            return unknown("proof", f"{len(silent)} of {len(self._samples)} first requests: {silent[0]}")
        self._run(self._start())
        return yes("proof", f"{len(self._open)} connections are open")

    def about_to_switch(self) -> None:
        """The moment from which the switch is timed."""
        self._called = time.monotonic()

    def prove(self, to: str) -> Proof:
        """Ask until the new colour answers, then on every open and every new connection."""
        called = self._called if self._called is not None else time.monotonic()
        self._run(self._settle(to, called))
        if self._settled(to, called):
            self._new = [Connection(self._place_()) for _ in range(self.plan.new_connections)]
            for _ in range(self.plan.rounds):
                self._run(self._round([*self._open, *self._new]))
        self._run(self._stop())
        return self._proof(to, called)

    def close(self) -> None:
        """Stop asking and close everything; safe to call twice."""
        if self._loop is None or self._thread is None:
            return
        self._run(self._stop())
        self._run(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    def _proof(self, to: str, called: float) -> Proof:
        return weigh(
            list(self._samples), to, called,
            open_connections=len(self._open),
            new_connections=len(self._new),
            reopened=sum(each.reopened for each in self._open),
            gap_announced=self.plan.gap_announced,
            way_is_good=self.way.as_control().answers(),
        )  # fmt: skip

    def _place_(self) -> Place:
        assert self._place is not None  # noqa: S101 - begin comes first
        return self._place

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None  # noqa: S101 - begin comes first
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _settled(self, to: str, called: float) -> bool:
        return any(each.colour == to and not each.failed and each.ended >= called for each in self._samples)

    async def _settle(self, to: str, called: float) -> None:
        """Wait for the first answer of *to*; beside the stream one more asks all the time, to time it."""
        until = time.monotonic() + self.plan.settle_s
        asking = Connection(
            self._place_()
        )  # of its own: the open ones may still wait for an old colour that hangs
        while not self._settled(to, called) and time.monotonic() < until:
            await self._once(asking, "GET")
            await asyncio.sleep(PAUSE_S)
        asking.close()

    async def _start(self) -> None:
        every = len(self._open) / self.plan.rate
        self._stopping = asyncio.Event()
        self._stream = [
            asyncio.create_task(self._user(connection, every, number / self.plan.rate))
            for number, connection in enumerate(self._open)
        ]

    async def _user(self, connection: Connection, every: float, delay: float) -> None:
        """One user, who asks at fixed times however slow the answers are, and posts each second time."""
        begun = time.monotonic() + delay
        for number in range(round(self.plan.longest_s / every)):
            if self._stopping.is_set():  # who is late does not wait below, and would never notice
                return
            wait = max(0.0, begun + number * every - time.monotonic())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), wait)
                return
            await self._once(connection, self.methods[number % len(self.methods)])

    async def _stop(self) -> None:
        """End the stream after the requests that are under way: a cut one would be a failure of ours."""
        self._stopping.set()
        await asyncio.gather(*self._stream)
        self._stream = []

    async def _round(self, connections: Sequence[Connection]) -> None:
        """Each connection asks once with each method; not all at the same moment."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def both(connection: Connection) -> None:
            async with gate:
                for method in self.methods:
                    await self._once(connection, method)

        await asyncio.gather(*(both(each) for each in connections))

    async def _once(self, connection: Connection, method: str) -> None:
        post = method == "POST"
        path, body = (self.plan.post, POST_BODY) if post else (self.plan.path, b"")
        started = time.monotonic()
        answer = await connection.ask(method, path, body, self.plan.deadline_s)
        colour = colour_of(answer, self.way.colour_header)
        self._samples.append(Sample(started, time.monotonic(), colour, answer.status, method, answer.error))

    async def _hang_up(self) -> None:
        for each in (*self._open, *self._new):
            each.close()
        await asyncio.sleep(0)  # the transports close in the next turn of the loop
