"""A client that writes rows continuously and records which ones were acknowledged."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PATIENCE_S = 60
CREATED = 201


@dataclass(slots=True)
class Writer:
    """Rows written to the service at *url*, on one connection per call of `write`."""

    url: str
    acknowledged: list[str] = field(default_factory=list)
    failed: int = 0
    """Requests without an acknowledgment; their rows may or may not be stored."""
    _made: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, over: threading.Event, pause_s: float) -> None:
        """Write rows one after the other on a keep-alive connection until *over* is set."""
        connection = self._connect()
        while not over.wait(pause_s):
            text = self._next()
            if self._sent(connection, text):
                self.acknowledged.append(text)
                continue
            with self._lock:
                self.failed += 1
            connection.close()
            connection = self._connect()
        connection.close()

    def until(self, count: int, deadline_s: float) -> None:
        """Wait until *count* rows are acknowledged in total; TimeoutError after the deadline."""
        deadline = time.monotonic() + deadline_s
        while len(self.acknowledged) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.acknowledged)} of {count} rows after {deadline_s:g} s")
            time.sleep(0.05)

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE_S)

    def _next(self) -> str:
        with self._lock:
            self._made += 1
            return f"row {self._made}"

    def _sent(self, connection: http.client.HTTPConnection, text: str) -> bool:
        """Whether the service acknowledged exactly this row."""
        try:
            connection.request(
                "POST", "/memories", json.dumps({"text": text}), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            said = json.loads(answer.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError):
            return False
        return answer.status == CREATED and said.get("text") == text


@contextmanager
def writing(writer: Writer, *, connections: int = 1, per_second: float = 20) -> Iterator[Writer]:
    """Write until the block ends, at most *per_second* rows per second on each connection."""
    over = threading.Event()
    words = (over, 1 / per_second)
    threads = [threading.Thread(target=writer.write, args=words, daemon=True) for _ in range(connections)]
    for each in threads:
        each.start()
    try:
        yield writer
    finally:
        over.set()
        for each in threads:
            each.join(PATIENCE_S + 2)
