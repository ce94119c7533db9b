"""A service with failures that can be triggered at run time; runs inside a container (`python3 -c`).

`GET /__break?how=NAME` triggers one. Standard library only.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COLOR = os.environ.get("COLOR", "green")
HOLD = "x = bytearray({size}); import time; time.sleep(1000)"
BROKEN: set[str] = set()
KEPT: list[bytearray] = []
DICE = random.Random(1)  # noqa: S311 - dice of a test


def say(level: str, message: str, **more: Any) -> None:
    """Log one JSON line."""
    sys.stdout.write(json.dumps({"level": level, "msg": message, **more}) + "\n")
    sys.stdout.flush()


def every(seconds: float, act: Any) -> None:
    """Call *act* every *seconds* in a background thread."""

    def run() -> None:
        while True:
            act()
            time.sleep(seconds)

    threading.Thread(target=run, daemon=True).start()


def dependency() -> socket.socket:
    """Listen on a port that stands for a dependency, so that one color alone can lose it."""
    listening = socket.create_server(("127.0.0.1", 9999))

    def accept() -> None:
        try:
            while True:
                listening.accept()[0].close()
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    return listening


NEEDED = dependency()
SHAPES = (
    f"cannot read the {what}"
    for what in ("cache", "queue", "index", "file", "key", "lock", "map", "tree") * 999
)


def die() -> None:
    """Exit immediately, as in a crash."""
    os._exit(3)


def lose_dependency() -> None:
    """Close the port of the dependency."""
    NEEDED.shutdown(socket.SHUT_RDWR)
    NEEDED.close()


def fill() -> None:
    """Allocate 94 % of the container's memory limit of 128 MiB."""
    while True:
        _size, resident, shared = (int(word) for word in Path("/proc/self/statm").read_text().split()[:3])
        if (resident - shared) * 4096 > 0.94 * (128 << 20):
            return
        KEPT.append(bytearray(b"x") * 1_000_000)


ACTS: dict[str, Any] = {
    "crash": lambda: threading.Timer(0.05, die).start(),
    "oom": lambda: threading.Timer(0.05, lambda: KEPT.append(bytearray(b"x" * 400_000_000))).start(),
    "oom-child": lambda: subprocess.Popen([sys.executable, "-c", HOLD.format(size=400_000_000)]),
    "memory": fill,
    "cpu": lambda: [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)],
    "cpu-spike": lambda: subprocess.Popen(["timeout", "5", sys.executable, "-c", "while True: pass"]),
    "unhealthy": lambda: Path("/tmp/sick").touch(),
    "new-errors": lambda: every(1.0, lambda: say("error", next(SHAPES))),
    "traceback": lambda: every(
        0.5, lambda: sys.stderr.write("Traceback (most recent call last):\n  x\nKeyError: 1\n")
    ),
    "errors-as-before": lambda: every(2.0, lambda: say("error", "mail server is slow")),
    "dependency": lose_dependency,
    "garbage-collector": lambda: every(
        4.0, lambda: KEPT.clear() if KEPT else KEPT.append(bytearray(b"x" * 20_000_000))
    ),
}
# Response while a failure is active: status, delay in seconds, share of affected requests.
ANSWERS: dict[str, tuple[int, float, float]] = {
    "5xx-all": (500, 0.0, 1.0), "5xx-half": (500, 0.0, 0.5), "5xx-tenth": (500, 0.0, 0.1),
    "not-found": (404, 0.0, 1.0),
    "5xx-rare": (500, 0.0, 0.002), "5xx-both": (503, 0.0, 1.0), "slow-all": (200, 0.8, 1.0),
    "slow-tail": (200, 1.5, 0.2), "slow-rare": (200, 1.0, 0.02), "slow-bit": (200, 0.15, 1.0), "hang": (200, 60.0, 1.0),
    "logs-only": (200, 0.0, 1.0), "chatty": (200, 0.0, 1.0),
}  # fmt: skip
READY = {"not-ready": 503, "redirect": 302}


class Service(BaseHTTPRequestHandler):
    """Request handler of the service."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Respond according to the active failures."""
        path, _, query = self.path.partition("?")
        if path == "/__break":
            return self._break(query.removeprefix("how="))
        if BROKEN & {"reset"} or ("cut" in BROKEN and path != "/readyz" and self._cut()):
            return self._hang_up()
        if path == "/readyz":
            status = next((READY[how] for how in BROKEN if how in READY), 200)
            if "hang" in BROKEN:
                time.sleep(60)
            return self._answer(status, {"ready": status == 200})
        status = 200
        for how in BROKEN & ANSWERS.keys():
            worse, seconds, share = ANSWERS[how]
            if DICE.random() < share:
                time.sleep(seconds)
                status = max(status, worse)
        self._log(path, status)
        return self._answer(status, {"path": "/elsewhere" if "other-json" in BROKEN else path})

    def _log(self, path: str, status: int) -> None:
        if "logs-only" in BROKEN:
            say("error", "cannot send mail", path=path)
        if "chatty" in BROKEN:
            say("info", "no error, ERROR is only a word", path=path)
        say("error" if status >= 500 else "info", "request", path=path, status=status)

    def _break(self, how: str) -> None:
        BROKEN.add(how)
        act = ACTS.get(how)
        if act:
            act()
        self._answer(200, {"broken": how})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json", "Content-Length": str(len(text)), "X-Color": COLOR,
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def _cut(self) -> bool:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"{")
        return True

    def _hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing here; requests are logged as JSON lines."""


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("0.0.0.0", 8000), Service).serve_forever()
