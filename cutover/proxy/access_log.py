"""The proxy's access log: each line is one finished request and the color that answered it."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

from cutover.proxy.base import COLORS

MAX_LINE_BYTES = 64 * 1024
NEWEST_BYTES = 1 << 22  # about 20,000 requests
BUFFER_BYTES = 256 * 1024
# Longer than a proxy buffers lines (nginx: access_log … flush=5s).
LOG_DELAY_S = 10.0
LOG_POLL_S = 0.02
FAILED_STATUS = 500
GAVE_UP = 499  # nginx and Traefik: the client closed the connection before the answer
LEAST_STATUS = 100
OUR_AGENT = "cutover"
WITHOUT_BODY = frozenset({"101", "204", "304"})

Failure = Literal["", "failed", "given up", "cut short"]


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as the proxy logged it.

    `ts` is its end (seconds since 1970), `seconds` its duration for the user; `color` is empty if the proxy answered
    by itself; `connection` identifies the user's connection; `path` has no query.
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
    agent: str | None = None
    """The user agent of a request of ours, empty for a request of a user; None if the log does not tell them apart."""
    query: str = ""
    """What is sent again to compare two releases; no report shows its values."""
    cut: bool = False
    """Whether the answer ended before it was complete."""

    @property
    def failure(self) -> Failure:
        """How the user failed to get an answer: an error, none in time, or only a part of it; empty if it was given."""
        if self.status == GAVE_UP or self.status < LEAST_STATUS:
            return "given up"
        if self.status >= FAILED_STATUS:
            return "failed"
        return "cut short" if self.cut else ""

    def is_ours(self, paths: frozenset[str]) -> bool:
        """Whether we sent it: by its user agent, or, where the log has none, because its path is one of *paths*."""
        return self.path in paths if self.agent is None else bool(self.agent)


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
    end = str(entry.get("end", ""))
    return LoggedRequest(
        ts=float(entry["ts"]),
        color=_color(entry["color"]) if entry.get("upstream_addr", "-") not in {"", "-"} else "",
        status=GAVE_UP if end[:2] in {"CQ", "CC", "CH"} else int(entry["status"]),  # HAProxy logs it as 400
        seconds=float(entry["seconds"]) if "seconds" in entry else float(entry["ms"]) / 1000,
        connection=str(entry["connection"]),
        method=str(entry["method"]),
        path=urlsplit(str(entry["path"])).path,
        query=urlsplit(str(entry["path"])).query,
        lost=entry.get("marker") == "lost",
        agent=_agent(entry.get("agent")),
        cut=_was_cut(end) or _is_shorter(entry),
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
        query=urlsplit(str(entry["RequestPath"])).query,
        agent=_agent(entry.get("request_User-Agent")),
    )


def _agent(value: object) -> str | None:
    if value is None:
        return None
    word = str(value)
    return word if word == OUR_AGENT or word.startswith(f"{OUR_AGENT}/") else ""


def _is_shorter(entry: Mapping[str, Any]) -> bool:
    # nginx calls an answer complete that the color has cut short, but it counts what it has sent of it.
    length, sent = str(entry.get("length") or ""), str(entry.get("sent") or "")
    has_body = entry["method"] != "HEAD" and str(entry["status"]) not in WITHOUT_BODY
    return has_body and length.isdigit() and sent.isdigit() and int(sent) < int(length)


def _was_cut(end: str) -> bool:
    # nginx: the word `cut`. HAProxy: its termination state: not by the client, while the answer was on its way.
    return end == "cut" or (len(end) > 1 and end[0] in "SPRs" and end[1] in "DL")


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


def newest_requests(path: Path) -> Iterator[LoggedRequest]:
    """The requests in the last 4 MiB of the log, the oldest first; none if there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - NEWEST_BYTES))
            text = file.read(NEWEST_BYTES).decode(errors="replace")
    except OSError:
        return
    yield from filter(None, map(parse_log_line, text.splitlines()))


def why_log_lacks(
    path: Path,
    request: Callable[[str, str], object],
    *,
    within_s: float = LOG_DELAY_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Why the log at *path* does not show the requests of ours; empty if it does.

    *request* sends requests through the proxy: it gets a path that nobody else asks for and a user agent of its own,
    and one of the two must be in the log. Other lines prove nothing: they may be those of another service.
    """
    nonce, tail, others = secrets.token_hex(8), LogTail(path), 0
    token, agent = f"/__cutover/{nonce}", f"{OUR_AGENT}/{nonce}"
    request(token, agent)
    until = clock() + within_s
    while not tail.trouble:
        found = tail.read_new()
        if any(each.path == token or each.agent == agent for each in found):
            return ""
        others += len(found)
        if clock() < until:
            sleep(LOG_POLL_S)
        elif others:
            return f"{path} shows {others} other requests, but not the ones that were just made: is it this proxy's?"
        elif path.exists():
            why = "is it this proxy's, in the format of deploy/proxy?"
            return f"{path} does not show the request that was just made: {why}"
        else:
            return f"{path} is not there: which file does the proxy log to?"
    return f"{tail.trouble}; who releases must be in its group"
