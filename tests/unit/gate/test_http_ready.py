from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from cutover.core.config_schema import Ready
from cutover.core.verdict import Outcome, Verdict
from cutover.gate.http_checks import ready
from cutover.system.http import HttpClient
from tests.helpers.rude_servers import (
    BAD,
    GOOD,
    Talk,
    hang_up,
    in_turn,
    nobody,
    response,
    say_nothing,
    says,
    serving,
)

PATIENT = Ready.model_validate({"timeout": "30s"})
READY_TRUE = Ready.model_validate({"json": {"ready": True}, "timeout": "30s"})
YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN


def asked(talk: Talk, wanted: Ready | None = None) -> Verdict:
    """The verdict on a server that behaves like *talk*."""
    with serving(talk) as url, HttpClient(url, 30) as http:
        return ready(http, GOOD, wanted or PATIENT)


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (response(200, '{"ready":true}'), YES, "says so in"),
        (response(200, '{ "ready" : true, "db": "ok" }'), YES, "says so in"),
        (response(204, '{"ready":true}'), NO, "(empty)"),
        (response(200, {"ready": False}), NO, "expected ready true, got false"),
        (response(200, {"ready": "true"}), NO, 'expected ready true, got "true" (a string)'),
        (response(200, {"ready": 1}), NO, "expected ready true, got 1 (a number)"),
        (response(200, {}), NO, "expected ready true, there is no such key"),
        (response(200, [True]), NO, 'expected {"ready": true}, got [true]'),
        (response(200, "ready"), NO, "expected JSON, got Expecting value"),
        (response(200, ""), NO, "(empty)"),
        (response(200, '{"ready":true}', kind="text/html"), NO, "expected JSON, got content-type text/html"),
        (response(200, '{"ready":true}<p>'), NO, "expected JSON, got Extra data"),
        (response(302, "", "location: /login"), NO, "expected status 2xx, got 302, a redirect to /login"),
        (response(301, {"ready": True}, "location: /version"), NO, "a redirect to /version"),
        (response(503, {"ready": False, "db": "refused"}), NO, 'got 503: {"ready": false, "db": "refused"}'),
        (response(500, {"ready": True}), NO, "expected status 2xx, got 500"),
    ],
)
def test_json_is_meant_strictly(answer: bytes, outcome: Outcome, reason: str) -> None:
    """With `json` only that JSON boolean is ready, and the reason names what was said instead."""
    verdict = asked(says(answer), READY_TRUE)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("keys", "answer", "outcome", "reason"),
    [
        ({}, response(200, "OK", kind="text/plain"), YES, ""),
        ({}, response(200, "<p>hello</p>", kind="text/html"), YES, ""),
        ({}, response(204, ""), YES, ""),
        ({}, response(503, "OK"), NO, "expected status 2xx, got 503: OK"),
        ({}, response(404, ""), NO, "expected status 2xx, got 404"),
        ({}, response(302, "", "location: /login"), NO, "a redirect to /login"),
        ({"status": 302}, response(302, "", "location: /login"), YES, ""),
        ({"status": 401}, response(401, "who?"), YES, ""),
        ({"status": 200}, response(204, ""), NO, "expected status 200, got 204"),
        ({"text": "ready"}, response(200, "all ready", kind="text/plain"), YES, ""),
        (
            {"text": "ready"},
            response(200, "<p>app</p>", kind="text/html"),
            NO,
            "expected the text 'ready', got <p>app",
        ),
        ({"header": {"X-State": "up|warm"}}, response(200, "", "x-state: warm"), YES, ""),
        (
            {"header": {"X-State": "up|warm"}},
            response(200, "", "x-state: cold"),
            NO,
            "header X-State: up|warm, got cold",
        ),
        ({"header": {"X-State": "up"}}, response(200, ""), NO, "expected header X-State: up, there is none"),
    ],
)
def test_all_that_is_given_must_hold(
    keys: dict[str, object], answer: bytes, outcome: Outcome, reason: str
) -> None:
    """By status, text or header; without any key a page that says OK or answers with HTML is ready."""
    verdict = asked(says(answer), Ready.model_validate({**keys, "timeout": "30s"}))
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_an_open_port() -> None:
    """With `tcp` no request is sent: a connection that stays open is ready."""
    verdict = asked(say_nothing, Ready.model_validate({"tcp": True, "timeout": "30s"}))
    assert (verdict.outcome, verdict.expected) == (YES, "a TCP connection"), verdict


def accept_and_close(listener: socket.socket) -> None:
    """As the engine does for a container that does not listen."""
    listener.accept()[0].close()


def test_a_port_of_nobody() -> None:
    """The engine accepts connections for a container that does not listen, and closes them."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(accept_and_close, listener)
        with HttpClient(f"http://127.0.0.1:{listener.getsockname()[1]}", 30) as http:
            verdict = ready(http, GOOD, Ready.model_validate({"tcp": True, "timeout": "30s"}))
    assert (verdict.outcome, "connection accepted and closed" in verdict.reason) == (NO, True), verdict


def test_a_closed_port() -> None:
    """Nobody listens."""
    with HttpClient(nobody(), 30) as http:
        verdict = ready(http, GOOD, Ready(tcp=True))
    assert (verdict.outcome, "connection refused" in verdict.reason) == (NO, True), verdict


def test_a_port_sends_no_request() -> None:
    """`tcp` beside a key about a response is a mistake."""
    with pytest.raises(ValueError, match="tcp = true sends no request: remove json, or tcp"):
        Ready.model_validate({"tcp": True, "json": {"ready": True}})


def test_a_dropped_probe_is_asked_again() -> None:
    """One reset connection is not a no."""
    verdict = asked(in_turn(hang_up, says(response(200, {"ready": True}))))
    assert (verdict.outcome, len(verdict.evidence["silent_before"])) == (YES, 1)


def test_a_hung_release_is_broken() -> None:
    """Silence of a container that runs is a no."""
    verdict = asked(say_nothing, Ready.model_validate({"timeout": "300ms"}))
    assert (verdict.outcome, "no complete answer" in verdict.reason) == (NO, True)


def test_silence_without_a_way_is_unknown() -> None:
    """Where the control question fails too, nobody knows."""
    with HttpClient(nobody(), 30) as http:
        assert ready(http, BAD, Ready()).outcome is UNKNOWN


@pytest.mark.parametrize("talk", [hang_up, says(response(502, "bad gateway"))])
def test_a_no_names_what_the_engine_knows(talk: Talk) -> None:
    """A closed connection, and the 502 of a proxy, are consequences: the reason ends with the cause, once."""
    cause = "its container exited (137, SIGKILL) 3 s after its start, killed for its memory limit"
    knowing = replace(GOOD, cause=lambda: cause)
    with serving(talk) as url, HttpClient(url, 30) as http:
        verdict = ready(http, knowing, PATIENT)
    assert verdict.outcome is NO
    assert verdict.reason.endswith(f"; {cause}")
    assert verdict.reason.count(cause) == 1


def test_the_engine_is_not_asked_about_a_yes() -> None:
    """Only a failure needs a cause; one that the engine does not know leaves the reason as it is."""
    asks = list[int]()

    def nothing() -> str:
        asks.append(1)
        return ""

    knowing = replace(GOOD, cause=nothing)
    with serving(says(response(200, ""))) as url, HttpClient(url, 30) as http:
        assert ready(http, knowing, PATIENT).ok
    assert not asks
    with serving(says(response(503, ""))) as url, HttpClient(url, 30) as http:
        assert ready(http, knowing, PATIENT).reason == "expected status 2xx, got 503"
    assert asks
