"""HTTP/1.1 on one kept-alive connection, as small as a proof needs: a pool would hide what it must show."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cutover.proxies.asking import MOST_BYTES, Answer, Trust, tls_context

WITHOUT_BODY = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Place:
    """Where connections go: from a base URL."""

    host: str
    port: int
    prefix: str = ""
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str, *, verify: Trust = True) -> Place:
        """The place of *url*."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        return cls(
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            parts.path.rstrip("/"),
            tls_context(verify) if secure else None,
        )


class Broken(Exception):
    """The connection ended, or said what is no HTTP, in the middle of an answer."""


@dataclass(slots=True)
class Connection:
    """One connection that is kept open; closed cleanly between two requests it opens again, counted."""

    place: Place
    reopened: int = 0
    asked: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """HTTP/1.1 carries one request at a time."""
    _reader: asyncio.StreamReader | None = field(default=None, repr=False)
    _writer: asyncio.StreamWriter | None = field(default=None, repr=False)

    async def open(self) -> None:
        """Connect where there is no connection; that it had been asked on before counts as reopened."""
        if self._reader is not None and not self._reader.at_eof():
            return
        self.reopened += self.asked > 0
        self.close()
        place = self.place
        self._reader, self._writer = await asyncio.open_connection(place.host, place.port, ssl=place.tls)

    async def ask(self, method: str, path: str, body: bytes = b"", within_s: float = 10.0) -> Answer:
        """The answer to one request; status 0 with the error when there was none within *within_s*."""
        try:
            async with asyncio.timeout(within_s), self.turn:
                await self.open()
                self.asked += 1
                return await self._exchange(method, path, body)
        except TimeoutError:
            self.close()
            return Answer(0, error=f"no answer after {within_s:g} s")
        except (OSError, EOFError, ValueError, Broken) as error:
            self.close()
            return Answer(0, error=f"{type(error).__name__}: {error}".rstrip(": "))

    def close(self) -> None:
        """Close it; the next request opens another one."""
        if self._writer is not None:
            with suppress(OSError, RuntimeError):  # a loop that is closing
                self._writer.close()
        self._reader = self._writer = None

    async def _exchange(self, method: str, path: str, body: bytes) -> Answer:
        reader, writer = self._reader, self._writer
        assert reader is not None and writer is not None  # noqa: S101, PT018 - just opened
        writer.write(request(self.place, method, path, body))
        await writer.drain()
        status, headers = await _head(reader)
        read = b"" if method == "HEAD" or status in WITHOUT_BODY else await _body(reader, headers)
        if "close" in headers.get("connection", "").lower():
            self.close()
        return Answer(status, headers, read)


def request(place: Place, method: str, path: str, body: bytes = b"") -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {place.prefix}{path} HTTP/1.1", f"Host: {place.host}:{place.port}"]
    if body or method in {"POST", "PUT", "PATCH"}:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "\r\n"]).encode() + body


async def _head(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str]]:
    """Status and headers, names in lower case."""
    first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, _, tail = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise Broken(f"no HTTP: {first[:40]!r}")
    pairs = (line.partition(":") for line in rest if line)
    return int(tail[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """The body to its end, of which the beginning is kept."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader)
    if "content-length" in headers:
        return (await reader.readexactly(int(headers["content-length"])))[:MOST_BYTES]
    return (await reader.read())[:MOST_BYTES]


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    kept = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        part = (await reader.readexactly(size + 2))[:-2]
        kept = (kept + part)[:MOST_BYTES]
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass  # trailers
    return kept
