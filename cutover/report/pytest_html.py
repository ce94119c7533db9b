"""pytest-html's page merged below ours: its table of tests with captured output, made safe.

pytest-html keeps its rows as JSON in one attribute, and a script writes them into the page as HTML: node ids and the
environment without escaping, output without our mask. So the rows are read, masked, escaped and written back.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from cutover.core.evidence import Check
from cutover.core.masking import MASK
from cutover.report.escape import html_text

BLOB = re.compile(r'(data-jsonblob=")([^"]*)(")')
TITLES = re.compile(r'(<(?:title|h1) id="(?:head-)?title">).*?(</(?:title|h1)>)', re.DOTALL)
ID_CELL, CELL_END = '<td class="col-testId">', "</td>"
MOST_LOG = 20_000
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
    blob["environment"] = (
        {MASK(str(key)): html_text(value) for key, value in environment.items()}
        if isinstance(environment, dict)
        else html_text(environment)
    )
    blob["tests"] = {
        MASK(test): [_safe_row(each, ids.get(test, [])) for each in results]
        for test, results in blob["tests"].items()
    }
    return blob


def _safe_row(result: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    row: dict[str, Any] = _masked(result)
    row["resultsTableRow"] = [_safe_cell(each, ids) for each in row["resultsTableRow"]]
    log = row.get("log", "")
    if len(log) > MOST_LOG:
        left = f"\n… {len(log) - MOST_LOG:,} letters left out …\n"
        row["log"] = log[: MOST_LOG // 2] + left + log[-MOST_LOG // 2 :]
    return row


def _safe_cell(cell: str, ids: list[int]) -> str:
    if not (cell.startswith(ID_CELL) and cell.endswith(CELL_END)):
        return cell
    numbers = "".join(f" #{each}" for each in ids[:9])
    return f"{ID_CELL}{html_text(cell[len(ID_CELL) : -len(CELL_END)])}{numbers}{CELL_END}"


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return MASK(value)
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return {key: _masked(each) for key, each in value.items()} if isinstance(value, dict) else value
