"""Who watches when nobody does: rules loaded in Prometheus, healthy, silent, and routed to a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cutover import http
from cutover.probes.background import Background, Start, in_thread
from cutover.settings import Alerts
from cutover.verdict import Outcome, Verdict, no, unknown, yes

DEADLINE_S = 5.0
ONCE = http.Asking(tries=1)
RECEIVERS = "receiver"


@dataclass(frozen=True, slots=True)
class Heard:
    """What Prometheus and Alertmanager said; a text instead is why one of them said nothing."""

    rules: Sequence[Mapping[str, Any]] | str
    connected: int | None = None
    """Alertmanagers that Prometheus sends to."""
    receivers: frozenset[str] | str | None = None
    """Receivers of Alertmanager's routes; None: not asked for."""


def alerts(wanted: Alerts) -> Verdict:
    """Ask both and judge."""
    return judge_alerts(heard(wanted), wanted)


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
    return Heard(found, connected, _receivers(wanted))


def _receivers(wanted: Alerts) -> frozenset[str] | str:
    """The receivers that any route of Alertmanager leads to, or why that is not known."""
    status = _get(wanted.alertmanager, "/api/v2/status")
    if isinstance(status, str):
        return status
    text = str(status.get("config", {}).get("original", ""))
    return frozenset(routed(text))


def routed(configuration: str) -> Iterable[str]:
    """The receivers named by routes: `receiver: NAME` lines; a definition says `name:`, and routes nothing."""
    for line in configuration.splitlines():
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        if colon and key == RECEIVERS and value.strip():
            yield value.strip().strip("\"'")


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


def judge_alerts(found: Heard, wanted: Alerts) -> Verdict:
    """No when a named rule is missing, unhealthy or firing, or when no route leads to the receiver.

    Silence of Prometheus or Alertmanager, and a Prometheus that has not found its Alertmanager yet, is unknown.
    """
    question, expected = "alerts", f"{', '.join(wanted.rules)}: loaded, healthy, not firing"
    if isinstance(found.rules, str):
        return unknown(question, found.rules, expected=expected)
    by_name = {str(rule["name"]): rule for rule in found.rules}
    wrong = [said for name in wanted.rules if (said := _wrong(name, by_name.get(name)))]
    if wrong:
        return no(question, "; ".join(wrong), expected=expected, seen="; ".join(wrong))
    verdict = _judge_route(found, wanted)
    if verdict is not None:
        return verdict
    route = f", routed to {wanted.receiver}" if wanted.receiver else ""
    return yes(question, f"{len(wanted.rules)} rules loaded, healthy, not firing{route}", expected=expected)


def _wrong(name: str, rule: Mapping[str, Any] | None) -> str:
    """What is wrong with a rule; empty when nothing is."""
    if rule is None:
        return f"rule {name} is not loaded"
    if rule.get("health") == "err":
        return f"rule {name} cannot be evaluated: {str(rule.get('lastError', ''))[:200]}"
    return f"rule {name} is firing" if rule.get("state") == "firing" else ""


def _judge_route(found: Heard, wanted: Alerts) -> Verdict | None:
    """Whether an alert would reach anybody; None when it would, or when nobody wants to know."""
    if not wanted.alertmanager:
        return None
    expected = f"a route to {wanted.receiver or 'a receiver'}"
    if isinstance(found.receivers, str):
        return unknown("alerts", found.receivers, expected=expected)
    if not found.connected:
        return unknown("alerts", "Prometheus has found no Alertmanager to send to", expected=expected)
    if wanted.receiver and wanted.receiver not in (found.receivers or ()):
        got = ", ".join(sorted(found.receivers or ())) or "none"
        return no("alerts", f"expected {expected}, got {got}", expected=expected, seen=got)
    return None


@dataclass(slots=True)
class AlertsQuestion:
    """The rules while the watch lasts: one that begins to fire is a no."""

    wanted: Alerts
    ask: Callable[[Alerts], Verdict] = alerts
    start: Start = in_thread
    pace_s: float = 0.0
    every_s: float = 0.5
    name: str = "alerts"
    asked: int = 0
    last: Verdict | None = None
    background: Background[Verdict] = field(init=False)

    def __post_init__(self) -> None:
        self.background = Background(lambda: self.ask(self.wanted), 1, self.start, self.pace_s)

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
