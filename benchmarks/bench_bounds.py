"""Measure bounds: memory for a log of 300 MB, and the time of `cutover report html` with 100,000 failed checks.

    python -m benchmarks.bench_bounds

The log is served by an engine of our own on a socket, written in the first two minutes of the old release. Each part
runs in a process of its own. About 20 s; exit code 1 if a goal was missed.
"""

from __future__ import annotations

import http.server
import json
import os
import resource
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

LOG_BYTES, CHECKS = 300_000_000, 100_000
MOST_MB, MOST_S = 150, 20
BEGUN = "2026-01-31T12:00:00"
LINE = f"{BEGUN}.000000000Z ERROR {'x' * 160}\n".encode()
PIECE = (b"\1\0\0\0" + len(LINE).to_bytes(4, "big") + LINE) * 300


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers what `read_baseline` asks."""

    def do_GET(self) -> None:
        """Send the log, or one of the two documents."""
        self.send_response(200)
        if "/logs" in self.path:
            self.end_headers()
            try:
                for _ in range(LOG_BYTES // len(PIECE)):
                    self.wfile.write(PIECE)
            except OSError:
                return  # the reader has enough
        else:
            body = json.dumps({"Config": {"Tty": False}, "SystemTime": f"{BEGUN[:11]}12:30:00Z"}).encode()
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def address_string(self) -> str:
        """A socket of this host has no address."""
        return "here"

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def read_log() -> None:
    """Read the baseline from the engine of DOCKER_HOST; print megabytes and seconds."""
    from types import SimpleNamespace

    from cutover.core.config_schema import Logs
    from cutover.gate.log_checks import read_baseline

    began = time.monotonic()
    old = SimpleNamespace(id="a", started_at=f"{BEGUN}Z", finished_at="", running=True)
    found = read_baseline(old, Logs())  # type: ignore[arg-type]
    assert found is not None
    assert found.errors
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, time.monotonic() - began)


def write_page(folder: Path) -> None:
    """Write evidence with 100,000 failed checks, and make its page; print megabytes and seconds."""
    from cutover.core.verdict import no

    with (folder / "evidence.jsonl").open("w", encoding="utf-8") as out:
        for n in range(CHECKS):
            verdict = no("ready", f"expected 200, got {n}", body="x" * 100)
            row = {
                "id": n + 1,
                "test": f"smoke/test_a.py::test_{n}[green]",
                "target": "green",
                "stage": n % 2,
            }
            more = {"kind": "check", "verdict": verdict.as_json(), "seconds": 0.1, "at": 1.7e9, "cause": None}
            out.write(json.dumps(row | more) + "\n")
    began = time.monotonic()
    argv = [sys.executable, "-m", "cutover", "report", "html", str(folder)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(used, time.monotonic() - began)


def part(name: str, **environment: str) -> tuple[float, float]:
    """Run one part in a process of its own: megabytes resident at most, and seconds."""
    argv = [sys.executable, "-m", "benchmarks.bench_bounds", name]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, **environment})
    memory, seconds = map(float, done.stdout.split())
    return memory, seconds


def main() -> int:
    """Run both parts, and print a table for benchmarks/README.md."""
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1:] == ["log"]:
            read_log()
            return 0
        if sys.argv[1:] == ["page"]:
            write_page(Path(folder))
            return 0
        socket = Path(folder) / "engine.sock"
        with socketserver.ThreadingUnixStreamServer(str(socket), Engine) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            log = part("log", DOCKER_HOST=f"unix://{socket}")
            server.shutdown()
    page = part("page")
    print("| what | most memory | time | goal |\n|---|---|---|---|")
    print(f"| a log of 300 MB in the first two minutes | {log[0]:.0f} MB | {log[1]:.1f} s | {MOST_MB} MB |")
    print(
        f"| `cutover report html`, 100,000 failed checks | {page[0]:.0f} MB | {page[1]:.1f} s | {MOST_S} s |"
    )
    return int(log[0] > MOST_MB or page[1] > MOST_S)


if __name__ == "__main__":
    sys.exit(main())
