from __future__ import annotations

import re

import pytest

from cutover.core.masking import MASK
from cutover.core.verdict import Verdict, no, not_asked, unknown, yes
from cutover.evidence import Check, Step, outcome_counts
from cutover.report.terminal import (
    Look,
    Who,
    check_lines,
    first_line,
    is_notable,
    last_lines,
    not_asked_lines,
    refused_lines,
    step_lines,
    terminal_look,
    watch_line,
)
from cutover.result import NOTHING, UNASKED, Running, SessionResult, Status, result_from_json
from tests.report.endings import RELEASED, TAKEN_BACK, UNDO_FAILED

COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def check(verdict: Verdict, test: str = "smoke/test_ready.py::test_ready[green]") -> Check:
    """A check with *verdict*, whatever else."""
    return Check(1, test, "green", 0, verdict, 0.012, 0.0)


def test_a_step_is_one_line_with_moment_name_text_and_time() -> None:
    """A step reads in columns: when, what, what came of it, how long it took."""
    step = Step("T-0", "switch", "blue → green in 1.6 ms", 0.4, 0.0)
    assert step_lines(step) == ["T-0    switch          blue → green in 1.6 ms".ljust(94) + " 0.4 s"]


def test_a_step_that_went_wrong_says_so_by_a_mark() -> None:
    """Without colour a bad step is still told from a good one."""
    step = Step("T+15m", "watch", "5xx: expected at most 1 %, got 4.8 %", 0, 0.0, "no")
    assert step_lines(step) == ["T+15m  watch           ✗ 5xx: expected at most 1 %, got 4.8 %"]


def test_a_long_step_goes_on_below_itself() -> None:
    """A step that is too long is wrapped under its own text, and no word is lost."""
    words = [f"word{number}" for number in range(40)]
    lines = step_lines(Step("T-0", "proof", " ".join(words), 0, 0.0))
    assert len(lines) > 1
    assert all(len(line) <= 100 for line in lines)
    assert " ".join(lines).split() == ["T-0", "proof", *words]


@pytest.mark.parametrize("ending", [RELEASED, TAKEN_BACK, UNDO_FAILED], ids=lambda ending: ending.status.name)
def test_colour_changes_no_letter(ending: SessionResult) -> None:
    """The lines are the same with and without colours."""
    coloured = last_lines(ending, Look(colour=True))
    assert [COLOURS.sub("", line) for line in coloured] == last_lines(ending)
    assert coloured != last_lines(ending)


def test_released_says_what_runs_and_what_it_would_cost_to_go_back() -> None:
    """A good cutover ends with one sentence: what runs where, proven by how much, nothing open."""
    assert last_lines(RELEASED) == [
        (
            "RELEASED  recall runs sha-9b7d001 on green. Proven by 57 checks; nothing is open. "
            "Time to roll back: 1.6 ms."
        ),
        "  see   reports/latest/report.html",
    ]


def test_taken_back_says_why_and_what_users_saw() -> None:
    """A release that was taken back ends with what runs, the cost, the reason, and what comes next."""
    head = last_lines(TAKEN_BACK)[0]
    text = " ".join(" ".join(last_lines(TAKEN_BACK)).split())
    assert head == (
        "TAKEN BACK  recall runs sha-4f1c2aa on blue, as before. Users saw 31 failed requests in 12.6 s."
    )
    assert "why checks/test_errors.py::test_5xx_rate[live]: 4.8 % of requests failed on green" in text
    assert "see reports/latest/report.html" in text
    assert text.endswith(
        "next fix and run the same command again; nothing is locked, nothing is half done exit 1 FAILED"
    )


def test_undo_failed_gives_the_one_command_on_one_line() -> None:
    """A person in need finds what runs now and a command that can be copied whole."""
    lines = last_lines(UNDO_FAILED)
    assert lines[0] == (
        "UNDO FAILED  a person is needed. Right now: traffic goes to green (asked 2 s ago), green fails 1 of "
        "14 checks (sha-9b7d001) and blue is stopped (sha-4f1c2aa)."
    )
    assert f"  run   {UNDO_FAILED.command}      (on web-1, as deploy; safe to run again)" in lines
    assert lines[-1] == "exit 11 OPERATOR_NEEDED"


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (
            SessionResult(Status.PLAN_ONLY, "recall", 0),
            "PLAN ONLY  nothing was checked, nothing was changed.",
        ),
        (
            SessionResult(Status.GATE_PASSED, "recall", 0, (Running("green", "sha-2"),), passed=1),
            "GATE PASSED  recall runs sha-2 on green. Proven by 1 check; nothing was changed.",
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
            SessionResult(Status.TAKEN_BACK, "recall", 1, observed_s_ago=0.1),
            "TAKEN BACK  nothing of recall runs, as before.",
        ),
        (
            SessionResult(Status.TAKEN_BACK, "recall", 1, (Running("blue", "", NOTHING, live=True),)),
            "TAKEN BACK  nothing of recall runs on blue, as before.",
        ),
        (
            SessionResult(Status.INCONCLUSIVE, "recall", 10, (Running("blue", "", UNASKED, live=True),)),
            "INCONCLUSIVE  what recall runs on blue could not be asked.",
        ),
        (
            SessionResult(Status.RELEASED, "recall", 0, (Running("blue", "", UNASKED, live=True),), passed=2),
            "RELEASED  what was proven is kept, but what recall runs on blue could not be asked again. Proven by 2 checks; nothing is open.",
        ),
        (
            SessionResult(
                Status.UNDO_FAILED, "recall", 11, (Running("blue", "", NOTHING, live=True),), observed_s_ago=2
            ),
            "UNDO FAILED  a person is needed. Right now: traffic goes to blue (asked 2 s ago) and nothing runs on blue.",
        ),
        (
            SessionResult(
                Status.LEFT_AS_IT_IS, "recall", 1, (Running("green", "sha-2", "unhealthy", live=True),)
            ),
            (
                "LEFT AS IT IS  recall runs sha-2 on green (unhealthy), not proven; "
                "nothing was taken back, as asked for."
            ),
        ),
        (
            SessionResult(Status.TAKEN_BACK, "recall", 1, sentence="said by the caller."),
            "TAKEN BACK  said by the caller.",
        ),
    ],
)
def test_never_says_what_was_not_seen(ending: SessionResult, said: str) -> None:
    """The sentence is made from what was asked; what nobody answered is called so."""
    assert last_lines(ending, Look(width=200))[0] == said


@pytest.mark.parametrize(
    ("why", "lines"),
    [
        (
            "ana is releasing; nothing was changed",
            ["", "LOCKED  ana is releasing; nothing was changed", "exit 12 LOCKED"],
        ),
        (
            "it could not be taken back; run: sh x y",
            ["", "LOCKED  it could not be taken back", "  run   sh x y", "exit 12 LOCKED"],
        ),
    ],
)
def test_a_session_that_was_refused_ends_with_the_reason(why: str, lines: list[str]) -> None:
    """The last lines say why nothing was begun, and the one command stands on a line of its own."""
    assert refused_lines("LOCKED", why, 12) == lines


@pytest.mark.parametrize("ending", [RELEASED, TAKEN_BACK, UNDO_FAILED], ids=lambda ending: ending.status.name)
def test_an_ending_survives_its_file(ending: SessionResult) -> None:
    """What is written as JSON is read back as the same ending, also beside keys of a later version."""
    assert result_from_json(ending.as_json() | {"later": 1}) == ending


def test_a_check_shows_question_and_reason() -> None:
    """A check that failed shows list, target and verdict in one line."""
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


def test_a_tally_counts_the_four_words() -> None:
    """Outcomes are counted by their words, without zeros, and the worst one decides."""
    checks = [check(yes("a", "")), check(yes("b", "")), check(no("c", "")), check(not_asked("d", ""))]
    assert outcome_counts(checks) == "2 yes, 1 no, 1 not asked"
    assert outcome_counts([]) == "no check ran"


def test_progress_fits_the_line_and_shows_the_worst_first() -> None:
    """A line of progress never wraps, and what is wrong is not what is cut off."""
    verdicts = {name: yes(name, "all is well " * 5) for name in "abcde"} | {"5xx": no("5xx", "4.8 % of 642")}
    line = watch_line(552, 900, verdicts)
    assert line.startswith("T+15m  watch           09:12 left ▕█████▁▁▁▁▁▁▁▏  5xx: 4.8 % of 642")
    assert len(line) <= 100


def test_the_first_line_says_who_does_what() -> None:
    """The head names project, target, both tags, person and report, and leaves out what is not known."""
    who = Who("recall", "green", "sha-1", "sha-2", "ana@runner-7", "reports/x/")
    assert first_line(who) == "cutover recall · green · sha-1 → sha-2 · by ana@runner-7 · report reports/x/"
    assert first_line(Who("recall", "live", "sha-1", "sha-1")) == "cutover recall · live · sha-1"


def test_not_asked_is_listed_by_reason() -> None:
    """What was not asked is listed once for each reason, with how many checks it took away."""
    reason = "http://127.0.0.1 is a plain URL, so its container cannot be seen"
    assert not_asked_lines([("a", reason), ("b", reason), ("c", "no [alerts]")]) == [
        f"not asked: {reason} (2 checks)",
        "not asked: no [alerts] (1 check)",
    ]


@pytest.mark.parametrize(
    ("environ", "tty", "colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour_only_where_it_is_wanted(environ: dict[str, str], *, tty: bool, colour: bool) -> None:
    """Colours are for terminals, and NO_COLOR is respected."""
    assert terminal_look(environ, tty=tty, encoding="utf-8").colour is colour


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Where the encoding is not UTF, every line can be printed."""
    at = terminal_look({}, tty=False, encoding="ANSI_X3.4-1968")
    lines = [*step_lines(Step("T-0", "switch", "blue → green · ✗ 日", 1, 0.0), at), watch_line(5, 10, {}, at)]
    assert all(line.isascii() for line in lines)
    assert "blue -> green - x ?" in lines[0]


def test_nothing_secret_and_no_escape_code_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of a service is masked and cannot move the cursor or fake a second line."""
    monkeypatch.setattr(MASK, "values", {"hunter22"})
    (line,) = check_lines(check(no("ready", "body: hunter22\x1b[2J\nRELEASED")))
    assert "***" in line
    assert "hunter22" not in line
    assert "\x1b" not in line
