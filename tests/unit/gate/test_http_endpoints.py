from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from cutover.core.config_schema import Endpoint
from cutover.core.verdict import Outcome, Verdict
from cutover.gate.http_checks import endpoint, fill_path, header_problem, judge_endpoint
from cutover.system.http import HttpClient, HttpResponse
from tests.helpers.rude_servers import BAD, GOOD, hang_up, nobody, response, serving

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN


def wanted(**more: Any) -> Endpoint:
    """An entry of `[[endpoints]]`."""
    return Endpoint.model_validate({"path": "/memories", **more})


def said(body: Any = None, status: int = 200, seconds: float = 0.01, color: str = "") -> HttpResponse:
    """What a service answered."""
    headers = {"content-type": "application/json"} | ({"x-color": color} if color else {})
    return HttpResponse(status, headers, json.dumps(body), "http://x", seconds)


@pytest.mark.parametrize(
    ("answer", "want", "outcome", "reason"),
    [
        (said([]), wanted(), YES, "200 in 10 ms"),
        (said([], 404), wanted(), NO, "expected status 200, got 404: []"),
        (said([], 404), wanted(status=404), YES, "404 in 10 ms"),
        (said({"items": [], "n": 0}), wanted(json={"items": []}), YES, "200"),
        (said({"n": 0}), wanted(json={"items": []}), NO, "expected items [], there is no such key"),
        (said({"items": [1, 2]}), wanted(json={"items": []}), YES, "200"),
        (said({"items": {}}), wanted(json={"items": []}), NO, "expected items [], got {} (an object)"),
        (said({"items": [{"id": 1, "x": 2}]}), wanted(json={"items": [{"id": 1}]}), YES, "200"),
        (said({"items": [{"id": 2}]}), wanted(json={"items": [{"id": 1}]}), NO, "expected items[0].id 1, got 2"),
        (said({"items": [1, 2]}), wanted(json={"items": [1]}), NO, "expected items with 1 elements, got 2"),
        (said({"n": True}), wanted(json={"n": 1}), NO, "expected n 1, got true (a boolean)"),
        (said({"n": 1.0}), wanted(json={"n": 1}), YES, "200"),
        (said(None), wanted(json={"n": 1}), NO, 'expected {"n": 1}, got null'),
        (said({"a": 1}), wanted(json={"a": 2, "b": 3}), NO, "expected a 2, got 1 (and 1 more)"),
        (said(seconds=1.5), wanted(), NO, "expected an answer within 1000 ms, it took 1500 ms"),
        (said(seconds=1.0002), wanted(), NO, "expected an answer within 1000 ms, it took 1001 ms"),
        (said(), wanted(headers={"X-Color": "green"}), NO, "expected header X-Color: green, there is none"),
        (said(color="blue"), wanted(headers={"X-Color": "green"}), NO, "got blue"),
        (said(color="green"), wanted(headers={"X-Color": "blue|green"}), YES, "200"),
    ],
)  # fmt: skip
def test_endpoint(answer: HttpResponse, want: Endpoint, outcome: Outcome, reason: str) -> None:
    """Status, JSON, headers and time must all be as the file says; more keys than wanted are welcome."""
    verdict = judge_endpoint(answer, want)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("value", "pattern", "fits"),
    [
        ("max-age=60", "max-age=\\d+", True),
        ("max-age=60, private", "max-age=\\d+", False),
        ("a(b", "a(b", True),
        ("ab", "a(b", False),
        ("anything", ".*", True),
    ],
)
def test_headers_are_words_or_expressions(value: str, pattern: str, *, fits: bool) -> None:
    """A header fits word for word, or as a whole by an expression; a broken expression is meant as words."""
    assert (header_problem({"x": value}, {"X": pattern}) == "") is fits


@pytest.mark.parametrize(
    ("path", "body", "filled"),
    [
        ("/m/{id}", {"id": 7}, "/m/7"),
        ("/m/{memory.id}", {"memory": {"id": "a/b"}}, "/m/a%2Fb"),
        ("/m/{ids.0}", {"ids": [3]}, "/m/3"),
        ("/m/all", None, "/m/all"),
    ],
)
def test_undo_takes_its_places_from_the_answer(path: str, body: Any, filled: str) -> None:
    """A place in the undo's path is filled from the JSON that the write answered."""
    assert fill_path(path, said(body)) == filled


class Store:
    """A service that keeps what is written, and answers an undo with *undo*."""

    def __init__(self, write: bytes, undo: bytes) -> None:
        self.write, self.undo, self.asked = write, undo, list[str]()

    def __call__(self, connection: socket.socket, request: bytes) -> None:
        """Answer one request."""
        self.asked.append(b" ".join(request.split(b" ", 2)[:2]).decode())
        connection.sendall(self.undo if request.startswith(b"DELETE") else self.write)


WRITES = wanted(
    method="POST",
    status=201,
    send={"text": "x"},
    writes=True,
    undo="DELETE /memories/{id}",
    max_latency="30s",
)


def written(write: bytes, undo: bytes, want: Endpoint = WRITES) -> tuple[Verdict, list[str]]:
    """The verdict on a write, and what the service was asked."""
    store = Store(write, undo)
    with serving(store) as url, HttpClient(url, 30) as http:
        return endpoint(http, GOOD, want), store.asked


BOTH = ["POST /memories", "DELETE /memories/7"]
CREATED = response(201, {"id": 7})
DONE = response(204, "")


@pytest.mark.parametrize(
    ("write", "undo", "outcome", "reason", "asked"),
    [
        (CREATED, DONE, YES, "201 in", BOTH),
        (CREATED, response(404, {}), YES, "201 in", BOTH),
        (CREATED, response(500, {}), NO, "its undo DELETE /memories/7 was answered with 500", BOTH),
        (response(200, {"id": 7}), DONE, NO, "expected status 201, got 200", BOTH),
        (response(201, {}), DONE, NO, "still there: its undo needs {id}", BOTH[:1]),
        (response(201, "[]"), DONE, NO, "needs {id}", BOTH[:1]),
        (response(500, {}), DONE, NO, "got 500", BOTH[:1]),
    ],
)
def test_what_is_written_is_undone(
    write: bytes, undo: bytes, outcome: Outcome, reason: str, asked: list[str]
) -> None:
    """A write is undone, also when its answer was wrong; a failed undo is told."""
    verdict, seen = written(write, undo)
    assert (verdict.outcome, reason in verdict.reason, seen) == (outcome, True, asked), verdict


def test_a_slow_answer_is_asked_for_again() -> None:
    """One that is only slow is sent a second time, and undone a second time."""
    slow = WRITES.model_copy(update={"max_latency": 0.0})
    verdict, asked = written(CREATED, DONE, slow)
    assert (verdict.outcome, asked) == (NO, BOTH * 2)


def test_a_silent_write_says_what_is_not_known() -> None:
    """A write that was not answered may have written: the reason says so."""
    with serving(hang_up) as url, HttpClient(url, 30) as http:
        verdict = endpoint(http, GOOD, WRITES)
    assert (verdict.outcome, "whether it wrote something is not known" in verdict.reason) == (NO, True)


def test_silence_without_a_way_is_unknown() -> None:
    """Where the control question fails too, nobody knows."""
    with HttpClient(nobody(), 30) as http:
        assert endpoint(http, BAD, wanted()).outcome is UNKNOWN
