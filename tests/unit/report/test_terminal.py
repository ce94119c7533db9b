from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cutover.core.evidence import Check, Evidence, Step, outcome_counts
from cutover.core.masking import MASK
from cutover.core.result import NOTHING, UNASKED, Reason, Running, SessionResult, Status, result_from_json
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.report.terminal import (
    Look,
    Who,
    check_lines,
    first_line,
    is_notable,
    last_lines,
    not_asked_lines,
    notable_lines,
    refused_lines,
    step_lines,
    terminal_look,
    watch_line,
)
from tests.unit.report.endings import RELEASED, ROLLBACK_FAILED, ROLLED_BACK

COLORS = re.compile(r"\x1b\[[0-9;]*m")


def check(verdict: Verdict, test: str = "smoke/test_ready.py::test_ready[green]") -> Check:
    """A check with *verdict*."""
    return Check(1, test, "green", 0, verdict, 0.012, 0.0)


def test_a_step_is_one_line_with_moment_name_text_and_time() -> None:
    """A step has the columns moment, name, text and duration."""
    step = Step("T-0", "switch", "blue → green in 1.6 ms", 0.4, 0.0)
    assert step_lines(step) == ["T-0    switch          blue → green in 1.6 ms".ljust(94) + " 0.4 s"]


def test_a_step_that_went_wrong_says_so_by_a_mark() -> None:
    """A failed step has a mark, also without colors."""
    step = Step("T+15m", "watch", "5xx: expected at most 1 %, got 4.8 %", 0, 0.0, "no")
    assert step_lines(step) == ["T+15m  watch           ✗ 5xx: expected at most 1 %, got 4.8 %"]


def test_a_long_step_goes_on_below_itself() -> None:
    """A long step is wrapped below its text without losing a word."""
    words = [f"word{number}" for number in range(40)]
    lines = step_lines(Step("T-0", "proof", " ".join(words), 0, 0.0))
    assert len(lines) > 1
    assert all(len(line) <= 100 for line in lines)
    assert " ".join(lines).split() == ["T-0", "proof", *words]


@pytest.mark.parametrize(
    "ending", [RELEASED, ROLLED_BACK, ROLLBACK_FAILED], ids=lambda ending: ending.status.name
)
def test_color_changes_no_letter(ending: SessionResult) -> None:
    """The text is the same with and without colors."""
    colored = last_lines(ending, Look(color=True))
    assert [COLORS.sub("", line) for line in colored] == last_lines(ending)
    assert colored != last_lines(ending)


def test_released_says_what_runs_and_what_it_would_cost_to_go_back() -> None:
    """A released session ends with what runs where, how many checks passed, and what is open."""
    assert last_lines(RELEASED) == [
        (
            "RELEASED  recall runs sha-9b7d001 on green. Verified by 57 checks; nothing is open. "
            "Time to roll back: 1.6 ms."
        ),
        "  see   reports/latest/report.html",
    ]


def test_reverted_says_why_and_what_users_saw() -> None:
    """A reverted session ends with what runs, failed requests, reason and next step."""
    head = last_lines(ROLLED_BACK)[0]
    text = " ".join(" ".join(last_lines(ROLLED_BACK)).split())
    assert head == (
        "ROLLED BACK  recall runs sha-4f1c2aa on blue, as before. Users saw 31 failed requests in 12.6 s."
    )
    assert "why checks/test_errors.py::test_5xx_rate[live]: 4.8 % of requests failed on green" in text
    assert "see reports/latest/report.html" in text
    assert text.endswith(
        "next fix and run the same command again; nothing is locked, nothing is half done exit 1 FAILED"
    )


@pytest.mark.parametrize(
    ("failed", "unknown", "sentence"),
    [
        (0, "", "No request of a user was seen to fail."),
        (None, "", ""),
        (
            None,
            "x.log shows no request since the switch",
            "How many requests of users failed is unknown: x.log shows",
        ),
        (
            31,
            "the proxy did not answer: refused",
            "Users saw at least 31 failed requests in 12.6 s: the proxy did not",
        ),
        (
            1,
            "the proxy did not answer: refused",
            "Users saw at least 1 failed request in 12.6 s: the proxy did not",
        ),
    ],
)
def test_what_users_saw_is_true(failed: int | None, unknown: str, sentence: str) -> None:
    """What the log did not show is unknown or a least number, with the reason, and never a zero."""
    result = replace(ROLLED_BACK, failed_requests=failed, failed_unknown=unknown)
    assert sentence in last_lines(result)[0]
    assert failed == 0 or "No request of a user" not in last_lines(result)[0]


def test_undo_failed_gives_the_one_command_on_one_line() -> None:
    """A failed revert ends with what runs now and the command to run, on one line."""
    lines = last_lines(ROLLBACK_FAILED)
    assert lines[0] == (
        "ROLLBACK FAILED  an operator is needed. Right now: traffic goes to green (asked 2 s ago), green fails 1 of "
        "14 checks (sha-9b7d001) and blue is stopped (sha-4f1c2aa)."
    )
    assert f"  run   {ROLLBACK_FAILED.command}      (on web-1, as deploy; safe to run again)" in lines
    assert "  now   traffic goes to green, it went to blue" in lines
    assert "  users not served by green (sha-9b7d001): ready: expected status 200, got 503" in lines
    assert lines[-1] == "exit 11 OPERATOR_NEEDED"


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (
            SessionResult(Status.PLAN, "recall", 0),
            "PLAN  nothing was checked, nothing was changed.",
        ),
        (
            SessionResult(Status.GATE_PASSED, "recall", 0, (Running("green", "sha-2"),), passed=1),
            "GATE PASSED  recall runs sha-2 on green; who gets the traffic is not known. Verified by 1 check; nothing was changed.",
        ),
        (
            SessionResult(Status.INCONCLUSIVE, "recall", 10, (Running("blue", "sha-1", live=True),)),
            "INCONCLUSIVE  recall runs sha-1 on blue, as before.",
        ),
        (
            SessionResult(Status.INCONCLUSIVE, "recall", 10, schema="b771"),
            "INCONCLUSIVE  what recall runs could not be asked. The schema stays at b771.",
        ),
        (
            SessionResult(Status.ROLLED_BACK, "recall", 1, observed_s_ago=0.1),
            "ROLLED BACK  nothing of recall runs, as before.",
        ),
        (
            SessionResult(Status.ROLLED_BACK, "recall", 1, (Running("blue", "", NOTHING, live=True),)),
            "ROLLED BACK  nothing of recall runs on blue, as before.",
        ),
        (
            SessionResult(Status.INCONCLUSIVE, "recall", 10, (Running("blue", "", UNASKED, live=True),)),
            "INCONCLUSIVE  what recall runs on blue could not be asked.",
        ),
        (
            SessionResult(Status.RELEASED, "recall", 0, (Running("blue", "", UNASKED, live=True),), passed=2),
            "RELEASED  what was verified is kept, but what recall runs on blue could not be asked again. Verified by 2 checks; nothing is open.",
        ),
        (
            SessionResult(
                Status.ROLLBACK_FAILED,
                "recall",
                11,
                (Running("blue", "", NOTHING, live=True),),
                observed_s_ago=2,
            ),
            "ROLLBACK FAILED  an operator is needed. Right now: traffic goes to blue (asked 2 s ago) and nothing runs on blue.",
        ),
        (
            SessionResult(
                Status.KEPT_UNVERIFIED, "recall", 1, (Running("green", "sha-2", "unhealthy", live=True),)
            ),
            (
                "KEPT UNVERIFIED  recall runs sha-2 on green (unhealthy), not verified; "
                "nothing was reverted, as asked for."
            ),
        ),
        (
            SessionResult(Status.ROLLED_BACK, "recall", 1, sentence="said by the caller."),
            "ROLLED BACK  said by the caller.",
        ),
    ],
)
def test_never_says_what_was_not_seen(ending: SessionResult, said: str) -> None:
    """The sentence is made from observations; what could not be observed is called so."""
    assert last_lines(ending, Look(width=200))[0] == said


@pytest.mark.parametrize(
    ("why", "lines"),
    [
        (
            "ana is releasing; nothing was changed",
            ["", "LOCKED  ana is releasing; nothing was changed", "exit 12 LOCKED"],
        ),
        (
            "it could not be reverted; run: sh x y",
            ["", "LOCKED  it could not be reverted", "  run   sh x y", "exit 12 LOCKED"],
        ),
    ],
)
def test_a_session_that_was_refused_ends_with_the_reason(why: str, lines: list[str]) -> None:
    """The last lines say why the session was refused; the command is on its own line."""
    assert refused_lines("LOCKED", why, 12) == lines


@pytest.mark.parametrize(
    "ending", [RELEASED, ROLLED_BACK, ROLLBACK_FAILED], ids=lambda ending: ending.status.name
)
def test_an_ending_survives_its_file(ending: SessionResult) -> None:
    """A result survives JSON; unknown keys are ignored."""
    assert result_from_json(ending.as_json() | {"later": 1}) == ending


def test_a_check_shows_question_and_reason() -> None:
    """A failed check shows folder, target and verdict on one line."""
    (line,) = check_lines(check(no("ready", "expected status 200, got 503")))
    assert line.startswith("       smoke[green]    ✗ ready: expected status 200, got 503")
    assert line.endswith("12 ms")


@pytest.mark.parametrize(
    ("verdict", "more"),
    [
        (yes("ready", "status 200"), False),
        (yes("tls", "20 days left", notice="renew soon"), True),
        (no("ready", "status 503"), True),
        (unknown("ready", "engine did not answer"), True),
        (not_asked("tls", "no https"), False),
    ],
)
def test_passed_checks_are_counted_and_not_listed(verdict: Verdict, *, more: bool) -> None:
    """Only what says more than "passed" gets a line of its own."""
    assert is_notable(verdict) is more


def test_a_check_that_is_a_reason_gets_no_line_of_its_own() -> None:
    """Lines and reasons are joined by the ids of the checks, not by their texts."""
    checks = [replace(check(no("ready", f"503, try {n}")), id=n) for n in (1, 2, 3)]
    result = replace(ROLLED_BACK, reasons=(Reason("t", "anything", (1, 3)),))
    (line,) = notable_lines(checks, result)
    assert "try 2" in line


def test_outcomes_are_counted_the_four_words() -> None:
    """Outcomes are counted without zeros."""
    evidence = Evidence()
    for verdict in (yes("a", ""), yes("b", ""), no("c", ""), not_asked("d", "")):
        evidence.check(f"smoke/test_x.py::test_{verdict.question}", "green", 0, verdict, 0.1)
    assert outcome_counts(evidence) == "2 passed, 1 failed, 1 not asked"
    assert outcome_counts(Evidence()) == "no check ran"


def test_progress_fits_the_line_and_shows_the_worst_first() -> None:
    """A line of progress fits the width and keeps the worst verdict."""
    verdicts = {name: yes(name, "all is well " * 5) for name in "abcde"} | {"5xx": no("5xx", "4.8 % of 642")}
    line = watch_line(552, 900, verdicts)
    assert line.startswith("T+15m  watch           09:12 left ▕█████▁▁▁▁▁▁▁▏  5xx: 4.8 % of 642")
    assert len(line) <= 100


def test_the_first_line_says_who_does_what() -> None:
    """The first line has project, target, tags and person; unknown ones are left out."""
    who = Who("recall", "green", "sha-1", "sha-2", "ana@runner-7")
    assert first_line(who) == "cutover recall · green · sha-1 → sha-2 · by ana@runner-7"
    assert first_line(Who("recall", "live", "sha-1", "sha-1")) == "cutover recall · live · sha-1"


def test_not_asked_is_listed_by_reason() -> None:
    """Checks that could not be asked are counted for each reason."""
    reason = "http://127.0.0.1 is a plain URL, so its container cannot be seen"
    assert not_asked_lines([("a", reason), ("b", reason), ("c", "no [alerts]")]) == [
        f"not asked: {reason} (2 checks)",
        "not asked: no [alerts] (1 check)",
    ]


@pytest.mark.parametrize(
    ("environ", "tty", "color"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_color_only_where_it_is_wanted(environ: dict[str, str], *, tty: bool, color: bool) -> None:
    """Colors are used on terminals; NO_COLOR is respected."""
    assert terminal_look(environ, tty=tty, encoding="utf-8").color is color


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Without UTF-8 all lines are ASCII."""
    at = terminal_look({}, tty=False, encoding="ANSI_X3.4-1968")
    lines = [*step_lines(Step("T-0", "switch", "blue → green · ✗ 日", 1, 0.0), at), watch_line(5, 10, {}, at)]
    assert all(line.isascii() for line in lines)
    assert "blue -> green - x ?" in lines[0]


def test_nothing_secret_and_no_escape_code_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of a service is masked and has no control characters or line breaks."""
    monkeypatch.setattr(MASK, "values", {"hunter22"})
    (line,) = check_lines(check(no("ready", "body: hunter22\x1b[2J\nRELEASED")))
    assert "***" in line
    assert "hunter22" not in line
    assert "\x1b" not in line
