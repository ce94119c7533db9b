"""The draft of a postmortem: recorded facts are filled in, the rest are questions marked with "…"."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from functools import cache
from typing import Any

from jinja2 import Template

from cutover.core.evidence import Check, Evidence, count_outcomes, outcome_counts, tests_not_asked
from cutover.core.result import Status, sentence_of
from cutover.core.text import count, duration
from cutover.core.verdict import Outcome
from cutover.report import facts
from cutover.report.charts import proof_sentence
from cutover.report.escape import markdown_code, markdown_text, template_environment
from cutover.report.facts import ReportFolder

MOST_CHECKS = 40
REVERTS = frozenset({"undo", "revert"})


def draft_postmortem(seen: ReportFolder) -> str:
    """Markdown: summary, timeline, what happened, impact, what went well, questions, gaps in the runbook, actions."""
    evidence, result = seen.evidence, seen.result
    revert = next((step for step in reversed(evidence.steps) if step.name in REVERTS), None)
    return _template().render(
        evidence=evidence,
        facts=evidence.facts,
        result=result,
        sentence=sentence_of(result),
        counts=outcome_counts(evidence),
        tags=facts.tags(evidence.facts),
        lasted=facts.span(evidence),
        times=facts.times(evidence.facts),
        utc=facts.Times(UTC),
        timeline=_timeline(seen),
        others=[check for check in result.unexplained(evidence.checks) if check.bad][:MOST_CHECKS],
        proof=facts.fact_mapping(evidence.facts, "proof"),
        passed=count_outcomes(evidence)[Outcome.YES],
        late=[check for check in _with_outcome(evidence, Outcome.NO) if check.stage > 0],
        unknown=_with_outcome(evidence, Outcome.UNKNOWN),
        revert_s=revert and revert.seconds,
        watched=any(check.stage == 2 for check in evidence.checks),  # noqa: PLR2004 - the stage of the watch
        not_asked=tests_not_asked(evidence),
    )


def _timeline(seen: ReportFolder) -> list[tuple[float, Any]]:
    rows: list[tuple[float, Any]] = [(step.at - step.seconds, step) for step in seen.evidence.steps]
    for row in seen.journal:
        at = facts.fact_time(row, "at")
        rows += [(at, _known(row))] if at is not None else []
    return sorted(rows, key=lambda row: row[0])


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None and value not in ("", [], {})}


def _with_outcome(evidence: Evidence, outcome: Outcome) -> list[Check]:
    return [check for check in evidence.checks if check.verdict.outcome is outcome]


@cache
def _template() -> Template:
    # It is Markdown, which `markdown_text` escapes.
    environment = template_environment(markdown_text, autoescape=False)
    environment.filters |= {"code": markdown_code, "duration": duration}
    environment.globals |= {
        "count": count,
        "text": facts.fact_text,
        "proof_sentence": proof_sentence,
        "Status": Status,
    }
    return environment.get_template("postmortem.md.j2")
