"""Asks over HTTP with a wall deadline: no redirects, no proxy from the environment, silence as a value."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from cutover.core.errors import EngineSilent
from cutover.core.verdict import Verdict, no, shortened, unknown
from cutover.target import Control
from cutover.transport import Transport

SAFE = frozenset({"GET", "HEAD"})
LONGEST = 10 * 2**20  # bytes of one body; a stream without end must not fill the runner's memory
TRIES = 3
PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service said, whole, within the deadline."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: str
    url: str
    seconds: float
    silences: tuple[str, ...] = ()
    """How earlier tries of the same question ended: what could not be asked is asked again."""

    def json(self) -> Any:
        """The body as JSON; raises ValueError when it says to be, or is, something else."""
        kind = self.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json" and not kind.endswith("+json"):
            raise ValueError(f"content-type {kind or '(none)'}")
        return json.loads(self.body)

    @property
    def evidence(self) -> dict[str, Any]:
        """What may be shown of it: never a header, for some carry secrets."""
        seen = {
            "url": self.url,
            "status": self.status,
            "body": shortened(self.body),
            "seconds": round(self.seconds, 4),
        }
        return seen | ({"silent_before": list(self.silences)} if self.silences else {})


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer: what ended the question, in words."""

    kind: str
    """`refused`, `reset`, `timeout`, `tls` or `garbage`."""
    reason: str
    url: str
    seconds: float

    def __str__(self) -> str:
        """The words."""
        return self.reason


def client(
    base_url: str,
    deadline_s: float,
    verify: str | bool = True,  # noqa: FBT002  httpx calls it so
    *,
    keep_alive: bool = True,
) -> httpx.Client:
    """A client for one service: wall deadline, no redirects, nothing taken from the environment.

    `verify` is a CA file, or false; `keep_alive=False` opens a new connection for each request.
    """
    context = _context(verify) if base_url.startswith("https:") else None
    return httpx.Client(
        base_url=base_url,
        transport=Transport(deadline_s, context, keep_alive=keep_alive),
        timeout=None,  # noqa: S113  the transport's wall is stricter
        follow_redirects=False,
        trust_env=False,
        headers={"user-agent": "cutover", "accept-encoding": "identity"},
    )


def _context(verify: str | bool) -> ssl.SSLContext:
    if isinstance(verify, str):
        return ssl.create_default_context(cafile=verify)
    return httpx.create_ssl_context(verify=verify, trust_env=False)


@dataclass(frozen=True, slots=True)
class Asking:
    """How a question is put: its own deadline, and how often it is put again when nothing comes back."""

    deadline_s: float | None = None
    """Wall time of one try; None: the client's."""
    tries: int = TRIES
    headers: Mapping[str, str] = field(default_factory=dict)
    send: Any = None
    """A JSON value to send."""
    sleep: Callable[[float], None] = time.sleep


def ask(http: httpx.Client, method: str, path: str, how: Asking | None = None) -> Answer | Silence:
    """Put one question; silence is asked again within twice its deadline, a wrong answer never.

    What writes is asked again only while nothing can have arrived: when the connection was refused.
    """
    how = how or Asking()
    begun, silences = time.monotonic(), list[str]()
    while True:
        said = _once(http, method, path, how)
        if isinstance(said, Answer):
            return Answer(said.status, said.headers, said.body, said.url, said.seconds, tuple(silences))
        silences.append(said.reason)
        over = time.monotonic() - begun >= 2 * (how.deadline_s or _deadline(http)) - PAUSE_S
        if over or len(silences) >= how.tries or not (method in SAFE or said.kind == "refused"):
            return said
        how.sleep(PAUSE_S * len(silences))


def _deadline(http: httpx.Client) -> float:
    """The wall deadline of *http*; a client of a team's own making has its own, or none."""
    own = getattr(getattr(http, "_transport", None), "deadline_s", None)
    return float(own or http.timeout.read or 5.0)


def _once(http: httpx.Client, method: str, path: str, how: Asking) -> Answer | Silence:
    extensions = {"wall": how.deadline_s} if how.deadline_s else {}
    url, begun = str(http.base_url.join(path)), time.monotonic()
    sent: dict[str, Any] = {} if how.send is None else {"json": how.send}
    try:
        with http.stream(method, path, headers=dict(how.headers), extensions=extensions, **sent) as answer:
            url = str(answer.url)
            body = _text(answer)
    except httpx.TransportError as error:
        return silence(error, url, time.monotonic() - begun)
    seconds = time.monotonic() - begun
    return Answer(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body, url, seconds)


def _text(answer: httpx.Response) -> str:
    """The body, cut where it becomes absurd."""
    chunks, length = [], 0
    for chunk in answer.iter_bytes():
        chunks.append(chunk)
        length += len(chunk)
        if length > LONGEST:
            break
    return b"".join(chunks)[:LONGEST].decode(answer.charset_encoding or "utf-8", errors="replace")


def silence(error: httpx.TransportError, url: str, seconds: float) -> Silence:
    """What *error* means in words that a person knows."""
    cause = _root(error)
    if isinstance(error, httpx.TimeoutException):
        return Silence("timeout", f"no complete answer in {seconds:.1f} s", url, seconds)
    if isinstance(cause, ssl.SSLError):
        return Silence("tls", f"TLS failed: {cause.reason or cause}", url, seconds)
    if isinstance(error, httpx.ConnectError):
        refused = isinstance(cause, ConnectionRefusedError)
        return Silence(
            "refused", "connection refused" if refused else f"no connection: {cause}", url, seconds
        )
    if isinstance(error, httpx.RemoteProtocolError) and "disconnected" not in str(error):
        cut = "incomplete" in str(error) or "peer closed" in str(error)
        words = "connection closed in the middle of the answer" if cut else f"not HTTP: {error}"
        return Silence("reset" if cut else "garbage", words, url, seconds)
    return Silence("reset", "connection closed without an answer", url, seconds)


def _root(error: BaseException) -> BaseException:
    """The error that began it all."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return error


def judge_silence(question: str, silent: Silence, control: Control) -> Verdict:
    """No when the way to the service is known good: then the silence is its own; unknown else."""
    seen: dict[str, Any] = {"url": silent.url, "silence": silent.kind, "seconds": round(silent.seconds, 3)}
    try:
        good, why = control.answers(), ""
    except (EngineSilent, httpx.TransportError) as error:
        good, why = False, f" ({error})"
    by = f" (control: {control.how})" if control.how else ""
    if good:
        reason = f"{silent}, though the way is good{by}"
        return no(question, reason, expected="an answer", seen=silent.reason, **seen)
    reason = f"{silent}, and whose fault it is nobody knows{by}{why}"
    return unknown(question, reason, expected="an answer", seen=silent.reason, **seen)
