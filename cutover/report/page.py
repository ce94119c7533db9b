"""report.html and junit.xml of a session, with what pytest-html and pytest wrote in them.

The page is one file of at most 3 MB that loads nothing and runs nothing but its own script. `report.html.j2` has one
macro for each part; its environment masks and escapes every value. pytest-html keeps its rows as JSON in one attribute,
and a script writes them into the page as HTML: node ids and the environment without escaping, output without our mask.
So the rows are read, masked, escaped and written back.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from cutover.core.evidence import Check, Evidence, Step, by_test, outcome_counts, tests_not_asked
from cutover.core.masking import MASK
from cutover.core.result import SessionResult, sentence_of
from cutover.core.text import count, duration
from cutover.core.verdict import Outcome
from cutover.report import charts, facts
from cutover.report.escape import clean, html_cut, html_json, html_text, one_line, template_environment

if TYPE_CHECKING:
    from cutover.report.two_sessions import SessionChanges

Journal = Sequence[Mapping[str, Any]]
MOST_BYTES = 3_000_000
SCRIPT = re.compile(r"<script(?:\s[^>]*)?>(.*?)</script>", re.DOTALL | re.IGNORECASE)
STAGES: Mapping[int, str] = {0: "gate", 1: "through the proxy", 2: "watch"}
PARTS = (
    "title", "band", "todo", "each_host", "from_to", "who_when", "timeline", "proof", "failed", "compared",
    "every_check", "not_asked", "sides", "watch", "logs", "undo_script", "journal_entries", "version_list",
)  # fmt: skip
PARTS_OF_CHANGES = ("both_sessions", "changed_answers", "changed_checks", "figures")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each thing a page contains; what is left out is counted on the page and is in evidence.jsonl."""

    value: int = 4000
    """Letters of one value of a verdict's evidence."""
    checks: int = 1500
    journal: int = 400
    script: int = 60_000
    points: int = 300
    """Points of one line of a chart."""


TIGHTER = (
    Limits(),
    Limits(800, 1500, 200, 20_000, 150),
    Limits(160, 800, 80, 8000, 80),
    Limits(80, 150, 30, 3000, 60),
)


def page_title(evidence: Evidence, result: SessionResult) -> str:
    """`RELEASED · recall · green · sha-9b7d001`, plain text."""
    tag = facts.fact_text(facts.fact_mapping(evidence.facts, "to"), "tag")
    parts = (str(result.status), result.project, facts.fact_text(evidence.facts, "target"), tag)
    return " · ".join(filter(None, parts))


def render_page(evidence: Evidence, result: SessionResult, undo: str = "", journal: Journal = ()) -> str:
    """The whole page, without pytest-html's table."""
    return _alone(page_title(evidence, result), _main(evidence, result, undo, journal))


def finish_page(
    file: Path, evidence: Evidence, result: SessionResult, undo: str = "", journal: Journal = ()
) -> None:
    """Write the report to *file*: above pytest-html's table if pytest-html wrote one there, else alone.

    The file is replaced in one step. Raises OSError.
    """
    evidence.facts.setdefault("logs", facts.saved_logs(file.parent))
    main = _main(evidence, result, undo, journal)
    alone = _alone(page_title(evidence, result), main)
    theirs = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    merged = merge_pytest_page(theirs, main, page_title(evidence, result), evidence.checks)
    page = _with_policy(merged) if merged is not None else alone
    _replace(file, page if len(page.encode()) <= MOST_BYTES else alone)


def render_changes(found: SessionChanges) -> str:
    """The page of what changed between two sessions."""
    titles = (page_title(each.evidence, each.result) for each in (found.first, found.second))
    return _alone(" → ".join(titles), _bounded({"changes": found}, PARTS_OF_CHANGES))


def _alone(title: str, main: str) -> str:
    return _with_policy(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f"<title>{html_text(title)}</title></head><body>{main}</body></html>\n"
    )


def _main(evidence: Evidence, result: SessionResult, undo: str, journal: Journal) -> str:
    """Our part of the page, with style and script."""
    tests = sorted(by_test(evidence.checks), key=lambda rows: rows[0].verdict.rank)
    asked = [rows for rows in tests if rows[0].verdict.outcome is not Outcome.NOT_ASKED]
    unasked = [rows[0] for rows in tests if rows[0].verdict.outcome is Outcome.NOT_ASKED]
    bad = sorted((check for check in evidence.checks if check.bad), key=lambda check: check.verdict.rank)
    values = {
        "evidence": evidence,
        "facts": evidence.facts,
        "result": result,
        "undo": undo,
        "journal": journal,
        "times": facts.times(evidence.facts),
        "asked": asked,
        "comparison": facts.comparison_of(evidence),
        "bad": bad,
        "reported": [check for check in unasked if check.verdict.evidence],
    }
    return _bounded(values, PARTS)


def _bounded(values: Mapping[str, Any], parts: Sequence[str]) -> str:
    """Those macros of the template that *parts* names, as short as they must be."""
    inner = ""
    for limits in TIGHTER:
        module: Any = _template().make_module({**values, "limits": limits, "shortened": limits != TIGHTER[0]})
        inner = "".join(_part(getattr(module, name)) for name in parts)
        if len(inner.encode()) <= MOST_BYTES * 0.8:
            break
    files = resources.files("cutover.report")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f'<style>{style}</style><main class="cutover">{inner}</main><script>{script}</script>'


def _part(macro: Callable[[], str]) -> str:
    # A fact of an unexpected shape must cost its own part only: the report is needed most when things went wrong.
    try:
        return macro()
    except Exception as error:  # noqa: BLE001 - as above
        text = f"This part could not be made ({type(error).__name__}: {error}); evidence.jsonl has what it is made of."
        return f'<section><p class="cut">{html_text(text)}</p></section>'


@cache
def _template() -> Any:
    environment = template_environment(clean, autoescape=True)  # masked before it is escaped
    environment.filters |= {
        "cut": html_cut,
        "json": html_json,
        "duration": duration,
        "signs": lambda outcome: SIGNS.get(outcome, ("unknown", "?")),
    }
    environment.globals |= {
        "count": count,
        "sentence_of": sentence_of,
        "outcome_counts": outcome_counts,
        "pairs_across_switch": pairs_across_switch,
        "timeline_rows": timeline_rows,
        "series_charts": charts.series_charts,
        "proof_chart": charts.proof_chart,
        "stages": STAGES,
        "text": facts.fact_text,
        "mapping": facts.fact_mapping,
        "moment": facts.fact_time,
        "span": facts.span,
        "tags": facts.tags,
        "times_of": facts.times,
        "tests_not_asked": tests_not_asked,
    }
    return environment.get_template("report.html.j2")


SIGNS: Mapping[str, tuple[str, str]] = {
    "yes": ("yes", "✓"),
    "no": ("no", "✗"),
    "unknown": ("unknown", "?"),
    "not asked": ("none", "·"),
}
"""Outcome -> its class in the style sheet, and its sign."""


def pairs_across_switch(checks: Iterable[Check]) -> list[tuple[Check, Check, bool]]:
    """The same check before (stage 0) and after the switch (stage 1), and whether both have the same outcome.

    Pairs that differ come first. Of several checks of the same test and question the worst counts.
    """
    sides: tuple[dict[tuple[str, str], Check], ...] = ({}, {})
    for check in checks:
        if check.stage in {0, 1}:
            side, key = sides[check.stage], check.comparable
            if key not in side or check.verdict.rank < side[key].verdict.rank:
                side[key] = check
    before, after = sides
    pairs = [(check, after[key]) for key, check in before.items() if key in after]
    rows = [(one, two, one.verdict.outcome is two.verdict.outcome) for one, two in pairs]
    return sorted(rows, key=lambda row: row[2])


def timeline_rows(steps: Sequence[Step]) -> list[tuple[str, Step, float, float]]:
    """Each step with its moment (empty if it is that of the step before), and left edge and width of its bar in %."""
    begin = min((step.at - step.seconds for step in steps), default=0.0)
    whole = max((step.at for step in steps), default=0.0) - begin or 1.0
    rows = []
    for moment, step in facts.with_moments(steps):
        left = min(98.0, 100 * (step.at - step.seconds - begin) / whole)
        rows.append((moment, step, left, min(max(2.0, 100 * step.seconds / whole), 100 - left)))
    return rows


def _with_policy(page: str) -> str:
    """*page* with a content policy: it may load nothing, and run only the scripts that it contains."""
    page = re.sub(r"<html(?![^>]*lang)[^>]*>", '<html lang="en">', page, count=1)
    digests = {hashlib.sha256(script.encode()).digest() for script in SCRIPT.findall(page)}
    hashes = " ".join(sorted(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests))
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {hashes}; base-uri 'none'; "
        "form-action 'none'"
    )
    meta = (
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
    )
    return re.sub(r'(<meta charset="utf-8"\s*/?>)', lambda found: found.group(1) + meta, page, count=1)


# --- pytest-html's page --------------------------------------------------------------------------------------
BLOB = re.compile(r'(data-jsonblob=")([^"]*)(")')
TITLES = re.compile(r'(<(?:title|h1) id="(?:head-)?title">).*?(</(?:title|h1)>)', re.DOTALL)
ID_CELL, CELL_END = '<td class="col-testId">', "</td>"
MOST_CAPTURED = 20_000
HEADING = (
    '<section class="cutover" id="tests"><h2>Tests, as pytest saw them</h2>'
    "<noscript><p>This table needs JavaScript; every check is in the list above.</p></noscript></section>"
)


def merge_pytest_page(page: str, ours: str, title: str, checks: Iterable[Check] = ()) -> str | None:
    """pytest-html's *page* with *ours* above its table; None if *page* is not one of pytest-html.

    Each row of its table gets the ids of the *checks* that its test recorded.
    """
    blob = BLOB.search(page)
    if blob is None or "<body>" not in page:
        return None
    ids: dict[str, list[int]] = {}
    for check in checks:
        ids.setdefault(check.test, []).append(check.id)
    try:
        rows = _safe_rows(json.loads(html.unescape(blob.group(2))), ids)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    before, after = MASK(page[: blob.start(2)]), MASK(page[blob.end(2) :])
    # The handler of a hidden button, which our content policy would report as an error.
    before = before.replace(' onclick="location.reload()"', "")
    titled = TITLES.sub(lambda found: f"{found.group(1)}{html_text(title)}{found.group(2)}", before)
    table = html.escape(json.dumps(rows))
    return titled.replace("<body>", f"<body>{ours}{HEADING}", 1) + table + after


def _safe_rows(blob: dict[str, Any], ids: Mapping[str, list[int]]) -> dict[str, Any]:
    environment = blob["environment"]
    safe: Any = html_text(environment)
    if isinstance(environment, dict):
        safe = {MASK(str(key)): html_text(value) for key, value in environment.items()}
    tests = blob["tests"].items()
    rows = {MASK(test): [_safe_row(each, ids.get(test, [])) for each in found] for test, found in tests}
    return blob | {"environment": safe, "tests": rows}


def _safe_row(result: dict[str, Any], ids: list[int]) -> Any:
    row: Any = MASK.within(result)
    row["resultsTableRow"] = [_safe_cell(each, ids) for each in row["resultsTableRow"]]
    log = row.get("log", "")
    if len(log) > MOST_CAPTURED:
        left = f"\n… {len(log) - MOST_CAPTURED:,} letters left out …\n"
        row["log"] = log[: MOST_CAPTURED // 2] + left + log[-MOST_CAPTURED // 2 :]
    return row


def _safe_cell(cell: str, ids: list[int]) -> str:
    if not (cell.startswith(ID_CELL) and cell.endswith(CELL_END)):
        return cell
    numbers = "".join(f" #{each}" for each in ids[:9])
    return f"{ID_CELL}{html_text(cell[len(ID_CELL) : -len(CELL_END)])}{numbers}{CELL_END}"


# --- junit.xml -----------------------------------------------------------------------------------------------
EMPTY_SUITE = re.compile(r"<testsuite\b[^>]*/>")


def with_properties(xml: str, rows: Iterable[tuple[str, str]]) -> str:
    """*xml* masked, with *rows* (name, value) as the first properties of its suite; only masked if it has no suite."""
    xml = MASK(xml)
    try:
        root = ET.fromstring(xml)  # noqa: S314 - written by pytest a moment ago
    except ET.ParseError:
        return xml
    suite = root if root.tag == "testsuite" else root.find("testsuite")
    if suite is None or EMPTY_SUITE.search(xml):
        return xml
    there = suite.find("properties")
    if there is None:
        there = ET.Element("properties")
        suite.insert(0, there)
    for number, (name, value) in enumerate(rows):
        there.insert(number, ET.Element("property", name=clean(name), value=clean(value)))
    done: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return done.decode()


def properties(evidence: Evidence, result: SessionResult) -> list[tuple[str, str]]:
    """Name and value of each property of JUnit's suite; unknown ones are left out."""
    known = evidence.facts
    rows = {
        "cutover.status": str(result.status),
        "cutover.sentence": sentence_of(result),
        "cutover.exit_code": str(result.exit_code),
        "cutover.project": result.project,
        "cutover.target": facts.fact_text(known, "target"),
        "cutover.from": facts.fact_text(facts.fact_mapping(known, "from"), "tag"),
        "cutover.to": facts.fact_text(facts.fact_mapping(known, "to"), "tag"),
        "cutover.digest": facts.fact_text(facts.fact_mapping(known, "to"), "digest"),
        "cutover.who": facts.fact_text(known, "who"),
        "cutover.checks": outcome_counts(evidence),
    }
    return [(name, one_line(value)) for name, value in rows.items() if value]


def finish_junit(file: Path, evidence: Evidence, result: SessionResult) -> None:
    """Complete the file that pytest wrote; does nothing if there is none. Raises OSError."""
    if not file.is_file():
        return
    done = with_properties(file.read_text(encoding="utf-8", errors="replace"), properties(evidence, result))
    _replace(file, done)


def _replace(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(text, encoding="utf-8", errors="replace")
    draft.replace(file)
