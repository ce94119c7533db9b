"""How a session ended, as one immutable value that the terminal, the report and the ticket are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from cutover.report.words import count, duration, joined


class Word(StrEnum):
    """The one word of the last line."""

    RELEASED = "RELEASED"
    TAKEN_BACK = "TAKEN BACK"
    UNDO_FAILED = "UNDO FAILED"
    GATE_PASSED = "GATE PASSED"
    GATE_FAILED = "GATE FAILED"
    INCONCLUSIVE = "INCONCLUSIVE"
    LEFT_AS_IT_IS = "LEFT AS IT IS"
    NOTHING_CHANGED = "NOTHING CHANGED"
    PLAN_ONLY = "PLAN ONLY"


NOTHING = "nothing runs"
"""The state of a colour on which no container is."""
UNASKED = "could not be asked"
"""The state of a colour of which the engine said nothing."""
GOOD = frozenset({Word.RELEASED, Word.GATE_PASSED})
BAD = frozenset({Word.TAKEN_BACK, Word.GATE_FAILED, Word.LEFT_AS_IT_IS})


@dataclass(frozen=True, slots=True)
class Running:
    """What one colour runs, as asked from outside after everything else was done."""

    colour: str
    tag: str
    state: str = "runs"
    """In a person's words: `runs`, `warm`, `stopped`, `fails 1 of 14 checks`, `could not be asked`."""
    live: bool = False
    """Whether the proxy sends traffic to it; without a proxy, whether it is the only one."""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """One reason of a bad end: the test that said so, and its verdict in one line."""

    test: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """All that the last lines say; each sentence comes from what was asked, none from what was hoped."""

    word: Word
    project: str
    exit_code: int
    running: tuple[Running, ...] = ()
    asked_s_ago: float | None = None
    """How long ago `running` was asked for."""
    as_before: bool = True
    """Whether `running` is what ran before this session; said of a take-back only."""
    sentence: str = ""
    """Said in place of the sentence that would be made from the fields below."""
    why: tuple[Why, ...] = ()
    tried: tuple[str, ...] = ()
    """The steps of a take-back that failed, with the words and their answer."""
    run: str = ""
    """The one command that a person is to run."""
    run_where: str = ""
    """`on web-1, as deploy; safe to run again`."""
    see: str = ""
    """The path of the report."""
    saved: str = ""
    """`green was stopped after its last 5,000 log lines were saved`."""
    next: tuple[str, ...] = ()
    proven: int = 0
    """How many checks passed."""
    open: bool = False
    """Whether a release is still open."""
    roll_back_s: float | None = None
    failed_requests: int | None = None
    failed_s: float | None = None
    schema: str = ""
    """Where the schema stays, if it was changed: `b771, on which sha-4f1c2aa passes 14 checks`."""

    @property
    def live(self) -> Running | None:
        """Whom users reach now; None if nobody could be asked."""
        return next((each for each in self.running if each.live), None)

    def as_json(self) -> dict[str, Any]:
        """A dictionary of JSON values, the form in which `cutover report` reads it back."""
        return asdict(self) | {"word": str(self.word)}


def from_json(row: Mapping[str, Any]) -> Ending:
    """The ending that `as_json` wrote; keys of a later version are left out."""
    known = {each.name for each in fields(Ending)}
    values = {key: value for key, value in row.items() if key in known}
    values["word"] = Word(values["word"])
    values["running"] = tuple(Running(**each) for each in values.get("running", ()))
    values["why"] = tuple(Why(**each) for each in values.get("why", ()))
    for key in ("tried", "next"):
        values[key] = tuple(values.get(key, ()))
    return Ending(**values)


def sentence(ending: Ending) -> str:
    """What a tired reader must know, in one breath: what runs now, and what users noticed."""
    return ending.sentence or " ".join(_sentences(ending))


def _sentences(ending: Ending) -> Iterable[str]:
    match ending.word:
        case Word.PLAN_ONLY:
            yield "nothing was checked, nothing was changed."
        case Word.UNDO_FAILED:
            yield f"a person is needed. Right now: {right_now(ending)}."
        case Word.RELEASED:
            yield f"{_kept(ending)}."
            yield f"Proven by {count(ending.proven, 'check')}; {_open(ending)}."
            if ending.roll_back_s is not None:
                yield f"Time to roll back: {duration(ending.roll_back_s)}."
        case Word.GATE_PASSED:
            yield f"{_kept(ending)}. Proven by {count(ending.proven, 'check')}; nothing was changed."
        case Word.GATE_FAILED | Word.NOTHING_CHANGED:
            yield f"{_runs(ending)}; nothing was changed."
        case Word.LEFT_AS_IT_IS:
            yield f"{_runs(ending)}, not proven; nothing was taken back, as asked for."
        case _:
            known = (ending.running or ending.asked_s_ago is not None) and not _is_mute(ending)
            yield f"{_runs(ending)}{', as before' if ending.as_before and known else ''}."
    yield from _cost(ending)


def _cost(ending: Ending) -> Iterable[str]:
    if ending.failed_requests:
        during = f" in {duration(ending.failed_s)}" if ending.failed_s is not None else ""
        yield f"Users saw {count(ending.failed_requests, 'failed request')}{during}."
    elif ending.failed_requests == 0 and ending.word is Word.TAKEN_BACK:
        yield "No request of a user was seen to fail."
    if ending.schema:
        yield f"The schema stays at {ending.schema}."


def _open(ending: Ending) -> str:
    return "a release is still open" if ending.open else "nothing is open"


def _kept(ending: Ending) -> str:
    """What is sure of a good end: what runs, or that it was proven before the engine fell silent."""
    return f"what was proven is kept, but {_runs(ending)} again" if _is_mute(ending) else _runs(ending)


def _is_mute(ending: Ending) -> bool:
    """Whether the engine did not say what runs."""
    shown = _shown(ending)
    return shown is not None and not shown.tag and shown.state == UNASKED


def _shown(ending: Ending) -> Running | None:
    return ending.live or next(iter(ending.running), None)


def _runs(ending: Ending) -> str:
    shown = _shown(ending)
    if shown is None:
        asked = ending.asked_s_ago is not None
        return (
            f"nothing of {ending.project} runs" if asked else f"what {ending.project} runs could not be asked"
        )
    where = f" on {shown.colour}" if shown.colour else ""
    if not shown.tag:
        empty = shown.state == NOTHING
        return (
            f"nothing of {ending.project} runs{where}"
            if empty
            else f"what {ending.project} runs{where} {shown.state}"
        )
    what = f"{ending.project} runs {shown.tag}{where}"
    return what if shown.state in {"", "runs", "healthy"} else f"{what} ({shown.state})"


def right_now(ending: Ending) -> str:
    """`the proxy sends traffic to green (asked 2 s ago), green fails 1 of 14 checks, blue is stopped`."""
    live = ending.live
    ago = "" if ending.asked_s_ago is None else f" (asked {duration(ending.asked_s_ago)} ago)"
    head = f"traffic goes to {live.colour}{ago}" if live else f"who gets the traffic could not be asked{ago}"
    return joined([head, *(_state(each) for each in ending.running)])


def _state(running: Running) -> str:
    if running.state == NOTHING:
        return f"{NOTHING} on {running.colour}"
    verb = "" if running.state.startswith(("fails", "runs", "could", "answers")) else "is "
    return f"{running.colour} {verb}{running.state or 'unknown'}{f' ({running.tag})' if running.tag else ''}"
