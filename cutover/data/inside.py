"""SQLite by its own backup API; imported here, or handed to the service's container as `python3 -c`.

Stands alone and needs nothing but the standard library, for the container has no cutover. Its commands:
`dump FILE TABLE` prints a copy of FILE and tells its contents on stderr, `write FILE` reads one and puts it in place.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

TYPE_CHECKING = False  # typing itself would cost more to import than all the rest
if TYPE_CHECKING:
    from typing import Any

PATIENCE_S = 30.0
DIGEST_BOUND = 64 << 20


def connect(file: str, mode: str = "rw") -> sqlite3.Connection:
    """*file*, which must exist, without Python's own transactions."""
    uri = "file:" + file.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=" + mode
    connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE_S, isolation_level=None)
    connection.text_factory = bytes  # a column may hold what is no UTF-8
    return connection


def quoted(name: str) -> str:
    """*name* as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def read(connection: sqlite3.Connection, schema_table: str) -> dict[str, Any]:
    """What the database holds, in the form of `Contents.as_json`."""
    tables = {}
    whole = pages(connection) <= DIGEST_BOUND
    for name in names(connection, "table"):
        rows, total = 0, 0
        for row in connection.execute("select * from " + quoted(name)) if whole else ():
            rows, total = (
                rows + 1,
                total + int.from_bytes(hashlib.sha256(repr(row).encode()).digest()[:8], "big"),
            )
        if not whole:
            rows = connection.execute("select count(*) from " + quoted(name)).fetchone()[0]
        tables[name] = {"rows": rows, "digest": str(total) if whole else ""}
    objects = {kind: len(names(connection, kind)) for kind in ("index", "trigger", "view")}
    sequences = {}
    if connection.execute("select 1 from sqlite_master where name = 'sqlite_sequence'").fetchone():
        rows_of = connection.execute("select name, seq from sqlite_sequence").fetchall()
        sequences = {name.decode(): [seq, seq] for name, seq in rows_of}
    return {
        "head": head(connection, schema_table),
        "tables": tables,
        "sequences": sequences,
        "objects": objects,
    }


def head(connection: sqlite3.Connection, schema_table: str) -> str:
    """What stands in the first column of the table that keeps the revision; empty without one."""
    if schema_table not in names(connection, "table"):
        return ""
    rows = connection.execute("select * from " + quoted(schema_table)).fetchall()
    return ",".join(sorted(row[0].decode() if isinstance(row[0], bytes) else str(row[0]) for row in rows))


def names(connection: sqlite3.Connection, kind: str) -> list[str]:
    """The names of the objects of that kind, SQLite's own left out."""
    asked = "select name from sqlite_master where type = ? and name not like 'sqlite\\_%' escape '\\' order by name"
    return [row[0].decode() for row in connection.execute(asked, (kind,))]


def pages(connection: sqlite3.Connection) -> int:
    """The database's size in bytes."""
    return int(
        connection.execute("pragma page_count").fetchone()[0]
        * connection.execute("pragma page_size").fetchone()[0]
    )


def dump(file: str, copy: str, schema_table: str) -> dict[str, Any]:
    """Write *file* to *copy*, which exists and is empty; what it held in exactly that moment."""
    with closing(connect(file)) as source, closing(connect(copy)) as target:
        source.execute("begin")
        held = read(source, schema_table)  # the transaction's first read decides which moment it is
        source.backup(target)
        source.execute("rollback")
        target.execute("pragma journal_mode = delete")  # one file, without a log beside it
    return held


def check(file: str) -> str:
    """What SQLite's own integrity check says; `ok` for a sound file."""
    try:
        with closing(connect(file)) as connection:
            said = connection.execute("pragma integrity_check(1)").fetchone()[0]
            return str(said.decode() if isinstance(said, bytes) else said)
    except sqlite3.DatabaseError as error:
        return str(error)


def put(copy: str, file: str) -> None:
    """Replace what *file* holds by *copy*, in one transaction: connections that are open see it too.

    Renaming a file over a database that somebody has open is a known way to destroy both.
    """
    end = time.monotonic() + PATIENCE_S

    def waited(_status: int, remaining: int, _total: int) -> None:
        if remaining and time.monotonic() > end:
            raise TimeoutError(f"somebody held the database locked for {PATIENCE_S:g} s")

    with closing(connect(copy)) as source, closing(connect(file)) as target:
        mode = target.execute("pragma journal_mode").fetchone()[0].decode()
        source.execute("pragma journal_mode = " + mode)  # page headers must agree
        source.backup(target, progress=waited)


def main(words: list[str]) -> None:
    """Run one command on standard input and output; the copy lives beside the database, where there is room."""
    command, file, *rest = words
    copy = file + ".cutover-" + str(os.getpid())
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        if command == "dump":
            told = dump(file, copy, rest[0])
            with Path(copy).open("rb") as out:
                shutil.copyfileobj(out, sys.stdout.buffer)
            sys.stdout.flush()
            sys.stderr.write(json.dumps(told) + "\n")
        elif command == "write":
            with Path(copy).open("wb") as given:
                shutil.copyfileobj(sys.stdin.buffer, given)
            put(copy, file)
    finally:
        for each in (copy, copy + "-wal", copy + "-shm", copy + "-journal"):
            with suppress(FileNotFoundError):
                Path(each).unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
