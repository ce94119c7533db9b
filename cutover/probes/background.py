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

    *ask* must be bounded by itself. What it raises is raised by the tick that collects it.
    """

    ask: Callable[[], T]
    most: int = 1
    start: Start = in_thread
    grace_s: float = GRACE_S
    flying: int = 0
    answers: SimpleQueue[tuple[T | None, BaseException | None]] = field(default_factory=SimpleQueue)

    def tick(self) -> list[T]:
        """Ask once more unless too many are still out; return the answers that have come since."""
        if self.flying < self.most:
            self.flying += 1
            self.start(self._work)
        return self._collect()

    def _work(self) -> None:
        try:
            self.answers.put((self.ask(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is collected
            self.answers.put((None, error))

    def _collect(self) -> list[T]:
        come: list[T] = []
        wait = self.grace_s
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
