"""A small HTTP service in this process, which answers each request as a function says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Service:
    """Where it listens, and what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)


def json_answer(value: Any, status: int = 200) -> Answer:
    """An answer with JSON."""
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())


def release_answer(tag: str, **more: str) -> Callable[[Asked], Answer]:
    """The answers of a service that is always ready and says at `/version` that it is *tag*, and *more*."""
    version = {**more, "version": tag}
    return lambda asked: json_answer(version if asked.path == "/version" else {"ready": True})


@contextmanager
def serving(answer: Callable[[Asked], Answer]) -> Iterator[Service]:
    """A service that answers by *answer*, on connections that stay open, until the block ends."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: the second one would wait for an acknowledgement

        def do_GET(self) -> None:
            """Answer any method."""
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length") or 0))
            asked = Asked(self.command, self.path, headers, body)
            service.asked.append(asked)
            found = answer(asked)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body)

        # The names that http.server calls.
        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_QUERY = do_GET  # noqa: N815

        def log_message(self, *_words: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True  # a client may keep its connection open
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
