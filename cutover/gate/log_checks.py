"""Check of the log: what an error is, and whether the release logs more or other errors than the one before.

Errors are counted over a window (since the start, at most ten minutes) and compared with the log of the previous
container (the baseline). It is a spike if there are at least `floor` (5) errors and one of these holds:

- By a conditional binomial test, the old rate explains so many errors in fewer than 1 of 1,000 windows, and they are
  also more than in the worst window of that length of the baseline (1 in 20), because each start may cause a burst.
- At least `floor` of them are crashes (traceback, critical, fatal) with a signature that is not in the baseline. If the
  baseline has crashes of a signature that it has only once, because their texts name something else each time, then
  `floor` of one signature, or more than that rate explains.
- The baseline is missing or shorter than a minute, and at least `floor` errors with unknown signatures continue into
  the last third of the window: retries during the start end before it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cutover.core.config_schema import Logs
from cutover.core.errors import EngineUnavailable
from cutover.core.stats import more_often
from cutover.core.text import MESSAGE_KEYS, approx_duration, parse_json, seconds_of, without_codes
from cutover.core.verdict import Verdict, no, not_asked, shortened, unknown, yes
from cutover.system import docker
from cutover.system.container import Container

# --- errors in log lines
TRACEBACK = "Traceback (most recent call last)"
CHAINED = ("During handling of the above", "The above exception was the direct")
SEVERE = re.compile(r"\b(?:CRITICAL|FATAL)\b|\[(?:crit|alert|emerg)\]", re.IGNORECASE)
SEVERE_LEVELS = frozenset(
    {"critical", "crit", "fatal", "alert", "emerg", "emergency", "panic", "dpanic", "60"}
)
# Monolog writes `level` too, as a number of its own.
LEVEL_KEYS = (
    "level_name",
    "level",
    "severity",
    "levelname",
    "log.level",
    "lvl",
    "loglevel",
    "log_level",
    "@l",
)
MIN_NUMERIC_LEVEL = 10  # smaller numbers are verbosities, or syslog levels (0 is the worst)
CRASH = re.compile(
    r"^(?:[\d/:., TZ+-]+ )?(?:panic: |fatal error: |http: panic serving |Exception in thread |thread '.*' panicked at "
    r"|Unhandled [Ee]xception|Uncaught |Segmentation fault|terminate called |\[?UnhandledPromiseRejection)"
)
"""First words of crash messages of Go, Java, Rust, .NET, Node and C++."""
LEVEL = re.compile(
    r"\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b|\blevel=|^[IWEF]\d{4} \d\d:"
    r"|\[(?:debug|info|notice|warn|error|crit|alert|emerg)\]"
)
NO_LEVEL = "no line has a level: [logs] level_key says where it is"
EXCEPTION_KEYS = ("exception", "exc_info", "traceback", "stack", "stack_trace", "error.stack_trace")
VARIES = (
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<uuid>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\d+"), "#"),
)
MEMBER = re.compile(r'\s*[{,]\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
"""The beginning of one member of a JSON object, up to its value."""
DECODER = json.JSONDecoder(strict=False)
SAME_EVENT_S = 0.5  # a traceback directly after an error line belongs to that error


@dataclass(frozen=True, slots=True)
class LoggedError:
    """One error of a log."""

    at: float
    signature: str
    """Its text without numbers and ids: the same for each occurrence."""
    severe: bool
    """A traceback, a crash, or a level above error."""
    text: str


def error_signature(text: str) -> str:
    """Return *text* with numbers and ids replaced by placeholders."""
    for pattern, word in VARIES:
        text = pattern.sub(word, text)
    return shortened(text, 160)


def split_stamp(line: str) -> tuple[float, str]:
    """Return the time stamp of a log line (seconds since 1970; 0.0 for none) and the rest of the line."""
    stamp, _, text = line.partition(" ")
    at = seconds_of(stamp)
    return (at, text) if at else (0.0, line)


def scan_log(lines: Iterable[str], rules: Logs) -> LogScan:
    """Return the errors of log *lines* with time stamps: by level in JSON lines, by pattern in other lines.

    A JSON line with another level is no error, whatever its text. A traceback and the error line directly before it
    are one error, named after the last line of the traceback.
    """
    scan = LogScan(rules)
    for line in lines:
        at, text = split_stamp(line)
        scan.read(at, without_codes(text))
    allowed = [re.compile(pattern) for pattern in rules.ignore]
    scan.errors = [each for each in scan.errors if not any(known.search(each.text) for known in allowed)]
    return scan


class LogScan:
    """The errors of some log lines, and whether a line was JSON (`structured`) or had a level (`leveled`).

    They are collected line by line: it has to know whether a line is inside a traceback.
    """

    def __init__(self, rules: Logs) -> None:
        self.pattern = re.compile(rules.pattern)
        self.levels = frozenset(level.lower() for level in rules.levels)
        self.keys = (rules.level_key,) if rules.level_key else LEVEL_KEYS
        self.errors: list[LoggedError] = []
        self.inside = self.after_error = self.structured = self.leveled = False

    def read(self, at: float, text: str) -> None:
        """Take one line, without its time stamp, that was logged *at* then."""
        if text.startswith(TRACEBACK):
            self._begin_traceback(at, text)
        elif self.inside and (not text.strip() or text[0] in " \t" or text.startswith(CHAINED)):
            return
        elif self.inside:
            self._name_traceback(text)
        else:
            error = self._error(at, text)
            self.errors += [error] if error else []
            self.after_error = bool(error)

    def _begin_traceback(self, at: float, text: str) -> None:
        own = self.after_error and at - self.errors[-1].at < SAME_EVENT_S
        if own or self.inside:
            self.errors[-1] = replace(self.errors[-1], severe=True)
        else:
            self.errors.append(LoggedError(at, error_signature(text), severe=True, text=text))
        self.inside, self.after_error = True, False

    def _name_traceback(self, text: str) -> None:
        # The first line after a traceback that is not indented names the exception.
        self.errors[-1] = replace(self.errors[-1], signature=error_signature(text), text=shortened(text))
        self.inside, self.after_error = False, True

    def _error(self, at: float, text: str) -> LoggedError | None:
        row = _json_object(text)
        if row is not None:
            return self._of_row(at, text, row)
        self.leveled = self.leveled or bool(LEVEL.search(text))
        crash = bool(CRASH.search(text))
        if not crash and not self.pattern.search(text):
            return None
        return LoggedError(at, error_signature(text), crash or bool(SEVERE.search(text)), shortened(text))

    def _of_row(self, at: float, text: str, row: Mapping[str, Any]) -> LoggedError | None:
        level = self._level(row)
        self.structured, self.leveled = True, self.leveled or bool(level)
        if level not in self.levels:
            return None
        message = next((str(row[key]) for key in MESSAGE_KEYS if row.get(key)), text)
        severe = level in SEVERE_LEVELS or any(row.get(key) for key in EXCEPTION_KEYS)
        return LoggedError(at, error_signature(message), severe, shortened(message))

    def _level(self, row: Mapping[str, Any]) -> str:
        """The level of *row* in lower case; empty if it has none."""
        for key in self.keys:
            outer, _, inner = key.partition(".")
            value = row.get(key, row[outer].get(inner) if isinstance(row.get(outer), dict) else None)
            if isinstance(value, str) or (isinstance(value, int) and value >= MIN_NUMERIC_LEVEL):
                return str(value).lower()
        return ""


def _json_object(text: str) -> Mapping[str, Any] | None:
    try:
        return dict(parse_json(text)) if text.startswith("{") else None
    except ValueError:
        return _cut_object(text)


def _cut_object(text: str) -> Mapping[str, Any] | None:
    """The members of a JSON object whose end is missing, as of a line above 16 KiB; None for other text."""
    found, at = dict[str, Any](), 0
    while member := MEMBER.match(text, at):
        try:
            found[member[1]], at = DECODER.raw_decode(text, member.end())
        except (ValueError, RecursionError):  # the one that is cut, or nested too deeply
            rest = text[member.end() :]
            return found | ({member[1]: rest[1:]} if rest.startswith('"') else {})
    return found if found and text[at:].lstrip()[:1] in {",", ""} else None


# --- the error spike
SPIKE_ALPHA = 0.001
WORST_WINDOW_ALPHA = 0.05
LOG_WINDOW_S = 600.0
MIN_EXPOSURE_S = 60.0
START_LOG_S = 120.0
"""So much of the start of the old container is read too, even if its log is longer than `tail` lines."""
ROUNDING_S = 1e-5  # `since` is a 64-bit float: rounding must not drop the first line


@dataclass(frozen=True, slots=True)
class LogWindow:
    """The errors in a time window of a log: now, or of the container that ran before, as a baseline."""

    errors: tuple[LoggedError, ...]
    lines: int
    seconds: float
    ended: float = 0.0
    """By the clock of the engine."""
    blind: bool = False
    """No JSON line has a level, so errors cannot be recognized."""

    @property
    def signatures(self) -> frozenset[str]:
        """The signatures of its errors."""
        return frozenset(each.signature for each in self.errors)

    @property
    def once(self) -> tuple[LoggedError, ...]:
        """Its errors of a signature that it has only once: so often comes one that was never seen before.

        A text with a name in it, like `no card of anna`, is new each time. This is the estimate of Good and Turing.
        """
        times = Counter(each.signature for each in self.errors)
        return tuple(each for each in self.errors if times[each.signature] == 1)


def log_window(lines: Sequence[str], rules: Logs, begun: float, ended: float) -> LogWindow:
    """Return the window of *lines* from *begun* to *ended*; it begins later if the log was cut to `tail` lines."""
    inside = [line for line in lines if begun <= split_stamp(line)[0] <= ended]
    if docker.is_cut(lines, rules.max_lines) and inside:
        begun = max(begun, split_stamp(inside[0])[0])
    return scan_window(inside, rules, begun, ended)


def scan_window(lines: Sequence[str], rules: Logs, begun: float, ended: float) -> LogWindow:
    """Return the window from *begun* to *ended*, of which *lines* are all."""
    inside = [line for line in lines if begun <= split_stamp(line)[0] <= ended]
    found = scan_log(inside, rules)
    blind = found.structured and not found.leveled
    return LogWindow(tuple(found.errors), len(inside), max(0.0, ended - begun), ended, blind)


def baseline_window(lines: Sequence[str], rules: Logs, begun: float, ended: float) -> LogWindow | None:
    """Return the log from *begun* to *ended* to compare with; *lines* are all that is left of it since *begun*.

    None if they begin only after *ended*.
    """
    found = log_window(lines, rules, begun, ended)
    first = split_stamp(lines[0])[0] if lines else begun
    if first - begun <= START_LOG_S:  # what a service says at its start is there, so nothing was removed
        return found
    # The engine has rotated the log, or somebody has truncated it: nothing is known of the time before its first line.
    # Or the service is a quiet one, of which a window that begins with its only line would make a busy one. Nobody
    # tells these apart, so the window begins one mean distance between two lines before the first: of a busy log that
    # is its first line, and a quiet one counts for as long as its few lines prove.
    left_s = ended - first
    seconds = min(found.seconds, left_s + left_s / max(1, found.lines))
    return replace(found, seconds=seconds) if left_s > 0 else None


def read_baseline(old: Container, rules: Logs) -> LogWindow | None:
    """Read the log of *old* before a recreate deletes it; None if it cannot be read."""
    started, stopped = seconds_of(old.started_at), seconds_of(old.finished_at)
    try:
        ended = max(stopped, seconds_of(docker.daemon_time(old.engine)) if old.running else 0.0)
        tail = docker.logs(old.id, since=started - ROUNDING_S, tail=rules.max_lines, engine=old.engine)
        recent = baseline_window(tail, rules, started, ended)
        if recent is None or not docker.is_cut(tail, rules.max_lines):
            return recent
        # `until` ends the stream at the first later line: the rest of the log is not read.
        read_until = started + START_LOG_S
        head = docker.logs(old.id, since=started - ROUNDING_S, until=read_until, tail=None, engine=old.engine)
    except EngineUnavailable:
        return None
    if not head:  # rotated away
        return recent
    if docker.is_cut(head, docker.MOST_HEAD_LINES):
        read_until = max(started, split_stamp(head[-1])[0])
    first = scan_window(head, rules, started, min(read_until, ended - recent.seconds))
    seconds = first.seconds + recent.seconds
    return LogWindow(first.errors + recent.errors, first.lines + recent.lines, seconds, ended)


def baseline_until_verified(
    found: Container,
    verified_at: float,
    rules: Logs,
    now: Callable[[], str] = docker.daemon_time,
    read: Callable[..., list[str]] = docker.logs,
) -> LogWindow | None:
    """Return what a young container logged until its gate passed at *verified_at*, as baseline for the watch.

    None for a container that is old enough to be compared with its own last minutes, or whose log cannot be read.
    """
    try:
        started = seconds_of(found.started_at)
        if seconds_of(now()) - started >= LOG_WINDOW_S + MIN_EXPOSURE_S:
            return None
        lines = read(found.id, since=started - ROUNDING_S, until=verified_at, tail=rules.max_lines)
    except EngineUnavailable:
        return None
    return baseline_window(lines, rules, started, verified_at)


def log_errors(found: Container, before: LogWindow | None, rules: Logs) -> Verdict:
    """Check the log of the last ten minutes, or since the start, against the baseline *before*.

    Without a baseline, the earlier log of the same container is used.
    """
    try:
        now = seconds_of(docker.daemon_time(found.engine))
        started = seconds_of(found.started_at)
        lines = docker.logs(found.id, since=started - ROUNDING_S, tail=rules.max_lines, engine=found.engine)
    except EngineUnavailable as error:
        if docker.NO_READING in str(error):
            return not_asked("logs", f"{found.name}: {error}")
        return unknown("logs", str(error))
    begun = max(started, now - LOG_WINDOW_S)
    if before is None and begun - started >= MIN_EXPOSURE_S:
        before = baseline_window(lines, rules, started, begun)
    return judge_logs(log_window(lines, rules, begun, now), before, rules.min_errors)


def judge_logs(now: LogWindow, before: LogWindow | None, floor: int) -> Verdict:
    """Judge by the rules at the top of this file; *floor* is `[logs] min_errors`."""
    count = len(now.errors)
    known = before.signatures if before else frozenset()
    fresh = [each for each in now.errors if each.signature not in known]
    evidence = _log_evidence(now, before, fresh)
    errors = f"{count or 'no'} error{'s' if count != 1 else ''}"
    summary = f"{errors} in {approx_duration(now.seconds)} ({now.lines} log lines)"
    if count < floor and now.blind:
        return not_asked("logs", f"{summary}, and {NO_LEVEL}")
    if count < floor:
        return yes("logs", summary if not count else f"{summary}, fewer than {floor}", **evidence)
    crashes = [each for each in fresh if each.severe]
    go_on = any(each.at >= now.ended - now.seconds / 3 for each in fresh)
    times = Counter(each.signature for each in crashes)
    most = max(times.values(), default=0)
    if are_new_crashes(times, most, now.seconds, before, floor=floor, alpha=SPIKE_ALPHA):
        problem = f"{len(crashes)} crashes of a new kind in {approx_duration(now.seconds)}: {_most(crashes)}"
    elif before and _is_spike(now, before):
        old = f"before it were {len(before.errors)} in {approx_duration(before.seconds)}"
        problem = f"{summary}, {old}: {_most(fresh or now.errors)}"
    elif (before is None or before.seconds < MIN_EXPOSURE_S) and len(fresh) >= floor and go_on:
        problem = f"{summary}, and they go on, nothing earlier to compare with: {_most(fresh)}"
    else:
        why = "as before" if before else "none lately, nothing earlier to compare with"
        return yes("logs", f"{summary}, {why}", **evidence)
    return no("logs", problem, **evidence)


def are_new_crashes(
    times: Mapping[str, int],
    most: int,
    seconds: float,
    before: LogWindow | None,
    *,
    floor: int,
    alpha: float,
) -> bool:
    """Whether crashes of unknown signatures (*times* of each, *most* of one) are enough, and no new texts by chance."""
    number, once = sum(times.values()), sum(each.severe for each in before.once) if before else 0
    by_chance = most < floor and once and before and more_often(number, seconds, once, before.seconds) > alpha
    return number >= floor and not by_chance


def _is_spike(now: LogWindow, before: LogWindow) -> bool:
    """Whether neither the rate nor the worst window of the baseline explains the errors."""
    count = len(now.errors)
    by_rate = more_often(count, now.seconds, len(before.errors), before.seconds)
    in_worst = more_often(count, 1, worst_stretch(before, now.seconds), 1)
    return by_rate <= SPIKE_ALPHA and in_worst <= WORST_WINDOW_ALPHA


def worst_stretch(before: LogWindow, seconds: float) -> int:
    """Return the highest number of errors in any window of *seconds*."""
    times = sorted(each.at for each in before.errors)
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] > seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def _most(errors: Sequence[LoggedError]) -> str:
    name, times = Counter(each.signature for each in errors).most_common(1)[0]
    example = next(each.text for each in errors if each.signature == name)
    return f"{times} × {example}"


def _log_evidence(now: LogWindow, before: LogWindow | None, fresh: Sequence[LoggedError]) -> dict[str, Any]:
    top = Counter(each.signature for each in now.errors).most_common(5)
    return {
        "errors": len(now.errors), "seconds": round(now.seconds, 1), "lines": now.lines,
        "errors_before": len(before.errors) if before else None,
        "seconds_before": round(before.seconds, 1) if before else None,
        "new_kinds": len({each.signature for each in fresh}), "most": [f"{n} × {name}" for name, n in top],
    }  # fmt: skip
