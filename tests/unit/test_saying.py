"""Why a session ended badly is told in a few lines that differ."""

from __future__ import annotations

import pytest

from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.evidence import Evidence
from cutover.release import Tally
from cutover.report.ending import Why
from cutover.saying import reasons

MUTE = "the Docker engine does not answer"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([yes("ready", "yes")], [Why("", "no check ran, so nothing was verified")]),
        ([no("ready", "503"), yes("version", "sha-2")], [Why("smoke/t.py::test_0", "ready: 503")]),
        (
            [unknown("health", MUTE), no("ready", "503"), unknown("identity", MUTE), unknown("logs", MUTE)],
            [
                Why("smoke/t.py::test_0", f"health: {MUTE}; the same of 2 more checks"),
                Why("smoke/t.py::test_1", "ready: 503"),
            ],
        ),
        (
            [no(f"q{number}", f"reason {number}") for number in range(9)],
            [Why(f"smoke/t.py::test_{number}", f"q{number}: reason {number}") for number in range(5)],
        ),
    ],
    ids=["no bad one", "one", "one cause", "many"],
)
def test_each_reason_is_told_once(said: list[Verdict], told: list[Why]) -> None:
    """A mute engine is one reason, however many checks wanted to ask it; at most five are told."""
    evidence = Evidence()
    for number, verdict in enumerate(said):
        evidence.check(f"smoke/t.py::test_{number}", "green", 0, verdict, 0.1)
    assert reasons(Tally((), 1), evidence, None) == tuple(told)
