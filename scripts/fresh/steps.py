"""One line for each step: what it does, and how long it took."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TAIL = 20


class StopError(Exception):
    """The machine cannot be made ready; the message says what a person has to do."""


def say(line: str) -> None:
    """Print *line* at once, also into a pipe."""
    print(line, flush=True)


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say *what* is being done while it is done, and on the same line how long it took."""
    started = time.monotonic()
    print(f"{what} ... ", end="", flush=True)
    outcome = "failed after "
    try:
        yield
        outcome = ""
    finally:
        say(f"{outcome}{time.monotonic() - started:.1f} s")


def tail(text: str) -> str:
    """The last lines of *text*, indented: what a person needs of a long output."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines()[-TAIL:])


def fail(error: StopError) -> int:
    """Print why it stopped below everything else, and answer the exit code."""
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 1
