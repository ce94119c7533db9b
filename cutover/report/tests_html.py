"""How pytest-html's page becomes ours: pure functions, each for one of its hooks, called by the plugin.

pytest-html keeps its table of tests with their captured output; what people read first stands above it. Its node ids
and its environment table are written without escaping, so both come from here.

| hook of pytest-html | what the plugin does with it |
|---|---|
| `pytest_html_report_title(report)` | `report.title = page.title(evidence, ending)` |
| `pytest_html_results_summary(prefix, summary, …)` | `prefix.append(page.body(…))`; `summary.append(HEADING)` |
| `pytest_html_results_table_row(report, cells)` | `cells[:] = row(cells, report.nodeid, report.when)` |
| `pytest_metadata(metadata)` | `metadata.update(environment(metadata))` |
| the very end, its file written | the file's text becomes `page.finished(text, page.body(…), page.render(…))` |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cutover.report.checks import evidence_of
from cutover.report.html import ROOMY, esc, mark
from cutover.verdict import Verdict

HEADING = (
    '<section class="cutover"><h2>Tests, as pytest saw them</h2>'
    "<noscript><p>This table needs JavaScript; every check is in the list above.</p></noscript></section>"
)
"""Stands between what is ours and pytest-html's table."""


def row(cells: Sequence[str], test: str, when: str) -> list[str]:
    """The cells of one test with its id escaped and masked; the others as they are."""
    shown = test if when == "call" else f"{test}::{when}"
    safe = f'<td class="col-testId">{esc(shown)}</td>'
    return [safe if 'class="col-testId"' in cell else cell for cell in cells]


def environment(metadata: Mapping[str, object]) -> dict[str, object]:
    """pytest-metadata's table with each value escaped and masked."""
    return {
        key: {str(name): esc(each) for name, each in value.items()}
        if isinstance(value, Mapping)
        else esc(value)
        for key, value in metadata.items()
    }


def extras_html(verdicts: Iterable[Verdict]) -> str:
    """The verdicts of one test with their evidence, to stand in its row."""
    said = "".join(
        f"<div>{mark(each.outcome)} <b>{esc(each.question)}</b>: {esc(each.reason)}{evidence_of(each, ROOMY)}</div>"
        for each in verdicts
    )
    return f'<div class="cutover">{said}</div>' if said else ""
