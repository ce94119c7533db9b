from __future__ import annotations

import html
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.core.masking import MASK
from cutover.report.page import MOST_BYTES, finish_page
from cutover.report.pytest_html import BLOB
from tests.report.sessions import good
from tests.report.test_page import LOADS, Elements

SECRET = 'hunter22"&<secret>'
CHECKLIST = f"""
import pytest


@pytest.mark.parametrize("name", ["green", "<img src=x onerror=alert(4)>"])
def test_ready(name):
    print({SECRET!r}, "<script>alert(5)</script>", "long " * 10_000)
    assert name == "green", {SECRET!r}
"""
CONFTEST = """
def pytest_metadata(metadata):
    metadata["evil"] = "<script>alert(3)</script>"
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The report of a real session with pytest-html, finished by us."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MASK, "values", set())
        MASK.learn([SECRET])
        yield made_by_pytest(tmp_path_factory.mktemp("session"))


def made_by_pytest(tmp_path: Path) -> Path:
    """Run the checklist in *tmp_path* with pytest-html and put our page above its table."""
    (tmp_path / "test_list.py").write_text(CHECKLIST, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    file = tmp_path / "report.html"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(tmp_path / "pytest.ini"),
    ]
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(
        [*words, f"--html={file}", "--self-contained-html", str(tmp_path)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    made = good()
    finish_page(file, made.evidence, made.result, made.undo, list(made.journal))
    return file


def test_one_file_holds_our_head_and_pytests_table(report: Path) -> None:
    """pytest-html's page is headed by the real ending, named by it, and keeps its table of tests."""
    page = report.read_text(encoding="utf-8")
    assert page.index("RELEASED") < page.index("Tests, as pytest saw them") < page.index('id="results-table"')
    assert '<title id="head-title">RELEASED · recall · green · sha-9b7d001</title>' in page
    assert len(page.encode()) < MOST_BYTES


def test_pytests_part_is_masked_and_escaped(report: Path) -> None:
    """Node ids, environment and output of pytest's own table are masked, and never markup, whatever they hold."""
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
    """Its policy names the scripts that may run by their hash, and nothing in it asks for another file."""
    page = report.read_text(encoding="utf-8")
    assert page.count("'sha256-") == 2
    for tag, attributes in Elements(page).found:
        assert not {name for name in LOADS & set(attributes) if attributes[name]}, (tag, attributes)
