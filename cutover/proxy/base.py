"""What a proxy driver can do: name the live color, switch, and say how its switch differs from an ordinary one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from cutover.core.change import Change
from cutover.core.config import Settings
from cutover.core.target import ControlProbe
from cutover.core.verdict import Verdict, no, unknown, yes

COLORS = ("blue", "green")
DRIVERS = {"nginx": "Nginx", "traefik": "Traefik", "command": "CommandProxy", "port-swap": "PortSwap"}
"""`[proxy] driver` and the class of its module."""


@dataclass(frozen=True, slots=True)
class Live:
    """The live color, None if it is unknown; `how` says how it was found, or why it is unknown."""

    color: str | None
    how: str


@dataclass(frozen=True, slots=True)
class Marker:
    """The color that a proxy's marker directory or file names, None if it is unknown; `why` explains it."""

    color: str | None
    why: str


class Proxy(Protocol):
    """One driver. It holds no state: the state is the proxy's own."""

    @property
    def name(self) -> str:
        """The name in `[proxy] driver`."""

    @property
    def has_gap(self) -> bool:
        """Whether users get no response while the switch takes place."""

    @property
    def keeps_old_color(self) -> bool:
        """Whether the old color still runs after the switch, and on its own port."""

    def live(self) -> Live:
        """The live color, by a request through the proxy."""

    def agreed(self) -> Verdict:
        """Yes if the proxy's answer and its marker, file or status command name the same color."""

    def switch(self, to: str) -> Change:
        """The change that sends new requests to *to*, and its undo."""

    def control(self) -> ControlProbe:
        """Whether the proxy itself answers."""

    def own_port(self, color: str, live: str | None) -> int | None:
        """The port of *color* while *live* is live; None: that of its rendered release."""

    def on_commit(self, to: str, ports: Mapping[str, int]) -> dict[str, int]:
        """The ports to write into the env files when the switch to *to* is committed; *ports* are the rendered ones."""


class RunningProxy:
    """The facts of a driver whose proxy runs between users and both colors: no gap, both colors keep their ports."""

    has_gap = False
    keeps_old_color = True

    def own_port(self, _color: str, _live: str | None) -> int | None:
        """None: each color has the port of its rendered release."""
        return None

    def on_commit(self, _to: str, _ports: Mapping[str, int]) -> dict[str, int]:
        """Nothing to write."""
        return {}


def other(color: str) -> str:
    """The other color."""
    return COLORS[1 - COLORS.index(color)]


def judge_agreement(what: str, marker: Marker, live: Live, **evidence: str) -> Verdict:
    """Yes if *marker*, which is a *what* (`marker` or `file`), and the proxy's answer name the same color."""
    evidence = {what: marker.why, "asked": live.how, **evidence}
    expected, seen = marker.color, live.color
    if expected is None:
        return unknown("proxy", marker.why, **evidence)
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
    made: Proxy = getattr(module, DRIVERS[name]).of(settings, ports)
    return made
