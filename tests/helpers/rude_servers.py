"""HTTP servers on free ports that misbehave: resets, silence, endless responses."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cutover.core.target import ControlProbe

GOOD = ControlProbe(lambda: True, "the engine says that it runs")
BAD = ControlProbe(lambda: False, "the engine")

Talk = Callable[[socket.socket, bytes], None]
"""Handles a connection, given the head of its request; the connection is closed afterwards."""


def response(status: int = 200, body: Any = None, *headers: str, kind: str = "application/json") -> bytes:
    """An HTTP response as bytes; a body that is not a string is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {kind}",
        f"content-length: {len(text.encode())}",
        *headers,
    ]
    return "\r\n".join([*lines, "connection: close", "", text]).encode()


def says(*answers: bytes) -> Talk:
    """Send each of *answers* in turn, then repeat the last one."""
    left = list(answers)

    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return talk


def in_turn(*talks: Talk) -> Talk:
    """Use each of *talks* in turn, then repeat the last one."""
    left = list(talks)

    def talk(connection: socket.socket, request: bytes) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection, request)

    return talk


def hang_up(connection: socket.socket, _request: bytes) -> None:
    """Reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def say_nothing(connection: socket.socket, _request: bytes) -> None:
    """Send nothing and wait until the client disconnects."""
    connection.recv(1)


def drip(head: bytes, over: threading.Event) -> Talk:
    """Send *head*, then single bytes without end."""

    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head)
        while not over.wait(0.02):
            connection.sendall(b"x")

    return talk


@contextmanager
def serving(talk: Talk) -> Iterator[str]:
    """Base URL of a server that handles each connection with *talk*."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, talk), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, talk: Talk) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_talk, args=(connection, talk), daemon=True).start()


def _talk(connection: socket.socket, talk: Talk) -> None:
    with connection:
        try:
            request = b""
            while not _whole(request) and (more := connection.recv(65536)):
                request += more
            talk(connection, request)
        except OSError:
            return


def _whole(request: bytes) -> bool:
    """Whether the head of a request, or a TLS ClientHello, has arrived."""
    return b"\r\n\r\n" in request or request.startswith(b"\x16")


SILENT = socket.socket()  # bound but not listening: the port stays reserved and refuses connections
SILENT.bind(("127.0.0.1", 0))


def nobody() -> str:
    """Base URL of a port that refuses connections."""
    return f"http://127.0.0.1:{SILENT.getsockname()[1]}"
