from __future__ import annotations

import html
import json
from pathlib import Path

from cutover.report.page import BLOB, MOST_BYTES
from tests.unit.report.elements import LOADS, Elements


def test_one_file_holds_our_head_and_pytests_table(report: Path) -> None:
    """The result is above pytest-html's table and in the title."""
    page = report.read_text(encoding="utf-8")
    assert page.index("RELEASED") < page.index("Tests, as pytest saw them") < page.index('id="results-table"')
    assert '<title id="head-title">RELEASED · recall · green · sha-9b7d001</title>' in page
    assert len(page.encode()) < MOST_BYTES


def test_pytests_part_is_masked_and_escaped(report: Path) -> None:
    """Node ids, environment and output in pytest-html's table are masked and escaped."""
    page = report.read_text(encoding="utf-8")
    found = BLOB.search(page)
    assert found is not None
    blob = json.loads(html.unescape(found.group(2)))
    assert "hunter22" not in html.unescape(html.unescape(page))
    assert "secret&gt;" not in page
    assert blob["environment"]["evil"] == "&lt;script&gt;alert(3)&lt;/script&gt;"
    cells = [result["resultsTableRow"][1] for results in blob["tests"].values() for result in results]
    assert any("&lt;img src=x onerror=alert(4)&gt;" in cell for cell in cells)
    assert not any("<img" in cell for cell in cells)
    assert "letters left out" in str(blob["tests"])


def test_the_finished_page_loads_nothing(report: Path) -> None:
    """The content policy allows the page's scripts by hash; no element loads another file."""
    page = report.read_text(encoding="utf-8")
    assert page.count("'sha256-") == 2
    for tag, attributes in Elements(page).found:
        assert not {name for name in LOADS & set(attributes) if attributes[name]}, (tag, attributes)
