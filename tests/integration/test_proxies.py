"""Proxy drivers with real proxies, in a container and on the host, using the shipped configurations."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import pytest

from cutover.core.verdict import Outcome
from cutover.proxy.access_log import AccessLog, LoggedRequest, LogTail, why_log_lacks
from cutover.proxy.drain import (
    Connection,
    close_connection,
    close_gradually,
    proxy_connections,
    requests_in_flight,
    wait_until_idle,
)
from cutover.proxy.proof import ProbePlan
from cutover.system.http import fetch
from tests.helpers import proxy_files
from tests.helpers.color_servers import Colors, wait_until
from tests.helpers.load import HALF_POST, load
from tests.helpers.real_proxies import (
    DEADLINE_S,
    PROXIES,
    SLOW,
    Running,
    Start,
    haproxy,
    nginx,
    nginx_in_a_container,
    traefik,
)

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_no_request_fails_while_it_switches(start: Start, colors: Colors, tmp_path: Path) -> None:
    """100 keep-alive connections, half POST, some slow: no request fails in three switches and two runs of the undo."""
    with start(tmp_path, colors) as seen:
        log = LogTail(AccessLog(seen.log))
        with load(seen.way.url, connections=100, rate=150, asks=(*HALF_POST, SLOW)) as users:

            def some_more() -> None:
                enough = len(users.shots) + 100
                wait_until(lambda: len(users.shots) >= enough, "100 more requests are answered")

            some_more()
            for to in ("green", "blue", "green"):
                seen.go(to)
                assert seen.driver.agreed().outcome is Outcome.YES, seen.driver.agreed()
                some_more()
            for _ in ("first", "again"):  # an undo line is a no-op when run twice
                seen.come_back("green")
                wait_until(lambda: seen.driver.live().color == "blue", "the undo leads back to blue")
                some_more()
        assert [each.error or each.status for each in users.failed] == []
        assert users.reopened == 0
        assert users.by("blue") > 100
        assert users.by("green") > 100
        assert users.by("blue") + users.by("green") == len(users.shots)
        logged = {"blue": 0, "green": 0}
        wait_until(lambda: _count(log, logged) >= len(users.shots), "the access log names each request")


def _count(log: LogTail, logged: dict[str, int]) -> int:
    for each in log.read_new():
        if each.color:  # the rest is what the proxy answered by itself
            logged[each.color] += 1
    return sum(logged.values())


@dataclass
class Talk:
    """A WebSocket through the proxy; each line is echoed with the color before it."""

    socket: socket.socket
    answers: BinaryIO

    def say(self, word: str) -> str:
        """The echo of *word*."""
        self.socket.sendall(f"{word}\n".encode())
        return self.answers.readline().decode().strip()


@contextmanager
def websocket(seen: Running, ca: Path) -> Iterator[Talk]:
    """Open a WebSocket over TLS; lines instead of frames suffice, because a proxy only copies bytes."""
    context = ssl.create_default_context(cafile=str(ca))
    raw = socket.create_connection(("127.0.0.1", seen.port), timeout=DEADLINE_S)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as secure, secure.makefile("rb") as answers:
        secure.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{seen.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert b"101" in answers.readline()
        while answers.readline() != b"\r\n":
            pass
        yield Talk(secure, answers)


@pytest.mark.parametrize("start", [nginx, nginx_in_a_container, traefik], ids=lambda start: start.__name__)
def test_what_is_open_ends_where_it_began(start: Start, colors: Colors, tmp_path: Path) -> None:
    """Over TLS a WebSocket, a stream and a slow request survive a switch, and the drain waits for them."""
    ca, key = proxy_files.certificate(tmp_path)
    with start(tmp_path, colors, (ca, key)) as seen, ThreadPoolExecutor(3) as pool:
        assert seen.driver.agreed().ok, seen.driver.agreed()
        long = pool.submit(
            fetch, seen.way.url, "/slow?s=10&hold=1", verify=str(ca), deadline_s=2 * DEADLINE_S
        )
        stream = pool.submit(
            fetch, seen.way.url, "/stream?n=50&every=0.2&hold=1", verify=str(ca), deadline_s=2 * DEADLINE_S
        )
        ports = seen.port, colors.blue.port
        with websocket(seen, ca) as talk:
            assert talk.say("before") == "blue before"
            wait_until(lambda: colors.blue.in_flight == 3, "all three have reached blue")
            seen.go("green")
            assert talk.say("after") == "blue after"
            assert (requests_in_flight(*ports) or 0) >= 3
        polls: list[int | None] = []

        def count() -> int | None:
            polls.append(requests_in_flight(*ports))
            return polls[-1]

        draining = pool.submit(wait_until_idle, "blue", count, budget_s=2 * DEADLINE_S)
        wait_until(lambda: len(polls) > 25, "the drain has looked for two seconds and more")
        colors.blue.let_go = True
        drained = draining.result()
        assert drained.verdict("revert").ok, drained
        assert (long.done(), stream.done()) == (True, True)
        assert (long.result().status, long.result().headers["x-color"]) == (200, "blue")
        assert stream.result().body == "".join(f"{number:04d}\n" for number in range(50))
        assert (drained.most, drained.left) == (2, 0)
        assert colors.blue.in_flight == 0


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_a_stream_is_passed_on_as_it_comes(start: Start, colors: Colors, tmp_path: Path) -> None:
    """Proxies do not buffer responses: the first chunk arrives long before the last."""
    with (
        start(tmp_path, colors) as seen,
        socket.create_connection(("127.0.0.1", seen.port), DEADLINE_S) as one,
    ):
        one.sendall(b"GET /stream?n=2&every=600 HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while b"0000\n" not in got:
            part = one.recv(4096)
            assert part, got
            got += part


@pytest.mark.parametrize("start", [nginx, traefik], ids=lambda start: start.__name__)
def test_a_switch_is_verified(start: Start, colors: Colors, tmp_path: Path) -> None:
    """Connections that were open before it and new ones, GET and POST, are all answered by the new color."""
    with start(tmp_path, colors) as seen:
        proof = seen.verified(
            "green", ProbePlan("/version", "/echo", open_connections=20, new_connections=10)
        )
        assert proof.verdict().ok, proof
        assert proof.answered == proof.requests >= 30 * 2 * 3
        assert (proof.failed, proof.wrong, proof.reopened) == (0, 0, 0)


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_the_proxy_names_the_color_that_answered(start: Start, colors: Colors, tmp_path: Path) -> None:
    """Where the service does not: a switch is verified by it, and an answer of 500 is the color's too."""
    colors.blue.says_its_color = colors.green.says_its_color = False
    with start(tmp_path, colors) as seen:
        assert seen.driver.color_problem() == ""
        assert seen.driver.live().color == "blue"
        proof = seen.verified("green", ProbePlan("/version", open_connections=5, new_connections=5))
        assert proof.verdict().ok, proof
        assert seen.driver.agreed().ok
        colors.green.status = 500
        broken = fetch(seen.way.url, "/version")
        assert (broken.status, broken.headers["x-color"]) == (500, "green")


def test_frozen_writes_are_told_when_to_come_back(colors: Colors, tmp_path: Path) -> None:
    """While the file `freeze` exists, writes get 503 with Retry-After and reads work; afterwards writes work again."""
    with nginx(tmp_path, colors) as seen:
        freeze = tmp_path / "live" / "freeze"
        freeze.touch()
        assert seen.way.ask_control("POST").status == 503
        refused = fetch(seen.way.url, "/echo", method="POST")
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        assert "frozen" in refused.body
        for method in ("GET", "HEAD", "OPTIONS"):
            assert fetch(seen.way.url, "/version", method=method).status == 200
        assert seen.driver.agreed().ok
        freeze.unlink()
        assert seen.way.ask_control("POST").status == 200
        assert fetch(seen.way.url, "/echo", method="POST").status == 200


@pytest.mark.parametrize("start", [nginx, haproxy, traefik], ids=lambda start: start.__name__)
@pytest.mark.parametrize("on_timeout", ["continue", "revert"])
def test_open_websockets_are_counted_and_decided_by_on_drain_timeout(
    on_timeout: Literal["continue", "revert"], start: Start, colors: Colors, tmp_path: Path
) -> None:
    """WebSockets that do not end within the drain are told with their number; `revert` does not cut them."""
    with start(tmp_path, colors) as seen, ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(plain_websocket(seen.port))
        wait_until(lambda: colors.blue.in_flight == 3, "all three have reached blue")
        seen.go("green")
        drained = wait_until_idle(
            "blue", lambda: requests_in_flight(seen.port, colors.blue.port), budget_s=3.0
        )
        verdict = drained.verdict(on_timeout)
        assert verdict.outcome is (Outcome.NO if on_timeout == "revert" else Outcome.YES)
        assert re.match(r"3 requests or WebSockets still open after \d+ s", verdict.reason)
        assert colors.blue.in_flight == 3


@pytest.mark.parametrize("start", [nginx, haproxy, traefik], ids=lambda start: start.__name__)
def test_open_websockets_are_closed_one_by_one(start: Start, colors: Colors, tmp_path: Path) -> None:
    """Before the old color is stopped its WebSockets lose their connection one after the other."""
    with start(tmp_path, colors) as seen, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(plain_websocket(seen.port))
        wait_until(lambda: colors.blue.in_flight == 20, "all have reached blue")
        seen.go("green")
        doors, ended = (seen.port, colors.blue.port), list[float]()
        # The connection that answered the proof of the switch stays open for a second: see deploy/proxy/README.md.
        wait_until(lambda: len(proxy_connections(*doors) or ()) == 20, "only the WebSockets are left")

        def close(found: Connection) -> str:
            ended.append(time.monotonic())
            return close_connection(found)

        done = close_gradually(lambda: proxy_connections(*doors), close, 24.0)
        assert (done.number, done.trouble) == (20, "")
        assert max(sum(at <= each < at + 2 for each in ended) for at in ended) <= 8
        assert not proxy_connections(*doors)


@contextmanager
def plain_websocket(port: int) -> Iterator[None]:
    """Hold a WebSocket open."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as user:
        user.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b"101" in user.recv(65536)
        yield


@pytest.mark.parametrize("start", [nginx, haproxy, traefik], ids=lambda start: start.__name__)
def test_the_log_tells_how_a_user_failed(start: Start, colors: Colors, tmp_path: Path) -> None:
    """It names answers that the client gave up, answers that were cut short, and which requests are ours."""
    with start(tmp_path, colors) as seen:
        assert why_log_lacks(AccessLog(seen.log), seen.way.ask_marked) == ""
        log = LogTail(AccessLog(seen.log))
        with socket.create_connection(("127.0.0.1", seen.port), DEADLINE_S) as user:
            user.sendall(b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")
            while user.recv(65536):
                pass
        with socket.create_connection(("127.0.0.1", seen.port), DEADLINE_S) as user:
            user.sendall(b"GET /slow?s=60 HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: colors.blue.in_flight > 0, "the request is in flight")
        with socket.create_connection(("127.0.0.1", seen.port), DEADLINE_S) as user:
            user.sendall(b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" in user.recv(65536)
        assert fetch(seen.way.url, "/ours").status == 200
        found: dict[str, LoggedRequest] = {}

        def all_there() -> bool:
            # The marked requests of `why_log_lacks` may be logged later than the first of them was found.
            new = [each for each in log.read_new() if not (each.agent or "").startswith("cutover/")]
            found.update({each.path: each for each in new})
            return found.keys() >= {"/cut", "/slow", "/good", "/ours"}

        wait_until(all_there, "the log names each request")
        assert {path: each.failure for path, each in found.items()} == {
            # Traefik logs no size that would tell a cut answer from a whole one.
            "/cut": "" if start is traefik else "cut short", "/slow": "given up", "/good": "", "/ours": "",
        }  # fmt: skip
        assert [path for path, each in found.items() if each.is_ours(frozenset())] == ["/ours"]
