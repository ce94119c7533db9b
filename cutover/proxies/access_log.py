"""The proxy's access log: one line is one request that has ended, with the colour that answered it."""

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

COLOURS = ("blue", "green")
NANOSECOND = 1e-9
LONGEST_LINE = 64 * 1024
CHUNK = 256 * 1024
# Longer than a proxy holds lines back (nginx: access_log … flush=5s).
SHOWN_S = 10.0
PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the proxy saw it.

    `ts` is when it ended (seconds since 1970), `seconds` how long it took the user; `colour` is empty when
    the proxy answered by itself; `connection` names the user's connection; `path` is without the query.
    """

    ts: float
    colour: str
    status: int
    seconds: float
    connection: str
    method: str
    path: str
    upstream_s: float | None = None
    lost: bool = False
    """nginx did not see the marker directory."""


def parse(line: str) -> Request | None:
    """The request in *line*, in our format (nginx, HAProxy) or Traefik's own; None for another line."""
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict):
            return None
        return _traefik(entry) if "DownstreamStatus" in entry else _ours(entry)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _ours(entry: Mapping[str, Any]) -> Request:
    return Request(
        ts=float(entry["ts"]),
        colour=_colour(entry["colour"]) if entry.get("upstream_addr", "-") not in {"", "-"} else "",
        status=int(entry["status"]),
        seconds=float(entry["seconds"]) if "seconds" in entry else float(entry["ms"]) / 1000,
        connection=str(entry["connection"]),
        method=str(entry["method"]),
        path=_path(entry["path"]),
        upstream_s=_upstream(str(entry.get("upstream", ""))),
        lost=entry.get("marker") == "lost",
    )


def _traefik(entry: Mapping[str, Any]) -> Request:
    seconds = float(entry["Duration"]) * NANOSECOND
    origin = entry.get("OriginDuration")
    return Request(
        ts=datetime.fromisoformat(str(entry["StartUTC"])).timestamp() + seconds,
        colour=_colour(entry.get("ServiceName", "")),
        status=int(entry["DownstreamStatus"]),
        seconds=seconds,
        connection=str(entry.get("ClientAddr", "")),
        method=str(entry["RequestMethod"]),
        path=_path(entry["RequestPath"]),
        upstream_s=float(origin) * NANOSECOND if origin else None,
    )


def _colour(name: object) -> str:
    """The colour in a service's name like `blue` or `blue@file`."""
    word = str(name).partition("@")[0]
    return word if word in COLOURS else ""


def _path(target: object) -> str:
    """The path of a request target; a query may hold what no report should."""
    return urlsplit(str(target)).path


def _upstream(text: str) -> float | None:
    """Seconds of `$upstream_response_time`: a list when nginx asked twice, `-` when it did not."""
    parts = [part for part in text.replace(":", ",").replace(" ", "").split(",") if part not in {"", "-"}]
    return sum(float(part) for part in parts) if parts else None


@dataclass(slots=True)
class Tail:
    """Reads what was appended to a log, across rotation and truncation, in constant memory.

    The first call begins at the end of what is there (`from_start=True`: at its beginning). A missing file is
    an empty one: the proxy may not have written yet. One that may not be read is empty too, and `trouble` says so.
    """

    path: Path
    from_start: bool = False
    trouble: str = field(default="", init=False)
    _file: BinaryIO | None = field(default=None, init=False)
    _rest: bytes = field(default=b"", init=False)
    _begun: bool = field(default=False, init=False)

    def read_new(self, limit: int = 20_000) -> list[Request]:
        """At most *limit* requests since the last call, the oldest first; the rest stays for the next."""
        found: list[Request] = []
        for line in self._lines():
            request = parse(line)
            if request is not None:
                found.append(request)
            if len(found) >= limit:
                break
        return found

    def skip(self) -> None:
        """Forget what is there; the next read begins now."""
        self.close()
        self.from_start = False
        self._begun = False
        self._open()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def __del__(self) -> None:
        """Nobody has to remember to close it."""
        self.close()

    def __iter__(self) -> Iterator[Request]:
        """The requests that are there now."""
        while batch := self.read_new():
            yield from batch

    def _lines(self) -> Iterator[str]:
        """Whole lines up to now; a half line waits for its end."""
        self._open()
        while self._file is not None:
            line = self._file.readline(LONGEST_LINE)
            if line.endswith(b"\n"):
                whole, self._rest = self._rest + line, b""
                yield whole.decode(errors="replace")
            elif line:  # half a line, or one so long that it is none of ours
                self._rest = (self._rest + line)[-LONGEST_LINE:]
            elif not self._rotated():
                return

    def _open(self) -> None:
        if self._file is not None:
            return
        try:
            self._file = self.path.open("rb", buffering=CHUNK)
            if not self._begun and not self.from_start:
                self._file.seek(0, os.SEEK_END)
            self.trouble = ""
        except OSError as error:
            self._troubled(error)
        # What appears later is new from its first line on.
        self._begun = True

    def _troubled(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            self.trouble = f"{self.path} cannot be read: {(error.strerror or str(error)).lower()}"

    def _rotated(self) -> bool:
        """At the end of this file: whether there is another one at its place, or it begins again."""
        assert self._file is not None  # noqa: S101 - the caller has just read from it
        try:
            there = self.path.stat()
        except OSError as error:
            self._troubled(error)
            return False
        mine = os.fstat(self._file.fileno())
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            self.close()
            self._open()
            return self._file is not None
        if mine.st_size < self._file.tell():
            self._file.seek(0)
            self._rest = b""
            return True
        return False


def complaint(
    path: Path,
    request: Callable[[], object],
    *,
    within_s: float = SHOWN_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Why the log at *path* does not show *request*, which goes through the proxy; empty when it does."""
    tail = Tail(path)
    tail.skip()
    request()
    until = clock() + within_s
    while not tail.trouble and not tail.read_new(limit=1):
        if clock() >= until:
            return f"{path} {_lacks(path)}"
        sleep(PAUSE_S)
    return f"{tail.trouble}; who releases must be in its group" if tail.trouble else ""


def _lacks(path: Path) -> str:
    if not path.exists():
        return "is not there: which file does the proxy log to?"
    return "does not show the request that was just made: is it this proxy's, in the format of deploy/proxy?"
