"""A file system that fills up during a release: the revert needs no space, and the reported state is correct."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cutover.release.state import State
from examples.stand import Stand
from tests.helpers import disks, kill_session
from tests.helpers.kill_points import SWITCH, Point, Run, other, watches
from tests.helpers.kill_session import only_serves

pytestmark = pytest.mark.engine
HOLD = Point("hold", watches, arguments=(*SWITCH[:2], "--watch=5s", "--hold=60s"))
WATCH = Point("watch", watches, arguments=(*SWITCH[:2], "--watch=5s"))


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A stand with state, marker directory and reports on a small file system."""
    folder = tmp_path_factory.mktemp("stand")
    with disks.small(folder / "state", "size=96m,nr_inodes=400") as disk:
        (disk / "reports").mkdir()
        (folder / "reports").symlink_to(disk / "reports")
        made = Stand(folder, f"disk{uuid.uuid4().hex[:6]}")
        try:
            yield kill_session.begin(made)
        finally:
            made.remove()


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill *disk* to the last block and inode until the block ends."""
    with contextlib.suppress(OSError), (disk / "full").open("wb", buffering=0) as out:
        while True:
            out.write(bytes(65536))
    names = [disk / f"full{number}" for number in range(400)]
    with contextlib.suppress(OSError):
        for each in names:
            each.touch()
    try:
        yield
    finally:
        for each in (disk / "full", *names):
            each.unlink(missing_ok=True)


def minimal(run: Run, into: Path) -> str:
    """The page that `cutover report html` writes to another file system from the partial evidence."""
    done = run.stand.cutover("report", "html", str(run.report), "--output", str(into))
    assert done.code == 0, done.out
    return into.read_text()


def test_a_session_killed_on_a_full_disk(stand: Stand, tmp_path: Path) -> None:
    """The guard reverts by renames alone, `status` names the live release, and a minimal report can be made."""
    with full_in(stand, WATCH, tmp_path) as run:
        kill_session.settled(run, WATCH)
        only_serves(stand, run.tag, run.live)
        assert stand.running(other(run.live)) == []
        page = minimal(run, tmp_path / "page.html")
    assert "the session died before it could say how it ended" in page
    assert run.wanted in page


@contextmanager
def full_in(stand: Stand, point: Point, folder: Path) -> Iterator[Run]:
    """A session that has reached *point*; its file system is full from then on."""
    with kill_session.running(stand, point, folder) as run, full(stand.folder / "state"):
        yield run


def test_a_release_that_cannot_be_held(stand: Stand, tmp_path: Path) -> None:
    """Its session passes everything, cannot write the hold down, says so, and reverts."""
    with full_in(stand, HOLD, tmp_path) as run:
        said, _ = run.process.communicate(timeout=120)
        assert run.process.returncode == 1, said
    assert "the release cannot be held, because that cannot be written down" in " ".join(said.split())
    assert "ROLLED BACK" in said
    only_serves(stand, run.tag, run.live)
    assert State(stand.state).held() is None
