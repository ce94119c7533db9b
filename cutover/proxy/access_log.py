"""The proxy's access log: each line is one finished request and the color that answered it."""

from __future__ import annotations

import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cutover.core.config import Settings
from cutover.core.text import parse_json
from cutover.proxy.base import COLORS, clients
from cutover.proxy.place import THIS_HOST, Follower, Place
from cutover.system.process import of_each

MAX_LINE_BYTES = 64 * 1024
# Longer than a proxy buffers lines (nginx: access_log … flush=5s).
LOG_DELAY_S = 10.0
LOG_POLL_S = 0.02
LOG_STEP_S = 1.0  # some logs give their times in whole seconds
FAILED_STATUS = 500
GAVE_UP = 499  # nginx and Traefik: the client closed the connection before the answer
LEAST_STATUS = 100
TUNNEL = 101
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
    place: str = ""
    """The node whose proxy logged it; empty for this host."""

    @property
    def failure(self) -> Failure:
        """How the user failed to get an answer: an error, none in time, or only a part of it; empty if it was given."""
        if self.status == GAVE_UP or self.status < LEAST_STATUS:
            return "given up"
        if self.status >= FAILED_STATUS:
            return "failed"
        # A tunnel has no complete answer: it is always ended by one of the two sides.
        return "cut short" if self.cut and not self.is_tunnel else ""

    @property
    def is_tunnel(self) -> bool:
        """Whether it became a WebSocket or another tunnel: its duration is the whole life of that."""
        return self.status == TUNNEL

    def is_ours(self, paths: frozenset[str]) -> bool:
        """Whether we sent it: by its user agent, or, where the log has none, because its path is one of *paths*."""
        return self.path in paths if self.agent is None else bool(self.agent)


def parse_log_line(line: str) -> LoggedRequest | None:
    """The request in *line*, in our format (nginx, HAProxy) or in Traefik's; None for any other line."""
    try:
        entry = parse_json(line)
        if not isinstance(entry, dict):
            return None
        return _of_traefik(entry) if "DownstreamStatus" in entry else _of_our_format(entry)
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _of_our_format(entry: Mapping[str, Any]) -> LoggedRequest:
    end = str(entry.get("end", ""))
    # HAProxy logs when its connection was ready for the request: idle and active time lead from there to the end.
    total_ms = float(entry.get("total", entry.get("ms", 0.0)))
    return LoggedRequest(
        ts=float(entry["ts"]) + total_ms / 1000,
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


@dataclass(frozen=True, slots=True)
class AccessLog:
    """The access log of the proxy at one place."""

    path: Path
    place: Place = THIS_HOST

    def __str__(self) -> str:
        return f"{self.place.name}: {self.path}" if self.place.name else str(self.path)

    def request(self, line: bytes, ahead_s: float = 0.0) -> LoggedRequest | None:
        """The request in *line*, by the clock of this host, which that of the log is *ahead_s* ahead of."""
        request, name = parse_log_line(line.decode(errors="replace")), self.place.name
        if request is None or not name:
            return request
        # Each proxy numbers the connections of its own.
        connection = f"{name} {request.connection}"
        return replace(request, ts=request.ts - ahead_s, connection=connection, place=name)

    def trouble(self, error: OSError) -> str:
        """Why it cannot be read; empty if there is none yet, since the proxy may not have written."""
        if isinstance(error, FileNotFoundError):
            return ""
        return f"{self} cannot be read: {error.strerror.lower() if error.strerror else error}"


def access_logs(settings: Settings) -> tuple[AccessLog, ...]:
    """`[proxy] access_log` of each proxy; empty if it is not named."""
    path = settings.proxy.access_log if settings.proxy else None
    return tuple(AccessLog(path, place) for place in clients(settings)) if path else ()


@dataclass(slots=True)
class LogTail:
    """Reads the requests that are appended to a log, across rotation and truncation, in constant memory.

    It begins at the end that the file has now. A missing file counts as empty: the proxy may not have written yet.
    So does a file that cannot be read, and `trouble` says why.
    """

    log: AccessLog
    trouble: str = field(default="", init=False)
    missing: bool = field(default=False, init=False)
    _file: Follower = field(init=False)
    _lines: deque[tuple[bytes, float]] = field(default_factory=deque, init=False)
    """Each with how far the clock of its place is ahead."""
    _rest: bytes = field(default=b"", init=False)

    def __post_init__(self) -> None:
        self._file = self.log.place.follow(self.log.path)

    def read_new(self, limit: int = 20_000) -> list[LoggedRequest]:
        """At most *limit* requests since the last call, the oldest first; the next call continues from there."""
        return list(islice(filter(None, self._requests()), limit))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _requests(self) -> Iterator[LoggedRequest | None]:
        while self._lines or self._read_on():
            while self._lines:
                yield self.log.request(*self._lines.popleft())

    def _read_on(self) -> bool:
        """Whether there was more to read."""
        try:
            piece = self._file.read()
        except OSError as error:
            self.trouble, self.missing = self.log.trouble(error), isinstance(error, FileNotFoundError)
            return False
        self.trouble, self.missing = "", False
        *whole, rest = ((b"" if piece.anew else self._rest) + piece.content).split(b"\n")
        self._lines.extend((line, piece.ahead_s) for line in whole)
        self._rest = rest[-MAX_LINE_BYTES:]  # an incomplete line, or one that is too long to be a request
        return bool(piece.content)


@dataclass(frozen=True, slots=True)
class LogTails:
    """The tails of the logs of all proxies."""

    tails: tuple[LogTail, ...]
    since: float = field(default_factory=lambda: time.time() - LOG_STEP_S)
    ended: Counter[str] = field(default_factory=Counter)
    """How many requests each color has ended *since* the tails began, as far as they were read."""

    @classmethod
    def of(cls, logs: Sequence[AccessLog]) -> LogTails:
        """Tails that begin at the ends that the files have now."""
        return cls(tuple(of_each(LogTail, logs)))

    def read_new(self) -> list[LoggedRequest]:
        """The requests since the last call; of one that was not read meanwhile they come later."""
        found = [each for tail in self.tails for each in tail.read_new()]
        self.ended.update(each.color for each in found if each.ts >= self.since)
        return sorted(found, key=lambda each: each.ts) if len(self.tails) > 1 else found

    @property
    def trouble(self) -> str:
        """Why some of them cannot be read; empty if all can."""
        return "; ".join(each.trouble for each in self.tails if each.trouble)

    def without(self, places: Container[str]) -> str:
        """The logs of other *places* than these; empty without any."""
        return " and ".join(str(each.log) for each in self.tails if each.log.place.name not in places)


def newest_requests(logs: Sequence[AccessLog]) -> tuple[list[LoggedRequest], dict[AccessLog, str]]:
    """The requests in the last 4 MiB of each log, the oldest first; and why a log could not be read."""

    def read(log: AccessLog) -> tuple[list[LoggedRequest], str]:
        try:
            piece = log.place.newest(log.path)
        except OSError as error:
            return [], log.trouble(error)
        found = (log.request(line, piece.ahead_s) for line in piece.content.splitlines())
        return [each for each in found if each is not None], ""

    found = dict(zip(logs, of_each(read, logs), strict=True))
    requests = [each for newest, _ in found.values() for each in newest]
    troubles = {log: trouble for log, (_, trouble) in found.items() if trouble}
    return sorted(requests, key=lambda each: each.ts) if len(logs) > 1 else requests, troubles


def why_log_lacks(
    log: AccessLog,
    request: Callable[[str, str], object],
    *,
    within_s: float = LOG_DELAY_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Why *log* does not show the requests of ours; empty if it does.

    *request* sends requests through the proxy: it gets a path that nobody else asks for and a user agent of its own,
    and one of the two must be in the log. Other lines prove nothing: they may be those of another service.
    """
    nonce, tail, others = secrets.token_hex(8), LogTail(log), 0
    token, agent = f"/__cutover/{nonce}", f"{OUR_AGENT}/{nonce}"
    request(token, agent)
    until = clock() + within_s
    while True:
        found = tail.read_new()
        if any(each.path == token or each.agent == agent for each in found):
            return ""
        others += len(found)
        if tail.trouble and not log.place.name:
            return f"{tail.trouble}; who releases must be in its group"
        if tail.trouble:
            denied = tail.trouble.endswith("permission denied")
            return f"{tail.trouble}{'; who signs in there must be in its group' if denied else ''}"
        if clock() < until:
            sleep(LOG_POLL_S)
        elif others:
            return f"{log} shows {others} other requests, but not the ones that were just made: is it this proxy's?"
        elif tail.missing:
            return f"{log} is not there: which file does the proxy log to?"
        else:
            why = "is it this proxy's, in the format of deploy/proxy?"
            return f"{log} does not show the request that was just made: {why}"
