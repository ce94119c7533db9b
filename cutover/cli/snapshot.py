"""`cutover snapshot`: create, list and restore snapshots of the database."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

import click

from cutover.cli.main import common, settings_of, tell
from cutover.core.errors import ConfigError
from cutover.core.text import count
from cutover.database.base import ServiceDatabase, folder_of, open_database
from cutover.database.restore import (
    RestoreResult,
    choose_snapshot,
    require_put_aside,
    restore_snapshot,
    row_count_changes,
    undo_restore,
)
from cutover.database.snapshot import SnapshotFile, format_size, list_snapshots, load_snapshot
from cutover.release.state import State, lock_owner


@click.group("snapshot")
def snapshot_command() -> None:
    """Create, list and restore snapshots of the database."""


@snapshot_command.command("create")
@common
def create_snapshot(*, config: str | None, as_json: bool) -> None:
    """Take a snapshot, restore it beside the database, compare the two, and delete the oldest snapshots.

    Ends with 0 if the restored copy equals the original, else with 1; the service is not touched.
    """
    with closing(open_database(settings_of(config))) as database:
        snapshot = database.take()
        try:
            verdict = database.verify(snapshot)
        finally:
            database.drop_scratch()
        facts = snapshot_facts(load_snapshot(snapshot.path))
        deleted = [each.name for each in database.rotate()] if verdict.outcome != "no" else []
    facts |= {"outcome": str(verdict.outcome), "reason": verdict.reason, "deleted": deleted}
    tell(as_json, facts, [str(snapshot.path), verdict.reason, *(f"deleted {name}" for name in deleted)])
    if verdict.outcome == "no":
        raise SystemExit(1)


@snapshot_command.command("list")
@common
def print_snapshots(*, config: str | None, as_json: bool) -> None:
    """List the snapshots, the newest first."""
    snapshots = list_snapshots(folder_of(settings_of(config).state))
    facts = {"snapshots": [snapshot_facts(each) for each in snapshots]}
    tell(as_json, facts, [snapshot_line(each) for each in snapshots])


@snapshot_command.command("restore")
@click.argument("file", required=False)
@click.option("--yes", is_flag=True, help="Do it; without this option nothing is changed.")
@click.option(
    "--back", metavar="DATABASE", help="Undo a restore: make the database that it put aside live again."
)
@common
def restore_command(
    *, config: str | None, as_json: bool, file: str | None, yes: bool, back: str | None
) -> None:
    """Replace the live database by the snapshot FILE, or by the last verified one.

    PostgreSQL: the snapshot is restored into a new database and compared, then the two are swapped by a rename, and the
    old database is kept under another name. SQLite: a snapshot of the present contents is taken, then they are replaced
    in the file. Rows written since the snapshot are only in what is kept.

    Without --yes, print what would be replaced and the command that does it, and end with 0.
    """
    if file and back:
        raise ConfigError(f"{file} with --back: a restore or its undo, not both")
    settings = settings_of(config)
    state = State(settings.state).prepare()
    with state.locked(lock_owner("a restore")), closing(open_database(settings)) as database:
        snapshot = None if back else choose_snapshot(database.folder, file)
        if not yes:
            effect = restore_effect(database, snapshot, back)
            chosen = ("--back", back or "") if snapshot is None else (file or snapshot.name,)
            again = database.restore_command(*chosen)
            facts = {"would": effect, "command": again}
            tell(as_json, facts, [f"{effect}; nothing was changed", f"  to do it  {again}"])
            return
        done = restore_snapshot(database, snapshot) if snapshot else undo_restore(database, back or "")
        name = snapshot.name if snapshot else ""
        state.journal("restored", database=done.database, aside=done.aside, snapshot=name)
    tell(as_json, asdict(done), restore_lines(done, snapshot))


def restore_effect(database: ServiceDatabase, snapshot: SnapshotFile | None, back: str | None) -> str:
    """What a restore would replace, and the row counts that would change."""
    if snapshot is None:
        store = require_put_aside(database, back or "")
        return f"{store.name} would be put aside, and {back} put in its place"
    rows = row_count_changes(database.store.contents(), snapshot.contents)
    effect = f"{database.store.name} would be replaced by {snapshot.name} of {snapshot.at}"
    return f"{effect} ({'; '.join(rows)})" if rows else f"{effect}, with the same row counts"


def restore_lines(done: RestoreResult, snapshot: SnapshotFile | None) -> list[str]:
    """Report of a restore for the terminal."""
    source = f"snapshot {snapshot.name}" if snapshot else "the database that was put aside"
    return [
        f"RESTORED  {done.database} is {source}, revision {done.head or 'none'}, in {done.seconds:.1f} s",
        f"  before  what was there is kept as {done.aside}; rows written since the snapshot are only there",
        f"  look    {done.look}",
        f"  undo    {done.undo}",
    ]


def snapshot_facts(snapshot: SnapshotFile) -> dict[str, Any]:
    """JSON values of a snapshot, without the list of its tables."""
    contents = snapshot.contents
    facts = snapshot.as_json() | {"path": str(snapshot.path), "verified": snapshot.verified}
    counts = {"head": contents.head, "tables": len(contents.tables), "rows": contents.rows}
    return facts | counts | {"contents": None}


def snapshot_line(snapshot: SnapshotFile) -> str:
    """One line of the list."""
    contents, restore_s = snapshot.contents, snapshot.restore_s
    size = f"{count(len(contents.tables), 'table')}, {count(contents.rows, 'row')}"
    verified = f"verified, restore takes {restore_s:.1f} s" if restore_s is not None else "NOT VERIFIED"
    revision = f"revision {contents.head or 'none'}"
    return f"{snapshot.name}  {format_size(snapshot.size)}  {size}  {revision}  {verified}"
