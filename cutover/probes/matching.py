"""JSON compared by type: true is not "true" and not 1; keys that nobody asked for are welcome."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from cutover.core.verdict import shortened
from cutover.http import Answer

WORDS = {
    bool: "a boolean",
    str: "a string",
    int: "a number",
    float: "a number",
    dict: "an object",
    list: "a list",
}
TAG = "{tag}"


def spelt(value: Any) -> str:
    """*value* as JSON, short."""
    return shortened(json.dumps(value, ensure_ascii=False), 80)


def kind(value: Any) -> str:
    """The JSON type of *value*."""
    return "null" if value is None else WORDS.get(type(value), type(value).__name__)


def differences(wanted: Any, seen: Any, at: str = "") -> list[str]:
    """Where *seen* is not what *wanted* asks for, one line each.

    An object may hold more than is wanted; an empty list stands for any list, as an empty object for any object.
    """
    here = f"{at} " if at else ""
    if kind(wanted) != kind(seen):
        what = "" if seen is None else f" ({kind(seen)})"
        return [f"expected {here}{spelt(wanted)}, got {spelt(seen)}{what}"]
    if isinstance(wanted, dict):
        return [line for key in wanted for line in _of_key(wanted, seen, str(key), at)]
    if isinstance(wanted, list):
        if wanted and len(wanted) != len(seen):
            return [f"expected {here}with {len(wanted)} elements, got {len(seen)}"]
        pairs = enumerate(zip(wanted, seen, strict=False))
        return [line for i, (one, other) in pairs for line in differences(one, other, f"{at}[{i}]")]
    return [] if wanted == seen else [f"expected {here}{spelt(wanted)}, got {spelt(seen)}"]


def _of_key(wanted: dict[str, Any], seen: dict[str, Any], key: str, at: str) -> list[str]:
    path = f"{at}.{key}" if at else key
    if key not in seen:
        return [f"expected {path} {spelt(wanted[key])}, there is no such key"]
    return differences(wanted[key], seen[key], path)


def status_problem(answer: Answer, wanted: int) -> str:
    """Why the status is not the wanted one, in words; empty when it is."""
    if answer.status == wanted:
        return ""
    said = f": {shortened(answer.body, 80)}" if answer.body.strip() else ""
    if 300 <= answer.status < 400:  # noqa: PLR2004  the class of redirects
        said = f", a redirect to {answer.headers.get('location', 'nowhere')}"
    return f"expected status {wanted}, got {answer.status}{said}"


def json_problem(answer: Answer, compare: Callable[[Any], list[str]]) -> str:
    """Why the body is not the wanted JSON: not JSON at all, or the first difference; empty when it is."""
    try:
        found = compare(answer.json())
    except ValueError as error:
        return f"expected JSON, got {error}: {shortened(answer.body, 80) or '(empty)'}"
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "") if found else ""


def with_tag(wanted: Any, tag: str) -> Any:
    """*wanted* with `{tag}` filled in wherever it stands."""
    if isinstance(wanted, str):
        return wanted.replace(TAG, tag)
    if isinstance(wanted, dict):
        return {key: with_tag(value, tag) for key, value in wanted.items()}
    return [with_tag(value, tag) for value in wanted] if isinstance(wanted, list) else wanted


def with_some_tag(wanted: Any, seen: Any) -> Any:
    """*wanted* with `{tag}` replaced by what *seen* says there, where that could be a tag at all."""
    if isinstance(wanted, str) and TAG in wanted:
        before, _, after = wanted.partition(TAG)
        fits = isinstance(seen, str) and re.fullmatch(f"{re.escape(before)}\\S+{re.escape(after)}", seen)
        return seen if fits else wanted.replace(TAG, "<any version>")
    if isinstance(wanted, dict) and isinstance(seen, dict):
        return {key: with_some_tag(value, seen.get(key)) for key, value in wanted.items()}
    return with_tag(wanted, "<any version>")
