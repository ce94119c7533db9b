"""What holds for the tests of the machinery, and must not hold for a gate that runs in a clone."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
WARNINGS = (
    "error",
    # Raised by the garbage collector at any later moment: they would fail a test that did nothing.
    "default::pytest.PytestUnraisableExceptionWarning",
    "default::pytest.PytestUnhandledThreadExceptionWarning",
    "default::ResourceWarning",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test that hangs ends after ten minutes with its stack, and a warning is an error."""
    if HERE not in item.path.parents:
        return
    if item.get_closest_marker("timeout") is None:
        item.add_marker(pytest.mark.timeout(600))
    for line in reversed(WARNINGS):
        item.add_marker(pytest.mark.filterwarnings(line), append=False)
