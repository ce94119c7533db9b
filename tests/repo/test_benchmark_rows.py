"""Stored rows, tables and charts of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.bench_cutover import back
from benchmarks.bench_defects import Row
from benchmarks.chart import Bar, chart
from benchmarks.common import keep, measured, merged
from tests.helpers.load import Ask, Load, Shot


def test_a_part_leaves_the_other_rows(tmp_path: Path) -> None:
    """Rows of an earlier run are kept, and rows measured again are replaced."""
    keep("bench", {"a": {"where": "here", "said": "ä"}, "b": {"where": "here"}}, tmp_path)
    assert merged("bench", {"b": {"where": "there"}}, tmp_path) == {
        "a": {"where": "here", "said": "ä"},
        "b": {"where": "there"},
    }


def test_each_run_says_its_machine() -> None:
    """One line if all rows were measured in one run, else one line per run."""
    assert measured({"a": {"where": "x"}, "b": {"where": "x"}}) == ["Measured: x."]
    assert measured({"a": {"where": "x"}, "b": {"where": "y"}}) == ["- a: x", "- b: y"]


def test_what_users_met_is_missed() -> None:
    """A bad release is missed if users get it, whatever the exit code; a reverted good release is reported too."""
    bad = Row("before traffic", 1, 1, 9.0, "test_ready", "old", "old", "here")
    assert bad.word == "caught"
    assert Row("before traffic", 1, 1, 9.0, "", "bad", "old", "here").word == "**MISSED: users met it**"
    assert Row("before traffic", 1, 0, 9.0, "", "old", "old", "here").word == "**MISSED**"
    assert Row("never", 0, 1, 9.0, "", "old", "old", "here").word == "**ROLLED BACK FOR NOTHING**"


def test_the_way_back_ends_with_the_last_bad_answer() -> None:
    """Time from the first failure to the first response of the old release after the last bad response."""
    ask = Ask("GET", "/version")

    def shot(at: float, status: int, release: str) -> Shot:
        return Shot(at, at, at, "", status, ask, release=release)

    seen = Load(
        [
            shot(1, 200, "new"),
            shot(2, 500, "new"),
            shot(2.2, 200, "old"),
            shot(2.4, 500, "new"),
            shot(2.5, 200, "old"),
        ]
    )
    assert back(seen, "new") == 0.5
    assert back(Load([shot(1, 200, "old")]), "new") is None


def test_bars_are_a_picture() -> None:
    """The SVG is well-formed with a bar for each value and escaped text, also if all values are zero."""
    drawn = chart(["failed", "gap"], [Bar("a<b", (0, 0), ("0", "0 ms"), ours=True)])
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    assert len(root.findall("{*}rect")) == 3
    assert "a<b" in [each.text for each in root.findall("{*}text")]
