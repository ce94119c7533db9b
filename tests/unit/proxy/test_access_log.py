"""What the proxies write for each request, and how it is read while they write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutover.proxy.access_log import LoggedRequest, LogTail, parse_log_line, why_log_lacks

NGINX = {
    "ts": "1764111600.250", "connection": "17",
    "color": "green", "marker": "seen", "status": "200", "seconds": "0.012",
    "method": "POST", "upstream": "0.011", "upstream_addr": "127.0.0.1:8001", "path": "/memories",
}  # fmt: skip
TRAEFIK = {
    "StartUTC": "2025-11-25T23:00:00.123456789Z",
    "Duration": 12_000_000,
    "OriginDuration": 11_000_000,
    "DownstreamStatus": 502, "ServiceName": "blue@file", "ServiceAddr": "127.0.0.1:8000",
    "ClientAddr": "127.0.0.1:40112", "RequestMethod": "GET",
    "RequestPath": "/version?token=s3cret", "level": "info",
}  # fmt: skip


def nginx(**other: str) -> str:
    """A line of nginx with *other* values."""
    return json.dumps(NGINX | other)


def test_reads_nginx() -> None:
    """A line in the shipped format gives color, status, times, connection, method and path."""
    assert parse_log_line(nginx()) == LoggedRequest(
        1764111600.25, "green", 200, 0.012, "17", "POST", "/memories"
    )


def test_reads_traefik() -> None:
    """A line of Traefik gives the same, its end computed from start and duration, its query left out."""
    seen = parse_log_line(json.dumps(TRAEFIK))
    assert seen is not None
    assert seen.ts == pytest.approx(1764111600.135456, abs=1e-5)
    assert (seen.color, seen.status, seen.connection, seen.method, seen.path) == (
        "blue", 502, "127.0.0.1:40112", "GET", "/version",
    )  # fmt: skip
    assert seen.seconds == pytest.approx(0.012)
    ours = parse_log_line(json.dumps(TRAEFIK | {"request_User-Agent": "cutover"}))
    assert ours is not None
    assert (seen.agent, ours.agent) == (None, "cutover")


@pytest.mark.parametrize(
    ("other", "key", "value"),
    [
        ({"upstream_addr": "-"}, "color", ""),
        ({"upstream_addr": ""}, "color", ""),
        ({"color": "red"}, "color", ""),
        ({"marker": "lost"}, "lost", True),
        ({"status": "000"}, "status", 0),
        ({"path": "/a?token=s3cret"}, "path", "/a"),
        ({}, "agent", None),
        ({"agent": ""}, "agent", ""),
        ({"agent": "cutover/1f"}, "agent", "cutover/1f"),
        ({"agent": "cutovers"}, "agent", ""),
        ({"end": "cut"}, "failure", "cut short"),
        ({"end": ""}, "failure", ""),
        ({"length": "1000", "sent": "9"}, "failure", "cut short"),
        ({"length": "1000", "sent": "1000"}, "failure", ""),
        ({"length": "1000", "sent": "0", "method": "HEAD"}, "failure", ""),
        ({"length": "1000", "sent": "0", "status": "304"}, "failure", ""),
        ({"length": "", "sent": "9"}, "failure", ""),
        ({"end": "----"}, "failure", ""),
        ({"end": "SD--"}, "failure", "cut short"),
        ({"end": "CD--"}, "failure", ""),
        ({"status": "499", "end": "cut"}, "failure", "given up"),
        ({"status": "400", "end": "CH--"}, "failure", "given up"),
        ({"status": "-1"}, "failure", "given up"),
        ({"status": "502"}, "failure", "failed"),
        ({"status": "404"}, "failure", ""),
    ],
)
def test_reads_what_is_odd(other: dict[str, str], key: str, value: Any) -> None:
    """What the proxy answered by itself has no color; lists, gaps, a lost marker are understood."""
    assert getattr(parse_log_line(nginx(**other)), key) == value


@pytest.mark.parametrize("line", [
    "", "\n", "{", "[]", "1", "null", '"x"', "{}", '{"DownstreamStatus": 200}',
    nginx(status="-"), nginx(ts="soon"),
    '127.0.0.1 - - [25/Nov/2025] "GET / HTTP/1.1" 200 5', "\x00\xff", json.dumps(TRAEFIK | {"StartUTC": "x"}),
])  # fmt: skip
def test_passes_over_other_lines(line: str) -> None:
    """A line of another kind, or a broken one, is none; it never raises."""
    assert parse_log_line(line) is None


def numbers(tail: LogTail, **more: int) -> list[int]:
    """The connections of the new requests."""
    return [int(each.connection) for each in tail.read_new(**more)]


def write(path: Path, *connections: int, end: str = "\n") -> None:
    """Append a line for each connection."""
    with path.open("a") as log:
        log.write("".join(nginx(connection=str(each)) + end for each in connections))


def test_tail_begins_at_the_end(tmp_path: Path) -> None:
    """What was there before is not new, what comes later is, once."""
    log = tmp_path / "log"
    write(log, 1, 2)
    tail = LogTail(log)
    assert numbers(tail) == []
    write(log, 3)
    assert numbers(tail) == [3]
    assert numbers(tail) == []
    assert numbers(LogTail(log, from_start=True)) == [1, 2, 3]


def test_tail_waits_for_a_whole_line(tmp_path: Path) -> None:
    """Half a line counts when its other half has come."""
    log = tmp_path / "log"
    tail = LogTail(log, from_start=True)
    write(log, 1, end="")
    assert numbers(tail) == []
    write(log, end="")
    with log.open("a") as more:
        more.write("\n")
    assert numbers(tail) == [1]


def test_tail_follows_a_rotation(tmp_path: Path) -> None:
    """Nothing is lost when the log is moved away, also not what was written to the old one afterwards."""
    log = tmp_path / "log"
    write(log, 1)
    tail = LogTail(log, from_start=True)
    assert numbers(tail) == [1]
    old = log.rename(tmp_path / "log.1")
    assert numbers(tail) == []
    write(old, 2)
    write(log, 3)
    assert numbers(tail) == [2, 3]


def test_tail_follows_a_truncation(tmp_path: Path) -> None:
    """A log that was emptied in place is read from its beginning."""
    log = tmp_path / "log"
    write(log, 1, 2, 3)
    tail = LogTail(log, from_start=True)
    assert numbers(tail) == [1, 2, 3]
    log.write_text("")
    write(log, 4)
    assert numbers(tail) == [4]


def test_tail_of_a_log_to_come(tmp_path: Path) -> None:
    """A log that is not there yet is empty, and new from its first line on."""
    tail = LogTail(tmp_path / "log")
    assert numbers(tail) == []
    write(tmp_path / "log", 1)
    assert numbers(tail) == [1]


def test_tail_gives_no_more_than_asked(tmp_path: Path) -> None:
    """A burst comes in portions, so that its memory is bounded."""
    log = tmp_path / "log"
    write(log, *range(10))
    tail = LogTail(log, from_start=True)
    assert [numbers(tail, limit=4) for _ in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


def test_tail_survives_a_line_without_end(tmp_path: Path) -> None:
    """A monstrous line costs no memory, and the next one is read."""
    log = tmp_path / "log"
    log.write_bytes(b"x" * 1_000_000 + b"\n")
    write(log, 1)
    assert numbers(LogTail(log, from_start=True)) == [1]


def test_tail_begins_when_it_is_made(tmp_path: Path) -> None:
    """What comes between its making and its first read counts."""
    log = tmp_path / "log"
    write(log, 1)
    tail = LogTail(log)
    write(log, 2)
    assert numbers(tail) == [2]
    tail.close()


def test_tail_of_a_log_that_may_not_be_read(tmp_path: Path) -> None:
    """It is empty and says why, also when it became so by a rotation; it is read again when it may be."""
    log = tmp_path / "log"
    write(log, 1)
    tail = LogTail(log, from_start=True)
    assert numbers(tail) == [1]
    log.unlink()
    log.mkdir()  # what nobody can read as a file, not even root
    assert numbers(tail) == []
    assert tail.trouble == f"{log} cannot be read: is a directory"
    log.rmdir()
    write(log, 2)
    assert numbers(tail) == [2]
    assert tail.trouble == ""


def shown(log: Path, **other: str) -> None:
    """The proxy logs a request in the shipped format."""
    log.write_text(nginx(**other) + "\n")


def combined(log: Path, _path: str, _agent: str) -> None:
    """The proxy logs in another format."""
    log.write_text('127.0.0.1 - - [25/Nov/2025] "GET / HTTP/1.1" 200 5\n')


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (lambda log, path, _agent: shown(log, path=path), ""),
        (lambda log, _path, agent: shown(log, agent=agent), ""),
        (
            lambda log, _path, _agent: shown(log, agent="cutover/1"),
            "shows 1 other requests, but not the ones that",
        ),
        (lambda _log, _path, _agent: None, "is not there: which file does the proxy log to?"),
        (combined, "does not show the request that was just made"),
        (
            lambda log, _path, _agent: log.mkdir(),
            "cannot be read: is a directory; who releases must be in its group",
        ),
    ],
    ids=[
        "shown by its path",
        "shown by its agent",
        "of another service",
        "missing",
        "another format",
        "unreadable",
    ],
)
def test_the_log_must_show_a_request_of_ours(
    request_: Callable[[Path, str, str], None], why: str, tmp_path: Path
) -> None:
    """Before anything is changed: a log that shows nothing would let every release pass."""
    log, now = tmp_path / "log", iter(range(100))
    said = why_log_lacks(
        log,
        lambda path, agent: request_(log, path, agent),
        clock=lambda: float(next(now)),
        sleep=lambda _s: None,
    )
    assert said.removeprefix(f"{log} ").startswith(why)
    assert bool(said) is bool(why)
