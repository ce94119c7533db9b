"""The proxy's access log: each line is one finished request and the color that answered it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from cutover.proxy.base import COLORS

MAX_LINE_BYTES = 64 * 1024
BUFFER_BYTES = 256 * 1024
# Longer than a proxy buffers lines (nginx: access_log … flush=5s).
LOG_DELAY_S = 10.0
LOG_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as the proxy logged it.

    `ts` is its end (seconds since 1970), `seconds` its duration for the user; `color` is empty if the proxy answered
    by itself; `connection` identifies the user's connection; `path` has no query, because queries may hold secrets.
    """

    ts: float
    color: str
    status: int
    seconds: float
    connection: str
    method: str
    path: str
    lost: bool = False
    """nginx did not see the marker directory."""


def parse_log_line(line: str) -> LoggedRequest | None:
    """The request in *line*, in our format (nginx, HAProxy) or in Traefik's; None for any other line."""
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict):
            return None
        return _of_traefik(entry) if "DownstreamStatus" in entry else _of_our_format(entry)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _of_our_format(entry: Mapping[str, Any]) -> LoggedRequest:
    return LoggedRequest(
        ts=float(entry["ts"]),
        color=_color(entry["color"]) if entry.get("upstream_addr", "-") not in {"", "-"} else "",
        status=int(entry["status"]),
        seconds=float(entry["seconds"]) if "seconds" in entry else float(entry["ms"]) / 1000,
        connection=str(entry["connection"]),
        method=str(entry["method"]),
        path=urlsplit(str(entry["path"])).path,
        lost=entry.get("marker") == "lost",
    )


def _of_traefik(entry: Mapping[str, Any]) -> LoggedRequest:
    seconds = float(entry["Duration"]) / 1e9
    return LoggedRequest(
        ts=datetime.fromisoformat(str(entry["StartUTC"])).timestamp() + seconds,
        color=_color(entry.get("ServiceName", "")),
        status=int(entry["DownstreamStatus"]),
        seconds=seconds,
        connection=str(entry.get("ClientAddr", "")),
        method=str(entry["RequestMethod"]),
        path=urlsplit(str(entry["RequestPath"])).path,
    )


def _color(name: object) -> str:
    # Traefik names a service `blue@file`.
    word = str(name).partition("@")[0]
    return word if word in COLORS else ""


@dataclass(slots=True)
class LogTail:
    """Reads the requests that are appended to a log, across rotation and truncation, in constant memory.

    It begins at the end that the file has now (`from_start=True`: at its beginning). A missing file counts as empty:
    the proxy may not have written yet. So does a file that cannot be read, and `trouble` says why.
    """

    path: Path
    from_start: bool = False
    trouble: str = field(default="", init=False)
    _file: BinaryIO | None = field(default=None, init=False)
    _rest: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self._open()
        if self._file is not None and not self.from_start:
            self._file.seek(0, os.SEEK_END)

    def read_new(self, limit: int = 20_000) -> list[LoggedRequest]:
        """At most *limit* requests since the last call, the oldest first; the next call continues from there."""
        found: list[LoggedRequest] = []
        for line in self._lines():
            request = parse_log_line(line)
            if request is not None:
                found.append(request)
            if len(found) >= limit:
                break
        return found

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def __del__(self) -> None:
        self.close()

    def _lines(self) -> Iterator[str]:
        if self._file is None:
            self._open()
        while self._file is not None:
            line = self._file.readline(MAX_LINE_BYTES)
            if line.endswith(b"\n"):
                whole, self._rest = self._rest + line, b""
                yield whole.decode(errors="replace")
            elif line:  # an incomplete line, or one that is too long to be a request
                self._rest = (self._rest + line)[-MAX_LINE_BYTES:]
            elif not self._rotated():
                return

    def _open(self) -> None:
        try:
            self._file = self.path.open("rb", buffering=BUFFER_BYTES)
            self.trouble = ""
        except OSError as error:
            self._note_trouble(error)

    def _note_trouble(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            self.trouble = f"{self.path} cannot be read: {(error.strerror or str(error)).lower()}"

    def _rotated(self) -> bool:
        assert self._file is not None  # noqa: S101 - the caller has read from it
        try:
            there = self.path.stat()
        except OSError as error:
            self._note_trouble(error)
            return False
        mine = os.fstat(self._file.fileno())
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            self.close()
            self._open()
            return self._file is not None
        if mine.st_size < self._file.tell():  # truncated
            self._file.seek(0)
            self._rest = b""
            return True
        return False


def why_log_lacks(
    path: Path,
    request: Callable[[], object],
    *,
    within_s: float = LOG_DELAY_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Why the log at *path* does not show *request*, a call that sends one through the proxy; empty if it does."""
    tail = LogTail(path)
    request()
    until = clock() + within_s
    while not tail.trouble and not tail.read_new(limit=1):
        if clock() < until:
            sleep(LOG_POLL_S)
        elif path.exists():
            why = "is it this proxy's, in the format of deploy/proxy?"
            return f"{path} does not show the request that was just made: {why}"
        else:
            return f"{path} is not there: which file does the proxy log to?"
    return f"{tail.trouble}; who releases must be in its group" if tail.trouble else ""
