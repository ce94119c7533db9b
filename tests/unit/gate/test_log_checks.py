from __future__ import annotations

import json
from typing import Any

import pytest

from cutover.core.config_schema import Logs
from cutover.core.errors import EngineUnavailable
from cutover.core.text import seconds_of, stamp
from cutover.core.verdict import Outcome
from cutover.gate.log_checks import (
    LoggedError,
    LogWindow,
    baseline_until_verified,
    baseline_window,
    error_signature,
    judge_logs,
    log_errors,
    log_window,
    read_baseline,
    scan_log,
    worst_stretch,
)
from cutover.system import docker
from tests.helpers.inspected import STARTED, at, container

YES, NO, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.NOT_ASKED
RULES = Logs()
TRACEBACK = "Traceback (most recent call last):"


def stamped(*texts: str, every_s: float = 0.001) -> list[str]:
    """Log lines with the time stamps of the engine."""
    return [f"{at(i * every_s)} {text}" for i, text in enumerate(texts)]


def row(level: str, message: str, **more: Any) -> str:
    """One line of a structured log."""
    return json.dumps({"level": level, "message": message, **more})


@pytest.mark.parametrize(
    "text",
    [
        "2025-09-04 01:10:00,123 ERROR recall: db: connection refused",
        "ERROR:root:no",
        "[2025-09-04 01:10:00 +0000] [7] [ERROR] Error handling request /memories",
        "CRITICAL out of disk",
        "2025/09/04 01:10:00 [error] 7#7: *1 connect() failed",
        'time=2025 level=error msg="refused"',
        "ERROR while reading INFO block, then another ERROR",
        TRACEBACK,
        row("ERROR", "refused"),
        row("critical", "out of disk"),
        '{"severity":"ERROR","message":"x"}',
        '{"levelname":"ERROR","message":"x"}',
        '{"level":50,"msg":"x"}',
        '{"level":60,"msg":"x"}',
        '{"message":"x","level":400,"level_name":"ERROR","channel":"app"}',
        '{"message":"x","level":500,"level_name":"CRITICAL","channel":"app"}',
        '{"log.level":"error","message":"x"}',
        '{"log":{"level":"error"},"message":"x"}',
        "E0101 12:00:00.000000       1 main.go:12] lost the lease",
        "panic: runtime error: index out of range [3] with length 3",
        "2025/09/04 01:10:00 http: panic serving 127.0.0.1:4711: boom",
        'Exception in thread "main" java.lang.NullPointerException',
        "thread 'tokio-runtime-worker' panicked at src/main.rs:7:5:",
        "Unhandled exception. System.InvalidOperationException: x",
    ],
)
def test_is_an_error(text: str) -> None:
    """A line with level error or above is an error, in every common format."""
    assert len(scan_log(stamped(text), RULES).errors) == 1


@pytest.mark.parametrize(
    "text",
    [
        "INFO no error so far",
        "INFO: peer said ERROR, asked again",
        "[2025-09-04 01:10:00 +0000] [7] [INFO] error budget left: 99 %",
        "WARNING ERROR rate is 0",
        "DEBUG fatal=0 CRITICAL=0",
        'GET /errors 200 "error"',
        "handled ERROR_TIMEOUT",
        row("INFO", "an ERROR was handled: error error"),
        row("warning", "CRITICAL section entered"),
        '{"message": "ERROR without a level"}',
        '{"severity":"INFO","message":"ERROR"}',
        '{"level":40,"msg":"ERROR"}',
        '{"message":"ERROR","level":300,"level_name":"WARNING"}',
        '{"level":0,"msg":"verbosity of Go\'s logr, not the worst of syslog"}',
        '{"log":{"level":"info"},"message":"ERROR"}',
        "I0101 12:00:00.000000       1 main.go:12] the peer said ERROR",
        'time=2025 level=info msg="got an ERROR"',
        "INFO recovered: panic: runtime error",
        "GET /panic: 200",
        '{"a":' * 5000,
        "",
    ],
)
def test_is_no_error(text: str) -> None:
    """A line that only mentions errors is none."""
    assert scan_log(stamped(text), RULES).errors == []


def test_a_traceback_is_one_error() -> None:
    """A traceback and the line before it are one error, named after the exception."""
    lines = stamped(
        "[ERROR] Exception on /memories", TRACEBACK, '  File "x.py", line 1, in f', "    g()", "",
        "During handling of the above exception, another exception occurred:", "", TRACEBACK,
        '  File "y.py", line 2, in g', "ValueError: row 17 of 0xdeadbeef", "INFO going on", TRACEBACK,
        "  File", "KeyError: 'x'",
    )  # fmt: skip
    found = scan_log(lines, RULES).errors
    assert [(each.signature, each.severe) for each in found] == [
        ("ValueError: row # of <hex>", True),
        ("KeyError: 'x'", True),
    ]


LONG = "x" * 20_000 + " ERROR "


@pytest.mark.parametrize(
    ("text", "found", "leveled"),
    [
        ('{"level":50,"time":1,"msg":"no","body":"' + LONG, [("no", False)], True),
        ('{"msg":"no", "level" : "error" , "body":"' + LONG, [("no", False)], True),
        ('{"log":{"level":"error"},"msg":"no","body":["' + LONG, [("no", False)], True),
        ('{"level":"fatal","msg":"' + LONG, [(LONG[:160], True)], True),
        ('{"level":"error","msg":"no","stack":"' + LONG, [("no", True)], True),
        ('{"level":"error","msg":"no","bo', [("no", False)], True),
        ('{"level":"error","msg":"no",', [("no", False)], True),
        ('{"level":"info","body":"' + LONG, [], True),
        ('{"level":"info","body":{"level":"error","x":"' + LONG, [], True),
        ('{"body":"' + LONG, [], False),
        ('{"body":{"level":"error","x":"' + LONG, [], False),
        ('{"body":{"level":"error"},"x":"' + LONG, [], False),
        ("{worker-1} ERROR " + LONG, [("{worker-#} ERROR " + LONG[:143], False)], True),
        ('{"job": 7} ERROR failed', [('{"job": #} ERROR failed', False)], True),
    ],
)
def test_the_level_of_json_that_is_cut(text: str, found: list[tuple[str, bool]], leveled: bool) -> None:
    """It is that of the part that is there; without one the line is no error and has no level."""
    scan = scan_log([line[:16_384] for line in stamped(text)], RULES)
    seen = [(each.signature.removesuffix("…")[:150], each.severe) for each in scan.errors]
    assert (seen, scan.leveled) == ([(text[:150], severe) for text, severe in found], leveled)


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["\x1b[31mERROR\x1b[0m db down"], [("ERROR db down", False)]),
        (["\x1b[2m2025-09-04T01:10:00Z\x1b[0m \x1b[31mERROR\x1b[0m x"], [("#-#-#T#:#:#Z ERROR x", False)]),
        (["\x1b[1;31mpanic: boom\x1b[0m"], [("panic: boom", True)]),
        (["\x1b[33m" + row("error", "refused") + "\x1b[0m"], [("refused", False)]),
        (
            [
                f"\x1b[31m{TRACEBACK}\x1b[0m",
                '  \x1b[2mFile "x.py"\x1b[0m, line 1',
                "\x1b[1m    g()\x1b[0m",
                "\x1b[1;35mKeyError\x1b[0m: \x1b[35m'x'\x1b[0m",
            ],
            [("KeyError: 'x'", True)],
        ),
        (["\x1b[32mINFO\x1b[0m no \x1b[31mERROR\x1b[0m so far"], []),
    ],
    ids=["word", "stamp", "crash", "json", "traceback", "info"],
)
def test_colors_change_nothing(texts: list[str], found: list[tuple[str, bool]]) -> None:
    """A log with the codes of a terminal is read as without them."""
    scan = scan_log(stamped(*texts), RULES)
    assert [(each.signature, each.severe) for each in scan.errors] == found


def test_a_structured_exception_is_a_crash() -> None:
    """An error with an exception is a crash."""
    lines = stamped(
        row("ERROR", "failed", exc_info="Traceback …"), row("ERROR", "failed"), row("FATAL", "bye")
    )
    assert [each.severe for each in scan_log(lines, RULES).errors] == [True, False, True]


@pytest.mark.parametrize(
    "text",
    ["panic: boom", 'Exception in thread "x" java.lang.Error', "thread 'main' panicked at src/main.rs:7:5:"],
)
def test_last_words_are_a_crash(text: str) -> None:
    """Crash messages of Go, Java and Rust count like a traceback."""
    assert [each.severe for each in scan_log(stamped(text), RULES).errors] == [True]


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        (['{"msg": "started"}', '{"msg": "it failed"}'], NOT_ASKED),
        (["listening on port 3000", '{"msg": "it failed"}'], NOT_ASKED),
        (['{"msg": "started"}', row("info", "ready")], YES),
        (["2025-09-04 INFO started", '{"msg": "GET /"}'], YES),
        (["GET / 200", "GET /readyz 200"], YES),
        ([], YES),
        (['{"msg": "started"}', *5 * ["panic: boom"]], NO),
    ],
)
def test_a_log_that_cannot_be_read_is_no_yes(lines: list[str], outcome: Outcome) -> None:
    """JSON lines without a level give not asked; a crash among them is found."""
    seen = log_window(stamped(*lines), RULES, seconds_of(STARTED), seconds_of(STARTED) + 60)
    verdict = judge_logs(seen, None, 5)
    assert verdict.outcome is outcome, verdict
    assert ("no line has a level" in verdict.reason) is (outcome is NOT_ASKED)


def test_allowed_errors_do_not_count() -> None:
    """An error that matches `[logs] ignore` does not count."""
    lines = stamped("ERROR known: cache miss", "ERROR other")
    assert [each.text for each in scan_log(lines, Logs(ignore=("known: ",))).errors] == ["ERROR other"]


def test_a_team_has_a_level_key_of_its_own() -> None:
    """The level key and the levels are configurable."""
    rules = Logs(level_key="severity", levels=("50", "60"))
    lines = stamped(json.dumps({"severity": 50, "msg": "x"}), json.dumps({"severity": 30, "msg": "x"}))
    assert len(scan_log(lines, rules).errors) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("took 17 ms", "took 4 ms"),
        ("id 550e8400-e29b-41d4-a716-446655440000 lost", "id 650e8400-e29b-41d4-a716-446655440001 lost"),
        ("at 0x7f3a", "at 0x1b"),
        ("container 4f1c2aa9b7d0 gone", "container 9b7d0014f1c2 gone"),
        ("2025-09-04 01:10:00,123 x", "2025-10-05 11:20:40,001 x"),
    ],
)
def test_signatures_forget_what_varies(one: str, other: str) -> None:
    """Lines that differ only in numbers and ids have the same signature."""
    assert error_signature(one) == error_signature(other)


START = 1756948200.5


def spell(  # what a log said, in short
    errors: int,
    seconds: float,
    *,
    kind: str = "refused",
    severe: bool = False,
    within: tuple[float, float] | None = None,
) -> LogWindow:
    """A window with *errors* of one signature, evenly spread over all or a part of it."""
    first, last = within or (0.0, seconds)
    step = (last - first) / errors if errors else 0
    found = tuple(LoggedError(START + first + (i + 1) * step, kind, severe, kind) for i in range(errors))
    return LogWindow(found, errors + 10, seconds, START + seconds)


@pytest.mark.parametrize(
    ("now", "before", "outcome", "reason"),
    [
        (spell(0, 12), spell(0, 3600), YES, "no errors in 12 s (10 log lines)"),
        (spell(1, 12), spell(0, 3600), YES, "1 error in 12 s (11 log lines), fewer than 5"),
        (spell(4, 12), spell(0, 3600), YES, "fewer than 5"),
        (spell(5, 12), spell(0, 3600), NO, "5 errors in 12 s (15 log lines), before it were 0 in 1 h 0 min: 5 ×"),
        (spell(24, 12), spell(3, 7200), NO, "before it were 3 in 2 h 0 min"),
        # As many as ever: the old release was noisy too.
        (spell(6, 12), spell(1800, 3600), YES, "as before"),
        (spell(50, 600), spell(300, 3600), YES, "as before"),
        (spell(60, 12), spell(1800, 3600), NO, "60 errors in 12 s"),
        # A burst at each start: the rate of hours says nothing about seconds.
        (spell(8, 12), spell(8, 3600, within=(0, 5)), YES, "as before"),
        (spell(40, 12), spell(8, 3600, within=(0, 5)), NO, "40 errors"),
        # Equal numbers in equal windows are chance.
        (spell(7, 30), spell(2, 30, kind="other", within=(0, 30)), NO, "they go on"),
        # Crashes of a new kind need no rate; of a known one they do.
        (spell(5, 60, kind="KeyError", severe=True), spell(900, 900), NO, "5 crashes of a new kind in 60 s: 5 ×"),
        (spell(5, 60, kind="KeyError", severe=True), spell(75, 900, kind="KeyError", severe=True), YES, "as before"),
        # Nothing to compare with: errors of the start are retries, errors that go on are not.
        (spell(9, 15, within=(0, 6)), None, YES, "none lately, nothing earlier to compare with"),
        (spell(9, 15), None, NO, "they go on, nothing earlier to compare with: 9 × refused"),
        (spell(4, 15), None, YES, "fewer than 5"),
        (spell(5, 15, severe=True, within=(0, 1)), None, NO, "5 crashes of a new kind"),
        # A baseline of seconds is none, but what it knows is known.
        (spell(9, 15), spell(0, 5), NO, "they go on"),
        (spell(9, 15), spell(3, 5), YES, "as before"),
    ],
)  # fmt: skip
def test_spike(now: LogWindow, before: LogWindow | None, outcome: Outcome, reason: str) -> None:
    """The rules at the top of the module, row by row."""
    verdict = judge_logs(now, before, floor=5)
    assert (verdict.outcome, reason in verdict.reason) == (outcome, True), verdict


def of_users(first: int, times: int, seconds: float) -> LogWindow:
    """Crashes whose texts name a user each: no signature is there twice."""
    found = (
        LoggedError(START + number * seconds / times, f"no card of user-{name}", severe=True, text="x")
        for number, name in enumerate(range(first, first + times))
    )
    return LogWindow(tuple(found), 100, seconds, START + seconds)


@pytest.mark.parametrize(
    ("now", "outcome"),
    [
        (of_users(100, 10, 600), YES),  # as many as in each ten minutes before
        (of_users(100, 60, 600), NO),
        (spell(5, 600, kind="KeyError", severe=True), NO),
    ],
)
def test_crashes_that_name_something_else_each_time_are_no_new_kind(now: LogWindow, outcome: Outcome) -> None:
    """A text with a name in it is new each time, also before: only surely more of them are a new kind."""
    verdict = judge_logs(now, of_users(0, 60, 3600), floor=5)
    assert verdict.outcome is outcome, verdict


def test_the_worst_moment_is_found() -> None:
    """The highest number of errors in any window of that length."""
    assert worst_stretch(spell(8, 3600, within=(1000, 1004)), 5) == 8
    assert worst_stretch(spell(8, 3600, within=(1000, 1004)), 1) == 3
    assert worst_stretch(spell(0, 3600), 5) == 0


def test_a_cut_log_covers_less() -> None:
    """If the log was cut to its last lines, the window begins with the first of them."""
    lines = stamped(*["INFO x"] * 100, every_s=0.1)
    whole = log_window(lines, Logs(max_lines=101), START - 1000, START + 20)
    cut = log_window(lines, Logs(max_lines=100), START - 1000, START + 20)
    assert (round(whole.seconds), round(cut.seconds)) == (1020, 20)


MONTH = 30 * 86400.0


@pytest.mark.parametrize(
    ("first_s", "count", "every_s", "up_s", "seconds"),
    [
        (100.0, 10, 10, MONTH, MONTH),  # the start is there
        (MONTH - 3600, 360, 10, MONTH, 3610),  # rotated: one hour is left
        (3600.0, 30, 86000, MONTH, MONTH),  # a quiet one, with a line a day
        (MONTH - 3600, 1, 1, MONTH, 7200),  # its only line
        (MONTH + 60, 5, 1, MONTH, None),
        (0.0, 0, 1, MONTH, MONTH),
    ],
)
def test_a_baseline_covers_what_is_left_of_the_log(
    first_s: float, count: int, every_s: float, up_s: float, seconds: float | None
) -> None:
    """Not the life of its container, if the engine has rotated the log; a quiet service counts for longer."""
    lines = [f"{stamp(START + first_s + number * every_s)} ERROR x" for number in range(count)]
    found = baseline_window(lines, RULES, START, START + up_s)
    assert (found and found.seconds) == (seconds and pytest.approx(seconds, rel=0.01))


@pytest.mark.parametrize(("head", "errors", "seconds"), [([], 100, 1000), (["ERROR early"], 101, 1120)])
def test_the_start_of_a_cut_log_counts_if_it_is_there(
    monkeypatch: pytest.MonkeyPatch, head: list[str], errors: int, seconds: float
) -> None:
    """A head that was rotated away is no time without errors."""
    tail = [f"{stamp(START + MONTH - 1000 + 10 * number)} ERROR x" for number in range(100)]

    def logs(_: str, *, tail: int | None, _tail: list[str] = tail, **_window: Any) -> list[str]:
        return _tail if tail else [f"{stamp(START + 1)} {each}" for each in head]

    monkeypatch.setattr(docker, "logs", logs)
    monkeypatch.setattr(docker, "daemon_time", lambda _: stamp(START + MONTH))
    found = read_baseline(container(), Logs(max_lines=100))
    assert found is not None
    assert (len(found.errors), round(found.seconds)) == (errors, seconds)


def test_an_earlier_log_that_is_gone_is_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was truncated within the last minutes does not say that there were no errors before."""
    lines = [f"{stamp(START + MONTH - 300 + number)} ERROR x" for number in range(100)]
    monkeypatch.setattr(docker, "logs", lambda *_, **__: lines)
    monkeypatch.setattr(docker, "daemon_time", lambda _: stamp(START + MONTH))
    verdict = log_errors(container(), None, RULES)
    assert (verdict.outcome, verdict.evidence["errors_before"]) == (YES, None), verdict


def test_lines_outside_the_window_do_not_count() -> None:
    """Only lines between the two times are in the window."""
    lines = [f"{STARTED} ERROR early", f"{at(5)} ERROR inside", f"{at(50)} ERROR late"]
    assert [each.text for each in log_window(lines, RULES, START + 1, START + 20).errors] == ["ERROR inside"]


@pytest.mark.parametrize(("age", "errors"), [(60, 1), (600, 1), (661, None)])
def test_what_was_proven_is_no_news_a_minute_later(age: float, errors: int | None) -> None:
    """The baseline of a young container is its log until the gate passed; an old container needs none."""
    asked: list[dict[str, Any]] = []

    def read(_: str, **window: Any) -> list[str]:
        asked.append(window)
        return [f"{at(1)} INFO up", f"{at(5)} ERROR once", f"{at(31)} ERROR later"]

    found = baseline_until_verified(container(), START + 30, RULES, lambda: at(age), read)
    assert (found and len(found.errors)) == errors
    if found is None:
        assert not asked  # the log of an old one is not read for nothing
    else:
        assert (found.seconds, asked[0]["until"]) == (30, START + 30)


def test_a_silent_engine_leaves_nothing_to_compare_with() -> None:
    """A log that cannot be read gives no baseline."""

    def silent() -> str:
        raise EngineUnavailable("the Docker engine does not answer")

    assert baseline_until_verified(container(), START + 30, RULES, silent) is None
