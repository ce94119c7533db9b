"""Restores of a SQLite database on real files."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cutover.core.errors import ConfigError, Failed
from cutover.database.restore import choose_snapshot, restore_snapshot, row_count_changes
from tests.unit.database.sqlite_files import ROWS, MakeDatabase, count_memories, run_sql


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


def test_changed_row_counts_are_listed(live_file: Path, make_database: MakeDatabase) -> None:
    """The difference between the database and the snapshot is one line for each table."""
    database = make_database()
    snapshot = database.take()
    run_sql(live_file, "insert into memories (text) values ('new')")
    assert row_count_changes(database.store.contents(), snapshot.contents) == [
        "memories: 301 rows now, 300 in the snapshot"
    ]
