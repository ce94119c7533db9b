"""A page of pytest-html with our part above it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.core.masking import MASK
from cutover.report.page import finish_page
from tests.unit.report.sessions import good

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
    """The report of a real session with pytest-html."""
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
