"""Changes to a database: snapshot and migration."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from cutover.core.change import undo_script
from cutover.core.config import Settings
from cutover.core.config_schema import Migrate
from cutover.database.base import (
    ServiceDatabase,
    migration_change,
    migration_container,
    module_argv,
    one_shot_change,
    snapshot_change,
)
from cutover.system.compose import Compose, Rendered

MIGRATE = Migrate(command=("flask", "db", "upgrade"))


def _rendered(environment: dict[str, str]) -> Rendered:
    model = {"services": {"api": {"image": "recall/api:sha-2", "environment": environment}}}
    return Rendered("green", "recall_green", json.dumps(model), model, {})


def test_a_migration_runs_in_a_named_container_with_a_time_limit() -> None:
    """The name of the container is fixed, the time limit is inside it, and there is no undo: the schema stays."""
    state = Path("/var/lib/cutover/recall")
    compose, name = Compose("recall_green", state / "r.yml"), migration_container("recall")
    change = migration_change(state, compose, MIGRATE, name)
    expected = (
        f"sh {state}/migrate.sh recall-migrate docker compose --project-name recall_green --file {state}/r.yml "
        "run --detach --no-deps --name recall-migrate -T api timeout -k 10 600 flask db upgrade"
    )
    assert shlex.join(change.do) == expected
    assert change.undo == ()
    assert change.budget_s > MIGRATE.budget


def test_a_one_shot_service_is_removed_by_its_undo() -> None:
    """It runs alone under a name of its own; a run that is cut short leaves no container behind."""
    change = one_shot_change(Path("/state"), Compose("recall_green", Path("/r.yml")), "seed")
    assert shlex.join(change.do) == (
        "sh /state/migrate.sh recall_green-run-seed docker compose --project-name recall_green --file /r.yml "
        "run --detach --no-deps --name recall_green-run-seed -T seed"
    )
    assert change.undo == (
        "timeout -k 10 60 docker rm --force --volumes recall_green-run-seed >/dev/null 2>&1 || :",
    )


@pytest.mark.parametrize(
    ("url", "environment", "locked", "options"),
    [
        ("postgresql://u:s3cret%24one@db/recall", {}, True, "PGOPTIONS=-c lock_timeout=5000"),
        ("postgresql://u:s3cret%24one@db/recall", {"PGOPTIONS": "-c x=s3cret$one"}, True, None),
        ("postgres://u:s3cret%24one@db/recall", {}, True, "PGOPTIONS=-c lock_timeout=5000"),
        ("", {}, False, None),
        ("mysql+pymysql://u:s3cret%24one@db/recall", {}, False, None),
        ("mongodb+srv://u:s3cret%24one@db/recall", {}, False, None),
        ("sqlite:////data/recall.db", {}, False, None),
        ("db.internal", {}, False, None),
    ],
)
def test_postgres_migrations_take_a_lock_and_have_a_lock_timeout(
    url: str, environment: dict[str, str], locked: bool, options: str | None
) -> None:
    """PostgreSQL: an advisory lock around the migration and a lock timeout for its statements; no secret in the argv.

    Any other database is migrated too: only snapshots need to know it.
    """
    table = {"project": "recall", "colors": {"green": {"env_file": "/g"}}, "migrate": MIGRATE}
    rendered = _rendered(environment | {"DATABASE_URL": url})
    database = ServiceDatabase(Settings.model_validate(table), rendered, Path("/state"))
    argv = database.migration_change(rendered, Path("/state/releases/green/r.yml")).do
    assert ("cutover.database.advisory_lock" in argv) is locked
    assert [word for word in argv if word.startswith("PGOPTIONS")] == ([options] if options else [])
    assert "s3cret" not in " ".join(argv)


def test_the_undo_of_a_snapshot_removes_everything_and_never_fails(tmp_path: Path) -> None:
    """Drafts, scratch copies and the file with the password are removed, also twice and without a Docker engine."""
    (tmp_path / "a.dump.partial").touch()
    (tmp_path / "scratch-1").mkdir()
    (tmp_path / "scratch-1" / "recall.db").touch()
    (tmp_path / "scratch.env").touch()
    (tmp_path / "kept.dump").touch()
    change = snapshot_change(
        tmp_path, "recall", ("a-rehearsal",), ("false", "dropdb"), tmp_path / "scratch.env"
    )
    script = undo_script([change])
    for _ in range(2):
        environment = {"PATH": "/usr/bin:/bin", "DOCKER_HOST": f"unix://{tmp_path}/nothing.sock"}
        subprocess.run(("sh", "-eu", "-c", script), check=True, timeout=120, env=environment)
    assert [each.name for each in tmp_path.iterdir()] == ["kept.dump"]
    assert subprocess.run(change.do, check=True, timeout=60).returncode == 0


def test_a_module_runs_in_any_folder(tmp_path: Path) -> None:
    """The child finds this package without an installation, and no module of its working folder shadows one."""
    for name in ("json.py", "cutover.py"):
        (tmp_path / name).write_text("raise SystemExit('wrong module')\n")
    done = subprocess.run(
        module_argv("cutover", "--version"), cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split(",")[0]) == (0, "cutover"), done.stderr
