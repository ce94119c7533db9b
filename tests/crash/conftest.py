"""What the tests of death share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.release.state import State
from tests.crash.place import OLD, Place
from tests.helpers import disks

SIZE = "size=128k,nr_inodes=40"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A state directory and a thing that a release changes."""
    return Place.at(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few pages and a few names."""
    with disks.small(tmp_path / "disk", SIZE) as folder:
        yield folder


@pytest.fixture
def small(disk: Path, tmp_path: Path) -> Place:
    """A place whose state is on the small disk, and what it changes on another."""
    thing = tmp_path / "thing"
    thing.write_text(OLD)
    Path(f"{thing}.before").write_text(OLD)
    return Place(tmp_path, State(disk / "state"), thing)
