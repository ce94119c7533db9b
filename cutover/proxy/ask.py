"""Requests to the proxy itself: which color answered, and does the proxy answer by itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.proxy.base import COLORS, Live
from cutover.system.http import DEFAULT_DEADLINE_S, HttpResponse, NoResponse, TlsVerify, fetch

PROXY_COLOR_HEADER = "X-Cutover-Color"
"""Header of the control location: the color that the proxy would choose now."""
MARKER_HEADER = "X-Cutover-Marker"


@dataclass(frozen=True, slots=True)
class ProxyClient:
    """URL and paths of the proxy, and the header in which a response names its color."""

    url: str
    path: str
    control: str
    color_header: str
    verify: TlsVerify = True
    deadline_s: float = DEFAULT_DEADLINE_S

    @classmethod
    def of(cls, settings: Settings) -> ProxyClient:
        """The client that `[proxy]` describes."""
        proxy = settings.proxy
        assert proxy is not None  # noqa: S101 - a driver is only made for a [proxy]
        return cls(
            proxy.url.rstrip("/"),
            proxy.probe_path or (settings.version.path if settings.version else settings.ready.path),
            proxy.health_path,
            proxy.color_header,
            proxy.tls_verify,
        )

    def live(self) -> Live:
        """The live color by the application's response; only if that names none, by the proxy's control location.

        A broken release may answer anything, and a rollback from it has to know that it is live.
        """
        live = self.answering()
        if live.color is None and (own := self.proxy_color()):
            return Live(own, f"the proxy chooses {own}, which does not say so: {live.how}")
        return live

    def answering(self) -> Live:
        """The color that the application names in its response."""
        response, where = self._fetch(self.path), f"{self.url}{self.path}"
        if isinstance(response, NoResponse):
            return Live(None, f"{where} gave no answer: {response}")
        color = named_color(response, self.color_header)
        if color:
            return Live(color, f"{where} answered {response.status} from {color}")
        why = f"without a color in {self.color_header} or in its JSON"
        return Live(None, f"{where} answered {response.status} {why}")

    def proxy_color(self) -> str:
        """The color that the control location says the proxy chooses; empty if it names none."""
        word = self.get_control().headers.get(PROXY_COLOR_HEADER.lower(), "")
        return word if word in COLORS else ""

    def get_control(self) -> HttpResponse | NoResponse:
        """The response of the proxy's own static location."""
        return self._fetch(self.control)

    def post_control(self) -> HttpResponse | NoResponse:
        """The proxy's response to a POST that reaches no application."""
        return self._fetch(self.control, "POST")

    def as_control(self) -> ControlProbe:
        """Whether the proxy itself answers."""
        return ControlProbe(lambda: self.get_control().status == HTTPStatus.OK, f"{self.url}{self.control}")

    def _fetch(self, path: str, method: str = "GET") -> HttpResponse | NoResponse:
        return fetch(self.url, path, method=method, verify=self.verify, deadline_s=self.deadline_s)


def named_color(response: HttpResponse | NoResponse, header: str) -> str:
    """The color that the application names in *header* or as `color` in its JSON; empty if it names none."""
    word = response.headers.get(header.lower(), "").strip().lower()
    if not word and response.body[:1] in {"{", " ", "\n"}:
        try:
            body = json.loads(response.body)
        except ValueError:
            return ""
        word = str(body.get("color", "")) if isinstance(body, dict) else ""
    return word if word in COLORS else ""
