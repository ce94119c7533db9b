"""Availability is judged by failures in a row and by their rate; a failure of both colors is not a no."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cutover.core.config_schema import Endpoint, Ready
from cutover.core.evidence import Evidence
from cutover.core.stats import Sequential
from cutover.core.target import ControlProbe
from cutover.core.verdict import Outcome, no, unknown, yes
from cutover.system import http
from cutover.system.http import RequestOptions
from cutover.watch.availability import (
    EndpointComparison,
    EndpointResult,
    EndpointSource,
    Probe,
    ProbeCounts,
    ProbeKind,
    Prober,
    ProbeSource,
    availability_check,
    color_check,
    endpoints_check,
    judge_availability,
    judge_color,
    readable,
    request_endpoints,
)
from cutover.watch.check import at_once
from tests.helpers.rude_servers import Talk, nobody, response, says, serving

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
LETTERS: dict[str, ProbeKind] = {".": "good", "x": "failed", "s": "shared", "?": "silent"}


def counts(probes: str, wanted: float = 0.99) -> ProbeCounts:
    """The counts of probes written as letters."""
    found = ProbeCounts(Sequential(1 - wanted))
    for letter in probes:
        said = {".": "status 200", "?": "no connection"}.get(letter, "status 503")
        found.add(Probe(LETTERS[letter], said, 0.01))
    return found


@pytest.mark.parametrize(
    ("probes", "outcome", "reason"),
    [
        ("", NOT_ASKED, "0 probes ended, needs 1"),
        (".", YES, "0 of 1 probes failed, slowest 10 ms"),
        ("." * 50, YES, "0 of 50 probes failed"),
        ("...x......", YES, "1 of 10 probes failed"),
        ("xx", NOT_ASKED, "2 of 2 probes failed, the last 2 of them; 3 in a row are a no"),
        ("..........xx.", YES, "2 of 13 probes failed"),
        ("xxx", NO, "3 probes in a row failed: status 503"),
        ("....................xxx", NO, "3 probes in a row failed"),
        (".x.x.x.x", NO, "expected at least 99.00% of probes find it ready, got 4 of 8 probes failed"),
        ("." * 500 + "x.x.x.x.x.x.x.x.", NO, "got 8 of 516 probes failed"),
        ("..?", UNKNOWN, "no connection, and the control did not answer either"),
        ("..??.", YES, "0 of 3 probes failed"),
        ("xx?x", NO, "3 probes in a row failed"),
        ("..sss", NOT_ASKED, "reported: status 503 from both colors: not this release"),
        ("..sss.", YES, "3 failed for both colors"),
        ("xxs.", YES, "2 of 3 probes failed"),
        ("xxsx", NO, "got 3 of 3 probes failed"),
    ],
)
def test_availability(probes: str, outcome: Outcome, reason: str) -> None:
    """Three failures in a row are a no, others if their rate is surely too high; failures of both colors never are."""
    verdict = judge_availability(counts(probes), 0.99)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


def test_a_perfect_slo_forgives_nothing() -> None:
    """With availability = 1.0 the first failed probe is a no."""
    assert judge_availability(counts("..x", 1.0), 1.0).outcome is NO


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        ({}, NOT_ASKED, "no answer named its color"),
        ({"green": 9}, YES, "9 answers, all by green"),
        ({"green": 9, "blue": 1}, NO, "expected every answer by green, got 1 by blue"),
    ],
)
def test_color(seen: dict[str, int], outcome: Outcome, reason: str) -> None:
    """One answer of the other color is a no."""
    verdict = judge_color(Counter(seen), "green")
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_the_color_of_a_silent_proxy_is_unknown() -> None:
    """Unknown while the proxy is silent, but an earlier answer of another color stays a no."""
    assert judge_color(Counter(green=9), "green", "connection refused").outcome is UNKNOWN
    assert judge_color(Counter(blue=1), "green", "connection refused").outcome is NO


@contextmanager
def service(status: int, color: str = "green") -> Iterator[str]:
    """A real server that answers every request with *status*; 0: it closes the connection without an answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's spelling
            if status:
                self.send_response(status)
                self.send_header("X-Color", color)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("live", "old", "control", "kind"),
    [
        (200, None, True, "good"),
        (200, 503, True, "good"),
        (503, None, True, "failed"),
        (503, 200, True, "failed"),
        (502, 503, True, "failed"),
        (503, 503, True, "shared"),
        (302, None, True, "failed"),
        (0, None, True, "failed"),
        (0, 200, True, "failed"),
        (0, 0, True, "failed"),
        (0, None, False, "silent"),
        (0, 200, False, "silent"),
    ],
)
def test_a_probe_is_put_to_its_control(live: int, old: int | None, control: bool, kind: str) -> None:
    """No answer counts as failed only if the control answers; a failure of both colors is `shared`."""
    with service(live) as live_url, service(old or 0) as old_url:
        client = http.HttpClient(old_url, 5.0, keep_alive=False) if old is not None else None
        prober = Prober(
            http.HttpClient(live_url, 5.0, keep_alive=False),
            Ready(),
            ControlProbe(lambda: control),
            "X-Color",
            client,
        )
        probe = prober()
    assert probe.kind == kind
    assert (probe.old_seconds is None) is not old  # refused or not there: nothing to compare with
    assert probe.color == ("green" if live else None)


@pytest.mark.parametrize(
    ("body", "header", "color"),
    [
        ("", "X-Color: green", "green"),
        ("", "x-color:  Green ", "green"),
        ({"color": "green", "ready": True}, "", "green"),
        ({"color": "blue"}, "X-Color: green", "green"),
        ({"color": "red"}, "", None),
        ("", "X-Color: sha-1", None),
        ("green", "", None),
    ],
)
def test_a_probe_reads_the_color_as_the_proof_does(body: Any, header: str, color: str | None) -> None:
    """From the header in any spelling, or from the JSON; any other word names no color."""
    with serving(says(response(200, body, *filter(None, [header])))) as url:
        probe = Prober(http.HttpClient(url, 5.0), Ready(), ControlProbe(lambda: True), "X-Color")()
    assert (probe.kind, probe.color) == ("good", color)


@pytest.mark.parametrize(("paused", "kind", "shared"), [(False, "shared", True), (True, "failed", False)])
def test_a_paused_old_color_shares_no_failure(paused: bool, kind: str, shared: bool) -> None:
    """What it does not answer says nothing about what both colors use."""
    with service(503) as live_url, service(503) as old_url:
        live, old = (http.HttpClient(url, 5.0, keep_alive=False) for url in (live_url, old_url))
        control = ControlProbe(lambda: True)
        assert Prober(live, Ready(), control, "X-Color", old, lambda: paused)().kind == kind
        (found,) = request_endpoints([Endpoint(path="/")], live, control, old, lambda: paused)
    assert (found.bad, found.shared) == (True, shared)


def test_each_poll_sends_a_probe() -> None:
    """A poll sends one probe and keeps its sample; both checks are judged on the same probes."""
    evidence = Evidence()
    probes = iter([Probe("good", "status 200", 0.02, "green"), Probe("failed", "status 500", 0.5, "blue")])
    source = ProbeSource(lambda: next(probes), 0.99, evidence, "green", start=at_once)
    available, color = availability_check(source), color_check(source)
    available.poll(0.0)
    assert (available.verdict().outcome, color.verdict().outcome) == (YES, YES)
    available.poll(0.5)
    assert color.verdict().outcome is NO
    assert [(each.series, each.color, each.value) for each in evidence.samples] == [
        ("probe seconds", "green", 0.02),
        ("probe failed", "blue", 1.0),
    ]


NAME = "GET /memories"
RIGHT, WRONG = yes(NAME, "200 in 3 ms"), no(NAME, "expected status 200, got 404")
SLOW = no(NAME, "expected an answer within 1000 ms, it took 1200 ms", only_slow=True)
SILENT = unknown(NAME, "connection refused, and the control question failed too")
GOOD, BAD = EndpointResult(RIGHT), EndpointResult(WRONG, RIGHT)
LATE, MUTE = EndpointResult(SLOW), EndpointResult(SILENT)
LOOK = RequestOptions(deadline_s=60.0, tries=1)
ALONE, BOTH = EndpointResult(WRONG), EndpointResult(WRONG, WRONG)


@pytest.mark.parametrize(
    ("rounds", "outcome", "reason"),
    [
        ([], NOT_ASKED, "not answered yet"),
        ([GOOD], YES, "1 asked 1 times, all as listed"),
        ([GOOD, BAD], NOT_ASKED, "expected status 200, got 404; 3 in a row are a no"),
        ([BAD, BAD, GOOD], YES, "1 asked 3 times, all as listed"),
        ([GOOD, BAD, BAD, BAD], NO, "GET /memories, 3 times in a row: expected status 200, got 404"),
        ([ALONE, ALONE, ALONE], NO, "GET /memories, 3 times in a row: expected status 200, got 404"),
        ([BOTH, BOTH, BOTH], NOT_ASKED, "expected status 200, got 404; for both colors: not this release"),
        ([BAD, BAD, BOTH, BAD], NOT_ASKED, "3 in a row are a no"),
        ([LATE, LATE, LATE], YES, "1 asked 3 times, all as listed"),
        ([GOOD, MUTE], UNKNOWN, "GET /memories: connection refused, and the control question failed too"),
    ],
)
def test_rounds(rounds: Sequence[EndpointResult], outcome: Outcome, reason: str) -> None:
    """Three wrong answers in a row are a no; slow ones are not, and failures of both colors are only reported."""
    rest = list(rounds)
    check = endpoints_check(EndpointSource(lambda: [rest.pop(0)], start=at_once))
    for now in range(len(rounds)):
        check.poll(float(now))
    verdict = check.verdict()
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason
    check.reset()
    assert check.verdict().outcome is NOT_ASKED


def test_only_what_reads_is_asked_again_and_again() -> None:
    """Endpoints that write are left to the gate, which undoes what they wrote."""
    reads = Endpoint(path="/memories")
    writes = Endpoint(path="/memories", method="POST", writes=True, undo="DELETE /memories/{id}")
    assert readable((reads, writes)) == (reads,)


def by_path(**statuses: int) -> Talk:
    """A server function that answers each path with its own status."""

    def talk(connection: socket.socket, request: bytes) -> None:
        path = request.split()[1].decode().strip("/")
        connection.sendall(response(statuses[path], {}))

    return talk


@pytest.mark.parametrize(
    ("live", "old", "excuse"),
    [
        ({"a": 500, "b": 503}, {"a": 500, "b": 500}, "the old color fails GET /a too"),
        ({"a": 200, "b": 500}, {"a": 200, "b": 500}, "the old color fails GET /b too"),
        ({"a": 200, "b": 500}, {"a": 500, "b": 500}, "the old color fails GET /b too"),
        ({"a": 500, "b": 500}, {"a": 404, "b": 500}, "the old color fails GET /b too"),
        ({"a": 500, "b": 500}, {"a": 200, "b": 500}, None),
        ({"a": 500, "b": 500}, {"a": 200, "b": 200}, None),
        ({"a": 200, "b": 200}, {"a": 500, "b": 200}, ""),
        ({"a": 200, "b": 200}, {"a": 200, "b": 200}, ""),
    ],
)
def test_what_fails_for_both(live: dict[str, int], old: dict[str, int], excuse: str | None) -> None:
    """An endpoint that fails for both colors is an excuse, unless another one fails for the live color alone."""
    wanted = (*(Endpoint.model_validate({"path": path, "max_latency": "1m"}) for path in ("/a", "/b")),)
    with serving(by_path(**live)) as first, serving(by_path(**old)) as second:
        assert (
            EndpointComparison(
                wanted, http.HttpClient(first, 5.0), http.HttpClient(second, 5.0), 60.0, LOOK
            )()
            == excuse
        )


def test_an_old_color_that_is_gone_excuses_nothing() -> None:
    """An old color that refuses connections is no excuse."""
    with serving(by_path(a=500)) as live:
        assert (
            EndpointComparison(
                (Endpoint(path="/a"),), http.HttpClient(live, 5.0), http.HttpClient(nobody(), 5.0), 60.0, LOOK
            )()
            is None
        )


def test_what_is_slow_for_both() -> None:
    """Answers that are slow for both colors are an excuse; slow answers of one color are not."""

    def slow(connection: socket.socket, _request: bytes) -> None:
        time.sleep(0.05)
        connection.sendall(response(200, {}))

    wanted = (Endpoint(path="/a"),)
    with serving(slow) as live, serving(slow) as old, serving(by_path(a=500)) as broken:
        asked = (
            http.HttpClient(live, 5.0),
            http.HttpClient(old, 5.0),
            http.HttpClient(broken, 5.0),
            http.HttpClient(nobody(), 5.0),
        )
        assert (
            EndpointComparison(wanted, asked[0], asked[1], 0.01, LOOK)(slow=True)
            == "the old color is slow with GET /a too"
        )
        assert EndpointComparison(wanted, asked[0], asked[1], 0.01, LOOK)() == ""
        assert EndpointComparison(wanted, asked[2], asked[1], 0.01, LOOK)(slow=True) is None
        assert EndpointComparison(wanted, asked[0], asked[3], 0.01, LOOK)(slow=True) is None


@pytest.mark.parametrize(
    ("live", "old", "slow", "excuse"),
    [
        ("hangs", "hangs", False, ""),
        ("hangs", "hangs", True, "the old color is slow with GET /a too"),
        ("fails", "hangs", False, ""),
        ("hangs", "fails", False, ""),
        ("hangs", "answers", True, None),
        ("answers", "hangs", False, ""),
    ],
)
def test_an_old_color_that_hangs(live: str, old: str, slow: bool, excuse: str | None) -> None:
    """Its silence is no failure of both, as a path may take longer; and nothing that the live one could be worse than."""

    def hangs(connection: socket.socket, _request: bytes) -> None:
        connection.recv(1)

    talks = {"hangs": hangs, "fails": by_path(a=500), "answers": by_path(a=200)}
    look = RequestOptions(deadline_s=0.3, tries=1)
    with serving(talks[live]) as first, serving(talks[old]) as second:
        clients = http.HttpClient(first, 5.0), http.HttpClient(second, 5.0)
        wanted = (Endpoint.model_validate({"path": "/a", "max_latency": "1m"}),)
        assert EndpointComparison(wanted, *clients, 60.0, look)(slow=slow) == excuse
