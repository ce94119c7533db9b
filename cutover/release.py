"""Decides what becomes of a release: pure, from the tally of what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutover.core.verdict import Outcome

OK, FAILED, INTERRUPTED, INTERNAL, USAGE, NOTHING_RAN = 0, 1, 2, 3, 4, 5
INCONCLUSIVE, NEEDS_PERSON, LOCKED = 10, 11, 12


@dataclass(frozen=True, slots=True)
class Required:
    """One collected test: its stage (0 gate, 1 through the proxy, 2 watch) and its outcome, None if it never ran."""

    test: str
    stage: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Tally:
    """All that a session required, and what pytest itself ended with."""

    required: Sequence[Required]
    pytest_exit: int
    stages: frozenset[int] = frozenset({0})
    """The stages of which each needs at least one test."""
    trouble: Outcome | None = None
    """What a change, or the question after it, ended with; None when all went well."""

    def tests(self, outcome: Outcome | None) -> list[Required]:
        """The tests with that outcome."""
        return [each for each in self.required if each.outcome is outcome]

    @property
    def missing_stages(self) -> frozenset[int]:
        """Stages that were asked for and of which no test passed."""
        return self.stages - {each.stage for each in self.tests(Outcome.YES)}


def proven(tally: Tally) -> bool:
    """Whether each required test ran and said yes, in every stage that was asked for, and nothing else went wrong."""
    return (
        tally.pytest_exit == OK
        and tally.trouble is None
        and bool(tally.required)
        and all(each.outcome is Outcome.YES for each in tally.required)
        and not tally.missing_stages
    )


def exit_code(tally: Tally) -> int:
    """The session's exit code, whatever pytest's own: 2, 3 before 1 before 10 before 5 (11, 12: elsewhere)."""
    if tally.pytest_exit in {INTERRUPTED, INTERNAL, USAGE}:
        return tally.pytest_exit
    if tally.trouble is Outcome.NO or tally.tests(Outcome.NO):
        return FAILED
    if tally.trouble is not None or tally.tests(Outcome.UNKNOWN):
        return INCONCLUSIVE
    if not tally.required:
        return NOTHING_RAN
    if proven(tally):
        return OK
    return FAILED if tally.pytest_exit == FAILED else INCONCLUSIVE


def reason(tally: Tally) -> str:
    """Why a release is not kept, in one line."""
    bad, odd, never = tally.tests(Outcome.NO), tally.tests(Outcome.UNKNOWN), tally.tests(None)
    if tally.pytest_exit == INTERRUPTED:
        return "the session was interrupted"
    if tally.pytest_exit == INTERNAL:
        return "the session broke: an internal error, not the service"
    if bad:
        return f"{count(bad)} failed: {bad[0].test}"
    if tally.trouble is Outcome.NO:
        return "a step of the release failed"
    if odd:
        return f"{count(odd)} could not be answered: {odd[0].test}"
    if tally.trouble is not None:
        return "a step of the release could not be verified"
    if not tally.required:
        return "no check ran, so nothing was verified"
    if never:
        return f"{count(never)} never ran: {never[0].test}"
    return "pytest ended without proof"


def count(tests: Sequence[object]) -> str:
    """`1 check`, `2 checks`."""
    return f"{len(tests)} check{'' if len(tests) == 1 else 's'}"


def outcome_of(phases: Mapping[str, str], unknown: bool) -> Outcome:
    """What a test said, from its phases (`setup`, `call`, `teardown` to `passed`, `failed`, `skipped`, `xfailed`).

    Only a call that passed between a clean setup and teardown is a yes. `unknown` says that the failure was an
    exception that is no assertion, an unanswered question, or the test's own time-out.
    """
    if phases == {"setup": "passed", "call": "passed", "teardown": "passed"}:
        return Outcome.YES
    if phases.get("call") == "failed" and not unknown:
        return Outcome.NO
    return Outcome.UNKNOWN
