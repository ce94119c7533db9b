"""Rehearsal of a migration: how a release is pointed at the restored copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config_schema import Database
from cutover.database.base import locate
from cutover.database.postgres import PostgresUrl
from cutover.release.migrate import (
    CopyAccess,
    compose_on_copy,
    copy_variables,
    migration_error,
    why_not_on_copy,
)
from cutover.system.compose import Rendered
from cutover.system.process import CompletedCommand

TRACEBACK = """\
  File "x.py", line 1
    raise OperationalError()
sqlalchemy.exc.ProgrammingError: column is missing
[SQL: alter]
(Background on this error at: https://sqlalche.me/e/14/f405)
"""


def _rendered(**service: Any) -> Rendered:
    model = {
        "name": "recall_green",
        "services": {"api": {"image": "recall/api:sha-2"} | service, "db": {"image": "postgres:15"}},
        "networks": {"shared": {"name": "recall_shared", "external": True}},
    }
    return Rendered("green", "recall_green", json.dumps(model), model, {})


def test_the_copy_replaces_the_database_and_nothing_else() -> None:
    """The service alone, with the URL of the copy and with dollars doubled as Compose wants them."""
    rendered = _rendered(
        environment={"DATABASE_URL": "postgresql://u:s3cret%24one@db/recall", "LOG_LEVEL": "info"},
        ports=[{"published": "8001", "target": 8000}],
        container_name="recall",
        depends_on={"db": {}},
        networks={"shared": None},
    )
    access = CopyAccess({"DATABASE_URL": "postgresql://u:s3cret$one@db/scratch"})
    model = json.loads(compose_on_copy(rendered, "api", access, Path("/x")))
    assert model["services"] == {
        "api": {
            "image": "recall/api:sha-2",
            "environment": {"DATABASE_URL": "postgresql://u:s3cret$$one@db/scratch", "LOG_LEVEL": "info"},
            "networks": {"shared": None},
        }
    }
    assert model["networks"] == rendered.model["networks"]
    assert rendered.image("api") == "recall/api:sha-2"


def test_every_url_of_the_database_is_pointed_at_the_copy() -> None:
    """A release that names its database twice, or with another driver, does not reach the original in a rehearsal."""
    environment = {
        "DATABASE_URL": "postgresql://u:p@db/recall",
        "SQLALCHEMY_DATABASE_URI": "postgresql+psycopg2://v:q@pool:6432/recall?sslmode=disable",
        "REPORTS_URL": "postgresql://u:p@db/reports",
        "REDIS_URL": "redis://cache/0",
        "ODD": "postgresql://[",
    }
    located = locate(None, environment, "")
    assert isinstance(located, PostgresUrl)
    assert copy_variables(located, environment, "scratch") == {
        "DATABASE_URL": "postgresql://u:p@db/scratch",
        "SQLALCHEMY_DATABASE_URI": "postgresql+psycopg2://v:q@pool:6432/scratch?sslmode=disable",
    }


@pytest.mark.parametrize(
    ("main", "migrate", "said"),
    [
        ({"environment": {"DATABASE_URL": "postgresql://u:p@db/recall"}}, None, ""),
        (
            {"environment": {"DATABASE_URL": "postgresql://u:p@db/recall"}},
            {"environment": {"ALEMBIC_URL": "postgresql+asyncpg://admin:p@db/recall"}},
            "",
        ),
        (
            {"environment": {"DATABASE_URL": "postgresql://u:p@db/recall"}},
            {"environment": {"PGHOST": "db", "PGDATABASE": "recall"}},
            "no variable of migrate is a URL of the database recall, as one of api is",
        ),
        ({"volumes": [{"source": "data", "target": "/data"}]}, {"volumes": []}, ""),
        (
            {"volumes": [{"source": "data", "target": "/data"}]},
            {"volumes": [{"source": "data", "target": "/data"}]},
            "",
        ),
        (
            {"volumes": [{"source": "data", "target": "/data"}]},
            {"volumes": [{"source": "data", "target": "/srv/data"}]},
            "migrate mounts data at /srv/data, and api at /data",
        ),
    ],
)
def test_a_migration_that_would_reach_the_original_is_not_rehearsed(
    main: dict[str, Any], migrate: dict[str, Any] | None, said: str
) -> None:
    """The service of [migrate] may name the database in another way than the one that is pointed at the copy."""
    model = {"services": {"api": {"image": "a:1"} | main, "migrate": {"image": "a:1"} | (migrate or {})}}
    rendered = Rendered("green", "recall_green", json.dumps(model), model, {})
    found = locate(Database(sqlite="/data/recall.db"), rendered.environment("api"), "")
    assert found is not None
    assert why_not_on_copy(found, rendered, "api", "api" if migrate is None else "migrate") == said


def test_the_copy_of_a_file_is_mounted_over_the_volume(tmp_path: Path) -> None:
    """SQLite: the folder of the scratch copy replaces the volume, other mounts stay."""
    volumes = [
        {"type": "volume", "source": "data", "target": "/data"},
        {"type": "bind", "source": "/x", "target": "/x"},
    ]
    access = CopyAccess(folder=tmp_path, mounted_at="/data")
    text = compose_on_copy(_rendered(volumes=volumes), "api", access, Path("/x"))
    assert json.loads(text)["services"]["api"]["volumes"] == [
        {"type": "bind", "source": "/x", "target": "/x"},
        {"type": "bind", "source": str(tmp_path), "target": "/data"},
    ]


@pytest.mark.parametrize(
    ("out", "err", "reason"),
    [
        (
            TRACEBACK,
            "",
            "sqlalchemy.exc.ProgrammingError: column is missing",
        ),
        ("done 1\ndone 2", "", "done 2"),
        ("", "ERROR:  lock timeout", "ERROR:  lock timeout"),
        ("", "", "exit 1 without a word"),
    ],
)
def test_a_failed_migration_is_reported_by_the_line_with_the_reason(out: str, err: str, reason: str) -> None:
    """The last error of a traceback, not the lines around it."""
    assert migration_error(CompletedCommand(("x",), 1, out, err)) == reason
