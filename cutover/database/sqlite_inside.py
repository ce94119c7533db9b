"""SQLite through its own backup API, as a stand-alone script.

It is imported on this host, or sent into the service's container as `python3 -c`; the container has no cutover, so it
uses only the standard library. `dump FILE TABLE` writes a copy of FILE to stdout and its contents as JSON to stderr.
`write FILE TABLE SIZE SHA256 SECONDS` reads a copy from stdin, locks FILE, and writes the present contents to stdout,
after a line of JSON about them. It replaces them by the copy when it has read the line `commit`; else nothing changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

TYPE_CHECKING = False  # importing typing takes longer than the rest of the script
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LOCK_TIMEOUT_S = 30.0
DIGEST_MAX_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
COMMIT = b"commit\n"
SQLITE_OK, SQLITE_DONE = 0, 101  # the module has them since Python 3.11; the container's may be older


def connect(file: str, options: str = "mode=rw") -> sqlite3.Connection:
    """Open *file*, which must exist, in autocommit mode; *options* are those of SQLite's URI."""
    uri = "file:" + file.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?" + options
    connection = sqlite3.connect(uri, uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None)
    connection.text_factory = bytes  # a text column may hold bytes that are not UTF-8
    return connection


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_contents(connection: sqlite3.Connection, schema_table: str) -> dict[str, Any]:
    """Contents of the database, in the form of `DatabaseContents.from_json`."""
    size = _pragma(connection, "page_count") * _pragma(connection, "page_size")
    is_small, tables = size <= DIGEST_MAX_BYTES, {}
    for name in _object_names(connection, "table"):
        try:
            tables[name] = _read_table(connection, name, digest=is_small)
        except sqlite3.OperationalError:
            # Of an extension that is not loaded here; what it holds is in ordinary tables beside it.
            if name not in _virtual_tables(connection):
                raise
    sequences = {}
    if connection.execute("select 1 from sqlite_master where name = 'sqlite_sequence'").fetchone():
        values = connection.execute("select name, seq from sqlite_sequence").fetchall()
        sequences = {name.decode(): [value, value] for name, value in values}
    return {
        "head": _revision(connection, schema_table),
        "tables": tables,
        "sequences": sequences,
        "objects": {kind: len(_object_names(connection, kind)) for kind in ("index", "trigger", "view")},
    }


def _read_table(connection: sqlite3.Connection, name: str, *, digest: bool) -> dict[str, Any]:
    rows = connection.execute("select count(*) from " + _quote(name)).fetchone()[0]
    total = 0
    for row in connection.execute("select * from " + _quote(name)) if digest else ():
        total += int.from_bytes(hashlib.sha256(repr(row).encode()).digest()[:8], "big")
    return {"rows": rows, "digest": str(total) if digest else ""}


def _virtual_tables(connection: sqlite3.Connection) -> set[str]:
    sql = "select name from sqlite_master where type = 'table' and sql like 'create virtual table%'"
    return {row[0].decode() for row in connection.execute(sql)}


def _revision(connection: sqlite3.Connection, schema_table: str) -> str:
    if schema_table not in _object_names(connection, "table"):
        return ""
    rows = connection.execute("select * from " + _quote(schema_table)).fetchall()
    return ",".join(sorted(row[0].decode() if isinstance(row[0], bytes) else str(row[0]) for row in rows))


def _object_names(connection: sqlite3.Connection, kind: str) -> list[str]:
    """Names of the objects of that kind, without SQLite's own."""
    sql = "select name from sqlite_master where type = ? and name not like 'sqlite\\_%' escape '\\' order by name"
    return [row[0].decode() for row in connection.execute(sql, (kind,))]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute("pragma " + name).fetchone()[0])


def copy_database(file: str, copy: str, schema_table: str, options: str = "mode=rw") -> dict[str, Any]:
    """Write *file* to *copy*, an empty file; returns the contents at that moment."""
    with closing(connect(file, options)) as source, closing(connect(copy)) as target:
        source.execute("begin")
        contents = read_contents(source, schema_table)  # the first read fixes what the transaction sees
        source.backup(target)
        source.execute("rollback")
        target.execute("pragma journal_mode = delete")  # one file, without a log beside it
    return contents


def check_integrity(file: str) -> str:
    """Result of SQLite's integrity check; `ok` for a sound file."""
    try:
        with closing(connect(file)) as connection:
            result = connection.execute("pragma integrity_check(1)").fetchone()[0]
            return str(result.decode() if isinstance(result, bytes) else result)
    except sqlite3.DatabaseError as error:
        return str(error)


def replace_contents(file: str, copy: str, keep: Callable[[str], object]) -> None:
    """Replace the contents of *file* by *copy* in one transaction, which open connections see too.

    *keep* is called while nobody else can write, with the options to open *file* by; if it raises, nothing changes.
    """
    # A file that is renamed over an open database can destroy both.
    end, kept = time.monotonic() + LOCK_TIMEOUT_S, False

    def step(status: int, _remaining: int, _total: int) -> None:
        nonlocal kept
        if status == SQLITE_OK and not kept:
            # Only in WAL mode a lock lets others read. The first page is not in the file yet, so it is as it was.
            keep("mode=rw" if mode == "wal" else "mode=ro&immutable=1")
            kept = True
        elif status not in {SQLITE_OK, SQLITE_DONE} and time.monotonic() > end:
            raise TimeoutError(f"another connection held the database locked for {LOCK_TIMEOUT_S:g} s")

    with closing(connect(copy)) as source, closing(connect(file)) as target:
        mode = target.execute("pragma journal_mode").fetchone()[0].decode()
        source.execute("pragma journal_mode = " + mode)  # the page headers must agree
        if _pragma(source, "page_count") <= 1:  # it would be replaced by the first step, before `keep`
            raise ValueError("the copy has no table")
        source.execute("begin")
        _object_names(source, "table")  # one read transaction for all steps
        source.backup(target, pages=1, progress=step)


def _receive(copy: str, size: int, checksum: str) -> None:
    """Read *copy* from stdin; raises ValueError if it is not complete."""
    digest, left = hashlib.sha256(), size
    with Path(copy).open("wb") as target:
        while left and (chunk := sys.stdin.buffer.read(min(left, CHUNK_BYTES))):
            target.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
    if left or digest.hexdigest() != checksum:
        raise ValueError("the copy did not arrive as it was sent; nothing was changed")


def _hand_over(file: str, kept: str, schema_table: str, options: str) -> None:
    """Write the present contents to stdout, and wait until they are stored; raises ValueError if they are not."""
    contents = copy_database(file, kept, schema_table, options)
    header = json.dumps({"size": Path(kept).stat().st_size, "contents": contents})
    sys.stdout.buffer.write(header.encode() + b"\n")
    with Path(kept).open("rb") as source:
        shutil.copyfileobj(source, sys.stdout.buffer)
    sys.stdout.flush()
    if sys.stdin.buffer.readline() != COMMIT:
        raise ValueError("the present contents were not stored; nothing was changed")


def _end(_number: int, _frame: object) -> None:
    raise TimeoutError("the time is over; nothing was changed")


def run_script(arguments: list[str]) -> None:
    """Run one command on stdin and stdout; its temporary copies are beside the database, where there is room."""
    command, file, schema_table, *rest = arguments
    copy = file + ".cutover-" + str(os.getpid())
    kept = copy + ".kept"
    try:
        for each in (copy, kept):
            os.close(os.open(each, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        if command == "dump":
            contents = copy_database(file, copy, schema_table)
            with Path(copy).open("rb") as source:
                shutil.copyfileobj(source, sys.stdout.buffer)
            sys.stdout.flush()
            sys.stderr.write(json.dumps(contents) + "\n")
        elif command == "write":
            size, checksum, seconds = rest
            # The script outlives a `docker exec` that is killed, so the time limit is inside it.
            signal.signal(signal.SIGALRM, _end)
            signal.setitimer(signal.ITIMER_REAL, float(seconds))
            _receive(copy, int(size), checksum)
            replace_contents(file, copy, lambda options: _hand_over(file, kept, schema_table, options))
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        for each in (copy, kept):
            for suffix in ("", "-wal", "-shm", "-journal"):
                with suppress(FileNotFoundError):
                    Path(each + suffix).unlink()


if __name__ == "__main__":
    run_script(sys.argv[1:])
