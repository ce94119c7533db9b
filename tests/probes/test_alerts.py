"""Alert rules must be loaded, healthy, silent and routed; silence of those who should tell is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from cutover.probes.alerts import AlertsQuestion, Heard, alerts, judge_alerts, routed
from cutover.probes.background import at_once
from cutover.settings import Alerts
from cutover.verdict import Outcome, yes

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
ALONE = Alerts(prometheus="http://127.0.0.1:9", rules=("Down", "Errors"))
BOTH = Alerts(
    prometheus="http://127.0.0.1:9", alertmanager="http://127.0.0.1:9", rules=("Down",), receiver="on-call"
)


def rule(name: str, state: str = "inactive", health: str = "ok", **more: str) -> dict[str, Any]:
    """One rule as Prometheus tells it."""
    return {"name": name, "state": state, "health": health, **more}


GOOD = [rule("Down"), rule("Errors"), rule("Other", "firing")]


@pytest.mark.parametrize(
    ("found", "wanted", "outcome", "reason"),
    [
        (Heard(GOOD), ALONE, YES, "2 rules loaded, healthy, not firing"),
        (Heard([rule("Down")]), ALONE, NO, "rule Errors is not loaded"),
        (Heard([]), ALONE, NO, "rule Down is not loaded; rule Errors is not loaded"),
        (Heard([rule("Down", "firing"), rule("Errors")]), ALONE, NO, "rule Down is firing"),
        (Heard([rule("Down", "pending"), rule("Errors", health="unknown")]), ALONE, YES, "2 rules loaded"),
        (
            Heard([rule("Down", health="err", lastError="bad function"), rule("Errors")]),
            ALONE,
            NO,
            "rule Down cannot be evaluated: bad function",
        ),
        (Heard("http://x does not answer: connection refused"), ALONE, UNKNOWN, "does not answer"),
        (
            Heard(GOOD, 1, frozenset({"on-call"})),
            BOTH,
            YES,
            "1 rules loaded, healthy, not firing, routed to on-call",
        ),
        (Heard(GOOD, 1, frozenset({"nobody"})), BOTH, NO, "expected a route to on-call, got nobody"),
        (Heard(GOOD, 1, frozenset()), BOTH, NO, "expected a route to on-call, got none"),
        (
            Heard(GOOD, 0, frozenset({"on-call"})),
            BOTH,
            UNKNOWN,
            "Prometheus has found no Alertmanager to send to",
        ),
        (Heard(GOOD, 1, "http://y does not answer: refused"), BOTH, UNKNOWN, "http://y does not answer"),
    ],
)
def test_alerts(found: Heard, wanted: Alerts, outcome: Outcome, reason: str) -> None:
    """Missing, broken and firing rules are a no each, and so is a route to nobody."""
    verdict = judge_alerts(found, wanted)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


def test_nobody_there_is_unknown() -> None:
    """A Prometheus that does not answer says nothing about its rules."""
    verdict = alerts(ALONE)
    assert (verdict.outcome, verdict.reason) == (
        UNKNOWN,
        "http://127.0.0.1:9 does not answer: connection refused",
    )


def test_routes_are_told_from_definitions() -> None:
    """A receiver that is defined but not routed to would hear of nothing."""
    text = """
route:
  receiver: nobody
  routes:
  - receiver: "on-call"
    matchers: [severity="page"]
receivers:
- name: nobody
- name: forgotten
"""
    assert set(routed(text)) == {"nobody", "on-call"}


def test_the_question_keeps_the_last_answer() -> None:
    """Before the first answer nothing is claimed."""
    question = AlertsQuestion(ALONE, lambda _wanted: yes("alerts", "fine"), at_once)
    assert question.verdict().outcome is NOT_ASKED
    question.tick(0.0)
    assert (question.verdict().outcome, question.asked) == (YES, 1)
    question.forgive()
    assert question.verdict().outcome is NOT_ASKED
