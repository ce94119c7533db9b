"""SQLite's whole way, on real files: no engine is needed where the volume can be seen from here."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cutover.core.config import Settings
from cutover.core.errors import Failed, Locked, UsageProblem
from cutover.core.verdict import Outcome
from cutover.data import Data, files, restoring
from cutover.system.compose import Rendered

ROWS = 300


def _fill(file: Path, head: str = "c40e", rows: int = ROWS) -> Path:
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            """
            pragma journal_mode = wal;
            create table memories (id integer primary key autoincrement, text text not null);
            create table alembic_version (version_num varchar(32) primary key);
            create index by_length on memories (length(text));
            """
        )
        connection.execute("insert into alembic_version values (?)", (head,))
        connection.executemany(
            "insert into memories (text) values (?)", [(f"text {n}" * 9,) for n in range(rows)]
        )
        connection.commit()
    return file


def _count(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("select count(*) from memories").fetchone()[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The live database, on the "volume"."""
    (tmp_path / "volume").mkdir()
    return _fill(tmp_path / "volume" / "recall.db")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Data]:
    """The data of a service that mounts the volume at /data."""

    def made(**snapshot: Any) -> Data:
        mount = {"type": "bind", "source": str(tmp_path / "volume"), "target": "/data"}
        model = {"services": {"api": {"environment": {}, "volumes": [mount]}}}
        table = {
            "project": "recall",
            "colours": {"blue": {"env_file": tmp_path / ".env.blue"}},
            "database": {"sqlite": "/data/recall.db"},
            "snapshot": snapshot,
            "state_dir": tmp_path / "state",
        }
        return Data(
            Settings.model_validate(table), Rendered("blue", "recall_blue", "", model, {}), tmp_path / "state"
        )

    return made


def test_a_snapshot_is_restored_compared_and_described(file: Path, make: Callable[..., Data]) -> None:
    """One file, proved, with what it holds beside it; the live database is left as it was."""
    data = make()
    taken = data.take()
    verdict = data.prove(taken)
    assert verdict.ok
    assert "2 tables, 301 rows, 1 sequence, revision c40e; restore takes" in verdict.reason
    assert data.kept()[0].proved
    assert {path.name for path in data.folder.iterdir() if path.name.startswith("scratch-")} == {data.scratch}
    data.drop_scratch()
    assert {path.suffix for path in data.folder.iterdir()} == {".sqlite", ".json", ""}
    assert (_count(file), data.head()) == (ROWS, "c40e")


def test_writes_going_on_make_no_false_difference(file: Path, make: Callable[..., Data]) -> None:
    """A client writes all the time: each row that was acknowledged before the snapshot is in it, and it compares."""
    data, stop, written = make(), threading.Event(), list[int]()

    def write() -> None:
        with closing(sqlite3.connect(file, timeout=60)) as connection:
            while not stop.is_set():
                connection.execute("insert into memories (text) values ('new')")
                connection.commit()
                written.append(ROWS + len(written) + 1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(written) < 20:
            stop.wait(0.01)
        before = written[-1]
        taken = data.take()
        verdict = data.prove(taken)
    finally:
        stop.set()
        writer.join(60)
    assert verdict.ok, verdict.reason
    assert taken.contents.tables["memories"].rows >= before


def test_there_is_nothing_to_snapshot_before_the_first_release(
    make: Callable[..., Data], tmp_path: Path
) -> None:
    """A volume without the file is no error: there is no data yet."""
    (tmp_path / "volume").mkdir()
    assert not make().available()


def _flip(path: Path) -> None:
    """Change one letter inside a row, where SQLite's own integrity check cannot see it."""
    raw = path.read_bytes()
    at = raw.rindex(b"text 7text 7")
    path.write_bytes(raw[:at] + b"t" + bytes([raw[at + 1] ^ 1]) + raw[at + 2 :])


def _sql(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)


def _replace(path: Path, **other: Any) -> None:
    path.unlink()
    _fill(path, **other)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:9000]), "cannot be restored"),
    "empty file": (lambda path: path.write_bytes(b""), "revision: expected c40e, got none"),
    "bit flip": (_flip, "table memories: 300 rows as expected, with other contents"),
    "schema only": (lambda path: _sql(path, "delete from memories; delete from alembic_version"), "revision"),
    "empty table": (lambda path: _sql(path, "delete from memories"), "memories: expected 300 rows, got 0"),
    "wrong database": (lambda path: _replace(path, head="ffff", rows=7), "revision: expected c40e, got ffff"),
    "stale": (lambda path: _replace(path, rows=299), "memories: expected 300 rows, got 299"),
    "missing sequence": (
        lambda path: _sql(path, "delete from sqlite_sequence"),
        "sequence memories is missing",
    ),
    "older revision": (
        lambda path: _sql(path, "update alembic_version set version_num = 'b771'"),
        "got b771",
    ),
    "missing index": (lambda path: _sql(path, "drop index by_length"), "index: expected 1, got 0"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_snapshot_is_caught(file: Path, make: Callable[..., Data], kind: str) -> None:
    """Whatever is wrong with it, restoring and comparing says so, even to somebody who trusts the checksum."""
    data = make()
    taken = data.take()
    breaking, reason = BROKEN[kind]
    breaking(taken.path)
    assert "its checksum differs" in data.prove(taken).reason
    trusted = replace(taken, sha256=files.sha256_of(taken.path))
    verdict = data.prove(trusted)
    assert verdict.outcome is Outcome.NO
    assert reason in verdict.reason
    assert not data.kept()[0].proved
    assert data.scratch == ""


def test_only_the_newest_are_kept(file: Path, make: Callable[..., Data]) -> None:
    """After a snapshot the oldest go, but the last one that was proved does not."""
    data = make(keep=2)
    first = data.take()
    assert data.prove(first).ok
    others = [data.take() for _ in range(3)]
    assert [each.name for each in data.rotate()] == [others[0].name]
    assert [each.name for each in data.kept()] == [others[2].name, others[1].name, first.name]


def test_only_one_at_a_time(file: Path, make: Callable[..., Data]) -> None:
    """A second snapshot is refused while one is going on, and what a dead one left behind is cleared."""
    first, second = make(), make()
    first.take()
    with pytest.raises(Locked, match="another snapshot or restore is running"):
        second.take()
    (first.folder / "x.partial").touch()
    first.close()
    second.take()
    assert not (first.folder / "x.partial").exists()


def test_a_session_that_ends_in_the_middle_leaves_no_copy(file: Path, make: Callable[..., Data]) -> None:
    """Closing removes the scratch copy that a rehearsal would have used, and lets the next one begin."""
    first, second = make(), make()
    assert first.prove(first.take()).ok
    first.close()
    assert not list(first.folder.glob("scratch*"))
    assert second.prove(second.take()).ok


def test_a_restore_replaces_what_open_connections_see(file: Path, make: Callable[..., Data]) -> None:
    """The live file keeps its identity, whoever has it open sees the snapshot, and the way back is a snapshot too."""
    data = make()
    taken = data.take()
    with closing(sqlite3.connect(file)) as application:
        application.execute("insert into memories (text) values ('after the snapshot')")
        application.commit()
        done = restoring.restore(data, taken)
        assert application.execute("select count(*) from memories").fetchone() == (ROWS,)
        application.execute("insert into memories (text) values ('after the restore')")
        application.commit()
    assert done.head == "c40e"
    assert "restore" in done.undo
    assert done.aside in done.undo
    restoring.restore(data, restoring.chosen(data, done.aside))
    assert _count(file) == ROWS + 1


def test_a_restore_of_a_damaged_file_changes_nothing(file: Path, make: Callable[..., Data]) -> None:
    """The checksum is asked first."""
    data = make()
    taken = data.take()
    _sql(taken.path, "delete from memories")
    with pytest.raises(Failed, match="checksum differs; nothing was changed"):
        restoring.restore(data, taken)
    assert _count(file) == ROWS


def test_restores_the_last_proved_one_unless_told(file: Path, make: Callable[..., Data]) -> None:
    """Without a name it is the last proved snapshot; a wrong name is answered with those that are there."""
    data = make()
    with pytest.raises(UsageProblem, match="no proved snapshot"):
        restoring.chosen(data, None)
    first = data.take()
    data.prove(first)
    second = data.take()
    assert restoring.chosen(data, None).name == first.name
    assert restoring.chosen(data, second.name).name == second.name
    with pytest.raises(UsageProblem, match=f"there are {second.name}, {first.name}"):
        restoring.chosen(data, "nothing")


def test_the_rows_that_would_be_put_aside_are_counted(file: Path, make: Callable[..., Data]) -> None:
    """Before a restore people are told what is in the database now and not in the snapshot."""
    data = make()
    taken = data.take()
    _sql(file, "insert into memories (text) values ('new')")
    assert restoring.lost(data.store.contents(), taken.contents) == [
        "memories: 301 rows now, 300 in the snapshot"
    ]
