"""Restores of a SQLite database on real files, and what undoes one of PostgreSQL."""

from __future__ import annotations

import errno
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cutover.cli.snapshot import restore_effect
from cutover.core.errors import ConfigError, Failed
from cutover.core.verdict import yes
from cutover.database import sqlite_inside
from cutover.database.base import ServiceDatabase
from cutover.database.postgres import PostgresStore, PostgresTools, parse_postgres_url, shorten_name
from cutover.database.restore import choose_snapshot, restore_snapshot, row_count_changes, undo_restore
from cutover.database.snapshot import SnapshotFile
from cutover.database.sqlite import SqliteStore
from cutover.system import process
from tests.unit.database.sqlite_files import COPIED_NAMES, ROWS, MakeDatabase, count_memories, run_sql


def test_a_restore_replaces_what_open_connections_see(live_file: Path, make_database: MakeDatabase) -> None:
    """The live file is not replaced, open connections see the snapshot, and the undo restores a snapshot too."""
    database = make_database()
    snapshot = database.take()
    with closing(sqlite3.connect(live_file)) as application:
        application.execute("insert into memories (text) values ('after the snapshot')")
        application.commit()
        done = restore_snapshot(database, snapshot)
        assert application.execute("select count(*) from memories").fetchone() == (ROWS,)
        application.execute("insert into memories (text) values ('after the restore')")
        application.commit()
    assert done.head == "c40e"
    assert "restore" in done.undo
    assert done.aside in done.undo
    restore_snapshot(database, choose_snapshot(database.folder, done.aside))
    assert count_memories(live_file) == ROWS + 1


def test_a_restore_of_a_damaged_file_changes_nothing(live_file: Path, make_database: MakeDatabase) -> None:
    """The checksum is checked first."""
    database = make_database()
    snapshot = database.take()
    run_sql(snapshot.path, "delete from memories")
    with pytest.raises(Failed, match="checksum differs; nothing was changed"):
        restore_snapshot(database, snapshot)
    assert count_memories(live_file) == ROWS


def test_restores_the_last_verified_one_by_default(live_file: Path, make_database: MakeDatabase) -> None:
    """Without a name the last verified snapshot is chosen; the error for a wrong name lists the others."""
    database = make_database()
    with pytest.raises(ConfigError, match="no verified snapshot"):
        choose_snapshot(database.folder, None)
    first = database.take()
    database.verify(first)
    second = database.take()
    assert choose_snapshot(database.folder, None).name == first.name
    assert choose_snapshot(database.folder, second.name).name == second.name
    with pytest.raises(ConfigError, match=f"there are {second.name}, {first.name}"):
        choose_snapshot(database.folder, "nothing")


WRITER = """
import sqlite3, sys, time
with sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None) as connection:
    for n in range(10**9):
        connection.execute("insert into memories (text) values (?)", (f"new {n}",))
        print(n, flush=True)
        time.sleep(0.002)
"""


@pytest.fixture(params=["wal", "delete"])
def journal(request: pytest.FixtureRequest, live_file: Path) -> str:
    """The journal mode of the live database: it decides who can read while one writes."""
    run_sql(live_file, f"pragma journal_mode = {request.param}")
    return str(request.param)


@pytest.fixture(params=["host", "container"])
def database(
    request: pytest.FixtureRequest,
    live_file: Path,
    make_database: MakeDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> ServiceDatabase:
    """A database that is reached on this host, or by the script that runs in the container: here on this host too."""
    found, script_argv = make_database(), SqliteStore._script_argv
    script = Path(sqlite_inside.__file__).read_text(encoding="utf-8")

    def argv(store: SqliteStore, *words: str) -> tuple[str, ...]:
        limit = f"LOCK_TIMEOUT_S = {sqlite_inside.LOCK_TIMEOUT_S}"
        own = script.replace("LOCK_TIMEOUT_S = 30.0", limit)
        return (sys.executable, "-c", own, *script_argv(store, *words)[7:])

    monkeypatch.setattr(SqliteStore, "_script_argv", argv)
    monkeypatch.setattr(SqliteStore, "_exec", lambda _, *argv: process.run(argv, deadline_s=60))
    if request.param == "container":
        found.store = SqliteStore(str(live_file), None, "api", found.folder, "alembic_version")
    return found


@pytest.mark.usefixtures("journal")
def test_no_row_is_lost_by_a_restore(live_file: Path, database: ServiceDatabase) -> None:
    """Every row that was acknowledged before or during a restore is live after it, or in what is kept."""
    snapshot = database.take()
    assert database.verify(snapshot).ok
    with subprocess.Popen((sys.executable, "-c", WRITER, live_file), stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        try:
            done = restore_snapshot(database, snapshot)
        finally:
            writer.terminate()
        acknowledged = {int(each) for each in (first + writer.stdout.read()).split(b"\n") if each}
    kept = _new_rows(database.folder / done.aside)
    assert 0 in kept
    assert acknowledged <= kept | _new_rows(live_file)
    assert not kept & _new_rows(live_file)
    assert list(live_file.parent.glob("*.cutover-*")) == []


OF_EXTENSION = """
create virtual table found using fts5(text);
insert into found values ('one'), ('two');
pragma writable_schema = on;
update sqlite_master set sql = 'create virtual table found using MODULE' where name = 'found';
"""


@pytest.mark.parametrize("module", ["vec0(text)", "fts5(text, tokenize=ours)"])
def test_a_table_of_an_extension_is_kept(live_file: Path, database: ServiceDatabase, module: str) -> None:
    """Without the extension it cannot be read; what it holds is in ordinary tables, which are compared."""
    run_sql(live_file, OF_EXTENSION.replace("MODULE", module))
    snapshot = database.take()
    assert {"found_content", "found_data"} < snapshot.contents.tables.keys()
    run_sql(live_file, "delete from found_content")
    restore_snapshot(database, snapshot)
    with closing(sqlite3.connect(live_file)) as connection:
        assert connection.execute("select c0 from found_content").fetchall() == [("one",), ("two",)]
    assert database.store.contents() == snapshot.contents


def _new_rows(file: Path) -> set[int]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("select substr(text, 5) from memories where text like 'new %'")
        return {int(row[0]) for row in rows}


@pytest.mark.usefixtures("journal")
def test_a_restore_of_a_locked_database_ends(
    live_file: Path, database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another connection that holds the lock for longer than the limit is named, and nothing is changed."""
    snapshot = database.take()
    monkeypatch.setattr(sqlite_inside, "LOCK_TIMEOUT_S", 0.5)
    with closing(sqlite3.connect(live_file, isolation_level=None)) as application:
        application.execute("begin immediate")
        application.execute("insert into memories (text) values ('new 0')")
        with pytest.raises(Failed, match=r"held the database locked for 0\.5 s"):
            restore_snapshot(database, snapshot)
        application.execute("commit")
    assert count_memories(live_file) == ROWS + 1


@pytest.mark.usefixtures("journal")
def test_nothing_is_replaced_that_cannot_be_kept(
    live_file: Path, database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, for example, ends the restore before anything is changed."""
    snapshot = database.take()
    run_sql(live_file, "delete from memories where id = 1")

    def write_description(_: SnapshotFile) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cutover.database.base.write_description", write_description)
    monkeypatch.setattr(ServiceDatabase, "verify", lambda *_: yes("snapshot", "equal"))
    with pytest.raises(OSError, match="No space left"):
        restore_snapshot(database, snapshot)
    assert count_memories(live_file) == ROWS - 1


@pytest.mark.parametrize(
    ("sent", "seconds", "reason"),
    [
        (lambda copy: copy[:0], "60", "did not arrive as it was sent"),
        (lambda copy: copy[:-1], "60", "did not arrive as it was sent"),
        (lambda copy: copy[:-1] + b"x", "60", "did not arrive as it was sent"),
        (lambda copy: copy, "60", "were not stored"),
        (lambda copy: copy + b"comm", "60", "were not stored"),
        (None, "0.5", "the time is over"),
    ],
    ids=["nothing", "a part", "another byte", "no commit", "a part of it", "no end"],
)
@pytest.mark.usefixtures("journal")
def test_the_script_changes_nothing_unless_it_is_told(
    live_file: Path,
    make_database: MakeDatabase,
    sent: Callable[[bytes], bytes] | None,
    seconds: str,
    reason: str,
) -> None:
    """It runs on in the container when its client is killed: an input that ends, or never does, is no copy."""
    snapshot = make_database().take()
    run_sql(live_file, "delete from memories where id = 1")
    words = ("write", live_file, "alembic_version", str(snapshot.size), snapshot.sha256, seconds)
    with subprocess.Popen(
        (sys.executable, sqlite_inside.__file__, *words),
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as script:  # fmt: skip
        assert script.stdin is not None
        if sent:
            script.stdin.write(sent(snapshot.path.read_bytes()))
            script.stdin.close()
        code = script.wait(60)
        assert script.stderr is not None
        assert reason in script.stderr.read().decode()
    assert code != 0
    assert count_memories(live_file) == ROWS - 1
    assert list(live_file.parent.glob("*.cutover-*")) == []


@pytest.fixture
def make_postgres(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ServiceDatabase]:
    """Returns a PostgreSQL database with that name, on a server that has every database it is asked for."""

    def made(name: str) -> ServiceDatabase:
        url = parse_postgres_url(f"postgres://u@h/{name}", ".env.blue")
        database = make_database()
        database.store = PostgresStore(PostgresTools(url), "alembic_version")
        return database

    monkeypatch.setattr(PostgresTools, "query", lambda *_, **_rest: ["16384"])
    monkeypatch.setattr(PostgresStore, "head", lambda _: "c40e")
    return made


@pytest.mark.parametrize("form", ["_before_20261130_091020", "_restored_20261130_091020"])
@pytest.mark.parametrize("name", COPIED_NAMES)
def test_a_restore_is_undone_whatever_the_name_is_cut_to(
    make_postgres: Callable[[str], ServiceDatabase], name: str, form: str
) -> None:
    """What a restore or its undo put aside is accepted, and what the undo prints is accepted too."""
    database, aside = make_postgres(name), shorten_name(name, form)
    assert name in restore_effect(database, None, aside)
    done = undo_restore(database, aside)
    assert shlex.split(done.undo)[-3:] == ["--back", done.aside, "--yes"]
    assert undo_restore(database, done.aside).database == name


@pytest.mark.parametrize(
    "aside",
    ["recall", "recall_staging", "recall_before_noon", "recall_before_20261130_091020_", "_before_20261130_091020",
     "other_before_20261130_091020", "recall_x_before_20261130_091020", "recall_cutover_scratch_7"],
)  # fmt: skip
def test_only_what_was_put_aside_is_put_back(
    make_postgres: Callable[[str], ServiceDatabase], aside: str
) -> None:
    """Any other database of the server is refused, with `--yes` and without."""
    database = make_postgres("recall")
    for refused in (lambda: undo_restore(database, aside), lambda: restore_effect(database, None, aside)):
        with pytest.raises(ConfigError, match=f"no database '{aside}' that was put aside from recall"):
            refused()


def test_changed_row_counts_are_listed(live_file: Path, make_database: MakeDatabase) -> None:
    """The difference between the database and the snapshot is one line for each table."""
    database = make_database()
    snapshot = database.take()
    run_sql(live_file, "insert into memories (text) values ('new')")
    assert row_count_changes(database.store.contents(), snapshot.contents) == [
        "memories: 301 rows now, 300 in the snapshot"
    ]
