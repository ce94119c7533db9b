"""Measure recovery after SIGKILL: time until one color serves the correct release and no release is open.

    .venv/bin/python -m benchmarks.bench_deaths [point …] [--dry]

Each row is a session with all optional steps; the named processes are killed with SIGKILL. The checks afterwards are
those of tests/integration/test_deaths.py. About 12 s per row; exit code 1 if a check failed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks import write
from benchmarks.common import Rows, asked, merged, publish, say, table
from examples.stand import Stand
from tests.helpers import kill_session
from tests.helpers.kill_points import ALL, POINTS, Point

SECTION = "deaths"
WHO = {
    ("session",): "the session",
    ("session", "guard"): "the session and its guard",
    ("session", "step"): "the session and its revert",
    ALL: "the session, what it runs, and its guard",
}
HALF_DONE = "**HALF DONE**"


def measure(stand: Stand, point: Point, where: str) -> dict[str, object]:
    """Kill a release at *point*; return what was killed, what recovered it, what users get, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder, kill_session.running(stand, point, Path(folder)) as run:
        seconds = kill_session.settled(run, point)
    try:
        kill_session.as_it_must(run, point)
    except AssertionError as error:
        say(f"{point}: {error}")
        serves = HALF_DONE
    else:
        serves = "the new release, committed" if point.kept else "the old release"
    by = "nobody need" if point.kept else "`cutover recover`" if "guard" in point.victims else "its guard"
    who = "the command" if point.command else WHO[point.victims]
    return {"who": who, "by": by, "serves": serves, "seconds": round(seconds, 1), "where": where}


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    found = {str(point): rows[str(point)] for point in POINTS if str(point) in rows}
    well = sum(row["serves"] != HALF_DONE for row in found.values())
    cells = [
        (name, row["who"], row["by"], row["serves"], f"{row['seconds']:.1f} s") for name, row in found.items()
    ]
    return [
        "## Deaths",
        "",
        f"`python -m benchmarks.bench_deaths`: **{well} of {len(found)} deaths left one color that serves what it must,",
        "the one that `cutover status` names, with nothing open and a report that can be read.** Seconds from SIGKILL",
        "until users get that release and nothing is open; where the guard dies too, a person runs `cutover recover` at",
        "once. `do X` is when the journal says so, before the change is made.",
        "",
        *table(("dies in", "who is killed", "put right by", "serves afterwards", "after"), cells),
    ]


def main() -> int:
    """Measure, print and write the results; 1 if a release was left half done."""
    names = {str(point): point for point in POINTS}
    given = asked(__doc__, tuple(names))
    where, rows = write.machine(), {}
    with tempfile.TemporaryDirectory(prefix="bench-deaths-") as folder:
        stand = kill_session.make(Path(folder), f"bench-deaths-{os.getpid()}")
        try:
            for name in given.names:
                rows[name] = measure(stand, names[name], where)
                say(f"{name}: {rows[name]}")
        finally:
            stand.remove()
    every = merged(SECTION, rows)
    publish(SECTION, told(every), every, dry=given.dry)
    return 1 if any(row["serves"] == HALF_DONE for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
