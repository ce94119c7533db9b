"""Helpers for the tests of proxy drivers: a raw HTTP server, settings with a `[proxy]` table, running a change."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cutover.core.change import Change
from cutover.core.config import Settings
from cutover.proxy.base import ProxyClient

UNREACHABLE = ProxyClient("http://127.0.0.1:1", "/version", "/__cutover/alive", "X-Color")


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
