"""What the tests of death share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A state directory and a thing that a release changes."""
    return Place.at(tmp_path)
