"""The table in docs/watch.md that names a test for each outcome of each check."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.detect_cases import CASES
from cutover.core.config import Settings
from cutover.watch.suite import check_names

ROOT = Path(__file__).parents[2]
RUN_ONCE = {"disk", "tls"}
EVERYTHING = {
    "project": "p",
    "colors": {color: {"env_file": f".env.{color}"} for color in ("blue", "green")},
    "proxy": {"driver": "nginx", "url": "https://x", "access_log": "access.json"},
    "endpoints": [{"path": "/"}],
    "dependencies": [{"name": "db", "kind": "tcp", "url": "tcp://db:1"}],
    "alerts": {"prometheus": "http://x"},
}


def rows() -> dict[str, list[str]]:
    """The cells for yes, no and unknown, by check."""
    page = (ROOT / "docs" / "watch.md").read_text().partition("## Shown live")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line[:2] == "| "
    ]
    return {name: answers for name, *answers in cells if name != "check"}


def test_every_check_is_shown() -> None:
    """Each check of the watch and the two checks that run once have a row."""
    names = {
        name.replace("dependency db", "dependency")
        for name in check_names(Settings.model_validate(EVERYTHING))
    }
    assert set(rows()) == names | RUN_ONCE


def test_what_shows_it_is_there() -> None:
    """Each cell names existing tests or benchmark cases, or the reason why the outcome cannot occur."""
    tests = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    known = tests | {case.name for case in CASES}
    for check, answers in rows().items():
        for answer in answers:
            named = re.findall(r"`([^`]+)`", answer)
            assert set(named) <= known, (check, answer)
            assert named or answer.startswith("never"), check
