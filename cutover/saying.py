"""Says how a session ended: from what is asked at its very end, to people, to files, to the team's own command."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from cutover import preflight, scene
from cutover.core import result
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.result import (
    NOTHING,
    UNASKED,
    Outcomes,
    Running,
    SessionResult,
    Status,
    reasons_of,
    sentence_of,
)
from cutover.core.text import near
from cutover.core.verdict import Outcome
from cutover.proxy.base import COLORS
from cutover.report.write import ReleaseFiles
from cutover.system import docker
from cutover.walk import Walk
from cutover.wish import ReleaseRequest


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a session: what people are told, and the exit code."""

    ending: SessionResult
    code: int


def of_url(request: ReleaseRequest, evidence: Evidence, tally: Outcomes, code: int) -> Ended:
    """The end of a gate of plain URLs: nothing could be changed."""
    word = (
        Status.GATE_PASSED
        if code == result.OK
        else Status.INCONCLUSIVE
        if code != result.FAILED
        else Status.GATE_FAILED
    )
    return Ended(
        SessionResult(
            word,
            request.targets[0],
            code,
            reasons=() if code == result.OK else reasons_of(tally, evidence.checks),
            passed=len(tally.tests(Outcome.YES)),
            sentence=_url_sentence(request, code),
        ),
        code,
    )


def _url_sentence(request: ReleaseRequest, code: int) -> str:
    target = ", ".join(request.targets)
    said = "passed what can be asked over HTTP" if code == result.OK else "did not pass"
    return f"{target} {said}; a URL has no container here, so nothing else was asked and nothing could be changed."


def ended(walk: Walk, word: Status, code: int, tally: Outcomes) -> Ended:
    """The end *word* with what runs now, why, and what is next; everything that changes is asked for here."""
    good = word in {Status.RELEASED, Status.GATE_PASSED}
    asked = time.monotonic()
    running = tuple(what_runs(walk))
    next_ = (
        ()
        if good or word is Status.PLAN
        else ("fix and run the same command again; nothing is locked, nothing is half done",)
    )
    failed, failed_s = _users_saw(walk)
    ending = SessionResult(
        word,
        walk.settings.project,
        code,
        running,
        observed_s_ago=time.monotonic() - asked,
        as_before=walk.put_back is None,
        reasons=() if good or word is Status.PLAN else reasons_of(tally, walk.evidence.checks, walk.trouble),
        report=_see(walk.evidence),
        next_steps=next_ if word is not Status.ROLLBACK_FAILED else (),
        passed=len(tally.tests(Outcome.YES)),
        release_open=walk.state.open_release() is not None,
        rollback_s=_rehearsed(walk) if good and walk.switched else None,
        failed_requests=failed if walk.switched and not good else None,
        failed_s=failed_s if walk.switched and not good else None,
        schema=str(walk.evidence.facts.get("schema", "")) if not good else "",
    )
    return Ended(ending, code)


def _users_saw(walk: Walk) -> tuple[int | None, float | None]:
    """Failed requests since the switch and in how many seconds: by the proxy's log, else by the proof alone."""
    from cutover.watch.traffic import failed_since

    proof, proxy = walk.evidence.facts.get("proof") or {}, walk.settings.proxy
    switched = [step.at - step.seconds for step in walk.evidence.steps if step.name == "switch"]
    color = walk.target.color
    if (
        proxy is None
        or color is None
        or not switched
        or not (proxy.access_log and proxy.access_log.is_file())
    ):
        return proof.get("failed") or None, None  # none of the proof's own says nothing of users
    return failed_since(
        proxy.access_log, color, switched[-1], frozenset({proxy.health_path, walk.settings.ready.path})
    )


def _rehearsed(walk: Walk) -> float | None:
    """Seconds of the way back in the last rehearsal; None if nobody has ever rehearsed it."""
    rows = [row for row in walk.state.history() if row.get("event") == "rehearsed"]
    return float(rows[-1]["seconds"]) if rows else None


def _see(evidence: Evidence) -> str:
    return str(near(evidence.file.parent / "report.html")) if evidence.file else ""


def what_runs(walk: Walk) -> list[Running]:
    """What each color runs, asked now; what cannot be asked says so."""
    live = scene.who_is_live(walk.settings, walk.scene.proxy)
    shown = []
    for color in (each for each in COLORS if each in walk.settings.colors):
        try:
            found = docker.the_container(walk.settings.compose_project(color), walk.settings.service)
        except EngineUnavailable:
            shown.append(Running(color, "", UNASKED, live=live.color == color))
            continue
        if found is None:
            if live.color == color:
                shown.append(Running(color, "", NOTHING, live=True))
            continue
        state = (
            ("runs" if found.health_status in {"healthy", "none"} else found.health_status)
            if found.running
            else found.status
        )
        shown.append(
            Running(
                color,
                scene.tag_of(found.image_name) or found.image[7:19],
                state,
                live=live.color == color,
                digest=found.image,
            )
        )
    if walk.target.color and not live.color:
        shown.sort(key=lambda each: each.color != walk.target.color)
    return shown


EVENTS = {
    Status.RELEASED: "released",
    Status.ROLLED_BACK: "reverted",
    Status.ROLLBACK_FAILED: "operator_needed",
}


def notify(walk: Walk, ended: Ended) -> None:
    """Tell the team's own command how it ended; that it could not be told is told here, and changes nothing."""
    event = EVENTS.get(ended.ending.status)
    if event is not None:
        send(walk, event, sentence_of(ended.ending), ended.code)


def tell_switched(walk: Walk) -> None:
    """Tell the team's own command that users get the new release, which was proven, and is watched from here on."""
    text = f"{walk.settings.project} serves {walk.target.tag} on {walk.target.color}, watched from here on"
    send(walk, "switched", text)


def send(walk: Walk, event: str, text: str, code: int | None = None) -> None:
    """Run the command of `[hooks]` for *event*."""
    if walk.settings.hooks is None:
        return
    from cutover.notices import Notice, tell

    tag, before = walk.target.tag or "", walk.from_tag or ""
    notice = Notice(
        event, text, tag, before, walk.target.color or "", preflight.who(), _see(walk.evidence), code
    )
    failed = tell(walk.settings, notice)
    if failed:
        walk.told("", "notice", failed, None, "unknown")


def release_files(walk: Walk | None) -> ReleaseFiles:
    """The undo script and the journal of this release, for the report."""
    if walk is None or not walk.changed:
        return ReleaseFiles((walk and walk.release_id) or "")
    rows = [row for row in walk.state.history() if row.get("release") == walk.release_id]
    undo = ""
    with contextlib.suppress(OSError):
        undo = (walk.state.root / "undo.sh").read_text(encoding="utf-8")
    return ReleaseFiles(walk.release_id or "", undo, rows)
