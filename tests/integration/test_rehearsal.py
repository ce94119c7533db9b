"""Rehearsal of a migration on a restored copy, and `cutover snapshot`, with the example service."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from cutover.core.config import Settings
from cutover.database.base import ServiceDatabase
from cutover.database.snapshot import Dumped, SnapshotFile, sha256_of
from cutover.database.sqlite import SqliteStore
from cutover.release.migrate import rehearse_migration
from cutover.system import process
from cutover.system.compose import render
from examples.releases import build
from tests.helpers.databases import DEADLINE_S, NAME, PASSWORD, Server, docker

pytestmark = pytest.mark.engine
REPO = "cutover-data/api"
ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/docker-compose.yml"
TAGS = {None: "sha-da7a001", "migration-contract": "sha-da7a002", "bad-migration": "sha-da7a003"}


def _service(tmp_path: Path, url: str) -> Settings:
    """The example service, both colors on the database *url*, or on a SQLite volume if it is empty."""
    for port, color in enumerate(("blue", "green"), 1):
        env = {
            "IMAGE_REPO": REPO,
            "IMAGE_TAG": build(TAGS[None], repo=REPO).rsplit(":", 1)[1],
            "COMPOSE_PROJECT_NAME": f"{NAME}-{color}",
            "API_HTTP_PORT": str(port),  # nothing is published: only one-off containers run
            "SHARED_NETWORK": NAME,
            "SHARED_VOLUME": NAME,
            "DATABASE_URL": url.replace("$", "$$"),
        }
        path = tmp_path / f".env.{color}"
        path.write_text("".join(f"{key}={value}\n" for key, value in env.items()))
    writes = {"path": "/memories", "method": "POST", "send": {"text": "x"}, "status": 201, "writes": True}
    table = {
        "project": NAME,
        "compose_file": COMPOSE,
        "state_dir": tmp_path / "state",
        "colors": {color: {"env_file": tmp_path / f".env.{color}"} for color in ("blue", "green")},
        "version": {"json": {"service": "recall", "version": "{tag}"}},
        "endpoints": [
            {"path": "/memories", "max_latency": "60s"},
            writes | {"undo": "GET /memories", "max_latency": "60s"},
        ],
        "gate": {"request_timeout": "30s"},
        "ready": {"timeout": "30s"},
        "database": {"sqlite": "/data/recall.db"},
        "migrate": {"command": ["flask", "db", "upgrade"]},
    }
    (tmp_path / "state").mkdir()
    (tmp_path / "state/migrate.sh").write_text((ROOT / "cutover/release/scripts/migrate.sh").read_text())
    return Settings.model_validate(table)


def _rehearsed(
    settings: Settings, defect: str | None
) -> tuple[ServiceDatabase, SnapshotFile, list[tuple[str, str]]]:
    live = render(settings, "blue")
    source = ServiceDatabase(settings, live, settings.state)
    snapshot = source.take()
    assert source.verify(snapshot).ok
    tag = build(TAGS[defect], defect, repo=REPO).rsplit(":", 1)[1]
    verdicts = rehearse_migration(source, render(settings, "green", tag), live)
    source.drop_scratch()
    return (
        source,
        snapshot,
        [(verdict.question.removeprefix("rehearsal: "), str(verdict.outcome)) for verdict in verdicts],
    )


ALL_YES = [
    ("migrate", "yes"),
    ("ready", "yes"),
    ("version", "yes"),
    ("GET /memories", "yes"),
    ("POST /memories", "yes"),
]


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        (None, ALL_YES),
        ("migration-contract", [*ALL_YES[:3], ("GET /memories", "no"), ("POST /memories", "no")]),
        ("bad-migration", [("migrate", "no")]),
    ],
)
def test_a_rehearsal_checks_the_live_release_on_the_new_schema(
    server: Server, database: str, tmp_path: Path, defect: str | None, expected: list[tuple[str, str]]
) -> None:
    """A column that the live release needs is missing on the copy; the database itself is unchanged."""
    server.sql("drop table memories, tags, alembic_version", database)
    settings = _service(tmp_path, server.url(database))
    _upgrade(settings)
    source, snapshot, results = _rehearsed(settings, defect)
    assert results == expected
    assert source.head() == snapshot.contents.head == "c40e"
    assert server.sql("select count(*) from memories", database) == "0"
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={NAME}-rehearsal")


def test_a_rehearsal_on_sqlite_mounts_the_copy(server: Server, tmp_path: Path) -> None:
    """SQLite: the copy is mounted in place of the volume; the live file is unchanged."""
    settings = _service(tmp_path, "")
    try:
        _upgrade(settings)
        source, _, results = _rehearsed(settings, "migration-contract")
        assert results == [*ALL_YES[:3], ("GET /memories", "no"), ("POST /memories", "no")]
        assert source.head() == "c40e"
    finally:
        process.run(("docker", "volume", "rm", NAME), deadline_s=DEADLINE_S)


def test_sqlite_inside_the_container(server: Server, tmp_path: Path) -> None:
    """If the volume cannot be read from this host, the Python of the service copies the file and restores it."""
    docker("volume", "create", NAME)
    release = build(TAGS[None], repo=REPO)
    container = docker(
        "run", "--detach", "--volume", f"{NAME}:/data", "--network", NAME, release, "sleep", "3600"
    )
    try:
        docker("exec", container, "flask", "db", "upgrade")
        store = SqliteStore("/data/recall.db", None, container, tmp_path, "alembic_version")
        assert store.exists()
        size, checksum, contents = store.dump(tmp_path / "a.sqlite", DEADLINE_S)
        assert (size, checksum) == (store.size(), sha256_of(tmp_path / "a.sqlite"))
        assert contents.head == "c40e"
        insert = "c.execute(\"insert into memories (text) values ('x')\"); c.commit()"
        script = f"import sqlite3; c = sqlite3.connect('/data/recall.db'); {insert}"
        docker("exec", container, "python3", "-c", script)
        assert store.contents().tables["memories"].rows == 1
        snapshot = SnapshotFile(
            tmp_path / "a.sqlite", store.kind, store.name, "", size, checksum, 0.0, contents
        )
        kept: list[Dumped] = []
        store.replace_by(
            snapshot, lambda dump: kept.append(dump(tmp_path / "kept.sqlite", DEADLINE_S)), DEADLINE_S
        )
        assert store.contents() == contents
        assert kept[0][2].tables["memories"].rows == 1
        assert sha256_of(tmp_path / "kept.sqlite") == kept[0][1]
        assert docker("exec", container, "ls", "/data").split()[0] == "recall.db"
        assert "cutover" not in docker("exec", container, "ls", "-a", "/data")
    finally:
        docker("rm", "--force", container)
        docker("volume", "rm", NAME)


def _upgrade(settings: Settings) -> None:
    """Run the migrations of the live release on the database."""
    live = render(settings, "blue")
    release = settings.state / "r.yml"
    release.write_text(live.text)
    run = (
        "docker",
        "compose",
        "-p",
        live.project,
        "-f",
        str(release),
        "run",
        "--rm",
        "--no-deps",
        "-T",
        "api",
    )
    done = process.run((*run, "flask", "db", "upgrade"), deadline_s=DEADLINE_S)
    assert done.ok, done.err


def test_the_commands_show_no_secret(server: Server, database: str, tmp_path: Path) -> None:
    """Create, list, restore and undo by the command line: no output and no file that is kept has the password."""
    settings = _service(tmp_path, server.url(database))
    config = tmp_path / "cutover.toml"
    config.write_text(
        f'project = "{NAME}"\ncompose_file = "{COMPOSE}"\nstate_dir = "{settings.state}"\n'
        'colors.blue.env_file = ".env.blue"\ncolors.green.env_file = ".env.green"\n'
    )
    outputs = []

    def cutover(*argv: str) -> process.CompletedCommand:
        done = process.run(
            (sys.executable, "-m", "cutover", *argv),
            deadline_s=DEADLINE_S,
            environment={"PYTHONPATH": str(ROOT)},
            mask=False,
            cwd=str(tmp_path),
        )
        outputs.append(done.out + done.err)
        return done

    assert cutover("snapshot", "create").ok
    server.sql("insert into memories (text) values ('later')", database)
    dry = cutover("snapshot", "restore")
    assert dry.code == 0
    assert "public.memories: 1 row now, 0 in the snapshot" in dry.out
    assert dry.out.rstrip().endswith("--yes")
    assert server.sql("select count(*) from memories", database) == "1"
    done = json.loads(cutover("snapshot", "restore", "--yes", "--json").out)
    assert server.sql("select count(*) from memories", database) == "0"
    assert cutover(*shlex.split(done["undo"])[1:]).ok
    assert server.sql("select count(*) from memories", database) == "1"
    assert "verified, restore takes" in cutover("snapshot", "list").out
    kept = [path.read_bytes() for path in settings.state.rglob("*") if path.is_file()]
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in "".join(outputs)
        assert not [text for text in kept if secret.encode() in text]
