"""The lease of a host: one coordinator at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.core.errors import ConfigError, Locked
from cutover.release.lease import LEASE_FILE, Lease, current_lease, end_lease, take_lease
from cutover.release.state import State
from tests.helpers.disks import fill, small

MINE, OTHER = (
    Lease("1", "ana@web-1", "sha-2 to web-1", 160.0),
    Lease("2", "bo@web-1", "sha-3 to web-1", 170.0),
)


def test_only_one_release_has_a_host(tmp_path: Path) -> None:
    """Another one is refused with the name of the first; the same one renews it."""
    state = State(tmp_path)
    assert current_lease(state, 100.0) is None
    take_lease(state, MINE, 100.0)
    with pytest.raises(
        Locked, match=r"ana@web-1 is releasing sha-2 to web-1 on several hosts; nothing was changed"
    ):
        take_lease(state, OTHER, 101.0)
    take_lease(state, Lease(MINE.id, MINE.who, MINE.what, 200.0), 120.0)
    assert current_lease(state, 199.0) == Lease("1", "ana@web-1", "sha-2 to web-1", 200.0)


def test_a_lease_that_is_not_renewed_ends(tmp_path: Path) -> None:
    """A coordinator that died keeps a host for two minutes at most."""
    state = State(tmp_path)
    take_lease(state, MINE, 100.0)
    assert current_lease(state, 161.0) is None
    take_lease(state, OTHER, 161.0)
    end_lease(state, MINE.id)  # the first one, too late: it is not its any more
    assert current_lease(state, 165.0) == OTHER
    end_lease(state, OTHER.id)
    assert current_lease(state, 165.0) is None


def test_a_damaged_lease_is_none(tmp_path: Path) -> None:
    """A file that nothing can be read from keeps nobody out."""
    state = State(tmp_path)
    (tmp_path / LEASE_FILE).write_text('{"id": ')
    assert current_lease(state, 1.0) is None
    take_lease(state, MINE, 1.0)
    assert current_lease(state, 1.0) == MINE


def test_a_full_disk_refuses_the_claim(tmp_path: Path) -> None:
    """One line before anything is changed, so that no host of the release is switched."""
    with small(tmp_path / "disk", "size=64k,nr_inodes=8") as folder:
        fill(folder)
        with pytest.raises(
            ConfigError, match=r"cannot be written: No space left on device; nothing was changed"
        ):
            take_lease(State(folder), MINE, 1.0)
