"""The two ends of a session: what is refused before anything is changed, and what becomes of what was changed."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from cutover import again, as_before, deploying, keeping, preflight, proven, putting_back, switching, way_back
from cutover.changes import SWITCH
from cutover.core import result
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable, Locked, OperatorNeeded
from cutover.core.evidence import Evidence
from cutover.core.result import Outcomes, Reason, Status
from cutover.core.verdict import Outcome
from cutover.env.envfile import rewrite_tag
from cutover.saying import Ended, ended, notify, of_url, send
from cutover.state import Record, did_revert
from cutover.system import docker
from cutover.walk import Walk
from cutover.wish import ReleaseRequest

SAVE_S = 3.0
SPOKEN = {"up": "deploy"}
"""What people call a change that is named otherwise in the journal."""


def begin(walk: Walk, *, plan: bool, greet: Callable[[Walk], None] = lambda _walk: None) -> None:
    """Everything that can be refused, asked before the first test; raises ConfigError, Locked or OperatorNeeded."""
    walk.begin()
    request = walk.request
    facts = walk.evidence
    facts.fact("project", walk.settings.project)
    facts.fact("target", walk.target.name)
    facts.fact("who", preflight.who())
    facts.fact("began", time.time())
    facts.fact("time_zone", walk.settings.approval.time_zone)
    facts.fact("from", {"tag": walk.from_tag, "color": walk.before})
    greet(walk)
    if request.switch:
        switching.check(walk)
        preflight.require(preflight.unseen(walk.scene))
    if request.deploy is not None:
        deploying.check(walk)
    if request.changes_something and request.rollback:  # a rollback must not wait for a certificate
        _look_around(walk)
    if request.changes_something and not plan:
        send(walk, "begin", f"{walk.owner()['what']} begins")
    if plan:
        from cutover import planning

        for line in planning.lines(walk):
            walk.told("", "plan", line, None)


def _look_around(walk: Walk) -> None:
    """Ask what the watch would revert a good release for, before anything is changed; raises ConfigError."""
    begun, paths = time.monotonic(), list(walk.request.paths)
    watched = walk.request.switch or again.gates(paths) != paths
    verdicts = preflight.surroundings(walk.settings, watched=watched)
    said = preflight.fit(verdicts, walk.settings.checks.report_only)
    walk.told("T-15m", "surroundings", said, begun)


def finish(
    walk: Walk | None,
    request: ReleaseRequest,
    evidence: Evidence,
    tally: Outcomes,
    *,
    whole: bool,
    plan: bool,
) -> Ended:
    """Keep or revert; never raises, whatever breaks is a person's business and says so."""
    code = result.exit_code(tally)
    if plan and walk is not None:
        return ended(walk, Status.PLAN, result.OK if code == result.NOTHING_RAN else code, tally)
    if walk is None:
        return of_url(request, evidence, tally, code)
    try:
        end = _finish(walk, tally, code, whole=whole)
    except Exception as error:  # noqa: BLE001  # the end of a session must say what runs, whatever broke
        end = _lost(walk, tally, f"{type(error).__name__}: {error}")
    if request.changes_something or walk.changed:
        walk.state.journal("end", release=walk.release_id, word=str(end.ending.status), code=end.code)
        notify(walk, end)
    return end


def _finish(walk: Walk, tally: Outcomes, code: int, *, whole: bool) -> Ended:
    if result.is_verified(tally):
        return _keep(walk, tally, whole=whole)
    if not walk.changed and isinstance(walk.trouble, ConfigError):
        return ended(walk, Status.UNCHANGED, result.USAGE, tally)
    if walk.changed:
        return _revert(walk, tally, code) if walk.request.rollback else _leave(walk, tally, code)
    if code == result.FAILED and not walk.request.changes_something and walk.request.rollback and whole:
        restored = _restore_proven(walk, tally)
        if restored is not None:
            return restored
    if code == result.FAILED:
        word = Status.GATE_FAILED
    else:
        word = (
            Status.UNCHANGED
            if code in {result.INTERRUPTED, result.INTERNAL, result.USAGE}
            else Status.INCONCLUSIVE
        )
    return ended(walk, word, code, tally)


# --- keeping ---------------------------------------------------------------------------------------------------------
def _keep(walk: Walk, tally: Outcomes, *, whole: bool) -> Ended:
    """Commit: one rename under the step lock, and only then is it said."""
    if walk.release_id is not None and not walk.state.close(walk.release_id):
        return _taken_by_another(walk, tally)
    if walk.pending is not None:
        _remember(walk, replace(walk.pending, proven=whole))
    elif (
        whole
        and walk.target.color is not None
        and not walk.request.changes_something
        and walk.request.rollback
    ):
        proven.record_what_runs(walk)
    way_back.remember(walk)
    if walk.switched:
        _after_commit(walk)
    done = walk.changed or walk.request.changes_something
    if walk.changed:
        walk.state.journal(
            "released",
            release=walk.release_id,
            color=walk.target.color,
            tag=walk.target.tag,
            who=preflight.who(),
        )
    return ended(walk, Status.RELEASED if done else Status.GATE_PASSED, result.OK, tally)


def _remember(walk: Walk, record: Record) -> None:
    """Record what was released, and say it in the env file; the release stays, also where a disk is full."""
    begun = time.monotonic()
    try:
        walk.state.keep_record(record)
        color = walk.settings.colors[record.color]
        rewrite_tag(color.env_file, walk.settings.env_keys.tag, record.tag)
        keeping.prune(walk)
    except OSError as error:
        walk.told("", "record", f"not written: {error.strerror}: {error.filename}", begun, "unknown")


def _after_commit(walk: Walk) -> None:
    """What follows a commit; the release stays, whatever becomes of it."""
    begun = time.monotonic()
    try:
        switching.after_commit(walk)
    except (CutoverError, EngineUnavailable, OSError) as error:
        walk.told(
            "T+15m", f"retire {walk.before}", f"not done: {error}; see cutover status", begun, "unknown"
        )


# --- reverting -----------------------------------------------------------------------------------------------------
def _revert(walk: Walk, tally: Outcomes, code: int) -> Ended:
    """Run the undo, ask from outside what runs now, and say that."""
    begun = time.monotonic()
    # A mute engine or a huge log must not keep users on a bad release: what is not saved by then is lost.
    saving = threading.Thread(target=_save_logs, args=(walk,), daemon=True)
    saving.start()
    release_id = walk.release_id or ""
    if not _flips(walk):  # else the flip comes first, and users wait for it
        saving.join(SAVE_S)
    done = walk.state.revert(release_id)
    saving.join(SAVE_S)
    if not done.ok:
        walk.told("", "undo", f"failed: {done.last_line}", begun, "no")
        return _lost(walk, tally, done.last_line)
    ours = did_revert(done, release_id)
    if ours:
        walk.state.journal(
            "reverted", release=release_id, who=preflight.who(), why=result.why_unverified(tally)
        )
    trouble = as_before.trouble(walk)
    if trouble:
        walk.told("", "undo", f"done, but {trouble}", begun, "no")
        return _lost(walk, tally, trouble)
    seen = again.gate(walk, walk.request.paths) if walk.before and walk.from_tag else None
    if seen is not None and seen.outcome is Outcome.NO and proven.was_proven(walk):
        return _lost(walk, tally, f"the old release does not pass the gate: {seen.reason}")
    if isinstance(walk.trouble, OperatorNeeded):
        return _lost(walk, tally, str(walk.trouble))
    if seen is not None and seen.ok:
        proven.prove_again(walk)
    notes = [each.removeprefix("note: ") for each in done.out.splitlines() if each.startswith("note: ")]
    said = "; ".join([_undone(walk), *notes, as_before.says(walk), *([seen.reason] if seen else [])])
    walk.told("", "undo", said, begun)
    return ended(walk, Status.ROLLED_BACK, code, tally) if ours else _taken_by_another(walk, tally)


def _flips(walk: Walk) -> bool:
    """Whether the revert sends the traffic back."""
    return any(each.name == SWITCH for each in walk.changes)


def _undone(walk: Walk) -> str:
    """What the revert did, in words."""
    if walk.put_back is not None:
        return " and ".join(each.text for each in walk.changes)
    names = [SPOKEN.get(each.name, each.name) for each in reversed(walk.changes) if each.undo]
    return f"{' and '.join(dict.fromkeys(names)) or 'nothing'} reverted"


def _save_logs(walk: Walk) -> None:
    """Keep the last log lines of what is about to be taken away, masked, in the report's folder."""
    color, settings = walk.target.color, walk.settings
    if walk.evidence.file is None or color is None:
        return
    with contextlib.suppress(EngineUnavailable, OSError):
        for service in (*settings.services, *settings.workers):  # the most important one first
            for each in docker.containers(settings.compose_project(color), service):
                from cutover.core.masking import MASK

                text = "\n".join(docker.logs(each.id, tail=settings.logs.max_lines))
                (walk.evidence.file.parent / f"{color}-{service}-{each.short}.log").write_text(
                    MASK(text) + "\n", encoding="utf-8"
                )


def _restore_proven(walk: Walk, tally: Outcomes) -> Ended | None:
    """Put the color's last proven release back after a sure no on one that is not; None if nothing is touched."""
    record, begun = putting_back.wanted(walk), time.monotonic()
    if record is None:
        return None
    try:
        walk.state.prepare()
        walk.lock()
        if walk.state.open_release() is not None:
            return None  # a dead session's: its guard reverts more than we would
        putting_back.open_release(walk, record)
        return _named(walk, record, _revert(walk, tally, result.FAILED))
    except (ConfigError, Locked) as error:
        if walk.changed:
            raise
        walk.told("", "put back", str(error), begun, "no")
        return None
    finally:
        walk.unlock()


def _named(walk: Walk, record: Record, end: Ended) -> Ended:
    """Write down where the traffic went; and name in the env file what runs, else the next `up` brings the bad one."""
    if end.ending.status is Status.ROLLED_BACK:
        if _flips(walk):
            went = {"color": walk.before, "tag": walk.from_tag, "who": preflight.who()}
            walk.state.journal("rolled back", release=walk.release_id, **went)
        with contextlib.suppress(OSError):
            env_file = walk.settings.colors[record.color].env_file
            rewrite_tag(env_file, walk.settings.env_keys.tag, record.tag)
    return end


def _leave(walk: Walk, tally: Outcomes, code: int) -> Ended:
    """--keep-on-failure: close the release as it is, which guard and recover respect."""
    if not walk.state.close(walk.release_id or ""):
        return _taken_by_another(walk, tally)
    walk.state.journal("kept unverified", release=walk.release_id, who=preflight.who())
    if walk.pending is not None:
        _remember(walk, walk.pending)
    return ended(walk, Status.KEPT_UNVERIFIED, code, tally)


def _taken_by_another(walk: Walk, tally: Outcomes) -> Ended:
    """Somebody ran the revert while we were at it; that it did what it should is asked all the same."""
    trouble = as_before.trouble(walk)
    if trouble:
        return _lost(walk, tally, f"reverted by {walk.taken_by()}, but {trouble}")
    told = ended(walk, Status.ROLLED_BACK, result.FAILED, tally)
    reasons = (Reason("", f"the release was reverted by {walk.taken_by()}"),)
    return Ended(replace(told.ending, reasons=reasons), result.FAILED)


def _lost(walk: Walk, tally: Outcomes, why: str) -> Ended:
    """An operator is needed: what runs now, what was tried, the one command."""
    told = ended(walk, Status.ROLLBACK_FAILED, result.NEEDS_OPERATOR, tally)
    run = walk.state.revert_command if walk.state.open_release() else "cutover status"
    where = f"on {os.uname().nodename}; safe to run again"
    return Ended(replace(told.ending, tried=(why,), command=run, command_where=where), result.NEEDS_OPERATOR)
