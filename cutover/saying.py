"""Says how a session ended: from what is asked at its very end, to people, to files, to the team's own command."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover import preflight, release, scene
from cutover.core.errors import EngineSilent
from cutover.core.verdict import Outcome
from cutover.evidence import Check, Evidence
from cutover.proxy.base import COLOURS
from cutover.release import Tally
from cutover.report.ending import NOTHING, UNASKED, Ending, Running, Why, Word, sentence
from cutover.report.words import count, near
from cutover.system import docker
from cutover.walk import Walk
from cutover.wish import Wish


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a session: what people are told, and the exit code."""

    ending: Ending
    code: int


def of_url(wish: Wish, evidence: Evidence, tally: Tally, code: int) -> Ended:
    """The end of a gate of plain URLs: nothing could be changed."""
    word = (
        Word.GATE_PASSED
        if code == release.OK
        else Word.INCONCLUSIVE
        if code != release.FAILED
        else Word.GATE_FAILED
    )
    return Ended(
        Ending(
            word,
            wish.targets[0],
            code,
            why=() if code == release.OK else reasons(tally, evidence, None),
            proven=len(tally.tests(Outcome.YES)),
            sentence=_url_sentence(wish, code),
        ),
        code,
    )


def _url_sentence(wish: Wish, code: int) -> str:
    target = ", ".join(wish.targets)
    said = "passed what can be asked over HTTP" if code == release.OK else "did not pass"
    return f"{target} {said}; a URL has no container here, so nothing else was asked and nothing could be changed."


def ended(walk: Walk, word: Word, code: int, tally: Tally) -> Ended:
    """The end *word* with what runs now, why, and what is next; everything that changes is asked for here."""
    good = word in {Word.RELEASED, Word.GATE_PASSED}
    asked = time.monotonic()
    running = tuple(what_runs(walk))
    next_ = (
        ()
        if good or word is Word.PLAN_ONLY
        else ("fix and run the same command again; nothing is locked, nothing is half done",)
    )
    failed, failed_s = _users_saw(walk)
    ending = Ending(
        word,
        walk.settings.project,
        code,
        running,
        asked_s_ago=time.monotonic() - asked,
        as_before=walk.put_back is None,
        why=() if good or word is Word.PLAN_ONLY else reasons(tally, walk.evidence, walk),
        see=_see(walk.evidence),
        next=next_ if word is not Word.UNDO_FAILED else (),
        proven=len(tally.tests(Outcome.YES)),
        open=walk.state.open_release() is not None,
        roll_back_s=_rehearsed(walk) if good and walk.switched else None,
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
    colour = walk.target.colour
    if (
        proxy is None
        or colour is None
        or not switched
        or not (proxy.access_log and proxy.access_log.is_file())
    ):
        return proof.get("failed") or None, None  # none of the proof's own says nothing of users
    return failed_since(
        proxy.access_log, colour, switched[-1], frozenset({proxy.control, walk.settings.ready.path})
    )


def _rehearsed(walk: Walk) -> float | None:
    """Seconds of the way back in the last rehearsal; None if nobody has ever rehearsed it."""
    rows = [row for row in walk.state.history() if row.get("event") == "rehearsed"]
    return float(rows[-1]["seconds"]) if rows else None


def _see(evidence: Evidence) -> str:
    return str(near(evidence.file.parent / "report.html")) if evidence.file else ""


def reasons(tally: Tally, evidence: Evidence, walk: Walk | None) -> tuple[Why, ...]:
    """The reasons of a bad end, from the verdicts, each once; at most five."""
    alike: dict[str, list[Check]] = {}
    for each in evidence.checks:
        if each.verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}:
            alike.setdefault(each.verdict.reason, []).append(each)
    bad = [_said(first, len(others)) for first, *others in alike.values()]
    if walk is not None and walk.trouble is not None and not bad:
        bad = [Why("", str(walk.trouble))]
    # The test that wanted the deploy repeats what the deploy has said.
    bad = [each for n, each in enumerate(bad) if not any(other.reason in each.reason for other in bad[:n])]
    return tuple(bad[:5]) or (Why("", release.reason(tally)),)


def _said(check: Check, others: int) -> Why:
    """What one check said, and how many others did."""
    # A question of the release's own, like deploy::up, is no test that anybody could open.
    test = check.test if ".py::" in check.test else ""
    same = f"; the same of {count(others, 'more check')}" if others else ""
    return Why(test, f"{check.verdict.question}: {check.verdict.reason}{same}")


def what_runs(walk: Walk) -> list[Running]:
    """What each colour runs, asked now; what cannot be asked says so."""
    live = scene.who_is_live(walk.settings, walk.scene.proxy)
    shown = []
    for colour in (each for each in COLOURS if each in walk.settings.colours):
        try:
            found = docker.the_container(walk.settings.compose_project(colour), walk.settings.service)
        except EngineSilent:
            shown.append(Running(colour, "", UNASKED, live=live.colour == colour))
            continue
        if found is None:
            if live.colour == colour:
                shown.append(Running(colour, "", NOTHING, live=True))
            continue
        state = (
            ("runs" if found.health_status in {"healthy", "none"} else found.health_status)
            if found.running
            else found.status
        )
        shown.append(
            Running(
                colour,
                scene.tag_of(found.image_name) or found.image[7:19],
                state,
                live=live.colour == colour,
                digest=found.image,
            )
        )
    if walk.target.colour and not live.colour:
        shown.sort(key=lambda each: each.colour != walk.target.colour)
    return shown


EVENTS = {Word.RELEASED: "released", Word.TAKEN_BACK: "taken back", Word.UNDO_FAILED: "needs person"}


def notify(walk: Walk, ended: Ended) -> None:
    """Tell the team's own command how it ended; that it could not be told is told here, and changes nothing."""
    event = EVENTS.get(ended.ending.word)
    if event is not None:
        send(walk, event, sentence(ended.ending), ended.code)


def tell_switched(walk: Walk) -> None:
    """Tell the team's own command that users get the new release, which was proven, and is watched from here on."""
    text = f"{walk.settings.project} serves {walk.target.tag} on {walk.target.colour}, watched from here on"
    send(walk, "switched", text)


def send(walk: Walk, event: str, text: str, code: int | None = None) -> None:
    """Run the command of `[notices]` for *event*."""
    if walk.settings.notices is None:
        return
    from cutover.notices import Notice, tell

    tag, before = walk.target.tag or "", walk.from_tag or ""
    notice = Notice(
        event, text, tag, before, walk.target.colour or "", preflight.who(), _see(walk.evidence), code
    )
    failed = tell(walk.settings, notice)
    if failed:
        walk.told("", "notice", failed, None, "unknown")


def point_latest(folder: Path) -> None:
    """Make `reports/latest` mean this session."""
    link = folder.parent / "latest"
    with contextlib.suppress(OSError):
        draft = folder.parent / f".latest-{os.getpid()}"
        draft.symlink_to(folder.name)
        draft.replace(link)


def write(
    folder: Path, walk: Walk | None, evidence: Evidence, ended: Ended, unasked: Mapping[str, Sequence[str]]
) -> None:
    """The files of the report: the undo as it stood, this release's journal, the page."""
    from cutover.report.facts import versions
    from cutover.report.junit import finish_junit
    from cutover.report.page import finish_page

    evidence.flush()
    evidence.fact("versions", versions())
    evidence.fact("ended", time.time())
    evidence.fact("not asked", [[test, why] for why, tests in unasked.items() for test in tests])
    if walk is not None and walk.release_id:
        evidence.fact("release", walk.release_id)
    evidence.fact("ending", ended.ending.as_json())
    undo, rows = _papers(folder, walk)
    finish_page(folder / "report.html", evidence, ended.ending, undo, rows)
    finish_junit(folder / "junit.xml", evidence, ended.ending)


def _papers(folder: Path, walk: Walk | None) -> tuple[str, list[dict[str, Any]]]:
    """Copy the undo as it stood and this release's journal into the report's folder; both, to be shown."""
    if walk is None or not walk.changed:
        return "", []
    rows = [row for row in walk.state.history() if row.get("release") == walk.release_id]
    undo = ""
    with contextlib.suppress(OSError):
        undo = (walk.state.root / "undo.sh").read_text(encoding="utf-8")
        (folder / "undo.sh").write_text(undo, encoding="utf-8")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "journal.jsonl").write_text(text, encoding="utf-8")
    return undo, rows


def write_summary(path: Path, evidence: Evidence, ended: Ended) -> None:
    """The job summary of a CI that has one."""
    from cutover.report.summary import summary

    with path.open("a", encoding="utf-8") as out:
        out.write(summary(evidence, ended.ending))
