"""Runs inside the service's container (`python3 -c`): asks each dependency its own protocol's first question.

Standard library only, for any Python 3.7 or newer: it is the container's Python, not ours. Reads a JSON list of
dependencies from its first argument; writes one JSON object, name to answer. Values of the environment stay here:
an answer holds milliseconds or an error, never a URL.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

if TYPE_CHECKING:
    import ssl

DEADLINE_S = 3.0
SERVER_ERROR = 500
PORTS = {"postgres": 5432, "redis": 6379, "http": 80}
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def ask(one: dict[str, Any]) -> dict[str, Any]:
    """The answer of one dependency: `{"ms": 1.2}`, `{"error": "…"}` or `{"unset": "DATABASE_URL"}`."""
    url = one.get("url") or os.environ.get(one.get("url_key", ""), "")
    if not url:
        return {"unset": one.get("url_key") or "url"}
    if one.get("kind") == "http":
        import http.client  # noqa: F401 - its loading is not the dependency's time
    begun = time.monotonic()
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else PORTS.get(one["kind"], 0))
        KINDS[one["kind"]](parts, parts.hostname or "", port, one.get("path", ""))
    except Refused as error:
        return {"error": str(error)}
    except socket.gaierror:
        return {"error": "its host name is not known here"}
    except socket.timeout:  # noqa: UP041 - another class before Python 3.10
        return {"error": f"no answer in {DEADLINE_S:g} s"}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
        return {"error": getattr(error, "strerror", None) or type(error).__name__}
    return {"ms": round((time.monotonic() - begun) * 1000, 1)}


class Refused(Exception):
    """It answered, and the answer is a no; the text is what it said."""


def tcp(_parts: SplitResult, host: str, port: int, _path: str) -> None:
    """A connection is all that can be asked."""
    socket.create_connection((host, port), DEADLINE_S).close()


def postgres(parts: SplitResult, host: str, port: int, _path: str) -> None:
    """An SSLRequest, then the start-up message: a server that starts, or is full, says so."""
    with socket.create_connection((host, port), DEADLINE_S) as plain:
        plain.sendall(SSL_REQUEST)
        said = plain.recv(1)
        if said not in {b"S", b"N"}:
            raise Refused(f"not PostgreSQL: it answered an SSLRequest with {said!r}")
        with _tls(plain) if said == b"S" else plain as server:
            database = unquote(parts.path.strip("/")) or "postgres"
            words = {"user": unquote(parts.username or "cutover"), "database": database}
            body = (
                b"".join(key.encode() + b"\0" + value.encode() + b"\0" for key, value in words.items())
                + b"\0"
            )
            server.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
            kind = server.recv(1)
            if kind == b"E":
                raise Refused(_postgres_error(server.recv(4096)))
            if kind != b"R":
                raise Refused(f"not PostgreSQL: it answered the start-up message with {kind!r}")


def _postgres_error(text: bytes) -> str:
    """The message field of an ErrorResponse."""
    fields = text[4:].split(b"\0")
    return next((field[1:].decode(errors="replace") for field in fields if field[:1] == b"M"), "an error")


def _tls(plain: socket.socket) -> ssl.SSLSocket:
    """TLS without verification: whether it answers is asked, whether it is trusted is the service's business."""
    import ssl  # half of the start-up, for one who needs it

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def redis(parts: SplitResult, host: str, port: int, _path: str) -> None:
    """PING; who wants a password first is there, who loads its data is not."""
    plain = socket.create_connection((host, port), DEADLINE_S)
    with _tls(plain) if parts.scheme == "rediss" else plain as server:
        server.sendall(b"PING\r\n")
        said = server.recv(200).split(b"\r\n")[0].decode(errors="replace")
    if said != "+PONG" and not said.startswith("-NOAUTH"):
        raise Refused(said.lstrip("-") or "no answer")


def web(parts: SplitResult, host: str, port: int, path: str) -> None:
    """GET; a 401 is an answer too, a 5xx is a no."""
    import http.client

    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path or parts.path or "/", headers={"User-Agent": "cutover"})
        answer = connection.getresponse()
        answer.read(65536)
    finally:
        connection.close()
    if answer.status >= SERVER_ERROR:
        raise Refused(f"status {answer.status}")


KINDS = {"tcp": tcp, "postgres": postgres, "redis": redis, "http": web}


def ask_all(wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """All of them at once, so that one that hangs delays no other."""
    found = {}
    threads = [
        threading.Thread(target=lambda each=each: found.update({each["name"]: ask(each)})) for each in wanted
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask_all(json.loads(sys.argv[1]))))
