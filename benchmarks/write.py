"""Update one section of docs/benchmarks.md and leave the others unchanged."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HEAD = "# Benchmarks\n\nEach section is written by the program that it names, which anybody can run again.\n"


def replaced(page: str, name: str, text: str) -> str:
    """*page* with *text* between the markers of *name*; a new section is appended."""
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->"
    pattern = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: section, page, count=1)
    return f"{page.rstrip()}\n\n{section}\n"


def section(name: str, text: str, page: Path = PAGE) -> None:
    """Write the section *name* of the page."""
    there = page.read_text(encoding="utf-8") if page.exists() else HEAD
    page.parent.mkdir(exist_ok=True)
    page.write_text(replaced(there, name, text), encoding="utf-8")


def machine() -> str:
    """One line with date, machine, versions, load and commit: results are comparable only on the same machine."""
    root = PAGE.parents[1]
    commit = subprocess.run(
        ("git", "rev-parse", "--short", "HEAD"), cwd=root, check=False, capture_output=True, text=True
    )
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, load before {load:.1f}, commit {commit.stdout.strip() or 'unknown'}"
    )
