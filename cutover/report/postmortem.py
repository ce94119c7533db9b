"""The draft of a postmortem: what machines know is filled in, what people must say is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

from cutover.core.verdict import Outcome
from cutover.evidence import Check, Evidence, Step
from cutover.report import proof
from cutover.report.ending import Ending, Word, sentence
from cutover.report.facts import Times, mapping, moment, not_asked, span, text, times
from cutover.report.folder import Folder
from cutover.report.summary import code, counted, plain
from cutover.report.words import count, duration

MOST_CHECKS = 40


def draft(seen: Folder) -> str:
    """Markdown: summary, timeline, what happened, impact, what went well, questions, runbook gaps, actions."""
    evidence, ending = seen.evidence, seen.ending
    clock = times(evidence.facts)
    parts = (
        _top(evidence, ending, clock),
        _part("Timeline", _timeline(seen, clock)),
        _part("What happened", _happened(evidence, ending)),
        _part("Impact", _impact(evidence, ending)),
        _part("What went well", _well(evidence, ending)),
        _part("Questions for people", _questions(evidence, ending)),
        _part("Gaps in the runbook", _gaps(evidence, ending)),
        _part("Actions", iter(["| what | who | until |", "|---|---|---|", "| … | … | … |"])),
    )
    return "\n\n".join("\n".join(part) for part in map(list, parts)) + "\n"


def _part(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield from (f"## {title}", "", *lines)


def _top(evidence: Evidence, ending: Ending, clock: Times) -> Iterator[str]:
    tags = [text(mapping(evidence.facts, key), "tag") for key in ("from", "to")]
    lasted = span(evidence)
    yield f"# Postmortem: {plain(ending.project)}, {ending.word}"
    yield ""
    yield "Draft from journal and evidence; what only people know is marked with …"
    yield ""
    yield f"- **In one sentence:** {plain(sentence(ending))}"
    if any(tags):
        yield f"- **Release:** {' → '.join(code(tag) for tag in tags if tag)}"
    if text(evidence.facts, "who"):
        yield f"- **By:** {plain(text(evidence.facts, 'who'))}"
    if lasted:
        yield f"- **When:** {clock.full(lasted[0])}, for {duration(lasted[1] - lasted[0])}"
    if ending.exit_code >= 0:
        yield f"- **Exit code:** {ending.exit_code}"
    yield f"- **Checks:** {counted(evidence)}"
    yield "- **Written by:** …"


def _timeline(seen: Folder, clock: Times) -> Iterator[str]:
    """Steps and journal in one list by time, local beside UTC."""
    rows = [(step.at - step.seconds, step.moment, _step(step)) for step in seen.evidence.steps]
    rows += [(at, "", _entry(row)) for row in seen.journal if (at := moment(row, "at")) is not None]
    if not rows:
        yield "No step and no journal entry was left."
        return
    yield from (f"| {clock.name} | UTC | | |", "|---|---|---|---|")
    for at, when, what in sorted(rows, key=lambda row: row[0]):
        yield f"| {clock.short(at)} | {Times(UTC).short(at)} | {when} | {what} |"


def _step(step: Step) -> str:
    took = f" ({duration(step.seconds)})" if step.seconds else ""
    return f"**{plain(step.name)}** {_said(step.outcome)}{plain(step.text)}{took}"


def _said(outcome: str) -> str:
    return "" if outcome == "yes" else f"({outcome}) "


def _entry(row: dict[str, Any]) -> str:
    facts = " · ".join(
        f"{plain(key)} {plain(str(value))}" for key, value in row.items() if _worth(key, value)
    )
    return f"journal: *{plain(str(row.get('event', '')))}* {facts}".rstrip()


def _worth(key: str, value: object) -> bool:
    return key not in {"at", "event", "release"} and value is not None and value not in ("", [], {})


def _bad(evidence: Evidence, *outcomes: Outcome) -> list[Check]:
    return [check for check in evidence.checks if check.verdict.outcome in outcomes]


def _happened(evidence: Evidence, ending: Ending) -> Iterator[str]:
    yield plain(sentence(ending))
    yield ""
    for why in ending.why:
        yield f"- {code(why.test) + ': ' if why.test else ''}{plain(why.reason)}"
    told = {why.test for why in ending.why}
    for check in [each for each in _bad(evidence, Outcome.NO, Outcome.UNKNOWN) if each.test not in told][
        :MOST_CHECKS
    ]:
        verdict = check.verdict
        against = (
            f"; expected {plain(verdict.expected)}, saw {plain(verdict.seen)}" if verdict.expected else ""
        )
        yield f"- {code(check.test)} said {verdict.outcome}: {plain(verdict.reason)}{against}"
    for step in evidence.steps:
        if step.outcome != "yes":
            yield f"- step **{plain(step.name)}** ended with {step.outcome}: {plain(step.text)}"
    yield from (f"- tried: {plain(each)}" for each in ending.tried)
    yield ""
    yield "Root cause: …"


def _impact(evidence: Evidence, ending: Ending) -> Iterator[str]:
    if ending.failed_requests is None:
        yield "- Failed requests of users: not measured. Look at the proxy's access log for the minutes above: …"
    else:
        during = f" in {duration(ending.failed_s)}" if ending.failed_s is not None else ""
        yield f"- Failed requests of users: {ending.failed_requests:,}{during}"
    seen = mapping(evidence.facts, "proof")
    if seen.get("requests"):
        yield f"- The switch itself: {plain(proof.words(seen))}"
    if ending.schema:
        yield f"- The schema stays at {plain(ending.schema)}"
    yield "- Who noticed, and what did it mean to them: …"


def _well(evidence: Evidence, ending: Ending) -> Iterator[str]:
    """Only what was seen to go well."""
    good = len(_bad(evidence, Outcome.YES))
    yield f"- {count(good, 'check')} said yes."
    if ending.word is Word.TAKEN_BACK:
        undo = next((step for step in reversed(evidence.steps) if step.name in {"undo", "take back"}), None)
        took = f" in {duration(undo.seconds)}" if undo else ""
        yield f"- The release was taken back{took} and that was asked for from outside."
    if ending.word is Word.RELEASED:
        yield "- The release stays, and each stage was proven before the next one began."
    if ending.roll_back_s is not None:
        yield f"- Going back would take {duration(ending.roll_back_s)}."
    if ending.saved:
        yield f"- {plain(ending.saved)}."
    yield "- …"


def _questions(evidence: Evidence, ending: Ending) -> Iterator[str]:
    yield "- Who noticed first, a check or a user? …"
    if ending.word not in {Word.RELEASED, Word.GATE_PASSED}:
        yield "- Could a check before the switch have said it? Which one is to be added to `smoke/`? …"
    late = [check for check in _bad(evidence, Outcome.NO) if check.stage > 0]
    if late:
        yield f"- {count(len(late), 'check')} failed only under traffic ({code(late[0].test)}): why not on staging? …"
    odd = _bad(evidence, Outcome.UNKNOWN)
    if odd:
        yield f"- {count(len(odd), 'check')} could not be answered ({code(odd[0].test)}): what was missing? …"
    if ending.word is Word.UNDO_FAILED:
        yield "- What did the person who was needed do, and when was the service well again? …"
    if ending.exit_code < 0:
        yield "- What killed the session: machine, network, a person? What did `cutover recover` say? …"
    yield "- What was luck? …"


def _gaps(evidence: Evidence, ending: Ending) -> Iterator[str]:
    """What was not asked is what the runbook does not cover here."""
    for reason, tests in not_asked(evidence.facts).items():
        yield f"- not asked: {plain(str(reason))} ({count(len(tests), 'check')})"
    seen = {check.stage for check in evidence.checks}
    if 2 not in seen and ending.word not in {Word.GATE_PASSED, Word.PLAN_ONLY}:  # noqa: PLR2004 - the watch's stage
        yield "- the watch saw nothing: either it was not reached, or `checks/` was not asked for"
    if not mapping(evidence.facts, "proof"):
        yield "- there is no proof of a switch: none was made, or it was not reached"
    yield "- Which sentence of `docs/runbook.md` was wrong, missing or not read? …"
