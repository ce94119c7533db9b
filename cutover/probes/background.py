"""Asks in the background, so that one silent engine or hung request never delays other questions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
Start = Callable[[Callable[[], None]], None]
GRACE_S = 0.05  # most answers come at once: waiting this long for them saves a whole tick


def in_thread(work: Callable[[], None]) -> None:
    """Start *work* in a daemon thread: unlike a pool's, it never holds up the end of the session."""
    threading.Thread(target=work, daemon=True, name="cutover-watch").start()


def at_once(work: Callable[[], None]) -> None:
    """Do *work* here and now, as the tests do."""
    work()


@dataclass(slots=True)
class Background(Generic[T]):
    """Calls *ask* in the background, at most *most* times at once, and hands its answers to who ticks.

    *ask* must be bounded by itself. What it raises is raised by the tick that collects it. Who ticks more often
    than each *pace_s* asks no more often, but has the answers sooner.
    """

    ask: Callable[[], T]
    most: int = 1
    start: Start = in_thread
    pace_s: float = 0.0
    grace_s: float = GRACE_S
    flying: int = 0
    begun: float = float("-inf")
    answers: SimpleQueue[tuple[T | None, BaseException | None]] = field(default_factory=SimpleQueue)

    def tick(self, now: float) -> list[T]:
        """Ask once more unless it is too soon or too many are out; the answers that have come since."""
        wait = 0.0
        if self.flying < self.most and now - self.begun >= 0.9 * self.pace_s:
            self.flying, self.begun, wait = self.flying + 1, now, self.grace_s
            self.start(self._work)
        return self._collect(wait)

    def _work(self) -> None:
        try:
            self.answers.put((self.ask(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is collected
            self.answers.put((None, error))

    def _collect(self, wait: float) -> list[T]:
        come: list[T] = []
        while self.flying:
            try:
                answer, error = self.answers.get(timeout=wait) if wait else self.answers.get_nowait()
            except Empty:
                break
            self.flying -= 1
            wait = 0.0
            if error is not None:
                raise error
            come.append(answer)  # type: ignore[arg-type] # None only beside an error, or when ask returns it
        return come
