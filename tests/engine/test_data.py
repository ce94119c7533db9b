"""Snapshots, restores, migrations and rehearsals on a real PostgreSQL, asked through its own container."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pytest

from cutover import host
from cutover.changes import undo_script
from cutover.compose import Rendered, render
from cutover.data import Data, files, locked, restoring
from cutover.data.files import Taken
from cutover.data.postgres import Postgres
from cutover.data.sqlite import Sqlite
from cutover.errors import Failed, UsageProblem
from cutover.settings import Settings
from cutover.verdict import Outcome
from examples.images import image
from examples.releases import build

pytestmark = pytest.mark.engine
NAME = f"cutover-data-{os.getpid()}"
REPO = "cutover-data/api"
PASSWORD = "s3cret$wörd/x"
DEADLINE_S = 120.0
ROOT = Path(__file__).parents[2]
SCHEMA = """
create table memories (id serial primary key, text text not null);
create index by_length on memories (length(text));
create table tags (name text);
create table alembic_version (version_num varchar(32) primary key);
insert into alembic_version values ('c40e');
"""


def _docker(*words: str) -> str:
    done = host.run(("docker", *words), deadline_s=DEADLINE_S, mask=False)
    assert done.ok, done.err
    return done.out.strip()


def _eventually(ask: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not ask():
        assert time.monotonic() < end, "it did not happen within the deadline"
        time.sleep(0.05)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL in a container, alone on a network of its own."""

    name: str

    def sql(self, text: str, database: str = "postgres") -> str:
        """What psql prints for *text*."""
        words = (
            "docker",
            "exec",
            "--interactive",
            "--env",
            "PGPASSWORD",
            self.name,
            "psql",
            "-h",
            "127.0.0.1",
        )
        flags = ("-U", "recall", "-d", database, "-qAtX", "-v", "ON_ERROR_STOP=1")
        done = host.run(
            (*words, *flags), deadline_s=DEADLINE_S, environment={"PGPASSWORD": PASSWORD}, stdin=text.encode()
        )
        assert done.ok, done.err
        return done.out.strip()

    def url(self, database: str) -> str:
        """The URL of *database* as an env file has it."""
        return f"postgresql://recall:{quote(PASSWORD, safe='')}@thedb:5432/{database}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for this module, removed with all that it holds."""
    _docker("network", "create", NAME)
    variables = (
        "-e",
        "POSTGRES_USER=recall",
        "-e",
        f"POSTGRES_PASSWORD={PASSWORD}",
        "-e",
        "POSTGRES_DB=recall",
    )
    try:
        _docker(
            "run",
            "-d",
            "--name",
            NAME,
            "--network",
            NAME,
            "--network-alias",
            "thedb",
            *variables,
            image("postgres"),
        )
        ready = ("docker", "exec", NAME, "pg_isready", "--quiet", "--host", "127.0.0.1")
        _eventually(lambda: host.run(ready, deadline_s=DEADLINE_S).ok)
        started = Server(NAME)
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing of this is to survive
            started.sql(f"alter system set {setting} = off")
        started.sql("select pg_reload_conf()")
        yield started
    finally:
        host.run(("docker", "rm", "--force", "--volumes", NAME), deadline_s=DEADLINE_S)
        host.run(("docker", "network", "rm", NAME), deadline_s=DEADLINE_S)


@pytest.fixture
def database(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own."""
    name = f"shop_{abs(hash(request.node.name)) % 10**8}"
    server.sql(f"create database {name}")
    server.sql(SCHEMA, name)
    yield name
    rows = [row for row in server.sql("select datname from pg_database").split() if row.startswith(name)]
    server.sql(";".join(f"drop database {row} with (force)" for row in rows))


def _data(server: Server, database: str, state: Path, migrate: tuple[str, ...] = ()) -> Data:
    """The data of a service whose release names *database*; its image has psql, its network is the server's."""
    table = {
        "project": NAME,
        "colours": {"green": {"env_file": state / ".env.green"}},
        "state_dir": state,
        "database": {},
        "migrate": {"command": migrate, "lock_timeout": "1s"} if migrate else None,
    }
    environment = {"DATABASE_URL": server.url(database).replace("$", "$$")}
    model = {
        "name": f"{NAME}-green",
        "services": {
            "api": {"image": image("postgres"), "environment": environment, "networks": {"shared": None}}
        },
        "networks": {"shared": {"name": NAME, "external": True}},
    }
    rendered = Rendered("green", f"{NAME}-green", json.dumps(model), model, {})
    return Data(Settings.model_validate(table), rendered, state)


# --- snapshot and restore ----------------------------------------------------------------------------------------
def test_every_acknowledged_row_is_there_after_a_restore(
    server: Server, database: str, tmp_path: Path
) -> None:
    """2,000 rows are written while a snapshot is taken and restored: each that was acknowledged before it is in it."""
    psycopg = pytest.importorskip("psycopg")
    address = _docker(
        "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", server.name
    )
    acknowledged: list[int] = []

    def write() -> None:
        login = {
            "host": address,
            "user": "recall",
            "password": PASSWORD,
            "dbname": database,
            "autocommit": True,
        }
        with closing(psycopg.connect(**login)) as connection:
            for _ in range(2000):
                row = connection.execute("insert into memories (text) values ('x') returning id").fetchone()
                acknowledged.append(row[0])

    data, writer = _data(server, database, tmp_path), threading.Thread(target=write)
    writer.start()
    _eventually(lambda: len(acknowledged) >= 200)
    before = set(acknowledged)
    taken = data.take()
    writer.join(DEADLINE_S)
    assert len(acknowledged) == 2000
    verdict = data.prove(taken)
    assert verdict.ok, verdict.reason
    data.drop_scratch()

    done = restoring.restore(data, taken)
    restored = {int(row) for row in server.sql("select id from memories", database).split()}
    assert before <= restored
    assert len(restored) == taken.contents.tables["public.memories"].rows
    assert server.sql("select count(*) from memories", done.aside) == "2000"
    next_id = int(server.sql("insert into memories (text) values ('y') returning id", database))
    assert next_id > max(restored)
    assert data.store.scratches() == []


def test_restore_and_its_undo_keep_names_settings_and_rights(
    server: Server, database: str, tmp_path: Path
) -> None:
    """The restored database has the name, settings and rights of the old one; its undo line brings that back."""
    server.sql(f'alter database {database} set search_path to public, "odd one"')
    server.sql(f"grant create on database {database} to pg_monitor")
    data = _data(server, database, tmp_path)
    taken = data.take()
    server.sql("insert into memories (text) values ('later')", database)
    done = restoring.restore(data, taken)
    rights = "select datacl::text like '%pg_monitor=C/%' from pg_database where datname = current_database()"
    assert server.sql(rights, database) == "t"
    assert server.sql("show search_path", database) == 'public, "odd one"'
    assert server.sql("select count(*) from memories", database) == "0"
    assert shlex.split(done.undo)[-3:] == ["--back", done.aside, "--yes"]
    restoring.back(data, done.aside)
    assert server.sql("select count(*) from memories", database) == "1"


def _variant(server: Server, database: str, sql: str) -> str:
    name = f"{database}_variant"
    server.sql(f"drop database if exists {name}; create database {name} template {database}")
    server.sql(sql, name)
    return name


def _dump(server: Server, database: str, path: Path, *flags: str) -> None:
    words = (
        "docker",
        "exec",
        "--env",
        "PGPASSWORD",
        server.name,
        "pg_dump",
        "-h",
        "127.0.0.1",
        "-U",
        "recall",
        "-Fc",
    )
    files.stream((*words, *flags, database), {"PGPASSWORD": PASSWORD}, path, DEADLINE_S)


def _cut(path: Path, share: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])


def _flip(path: Path) -> None:
    """One bit in the middle: in the compressed rows of the largest table."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


OTHER = (
    "drop table memories, tags; create table orders (id int); update alembic_version set version_num = 'ffff'"
)
FROM_OTHER_DATA = {
    "empty table": "truncate tags",
    "wrong database": OTHER,
    "stale": "delete from memories where id > 2990",
    "missing sequence": "alter table memories alter id drop default; drop sequence memories_id_seq",
    "older revision": "update alembic_version set version_num = 'b771'",
    "missing index": "drop index by_length",
    "other contents": "update memories set text = 'y' where id = 7",
}


def test_broken_dumps_are_caught_where_a_listing_is_content(
    server: Server, database: str, tmp_path: Path
) -> None:
    """Ten kinds of broken dumps: restoring and comparing says no to each, `pg_restore --list` to one or none."""
    server.sql("insert into memories (text) select md5(n::text) from generate_series(1, 3000) n", database)
    server.sql("insert into tags values ('a')", database)
    data = _data(server, database, tmp_path)
    original = data.take()
    assert data.prove(original).ok
    seen: dict[str, tuple[Outcome, bool, str]] = {}

    def broken(kind: str, path: Path) -> None:
        trusted = replace(original, path=path, sha256=files.sha256_of(path))
        verdict = data.prove(trusted)
        words = ("docker", "exec", "--interactive", server.name, "pg_restore", "--list")
        seen[kind] = (verdict.outcome, files.feed(words, {}, path, DEADLINE_S).ok, verdict.reason)

    for kind, sql in FROM_OTHER_DATA.items():
        path = tmp_path / kind
        _dump(server, _variant(server, database, sql), path)
        broken(kind, path)
    _dump(server, database, tmp_path / "schema only", "--schema-only")
    broken("schema only", tmp_path / "schema only")
    for kind, breaking in (("truncated", lambda path: _cut(path, 0.5)), ("bit flip", _flip)):
        path = tmp_path / kind
        path.write_bytes(original.path.read_bytes())
        breaking(path)
        assert "checksum differs" in data.prove(replace(original, path=path)).reason
        broken(kind, path)

    assert {kind: outcome for kind, (outcome, _, _) in seen.items()} == dict.fromkeys(seen, Outcome.NO)
    assert len(seen) == 10
    content = [kind for kind, (_, listed, _) in seen.items() if listed]
    assert {"truncated", *FROM_OTHER_DATA, "schema only"} <= set(content)
    assert data.store.scratches() == []


def test_says_who_may_not(server: Server, database: str, tmp_path: Path) -> None:
    """A role that may not create databases is told so before anything happens; a wrong password is never shown."""
    server.sql("drop role if exists poor; create role poor login password 'poorpoor'")
    for kind in ("tables", "sequences"):
        server.sql(f"grant select on all {kind} in schema public to poor", database)
    data = _data(server, database, tmp_path)
    poor = server.url(database).replace(f"recall:{quote(PASSWORD, safe='')}", "poor:poorpoor")
    data.rendered.model["services"]["api"]["environment"]["DATABASE_URL"] = poor
    taken = data.take()
    with pytest.raises(UsageProblem, match="let poor CREATEDB"):
        data.prove(taken)
    data.rendered.model["services"]["api"]["environment"]["DATABASE_URL"] = poor.replace(
        "poorpoor", "wrongwrong"
    )
    data._store = None
    with pytest.raises(UsageProblem, match="cannot be reached") as error:
        data.take()
    assert "wrongwrong" not in str(error.value)


def test_what_a_dead_session_left_is_dropped_by_the_undo(
    server: Server, database: str, tmp_path: Path
) -> None:
    """The undo script needs no Python and no secret of its own: the scratch database is gone, and twice is as good."""
    data = _data(server, database, tmp_path)
    change = data.snapshot_change()
    assert PASSWORD not in "".join(change.undo)
    assert host.run(change.do, deadline_s=DEADLINE_S).ok
    assert data.prove(data.take()).ok
    assert data.store.scratches() == [data.scratch]
    for _ in range(2):
        done = host.run(("sh", "-eu", "-c", undo_script([change])), deadline_s=DEADLINE_S)
        assert done.ok, done.err
    assert data.store.scratches() == []
    assert len(data.kept()) == 1
    assert not list(tmp_path.rglob("*.env"))


# --- migration ---------------------------------------------------------------------------------------------------
@pytest.fixture
def migration(server: Server, database: str, tmp_path: Path) -> Iterator[Callable[[str], tuple[str, ...]]]:
    """The words that migrate by a given line of shell, as a release's step runs them."""

    def words(script: str) -> tuple[str, ...]:
        data = _data(server, database, tmp_path, ("sh", "-c", script))
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
    host.run(("docker", "rm", "--force", f"{NAME}-migrate"), deadline_s=DEADLINE_S)


Words = Callable[[str], tuple[str, ...]]


def test_a_migration_ends_as_its_command_ends(server: Server, database: str, migration: Words) -> None:
    """Its words and its exit code come through, its statements give up on locks, its container stays for its log."""
    good = migration('psql "$DATABASE_URL" -qAt -c "show lock_timeout" -c "create table made (id int)"')
    done = host.run(good, deadline_s=DEADLINE_S)
    assert (done.code, done.out.split()) == (0, ["1s"])
    assert server.sql("select count(*) from made", database) == "0"
    assert host.run(migration("echo half way >&2; exit 7"), deadline_s=DEADLINE_S).code == 7
    assert (
        "half way"
        in _docker("logs", f"{NAME}-migrate")
        + host.run(("docker", "logs", f"{NAME}-migrate"), deadline_s=60).err
    )


def test_one_migration_at_a_time(server: Server, database: str, migration: Words, tmp_path: Path) -> None:
    """While somebody holds the lock in the database a migration ends with a sentence, and its command never ran."""
    words = migration('psql "$DATABASE_URL" -qc "create table made (id int)"')
    store = _data(server, database, tmp_path).store
    assert isinstance(store, Postgres)
    with store.tools.session() as other:
        other.ask(f"select pg_advisory_lock({locked.KEY});")
        done = host.run(words, deadline_s=DEADLINE_S)
        assert done.code == Failed.exit_code
        assert "another migration of" in done.last_line
        assert "waited 1 s, nothing was changed" in done.last_line
    assert server.sql("select to_regclass('made') is null", database) == "t"
    _docker("run", "--detach", "--name", f"{NAME}-migrate", image("postgres"), "sleep", "600")
    assert not host.run(words, deadline_s=DEADLINE_S).ok
    assert _docker("inspect", "--format", "{{.State.Status}}", f"{NAME}-migrate") == "running"
    _docker("rm", "--force", f"{NAME}-migrate")
    assert host.run(words, deadline_s=DEADLINE_S).ok


def test_the_lock_lives_exactly_as_long_as_the_migration(
    server: Server, database: str, migration: Words, tmp_path: Path
) -> None:
    """The lock is held while the words run, and let go when they are killed without a chance to say goodbye."""
    words = migration("true")
    held = (*words[: words.index("sh")], "sh", "-c", "echo started; read never")
    store = _data(server, database, tmp_path).store
    assert isinstance(store, Postgres)
    free = f"select pg_try_advisory_lock({locked.KEY});"
    environment = host.clean_environment()
    with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        assert store.tools.ask(free) == ["f"]
        process.kill()
    _eventually(lambda: store.tools.ask(free) == ["t"])


# --- rehearsal ---------------------------------------------------------------------------------------------------
COMPOSE = ROOT / "deploy/docker-compose.yml"
TAGS = {None: "sha-da7a001", "migration-contract": "sha-da7a002", "bad-migration": "sha-da7a003"}


def _service(tmp_path: Path, url: str) -> Settings:
    """The example's service, both colours on the data of *url*, or on a SQLite volume without one."""
    for port, colour in enumerate(("blue", "green"), 1):
        env = {
            "IMAGE_REPO": REPO,
            "IMAGE_TAG": build(TAGS[None], repo=REPO).rsplit(":", 1)[1],
            "COMPOSE_PROJECT_NAME": f"{NAME}-{colour}",
            "API_HTTP_PORT": str(port),  # nothing is published: only one-off containers run
            "SHARED_NETWORK": NAME,
            "SHARED_VOLUME": NAME,
            "DATABASE_URL": url.replace("$", "$$"),
        }
        path = tmp_path / f".env.{colour}"
        path.write_text("".join(f"{key}={value}\n" for key, value in env.items()))
    writes = {"path": "/memories", "method": "POST", "send": {"text": "x"}, "status": 201, "writes": True}
    table = {
        "project": NAME,
        "compose_file": COMPOSE,
        "state_dir": tmp_path / "state",
        "colours": {colour: {"env_file": tmp_path / f".env.{colour}"} for colour in ("blue", "green")},
        "version": {"json": {"service": "recall", "version": "{tag}"}},
        "endpoints": [
            {"path": "/memories", "max_latency": "60s"},
            writes | {"undo": "GET /memories", "max_latency": "60s"},
        ],
        "gate": {"deadline": "30s"},
        "ready": {"deadline": "30s"},
        "database": {"sqlite": "/data/recall.db"},
        "migrate": {"command": ["flask", "db", "upgrade"]},
    }
    (tmp_path / "state").mkdir()
    (tmp_path / "state/migrate.sh").write_text((ROOT / "cutover/shell/migrate.sh").read_text())
    return Settings.model_validate(table)


def _rehearsed(settings: Settings, defect: str | None) -> tuple[Data, Taken, list[tuple[str, str]]]:
    live = render(settings, "blue")
    data = Data(settings, live, settings.state)
    taken = data.take()
    assert data.prove(taken).ok
    tag = build(TAGS[defect], defect, repo=REPO).rsplit(":", 1)[1]
    verdicts = data.rehearse(render(settings, "green", tag), live)
    data.drop_scratch()
    return (
        data,
        taken,
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
def test_a_rehearsal_tells_what_the_old_release_makes_of_the_new_schema(
    server: Server, database: str, tmp_path: Path, defect: str | None, expected: list[tuple[str, str]]
) -> None:
    """A column that the live release needs is missed on the copy, before anything real was changed."""
    server.sql("drop table memories, tags, alembic_version", database)
    settings = _service(tmp_path, server.url(database))
    _upgrade(settings)
    data, taken, said = _rehearsed(settings, defect)
    assert said == expected
    assert data.head() == taken.contents.head == "c40e"
    assert server.sql("select count(*) from memories", database) == "0"
    assert not _docker("ps", "--all", "--quiet", "--filter", f"name={NAME}-rehearsal")


def test_a_rehearsal_on_sqlite_mounts_the_copy(server: Server, tmp_path: Path) -> None:
    """SQLite: the copy stands where the volume was, and the live file keeps its rows."""
    settings = _service(tmp_path, "")
    try:
        _upgrade(settings)
        data, _, said = _rehearsed(settings, "migration-contract")
        assert said == [*ALL_YES[:3], ("GET /memories", "no"), ("POST /memories", "no")]
        assert data.head() == "c40e"
    finally:
        host.run(("docker", "volume", "rm", NAME), deadline_s=DEADLINE_S)


def test_sqlite_inside_the_container(server: Server, tmp_path: Path) -> None:
    """Where the volume cannot be seen from here, the service's own Python copies the file and puts it back."""
    _docker("volume", "create", NAME)
    release = build(TAGS[None], repo=REPO)
    container = _docker(
        "run", "--detach", "--volume", f"{NAME}:/data", "--network", NAME, release, "sleep", "3600"
    )
    try:
        _docker("exec", container, "flask", "db", "upgrade")
        store = Sqlite("/data/recall.db", None, container, tmp_path, "alembic_version")
        assert store.exists()
        size, checksum, held = store.dump(tmp_path / "a.sqlite", DEADLINE_S)
        assert (size, checksum) == (store.size(), files.sha256_of(tmp_path / "a.sqlite"))
        assert held.head == "c40e"
        insert = "c.execute(\"insert into memories (text) values ('x')\"); c.commit()"
        script = f"import sqlite3; c = sqlite3.connect('/data/recall.db'); {insert}"
        _docker("exec", container, "python3", "-c", script)
        assert store.contents().tables["memories"].rows == 1
        store.put(tmp_path / "a.sqlite", DEADLINE_S)
        assert store.contents() == held
        assert _docker("exec", container, "ls", "/data").split()[0] == "recall.db"
        assert "cutover" not in _docker("exec", container, "ls", "-a", "/data")
    finally:
        _docker("rm", "--force", container)
        _docker("volume", "rm", NAME)


def _upgrade(settings: Settings) -> None:
    """Run the migrations of the live release on the real data."""
    live = render(settings, "blue")
    release = settings.state / "r.yml"
    release.write_text(live.text)
    words = (
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
    done = host.run((*words, "flask", "db", "upgrade"), deadline_s=DEADLINE_S)
    assert done.ok, done.err


# --- the commands ------------------------------------------------------------------------------------------------
def test_the_commands_show_no_secret(server: Server, database: str, tmp_path: Path) -> None:
    """Snapshot, list, restore and undo as a person types them; the password is in no output and no file that stays."""
    settings = _service(tmp_path, server.url(database))
    config = tmp_path / "cutover.toml"
    config.write_text(
        f'project = "{NAME}"\ncompose_file = "{COMPOSE}"\nstate_dir = "{settings.state}"\n'
        'colours.blue.env_file = ".env.blue"\ncolours.green.env_file = ".env.green"\n'
    )
    said = []

    def cutover(*words: str) -> host.Done:
        done = host.run(
            (sys.executable, "-m", "cutover", *words),
            deadline_s=DEADLINE_S,
            environment={"PYTHONPATH": str(ROOT)},
            mask=False,
            cwd=str(tmp_path),
        )
        said.append(done.out + done.err)
        return done

    assert cutover("snapshot").ok
    server.sql("insert into memories (text) values ('later')", database)
    asked = cutover("restore")
    assert asked.code == 4
    assert "public.memories: 1 row now, 0 in the snapshot" in asked.err
    assert server.sql("select count(*) from memories", database) == "1"
    done = json.loads(cutover("restore", "--yes", "--json").out)
    assert server.sql("select count(*) from memories", database) == "0"
    assert cutover(*shlex.split(done["undo"])[1:]).ok
    assert server.sql("select count(*) from memories", database) == "1"
    assert "proved, restore takes" in cutover("snapshot", "--list").out
    kept = [path.read_bytes() for path in settings.state.rglob("*") if path.is_file()]
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in "".join(said)
        assert not [text for text in kept if secret.encode() in text]
