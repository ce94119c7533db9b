"""docs/reference.md is what the code says; README links and transcripts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cutover.core import result
from cutover.plugin import options
from scripts import reference

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
CODES = (
    "OK",
    "FAILED",
    "INTERRUPTED",
    "INTERNAL",
    "USAGE",
    "NOTHING_RAN",
    "INCONCLUSIVE",
    "NEEDS_OPERATOR",
    "LOCKED",
)


def first_column(heading: str) -> list[str]:
    """First cells of the rows in the section *heading*."""
    section = REFERENCE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows[2:]]


def test_the_page_is_written_from_the_code() -> None:
    """A changed key, option, fixture, hook, command or variable changes the page: python -m scripts.reference."""
    assert reference.page() == REFERENCE
    assert not re.search(r"typing\.|<class", REFERENCE)


def test_lists_each_key() -> None:
    """Every key of every table of cutover.toml has a row in the section of its table."""
    for table in reference.tables():
        section = REFERENCE.split(f"### {table.heading}\n" if table.heading else "## cutover.toml\n", 1)[1]
        rows = section.split("\n#", 1)[0]
        assert table.keys, table.heading
        assert [key.name for key in table.keys if f"| `{key.name}` |" not in rows] == []
        assert all(key.meaning and key.values for key in table.keys)


def test_lists_each_option() -> None:
    """The table lists exactly the plugin's options."""
    parser = pytest.Parser(_ispytest=True)
    options.add_options(parser)
    known = {name for option in parser.getgroup("cutover").options for name in option.names()}
    assert {cell.strip("`").split("=")[0] for cell in first_column("Options")} == known


def test_lists_each_fixture() -> None:
    """Who reads the table knows what a check may ask for."""
    assert sorted(cell.strip("`") for cell in first_column("Fixtures")) == sorted(options.FIXTURES)


def test_lists_each_exit_code() -> None:
    """The table lists exactly the exit codes."""
    listed = [int(code) for cell in first_column("Exit codes") for code in cell.split(",")]
    assert sorted(listed) == sorted(getattr(result, name) for name in CODES)


def test_each_link_leads_somewhere() -> None:
    """Every linked document exists."""
    linked = re.findall(r"\]\(([^):]+)\)", README)
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_transcripts_are_of_a_real_run() -> None:
    """The transcripts show a kept and a reverted release."""
    shown = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    assert [
        any(line.startswith(word) for line in shown[n].splitlines())
        for n, word in enumerate(("RELEASED", "ROLLED BACK"))
    ] == [True, True]
