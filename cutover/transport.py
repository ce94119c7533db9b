"""An HTTP transport with a wall clock: a request is over, body and all, when its time is."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx


@dataclass(slots=True)
class _Wall(threading.local):
    """The moment at which the question that this thread asks is over."""

    at: float = float("inf")

    def left(self, timeout: float | None, error: type[Exception]) -> float:
        """The seconds that one operation may take; raises *error* when there are none left."""
        left = min(self.at - time.monotonic(), float("inf") if timeout is None else timeout)
        if left <= 0:
            raise error("deadline")
        return left


class _Stream(httpcore.NetworkStream):
    """A connection on which each read and write ends at the wall, however little by little it comes."""

    def __init__(self, inner: httpcore.NetworkStream, wall: _Wall) -> None:
        self.inner, self.wall = inner, wall

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, self.wall.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, self.wall.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self.wall.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self.inner.start_tls(ssl_context, server_hostname, left), self.wall)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    """Opens connections that know the wall."""

    def __init__(self, wall: _Wall) -> None:
        self.wall = wall

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self.wall.left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, left, local_address, socket_options), self.wall)


class Transport(httpx.BaseTransport):
    """Sends requests that are over, body and all, *deadline_s* after they began.

    httpx's own timeouts hold for each read alone, so a body that drips is waited for without end; its own
    transport has no place for a clock, hence this one on httpcore. The extension `wall` of a request is a
    deadline of its own.
    """

    def __init__(self, deadline_s: float, context: ssl.SSLContext | None, *, keep_alive: bool = True) -> None:
        self.deadline_s, self.wall = deadline_s, _Wall()
        self.pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=1000,
            max_keepalive_connections=1000 if keep_alive else 0,
            network_backend=_Backend(self.wall),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer to *request*, its body still to be read; raises httpx's own errors."""
        self.wall.at = time.monotonic() + float(request.extensions.get("wall", self.deadline_s))
        with _errors_of_httpx():
            answer = self.pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    def close(self) -> None:
        """Close every connection."""
        self.pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self.answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _errors_of_httpx():
            yield from self.answer.iter_stream()

    def close(self) -> None:
        with _errors_of_httpx():
            self.answer.close()


@contextmanager
def _errors_of_httpx() -> Iterator[None]:
    """Each error of httpcore has a namesake in httpx, which callers know."""
    try:
        yield
    except Exception as error:
        namesake = getattr(httpx, type(error).__name__, None)
        if type(error).__module__.startswith("httpcore") and namesake:
            raise namesake(str(error)) from error
        raise
