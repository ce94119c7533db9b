"""Migrations on a real PostgreSQL, under an advisory lock held as long as the migration runs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cutover.core.errors import Failed
from cutover.database.advisory_lock import LOCK_KEY
from cutover.database.postgres import PostgresStore
from cutover.system import process as processes
from examples.images import image
from tests.helpers.databases import DEADLINE_S, NAME, Server, docker, eventually, service_database

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[2]


@pytest.fixture
def migration(server: Server, database: str, tmp_path: Path) -> Iterator[Callable[[str], tuple[str, ...]]]:
    """Returns the argv of a migration whose command is a shell script, as a step of a release runs it."""

    def argv_of(script: str) -> tuple[str, ...]:
        target = service_database(server, database, tmp_path, ("sh", "-c", script))
        folder = tmp_path / "releases" / "green"
        folder.mkdir(parents=True, exist_ok=True)
        release = folder / "r.yml"
        release.write_text(target.rendered.text)
        config = tmp_path / "cutover.toml"
        config.write_text(
            f'project = "{NAME}"\nstate_dir = "{tmp_path}"\ncolors.green.env_file = ".env.green"\n'
        )
        (tmp_path / "migrate.sh").write_text((ROOT / "cutover/release/scripts/migrate.sh").read_text())
        target.settings = target.settings.model_copy(update={"source": config})
        return target.migration_change(target.rendered, release).do

    yield argv_of
    processes.run(("docker", "rm", "--force", f"{NAME}-migrate"), deadline_s=DEADLINE_S)


Migration = Callable[[str], tuple[str, ...]]


def test_a_migration_returns_the_output_and_exit_code_of_its_command(
    server: Server, database: str, migration: Migration
) -> None:
    """Output and exit code are returned, statements have a lock timeout, and the container is kept for its log."""
    good = migration('psql "$DATABASE_URL" -qAt -c "show lock_timeout" -c "create table made (id int)"')
    done = processes.run(good, deadline_s=DEADLINE_S)
    assert (done.code, done.out.split()) == (0, ["1s"])
    assert server.sql("select count(*) from made", database) == "0"
    assert processes.run(migration("echo half way >&2; exit 7"), deadline_s=DEADLINE_S).code == 7
    assert (
        "half way"
        in docker("logs", f"{NAME}-migrate")
        + processes.run(("docker", "logs", f"{NAME}-migrate"), deadline_s=60).err
    )


def test_one_migration_at_a_time(server: Server, database: str, migration: Migration, tmp_path: Path) -> None:
    """While another session holds the lock a migration fails with one line, and its command does not run."""
    argv = migration('psql "$DATABASE_URL" -qc "create table made (id int)"')
    store = service_database(server, database, tmp_path).store
    assert isinstance(store, PostgresStore)
    with closing(store.tools.open_session()) as other:
        other.query(f"select pg_advisory_lock({LOCK_KEY});")
        done = processes.run(argv, deadline_s=DEADLINE_S)
        assert done.code == Failed.exit_code
        assert "another migration of" in done.last_line
        assert "waited 1 s, nothing was changed" in done.last_line
    assert server.sql("select to_regclass('made') is null", database) == "t"
    docker("run", "--detach", "--name", f"{NAME}-migrate", image("postgres"), "sleep", "600")
    assert not processes.run(argv, deadline_s=DEADLINE_S).ok
    assert docker("inspect", "--format", "{{.State.Status}}", f"{NAME}-migrate") == "running"
    docker("rm", "--force", f"{NAME}-migrate")
    assert processes.run(argv, deadline_s=DEADLINE_S).ok


def test_the_lock_lives_exactly_as_long_as_the_migration(
    server: Server, database: str, migration: Migration, tmp_path: Path
) -> None:
    """The lock is held while the command runs, and released when the command is killed."""
    argv = migration("true")
    held = (*argv[: argv.index("sh")], "sh", "-c", "echo started; read never")
    store = service_database(server, database, tmp_path).store
    assert isinstance(store, PostgresStore)
    free = f"select pg_try_advisory_lock({LOCK_KEY});"
    environment = processes.clean_environment()
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert store.tools.query(free) == ["f"]
        process.kill()
    eventually(lambda: store.tools.query(free) == ["t"])
