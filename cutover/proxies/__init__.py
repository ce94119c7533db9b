"""The proxies: each driver knows how to switch, how to take that back, and how to ask the proxy who is live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cutover.changes import Change
from cutover.core.config import Settings
from cutover.core.verdict import Verdict
from cutover.target import Control

COLOURS = ("blue", "green")


@dataclass(frozen=True, slots=True)
class Live:
    """Who gets the traffic, as the proxy itself says.

    `colour` is None when that is not known; `how` says who was asked, or why it is unknown.
    """

    colour: str | None
    how: str


class Proxy(Protocol):
    """One driver; it holds no state, the proxy does."""

    @property
    def name(self) -> str:
        """What `[proxy] driver` calls it."""

    def live(self) -> Live:
        """The live colour by the proxy's own answer (a request through it), never by our memory."""

    def agreed(self) -> Verdict:
        """Whether the proxy's answer and its marker or configuration say the same; preflight wants a yes."""

    def switch(self, to: str) -> Change:
        """The change that sends new requests to *to*, and its undo, which first makes sure of nothing else."""

    def control(self) -> Control:
        """Whether the proxy itself answers."""


def other(colour: str) -> str:
    """The other colour."""
    return COLOURS[1 - COLOURS.index(colour)]


def driver(settings: Settings, ports: dict[str, int]) -> Proxy | None:
    """The driver that `[proxy]` names, None without one; *ports* are the colours' own."""
    if settings.proxy is None:
        return None
    from importlib import import_module

    module = import_module(f"cutover.proxies.{settings.proxy.driver.replace('-', '_')}")
    made: Proxy = module.make(settings, ports)
    return made
