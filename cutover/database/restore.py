"""Replace the live database by a snapshot that was restored and compared first, and undo that."""

from __future__ import annotations

import contextlib
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from cutover.core.errors import ConfigError, CutoverError, Failed
from cutover.core.text import count
from cutover.core.verdict import Outcome
from cutover.database.base import ServiceDatabase
from cutover.database.postgres import PUT_ASIDE, RESTORE_INFIX, PostgresStore, is_copy, shorten_name
from cutover.database.snapshot import (
    DatabaseContents,
    SnapshotFile,
    judge_restored,
    list_snapshots,
    load_snapshot,
    sha256_of,
)
from cutover.database.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What a restore did: what was put aside, the command to inspect it, and the command that undoes the restore."""

    database: str
    seconds: float
    aside: str
    look: str
    undo: str
    head: str


def choose_snapshot(folder: Path, name: str | None) -> SnapshotFile:
    """Snapshot with that name or path, or the last verified one; raises ConfigError."""
    snapshots = list_snapshots(folder)
    names = ", ".join(each.name for each in snapshots) or "none"
    if name is None:
        verified = [each for each in snapshots if each.verified]
        if verified:
            return verified[0]
        way_out = f"name one of {names}, or run: cutover snapshot create"
        raise ConfigError(f"{folder}: no verified snapshot; {way_out}")
    path = folder / name  # an absolute path stays as it is
    if not path.is_file():
        raise ConfigError(f"{path}: no such snapshot; there are {names}")
    return load_snapshot(path)


def row_count_changes(now: DatabaseContents, snapshot: DatabaseContents) -> list[str]:
    """One line for each table whose row count differs between the database *now* and the snapshot."""
    lines = []
    for name, table in now.tables.items():
        before = snapshot.tables[name].rows if name in snapshot.tables else 0
        if table.rows != before:
            lines.append(f"{name}: {count(table.rows, 'row')} now, {before:,} in the snapshot")
    return lines


def restore_snapshot(database: ServiceDatabase, snapshot: SnapshotFile) -> RestoreResult:
    """Replace the live database by *snapshot*; raises Failed or ConfigError."""
    store = database.store
    if snapshot.kind != store.kind:
        raise ConfigError(f"{snapshot.name} is of {snapshot.kind}, the database is {store.kind}")
    if sha256_of(snapshot.path) != snapshot.sha256:
        why = "is not the file that was written: its checksum differs"
        raise Failed(f"{snapshot.name} {why}; nothing was changed")
    if isinstance(store, PostgresStore):
        return _restore_postgres(database, store, snapshot)
    return _restore_sqlite(database, store, snapshot)


def _restore_postgres(
    database: ServiceDatabase, store: PostgresStore, snapshot: SnapshotFile
) -> RestoreResult:
    """Restore into a new database, compare, and swap the two by a rename."""
    store.require_space()
    begun, at = time.monotonic(), _utc_suffix()
    new, aside = shorten_name(store.name, f"{RESTORE_INFIX}{at}"), shorten_name(store.name, f"_before_{at}")
    try:
        store.restore(snapshot.path, new, database.settings.snapshot.budget)
        _require_same(snapshot.contents, store.contents(new))
        store.copy_settings(new)
        oid = store.oid(new)
        store.swap(new, aside)
    except BaseException:
        with contextlib.suppress(CutoverError):  # the first error is the one to report
            store.drop(new)
        raise
    if store.oid(store.name) != oid:
        raise Failed(f"{store.name} is not the restored database: another process renamed it meanwhile")
    return _swapped(database, store, aside, begun)


def _require_same(expected: DatabaseContents, restored: DatabaseContents) -> None:
    verdict = judge_restored(expected, restored)
    if verdict.outcome is Outcome.NO:
        raise Failed(f"{verdict.reason}; nothing was changed")


def require_put_aside(database: ServiceDatabase, aside: str) -> PostgresStore:
    """Raise ConfigError unless a restore put the database *aside*; returns the store of the live one."""
    store = database.store
    if not isinstance(store, PostgresStore):
        raise ConfigError("to undo a restore of SQLite, restore the snapshot that it took before")
    if not is_copy(aside, store.name, PUT_ASIDE) or not store.oid(aside):
        what = f"no database {aside!r} that was put aside from {store.name}"
        raise ConfigError(f"the server has {what}; nothing was changed")
    return store


def undo_restore(database: ServiceDatabase, aside: str) -> RestoreResult:
    """Make the database *aside* live again, and put the restored one aside; raises Failed or ConfigError."""
    begun, store = time.monotonic(), require_put_aside(database, aside)
    now_aside = shorten_name(store.name, f"_restored_{_utc_suffix()}")
    store.swap(aside, now_aside)
    return _swapped(database, store, now_aside, begun)


def _utc_suffix() -> str:
    return time.strftime("%Y%m%d_%H%M%S", time.gmtime())


def _swapped(database: ServiceDatabase, store: PostgresStore, aside: str, begun: float) -> RestoreResult:
    look, undo = store.tools.psql_command(aside), database.restore_command("--back", aside)
    return RestoreResult(store.name, time.monotonic() - begun, aside, look, undo, store.head())


def _restore_sqlite(database: ServiceDatabase, store: SqliteStore, snapshot: SnapshotFile) -> RestoreResult:
    """Replace the present contents in one transaction, in which a snapshot of them is taken."""
    begun = time.monotonic()
    verdict = database.verify(snapshot)
    database.drop_scratch()
    if not verdict.ok:
        raise Failed(f"{verdict.reason}; nothing was changed")
    kept, budget_s = list[SnapshotFile](), database.settings.snapshot.budget
    store.replace_by(snapshot, lambda dump: kept.append(database.take(dump)), budget_s)
    (before,) = kept
    head = store.head()
    if head != (expected := snapshot.contents.head):
        raise Failed(f"{store.name} is at revision {head or 'none'} after the restore, expected {expected}")
    look, undo = shlex.join(("sqlite3", "-readonly", str(before.path))), database.restore_command(before.name)
    return RestoreResult(store.name, time.monotonic() - begun, before.name, look, undo, head)
