"""Measure how many good releases the watch reverts on a busy host.

    python -m benchmarks.bench_busy [from-before] [from-the-switch] [--times N] [--dry]

from-before      busy loops run before the switch and during the watch
from-the-switch  they begin some seconds after the switch: the old color was quick when users were on it

30 processes that never wait run on this machine, while two containers with a HEALTHCHECK each second are watched
behind nginx, with 40 requests of users a second. Nothing is wrong with the release; what the old color suffers in the
same seconds must not revert it. About 60 s each; exit code 1 if one was reverted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import write
from benchmarks.bench_detect import Row, measured
from benchmarks.common import Rows, asked, merged, publish, say, table
from benchmarks.detect_cases import Case, Scene

SECTION = "busy"
LOOPS = 30
TIMES = 10
BEFORE, SINCE = "from-before", "from-the-switch"
LOOP = "while True: pass"


@contextmanager
def busy() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that never wait, begun by *begin_loops* and ended at the end of the block."""
    loops: list[subprocess.Popen[bytes]] = []
    try:
        yield loops
    finally:
        for each in loops:
            each.kill()
        for each in loops:
            each.wait()


def begin_loops(loops: list[subprocess.Popen[bytes]]) -> None:
    """Start the busy loops."""
    loops += [subprocess.Popen((sys.executable, "-c", LOOP)) for _ in range(LOOPS)]


def one(name: str) -> Row:
    """Watch one good release."""
    with busy() as loops:

        def begin(_scene: Scene) -> None:
            begin_loops(loops)

        def nothing(_scene: Scene) -> None:
            pass

        case = Case(
            name,
            "a busy host",
            act=begin if name == SINCE else nothing,
            before=begin if name == BEFORE else None,
        )
        return measured(case)


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    cells = [
        (
            name,
            f"**{row['reverted']}** of {row['releases']}",
            "; ".join(row["by"]) or "-",
            row["reported"] or "-",
        )
        for name, row in rows.items()
    ]
    return [
        "## Good releases on a busy host",
        "",
        f"`python -m benchmarks.bench_busy`: {LOOPS} processes that never wait beside two containers behind nginx, 40",
        "requests of users a second; nothing is wrong with the release (goal: 0 reverted).",
        "",
        *table(("busy", "reverted", "by", "reported in the last one"), cells),
    ]


def measure(name: str, times: int, where: str) -> dict[str, Any]:
    """Measure *times* releases."""
    by, reported = list[str](), ""
    for turn in range(times):
        row = one(name)
        by += [f"{row.by}: {row.reason[:120]}"] if row.by else []
        reported = "" if row.by else row.reason[:160]
        say(f"{name} {turn + 1}: {row.by or 'kept'} {row.reason[:200]}")
    return {"releases": times, "reverted": len(by), "by": by, "reported": reported, "where": where}


def main() -> int:
    """Measure, print and write the results; 1 if a good release was reverted."""
    options, where = asked(__doc__, (BEFORE, SINCE), TIMES), write.machine()
    rows = {name: measure(name, options.times, where) for name in options.names}
    both = merged(SECTION, rows)
    publish(SECTION, told(both), both, dry=options.dry)
    return 1 if any(row["reverted"] for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
