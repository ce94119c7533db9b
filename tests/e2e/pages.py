"""Open reports in headless Chromium and record their requests, console messages and errors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

WORDS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


def opened(pages: Sequence[Path]) -> tuple[dict[str, str], list[str]]:
    """Status shown on each page, and all requests, console messages and errors except the load of the page itself.

    Saves a screenshot beside each page. Raises FileNotFoundError if Chromium is missing.
    """
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise FileNotFoundError("Chromium is missing: apt-get install chromium")
    heard: list[str] = []
    words = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=WORDS, timeout=120_000)
        page = browser.new_page(viewport={"width": 1100, "height": 1000})
        page.set_default_timeout(120_000)
        page.on("request", lambda request: heard.append(f"request {request.url}"))
        page.on("console", lambda message: heard.append(f"console {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error {error}"))
        for each in pages:
            page.goto(each.as_uri())
            words[each.parent.name] = page.locator(".band .word").inner_text()
            page.screenshot(path=each.with_name("report.png"), full_page=True)
        browser.close()
    own = {f"request {each.as_uri()}" for each in pages}
    return words, [each for each in heard if each not in own]
