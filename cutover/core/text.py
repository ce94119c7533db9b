"""Time stamps as the journal and the reports write them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> str:
    """Return the current time in UTC, to the millisecond: `2026-01-31T12:00:00.123Z`."""
    return stamp(time.time())


def stamp(at: float) -> str:
    """Return the moment *at* (seconds since 1970) in the same form as `now`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
