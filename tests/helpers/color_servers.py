"""Two HTTP backends in this process, and proxies as child processes, for the tests of the drivers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60.0


def free_port() -> int:
    """A free port on the loopback interface."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str, within_s: float = DEADLINE_S) -> None:
    """Poll *true* until it holds; TimeoutError after *within_s* seconds."""
    until = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not so after {within_s:g} s")
        time.sleep(0.01)


@dataclass
class Backend:
    """A color: an HTTP server that sends its name in X-Color.

    `/slow?s=2` responds after two seconds, `/stream?n=20&every=0.1` in chunks, `/ws` echoes lines over a WebSocket.
    With `&hold=1` the response ends only after `let_go` is set, so that a test does not depend on timing.
    """

    color: str
    port: int = 0
    in_flight: int = 0
    asked: int = 0
    status: int = 200
    let_go: bool = False
    hangs: bool = False
    """Whether no request is answered, but for `/alive`."""
    says_its_color: bool = True
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self) -> asyncio.Server:
        """Start to listen and set `port`."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(OSError, EOFError, asyncio.CancelledError):
            while await self._one(reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        method, target, _ = head[0].split(" ", 2)
        sent = await reader.readexactly(int(headers.get("content-length", 0)))
        self.asked += 1
        self.in_flight += 1
        try:
            await self._answer(reader, writer, method, target, headers, sent)
            await writer.drain()
        finally:
            self.in_flight -= 1
        return headers.get("connection", "").lower() != "close" and "upgrade" not in headers

    async def _held(self, query: dict[str, float]) -> None:
        while query.get("hold") and not self.let_go:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        target: str,
        headers: dict[str, str],
        sent: bytes,
    ) -> None:
        parts = urlsplit(target)
        query = {key: float(value[0]) for key, value in parse_qs(parts.query).items()}
        common = f"X-Color: {self.color}\r\n" if self.says_its_color else ""
        if parts.path == "/ws":
            key = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + WEBSOCKET).digest())  # noqa: S324
            writer.write(
                f"HTTP/1.1 101 Switching Protocols\r\n{common}Upgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {key.decode()}\r\n\r\n".encode()
            )
            while line := await reader.readline():  # a proxy does not parse the frames
                writer.write(self.color.encode() + b" " + line)
                await writer.drain()
            return
        if parts.path == "/cut":
            writer.write(f"HTTP/1.1 200 OK\r\n{common}Content-Length: 1000\r\n\r\nonly this".encode())
            await writer.drain()
            writer.close()
            return
        if parts.path == "/stream":
            writer.write(f"HTTP/1.1 200 OK\r\n{common}Transfer-Encoding: chunked\r\n\r\n".encode())
            for number in range(int(query["n"])):
                writer.write(b"5\r\n%04d\n\r\n" % number)
                await writer.drain()
                await asyncio.sleep(query["every"])
            await self._held(query)
            writer.write(b"0\r\n\r\n")
            return
        await asyncio.sleep(3600 if self.hangs and parts.path != "/alive" else query.get("s", 0))
        await self._held(query)
        body = json.dumps({"service": "recall", "method": method, "got": len(sent)}).encode()
        writer.write(
            f"HTTP/1.1 {self.status} X\r\n{common}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )


@dataclass
class Colors:
    """Both backends, served by one event loop in a separate thread."""

    blue: Backend
    green: Backend
    stop: Callable[[str], None]

    def __getitem__(self, color: str) -> Backend:
        return self.blue if color == "blue" else self.green

    @property
    def ports(self) -> dict[str, int]:
        return {"blue": self.blue.port, "green": self.green.port}


@contextmanager
def two_colors() -> Iterator[Colors]:
    """Blue and green, each on a free port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: object) -> object:
        return asyncio.run_coroutine_threadsafe(work, loop).result(DEADLINE_S)  # type: ignore[arg-type]

    pair = {name: Backend(name) for name in ("blue", "green")}
    servers = {name: run(each.serve()) for name, each in pair.items()}

    async def stop(color: str) -> None:
        servers[color].close()  # type: ignore[attr-defined]
        for writer in list(pair[color]._writers):
            writer.close()

    try:
        yield Colors(pair["blue"], pair["green"], lambda color: (run(stop(color)), None)[1])
    finally:
        for color in pair:
            run(stop(color))
        run(_cancel_all())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_all() -> None:
    others = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
    for each in others:
        each.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def process(words: Sequence[str], log: Path, ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server as a child process until the block ends; its output goes to *log* and into the error if it fails."""
    with log.open("wb") as out:
        child = subprocess.Popen(list(words), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        try:
            wait_until(lambda: ready() or child.poll() is not None, f"{words[0]} answers")
        finally:
            if child.poll() is not None:
                raise RuntimeError(f"{words[0]} ended with {child.returncode}: {log.read_text()[-2000:]}")
        yield child
    finally:
        child.terminate()
        try:
            child.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def listens(port: int) -> bool:
    """Whether *port* accepts connections."""
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def tool(name: str, package: str) -> str:
    """Path of a server binary; skips the test with the package to install if it is missing."""
    import pytest

    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin")
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install --no-install-recommends {package}")
    return found
