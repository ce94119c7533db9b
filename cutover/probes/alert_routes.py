"""To whom Alertmanager would send an alert with these labels, by the routes that it says it has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

KEY = re.compile(r"([\w.-]+):(?: (.*))?")
MATCHER = re.compile(r'"?([\w.-]+)"?\s*(=~|!~|!=|=)\s*(.*)')


def receivers(configuration: str, labels: Mapping[str, str]) -> frozenset[str]:
    """The receivers that an alert with *labels* may reach; a matcher on a label that is not known may hold."""
    rows = [(len(line) - len(line.lstrip(" ")), line.strip()) for line in configuration.splitlines()]
    rows = [row for row in rows if row[1] and not row[1].startswith("#")]
    whole, _ = _value(rows, 0) if rows else (None, 0)
    route = whole.get("route") if isinstance(whole, dict) else None
    return frozenset(_reached(route, labels, "")[1]) if isinstance(route, dict) else frozenset()


def _reached(route: Mapping[str, Any], labels: Mapping[str, str], above: str) -> tuple[bool | None, set[str]]:
    """Whether *route* takes an alert (None: perhaps), and whom it may reach: its own one if no child takes it."""
    held = [_holds(*each, labels) for each in _matchers(route)]
    if False in held:
        return False, set()
    own, found, taken = str(route.get("receiver") or above), set[str](), False
    for child in route.get("routes") or []:
        takes, more = _reached(child, labels, own)
        found |= more
        taken |= takes is True
        if takes and child.get("continue") != "true":
            break
    return None if None in held else True, found if taken else found | {own}


def _matchers(route: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, operator and value of each of a route's matchers, in the new form and in the two old ones."""
    for text in route.get("matchers") or []:
        found = MATCHER.fullmatch(text)
        if found:
            yield found[1], found[2], _scalar(found[3])
    for key, operator in (("match", "="), ("match_re", "=~")):
        for label, value in (route.get(key) or {}).items():
            yield label, operator, value


def _holds(label: str, operator: str, value: str, labels: Mapping[str, str]) -> bool | None:
    """Whether a matcher holds; None where nobody knows the label."""
    if label not in labels:
        return None
    try:
        same = re.fullmatch(value, labels[label]) is not None if "~" in operator else labels[label] == value
    except re.error:  # Go's syntax is not quite Python's
        return None
    return same is not operator.startswith("!")


def _value(rows: list[tuple[int, str]], at: int) -> tuple[Any, int]:
    """The value that begins at row *at* of YAML in blocks, as Alertmanager writes it, and the row behind it."""
    indent, text = rows[at]
    if text.startswith("- "):
        items = []
        while at < len(rows) and rows[at][0] == indent and rows[at][1].startswith("- "):
            rows[at] = (indent + 2, rows[at][1][2:])
            item, at = _value(rows, at)
            items.append(item)
        return items, at
    if not KEY.fullmatch(text):
        return _scalar(text), at + 1
    table: dict[str, Any] = {}
    while at < len(rows) and rows[at][0] == indent and (found := KEY.fullmatch(rows[at][1])):
        at += 1
        table[found[1]] = _scalar(found[2] or "")
        below = at < len(rows) and (
            rows[at][0] > indent or (rows[at][0] == indent and rows[at][1][:2] == "- ")
        )
        if below and not found[2]:
            table[found[1]], at = _value(rows, at)
        while at < len(rows) and rows[at][0] > indent:
            at += 1  # a text of several lines: no route has one
    return table, at


def _scalar(text: str) -> Any:
    """A text without its quotes; an empty list or table is nothing."""
    if text in {"[]", "{}", "null"}:
        return None
    if text[:1] == '"' == text[-1:]:
        try:
            return json.loads(text)
        except ValueError:
            return text[1:-1]
    return text[1:-1].replace("''", "'") if text[:1] == "'" == text[-1:] and len(text) > 1 else text
