"""The drain: what is in flight by the kernel's table, and when the old color is idle."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import psutil
import pytest

from cutover.core.verdict import Outcome
from cutover.proxy.access_log import LogTails, access_logs
from cutover.proxy.drain import (
    Connection,
    Drained,
    close_gradually,
    drain,
    drain_line,
    requests_in_flight,
    wait_until_idle,
)
from tests.helpers.proxy_drivers import proxy_settings

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 00 100 0 0 10 0
   1: 0100007F:A000 0100007F:1F40 01 00000000:00000000 00:00000000 00000000     0        0 101 1 00 100 0 0 10 0
   2: 0100007F:A001 0100007F:1F40 08 00000000:00000000 00:00000000 00000000     0        0 102 1 00 100 0 0 10 0
   3: 0100007F:A002 0100007F:1F40 06 00000000:00000000 03:00000000 00000000     0        0 0 3 00
   4: 0100007F:A003 0100007F:1F41 01 00000000:00000000 00:00000000 00000000     0        0 104 1 00 100 0 0 10 0
   5: 0100007F:1F40 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 105 1 00 100 0 0 10 0
   6: 010011AC:A004 020011AC:1F40 01 00000000:00000000 00:00000000 00000000     0        0 106 1 00 100 0 0 10 0
"""
V6 = """\
  sl  local_address remote_address st
   0: 0000000000000000FFFF00000100007F:A005 0000000000000000FFFF00000100007F:1F40 01 0:0 0:0 0 0 0 107 1
   1: 00000000000000000000000001000000:A006 00000000000000000000000001000000:1F40 02 0:0 0:0 0 0 0 108 1
   2: B80D0120000000000000000001000000:A007 B80D0120000000000000000002000000:1F40 01 0:0 0:0 0 0 0 109 1
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that psutil reads in place of /proc, with these tables and one process."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TABLE)
    (tmp_path / "net" / "tcp6").write_text(V6)
    (tmp_path / "stat").write_text("btime 1764111600\n")
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))
    psutil.process_iter.cache_clear()
    add_process(tmp_path, 1, "init", "init")
    return tmp_path


def add_process(proc: Path, pid: int, name: str, *argv: str, sockets: tuple[int, ...] = ()) -> None:
    """A process that holds the sockets with these inodes."""
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({name}) S 1" + " 0" * 48)
    (folder / "status").write_text(f"Name:\t{name}\n")
    (folder / "cmdline").write_text("".join(f"{word}\0" for word in argv))
    for number, inode in enumerate(sockets):
        (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")


@pytest.mark.parametrize(
    ("port", "held", "number"),
    [
        (8000, (), 4),
        (8001, (), 1),
        (8002, (), 0),
        (8000, (101, 104, 106), 1),
        (8000, (105,), 0),
    ],
)
def test_what_is_in_flight(port: int, held: tuple[int, ...], number: int, proc: Path) -> None:
    """Connections of the proxy to that port of the loopback, being made, open or half closed; nothing else."""
    if held:
        add_process(proc, 7, "nginx", "nginx", sockets=(100, *held))
        add_process(proc, 8, "other", "other", sockets=(102,))
    assert requests_in_flight(8080, port) == number


def test_workers_of_an_earlier_configuration_count(proc: Path) -> None:
    """Each process of the proxy's name is the proxy, whether it still listens or not."""
    add_process(proc, 7, "nginx", "nginx", sockets=(100,))
    add_process(proc, 8, "nginx", "nginx", sockets=(101, 102))
    assert requests_in_flight(8080, 8000) == 2


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """A listening socket of this process, which is thereby the proxy."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_counts_the_proxys_own_connections(door: socket.socket) -> None:
    """Each connection that the process behind the proxy's port holds to the color's is one in flight."""
    with ExitStack() as stack:
        color = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        ports = door.getsockname()[1], color.getsockname()[1]
        assert requests_in_flight(*ports) == 0
        one = stack.enter_context(socket.create_connection(color.getsockname()))
        stack.enter_context(color.accept()[0])
        assert requests_in_flight(*ports) == 1
        one.close()
        assert requests_in_flight(*ports) == 0


def test_of_nobody_nothing_is_known(door: socket.socket) -> None:
    """Where nobody listens on the proxy's port of this host, its connections cannot be counted."""
    port = door.getsockname()[1]
    door.close()
    assert requests_in_flight(port, 1) is None


@pytest.mark.parametrize(("published", "known"), [(8080, False), (8081, True)])
def test_of_a_published_port_nothing_is_known(published: int, known: bool, proc: Path) -> None:
    """A proxy in a network of its own has connections that this host does not see; another port says nothing."""
    add_process(
        proc, 7, "docker-proxy",
        "/usr/bin/docker-proxy", "-proto", "tcp", "-host-port", str(published), "-container-ip", "",
    )  # fmt: skip
    assert (requests_in_flight(8080, 8000) is not None) is known


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.001)


def wait(
    count: Callable[[float], int | None], budget: float = 30.0, finished: Callable[[float], int] = lambda _: 0
) -> Drained:
    """A drain in which *count* is in flight at a time."""
    time = Time()
    return wait_until_idle(
        "blue",
        lambda: count(time.now),
        budget_s=budget,
        finished=lambda: finished(time.now),
        clock=lambda: time.now,
        sleep=time.sleep,
    )


def test_waits_for_the_last_one() -> None:
    """Three requests, the last one done after six seconds."""
    seen = wait(lambda now: 3 if now < 4 else 1 if now < 6 else 0)
    assert (seen.most, seen.left) == (3, 0)
    assert seen.seconds == pytest.approx(6, abs=0.2)
    assert seen.verdict().reason.startswith("3 requests in flight, last one done after 6.")


def test_idle_connections_are_no_requests() -> None:
    """What the proxy only keeps open for a second is waited for, and is not called a request."""
    seen = wait(lambda now: 40 if now < 1.1 else 0)
    assert (seen.most, seen.left) == (0, 0)
    assert seen.verdict().reason.startswith("no request in flight after 1.")


def test_one_quiet_moment_is_not_idle() -> None:
    """A zero that is followed by a request within half a second was not the end."""
    seen = wait(lambda now: 0 if 1 < now < 1.3 else 1 if now < 5 else 0)
    assert seen.seconds == pytest.approx(5, abs=0.2)


def test_one_slow_look_is_no_quiet_time() -> None:
    """On a busy host a look may take longer than the quiet time: the next one is asked all the same."""
    time, looks = Time(), [0, 1, 0, 0]

    def look() -> int:
        time.sleep(2.0)
        return looks.pop(0)

    seen = wait_until_idle("blue", look, budget_s=30.0, clock=lambda: time.now, sleep=time.sleep)
    assert (looks, seen.left) == ([], 0)


def test_what_the_log_says_counts() -> None:
    """A request of the old color that has just been logged shows that it was not idle."""
    seen = wait(lambda _: 0, finished=lambda now: 1 if now < 3 else 0)
    assert seen.seconds == pytest.approx(3, abs=0.2)
    assert seen.finished > 10


@pytest.mark.parametrize(
    ("on_timeout", "outcome", "reason"),
    [
        (
            "continue",
            Outcome.YES,
            "2 requests or WebSockets still open after 5 s; going on, as on_drain_timeout says, and they end with the color",
        ),
        ("revert", Outcome.NO, "2 requests or WebSockets still open after 5 s"),
    ],
)
def test_the_end_of_the_budget(
    on_timeout: Literal["continue", "revert"], outcome: Outcome, reason: str
) -> None:
    """What happens then is the team's own decision, and is said."""
    verdict = wait(lambda _: 2, budget=5).verdict(on_timeout)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def connections(number: int) -> list[Connection]:
    """As many connections of the proxy to the color."""
    return [Connection(f"127.0.0.1:{40000 + each}", "127.0.0.1:8000") for each in range(number)]


def test_what_is_left_is_closed_one_by_one() -> None:
    """Clients that lose their connection connect anew at once: they are spread over the time."""
    left, time = connections(200), Time()
    closed: list[float] = []

    def close(found: Connection) -> str:
        left.remove(found)
        closed.append(time.now)
        return ""

    done = close_gradually(lambda: left, close, 15.0, lambda: time.now, time.sleep)
    assert (done.number, left) == (200, [])
    assert 13 < done.seconds <= 15
    assert max(sum(at <= each < at + 1 for each in closed) for at in closed) <= 16
    assert str(done) == "200 connections closed one by one in 15 s"


def test_what_ends_by_itself_is_not_closed() -> None:
    """The pace follows what is still open."""
    left, time = connections(10), Time()

    def close(found: Connection) -> str:
        left.clear()
        return ""

    assert close_gradually(lambda: left, close, 15.0, lambda: time.now, time.sleep).number == 1
    assert time.now < 1


def test_a_slow_look_does_not_change_the_pace() -> None:
    """To list the connections takes a while on a busy host: all are closed in the time all the same."""
    left, time = connections(200), Time()

    def look() -> list[Connection]:
        time.sleep(0.4)
        return left

    def close(found: Connection) -> str:
        time.sleep(0.02)
        left.remove(found)
        return ""

    done = close_gradually(look, close, 15.0, lambda: time.now, time.sleep)
    assert (done.number, left) == (200, [])
    assert 10 < done.seconds < 17


@pytest.mark.parametrize("said", ["ss: not permitted", ""])
def test_what_cannot_be_closed_is_told(said: str) -> None:
    """Without root, or with a kernel that does not close connections, they are cut with the color."""
    time = Time()
    done = close_gradually(lambda: connections(3), lambda _: said, 15.0, lambda: time.now, time.sleep)
    assert (done.number, done.trouble) == (0, said or "it stays open")
    assert "the others are cut at once" in str(done)


def test_a_proxy_that_cannot_be_seen() -> None:
    """Then the whole budget is waited, and that is what is said."""
    verdict = wait(lambda _: None, budget=5).verdict("revert")
    assert verdict.outcome is Outcome.YES
    assert verdict.reason == "waited the whole 5 s: the proxy's connections cannot be seen from this host"


def test_a_proxy_that_cannot_be_seen_any_more() -> None:
    """A node that is lost during the drain leaves unknown what is in flight; one that was lost for a moment does not."""
    seen = wait(lambda now: 2 if now < 3 else None, budget=5)
    assert (
        seen.verdict().reason == "waited the whole 5 s: the proxy's connections cannot be seen from this host"
    )
    seen = wait(lambda now: None if now < 3 else 2, budget=5)
    assert seen.verdict("revert").reason == "2 requests or WebSockets still open after 5 s"


def test_a_log_that_may_not_be_read_is_said(door: socket.socket, tmp_path: Path) -> None:
    """The connections are counted all the same: a good release is not reverted for a file's mode."""
    url = f"http://127.0.0.1:{door.getsockname()[1]}"
    settings = proxy_settings(driver="nginx", url=url, access_log=str(tmp_path))
    seen = drain(settings, "blue", 1).verdict()
    assert seen.outcome is Outcome.YES
    assert seen.evidence["access_log"] == f"{tmp_path} cannot be read: is a directory"


def test_a_drain_reads_no_log_that_the_watch_reads(door: socket.socket, tmp_path: Path) -> None:
    """It counts what the watch has read since its begin."""
    log, url = tmp_path / "log", f"http://127.0.0.1:{door.getsockname()[1]}"
    entry = {
        "ts": time.time(),
        "color": "blue",
        "status": 200,
        "seconds": 0.1,
        "connection": "1",
        "method": "GET",
    }
    line = json.dumps(entry | {"path": "/m", "upstream_addr": "127.0.0.1:1"})
    settings = proxy_settings(driver="nginx", url=url, access_log=str(log))
    tails = LogTails.of(access_logs(settings))
    log.write_text(f"{line}\n")
    assert len(tails.read_new()) == 1
    log.write_text(f"{line}\n" * 3)

    def read() -> bool:
        tails.read_new()
        return False

    assert drain(settings, "blue", 1, read, watched=tails).finished == 2
    assert drain(settings, "blue", 1, watched=tails).finished == 0


def test_a_revert_waits_for_requests_in_flight() -> None:
    """The undo line ends when the connection does, long before its bound, and never fails."""
    with ExitStack() as stack:
        color = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        one = stack.enter_context(socket.create_connection(color.getsockname()))
        stack.enter_context(color.accept()[0])
        waiting = subprocess.Popen(("sh", "-c", drain_line(color.getsockname()[1], 600)))
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(2)
            one.close()
            assert waiting.wait(60) == 0
        finally:
            waiting.kill()
            waiting.wait()


def test_a_revert_does_not_wait_for_ever() -> None:
    """A request that hangs holds nobody up: after its bound the line ends well, and so it does without one."""
    with ExitStack() as stack:
        color = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = color.getsockname()[1]
        assert subprocess.run(("sh", "-c", drain_line(port)), check=False, timeout=60).returncode == 0
        stack.enter_context(socket.create_connection(color.getsockname()))
        assert subprocess.run(("sh", "-c", drain_line(port, 0.2)), check=False, timeout=60).returncode == 0


def test_a_drain_that_is_stopped_ends_at_once() -> None:
    """While requests are in flight, a no of the watch does not wait for the end of the budget."""
    time = Time()
    seen = wait_until_idle(
        "blue",
        lambda: 2,
        budget_s=30.0,
        stopped=lambda: time.now > 1.0,
        clock=lambda: time.now,
        sleep=time.sleep,
    )
    assert seen.seconds < 1.5
