"""pytest-html's page below ours: its table of tests with captured output, made safe and put under our head.

pytest-html keeps its rows as JSON in one attribute and lets a script write them into the page as HTML: node ids and
the environment table without escaping, output without our mask. So the rows are opened, masked, escaped and closed
again here, at the very end of a session, when its real ending is known.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from cutover.core.masking import MASK
from cutover.report.html import esc, masked_page

BLOB = re.compile(r'(data-jsonblob=")([^"]*)(")')
TITLES = re.compile(r'(<(?:title|h1) id="(?:head-)?title">).*?(</(?:title|h1)>)', re.DOTALL)
ID_CELL, CELL_END = '<td class="col-testId">', "</td>"
MOST_LOG = 20_000
HEADING = (
    '<section class="cutover" id="tests"><h2>Tests, as pytest saw them</h2>'
    "<noscript><p>This table needs JavaScript; every check is in the list above.</p></noscript></section>"
)


def below(page: str, inner: str, title: str) -> str | None:
    """pytest-html's *page* with *inner* above its table and everything of its own made safe; None if it is not one."""
    blob = BLOB.search(page)
    if blob is None or "<body>" not in page:
        return None
    try:
        rows = _safe(json.loads(html.unescape(blob.group(2))))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    closed = html.escape(json.dumps(rows))
    before, after = masked_page(page[: blob.start(2)]), masked_page(page[blob.end(2) :])
    before = before.replace(
        ' onclick="location.reload()"', ""
    )  # of a hidden button; our policy would complain
    named = TITLES.sub(lambda found: f"{found.group(1)}{esc(title)}{found.group(2)}", before)
    return named.replace("<body>", f"<body>{inner}{HEADING}", 1) + closed + after


def _safe(blob: dict[str, Any]) -> dict[str, Any]:
    """The rows masked, node ids and environment escaped, long output cut in its middle."""
    blob["environment"] = _escaped(blob["environment"])
    blob["tests"] = {MASK(test): [_row(each) for each in results] for test, results in blob["tests"].items()}
    return blob


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {MASK(str(key)): esc(each) for key, each in value.items()}
    return esc(value)


def _row(result: dict[str, Any]) -> dict[str, Any]:
    masked: dict[str, Any] = _masked(result)
    masked["resultsTableRow"] = [_cell(each) for each in masked["resultsTableRow"]]
    log = masked.get("log", "")
    if len(log) > MOST_LOG:
        left = f"\n… {len(log) - MOST_LOG:,} letters left out …\n"
        masked["log"] = log[: MOST_LOG // 2] + left + log[-MOST_LOG // 2 :]
    return masked


def _cell(cell: str) -> str:
    """A cell as it is; the one of the node id escaped."""
    if cell.startswith(ID_CELL) and cell.endswith(CELL_END):
        return f"{ID_CELL}{esc(cell[len(ID_CELL) : -len(CELL_END)])}{CELL_END}"
    return cell


def _masked(value: Any) -> Any:
    """*value* with each text in it masked, escaped or not."""
    if isinstance(value, str):
        return masked_page(value)
    if isinstance(value, list):
        return [_masked(each) for each in value]
    if isinstance(value, dict):
        return {key: _masked(each) for key, each in value.items()}
    return value
