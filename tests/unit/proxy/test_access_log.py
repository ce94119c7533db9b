"""What the proxies write for each request, and how it is read while they write it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cutover.core.change import Argv
from cutover.proxy.access_log import (
    AccessLog,
    LoggedRequest,
    LogTail,
    LogTails,
    newest_requests,
    parse_log_line,
    why_log_lacks,
)
from cutover.proxy.place import (
    THIS_HOST,
    Follower,
    FrontFile,
    Piece,
    Place,
    Position,
    clock_ahead,
    parse_piece,
)
from cutover.system import process
from cutover.system.process import CompletedCommand
from cutover.system.ssh import SshHost
from tests.helpers.proxy_drivers import NearFront, near

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


HAPROXY = {
    "ts": "1796027945.742", "color": "blue", "status": "200", "ms": "201", "total": "1702",
    "upstream_addr": "127.0.0.1:8000", "connection": "127.0.0.1:47360", "method": "GET", "path": "/a",
    "agent": "-", "end": "----",
}  # fmt: skip


@pytest.mark.parametrize(
    ("other", "end", "seconds"),
    [
        ({}, 1796027947.444, 0.201),
        ({"ts": "1796027945.540", "total": "201"}, 1796027945.741, 0.201),
        (
            {"ts": "1796027947.689", "status": "400", "ms": "51", "total": "751", "end": "CH--"},
            1796027948.44,
            0.051,
        ),
        ({"ms": "1702", "total": None}, 1796027947.444, 1.702),
    ],
    ids=["second of its connection", "first", "given up", "former format"],
)
def test_reads_haproxy(other: dict[str, str | None], end: float, seconds: float) -> None:
    """The end lies idle and active time after `ts`; only the active time is the user's, where the log has it."""
    row = {key: value for key, value in (HAPROXY | other).items() if value is not None}
    seen = parse_log_line(json.dumps(row))
    assert seen is not None
    assert seen.ts == pytest.approx(end, abs=1e-4)
    assert seen.seconds == pytest.approx(seconds)
    assert (seen.color, seen.connection, seen.agent) == ("blue", "127.0.0.1:47360", "")


def test_the_shipped_haproxy_logs_no_idle_time_as_the_users() -> None:
    """`Ta` is the request's own time, `Tt` also that of its idle connection."""
    text = (Path(__file__).parents[3] / "deploy/proxy/haproxy/haproxy.cfg").read_text()
    assert '"ts":"%Ts.%ms"' in text
    assert '"ms":"%Ta","total":"%Tt"' in text


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
        (
            {"status": "101", "end": "SD--"},
            "failure",
            "",
        ),  # a WebSocket is always ended by one of the two sides
        ({"status": "101", "end": "sD--"}, "failure", ""),
        ({"status": "101", "end": "cut"}, "failure", ""),
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


NEAR = near("web-1")


@pytest.fixture(params=[THIS_HOST, NEAR], ids=["this host", "a front"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> AccessLog:
    """A log that nobody has written to yet."""
    return AccessLog(tmp_path / "log", request.param)


def numbers(tail: LogTail, **more: int) -> list[int]:
    """The connections of the new requests."""
    return [int(each.connection.removeprefix("web-1 ")) for each in tail.read_new(**more)]


def write(path: Path, *connections: int, end: str = "\n") -> None:
    """Append a line for each connection."""
    with path.open("a") as log:
        log.write("".join(nginx(connection=str(each)) + end for each in connections))


def test_tail_begins_at_the_end(log: AccessLog) -> None:
    """What was there before is not new, what comes later is, once."""
    write(log.path, 1, 2)
    tail = LogTail(log)
    assert numbers(tail) == []
    write(log.path, 3)
    assert numbers(tail) == [3]
    assert numbers(tail) == []


def test_tail_waits_for_a_whole_line(log: AccessLog) -> None:
    """Half a line counts when its other half has come."""
    tail = LogTail(log)
    write(log.path, 1, end="")
    assert numbers(tail) == []
    with log.path.open("a") as more:
        more.write("\n")
    assert numbers(tail) == [1]


def test_tail_follows_a_rotation(log: AccessLog) -> None:
    """Nothing is lost when the log is moved away, also not what was written to the old one afterwards."""
    tail = LogTail(log)
    write(log.path, 1)
    assert numbers(tail) == [1]
    old = log.path.rename(log.path.with_name("log.1"))
    assert numbers(tail) == []
    write(old, 2)
    assert numbers(tail) == [2]
    write(old, 3)
    write(log.path, 4)
    assert [*numbers(tail), *numbers(tail)] == [3, 4]


def test_tail_follows_a_truncation(log: AccessLog) -> None:
    """A log that was emptied in place is read from its beginning."""
    tail = LogTail(log)
    write(log.path, 1, 2, 3)
    assert numbers(tail) == [1, 2, 3]
    log.path.write_text("")
    write(log.path, 4)
    assert numbers(tail) == [4]


def test_tail_of_a_log_to_come(log: AccessLog) -> None:
    """A log that is not there yet is empty, and new from its first line on."""
    tail = LogTail(log)
    assert numbers(tail) == []
    assert (tail.missing, tail.trouble) == (True, "")
    write(log.path, 1)
    assert numbers(tail) == [1]
    assert not tail.missing


def test_tail_gives_no_more_than_asked(log: AccessLog) -> None:
    """A burst comes in portions, so that its memory is bounded."""
    write(log.path)
    tail = LogTail(log)
    write(log.path, *range(10))
    assert [numbers(tail, limit=4) for _ in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


def test_tail_survives_a_line_without_end(log: AccessLog) -> None:
    """A monstrous line costs no memory, and the next one is read."""
    tail = LogTail(log)
    log.path.write_bytes(b"x" * 1_000_000 + b"\n")
    write(log.path, 1)
    assert numbers(tail) == [1]


def test_tail_begins_when_it_is_made(log: AccessLog) -> None:
    """What comes between its making and its first read counts."""
    write(log.path, 1)
    tail = LogTail(log)
    write(log.path, 2)
    assert numbers(tail) == [2]
    tail.close()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (THIS_HOST, "{log} cannot be read: is a directory"),
        (NEAR, "web-1: {log} cannot be read: it is no regular file"),
    ],
    ids=["this host", "a front"],
)
def test_tail_of_a_log_that_may_not_be_read(place: Place, why: str, tmp_path: Path) -> None:
    """It is empty and says why, also when it became so by a rotation; it is read again when it may be."""
    log = tmp_path / "log"
    tail = LogTail(AccessLog(log, place))
    write(log, 1)
    assert numbers(tail) == [1]
    (tmp_path / "old").mkdir()
    log.rename(tmp_path / "old" / "log")
    log.mkdir()  # what nobody can read as a file, not even root
    assert numbers(tail) == []
    assert tail.trouble == why.format(log=log)
    log.rmdir()
    write(log, 2)
    assert numbers(tail) == [2]
    assert tail.trouble == ""


def test_a_log_of_any_size_is_read_piece_by_piece(tmp_path: Path) -> None:
    """Of a front at most as many bytes are asked for as wanted; each piece begins where the last one ended."""
    path = tmp_path / "a log; it's \u00fc"
    content = bytes(range(256)) * 1024
    path.write_bytes(content)
    at, piece = NEAR.read(path, Position("", 200_000), 70_000)
    assert piece.content == content[-200_000:][:70_000]
    for size in (70_001, 59_999, 0):
        before = at.offset
        at, piece = NEAR.read(path, at, 70_001)
        assert (piece.content, piece.anew) == (content[before : before + size], False)
    assert at.offset == len(content)
    assert NEAR.newest(path).content == content


class Greeting(NearFront):
    """A front whose shell prints a line first, as a start file may."""

    def _ask(self, words: Argv, deadline_s: float) -> CompletedCommand:
        return process.run(("sh", "-c", 'echo hello; exec "$@"', "sh", *words), deadline_s=deadline_s)


def test_what_a_shell_prints_first_is_no_log(log: AccessLog) -> None:
    """It is said, and nothing is taken for a request or for an empty log."""
    write(log.path, 1)
    greeting = AccessLog(log.path, Greeting(SshHost("web-1", None)))
    requests, troubles = newest_requests([log, greeting])
    assert len(requests) == 1
    assert troubles[greeting].startswith(
        f"web-1: {log.path} cannot be read: no log in its answer, which begins with 'hello"
    )


@pytest.mark.parametrize(
    ("there", "asked", "answered", "ahead"),
    [(100, 100.2, 100.3, 0.0), (99, 100.0, 100.2, 0.0), (130, 100.0, 100.5, 29.5), (70, 100.0, 100.5, -29.0)],
)
def test_the_clock_of_a_front_is_compared(there: int, asked: float, answered: float, ahead: float) -> None:
    """As far as it is surely off, which is what the end of a request is corrected by."""
    assert clock_ahead(there, asked, answered) == ahead
    _, piece = parse_piece(f"1:2 0 {there}\n", Position(), asked, answered)
    found = AccessLog(Path("log"), NEAR).request(nginx().encode(), piece.ahead_s)
    assert found is not None
    assert found.ts == 1764111600.25 - ahead
    assert (found.place, found.connection) == ("web-1", "web-1 17")


def test_a_front_is_read_once_a_second_and_delays_nobody() -> None:
    """While it is silent the caller goes on, and is told so after five seconds; then it reads what was missed."""
    now, asked, works = [0.0], list[Position](), list[Callable[[], None]]()

    def ask(at: Position, most: int) -> tuple[Position, Piece]:
        asked.append(at)
        return Position("1:2", at.offset + 5), Piece(b"abcd\n" if most else b"")

    file = FrontFile(ask, works.append, lambda: now[0])
    for now[0] in (0.0, 0.3, 0.9):
        assert file.read() == Piece()
    assert (len(asked), len(works)) == (1, 1)
    works.pop()()
    assert file.read().content == b"abcd\n"
    assert works == []
    now[0] = 1.0
    assert file.read() == Piece()
    now[0] = 7.0
    with pytest.raises(OSError, match="no answer for 6 s"):
        file.read()
    works.pop()()
    assert file.read().content == b"abcd\n"
    assert asked == [Position(), Position("1:2", 5), Position("1:2", 10)]
    assert file.read() == Piece()
    assert len(works) == 1


def test_the_clock_of_a_front_corrects_what_is_followed() -> None:
    """Also where the answer arrives between two reads that get none."""
    works, line = list[Callable[[], None]](), f"{nginx()}\n".encode()

    class Far(NearFront):
        def follow(self, path: Path) -> Follower:
            del path

            def ask(at: Position, most: int) -> tuple[Position, Piece]:
                return Position("1:2", at.offset + 1), Piece(line if most else b"", ahead_s=120.0)

            return FrontFile(ask, works.append, lambda: 0.0)

    tail = LogTail(AccessLog(Path("log"), Far(SshHost("web-1", None))))
    assert tail.read_new() == []
    works.pop()()
    (found,) = tail.read_new()
    assert found.ts == 1764111600.25 - 120.0


def test_what_ended_before_the_tails_began_is_not_counted(tmp_path: Path) -> None:
    """A node that could not be asked at first delivers the newest part of its log later."""
    tails = LogTails((LogTail(AccessLog(tmp_path / "log")),), since=1764111600.0)
    (tmp_path / "log").write_text("".join(f"{nginx(ts=ts)}\n" for ts in ("1764111599.5", "1764111600.5")))
    assert len(tails.read_new()) == 2
    assert tails.ended == {"green": 1}


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
    request_: Callable[[Path, str, str], None], why: str, log: AccessLog
) -> None:
    """Before anything is changed: a log that shows nothing would let every release pass."""
    now = count()
    said = why_log_lacks(
        log,
        lambda path, agent: request_(log.path, path, agent),
        clock=lambda: float(next(now)),
        sleep=lambda _s: None,
    )
    if log.place == NEAR:
        why = why.replace("is a directory; who releases must be in its group", "it is no regular file")
    assert said.removeprefix(f"{log} ").startswith(why)
    assert bool(said) is bool(why)
