"""An `httpx.Client` for a team's own tests that sends by our `HttpClient`: the same deadlines, the same TLS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import h11
import httpx

from cutover.system.http import HttpClient, ResponseEvents, TlsVerify, no_response

ERRORS: Mapping[str, type[httpx.TransportError]] = {
    "refused": httpx.ConnectError,
    "reset": httpx.ReadError,
    "timeout": httpx.ReadTimeout,
    "tls": httpx.ConnectError,
    "garbage": httpx.RemoteProtocolError,
}


def httpx_client(base_url: str, deadline_s: float, *, verify: TlsVerify = True) -> httpx.Client:
    """A client bound to *base_url*: wall deadline, no redirects, nothing from the environment."""
    return httpx.Client(
        base_url=base_url,
        transport=_Transport(deadline_s, verify),
        timeout=None,  # noqa: S113 - the wall deadline is stricter
        follow_redirects=False,
        trust_env=False,
        headers={"user-agent": "cutover", "accept-encoding": "identity"},
    )


class _Transport(httpx.BaseTransport):
    def __init__(self, deadline_s: float, verify: TlsVerify) -> None:
        self.deadline_s, self.verify = deadline_s, verify
        self.clients: dict[str, HttpClient] = {}  # one for each origin

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body, path = request.read(), request.url.raw_path.decode("ascii")
        origin = str(request.url.copy_with(raw_path=b"/", username=None, password=None, fragment=None))
        headers = {name: value for name, value in request.headers.items() if name != "transfer-encoding"}
        with _httpx_errors(request, self.deadline_s):
            client = self.clients.get(origin) or HttpClient(origin, self.deadline_s, self.verify)
            self.clients[origin] = client
            events = client.exchange(request.method, path, headers, body, self.deadline_s)
            head = next(events)
        assert isinstance(head, h11.Response)  # noqa: S101 - the first event of a response
        stream = _Body(events, request, self.deadline_s)
        return httpx.Response(head.status_code, headers=[*head.headers], stream=stream)

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, events: ResponseEvents, request: httpx.Request, deadline_s: float) -> None:
        self.events, self.request, self.deadline_s = events, request, deadline_s

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors(self.request, self.deadline_s):
            for event in self.events:
                if isinstance(event, h11.Data):
                    yield bytes(event.data)

    def close(self) -> None:
        self.events.close()


@contextmanager
def _httpx_errors(request: httpx.Request, deadline_s: float) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        silence = no_response(error, str(request.url), deadline_s)
        raise ERRORS[silence.kind](silence.reason, request=request) from error
