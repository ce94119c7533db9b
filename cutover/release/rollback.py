"""Rollback: history of live releases, the newest verified one before the current, and how to get back to it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from cutover.core.config import Settings
from cutover.core.errors import (
    ConfigError,
    CutoverError,
    EngineUnavailable,
    Failed,
    Inconclusive,
    Interrupted,
    Locked,
    OperatorNeeded,
)
from cutover.core.evidence import Evidence
from cutover.core.result import FAILED, INCONCLUSIVE, INTERRUPTED, LOCKED, OK
from cutover.core.target import ReleaseRequest
from cutover.core.text import now
from cutover.core.verdict import not_asked
from cutover.env.envfile import set_env_value
from cutover.proxy.base import Live, other
from cutover.release.changes import PreviousRelease, images_of_file, up_change
from cutover.release.colors import (
    BeforeRelease,
    Colors,
    Situation,
    ask_live,
    can_tag,
    inspect_colors,
    label_of,
    main_container,
    replicas_of,
    situation_of,
    tag_of,
)
from cutover.release.gate_run import checklists, pytest_child, run_gate
from cutover.release.history import (
    ADOPTED,
    COMMITTED,
    END_EVENTS,
    Record,
    Unrecorded,
    read_records,
    write_records,
)
from cutover.release.plan import ReleasePlan
from cutover.release.preflight import check_switch, require_agreed
from cutover.release.running import previous_of
from cutover.release.state import State, did_revert, lock_owner, who
from cutover.release.switch import require_proxy, switch, switch_all
from cutover.release.transaction import ActiveRelease, Reporter, Transaction
from cutover.release.verify import (
    ASK_AGAIN,
    before_of,
    judge_old_release,
    require_live,
    require_reverted,
    settled_gate,
    wait_live,
    what_runs,
)
from cutover.release.workers import WorkerFiles, last_file, move_workers
from cutover.system import compose, docker, process
from cutover.system.compose import Rendered
from cutover.system.container import GRACE_S, Container
from cutover.system.http import fetch
from cutover.system.platform import project_of
from cutover.system.process import CompletedCommand
from cutover.system.registry import ensure_image

LIVE_HISTORY = "live-history.json"
"""The releases that users had, oldest first; after a rollback also the one that it left."""
START_BUDGET_S = 60.0
ANSWER_S = 2.0
UNDEPLOYED: Mapping[int, type[CutoverError]] = {
    FAILED: Failed, INCONCLUSIVE: Inconclusive, INTERRUPTED: Interrupted,
}  # fmt: skip
"""The exit codes of a session that may have deployed a tag without a passed gate."""


class AlreadyRolledBack(ConfigError):
    """The release before is live again already, so a second rollback changes nothing."""


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """How to get back to *to*: flip to it, start it and flip, restore its file in place, or deploy its tag there."""

    how: Literal["flip", "start", "restore", "deploy"]
    to: Record
    color: str
    """Where it runs then: its tag is deployed to the live color, whichever it ran on."""

    @property
    def text(self) -> str:
        """What it does, in words that follow `cutover rollback`."""
        match self.how:
            case "flip":
                return "flips to it"
            case "start":
                return "starts it and flips"
            case "restore":
                return f"puts {self.to.tag} back as it ran before its first release"
            case "deploy":
                return f"deploys {self.to.tag} in place on {self.color}"


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """What a rollback did."""

    sentence: str = ""
    """Empty if a pytest session has printed it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same for --json."""
    code: int = OK
    trouble: OperatorNeeded | None = None
    """Why an operator is needed although traffic has gone back."""


# --- the history of live releases: pure ----------------------------------------------------------------------------
def same_release(row: Record, running: Record) -> bool:
    """Whether *running* is the release of *row*; the container may be another one, because a revert recreates it."""
    if row.color != running.color:
        return False
    if _is_expected(row):
        return row.tag == running.tag
    hashes = {row.config_hash, running.config_hash}  # of what was found running none is known
    return row.image == running.image and (len(hashes) == 1 or "" in hashes)


def _is_expected(row: Record) -> bool:
    return not row.image  # the row only says that a rollback deploys this tag


def on_top(rows: Sequence[Record], running: Record) -> list[Record]:
    """*rows* with what users have now as the newest."""
    return [*rows] if rows and same_release(rows[-1], running) else [*rows, running]


def after_release(rows: Sequence[Record], old: Record | None, new: Record) -> list[Record]:
    """*rows* after *new* replaced *old*; what a rollback deployed stays below the release that it left."""
    if any(_is_expected(row) and same_release(row, new) for row in rows):
        return [new if _is_expected(row) else row for row in rows]
    return on_top(without_expected(rows) if old is None else on_top(without_expected(rows), old), new)


def without_expected(rows: Sequence[Record]) -> list[Record]:
    """*rows* without the releases that a rollback was about to deploy."""
    return [row for row in rows if not _is_expected(row)]


def before_deploy(rows: Sequence[Record], running: Record, tag: str) -> list[Record]:
    """*rows* before a rollback deploys *tag* to the color of *running*; a second rollback finds the first by them."""
    *below, top = on_top(without_expected(rows), running)
    expected = replace(top, tag=tag, image="", config_hash="", container="", file="", verified=False)
    return [*below, expected, top]


def release_before(rows: Sequence[Record], running: Record, *, to_deploy: bool = False) -> Record:
    """The release that users had before *running*: the newest verified one, else the newest; raises ConfigError.

    With *to_deploy* it will be deployed by its tag, so that only a verified one with another tag will do.
    """
    at = next((n for n in reversed(range(len(rows))) if same_release(rows[n], running)), len(rows))
    if at < len(rows) - 1:
        was = f"{running.tag} runs on {running.color} again, {rows[-1].tag} was live after it"
        more = "nothing was changed; name another release with --to-tag"
        raise AlreadyRolledBack(f"already rolled back: {was}; {more}")
    below = without_expected(rows[:at])
    good = [row for row in below if row.verified and (row.tag != running.tag or not to_deploy)]
    if not good and (to_deploy or not below):
        what = "is recorded as verified and live" if below else "is recorded as live"
        raise ConfigError(f"no other release than {running.tag} {what} before, so say which one: --to-tag")
    return (good or below)[-1]


def last_left_live(history: Sequence[Mapping[str, Any]], rows: Sequence[Record]) -> str:
    """The color that a release or a rollback of ours left live last; empty if there was none."""
    ends = (row for row in reversed(history) if row.get("event") in {"released", "rolled back"})
    last: Mapping[str, Any] = next(ends, {})
    if last.get("event") == "rolled back" and last.get("color"):
        return str(last["color"])
    return rows[-1].color if rows else ""


# --- its file ------------------------------------------------------------------------------------------------------
def live_history(state: State) -> list[Record]:
    """The releases that users had, the newest last; raises ConfigError for a damaged file."""
    return read_records(state.root / LIVE_HISTORY)


def write_live_history(state: State, rows: Sequence[Record]) -> None:
    """Replace the history by the newest 20 of *rows*."""
    write_records(state.root / LIVE_HISTORY, rows)


def note_live(
    settings: Settings, state: State, live: str, change: Callable[[Sequence[Record], Record], list[Record]]
) -> None:
    """Replace the history by *change* of it and of what runs on *live*; a full disk does not stop a rollback."""
    there = running_record(settings, state, live)
    if there is not None:
        with contextlib.suppress(OSError):
            write_live_history(state, change(live_history(state), there))


def keep_live(
    settings: Settings, record: Record | None, *, to: str, before: str | None, file: str, warm: bool
) -> None:
    """Write down after a commit that *to* is live in place of *before*.

    *record* is of what was deployed to it; without one the engine is asked what runs there. *file* is the name of
    the release file that would have restored what *before* ran; *warm*: it still runs there. Raises CutoverError or
    OSError.
    """
    state = State(settings.state)
    new = record or running_record(settings, state, to)
    if new is not None:
        old = None
        if before and file:
            old = _best([row for row in state.records(before) if row.file == file])
            old = old or (running_record(settings, state, before) if warm else None)
        write_live_history(state, after_release(live_history(state), old, new))


def finish_record(settings: Settings, state: State) -> str:
    """Write down what a session that died right after its commit has not; what was done, empty for nothing.

    The caller holds the session lock.
    """
    left = state.unrecorded()
    if left is None:
        return ""
    what = f"the session of release {left.release} ended before its record was complete"
    try:
        write_down(settings, state, left)
    except (CutoverError, OSError, ValueError) as error:
        return f"{what}, and it could not be completed now: {error}"
    return f"{what}; it is complete now"


def write_down(settings: Settings, state: State, left: Unrecorded) -> None:
    """Write down what a commit has left: record, tag in the env file, what is live, journal; may be run again.

    Raises CutoverError or OSError. The caller holds the session lock.
    """
    ends = {row.get("release") for row in state.history() if row.get("event") in END_EVENTS}
    if left.release not in ends:
        state.journal(left.event, release=left.release, **left.facts)
    if left.record is not None:
        state.keep_record(left.record)
        env_file = settings.colors[left.record.color].env_file
        set_env_value(env_file, settings.env_keys.tag, left.record.tag)
    if left.live is not None:
        keep_live(settings, left.record, **left.live)
    state.all_recorded()


def keep_adopted(settings: Settings, state: State, color: str, previous: PreviousRelease) -> None:
    """Record what ran on *color* before its first release, so that a rollback finds it."""
    name = previous.file.name
    if not name.startswith(ADOPTED) or any(row.file == name for row in state.records(color)):
        return
    reference = _image_name(previous.file, settings.service)
    image = previous.images.get(reference) or reference
    tag, container = tag_of(reference) or image[7:19], previous.containers[settings.service]
    state.keep_record(Record(color, tag, image, "", container, name, verified=False, by=who(), at=now()))


def _image_name(file: Path, service: str) -> str:
    found = images_of_file(file).get(service)
    if found is None:
        raise ConfigError(f"{file}: it names no image of {service}, so that nothing can be restored from it")
    return found


def running_record(settings: Settings, state: State, color: str) -> Record | None:
    """The record of what runs on *color*, preferably a verified one; a new record for an unrecorded container."""
    found = main_container(settings, color)
    if found is None:
        return None
    recorded = _best([row for row in state.records(color) if row.matches(found)])
    identity = found.image, found.config_hash
    unrecorded = Record(color, label_of(found), *identity, found.id, "", verified=False, by=who(), at=now())
    return recorded or unrecorded


def _best(rows: list[Record]) -> Record | None:
    # The newest verified one, else the newest.
    return next(reversed([row for row in rows if row.verified] or rows), None)


# --- planning ------------------------------------------------------------------------------------------------------
def plan_rollback(state: State, colors: Colors) -> RollbackPlan:
    """Where a rollback leads from what is live now, and how; changes nothing. Raises ConfigError."""
    settings, live = colors.settings, colors.live.color
    if live is None:
        fronts = "; go on without a node that is away: take it out of [platform.fronts]"
        way_out = fronts if settings.platform.fronts else ""
        what = "the live color is unknown, so it cannot be rolled back"
        raise ConfigError(f"{what}: {colors.live.how}{way_out}")
    rows = live_history(state)
    here = running_record(settings, state, live)
    if here is None:
        nothing = Record(live, "nothing", "none", "", "", "", verified=False, by="", at="")
        here = next((row for row in rows[-1:] if row.color == live), nothing)
    to = release_before(rows, here)
    # A port swap has a gap either way, and what it stopped was started for the users' port.
    if colors.proxy is not None and colors.proxy.keeps_old_color and to.color == other(live):
        found = main_container(settings, to.color)
        # One that is paused cannot be started: the engine refuses it.
        if found is not None and (found.running or found.status == "paused"):
            if found.well and to.matches(found):
                return RollbackPlan("flip", to, to.color)
        elif (to.verified or to.adopted) and _can_start(settings, state, to):
            return RollbackPlan("start", to, to.color)
    # Today's compose file may not make it from its tag.
    if to.adopted and not to.verified and to.color == live and _can_start(settings, state, to):
        return RollbackPlan("restore", to, live)
    return RollbackPlan("deploy", release_before(rows, here, to_deploy=True), live)


def warm_release(state: State, colors: Colors) -> Record | None:
    """What users had before, if by the records it is on the other color, and that one answers; needs no engine."""
    live, proxy, rows = colors.live.color, colors.proxy, live_history(state)
    here = next((row for row in reversed(rows) if row.color == live), None)
    if proxy is None or live is None or here is None or not proxy.keeps_old_color:
        return None
    to = release_before(rows, here)
    if to.color != other(live) or to.color not in colors.rendered or not to.verified:
        return None
    # A release that was deployed there since then is not what users had.
    newest = state.records(to.color)[-1:]
    answer = fetch(colors.url(to.color), proxy.client.path, deadline_s=ANSWER_S)
    warm = 0 < answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return to if warm and newest and newest[0].identity == to.identity else None


def _can_start(settings: Settings, state: State, to: Record) -> bool:
    """Whether the release file and its image are here; `require_image` gives the image its name again."""
    path = state.release_path(to.color, to.file)
    if not path.is_file() or docker.image_id(to.image) is None:
        return False
    name = _image_name(path, settings.service)
    return can_tag(name) or docker.image_id(name) == to.image


def require_image(settings: Settings, state: State, to: Record, live: str) -> None:
    """Give the image of *to* its name again, or pull it; raises ConfigError if it was pruned and cannot be pulled."""
    path = state.release_path(to.color, to.file)
    recorded = bool(to.file) and path.is_file()
    if recorded:
        name = _image_name(path, settings.service)
    else:
        name = compose.render(settings, live, to.tag).image(settings.service)
    if to.image and can_tag(name) and docker.image_id(to.image) and docker.image_id(name) != to.image:
        done = process.run(("docker", "tag", to.image, name), deadline_s=30)
        if not done.ok:
            raise ConfigError(f"{name} cannot be named again for the rollback: {done.last_line}")
    if docker.image_id(name) is None:
        try:
            ensure_image(name)
        except ConfigError as error:
            what = f"the previous release {to.tag} was pruned from this host"
            raise ConfigError(f"{what}, and {error}; name another release with --to-tag") from error


def live_before_operator(situation: Situation) -> Record | None:
    """What users had before an operator sent the traffic to the target; None if it does not run, well and verified.

    It is what our own release or rollback left live last: neither a release that was only staged on the other color,
    nor one older than what the live color had.
    """
    settings, state, live = situation.settings, situation.state, situation.before.live
    proxy = situation.colors.proxy
    if proxy is None or live is None or live != situation.target.color or not proxy.keeps_old_color:
        return None
    with contextlib.suppress(CutoverError):
        there = running_record(settings, state, other(live)) if proxy.agreed().ok else None
        if there is None or not there.verified:
            return None
        found = main_container(settings, there.color)
        ours = last_left_live(state.history(), live_history(state)) == there.color
        return there if ours and found is not None and found.well else None
    return None


# --- rolling back --------------------------------------------------------------------------------------------------
def wait_until_free(
    state: State,
    patience_s: float,
    act: Callable[[], RollbackResult],
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> RollbackResult:
    """*act*, repeated as long as it raises Locked, at most *patience_s*; *say* gets one line when the wait begins.

    A session that holds the lock with nothing open is waited for: what it opens is reverted.
    """
    began, told = clock(), False
    while True:
        try:
            return act()
        except Locked:
            if clock() - began > patience_s:
                raise
            if not told:
                line = state.lock_line().removesuffix("; nothing was changed")
                say(f"waiting: {line}, with nothing open yet; what it opens is reverted")
                told = True


def roll_back(settings: Settings, state: State, only: str | None = None) -> RollbackResult:
    """Revert the open release, else go back to what users had before; raises Locked while another process releases.

    With *only* that release is reverted if it is open, and nothing else is done.
    """
    left = state.open_release()
    if left is not None and only in {None, left}:
        return _revert_by_command(settings, state, left)
    if only is not None:
        return _closed_before(settings, state, only)
    with state.locked(lock_owner("a rollback")):
        left = state.open_release()
        if left is not None:  # opened in between, by a session that died: the lock is ours
            return _revert_by_command(settings, state, left)
        finish_record(settings, state)
        colors = _colors_now_or_recorded(settings, state)
        try:
            if not docker.answers() and (to := warm_release(state, colors)) is not None:
                return _flip_without_engine(state, colors, to)
            plan = plan_rollback(state, colors)
        except AlreadyRolledBack as done:
            return RollbackResult(str(done), {"live": colors.live.color, "already": str(done)})
        if plan.how != "flip":
            require_image(settings, state, plan.to, colors.live.color or plan.to.color)
        if plan.how == "restore":
            return _restore(situation_of(colors, ReleaseRequest((plan.to.color,))), plan.to)
        if plan.how != "deploy":
            return _flip(situation_of(colors, ReleaseRequest(("idle",), switch=True)), plan)
        _expect_deploy(settings, state, colors.live.color, plan.to.tag)
    result = _deploy_tag(settings, state, plan.to.tag)
    if result.code == LOCKED:
        raise Locked(state.lock_line())
    return result


def _colors_now_or_recorded(settings: Settings, state: State) -> Colors:
    """Both colors as today's files say; if these are broken, as the release files say that were deployed last.

    Going back to what runs already needs no compose file of today. Raises ConfigError unless each color has one.
    """
    try:
        return inspect_colors(settings)
    except ConfigError:
        newest = {color: _newest_file(settings, state, color) for color in settings.colors}
        recorded = {color: found for color, found in newest.items() if found}
        if len(recorded) < len(settings.colors):
            raise
        return inspect_colors(settings, recorded)


def _newest_file(settings: Settings, state: State, color: str) -> Rendered | None:
    for row in reversed(state.records(color)):
        path = state.release_path(color, row.file)
        if images_of_file(path):  # else it is gone or damaged
            text = path.read_text(encoding="utf-8", errors="replace")
            return Rendered(color, settings.compose_project(color), text, json.loads(text), {})
    return None


def roll_back_to(settings: Settings, state: State, tag: str) -> RollbackResult:
    """Deploy *tag* to the live color, gate it and report it; it is never reverted."""
    with state.locked(lock_owner("a rollback")):
        if state.open_release() is None:  # the next session reverts an open release of a dead one first
            finish_record(settings, state)
            _expect_deploy(settings, state, inspect_colors(settings).live.color, tag)
    return _deploy_tag(settings, state, tag)


def _closed_before(settings: Settings, state: State, release: str) -> RollbackResult:
    """What became of *release*, which is not open any more; raises Failed if it was kept, ConfigError if unknown."""
    if _is_committed(state, release):
        again = "`cutover rollback` without its name goes back to what users had before"
        raise Failed(f"release {release} was kept, and nothing was changed: {again}")
    rows = [row for row in state.history() if row.get("release") == release]
    ends = [row for row in rows if row.get("event") in END_EVENTS]
    if not ends and not (state.root / f"closed.{release}").exists():
        raise ConfigError(f"no release {release} is open here; nothing was changed")
    was = f"was {ends[-1]['event']} by {ends[-1].get('who')} before" if ends else "is not open any more"
    said = say_what_runs(settings)
    sentence = f"release {release} {was}; nothing was changed: {said}"
    return RollbackResult(sentence, {"reverted": None, "already": release, "serves": said})


def _revert_by_command(settings: Settings, state: State, release: str) -> RollbackResult:
    said = revert_open_release(settings, state, release, "cutover rollback")
    return RollbackResult(f"release {release} was reverted: {said}", {"reverted": release, "serves": said})


def revert_open_release(settings: Settings, state: State, release: str, why: str) -> str:
    """Revert the open release and return what serves then; raises OperatorNeeded or Failed.

    If its session is still running, its next step returns 75 (`REVERTED_ELSEWHERE`) and it exits 1.
    """
    # Journaled before, because that session may look up who reverted it in the very moment in which it is done.
    state.journal("reverting", release=release, who=who(), why=why)
    done = state.revert(release)
    if not done.ok:
        what = f"release {release} could not be reverted: {done.last_line}"
        raise OperatorNeeded(f"{what}; {_who_serves(settings)}; run: {state.revert_command}")
    if did_revert(done, release):
        state.journal("reverted", release=release, who=who(), why=why)
    elif _is_committed(state, release):
        again = "`cutover rollback` goes back to what users had before"
        raise Failed(f"release {release} was kept in that moment, and nothing was reverted: {again}")
    return require_reverted(settings, state, release)


def _is_committed(state: State, release: str) -> bool:
    """Whether a release that is not open any more was kept; else its session or its guard has reverted it."""
    left = state.unrecorded()
    kept = COMMITTED | {"kept unverified"}
    events = {row.get("event") for row in state.history() if row.get("release") == release}
    return bool(events & kept) or (left is not None and left.release == release)


def _who_serves(settings: Settings) -> str:
    try:
        _, live = ask_live(settings)
    except CutoverError as error:
        return f"what serves now could not be asked: {error}"
    return f"{live.color} serves now: {live.how}" if live.color else f"what serves now is unknown: {live.how}"


def _flip(situation: Situation, plan: RollbackPlan) -> RollbackResult:
    """Switch to the color that users had before, which is started if need be, and verify it through the proxy."""
    settings, state, colors, to = situation.settings, situation.state, situation.colors, plan.to
    proxy, live, tx = require_proxy(colors), situation.before.live, Transaction.of(situation)
    require_agreed(proxy)
    old: PreviousRelease | None = None
    if live is not None:
        # The rollback goes on even if the release that it leaves could not be started again.
        with contextlib.suppress(ConfigError):
            old = previous_of(colors, live)
        note_live(settings, state, live, on_top)
    with _reverted_if_it_fails(tx, settings):
        if plan.how == "start":
            _start_stopped(tx, settings, to)
        begun = time.monotonic()
        switch_all(tx, colors, to.color, old)
        require_live(settings, proxy, to.color)
        seconds = time.monotonic() - begun
        old_file = old.file if old else last_file(state, other(to.color))
        files = WorkerFiles(state.release_path(to.color, to.file), old_file)
        move_workers(tx, settings, to.color, files, Reporter(Evidence()))
    _commit_flip(tx, to)
    return _verify_flip(settings, state, to, seconds)


def require_gate_of_old(settings: Settings, state: State, trouble: Mapping[str, Any]) -> None:
    """Raise OperatorNeeded if the live release fails what users notice and did not fail it before *trouble*."""
    failed = before_of(state, str(trouble.get("release"))).get("failed") or {}
    gate = run_gate(settings, checklists("smoke"))
    why, _ = judge_old_release(gate.evidence.get("failed") or {}, failed, verified=True)
    if why:
        way_out = f"{ASK_AGAIN} --give-up (keeps what runs), or release a good version"
        raise OperatorNeeded(f"{why}; run: {way_out}")


def keep_as_it_is(settings: Settings, state: State) -> str:
    """Keep what runs: end the guard that retries the revert, close the release, and write down who gave up.

    Returns what runs; the caller holds the lock.
    """
    left = state.open_release()
    if left is not None:
        state.end_guard(left)
        state.close(left)
    state.journal("given up", release=left, who=who())
    ended = f"release {left} is closed and its guard ended; " if left else ""
    return f"{ended}{say_what_runs(settings)}; not verified"


def say_what_runs(settings: Settings) -> str:
    """What each color runs now, in one line; why that is unknown, if it cannot be asked."""
    try:
        running = what_runs(settings, ask_live(settings)[0])
    except CutoverError as error:
        return f"what runs could not be asked: {error}"
    runs = (f"{each.color} {each.tag} {each.state}{', live' if each.live else ''}" for each in running)
    return "; ".join(runs) or "nothing runs"


def _restore(situation: Situation, to: Record) -> RollbackResult:
    """Start the services of *to* from its release file in place of what runs there, and ask the gate."""
    settings, state, tx = situation.settings, situation.state, Transaction.of(situation)
    note_live(settings, state, to.color, on_top)
    here = previous_of(situation.colors, to.color)
    project = project_of(settings, to.color, state.release_path(to.color, to.file))
    ran = docker.by_service(project.project, settings.services)
    tx.note_containers(to.color, ran, replicas_of(settings, to.color, settings.services))
    wait_s, begun = settings.gate.start_timeout or START_BUDGET_S, time.monotonic()
    grace_s = max((each.grace_s for each in ran.values() if each), default=GRACE_S)
    text = f"{to.tag} on {to.color}, as it ran before its first release"
    where = (state.root, project, settings.services)
    change = up_change(*where, text=text, wait_s=wait_s, previous=here, grace_s=grace_s)
    with _reverted_if_it_fails(tx, settings):
        done = tx.apply(change)
        found = main_container(settings, to.color)
        if not done.ok or found is None or not found.running or found.image != to.image:
            raise Failed(f"{to.tag} did not start on {to.color}: {_why_not_there(done, found)}")
    if not tx.commit():
        raise Failed(f"the rollback to {to.tag} was reverted by {tx.reverted_by()}")
    state.journal("rolled back", release=tx.id, color=to.color, tag=to.tag, who=who())
    with contextlib.suppress(CutoverError, OSError):
        # The gate asks for the identity that the record says.
        state.keep_record(replace(to, container=found.id, config_hash=found.config_hash, at=now()))
        set_env_value(settings.colors[to.color].env_file, settings.env_keys.tag, to.tag)
    return _verify_flip(settings, state, to, time.monotonic() - begun, "restored in {:.1f} s")


def _flip_without_engine(state: State, colors: Colors, to: Record) -> RollbackResult:
    """Switch to *to*, whose color answers, while the engine does not: users first, the containers later."""
    settings, proxy, begun = colors.settings, require_proxy(colors), time.monotonic()
    require_agreed(proxy)
    live = colors.live.color
    tx = Transaction(state, settings.release_timeout, "a rollback", BeforeRelease(live, None), to.color)
    with _reverted_if_it_fails(tx, settings):
        switch_all(tx, colors, to.color, None)
        require_live(settings, proxy, to.color)
    seconds = time.monotonic() - begun
    _commit_flip(tx, to)
    why = "the Docker engine does not answer, so its container and the gate were not asked"
    facts = {"live": to.color, "tag": to.tag, "seconds": seconds, "gate": f"not asked: {why}"}
    left = ", ".join(settings.workers)
    trouble = OperatorNeeded(f"{left} still run on {live}: {why}; see `cutover status`") if left else None
    flipped = f"where {to.tag} was (flipped in {1000 * seconds:.0f} ms)"
    said = f"{settings.project} serves {to.color} again, {flipped}; {why}"
    return RollbackResult(said, facts, trouble=trouble)


def _commit_flip(tx: Transaction, to: Record) -> None:
    event, facts = "rolled back", {"color": to.color, "tag": to.tag, "who": who()}
    if not tx.commit(Unrecorded(tx.id, event, facts)):
        raise Failed(f"the flip to {to.color} was reverted by {tx.reverted_by()}")
    tx.state.journal(event, release=tx.id, **facts)
    tx.state.all_recorded()


def _start_stopped(tx: Transaction, settings: Settings, to: Record) -> None:
    project = project_of(settings, to.color, tx.state.release_path(to.color, to.file))
    wait_s, text = settings.gate.start_timeout or START_BUDGET_S, f"{to.tag} on {to.color}, which was stopped"
    change = up_change(tx.state.root, project, settings.services, text=text, wait_s=wait_s, previous=None)
    done = tx.apply(change)
    found = running_record(settings, tx.state, to.color)
    if not done.ok or found is None or not same_release(to, found):
        why = _why_not_there(done, main_container(settings, to.color))
        raise Failed(f"{to.tag} did not start on {to.color}: {why}")


def _why_not_there(done: CompletedCommand, found: Container | None) -> str:
    """Why the release that *done* was to start is not what *found* runs."""
    if not done.ok:
        return done.last_line
    if found is None:
        return "nothing runs there"
    return f"{found.image_name} ({found.image[7:19]}) is there, {found.status}"


@contextlib.contextmanager
def _reverted_if_it_fails(tx: Transaction, settings: Settings) -> Iterator[None]:
    """Revert what the body has changed before its error leaves it, whatever it is."""
    try:
        yield
    except CutoverError as error:
        raise _failed_flip(tx, settings, error) from error
    except KeyboardInterrupt as error:
        raise _failed_flip(tx, settings, Interrupted("interrupted")) from error
    except BaseException as error:
        raise _failed_flip(tx, settings, Failed(repr(error))) from error


def _failed_flip(tx: Transaction, settings: Settings, error: CutoverError) -> CutoverError:
    kinds: tuple[type[CutoverError], ...] = (Interrupted, Inconclusive)
    kind = next((each for each in kinds if isinstance(error, each)), Failed)
    if not tx.changed:
        kind = kind if kind is Interrupted else ConfigError
        return kind(f"{error}; nothing was changed")
    done = tx.revert()
    if done.ok:
        return kind(f"{error}; it was reverted: {require_reverted(settings, tx.state, tx.id)}")
    command = tx.state.revert_command
    return OperatorNeeded(f"{error}; nor could it be reverted: {done.last_line}; run: {command}")


def _verify_flip(
    settings: Settings, state: State, to: Record, seconds: float, how: str = ""
) -> RollbackResult:
    try:
        trouble, notes, gate = settled_gate(settings, checklists("smoke"), {}, verified=True)
    except KeyboardInterrupt:  # users have it, and it stays
        trouble, notes = "", ()
        gate = not_asked("gate", "its gate was interrupted, so whether it passes is unknown")
    found: Container | None = None
    silence: tuple[str, ...] = ()
    try:
        found = main_container(settings, to.color)
    except EngineUnavailable as error:  # users have it, and it stays
        silence = (f"its container was not asked: {error}",)
    if gate.ok and found is not None and to.file:
        mine = replace(to, container=found.id, config_hash=found.config_hash)
        with contextlib.suppress(CutoverError, OSError):  # users have it, whatever can be written down
            state.keep_record(replace(mine, verified=True, at=now()))
    said, noted = (*(notes or (gate.reason,)), *silence), (*notes, *silence)
    facts = {"live": to.color, "tag": to.tag, "seconds": seconds, "gate": gate.reason, "notes": noted}
    took = how.format(seconds) if how else f"flipped in {1000 * seconds:.0f} ms"
    flipped = f"{settings.project} runs {to.tag} on {to.color} again ({took})"
    why = f"{to.color} is live, but {trouble}; run: {ASK_AGAIN}"
    needed = OperatorNeeded(why) if trouble else None
    return RollbackResult(f"{flipped}; {'; '.join(said)}", facts, trouble=needed)


def _expect_deploy(settings: Settings, state: State, live: str | None, tag: str) -> None:
    """Write down that users go back to *tag*; the session that deploys it fills in the rest."""
    if live is not None:
        note_live(settings, state, live, lambda rows, running: before_deploy(rows, running, tag))


def _deploy_tag(settings: Settings, state: State, tag: str) -> RollbackResult:
    """Deploy *tag* by a pytest session, which is not reverted; raises OperatorNeeded if its gate does not pass."""
    options = ("--target=live", f"--deploy={tag}", "--keep-on-failure", "--skip-migrations")
    _, before = _runs_live(settings)
    code = pytest_child(settings, *options)
    trouble = _undeployed(settings, tag, before, code) if code in UNDEPLOYED else None
    if code == OK:
        state.journal("rolled back", tag=tag, who=who())
    if code != LOCKED and not isinstance(trouble, OperatorNeeded):
        with contextlib.suppress(CutoverError, OSError):
            write_live_history(state, without_expected(live_history(state)))
    if trouble is not None:
        raise trouble
    return RollbackResult(code=code)


def _runs_live(settings: Settings) -> tuple[str | None, Container | None]:
    """The live color and its main container, None for what is not there or cannot be asked."""
    with contextlib.suppress(CutoverError):
        color = ask_live(settings)[1].color
        return color, main_container(settings, color) if color else None
    return None, None


def _undeployed(settings: Settings, tag: str, before: Container | None, code: int) -> CutoverError:
    """What to say of a session that ended with *code* and was to deploy *tag* in place of *before*."""
    color, found = _runs_live(settings)
    see = "see reports/latest"
    if found is not None and before is not None and found.running and found.id == before.id:
        return UNDEPLOYED[code](f"{tag} was not deployed: {color} runs {label_of(found)}, as before; {see}")
    if found is None:
        now_is = f"nothing is known to run on {color}" if color else "what runs now could not be asked"
    elif not found.running:
        now_is = f"{color} does not run: {label_of(found)} is there, {found.status}"
    else:
        now_is = f"{color} runs {label_of(found)}, not verified"
    ended = "was interrupted" if code == INTERRUPTED else "did not pass its gate"
    return OperatorNeeded(f"the deploy of {tag} {ended}, and {now_is}; {see}; run: {ASK_AGAIN}")


# --- the rehearsal of a rollback -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A switch to the idle color and its rollback, measured."""

    there: str
    back: str | None
    seconds: float
    """How long the rollback took."""
    proof: Mapping[str, Any]


def rehearse_rollback(settings: Settings, state: State) -> Rehearsal:
    """Switch to the idle color with proof, and revert that as a bad release would be; raises CutoverError.

    The caller holds the session lock.
    """
    finish_record(settings, state)
    situation = situation_of(inspect_colors(settings), ReleaseRequest(("idle",), switch=True))
    plan, tx, evidence = ReleasePlan(None, check_switch(situation)), Transaction.of(situation), Evidence()
    on = ActiveRelease(situation, plan, tx, Reporter(evidence))
    found = main_container(settings, situation.color)
    if found is None or not found.well:
        status = found.status if found else "nothing runs there"
        raise ConfigError(f"{situation.color} is not warm: {status}; deploy to it first")
    live = situation.before.live

    def act() -> None:
        switch(on, None).background.stop()

    seconds = switch_and_revert(tx, act, lambda: wait_live(settings, situation.colors.proxy, live))
    state.journal("rehearsed", seconds=round(seconds, 4), who=who(), host=os.uname().nodename)
    proof = evidence.facts.get("proof")
    if not proof:
        raise Failed("the rehearsal ended without a proof")
    return Rehearsal(situation.color, live, seconds, proof)


def switch_and_revert(tx: Transaction, act: Callable[[], object], settled: Callable[[], Live]) -> float:
    """Switch by *act*, revert it, wait for the proxy by *settled*: seconds until users were back.

    Raises OperatorNeeded if they are not, else the error of *act*.
    """
    trouble: BaseException | None = None
    try:
        act()
    except BaseException as error:  # noqa: BLE001  # reverted first, whatever it is, then raised
        trouble = error
    if not tx.changed:
        raise trouble or Failed("nothing was switched")
    begun, before = time.monotonic(), tx.before.live
    with ThreadPoolExecutor(1) as pool:
        reverting = pool.submit(tx.revert)
        settled()  # users are back before the revert has cleaned up behind them
        seconds = time.monotonic() - begun
        done = reverting.result()
    live = settled()
    if not done.ok or live.color != before:
        where = f"traffic goes to {live.color or 'no color that is known'}: {live.how}"
        first = f"{trouble}; " if trouble else ""
        command = tx.state.revert_command if tx.state.open_release() else ASK_AGAIN
        why = where if done.ok else done.last_line
        raise OperatorNeeded(f"{first}the rehearsal could not be reverted: {why}; run: {command}")
    if isinstance(trouble, CutoverError):
        kind = Failed if isinstance(trouble, (Failed, ConfigError)) else Inconclusive
        raise kind(f"{trouble}; the rehearsal was reverted: {before} serves, as before") from trouble
    if trouble is not None:
        raise trouble
    return seconds
