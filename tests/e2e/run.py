"""Run a full cutover day on this machine: ``python -m tests.e2e.run [--write]``.

It uses a registry with authentication, PostgreSQL, Redis, nginx, Prometheus with Alertmanager, and Chromium. The
server is a container with sshd and its own engine, set up by docs/dev/deploy_server.md. A client writes rows
throughout.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from benchmarks.write import machine, section
from examples.stand import free_ports
from tests.e2e.canaries import sampled
from tests.e2e.parts import Parts
from tests.e2e.server import known
from tests.e2e.services import ALERTS, push, registry, watch
from tests.e2e.steps import ROWS, Day, Unexpected
from tests.e2e.writer import Writer, writing
from tests.helpers import wheelhouse
from tests.helpers.registry_image import NAME, TOKEN
from tests.helpers.shared_services import OLDER
from tests.helpers.ssh_server import Wanted, server

PER_SECOND = 25
CATCH_UP = 4
"""Additional connections used to reach a step's share of the rows."""
LIMIT_S = 1800.0
HERE = "the server is a container with sshd, nginx and an engine of its own, reached by ssh"
LISTEN = "sed -i 's|listen 127.0.0.1:8080|listen 8080|' deploy/proxy/nginx/cutover.conf"


@contextmanager
def begun(folder: Path) -> Iterator[Day]:
    """Start everything around the service and push its images to the registry; remove all of it after the block."""
    parts, port = Parts(), free_ports(1)[0]
    host = f"127.0.0.1:{port}"
    (folder / "wheels").mkdir()
    (folder / "wheels").chmod(0o755)
    wanted = Wanted(
        f"{host}/{NAME}/api", OLDER, password=parts.password, ports=("127.0.0.1::8080", f"127.0.0.1:{port}:{port}"),
        by_hand={"pip install": LISTEN + ALERTS, "up --detach --wait": parts.by_hand},
    )  # fmt: skip
    with (
        server(folder, wheelhouse.fill(folder / "wheels"), wanted) as web,
        registry(web, port, folder / "empty"),
    ):
        digests = push(host, os.environ)
        watch(web)
        variables = {"GHCR_HOST": host, "GHCR_USERNAME": NAME, "CUTOVER_WHO": "ana"}
        there = known(folder / "client", web, variables, TOKEN)
        planted = (parts.password, parts.number, TOKEN, there.key.splitlines()[2])
        writer = Writer(f"http://127.0.0.1:{web.published(8080)}")
        with sampled(*planted) as processes:
            yield Day(folder, parts, there, writer, processes, digests, planted)


def fill(day: Day, number: int) -> None:
    """Wait until the step's share of the 10,000 rows is acknowledged, so that all are stored before the restore."""
    share = min(ROWS, ROWS * number // day.steps.index(day.restore))
    if number and len(day.writer.acknowledged) < share:
        with writing(day.writer, connections=CATCH_UP, per_second=PER_SECOND):
            day.writer.until(share, 300)


@dataclass(frozen=True, slots=True)
class Row:
    """Result of one step."""

    name: str
    good: bool
    seconds: float
    end: str

    def __str__(self) -> str:
        return f"{'✓' if self.good else '✗'} {self.name:46} {self.seconds:6.1f} s  {self.end}"


def walked(day: Day, until: float) -> Iterator[Row]:
    """Run the steps in order; a failed step does not stop the next one, and no step starts after *until*."""
    for number, step in enumerate(day.steps):
        name, start = (step.__doc__ or "").strip(".").lower(), time.monotonic()
        if start > until:
            yield Row(name, good=False, seconds=0, end="not begun: the time is over")
            continue
        try:
            fill(day, number)
            good, end = True, step()
            if step not in {day.restore, day.reports, day.secrets}:
                day.rows()
        except (Unexpected, AssertionError, OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
            good, end = False, f"{type(error).__name__}: {error}"
        yield Row(name, good=good, seconds=time.monotonic() - start, end=end)
        if step == day.first and not good:
            return  # without a first release the other steps are meaningless


def table(where: str, rows: list[Row], refused: int, written: int) -> str:
    """Markdown text of the section in docs/benchmarks.md."""
    lines = [f"| {each.name} | {each.seconds:.0f} s | {each.end} |" for each in rows]
    return "\n".join([
        "## The cutover day", "", "`python -m tests.e2e.run --write`", "", where, "",
        f"A client wrote {written} rows through nginx meanwhile, {refused} of its requests were refused; {HERE}.", "",
        "| step | took | ended |", "|---|---|---|", *lines,
    ])  # fmt: skip


def say(line: object) -> None:
    """Print *line* and flush."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    """Run the command line; 0 if every step ended as expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.run", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section `day` of docs/benchmarks.md")
    parser.add_argument("--keep", type=Path, help="copy reports and screenshots there")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which no step begins")
    given = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM):  # exit by exception, so that everything created is removed
        signal.signal(each, _leave)
    until, rows, where = time.monotonic() + given.limit, [], machine()
    say(HERE)
    with tempfile.TemporaryDirectory(prefix="cutover-day-") as folder:
        started = time.monotonic()
        with begun(Path(folder)) as day:
            say(
                Row(
                    "registry, server, data, proxy, monitoring",
                    good=True,
                    seconds=time.monotonic() - started,
                    end="run",
                )
            )
            steps = walked(day, until)
            rows.append(next(steps))
            say(rows[-1])
            with writing(day.writer, per_second=PER_SECOND):
                for row in steps:
                    rows.append(row)
                    say(row)
            if given.keep:
                shutil.copytree(
                    day.folder / "left/srv/recall/reports", given.keep, symlinks=True, dirs_exist_ok=True
                )
        good = all(each.good for each in rows)
        if given.write and good:
            section("day", table(where, rows, day.writer.failed, len(day.writer.acknowledged)))
    say("the day ended as designed" if good else "the day did NOT end as designed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
