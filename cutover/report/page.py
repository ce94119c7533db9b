"""The report as one HTML page: no request leaves it, nothing in it can run but its own script, at most 3 MB."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cutover.evidence import Evidence
from cutover.report import charts, checks, head
from cutover.report.ending import Ending
from cutover.report.facts import Times, mapping, text, times
from cutover.report.folder import saved_logs
from cutover.report.html import TIGHT, Limits, cut, esc, pairs, section
from cutover.report.tests_html import below
from cutover.report.words import count

MOST_BYTES = 3_000_000
SCRIPT = re.compile(r"<script(?:\s[^>]*)?>(.*?)</script>", re.DOTALL | re.IGNORECASE)


def title(evidence: Evidence, ending: Ending) -> str:
    """The page's title, plain text: `RELEASED · recall · sha-9b7d001 · 2025-09-04 …`."""
    tag = text(mapping(evidence.facts, "to"), "tag")
    return " · ".join(
        part for part in (str(ending.word), ending.project, text(evidence.facts, "target"), tag) if part
    )


def render(
    evidence: Evidence, ending: Ending, undo: str = "", journal: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The whole page by itself, from the files of a session alone."""
    inner = body(evidence, ending, undo, journal)
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>{esc(title(evidence, ending))}</title>'
        f"</head><body>{inner}</body></html>\n"
    )
    return _headed(page)


def body(
    evidence: Evidence, ending: Ending, undo: str = "", journal: Sequence[Mapping[str, Any]] = ()
) -> str:
    """All that the page says, with style and script, to stand alone or above pytest-html's table."""
    style, script = _shipped("page.css"), _shipped("page.js")
    inner = ""
    for limits in TIGHT:
        inner = _sections(evidence, ending, undo, journal, limits)
        if len(inner.encode()) <= MOST_BYTES * 0.8:
            break
    return f'<style>{style}</style><main class="cutover">{inner}</main><script>{script}</script>'


def _shipped(name: str) -> str:
    return (resources.files("cutover.report") / name).read_text(encoding="utf-8")


def _sections(
    evidence: Evidence, ending: Ending, undo: str, journal: Sequence[Mapping[str, Any]], limits: Limits
) -> str:
    clock = times(evidence.facts)
    parts = (
        lambda: _title(evidence, ending),
        lambda: head.band(ending),
        lambda: head.todo(ending),
        lambda: head.from_to(evidence, ending),
        lambda: head.who_when(evidence, ending, clock),
        lambda: head.timeline(evidence, clock),
        lambda: head.proof_of_switch(evidence, clock),
        lambda: checks.failed(evidence, ending, limits),
        lambda: checks.every(evidence, clock, limits),
        lambda: checks.not_asked(evidence),
        lambda: checks.side_by_side(evidence, limits),
        lambda: _watch(evidence, clock, limits),
        lambda: checks.logs(evidence, limits),
        lambda: _undo(undo, limits),
        lambda: _journal(journal, limits),
        lambda: _versions(evidence, limits),
    )
    return "".join(_part(make) for make in parts)


def _part(make: Callable[[], str]) -> str:
    """One part of the page; a fact of an unexpected shape costs its own part, never the report."""
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - the report is written at the worst of times, from anybody's facts
        said = f"This part could not be made ({type(error).__name__}: {error}); evidence.jsonl has what it is made of."
        return f'<section><p class="cut">{esc(said)}</p></section>'


def _watch(evidence: Evidence, clock: Times, limits: Limits) -> str:
    told = charts.charts(evidence.samples, evidence.steps, clock.short, limits.points)
    return section("watch", "What the watch saw", f'<div class="charts">{told}</div>' if told else "")


def _title(evidence: Evidence, ending: Ending) -> str:
    facts = evidence.facts
    parts = [f"<b>cutover {esc(ending.project)}</b>", esc(text(facts, "target")), esc(text(facts, "who"))]
    return f'<p class="title">{"".join(f"<span>{part}</span>" for part in parts if part)}</p>'


def _undo(undo: str, limits: Limits) -> str:
    if not undo.strip():
        return ""
    said = f'<details class="paper" open><summary>undo.sh</summary><pre>{cut(undo, limits.script)}</pre></details>'
    return section("undo", "The undo, as it stood", said)


def _journal(journal: Sequence[Mapping[str, Any]], limits: Limits) -> str:
    if not journal:
        return ""
    shown = journal[-limits.journal :]
    rows = "".join(_entry(row, limits) for row in shown)
    left = len(journal) - len(shown)
    note = (
        f"<p>{count(left, 'older entry', 'older entries')} left out: journal.jsonl has all.</p>"
        if left
        else ""
    )
    head_row = "<tr><th>UTC</th><th>event</th><th>facts</th></tr>"
    table = f'<div class="wide"><table><thead>{head_row}</thead><tbody>{rows}</tbody></table></div>'
    summary = f"<summary>{count(len(journal), 'entry', 'entries')}</summary>"
    return section("journal", "Journal", f'<details class="paper">{summary}{note}{table}</details>')


def _entry(row: Mapping[str, Any], limits: Limits) -> str:
    facts = {key: value for key, value in row.items() if key not in {"at", "event"}}
    said = " · ".join(
        f"{esc(key)} {_short(value, limits)}" for key, value in facts.items() if value not in ("", None)
    )
    return f"<tr><td><code>{esc(row.get('at', ''))}</code></td><td>{esc(row.get('event', ''))}</td><td>{said}</td></tr>"


def _short(value: Any, limits: Limits) -> str:
    plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return f"<code>{cut(plain, min(limits.value, 1000))}</code>"


def _versions(evidence: Evidence, limits: Limits) -> str:
    rows = [(name, cut(version, 200)) for name, version in mapping(evidence.facts, "versions").items()]
    notes = []
    if evidence.lost:
        notes.append(f"{count(evidence.lost, 'line')} of the evidence could not be written or read.")
    if limits is not TIGHT[0]:
        notes.append("This page was shortened to stay below 3 MB; evidence.jsonl beside it has everything.")
    said = "".join(f"<p>{note}</p>" for note in notes)
    return section("versions", "Versions", pairs(rows) + said)


def finish_page(
    file: Path, evidence: Evidence, ending: Ending, undo: str = "", journal: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Make *file* the report: above what pytest-html wrote there, or alone where it wrote nothing.

    Called at the very end, for only now everything is known; a reader never finds half a page.
    """
    evidence.facts.setdefault("logs", saved_logs(file.parent))
    alone = render(evidence, ending, undo, journal)
    there = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    page = below(there, body(evidence, ending, undo, journal), title(evidence, ending)) if there else None
    done = _headed(page) if page is not None else alone
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(done if len(done.encode()) <= MOST_BYTES else alone, encoding="utf-8", errors="replace")
    draft.replace(file)


def _headed(page: str) -> str:
    """*page* with the policy that keeps it from loading or running anything but what it carries."""
    page = re.sub(r"<html(?![^>]*lang)[^>]*>", '<html lang="en">', page, count=1)
    known = " ".join(sorted({_hash(script) for script in SCRIPT.findall(page)}))
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {known}; base-uri 'none'; "
        "form-action 'none'"
    )
    meta = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
    )
    return re.sub(r'(<meta charset="utf-8"\s*/?>)', lambda found: found.group(1) + meta, page, count=1)


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
