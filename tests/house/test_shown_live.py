"""The table of docs/watch.md that says where each check is shown to say yes, no and unknown."""

from __future__ import annotations

import re
from pathlib import Path

from cutover.core.config import Settings
from cutover.probes.names import names_for
from tests.bench.detect_cases import CASES

ROOT = Path(__file__).parents[2]
WORDS = {"disk", "tls"}  # asked once, not watched
EVERYTHING = {
    "project": "p",
    "colours": {colour: {"env_file": ".env"} for colour in ("blue", "green")},
    "proxy": {"driver": "nginx", "url": "https://x", "access_log": "access.json"},
    "endpoints": [{"path": "/"}],
    "dependencies": [{"name": "db", "kind": "tcp", "url": "tcp://db:1"}],
    "alerts": {"prometheus": "http://x"},
}


def rows() -> dict[str, list[str]]:
    """By check what is written under yes, no and unknown."""
    page = (ROOT / "docs" / "watch.md").read_text().partition("## Shown live")[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line[:2] == "| "
    ]
    return {name: answers for name, *answers in cells if name != "check"}


def test_every_check_is_shown() -> None:
    """Each question of the watch has its row, and so have the two that are asked once."""
    names = {
        name.replace("dependency db", "dependency") for name in names_for(Settings.model_validate(EVERYTHING))
    }
    assert set(rows()) == names | WORDS


def test_what_shows_it_is_there() -> None:
    """Each cell names tests that are there, or cases of the bench, or says why it never happens."""
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
