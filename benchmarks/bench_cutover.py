"""Measure `scripts/deploy/cutover.sh` under load: a release that is kept, and one that fails after the switch.

    python -m benchmarks.bench_cutover [nginx-kept] [traefik-reverted] … [--times N] [--dry]

…-kept      a good release, watched to the end: no request may fail
…-reverted  a release that returns 500 some seconds after the switch: time until the old color serves all requests

Load: 100 keep-alive connections with 50 requests/s open loop, half of them POST that write a row, and additional
requests that take three seconds each. The service is examples/recall in two containers behind the proxy, all on this
machine. About 45 s each; exit code 1 if a request of `kept` failed or a goal was missed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks import write
from benchmarks.common import (
    CONNECTIONS,
    RATE,
    Rows,
    asked,
    begin,
    built,
    merged,
    publish,
    say,
    stand,
    table,
    users,
)
from examples.stand import REPOSITORY, Stand
from tests.helpers.load import Ask, Load, percentile

SECTION = "cutover"
SCRIPT = REPOSITORY / "scripts/deploy/cutover.sh"
DRIVERS: tuple[Literal["nginx", "traefik"], ...] = ("nginx", "traefik")
KEPT, ROLLED_BACK = "kept", "reverted"
NAMES = tuple(f"{driver}-{kind}" for driver in DRIVERS for kind in (KEPT, ROLLED_BACK))
WRITES = (Ask("GET", "/version"), Ask("POST", "/memories", b'{"text": "hello"}', every=2))
BREAKS_AFTER_S = 4.0
GOAL_S = 2.0
LONGEST_S = 600.0


def release(on: Stand, tag: str, watch_s: int, *, breaks: bool) -> tuple[int, Load]:
    """Release *tag* under load, failing during the watch if *breaks*; return exit code and load results."""
    argv = (str(SCRIPT), "--image-tag", tag, "--skip-migrations", f"--watch={watch_s}s")
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    said, before = on.folder / "said", reports(on)
    with users(on.url, WRITES) as seen, said.open("w") as out, subprocess.Popen(
        argv, env=on.shell(PATH=here), cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=out
    ) as session:  # fmt: skip
        if breaks:
            break_it(on, session, str(on.ask()["color"]), before)
        code = session.wait(LONGEST_S)
    if code != int(breaks):
        say(said.read_text()[-3000:])
    return code, seen


def break_it(on: Stand, session: subprocess.Popen[bytes], old: str, before: frozenset[Path]) -> None:
    """Wait until some seconds after the drain, then make the new color return 500 for every request."""
    new = "green" if old == "blue" else "blue"
    while f'"name": "drain {old}"' not in evidence(on, before):
        if session.poll() is not None:
            return
        time.sleep(0.1)  # poll: a write to another process's file raises no event here
    time.sleep(BREAKS_AFTER_S)
    on.docker("exec", f"{on.project(new)}-api-1", "touch", "/tmp/break")


def reports(on: Stand) -> frozenset[Path]:
    """The evidence files of all sessions so far."""
    return frozenset((on.folder / "reports").glob("2*/evidence.jsonl"))


def evidence(on: Stand, before: frozenset[Path]) -> str:
    """Evidence written so far by the session started after *before*; empty if it has written none."""
    return "".join(each.read_text(encoding="utf-8") for each in reports(on) - before)


def row(name: str, tag: str, code: int, seen: Load, where: str) -> dict[str, Any]:
    """The results of one release."""
    return {
        "tag": tag,
        "code": code,
        "requests": len(seen.shots),
        "posts": sum(each.ask.method == "POST" for each in seen.shots),
        "slow": sum("slow" in each.ask.path for each in seen.shots),
        "failed": len(seen.failed),
        "reset": sum(each.status == 0 for each in seen.shots),
        "new": sum(each.release == tag for each in seen.shots),
        "gap_ms": seen.longest_gap() * 1000,
        "p99_ms": percentile(seen.latencies(), 0.99) * 1000,
        "back_s": None if name.endswith(KEPT) else back(seen, tag),
        "where": where,
    }


def back(seen: Load, bad: str) -> float | None:
    """Seconds from the first failed response until the old release serves all requests; None if none failed."""
    failed = [each.ended for each in seen.failed]
    if not failed:
        return None
    last = max(
        [*failed, *(each.ended for each in seen.shots if each.release == bad and "slow" not in each.ask.path)]
    )
    served = [
        each.ended for each in seen.shots if not each.failed and each.release != bad and each.ended > last
    ]
    return min(served) - min(failed) if served else None


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    cells = [
        (
            name, one["code"], f"{one['requests']:,} ({one['posts']:,} POST, {one['slow']} of 3 s)", one["new"],
            f"**{one['failed']}** ({one['reset']} without an answer)", f"{one['gap_ms']:.0f} ms",
            f"{one['p99_ms']:.0f} ms", f"**{one['back_s']:.2f} s**" if one["back_s"] is not None else "-",
        )
        for name, one in rows.items()
    ]  # fmt: skip
    return [
        "## A whole release under load",
        "",
        "`python -m benchmarks.bench_cutover`: `scripts/deploy/cutover.sh --image-tag … --watch=…` while",
        f"{CONNECTIONS} kept-alive connections ask {RATE} times a second, open loop: half POST that write a row, others",
        "that take three seconds each. `…-reverted` answers 500 to everybody some seconds after the switch: those are",
        "its failed requests, and the last column is the time from the first of them until the old release answers",
        f"all (goal: ≤ {GOAL_S:g} s).",
        "",
        *table(
            ("release", "exit", "requests", "by the new one", "failed", "longest gap", "p99", "until the old one serves"),
            cells,
        ),
    ]  # fmt: skip


def missed(name: str, one: dict[str, Any]) -> bool:
    """Whether a goal was missed."""
    if KEPT in name:
        return bool(one["code"] or one["failed"])
    return bool(one["code"] != 1 or one["reset"] or one["back_s"] is None or one["back_s"] > GOAL_S)


def measure(driver: Literal["nginx", "traefik"], names: Sequence[str], times: int, where: str) -> Rows:
    """Measure the rows *names* behind one proxy."""
    tags = {
        KEPT: [built("cutover one"), built("cutover two")],
        ROLLED_BACK: [built("breaks-later", "breaks-later")],
    }
    rows: Rows = {}
    with stand(f"cutover-{driver}", driver=driver, migrate=True) as on:
        begin(on, built("cutover live"))
        for name in names:
            kind = name.removeprefix(f"{driver}-")
            for turn in range(times):
                tag, breaks = tags[kind][turn % len(tags[kind])], kind == ROLLED_BACK
                code, seen = release(on, tag, 60 if breaks else 10, breaks=breaks)
                label = name if times == 1 else f"{name} {turn + 1}"
                one = rows[label] = row(name, tag, code, seen, where)
                say(
                    f"{label}: exit {code}, {one['failed']} of {one['requests']} failed, back {one['back_s']}"
                )
    return rows


def main() -> int:
    """Measure, print and write the results; 1 if a request of a kept release failed or a goal was missed."""
    options, where = asked(__doc__, NAMES), write.machine()
    rows: Rows = {}
    for driver in DRIVERS:
        names = [name for name in options.names if name.startswith(driver)]
        rows |= measure(driver, names, options.times, where) if names else {}
    both = merged(SECTION, rows)
    publish(SECTION, told(both), both, dry=options.dry)
    return 1 if any(missed(name, one) for name, one in rows.items()) else 0


if __name__ == "__main__":
    sys.exit(main())
