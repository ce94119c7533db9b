"""Visitors: continuous requests during a release, to record what users see."""

from __future__ import annotations

import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

EVERY_S = 0.1
PATIENCE_S = 5


@dataclass(slots=True)
class Visitors:
    """Responses to the requests for *url*; complete after the `with` block."""

    url: str
    answered: Counter[str] = field(default_factory=Counter)
    """Number of responses by the release in their X-Release header."""
    failed: int = 0

    def ask(self) -> None:
        """Send one request on a new connection."""
        try:
            with urllib.request.urlopen(self.url, timeout=PATIENCE_S) as answer:  # noqa: S310  # our own http://127.0.0.1
                answer.read()  # a client that closes before the end of an answer has given up, by the proxy's log
                self.answered[answer.headers.get("X-Release", "somebody")] += 1
        except OSError:
            self.failed += 1

    def __str__(self) -> str:
        return told(self.answered, self.failed)


def told(answered: Mapping[str, int], failed: int) -> str:
    """`214 requests: 120 answered by sha-1111111, 94 by sha-2222222, 0 failed`."""
    shares = [f"{number} by {release}" for release, number in answered.items()]
    shown = ", ".join(shares).replace(" by ", " answered by ", 1)
    total = sum(answered.values()) + failed
    return f"{total} requests: {shown}{', ' if shown else ''}{failed} failed"


@contextmanager
def in_background(act: Callable[[], None], name: str) -> Iterator[None]:
    """Call *act* ten times per second in a thread called *name* until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(EVERY_S):
            act()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PATIENCE_S + 1)


@contextmanager
def visiting(url: str) -> Iterator[Visitors]:
    """Request *url* ten times per second until the block ends."""
    seen = Visitors(url)
    with in_background(seen.ask, "visitors"):
        yield seen
