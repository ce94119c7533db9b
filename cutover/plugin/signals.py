"""Ctrl-C, SIGTERM and SIGHUP end a session in order; nothing interrupts its revert."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECOND_S = 15.0


@dataclass(slots=True)
class Signals:
    """The handlers of a session, and those that were there before."""

    _before: dict[int, Any] = field(default_factory=dict)
    _last: float = float("-inf")

    def catch(self) -> None:
        """Turn each signal into KeyboardInterrupt, SIGINT too where it was inherited ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in CAUGHT:
                self._before[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, _frame: object) -> None:
        # A second one would cut into pytest's own way to the end, before the revert has begun; after
        # a while it counts again, for a test may have swallowed the first.
        now = time.monotonic()
        if now - self._last >= SECOND_S:
            self._last = now
            raise KeyboardInterrupt(signal.Signals(number).name)

    def ignore(self) -> None:
        """From here on nothing interrupts."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
