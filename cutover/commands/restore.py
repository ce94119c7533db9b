"""Put a snapshot in the place of the live database, or take that back."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cutover.commands.common import common, settings_of, tell
from cutover.core.errors import UsageProblem

if TYPE_CHECKING:
    from cutover.data import Data, Taken
    from cutover.data.restoring import Restored


@click.command("restore")
@click.argument("file", required=False)
@click.option("--yes", is_flag=True, help="Do it; without, say what would be done.")
@click.option(
    "--back", metavar="DATABASE", help="Take a restore back: the database that was put aside is live again."
)
@common
def command(*, config: str | None, as_json: bool, file: str | None, yes: bool, back: str | None) -> None:
    """Put a snapshot in the place of the live database: FILE, or the last proved one.

    It is restored into a new database and compared first, then swapped by a rename; the old one is kept under
    another name. Rows written since the snapshot are only there afterwards. Ends with 4 without --yes.
    """
    from cutover.data import of, restoring
    from cutover.state import State, now

    settings = settings_of(config)
    data, state = of(settings), State(settings.state)
    state.prepare()
    owner = {
        "who": os.environ.get("USER", "somebody"),
        "what": "a restore",
        "since": now(),
        "pid": os.getpid(),
    }
    with state.locked(owner | {"host": socket.gethostname()}):
        taken = None if back else restoring.chosen(data, file)
        if not yes:
            raise UsageProblem(f"{would(data, taken, back)}; nothing was changed: say --yes to do it")
        done = restoring.restore(data, taken) if taken else restoring.back(data, back or "")
        state.journal(
            "restored", database=done.database, aside=done.aside, snapshot=taken.name if taken else ""
        )
    tell(as_json, asdict(done), told(done, taken))


def would(data: Data, taken: Taken | None, back: str | None) -> str:
    """What would be done, and which rows would then only be in the database that is put aside."""
    from cutover.data.restoring import lost

    if taken is None:
        return f"{data.store.name} would be put aside, and {back} put in its place"
    rows = lost(data.store.contents(), taken.contents)
    what = f"{data.store.name} would be replaced by {taken.name} of {taken.at}"
    return f"{what} ({'; '.join(rows)})" if rows else f"{what}, which has as many rows"


def told(done: Restored, taken: Taken | None) -> list[str]:
    """What people read afterwards."""
    what = f"snapshot {taken.name}" if taken else "the database that was put aside"
    return [
        f"RESTORED  {done.database} is {what}, revision {done.head or 'none'}, in {done.seconds:.1f} s",
        f"  before  what was there is kept as {done.aside}; rows written since the snapshot are only there",
        f"  look    {done.look}",
        f"  undo    {done.undo}",
    ]
