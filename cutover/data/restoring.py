"""A snapshot put in the place of the live database: restored and compared beside it first, then swapped."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cutover.core.errors import CutoverError, Failed, UsageProblem
from cutover.core.verdict import Outcome
from cutover.data import Data, files
from cutover.data.compare import compare, plural
from cutover.data.contents import Contents
from cutover.data.files import Taken
from cutover.data.postgres import Postgres, short
from cutover.data.sqlite import Sqlite


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: what was put aside, how to look into it, and the words that take the restore back."""

    database: str
    seconds: float
    aside: str
    look: str
    undo: str
    head: str


def stamp() -> str:
    """Now, as part of a name."""
    return time.strftime("%Y%m%d_%H%M%S", time.gmtime())


def chosen(data: Data, name: str | None) -> Taken:
    """The snapshot of that path or name, or the last proved one; raises UsageProblem."""
    kept = data.kept()
    if name is None:
        proved = [taken for taken in kept if taken.proved]
        if not proved:
            raise UsageProblem(
                f"{data.folder}: no proved snapshot; name one of {_names(kept)}, or take one: cutover snapshot"
            )
        return proved[0]
    path = data.folder / name  # an absolute path stays what it is
    if not path.is_file():
        raise UsageProblem(f"{path}: no such snapshot; there are {_names(kept)}")
    return files.load(path)


def _names(kept: Sequence[Taken]) -> str:
    return ", ".join(taken.name for taken in kept) or "none"


def lost(now: Contents, then: Contents) -> list[str]:
    """What is in the database now and not in the snapshot, a line for each table with another number of rows."""
    lines = []
    for name, table in now.tables.items():
        before = then.tables[name].rows if name in then.tables else 0
        if table.rows != before:
            lines.append(f"{name}: {plural(table.rows, 'row')} now, {before:,} in the snapshot")
    return lines


def restore(data: Data, taken: Taken) -> Restored:
    """Put *taken* in place; raises Failed or UsageProblem, and then nothing was changed."""
    store = data.store
    if taken.kind != store.kind:
        raise UsageProblem(f"{taken.name} is of {taken.kind}, the database is {store.kind}")
    if files.sha256_of(taken.path) != taken.sha256:
        raise Failed(
            f"{taken.name} is not the file that was written: its checksum differs; nothing was changed"
        )
    if isinstance(store, Postgres):
        return _by_rename(data, store, taken)
    if isinstance(store, Sqlite):
        return _in_place(data, store, taken)
    raise UsageProblem(f"{store.kind} cannot be restored")


def _by_rename(data: Data, store: Postgres, taken: Taken) -> Restored:
    store.need_room()
    begun, at = time.monotonic(), stamp()
    new, aside = short(store.name, f"_cutover_new_{at}"), short(store.name, f"_before_{at}")
    try:
        _beside(data, store, taken, new)
        was = store.identity(new)
        store.swap(new, aside)
    except BaseException:
        with contextlib.suppress(CutoverError):  # the first error is the one to tell
            store.drop(new)
        raise
    if store.identity(store.name) != was:
        raise Failed(f"{store.name} is not the restored database: somebody else renamed it meanwhile")
    undo = ("cutover", "restore", "--cutover-config", str(data.settings.source), "--back", aside, "--yes")
    look = store.tools.look(aside)
    return Restored(store.name, time.monotonic() - begun, aside, look, shlex.join(undo), store.head())


def _beside(data: Data, store: Postgres, taken: Taken, new: str) -> None:
    """The snapshot as a database of its own, the same as when it was taken."""
    store.restore(taken.path, new, data.settings.snapshot.budget)
    verdict = compare(taken.contents, store.contents(new))
    if verdict.outcome is Outcome.NO:
        raise Failed(f"{verdict.reason}; nothing was changed")
    store.carry(new)


def back(data: Data, aside: str) -> Restored:
    """Take a restore back: the database that was put aside is the live one again, the restored one is kept."""
    store, begun = data.store, time.monotonic()
    if not isinstance(store, Postgres):
        raise UsageProblem("a SQLite restore is taken back by restoring the snapshot that it took before")
    if not aside.startswith(f"{store.name}_") or not store.has(aside):
        raise UsageProblem(
            f"the server has no database {aside!r} that was put aside from {store.name}; nothing was changed"
        )
    now_aside = short(store.name, f"_restored_{stamp()}")
    store.swap(aside, now_aside)
    undo = ("cutover", "restore", "--cutover-config", str(data.settings.source), "--back", now_aside, "--yes")
    look = store.tools.look(now_aside)
    return Restored(store.name, time.monotonic() - begun, now_aside, look, shlex.join(undo), store.head())


def _in_place(data: Data, store: Sqlite, taken: Taken) -> Restored:
    """SQLite: what is there now becomes a snapshot itself; then one transaction replaces it for every connection."""
    begun = time.monotonic()
    verdict = data.prove(taken)
    data.drop_scratch()
    if not verdict.ok:
        raise Failed(f"{verdict.reason}; nothing was changed")
    before = data.take()
    store.put(taken.path, data.settings.snapshot.budget)
    if store.head() != taken.contents.head:
        raise Failed(
            f"{store.name} is at revision {store.head() or 'none'} after the restore, expected {taken.contents.head}"
        )
    look = shlex.join(("sqlite3", "-readonly", str(before.path)))
    return Restored(
        store.name, time.monotonic() - begun, before.name, look, data.restore_line(before), store.head()
    )
