"""Reads a container's log on, a bounded number of lines at a time, and counts its errors in constant memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cutover.core.config_schema import Logs
from cutover.gate.log_checks import ROUNDING_S, LoggedError, scan_log, split_stamp
from cutover.system import docker

RECENT_S = 60.0
MOST_SIGNATURES = 500
MOST_RECENT = 2000
FEWEST_LINES = 200


@dataclass(slots=True)
class Reader:
    """Reads one container's log on from where it was left."""

    container_id: str
    rules: Logs
    since: float
    lines: int = 0
    skipped: int = 0
    """How often more was logged than one read takes: counts are then too low, never too high."""
    structured: bool = False
    levelled: bool = False
    """Whether any line so far was JSON, or had a level."""
    ask: Callable[..., list[str]] = docker.logs
    _tail: int = FEWEST_LINES

    def read(self) -> list[LoggedError]:
        """The errors that were logged since the last read; raises EngineSilent."""
        tail = self._tail
        lines = self.ask(self.container_id, since=self.since - ROUNDING_S, tail=tail)
        fresh = [line for line in lines if split_stamp(line)[0] > self.since]
        self.skipped += len(fresh) >= tail
        self._tail = min(self.rules.tail, max(FEWEST_LINES, 4 * len(fresh)))
        self.lines += len(fresh)
        self.since = max([self.since, *(split_stamp(line)[0] for line in fresh)])
        found = scan_log(fresh, self.rules)
        self.structured |= found.structured
        self.levelled |= found.levelled
        return found.errors


@dataclass(slots=True)
class Tally:
    """The errors of one colour since the switch: by signature, and those of the newest minute."""

    begun: float
    now: float = 0.0
    by_signature: Counter[str] = field(default_factory=Counter)
    severe: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    recent: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=MOST_RECENT))

    def add(self, errors: Sequence[LoggedError], now: float) -> None:
        """Count *errors*; signatures beyond the five hundredth are counted as one."""
        self.now = now
        for each in errors:
            known = each.signature in self.by_signature or len(self.by_signature) < MOST_SIGNATURES
            name = each.signature if known else "(others)"
            self.by_signature[name] += 1
            self.severe[name] += each.severe
            self.examples.setdefault(name, each.text)
            self.recent.append((each.at, name))

    def counts(self, names: frozenset[str]) -> list[tuple[int, float]]:
        """How many errors of *names* there were, and in how many seconds: in all, and in the newest minute."""
        whole = sum(self.by_signature[name] for name in names)
        newest = sum(name in names for at, name in self.recent if at >= self.now - RECENT_S)
        seconds = max(1.0, self.now - self.begun)
        return [(whole, seconds), (newest, min(seconds, RECENT_S))]

    def most(self, names: frozenset[str]) -> str:
        """The most frequent of *names*, as often as it came."""
        name = max(names, key=lambda each: self.by_signature[each])
        return f"{self.by_signature[name]} × {self.examples[name]}"
