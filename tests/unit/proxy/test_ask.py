"""Requests to the proxy over real sockets, and the color that their responses name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cutover.proxy.base import Driver, ProxyClient, named_color
from cutover.proxy.command import CommandProxy
from cutover.proxy.nginx import Nginx
from cutover.proxy.port_swap import PortSwap
from cutover.proxy.proof import KeptConnection
from cutover.proxy.traefik import Traefik
from cutover.system.http import HttpAddress, HttpResponse, NoResponse, fetch
from tests.helpers.color_servers import free_port
from tests.helpers.proxy_drivers import UNREACHABLE, answering, raw_response


@pytest.mark.parametrize(
    ("headers", "body", "color"),
    [
        ({"x-color": "green"}, "", "green"),
        ({"x-color": " Green "}, "", "green"),
        ({"x-color": "red"}, '{"color": "blue"}', ""),
        ({}, '{"service": "recall", "color": "blue"}', "blue"),
        ({}, '  {"color":"blue"}', "blue"),
        ({}, '{"color": 1}', ""),
        ({}, '["blue"]', ""),
        ({}, "{", ""),
        ({}, "blue", ""),
        ({"x-cutover-color": "blue"}, "", ""),
    ],
)
def test_the_application_says_its_color(headers: dict[str, str], body: str, color: str) -> None:
    """By the header, else by its JSON; never by what the proxy says of itself."""
    assert named_color(HttpResponse(200, headers, body), "X-Color") == color


ALIVE = raw_response(200, b"{}", "X-Cutover-Color: green")


@pytest.mark.parametrize(
    ("version", "alive", "color", "how"),
    [
        (raw_response(200, b"", "X-Color: blue"), ALIVE, "blue", "/version answered 200 from blue"),
        (raw_response(503, b"", "X-Color: blue"), ALIVE, "blue", "/version answered 503 from blue"),
        (raw_response(502), ALIVE, "green", "the proxy chooses green, which does not say so"),
        (b"", ALIVE, "green", "the proxy chooses green, which does not say so"),
        # A broken release answers anything, and is the one that must be left.
        (raw_response(500), ALIVE, "green", "/version answered 500 without a color"),
        (raw_response(404), ALIVE, "green", "/version answered 404 without a color"),
        (raw_response(200), ALIVE, "green", "/version answered 200 without a color"),
        (raw_response(200, b"", "X-Color: red"), ALIVE, "green", "/version answered 200 without a color"),
        (
            raw_response(502),
            raw_response(200),
            None,
            "/version answered 502 without a color in X-Color or in its JSON",
        ),
        (
            raw_response(500),
            raw_response(200, b"", "X-Cutover-Color: red"),
            None,
            "/version answered 500 without a color",
        ),
        (b"", b"", None, "/version gave no answer: connection closed without an answer"),
    ],
)
def test_who_is_live(version: bytes, alive: bytes, color: str | None, how: str) -> None:
    """The application's identity; where it names none the proxy's own word; else nobody knows, and why."""
    with answering(version=version, alive=alive) as port:
        live = ProxyClient(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Color").live()
    assert live.color == color
    assert how in live.how


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        (raw_response(200, b"", "X-Color: blue"), ""),
        (raw_response(404, b"", "X-Color: blue"), ""),
        (raw_response(200, b'{"color": "blue"}'), ""),
        (
            raw_response(200),
            "/version answered 200 without the header X-Color: add_header X-Color $color always;",
        ),
        (
            raw_response(404),
            "/version answered 404 without the header X-Color: add_header X-Color $color always;",
        ),
        # A broken release may answer anything, and has to be replaced.
        (raw_response(502), ""),
        (b"", ""),
    ],
)
def test_the_live_color_is_named(version: bytes, problem: str, tmp_path: Path) -> None:
    """A switch away from a color that no response names could not be verified: said before, with the line to add."""
    with answering(version=version, alive=ALIVE) as port:
        client = ProxyClient(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Color")
        said = Nginx(tmp_path, client).color_problem()
    assert problem in said
    assert bool(said) is bool(problem)


@pytest.mark.parametrize(
    ("driver", "line"),
    [
        (Nginx(Path("live"), UNREACHABLE), "add_header X-Color $color always;"),
        (Traefik(Path("cutover.yml"), UNREACHABLE), "customResponseHeaders: X-Color: <color>"),
        (CommandProxy((), (), (), {}, UNREACHABLE), "http-after-response set-header X-Color <color>"),
        (
            PortSwap(80, Path("s"), {}, "api", UNREACHABLE),
            "there is no proxy that could add it, so the service has to send X-Color: <color> itself",
        ),
    ],
)
def test_how_a_response_names_its_color(driver: Driver, line: str) -> None:
    """Each driver knows the line of its proxy's configuration, with the header of `[proxy] color_header`."""
    assert line in driver.color_line.format(header="X-Color")


@pytest.mark.parametrize(("alive", "answers"), [(ALIVE, True), (raw_response(502), False), (b"", False)])
def test_control(alive: bytes, answers: bool) -> None:
    """The proxy answers by itself, or it does not."""
    with answering(alive=alive) as port:
        control = ProxyClient(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Color").as_control()
        assert control.answers() is answers
        assert control.how == f"http://127.0.0.1:{port}/alive"


def test_a_dripping_answer_ends() -> None:
    """The deadline is wall time: a byte now and then does not extend it."""
    head = b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n"
    with answering(drip=head) as port:
        seen = fetch(f"http://127.0.0.1:{port}", "/drip", deadline_s=0.2)
    assert (seen.status, str(seen)) == (0, "no complete answer in 0.2 s")


def asked_on_the_wire(port: int) -> HttpResponse | NoResponse:
    """The answer on a connection of the proof's own kind."""

    async def once() -> HttpResponse | NoResponse:
        connection = KeptConnection(HttpAddress.of(f"http://127.0.0.1:{port}"))
        try:
            return await connection.send("GET", "/x", deadline_s=30)
        finally:
            connection.close()
            await asyncio.sleep(0)

    return asyncio.run(once())


@pytest.mark.parametrize(
    "what", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nab", b""]
)
def test_no_http_is_no_answer(what: bytes) -> None:
    """Another protocol, half an answer or none at all: status 0 and why, never an exception."""
    with answering(x=what) as port:
        seen = asked_on_the_wire(port)
        asked = fetch(f"http://127.0.0.1:{port}", "/x", deadline_s=10)
    assert (seen.status, asked.status) == (0, 0)
    assert isinstance(seen, NoResponse)
    assert seen.reason
    assert isinstance(asked, NoResponse)
    assert asked.reason


@pytest.mark.parametrize(
    ("what", "status", "body"),
    [
        (raw_response(200, b"abc"), 200, "abc"),
        (
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: x\r\n\r\n",
            200,
            "abcde",
        ),
        (b"HTTP/1.0 200 X\r\n\r\nabc", 200, "abc"),
        (b"HTTP/1.1 204 X\r\n\r\n", 204, ""),
    ],
)
def test_reads_a_body(what: bytes, status: int, body: str) -> None:
    """By length, in chunks, to the end of the connection, or none."""
    with answering(x=what) as port:
        seen = asked_on_the_wire(port)
    assert (seen.status, seen.body) == (status, body)


@pytest.mark.parametrize("announced", [(), ("Connection: close",)])
def test_a_clean_close_is_no_failure(announced: tuple[str, ...]) -> None:
    """A connection that the server closes between two requests is opened again, and counted."""

    async def twice(port: int) -> tuple[int, int, int]:
        connection = KeptConnection(HttpAddress.of(f"http://127.0.0.1:{port}"))
        first = await connection.send("GET", "/x", deadline_s=30)
        if connection._streams is not None:
            await connection._streams[0].read()  # to its end
        second = await connection.send("GET", "/x", deadline_s=30)
        connection.close()
        await asyncio.sleep(0)
        return first.status, second.status, connection.reopened

    with answering(x=raw_response(200, b"abc", *announced)) as port:
        assert asyncio.run(twice(port)) == (200, 200, 1)


def test_nobody_listens() -> None:
    """A refused connection is an answer to nothing."""
    assert str(fetch(f"http://127.0.0.1:{free_port()}", "/x")) == "connection refused"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a:81/x/", ("a", 81, "/x", False)),
        ("http://a", ("a", 80, "", False)),
        ("https://a", ("a", 443, "", True)),
    ],
)
def test_a_place(url: str, expected: tuple[object, ...]) -> None:
    """Host, port, prefix and whether it is TLS."""
    place = HttpAddress.of(url)
    assert (place.host, place.port, place.prefix, place.tls is not None) == expected


def test_an_unreadable_authority(tmp_path: Path) -> None:
    """A CA file that is not there is an answer that did not come, not an exception."""
    seen = fetch("https://127.0.0.1:1", "/x", verify=str(tmp_path / "none.pem"))
    assert seen.status == 0
    assert f"No such file or directory: {tmp_path}/none.pem" in str(seen)
