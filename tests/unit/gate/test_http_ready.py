from __future__ import annotations

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

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN


def asked(talk: Talk, wanted: Ready | None = None) -> Verdict:
    """The verdict on a server that behaves like *talk*."""
    with serving(talk) as url, HttpClient(url, 30) as http:
        return ready(http, GOOD, wanted or Ready(timeout=30.0))


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (response(200, '{"ready":true}'), YES, "says so in"),
        (response(200, '{ "ready" : true, "db": "ok" }'), YES, "says so in"),
        (response(200, {"ready": False}), NO, "expected ready true, got false"),
        (response(200, {"ready": "true"}), NO, 'expected ready true, got "true" (a string)'),
        (response(200, {"ready": 1}), NO, "expected ready true, got 1 (a number)"),
        (response(200, {}), NO, "expected ready true, there is no such key"),
        (response(200, [True]), NO, 'expected {"ready": true}, got [true]'),
        (response(200, "ready"), NO, "expected JSON, got Expecting value"),
        (response(200, ""), NO, "(empty)"),
        (response(200, '{"ready":true}', kind="text/html"), NO, "expected JSON, got content-type text/html"),
        (response(200, '{"ready":true}<p>'), NO, "expected JSON, got Extra data"),
        (response(204, ""), NO, "expected status 200, got 204"),
        (response(302, "", "location: /login"), NO, "expected status 200, got 302, a redirect to /login"),
        (response(301, {"ready": True}, "location: /version"), NO, "a redirect to /version"),
        (response(503, {"ready": False, "db": "refused"}), NO, 'got 503: {"ready": false, "db": "refused"}'),
        (response(500, {"ready": True}), NO, "expected status 200, got 500"),
    ],
)
def test_ready_is_meant_strictly(answer: bytes, outcome: Outcome, reason: str) -> None:
    """Only 200 with the JSON boolean is ready, and the reason names what was said instead."""
    verdict = asked(says(answer))
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (response(200, "OK", kind="text/plain"), YES),
        (response(200, "<p>hello</p>", kind="text/html"), YES),
        (response(200, ""), YES),
        (response(503, "OK"), NO),
        (response(302, "", "location: /login"), NO),
    ],
)
def test_without_keys_the_status_decides(answer: bytes, outcome: Outcome) -> None:
    """`json = {}`: a page that says OK or answers with HTML is ready."""
    assert asked(says(answer), Ready.model_validate({"json": {}, "timeout": "30s"})).outcome == outcome


def test_a_dropped_probe_is_asked_again() -> None:
    """One reset connection is not a no."""
    verdict = asked(in_turn(hang_up, says(response(200, {"ready": True}))))
    assert (verdict.outcome, len(verdict.evidence["silent_before"])) == (YES, 1)


def test_a_hung_release_is_broken() -> None:
    """Silence of a container that runs is a no."""
    verdict = asked(say_nothing, Ready(timeout=0.3))
    assert (verdict.outcome, "no complete answer" in verdict.reason) == (NO, True)


def test_silence_without_a_way_is_unknown() -> None:
    """Where the control question fails too, nobody knows."""
    with HttpClient(nobody(), 30) as http:
        assert ready(http, BAD, Ready()).outcome is UNKNOWN
