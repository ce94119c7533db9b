"""Listed endpoints stay as listed: three wrong answers in a row are a no, unless the old colour gives them too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cutover.probes.background import at_once
from cutover.probes.endpoint_watch import Asked, Endpoints, readable
from cutover.settings import Endpoint
from cutover.verdict import Outcome, Verdict, no, unknown, yes

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
NAME = "GET /memories"
RIGHT, WRONG = yes(NAME, "200 in 3 ms"), no(NAME, "expected status 200, got 404")
SLOW = no(NAME, "expected an answer within 1000 ms, it took 1200 ms", only_slow=True)
SILENT = unknown(NAME, "connection refused, and the control question failed too")
GOOD, BAD, LATE, MUTE = Asked(RIGHT), Asked(WRONG, RIGHT), Asked(SLOW), Asked(SILENT)
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
