"""What several of these tests need, made once for a whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine import wheelhouse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project and all that it needs, as a folder of wheels that any user of a container may read."""
    folder = tmp_path_factory.mktemp("wheels")
    folder.chmod(0o755)
    return wheelhouse.fill(folder)
