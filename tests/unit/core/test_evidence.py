from __future__ import annotations

import json
from pathlib import Path

import pytest

from cutover.core.evidence import BATCH, MOST_POINTS, Evidence, load_evidence
from cutover.core.evidence import read_json_lines as journal
from cutover.core.masking import MASK
from cutover.core.verdict import no, yes


def test_a_file_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    """One that is not there has no lines; whatever else keeps it from being read is an error."""
    assert journal(tmp_path / "none") == []
    with pytest.raises(IsADirectoryError):
        journal(tmp_path)


def test_what_was_kept_is_read_back(tmp_path: Path) -> None:
    """Checks, steps, points and facts come back from the file as they were."""
    evidence = Evidence(tmp_path / "e.jsonl", clock=lambda: 7.0)
    evidence.check("t", "green", 1, no("ready", "503", expected="200", seen="503", body={"a": [1]}), 0.5)
    evidence.step("T-0", "switch", "blue → green", 0.1)
    evidence.fact("to", {"tag": "sha-2"})
    for number in range(BATCH + 3):
        evidence.sample("p95 seconds", "green", float(number))
    evidence.flush()
    again = load_evidence(tmp_path / "e.jsonl")
    assert (again.checks, again.steps, again.samples, again.facts) == (
        evidence.checks,
        evidence.steps,
        evidence.samples,
        evidence.facts,
    )
    assert len((tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()) == 5


def test_memory_of_a_long_watch_stays_constant(tmp_path: Path) -> None:
    """At most a thousand samples of each series stay in memory, with its peak, first and last."""
    times = iter(range(10**6))
    evidence = Evidence(tmp_path / "e.jsonl", clock=lambda: float(next(times)))
    for number in range(5_000):
        evidence.sample("cpu cores", "green", 9.0 if number == 1_234 else 0.1)
        evidence.sample("cpu cores", "blue", 0.2)
    green = evidence.series["cpu cores", "green"]
    assert len(green) <= MOST_POINTS
    assert len(evidence.samples) <= 2 * MOST_POINTS
    assert max(each.value for each in green) == 9.0
    assert [green[0].at, green[-1].at] == [0.0, 9_998.0]
    assert [each.at for each in green] == sorted(each.at for each in green)
    lines = (tmp_path / "e.jsonl").read_text().splitlines()
    assert sum(len(json.loads(line)["rows"]) for line in lines) == 10_000
    assert len(load_evidence(tmp_path / "e.jsonl").samples) == len(evidence.samples)


def test_nothing_secret_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is masked line by line."""
    monkeypatch.setattr(MASK, "values", {"hunter22"})
    evidence = Evidence(tmp_path / "e.jsonl")
    evidence.check("t", "green", 0, yes("db", "hunter22", seen="hunter22"), 0.0)
    evidence.fact("x", ["hunter22"])
    assert "hunter22" not in (tmp_path / "e.jsonl").read_text(encoding="utf-8")


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    """Lines that cannot be written are counted; no error is raised."""
    evidence = Evidence(tmp_path / "no such folder" / "e.jsonl")
    evidence.step("T-0", "switch", "x", 0.1)
    assert evidence.lost == 1
    assert evidence.steps


def test_damaged_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    """Complete lines are read, damaged ones counted."""
    file = tmp_path / "e.jsonl"
    rows = [
        '{"kind": "fact", "key": "a", "value": 1}',
        "[]",
        '{"kind": "check"}',
        '{"kind": "later"}',
        '{"kind": "st',
    ]
    file.write_text("\n".join(rows), encoding="utf-8")
    again = load_evidence(file)
    assert again.facts == {"a": 1}
    assert again.lost == 3


@pytest.mark.parametrize("odd", ["\x85", "\u2028", "\u2029", "\x0b", "\x1c"])
def test_a_text_with_any_character_is_one_line(tmp_path: Path, odd: str) -> None:
    """A header of a service may hold what `str.splitlines` takes for the end of a line."""
    file = tmp_path / "e.jsonl"
    evidence = Evidence(file, clock=lambda: 7.0)
    evidence.check("t", "green", 1, no("ready", f"302 to /a{odd}rhus"), 0.5)
    evidence.flush()
    again = load_evidence(file)
    assert ([each.verdict.reason for each in again.checks], again.lost) == ([f"302 to /a{odd}rhus"], 0)
    file.write_text(json.dumps({"why": f"a{odd}b"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert journal(file) == [{"why": f"a{odd}b"}]


def test_a_journal_is_read_without_its_damaged_lines(tmp_path: Path) -> None:
    """Damaged lines and a missing file are left out."""
    file = tmp_path / "journal.jsonl"
    file.write_text(json.dumps({"event": "open"}) + '\n7\n{"ev', encoding="utf-8")
    assert journal(file) == [{"event": "open"}]
    assert journal(tmp_path / "none") == []
