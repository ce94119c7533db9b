"""Take a snapshot of the database, prove it by restoring it beside itself, and delete the oldest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cutover.commands.common import common, settings_of, tell

if TYPE_CHECKING:
    from cutover.core.verdict import Verdict
    from cutover.data import Data, Taken


@click.command("snapshot")
@click.option("--list", "only_list", is_flag=True, help="Only list the snapshots that are kept.")
@common
def command(*, config: str | None, as_json: bool, only_list: bool) -> None:
    """Take a snapshot of the database, prove it by restoring it beside itself, and delete the oldest.

    Ends with 0 when the restored copy is the original, with 1 when it is not; the service is not touched.
    """
    from cutover.data import of

    data = of(settings_of(config))
    if only_list:
        kept = data.kept()
        tell(as_json, {"snapshots": [facts(taken) for taken in kept]}, [listed(taken) for taken in kept])
        return
    taken, verdict, gone = make(data)
    lines = [str(taken.path), verdict.reason, *(f"deleted {each.name}" for each in gone)]
    tell(
        as_json,
        facts(taken)
        | {
            "outcome": str(verdict.outcome),
            "reason": verdict.reason,
            "deleted": [each.name for each in gone],
        },
        lines,
    )
    if verdict.outcome == "no":
        raise SystemExit(1)


def make(data: Data) -> tuple[Taken, Verdict, list[Taken]]:
    """A snapshot, the verdict on it, and what was deleted to make room; nothing is deleted after a no."""
    taken = data.take()
    try:
        verdict = data.prove(taken)
    finally:
        data.drop_scratch()
    gone = data.rotate() if verdict.outcome != "no" else []
    proved = next((each for each in data.kept() if each.name == taken.name), taken)
    return proved, verdict, gone


def facts(taken: Taken) -> dict[str, Any]:
    """The snapshot as JSON values, without the list of its tables."""
    held = taken.contents
    table = taken.as_json() | {"path": str(taken.path), "proved": taken.proved, "head": held.head}
    return table | {"tables": len(held.tables), "rows": held.rows, "contents": None}


def listed(taken: Taken) -> str:
    """One line of the list."""
    from cutover.data.compare import plural
    from cutover.data.files import megabytes

    held = f"{plural(len(taken.contents.tables), 'table')}, {plural(taken.contents.rows, 'row')}"
    proved = f"proved, restore takes {taken.restore_s:.1f} s" if taken.restore_s is not None else "NOT PROVED"
    return (
        f"{taken.name}  {megabytes(taken.size)}  {held}  revision {taken.contents.head or 'none'}  {proved}"
    )
