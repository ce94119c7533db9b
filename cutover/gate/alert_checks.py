"""Alertmanager routes: which receivers an alert may reach."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

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
