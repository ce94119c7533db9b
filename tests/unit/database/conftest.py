"""A service with a SQLite database on real files: no Docker engine is needed to read the volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings
from cutover.database.base import ServiceDatabase
from cutover.system.compose import Rendered
from tests.unit.database.sqlite_files import MakeDatabase, fill


@pytest.fixture
def live_file(tmp_path: Path) -> Path:
    """The live database, on the volume."""
    (tmp_path / "volume").mkdir()
    return fill(tmp_path / "volume" / "recall.db")


@pytest.fixture
def make_database(tmp_path: Path) -> MakeDatabase:
    """Returns the database of a service that mounts the volume at /data; arguments are keys of `[snapshot]`."""

    def made(**snapshot: Any) -> ServiceDatabase:
        mount = {"type": "bind", "source": str(tmp_path / "volume"), "target": "/data"}
        model = {"services": {"api": {"environment": {}, "volumes": [mount]}}}
        table = {
            "project": "recall",
            "colors": {"blue": {"env_file": tmp_path / ".env.blue"}},
            "database": {"sqlite": "/data/recall.db"},
            "snapshot": snapshot,
            "state_dir": tmp_path / "state",
        }
        return ServiceDatabase(
            Settings.model_validate(table), Rendered("blue", "recall_blue", "", model, {}), tmp_path / "state"
        )

    return made
