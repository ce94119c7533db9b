"""What a proxy driver can do, and the requests by which all of them find the live color."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from importlib import import_module
from typing import ClassVar, TypeVar

from cutover.core.change import Change
from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.text import parse_json
from cutover.core.verdict import Verdict, no, unknown, yes
from cutover.proxy.place import THIS_HOST, Place, fronts_of
from cutover.system.http import HttpResponse, NoResponse, TlsVerify, fetch
from cutover.system.process import of_each

_Said = TypeVar("_Said")
COLORS = ("blue", "green")
DRIVERS = {"nginx": "Nginx", "traefik": "Traefik", "command": "CommandProxy", "port-swap": "PortSwap"}
"""`[proxy] driver` and the class of its module."""
PROXY_COLOR_HEADER = "X-Cutover-Color"
"""Header of the control location: the color that the proxy would choose now."""


@dataclass(frozen=True, slots=True)
class Live:
    """The live color by one source, None if it is unknown; `how` says how it was found, or why it is unknown."""

    color: str | None
    how: str


@dataclass(frozen=True, slots=True)
class ProxyClient:
    """URL and paths of the proxy, and the header in which a response names its color."""

    url: str
    path: str
    control: str
    color_header: str
    verify: TlsVerify = True

    @classmethod
    def of(cls, settings: Settings) -> ProxyClient:
        """The client that `[proxy]` describes."""
        proxy = settings.proxy
        assert proxy is not None  # noqa: S101 - a driver is only made for a [proxy]
        known = settings.version.path if settings.version else settings.ready.path
        url, path, control = proxy.url.rstrip("/"), proxy.probe_path or known, proxy.health_path
        return cls(url, path, control, proxy.color_header, proxy.tls_verify)

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

    def why_unnamed(self) -> str:
        """Why a switch could not be verified: the live color answers well, and no header says who it is; or empty."""
        response = self._fetch(self.path)
        if not 0 < response.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return ""  # a broken release may answer anything, and has to be replaced
        if named_color(response, self.color_header):
            return ""
        return f"{self.url}{self.path} answered {response.status} without the header {self.color_header}"

    def proxy_color(self) -> str:
        """The color that the control location says the proxy chooses; empty if it names none."""
        word = self.ask_control().headers.get(PROXY_COLOR_HEADER.lower(), "")
        return word if word in COLORS else ""

    def ask_control(self, method: str = "GET") -> HttpResponse | NoResponse:
        """The response of the proxy's own static location, which reaches no application."""
        return self._fetch(self.control, method)

    def ask_marked(self, path: str, agent: str) -> None:
        """Request *path*, which no application knows, and the path of the application, both with *agent*."""
        for each in (path, self.path):
            fetch(self.url, each, verify=self.verify, headers={"user-agent": agent})

    def as_control(self) -> ControlProbe:
        """Whether the proxy itself answers."""
        return ControlProbe(lambda: self.ask_control().status == HTTPStatus.OK, f"{self.url}{self.control}")

    def _fetch(self, path: str, method: str = "GET") -> HttpResponse | NoResponse:
        return fetch(self.url, path, method=method, verify=self.verify)


def named_color(response: HttpResponse | NoResponse, header: str) -> str:
    """The color that the application names in *header* or as `color` in its JSON; empty if it names none."""
    word = response.headers.get(header.lower(), "").strip().lower()
    if not word and response.body[:1] in {"{", " ", "\n"}:
        try:
            body = parse_json(response.body)
        except ValueError:
            return ""
        word = str(body.get("color", "")) if isinstance(body, dict) else ""
    return word if word in COLORS else ""


class Proxy(ABC):
    """What sends the users to a color. It holds no state: the state is the proxy's own.

    The defaults are those of a proxy that runs between users and both colors.
    """

    has_gap: ClassVar[bool] = False
    """Whether users get no response while the switch takes place."""
    keeps_old_color: ClassVar[bool] = True
    """Whether the old color still runs after the switch, and on its own port."""
    client: ProxyClient
    """Asks at the address that users reach the service by."""

    @property
    @abstractmethod
    def drivers(self) -> tuple[Driver, ...]:
        """Each proxy, in the order in which they are switched."""

    @abstractmethod
    def live(self) -> Live:
        """The live color, by a request through the proxy."""

    @abstractmethod
    def agreed(self) -> Verdict:
        """Yes if the proxy's answer and its marker, file or status command name the same color."""

    @abstractmethod
    def color_problem(self) -> str:
        """Why a switch could not be verified, and the line that names the color; empty if the live color is named."""

    def by_front(self) -> dict[str, Live]:
        """The live color by each node of `[platform] fronts`; empty without any."""
        return {}

    def chooses(self, color: str) -> bool:
        """Whether the control location says that the proxy would choose *color* now."""
        return all(each.client.proxy_color() == color for each in self.drivers)

    def control(self) -> ControlProbe:
        """Whether the proxy itself answers."""
        return self.client.as_control()

    def own_port(self, _color: str, _live: str | None) -> int | None:
        """The port of a color while another or the same one is live; None: that of its rendered release."""
        return None

    def on_commit(self, _to: str, _ports: Mapping[str, int]) -> dict[str, int]:
        """The ports to write into the env files when a switch is committed, from the rendered ones."""
        return {}


class Driver(Proxy):
    """One proxy."""

    name: ClassVar[str]
    """The name in `[proxy] driver`."""
    color_line: ClassVar[str] = "the proxy has to add {header} with the color that it sent the request to"
    """How a response gets the header that names its color; `{header}` is `[proxy] color_header`."""
    place: Place = THIS_HOST
    """Where it runs."""

    @property
    def drivers(self) -> tuple[Driver, ...]:
        """Itself."""
        return (self,)

    def live(self) -> Live:
        """The live color, by a request through the proxy."""
        return self.client.live()

    @abstractmethod
    def switch(self, to: str) -> Change:
        """The change that sends new requests to *to*, and its undo; both do nothing when run twice."""

    def color_problem(self) -> str:
        """Why a switch could not be verified, and the line that names the color; empty if the live color is named."""
        why = self.client.why_unnamed()
        return f"{why}: {self.color_line.format(header=self.client.color_header)}" if why else ""


@dataclass(frozen=True, slots=True)
class Fronts(Proxy):
    """The same proxy on several nodes: each is asked and switched."""

    client: ProxyClient
    drivers: tuple[Driver, ...]

    def live(self) -> Live:
        """The live color if all nodes name the same one."""
        return judge_fronts(self.by_front())

    def by_front(self) -> dict[str, Live]:
        """The live color by each node."""
        return self._each(lambda driver: driver.live())

    def agreed(self) -> Verdict:
        """Yes if all nodes name the same color, and each of them in all places."""
        found = self._each(lambda driver: driver.agreed())
        for name, verdict in found.items():
            if not verdict.ok:
                return replace(verdict, reason=f"{name}: {verdict.reason}")
        # The yes of each names the color that answered.
        named = {name: Live(str(verdict.seen), verdict.reason) for name, verdict in found.items()}
        live = judge_fronts(named)
        said = {name: verdict.reason for name, verdict in found.items()}
        if live.color is None:
            return no("proxy", live.how, **said)
        return yes("proxy", f"{', '.join(found)}: {live.color}", seen=live.color, **said)

    def color_problem(self) -> str:
        """The problem of the first node that has one."""
        found = self._each(lambda driver: driver.color_problem())
        return next((f"{name}: {why}" for name, why in found.items() if why), "")

    def _each(self, ask: Callable[[Driver], _Said]) -> dict[str, _Said]:
        """What *ask* says of each node, asked at the same time."""
        names = [driver.place.name for driver in self.drivers]
        return dict(zip(names, of_each(ask, self.drivers), strict=True))


def judge_fronts(found: Mapping[str, Live]) -> Live:
    """The color that all fronts name; if they differ, what each one says."""
    silent = {name: live for name, live in found.items() if live.color is None}
    if silent:
        return Live(None, "; ".join(f"{name}: {live.how}" for name, live in silent.items()))
    colors = {live.color for live in found.values()}
    if len(colors) > 1:
        said = ", ".join(f"{name} sends users to {live.color}" for name, live in found.items())
        return Live(None, f"{said}: end the open release (cutover status), else switch one of them by hand")
    return Live(colors.pop(), f"{', '.join(found)} agree")


def other(color: str) -> str:
    """The other color."""
    return COLORS[1 - COLORS.index(color)]


def judge_agreement(what: str, marker: Live, live: Live, **evidence: str) -> Verdict:
    """Yes if *marker*, which is a *what* (`marker` or `file`), and the proxy's answer name the same color."""
    evidence = {what: marker.how, "asked": live.how, **evidence}
    expected, seen = marker.color, live.color
    if expected is None:
        return unknown("proxy", marker.how, **evidence)
    named = f"the {what} names {expected}"
    if seen is None:
        return unknown("proxy", f"{named}, but {live.how}", **evidence)
    if expected != seen:
        return no("proxy", f"{named}, but {seen} answers", expected=expected, seen=seen, **evidence)
    return yes("proxy", f"{what} and proxy say {expected}", seen=seen, **evidence)


def driver(settings: Settings, ports: dict[str, int]) -> Proxy | None:
    """The driver that `[proxy]` names, None without `[proxy]`; *ports* are the loopback ports of the colors."""
    if settings.proxy is None:
        return None
    name = settings.proxy.driver
    module = import_module(f"cutover.proxy.{name.replace('-', '_')}")
    made: Driver = getattr(module, DRIVERS[name]).of(settings, ports)
    return on_fronts(made, settings) if settings.platform.fronts else made


def on_fronts(made: Driver, settings: Settings) -> Fronts:
    """The driver *made* on each node of `[platform] fronts`; raises ConfigError for a bad name."""
    # A driver with a place is a dataclass.
    there = clients(settings).items()
    drivers = [replace(made, place=place, client=client) for place, client in there]  # type: ignore[type-var]
    return Fronts(made.client, tuple(drivers))


def clients(settings: Settings) -> dict[Place, ProxyClient]:
    """The client of each proxy of `[proxy]` by the place where it runs; raises ConfigError for a bad name."""
    client, urls = ProxyClient.of(settings), settings.platform.fronts
    if not urls:
        return {THIS_HOST: client}
    fronts = fronts_of(settings.platform)
    return {each: replace(client, url=urls[each.name].rstrip("/")) for each in fronts}


def ask_fronts(settings: Settings) -> None:
    """Send a request to each node of `[platform] fronts`, so that its log shows one of ours."""
    if settings.platform.fronts:
        of_each(ProxyClient.answering, clients(settings).values())


def own_paths(settings: Settings) -> frozenset[str]:
    """The paths by which our requests are told from those of users in a log that does not name their user agent."""
    proxy = settings.proxy
    if proxy is None:
        return frozenset({settings.ready.path})
    paths = {settings.ready.path, proxy.health_path, ProxyClient.of(settings).path, proxy.probe_post_path}
    return frozenset(paths - {""})
