"""A full disk: a release is refused before anything is changed, and what is open is still reverted or committed."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cutover.core.change import undo_script
from cutover.core.errors import ConfigError
from cutover.release.state import NOT_WRITTEN, State, did_revert
from cutover.system.files import write_atomically
from tests.crash.acting import ID, second, write
from tests.crash.place import NEW, Place
from tests.helpers import disks
from tests.plugin.project import GOOD, Project

FILLS = """
def test_fills(target):
    try:
        with open({path!r}, "wb", buffering=0) as out:
            while True:
                out.write(bytes(4096))
    except OSError:
        pass
"""


def test_a_release_is_refused_on_a_full_disk(small: Place, disk: Path) -> None:
    """The lock says so with exit 4, and nothing was changed."""
    small.state.prepare()
    disks.fill(disk)
    with pytest.raises(ConfigError, match=r"cannot be written: No space left on device; nothing was changed"):
        small.state.acquire({"who": "ana"})
    assert not small.state.session_runs()
    assert small.state.open_release() is None


def test_a_state_directory_is_refused_on_a_full_disk(small: Place, disk: Path) -> None:
    """The first release ever on a full disk is refused too."""
    disks.fill(disk)
    with pytest.raises(ConfigError, match=r"state directory .*: No space left on device"):
        small.state.prepare()


def test_no_release_is_opened_on_a_disk_that_filled_up_meanwhile(small: Place, disk: Path) -> None:
    """Between the lock and the first change the disk got full: nothing is open, nothing was changed."""
    small.state.prepare()
    with small.state.locked({"who": "ana"}):
        disks.fill(disk)
        with pytest.raises(ConfigError, match="nothing was changed"):
            small.state.begin(ID, 60.0)
        assert small.state.open_release() is None
    assert not list(small.state.root.glob(".*"))


def test_no_change_is_made_whose_undo_cannot_be_written(small: Place, disk: Path) -> None:
    """The step answers that its undo cannot be written; its words were not run, what was done before is undone."""
    small.state.prepare()
    with small.state.locked({"who": "ana"}):
        small.state.begin(ID, 60.0)
        changes = [write(small.thing)]
        assert small.state.step(ID, changes, 60.0).ok
        disks.fill(disk)
        changes.append(second(small.thing))
        done = small.state.step(ID, changes, 60.0)
        assert done.code == NOT_WRITTEN
        assert "No space left on device" in done.last_line
        assert did_revert(small.state.revert(ID), ID)
        small.assert_reverted()


def test_a_full_disk_stops_no_guard(small: Place, disk: Path) -> None:
    """A session that dies on a full disk is reverted: that needs renames alone, not even the guard's log."""
    _open(small)
    disks.fill(disk)
    argv = ("sh", str(small.state.root / "guard.sh"), str(small.state.root), ID, "60")
    assert subprocess.run(argv, check=False, env=os.environ | {"CUTOVER_GUARD_TRIES": "1"}).returncode == 0
    small.assert_reverted()


def test_a_full_disk_stops_no_commit(small: Place, disk: Path) -> None:
    """The commit is a rename."""
    _open(small)
    disks.fill(disk)
    assert small.state.close(ID)
    small.state.journal("released", release=ID)
    assert small.is_closed
    assert small.says == NEW


def test_a_full_disk_leaves_what_was_written_before(small: Place, disk: Path) -> None:
    """A file that cannot be replaced keeps its old text, and no draft lies beside it."""
    small.state.prepare()
    path = small.state.root / "records.json"
    write_atomically(path, "[]")
    disks.fill(disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "x" * 100_000)
    assert path.read_text() == "[]"
    assert not list(small.state.root.glob(".*"))


def _open(small: Place) -> None:
    """A release whose session is gone, as `begin` and a step leave it."""
    small.state.prepare()
    with small.state._step_lock():
        write_atomically(small.state.root / "undo.sh", undo_script([write(small.thing)]))
        write_atomically(small.state.root / "open", f"{ID}\n")
    (small.state.root / "session.lock").touch()
    small.thing.write_text(NEW)


def test_a_full_disk_of_reports_takes_no_good_release_back(tmp_path: Path) -> None:
    """The disk of the reports fills up while a good release is checked: it is kept, and the report says what lacks."""
    project = Project.at(tmp_path)
    with disks.small(project.folder / "reports", "size=64k,nr_inodes=40") as folder:
        project.test(GOOD + FILLS.format(path=str(folder / "full")))
        done = project.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "RELEASED" in done.stdout
    assert "is incomplete: [Errno 28] No space left on device" in done.stdout
    assert project.mark.exists()
    assert not project.is_open


def test_a_bad_release_is_reverted_with_a_full_disk_of_reports(tmp_path: Path) -> None:
    """What could not be written is no reason to keep a bad release either."""
    project = Project.at(tmp_path)
    with disks.small(project.folder / "reports", "size=64k,nr_inodes=40") as folder:
        project.test(GOOD + FILLS.format(path=str(folder / "full")) + "    assert 0\n")
        done = project.run()
    assert done.returncode == 1, done.stdout + done.stderr
    assert not project.mark.exists()


def test_a_limit_of_the_file_size_is_one_sentence(tmp_path: Path) -> None:
    """`ulimit -f` below what a release writes: refused before anything is changed."""
    state = State(tmp_path / "state")
    state.prepare()
    code = (
        "import resource, sys; from pathlib import Path; from cutover.release.state import State; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); State(Path(sys.argv[1])).acquire({})"
    )
    done = subprocess.run(
        (sys.executable, "-c", code, str(state.root)), capture_output=True, text=True, check=False
    )
    said = "ConfigError: files may have at most 4,096 bytes here (see `ulimit -f`), and a release writes longer ones"
    assert said in done.stderr
    assert not (state.root / "owner.json").exists()


@pytest.mark.parametrize("act", ["acquire", "is_held", "begin"])
def test_a_file_system_without_locks_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    """A network file system that answers ENOLCK: refused with what to change, nothing is open."""
    state = State(tmp_path / "state")
    state.prepare()
    (state.root / "session.lock").touch()

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    acts: dict[str, Callable[[], object]] = {
        "acquire": lambda: state.acquire({}),
        "is_held": state.session_runs,
        "begin": lambda: state.begin(ID, 60.0),
    }
    with pytest.raises(
        ConfigError, match=r"(session|step)\.lock cannot be locked: No locks available; choose a local"
    ):
        acts[act]()
    assert state.open_release() is None
