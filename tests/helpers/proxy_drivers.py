"""Helpers for the tests of proxy drivers: a raw HTTP server, settings with a `[proxy]` table, running a change."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from cutover.core.change import Argv, Change
from cutover.core.config import Settings
from cutover.proxy.base import ProxyClient
from cutover.proxy.place import Follower, Front, FrontFile
from cutover.system import process
from cutover.system.process import CompletedCommand
from cutover.system.ssh import SshHost
from cutover.watch.check import at_once

UNREACHABLE = ProxyClient("http://127.0.0.1:1", "/version", "/__cutover/alive", "X-Color")


@dataclass(frozen=True, slots=True)
class NearFront(Front):
    """A front that is this host, reached without ssh: its commands are run as they are."""

    def follow(self, path: Path) -> Follower:
        """Return what reads the file, in this thread, as if a second went by before each read."""
        clock = count()
        return FrontFile(partial(self.read, path), at_once, lambda: float(next(clock)))

    def _ask(self, words: Argv, deadline_s: float) -> CompletedCommand:
        return process.run(words, deadline_s=deadline_s, mask=False)


def near(name: str) -> NearFront:
    """The front of this name."""
    return NearFront(SshHost(name, None))


def run_change(change: Change) -> int:
    """Run the command of *change* and return its exit code."""
    return subprocess.run(change.do, check=False, capture_output=True).returncode


def run_undo(change: Change) -> int:
    """Run the undo lines of *change* as the undo script does and return the exit code."""
    argv = ("sh", "-eu", "-c", "\n".join(change.undo))
    return subprocess.run(argv, check=False, capture_output=True).returncode


def proxy_settings(**proxy: object) -> Settings:
    """Settings with this `[proxy]` table."""
    table = {
        "project": "recall",
        "state_dir": "/s/recall",
        "colors": {"blue": {"env_file": "/b"}, "green": {"env_file": "/g"}},
        "proxy": proxy,
    }
    return Settings.model_validate(table)


def raw_response(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An HTTP response as bytes."""
    lines = (f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


@contextmanager
def answering(**answers: bytes) -> Iterator[int]:
    """Port of a server that sends the bytes given for each path; `drip` then sends one byte at a time without end."""
    door = socket.create_server(("127.0.0.1", 0))
    gone = threading.Event()

    def serve() -> None:
        while True:
            try:
                one, _ = door.accept()
            except OSError:
                return
            with one:
                path = one.recv(4096).split(b" ")[1].decode().strip("/")
                one.sendall(answers[path])
                while path == "drip" and not gone.wait(0.02):
                    try:
                        one.sendall(b"x")
                    except OSError:
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield door.getsockname()[1]
    finally:
        gone.set()
        door.shutdown(socket.SHUT_RDWR)
        door.close()
        thread.join()
