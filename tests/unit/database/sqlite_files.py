"""A small SQLite database to take snapshots of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from cutover.database.base import ServiceDatabase

MakeDatabase = Callable[..., ServiceDatabase]
ROWS = 300
COPIED_NAMES = ("recall", "r" * 39, "r" * 40, "r" * 41, "r" * 63, "é" * 31)
"""Databases of PostgreSQL: a name has 63 bytes, and that of a copy is cut to them."""


def fill(file: Path, head: str = "c40e", rows: int = ROWS) -> Path:
    """A new database at *file* with *rows* memories at revision *head*."""
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


def count_memories(file: Path) -> int:
    """Number of memories in *file*."""
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("select count(*) from memories").fetchone()[0])


def run_sql(path: Path, sql: str) -> None:
    """Run *sql* on the database *path*."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)
