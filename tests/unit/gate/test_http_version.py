from __future__ import annotations

import json
from typing import Any

import pytest

from cutover.core.verdict import Outcome
from cutover.gate.http_checks import DEFAULT_VERSION, judge_version
from cutover.system.http import HttpResponse

YES, NO = Outcome.YES, Outcome.NO
RECALL = {"service": "recall", "version": "{tag}"}


def said(body: Any, status: int = 200) -> HttpResponse:
    """What a service answered."""
    return HttpResponse(
        status, {"content-type": "application/json"}, json.dumps(body), "http://x/version", 0.01
    )


@pytest.mark.parametrize(
    ("wanted", "tag", "body", "outcome", "reason"),
    [
        (RECALL, "sha-2", {"service": "recall", "version": "sha-2", "since": 1}, YES, "version sha-2"),
        (RECALL, "sha-2", {"service": "recall", "version": "sha-1"}, NO, 'expected version "sha-2", got "sha-1"'),
        (RECALL, "sha-2", {"service": "other", "version": "sha-2"}, NO, 'expected service "recall", got "other"'),
        (RECALL, "sha-2", {"service": "recall", "version": "sha-22"}, NO, 'got "sha-22"'),
        (RECALL, "sha-2", {"service": "recall"}, NO, "there is no such key"),
        (RECALL, None, {"service": "recall", "version": "sha-7"}, YES, "version sha-7"),
        (RECALL, None, {"service": "recall", "version": ""}, NO, "<any version>"),
        (RECALL, None, {"service": "recall", "version": None}, NO, "got null"),
        (RECALL, None, {"service": "recall"}, NO, "there is no such key"),
        (RECALL, None, {"service": "other", "version": "sha-7"}, NO, 'expected service "recall"'),
        (RECALL, None, ["recall"], NO, "got"),
        ({"build": {"tag": "v{tag}"}}, "1.2", {"build": {"tag": "v1.2"}}, YES, "as expected"),
        ({"build": {"tag": "v{tag}"}}, None, {"build": {"tag": "v9"}}, YES, "as expected"),
        ({"build": {"tag": "v{tag}"}}, None, {"build": {"tag": "9"}}, NO, "v<any version>"),
        (DEFAULT_VERSION, "sha-2", {"version": "sha-2"}, YES, "version sha-2"),
        (DEFAULT_VERSION, "1", {"version": 1}, NO, "got 1"),
    ],
)  # fmt: skip
def test_version(wanted: dict[str, Any], tag: str | None, body: Any, outcome: Outcome, reason: str) -> None:
    """Service and tag must be those of the release; without a tag, the service and some version."""
    verdict = judge_version(said(body), wanted, tag)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def test_an_error_page_is_no_version() -> None:
    """The body of another status is not looked at."""
    verdict = judge_version(said({"service": "recall", "version": "sha-2"}, 404), RECALL, "sha-2")
    assert (verdict.outcome, "got 404" in verdict.reason) == (NO, True)
