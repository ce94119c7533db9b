"""What users get on each route, beside what they got from the old color."""

from __future__ import annotations

import pytest

from cutover.core.text import route_of
from cutover.core.verdict import Outcome
from cutover.proxy.access_log import LoggedRequest
from cutover.watch.routes import MOST_ROUTES, OTHER, RouteComparison, Routes, judge_routes

YES, NO, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.NOT_ASKED


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "GET /"),
        ("/memories", "GET /memories"),
        ("/memories/17", "GET /memories/*"),
        ("/memories/0b7f3a52-3c8e-4b0e-9a44-6f0d9d1f2c11/tags", "GET /memories/*/tags"),
        ("/files/9f86d081884c7d65", "GET /files/*"),
        ("/static/application.css", "GET /static/application.css"),
        ("/t/eyJhbGciOiJIUzI1NiJ9", "GET /t/*"),
        ("/v1/memories", "GET /v1/memories"),
        ("/a/b/c/d/e/f/g/h", "GET /a/b/c/d/e/f/…"),
    ],
)
def test_a_route_is_a_path_without_its_ids(path: str, route: str) -> None:
    """Parts that look like one of many values are left out, names stay."""
    assert route_of("GET", path) == route


def requests(
    path: str,
    good: int,
    bad: int = 0,
    status: int = 404,
    connections: int = 8,
    *,
    ts: float = 0.0,
    cut: bool = False,
) -> list[LoggedRequest]:
    """*good* answers and then *bad* ones, ten a second."""
    return [
        LoggedRequest(
            ts + number / 10, "green", status if number >= good else 200, 0.01, str(number % connections), "GET",
            path, cut=cut and number >= good,
        )
        for number in range(good + bad)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "outcome", "reason"),
    [
        ([], requests("/m", 9), NOT_ASKED, "no route was requested both before"),
        (requests("/m", 200), requests("/m", 100), YES, "1 routes, none worse than on the old color"),
        (
            requests("/m/1", 200), requests("/m/2", 0, 20), NO,
            "GET /m/*: 20 of 20 requests answered 404, the old color had 0 of 200",
        ),
        (requests("/m", 200), requests("/m", 0, 20, 401), NO, "answered 401"),
        (requests("/m", 200), requests("/m", 0, 20, 499), NO, "20 of 20 requests given up by the client"),
        (requests("/m", 200), requests("/m", 0, 20, 200, cut=True), NO, "20 of 20 requests cut short"),
        (requests("/m", 200), requests("/m", 0, 4), YES, "none worse"),
        (requests("/m", 100, 100), requests("/m", 9, 11), YES, "none worse"),
        (requests("/m", 200), requests("/m", 400, 8), YES, "none worse"),
        (requests("/m", 200), requests("/m", 0, 20, 503), YES, "none worse"),
        (requests("/m", 200), requests("/m", 0, 20, connections=2), NOT_ASKED, "all of them on 2 connections"),
        (
            requests("/m", 200), requests("/wp-login.php", 0, 20), NOT_ASKED,
            "reported: GET /wp-login.php: 20 of 20 requests answered 404; the old color was not asked for it",
        ),
    ],
)  # fmt: skip
def test_a_route_that_got_worse(
    old: list[LoggedRequest], new: list[LoggedRequest], outcome: Outcome, reason: str
) -> None:
    """A jump of refusals, of what clients gave up, and of cut answers is a no; what cannot be compared is told."""
    found = RouteComparison(Routes.of(old))
    found.add(new)
    verdict = judge_routes(found)
    assert (verdict.outcome, verdict.question) == (outcome, "routes"), verdict
    assert reason in verdict.reason


def test_a_defect_that_begins_late_is_seen_within_two_seconds() -> None:
    """Ten minutes of good answers do not hide that one of two routes answers 404 since two seconds, at 50 a second."""
    found = RouteComparison(Routes.of([*requests("/m", 300), *requests("/n", 300)]))
    for poll in range(2400):
        ts = poll / 4
        found.add(requests("/m", 6, ts=ts) + requests("/n", 6, ts=ts))
    assert judge_routes(found).outcome is YES
    for poll in range(2400, 2408):
        found.add(requests("/m", 6, ts=poll / 4) + requests("/n", 0, 6, ts=poll / 4))
    assert judge_routes(found).outcome is NO


def test_the_memory_is_bounded() -> None:
    """However many paths users ask for, so many routes are kept, and few connections of each."""
    found = Routes()
    for number in range(3 * MOST_ROUTES):
        found.add(requests(f"/page-{'x' * (number % 7)}-{chr(97 + number % 26)}-{number:x}z", 0, 1)[0])
    assert len(found.counts) <= MOST_ROUTES + 1
    assert OTHER in found.counts or len(found.counts) <= MOST_ROUTES
