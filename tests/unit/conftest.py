"""What several of these tests need."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutover.release.state import State


@pytest.fixture
def state(tmp_path: Path) -> State:
    """A state directory, laid out."""
    made = State(tmp_path / "state")
    made.prepare()
    return made
