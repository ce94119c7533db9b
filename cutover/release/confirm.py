"""Confirm a held release: commit it, write down what a commit writes, retire the old color, send the event."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from cutover.core.config import Settings
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable, Failed, Inconclusive
from cutover.core.evidence import Evidence, Step
from cutover.core.result import OK
from cutover.core.target import ReleaseRequest
from cutover.core.verdict import Outcome, Verdict, no, unknown, yes
from cutover.proxy.base import Live
from cutover.release.colors import (
    BeforeRelease,
    ask_live,
    inspect_colors,
    label_of,
    main_container,
    situation_of,
)
from cutover.release.history import COMMITTED, END_EVENTS, Hold, Moment
from cutover.release.notify import send_event
from cutover.release.prune import prune_releases
from cutover.release.rollback import finish_record, revert_open_release, write_down
from cutover.release.state import State, lock_owner, who
from cutover.release.switch import retire_old
from cutover.release.transaction import Reporter
from cutover.system.container import Container


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a confirmation did."""

    sentence: str
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
    """What was not done after the commit."""


def confirm(settings: Settings, state: State, wanted: str | None, *, check: bool = False) -> Confirmation:
    """Commit the held release, named *wanted* if that is given; one that is committed already stays so.

    With *check* it is only asked whether it can be committed now. Raises Failed if it was or is now reverted or does
    not run any more, ConfigError for an unknown release, Locked while a session runs, and EngineUnavailable if what
    runs cannot be asked.
    """
    with state.locked(lock_owner("a confirmation")):
        finish_record(settings, state)  # of a confirmation that died right after its commit
        held = state.held()
        if held is None or wanted not in {None, held.release}:
            return _ended_before(state, wanted, held)
        if held.left_s(Moment.now()) <= 0:
            if check:
                raise Failed(f"{held.release} was not confirmed in time: its guard reverts it now")
            _too_late(settings, state, held)
        found = main_container(settings, str(held.left.facts["color"]))
        # The compose and env files of today may be broken by now, and say nothing of who serves.
        serving = judge_serving(held, ask_live(settings)[1], found, tasks=settings.platform.kind == "swarm")
        if not serving.ok:
            kind = Failed if serving.outcome is Outcome.NO else Inconclusive
            raise kind(f"{serving.reason}; it is not confirmed: `cutover rollback` reverts it now")
        if check:
            facts = {"confirmed": None, "release": held.release, "left_s": held.left_s(Moment.now())}
            return Confirmation(f"{serving.reason}: {held.release} can be confirmed", facts)
        if not state.close(held.release, held.left):
            return _ended_before(state, held.release, None)
        return _after_commit(settings, state, held)


def _too_late(settings: Settings, state: State, held: Hold) -> NoReturn:
    """Revert the release whose time is over, unless its guard has; raises Failed, or OperatorNeeded."""
    said = revert_open_release(settings, state, held.release, "the time of the hold is over")
    raise Failed(f"{held.release} was not confirmed in time and is reverted now: {said}")


def judge_serving(held: Hold, live: Live, found: Container | None, *, tasks: bool = False) -> Verdict:
    """Yes if traffic goes to the color of the held release, and the container that was verified runs there, healthy.

    *tasks*: a Swarm replaces the container of a task, by one of the same release.
    """
    facts, record = held.left.facts, held.left.record
    what = f"{facts['tag']} on {facts['color']}"
    if found is None or not found.running:
        return no("held", f"{what} does not run any more ({found.status if found else 'nothing runs there'})")
    same = label_of(found) == facts["tag"]
    if record is not None:
        same = record.container == found.id or (tasks and record.matches(found))
    if not same:
        runs = f"{facts['color']} runs {label_of(found)} in a container that was not verified"
        return no("held", f"{runs}, not {what}")
    if held.left.live is not None and live.color is None:
        return unknown("held", f"whether traffic goes to {what} is unknown: {live.how}")
    if held.left.live is not None and live.color != facts["color"]:
        return no("held", f"traffic goes to {live.color}, not to {what} ({live.how})")
    if not found.well:
        return no("held", f"{what} is {found.health_status}")
    return yes("held", f"{what} serves")


def _ended_before(state: State, wanted: str | None, held: Hold | None) -> Confirmation:
    """What became of *wanted*, or of the last held release, which is not held now."""
    rows = state.history()
    holds = [str(row["release"]) for row in rows if row.get("event") == "held"]
    release = wanted or next(reversed(holds), None)
    ends = [row for row in rows if row.get("release") == release and row.get("event") in END_EVENTS]
    if release is not None and ends:
        last = ends[-1]
        said = f"{last['event']} at {last['at']} by {last.get('who', 'somebody')}"
        if last["event"] in COMMITTED:
            facts = {"confirmed": release, "already": True, "at": last["at"]}
            return Confirmation(f"{release} is confirmed already: it was {said}", facts)
        raise Failed(f"{release} cannot be confirmed: it was {said}")
    left = state.unrecorded()
    if left is not None and left.release == release:
        facts = {"confirmed": release, "already": True, "at": None}
        return Confirmation(f"{release} is confirmed already; `cutover recover` completes its record", facts)
    if not wanted:
        raise ConfigError("nothing is held: nothing to confirm")
    other = f"held is {held.release}" if held else "nothing is held"
    raise ConfigError(f"no release {wanted} was held here; {other}")


def _after_commit(settings: Settings, state: State, held: Hold) -> Confirmation:
    """Do what follows a commit; whatever of it fails is a note, for the release stays."""
    notes: list[str] = []
    color, tag = str(held.left.facts["color"]), held.left.facts["tag"]

    def note(step: Step) -> None:
        if step.outcome != "yes":
            notes.append(f"{step.name}: {step.text}")

    report = Reporter(Evidence(), note)
    try:
        write_down(settings, state, held.left)
    except (CutoverError, OSError, ValueError, KeyboardInterrupt) as error:
        left = state.leave(held.left)
        later = "`cutover recover` completes it" if left else "make room and release it again"
        notes.append(f"record: not written: {str(error) or 'interrupted'}; {later}")
    sentence = f"{settings.project} {tag} on {color} is confirmed; nothing is open"
    try:
        with contextlib.suppress(EngineUnavailable):
            prune_releases(settings, state)
        request = ReleaseRequest((color,), switch=held.old is not None)
        situation = situation_of(inspect_colors(settings), request)
        if held.old is not None:
            retire_old(replace(situation, before=BeforeRelease(held.old, None)), report)
        send_event(situation, report, "released", sentence, OK)
    except (CutoverError, OSError, ValueError, KeyboardInterrupt) as error:
        why = str(error) or "interrupted"
        notes.append(f"what follows a commit (old color, [hooks]): not done: {why}; see `cutover status`")
    facts = {"confirmed": held.release, "already": False, "color": color, "tag": tag, "who": who()}
    return Confirmation(sentence, facts | {"notes": notes}, tuple(notes))
