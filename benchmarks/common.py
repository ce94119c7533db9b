"""Shared parts of the benchmarks: stand, releases, load, and stored results.

Each benchmark is run as `.venv/bin/python benchmarks/bench_X.py [names…] [--dry]`. With names it measures only those
rows and keeps the stored results of the others; `--dry` prints the results and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import write
from examples.releases import build
from examples.stand import Result, Stand
from tests.helpers.load import Ask, Load, load

# Stored results, one file per section, so that single rows can be measured again.
KEPT = Path(__file__).parent / "results"

REPO = "cutover-bench/api"
# Long enough that the release fails only when triggered, however long a benchmark takes.
STAYS_GOOD_S = 86_400
# Load: quick requests, and slow ones on connections of their own so that they do not delay the quick ones.
CONNECTIONS, RATE = 100, 50
SLOW = (Ask("GET", "/slow?seconds=3"),)
SLOW_CONNECTIONS, SLOW_RATE = 8, 1
BEFORE_S, AFTER_S = 5.0, 3.0
LONGEST_S = 600.0
MOST_NAMES = 12
Rows = dict[str, dict[str, Any]]


def built(name: str, defect: str | None = None) -> str:
    """Build the release *name* with *defect* unless it is up to date; return its tag."""
    tag = f"sha-{zlib.crc32(name.encode()):08x}"[:11]
    build(tag, defect, repo=REPO, seconds=STAYS_GOOD_S)
    return tag


@contextmanager
def stand(
    name: str,
    *,
    min_uptime: str = "5s",
    migrate: bool = False,
    driver: Literal["nginx", "traefik", "port-swap"] = "nginx",
    proxied: bool = True,
    extra: str = "",
) -> Iterator[Stand]:
    """A stand for this run, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
    made = Stand(
        folder,
        f"bench-{name}-{os.getpid()}",
        driver=driver,
        proxied=proxied,
        migrate=migrate,
        extra=extra,
        environment={"IMAGE_REPO": REPO},
    )
    try:
        made.make()
        quick = made.config.read_text(encoding="utf-8")
        made.config.write_text(re.sub('min_uptime = ".*"', f'min_uptime = "{min_uptime}"', quick))
        yield made
    finally:
        made.remove()
        shutil.rmtree(folder, ignore_errors=True)


def begin(on: Stand, tag: str) -> None:
    """Make *tag* the live and verified release of an empty stand."""
    # Without a proxy nobody is live yet.
    target = "live" if on.proxied and on.driver != "port-swap" else "blue"
    first = on.pytest("smoke", f"--target={target}", f"--deploy={tag}")
    require(first, 0)


def require(result: Result, code: int) -> Result:
    """Return *result* if it has the expected exit code, else raise RuntimeError: its duration would be meaningless."""
    if result.code != code:
        raise RuntimeError(f"expected exit {code}, got {result.code}:\n{result.last}")
    return result


def timed(act: Callable[[], Result]) -> tuple[float, Result]:
    """Duration of *act* in seconds, and its result."""
    begun = time.monotonic()
    result = act()
    return time.monotonic() - begun, result


@contextmanager
def users(url: str, asks: Sequence[Ask], *, before_s: float = BEFORE_S) -> Iterator[Load]:
    """Load that starts some seconds before the block and ends some seconds after it; complete afterwards."""
    with (
        load(url, connections=SLOW_CONNECTIONS, rate=SLOW_RATE, asks=SLOW, longest_s=LONGEST_S) as slow,
        load(url, connections=CONNECTIONS, rate=RATE, asks=asks, longest_s=LONGEST_S) as quick,
    ):
        time.sleep(before_s)
        yield quick
        time.sleep(AFTER_S)
    quick.shots += slow.shots


# --- arguments ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Asked:
    """Parsed command line."""

    names: tuple[str, ...]
    dry: bool
    times: int


def asked(doc: str | None, names: Sequence[str], times: int = 1) -> Asked:
    """Parse the command line; without names all rows are measured."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"names: {', '.join(names)}"
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="name", help="rows to measure; default all")
    parser.add_argument("--dry", action="store_true", help="print only")
    parser.add_argument("--times", type=int, default=times, help=f"how often each is measured ({times})")
    given = parser.parse_args()
    unknown = [each for each in given.names if each not in names]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(names)}")
    # In the benchmark's own order, not that of the command line.
    return Asked(tuple(each for each in names if each in (given.names or names)), given.dry, given.times)


# --- tables ------------------------------------------------------------------------------------------------------
def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(str(cell).replace('|', '/') for cell in row)} |" for row in lines]


def merged(section: str, rows: Mapping[str, Mapping[str, Any]], kept: Path = KEPT) -> Rows:
    """*rows*, and the stored results of the rows that were not measured now."""
    file = kept / f"{section}.json"
    before: Rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return before | {name: dict(row) for name, row in rows.items()}


def publish(section: str, lines: Sequence[str], rows: Rows, *, dry: bool) -> None:
    """Print the section; unless *dry*, write it to the page and store its rows."""
    text = "\n".join([*lines, "", *measured(rows)])
    say(text)
    if not dry:
        keep(section, rows)
        write.section(section, text)


def keep(section: str, rows: Rows, kept: Path = KEPT) -> None:
    """Store *rows* as JSON."""
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    (kept / f"{section}.json").write_text(f"{text}\n", encoding="utf-8")


def measured(rows: Rows) -> list[str]:
    """Machine, commit and load of the measurements, one line per run."""
    runs: dict[str, list[str]] = {}
    for name, row in rows.items():
        runs.setdefault(row["where"], []).append(name)
    if len(runs) == 1:
        return [f"Measured: {next(iter(runs))}."]
    said = {
        where: ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} rows"
        for where, names in runs.items()
    }
    return [f"- {names}: {where}" for where, names in said.items()]


def say(text: str) -> None:
    """Print *text* and flush, so that it also appears at once in a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
