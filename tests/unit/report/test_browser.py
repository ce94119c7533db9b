from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutover.report.page import render_page
from tests.unit.report.sessions import good, reverted, rollback_failed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"
)
WORDS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium for the tests of this file."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=WORDS, timeout=120_000)
        yield chromium
        chromium.close()


def opened(browser: Any, file: Path, heard: list[str], **look: Any) -> Any:
    """Open *file*; its requests, console messages and errors are appended to *heard*."""
    page = browser.new_context(viewport={"width": 1100, "height": 1000}, **look).new_page()
    page.set_default_timeout(120_000)
    page.on("request", lambda request: heard.append(f"request {request.url}"))
    page.on("console", lambda message: heard.append(f"console {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error {error}"))
    page.goto(file.as_uri())
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_ending_opens_alone_and_without_a_complaint(browser: Any, tmp_path: Path, scheme: str) -> None:
    """In both color schemes the page sends no request and logs nothing; a screenshot is saved."""
    for session in (good, reverted, rollback_failed):
        made = session()
        heard: list[str] = []
        file = tmp_path / f"{session.__name__}.html"
        file.write_text(
            render_page(made.evidence, made.result, made.undo, list(made.journal)), encoding="utf-8"
        )
        page = opened(browser, file, heard, color_scheme=scheme)
        page.screenshot(path=tmp_path / f"{session.__name__}-{scheme}.png", full_page=True)
        assert heard == [f"request {file.as_uri()}"]
        assert page.locator(".band .word").inner_text() == str(made.result.status)
        # Nothing may be wider than the window, or the page scrolls sideways on a phone.
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.context.close()


def test_checks_sort_by_a_click_and_by_the_keyboard(browser: Any, tmp_path: Path) -> None:
    """The checks can be sorted by duration or outcome, by mouse and keyboard."""
    made = reverted()
    heard: list[str] = []
    file = tmp_path / "report.html"
    file.write_text(render_page(made.evidence, made.result), encoding="utf-8")
    page = opened(browser, file, heard)
    keys = "[...document.querySelectorAll('.checks tbody td:last-child')].map(each => +each.dataset.key)"
    page.get_by_role("button", name="took").click()
    assert page.evaluate(keys) == sorted(page.evaluate(keys))
    page.keyboard.press("Enter")
    assert page.evaluate(keys) == sorted(page.evaluate(keys), reverse=True)
    page.get_by_role("button", name="outcome").click()
    assert "no" in page.locator(".checks tbody").first.inner_text()
    page.context.close()


def test_it_can_be_read_without_javascript_on_a_phone_and_on_paper(browser: Any, tmp_path: Path) -> None:
    """All checks are shown without JavaScript, nothing overflows on a phone, and the page prints to PDF."""
    made = reverted()
    heard: list[str] = []
    file = tmp_path / "report.html"
    file.write_text(render_page(made.evidence, made.result, made.undo, list(made.journal)), encoding="utf-8")
    page = opened(browser, file, heard, java_script_enabled=False)
    assert page.locator(".checks tbody").count() == len(made.evidence.checks)
    page.context.close()
    page = opened(browser, file, heard)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper = page.pdf(prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")
    page.context.close()


def test_pytests_table_works_below_ours(browser: Any, report: Path) -> None:
    """With our content security policy pytest-html's script fills its table and shows hostile ids as text."""
    heard: list[str] = []
    page = opened(browser, report, heard)
    assert heard == [f"request {report.as_uri()}"]
    assert page.locator("#results-table tbody").count() == 2
    assert "<img src=x onerror=alert(4)>" in page.locator("#results-table").inner_text()
    assert page.locator("#results-table .col-testId img").count() == 0
    assert "<script>alert(3)</script>" in page.locator("#environment").inner_text()
    page.screenshot(path=report.with_suffix(".png"), full_page=True)
    page.context.close()


@pytest.mark.parametrize("width", [320, 400, 640])
def test_pytests_table_fits_a_narrow_window(browser: Any, report: Path, width: int) -> None:
    """With pytest-html's filters and its opened rows below ours the page does not scroll sideways."""
    page = opened(browser, report, [])
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.locator("#show_all_details").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.context.close()
