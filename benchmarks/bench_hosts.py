"""Measure a release on several hosts: servers in containers, each with sshd, a Docker engine and nginx.

    .venv/bin/python -m benchmarks.bench_hosts [row …] [--dry]

Phase 1 is the deploy and the gate on all hosts side by side, before any user sees the release. In the rows with
`SHARE`, each server has the same small part of a core, so that 16 of them are as fast as one; the session ends after
phase 1. In the other rows all servers share the cores of this machine. One to fifteen minutes a row.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import write
from benchmarks.common import Rows, asked, merged, publish, table
from examples.releases import REPO, build
from tests.helpers.load import load
from tests.helpers.ssh_hosts import Fleet, fleet

SECTION = "hosts"
FIRST, SECOND = "sha-4400001", "sha-4400002"
RATE, CONNECTIONS = 200.0, 20
EVERY_S = 0.2
LONGEST_S = 900.0
SHARE = 0.1
"""Cores of each server in the rows that compare numbers of hosts: 16 of them and the coordinator fit into two."""


@dataclass(frozen=True, slots=True)
class Case:
    """How many hosts, whether each has users, and the cores of each; None: they share all."""

    hosts: int
    loaded: bool = False
    cores: float | None = None


CASES = {
    **{f"{hosts} with {SHARE:g}": Case(hosts, cores=SHARE) for hosts in (1, 4, 16)},
    "1": Case(1),
    "4": Case(4),
    "3 loaded": Case(3, loaded=True),
}


@contextlib.contextmanager
def busy_seconds() -> Iterator[list[tuple[float, float]]]:
    """Moments, each with the seconds that the cores of this machine have worked until then."""
    found: list[tuple[float, float]] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(EVERY_S):
            times = psutil.cpu_times()
            found.append((time.time(), sum(times) - times.idle - getattr(times, "iowait", 0.0)))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def staged(web: Fleet) -> None:
    """Release the second tag on all hosts until phase 1 is over, or for `LONGEST_S`."""
    session = web.start(SECOND, "--hold=60m")
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end and session.poll() is None and phase_1(web) is None:
        time.sleep(1.0)  # poll: the session writes its evidence to a file, which raises no event here
    if session.poll() is not None:
        raise RuntimeError(session.communicate()[0])
    session.kill()
    session.communicate()


def released(web: Fleet) -> bool:
    """Release the second tag on all hosts; False if that was not over after `LONGEST_S`, and it was ended."""
    session = web.start(SECOND)
    try:
        said, _ = session.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        session.kill()
        session.communicate()
        return False
    if session.returncode or set(web.tags().values()) != {SECOND}:
        raise RuntimeError(said)
    return True


def phase_1(web: Fleet) -> tuple[float, float] | None:
    """When phase 1 of the newest session began and ended; None if it was not over on all hosts."""
    # Not by reports/latest, which only a session that ended has.
    files = [*web.folder.glob("reports/2*/evidence.jsonl")]
    if not files:
        return None
    file = max(files, key=lambda each: each.stat().st_mtime)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "step" and row["name"].startswith("stage[")]
    if len(steps) < len(web.servers):
        return None
    bad = [row["text"] for row in steps if row["outcome"] != "yes"]
    if bad:
        raise RuntimeError(f"phase 1 was not good: {bad}")
    return min(row["at"] - row["seconds"] for row in steps), max(row["at"] for row in steps)


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """The row of one case."""
    names = [f"web-{number}" for number in range(1, case.hosts + 1)]
    for tag in (FIRST, SECOND):
        build(tag)
    images = [f"{REPO}:{tag}" for tag in (FIRST, SECOND)]
    with fleet(folder, images, names=names, cores=case.cores) as web:
        with contextlib.ExitStack() as stack:
            users = [
                stack.enter_context(load(web.url(name), connections=CONNECTIONS, rate=RATE, longest_s=900))
                for name in names
                if case.loaded
            ]
            samples = stack.enter_context(busy_seconds())
            begun = time.monotonic()
            if case.cores is not None:
                staged(web)
                whole = None
            else:
                whole = time.monotonic() - begun if released(web) else None
        span = phase_1(web)
    inside = [busy for at, busy in samples if span and span[0] <= at <= span[1]]
    seconds = span[1] - span[0] if span else None
    return {
        "phase_1": seconds,
        "cores": (inside[-1] - inside[0]) / seconds if seconds and len(inside) > 1 else None,
        "whole": whole,
        "requests": sum(len(each.shots) for each in users),
        "failed": sum(len(each.failed) for each in users),
    }


def _seconds(value: float | None) -> str:
    return f"not over in {LONGEST_S:.0f} s" if value is None else f"{value:.0f} s"


def grown(rows: Rows) -> list[str]:
    """A paragraph with the ratio of phase 1 on the most and the fewest hosts of equal cores; empty if not measured."""
    spans = [
        (case.hosts, row["phase_1"])
        for name, case in CASES.items()
        if case.cores and (row := rows.get(name)) and row["phase_1"]
    ]
    if len(spans) < 2:
        return []
    (fewest, least), (most, longest) = min(spans), max(spans)
    return [
        f"**On equal cores ({SHARE:g} of a core for each server) phase 1 lasts {longest / least:.1f} times as long on {most}",
        f"hosts as on {fewest}** (goal: at most 2). There the HEALTHCHECK is asked every 10 s, and the session ends after phase 1.",
        "",
    ]


def told(rows: Rows) -> list[str]:
    """Markdown lines of the section."""
    cells = [
        (
            case.hosts,
            f"{case.cores:g} of its own" if case.cores else "shared",
            f"{RATE:.0f}/s on each" if case.loaded else "none",
            _seconds(row["phase_1"]),
            f"{row['cores']:.1f} of {os.cpu_count()}" if row["cores"] else "",
            f"{row['phase_1'] * row['cores'] / case.hosts:.0f} s" if row["cores"] else "",
            "" if case.cores else _seconds(row["whole"]),
            f"{row['failed']} of {row['requests']:,}" if row["requests"] else "",
        )
        for name, case in CASES.items()
        if (row := rows.get(name))
    ]
    return [
        "## Several hosts",
        "",
        "`python -m benchmarks.bench_hosts`: a good release on servers in containers of one machine, each with sshd, a",
        "Docker engine and nginx. Phase 1 is deploy and gate on all of them side by side.",
        "",
        *grown(rows),
        "Where the servers share the cores of the machine, phase 1 lasts as long as these need for all of them: compare the",
        "time of a core that each host costs.",
        "",
        *table(
            ("hosts", "cores of each", "requests", "phase 1", "busy cores in it", "of a core for each host", "whole release", "failed"),
            cells,
        ),
    ]  # fmt: skip


def main() -> int:
    """Measure the rows that the command line names, or all."""
    wanted = asked(__doc__, [*CASES])
    rows: Rows = {}
    for name in wanted.names:
        with tempfile.TemporaryDirectory(prefix="hosts-") as folder:
            rows[name] = {"where": write.machine(), **measure(CASES[name], Path(folder))}
        every = merged(SECTION, rows)
        publish(SECTION, told(every), every, dry=wanted.dry)
    return 1 if any(row["failed"] for row in rows.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
