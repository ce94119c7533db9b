"""Restores of a SQLite database on real files, and what undoes one of PostgreSQL."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cutover.cli.snapshot import restore_effect
from cutover.core.errors import ConfigError, Failed
from cutover.database.base import ServiceDatabase
from cutover.database.postgres import PostgresStore, PostgresTools, parse_postgres_url, shorten_name
from cutover.database.restore import choose_snapshot, restore_snapshot, row_count_changes, undo_restore
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
