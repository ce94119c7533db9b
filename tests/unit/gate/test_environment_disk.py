"""Room on the disk is space and inodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.core.config import Settings
from cutover.core.errors import EngineUnavailable
from cutover.core.verdict import Outcome
from cutover.gate.environment_checks import DiskRoom, disk, disk_room, judge_disk, most_serious

YES, NO, UNKNOWN, NOT_ASKED = Outcome.YES, Outcome.NO, Outcome.UNKNOWN, Outcome.NOT_ASKED
GB = 10**9


@pytest.mark.parametrize(
    ("free", "inodes_free", "inodes", "outcome", "reason"),
    [
        (50, 900, 1000, YES, "/data: 50% (50.0 of 100 GB) free"),
        (10, 900, 1000, YES, "/data: 10% (10.0 of 100 GB) free"),
        (9, 900, 1000, NO, "/data: expected 10% free, got 9% (9.0 of 100 GB)"),
        (9.7, 900, 1000, NO, "/data: expected 10% free, got 9% (9.7 of 100 GB)"),
        (50, 97, 1000, NO, "/data: expected 10% of the inodes free, got 9%"),
        (50, 50, 1000, NO, "/data: expected 10% of the inodes free, got 5%"),
        (50, 0, 0, YES, "/data: 50% (50.0 of 100 GB) free"),
    ],
)
def test_room(free: float, inodes_free: int, inodes: int, outcome: Outcome, reason: str) -> None:
    """Less than the least share of either is a no; a file system without inodes has none to run out of."""
    verdict = judge_disk(DiskRoom(Path("/data"), 1, int(free * GB), 100 * GB, inodes_free, inodes), 0.1)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_a_path_that_is_not_there_yet_is_asked_of_its_parent(tmp_path: Path) -> None:
    """State and reports may still have to be made."""
    assert disk_room(tmp_path / "a" / "b").size == disk_room(tmp_path).size > 0


def test_each_file_system_is_asked_once(tmp_path: Path) -> None:
    """State, reports and the engine's data on one disk are one verdict."""
    table = {
        "project": "p", "colors": {"blue": {"env_file": ".env"}}, "state_dir": tmp_path / "state",
        "reports": tmp_path / "reports", "slo": {"disk_free": 0.0},
    }  # fmt: skip
    verdicts = disk(Settings.model_validate(table), lambda: tmp_path)
    assert [each.outcome for each in verdicts] == [YES]


def test_where_the_engine_keeps_its_data_is_asked_of_the_engine(tmp_path: Path) -> None:
    """It may be anywhere; not knowing it is no yes, and from inside a container it cannot be seen."""
    table = {
        "project": "p", "colors": {"blue": {"env_file": ".env"}}, "state_dir": tmp_path / "state",
        "reports": tmp_path / "reports", "slo": {"disk_free": 0.0},
    }  # fmt: skip
    settings = Settings.model_validate(table)

    def silent() -> Path:
        raise EngineUnavailable("the engine is mute")

    elsewhere = [each.evidence["path"] for each in disk(settings, lambda: Path("/proc"))]
    assert elsewhere == [str(tmp_path / "state"), "/proc"]
    assert [each.outcome for each in disk(settings, lambda: tmp_path / "not here")] == [NOT_ASKED, YES]
    assert most_serious(disk(settings, silent)).outcome is UNKNOWN
