"""What the benches keep and draw: rows of a part of a bench, and bars."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.bench_cutover import back
from benchmarks.bench_defects import Row
from benchmarks.chart import Bar, chart
from benchmarks.common import keep, measured, merged
from tests.helpers.load import Ask, Load, Shot


def test_a_part_leaves_the_other_rows(tmp_path: Path) -> None:
    """Rows of an earlier run stay, and those of this one take their place."""
    keep("bench", {"a": {"where": "here", "said": "ä"}, "b": {"where": "here"}}, tmp_path)
    assert merged("bench", {"b": {"where": "there"}}, tmp_path) == {
        "a": {"where": "here", "said": "ä"},
        "b": {"where": "there"},
    }


def test_each_run_says_its_machine() -> None:
    """One line when all rows were measured together, else one a run."""
    assert measured({"a": {"where": "x"}, "b": {"where": "x"}}) == ["Measured: x."]
    assert measured({"a": {"where": "x"}, "b": {"where": "y"}}) == ["- a: x", "- b: y"]


def test_what_users_met_is_missed() -> None:
    """Exit 1 is no excuse when the bad release answers users; a good one that was reverted is said too."""
    bad = Row("before traffic", 1, 1, 9.0, "test_ready", "old", "old", "here")
    assert bad.word == "caught"
    assert Row("before traffic", 1, 1, 9.0, "", "bad", "old", "here").word == "**MISSED: users met it**"
    assert Row("before traffic", 1, 0, 9.0, "", "old", "old", "here").word == "**MISSED**"
    assert Row("never", 0, 1, 9.0, "", "old", "old", "here").word == "**ROLLED BACK FOR NOTHING**"


def test_the_way_back_ends_with_the_last_bad_answer() -> None:
    """From the first failed request to the first good one of the old release after the last of the bad one."""
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
    """Well-formed, a bar for each value, names and words escaped; nothing but noughts is fine too."""
    drawn = chart(["failed", "gap"], [Bar("a<b", (0, 0), ("0", "0 ms"), ours=True)])
    root = ET.fromstring(drawn)  # noqa: S314 - our own
    assert len(root.findall("{*}rect")) == 3
    assert "a<b" in [each.text for each in root.findall("{*}text")]
