from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cutover.changes import undo_script
from cutover.changes.migrate import container_name, migrate
from cutover.changes.snapshot import snapshot
from cutover.core.config import Settings
from cutover.core.config_schema import Migrate
from cutover.data import Data
from cutover.data.location import PostgresUrl, locate
from cutover.data.rehearsal import Copy, copy_variables, on_copy, why
from cutover.system.compose import Compose, Rendered
from cutover.system.process import Done

MIGRATE = Migrate(command=("flask", "db", "upgrade"))
PASSWORD = "s3cret$one"
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


def test_a_migration_is_bounded_inside_and_named() -> None:
    """One container whose name is the lock on this engine, its time limit inside, no undo: the schema stays."""
    state = Path("/var/lib/cutover/recall")
    change = migrate(state, Compose("recall_green", state / "r.yml"), MIGRATE, container_name("recall"))
    expected = (
        f"sh {state}/migrate.sh recall-migrate docker compose --project-name recall_green --file {state}/r.yml "
        "run --detach --no-deps --name recall-migrate -T api timeout -k 10 600 flask db upgrade"
    )
    assert shlex.join(change.do) == expected
    assert change.undo == ()
    assert change.budget_s > MIGRATE.budget


@pytest.mark.parametrize(
    ("url", "environment", "locked", "options"),
    [
        ("postgresql://u:s3cret%24one@db/recall", {}, True, "PGOPTIONS=-c lock_timeout=5000"),
        ("postgresql://u:s3cret%24one@db/recall", {"PGOPTIONS": "-c x=s3cret$one"}, True, None),
        ("", {}, False, None),
    ],
)
def test_the_lock_and_its_limit_are_postgres_own(
    url: str, environment: dict[str, str], locked: bool, options: str | None
) -> None:
    """PostgreSQL: a session lock around the migration, a limit for its statements' locks; no secret in the words."""
    table = {"project": "recall", "colours": {"green": {"env_file": "/g"}}, "migrate": MIGRATE}
    rendered = _rendered(environment=environment | {"DATABASE_URL": url})
    data = Data(Settings.model_validate(table), rendered, Path("/state"))
    words = data.migrate_change(rendered, Path("/state/releases/green/r.yml")).do
    assert ("cutover.data.locked" in words) is locked
    assert [word for word in words if word.startswith("PGOPTIONS")] == ([options] if options else [])
    assert "s3cret" not in " ".join(words)


def test_the_undo_of_a_snapshot_leaves_nothing_and_never_stops(tmp_path: Path) -> None:
    """Partial files, scratch copies and the file with the password go; twice, and with an engine that is away."""
    (tmp_path / "a.dump.partial").touch()
    (tmp_path / "scratch-1").mkdir()
    (tmp_path / "scratch-1" / "recall.db").touch()
    (tmp_path / "scratch.env").touch()
    (tmp_path / "kept.dump").touch()
    change = snapshot(tmp_path, "recall", ("a-rehearsal",), ("false", "dropdb"), tmp_path / "scratch.env")
    script = undo_script([change])
    for _ in range(2):
        environment = {"PATH": "/usr/bin:/bin", "DOCKER_HOST": f"unix://{tmp_path}/nothing.sock"}
        subprocess.run(("sh", "-eu", "-c", script), check=True, timeout=120, env=environment)
    assert [each.name for each in tmp_path.iterdir()] == ["kept.dump"]
    assert subprocess.run(change.do, check=True, timeout=60).returncode == 0


def test_the_copy_replaces_the_database_and_nothing_else() -> None:
    """The service alone, on the copy's URL with Compose's doubled dollars, from the image of the live release."""
    rendered = _rendered(
        environment={"DATABASE_URL": "postgresql://u:s3cret%24one@db/recall", "LOG_LEVEL": "info"},
        ports=[{"published": "8001", "target": 8000}],
        container_name="recall",
        depends_on={"db": {}},
        networks={"shared": None},
    )
    copy = Copy({"DATABASE_URL": "postgresql://u:s3cret$one@db/scratch"})
    model = json.loads(on_copy(rendered, "api", copy, "sha256:1"))
    assert model["services"] == {
        "api": {
            "image": "sha256:1",
            "environment": {"DATABASE_URL": "postgresql://u:s3cret$$one@db/scratch", "LOG_LEVEL": "info"},
            "networks": {"shared": None},
        }
    }
    assert model["networks"] == rendered.model["networks"]
    assert rendered.image("api") == "recall/api:sha-2"


def test_every_url_of_the_database_is_pointed_at_the_copy() -> None:
    """A release that names its database twice, or by another driver, never reaches the real one in a rehearsal."""
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


def test_the_copy_of_a_file_is_mounted_over_the_volume(tmp_path: Path) -> None:
    """SQLite: the folder of the scratch copy stands where the volume did, other mounts stay."""
    volumes = [
        {"type": "volume", "source": "data", "target": "/data"},
        {"type": "bind", "source": "/x", "target": "/x"},
    ]
    text = on_copy(_rendered(volumes=volumes), "api", Copy(folder=tmp_path, mounted_at="/data"))
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
def test_a_failed_upgrade_is_told_by_the_line_that_names_it(out: str, err: str, reason: str) -> None:
    """The last error of a traceback, not what stands around it."""
    assert why(Done(("x",), 1, out, err)) == reason
