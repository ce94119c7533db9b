"""Whether errors are logged more often than before, or errors that nobody knew.

The rule, with its numbers. Errors are counted over a window (since the start, at most ten minutes) and
compared with the log that the container before it left, rates with exposure. It is a spike when there are
at least `floor` (5) of them and

- the conditional binomial says that the old rate gives so many by chance in fewer than 1 of 1,000 windows,
  and they are also more than in the old release's own worst window of that length (1 in 20): a burst at each
  start is no news; or
- at least `floor` of them are crashes (traceback, critical, fatal) of a signature that the old log lacks; or
- there is no old log to compare with, or less than a minute of it, and at least `floor` of signatures that
  are not known go on into the last third of the window: retries during the start end before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cutover import engine
from cutover.container import Container
from cutover.engine import EngineSilent
from cutover.probes.errors_in_logs import NO_LEVEL, LoggedError, look, stamped
from cutover.probes.stamps import seconds_of, spoken
from cutover.settings import Logs
from cutover.statistics import more_often
from cutover.verdict import Verdict, no, not_asked, unknown, yes

ALPHA = 0.001
ALPHA_WORST = 0.05
WINDOW_S = 600.0
LEAST_EXPOSURE_S = 60.0
START_S = 120.0
"""So much of the old container's own start is read as well, however long its log has become."""
BEFORE = 1e-5  # `since` goes through a float of 64 bits, which decides about the line on the boundary


@dataclass(frozen=True, slots=True)
class Window:
    """The errors of a stretch of log, how many lines it had, and how long it was."""

    errors: tuple[LoggedError, ...]
    lines: int
    seconds: float
    ended: float = 0.0
    """By the engine's clock."""
    blind: bool = False
    """Lines of JSON of which none has a level: errors cannot be told from others."""

    @property
    def rate(self) -> float:
        """Errors per second."""
        return len(self.errors) / self.seconds if self.seconds > 0 else 0.0

    @property
    def signatures(self) -> frozenset[str]:
        """What its errors are called."""
        return frozenset(each.signature for each in self.errors)


Baseline = Window
"""The log of the container that ran before."""


def window(lines: Sequence[str], rules: Logs, begun: float, ended: float) -> Window:
    """The window of stamped *lines* between two moments of the engine's clock; a cut log covers less."""
    inside = [line for line in lines if begun <= stamped(line)[0] <= ended]
    if len(lines) >= rules.tail and inside:
        begun = max(begun, stamped(inside[0])[0])
    found = look(inside, rules)
    blind = found.structured and not found.levelled
    return Window(tuple(found.errors), len(inside), max(0.0, ended - begun), ended, blind)


def baseline(old: Container, rules: Logs) -> Baseline | None:
    """Read the log of *old* before a recreate deletes it; None when there is none to read."""
    started, stopped = seconds_of(old.started_at), seconds_of(old.finished_at)
    try:
        ended = max(stopped, seconds_of(engine.daemon_time()) if old.running else 0.0)
        tail = engine.logs(old.id, since=started - BEFORE, tail=rules.tail)
        recent = window(tail, rules, started, ended)
        if len(tail) < rules.tail:
            return recent
        # `until` ends the stream at the first later line, so the whole log is not read.
        head = engine.logs(old.id, since=started - BEFORE, until=started + START_S, tail=None)
    except EngineSilent:
        return None
    first = window(head, rules, started, min(started + START_S, ended - recent.seconds))
    seconds = first.seconds + recent.seconds
    return Window(first.errors + recent.errors, first.lines + recent.lines, seconds, ended)


def until_proven(
    seen: Container,
    proven_at: float,
    rules: Logs,
    now: Callable[[], str] = engine.daemon_time,
    read: Callable[..., list[str]] = engine.logs,
) -> Baseline | None:
    """What *seen* logged until its gate passed, while it is too young to be compared with its own last minutes.

    What it was proven with is no news a minute later.
    """
    try:
        started = seconds_of(seen.started_at)
        if seconds_of(now()) - started >= WINDOW_S + LEAST_EXPOSURE_S:
            return None
        lines = read(seen.id, since=started - BEFORE, until=proven_at, tail=rules.tail)
    except EngineSilent:
        return None
    return window(lines, rules, started, proven_at)


def logs(seen: Container, before: Baseline | None, rules: Logs) -> Verdict:
    """Read the log of *seen* since its start, at most ten minutes, and compare it with the one before.

    Without one, the container's own earlier log is what it is compared with.
    """
    try:
        now = seconds_of(engine.daemon_time())
        started = seconds_of(seen.started_at)
        lines = engine.logs(seen.id, since=started - BEFORE, tail=rules.tail)
    except EngineSilent as error:
        if "does not support reading" in str(error):
            return not_asked("logs", f"{seen.name}: its logging driver does not support reading")
        return unknown("logs", str(error))
    begun = max(started, now - WINDOW_S)
    if before is None and begun - started >= LEAST_EXPOSURE_S:
        before = window(lines, rules, started, begun)
    return judge_logs(window(lines, rules, begun, now), before, rules.floor)


def judge_logs(now: Window, before: Baseline | None, floor: int) -> Verdict:
    """Judge by the rule at the head of this file."""
    count = len(now.errors)
    known = before.signatures if before else frozenset()
    fresh = [each for each in now.errors if each.signature not in known]
    seen = _evidence(now, before, fresh)
    said = (
        f"{count or 'no'} error{'s' if count != 1 else ''} in {spoken(now.seconds)} ({now.lines} log lines)"
    )
    if count < floor and now.blind:
        return not_asked("logs", f"{said}, and {NO_LEVEL}")
    if count < floor:
        return yes("logs", said if not count else f"{said}, fewer than {floor}", **seen)
    crashes = [each for each in fresh if each.severe]
    if len(crashes) >= floor:
        return no(
            "logs", f"{len(crashes)} crashes of a new kind in {spoken(now.seconds)}: {_most(crashes)}", **seen
        )
    if before and _is_spike(now, before):
        old = f"before it were {len(before.errors)} in {spoken(before.seconds)}"
        return no("logs", f"{said}, {old}: {_most(fresh or now.errors)}", **seen)
    if (before is None or before.seconds < LEAST_EXPOSURE_S) and len(fresh) >= floor and _go_on(fresh, now):
        return no("logs", f"{said}, and they go on, nothing earlier to compare with: {_most(fresh)}", **seen)
    why = "as before" if before else "none lately, nothing earlier to compare with"
    return yes("logs", f"{said}, {why}", **seen)


def _is_spike(now: Window, before: Baseline) -> bool:
    """Whether neither the old rate nor the old release's worst moment explains so many errors."""
    count = len(now.errors)
    by_rate = more_often(count, now.seconds, len(before.errors), before.seconds)
    return by_rate <= ALPHA and more_often(count, 1, worst(before, now.seconds), 1) <= ALPHA_WORST


def worst(before: Baseline, seconds: float) -> int:
    """The most errors that any stretch of *seconds* had."""
    times = sorted(each.at for each in before.errors)
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _go_on(errors: Iterable[LoggedError], now: Window) -> bool:
    """Whether an error fell into the last third of the window."""
    return any(each.at >= now.ended - now.seconds / 3 for each in errors)


def _most(errors: Sequence[LoggedError]) -> str:
    """The most frequent of *errors*, as often as it came."""
    name, times = Counter(each.signature for each in errors).most_common(1)[0]
    example = next(each.text for each in errors if each.signature == name)
    return f"{times} × {example}"


def _evidence(now: Window, before: Baseline | None, fresh: Sequence[LoggedError]) -> dict[str, Any]:
    top = Counter(each.signature for each in now.errors).most_common(5)
    return {
        "errors": len(now.errors), "seconds": round(now.seconds, 1), "lines": now.lines,
        "errors_before": len(before.errors) if before else None,
        "seconds_before": round(before.seconds, 1) if before else None,
        "new_kinds": len({each.signature for each in fresh}), "most": [f"{n} × {name}" for name, n in top],
    }  # fmt: skip
