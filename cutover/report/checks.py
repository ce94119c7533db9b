"""What was asked: the failed checks open, every check folded, and the gate before and after the switch side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from cutover.core.verdict import Outcome, Verdict
from cutover.evidence import Check, Evidence
from cutover.report import facts
from cutover.report.ending import Ending
from cutover.report.facts import Times, mapping
from cutover.report.html import KINDS, Limits, cut, esc, mark, pairs, section, value_of
from cutover.report.words import count, duration

STAGES: Mapping[int, str] = {0: "gate", 1: "through the proxy", 2: "watch"}
ORDER = (Outcome.NO, Outcome.UNKNOWN, Outcome.YES, Outcome.NOT_ASKED)
MOST_OPEN = 50
PARAMETER = re.compile(r"\[(.*)\]$", re.DOTALL)


def failed(evidence: Evidence, ending: Ending, limits: Limits) -> str:
    """What failed or could not be answered, open, with expected, seen and evidence."""
    bad = [each for each in evidence.checks if each.verdict.outcome in {Outcome.NO, Outcome.UNKNOWN}]
    bad.sort(key=lambda each: ORDER.index(each.verdict.outcome))
    told = {(each.test, each.verdict.reason) for each in bad}
    extra = [why for why in ending.why if not any(why.test == test for test, _reason in told)]
    said = "".join(f"<li><code>{esc(why.test)}</code> {cut(why.reason, limits.value)}</li>" for why in extra)
    shown = "".join(_open(each, limits) for each in bad[:MOST_OPEN])
    more = (
        f"<p>{count(len(bad) - MOST_OPEN, 'more check')} failed: all are in the list below.</p>"
        if len(bad) > MOST_OPEN
        else ""
    )
    return section("failed", "What failed", (f"<ul>{said}</ul>" if said else "") + shown + more)


def _open(check: Check, limits: Limits) -> str:
    verdict = check.verdict
    head = f"{mark(verdict.outcome)} <b>{esc(verdict.question)}</b>: {cut(verdict.reason, limits.value)}"
    where = f"<p><code>{esc(check.test)}</code> · {esc(check.target)} · {esc(duration(check.seconds))}</p>"
    kind = KINDS[verdict.outcome]
    return f'<details class="bad {kind}" open><summary>{head}</summary>{where}{evidence_of(verdict, limits)}</details>'


def evidence_of(verdict: Verdict, limits: Limits) -> str:
    """What was expected, what was seen, and each piece of evidence."""
    rows = [("expected", cut(verdict.expected, limits.value)), ("seen", cut(verdict.seen, limits.value))]
    return pairs(rows + [(key, value_of(value, limits.value)) for key, value in verdict.evidence.items()])


def every(evidence: Evidence, times: Times, limits: Limits) -> str:
    """Every check, folded; sortable by outcome, test, stage, time and duration where there is JavaScript."""
    checks = sorted(evidence.checks, key=_rank)
    if not checks:
        return ""
    shown = checks[: limits.checks]
    names = ("outcome", "test", "stage", "at", "took")
    head = "".join(f'<th scope="col" data-sort="{name}">{name}</th>' for name in names)
    body = "".join(_row(each, times, limits) for each in shown)
    table = (
        f'<div class="wide"><table class="checks sortable"><thead><tr>{head}</tr></thead>{body}</table></div>'
    )
    left = len(checks) - len(shown)
    note = (
        f"<p>{count(left, 'more check')} that passed are left out here and are in evidence.jsonl.</p>"
        if left
        else ""
    )
    return section("checks", "Every check", table + note, esc(_counted(checks)))


def _counted(checks: Sequence[Check]) -> str:
    found = [each.verdict.outcome for each in checks]
    return ", ".join(f"{found.count(word):,} {word}" for word in Outcome if word in found)


def _row(check: Check, times: Times, limits: Limits) -> str:
    verdict = check.verdict
    line = f"{esc(verdict.question)}: {cut(verdict.reason, limits.value)}"
    more = evidence_of(verdict, limits)
    said = f"<details><summary>{line}</summary>{more}</details>" if more else f"<p>{line}</p>"
    cells = (
        (ORDER.index(verdict.outcome), mark(verdict.outcome)),
        (check.test, f"<code>{esc(check.test)}</code>{said}"),
        (check.stage, esc(STAGES.get(check.stage, check.stage))),
        (f"{check.at:.3f}", esc(times.short(check.at))),
        (f"{check.seconds:.6f}", esc(duration(check.seconds)) if check.seconds else ""),
    )
    return (
        "<tbody><tr>"
        + "".join(f'<td data-key="{esc(key)}">{cell}</td>' for key, cell in cells)
        + "</tr></tbody>"
    )


def key(check: Check) -> str:
    """The test's id without its target, and the question: what is the same before and after the switch."""
    found = PARAMETER.search(check.test)
    rest = found.group(1).replace(check.target, "", 1).strip("-") if found else ""
    base = check.test[: found.start()] if found else check.test
    return f"{base}[{rest}]" if rest else base


def side_by_side(evidence: Evidence, limits: Limits) -> str:
    """The gate before the switch beside the same gate through the proxy, what differs first."""
    before, after = _by_key(evidence.checks, 0), _by_key(evidence.checks, 1)
    keys = [name for name in before if name in after]
    if not keys:
        return ""
    differ = {name for name in keys if before[name].verdict.outcome is not after[name].verdict.outcome}
    keys.sort(key=lambda name: name not in differ)
    rows = "".join(
        _pair(name, before[name], after[name], limits, name in differ) for name in keys[: limits.checks]
    )
    targets = [side[keys[0]].target for side in (before, after)]
    head = f"<th>check</th><th>before the switch: {esc(targets[0])}</th><th>after: {esc(targets[1])}</th>"
    table = f'<div class="wide"><table class="sides"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    note = f"{len(keys) - len(differ):,} of {count(len(keys), 'check')} answered the same"
    return section("sides", "Before and after the switch", table, esc(note))


def _by_key(checks: Iterable[Check], stage: int) -> dict[str, Check]:
    """One check for each test and question; of several, the worst."""
    found: dict[str, Check] = {}
    for check in checks:
        name = f"{key(check)} {check.verdict.question}"
        if check.stage == stage and not (name in found and _rank(found[name]) <= _rank(check)):
            found[name] = check
    return found


def _rank(check: Check) -> int:
    return ORDER.index(check.verdict.outcome)


def _pair(name: str, before: Check, after: Check, limits: Limits, differs: bool) -> str:
    kind = ' class="differs"' if differs else ""
    return f"<tr{kind}><td><code>{esc(name)}</code></td>{_half(before, limits)}{_half(after, limits)}</tr>"


def _half(check: Check, limits: Limits) -> str:
    took = f" <small>{esc(duration(check.seconds))}</small>" if check.seconds else ""
    return (
        f"<td>{mark(check.verdict.outcome)}{took}<br>{cut(check.verdict.reason, min(limits.value, 400))}</td>"
    )


def not_asked(evidence: Evidence) -> str:
    """What was not asked, by reason, so that nobody takes silence for a yes."""
    by_reason = facts.not_asked(evidence.facts)
    if not by_reason:
        return ""
    said = "".join(
        f"<li>{esc(reason)}: {', '.join(f'<code>{esc(test)}</code>' for test in tests[:100])}</li>"
        for reason, tests in by_reason.items()
    )
    return section(
        "not-asked", "Not asked", f"<ul>{said}</ul>", esc(count(sum(map(len, by_reason.values())), "check"))
    )


def logs(evidence: Evidence, limits: Limits) -> str:
    """The last lines of each log that was saved, folded."""
    saved = mapping(evidence.facts, "logs")
    said = "".join(
        f"<details><summary>{esc(name)}</summary><pre>{cut(lines, limits.script)}</pre></details>"
        for name, lines in saved.items()
    )
    return section("logs", "Saved logs", said)
