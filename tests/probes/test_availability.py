"""Availability is judged on streaks and rates, never on one odd probe or on a fault of both colours."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cutover import http
from cutover.core.verdict import Outcome
from cutover.evidence import Evidence
from cutover.probes.availability import (
    Availability,
    ColourSeen,
    Kind,
    Probe,
    Prober,
    Tally,
    judge_availability,
    judge_colour,
)
from cutover.probes.background import at_once
from cutover.statistics import Sequential
from cutover.target import Control

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
LETTERS: dict[str, Kind] = {".": "good", "x": "failed", "s": "shared", "?": "silent"}


def tally(probes: str, wanted: float = 0.99) -> Tally:
    """A tally of probes written as letters."""
    found = Tally(Sequential(1 - wanted))
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
        (".x.x.x.x", NO, "expected at least 99.00% of probes answered with 200, got 4 of 8 probes failed"),
        ("." * 500 + "x.x.x.x.x.x.x.x.", NO, "got 8 of 516 probes failed"),
        ("..?", UNKNOWN, "no connection, and the control did not answer either"),
        ("..??.", YES, "0 of 3 probes failed"),
        ("xx?x", NO, "3 probes in a row failed"),
        ("..sss", NOT_ASKED, "reported: status 503 from both colours: not this release"),
        ("..sss.", YES, "3 failed for both colours"),
        ("xxs.", YES, "2 of 3 probes failed"),
        ("xxsx", NO, "got 3 of 3 probes failed"),
    ],
)
def test_availability(probes: str, outcome: Outcome, reason: str) -> None:
    """Three failures in a row are a no, scattered ones only when their rate is sure; shared ones never."""
    verdict = judge_availability(tally(probes), 0.99)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


def test_a_perfect_slo_forgives_nothing() -> None:
    """With availability = 1.0 the first failed probe is a no."""
    assert judge_availability(tally("..x", 1.0), 1.0).outcome is NO


@pytest.mark.parametrize(
    ("seen", "outcome", "reason"),
    [
        ({}, NOT_ASKED, "no answer named its colour"),
        ({"green": 9}, YES, "9 answers, all by green"),
        ({"green": 9, "blue": 1}, NO, "expected every answer by green, got 1 by blue"),
    ],
)
def test_colour(seen: dict[str, int], outcome: Outcome, reason: str) -> None:
    """One answer of the other colour is a sure no."""
    verdict = judge_colour(Counter(seen), "green")
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_the_colour_of_a_mute_proxy_is_unknown() -> None:
    """What it answered before says nothing of now, but for another colour."""
    assert judge_colour(Counter(green=9), "green", "connection refused").outcome is UNKNOWN
    assert judge_colour(Counter(blue=1), "green", "connection refused").outcome is NO


@contextmanager
def service(status: int, colour: str = "green") -> Iterator[str]:
    """A real server that answers everything with *status*; 0: it hangs up without a word."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's spelling
            if status:
                self.send_response(status)
                self.send_header("X-Colour", colour)
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
    """Silence is the service's only while the control answers; a failure counts unless it is shared."""
    with service(live) as live_url, service(old or 0) as old_url:
        client = http.client(old_url, 5.0, keep_alive=False) if old is not None else None
        prober = Prober(
            http.client(live_url, 5.0, keep_alive=False),
            "/readyz",
            Control(lambda: control),
            "X-Colour",
            client,
        )
        probe = prober()
    assert probe.kind == kind
    assert probe.colour == ("green" if live else None)


def test_the_question_probes_and_remembers() -> None:
    """Each tick sends a probe, keeps a sample of its time, and the colour question reads what came."""
    evidence = Evidence()
    probes = iter([Probe("good", "status 200", 0.02, "green"), Probe("failed", "status 500", 0.5, "blue")])
    asked = Availability(lambda: next(probes), 0.99, 0.5, evidence, "green", start=at_once)
    colour = ColourSeen(asked, "green", 0.5)
    asked.tick(0.0)
    assert (asked.verdict().outcome, colour.verdict().outcome) == (YES, YES)
    asked.tick(0.5)
    assert colour.verdict().outcome is NO
    assert [(each.series, each.colour, each.value) for each in evidence.samples] == [
        ("probe seconds", "green", 0.02),
        ("probe failed", "blue", 1.0),
    ]
