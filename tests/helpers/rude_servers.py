"""Real servers on free ports, as rude as services can be."""

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
"""What a server does with a connection and the head of its request; it is closed afterwards."""


def response(status: int = 200, body: Any = None, *headers: str, kind: str = "application/json") -> bytes:
    """A whole HTTP response; a body that is no text is sent as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {kind}",
        f"content-length: {len(text.encode())}",
        *headers,
    ]
    return "\r\n".join([*lines, "connection: close", "", text]).encode()


def says(*answers: bytes) -> Talk:
    """Answers with each of *answers* in turn, then with the last one for ever."""
    left = list(answers)

    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return talk


def in_turn(*talks: Talk) -> Talk:
    """Behaves like each of *talks* in turn, then like the last one for ever."""
    left = list(talks)

    def talk(connection: socket.socket, request: bytes) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(connection, request)

    return talk


def hang_up(connection: socket.socket, _request: bytes) -> None:
    """Resets the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def say_nothing(connection: socket.socket, _request: bytes) -> None:
    """Reads, and answers only when the client has gone."""
    connection.recv(1)


def drip(head: bytes, over: threading.Event) -> Talk:
    """Sends *head*, then a byte every now and then, without end."""

    def talk(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(head)
        while not over.wait(0.02):
            connection.sendall(b"x")

    return talk


@contextmanager
def serving(talk: Talk) -> Iterator[str]:
    """The base URL of a server that treats each connection with *talk*."""
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
    """Whether the head of a request has arrived, or the hello of TLS."""
    return b"\r\n\r\n" in request or request.startswith(b"\x16")


SILENT = socket.socket()  # bound and never listening: the port stays ours, and refuses
SILENT.bind(("127.0.0.1", 0))


def nobody() -> str:
    """The base URL of a port where nobody listens."""
    return f"http://127.0.0.1:{SILENT.getsockname()[1]}"
