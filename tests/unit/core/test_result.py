"""A release is kept only if everything required passed."""

from __future__ import annotations

import itertools

import pytest

from cutover.core.evidence import Evidence
from cutover.core.result import (
    FAILED,
    INCONCLUSIVE,
    INTERNAL,
    INTERRUPTED,
    NOTHING,
    NOTHING_RAN,
    OK,
    USAGE,
    Outcomes,
    Reason,
    Required,
    Running,
    SessionResult,
    Status,
    exit_code,
    is_verified,
    outcome_of_test,
    reasons_of,
    sentence_of,
    why_unverified,
)
from cutover.core.text import count
from cutover.core.verdict import Outcome, Verdict, no, unknown, yes

YES, NO, UNKNOWN, NEVER = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, None
GATE, WHOLE = frozenset({0}), frozenset({0, 1, 2})


def tally(
    *outcomes: Outcome | None,
    pytest_exit: int = 0,
    stages: frozenset[int] = GATE,
    trouble: Outcome | None = None,
) -> Outcomes:
    """Outcomes of one test each, all in the gate."""
    return Outcomes(
        [Required(f"t{n}", 0, each) for n, each in enumerate(outcomes)], pytest_exit, stages, trouble
    )


def staged(*rows: tuple[int, Outcome | None], pytest_exit: int = 0) -> Outcomes:
    """Outcomes of a whole release: (stage, outcome) of each test."""
    return Outcomes(
        [Required(f"t{n}", stage, each) for n, (stage, each) in enumerate(rows)], pytest_exit, WHOLE
    )


@pytest.mark.parametrize(
    ("asked", "code", "why"),
    [
        (tally(YES), OK, None),
        (tally(YES, YES), OK, None),
        (tally(YES, NO), FAILED, "1 check failed: t1"),
        (tally(NO, NO, pytest_exit=1), FAILED, "2 checks failed: t0"),
        (tally(YES, UNKNOWN), INCONCLUSIVE, "1 check could not be answered: t1"),
        (tally(NO, UNKNOWN), FAILED, "1 check failed: t0"),
        (tally(UNKNOWN, pytest_exit=1), INCONCLUSIVE, "1 check could not be answered: t0"),
        (tally(), NOTHING_RAN, "no check ran, so nothing was verified"),
        (tally(pytest_exit=5), NOTHING_RAN, "no check ran, so nothing was verified"),
        (tally(YES, NEVER), INCONCLUSIVE, "1 check never ran: t1"),
        (tally(NEVER, NEVER), INCONCLUSIVE, "2 checks never ran: t0"),
        (tally(NEVER, pytest_exit=1), FAILED, "1 check never ran: t0"),
        (tally(YES, pytest_exit=1), FAILED, "every check passed, but pytest ended with exit 1: another plugin or an option decided"),
        (tally(YES, pytest_exit=5), INCONCLUSIVE, "every check passed, but pytest ended with exit 5: another plugin or an option decided"),
        (tally(YES, pytest_exit=6), INCONCLUSIVE, "every check passed, but pytest ended with exit 6: another plugin or an option decided"),
        (tally(YES, trouble=NO), FAILED, "a step of the release failed"),
        (tally(YES, trouble=UNKNOWN), INCONCLUSIVE, "a step of the release could not be verified"),
        (tally(UNKNOWN, trouble=NO), FAILED, "a step of the release failed"),
        (tally(NEVER, trouble=UNKNOWN), INCONCLUSIVE, "a step of the release could not be verified"),
        (tally(NO, YES, trouble=UNKNOWN), FAILED, "1 check failed: t0"),
        (tally(YES, NEVER, pytest_exit=2), INTERRUPTED, "the session was interrupted"),
        (tally(NO, pytest_exit=2), INTERRUPTED, "the session was interrupted"),
        (tally(NO, pytest_exit=3), INTERNAL, "the session broke: an internal error, not the service"),
        (tally(YES, pytest_exit=4), USAGE, "every check passed, but pytest ended with exit 4: another plugin or an option decided"),
        (staged((0, YES), (1, YES), (2, YES)), OK, None),
        (staged((0, YES), (1, YES)), INCONCLUSIVE, "a stage of the release has no check that passed"),
        (staged((0, YES), (2, YES)), INCONCLUSIVE, "a stage of the release has no check that passed"),
        (staged((0, YES), (1, NO), (2, NEVER), pytest_exit=1), FAILED, "1 check failed: t1"),
        (staged((0, YES), (1, UNKNOWN), (2, NEVER)), INCONCLUSIVE, "1 check could not be answered: t1"),
    ],
)  # fmt: skip
def test_a_release_is_kept_on_proof_alone(asked: Outcomes, code: int, why: str | None) -> None:
    """Exit code and reason of each combination: 2, 3 and 4 win over 1, 1 over 10, 10 over 5."""
    assert exit_code(asked) == code
    assert is_verified(asked) is (code == OK)
    if why is not None:
        assert why_unverified(asked) == why


@pytest.mark.parametrize("pytest_exit", range(7))
@pytest.mark.parametrize("trouble", [None, YES, NO, UNKNOWN])
@pytest.mark.parametrize("outcomes", [*itertools.combinations_with_replacement([YES, NO, UNKNOWN, NEVER], 2)])
def test_only_what_is_proven_ends_with_0(
    outcomes: tuple[Outcome | None, ...], trouble: Outcome | None, pytest_exit: int
) -> None:
    """Exit code 0 if and only if verified; a failed check without an interruption is always 1."""
    asked = tally(*outcomes, pytest_exit=pytest_exit, trouble=trouble)
    assert (exit_code(asked) == OK) is is_verified(asked)
    assert is_verified(asked) is (set(outcomes) == {YES} and trouble is None and pytest_exit == 0)
    if NO in outcomes and pytest_exit not in {2, 3, 4}:
        assert exit_code(asked) == FAILED


CLEAN = {"setup": "passed", "call": "passed", "teardown": "passed"}


@pytest.mark.parametrize(
    ("phases", "unknown", "outcome"),
    [
        (CLEAN, False, YES),
        (CLEAN | {"call": "failed"}, False, NO),
        (CLEAN | {"call": "failed"}, True, UNKNOWN),
        (CLEAN | {"call": "skipped"}, False, UNKNOWN),
        (CLEAN | {"call": "xfailed"}, False, UNKNOWN),
        (CLEAN | {"teardown": "failed"}, False, UNKNOWN),
        (CLEAN | {"call": "failed", "teardown": "failed"}, False, NO),
        ({"setup": "failed", "teardown": "passed"}, False, UNKNOWN),
        ({"setup": "skipped", "teardown": "passed"}, False, UNKNOWN),
        ({"setup": "passed", "call": "passed"}, False, UNKNOWN),
        ({"setup": "passed"}, False, UNKNOWN),
    ],
)
def test_a_test_says_yes_only_when_all_of_it_passed(
    phases: dict[str, str], unknown: bool, outcome: Outcome
) -> None:
    """A call that passed between a clean setup and teardown is a yes, a failed assertion a no, all else unknown."""
    assert outcome_of_test(phases, unknown) is outcome


@pytest.mark.parametrize(("number", "text"), [(0, "0 checks"), (1, "1 check"), (2, "2 checks")])
def test_checks_are_counted_in_english(number: int, text: str) -> None:
    """One check, two checks."""
    assert count(number, "check") == text


MUTE = "the Docker engine does not answer"


def reason(text: str, *checks: int) -> Reason:
    """A reason found by the test that recorded the first of *checks*."""
    return Reason(f"smoke/t.py::test_{checks[0]}", text, checks)


@pytest.mark.parametrize(
    ("verdicts", "reasons"),
    [
        ([yes("ready", "yes")], [Reason("", "no check ran, so nothing was verified")]),
        ([no("ready", "503"), yes("version", "sha-2")], [reason("ready: 503", 1)]),
        (
            [unknown("health", MUTE), no("ready", "503"), unknown("identity", MUTE), unknown("logs", MUTE)],
            [reason(f"health: {MUTE}; the same of 2 more checks", 1, 3, 4), reason("ready: 503", 2)],
        ),
        (
            [no(f"q{number}", f"reason {number}") for number in range(9)],
            [reason(f"q{number}: reason {number}", number + 1) for number in range(5)],
        ),
    ],
    ids=["no bad one", "one", "one cause", "many"],
)
def test_each_reason_is_listed_once(verdicts: list[Verdict], reasons: list[Reason]) -> None:
    """An engine that does not answer is one reason, however many checks needed it; at most five are listed."""
    evidence = Evidence()
    for number, verdict in enumerate(verdicts):
        evidence.check(f"smoke/t.py::test_{number + 1}", "green", 0, verdict, 0.1)
    assert reasons_of(Outcomes((), 1), evidence.checks) == tuple(reasons)


def test_a_test_that_failed_with_its_deploy_is_no_reason_of_its_own() -> None:
    """The check of the deploy and the test that needed the deploy are one reason, joined by id, whatever they say."""
    evidence = Evidence()
    up = evidence.check("deploy::up", "green", 0, no("came up", "exited with 1"), 3.0)
    test = evidence.check("smoke/t.py::test_a", "green", 0, unknown("test_a", "anything"), 0.1, cause=up.id)
    (found,) = reasons_of(Outcomes((), 1), evidence.checks, trouble="never shown")
    assert found == Reason("", "came up: exited with 1", (up.id, test.id))


def test_a_step_that_failed_without_a_check_is_the_reason() -> None:
    """If no check recorded it, the error of the step is the reason."""
    assert reasons_of(Outcomes((), 1), (), trouble="no-go: ana") == (Reason("", "no-go: ana"),)


@pytest.mark.parametrize(
    ("running", "said"),
    [
        (
            (Running("blue", "sha-1", live=True), Running("green", "sha-2")),
            "recall sha-2 is staged on green and gets no traffic; recall runs sha-1 on blue, which is live.",
        ),
        (
            (Running("blue", "", NOTHING, live=True), Running("green", "sha-2")),
            "recall sha-2 is staged on green and gets no traffic; nothing of recall runs on blue, to which traffic would go.",
        ),
        (
            (Running("green", "sha-2"), Running("blue", "sha-1")),
            "recall sha-2 is staged on green and was given no traffic; who gets the traffic is not known.",
        ),
    ],
)  # fmt: skip
def test_a_deploy_without_a_switch_names_what_was_staged(running: tuple[Running, ...], said: str) -> None:
    """Not what users go on having, and not a live color where nothing runs."""
    result = SessionResult(
        Status.RELEASED, "recall", 0, running, observed_s_ago=0.1, staged="green", passed=11
    )
    assert sentence_of(result) == f"{said} Verified by 11 checks; nothing is open."


def test_a_switch_whose_proxy_is_silent_at_the_end_says_so() -> None:
    """What runs is said, and not that it gets the traffic."""
    running = (Running("green", "sha-2"), Running("blue", "sha-1"))
    result = SessionResult(Status.RELEASED, "recall", 0, running, observed_s_ago=0.1, passed=11)
    said = "recall runs sha-2 on green; who gets the traffic is not known."
    assert sentence_of(result) == f"{said} Verified by 11 checks; nothing is open."
