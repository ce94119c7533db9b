"""Asks the proxy itself: one request through it on a new connection, and whose answer that was."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from cutover.core.config import Settings
from cutover.proxies import COLOURS, Live
from cutover.target import Control

DEADLINE_S = 5.0
MOST_BYTES = 64 * 1024
PROXYS_OWN = "X-Cutover-Colour"
"""What the proxy itself says on its control location: the colour that it would choose."""
MARKER_SEEN = "X-Cutover-Marker"
Trust = str | bool
"""TLS: a file of authorities, True for the system's, False for anybody."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, header names in lower case; status 0 with `error` when there was none."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """How the proxy is asked: where, which paths, and where an answer names its colour."""

    url: str
    path: str
    control: str
    colour_header: str
    verify: Trust = True
    deadline_s: float = DEADLINE_S

    @classmethod
    def of(cls, settings: Settings) -> Way:
        """The way that `[proxy]` describes."""
        proxy = settings.proxy
        assert proxy is not None  # noqa: S101 - a driver is only made for a [proxy]
        return cls(
            proxy.url.rstrip("/"),
            proxy.path or (settings.version.path if settings.version else settings.ready.path),
            proxy.control,
            proxy.colour_header,
            proxy.verify,
        )

    def live(self) -> Live:
        """The live colour by the application's identity; only where it names none by the proxy's own word.

        A broken release may answer anything, and the way back from it begins with knowing who it is.
        """
        answer = ask(self.url, self.path, verify=self.verify, deadline_s=self.deadline_s)
        colour = colour_of(answer, self.colour_header)
        if colour:
            return Live(colour, f"{self.url}{self.path} answered {answer.status} from {colour}")
        why = _why_nobody_says(f"{self.url}{self.path}", answer, self.colour_header)
        own = self.own_word()
        return Live(own, f"the proxy chooses {own}, which does not say so: {why}") if own else Live(None, why)

    def own_word(self) -> str:
        """The colour that the proxy says it chooses, from its control location; empty if it does not say."""
        word = self.ask_control().headers.get(PROXYS_OWN.lower(), "")
        return word if word in COLOURS else ""

    def ask_control(self) -> Answer:
        """What the proxy's own static location answers."""
        return ask(self.url, self.control, verify=self.verify, deadline_s=self.deadline_s)

    def post_control(self) -> Answer:
        """What the proxy answers to a write that reaches nobody behind it."""
        return ask(self.url, self.control, verify=self.verify, deadline_s=self.deadline_s, method="POST")

    def as_control(self) -> Control:
        """Whether the proxy itself answers."""
        return Control(lambda: self.ask_control().status == http.client.OK, f"{self.url}{self.control}")


def colour_of(answer: Answer, header: str) -> str:
    """The colour that the application says it is, in *header* or as `colour` in its JSON; empty if none."""
    word = answer.headers.get(header.lower(), "").strip().lower()
    if not word and answer.body[:1] in {b"{", b" ", b"\n"}:
        try:
            told = json.loads(answer.body)
        except ValueError:
            return ""
        word = str(told.get("colour", "")) if isinstance(told, dict) else ""
    return word if word in COLOURS else ""


def ask(
    url: str, path: str, *, verify: Trust = True, deadline_s: float = DEADLINE_S, method: str = "GET"
) -> Answer:
    """One request on a connection of its own, within *deadline_s* of wall time; never raises for silence."""
    until = time.monotonic() + deadline_s
    connection = None
    try:
        connection = _connection(url, verify, deadline_s)
        connection.request(method, urlsplit(url).path.rstrip("/") + path, headers={"Connection": "close"})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, _body(response, until))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, error=f"{type(error).__name__}: {error}".rstrip(": "))
    finally:
        if connection is not None:
            connection.close()


def _connection(url: str, verify: Trust, deadline_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = tls_context(verify)
        return http.client.HTTPSConnection(host, parts.port, timeout=deadline_s, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=deadline_s)


def tls_context(verify: Trust) -> ssl.SSLContext:
    """A context that trusts the system's authorities, those of a file, or (False) anybody."""
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except OSError as error:  # which does not name the file
        raise OSError(error.errno, f"{error.strerror or error}: {verify}") from error
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _body(response: http.client.HTTPResponse, until: float) -> bytes:
    """The beginning of the body, as much as came in time: a slow drip ends here, not never."""
    body = b""
    while len(body) < MOST_BYTES:
        if time.monotonic() > until:
            raise TimeoutError("the answer did not end in time")
        part = response.read1(MOST_BYTES - len(body))
        if not part and response.length:
            raise http.client.IncompleteRead(body, response.length)
        if not part:
            break
        body += part
    return body


def _why_nobody_says(where: str, answer: Answer, header: str) -> str:
    if not answer.status:
        return f"{where} gave no answer: {answer.error}"
    return f"{where} answered {answer.status} without a colour in {header} or in its JSON"
