"""The proof of a switch: what samples say, and asked over real connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from cutover.core.verdict import Outcome
from cutover.proxy.base import ProxyClient
from cutover.proxy.proof import (
    KeptConnection,
    ProbePlan,
    RequestSample,
    SwitchProbe,
    hanging,
    has_surely_failed,
    longest_gap,
    summarize_switch,
    timeline,
)
from cutover.system.http import HttpAddress, NoResponse
from tests.helpers.color_servers import Colors, free_port, two_colors

CALLED = 100.0


def at(
    started: float, color: str = "green", status: int = 200, took: float = 0.01, method: str = "GET"
) -> RequestSample:
    """A request that was sent *started* seconds after the switch was called."""
    error = "" if status else "ConnectionResetError"
    return RequestSample(CALLED + started, CALLED + started + took, color, status, method, error)


BEFORE = [at(-0.2, "blue"), at(-0.1, "blue")]
AFTER = [at(0.01), at(0.05), at(0.1, method="POST")]


@pytest.mark.parametrize(
    ("samples", "outcome", "reason"),
    [
        ([*BEFORE, *AFTER], Outcome.YES, "2 requests on 0 open and 0 new connections: 2 green, 0 failed"),
        # The switch takes a moment: what was sent before the first new answer may still be the old color's.
        ([*BEFORE, at(0.005, "blue"), *AFTER], Outcome.YES, "2 requests on"),
        # A long request that began before the switch ends where it began.
        ([at(-1, "blue", took=5), *BEFORE, *AFTER], Outcome.YES, "2 requests on"),
        ([*BEFORE, *AFTER, at(0.2, "blue")], Outcome.NO, "1 of 3 requests since then not answered by green"),
        ([*BEFORE, *AFTER, at(0.2, "")], Outcome.NO, "1 of 3 requests since then not answered by green"),
        (
            [*BEFORE, *AFTER, at(0.2, status=500)],
            Outcome.NO,
            "1 request failed around the switch: GET was answered 500",
        ),
        (
            [*BEFORE, *AFTER, at(0.2, "", 0)],
            Outcome.NO,
            "1 request failed around the switch: ConnectionResetError",
        ),
        # In flight when it was called: this is exactly what a switch may not break.
        (
            [at(-0.1, "", 0, took=0.2), *AFTER],
            Outcome.NO,
            "1 request failed around the switch: ConnectionReset",
        ),
        # The old color was broken before: a reason to switch, not one to go back.
        ([at(-0.2, "blue", 500), at(-0.1, "", 0, took=0.01), *AFTER], Outcome.YES, "2 requests on"),
        (
            [*BEFORE, at(0.1, "blue"), at(3, "blue")],
            Outcome.NO,
            "no answer from green 3.0 s after the switch",
        ),
        # Also its last answer, after the switch had been called; a connection that breaks then is another thing.
        ([at(-0.2, "blue", 500), at(-0.005, "", 502), *AFTER], Outcome.YES, "2 requests on"),
        (
            [at(-0.2, "blue", 500), at(-0.005, "", 0), *AFTER],
            Outcome.NO,
            "1 request failed around the switch",
        ),
        # Nor is one that ends without an answer just as those before did: the old color hangs.
        ([at(-0.2, "", 0), at(-0.005, "", 0), *AFTER], Outcome.YES, "2 requests on"),
        (
            [*BEFORE, at(0.01, ""), at(0.02, "")],
            Outcome.NO,
            "no answer from green 0.0 s after the switch: GET was",
        ),
        ([*BEFORE, at(-0.005, "", 502), *AFTER], Outcome.NO, "1 request failed around the switch: GET was"),
        ([*BEFORE, at(0.01)], Outcome.NO, "no request was sent after the first answer of green"),
        (
            [*BEFORE, at(0.1, "", 0)],
            Outcome.NO,
            "no answer from green 0.1 s after the switch: ConnectionReset",
        ),
        ([], Outcome.NO, "no answer from green 0.0 s after the switch"),
    ],
)
def test_samples_say(samples: list[RequestSample], outcome: Outcome, reason: str) -> None:
    """All requests since the first answer of the new color are its own, and none failed since the call."""
    verdict = summarize_switch(samples, "green", CALLED).verdict()
    assert verdict.outcome is outcome
    assert verdict.reason.startswith(reason)


def test_silence_of_everything_is_unknown() -> None:
    """Where the proxy itself is silent too, nobody knows whether the service is."""
    proof = summarize_switch([*BEFORE, at(0.1, "", 0)], "green", CALLED, way_is_good=False)
    assert proof.verdict().outcome is Outcome.UNKNOWN


def test_a_gap_that_was_announced() -> None:
    """A port swap may fail requests until its first answer, which are counted and said; none after it."""
    gap = [*BEFORE, at(0.001, "", 0), at(1, "", 0), at(2), at(2.1), at(2.2)]
    proof = summarize_switch(gap, "green", CALLED, gap_announced=True)
    assert (proof.failed, proof.failed_in_gap) == (0, 2)
    assert proof.verdict().ok
    assert str(proof).endswith("longest gap 2100 ms with 2 failed requests in it, as announced")
    assert (
        summarize_switch([*gap, at(3, "", 0)], "green", CALLED, gap_announced=True).verdict().outcome
        is Outcome.NO
    )
    assert summarize_switch(gap, "green", CALLED).verdict().outcome is Outcome.NO


def test_counts_and_times() -> None:
    """Requests, posts, the first answer and the longest gap, as JSON for the report."""
    proof = summarize_switch(
        [*BEFORE, *AFTER, at(0.5, status=502)], "green", CALLED, open_connections=3, new_connections=2
    )
    seen = json.loads(json.dumps(proof.as_json()))
    assert (seen["requests"], seen["answered"], seen["posts"], seen["failed"]) == (3, 2, 1, 1)
    assert (seen["open_connections"], seen["new_connections"], seen["failed_before"]) == (3, 2, 0)
    assert seen["first_answer_ms"] == pytest.approx(20)
    assert seen["longest_gap_ms"] == pytest.approx(400)
    assert sum(row[1] for row in seen["timeline"]) == 2
    assert sum(row[2] for row in seen["timeline"]) == 3
    assert sum(row[3] for row in seen["timeline"]) == 1


@pytest.mark.parametrize(
    ("samples", "gap"),
    [
        ([], 0),
        ([at(-5, "blue"), at(-1, "blue"), at(0.5)], 1.5),
        ([at(-1, "blue"), at(0.5), at(0.6)], 1.5),
        # A service that answers nobody at the end has a gap up to the end.
        ([at(0), at(0.1), at(0.2, "", 0, took=2)], 2.09),
    ],
)
def test_the_longest_gap(samples: list[RequestSample], gap: float) -> None:
    """The longest time around and after the switch in which nobody was answered; what was before is not counted."""
    assert longest_gap(samples, CALLED) == pytest.approx(gap)


def test_the_timeline_has_no_holes() -> None:
    """Each 100 ms is a row, also the one in which nothing happened."""
    rows = timeline([at(-0.15, "blue"), at(0.05), at(0.31, "", 0)], CALLED)
    assert rows == (
        (-200, 1, 0, 0),
        (-100, 0, 0, 0),
        (0, 0, 1, 0),
        (100, 0, 0, 0),
        (200, 0, 0, 0),
        (300, 0, 0, 1),
    )


@pytest.fixture
def colors() -> Iterator[Colors]:
    """Blue and green."""
    with two_colors() as pair:
        yield pair


def prover(port: int, **more: float) -> SwitchProbe:
    """A prover that asks a server of ours, quickly."""
    plan = ProbePlan("/version", "/echo", 6, 3, more.get("rate", 60.0), settle_s=more.get("settle_s", 30.0))
    return SwitchProbe(ProxyClient(f"http://127.0.0.1:{port}", "/version", "/alive", "X-Color"), plan)


def test_asks_on_open_and_on_new_connections(colors: Colors) -> None:
    """Every connection asks with GET and with POST, three rounds of each, and all are answered by one color."""
    one = prover(colors.green.port)
    try:
        assert one.begin().ok
        one.about_to_switch()
        proof = one.prove("green")
    finally:
        one.close()
    assert proof.verdict().ok, proof
    assert proof.answered == proof.requests >= 9 * 2 * 3
    assert proof.posts >= 9 * 3
    assert (proof.open_connections, proof.new_connections, proof.reopened) == (6, 3, 0)


def test_a_switch_that_did_not_happen(colors: Colors) -> None:
    """Where the old color goes on answering, the proof is a no after its time, not a wait for ever."""
    one = prover(colors.blue.port, settle_s=0.2)
    try:
        one.begin()
        one.about_to_switch()
        verdict = one.prove("green").verdict()
    finally:
        one.close()
    assert verdict.outcome is Outcome.NO
    assert verdict.reason.startswith("no answer from green")


def test_ends_although_nobody_can_keep_up(colors: Colors) -> None:
    """Users who are late all the time, as on an overloaded machine, stop when they are told to."""
    one = prover(colors.green.port, rate=1e6)
    try:
        one.begin()
        one.about_to_switch()
        proof = one.prove("green")
    finally:
        one.close()
    assert proof.verdict().ok
    assert proof.requests < 1e6


def test_a_new_color_that_fails(colors: Colors) -> None:
    """Answers with 500 are failures, whoever gave them."""
    colors.green.status = 500
    one = prover(colors.green.port, settle_s=0.2)
    try:
        one.begin()
        verdict = one.prove("green").verdict()
    finally:
        one.close()
    assert verdict.outcome is Outcome.NO


@pytest.mark.parametrize(
    ("samples", "sure"),
    [
        ([*BEFORE, *AFTER], False),
        ([*BEFORE, at(0.005, "blue")], False),
        ([*BEFORE, at(0.005, "", 502)], True),
        ([at(-0.2, "blue", 500), at(0.005, "blue", 500)], False),
        ([at(-0.2, "blue", 500), *AFTER, at(0.2, "", 502)], True),
        ([*BEFORE, *AFTER, at(0.2, "blue")], True),
    ],
)
def test_when_a_proof_can_only_become_a_no(samples: list[RequestSample], *, sure: bool) -> None:
    """A failed request or a wrong color after the first answer is sure; before it what may be excused is not."""
    assert has_surely_failed(samples, "green", CALLED) is sure
    if sure:
        assert summarize_switch(samples, "green", CALLED).verdict().outcome is Outcome.NO
    assert not has_surely_failed([*BEFORE, at(0.005, "", 502)], "green", CALLED, gap_announced=True)


@pytest.mark.parametrize(
    ("samples", "sent", "now", "number"),
    [
        (BEFORE, (0.1, 0.1, 0.2), 2.0, 0),
        (BEFORE, (0.1, 0.1, 0.2), 2.2, 3),
        (BEFORE, (0.1, 0.1), 2.2, 0),
        (BEFORE, (-0.5, 0.1, 0.2), 2.2, 0),
        ([*BEFORE, at(1.0)], (0.1, 0.1, 0.2), 2.2, 0),
        ([at(-2, "blue", took=1.0)], (0.1, 0.1, 0.2), 2.2, 0),
        ([at(-2, "blue", took=1.0)], (0.1, 0.1, 0.2), 10.3, 3),
    ],
)
def test_what_hangs(samples: list[RequestSample], sent: tuple[float, ...], now: float, number: int) -> None:
    """Three requests without an answer for 2 s, and for ten times the slowest before, while nothing is answered."""
    assert hanging(samples, [CALLED + each for each in sent], CALLED, CALLED + now) == number


@pytest.mark.parametrize("how", ["fails", "hangs", "is told"])
def test_ends_at_the_first_sure_no(how: str, colors: Colors) -> None:
    """Users wait for the way back: neither ten seconds for a first answer nor for the deadline of what hangs."""
    one = prover(colors.green.port)
    try:
        assert one.begin().ok
        one.about_to_switch()
        begun = time.monotonic()
        colors.green.status = 500 if how == "fails" else 200
        colors.green.hangs = how == "hangs"
        verdict = one.prove("green", lambda: how == "is told").verdict()
    finally:
        one.close()
    assert how == "is told" or verdict.outcome is Outcome.NO
    assert ("without an answer for 2 s and more" in verdict.reason) is (how == "hangs")
    assert time.monotonic() - begun < 6


def test_nobody_to_connect_to() -> None:
    """Connections that cannot be opened are unknown before the switch, so that it does not happen."""
    one = prover(free_port())
    try:
        verdict = one.begin()
    finally:
        one.close()
        one.close()
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.reason.startswith("12 of 12 first requests: connection refused")


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_a_host_that_is_no_name_is_silence(host: str) -> None:
    """A name that cannot be looked up is like one that nobody has."""
    answer = asyncio.run(KeptConnection(HttpAddress(host, 80)).send("GET", "/"))
    assert isinstance(answer, NoResponse)
    assert (answer.kind, answer.reason) == ("refused", "no connection: no host has such a name")
