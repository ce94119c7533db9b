"""The job summary and the annotations of a CI, within GitHub's limits: the answer first, cut honestly.

A summary of more than 1 MiB is refused as a whole, and of more than ten annotations of a kind the rest is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from cutover.core.masking import MASK
from cutover.core.verdict import Outcome
from cutover.evidence import Check, Evidence
from cutover.report import proof
from cutover.report.ending import Ending, sentence
from cutover.report.facts import mapping, span, text, times
from cutover.report.head import kind_of
from cutover.report.words import count, duration

MOST_BYTES = 1_000_000
MOST_ANNOTATIONS = 10
MOST_LETTERS = 600
SHAPES = {"good": "✅", "back": "↩️", "person": "🚨", "unsure": "❔"}
MARKS = {
    Outcome.YES: "✓ yes",
    Outcome.NO: "✗ no",
    Outcome.UNKNOWN: "? unknown",
    Outcome.NOT_ASKED: "· not asked",
}
WORST_FIRST = (Outcome.NO, Outcome.UNKNOWN, Outcome.YES, Outcome.NOT_ASKED)


def summary(evidence: Evidence, ending: Ending, link: str = "", most: int = MOST_BYTES) -> str:
    """Markdown: verdict, counts, why and what to do, run of show, then as many checks as fit, failed ones first."""
    lines = [*_head(evidence, ending, link), *_show(evidence)]
    rows = list(_checks(evidence))
    size = sum(len(line.encode()) + 1 for line in lines) + 500  # room for the sentence on what is left out
    shown = []
    for row in rows:
        size += len(row.encode()) + 1
        if size > most:
            break
        shown.append(row)
    left = len(rows) - len(shown)
    if shown:
        lines += [
            "",
            "<details><summary>Every check</summary>",
            "",
            "| | check | target | what it said | took |",
        ]
        lines += ["|---|---|---|---|--:|", *shown, "", "</details>"]
    lines += (
        ["", f"{count(left, 'more check')} left out: evidence.jsonl in the report has all."] if left else []
    )
    return _within("\n".join(lines) + "\n", most)


def _within(whole: str, most: int) -> str:
    """*whole*, or its first part with a sentence that says so: nobody is served by a summary that is refused."""
    if len(whole.encode()) <= most:
        return whole
    said = "\n\nThis summary was cut; the report has everything.\n"
    return whole.encode()[: most - len(said.encode())].decode(errors="ignore") + said


def counted(evidence: Evidence) -> str:
    """`57 yes, 1 no`; what is zero is left out."""
    found = Counter(check.verdict.outcome for check in evidence.checks)
    return ", ".join(f"{found[word]:,} {word}" for word in Outcome if found[word]) or "no check ran"


def _head(evidence: Evidence, ending: Ending, link: str) -> Iterator[str]:
    facts = evidence.facts
    yield f"## {SHAPES[kind_of(ending.word)]} {ending.word}: {plain(ending.project)}"
    yield ""
    yield f"**{plain(sentence(ending))}**"
    yield ""
    tags = [text(mapping(facts, key), "tag") for key in ("from", "to")]
    lasted = span(evidence)
    parts = [counted(evidence), f"exit {ending.exit_code}", " → ".join(code(tag) for tag in tags if tag)]
    parts += [f"by {plain(text(facts, 'who'))}" if text(facts, "who") else ""]
    parts += [f"{duration(lasted[1] - lasted[0])} from {times(facts).full(lasted[0])}"] if lasted else []
    yield " · ".join(part for part in parts if part)
    for why in ending.why:
        yield f"- **why** {code(why.test) + ' ' if why.test else ''}{plain(why.reason)}"
    yield from (f"- **tried** {plain(each)}" for each in ending.tried)
    if ending.run:
        yield f"- **run** {code(ending.run)} {plain(ending.run_where)}"
    yield from (f"- **next** {plain(each)}" for each in ending.next)
    if link:
        yield f"- **see** {link}"
    elif ending.see:
        yield f"- **see** {code(ending.see)}"


def _show(evidence: Evidence) -> Iterator[str]:
    if not evidence.steps:
        return
    clock = times(evidence.facts)
    yield from ("", f"| | {clock.name} | step | what came of it | took |", "|---|---|---|---|--:|")
    moment = ""
    for step in evidence.steps[:60]:
        at = clock.short(step.at - step.seconds)
        mark = MARKS.get(Outcome(step.outcome), "?").split()[0] if step.outcome in {*Outcome} else "?"
        shown = step.moment if step.moment != moment else ""
        moment = step.moment or moment
        yield f"| {shown} | {at} | {mark} {plain(step.name)} | {plain(step.text)} | {duration(step.seconds)} |"
    seen = mapping(evidence.facts, "proof")
    if seen.get("requests"):
        yield from ("", f"Proof of the switch: {plain(proof.words(seen))}.")


def _checks(evidence: Evidence) -> Iterator[str]:
    ranked = sorted(evidence.checks, key=lambda check: WORST_FIRST.index(check.verdict.outcome))
    for check in ranked:
        said = f"{check.verdict.question}: {check.verdict.reason}"
        took = duration(check.seconds) if check.seconds else ""
        name = code(check.test)
        yield f"| {MARKS[check.verdict.outcome]} | {name} | {plain(check.target)} | {plain(said)} | {took} |"


def error_lines(evidence: Evidence, ending: Ending) -> list[str]:
    """`::error` lines for what failed, at most ten; the tenth says how many more there are."""
    bad = [check for check in evidence.checks if check.verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}]
    bad.sort(key=lambda check: WORST_FIRST.index(check.verdict.outcome))
    if not bad and ending.exit_code == 0:
        return []
    rows = [_command(str(ending.word), sentence(ending)), *(_of(check) for check in bad)]
    if len(rows) <= MOST_ANNOTATIONS:
        return rows
    left = len(rows) - MOST_ANNOTATIONS + 1
    return [
        *rows[: MOST_ANNOTATIONS - 1],
        _command("more", f"{count(left, 'more check')} failed: see the job summary"),
    ]


def _of(check: Check) -> str:
    return _command(check.test, f"{check.verdict.question}: {check.verdict.reason}")


def _command(title: str, said: str) -> str:
    """A workflow command; its own separators are escaped, or a service could write commands of its own."""
    escaped = _line(said).replace("%", "%25")
    named = _line(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::error title={named}::{escaped}"


def _line(said: str) -> str:
    """*said* masked, on one line, not endless."""
    line = " ".join(MASK(said).split())
    return line if len(line) <= MOST_LETTERS else f"{line[:MOST_LETTERS]}…"


def plain(said: str) -> str:
    """*said* as Markdown text on one line: no markup, no mention, no link of a service's own making."""
    line = _line(said)
    for letter in "\\`*_[]<>|~#":
        line = line.replace(
            letter, f"\\{letter}" if letter not in "<>" else {"<": "&lt;", ">": "&gt;"}[letter]
        )
    return line.replace("@", "@\u200b").replace("://", ":\u200b//")


def code(said: str) -> str:
    """*said* as code on one line, also within a table."""
    line = _line(said).replace("`", "'").replace("|", "\\|")
    return f"`{line}`" if line else ""


def properties(evidence: Evidence, ending: Ending) -> Iterable[tuple[str, str]]:
    """What JUnit's suite says beside its tests: name and value of each property."""
    facts = evidence.facts
    rows = {
        "cutover.ending": str(ending.word),
        "cutover.sentence": sentence(ending),
        "cutover.exit_code": str(ending.exit_code),
        "cutover.project": ending.project,
        "cutover.target": text(facts, "target"),
        "cutover.from": text(mapping(facts, "from"), "tag"),
        "cutover.to": text(mapping(facts, "to"), "tag"),
        "cutover.digest": text(mapping(facts, "to"), "digest"),
        "cutover.who": text(facts, "who"),
        "cutover.checks": counted(evidence),
    }
    return [(name, _line(value)) for name, value in rows.items() if value]
