"""Failed requests and latency of users, judged by the proxy's access log."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config_schema import Slo
from cutover.core.evidence import Evidence
from cutover.core.stats import Histogram, Sequential
from cutover.core.text import stamp
from cutover.core.verdict import Outcome
from cutover.proxy.access_log import AccessLog, LogTails, parse_log_line
from cutover.watch.check import Source
from cutover.watch.routes import Routes
from cutover.watch.traffic import (
    LatencyWindow,
    LatencyWindows,
    OldTraffic,
    RequestCounts,
    TrafficSource,
    UsersCost,
    cost_since,
    judge_busy_host,
    judge_errors,
    judge_user_latency,
    latency_bounds,
    old_traffic,
    traffic_checks,
)
from tests.helpers.proxy_drivers import near

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
SINCE = 1000.0
SLO = Slo.model_validate({})


def line(
    ts: float,
    status: int = 200,
    seconds: float = 0.01,
    color: str = "green",
    path: str = "/m",
    **more: str,
) -> str:
    """One line of the access log."""
    entry: dict[str, Any] = {
        "ts": ts, "color": color, "status": status, "seconds": seconds, "connection": "1", "method": "GET",
        "path": path, "upstream": str(seconds), "upstream_addr": "127.0.0.1:1",
    }  # fmt: skip
    return json.dumps(entry | more) + "\n"


def tails(path: Path) -> LogTails:
    """The tail of this log."""
    return LogTails.of([AccessLog(path)])


def counts(per_second: list[tuple[int, int]]) -> tuple[RequestCounts, Sequential]:
    """Requests and failures of each second, looked at once a second."""
    found, test = RequestCounts(), Sequential(0.01)
    for second, (requests, failed) in enumerate(per_second):
        for number in range(requests):
            found.add(SINCE + second, failed=number < failed)
        test.look((found.failed, found.requests), found.recent)
    return found, test


@pytest.mark.parametrize(
    ("per_second", "old", "outcome", "reason"),
    [
        ([], OldTraffic(), NOT_ASKED, "0 requests, needs 100"),
        ([(3, 0)], OldTraffic(), NOT_ASKED, "3 requests, needs 100"),
        ([(50, 0)] * 2, OldTraffic(), YES, "0 of 100 requests failed; nothing seen before"),
        ([(1, 1)], OldTraffic(), NOT_ASKED, "1 requests, needs 100"),
        ([(5, 5)], OldTraffic(), NO, "expected at most 1.00% of requests failed, got 100.0% (5 of 5)"),
        ([(50, 5)], OldTraffic(), NO, "10.0% (5 of 50)"),
        ([(50, 1)] * 4, OldTraffic(), YES, "4 of 200 requests failed"),
        ([(50, 0)] * 60 + [(50, 25)], OldTraffic(9000), NO, "5.0% (25 of 500); the old color had 0 of 9000"),
        ([(100, 5)] * 20, OldTraffic(9000, 400), NOT_ASKED, "had 400 of 9000 before: not this release"),
        ([(100, 20)] * 20, OldTraffic(9000, 400), NO, "20.0% (200 of 1000); the old color had 400"),
        ([(1000, 10)] * 60, OldTraffic(9000), YES, "600 of 60000 requests failed; the old color had 0"),
    ],
)  # fmt: skip
def test_failed_requests(
    per_second: list[tuple[int, int]], old: OldTraffic, outcome: Outcome, reason: str
) -> None:
    """A no needs a rate that is surely too high and above the old color's; a yes needs the minimum of requests."""
    found, test = counts(per_second)
    verdict = judge_errors(found, test, old, needed=100)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason
    if outcome is not NOT_ASKED:  # the figures of a session
        assert verdict.evidence == {"failed": found.failed, "requests": found.requests}


def of_routes(failed: dict[str, tuple[int, int]]) -> Routes:
    """Failed and all requests of each route, ten a second."""
    found = Routes()
    for route, (bad, seen) in failed.items():
        for number in range(seen):
            request = parse_log_line(line(SINCE + number / 10, 500 if number < bad else 200, path=route))
            assert request is not None
            found.add(request)
    return found


@pytest.mark.parametrize(
    ("now", "before", "outcome"),
    [
        ({"/m": (0, 55), "/report": (6, 6)}, {"/m": (0, 9000), "/report": (20, 40)}, NOT_ASKED),
        ({"/m": (0, 55), "/report": (6, 6)}, {"/m": (0, 9000), "/report": (2, 400)}, NO),
        ({"/m": (0, 55), "/report": (6, 6)}, {"/m": (0, 9000), "/report": (0, 40)}, NO),
        ({"/m": (0, 55), "/new": (6, 6)}, {"/m": (20, 9000)}, NO),
        ({"/m": (3, 55), "/report": (6, 6)}, {"/m": (0, 9000), "/report": (20, 40)}, NO),
    ],
)
def test_a_route_that_failed_before_is_not_this_release(
    now: dict[str, tuple[int, int]], before: dict[str, tuple[int, int]], outcome: Outcome
) -> None:
    """One client that asks for what always failed makes a large share of a few requests."""
    per_second = [(sum(seen for _, seen in now.values()), sum(bad for bad, _ in now.values()))]
    found, test = counts(per_second)
    old_bad, old_seen = (sum(each[side] for each in before.values()) for side in (0, 1))
    old = OldTraffic(old_seen, old_bad, routes=of_routes(before))
    verdict = judge_errors(found, test, old, needed=100, now=of_routes(now))
    assert verdict.outcome is outcome, verdict
    if outcome is NOT_ASKED:
        assert verdict.reason.endswith("on these routes the old color had 20 of 40 before: not this release")


def test_a_route_that_fails_more_often_now_is_this_release() -> None:
    """Also if it was well for a while, and failed now and then before."""
    found, test = counts([(10, 0)] * 60 + [(10, 10)] * 3)
    now = of_routes({"/m": (0, 600)})
    for number in range(30):
        request = parse_log_line(line(SINCE + 60 + number / 10, 500))
        assert request is not None
        now.add(request)
    old = OldTraffic(9000, 450, routes=of_routes({"/m": (450, 9000)}))
    assert judge_errors(found, test, old, needed=100, now=now).outcome is NO


def window(p95: float) -> LatencyWindow:
    """A window with that p95."""
    return LatencyWindow(60, {"p50": 0.01, "p95": p95, "p99": 2 * p95})


@pytest.mark.parametrize(
    ("p95s", "allowed", "outcome", "reason"),
    [
        ([], {"p95": (0.3, "slo")}, NOT_ASKED, "no window of 50 requests yet"),
        ([0.1], {}, NOT_ASKED, "no [slo], and too few requests before the switch to compare with"),
        ([0.1], {"p95": (0.3, "slo")}, YES, "p50 10 ms, p95 100 ms, p99 200 ms of 60 requests"),
        (
            [0.9],
            {"p95": (0.3, "slo")},
            NOT_ASKED,
            "p95 900 ms, p99 1800 ms, once; two windows in a row are a no",
        ),
        ([0.9, 0.1], {"p95": (0.3, "slo")}, YES, "p95 100 ms"),
        ([0.1, 0.9], {"p95": (0.3, "slo")}, NOT_ASKED, "once; two windows in a row are a no"),
        ([0.9, 0.8], {"p95": (0.3, "slo")}, NO, "expected p95 at most 300 ms (slo), got 900 ms and 800 ms"),
        ([0.3002, 0.8], {"p95": (0.3, "slo")}, NO, "got 301 ms and 800 ms in two windows in a row"),
        ([0.3002], {"p95": (0.3, "slo")}, NOT_ASKED, "p95 at most 300 ms, got p50 10 ms, p95 301 ms"),
        ([0.2, 0.4], {"p95": (0.3, "slo"), "p99": (0.3, "slo")}, NO, "expected p99 at most 300 ms (slo)"),
        ([0.2, 0.2], {"p95": (0.3, "slo"), "p99": (0.3, "slo")}, NO, "expected p99 at most 300 ms (slo)"),
    ],
)
def test_latency(
    p95s: list[float], allowed: dict[str, tuple[float, str]], outcome: Outcome, reason: str
) -> None:
    """A quantile above its bound in two windows in a row is a no, in one window it is not."""
    verdict = judge_user_latency(tuple(map(window, p95s)), allowed)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


def first_no(slo: Slo, old: Histogram, draw: Callable[[], float], windows: int) -> int:
    """The number of the window of 50 requests at which the check of latency says no; 0 for none of *windows*."""
    allowed = latency_bounds(slo, old)
    seen = LatencyWindows({name: bound for name, (bound, _) in allowed.items()})
    for number in range(windows * 51):
        seen.add(SINCE + number / 10, draw())
        if judge_user_latency(seen.closed, allowed, seen.sure).outcome is NO:
            return number // 51 + 1
    return 0


P95, P99 = Slo.model_validate({"p95": "500ms"}), Slo.model_validate({"p99": "500ms"})


@pytest.mark.parametrize(
    ("slo", "draw"),
    [
        (SLO, lambda chance: 0.1 * chance.lognormvariate(0, 1)),
        (SLO, lambda chance: 0.1 * chance.paretovariate(2)),
        (P95, lambda chance: 2.0 if chance.random() < 0.05 else 0.05),  # exactly at its limit
        (P99, lambda chance: 2.0 if chance.random() < 0.005 else 0.05),
        (P99, lambda chance: 2.0 if chance.random() < 0.01 else 0.05),
    ],
)
def test_a_few_slow_requests_are_no_slow_release(slo: Slo, draw: Callable[[random.Random], float]) -> None:
    """A release as quick as the old one, or within its limits, is not reverted because 3 of 50 were slow by chance."""
    for seed in range(10):
        chance, old = random.Random(seed), Histogram()  # noqa: S311 - no secret
        for _ in range(3000):
            old.add(draw(chance))
        assert first_no(slo, old, lambda: draw(chance), windows=180) == 0  # noqa: B023 - used in this turn only


@pytest.mark.parametrize(
    ("slo", "draw", "soon"),
    [
        (P95, lambda chance: 0.6 + chance.random(), 2),  # each one is slow
        (P95, lambda chance: 2.0 if chance.random() < 0.2 else 0.05, 8),
        (P95, lambda chance: 2.0 if chance.random() < 0.12 else 0.05, 40),
        (P99, lambda chance: 2.0 if chance.random() < 0.1 else 0.05, 8),
        (SLO, lambda chance: 0.3 * chance.lognormvariate(0, 1), 8),  # three times as slow as the old color
    ],
)
def test_a_slow_release_is_noticed_soon(slo: Slo, draw: Callable[[random.Random], float], soon: int) -> None:
    """What is surely slower than allowed is a no in two windows, and in a few more if it is only a part."""
    for seed in range(10):
        chance, old = random.Random(seed), Histogram()  # noqa: S311 - no secret
        for _ in range(3000):
            old.add(0.1 * chance.lognormvariate(0, 1))
        assert 2 <= first_no(slo, old, lambda: draw(chance), windows=180) <= soon  # noqa: B023 - as above


def test_slow_windows_that_may_be_chance_are_told() -> None:
    """Two windows above the bound whose requests may be slow by chance are reported as such."""
    windows = (window(0.9), window(0.9))
    verdict = judge_user_latency(windows, {"p95": (0.3, "slo")}, frozenset())
    assert verdict.outcome is NOT_ASKED
    assert verdict.reason.endswith("in two windows in a row, and so few of them may be chance")


@pytest.mark.parametrize(("then", "sure"), [(4, False), (30, True)])
def test_a_slow_start_is_no_slow_release(then: int, *, sure: bool) -> None:
    """One slow window after the switch makes no later one surer, of which 4 of 51 are slow by chance."""
    seen = LatencyWindows({"p95": 0.5})
    for number in range(102):
        seen.add(SINCE + number / 10, 2.0 if number < 51 + then else 0.05)
    assert min(each.quantiles["p95"] for each in seen.closed) > 0.5
    assert ("p95" in seen.sure) is sure


def test_a_websocket_has_no_latency(tmp_path: Path) -> None:
    """A connection that became a WebSocket is logged with its whole life, which no user has waited for."""
    log = tmp_path / "access.json"
    log.write_text("".join(line(SINCE - 9, 101, 600.0, color="blue") for _ in range(60)))
    old = old_traffic([AccessLog(log)], "blue", SINCE, frozenset())
    assert (old.requests, old.latency.count) == (60, 0)
    traffic = TrafficSource(tails(log), "green", SINCE, frozenset(), Evidence(), P95, old)
    *_, latency = traffic_checks(traffic)
    with log.open("a") as out:
        for number in range(240):
            is_socket = number % 4 == 0
            out.write(line(SINCE + number / 10, 101 if is_socket else 200, 60.0 if is_socket else 0.01))
    latency.poll(0.0)
    assert latency.verdict().outcome is YES, latency.verdict()
    assert traffic.counts.requests == 240


@pytest.mark.parametrize(("old_p95", "bound"), [(0.010, 0.060), (0.099, 0.149), (0.200, 0.300), (1.0, 1.5)])
def test_without_slo_the_old_color_is_the_bound(old_p95: float, bound: float) -> None:
    """The bound is 1.5 times the old color's p95, and at least 50 ms above it."""
    old = Histogram()
    for _ in range(100):
        old.add(old_p95)
    assert latency_bounds(SLO, old)["p95"][0] == pytest.approx(bound, rel=0.05)
    assert latency_bounds(Slo.model_validate({"p99": "500ms"}), old) == {"p99": (0.5, "slo")}
    assert latency_bounds(SLO, Histogram()) == {}


def test_the_log_is_read_as_it_grows(tmp_path: Path) -> None:
    """Only requests of users to the live color since the switch count; their series are kept as samples."""
    log = tmp_path / "access.json"
    log.write_text("".join(line(SINCE - 10 + n / 10, color="blue") for n in range(60)) + line(SINCE - 1, 500))
    old = old_traffic([AccessLog(log)], "blue", SINCE, frozenset())
    assert (old.requests, old.failed) == (60, 0)
    reader, evidence = tails(log), Evidence()
    traffic = TrafficSource(reader, "green", SINCE, frozenset({"/readyz"}), evidence, SLO, old)
    errors, _routes, latency = traffic_checks(traffic)
    with log.open("a") as out:
        out.write(line(SINCE - 1, 500))
        out.write(line(SINCE + 1, 500, color="blue"))
        out.write(line(SINCE + 1, 503, path="/readyz"))
        out.write("not json\n")
        out.writelines(line(SINCE + n / 10, seconds=0.4) for n in range(120))
    errors.poll(0.0)
    latency.poll(0.0)
    assert errors.verdict().reason == "0 of 120 requests failed; the old color had 0 of 60 before"
    assert latency.verdict().outcome is NO
    assert "(old color × 1.5)" in latency.verdict().reason
    assert {each.series for each in evidence.samples} == {"requests", "5xx", "p50", "p95", "p99"}
    traffic.reset()
    assert (errors.verdict().outcome, latency.verdict().outcome) == (NOT_ASKED, NO)
    traffic.reset_latency()
    assert latency.verdict().outcome is NOT_ASKED


def test_a_log_that_cannot_be_read_counts_each_five_seconds(tmp_path: Path) -> None:
    """Both checks are unknown without a log; each five seconds without it count once, whatever our probes get."""
    probes = Source(lambda: None)
    traffic = TrafficSource(tails(tmp_path), "green", SINCE, frozenset(), Evidence(), SLO, probes=probes)
    errors, _routes, latency = traffic_checks(traffic)
    polls = []
    for now in (0.0, 0.5, 4.5, 5.0):
        probes.count += 1
        errors.poll(now)
        polls.append((errors.source.polls, latency.source.polls))
    assert polls == [(1, 1), (1, 1), (1, 1), (2, 2)]
    assert {each.verdict().outcome for each in (errors, latency)} == {UNKNOWN}


def test_a_silent_proxy_is_unknown(tmp_path: Path) -> None:
    """Both checks are unknown while our own probes get no answer; a no that is sure stays a no."""
    log, probes = tmp_path / "access.json", Source(lambda: None, count=7, silence="the proxy does not answer")
    tail = tails(log)
    log.write_text("".join(line(SINCE + n / 100) for n in range(200)))
    traffic = TrafficSource(tail, "green", SINCE, frozenset(), Evidence(), SLO, probes=probes)
    errors, _routes, latency = traffic_checks(traffic)
    errors.poll(0.0)
    for check in (errors, latency):
        assert (check.verdict().outcome, check.verdict().reason) == (UNKNOWN, "the proxy does not answer")
        assert check.source.polls == 7
    with log.open("a") as out:
        out.writelines(line(SINCE + 3, 500) for n in range(60))
    errors.poll(0.5)
    assert errors.verdict().outcome is NO
    probes.silence = ""
    assert latency.verdict().outcome is NOT_ASKED


def test_without_a_log_nothing_was_old_traffic(tmp_path: Path) -> None:
    """A log that does not exist yet is no error and has no requests."""
    assert old_traffic([AccessLog(tmp_path / "none")], "blue", SINCE, frozenset()).requests == 0
    silent = UsersCost(unknown=f"{tmp_path / 'none'} shows no request since the switch")
    assert cost_since([AccessLog(tmp_path / "none")], "blue", SINCE, frozenset()) == silent


def test_what_users_saw_is_told_afterwards(tmp_path: Path) -> None:
    """Errors, answers that clients gave up and those cut short count, with their span; our own requests do not."""
    log = tmp_path / "access.json"
    rows = [(SINCE - 1, 500), (SINCE + 1, 500), (SINCE + 2, 200), (SINCE + 3.5, 502)]
    log.write_text("".join(line(ts, status) for ts, status in rows) + line(SINCE + 9, 503, path="/readyz"))
    assert cost_since([AccessLog(log)], "green", SINCE, frozenset({"/readyz"})) == UsersCost(2, 2.5)
    with log.open("a") as out:
        out.write(line(SINCE + 4, 500, agent="cutover"))
        out.write(line(SINCE + 4, 503, path="/readyz", agent=""))
        out.write(line(SINCE + 5, 499))
        out.write(line(SINCE + 6, end="cut"))
    assert cost_since([AccessLog(log)], "green", SINCE, frozenset({"/readyz"})) == UsersCost(5, 5.0)


@pytest.mark.parametrize("how", ["rotated", "long"])
def test_what_a_log_does_not_go_back_to_may_be_more(how: str, tmp_path: Path) -> None:
    """One without a request before the switch was rotated since, or only its last 4 MiB were read."""
    log, rows = tmp_path / "access.json", [line(SINCE + 7, 500), line(SINCE + 8, 200)]
    before = [line(SINCE - 1), *(line(SINCE + 1, 500, path="/" + "x" * 1000) for _ in range(9))]
    more = [line(SINCE + 6.5, 200, path="/" + "x" * 1000)] * 4300
    log.write_text("".join(rows if how == "rotated" else [*before, *more, *rows]))
    begins = {"rotated": SINCE + 7, "long": SINCE + 6.5}[how]
    why = f"{log} goes back to {stamp(begins)[11:19]} UTC only"
    assert cost_since([AccessLog(log)], "green", SINCE, frozenset()) == UsersCost(1, 0.0, why)


@pytest.mark.parametrize(
    ("probed", "logged", "seconds", "outcome"),
    [
        (True, "", 5.0, NOT_ASKED),
        (True, "", 11.0, Outcome.UNKNOWN),
        (True, '127.0.0.1 "GET /readyz" 200\n', 11.0, Outcome.UNKNOWN),
        (True, line(SINCE + 1, path="/readyz"), 11.0, NOT_ASKED),
        (True, line(SINCE + 1, path="/other"), 11.0, Outcome.UNKNOWN),
        (True, line(SINCE + 1, path="/readyz", agent=""), 11.0, Outcome.UNKNOWN),
        (True, line(SINCE + 1, path="/other", agent="cutover"), 11.0, NOT_ASKED),
        (False, "", 11.0, NOT_ASKED),
    ],
)
def test_a_log_without_our_own_probes_is_not_the_log(
    probed: bool, logged: str, seconds: float, outcome: Outcome, tmp_path: Path
) -> None:
    """A log without our own probes, which go through the proxy, is unknown after the delay of logging."""
    log = tmp_path / "access.json"
    paths = frozenset({"/readyz"})
    traffic = TrafficSource(tails(log), "green", SINCE, paths, Evidence(), SLO, probed=probed)
    errors, *_ = traffic_checks(traffic)
    errors.poll(100.0)
    log.write_text(logged)
    errors.poll(100.0 + seconds)
    assert errors.verdict().outcome is outcome, errors.verdict()


def test_a_log_that_may_not_be_read(tmp_path: Path) -> None:
    """A log that cannot be read is unknown, with the reason."""
    traffic = TrafficSource(tails(tmp_path), "green", SINCE, frozenset(), Evidence(), SLO)
    errors, *_ = traffic_checks(traffic)
    errors.poll(0.0)
    assert errors.verdict().outcome is Outcome.UNKNOWN
    assert errors.verdict().reason == f"{tmp_path} cannot be read: is a directory"


@pytest.mark.parametrize(
    ("p95", "live", "old", "calm", "busy"),
    [
        (0.4, 0.10, 0.10, 0.005, True),  # ten times as slow as before, both of them
        (0.4, 0.25, 0.10, 0.005, True),
        (0.4, 0.40, 0.10, 0.005, False),  # the same request is slower on the new color
        (0.4, 0.10, 0.009, 0.005, False),  # the old color is as quick as before
        (1.2, 0.10, 0.10, 0.005, False),  # more than the host explains: some other request is slow
        (0.3, 0.10, 0.10, 0.04, True),
        (0.9, 0.10, 0.10, 0.04, False),
    ],
)
def test_a_busy_host_is_not_this_release(
    p95: float, live: float, old: float, calm: float, *, busy: bool
) -> None:
    """What both colors suffer in the same seconds, by the same request, excuses as much as it explains."""
    windows, allowed = (window(p95), window(p95)), {"p95": (0.06, "old color × 1.5")}
    pairs = [(0.001, 0.001)] * 4 + [(live, old)] * 8
    assert bool(judge_busy_host(windows, allowed, pairs, calm)) is busy
    assert judge_busy_host(windows, allowed, pairs[-9:], calm) == ""


@pytest.mark.parametrize(
    ("a_second", "seconds", "told"),
    [(0, 11, True), (1, 11, True), (5, 11, False), (0, 8, False)],
)
def test_users_who_may_wait_for_answers_are_told(
    a_second: int, seconds: int, *, told: bool, tmp_path: Path
) -> None:
    """A request that hangs is in no log yet: surely fewer that end than before the switch are told, never a no."""
    log = tmp_path / "access.json"
    log.write_text("".join(line(SINCE - 60 + n / 5, color="blue") for n in range(300)))
    old = old_traffic([AccessLog(log)], "blue", SINCE, frozenset())
    assert old.recent == (300, 60.0)
    traffic = TrafficSource(tails(log), "green", SINCE, frozenset(), Evidence(), SLO, old)
    _errors, routes, _latency = traffic_checks(traffic)
    for second in range(seconds):
        with log.open("a") as out:
            out.writelines(line(SINCE + second) for _ in range(a_second))
        routes.poll(float(second))
    verdict = routes.verdict()
    assert ("do users wait?" in verdict.reason) is told, verdict
    assert verdict.outcome is not NO


def test_the_logs_of_all_fronts_are_one_traffic(tmp_path: Path) -> None:
    """Users of each are counted together; a front whose log shows no request of ours is named."""
    one, two = (AccessLog(tmp_path / name, near(name)) for name in ("web-1", "web-2"))
    ours, paths = line(SINCE, path="/readyz"), frozenset({"/readyz"})
    one.path.write_text("".join(line(SINCE - 9 + n / 10, color="blue") for n in range(60)))
    two.path.write_text(
        "".join(line(SINCE - 9 + n / 10, 500 if n < 30 else 200, color="blue") for n in range(60))
    )
    old = old_traffic([one, two], "blue", SINCE, paths)
    assert (old.requests, old.failed) == (120, 30)
    tails = LogTails.of([one, two])
    traffic = TrafficSource(tails, "green", SINCE, paths, Evidence(), SLO, old, probed=True)
    errors, routes, _latency = traffic_checks(traffic)
    one.path.write_text(ours + line(SINCE + 1))
    two.path.write_text("".join(line(SINCE + 1 + n / 10, 404) for n in range(9)))
    errors.poll(0.0)
    assert (traffic.counts.requests, traffic.shown) == (10, {"web-1"})
    # Each nginx has a connection 1.
    counted = traffic.routes.now.counts["GET /m"]
    assert counted.connections["refused"] == {"web-2 1"}
    assert routes.verdict().outcome is not NO
    errors.poll(11.0)
    assert errors.verdict().outcome is UNKNOWN
    assert errors.verdict().reason == f"web-2: {two.path} does not show our own probes"
    with two.path.open("a") as out:
        out.write(ours)
    errors.poll(12.0)
    errors.poll(13.0)
    assert errors.verdict().outcome is NOT_ASKED
    with one.path.open("a") as out:
        out.writelines(line(SINCE + 20, 500) for _ in range(40))
    errors.poll(14.0)
    assert errors.verdict().reason.endswith("(40 of 50); the old color had 30 of 120 before")
    assert cost_since([one, two], "green", SINCE, paths) == UsersCost(40, 0.0)
    two.path.unlink()
    silent = f"{two} shows no request since the switch"
    assert cost_since([one, two], "green", SINCE, paths) == UsersCost(40, 0.0, silent)
