"""The two ends of a session: what is refused before anything is changed, and what becomes of what was changed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cutover import again, deploying, engine, preflight, release, scene, switching
from cutover.errors import CutoverError, Locked, NeedsPerson, UsageProblem
from cutover.evidence import Evidence
from cutover.proxies import COLOURS
from cutover.release import Tally
from cutover.report.ending import Ending, Running, Why, Word, sentence
from cutover.state import Record, now
from cutover.verdict import Outcome
from cutover.walk import Walk, Wish

SPOKEN = {"up": "deploy"}
"""What people call a change that is named otherwise in the journal."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a session: what people are told, and the exit code."""

    ending: Ending
    code: int


def begin(walk: Walk, *, plan: bool, greet: Callable[[Walk], None] = lambda _walk: None) -> None:
    """Everything that can be refused, asked before the first test; raises UsageProblem, Locked or NeedsPerson."""
    walk.begin()
    wish = walk.wish
    facts = walk.evidence
    facts.fact("project", walk.settings.project)
    facts.fact("target", walk.target.name)
    facts.fact("who", preflight.who())
    facts.fact("began", time.time())
    facts.fact("time_zone", walk.settings.show.time_zone)
    facts.fact("from", {"tag": walk.from_tag, "colour": walk.before})
    greet(walk)
    if wish.switch:
        switching.check(walk)
    if wish.deploy is not None:
        deploying.check(walk)
    if wish.armed and not plan:
        send(walk, "begin", f"{walk.owner()['what']} begins")
    if plan:
        from cutover import planning

        for line in planning.lines(walk):
            walk.told("", "plan", line, time.monotonic())


def finish(
    walk: Walk | None,
    wish: Wish,
    evidence: Evidence,
    tally: Tally,
    *,
    whole: bool,
    plan: bool,
) -> Ended:
    """Keep or take back; never raises, whatever breaks is a person's business and says so."""
    code = release.exit_code(tally)
    if plan and walk is not None:
        return _ended(walk, Word.PLAN_ONLY, release.NOTHING_RAN, tally)
    if walk is None:
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
                why=() if code == release.OK else _why(tally, evidence, None),
                proven=len(tally.tests(Outcome.YES)),
                sentence=_url_sentence(wish, code),
            ),
            code,
        )
    try:
        ended = _finish(walk, tally, code, whole=whole)
    except Exception as error:  # noqa: BLE001  # the end of a session must say what runs, whatever broke
        ended = _lost(walk, tally, f"{type(error).__name__}: {error}")
    if wish.armed or walk.changed:
        walk.state.journal("end", release=walk.release_id, word=str(ended.ending.word), code=ended.code)
        notify(walk, ended)
    return ended


def _url_sentence(wish: Wish, code: int) -> str:
    target = ", ".join(wish.targets)
    said = "passed what can be asked over HTTP" if code == release.OK else "did not pass"
    return f"{target} {said}; a URL has no container here, so nothing else was asked and nothing could be changed."


def _finish(walk: Walk, tally: Tally, code: int, *, whole: bool) -> Ended:
    if release.proven(tally):
        return _keep(walk, tally, whole=whole)
    if not walk.changed and isinstance(walk.trouble, UsageProblem):
        return _ended(walk, Word.NOTHING_CHANGED, release.USAGE, tally)
    if walk.changed:
        return _take_back(walk, tally, code) if walk.wish.rollback else _leave(walk, tally, code)
    if code == release.FAILED and not walk.wish.armed and walk.wish.rollback and whole:
        restored = _restore_proven(walk, tally)
        if restored is not None:
            return restored
    if code == release.FAILED:
        word = Word.GATE_FAILED
    else:
        word = (
            Word.NOTHING_CHANGED
            if code in {release.INTERRUPTED, release.INTERNAL, release.USAGE}
            else Word.INCONCLUSIVE
        )
    return _ended(walk, word, code, tally)


# --- keeping ---------------------------------------------------------------------------------------------------------
def _keep(walk: Walk, tally: Tally, *, whole: bool) -> Ended:
    """Commit: one rename under the hand, and only then is it said."""
    if walk.release_id is not None and not walk.state.close(walk.release_id):
        return _taken_by_another(walk, tally)
    record = walk.pending
    if record is not None:
        walk.state.keep_record(replace(record, proven=whole))
        colour = walk.settings.colours[record.colour]
        with contextlib.suppress(OSError):
            deploying.rewrite_tag(colour.env_file, walk.settings.tag_key, record.tag)
    elif whole and walk.target.colour is not None and not walk.wish.armed:
        _record_what_runs(walk)
    if walk.switched:
        switching.after_commit(walk)
    done = walk.changed or walk.wish.armed
    if walk.changed:
        walk.state.journal(
            "released",
            release=walk.release_id,
            colour=walk.target.colour,
            tag=walk.target.tag,
            who=preflight.who(),
        )
    return _ended(walk, Word.RELEASED if done else Word.GATE_PASSED, release.OK, tally)


def _record_what_runs(walk: Walk) -> None:
    """A whole gate passed on what somebody else deployed: it is proven, so that it can be put back one day."""
    with contextlib.suppress(CutoverError, engine.EngineSilent, OSError):
        colour = walk.target.colour or ""
        walk.state.prepare()
        previous, record = preflight.previous_of(walk.state, walk.scene, colour)
        found = engine.the_container(walk.target.project or "", walk.settings.service)
        if previous is None or found is None:
            return
        made = Record(
            colour,
            scene.tag_of(found.image_name) or "",
            found.image,
            found.config_hash,
            found.id,
            previous.file.name,
            proven=True,
            by=preflight.who(),
            at=now(),
        )
        if record is None or not (
            record.proven and record.is_running(found.id, found.image, found.config_hash)
        ):
            walk.state.keep_record(made)


# --- taking back -----------------------------------------------------------------------------------------------------
def _take_back(walk: Walk, tally: Tally, code: int) -> Ended:
    """Run the undo, ask from outside what runs now, and say that."""
    begun = time.monotonic()
    _save_logs(walk)
    release_id = walk.release_id or ""
    ours = walk.state.open_release() == release_id
    done = walk.state.take_back(release_id)
    if not done.ok:
        walk.told("", "undo", f"failed: {done.last_line}", begun, "no")
        return _lost(walk, tally, done.last_line)
    if ours:
        walk.state.journal("taken back", release=release_id, who=preflight.who(), why=release.reason(tally))
    trouble = _not_as_before(walk)
    if trouble:
        walk.told("", "undo", f"done, but {trouble}", begun, "no")
        return _lost(walk, tally, trouble)
    seen = again.gate(walk, walk.wish.paths) if walk.before and walk.from_tag else ""
    if seen.startswith("no") and _was_proven(walk):
        return _lost(walk, tally, f"the old release does not pass the gate: {seen}")
    if isinstance(walk.trouble, NeedsPerson):
        return _lost(walk, tally, str(walk.trouble))
    done_before = [SPOKEN.get(each.name, each.name) for each in reversed(walk.changes) if each.undo]
    names = " and ".join(dict.fromkeys(done_before))
    walk.told(
        "", "undo", f"{names or 'nothing'} taken back; {_says(walk)}{'; ' + seen if seen else ''}", begun
    )
    return _ended(walk, Word.TAKEN_BACK, code, tally)


def _was_proven(walk: Walk) -> bool:
    """Whether what ran before had passed a whole gate: one that never did may fail it now as it did before."""
    return any(row.proven and row.tag == walk.from_tag for row in walk.state.records(walk.before or ""))


def _says(walk: Walk) -> str:
    """What the proxy or the engine said after the take-back."""
    if walk.before and walk.from_tag:
        return f"{walk.before} serves {walk.from_tag}"
    return "nothing runs there, as before"


def _not_as_before(walk: Walk) -> str:
    """What differs from before, asked from outside; empty when nothing does."""
    live = scene.who_is_live(walk.settings, walk.scene.proxy)
    if walk.before is not None and live.colour != walk.before:
        return f"traffic goes to {live.colour or 'nobody known'} ({live.how}), it went to {walk.before}"
    for colour, image in walk.images_before.items():
        found = engine.the_container(walk.settings.compose_project(colour), walk.settings.service)
        now_there = found.image if found and found.running else None
        if now_there != image:
            return f"{colour} runs {_short(now_there)}, it ran {_short(image)}"
    return ""


def _short(image: str | None) -> str:
    """The beginning of an image's ID."""
    return image.removeprefix("sha256:")[:12] if image else "nothing"


def _save_logs(walk: Walk) -> None:
    """Keep the last log lines of what is about to be taken away, masked, in the report's folder."""
    colour = walk.target.colour
    if walk.evidence.file is None or colour is None:
        return
    with contextlib.suppress(engine.EngineSilent, OSError):
        for each in engine.containers(walk.settings.compose_project(colour), walk.settings.service):
            from cutover.secret import MASK

            text = "\n".join(engine.logs(each.id, tail=walk.settings.logs.tail))
            (walk.evidence.file.parent / f"{colour}-{each.short}.log").write_text(
                MASK(text) + "\n", encoding="utf-8"
            )


def _restore_proven(walk: Walk, tally: Tally) -> Ended | None:
    """Put the colour's last proven release back after a sure no on one that is not; None if there is none."""
    colour = walk.target.colour
    found = (
        engine.the_container(walk.target.project or "", walk.settings.service)
        if colour and walk.target.kind != "url"
        else None
    )
    if colour is None or len(walk.wish.targets) != 1:
        return None
    records = walk.state.records(colour) if walk.settings.state.exists() else []
    if found is not None and any(
        row.proven and row.is_running(found.id, found.image, found.config_hash) for row in records
    ):
        return None
    good = [row for row in records if row.proven]
    if not good:
        return None
    walk.state.prepare()
    try:
        walk.lock()
    except Locked:
        return None
    if walk.state.open_release() is not None:
        walk.unlock()  # a dead session's: its guard takes back more than we would
        return None
    deploying.put_back(walk, good[-1])
    ended = _take_back(walk, tally, release.FAILED)
    walk.unlock()
    return ended


def _leave(walk: Walk, tally: Tally, code: int) -> Ended:
    """--no-rollback: close the release as it is, which guard and recover respect."""
    walk.state.close(walk.release_id or "")
    walk.state.journal("left as it is", release=walk.release_id, who=preflight.who())
    if walk.pending is not None:
        walk.state.keep_record(walk.pending)
    return _ended(walk, Word.LEFT_AS_IT_IS, code, tally)


def _taken_by_another(walk: Walk, tally: Tally) -> Ended:
    """Somebody ran the take-back while we were at it."""
    ended = _ended(walk, Word.TAKEN_BACK, release.FAILED, tally)
    why = (Why("", f"the release was taken back by {walk.taken_by()}"),)
    return Ended(replace(ended.ending, why=why), release.FAILED)


def _lost(walk: Walk, tally: Tally, why: str) -> Ended:
    """A person is needed: what runs now, what was tried, the one command."""
    ended = _ended(walk, Word.UNDO_FAILED, release.NEEDS_PERSON, tally)
    run = walk.state.take_back_command if walk.state.open_release() else "cutover status"
    where = f"on {os.uname().nodename}; safe to run again"
    return Ended(replace(ended.ending, tried=(why,), run=run, run_where=where), release.NEEDS_PERSON)


# --- saying ----------------------------------------------------------------------------------------------------------
def _ended(walk: Walk, word: Word, code: int, tally: Tally) -> Ended:
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
        why=() if good else _why(tally, walk.evidence, walk),
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
    from cutover.probes.traffic import failed_since

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
    return str(evidence.file.parent / "report.html") if evidence.file else ""


def _why(tally: Tally, evidence: Evidence, walk: Walk | None) -> tuple[Why, ...]:
    """The reasons of a bad end, from the verdicts; at most five."""
    bad = [
        # A question of the release's own, like deploy::up, is no test that anybody could open.
        Why(each.test if ".py::" in each.test else "", f"{each.verdict.question}: {each.verdict.reason}")
        for each in evidence.checks
        if each.verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}
    ]
    if walk is not None and walk.trouble is not None and not bad:
        bad = [Why("", str(walk.trouble))]
    return tuple(bad[:5]) or (Why("", release.reason(tally)),)


def what_runs(walk: Walk) -> list[Running]:
    """What each colour runs, asked now; what cannot be asked says so."""
    live = scene.who_is_live(walk.settings, walk.scene.proxy) if hasattr(walk, "scene") else None
    shown = []
    for colour in (each for each in COLOURS if each in walk.settings.colours):
        try:
            found = engine.the_container(walk.settings.compose_project(colour), walk.settings.service)
        except engine.EngineSilent:
            shown.append(Running(colour, "", "could not be asked", live=bool(live and live.colour == colour)))
            continue
        if found is None:
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
                live=bool(live and live.colour == colour),
                digest=found.image,
            )
        )
    if walk.target.colour and not (live and live.colour):
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


__all__ = ["Ended", "UsageProblem", "begin", "finish", "point_latest", "what_runs", "write", "write_summary"]
