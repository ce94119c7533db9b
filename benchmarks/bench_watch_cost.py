"""Measure the cost of the watch: CPU, memory, and reading a long log compared with `docker logs | grep -c`.

    python -m benchmarks.bench_watch_cost [--seconds N] [--rate N] [--megabytes N] [--dry]

Traffic stays on the loopback interface and is bounded in rate and time. The results are written to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import write
from cutover.core import config
from cutover.core.config_schema import Logs
from cutover.core.evidence import Evidence
from cutover.core.verdict import Outcome
from cutover.gate.log_checks import scan_log
from cutover.release import colors
from cutover.watch.check import run_watch
from cutover.watch.logs import LogReader
from cutover.watch.suite import WatchSuite
from examples.images import image
from examples.releases import build
from examples.stand import GOOD, Stand

DEADLINE_S = 1800.0
ALLOWED = 0.05
ALLOWED_MB = 1.0  # growth from half-time to the end, including the data points of the charts
USER = """
import sys, time, urllib.request
while True:
    urllib.request.urlopen(sys.argv[1], timeout=5).read()
    time.sleep(1 / float(sys.argv[2]))
"""
LINE = (
    '{"level": "%s", "msg": "request", "path": "/memories", "status": 200, "ms": 3.1, "pad": "'
    + "x" * 80
    + '"}'
)
WRITER = f"""
import sys
line = {LINE!r} + chr(10)
block = "".join(line % ("error" if n % 100 == 0 else "info") for n in range(1000))
for _ in range(int(sys.argv[1]) * 1000000 // len(block)):
    sys.stdout.write(block)
"""


@dataclass(frozen=True)
class Cost:
    """Resources used by one watch."""

    seconds: float
    cpu_s: float
    requests: int
    first_half: int
    """Bytes allocated by Python after half of the time."""
    second_half: int
    verdicts: dict[str, str]

    @property
    def growth_mb(self) -> float:
        """Memory growth between half-time and the end, in MB."""
        return (self.second_half - self.first_half) / 1e6

    @property
    def share(self) -> float:
        """CPU time as a fraction of one core."""
        return self.cpu_s / self.seconds


def users(url: str, rate: float, until: threading.Event) -> threading.Thread:
    """Send requests from another process, because the CPU time of this one is measured."""
    argv = (sys.executable, "-c", USER, url, str(rate))

    def run() -> None:
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as child:
            until.wait(DEADLINE_S)
            child.kill()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def watching(stand: Stand, seconds: float, rate: float) -> Cost:
    """Watch both colors of *stand* as a release does; blue is the live one."""
    here = colors.inspect_colors(config.load_config(stand.config))
    live, old = colors.target_named(here, "live"), colors.target_named(here, "green")
    file = Path(stand.config).with_name(f"evidence-{uuid.uuid4().hex[:6]}.jsonl")
    evidence, held, begun = Evidence(file), list[int](), time.monotonic()
    asked = WatchSuite(
        here.settings, live, old, colors.control_for(here, live), evidence, time.time()
    ).checks()
    stop = threading.Event()
    traffic = users(f"{stand.url}/version", rate, stop)

    def on_tick(left: float, _verdicts: object) -> None:
        if (left < seconds / 2 and not held) or left == 0:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])

    cpu = time.process_time()
    try:
        seen = run_watch(asked, seconds, on_tick=on_tick)
        cpu_s, took = time.process_time() - cpu, time.monotonic() - begun
    finally:
        stop.set()
        traffic.join()
    evidence.flush()
    points = [row for line in file.read_text().splitlines() for row in json.loads(line).get("rows", ())]
    requests = int(sum(value for series, _color, _at, value in points if series == "requests"))
    bad = {
        name: each for name, each in seen.verdicts.items() if each.outcome in {Outcome.NO, Outcome.UNKNOWN}
    }
    return Cost(took, cpu_s, requests, held[0], held[-1], {name: each.reason for name, each in bad.items()})


def both(folder: Path, seconds: float, rate: float) -> tuple[Cost, Cost]:
    """Cost of one watch for CPU time and of another for memory: tracing memory takes CPU time."""
    stand = Stand(folder, f"bench-watch-{uuid.uuid4().hex[:6]}")
    stand.make()
    try:
        build(GOOD)
        for color in ("live", "idle"):
            done = stand.pytest("smoke", f"--target={color}", f"--deploy={GOOD}")
            if done.code:
                raise RuntimeError(done.last)
        quick = watching(stand, seconds, rate)
        tracemalloc.start()
        return quick, watching(stand, seconds, rate)
    finally:
        tracemalloc.stop()
        stand.remove()


@dataclass(frozen=True)
class Read:
    """Seconds to read a long log in different ways."""

    grep: float
    """The whole log by `docker logs` and `grep -c`."""
    all: float
    """The whole log, read and judged by the watch's rules."""
    first: float
    """First read of the gate: the newest 5,000 lines."""
    next: float
    """A further read of the watch without new lines."""
    parsed: float
    """Judging 50 MB of lines, without the engine."""


def reading(megabytes: int) -> Read:
    """Measure reading a container log of *megabytes* MB."""
    name = f"bench-watch-log-{uuid.uuid4().hex[:6]}"
    docker = ("docker", "run", "--name", name, "--log-opt", "max-size=2g", image("base"))
    argv = (*docker, "python3", "-c", WRITER, str(megabytes))
    try:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)
        counted = f"docker logs {name} 2>&1 | grep -c error"
        # A shell command line, as typed in a terminal.
        whole = timed(lambda: subprocess.run(counted, shell=True, check=True, stdout=subprocess.DEVNULL))  # noqa: S602
        judged = timed(lambda: judge_all(name))
        reader = LogReader(name, Logs.model_validate({}), 1.0, _tail=5000)
        first = timed(reader.read)
        lines = [
            f"2026-01-01T00:00:00.000000001Z {LINE % ('error' if n % 100 == 0 else 'info')}"
            for n in range(1000)
        ]
        many = 50_000_000 // sum(map(len, lines))
        parsed = timed(lambda: [scan_log(lines, reader.rules).errors for _ in range(many)])
        return Read(whole, judged, first, min(timed(reader.read) for _ in range(3)), parsed)
    finally:
        subprocess.run(("docker", "rm", "--force", "--volumes", name), check=False, stdout=subprocess.DEVNULL)


def judge_all(name: str) -> int:
    """Number of errors in the whole container log by the watch's rules; reads line by line in constant memory."""
    argv = ("docker", "logs", "--timestamps", name)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        found = scan_log(child.stdout, Logs.model_validate({})).errors
    if child.returncode or not found:
        raise RuntimeError(f"docker logs ended with {child.returncode}, {len(found)} errors in it")
    return len(found)


def timed(act: Callable[[], object]) -> float:
    """Duration of *act* in seconds."""
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def told(cost: Cost, memory: Cost, read: Read, options: argparse.Namespace, where: str) -> str:
    """Markdown text of the section."""
    return f"""\
## What watching costs

`python -m benchmarks.bench_watch_cost` · {where}

Two colors on SQLite behind nginx, the shipped questions with their shipped paces (2 probes a second, each other
question at most twice a second), {cost.requests:,} requests of users in {cost.seconds:.0f} s.

| what | measured | allowed |
|---|---|---|
| CPU of the watching process | {cost.share:.1%} of a core | 5 % |
| memory between half-time and end | {memory.growth_mb:+.2f} MB | constant: {ALLOWED_MB:g} MB |
| questions that said no or unknown | {", ".join(cost.verdicts) or "none"} | none |

A log of {options.megabytes} MB, one line in a hundred an error:

| way | time | in ratio |
|---|---|---|
| `docker logs NAME \\| grep -c error`, all of it | {read.grep:.2f} s | 1 |
| all of it, read and judged by the watch's rules | {read.all:.2f} s | {read.all / read.grep:.1f} |
| the gate: the newest 5,000 lines, judged | {read.first * 1000:.0f} ms | {read.first / read.grep:.3f} |
| the watch: one more look, nothing new | {read.next * 1000:.0f} ms | {read.next / read.grep:.4f} |

Judging alone, without the engine, takes {read.parsed / 50 * 1000:.0f} ms for each MB of JSON lines.
"""


def main() -> int:
    """Measure, print and write the results; 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    where = write.machine()
    with tempfile.TemporaryDirectory() as folder:
        cost, memory = both(Path(folder), options.seconds, options.rate)
    text = told(cost, memory, reading(options.megabytes), options, where)
    sys.stdout.write(text + "\n")
    if not options.dry:
        write.section("watch", text)
    dear = cost.share > ALLOWED or memory.growth_mb > ALLOWED_MB
    return 1 if dear or cost.verdicts or memory.verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
