"""The live color's log is compared with the old color's, before the switch and in the same minutes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cutover.core.config_schema import Logs
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome
from cutover.gate.log_checks import LoggedError, LogWindow
from cutover.watch.check import at_once
from cutover.watch.logs import (
    ErrorCounts,
    LogComparison,
    LogReader,
    LogSource,
    judge_log_rate,
    judge_new_errors,
    log_checks,
)
from tests.helpers.containers import container

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
SINCE = 1_700_000_000.0
RULES = Logs()


def errors(names: str, *, severe: bool = False, at: float = SINCE, every: float = 0.0) -> list[LoggedError]:
    """One error for each letter; the letter is its signature."""
    return [LoggedError(at + index * every, name, severe, f"{name}!") for index, name in enumerate(names)]


def seen(
    live: Sequence[LoggedError],
    *,
    seconds: float = 30.0,
    shared: str = "",
    before: LogWindow | None,
    look: int = 15,
) -> LogComparison:
    """What the judges look at: *live* errors in *seconds*, after *before*."""
    counts = ErrorCounts(SINCE)
    counts.add(live, SINCE + seconds)
    return LogComparison(
        counts, frozenset(shared), before, before.signatures if before else frozenset(), look, 500
    )


def before(names: str = "", seconds: float = 600.0) -> LogWindow:
    """The old color's log: its errors were spread evenly over the time."""
    spread = errors(names, at=SINCE - seconds, every=seconds / max(1, len(names)))
    return LogWindow(tuple(spread), 1000, seconds, SINCE)


@pytest.mark.parametrize(
    ("asked", "outcome", "reason"),
    [
        (seen([], before=before()), YES, "0 errors in 30 s (500 log lines), the old color logged 0 in 600 s"),
        (seen(errors("a" * 4), before=before()), YES, "4 errors in 30 s"),
        (seen(errors("a" * 5), before=before()), NO, "the old color logged 0 in 600 s before: 5 × a!"),
        (seen(errors("a" * 5), before=before("a" * 60)), YES, "5 errors in 30 s"),
        (seen(errors("a" * 60), before=before("a" * 60)), NO, "60 errors in 30 s"),
        (seen(errors("a" * 60), shared="a", before=before()), YES, "60 more are logged by both colors"),
        (seen(errors("a" * 60 + "b" * 6), shared="a", before=before()), NO, "6 errors in 30 s"),
        (seen(errors("a" * 60), before=before("a", 20.0)), NO, "60 errors in 30 s"),
        (seen(errors("a" * 6), before=before("", 20.0)), YES, "6 errors in 30 s"),
        (seen(errors("a" * 60), before=None), NOT_ASKED, "no log of an old color to compare with"),
        (
            seen(errors("a" * 40, at=SINCE + 3570), seconds=3600.0, before=before("a" * 400, 3600.0), look=1800),
            NO,
            "40 errors in 60 s, the old color logged 400 in 3600 s",
        ),
        (seen(errors("a" * 9), before=LogWindow(tuple(errors("a" * 9, at=SINCE - 60)), 9, 600)), YES, "9 errors in 30 s"),
    ],
)  # fmt: skip
def test_the_rate_of_errors(asked: LogComparison, outcome: Outcome, reason: str) -> None:
    """A no needs surely more errors than before, the floor, and more than the old color's worst stretch."""
    verdict = judge_log_rate(asked, 5)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("asked", "outcome", "reason"),
    [
        (seen([], before=before()), YES, "none in 30 s"),
        (seen(errors("n" * 4), before=before("a" * 600)), YES, "4 of a new kind in 30 s"),
        (seen(errors("n" * 5), before=before("a" * 600)), NO, "5 errors of a new kind in 30 s: 5 × n!"),
        (seen(errors("nopqr"), before=before("a" * 600)), NO, "5 errors of a new kind in 30 s"),
        (seen(errors("a" * 50), before=before("a")), YES, "none in 30 s"),
        (seen(errors("n" * 50), shared="n", before=before("a")), YES, "50 more are logged by both colors"),
        (seen(errors("n" * 50), before=None), YES, "50 of a new kind in 30 s"),
        (seen(errors("n" * 10, every=3.0), before=None), NO, "10 errors of a new kind in 30 s"),
        (seen(errors("n" * 10, every=3.0), before=before("", 20.0)), NO, "10 errors of a new kind in 30 s"),
        (seen(errors("n" * 9, every=3.0), before=None), YES, "9 of a new kind in 30 s"),
        (seen(errors("n" * 10, every=2.0), before=None), YES, "10 of a new kind in 30 s"),
        (seen(errors("n" * 10, every=3.0), seconds=59.0, before=None), YES, "10 of a new kind in 59 s"),
        (seen(errors("n" * 5, severe=True), before=None), NO, "crashes of a new kind in 30 s: 5 × n!"),
        (seen(errors("n" * 4, severe=True), before=None), YES, "4 of a new kind in 30 s"),
    ],
)
def test_new_kinds_of_errors(asked: LogComparison, outcome: Outcome, reason: str) -> None:
    """Five errors of new signatures are a no, however many others the old color logs."""
    verdict = judge_new_errors(asked, 5)
    assert verdict.outcome is outcome, verdict
    assert reason in verdict.reason


def of_users(first: int, times: int, *, severe: bool = False) -> list[LoggedError]:
    """Errors whose texts name a user each, like `no card of anna`: no signature is there twice."""
    return [LoggedError(SINCE, f"no card of {name}", severe, "x") for name in range(first, first + times)]


@pytest.mark.parametrize("severe", [False, True])
@pytest.mark.parametrize(
    ("live", "outcome"),
    [
        (of_users(100, 10), YES),  # as many as in each ten minutes before
        (of_users(100, 60), NO),  # six times as many
        (of_users(100, 4) + errors("n" * 12), NO),  # one kind that comes again and again
        (of_users(100, 10) + errors("n" * 4), YES),
    ],
)
def test_errors_that_name_something_else_each_time_are_no_new_kind(
    live: list[LoggedError], outcome: Outcome, *, severe: bool
) -> None:
    """A text with a name in it is new each time, on the old color too: only surely more of them are a new kind."""
    old = LogWindow(tuple(of_users(0, 60, severe=severe)), 5000, 3600.0, SINCE)
    now = [replace(each, severe=severe) for each in live]
    verdict = judge_new_errors(seen(now, seconds=600.0, before=old, look=300), 5)
    assert verdict.outcome is outcome, verdict


@pytest.mark.parametrize(
    ("texts", "outcome"),
    [
        (['{"msg": "x"}'], NOT_ASKED),
        (['{"msg": "x"}', '{"severity": "INFO", "msg": "x"}'], YES),
        (["GET / 200"], YES),
        ([], YES),
        (['{"msg": "x"}', *5 * ["panic: boom"]], NO),
    ],
)
def test_lines_without_a_level_are_no_yes(texts: list[str], outcome: Outcome) -> None:
    """JSON logs without any level are not asked: errors cannot be told from other lines."""
    stamp = datetime.fromtimestamp(SINCE + 1, UTC).isoformat().replace("+00:00", "Z")
    lines = [f"{stamp} {text}" for text in texts]
    source = LogSource(
        lambda: container(id="live"),
        None,
        RULES,
        SINCE,
        Evidence(),
        "green",
        clock=lambda: SINCE + 10,
        start=at_once,
    )
    source.readers = [LogReader("live", RULES, SINCE, ask=lambda *_a, **_k: lines), None]
    source.before, (rate, new) = before(), log_checks(source)
    rate.poll(0.0)
    assert new.verdict().outcome is outcome, new.verdict()
    assert rate.verdict().outcome is outcome, rate.verdict()


@pytest.mark.parametrize(
    ("had_traffic", "own_s", "outcome"),
    [
        (True, 7200.0, YES),  # as many as in the two hours before
        (True, 30.0, NO),  # it has just been started: only the old color can tell
        (False, 7200.0, NO),  # it has the traffic since the switch
    ],
)
def test_without_a_switch_the_live_color_is_compared_with_itself(
    monkeypatch: pytest.MonkeyPatch, own_s: float, outcome: Outcome, *, had_traffic: bool
) -> None:
    """An old color that has had no traffic for hours has logged no error, which says nothing of the live one."""
    logged = {"live": before("a" * 120, own_s), "old": before("", 7200.0)}
    monkeypatch.setattr("cutover.watch.logs.read_baseline", lambda found, _rules: logged[found.id])
    source = LogSource(
        lambda: container(id="live"), lambda: container(id="old"), RULES, SINCE, Evidence(), "green",
        had_traffic=had_traffic, clock=lambda: SINCE + 600, start=at_once,
    )  # fmt: skip
    monkeypatch.setattr(
        LogReader, "read", lambda each: errors("a" * 10) if each.container_id == "live" else []
    )
    rate, new = log_checks(source)
    rate.poll(0.0)
    assert rate.verdict().outcome is outcome, rate.verdict()
    assert new.verdict().outcome is (NO if outcome is NO else YES), new.verdict()
    whose = "it logged 120 in 7200 s" if outcome is YES else "the old color logged 0 in 7200 s"
    assert f"{whose} before" in rate.verdict().reason


def test_memory_stays_constant() -> None:
    """A release that logs a new kind of error each time does not fill the watch's memory."""
    counts = ErrorCounts(SINCE)
    for number in range(5000):
        counts.add([LoggedError(SINCE + number, f"kind {number}", severe=False, text="x")], SINCE + number)
    assert len(counts.by_signature) == len(counts.examples) == 501
    assert counts.by_signature["(others)"] == 4500
    assert len(counts.recent) == 2000


def line(at: float, level: str = "info", message: str = "request") -> str:
    """A log line as the engine stamps it."""
    stamp = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    return f"{stamp} {json.dumps({'level': level, 'msg': message})}"


def test_each_line_is_read_once() -> None:
    """The next read begins after the last time stamp; after many lines it takes more, up to the limit."""
    log = [line(SINCE + number / 100, "error", "boom") for number in range(300)]
    tails: list[int] = []

    def ask(_container: str, *, since: float, tail: int) -> list[str]:
        tails.append(tail)
        return log[-tail:]  # also older ones, as the engine does where a float cannot tell

    reader = LogReader("c", RULES.model_copy(update={"tail": 1000}), SINCE - 1, ask=ask)
    assert [len(reader.read()) for _ in range(3)] == [200, 0, 0]
    assert (tails, reader.lines) == ([200, 800, 200], 200)
    log.append(line(SINCE + 9, "error", "boom"))
    assert len(reader.read()) == 1


def test_a_log_that_cannot_be_read() -> None:
    """A logging driver without reading is not asked, a silent engine is unknown, no read yet is not asked."""
    source = LogSource(
        lambda: None, None, RULES, SINCE, Evidence(), "green", clock=lambda: SINCE + 10, start=at_once
    )
    rate, new = log_checks(source)
    assert rate.verdict().reason == "the log has not been read yet"
    source.silence, source.count = "the Docker engine does not answer", 1
    assert (rate.verdict().outcome, new.verdict().outcome) == (UNKNOWN, UNKNOWN)
    source.silence = "the log cannot be read: configured logging driver does not support reading"
    assert rate.verdict().reason == source.silence


@pytest.mark.parametrize("gone", ["live", "old"])
def test_a_container_that_is_gone_logs_nothing(gone: str) -> None:
    """The log of a removed container is neither unknown nor a no: the check "restarts" reports it."""

    def unreadable(container_id: str, **_window: object) -> list[str]:
        if container_id == gone:
            raise EngineUnavailable("the log cannot be read: no such container")
        return []

    there = {"live": container(id="live"), "old": container(id="old")}
    source = LogSource(
        lambda: there["live"], lambda: there["old"], RULES, SINCE, Evidence(), "green", start=at_once
    )
    source.readers = [LogReader(name, RULES, SINCE, ask=unreadable) for name in there]
    there[gone] = container(id="another")
    rate, new = log_checks(source)
    for now in range(5):
        rate.poll(float(now))
    assert (rate.verdict().outcome, new.verdict().outcome) == (NOT_ASKED, YES)


def test_a_silent_engine_counts_each_time() -> None:
    """Each silence of the engine counts once for both checks."""

    def silent() -> None:
        raise EngineUnavailable("the Docker engine does not answer")

    source = LogSource(
        silent, None, RULES, SINCE, Evidence(), "green", clock=lambda: SINCE + 10, start=at_once
    )
    rate, new = log_checks(source)
    for now in range(3):
        rate.poll(float(now))
        new.poll(float(now))
    assert (rate.source.polls, new.source.polls, rate.verdict().outcome) == (3, 3, UNKNOWN)
