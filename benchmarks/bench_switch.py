"""Measure switches under load: failed requests, longest gap, p99 at rest and during a switch, time to switch back.

    python -m benchmarks.bench_switch [--switches N] [--requests N] [--rate N] [--connections N] [--dry]

Traffic stays on the loopback interface and is bounded in rate and time. The results are written to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import write
from cutover.proxy.base import named_color, other
from cutover.system.http import HttpAddress
from tests.helpers.color_servers import Backend, Colors, two_colors
from tests.helpers.load import Ask, Load, load, percentile
from tests.helpers.real_proxies import Running, haproxy, nginx, traefik

SLOW = Ask("GET", "/slow?s=3")
SLOW_USERS = 8
LONGEST_S = 900.0
AROUND_S = (0.05, 0.5)
FLIPS = 30


def _serve(pipe: Any) -> None:
    with two_colors() as colors:
        pipe.send(colors.ports)
        pipe.recv()


@contextmanager
def colors_of_another_process() -> Iterator[Colors]:
    """Run blue and green in a separate process, so that they do not share an interpreter lock with the client."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    child.start()
    ports = here.recv()
    try:
        yield Colors(Backend("blue", ports["blue"]), Backend("green", ports["green"]), lambda _: None)
    finally:
        here.send("end")
        child.join()


@dataclass(frozen=True)
class Row:
    """Results of one proxy."""

    name: str
    requests: int
    failed: int
    switches: int
    gap_ms: float
    rest_ms: float
    around_ms: float
    flip_ms: list[float]
    bare_ms: list[float]


def switching(seen: Running, options: argparse.Namespace) -> tuple[Load, list[float]]:
    """Switch under load with pauses in between; return the load results and the times of the switches."""
    moments = []
    share = options.requests / (options.switches + 1)
    # Slow requests have connections of their own; requests queued behind them would hide the effect of the switch.
    with (
        load(seen.way.url, connections=options.connections, rate=options.rate, longest_s=LONGEST_S) as users,
        load(seen.way.url, connections=SLOW_USERS, rate=2, asks=[SLOW], longest_s=LONGEST_S) as slow,
    ):
        for turn in range(options.switches):
            _until(users, (turn + 1) * share)
            moments.append(time.monotonic())
            argv = seen.driver.switch("green" if turn % 2 == 0 else "blue").do
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        _until(users, options.requests)
    users.shots += slow.shots
    return users, moments


def _until(users: Load, answered: float) -> None:
    while len(users.shots) < answered:
        time.sleep(0.02)


def flips(seen: Running) -> tuple[list[float], list[float]]:
    """Milliseconds from the switch command to the first response of the other color on an open connection.

    Also returns the duration of a bare `mv` before each switch, under the same conditions.
    """
    import socket

    place = HttpAddress.of(seen.way.url)
    ask = f"GET /version HTTP/1.1\r\nHost: {place.host}:{place.port}\r\n\r\n".encode()
    found, bare = [], []
    move = BareMove(seen.folder)
    with socket.create_connection((place.host, place.port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        color = _color(line, ask)
        for _ in range(FLIPS):
            to = other(color)
            time.sleep(0.3)  # at rest: Traefik handles one change at a time
            bare.append(move())
            begun = time.perf_counter()
            subprocess.run(seen.driver.switch(to).do, check=True, stdout=subprocess.DEVNULL)
            while _color(line, ask) != to:
                pass
            found.append((time.perf_counter() - begun) * 1000)
            color = to
    return found, bare


def _color(line: Any, ask: bytes) -> str:
    from cutover.system.http import HttpResponse

    line.sendall(ask)
    got = b""
    while b"\r\n\r\n" not in got:
        got += line.recv(65536)
    head, _, rest = got.partition(b"\r\n\r\n")
    pairs = (row.partition(":") for row in head.decode("latin-1").split("\r\n")[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    while len(rest) < int(headers["content-length"]):
        rest += line.recv(65536)
    return named_color(HttpResponse(200, headers), "X-Color")


class BareMove:
    """A bare `mv` in a separate process: the lower bound for the duration of a switch."""

    def __init__(self, folder: Path) -> None:
        self.one, self.two = folder / "bare-one", folder / "bare-two"
        self.one.touch()

    def __call__(self) -> float:
        """Run one `mv` and return its duration in milliseconds."""
        begun = time.perf_counter()
        subprocess.run(("mv", str(self.one), str(self.two)), check=True)
        self.one, self.two = self.two, self.one
        return (time.perf_counter() - begun) * 1000


def measure(start: Callable[..., AbstractContextManager[Running]], options: argparse.Namespace) -> Row:
    """Run all measurements with one proxy."""
    with (
        tempfile.TemporaryDirectory() as name,
        colors_of_another_process() as colors,
        start(Path(name), colors) as seen,
    ):
        users, moments = switching(seen, options)
        took, bare = flips(seen)
    before, after = AROUND_S
    around = sorted(value for at in moments for value in users.latencies(at - before, at + after))
    rest = [value for early, late in _between(moments) for value in users.latencies(early + 1, late - before)]
    return Row(
        seen.driver.name if seen.driver.name != "command" else "HAProxy (command)",
        len(users.shots),
        len(users.failed),
        len(moments),
        users.longest_gap() * 1000,
        percentile(sorted(rest), 0.99) * 1000,
        percentile(around, 0.99) * 1000,
        took,
        bare,
    )


def _between(moments: list[float]) -> Iterator[tuple[float, float]]:
    return pairwise(moments)


def told(rows: list[Row], options: argparse.Namespace, where: str) -> str:
    """Markdown text of the section."""
    lines = [
        "## Switching under load",
        "",
        f"`python -m benchmarks.bench_switch`: {options.connections} kept-alive connections, {options.rate:g}",
        f"requests/s open loop, half POST, and {SLOW_USERS} more users of three seconds each; all on one",
        f"machine ({where}).",
        'Latency counts from the moment in which a request was due; "around a switch" is from',
        f"{AROUND_S[0] * 1000:.0f} ms before to {AROUND_S[1] * 1000:.0f} ms after it.",
        "",
        "| proxy | switches | requests | failed | longest gap | p99 at rest | p99 around a switch | ratio |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {row.name} | {row.switches} | {row.requests:,} | **{row.failed}** | {row.gap_ms:.0f} ms "
            f"| {row.rest_ms:.0f} ms | {row.around_ms:.0f} ms | {row.around_ms / max(row.rest_ms, 0.1):.1f} |"
            for row in rows
        ),
        "",
        f"The way back, {FLIPS} times at rest: from the decision to the first answer of the other color on a",
        "connection that was open, the start of the shell included; before each a bare `mv` as a process of its own.",
        "",
        "| proxy | median | slowest | bare `mv`, median | ratio |",
        "|---|---|---|---|---|",
        *(
            f"| {row.name} | {statistics.median(row.flip_ms):.1f} ms | {max(row.flip_ms):.1f} ms "
            f"| {statistics.median(row.bare_ms):.1f} ms "
            f"| {statistics.median(row.flip_ms) / statistics.median(row.bare_ms):.1f} |"
            for row in rows
        ),
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, print and write the results; 1 if a request failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--requests", type=int, default=51_000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--dry", action="store_true", help="print only")
    options = parser.parse_args()
    where = write.machine()
    rows = [measure(start, options) for start in (nginx, traefik, haproxy)]
    text = told(rows, options, where)
    sys.stdout.write(text + "\n")
    if not options.dry:
        write.section("switch", text)
    return 1 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
