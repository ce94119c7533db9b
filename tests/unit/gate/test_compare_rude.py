"""Services whose answers are huge, endless, broken or hostile: the comparison is bounded, and says one honest line."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from cutover.core.config_schema import Compare
from cutover.core.verdict import Outcome, Verdict
from cutover.gate.compare_requests import CompareRequest
from cutover.gate.compare_run import compare
from cutover.gate.comparison import MOST_LETTERS, Answer, Compared, answer_of, compare_all, elements_of
from cutover.system.http import HttpClient, HttpResponse
from tests.helpers import rude_servers
from tests.helpers.http_service import Answer as Reply
from tests.helpers.http_service import serving

REQUESTS = [CompareRequest("GET", f"/items/{n}") for n in range(3)]
QUICK = Compare(rate=5000.0)
SAME = "3 requests on 1 route: no difference"
JSON, HTML = {"Content-Type": "application/json"}, {"Content-Type": "text/html"}
GOOD = Reply(200, JSON, b'{"id": 7, "name": "tea"}')


def verdict_of(
    old: Reply | rude_servers.Talk,
    new: Reply | rude_servers.Talk,
    wanted: Compare = QUICK,
    requests: Iterable[CompareRequest] = REQUESTS,
    deadline_s: float = 5.0,
) -> Verdict:
    """The verdict on two services that each answer always the same."""
    with ExitStack() as stack:
        live, idle = (
            stack.enter_context(HttpClient(stack.enter_context(_url(each)), deadline_s))
            for each in (old, new)
        )
        return compare([*requests], live, idle, wanted, ("sha-1", "sha-2"))


@contextmanager
def _url(answer: Reply | rude_servers.Talk) -> Iterator[str]:
    if isinstance(answer, Reply):
        with serving(lambda _: answer) as service:
            yield service.url
    else:
        with rude_servers.serving(answer) as url:
            yield url


def told(verdict: Verdict) -> str:
    """The one line of a verdict."""
    assert "\n" not in verdict.reason
    return f"{verdict.outcome}: {verdict.reason}"


def raw(head: str, body: bytes = b"") -> rude_servers.Talk:
    """These bytes, then the end of the connection."""
    return rude_servers.says(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)


# --- answers as they are ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (GOOD, Reply(200, JSON, b'{"id": 7,'), 'reported only: GET /items/*: "body" is no JSON instead of JSON'),
        (Reply(200, JSON, b"{"), Reply(200, JSON, b"{"), SAME),
        (Reply(200, JSON, b"{"), Reply(200, JSON, b"["), "GET /items/*: the body differs, 3 of 3"),
        (Reply(200, JSON, b'{"a": 1, "a": 2}'), Reply(200, JSON, b'{"a": 2}'), SAME),
        (Reply(200, JSON, b'{"a": NaN, "b": 1}'), Reply(200, JSON, b'{"a": NaN, "b": 1 }'), SAME),
        (GOOD, Reply(200, JSON, b'{"id": NaN, "name": "tea"}'), 'field "id" is NaN instead of 7, 3 of 3'),
        (Reply(200, JSON, b'{"n": 1e999}'), Reply(200, JSON, b'{"n": 1}'), 'field "n" is 1 instead of Infinity'),
        (GOOD, Reply(200, JSON, b'{"id": 1%b, "name": "tea"}' % (b"0" * 500)), 'field "id" is 1000'),
        (GOOD, Reply(200, JSON, b'{"id": 1%b, "name": "tea"}' % (b"0" * 5000)), "the body differs, 3 of 3"),
        (Reply(200, JSON, b"[" * 10_000 + b"]" * 10_000), Reply(200, JSON, b"[" * 10_000 + b"1" + b"]" * 10_000),
         "the body differs, 3 of 3"),
        (Reply(200, JSON, b'{"a":' * 300 + b"1" + b"}" * 300), Reply(200, JSON, b'{"a":' * 300 + b"2" + b"}" * 300),
         '… (599 letters)" is 2 instead of 1, 3 of 3'),
        (GOOD, Reply(200, JSON, b"[" * 10_000), "the body differs, 3 of 3"),
        (Reply(200, JSON, b'{"at": "2026-13-41T10:00:00Z"}'), Reply(200, JSON, b'{"at": "2026-13-42T10:00:00Z"}'),
         'field "at" is 2026-13-42T10:00:00Z instead of 2026-13-41T10:00:00Z'),
        (Reply(200, HTML, b"\xff\xfe<p>\x80</p>"), Reply(200, HTML, b"\xff\xfe<p>\x81</p>"), SAME),
        (Reply(200, {"Content-Type": "text/html; charset=klingon"}, b"a"), Reply(200, {"Content-Type": "text/html; charset=klingon"}, b"b"),
         'text of "text" differs'),
        (Reply(304), Reply(304), SAME),
        (Reply(200, JSON, b"{}"), Reply(204), "status 204 instead of 200, 3 of 3"),
        (Reply(200, {"Set-Cookie": "session=hunter22; HttpOnly"}), Reply(200, {"Set-Cookie": "sid=hunter23"}),
         "header set-cookie is sid instead of session"),
        (Reply(302, {"Location": "https://shop.example/a"}), Reply(302, {"Location": "https://other.example/a"}),
         "redirects to https://other.example/a instead of https://shop.example/a"),
        (Reply(302, {"Location": "http://[::1/a"}), Reply(302, {"Location": "//["}), "redirects to //[ instead of http://[::1/a"),
        (GOOD, Reply(200, {"Content-Type": "x" * 5000}, b"{}"), "… (5,000 letters) instead of application/json"),
    ],
)  # fmt: skip
def test_an_answer_is_compared_as_far_as_it_can_be(old: Reply, new: Reply, line: str) -> None:
    """Broken JSON, numbers and times that are none, redirects to elsewhere: a verdict in one line, no traceback."""
    verdict = verdict_of(old, new)
    assert verdict.outcome is Outcome.YES
    assert line in told(verdict)
    assert "hunter2" not in json.dumps(verdict.as_json())


@pytest.mark.parametrize(
    ("new", "line"),
    [
        (raw("200 OK\r\ncontent-length: 99", b"{}"), "no: GET /items/*: no answer instead of 200, 3 of 3"),
        (raw("200 OK\r\ncontent-length: -1", b"{}"), "no: GET /items/*: no answer instead of 200, 3 of 3"),
        (raw("200 OK\r\ncontent-length: 1\r\ncontent-length: 2", b"{}"), "no: GET /items/*: no answer instead"),
        (raw("200 OK\r\ntransfer-encoding: chunked", b"zz\r\n"), "no: GET /items/*: no answer instead of 200"),
        (raw("200 OK\r\nx: " + "y" * 200_000), "no: GET /items/*: no answer instead of 200, 3 of 3"),
        (rude_servers.hang_up, "no: GET /items/*: no answer instead of 200, 3 of 3"),
        (raw("204 No Content", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), "GET /items/*: status 204 instead of 200, 3"),
        (raw("200 OK\r\ncontent-type: application/json\r\ncontent-length: 24", b'{"id": 7, "name": "tea"}and more'), SAME),
        (rude_servers.say_nothing, "no: GET /items/*: no answer instead of 200, 3 of 3"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_http(new: rude_servers.Talk, line: str) -> None:
    """A wrong length, chunks that are none, an endless head, silence: the new release gives no answer."""
    assert line in told(verdict_of(GOOD, new, deadline_s=1.0))


def test_a_live_release_that_is_as_rude() -> None:
    """Nothing can be compared, and that is no fault of the new one."""
    line = told(verdict_of(raw("200 OK\r\ncontent-length: 99", b"{}"), GOOD))
    assert line == "not asked: none of 3 requests could be compared: 3 × the old release gave no answer"


def test_what_needs_a_login_is_counted() -> None:
    """Without credentials most of a service may answer 401: that is compared, and told."""
    found = verdict_of(Reply(401, JSON, b"{}"), Reply(401, JSON, b"{}"))
    assert told(found) == "yes: 3 requests on 1 route, 3 refused without a login: no difference"
    assert "status 200 instead of 401" in told(verdict_of(Reply(401, JSON, b"{}"), GOOD))


def test_a_limit_of_the_live_release() -> None:
    """What it refuses by 429 is not compared; a HEAD that it does not allow is."""
    assert told(verdict_of(Reply(429), GOOD)) == (
        "not asked: none of 3 requests could be compared: 3 × a rate limit (429)"
    )
    head = [CompareRequest("HEAD", "/items/1")]
    assert told(verdict_of(Reply(405), Reply(405), requests=head)).endswith("no difference")
    assert "status 405 instead of 200" in told(verdict_of(GOOD, Reply(405), requests=head))


# --- size ------------------------------------------------------------------------------------------------------------
def test_long_bodies_are_compared_by_hash_in_bounded_memory() -> None:
    """A body of some megabytes, 30 times; a bomb of gzip; a stream without end."""
    letters = b"a" * (3 * MOST_LETTERS)
    long, other = Reply(200, JSON, b'["%b"]' % letters), Reply(200, JSON, b'["%bb"]' % letters)
    many = [CompareRequest("GET", f"/items/{n}") for n in range(30)]
    tracemalloc.start()
    try:
        assert "30 requests on 1 route: no difference" in told(verdict_of(long, long, requests=many))
        assert "GET /items/*: the body differs, 30 of 30" in told(verdict_of(long, other, requests=many))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 120_000_000  # all of them are 270 MB
    bomb = Reply(200, JSON | {"Content-Encoding": "gzip"}, gzip.compress(bytes(100_000_000), 9))
    assert "the body differs, 3 of 3" in told(verdict_of(long, bomb))


def test_a_stream_without_end() -> None:
    """It ends with the deadline of a request, or with 10 MB."""
    over = threading.Event()
    endless = rude_servers.drip(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n", over)

    def flood(connection: object, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")  # type: ignore[attr-defined]
        while True:
            connection.sendall(b"x" * 65536)  # type: ignore[attr-defined]

    try:
        line = told(verdict_of(GOOD, endless, deadline_s=0.5))
        assert "no answer instead of 200, 3 of 3" in line
        line = told(verdict_of(GOOD, flood, deadline_s=20.0))
        assert "GET /items/*: the body differs, 3 of 3" in line
    finally:
        over.set()


def test_differences_without_end_are_one() -> None:
    """Two bodies that have nothing in common do not fill the report."""
    old, new = (
        Reply(200, JSON, json.dumps({f"{name}{n}": n for n in range(20_000)}).encode()) for name in ("a", "b")
    )
    found = verdict_of(old, new)
    assert told(found).endswith("1 difference, reported only: GET /items/*: the body differs, 3 of 3")
    key = "k" * 100_000
    found = verdict_of(Reply(200, JSON, b"{}"), Reply(200, JSON, json.dumps({key: key}).encode()))
    assert len(json.dumps(found.as_json())) < 5000


def test_slow_answers_end_with_the_time_of_the_comparison() -> None:
    """What is not answered by then is left out, and is no difference."""
    begun = time.monotonic()
    short = Compare.model_validate({"rate": 5000, "within": "1s"})
    line = told(verdict_of(GOOD, rude_servers.say_nothing, short, deadline_s=60.0))
    assert line == "not asked: none of 3 requests could be compared: no answer within 1 s"
    assert time.monotonic() - begun < 30  # and not 60


# --- text that is slow to read -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", "abc,def;" * 60_000),
        ("text/plain", "a" * 500_000),
        ("text/plain", "f" * 499_999 + "g"),
        ("application/octet-stream", "Zm9v/YmFy" * 55_000),
        ("text/html", "<a>" * 30_000 + "</b>" * 30_000),
        ("text/html", "<!--" * 120_000),
        ("text/html", "<a" * 250_000),
        ("text/html", "<?" * 250_000),
        ("text/html", "<script>" * 60_000),
        ("text/html", "<script " * 60_000),
        ("text/html", "&#" * 250_000),
    ],
)
def test_half_a_megabyte_is_compared_in_linear_time(kind: str, body: str) -> None:
    """Patterns that look ahead to the end at each letter would take minutes."""
    old, new = (Answer(200, {}, f"{body}{number}", content_type=kind) for number in (1, 2))
    begun = time.process_time()
    compare_all([Compared("GET /", "GET /", (old, old), new)])
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    "page",
    ["<![", "<![if !x>a", "<!x", "<!", "<!doctype", "a<!b>c", "<a <b>>", "</", "<\x00a>", "&#xfffffffff;", "<a"],
)  # fmt: skip
def test_a_page_with_a_broken_end(page: str) -> None:
    """The parser of the standard library fails on some of these; what comes before is compared."""
    found = elements_of(f"<p>tea</p><i>milk</i>{page}")
    assert (found["p/text"], found["i/text"]) == (["tea"], ["milk"])


def test_a_script_is_not_shown() -> None:
    """What it contains ends neither the page nor itself."""
    page = "<p>one</p><script>if (a<!b && c) x = '<!--<p>'</script><p>two</p><style><!-- p {} --></style>"
    assert elements_of(page)["p/text"] == ["one", "two"]


def test_a_redirect_to_the_own_address_is_one_to_a_path() -> None:
    """Each color has an address of its own; a longer one that begins like it is another."""
    for port in (8001, 8002):
        found = answer_of(
            HttpResponse(302, {"location": f"http://127.0.0.1:{port}/in"}, url=f"http://127.0.0.1:{port}/"), ["location"]
        )  # fmt: skip
        assert found is not None
        assert found.headers == {"location": "/in"}
    other = HttpResponse(302, {"location": "http://127.0.0.1:80010/in"}, url="http://127.0.0.1:8001/")
    kept = answer_of(other, ["location"])
    assert kept is not None
    assert kept.headers == {"location": "http://127.0.0.1:80010/in"}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("application/json", 'GET /: field "tags" is gone, 1 of 1'),
        ("text/plain", "GET /: the body differs, 1 of 1"),
    ],
)
@pytest.mark.parametrize("headers", [["location"], ["Location", "ETag"], []])
def test_bodies_are_compared_whatever_headers_are(headers: list[str], kind: str, said: str) -> None:
    """`[compare] headers` without the content type, in any spelling: fields are compared as ever."""
    old = HttpResponse(200, {"content-type": "application/json"}, '{"id": 7, "tags": []}')
    new = HttpResponse(200, {"content-type": kind}, '{"id": 7}')
    answers = [answer_of(each, headers) for each in (old, new)]
    found = compare_all([Compared("GET /", "GET /", (answers[0], answers[0]), answers[1])])
    assert [each.text for each in found.groups] == [said]
