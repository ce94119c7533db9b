"""Files and folders that other users of the host can neither replace nor write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.core.errors import ConfigError
from cutover.core.evidence import Evidence
from cutover.core.result import SessionResult, Status
from cutover.release.state import State
from cutover.report.write import ReleaseFiles, write_report
from cutover.system.files import make_private, unsafe_parent, write_atomically


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Another umask for this test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    """Its permission bits."""
    return path.stat().st_mode & 0o7777


@pytest.mark.usefixtures("umask")
def test_a_state_directory_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Nobody else can write to it or to a parent that was made for it."""
    state = State(tmp_path / "a" / "b" / "state")
    state.prepare()
    assert [mode(each) for each in (state.root.parent.parent, state.root.parent, state.root)] == [
        0o711,
        0o711,
        0o700,
    ]


@pytest.mark.parametrize(
    ("parent", "refused"), [(0o777, True), (0o757, True), (0o1777, False), (0o755, False), (0o700, False)]
)
def test_a_parent_that_others_can_write_is_refused(tmp_path: Path, parent: int, refused: bool) -> None:
    """They could replace the state directory and with it the undo script; a sticky directory prevents that."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(parent)
    assert unsafe_parent(folder / "state") == (folder if refused else None)
    state = State(folder / "state")
    if refused:
        with pytest.raises(ConfigError, match=f"its parent {folder} can be written by others"):
            state.prepare()
    else:
        state.prepare()


def test_a_planted_draft_is_not_written_through(tmp_path: Path) -> None:
    """A link at the place of a draft is replaced; what it names is untouched."""
    victim, file = tmp_path / "victim", tmp_path / "open"
    victim.write_text("as before")
    (tmp_path / f".open.{os.getpid()}").symlink_to(victim)
    write_atomically(file, "release")
    assert (victim.read_text(), file.read_text(), mode(file)) == ("as before", "release", 0o600)


def test_a_report_can_be_read_by_the_group_at_most(tmp_path: Path, umask: int) -> None:
    """Its folder has at most mode 0750, each file at most 0640."""
    folder = tmp_path / "reports" / "one"
    make_private(folder, mode=0o750)
    evidence = Evidence(folder / "evidence.jsonl")
    (folder / "blue-api.log").write_text("log")
    result = SessionResult(Status.GATE_PASSED, "recall", 0)
    write_report(folder, evidence, result, {}, ReleaseFiles("a", "undo", [{"event": "open"}]))
    assert mode(folder) == 0o750
    found = {file.name: mode(file) for file in folder.iterdir()}
    assert {"report.html", "evidence.jsonl", "undo.sh", "journal.jsonl", "blue-api.log"} <= set(found)
    assert set(found.values()) == {0o640 & ~umask}
