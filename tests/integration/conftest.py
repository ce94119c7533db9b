"""What several of these tests need, made once for a whole run."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest

from tests.helpers import databases, wheelhouse
from tests.helpers.color_servers import Colors, two_colors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project and all that it needs, as a folder of wheels that any user of a container may read."""
    folder = tmp_path_factory.mktemp("wheels")
    folder.chmod(0o755)
    return wheelhouse.fill(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[databases.Server]:
    """A PostgreSQL for all tests of a run that need one."""
    with databases.started() as made:
        yield made


@pytest.fixture
def database(server: databases.Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own."""
    with databases.created(server, f"shop_{zlib.crc32(request.node.nodeid.encode())}") as name:
        yield name


@pytest.fixture
def colors() -> Iterator[Colors]:
    """Blue and green."""
    with two_colors() as pair:
        yield pair
