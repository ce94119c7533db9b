"""What the tests of the plugin share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugin.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without an engine."""
    return Project.at(tmp_path)
