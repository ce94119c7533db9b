"""Listed endpoints stay as listed: three wrong answers in a row are a no, unless the old colour gives them too."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import pytest

from cutover.core.config_schema import Endpoint
from cutover.core.verdict import Outcome, Verdict, no, unknown, yes
from cutover.http import Asking, client
from cutover.probes.background import at_once
from cutover.probes.endpoint_watch import Asked, Endpoints, Shared, readable
from tests.probes.servers import Talk, nobody, response, serving

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
NAME = "GET /memories"
RIGHT, WRONG = yes(NAME, "200 in 3 ms"), no(NAME, "expected status 200, got 404")
SLOW = no(NAME, "expected an answer within 1000 ms, it took 1200 ms", only_slow=True)
SILENT = unknown(NAME, "connection refused, and the control question failed too")
GOOD, BAD, LATE, MUTE = Asked(RIGHT), Asked(WRONG, RIGHT), Asked(SLOW), Asked(SILENT)
LOOK = Asking(deadline_s=60.0, tries=1)
ALONE, BOTH = Asked(WRONG), Asked(WRONG, WRONG)


@pytest.mark.parametrize(
    ("rounds", "outcome", "reason"),
    [
        ([], NOT_ASKED, "not answered yet"),
        ([GOOD], YES, "1 asked 1 times, all as listed"),
        ([GOOD, BAD], NOT_ASKED, "expected status 200, got 404; 3 in a row are a no"),
        ([BAD, BAD, GOOD], YES, "1 asked 3 times, all as listed"),
        ([GOOD, BAD, BAD, BAD], NO, "GET /memories, 3 times in a row: expected status 200, got 404"),
        ([ALONE, ALONE, ALONE], NO, "GET /memories, 3 times in a row: expected status 200, got 404"),
        ([BOTH, BOTH, BOTH], NOT_ASKED, "expected status 200, got 404; for both colours: not this release"),
        ([BAD, BAD, BOTH, BAD], NOT_ASKED, "3 in a row are a no"),
        ([LATE, LATE, LATE], YES, "1 asked 3 times, all as listed"),
        ([GOOD, MUTE], UNKNOWN, "GET /memories: connection refused, and the control question failed too"),
    ],
)
def test_rounds(rounds: Sequence[Asked], outcome: Outcome, reason: str) -> None:
    """One odd answer is not a no, slowness is another question's, a fault of both is nobody's."""
    rest = list(rounds)
    question = Endpoints(lambda: [rest.pop(0)], at_once)
    for _ in rounds:
        question.tick(0.0)
    verdict: Verdict = question.verdict()
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason
    question.forgive()
    assert question.verdict().outcome is NOT_ASKED


def test_only_what_reads_is_asked_again_and_again() -> None:
    """A request that writes is for the gate, which undoes it; a watch would do it hundreds of times."""
    reads = Endpoint(path="/memories")
    writes = Endpoint(path="/memories", method="POST", writes=True, undo="DELETE /memories/{id}")
    assert readable((reads, writes)) == (reads,)


def by_path(**statuses: int) -> Talk:
    """Answers each path with its own status."""

    def talk(connection: socket.socket, request: bytes) -> None:
        path = request.split()[1].decode().strip("/")
        connection.sendall(response(statuses[path], {}))

    return talk


@pytest.mark.parametrize(
    ("live", "old", "excuse"),
    [
        ({"a": 500, "b": 503}, {"a": 500, "b": 500}, "the old colour fails GET /a too"),
        ({"a": 200, "b": 500}, {"a": 200, "b": 500}, "the old colour fails GET /b too"),
        ({"a": 200, "b": 500}, {"a": 500, "b": 500}, "the old colour fails GET /b too"),
        ({"a": 500, "b": 500}, {"a": 404, "b": 500}, "the old colour fails GET /b too"),
        ({"a": 500, "b": 500}, {"a": 200, "b": 500}, ""),
        ({"a": 500, "b": 500}, {"a": 200, "b": 200}, ""),
        ({"a": 200, "b": 200}, {"a": 500, "b": 200}, ""),
        ({"a": 200, "b": 200}, {"a": 200, "b": 200}, ""),
    ],
)
def test_what_fails_for_both(live: dict[str, int], old: dict[str, int], excuse: str) -> None:
    """An endpoint that fails for both in the same moment excuses, unless the live colour fails another one alone."""
    wanted = (Endpoint(path="/a", max_latency=60.0), Endpoint(path="/b", max_latency=60.0))
    with serving(by_path(**live)) as first, serving(by_path(**old)) as second:
        assert Shared(wanted, client(first, 5.0), client(second, 5.0), 60.0, LOOK)() == excuse


def test_an_old_colour_that_is_gone_excuses_nothing() -> None:
    """A colour that is not there fails nothing."""
    with serving(by_path(a=500)) as live:
        assert Shared((Endpoint(path="/a"),), client(live, 5.0), client(nobody(), 5.0), 60.0, LOOK)() == ""


def test_what_is_slow_for_both() -> None:
    """Slow answers of both excuse as failures do; one colour's alone do not."""

    def slow(connection: socket.socket, _request: bytes) -> None:
        time.sleep(0.05)
        connection.sendall(response(200, {}))

    wanted = (Endpoint(path="/a"),)
    with serving(slow) as live, serving(slow) as old, serving(by_path(a=500)) as broken:
        asked = client(live, 5.0), client(old, 5.0), client(broken, 5.0), client(nobody(), 5.0)
        assert (
            Shared(wanted, asked[0], asked[1], 0.01, LOOK)(slow=True)
            == "the old colour is slow with GET /a too"
        )
        assert Shared(wanted, asked[0], asked[1], 0.01, LOOK)() == ""
        assert Shared(wanted, asked[2], asked[1], 0.01, LOOK)(slow=True) == ""
        assert Shared(wanted, asked[0], asked[3], 0.01, LOOK)(slow=True) == ""
