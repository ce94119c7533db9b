"""Who watches when nobody does: rules loaded in Prometheus, healthy, silent, and routed to a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cutover import http
from cutover.core.config_schema import Alerts
from cutover.core.verdict import Outcome, Verdict, no, not_asked, unknown, yes
from cutover.probes.alert_routes import receivers
from cutover.probes.background import Background, Start, in_thread
from cutover.probes.stamps import seconds_of

DEADLINE_S = 5.0
ONCE = http.Asking(tries=1)


@dataclass(frozen=True, slots=True)
class Heard:
    """What Prometheus and Alertmanager said; a text instead is why one of them said nothing."""

    rules: Sequence[Mapping[str, Any]] | str
    connected: int | None = None
    """Alertmanagers that Prometheus sends to."""
    routes: str = ""
    """Alertmanager's own configuration."""
    no_routes: str = ""
    """Why Alertmanager did not tell it."""


def alerts(wanted: Alerts, released_at: float = 0.0) -> Verdict:
    """Ask both and judge."""
    return judge_alerts(heard(wanted), wanted, released_at)


def heard(wanted: Alerts) -> Heard:
    """What both say now."""
    rules = _get(wanted.prometheus, "/api/v1/rules?type=alert")
    if isinstance(rules, str):
        return Heard(rules)
    found = [rule for group in rules["data"]["groups"] for rule in group["rules"]]
    if not wanted.alertmanager:
        return Heard(found)
    senders = _get(wanted.prometheus, "/api/v1/alertmanagers")
    connected = None if isinstance(senders, str) else len(senders["data"]["activeAlertmanagers"])
    status = _get(wanted.alertmanager, "/api/v2/status")
    if isinstance(status, str):
        return Heard(found, connected, no_routes=status)
    return Heard(found, connected, str(status.get("config", {}).get("original", "")))


def _get(base: str, path: str) -> Any:
    """The JSON that *base* answers *path* with; a text when it does not."""
    with http.client(base.rstrip("/"), DEADLINE_S) as client:
        said = http.ask(client, "GET", path, ONCE)
    if isinstance(said, http.Silence):
        return f"{base} does not answer: {said.reason}"
    if said.status != 200:  # noqa: PLR2004 - HTTP's own number
        return f"{base}{path.partition('?')[0]} answered with {said.status}"
    try:
        return said.json()
    except ValueError as error:
        return f"{base} did not answer with JSON: {error}"


def judge_alerts(found: Heard, wanted: Alerts, released_at: float = 0.0) -> Verdict:
    """No when a named rule is missing, unhealthy or firing, or when no route leads from it to the receiver.

    Of several rules of one name each is looked at. Only alerts with `[alerts] labels` count as firing. What was
    wrong before *released_at* (epoch) is no fault of the release, which may be what mends it: that is not asked.
    Nor is a rule that was not evaluated yet. Silence of Prometheus or Alertmanager, and a Prometheus that has not found
    its Alertmanager yet, is unknown.
    """
    question, expected = "alerts", f"{', '.join(wanted.rules)}: loaded, healthy, not firing"
    if isinstance(found.rules, str):
        return unknown(question, found.rules, expected=expected)
    by_name = {name: [rule for rule in found.rules if rule["name"] == name] for name in wanted.rules}
    firing = {name: _since(rules, wanted.labels) for name, rules in by_name.items()}
    wrong = [said for name, rules in by_name.items() for said in _wrong(name, rules)]
    wrong += [f"rule {name} is firing" for name, at in firing.items() if any(one > released_at for one in at)]
    if wrong:
        return no(question, "; ".join(wrong), expected=expected, seen="; ".join(wrong))
    verdict = _judge_route(found, by_name, wanted)
    if verdict is not None:
        return verdict
    early = [
        name for name, rules in by_name.items() if any(rule.get("health") == "unknown" for rule in rules)
    ]
    if early:
        return not_asked(question, f"rule {early[0]} is loaded, and was not evaluated yet")
    already = ", ".join(name for name, at in firing.items() if at)
    if already:
        return not_asked(question, f"reported: {already} fired before this release already")
    route = f", routed to {wanted.receiver}" if wanted.receiver else ""
    return yes(question, f"{len(wanted.rules)} rules loaded, healthy, not firing{route}", expected=expected)


def _wrong(name: str, rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the rules of one name."""
    if not rules:
        return [f"rule {name} is not loaded"]
    broken = [rule for rule in rules if rule.get("health") == "err"]
    if broken:
        return [f"rule {name} cannot be evaluated: {str(broken[0].get('lastError', ''))[:200]}"]
    return []


def _since(rules: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> list[float]:
    """Since when what each alert with *labels* that fires tells is so, epoch; infinity where that is not said."""
    alerts_ = [each for rule in rules if rule.get("state") == "firing" for each in _alerts(rule)]
    return [
        seconds_of(str(each.get("activeAt", ""))) or math.inf
        for each in alerts_
        if labels.items() <= each["labels"].items()
    ]


def _alerts(rule: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Each alert that fires by *rule*; the rule itself where it names none."""
    found = [each for each in rule.get("alerts") or [] if each.get("state") == "firing"]
    return found or [{"labels": rule.get("labels") or {}}]


def _judge_route(
    found: Heard, by_name: Mapping[str, Sequence[Mapping[str, Any]]], wanted: Alerts
) -> Verdict | None:
    """Whether each rule's alert would reach somebody; None when it would, or when nobody wants to know."""
    if not wanted.alertmanager:
        return None
    expected = f"a route to {wanted.receiver or 'a receiver'}"
    if found.no_routes:
        return unknown("alerts", found.no_routes, expected=expected)
    if not found.connected:
        return unknown("alerts", "Prometheus has found no Alertmanager to send to", expected=expected)
    for name, rules in by_name.items():
        for rule in rules if wanted.receiver else ():
            labels = {**(rule.get("labels") or {}), **wanted.labels, "alertname": name}
            reached = receivers(found.routes, labels)
            if wanted.receiver not in reached:
                got = ", ".join(sorted(reached)) or "none"
                reason = f"expected {expected} for {name}, got {got}"
                return no("alerts", reason, expected=expected, seen=got)
    return None


@dataclass(slots=True)
class AlertsQuestion:
    """The rules while the watch lasts: one that begins to fire is a no."""

    wanted: Alerts
    ask: Callable[[Alerts, float], Verdict] = alerts
    start: Start = in_thread
    pace_s: float = 0.0
    every_s: float = 0.5
    released_at: float = 0.0
    name: str = "alerts"
    asked: int = 0
    last: Verdict | None = None
    background: Background[Verdict] = field(init=False)

    def __post_init__(self) -> None:
        self.background = Background(
            lambda: self.ask(self.wanted, self.released_at), 1, self.start, self.pace_s
        )

    def tick(self, now: float) -> None:
        """Ask once more."""
        for verdict in self.background.tick(now):
            self.last, self.asked = verdict, self.asked + 1

    def verdict(self) -> Verdict:
        """The last answer; nothing is claimed before the first."""
        return self.last or Verdict(self.name, Outcome.NOT_ASKED, "not answered yet")

    def forgive(self) -> None:
        """Nothing is counted."""
        self.last = None
