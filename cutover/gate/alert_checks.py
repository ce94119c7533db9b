"""Alerting of the service: rules loaded in Prometheus, healthy, not firing, and routed to a receiver."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from cutover.core.config_schema import Alerts
from cutover.core.text import seconds_of
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.system import http

ALERTS_DEADLINE_S = 5.0
ALERTS_ONCE = http.RequestOptions(tries=1)


@dataclass(frozen=True, slots=True)
class AlertState:
    """The answers of Prometheus and Alertmanager."""

    rules: Sequence[Mapping[str, Any]] | str
    """The alerting rules; a text says why Prometheus did not answer."""
    connected: int | None = None
    """Number of Alertmanagers that Prometheus sends to; None if unknown."""
    routes: str = ""
    """Alertmanager's configuration in YAML."""
    no_routes: str = ""
    """Why Alertmanager did not answer; empty if it did."""


def alerts(wanted: Alerts, released_at: float = 0.0) -> Verdict:
    """Ask Prometheus and Alertmanager, and judge the answers by `judge_alerts`."""
    return judge_alerts(fetch_alert_state(wanted), wanted, released_at)


def fetch_alert_state(wanted: Alerts) -> AlertState:
    """Ask Prometheus and Alertmanager once."""
    rules = _get_json(wanted.prometheus, "/api/v1/rules?type=alert")
    if isinstance(rules, str):
        return AlertState(rules)
    found = [rule for group in rules["data"]["groups"] for rule in group["rules"]]
    if not wanted.alertmanager:
        return AlertState(found)
    senders = _get_json(wanted.prometheus, "/api/v1/alertmanagers")
    connected = None if isinstance(senders, str) else len(senders["data"]["activeAlertmanagers"])
    status = _get_json(wanted.alertmanager, "/api/v2/status")
    if isinstance(status, str):
        return AlertState(found, connected, no_routes=status)
    return AlertState(found, connected, str(status.get("config", {}).get("original", "")))


def _get_json(base: str, path: str) -> Any:
    """The JSON answer; a text that says why there is none."""
    with http.HttpClient(base.rstrip("/"), ALERTS_DEADLINE_S) as client:
        result = http.send_request(client, "GET", path, ALERTS_ONCE)
    if isinstance(result, http.NoResponse):
        return f"{base} does not answer: {result.reason}"
    if result.status != 200:  # noqa: PLR2004 - HTTP's own number
        return f"{base}{path.partition('?')[0]} answered with {result.status}"
    try:
        return result.json()
    except ValueError as error:
        return f"{base} did not answer with JSON: {error}"


def judge_alerts(found: AlertState, wanted: Alerts, released_at: float = 0.0) -> Verdict:
    """No when a named rule is missing, unhealthy or firing, or when no route leads from it to the receiver.

    Of several rules of one name each is judged. Only alerts with `[alerts] labels` count as firing. An alert that
    fired before *released_at* (epoch seconds) is only reported: the release may be what mends it. A rule that was
    not evaluated yet is not asked. A Prometheus or Alertmanager that does not answer, and a Prometheus that has not
    found its Alertmanager yet, is unknown.
    """
    question, expected = "alerts", f"{', '.join(wanted.rules)}: loaded, healthy, not firing"
    if isinstance(found.rules, str):
        return unknown(question, found.rules, expected=expected)
    by_name = {name: [rule for rule in found.rules if rule["name"] == name] for name in wanted.rules}
    firing = {name: _firing_since(rules, wanted.labels) for name, rules in by_name.items()}
    wrong = [text for name, rules in by_name.items() for text in _wrong_rule(name, rules)]
    wrong += [f"rule {name} is firing" for name, at in firing.items() if any(one > released_at for one in at)]
    if wrong:
        return no(question, "; ".join(wrong), expected=expected, seen="; ".join(wrong))
    verdict = _judge_route(found, by_name, wanted)
    if verdict is not None:
        return verdict
    for name, rules in by_name.items():
        if any(rule.get("health") == "unknown" for rule in rules):
            return not_asked(question, f"rule {name} is loaded, and was not evaluated yet")
    already = ", ".join(name for name, at in firing.items() if at)
    if already:
        return not_asked(question, f"reported: {already} fired before this release already")
    route = f", routed to {wanted.receiver}" if wanted.receiver else ""
    return yes(question, f"{len(wanted.rules)} rules loaded, healthy, not firing{route}", expected=expected)


def _wrong_rule(name: str, rules: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rules:
        return [f"rule {name} is not loaded"]
    broken = [str(rule.get("lastError", ""))[:200] for rule in rules if rule.get("health") == "err"]
    return [f"rule {name} cannot be evaluated: {broken[0]}"] if broken else []


def _firing_since(rules: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> list[float]:
    """When each firing alert with *labels* began (epoch seconds); infinity if it does not say when."""
    found: list[Mapping[str, Any]] = []
    for rule in rules:
        if rule.get("state") == "firing":
            firing = [each for each in rule.get("alerts") or [] if each.get("state") == "firing"]
            found += firing or [
                {"labels": rule.get("labels") or {}}
            ]  # without a list the rule stands for itself
    mine = (each for each in found if labels.items() <= each["labels"].items())
    return [seconds_of(str(each.get("activeAt", ""))) or math.inf for each in mine]


def _judge_route(
    found: AlertState, by_name: Mapping[str, Sequence[Mapping[str, Any]]], wanted: Alerts
) -> Verdict | None:
    """What is wrong with the routes; None if each alert reaches the receiver, or no Alertmanager is configured."""
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
            reached = alert_receivers(found.routes, labels)
            if wanted.receiver not in reached:
                got = ", ".join(sorted(reached)) or "none"
                reason = f"expected {expected} for {name}, got {got}"
                return no("alerts", reason, expected=expected, seen=got)
    return None


# --- routes of Alertmanager
MATCHER = re.compile(r'"?([\w.-]+)"?\s*(=~|!~|!=|=)\s*(.*)')


def alert_receivers(configuration: str, labels: Mapping[str, str]) -> frozenset[str]:
    """The receivers that an alert with *labels* may reach by Alertmanager's *configuration* (YAML).

    A matcher on a label that is not in *labels* may hold or not; both are followed. Empty if there is no route.
    """
    try:
        whole = yaml.load(configuration, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader makes strings only
    except yaml.YAMLError:
        return frozenset()
    route = whole.get("route") if isinstance(whole, dict) else None
    return frozenset(_follow(route, labels, "")[1]) if isinstance(route, dict) else frozenset()


def _follow(route: Mapping[str, Any], labels: Mapping[str, str], above: str) -> tuple[bool | None, set[str]]:
    """Whether *route* takes the alert (None: it may), and the receivers that it may reach through it."""
    held = [_holds(*each, labels) for each in _matchers(route)]
    if False in held:
        return False, set()
    own, found, taken = str(route.get("receiver") or above), set[str](), False
    for child in _list(route.get("routes")):
        takes, more = _follow(child, labels, own)
        found |= more
        taken |= takes is True
        if takes and child.get("continue") != "true":
            break
    return None if None in held else True, found if taken else found | {own}


def _matchers(route: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, operator and value of each matcher, in the present form and in the two old ones."""
    for text in _list(route.get("matchers")):
        found = MATCHER.fullmatch(text)
        if found:
            yield found[1], found[2], _unquoted(found[3])
    for key, operator in (("match", "="), ("match_re", "=~")):
        table = route.get(key)
        for label, value in table.items() if isinstance(table, dict) else ():
            yield label, operator, value


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []  # the BaseLoader reads null as a string


def _unquoted(value: str) -> str:
    if not (len(value) > 1 and value[:1] == '"' == value[-1:]):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value[1:-1]


def _holds(label: str, operator: str, value: str, labels: Mapping[str, str]) -> bool | None:
    """Whether a matcher holds; None if the label or the regular expression is not known."""
    if label not in labels:
        return None
    try:
        same = re.fullmatch(value, labels[label]) is not None if "~" in operator else labels[label] == value
    except re.error:  # Go's syntax is not quite Python's
        return None
    return same is not operator.startswith("!")
