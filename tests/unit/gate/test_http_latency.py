from __future__ import annotations

import math
import socket
import time
from collections.abc import Sequence

import pytest

from cutover.core.config_schema import Ready
from cutover.core.verdict import Outcome
from cutover.gate.http_checks import judge_latency, latency, sampled_path, sampled_ready, slower_than_other
from cutover.system.http import HttpClient, HttpResponse, NoResponse
from tests.helpers.rude_servers import BAD, GOOD, Talk, in_turn, response, says, serving

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
OK = response(200, {"ready": True})


def took(*seconds: float, status: int = 200) -> list[HttpResponse | NoResponse]:
    """Answers that took so long; infinite is silence."""
    return [
        NoResponse("timeout", "no complete answer in 5.0 s", "http://x", 5.0) if math.isinf(each)
        else HttpResponse(status, {}, "", "http://x", each) for each in seconds
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        (took(0.1, 0.1, 0.1, 0.1, 0.1), YES, "median 100 ms, worst but one 100 ms of 5 (limit 1.00 s)"),
        (took(0.1, 0.1, 9.0, 0.1, 0.1), YES, "worst but one 100 ms"),
        (took(0.1, 2.0, 9.0, 0.1, 0.1), NO, "median 100 ms, worst but one 2.00 s of 5"),
        (took(2.0, 2.0, 2.0, 2.0, 2.0), NO, "median 2.00 s"),
        (took(0.1, 0.1, math.inf, 0.1, 0.1), YES, "worst but one 100 ms"),
        (took(0.1, math.inf, math.inf, 0.1, 0.1), NO, "no complete answer in 5.0 s"),
        (took(0.1, 1.2, math.inf, 0.1, 0.1), NO, "worst but one 1.20 s"),
        (took(0.1, 1.002, 9.0, 0.1, 0.1), NO, "worst but one 1.01 s of 5 (limit 1.00 s)"),
        (took(0.2), YES, "the only one 200 ms of 1"),
        (took(2.0), NO, "the only one 2.00 s of 1"),
        (took(0.1, 0.1, 0.1) + took(0.1, status=500), YES, "worst but one"),
        (took(0.1, 0.1) + took(0.1, 0.1, status=500), NO, "2 of 4 requests were answered with 500"),
    ],
)
def test_one_odd_sample_is_no_answer(
    seen: Sequence[HttpResponse | NoResponse], outcome: Outcome, reason: str
) -> None:
    """The worst sample does not decide, the one before it does."""
    verdict = judge_latency("/x", seen, 1.0, GOOD)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_silence_without_a_way_is_unknown() -> None:
    """Who hears nothing and has no way judges nothing."""
    assert judge_latency("/x", took(math.inf, math.inf), 1.0, BAD).outcome is UNKNOWN


def late(seconds: float) -> Talk:
    """Answers after *seconds*."""

    def talk(connection: object, request: bytes) -> None:
        time.sleep(seconds)
        says(OK)(connection, request)  # type: ignore[arg-type]

    return talk


def test_a_service_may_warm_up() -> None:
    """Bad first answers are sampled on until the last samples are good."""
    cold = [says(response(500, {}))] * 4
    with serving(in_turn(*cold, says(OK))) as url, HttpClient(url, 60) as http:
        verdict = latency(http, GOOD, sampled_path("/x"), 60.0, samples=3)
    assert (verdict.outcome, len(verdict.evidence["milliseconds"])) == (YES, 3)


def test_a_slow_service_is_given_up() -> None:
    """A service that stays slow is asked at most three times as often."""
    with serving(late(0.02)) as url, HttpClient(url, 30) as http:
        verdict = latency(http, GOOD, sampled_path("/x"), 0.001, samples=2)
    assert verdict.outcome is NO


def test_sampling_ends_by_the_clock() -> None:
    """However slow the answers are, sampling ends after about ten seconds, with two samples at least."""
    ticks = iter(range(0, 10_000, 100))
    asked = []

    def talk(connection: object, request: bytes) -> None:
        asked.append(request)
        says(response(500, {}))(connection, request)  # type: ignore[arg-type]

    with serving(talk) as url, HttpClient(url, 30) as http:
        verdict = latency(http, GOOD, sampled_path("/x"), 1.0, samples=50, clock=lambda: float(next(ticks)))
    assert (verdict.outcome, len(asked)) == (NO, 3)


def test_of_a_service_without_http_the_connect_is_timed() -> None:
    """With `[ready] tcp` no request is sent; the moment that a connection must stay open does not count."""
    sent = []

    def talk(connection: socket.socket, request: bytes) -> None:
        sent.append(request)

    asked = sampled_ready(Ready.model_validate({"tcp": True, "timeout": "30s"}))
    with serving(talk) as url, HttpClient(url, 30) as http:
        verdict = latency(http, GOOD, asked, 0.2, samples=2)
    assert verdict.outcome is YES, verdict
    assert verdict.reason.startswith("a TCP connection: median ")
    assert not any(sent)
    with HttpClient(url, 30) as http:
        assert latency(http, GOOD, asked, 0.2, samples=2).outcome is NO


@pytest.mark.parametrize(
    ("seen", "beside_s", "outcome"),
    [
        (took(0.2, 0.2), 0.1, NOT_ASKED),
        (took(0.2, 0.2), 0.0, NO),
        (took(0.2, 0.2), None, NO),
        (took(0.01, 0.01), 0.1, YES),
        (took(0.01, 0.01, status=500), 0.1, NO),
    ],
)
def test_what_the_other_color_suffers_too_is_only_reported(
    seen: Sequence[HttpResponse | NoResponse], beside_s: float | None, outcome: Outcome
) -> None:
    """On a busy host both are slow in the same moment; an error, or a color that is slow alone, stays a no."""
    verdict = judge_latency("/x", seen, 0.05, GOOD)
    with serving(late(beside_s or 0.0)) as url:
        other = HttpClient(url, 5.0) if beside_s is not None else None
        found = slower_than_other(verdict, other, sampled_path("/x"), 0.05, 2)
    assert found.outcome is outcome, found
    assert outcome is not NOT_ASKED or "the other color is too slow as well" in found.reason
