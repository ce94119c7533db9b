"""Migrations, snapshots and one-shot services of releases on a real Swarm, whose PostgreSQL is a task of it."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples import proxying
from examples.images import image
from examples.stand import Stand
from tests.helpers.databases import eventually
from tests.helpers.shared_services import BROKEN, GOOD, OLDER, REPO, made
from tests.helpers.ssh_server import docker
from tests.helpers.swarm import COMPOSE, SwarmStand, swarm

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
SETTINGS = """
[snapshot]
enabled = true

[platform]
kind = "swarm"
"""
SERVICE = """
    networks: [default, shared]
    depends_on: {seed: {condition: service_completed_successfully}}
  seed:
    image: ${IMAGE_REPO:?}:${IMAGE_TAG:?}
    environment: {DATABASE_URL: "${DATABASE_URL:?}", SEED_ENDS: "${SEED_ENDS:?}"}
    secrets: [word]
    networks: [shared]
    command:
      - python3
      - -c
      - |
        import os, psycopg2
        with psycopg2.connect(os.environ["DATABASE_URL"]) as connection, connection.cursor() as cursor:
            cursor.execute("insert into memories (text) values (%s)", [open("/run/secrets/word").read()])
        exit(int(os.environ["SEED_ENDS"]))
configs:
"""
"""The service joins the network of its stack and one that is there before; `seed` runs as a user, with a secret."""
NAMED = """
networks:
  shared: {name: "${SHARED_NETWORK:?}", external: true}
secrets:
  word: {file: ./word}
"""


@dataclass(slots=True)
class ManagerStand(SwarmStand):
    """A stand whose sessions and proxy are in the network of a node: a rehearsal publishes a port there."""

    node: str = ""

    def toml(self) -> str:
        """The configuration; from there the connections of the proxy cannot be seen, so that a drain takes its time."""
        return Stand.toml(self).replace('drain_timeout = "20s"', 'drain_timeout = "1s"')

    def _start_proxy(self) -> None:
        self.access_log.parent.mkdir()
        self.access_log.parent.chmod(0o777)  # the proxy runs as another user in its container
        words = proxying.nginx(self.folder / "nginx", self.marker, self.access_log, self.ports)
        config, port = self.folder / "nginx" / "cutover.conf", self.ports["proxy"]
        config.write_text(config.read_text().replace(f"listen 127.0.0.1:{port};", f"listen {port};"))
        moved = [f"container:{self.node}" if each == "host" else each for each in words]
        self.docker("run", "--detach", "--name", f"{self.name}-proxy", *moved)
        self._wait(f"{self.url}/__cutover/alive")


@dataclass(slots=True)
class Place:
    """A stand on a Swarm of one node, and the service of its database."""

    stand: SwarmStand
    word: str

    def sql(self, text: str) -> str:
        """Output of psql in the task of the database."""
        task = self.stand.engine("ps", "--quiet", "--filter", f"name={self.stand.name}-db")
        psql = ("psql", "-h", "127.0.0.1", "-U", "recall", "-qAtX", "-c", text)
        return self.stand.engine("exec", "--env", f"PGPASSWORD={self.word}", task, *psql)

    def release(self, tag: str, *more: str) -> str:
        """Release *tag* to the idle color and switch; its output, and its exit code in the last line."""
        done = self.stand.pytest(
            "smoke", "checks", "--target=idle", f"--deploy={tag}", "--switch", "--watch=2s", *more
        )
        return f"{done.out}\nexit code {done.code}"

    def containers(self) -> list[str]:
        """Names of the containers on the node."""
        return self.stand.engine("ps", "--all", "--format", "{{.Names}}").split()

    def state(self) -> tuple[object, ...]:
        """What a release that fails must leave: who serves what, the revision, the containers and the networks."""
        return (
            self.stand.ask(),
            self.sql("select version_num from alembic_version"),
            {each for each in self.containers() if "-run-" not in each},
            {*self.stand.engine("network", "ls", "--format", "{{.Name}} {{.Driver}}").splitlines()},
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An older release is live on blue, after its first migration; the database is a service of the Swarm."""
    name, folder, word = f"swarm{secrets.token_hex(3)}", tmp_path_factory.mktemp("swarm"), "s3cret-" + "w" * 9
    environment = {
        "IMAGE_REPO": REPO,
        "DATABASE_URL": f"postgresql://recall:{word}@{name}-db:5432/recall",
        "SEED_ENDS": "0",
    }
    stand = ManagerStand(folder, name, SETTINGS, migrate=True, environment=environment)
    images = [image("postgres"), *(made(tag) for tag in (OLDER, GOOD, BROKEN))]
    (folder / "image").mkdir()
    with swarm(folder / "image", 1, [*stand.ports.values()], mounts=[folder]) as (node,):
        node.load(images)
        stand.host, stand.node = node.host, node.name
        stand.inside = ("nsenter", f"--net=/proc/{node.pid}/ns/net")
        stand.make()
        text = COMPOSE.replace('DATABASE_URL: ""', "DATABASE_URL: ${DATABASE_URL:?}")
        text = text.replace("\nconfigs:\n", SERVICE) + NAMED
        (folder / "deploy" / "docker-compose.yml").write_text(text)
        (folder / "deploy" / "word").touch(0o600)
        (folder / "deploy" / "word").write_text(word)
        stand.engine("network", "create", "--driver", "overlay", "--attachable", f"{name}_shared")
        variables = (f"POSTGRES_{key}" for key in ("USER=recall", "DB=recall", f"PASSWORD={word}"))
        flags = ("--network", f"{name}_shared", "--endpoint-mode", "dnsrr", "--no-resolve-image", "--detach")
        create = ("service", "create", "--name", f"{name}-db", *flags)
        stand.engine(*create, *(f"--env={each}" for each in variables), images[0])
        found = Place(stand, word)
        eventually(lambda: "ready" in ready(found))
        first = stand.pytest("smoke", "--target=blue", f"--deploy={OLDER}")
        assert first.code == 0, first.out
        try:
            yield found
        finally:
            docker("rm", "--force", f"{name}-proxy")


@contextmanager
def changed(file: Path, before: str, after: str) -> Iterator[None]:
    """*file* says *after* in place of *before*, for the time."""
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    try:
        yield
    finally:
        file.write_text(text)


def ready(place: Place) -> str:
    """What the database says when it accepts connections."""
    try:
        return place.sql("select 'ready'")
    except subprocess.CalledProcessError:
        return ""


def test_a_good_release_over_a_migration(place: Place) -> None:
    """Snapshot, rehearsal on its restored copy, migration and one-shot service, then the switch."""
    before = place.sql("select version_num from alembic_version")
    said = place.release(GOOD)
    assert "exit code 0" in said, said
    assert f"on the restored copy: new schema applied, {OLDER} passes" in " ".join(said.split()), said
    assert place.sql("select version_num from alembic_version") != before
    assert place.sql("select text from memories") == "\n".join([place.word] * 2)
    assert place.stand.ask()["version"] == GOOD
    assert " verified" in place.stand.cutover("snapshot", "list").out
    assert place.word not in said
    assert not (place.stand.state / "one-off").exists()
    assert not [*place.stand.state.glob("releases/*/one-off.yml")]


def test_a_snapshot_of_a_database_that_a_container_on_the_manager_reaches(place: Place) -> None:
    """Its programs are used, and it reaches the database over the network, as one on another node."""
    stand, name = place.stand, f"{place.stand.name}-tools"
    network = ("--network", f"{stand.name}_shared")
    stand.engine("run", "--detach", "--init", "--name", name, *network, image("postgres"), "sleep", "600")
    with changed(stand.config, 'sqlite = "/data/recall.db"', f'container = "{name}"'):
        done = stand.cutover("snapshot", "create")
    stand.engine("rm", "--force", name)
    assert done.code == 0, done.out
    assert "restored and compared" in done.out


def test_a_migration_that_fails_changes_nothing(place: Place) -> None:
    """Also where no rehearsal has stopped it: exit code 1, and the old release serves as before."""
    before = place.state()
    with changed(place.stand.config, "enabled = true", "enabled = false"):
        said = place.release(BROKEN)
    assert "exit code 1" in said, said
    assert "the migration failed: " in said
    assert "no_such_table" in said
    assert place.state() == before


def test_a_one_shot_service_that_fails_ends_the_release(place: Place) -> None:
    """Exit code 1; its container is removed."""
    before, stand = place.state(), place.stand
    with (
        changed(stand.config, "enabled = true", "enabled = false"),
        changed(stand.env_file("blue"), "SEED_ENDS=0", "SEED_ENDS=3"),
    ):
        said = place.release(GOOD)
    assert "exit code 1" in said, said
    assert "seed has to complete before the release starts, and failed: exit 3" in " ".join(said.split())
    assert f"{stand.project('blue')}-run-seed" not in place.containers()
    assert place.state() == before


def test_refuses_a_network_that_no_one_off_container_can_join(place: Place) -> None:
    """Exit code 4 with the line to change."""
    before, env_file, name = place.state(), place.stand.env_file("blue"), f"{place.stand.name}_shared"
    place.stand.engine("network", "create", "--driver", "overlay", f"{name}2")
    with changed(env_file, f"SHARED_NETWORK={name}", f"SHARED_NETWORK={name}2"):
        said = place.release(GOOD, "--plan")
    place.stand.engine("network", "rm", f"{name}2")
    assert "exit code 4" in said, said
    refusal = (
        f"networks.shared: api runs in a one-off container, which joins {name}2, and it is not attachable"
    )
    assert refusal in " ".join(said.split())
    assert place.state() == before
