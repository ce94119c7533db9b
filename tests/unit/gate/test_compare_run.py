"""Two releases are asked the same, within count, rate and time; the verdict and its kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from cutover.core.config_schema import Compare
from cutover.core.verdict import Outcome
from cutover.gate.compare_requests import CompareRequest
from cutover.gate.compare_run import ask_both, compare
from cutover.system.http import HttpClient
from tests.helpers.http_service import Answer, Asked, json_answer, serving

ITEM = {"id": 7, "name": "tea", "tags": ["a"]}
Reply = Callable[[str], tuple[int, Any]]


@contextmanager
def release(reply: Reply) -> Iterator[tuple[HttpClient, list[Asked]]]:
    """A client for a service that answers by *reply*, and what it was asked."""

    def answer(asked: Asked) -> Answer:
        status, value = reply(asked.path)
        return json_answer(value, status)

    with serving(answer) as service, HttpClient(service.url, 5.0) as client:
        yield client, service.asked


def lines_of(asked: list[Asked]) -> list[str]:
    """Method and path of each request."""
    return [f"{each.method} {each.path}" for each in asked]


def good(path: str) -> tuple[int, Any]:
    """The same answer to each request but for its ID."""
    return 200, ITEM | {"id": int(path.rsplit("/", 1)[-1])}


REQUESTS = [CompareRequest("GET", f"/items/{n}") for n in range(12)]
QUICK = Compare(rate=5000.0)


def verdict(new: Reply, wanted: Compare = QUICK, requests: list[CompareRequest] = REQUESTS) -> Any:
    """The verdict of a release that answers by *new*, beside a good one."""
    with release(good) as (old, _), release(new) as (other, _):
        return compare(requests, old, other, wanted, ("sha-1", "sha-2"))


def test_each_request_goes_twice_to_the_old_and_once_to_the_new_release() -> None:
    """In a mixed order, as requests of ours, and with what a file says."""
    posted = CompareRequest("POST", "/items/9", {"x-mode": "1"}, b"{}")
    with release(good) as (old, to_old), release(good) as (new, to_new):
        rows = [*ask_both([*REQUESTS, posted], old, new, QUICK)]
    assert len(rows) == 13
    lines = lines_of(to_new)
    assert sorted(lines) == sorted([*(f"GET /items/{n}" for n in range(12)), "POST /items/9"])
    assert sorted(lines_of(to_old)) == sorted(lines * 2)
    posted_to = next(each for each in to_new if each.method == "POST")
    assert (posted_to.headers["x-mode"], posted_to.body) == ("1", b"{}")
    assert {each.headers["user-agent"] for each in (*to_old, *to_new)} == {"cutover"}


def test_the_old_release_gets_no_more_than_the_rate() -> None:
    """Each one has a turn of its own; what has none in time is left out."""
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)

    with release(good) as (old, to_old), release(good) as (new, _):
        rows = [
            *ask_both(
                REQUESTS, old, new, Compare.model_validate({"rate": 4, "within": "2s"}), lambda: now[0], sleep
            )
        ]
    assert len(to_old) == 8
    assert sorted(slept) == [n / 4 for n in range(8)]
    assert 0 < len(rows) <= 4  # others may have been begun


def test_no_more_than_the_count() -> None:
    """The first ones of the sample."""
    with release(good) as (old, _), release(good) as (new, to_new):
        assert len([*ask_both(REQUESTS, old, new, Compare(rate=5000.0, count=3))]) == 3
    assert sorted(lines_of(to_new)) == ["GET /items/0", "GET /items/1", "GET /items/2"]


def test_the_same_answers() -> None:
    """A yes that says how much was compared."""
    found = verdict(good)
    assert (found.outcome, found.reason) == (Outcome.YES, "12 requests on 1 route: no difference")
    assert not found.evidence["notice"]


def test_a_difference_is_reported_by_default() -> None:
    """It decides only if its kind is in `fail_on`."""

    def gone(path: str) -> tuple[int, Any]:
        return 200, {"id": int(path.rsplit("/", 1)[-1]), "name": "tea"}

    found = verdict(gone)
    told = 'GET /items/*: field "tags" is gone, 12 of 12'
    assert (found.outcome, found.reason) == (
        Outcome.YES, f"12 requests on 1 route: 1 difference, reported only: {told}",
    )  # fmt: skip
    assert found.evidence["notice"]
    assert found.evidence["differences"][0]["text"] == told
    found = verdict(gone, Compare(rate=5000.0, fail_on=("removed_field",)))
    assert (found.outcome, found.reason) == (Outcome.NO, f"{told} (of 12 requests on 1 route)")
    assert found.expected == "no difference of removed_field"
    assert verdict(gone, Compare(rate=5000.0, ignore=("tags",))).reason.endswith("no difference")


def test_an_error_that_the_old_release_does_not_give_fails_by_default() -> None:
    """A 5xx is never wanted; one that both give is none of the new release."""
    found = verdict(lambda path: (503, {}) if path == "/items/3" else good(path))
    assert (found.outcome, found.reason) == (
        Outcome.NO, "GET /items/*: 503 instead of 200, 1 of 12 (of 12 requests on 1 route)",
    )  # fmt: skip
    with release(lambda _: (500, {})) as (old, _), release(lambda _: (500, {})) as (new, _):
        both = compare(REQUESTS, old, new, QUICK, ())
    assert both.outcome is Outcome.NOT_ASKED
    assert both.reason == "none of 12 requests could be compared: 12 × the old release answers 5xx"


def failing_once(*numbers: int) -> Reply:
    """Answers the first request for each of these items with 503."""
    left = {f"/items/{number}" for number in numbers}

    def reply(path: str) -> tuple[int, Any]:
        if path in left:
            left.remove(path)
            return 503, {}
        return good(path)

    return reply


@pytest.mark.parametrize(
    ("failing", "outcome", "reason"),
    [
        ([3], Outcome.YES, "1 × the new release answers 5xx, and well when asked again"),
        (range(4), Outcome.YES, "4 × the new release answers 5xx, and well when asked again"),
        (range(8), Outcome.NO, "GET /items/*: 503 instead of 200, 8 of 12 (of 12 requests on 1 route)"),
    ],
)
def test_one_error_that_does_not_come_again_is_told(
    failing: Sequence[int], outcome: Outcome, reason: str
) -> None:
    """A service that fails now and then, or is cold, is not reverted for it; surely more errors than before are a no."""
    found = verdict(failing_once(*failing))
    assert (found.outcome, reason in found.reason) == (outcome, True), found
    assert found.outcome is Outcome.NO or found.evidence["notice"]


def test_a_request_that_writes_is_not_sent_again() -> None:
    """It may have written something before it failed."""
    posted = [CompareRequest("POST", "/items/3")]
    with release(good) as (old, _), release(failing_once(3)) as (new, to_new):
        found = compare(posted, old, new, QUICK, ())
    assert found.outcome is Outcome.NO
    assert lines_of(to_new) == ["POST /items/3"]


@pytest.mark.parametrize("requests", [[]])
def test_nothing_to_ask(requests: list[CompareRequest]) -> None:
    """Not asked, never a yes."""
    assert verdict(good, requests=requests).outcome is Outcome.NOT_ASKED


def test_an_old_release_that_does_not_answer() -> None:
    """Nothing is compared, and that is no fault of the new one."""
    with release(good) as (new, _), HttpClient("http://127.0.0.1:9", 1.0) as old:
        found = compare(REQUESTS[:2], old, new, QUICK, ())
    assert found.outcome is Outcome.NOT_ASKED
    assert "2 × the old release gave no answer" in found.reason
