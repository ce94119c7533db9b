"""Checks of what both colors share: disk space and inodes, the proxy's certificate, and alerting.

Alerting: the rules are loaded in Prometheus, healthy, not firing, and routed to a receiver.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cutover.core.config import Settings
from cutover.core.config_schema import Alerts
from cutover.core.errors import EngineUnavailable
from cutover.core.text import percent, seconds_of, spelled
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.system import docker, http, process
from cutover.system.http import TlsVerify, tls_context

GIGABYTE = 1e9
DAY_S = 86400.0
TLS_DEADLINE_S = 5.0
ALERTS_DEADLINE_S = 5.0
ALERTS_ONCE = http.RequestOptions(tries=1)
OTHER_SHAPE = (KeyError, TypeError, AttributeError, ValueError)
"""What reading JSON of another shape raises."""


# --- disk ---
@dataclass(frozen=True, slots=True)
class DiskRoom:
    """Free and total bytes and inodes of the file system of `path`; 0 `inodes`: it does not count them."""

    path: Path
    device: int
    free: int
    size: int
    inodes_free: int
    inodes: int


def disk_room(path: Path) -> DiskRoom:
    """The room where *path* is or will be created; raises OSError."""
    there = next(each for each in (path, *path.parents) if os.access(each, os.F_OK))
    found = os.statvfs(there)
    return DiskRoom(
        path, there.stat().st_dev, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize,
        found.f_favail, found.f_files,
    )  # fmt: skip


def disk(settings: Settings, engine_root: Callable[[], Path] = docker.data_root) -> list[Verdict]:
    """One verdict for each file system that a release writes to: state, reports and the engine's data."""
    verdicts, devices, paths = list[Verdict](), set[int](), [settings.state, settings.reports]
    try:
        root = engine_root()
        if root.is_dir():
            paths.append(root)
        else:
            reason = f"{root}, where the engine keeps its data, cannot be seen here"
            verdicts.append(not_asked("disk", reason))
    except EngineUnavailable as error:
        verdicts.append(unknown("disk", str(error)))
    for path in paths:
        try:
            room = disk_room(path)
        except OSError as error:
            verdicts.append(unknown("disk", f"{path}: {error.strerror}"))
            continue
        if room.device not in devices:
            devices.add(room.device)
            verdicts.append(judge_disk(room, settings.slo.disk_free))
    return verdicts


def judge_disk(room: DiskRoom, least: float) -> Verdict:
    """No if less than the share *least* of the space, or of the inodes, is free."""
    share = room.free / room.size if room.size else 0.0
    inodes = room.inodes_free / room.inodes if room.inodes else 1.0
    free = f"{percent(share, least=least)} ({room.free / GIGABYTE:.1f} of {room.size / GIGABYTE:.0f} GB)"
    expected = f"{least:.0%} free"
    evidence = {"path": str(room.path), "free_bytes": room.free, "inodes_free": room.inodes_free}
    if share < least:
        reason = f"{room.path}: expected {expected}, got {free}"
        return no("disk", reason, expected=expected, seen=free, **evidence)
    if inodes < least:
        free = percent(inodes, least=least)
        reason = f"{room.path}: expected {least:.0%} of the inodes free, got {free}"
        return no("disk", reason, expected=expected, seen=f"{free} of inodes", **evidence)
    return yes("disk", f"{room.path}: {free} free", expected=expected, seen=free, **evidence)


def most_serious(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that a person must read first."""
    return min(verdicts, key=lambda each: each.rank)


# --- certificate ---
def tls(settings: Settings, clock: Callable[[], float] = time.time) -> Verdict:
    """Fetch the proxy's certificate and judge how many days it is still valid, and whether clients trust it."""
    url = urlsplit(settings.proxy.url) if settings.proxy else urlsplit("")
    if url.scheme != "https" or settings.proxy is None:
        return not_asked("tls", "the proxy's url is not https")
    name, port, verify = url.hostname or "", url.port or 443, settings.proxy.tls_verify
    try:
        # Unlike a verifying client it gets an expired certificate too.
        end = certificate_end(ssl.get_server_certificate((name, port), timeout=TLS_DEADLINE_S))
        refusal = trust_problem(name, port, verify) if verify is not False else ""
    except OSError as error:
        return unknown("tls", f"{name}:{port} shows no certificate: {error}", expected="a certificate")
    return judge_tls(end, clock(), settings.slo.tls_min_days, refusal)


def certificate_end(pem: str) -> float:
    """The end of a certificate's validity (epoch); raises OSError if openssl cannot read it."""
    # The standard library reads the dates of trusted certificates only, and an expired one is not trusted.
    argv = ("openssl", "x509", "-noout", "-enddate")
    done = process.run(argv, deadline_s=TLS_DEADLINE_S, stdin=pem.encode())
    if not done.ok:
        raise OSError(done.last_line)
    return float(ssl.cert_time_to_seconds(done.out.strip().partition("=")[2]))


def trust_problem(name: str, port: int, verify: TlsVerify) -> str:
    """Why a client that verifies refuses the certificate; empty if it accepts it. Raises OSError."""
    try:
        with socket.create_connection((name, port), TLS_DEADLINE_S) as plain:
            tls_context(verify).wrap_socket(plain, server_hostname=name).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    return ""


def judge_tls(until: float, now: float, least_days: float, refusal: str) -> Verdict:
    """No if clients refuse the certificate (*refusal*), or if it is valid for fewer than *least_days*."""
    days = (until - now) / DAY_S
    end = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d")
    expected, seen = f"at least {least_days:g} days left", f"{spelled(days, least=least_days)} days left"
    if days <= 0:
        return no("tls", f"the certificate has expired on {end}", expected=expected, seen=seen)
    if refusal:
        reason = f"clients refuse the certificate: {refusal}"
        return no("tls", reason, expected="a trusted one", seen=refusal)
    if days < least_days:
        reason = f"expected {expected}, got {seen} (until {end})"
        return no("tls", reason, expected=expected, seen=seen)
    return yes("tls", f"{seen} (until {end})", expected=expected, seen=seen)


# --- alerts --------------------------------------------------------------------------------------------------
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
    try:
        found = [_rule(rule) for group in rules["data"]["groups"] for rule in group["rules"]]
    except OTHER_SHAPE:
        return AlertState(f"{wanted.prometheus} answers, but not as Prometheus does")
    if not wanted.alertmanager:
        return AlertState(found)
    senders = _get_json(wanted.prometheus, "/api/v1/alertmanagers")
    connected = None
    with contextlib.suppress(*OTHER_SHAPE):
        connected = len(senders["data"]["activeAlertmanagers"])
    status = _get_json(wanted.alertmanager, "/api/v2/status")
    if isinstance(status, str):
        return AlertState(found, connected, no_routes=status)
    try:
        return AlertState(found, connected, str(status["config"]["original"]))
    except OTHER_SHAPE:
        no_routes = f"{wanted.alertmanager} answers, but not as Alertmanager does"
        return AlertState(found, connected, no_routes=no_routes)


def _rule(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An alerting rule with its alerts; raises one of OTHER_SHAPE for anything else."""
    alerts = [{**each, "labels": {**each["labels"]}} for each in answer.get("alerts") or ()]
    return {
        **answer,
        "name": str(answer["name"]),
        "labels": {**(answer.get("labels") or {})},
        "alerts": alerts,
    }


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
    if not wanted.rules:
        return not_asked(question, "[alerts] names no rules")
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
            # Without a list the rule stands for itself.
            found += firing or [{"labels": rule.get("labels") or {}}]
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
