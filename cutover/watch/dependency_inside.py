"""Stand-alone script that runs inside the service's container (`python3 -c`) and asks each dependency for an answer.

Standard library only, for Python 3.7 or newer: it runs on the container's Python. Reads a JSON list of dependencies
from its first argument; writes one JSON object, name to answer. An answer holds milliseconds or an error, never a
URL or another value of the environment.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

if TYPE_CHECKING:
    import ssl

ANSWER_DEADLINE_S = 3.0
HTTP_ERROR = 500
PORTS = {"postgres": 5432, "redis": 6379, "http": 80}
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


def ask_one(one: dict[str, Any]) -> dict[str, Any]:
    """The answer of one dependency: `{"ms": 1.2}`, `{"error": "…"}`, or `{"why_not": "…"}` if nobody is asked."""
    url, url_key = one.get("url") or os.environ.get(one.get("url_key", ""), ""), one.get("url_key") or "url"
    if not url:
        return {"why_not": f"{url_key} is not set in the container"}
    unreadable = {"why_not": f"the URL in {url_key} cannot be read"}
    if one.get("kind") == "http":
        import http.client  # noqa: F401 - loaded here so that it does not count as the dependency's time
    begun = time.monotonic()
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else PORTS.get(one["kind"], 0))
        if not parts.hostname or not port:
            lacking = "port" if parts.hostname else "host"
            return {"why_not": f"the URL in {url_key} names no {lacking}"}
        # An @ behind the host: a password with / # or ?, which drivers accept, and another host than it seems.
        hidden = "@" not in parts.netloc and "@" in url and one["kind"] != "http"
        if hidden or "," in parts.netloc.rpartition("@")[2]:
            return unreadable
        PROTOCOLS[one["kind"]](parts, parts.hostname, port, one.get("path", ""))
    except Refused as error:
        return {"error": str(error)}
    except socket.gaierror:
        return {"error": "its host name is not known here"}
    except socket.timeout:  # noqa: UP041 - a class of its own before Python 3.10
        return {"error": f"no answer in {ANSWER_DEADLINE_S:g} s"}
    except OSError as error:
        return {"error": error.strerror or type(error).__name__}
    except Exception:  # noqa: BLE001 - a port that is no number, several hosts: nobody was asked
        return unreadable
    return {"ms": round((time.monotonic() - begun) * 1000, 1)}


class Refused(Exception):
    """The dependency answered with an error; the text is its message."""


def tcp(_parts: SplitResult, host: str, port: int, _path: str) -> None:
    """Open a connection: of an unknown protocol there is no more to ask."""
    socket.create_connection((host, port), ANSWER_DEADLINE_S).close()


def postgres(parts: SplitResult, host: str, port: int, _path: str) -> None:
    """Send an SSLRequest and the start-up message: a server that is starting or full answers with an error."""
    with socket.create_connection((host, port), ANSWER_DEADLINE_S) as plain:
        plain.sendall(SSL_REQUEST)
        reply = _first_byte(plain)
        if reply == b"E":
            raise Refused(_postgres_error(plain.recv(4096)))
        if reply not in {b"S", b"N"}:
            raise Refused(f"not PostgreSQL: it answered an SSLRequest with {reply!r}")
        with _tls(plain) if reply == b"S" else plain as server:
            database = unquote(parts.path.strip("/")) or "postgres"
            parameters = {"user": unquote(parts.username or "cutover"), "database": database}
            words = [word for pair in parameters.items() for word in pair]
            body = b"".join(word.encode() + b"\0" for word in [*words, ""])
            server.sendall(struct.pack("!ii", 8 + len(body), 196608) + body)
            kind = _first_byte(server)
            if kind == b"E":
                raise Refused(_postgres_error(server.recv(4096)))
            if kind != b"R":
                raise Refused(f"not PostgreSQL: it answered the start-up message with {kind!r}")


def _first_byte(server: socket.socket) -> bytes:
    """The first byte of an answer: without one, it is not known what listens there."""
    byte = server.recv(1)
    if not byte:
        raise Refused("it closed the connection without an answer")
    return byte


def _postgres_error(text: bytes) -> str:
    if text[:1] != b"\0":  # a server that can start no process for the connection sends plain text
        return text.split(b"\0")[0].decode(errors="replace").strip() or "an error"
    fields = text[4:].split(b"\0")
    return next((field[1:].decode(errors="replace") for field in fields if field[:1] == b"M"), "an error")


def _tls(plain: socket.socket) -> ssl.SSLSocket:
    """TLS without verification: only whether the dependency answers is asked."""
    import ssl  # imported here because it doubles the start-up time

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def redis(parts: SplitResult, host: str, port: int, _path: str) -> None:
    """Send PING: NOAUTH is an answer too, LOADING is an error."""
    plain = socket.create_connection((host, port), ANSWER_DEADLINE_S)
    with _tls(plain) if parts.scheme == "rediss" else plain as server:
        server.sendall(b"PING\r\n")
        reply = (_first_byte(server) + server.recv(199)).split(b"\r\n")[0].decode(errors="replace")
    if reply != "+PONG" and not reply.startswith("-NOAUTH"):
        raise Refused(reply.lstrip("-") or "no answer")


def web(parts: SplitResult, host: str, port: int, path: str) -> None:
    """Send GET: a 401 is an answer too, a 5xx is an error."""
    import http.client

    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(host, port, timeout=ANSWER_DEADLINE_S)
    try:
        connection.request("GET", path or parts.path or "/", headers={"User-Agent": "cutover"})
        answer = connection.getresponse()
        answer.read(65536)
    except http.client.HTTPException as error:
        if isinstance(error, (OSError, http.client.InvalidURL)):
            raise
        raise Refused(f"not HTTP: {type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status >= HTTP_ERROR:
        raise Refused(f"status {answer.status}")


PROTOCOLS = {"tcp": tcp, "postgres": postgres, "redis": redis, "http": web}


def ask_all(wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """The answers by name; all are asked in parallel, so that one that hangs does not delay the others."""
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        calls = {each["name"]: pool.submit(ask_one, each) for each in wanted}
        return {name: call.result() for name, call in calls.items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(ask_all(json.loads(sys.argv[1]))))
