"""Alert rules must be loaded, healthy, silent and routed; silence of those who should tell is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from cutover.core.config_schema import Alerts
from cutover.core.text import seconds_of
from cutover.core.verdict import Outcome
from cutover.gate import environment_checks
from cutover.gate.environment_checks import AlertState, alert_receivers, alerts, judge_alerts

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
ALONE = Alerts(prometheus="http://127.0.0.1:9", rules=("Down", "Errors"))
BOTH = Alerts(
    prometheus="http://127.0.0.1:9", alertmanager="http://127.0.0.1:9", rules=("Down",), receiver="on-call"
)


SHOP = ALONE.model_copy(update={"labels": {"env": "live"}})


def rule(name: str, state: str = "inactive", health: str = "ok", **more: Any) -> dict[str, Any]:
    """One rule as Prometheus tells it."""
    return {"name": name, "state": state, "health": health, **more}


def fires(name: str, **labels: str) -> dict[str, Any]:
    """A rule of which one alert fires, with these labels."""
    return rule(name, "firing", alerts=[{"state": "firing", "labels": labels}])


def to(receiver: str) -> str:
    """A configuration that sends all to one receiver."""
    return f"route:\n  receiver: {receiver}\nreceivers:\n- name: {receiver}\n"


GOOD = [rule("Down"), rule("Errors"), rule("Other", "firing")]


@pytest.mark.parametrize(
    ("found", "wanted", "outcome", "reason"),
    [
        (AlertState(GOOD), ALONE, YES, "2 rules loaded, healthy, not firing"),
        (AlertState([rule("Down")]), ALONE, NO, "rule Errors is not loaded"),
        (AlertState([]), ALONE, NO, "rule Down is not loaded; rule Errors is not loaded"),
        (AlertState([rule("Down", "firing"), rule("Errors")]), ALONE, NO, "rule Down is firing"),
        (AlertState([rule("Down", "pending"), rule("Errors")]), ALONE, YES, "2 rules loaded"),
        (
            AlertState([rule("Down"), rule("Errors", health="unknown")]),
            ALONE,
            NOT_ASKED,
            "rule Errors is loaded, and was not evaluated yet",
        ),
        (
            AlertState([rule("Down", "firing"), rule("Down"), rule("Errors")]),
            ALONE,
            NO,
            "rule Down is firing",
        ),
        (
            AlertState([rule("Down", health="err"), rule("Down"), rule("Errors")]),
            ALONE,
            NO,
            "cannot be evaluated",
        ),
        (AlertState([fires("Down", env="staging"), rule("Errors")]), SHOP, YES, "2 rules loaded"),
        (AlertState([fires("Down", env="live"), rule("Errors")]), SHOP, NO, "rule Down is firing"),
        (AlertState([fires("Down", env="staging"), rule("Errors")]), ALONE, NO, "rule Down is firing"),
        (
            AlertState([rule("Down", health="err", lastError="bad function"), rule("Errors")]),
            ALONE,
            NO,
            "rule Down cannot be evaluated: bad function",
        ),
        (AlertState("http://x does not answer: connection refused"), ALONE, UNKNOWN, "does not answer"),
        (
            AlertState(GOOD, 1, to("on-call")),
            BOTH,
            YES,
            "1 rules loaded, healthy, not firing, routed to on-call",
        ),
        (AlertState(GOOD, 1, to("nobody")), BOTH, NO, "expected a route to on-call for Down, got nobody"),
        (AlertState(GOOD, 1, ""), BOTH, NO, "expected a route to on-call for Down, got none"),
        (
            AlertState(GOOD, 0, to("on-call")),
            BOTH,
            UNKNOWN,
            "Prometheus has found no Alertmanager to send to",
        ),
        (
            AlertState(GOOD, 1, no_routes="http://y does not answer: refused"),
            BOTH,
            UNKNOWN,
            "http://y does not answer",
        ),
    ],
)
def test_alerts(found: AlertState, wanted: Alerts, outcome: Outcome, reason: str) -> None:
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


ROUTES = """
global:
  resolve_timeout: 5m
route:
  receiver: nobody
  group_by:
  - alertname
  continue: false
  routes:
  - receiver: "on-call"
    match:
      severity: page
    continue: true
    routes:
    - receiver: db-team
      matchers:
      - team="db"
  - receiver: tickets
    matchers:
    - severity=~"ticket|page"
    - env!="staging"
    continue: false
  - receiver: never
    match_re:
      severity: tick.*
  group_wait: 10s
receivers:
- name: nobody
- name: forgotten
"""


@pytest.mark.parametrize(
    ("labels", "reached"),
    [
        ({"severity": "info", "env": "live"}, {"nobody"}),
        ({"severity": "page", "env": "live", "team": "web"}, {"on-call", "tickets"}),
        ({"severity": "page", "env": "live", "team": "db"}, {"db-team", "tickets"}),
        ({"severity": "page", "env": "staging", "team": "web"}, {"on-call"}),
        ({"severity": "ticket", "env": "live"}, {"tickets"}),
        ({"severity": "ticket", "env": "staging"}, {"never"}),
        ({"severity": "page"}, {"on-call", "db-team", "tickets"}),
        ({}, {"on-call", "db-team", "tickets", "never", "nobody"}),
    ],
)
def test_each_rule_has_its_own_route(labels: dict[str, str], reached: set[str]) -> None:
    """The first route that takes it, unless it continues; a label that is not known may be any."""
    assert alert_receivers(ROUTES, labels) == reached


def test_a_rule_that_is_routed_elsewhere_is_a_no() -> None:
    """A receiver that other rules reach does not help this one."""
    page, note = rule("Down", labels={"severity": "page"}), rule("Errors", labels={"severity": "info"})
    wanted = BOTH.model_copy(update={"rules": ("Down", "Errors")})
    verdict = judge_alerts(AlertState([page, note], 1, ROUTES), wanted)
    assert (verdict.outcome, verdict.reason) == (NO, "expected a route to on-call for Errors, got nobody")
    assert judge_alerts(AlertState([page], 1, ROUTES), BOTH).outcome is YES


@pytest.mark.parametrize(
    ("began", "released_at", "outcome"),
    [
        ("2026-11-26T01:00:00.5Z", "2026-11-26T01:00:10Z", NOT_ASKED),
        ("2026-11-26T01:00:20.5Z", "2026-11-26T01:00:10Z", NO),
        ("2026-11-26T01:00:00.5Z", "", NO),
        ("", "2026-11-26T01:00:10Z", NO),
    ],
    ids=["before the release", "after it", "nothing is released", "nobody knows since when"],
)
def test_what_fired_before_the_release_does_not_take_it_back(
    began: str, released_at: str, outcome: Outcome
) -> None:
    """It may be what mends the trouble; without a release an alert that fires is a no, whenever it began."""
    alert = {"state": "firing", "labels": {}, "activeAt": began}
    found = AlertState([rule("Down", "firing", alerts=[alert]), rule("Errors")])
    verdict = judge_alerts(found, ALONE, seconds_of(released_at))
    assert (verdict.outcome, "Down" in verdict.reason) == (outcome, True)


RULES = {"data": {"groups": [{"rules": [rule("Down")]}]}}
SENDERS: dict[str, Any] = {"data": {"activeAlertmanagers": [{}]}}


@pytest.mark.parametrize(
    ("answers", "outcome", "reason"),
    [
        (
            (RULES, SENDERS, {"config": {"original": to("on-call")}}),
            YES,
            "1 rules loaded, healthy, not firing",
        ),
        (({"ok": True},), UNKNOWN, "http://127.0.0.1:9 answers, but not as Prometheus does"),
        (([],), UNKNOWN, "not as Prometheus does"),
        (({"data": {"groups": [{"rules": [{"state": "firing"}]}]}},), UNKNOWN, "not as Prometheus does"),
        (
            ({"data": {"groups": [{"rules": [rule("Down", "firing", alerts=[{"state": "firing"}])]}]}},),
            UNKNOWN,
            "not as Prometheus does",
        ),
        ((RULES, {"data": None}, {"config": {"original": to("on-call")}}), UNKNOWN, ""),
        ((RULES, SENDERS, ["hello"]), UNKNOWN, "http://127.0.0.1:9 answers, but not as Alertmanager does"),
        ((RULES, SENDERS, {"config": None}), UNKNOWN, "not as Alertmanager does"),
    ],
)
def test_json_of_another_shape_is_unknown(
    answers: tuple[Any, ...], outcome: Outcome, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL that leads to another server is no traceback."""
    left = iter(answers)
    monkeypatch.setattr(environment_checks, "_get_json", lambda _base, _path: next(left))
    verdict = alerts(BOTH)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_without_a_rule_nothing_is_asked() -> None:
    """`[alerts]` that names no rules says no yes."""
    wanted = BOTH.model_copy(update={"rules": ()})
    assert judge_alerts(AlertState([rule("Down")], 1, to("on-call")), wanted).outcome is NOT_ASKED
