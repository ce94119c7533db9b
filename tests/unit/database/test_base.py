"""Where a database is, and its snapshots on real SQLite files: no Docker engine is needed to read the volume."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from cutover.core.config_schema import Database
from cutover.core.errors import ConfigError, Locked
from cutover.core.verdict import Outcome
from cutover.database import base
from cutover.database.base import SqliteFile, locate
from cutover.database.postgres import PostgresUrl
from cutover.database.restore import choose_snapshot
from cutover.database.snapshot import list_snapshots, sha256_of
from tests.unit.database.sqlite_files import ROWS, MakeDatabase, count_memories, fill, run_sql


@pytest.mark.parametrize(
    ("url", "sqlite", "expected"),
    [
        ("", "/data/recall.db", SqliteFile("/data/recall.db")),
        ("", "", None),
        ("sqlite:////data/other.db", "/data/recall.db", SqliteFile("/data/other.db")),
        ("sqlite:///other.db", "/data/other.db", SqliteFile("/data/other.db")),
    ],
)
def test_location_of_a_sqlite_file(url: str, sqlite: str, expected: SqliteFile | None) -> None:
    """Without a URL it is the file in `[database] sqlite`, if there is one; a SQLite URL names its own."""
    assert locate(Database(sqlite=sqlite), {"DATABASE_URL": url}, ".env.blue") == expected


@pytest.mark.parametrize("url", ["postgres://u@h/d", "postgresql://u@h/d", "postgresql+asyncpg://u@h/d"])
def test_every_postgres_scheme_is_known(url: str) -> None:
    """A driver in the scheme, and the old scheme, name the same server."""
    found = locate(Database(), {"DATABASE_URL": url}, ".env.blue")
    assert isinstance(found, PostgresUrl)
    assert found.host == "h"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:hunter22@h/d", ".env.blue: DATABASE_URL is a mysql URL"),
        ("postgresql://u:hunter22@h", "names no database"),
        ("postgresql://u:hunter22@/d", "names no host"),
        ("postgresql://u:hunter22@h:port/d", "is not a URL that can be read"),
    ],
)
def test_a_wrong_url_is_reported_without_its_password(url: str, reason: str) -> None:
    """The error names the file and the key, not the value."""
    with pytest.raises(ConfigError, match=reason) as error:
        locate(Database(), {"DATABASE_URL": url}, ".env.blue")
    assert "hunter22" not in str(error.value)


def test_a_snapshot_is_restored_compared_and_described(live_file: Path, make_database: MakeDatabase) -> None:
    """One verified file with its description beside it; the live database is unchanged."""
    database = make_database()
    snapshot = database.take()
    verdict = database.verify(snapshot)
    assert verdict.ok
    assert "2 tables, 301 rows, 1 sequence, revision c40e; restore takes" in verdict.reason
    assert list_snapshots(database.folder)[0].verified
    assert {path.name for path in database.folder.iterdir() if path.name.startswith("scratch-")} == {
        database.scratch
    }
    database.drop_scratch()
    assert {path.suffix for path in database.folder.iterdir()} == {".sqlite", ".json", ""}
    assert (count_memories(live_file), database.head()) == (ROWS, "c40e")


def test_writes_going_on_make_no_false_difference(live_file: Path, make_database: MakeDatabase) -> None:
    """While a client writes: every row acknowledged before the snapshot is in it, and the copy equals it."""
    database, stop, written = make_database(), threading.Event(), list[int]()

    def write() -> None:
        with closing(sqlite3.connect(live_file, timeout=60)) as connection:
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
        snapshot = database.take()
        verdict = database.verify(snapshot)
    finally:
        stop.set()
        writer.join(60)
    assert verdict.ok, verdict.reason
    assert snapshot.contents.tables["memories"].rows >= before


def test_there_is_nothing_to_snapshot_before_the_first_release(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    """A volume without the file is not an error: there is no database yet."""
    (tmp_path / "volume").mkdir()
    assert not make_database().available()


def _flip(path: Path) -> None:
    """Change one letter inside a row, which SQLite's integrity check does not notice."""
    raw = path.read_bytes()
    at = raw.rindex(b"text 7text 7")
    path.write_bytes(raw[:at] + b"t" + bytes([raw[at + 1] ^ 1]) + raw[at + 2 :])


def _replace(path: Path, **other: Any) -> None:
    path.unlink()
    fill(path, **other)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:9000]), "cannot be restored"),
    "empty file": (lambda path: path.write_bytes(b""), "revision: expected c40e, got none"),
    "bit flip": (_flip, "table memories: 300 rows as expected, with other contents"),
    "schema only": (
        lambda path: run_sql(path, "delete from memories; delete from alembic_version"),
        "revision",
    ),
    "empty table": (lambda path: run_sql(path, "delete from memories"), "memories: expected 300 rows, got 0"),
    "wrong database": (lambda path: _replace(path, head="ffff", rows=7), "revision: expected c40e, got ffff"),
    "stale": (lambda path: _replace(path, rows=299), "memories: expected 300 rows, got 299"),
    "missing sequence": (
        lambda path: run_sql(path, "delete from sqlite_sequence"),
        "sequence memories is missing",
    ),
    "older revision": (
        lambda path: run_sql(path, "update alembic_version set version_num = 'b771'"),
        "got b771",
    ),
    "missing index": (lambda path: run_sql(path, "drop index by_length"), "index: expected 1, got 0"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_snapshot_is_caught(live_file: Path, make_database: MakeDatabase, kind: str) -> None:
    """The checksum finds every kind of damage, and so does restoring and comparing when the checksum is right."""
    database = make_database()
    snapshot = database.take()
    breaking, reason = BROKEN[kind]
    breaking(snapshot.path)
    assert "its checksum differs" in database.verify(snapshot).reason
    trusted = replace(snapshot, sha256=sha256_of(snapshot.path))
    verdict = database.verify(trusted)
    assert verdict.outcome is Outcome.NO
    assert reason in verdict.reason
    assert not list_snapshots(database.folder)[0].verified
    assert database.scratch == ""


def test_only_the_newest_are_kept(live_file: Path, make_database: MakeDatabase) -> None:
    """Rotation deletes the oldest snapshots, but not the last verified one."""
    database = make_database(keep=2)
    first = database.take()
    assert database.verify(first).ok
    others = [database.take() for _ in range(3)]
    assert [each.name for each in database.rotate()] == [others[0].name]
    assert [each.name for each in list_snapshots(database.folder)] == [
        others[2].name,
        others[1].name,
        first.name,
    ]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_snapshot_is_the_newest_although_the_clock_was_ahead(
    live_file: Path, make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    """The order is that of creation: the rotation never deletes the new one, and a restore chooses it."""
    database = make_database(keep=keep)
    with monkeypatch.context() as patch:
        patch.setattr(base, "datetime", Mock(now=lambda zone: datetime.now(zone) + timedelta(days=400)))
        older = [database.take() for _ in range(2)]
        assert database.verify(older[-1]).ok
    new = database.take()
    assert database.verify(new).ok
    database.rotate()
    assert [each.name for each in list_snapshots(database.folder)] == [new.name, older[1].name][:keep]
    assert choose_snapshot(database.folder, None).name == new.name


def test_only_one_at_a_time(live_file: Path, make_database: MakeDatabase) -> None:
    """A second snapshot is refused while one is running, and drafts of a session that died are removed."""
    first, second = make_database(), make_database()
    first.take()
    with pytest.raises(Locked, match="another snapshot or restore is running"):
        second.take()
    (first.folder / "x.partial").touch()
    first.close()
    second.take()
    assert not (first.folder / "x.partial").exists()


def test_closing_removes_the_scratch_copy(live_file: Path, make_database: MakeDatabase) -> None:
    """`close` removes the scratch copy and releases the lock."""
    first, second = make_database(), make_database()
    assert first.verify(first.take()).ok
    first.close()
    assert not list(first.folder.glob("scratch*"))
    assert second.verify(second.take()).ok
