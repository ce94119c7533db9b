"""A migration on a real PostgreSQL: one at a time, under a lock that lives as long as it does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cutover.core.errors import Failed
from cutover.data import locked
from cutover.data.postgres import Postgres
from cutover.system import process as processes
from examples.images import image
from tests.engine.databases import DEADLINE_S, NAME, Server, data_of, docker, eventually

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[2]


@pytest.fixture
def migration(server: Server, database: str, tmp_path: Path) -> Iterator[Callable[[str], tuple[str, ...]]]:
    """The words that migrate by a given line of shell, as a release's step runs them."""

    def words(script: str) -> tuple[str, ...]:
        data = data_of(server, database, tmp_path, ("sh", "-c", script))
        folder = tmp_path / "releases" / "green"
        folder.mkdir(parents=True, exist_ok=True)
        release = folder / "r.yml"
        release.write_text(data.rendered.text)
        config = tmp_path / "cutover.toml"
        config.write_text(
            f'project = "{NAME}"\nstate_dir = "{tmp_path}"\ncolours.green.env_file = ".env.green"\n'
        )
        (tmp_path / "migrate.sh").write_text((ROOT / "cutover/shell/migrate.sh").read_text())
        data.settings = data.settings.model_copy(update={"source": config})
        return data.migrate_change(data.rendered, release).do

    yield words
    processes.run(("docker", "rm", "--force", f"{NAME}-migrate"), deadline_s=DEADLINE_S)


Words = Callable[[str], tuple[str, ...]]


def test_a_migration_ends_as_its_command_ends(server: Server, database: str, migration: Words) -> None:
    """Its words and its exit code come through, its statements give up on locks, its container stays for its log."""
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


def test_one_migration_at_a_time(server: Server, database: str, migration: Words, tmp_path: Path) -> None:
    """While somebody holds the lock in the database a migration ends with a sentence, and its command never ran."""
    words = migration('psql "$DATABASE_URL" -qc "create table made (id int)"')
    store = data_of(server, database, tmp_path).store
    assert isinstance(store, Postgres)
    with store.tools.session() as other:
        other.ask(f"select pg_advisory_lock({locked.KEY});")
        done = processes.run(words, deadline_s=DEADLINE_S)
        assert done.code == Failed.exit_code
        assert "another migration of" in done.last_line
        assert "waited 1 s, nothing was changed" in done.last_line
    assert server.sql("select to_regclass('made') is null", database) == "t"
    docker("run", "--detach", "--name", f"{NAME}-migrate", image("postgres"), "sleep", "600")
    assert not processes.run(words, deadline_s=DEADLINE_S).ok
    assert docker("inspect", "--format", "{{.State.Status}}", f"{NAME}-migrate") == "running"
    docker("rm", "--force", f"{NAME}-migrate")
    assert processes.run(words, deadline_s=DEADLINE_S).ok


def test_the_lock_lives_exactly_as_long_as_the_migration(
    server: Server, database: str, migration: Words, tmp_path: Path
) -> None:
    """The lock is held while the words run, and let go when they are killed without a chance to say goodbye."""
    words = migration("true")
    held = (*words[: words.index("sh")], "sh", "-c", "echo started; read never")
    store = data_of(server, database, tmp_path).store
    assert isinstance(store, Postgres)
    free = f"select pg_try_advisory_lock({locked.KEY});"
    environment = processes.clean_environment()
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert store.tools.ask(free) == ["f"]
        process.kill()
    eventually(lambda: store.tools.ask(free) == ["t"])
