"""The names of the checks, as `[checks]` lists them and as their messages begin."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

GATE = (
    "identity", "health", "ready", "version", "listens", "user", "read-only", "latency", "logs", "restarts",
    "unchanged", "compare",
)  # fmt: skip
WATCH = (
    "availability", "color", "endpoints", "5xx", "routes", "latency", "restarts", "health", "old color", "log errors",
    "new errors", "cpu", "memory", "oom", "leak", "alerts",
)  # fmt: skip
SHARED = ("disk", "tls")
"""What both colors share; asked before a release too."""
OFF = "off by [checks] off"


def unknown_names(given: Sequence[str], known: Iterable[str], key: str) -> list[str]:
    """One line for each of *given*, the value of *key*, that is not among *known*: what it may have meant."""
    names = list(dict.fromkeys(known))
    return [_unknown(name, names, key) for name in dict.fromkeys(given) if name not in names]


def _unknown(name: str, known: Sequence[str], key: str) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.5)
    allowed = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(known)}."
    return f"{key}: unknown check {name!r}; {allowed} A check of your own is to be named in checks.own"
