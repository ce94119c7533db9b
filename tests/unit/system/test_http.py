from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from cutover.core.errors import EngineUnavailable
from cutover.core.target import ControlProbe
from cutover.core.verdict import Outcome
from cutover.system.http import (
    HttpClient,
    HttpResponse,
    NoResponse,
    RequestOptions,
    connect,
    fetch,
    judge_no_response,
    send_request,
)
from tests.helpers.rude_servers import (
    BAD,
    GOOD,
    Talk,
    drip,
    hang_up,
    in_turn,
    nobody,
    response,
    say_nothing,
    says,
    serving,
)

OK = response(200, {"ready": True})


def once(talk: Talk, method: str = "GET", deadline_s: float = 30, **how: Any) -> HttpResponse | NoResponse:
    """One question to a server that behaves like *talk*."""
    with serving(talk) as url, HttpClient(url, deadline_s) as http:
        return send_request(http, method, "/x", RequestOptions(sleep=lambda _s: None, **how))


def test_an_answer_is_whole() -> None:
    """An answer has its status, its headers in lower case and its body."""
    said = once(says(response(201, {"id": 7}, "X-Color: green")))
    assert isinstance(said, HttpResponse)
    assert (said.status, said.json(), said.headers["x-color"]) == (201, {"id": 7}, "green")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-slow: ",
        b"",
    ],
    ids=["body of a length", "body without a length", "header", "status line"],
)
def test_what_drips_is_over_at_the_deadline(head: bytes) -> None:
    """Wherever the answer drips, the question ends at its wall deadline, though each byte comes in time."""
    over = threading.Event()
    try:
        said = once(drip(head, over), deadline_s=0.5, tries=1)
    finally:
        over.set()
    assert isinstance(said, NoResponse)
    assert said.kind == "timeout"


def test_a_question_may_have_a_deadline_of_its_own() -> None:
    """The deadline of the question wins over that of the client."""
    with serving(say_nothing) as url, HttpClient(url, 600) as http:
        said = send_request(http, "GET", "/x", RequestOptions(deadline_s=0.3, tries=1))
    assert isinstance(said, NoResponse)
    assert said.kind == "timeout"


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        (hang_up, "reset"),
        (lambda *_: None, "reset"),
        (says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), "reset"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "garbage"),
    ],
    ids=["reset", "closed", "cut in the body", "another protocol"],
)
def test_no_answer_is_silence(talk: Talk, kind: str) -> None:
    """Whatever ends a question without an answer is told by its kind, never raised."""
    said = once(talk)
    assert isinstance(said, NoResponse)
    assert said.kind == kind


def test_refused_is_silence() -> None:
    """A port where nobody listens refuses."""
    with HttpClient(nobody(), 30) as http:
        said = send_request(http, "GET", "/x", RequestOptions(sleep=lambda _s: None))
    assert (str(said), isinstance(said, NoResponse)) == ("connection refused", True)


@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 70, "no-such-host.invalid"])
def test_a_host_that_is_no_name_is_not_found(host: str) -> None:
    """A name that cannot be looked up is silence, like one that nobody has."""
    url = f"http://{host}:80"
    client = HttpClient(url, 5.0)
    for answer in (client.send("GET", "/"), fetch(url, "/"), connect(client, 5.0)):
        assert isinstance(answer, NoResponse)
        assert (answer.kind, answer.reason[:15]) == ("refused", "no connection: ")


def test_tls_trouble_is_silence() -> None:
    """A port that speaks no TLS is told as such."""
    with serving(says(OK)) as url, HttpClient(url.replace("http:", "https:"), 30) as http:
        said = send_request(http, "GET", "/x", RequestOptions(tries=1))
    assert isinstance(said, NoResponse)
    assert said.kind == "tls"


def test_redirects_are_not_followed() -> None:
    """A redirect is the answer, not a way to another one."""
    said = once(says(response(302, "", "location: /login"), OK))
    assert isinstance(said, HttpResponse)
    assert said.status == 302


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies in the environment do not see a question."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, nobody())
    assert isinstance(once(says(OK)), HttpResponse)


def test_silence_is_asked_again() -> None:
    """One dropped request is asked again, and the answer says that it was."""
    said = once(in_turn(hang_up, says(OK)))
    assert isinstance(said, HttpResponse)
    assert said.silences == ("connection closed without an answer",)


def test_a_wrong_answer_is_not_asked_again() -> None:
    """What was answered is an answer."""
    said = once(says(response(503, {}), OK))
    assert isinstance(said, HttpResponse)
    assert said.status == 503


def test_what_writes_is_not_sent_twice() -> None:
    """A request that may have arrived is not repeated when it writes something."""
    assert isinstance(once(in_turn(hang_up, says(OK)), "POST", send={"text": "x"}), NoResponse)


def test_an_endless_body_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is cut where it becomes absurd."""
    monkeypatch.setattr("cutover.system.http.MAX_BODY_BYTES", 1000)
    said = once(says(response(200, "x" * 100_000)))
    assert isinstance(said, HttpResponse)
    assert len(said.body) == 1000


@pytest.mark.parametrize(
    ("kind", "body", "fits"),
    [
        ("application/json", "{}", True),
        ("application/json; charset=utf-8", "{}", True),
        ("application/problem+json", "{}", True),
        ("text/html", "{}", False),
        ("application/json", "<html>", False),
        ("application/json", "", False),
    ],
)
def test_json_says_that_it_is_json(kind: str, body: str, *, fits: bool) -> None:
    """A body is JSON when it parses as such and its content-type says so."""
    answer = HttpResponse(200, {"content-type": kind}, body, "", 0.0)
    if fits:
        assert answer.json() == {}
    else:
        with pytest.raises(ValueError, match=r"."):
            answer.json()


def raising(error: Exception) -> Callable[[], bool]:
    """A control question that ends with *error*."""

    def answers() -> bool:
        raise error

    return answers


@pytest.mark.parametrize(
    ("control", "outcome"),
    [
        (GOOD, Outcome.NO),
        (BAD, Outcome.UNKNOWN),
        (
            ControlProbe(raising(EngineUnavailable("the Docker engine does not answer")), "the engine"),
            Outcome.UNKNOWN,
        ),
        (ControlProbe(raising(ConnectionRefusedError("refused")), "the proxy"), Outcome.UNKNOWN),
    ],
    ids=["way good", "way bad", "engine silent", "proxy silent"],
)
def test_silence_is_a_no_only_when_the_way_is_good(control: ControlProbe, outcome: Outcome) -> None:
    """A hung release is broken; a cut cable is nobody's answer."""
    verdict = judge_no_response(
        "ready", NoResponse("timeout", "no complete answer in 5.0 s", "http://x", 5.0), control
    )
    assert verdict.outcome is outcome
    assert "no complete answer in 5.0 s" in verdict.reason


@contextmanager
def kept(answers: list[bytes], *, close_after_each: bool = False) -> Iterator[tuple[str, list[int]]]:
    """A server that answers each request on a kept connection; its URL and the number of requests per connection."""
    counts: list[int] = []

    def serve(connection: socket.socket, number: int) -> None:
        with connection:
            while connection.recv(65536):
                counts[number] += 1
                connection.sendall(answers[min(sum(counts), len(answers)) - 1])
                if close_after_each:
                    return

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                counts.append(0)
                threading.Thread(target=serve, args=(connection, len(counts) - 1), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/base", counts
        listener.shutdown(socket.SHUT_RDWR)


LENGTH_2 = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("keep_alive", "close", "connections"), [(True, False, 1), (False, False, 3), (True, True, 3)]
)
def test_a_connection_is_kept_while_the_server_keeps_it(
    keep_alive: bool, close: bool, connections: int
) -> None:
    """One that the server closed while it was idle is replaced, and no request is lost for it."""
    with (
        kept([LENGTH_2], close_after_each=close) as (url, counts),
        HttpClient(url, 30, keep_alive=keep_alive) as http,
    ):
        for _ in range(3):
            assert http.send("GET", "/x").body == "ok"
            time.sleep(0.05 if close else 0)  # until its FIN is here
    assert len(counts) == connections


def test_bytes_beyond_the_declared_length_are_no_next_answer() -> None:
    """The next request gets a connection of its own, so that it is not answered with what was left over."""
    with kept([LENGTH_2 + b"and more"], close_after_each=False) as (url, counts), HttpClient(url, 30) as http:
        assert [http.send("GET", "/x").body for _ in range(2)] == ["ok", "ok"]
    assert len(counts) == 2


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined", "no-such"])
def test_a_charset_that_cannot_be_used_is_read_as_utf_8(charset: str) -> None:
    """No answer of a service ends a check with a traceback."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset={charset}\r\ncontent-length: 2\r\n\r\n"
    assert once(says(head.encode() + "é".encode())).body == "é"


def test_a_body_may_be_compressed_all_the_same() -> None:
    """A server that ignores `accept-encoding: identity` is read."""
    body = gzip.compress(b'{"ready": true}')
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert once(says(head + body)).body == '{"ready": true}'


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/search?q=a b&c=d", b"/search?q=a%20b&c=d"),
        ("/ü?x=%20", b"/%C3%BC?x=%20"),
        ("/x#part", b"/x"),
    ],
)
def test_a_path_is_sent_as_a_url(path: str, sent: bytes) -> None:
    """Blanks and umlauts are encoded, what is encoded stays, and a fragment is not sent."""
    seen: list[bytes] = []

    def talk(connection: socket.socket, request: bytes) -> None:
        seen.append(request.split(b" ")[1])
        connection.sendall(OK)

    with serving(talk) as url, HttpClient(url, 30) as http:
        http.send("GET", path)
    assert seen == [sent]


def test_a_request_that_is_no_http_is_said() -> None:
    """A header that HTTP does not allow ends as a value too."""
    with HttpClient(nobody(), 30) as http, serving(says(OK)) as url, HttpClient(url, 30) as other:
        assert isinstance(http.send("GET", "/x"), NoResponse)
        assert isinstance(other.send("GET", "/x", headers={"x": "a\nb"}), NoResponse)
