"""A terminal that goes away, as in `pytest … | head -1`, takes the rest of the output with it and nothing else."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

STREAMS = ("stdout", "stderr")


class Lasting:
    """A stream whose reader may go: from then on what is written is lost, and no error."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own."""
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write *text*, or lose it."""
        try:
            self.stream.write(text)
        except OSError:
            self._lose()
        return len(text)

    def flush(self) -> None:
        """Flush what is left, or lose it."""
        try:
            self.stream.flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        # What is still buffered must go somewhere, or the interpreter's own last flush would make a 1 of a 0.
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)
            self.stream.flush()


def last() -> None:
    """Make the process's own streams last; before pytest's reporter takes one of them."""
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Lasting):
            setattr(sys, name, Lasting(stream))


def end() -> None:
    """Write what is left, and put the streams back."""
    for name in STREAMS:
        stream = getattr(sys, name)
        if stream is not None:
            Lasting(stream).flush()
        if isinstance(stream, Lasting):
            setattr(sys, name, stream.stream)
