"""How a session ends: whether its outcomes verify the release, its exit code, and the result that every report shows.

Everything here is pure: values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from cutover.core.evidence import Check
from cutover.core.text import count, duration, join_list
from cutover.core.verdict import Outcome

OK, FAILED, INTERRUPTED, INTERNAL, USAGE, NOTHING_RAN = 0, 1, 2, 3, 4, 5
INCONCLUSIVE, NEEDS_OPERATOR, LOCKED = 10, 11, 12
EXIT_NAMES = {
    OK: "OK",
    FAILED: "FAILED",
    INTERRUPTED: "INTERRUPTED",
    INTERNAL: "INTERNAL_ERROR",
    USAGE: "USAGE_ERROR",
    NOTHING_RAN: "NO_TESTS_RAN",
    INCONCLUSIVE: "INCONCLUSIVE",
    NEEDS_OPERATOR: "OPERATOR_NEEDED",
    LOCKED: "LOCKED",
}
"""Exit code -> the name that is printed after it."""
EXIT_MEANINGS = {
    OK: "Passed; what was deployed or switched stays, with `--hold` until its deadline or for good.",
    FAILED: "Failed; every change was reverted, and that was verified. Read `why`, fix, run the same command again.",
    INTERRUPTED: "Interrupted; reverted and verified. Run it again.",
    INTERNAL: "An internal error; reverted and verified. Run it again.",
    USAGE: "Usage, configuration or preflight; this session changed nothing. The lines name what is allowed.",
    NOTHING_RAN: "No test ran; what was changed is reverted.",
    INCONCLUSIVE: "Something could not be answered; reverted. See troubleshooting.",
    NEEDS_OPERATOR: "The revert failed or could not be verified: run the one command of the last lines.",
    LOCKED: "Another release is open; nothing was changed. The line says who, since when, where.",
}
MAX_REASONS = 5


# --- the decision ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Required:
    """One collected test: its stage (0 gate, 1 through the proxy, 2 watch) and its outcome, None if it never ran."""

    test: str
    stage: int
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcome of every required test, of the release's own steps, and of pytest itself."""

    required: Sequence[Required]
    pytest_exit: int
    stages: frozenset[int] = frozenset({0})
    """The stages that need at least one passed test each."""
    trouble: Outcome | None = None
    """The outcome of the step of the release that failed; None if all steps passed."""

    def tests(self, outcome: Outcome | None) -> list[Required]:
        """The tests with that outcome."""
        return [each for each in self.required if each.outcome is outcome]


def is_verified(outcomes: Outcomes) -> bool:
    """Whether every required test passed, in every required stage, and nothing else failed."""
    return (
        outcomes.pytest_exit == OK
        and outcomes.trouble is None
        and bool(outcomes.required)
        and all(each.outcome is Outcome.YES for each in outcomes.required)
        and outcomes.stages <= {each.stage for each in outcomes.required}
    )


def exit_code(outcomes: Outcomes) -> int:
    """The session's exit code.

    2, 3 and 4 of pytest win over 1, 1 over 10, 10 over 5; 11 and 12 are set where the revert or the lock failed.
    """
    if outcomes.pytest_exit in {INTERRUPTED, INTERNAL, USAGE}:
        return outcomes.pytest_exit
    if outcomes.trouble is Outcome.NO or outcomes.tests(Outcome.NO):
        return FAILED
    if outcomes.trouble is not None or outcomes.tests(Outcome.UNKNOWN):
        return INCONCLUSIVE
    if not outcomes.required:
        return NOTHING_RAN
    if is_verified(outcomes):
        return OK
    return FAILED if outcomes.pytest_exit == FAILED else INCONCLUSIVE


def why_unverified(outcomes: Outcomes) -> str:
    """Why a release is not kept, in one line."""
    failed, unknown, never = (outcomes.tests(each) for each in (Outcome.NO, Outcome.UNKNOWN, None))
    if outcomes.pytest_exit == INTERRUPTED:
        return "the session was interrupted"
    if outcomes.pytest_exit == INTERNAL:
        return "the session broke: an internal error, not the service"
    if failed:
        return f"{count(len(failed), 'check')} failed: {failed[0].test}"
    if outcomes.trouble is Outcome.NO:
        return "a step of the release failed"
    if unknown:
        return f"{count(len(unknown), 'check')} could not be answered: {unknown[0].test}"
    if outcomes.trouble is not None:
        return "a step of the release could not be verified"
    if not outcomes.required:
        return "no check ran, so nothing was verified"
    if never:
        return f"{count(len(never), 'check')} never ran: {never[0].test}"
    if not outcomes.stages <= {each.stage for each in outcomes.required}:
        return "a stage of the release has no check that passed"
    return f"every check passed, but pytest ended with exit {outcomes.pytest_exit}: another plugin or an option decided"


def outcome_of_test(phases: Mapping[str, str], unknown: bool) -> Outcome:
    """The outcome of a test, from its phases (`setup`, `call`, `teardown` to `passed`, `failed`, `skipped`, `xfailed`).

    Only a call that passed between a clean setup and teardown is a yes. *unknown*: the failure says nothing about the
    service (no assertion, an unanswered question, or the test's own time-out).
    """
    if phases == {"setup": "passed", "call": "passed", "teardown": "passed"}:
        return Outcome.YES
    if phases.get("call") == "failed" and not unknown:
        return Outcome.NO
    return Outcome.UNKNOWN


# --- the result --------------------------------------------------------------------------------------------------
Kind = Literal["good", "failed", "operator", "unsure"]


class Status(StrEnum):
    """The status in the last line of a session."""

    RELEASED = "RELEASED"
    HELD = "HELD"
    ROLLED_BACK = "ROLLED BACK"
    ROLLBACK_FAILED = "ROLLBACK FAILED"
    GATE_PASSED = "GATE PASSED"
    GATE_FAILED = "GATE FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"
    KEPT_UNVERIFIED = "KEPT UNVERIFIED"
    UNCHANGED = "UNCHANGED"
    PLAN = "PLAN"

    @property
    def kind(self) -> Kind:
        """How reports show it: good, failed (and under control), operator (one is needed) or unsure."""
        match self:
            case Status.RELEASED | Status.HELD | Status.GATE_PASSED:
                return "good"
            case Status.ROLLED_BACK | Status.GATE_FAILED | Status.KEPT_UNVERIFIED:
                return "failed"
            case Status.ROLLBACK_FAILED:
                return "operator"
        return "unsure"


NOTHING = "nothing runs"
"""The state of a color without a container."""
UNASKED = "could not be asked"
"""The state of a color if the Docker engine did not answer."""


@dataclass(frozen=True, slots=True)
class Running:
    """What one color runs, observed at the end of the session."""

    color: str
    tag: str
    state: str = "runs"
    """`runs`, `warm`, `stopped`, `fails 1 of 14 checks`, `could not be asked`."""
    live: bool = False
    """Whether the proxy sends traffic to it; without a proxy, whether it is the only one."""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason of a bad end."""

    test: str
    """The node id of the test; empty if no test found it."""
    text: str
    checks: tuple[int, ...] = ()
    """The ids of the checks in the evidence that it stands for."""


@dataclass(frozen=True, slots=True)
class SessionResult:
    """The end of a session: everything that the last lines and the reports say about it."""

    status: Status
    project: str
    exit_code: int
    running: tuple[Running, ...] = ()
    observed_s_ago: float | None = None
    """How many seconds ago `running` was observed; None if it was not."""
    as_before: bool = True
    """Whether `running` is what ran before this session; shown for a revert only."""
    sentence: str = ""
    """Replaces the sentence that `sentence_of` makes from the other fields."""
    reasons: tuple[Reason, ...] = ()
    tried: tuple[str, ...] = ()
    """The steps of a revert that failed, each with its command and output."""
    differs: str = ""
    """What is not as it was before the release, where a revert failed."""
    users: str = ""
    """Whether users are served right now, where a revert failed."""
    command: str = ""
    """The one command that the operator has to run."""
    command_where: str = ""
    """`on web-1, as deploy; safe to run again`."""
    report: str = ""
    """The path of report.html."""
    next_steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What is not as it was and does not touch users, or what is gone without harm so far."""
    staged: str = ""
    """The color that was deployed and waits for a switch; empty if users have what was released."""
    held_until: str = ""
    """When a held release is reverted unless it is confirmed, like `04:35:10 UTC`."""
    confirm_command: str = ""
    """The command that keeps a held release."""
    passed: int = 0
    """How many checks passed."""
    release_open: bool = False
    rollback_s: float | None = None
    """How long a rollback takes, measured in the last rehearsal."""
    failed_requests: int | None = None
    """Failed requests of users since the switch; None if they were not measured."""
    failed_s: float | None = None
    failed_unknown: str = ""
    """Why the failed requests of users are not known, or not all of them."""
    schema: str = ""
    """Where the schema stays if it was changed: `b771, on which sha-4f1c2aa passes 14 checks`."""

    def unexplained(self, checks: Iterable[Check]) -> list[Check]:
        """Those of *checks* that no reason stands for."""
        explained = {each for reason in self.reasons for each in reason.checks}
        return [check for check in checks if check.id not in explained]

    @property
    def live(self) -> Running | None:
        """The color that gets the traffic; None if it is not known."""
        return next((each for each in self.running if each.live), None)

    def as_json(self) -> dict[str, Any]:
        """A dictionary of JSON values; `result_from_json` reads it back."""
        return asdict(self) | {"status": str(self.status)}


def result_from_json(row: Mapping[str, Any]) -> SessionResult:
    """The result that `as_json` wrote; unknown keys, as of a later version, are ignored.

    Raises ValueError if *row* is not such a dictionary.
    """
    from pydantic import TypeAdapter  # not needed by a plain pytest

    return TypeAdapter(SessionResult).validate_python(row)


def reasons_of(outcomes: Outcomes, checks: Iterable[Check], trouble: object = None) -> tuple[Reason, ...]:
    """The reasons of a bad end: at most five, checks with the same cause or the same reason as one.

    *trouble* is the error of the step that failed; it counts only if no check recorded it.
    """
    alike: dict[str, list[Check]] = {}
    caused: dict[int, list[int]] = {}
    for check in checks:
        if not check.bad:
            continue
        if check.cause is None:
            alike.setdefault(check.verdict.reason, []).append(check)
        else:
            caused.setdefault(check.cause, []).append(check.id)
    found = [_reason(group, caused) for group in alike.values()]
    if not found:
        found = [Reason("", str(trouble) if trouble is not None else why_unverified(outcomes))]
    return tuple(found[:MAX_REASONS])


def _reason(group: Sequence[Check], caused: Mapping[int, Sequence[int]]) -> Reason:
    first, more = group[0], len(group) - 1
    # Checks of the release itself, like deploy::up, have no test that can be opened.
    test = first.test if ".py::" in first.test else ""
    same = f"; the same of {count(more, 'more check')}" if more else ""
    ids = [each for check in group for each in (check.id, *caused.get(check.id, ()))]
    return Reason(test, f"{first.verdict.question}: {first.verdict.reason}{same}", tuple(ids))


# --- the sentence ------------------------------------------------------------------------------------------------
def sentence_of(result: SessionResult) -> str:
    """What the first line of every report says: what runs now, and what users noticed."""
    return result.sentence or " ".join(_sentences(result))


def _sentences(result: SessionResult) -> Iterable[str]:
    match result.status:
        case Status.PLAN:
            yield "nothing was checked, nothing was changed."
        case Status.ROLLBACK_FAILED:
            yield f"an operator is needed. Right now: {_state_now(result)}."
        case Status.HELD:
            yield f"until {result.held_until}; confirm with {result.confirm_command}."
            yield f"{_kept(result)}. Verified by {count(result.passed, 'check')}; not confirmed, it is reverted then."
        case Status.RELEASED:
            yield f"{_kept(result)}."
            is_open = "a release is still open" if result.release_open else "nothing is open"
            yield f"Verified by {count(result.passed, 'check')}; {is_open}."
            if result.rollback_s is not None:
                yield f"Time to roll back: {duration(result.rollback_s)}."
        case Status.GATE_PASSED:
            yield f"{_kept(result)}. Verified by {count(result.passed, 'check')}; nothing was changed."
        case Status.GATE_FAILED | Status.UNCHANGED:
            yield f"{_what_runs(result)}; nothing was changed."
        case Status.KEPT_UNVERIFIED:
            yield f"{_what_runs(result)}, not verified; nothing was reverted, as asked for."
        case _:
            known = (result.running or result.observed_s_ago is not None) and not _unobserved(result)
            yield f"{_what_runs(result)}{', as before' if result.as_before and known else ''}."
    yield from _cost(result)


def _cost(result: SessionResult) -> Iterable[str]:
    if result.failed_requests:
        during = f" in {duration(result.failed_s)}" if result.failed_s is not None else ""
        least, why = ("at least ", f": {result.failed_unknown}") if result.failed_unknown else ("", "")
        yield f"Users saw {least}{count(result.failed_requests, 'failed request')}{during}{why}."
    elif result.failed_unknown:
        yield f"How many requests of users failed is unknown: {result.failed_unknown}."
    elif result.failed_requests == 0 and result.status is Status.ROLLED_BACK:
        yield "No request of a user was seen to fail."
    if result.schema:
        yield f"The schema stays at {result.schema}."


def _shown(result: SessionResult) -> Running | None:
    return result.live or next(iter(result.running), None)


def _unobserved(result: SessionResult) -> bool:
    shown = _shown(result)
    return shown is not None and not shown.tag and shown.state == UNASKED


def _kept(result: SessionResult) -> str:
    runs, unknown = _what_runs(result), "who gets the traffic is not known"
    staged = next((each for each in result.running if each.color == result.staged), None)
    if staged is not None:
        served = result.live is not None and result.live.state != NOTHING
        live = f"{runs}, {'which is live' if served else 'to which traffic would go'}"
        where = f"gets no traffic; {live}" if result.live else f"was given no traffic; {unknown}"
        return f"{result.project} {staged.tag} is staged on {staged.color} and {where}"
    kept = f"what was verified is kept, but {runs} again" if _unobserved(result) else runs
    return kept if result.live or not result.running else f"{kept}; {unknown}"


def _what_runs(result: SessionResult) -> str:
    shown, project = _shown(result), result.project
    if shown is None:
        observed = result.observed_s_ago is not None
        return f"nothing of {project} runs" if observed else f"what {project} runs could not be asked"
    where = f" on {shown.color}" if shown.color else ""
    if shown.tag:
        runs = f"{project} runs {shown.tag}{where}"
        return runs if shown.state in {"", "runs", "healthy"} else f"{runs} ({shown.state})"
    if shown.state == NOTHING:
        return f"nothing of {project} runs{where}"
    return f"what {project} runs{where} {shown.state}"


def _state_now(result: SessionResult) -> str:
    """`traffic goes to green (asked 2 s ago), green fails 1 of 14 checks (sha-2) and blue is stopped (sha-1)`."""
    live = result.live
    ago = "" if result.observed_s_ago is None else f" (asked {duration(result.observed_s_ago)} ago)"
    head = f"traffic goes to {live.color}{ago}" if live else f"who gets the traffic is not known{ago}"
    return join_list([head, *map(_state_of, result.running)])


def _state_of(running: Running) -> str:
    if running.state == NOTHING:
        return f"{NOTHING} on {running.color}"
    verb = "" if running.state.startswith(("fails", "runs", "could", "answers")) else "is "
    return f"{running.color} {verb}{running.state or 'unknown'}{f' ({running.tag})' if running.tag else ''}"
