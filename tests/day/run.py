"""The cutover day on this machine: ``python -m tests.day.run [--write]``.

Real are the registry with its login, sshd, PostgreSQL, Redis, nginx, Prometheus with Alertmanager, Chromium. The server
is this host: sshd is a process of its own here, and its engine is this host's. A client writes rows all day long.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from examples.stand import Stand
from tests.bench.write import machine, section
from tests.day.around import Monitoring, registry
from tests.day.canaries import sampled
from tests.day.parts import BAD, CONTRACT, GOOD, LATER, LATEST, OLDER, SETTINGS, Parts, made
from tests.day.server import serving
from tests.day.steps import Day, Unexpected, must
from tests.day.writer import Writer, writing
from tests.engine.test_registry import NAME, TOKEN

PER_SECOND = 25
LIMIT_S = 1800.0
HERE = "the server is this host: sshd as a process of its own, a clone as DEPLOY_PATH, this host's engine"


@contextmanager
def begun(folder: Path) -> Iterator[Day]:
    """Everything around the service runs, its images are in the registry; all is gone after the block."""
    name = f"day{secrets.token_hex(3)}"
    parts, monitoring = Parts(name), Monitoring()
    stand = Stand(folder, name, extra=SETTINGS + monitoring.toml, migrate=True, environment=parts.environment)
    pushed: list[str] = []
    try:
        with registry(stand, folder / "empty") as host, monitoring.running(stand):
            parts.start(folder, stand)
            stand.environment = parts.environment | {"IMAGE_REPO": f"{host}/{NAME}/api"}
            stand.make()
            login = {"GHCR_HOST": host, "GHCR_USERNAME": NAME}
            push(stand, host, login, pushed)
            where = login | {"CUTOVER_CONFIG": str(stand.config), "CUTOVER_WHO": "ana"}
            with (
                serving(folder / "server", where, TOKEN) as server,
                sampled(parts.password, TOKEN) as processes,
            ):
                yield Day(stand, parts, server, Writer(stand.url), monitoring, processes)
    finally:
        parts.remove(stand)
        stand.remove()
        for each in pushed:
            stand.docker("image", "rm", each, check=False)


def push(stand: Stand, host: str, login: dict[str, str], pushed: list[str]) -> None:
    """Have the day's releases in the registry, and not under that name on the engine."""
    for tag in (OLDER, GOOD, LATEST, BAD, LATER, CONTRACT):
        reference = f"{host}/{NAME}/api:{tag}"
        stand.docker("tag", made(tag), reference)
        pushed.append(reference)
        words = (sys.executable, "-m", "cutover", "push", reference)
        done = subprocess.run(
            words, env=stand.shell(**login, GHCR_TOKEN=TOKEN), capture_output=True, text=True, timeout=300, check=False
        )  # fmt: skip
        must(done.returncode == 0, f"push: {done.stderr}")
        stand.docker("image", "rm", reference)


@dataclass(frozen=True, slots=True)
class Row:
    """How one step ended."""

    name: str
    good: bool
    seconds: float
    end: str

    def __str__(self) -> str:
        return f"{'✓' if self.good else '✗'} {self.name:46} {self.seconds:6.1f} s  {self.end}"


def walked(day: Day, until: float) -> Iterator[Row]:
    """Each step in order; one that fails does not hide the next, and none begins after *until*."""
    for step in day.steps:
        name, start = (step.__doc__ or "").strip(".").lower(), time.monotonic()
        if start > until:
            yield Row(name, good=False, seconds=0, end="not begun: the time is over")
            continue
        try:
            good, end = True, step()
            if step not in {day.restore, day.all_rows, day.reports, day.secrets}:
                day.rows()
        except (Unexpected, TimeoutError, OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
            good, end = False, f"{type(error).__name__}: {error}"
        yield Row(name, good=good, seconds=time.monotonic() - start, end=end)
        if step == day.first and not good:
            return  # there is nothing to release over


def table(where: str, rows: list[Row], refused: int, written: int) -> str:
    """The section of docs/benchmarks.md."""
    lines = [f"| {each.name} | {each.seconds:.0f} s | {each.end} |" for each in rows]
    return "\n".join([
        "## The cutover day", "", "`python -m tests.day.run --write`", "", where, "",
        f"A client wrote {written} rows through nginx meanwhile, {refused} of its requests were refused; {HERE}.", "",
        "| step | took | ended |", "|---|---|---|", *lines,
    ])  # fmt: skip


def say(line: object) -> None:
    """Print *line* at once, for somebody who waits."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _leave(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    """The command line; 0 when every step ended as it must."""
    parser = argparse.ArgumentParser(prog="python -m tests.day.run", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section `day` of docs/benchmarks.md")
    parser.add_argument("--keep", type=Path, help="copy reports and screenshots there")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds after which no step begins")
    given = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM):  # whoever ends it, all that it made is taken away
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
                shutil.copytree(day.stand.folder / "reports", given.keep, symlinks=True, dirs_exist_ok=True)
        good = all(each.good for each in rows)
        if given.write and good:
            section("day", table(where, rows, day.writer.failed, len(day.writer.acknowledged)))
    say("the day ended as designed" if good else "the day did NOT end as designed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
