"""How the proxy is asked: whose answer that was, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cutover.proxies.asking import Answer, Way, ask, colour_of
from cutover.proxies.wire import Connection, Place
from tests.proxies.servers import free_port


@pytest.mark.parametrize(
    ("headers", "body", "colour"),
    [
        ({"x-colour": "green"}, b"", "green"),
        ({"x-colour": " Green "}, b"", "green"),
        ({"x-colour": "red"}, b'{"colour": "blue"}', ""),
        ({}, b'{"service": "recall", "colour": "blue"}', "blue"),
        ({}, b'  {"colour":"blue"}', "blue"),
        ({}, b'{"colour": 1}', ""),
        ({}, b'["blue"]', ""),
        ({}, b"{", ""),
        ({}, b"blue", ""),
        ({"x-cutover-colour": "blue"}, b"", ""),
    ],
)
def test_the_application_says_its_colour(headers: dict[str, str], body: bytes, colour: str) -> None:
    """By the header, else by its JSON; never by what the proxy says of itself."""
    assert colour_of(Answer(200, headers, body), "X-Colour") == colour


@contextmanager
def answering(**answers: bytes) -> Iterator[int]:
    """A server that sends the bytes called like the path, `drip` a byte at a time for ever; the port."""
    door = socket.create_server(("127.0.0.1", 0))
    gone = threading.Event()

    def serve() -> None:
        while True:
            try:
                one, _ = door.accept()
            except OSError:
                return
            with one:
                path = one.recv(4096).split(b" ")[1].decode().strip("/")
                one.sendall(answers[path])
                while path == "drip" and not gone.wait(0.02):
                    try:
                        one.sendall(b"x")
                    except OSError:
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        gone.set()
        door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join()


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    """The bytes of an answer."""
    lines = (f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


ALIVE = answer(200, b"{}", "X-Cutover-Colour: green")


@pytest.mark.parametrize(
    ("version", "alive", "colour", "how"),
    [
        (answer(200, b"", "X-Colour: blue"), ALIVE, "blue", "/version answered 200 from blue"),
        (answer(503, b"", "X-Colour: blue"), ALIVE, "blue", "/version answered 503 from blue"),
        (answer(502), ALIVE, "green", "the proxy chooses green, which does not say so"),
        (b"", ALIVE, "green", "the proxy chooses green, which does not say so"),
        # A broken release answers anything, and is the one that must be left.
        (answer(500), ALIVE, "green", "/version answered 500 without a colour"),
        (answer(404), ALIVE, "green", "/version answered 404 without a colour"),
        (answer(200), ALIVE, "green", "/version answered 200 without a colour"),
        (answer(200, b"", "X-Colour: red"), ALIVE, "green", "/version answered 200 without a colour"),
        (answer(502), answer(200), None, "/version answered 502 without a colour in X-Colour or in its JSON"),
        (
            answer(500),
            answer(200, b"", "X-Cutover-Colour: red"),
            None,
            "/version answered 500 without a colour",
        ),
        (b"", b"", None, "/version gave no answer: RemoteDisconnected"),
    ],
)
def test_who_is_live(version: bytes, alive: bytes, colour: str | None, how: str) -> None:
    """The application's identity; where it names none the proxy's own word; else nobody knows, and why."""
    with answering(version=version, alive=alive) as port:
        live = Way(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Colour").live()
    assert live.colour == colour
    assert how in live.how


@pytest.mark.parametrize(("alive", "answers"), [(ALIVE, True), (answer(502), False), (b"", False)])
def test_control(alive: bytes, answers: bool) -> None:
    """The proxy answers by itself, or it does not."""
    with answering(alive=alive) as port:
        control = Way(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Colour").as_control()
        assert control.answers() is answers
        assert control.how == f"http://127.0.0.1:{port}/alive"


def test_a_dripping_answer_ends() -> None:
    """The deadline is wall time: a byte now and then does not extend it."""
    head = b"HTTP/1.1 200 X\r\nContent-Length: 100000\r\n\r\n"
    with answering(drip=head) as port:
        seen = ask(f"http://127.0.0.1:{port}", "/drip", deadline_s=0.2)
    assert (seen.status, seen.error) == (0, "TimeoutError: the answer did not end in time")


def asked_on_the_wire(port: int) -> Answer:
    """The answer on a connection of the proof's own kind."""

    async def once() -> Answer:
        connection = Connection(Place.of(f"http://127.0.0.1:{port}"))
        try:
            return await connection.ask("GET", "/x", within_s=30)
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
        asked = ask(f"http://127.0.0.1:{port}", "/x", deadline_s=10)
    assert (seen.status, asked.status) == (0, 0)
    assert seen.error
    assert asked.error


@pytest.mark.parametrize(
    ("what", "status", "body"),
    [
        (answer(200, b"abc"), 200, b"abc"),
        (
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: x\r\n\r\n",
            200,
            b"abcde",
        ),
        (b"HTTP/1.0 200 X\r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.1 204 X\r\n\r\n", 204, b""),
    ],
)
def test_reads_a_body(what: bytes, status: int, body: bytes) -> None:
    """By length, in chunks, to the end of the connection, or none."""
    with answering(x=what) as port:
        seen = asked_on_the_wire(port)
    assert (seen.status, seen.body) == (status, body)


@pytest.mark.parametrize("announced", [(), ("Connection: close",)])
def test_a_clean_close_is_no_failure(announced: tuple[str, ...]) -> None:
    """A connection that the server closes between two requests is opened again, and counted."""

    async def twice(port: int) -> tuple[int, int, int]:
        connection = Connection(Place.of(f"http://127.0.0.1:{port}"))
        first = await connection.ask("GET", "/x", within_s=30)
        if connection._reader is not None:
            await connection._reader.read()  # to its end
        second = await connection.ask("GET", "/x", within_s=30)
        connection.close()
        await asyncio.sleep(0)
        return first.status, second.status, connection.reopened

    with answering(x=answer(200, b"abc", *announced)) as port:
        assert asyncio.run(twice(port)) == (200, 200, 1)


def test_nobody_listens() -> None:
    """A refused connection is an answer to nothing."""
    assert "ConnectionRefusedError" in ask(f"http://127.0.0.1:{free_port()}", "/x").error


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
    place = Place.of(url)
    assert (place.host, place.port, place.prefix, place.tls is not None) == expected


def test_an_unreadable_authority(tmp_path: Path) -> None:
    """A CA file that is not there is an answer that did not come, not an exception."""
    seen = ask("https://127.0.0.1:1", "/x", verify=str(tmp_path / "none.pem"))
    assert seen.status == 0
    assert f"No such file or directory: {tmp_path}/none.pem" in seen.error
