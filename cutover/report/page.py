"""report.html: one file of at most 3 MB that loads nothing and runs nothing but its own script.

`report.html.j2` has one macro for each part; its environment masks and escapes every value.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from cutover.core.evidence import Check, Evidence, Step, by_test, outcome_counts, tests_not_asked
from cutover.core.result import SessionResult, sentence_of
from cutover.core.text import count, duration
from cutover.core.verdict import Outcome
from cutover.report import charts, facts
from cutover.report.escape import clean, html_cut, html_json, html_text, template_environment
from cutover.report.folder import saved_logs
from cutover.report.pytest_html import merge_pytest_page

Journal = Sequence[Mapping[str, Any]]
MOST_BYTES = 3_000_000
SCRIPT = re.compile(r"<script(?:\s[^>]*)?>(.*?)</script>", re.DOTALL | re.IGNORECASE)
STAGES: Mapping[int, str] = {0: "gate", 1: "through the proxy", 2: "watch"}
PARTS = (
    "title", "band", "todo", "each_host", "from_to", "who_when", "timeline", "proof", "failed", "compared",
    "every_check", "not_asked", "sides", "watch", "logs", "undo_script", "journal_entries", "version_list",
)  # fmt: skip


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
    return _alone(evidence, result, _main(evidence, result, undo, journal))


def finish_page(
    file: Path, evidence: Evidence, result: SessionResult, undo: str = "", journal: Journal = ()
) -> None:
    """Write the report to *file*: above pytest-html's table if pytest-html wrote one there, else alone.

    The file is replaced in one step. Raises OSError.
    """
    evidence.facts.setdefault("logs", saved_logs(file.parent))
    main = _main(evidence, result, undo, journal)
    alone = _alone(evidence, result, main)
    theirs = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    merged = merge_pytest_page(theirs, main, page_title(evidence, result), evidence.checks)
    page = _with_policy(merged) if merged is not None else alone
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(page if len(page.encode()) <= MOST_BYTES else alone, encoding="utf-8", errors="replace")
    draft.replace(file)


def _alone(evidence: Evidence, result: SessionResult, main: str) -> str:
    return _with_policy(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f"<title>{html_text(page_title(evidence, result))}</title></head><body>{main}</body></html>\n"
    )


def _main(evidence: Evidence, result: SessionResult, undo: str, journal: Journal) -> str:
    """Our part of the page, with style and script."""
    tests = sorted(by_test(evidence.checks), key=lambda rows: rows[0].verdict.rank)
    asked = [rows for rows in tests if rows[0].verdict.outcome is not Outcome.NOT_ASKED]
    unasked = [rows[0] for rows in tests if rows[0].verdict.outcome is Outcome.NOT_ASKED]
    values = {
        "evidence": evidence,
        "facts": evidence.facts,
        "result": result,
        "undo": undo,
        "journal": journal,
        "times": facts.times(evidence.facts),
        "asked": asked,
        "comparison": _comparison(evidence),
        "bad": sorted(
            (check for check in evidence.checks if check.bad), key=lambda check: check.verdict.rank
        ),
        "reported": [check for check in unasked if check.verdict.evidence],
    }
    inner = ""
    for limits in TIGHTER:
        module: Any = _template().make_module({**values, "limits": limits, "shortened": limits != TIGHTER[0]})
        inner = "".join(_part(getattr(module, name)) for name in PARTS)
        if len(inner.encode()) <= MOST_BYTES * 0.8:
            break
    files = resources.files("cutover.report")
    style, script = (files.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f'<style>{style}</style><main class="cutover">{inner}</main><script>{script}</script>'


def _comparison(evidence: Evidence) -> Mapping[str, Any]:
    """The evidence of the check `compare`, empty if nothing was compared."""
    found = (check.verdict.evidence for check in evidence.checks if check.verdict.question == "compare")
    return next((each for each in found if "differences" in each), {})


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
