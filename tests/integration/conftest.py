"""Session-wide fixtures of the integration tests."""

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
    """A folder with wheels of the project and its dependencies, readable by any user of a container."""
    folder = tmp_path_factory.mktemp("wheels")
    folder.chmod(0o755)
    return wheelhouse.fill(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[databases.Server]:
    """A PostgreSQL server, shared by all tests of a run."""
    with databases.started() as made:
        yield made


@pytest.fixture
def database(server: databases.Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new database for one test."""
    with databases.created(server, f"shop_{zlib.crc32(request.node.nodeid.encode())}") as name:
        yield name


@pytest.fixture
def colors() -> Iterator[Colors]:
    """The backends blue and green."""
    with two_colors() as pair:
        yield pair
