"""The HTTP client: a wall deadline for the whole exchange, no redirects, no response as a value.

It is built on h11 and on plain sockets: httpx takes longer to import than a gate takes to ask. The fixture of a
team's own tests is an `httpx.Client` on top of it (`cutover.system.httpx_client`).
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

import h11

from cutover.core.errors import EngineUnavailable
from cutover.core.target import ControlProbe
from cutover.core.text import parse_json
from cutover.core.verdict import Verdict, no, shortened, unknown

SAFE_METHODS = frozenset({"GET", "HEAD"})
MAX_BODY_BYTES = 10 * 2**20  # an endless body must not fill the memory
MAX_HEAD_BYTES = 100 * 1024
READ_BYTES = 64 * 1024
MAX_TRIES = 3
RETRY_PAUSE_S = 0.25
DEFAULT_DEADLINE_S = 5.0
KEPT_OPEN_S = 0.25
URL_CHARACTERS = "/%:?[]@!$&'()*+,;=~"

TlsVerify = str | bool
"""How a server's certificate is verified: by a CA file, by the known authorities (True), or not at all (False)."""
Headers = Mapping[str, str]
ResponseEvent = h11.Response | h11.Data | h11.EndOfMessage
ResponseEvents = Generator[ResponseEvent, None, None]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response; header names are in lower case."""

    status: int
    headers: Headers = field(default_factory=dict)
    body: str = ""
    url: str = ""
    seconds: float = 0.0
    silences: tuple[str, ...] = ()
    """Why earlier tries of the same request got no response."""

    def json(self) -> Any:
        """The parsed JSON body; raises ValueError if the content type or the body is not JSON."""
        kind = self.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise ValueError(f"content-type {kind or '(none)'}")
        return parse_json(self.body)

    @property
    def evidence(self) -> dict[str, Any]:
        """The part that a report may show: no headers, because some hold secrets."""
        seen = {"url": self.url, "status": self.status, "body": shortened(self.body)}
        silent = {"silent_before": list(self.silences)} if self.silences else {}
        return seen | {"seconds": round(self.seconds, 4)} | silent


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No response; `kind` is `refused`, `reset`, `timeout`, `tls` or `garbage`, `reason` says it in words.

    Its status is 0 and its headers and body are empty, for callers that need not tell it from a bad response.
    """

    kind: str
    reason: str
    url: str = ""
    seconds: float = 0.0
    status: ClassVar[int] = 0
    headers: ClassVar[Headers] = {}
    body: ClassVar[str] = ""

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Host, port, path prefix and TLS context of a base URL."""

    host: str
    port: int
    prefix: str = ""
    tls: ssl.SSLContext | None = None
    authority: str = ""
    """The value of the Host header."""
    socket_path: str = ""
    """The Unix socket that is connected to instead of host and port."""

    @classmethod
    def of(cls, url: str, *, verify: TlsVerify = True) -> HttpAddress:
        """The address of *url* (http, https, unix); raises OSError if the CA file *verify* cannot be read."""
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return cls("localhost", 0, socket_path=parts.path)
        tls = parts.scheme == "https"
        context = tls_context(verify) if tls else None
        host, port = parts.hostname or "", parts.port or (443 if tls else 80)
        return cls(host, port, parts.path.rstrip("/"), context, parts.netloc.rpartition("@")[2])


def tls_context(verify: TlsVerify) -> ssl.SSLContext:
    """The TLS context for *verify*; raises OSError, which names the CA file that cannot be read."""
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror or error}: {verify}") from error
    if verify is True:
        with suppress(ImportError):  # slim images have no authorities of the system
            import certifi

            context.load_verify_locations(certifi.where())
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# --- HTTP/1.1 without I/O, also for the asynchronous connections of the switch proof ---
class ExchangeError(OSError):
    """An exchange ended without a complete response: `kind` and reason as in `NoResponse`."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def new_exchange() -> h11.Connection:
    """The protocol state of one connection."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)


def request_bytes(
    exchange: h11.Connection,
    address: HttpAddress,
    method: str,
    path: str,
    headers: Headers | None = None,
    body: bytes = b"",
) -> bytes:
    """The bytes of one request; raises ExchangeError for a method, path or header that HTTP forbids."""
    names = {"host": address.authority or f"{address.host}:{address.port}", **(headers or {})}
    if body or method in {"POST", "PUT", "PATCH"}:
        names.setdefault("content-length", str(len(body)))
    target = quote((address.prefix + path).partition("#")[0], safe=URL_CHARACTERS)
    try:
        head = exchange.send(h11.Request(method=method, target=target, headers=[*names.items()]))
        data = exchange.send(h11.Data(data=body)) if body else b""
        end = exchange.send(h11.EndOfMessage())
    except h11.LocalProtocolError as error:
        raise ExchangeError("garbage", f"not HTTP: {error}") from error
    return (head or b"") + (data or b"") + (end or b"")


def response_events(exchange: h11.Connection, data: bytes) -> Iterator[ResponseEvent]:
    """What *data* (empty: the connection was closed) adds to the response; raises ExchangeError."""
    started = exchange.their_state is not h11.SEND_RESPONSE or bool(exchange.trailing_data[0])
    try:
        exchange.receive_data(data)
        while True:
            event = exchange.next_event()
            if isinstance(event, h11.Response | h11.Data | h11.EndOfMessage):
                yield event
            if isinstance(event, h11.EndOfMessage) or event is h11.NEED_DATA or event is h11.PAUSED:
                return
    except h11.RemoteProtocolError as error:
        if data:
            raise ExchangeError("garbage", f"not HTTP: {error}") from error
        where = "in the middle of the answer" if started else "without an answer"
        raise ExchangeError("reset", f"connection closed {where}") from error


def can_reuse(exchange: h11.Connection) -> bool:
    """Whether the connection may carry another request; its state is then ready for it.

    Bytes beyond the length that an answer has declared would be read as the next one.
    """
    if exchange.our_state is exchange.their_state is h11.DONE and not exchange.trailing_data[0]:
        exchange.start_next_cycle()
        return True
    return False


def header_table(response: h11.Response) -> dict[str, str]:
    """The headers, names in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers}


def no_response(error: OSError, url: str, seconds: float, deadline_s: float | None = None) -> NoResponse:
    """What *error*, which ended an exchange after *seconds*, means; *deadline_s* is named instead if given."""
    kind, reason = "reset", "connection closed without an answer"
    if isinstance(error, ExchangeError):
        kind, reason = error.kind, str(error)
    elif isinstance(error, TimeoutError):
        given = f"{seconds:.1f}" if deadline_s is None else f"{deadline_s:g}"
        kind, reason = "timeout", f"no complete answer in {given} s"
    elif isinstance(error, ssl.SSLError):
        kind, reason = "tls", f"TLS failed: {error.reason or error}"
    elif isinstance(error, ConnectionRefusedError):
        kind, reason = "refused", "connection refused"
    return NoResponse(kind, reason, url, seconds)


def connect_error(error: OSError | UnicodeError) -> OSError:
    """What to raise for *error*, which ended the attempt to connect; a UnicodeError is of a host that is no name."""
    if isinstance(error, TimeoutError | ssl.SSLError | ConnectionRefusedError):
        return error
    why = "no host has such a name" if isinstance(error, UnicodeError) else error
    return ExchangeError("refused", f"no connection: {why}")


# --- the client ---
@dataclass(slots=True)
class _Line:
    plain: socket.socket
    exchange: h11.Connection = field(default_factory=new_exchange)

    def at(self, until: float) -> socket.socket:
        """The socket, with the time that is left as its timeout; raises TimeoutError if none is left."""
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.plain.settimeout(left)
        return self.plain


class HttpClient(AbstractContextManager["HttpClient"]):
    """Sends requests to one base URL; thread-safe. Nothing is taken from the environment, redirects are not followed.

    A request ends *deadline_s* seconds after its start, including its body; `keep_alive=False` opens a connection for
    each request. *verify* is described at `TlsVerify`; raises OSError for a CA file that cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        deadline_s: float,
        verify: TlsVerify = True,  # noqa: FBT002 - as in httpx
        *,
        keep_alive: bool = True,
    ) -> None:
        self.base_url, self.deadline_s, self.keep_alive = base_url.rstrip("/"), deadline_s, keep_alive
        self.address = HttpAddress.of(base_url, verify=verify)
        self._idle: list[_Line] = []  # append and pop are atomic

    def exchange(
        self, method: str, path: str, headers: Headers, body: bytes, deadline_s: float
    ) -> ResponseEvents:
        """Send one request and yield its response, head first, as it arrives; raises OSError (see `no_response`)."""
        until = time.monotonic() + deadline_s
        line, reusable = self._open(until), False
        try:
            line.at(until).sendall(request_bytes(line.exchange, self.address, method, path, headers, body))
            ended = False
            while not ended:
                for event in response_events(line.exchange, line.at(until).recv(READ_BYTES)):
                    ended = isinstance(event, h11.EndOfMessage)
                    yield event
            reusable = self.keep_alive and can_reuse(line.exchange)
            if reusable:
                self._idle.append(line)
        finally:
            if not reusable:
                line.plain.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Headers | None = None,
        body: bytes = b"",
        deadline_s: float | None = None,
    ) -> HttpResponse | NoResponse:
        """Send one request once and return its complete response."""
        url, begun, deadline_s = f"{self.base_url}{path}", time.monotonic(), deadline_s or self.deadline_s
        own = {"user-agent": "cutover", "accept": "*/*", "accept-encoding": "identity"}
        own |= {} if self.keep_alive else {"connection": "close"}
        head, received = None, bytearray()
        try:
            with closing(self.exchange(method, path, own | dict(headers or {}), body, deadline_s)) as events:
                for event in events:
                    if isinstance(event, h11.Response):
                        head = event
                    elif isinstance(event, h11.Data):
                        received += event.data
                        if len(received) > MAX_BODY_BYTES:
                            break
        except OSError as error:
            return no_response(error, url, time.monotonic() - begun)
        assert head is not None  # noqa: S101 - h11 yields the head before the end
        table = header_table(head)
        text = decoded_body(bytes(received[:MAX_BODY_BYTES]), table)
        return HttpResponse(head.status_code, table, text, url, time.monotonic() - begun)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().plain.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, until: float) -> _Line:
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                line = self._idle.pop()
                # Readable: the server closed it while it was idle, or sent data without a request.
                if not select.select([line.plain], [], [], 0)[0]:
                    return line
                line.plain.close()
        return _Line(self.open(max(until - time.monotonic(), 0.001)))

    def open(self, deadline_s: float) -> socket.socket:
        """A new connection, within *deadline_s* seconds; raises OSError."""
        address, plain = self.address, None
        try:
            if address.socket_path:
                plain = socket.socket(socket.AF_UNIX)
                plain.settimeout(deadline_s)
                plain.connect(address.socket_path)
                return plain
            plain = socket.create_connection((address.host, address.port), deadline_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return address.tls.wrap_socket(plain, server_hostname=address.host) if address.tls else plain
        except (OSError, UnicodeError) as error:
            if plain is not None:
                plain.close()
            raise connect_error(error) from error


def decoded_body(body: bytes, headers: Headers) -> str:
    """*body* as text, decompressed if it is gzip or deflate, in the charset of the content type, else in UTF-8."""
    if headers.get("content-encoding", "identity") in {"gzip", "deflate"}:
        with suppress(zlib.error):
            body = zlib.decompressobj(47).decompress(body, MAX_BODY_BYTES)  # 47: finds out which of the two
    charset = headers.get("content-type", "").partition("charset=")[2].split(";")[0].strip(' "')
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except (LookupError, UnicodeError):  # an unknown charset, or one that cannot replace: idna, punycode
        return body.decode("utf-8", errors="replace")


def fetch(
    url: str,
    path: str,
    *,
    method: str = "GET",
    verify: TlsVerify = True,
    headers: Headers | None = None,
    deadline_s: float = DEFAULT_DEADLINE_S,
) -> HttpResponse | NoResponse:
    """The response to one request on a connection of its own."""
    try:
        with HttpClient(url, deadline_s, verify, keep_alive=False) as client:
            return client.send(method, path, headers=headers)
    except OSError as error:  # the CA file
        return NoResponse("tls", str(error), url + path)


def connect(client: HttpClient, deadline_s: float) -> HttpResponse | NoResponse:
    """An empty response if the server keeps a new connection open for a moment; its time is that of the connect.

    A port of the engine accepts connections for a container that does not listen, and closes them at once.
    """
    begun = time.monotonic()
    try:
        with client.open(deadline_s) as plain:
            took = time.monotonic() - begun
            if select.select([plain], [], [], KEPT_OPEN_S)[0] and not plain.recv(1):
                raise ExchangeError("reset", "connection accepted and closed")
    except OSError as error:
        return no_response(error, client.base_url, time.monotonic() - begun, deadline_s)
    return HttpResponse(200, url=client.base_url, seconds=took)


# --- requests with retries ---
@dataclass(frozen=True, slots=True)
class RequestOptions:
    """How a request is sent: deadline of one try (None: the client's), number of tries, headers, JSON to send."""

    deadline_s: float | None = None
    tries: int = MAX_TRIES
    headers: Headers = field(default_factory=dict)
    send: Any = None
    sleep: Callable[[float], None] = time.sleep


def send_request(
    client: HttpClient, method: str, path: str, options: RequestOptions | None = None
) -> HttpResponse | NoResponse:
    """The response to a request; without one it is sent again, within twice its deadline.

    A method that may write is repeated only if the connection was refused: then nothing can have arrived.
    """
    options = options or RequestOptions()
    begun, silences = time.monotonic(), list[str]()
    headers, body = dict(options.headers), b""
    if options.send is not None:
        headers["content-type"] = "application/json"
        body = json.dumps(options.send, ensure_ascii=False, separators=(",", ":")).encode()
    while True:
        got = client.send(method, path, headers=headers, body=body, deadline_s=options.deadline_s)
        if isinstance(got, HttpResponse):
            return replace(got, silences=tuple(silences))
        silences.append(got.reason)
        over = time.monotonic() - begun >= 2 * (options.deadline_s or client.deadline_s) - RETRY_PAUSE_S
        if over or len(silences) >= options.tries or not (method in SAFE_METHODS or got.kind == "refused"):
            return got
        options.sleep(RETRY_PAUSE_S * len(silences))


def judge_no_response(question: str, silent: NoResponse, control: ControlProbe) -> Verdict:
    """No if *control* finds the path to the service up: then the service is at fault; unknown otherwise."""
    seen: dict[str, Any] = {"url": silent.url, "silence": silent.kind, "seconds": round(silent.seconds, 3)}
    try:
        good, why = control.answers(), ""
    except (EngineUnavailable, OSError) as error:
        good, why = False, f" ({error})"
    by = f" (control: {control.how})" if control.how else ""
    if good:
        reason = f"{silent}, though the path to it is up{by}"
        return no(question, reason, expected="an answer", seen=silent.reason, **seen)
    reason = f"{silent}, and the cause is unknown{by}{why}"
    return unknown(question, reason, expected="an answer", seen=silent.reason, **seen)
