"""The engine's stamps (RFC 3339, nanoseconds, any offset) as seconds since 1970."""

from __future__ import annotations

import re
from datetime import datetime

STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def seconds_of(stamp: str) -> float:
    """Seconds since 1970 of *stamp*; 0.0 for the engine's zero time and for what is no stamp."""
    found = STAMP.match(stamp)
    if not found or found[1].startswith("0001-"):
        return 0.0
    whole = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00")).timestamp()
    return whole + float(f"0.{found[2] or 0}")


def spoken(seconds: float) -> str:
    """A duration as people say it: `0.4 s`, `31 s`, `2 h 14 min`, `3 d 4 h`."""
    if seconds < 10:  # noqa: PLR2004  below it tenths matter
        return f"{seconds:.1f} s"
    if seconds < 120:  # noqa: PLR2004  minutes begin to be read sooner than seconds
        return f"{seconds:.0f} s"
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if not hours:
        return f"{minutes} min"
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} min"
