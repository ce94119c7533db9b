"""Whether the live color logs more errors than the old one did, or errors of new kinds, since the switch.

The rules, with their numbers. Errors of a signature that the old color logs in the same minutes are not counted:
they are not due to this release. Of the others, since the switch and in the newest minute:

- *log errors* is a no with at least `floor` (5) errors which the old color's rate before the switch gives by
  chance in fewer than 1 of 1,000 watches (a conditional binomial; each look spends its part of that), and more
  than in the old color's own worst stretch of that length;
- *new errors* is a no with at least `floor` errors of signatures that the old color never logged, if they are
  crashes (traceback, critical, fatal), or if no such error in all the time before makes so many now as
  unlikely; where there is less than a minute of that, with twice `floor` that go on for 20 s and more.
  If the old color has signatures that it logged only once, as of texts that name something else each time, then
  errors that it never logged come as often as these by themselves: either `floor` are of one signature, or they
  are surely more often.

Without a switch the live color had the traffic before the watch too: then its own log takes the place of the old
color's, unless it has less than a minute of it.

Logs are read on from the last time stamp, a bounded number of lines at a time; memory is constant.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from cutover.core.config_schema import Logs
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.stats import more_often, spent
from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.gate.log_checks import (
    MIN_EXPOSURE_S,
    NO_LEVEL,
    ROUNDING_S,
    LoggedError,
    LogWindow,
    are_new_crashes,
    read_baseline,
    scan_log,
    split_stamp,
    worst_stretch,
)
from cutover.system import docker
from cutover.system.container import LOST, Container
from cutover.watch.check import Source, WatchCheck

LOG_ALPHA = 0.001
GOES_ON_S = 20.0
RECENT_ERRORS_S = 60.0
MOST_SIGNATURES = 500
MOST_RECENT = 2000
FEWEST_LINES = 200
OTHERS = "(others)"


@dataclass(slots=True)
class LogReader:
    """Reads the log of one container on from where the last read ended."""

    container_id: str
    rules: Logs
    since: float
    lines: int = 0
    structured: bool = False
    """Whether any line so far was JSON."""
    leveled: bool = False
    """Whether any line so far had a level."""
    ask: Callable[..., list[str]] = docker.logs
    _tail: int = FEWEST_LINES

    def read(self) -> list[LoggedError]:
        """The errors that were logged since the last read; raises EngineUnavailable.

        If more was logged than one read takes, the oldest lines are left out: counts are then too low, never
        too high.
        """
        lines = self.ask(self.container_id, since=self.since - ROUNDING_S, tail=self._tail)
        fresh = [line for line in lines if split_stamp(line)[0] > self.since]
        self._tail = min(self.rules.max_lines, max(FEWEST_LINES, 4 * len(fresh)))
        self.lines += len(fresh)
        self.since = max([self.since, *(split_stamp(line)[0] for line in fresh)])
        found = scan_log(fresh, self.rules)
        self.structured |= found.structured
        self.leveled |= found.leveled
        return found.errors


@dataclass(slots=True)
class ErrorCounts:
    """The logged errors of one color since the switch: by signature, and those of the newest minute."""

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
            name = each.signature if known else OTHERS
            self.by_signature[name] += 1
            self.severe[name] += each.severe
            self.examples.setdefault(name, each.text)
            self.recent.append((each.at, name))

    def counts(self, names: frozenset[str]) -> list[tuple[int, float]]:
        """Number of errors of *names*, and in how many seconds: since the switch, and in the newest minute."""
        whole = sum(self.by_signature[name] for name in names)
        newest = sum(name in names for at, name in self.recent if at >= self.now - RECENT_ERRORS_S)
        seconds = max(1.0, self.now - self.begun)
        return [(whole, seconds), (newest, min(seconds, RECENT_ERRORS_S))]

    def most(self, names: frozenset[str]) -> str:
        """The most frequent error of *names*: `5 × its text`."""
        name = max(names, key=lambda each: self.by_signature[each])
        return f"{self.by_signature[name]} × {self.examples[name]}"


@dataclass(frozen=True, slots=True)
class LogComparison:
    """What both judges look at."""

    live: ErrorCounts
    shared: frozenset[str]
    """Signatures that the old color logged in the same minutes."""
    before: LogWindow | None
    """The old color's log up to the switch."""
    known: frozenset[str]
    """Signatures that were logged up to the switch, by the old color; without one, by the live color."""
    look: int
    lines: int
    blind: bool = False
    """The lines are JSON and none has a level: errors cannot be told from other lines."""
    whose: str = "the old color"
    """The color that logged *before*."""

    @property
    def own(self) -> frozenset[str]:
        """Signatures of errors that only the live color logs now."""
        return frozenset(self.live.by_signature) - self.shared

    @property
    def not_own(self) -> str:
        """How many errors both colors log, as the end of a reason."""
        number = sum(self.live.by_signature[name] for name in self.shared)
        return f"; {number} more are logged by both colors: not this release" if number else ""


def judge_log_rate(seen: LogComparison, floor: int) -> Verdict:
    """Judge *log errors* by the rule at the head of this file."""
    question, expected = "log errors", "as many errors as before"
    whole, seconds = seen.live.counts(seen.own)[0]
    before = seen.before
    if before is None:
        reason = f"{whole} errors in {seconds:.0f} s; no log of an old color to compare with"
        return not_asked(question, reason)
    was = f"{seen.whose} logged {len(before.errors)} in {before.seconds:.0f} s before"
    for count, length in seen.live.counts(seen.own):
        chance = more_often(count, length, len(before.errors), before.seconds)
        sure = chance <= spent(LOG_ALPHA, seen.look) / 2
        if count >= floor and sure and count > worst_stretch(before, length):
            reason = f"{count} errors in {length:.0f} s, {was}: {seen.live.most(seen.own)}"
            return no(question, reason, expected=expected, seen=f"{count}", lines=seen.lines)
    if seen.blind:
        return not_asked(question, NO_LEVEL)
    reason = f"{whole} errors in {seconds:.0f} s ({seen.lines} log lines), {was}{seen.not_own}"
    return yes(question, reason, expected=expected, seen=f"{whole}")


def judge_new_errors(seen: LogComparison, floor: int) -> Verdict:
    """Judge *new errors* by the rule at the head of this file."""
    question, expected, fresh = "new errors", "no new kind of error", seen.own - seen.known
    count, seconds = seen.live.counts(fresh)[0]
    crashes = frozenset(name for name in fresh if seen.live.severe[name])
    times, alpha = {name: seen.live.severe[name] for name in crashes}, spent(LOG_ALPHA, seen.look)
    most = max((number for name, number in times.items() if name != OTHERS), default=0)
    if are_new_crashes(times, most, seconds, seen.before, floor=floor, alpha=alpha):
        reason = f"crashes of a new kind in {seconds:.0f} s: {seen.live.most(crashes)}"
        return no(question, reason, expected=expected, seen=seen.live.most(crashes))
    exposure, new_each_time = (seen.before.seconds, len(seen.before.once)) if seen.before else (0.0, 0)
    again = frozenset(name for name in fresh - {OTHERS} if seen.live.by_signature[name] >= floor)
    for names, once in ((fresh, new_each_time), (again, 0)):
        for number, length in seen.live.counts(names):
            sure = more_often(number, length, once, exposure) <= alpha / 2
            lasting = exposure < MIN_EXPOSURE_S and _goes_on(seen.live, names, 2 * floor)
            if number >= floor and (sure or lasting):
                reason = f"{number} errors of a new kind in {length:.0f} s: {seen.live.most(names)}"
                return no(question, reason, expected=expected, seen=seen.live.most(names))
    if seen.blind:
        return not_asked(question, NO_LEVEL)
    reason = f"{count} of a new kind in {seconds:.0f} s" if count else f"none in {seconds:.0f} s"
    return yes(question, reason + seen.not_own, expected=expected, kinds=len(fresh))


def _goes_on(live: ErrorCounts, names: frozenset[str], least: int) -> bool:
    """Whether at least *least* errors of *names* were logged over 20 s and more, the last one just now."""
    at = [moment for moment, name in live.recent if name in names]
    return len(at) >= least and at[-1] - at[0] >= GOES_ON_S and live.now - at[-1] <= GOES_ON_S


@dataclass(eq=False)
class LogSource(Source[list[list[LoggedError]]]):
    """Reads the logs of both colors of one service."""

    ask: Callable[[], list[list[LoggedError]]] = field(init=False)
    live: Callable[[], Container | None]
    old: Callable[[], Container | None] | None
    rules: Logs
    since: float
    evidence: Evidence
    color: str
    service: str = ""
    """Which of several services of the color it is; empty for the one that takes the traffic."""
    had_traffic: bool = False
    """Whether the live color had the traffic before *since* too: then its own log is what is compared with."""
    clock: Callable[[], float] = time.time
    counts: tuple[ErrorCounts, ErrorCounts] = field(init=False)
    """Of the live and of the old color."""
    readers: list[LogReader | None] = field(default_factory=lambda: [None, None])
    before: LogWindow | None = None
    known: frozenset[str] = frozenset()
    whose: str = "the old color"

    expected: ClassVar[str] = "the container's log"
    pending: ClassVar[str] = "the log has not been read yet"

    def __post_init__(self) -> None:
        self.ask = self._read_both
        self.counts = (ErrorCounts(self.since), ErrorCounts(self.since))

    @property
    def silent(self) -> str:
        """Why the log cannot be read; empty if the logging driver can never read it."""
        return "" if self.unreadable else self.silence

    @property
    def unreadable(self) -> bool:
        """Whether the container's logging driver does not support reading."""
        return docker.NO_READING in self.silence

    def take(self, answer: list[list[LoggedError]]) -> None:
        """Count the new errors of both colors."""
        for counts, errors in zip(self.counts, answer, strict=True):
            counts.add(errors, self.clock())
        series = f"log errors of {self.service}" if self.service else "log errors"
        self.evidence.sample(series, self.color, len(answer[0]))

    def reset(self) -> None:
        """Forget the errors so far."""
        self.counts = (ErrorCounts(self.clock()), ErrorCounts(self.clock()))

    def comparison(self) -> LogComparison:
        """What the judges look at."""
        live, old = self.counts
        reader = self.readers[0]
        lines, blind = (reader.lines, reader.structured and not reader.leveled) if reader else (0, False)
        shared = frozenset(old.by_signature)
        look = max(1, self.count)
        return LogComparison(live, shared, self.before, self.known, look, lines, blind, self.whose)

    def _read_both(self) -> list[list[LoggedError]]:
        if self.readers[0] is None:
            self._begin()
        live = self._read(0, self.live)
        try:  # the old color is only compared with: what cannot be read of it is no reason to switch back
            return [live, self._read(1, self.old) if self.old else []]
        except EngineUnavailable:
            return [live, []]

    def _read(self, color: int, find: Callable[[], Container | None]) -> list[LoggedError]:
        """The new errors of one container; none of one that is gone, which is the business of "restarts"."""
        reader = self.readers[color]
        try:
            return reader.read() if reader else []
        except EngineUnavailable:
            container = find()  # raises again if the whole engine is silent
            if container is None or reader is None or container.status == LOST:
                return []
            if container.id == reader.container_id:
                raise
            if container.moved:
                self.readers[color] = self._reader(container)
            return []

    def _begin(self) -> None:
        live, old = self.live(), self.old() if self.old else None
        own, self.before = self._up_to_switch(live), self._up_to_switch(old)
        if self.had_traffic and own is not None and own.seconds >= MIN_EXPOSURE_S:
            self.before, self.whose = own, "it"  # the other color has had no traffic
        known = self.before or own
        self.known = known.signatures if known else frozenset()
        self.readers = [self._reader(each) if each else None for each in (live, old)]

    def _reader(self, container: Container) -> LogReader:
        ask = partial(docker.logs, engine=container.engine)
        return LogReader(container.id, self.rules, self.since, ask=ask)

    def _up_to_switch(self, container: Container | None) -> LogWindow | None:
        seen = read_baseline(container, self.rules) if container else None
        if seen is None:
            return None
        late = max(0.0, seen.ended - self.since)
        errors = tuple(each for each in seen.errors if each.at < self.since)
        return LogWindow(errors, seen.lines, max(0.0, seen.seconds - late), self.since)


def log_checks(source: LogSource) -> tuple[WatchCheck, WatchCheck]:
    """The checks "log errors" and "new errors"."""

    def check(name: str, judge: Callable[[LogComparison, int], Verdict]) -> WatchCheck:
        def judge_if_readable(found: LogSource) -> Verdict:
            if found.unreadable:
                return not_asked(name, found.silence)
            return judge(found.comparison(), found.rules.min_errors)

        return WatchCheck(name, source, judge_if_readable, service=source.service)

    return check("log errors", judge_log_rate), check("new errors", judge_new_errors)
