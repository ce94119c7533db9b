"""What an error is in a log: lines become errors, called by a signature without numbers and ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cutover.probes.stamps import seconds_of
from cutover.settings import Logs
from cutover.verdict import shortened

TRACEBACK = "Traceback (most recent call last)"
CHAINED = ("During handling of the above", "The above exception was the direct")
SEVERE = re.compile(r"\b(?:CRITICAL|FATAL)\b|\[(?:crit|alert|emerg)\]", re.IGNORECASE)
SEVERE_LEVELS = frozenset(
    {"critical", "crit", "fatal", "alert", "emerg", "emergency", "panic", "dpanic", "60"}
)
LEVEL_KEYS = ("level", "severity", "levelname", "log.level", "lvl", "loglevel", "log_level", "@l")
LEAST_LEVEL = 10  # smaller numbers are verbosities or syslog's, which count the other way round
CRASH = re.compile(
    r"^(?:[\d/:., TZ+-]+ )?(?:panic: |fatal error: |http: panic serving |Exception in thread |thread '.*' panicked at "
    r"|Unhandled [Ee]xception|Uncaught |Segmentation fault|terminate called |\[?UnhandledPromiseRejection)"
)
"""How the last words of Go, Java, Rust, .NET, Node and C++ begin."""
LEVEL = re.compile(
    r"\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b|\blevel=|^[IWEF]\d{4} \d\d:"
    r"|\[(?:debug|info|notice|warn|error|crit|alert|emerg)\]"
)
NO_LEVEL = "no line has a level: [logs] level_key says where it is"
MESSAGE_KEYS = ("message", "msg", "event", "error")
EXCEPTION_KEYS = ("exception", "exc_info", "traceback", "stack", "stack_trace", "error.stack_trace")
VARIES = (
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<uuid>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\d+"), "#"),
)
SAME_EVENT_S = 0.5  # a traceback so soon after an error line, nothing between them, is that error's own


@dataclass(frozen=True, slots=True)
class LoggedError:
    """One error: when, what it is called whatever its numbers, whether it is a crash, and its first line."""

    at: float
    signature: str
    severe: bool
    """A traceback, or a level above error."""
    text: str


def signature(text: str) -> str:
    """*text* without what differs from one time to the next."""
    for pattern, word in VARIES:
        text = pattern.sub(word, text)
    return shortened(text, 160)


def stamped(line: str) -> tuple[float, str]:
    """The engine's stamp of a log line, and the line without it."""
    stamp, _, text = line.partition(" ")
    at = seconds_of(stamp)
    return (at, text) if at else (0.0, line)


@dataclass(frozen=True, slots=True)
class Found:
    """The errors of some lines, and whether errors could be told from others at all."""

    errors: list[LoggedError]
    structured: bool
    """Whether any line was JSON."""
    levelled: bool
    """Whether any line had a level."""


def errors_in(lines: Iterable[str], rules: Logs) -> list[LoggedError]:
    """The errors of stamped log *lines*."""
    return look(lines, rules).errors


def look(lines: Iterable[str], rules: Logs) -> Found:
    """The errors of stamped log *lines*: by level where they are JSON, by pattern and last words where they are text.

    A line of JSON with another level is never an error, whatever words it holds. A traceback is one error,
    together with the error line right before it, and is called by its last line.
    """
    reader = _Reader(rules)
    for line in lines:
        reader.read(*stamped(line))
    allowed = [re.compile(pattern) for pattern in rules.allow]
    errors = [each for each in reader.found if not any(pattern.search(each.text) for pattern in allowed)]
    return Found(errors, reader.structured, reader.levelled)


class _Reader:
    """Reads line by line, and knows whether it is inside a traceback."""

    def __init__(self, rules: Logs) -> None:
        self.rules, self.pattern = rules, re.compile(rules.pattern)
        self.levels = frozenset(level.lower() for level in rules.levels)
        self.keys = (rules.level_key,) if rules.level_key else LEVEL_KEYS
        self.found: list[LoggedError] = []
        self.inside = self.after_error = self.structured = self.levelled = False

    def read(self, at: float, text: str) -> None:
        """Take one line in."""
        if text.startswith(TRACEBACK):
            self._begin_traceback(at, text)
        elif self.inside and (not text.strip() or text[0] in " \t" or text.startswith(CHAINED)):
            return
        elif self.inside:
            self._name_traceback(text)
        else:
            error = self._error(at, text)
            self.found += [error] if error else []
            self.after_error = bool(error)

    def _begin_traceback(self, at: float, text: str) -> None:
        own = self.after_error and at - self.found[-1].at < SAME_EVENT_S
        if own or self.inside:
            self.found[-1] = replace(self.found[-1], severe=True)
        else:
            self.found.append(LoggedError(at, signature(text), severe=True, text=text))
        self.inside, self.after_error = True, False

    def _name_traceback(self, text: str) -> None:
        """The first line that is not indented says which exception it was."""
        self.found[-1] = replace(self.found[-1], signature=signature(text), text=shortened(text))
        self.inside, self.after_error = False, True

    def _error(self, at: float, text: str) -> LoggedError | None:
        row = _row(text)
        if row is not None:
            return self._of_row(at, text, row)
        self.levelled = self.levelled or bool(LEVEL.search(text))
        crash = bool(CRASH.search(text))
        if not crash and not self.pattern.search(text):
            return None
        return LoggedError(at, signature(text), crash or bool(SEVERE.search(text)), shortened(text))

    def _of_row(self, at: float, text: str, row: Mapping[str, Any]) -> LoggedError | None:
        level = self._level(row)
        self.structured, self.levelled = True, self.levelled or bool(level)
        if level not in self.levels:
            return None
        message = next((str(row[key]) for key in MESSAGE_KEYS if row.get(key)), text)
        severe = level in SEVERE_LEVELS or any(row.get(key) for key in EXCEPTION_KEYS)
        return LoggedError(at, signature(message), severe, shortened(message))

    def _level(self, row: Mapping[str, Any]) -> str:
        """The level that *row* names, in small letters; empty for none."""
        for key in self.keys:
            outer, _, inner = key.partition(".")
            value = row.get(key, row[outer].get(inner) if isinstance(row.get(outer), dict) else None)
            if isinstance(value, str) or (isinstance(value, int) and value >= LEAST_LEVEL):
                return str(value).lower()
        return ""


def _row(text: str) -> Mapping[str, Any] | None:
    """The object that a line of structured log is; None for text."""
    if not text.startswith("{"):
        return None
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
