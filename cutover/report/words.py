"""Numbers as people read them: durations with units, thousands set off, one thing and two things."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """`1.6 ms`, `0.4 s`, `48 s`, `3 min 12 s`, `2 h 14 min` or `3 d 4 h`: two numbers at most."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.01:  # noqa: PLR2004 - below this a tenth of a second says nothing
        return f"{seconds * 1000:.1f} ms"
    if seconds < 0.1:  # noqa: PLR2004 - as above
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 20:  # noqa: PLR2004 - one decimal up to twenty
        return f"{seconds:.1f} s".replace(".0 ", " ")
    return _long(round(seconds))


def _long(seconds: int) -> str:
    if seconds < MINUTE:
        return f"{seconds} s"
    if seconds < HOUR:
        return _two(seconds, MINUTE, "min", "s")
    if seconds < DAY:
        return _two(seconds // MINUTE, MINUTE, "h", "min")
    return _two(seconds // HOUR, 24, "d", "h")


def _two(amount: int, size: int, large: str, small: str) -> str:
    whole, rest = divmod(amount, size)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def count(amount: int, one: str, many: str = "") -> str:
    """`1 check`, `2,400 checks`."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def clock(left: float) -> str:
    """`09:12` or `1:09:12`: what is left of a watch."""
    minutes, seconds = divmod(max(0, round(left)), MINUTE)
    hours, minutes = divmod(minutes, MINUTE)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def utc(at: float) -> str:
    """`2025-09-04 01:10:22 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def joined(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def near(path: Path) -> Path:
    """*path* from here if it lies below here, else as it is."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
