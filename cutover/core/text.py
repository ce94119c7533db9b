"""How numbers, durations, counts, paths and time stamps are spelled: the only place that does it."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

MINUTE, HOUR, DAY = 60, 3600, 86400
ESCAPE_CODE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]"
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Also after a space, where a line may be wrapped.
COMMAND = re.compile(r"(?:^|(?<=\s)):(?=:[A-Za-z])|##(?=\[)", re.MULTILINE)
MAX_QUOTED = 60
MOST_PARTS = 6
# A number, a UUID, a hash, a token: one of many values of the same route.
ROUTE_ID = re.compile(r"\d+|[0-9a-fA-F-]{8,}|(?=[^/]*\d)[\w.~%@=+-]{16,}|[\w~%@=+-]{32,}")
MESSAGE_KEYS = ("message", "msg", "event", "error")
"""Keys of a JSON log line that hold its text."""
OMITTED_KEYS = frozenset({"time", "timestamp", "@timestamp", "ts", "logger", "level"})
STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def duration(seconds: float) -> str:
    """`1.6 ms`, `0.4 s`, `48 s`, `3 min 12 s`, `2 h 14 min` or `3 d 4 h`: at most two numbers."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 0.1:  # noqa: PLR2004 - below it, tenths of a second say nothing
        return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"  # noqa: PLR2004 - as above
    if round(seconds, 1) < 20:  # noqa: PLR2004 - one decimal up to twenty seconds
        return f"{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _two_units(whole, MINUTE, "min", "s")
    if whole < DAY:
        return _two_units(whole // MINUTE, MINUTE, "h", "min")
    return _two_units(whole // HOUR, 24, "d", "h")


def approx_duration(seconds: float) -> str:
    """A duration where the order of magnitude is enough: `0.4 s`, `31 s`, `5 min`, `2 h 14 min`, `3 d 4 h`."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.{1 if seconds < 10 else 0}f} s"  # noqa: PLR2004 - tenths matter below ten seconds
    minutes = int(seconds // MINUTE)
    if minutes < MINUTE:
        return f"{minutes} min"
    hours = minutes // MINUTE
    return f"{hours // 24} d {hours % 24} h" if hours >= 24 else f"{hours} h {minutes % MINUTE} min"  # noqa: PLR2004


def _two_units(amount: int, size: int, large: str, small: str) -> str:
    whole, rest = divmod(amount, size)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def spelled(value: float, *, least: float = -math.inf, most: float = math.inf, places: int = 0) -> str:
    """*value* with *places* decimals, never spelled like a bound that it breaks: 300.2 is 301 beside at most 300."""
    step, shown = 10.0**-places, round(value, places)
    if value > most:
        shown = max(shown, round(most, places) + step)
    elif value < least:
        shown = min(shown, round(least, places) - step)
    return f"{shown:.{places}f}"


def exact(number: float) -> str:
    """`1209600.5`: a number for another program, to the ninth place and never with an exponent."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def percent(share: float, *, least: float = -math.inf, most: float = math.inf, places: int = 0) -> str:
    """`91%`: a share of 1 spelled as `spelled` does, beside bounds that are shares too."""
    return f"{spelled(100 * share, least=100 * least, most=100 * most, places=places)}%"


def countdown(left: float) -> str:
    """Remaining seconds as `09:12` or `1:09:12`; never negative."""
    minutes, seconds = divmod(max(0, round(left)), MINUTE)
    hours, minutes = divmod(minutes, MINUTE)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def count(amount: int, one: str, many: str = "") -> str:
    """`1 check`, `2,400 checks`, `2 entries`."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def join_list(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def without_codes(text: str) -> str:
    """*text* without escape codes of terminals; other control characters but tab and newline become spaces."""
    return CONTROL.sub(" ", ESCAPE_CODE.sub("", text.replace("\r\n", "\n")))


def without_commands(text: str) -> str:
    """*text* in which a CI finds no commands: GitHub obeys a line that begins with `::`, and `##[` anywhere."""
    return COMMAND.sub("\\g<0>\u200b", text)


def route_of(method: str, path: str) -> str:
    """`GET /memories/*`: *method* and *path*, in which each part that looks like an ID is `*`."""
    parts = path.strip("/").split("/")
    named = ["*" if ROUTE_ID.fullmatch(each) else each for each in parts[:MOST_PARTS]]
    more = ["…"] if len(parts) > MOST_PARTS else []
    return f"{method} /{'/'.join([*named, *more])}"


def shown_query(query: str) -> str:
    """`?page=…&token=…`: *query* without its values, and `*` for a name that looks like an ID; empty if it is empty."""
    names = (name for name, _ in parse_qsl(query, keep_blank_values=True))
    shown = "&".join(f"{'*' if ROUTE_ID.fullmatch(name) else name}=…" for name in names)
    return f"?{shown}" if shown else ""


def quoted(text: str) -> str:
    """Return *text* in quotes and in one short line, without control characters."""
    shown = repr(text[:MAX_QUOTED])
    return f"{shown} and {len(text) - MAX_QUOTED} more characters" if len(text) > MAX_QUOTED else shown


def parse_json(text: str) -> Any:
    """The JSON value in a text of others; raises ValueError, also for one that is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def log_line_message(line: str) -> str:
    """Return level, message and other fields of a JSON log line, without its time; other lines as they are."""
    try:
        entry = parse_json(line)
    except ValueError:
        return line
    key = next((each for each in MESSAGE_KEYS if entry.get(each)), "") if isinstance(entry, dict) else ""
    if not key:
        return line
    rest = [f"{name}={value}" for name, value in entry.items() if name not in {key, *OMITTED_KEYS}]
    return " ".join(str(part) for part in (entry.get("level"), entry[key], *rest) if part)


def utc(at: float) -> str:
    """A moment in seconds since 1970 as `2025-09-04 01:10:22 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def seconds_of(stamp: str) -> float:
    """Seconds since 1970 of an RFC 3339 time stamp; 0.0 for Docker's zero time (`0001-…`) and for other text."""
    found = STAMP.match(stamp)
    if not found or found[1].startswith("0001-"):
        return 0.0
    try:
        whole = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):  # the 13th month
        return 0.0
    return whole + float(f"0.{found[2] or 0}")


def near(path: Path, base: Path | None = None) -> Path:
    """*path* relative to *base* (default: the working directory) if it lies below it, else unchanged."""
    here = base or Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def clock_of(stamp: str, today: str) -> str:
    """`14:02:11 UTC` of an RFC 3339 stamp in UTC, with its date where that is another one than *today*'s."""
    day = "" if stamp[:10] == today[:10] else f"{stamp[:10]} "
    return f"{day}{stamp[11:19]} UTC"


def now() -> str:
    """Return the current time in UTC, to the millisecond: `2026-01-31T12:00:00.123Z`."""
    return stamp(time.time())


def stamp(at: float) -> str:
    """Return the moment *at* (seconds since 1970) in the same form as `now`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
