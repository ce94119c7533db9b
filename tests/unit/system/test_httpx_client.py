"""The `httpx.Client` of a team's own tests, over our own client."""

from __future__ import annotations

import threading

import httpx
import pytest

from cutover.system.httpx_client import httpx_client
from tests.helpers.rude_servers import Talk, drip, hang_up, nobody, response, say_nothing, says, serving

OK = response(200, {"ready": True}, "X-Color: green")


def test_a_response_is_httpxs_own() -> None:
    """Status, headers, JSON, and a redirect that is not followed."""
    with serving(says(OK)) as url, httpx_client(url, 30) as http:
        got = http.get("/x", params={"a": "b c"})
        assert (got.status_code, got.json(), got.headers["x-color"]) == (200, {"ready": True}, "green")
        assert str(got.url) == f"{url}/x?a=b+c"
    with serving(says(response(302, "", "location: /login"))) as url, httpx_client(url, 30) as http:
        assert http.post("/x", json={"text": "x"}).status_code == 302


@pytest.mark.parametrize(
    ("talk", "error"),
    [
        (hang_up, httpx.ReadError),
        (say_nothing, httpx.ReadTimeout),
        (says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), httpx.ReadError),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), httpx.RemoteProtocolError),
    ],
    ids=["reset", "no answer", "cut in the body", "another protocol"],
)
def test_no_response_is_httpxs_own_error(talk: Talk, error: type[Exception]) -> None:
    """A test that knows httpx's errors meets no others."""
    with serving(talk) as url, httpx_client(url, 0.5) as http, pytest.raises(error):
        http.get("/x")


def test_refused() -> None:
    """Nobody listens."""
    with httpx_client(nobody(), 30) as http, pytest.raises(httpx.ConnectError, match="connection refused"):
        http.get("/x")


def test_a_stream_is_read_as_it_comes() -> None:
    """The first bytes of a body without end can be read; the wall deadline ends it."""
    over = threading.Event()
    try:
        with serving(drip(b"HTTP/1.1 200 OK\r\n\r\n", over)) as url, httpx_client(url, 0.5) as http:
            with http.stream("GET", "/x") as got:
                assert next(got.iter_bytes()) == b"x"
            with pytest.raises(httpx.ReadTimeout):
                http.get("/x")
    finally:
        over.set()


def test_the_base_url_may_have_a_path_and_another_host_may_be_asked() -> None:
    """Paths are below that of the base URL, an absolute URL is as it is."""
    seen: list[bytes] = []

    def talk(connection: object, request: bytes) -> None:
        seen.append(request.split(b" ")[1])
        says(OK)(connection, request)  # type: ignore[arg-type]

    with serving(talk) as one, serving(talk) as two, httpx_client(f"{one}/base", 30) as http:
        http.get("/x")
        http.get(f"{two}/y")
    assert seen == [b"/base/x", b"/y"]
