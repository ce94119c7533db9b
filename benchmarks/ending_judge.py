"""Whether the ending of a release is true: exit code, last lines and `cutover status` beside client and engine. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.ending_cases import (
    BREAKS,
    DEADLY,
    HARMLESS,
    INTERRUPTED,
    NONE,
    STAGED,
    TAG_OF_LIVE,
    TAG_OF_TARGET,
    Case,
)

OK, FAILED, REFUSED, OPERATOR = 0, 1, 4, 11
WORDS: Mapping[int, frozenset[str]] = {
    0: frozenset({"RELEASED"}),
    1: frozenset({"ROLLED BACK", "GATE FAILED"}),
    2: frozenset({"ROLLED BACK", "UNCHANGED"}),
    3: frozenset({"ROLLED BACK", "UNCHANGED"}),
    4: frozenset({"ROLLED BACK", "UNCHANGED", ""}),  # a refusal is one line without a word
    10: frozenset({"ROLLED BACK", "INCONCLUSIVE"}),
    11: frozenset({"ROLLBACK FAILED"}),
}
"""Exit code -> the words that the last lines may begin with."""
GOOD_STATUS, SERVER_ERROR = 200, 500
REVERTING = frozenset({"reverted", "recovered", "rolled back"})
"""Events of a release that was reverted."""
UNSEEN = "No request of a user was seen to fail"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request of the outside client."""

    at: float
    status: int
    """0 if there was no answer."""
    tag: str = ""
    color: str = ""

    @property
    def served(self) -> str:
        """The tag that answered; a status or `no answer` for what is no good answer."""
        return (
            self.tag
            if self.status == GOOD_STATUS
            else f"status {self.status}"
            if self.status
            else "no answer"
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed of one release."""

    asked: str
    """The tag that was to be released."""
    before: str
    """The tag that users had before."""
    verified_before: bool
    code: int | None
    """The exit code; None for a session that was killed."""
    word: str
    """How the last lines begin; empty for a session that was killed."""
    sentence: str
    run: str
    """The command that the last lines name; empty without one."""
    began: bool
    """Whether the fault began before the session ended."""
    broke: bool
    """Whether a release that breaks later was broken in its session."""
    at_end: Sequence[Sample]
    """What users got around the end of the session."""
    settled: Sequence[Sample]
    """What they got when every fault was over and, of a killed session, its release was reverted."""
    new_failed: int
    """Bad answers to users by the color that was released, before the end."""
    running: Mapping[str, Sequence[str]]
    """Color -> the tags of its running containers, by the engine, at the same time as `settled`."""
    status: Mapping[str, Any]
    """`cutover status --json` at that time."""
    status_code: int
    ran_before: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """`running` before the session."""
    way_out: Mapping[str, Any] = field(default_factory=dict)
    """After 11 or `cutover recover`: `run`, its exit `code`, and `status_code` and what users get (`served`) then."""

    @property
    def asked_runs(self) -> list[str]:
        """The colors on which the release that was asked for runs."""
        return [color for color, tags in self.running.items() if self.asked in tags]

    @property
    def asked_left(self) -> list[str]:
        """Those on which it did not run before the session."""
        return [color for color in self.asked_runs if self.asked not in self.ran_before.get(color, ())]


def findings(case: Case, seen: Seen) -> list[str]:
    """What is not true of the ending; empty if all of it is."""
    return [*_decision(case, seen), *_code(case, seen), *_status(case, seen), *_way_out(seen)]


def _served(samples: Sequence[Sample]) -> list[str]:
    return sorted({each.served for each in samples}) or ["no answer"]


def _kept(case: Case, seen: Seen) -> bool:
    """Whether users, or for a staged release its color, have the release."""
    if case.place == STAGED:
        return any(seen.asked in tags for tags in seen.running.values())
    return _served(seen.settled) == [seen.asked]


def _decision(case: Case, seen: Seen) -> Iterator[str]:
    """Whether keeping or not keeping it was right at all."""
    bad = seen.broke if case.release == BREAKS else case.bad
    if seen.code == OK and bad:
        yield f"the release is bad ({case.release}) and was kept"
    calm = case.fault in HARMLESS and case.edit not in {TAG_OF_LIVE, TAG_OF_TARGET}
    good = not (case.bad or case.release == BREAKS)
    if good and calm and seen.code != OK:
        yield f"a good release with no fault that could touch it ended with {seen.code}"
    if case.fault == INTERRUPTED and seen.began and seen.code == OK:
        yield "the session was interrupted and ended with 0"
    if seen.code == REFUSED and case.edit == NONE and case.fault == NONE:
        yield "refused, although nothing was edited"


def _code(case: Case, seen: Seen) -> Iterator[str]:
    """Whether the exit code says what users have, and the words what the exit code says."""
    if seen.code is None:
        yield from _death(case, seen)
        return
    if seen.word not in WORDS.get(seen.code, frozenset()):
        yield f"exit {seen.code} with the words {seen.word or 'none'}"
    if seen.code == OK:
        yield from _released(case, seen)
    elif seen.code == OPERATOR:
        if _served(seen.at_end) == [seen.before] and not seen.asked_left:
            yield f"exit 11, but users had {seen.before} all the time around the end, as before: {seen.sentence}"
        if not seen.run:
            yield "exit 11 without a command"
    else:
        yield from _as_before(seen)
    if UNSEEN in seen.sentence and seen.new_failed:
        yield f"the last lines say that no request failed, the client saw {seen.new_failed} bad answers of the release"


def _death(case: Case, seen: Seen) -> Iterator[str]:
    after = _served(seen.settled)
    if case.fault not in DEADLY:
        yield "no exit code, although nobody killed the session"
    if after not in ([seen.before], [seen.asked]):
        yield f"after the death users get {' and '.join(after)}, neither {seen.before} nor {seen.asked}"
    if after == [seen.before] and seen.asked_left and case.place != STAGED:
        yield f"after the death {seen.asked} still runs on {seen.asked_left[0]}"


def _released(case: Case, seen: Seen) -> Iterator[str]:
    if not _kept(case, seen):
        yield f"exit 0, but users get {' and '.join(_served(seen.settled))} in place of {seen.asked}"
    if seen.asked not in seen.sentence:
        yield f"the last lines do not name {seen.asked}: {seen.sentence}"
    if not seen.asked_runs:
        yield f"exit 0, but the engine runs {seen.asked} nowhere"


def _as_before(seen: Seen) -> Iterator[str]:
    after = _served(seen.settled)
    if after != [seen.before]:
        yield f"exit {seen.code}, but users get {' and '.join(after)} in place of {seen.before}"
    if seen.asked_left:
        yield f"exit {seen.code}, but {seen.asked} still runs on {seen.asked_left[0]}"
    if "as before" in seen.sentence and seen.before not in seen.sentence:
        yield f"the last lines do not name {seen.before}: {seen.sentence}"


def _status(case: Case, seen: Seen) -> Iterator[str]:
    """Whether `cutover status` agrees with the ending, with the client and with the engine."""
    if seen.status.get("needs_operator"):
        yield from _needed(seen, str(seen.status["needs_operator"]))
        return
    event = (seen.status.get("last") or {}).get("event")
    if seen.code == OPERATOR and not seen.status.get("resolved") and event not in REVERTING:
        yield "exit 11, and `status` neither needs an operator nor says what resolved it"
    if seen.status_code != OK:
        yield f"`status` ends with {seen.status_code}: live {seen.status.get('live')}, {seen.status.get('proxy')}"
    if seen.status.get("open"):
        yield f"`status` says that {seen.status['open']} is open"
    if seen.code == OK and event != ("staged" if case.place == STAGED else "released"):
        yield f"exit 0, and the last event of `status` is {event}"
    if seen.word == "ROLLED BACK" and event not in REVERTING:
        yield f"rolled back, and the last event of `status` is {event}"
    yield from _shown(seen)


def _needed(seen: Seen, needed: str) -> Iterator[str]:
    if seen.status_code != OPERATOR:
        yield f"`status` needs an operator and ends with {seen.status_code}"
    if seen.code not in {None, OPERATOR}:
        yield f"exit {seen.code}, but `status` needs an operator: {needed}"
    if _served(seen.settled) == [seen.before] and not seen.status.get("open"):
        yield f"`status` needs an operator, but users have {seen.before}, as before: {needed}"
    if seen.run and seen.status.get("run") != seen.run:
        yield f"the last lines name {seen.run!r}, `status` names {seen.status.get('run')!r}"


def _shown(seen: Seen) -> Iterator[str]:
    live, shown, after = seen.status.get("live"), seen.status.get("colors") or {}, _served(seen.settled)
    there = shown.get(live) or {}
    if after != [there.get("tag")]:
        yield f"`status` says that {there.get('tag')} is live, users get {' and '.join(after)}"
    colors = {each.color for each in seen.settled if each.color}
    if colors and colors != {live}:
        yield f"`status` says that {live} is live, {' and '.join(sorted(colors))} answers users"
    for color, each in shown.items():
        tags = list(seen.running.get(color, ()))
        if ([each.get("tag")] if each.get("runs") else []) != tags:
            yield f"`status` says that {color} {each.get('state')} {each.get('tag')}, the engine runs {tags}"
    if after == [seen.before] and seen.verified_before and not there.get("verified"):
        yield f"{seen.before} was verified before and serves again, `status` says that it is not verified"


def _way_out(seen: Seen) -> Iterator[str]:
    out = seen.way_out
    if not out:
        return
    if out["code"]:
        yield f"`{out['run']}` ended with {out['code']}: {out['said']}"
    if out["status_code"]:
        yield f"after `{out['run']}` `status` ends with {out['status_code']}"
    if out["served"] not in ([seen.before], [seen.asked]):
        yield f"after `{out['run']}` users get {' and '.join(out['served'])}"
