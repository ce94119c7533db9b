"""The drain: the old colour may rest, and be stopped, only when it has no request in flight any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from cutover import preflight
from cutover.changes import line
from cutover.core.config import Settings
from cutover.core.verdict import Verdict, no, yes
from cutover.proxies.access_log import Tail
from cutover.proxies.connections import Connections
from cutover.state import State
from cutover.system import docker, process

QUIET_S = 0.5
EVERY_S = 0.1
# Until then an open connection may still be an idle one: the shipped configurations keep those for 1 s.
IDLE_S = 1.5
STOP_S = 60.0

# The same for a take-back, which needs no Python. Not at once: Traefik takes its file in up to 0.8 s later.
REST = (
    'sleep 1; i=0; while [ "$i" -lt "$2" ] && grep -Eqs "$1" /proc/net/tcp /proc/net/tcp6; '
    "do i=$((i + 1)); sleep 0.2; done; :"
)
REST_EVERY_S = 0.2
REST_S = 5.0


def rest(port: int, most_s: float = REST_S) -> str:
    """The undo line that lets requests in flight on *port* end before a later line stops what answers them.

    Bounded by *most_s* and a second, and never a failure: users are back already, and what still runs then has the
    grace period of its container.
    """
    remote = f"(0100007F|01000000):{port:04X} 0[12] "
    return line("sh", "-c", REST, "sh", remote, f"{most_s / REST_EVERY_S:.0f}", within_s=most_s + 30)


@dataclass(frozen=True, slots=True)
class Drained:
    """Requests in flight `most`, and at the end (`left`), and how many the log saw `finished`.

    `visible` is False when the proxy's connections cannot be seen from here: the whole budget was waited. `trouble`
    is why the log said nothing.
    """

    colour: str
    seconds: float
    most: int = 0
    left: int = 0
    finished: int = 0
    visible: bool = True
    trouble: str = ""

    def verdict(self, on_timeout: Literal["go on", "take back"] = "go on") -> Verdict:
        """Yes when nothing is in flight; with something left as `on_drain_timeout` says."""
        question = f"drain {self.colour}"
        seen: dict[str, Any] = {
            "seconds": round(self.seconds, 1),
            "most_in_flight": self.most,
            "left": self.left,
            "finished": self.finished,
        } | ({"access_log": self.trouble} if self.trouble else {})
        if not self.visible:
            why = "the proxy's connections cannot be seen from this host"
            return yes(question, f"waited the whole {self.seconds:.0f} s: {why}", **seen)
        if not self.left:
            done = f"{_requests(self.most)} in flight, last one done after {self.seconds:.1f} s"
            return yes(
                question, done if self.most else f"no request in flight after {self.seconds:.1f} s", **seen
            )
        reason = f"{_requests(self.left)} still in flight after {self.seconds:.0f} s"
        if on_timeout == "take back":
            return no(question, reason, expected="no request in flight", seen=_requests(self.left), **seen)
        return yes(question, f"{reason}; going on, as on_drain_timeout says", **seen)


def wait_until_idle(
    colour: str,
    in_flight: Callable[[], int | None],
    *,
    budget_s: float,
    finished: Callable[[], int] = lambda: 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Drained:
    """Wait until *in_flight* was zero for half a second and the log is silent, or the budget is used up."""
    begun = clock()
    busy = begun  # when a request was last seen, in flight or just logged
    most = done = 0
    first = count = in_flight()
    while True:
        now = clock()
        done += (ended := finished())
        if now - begun > IDLE_S:
            most = max(most, count or 0)
        if count != 0 or ended:
            busy = now
        if count == 0 and now - busy >= QUIET_S:
            return Drained(colour, busy - begun, most, 0, done)
        if now - begun >= budget_s:
            return Drained(colour, now - begun, most, count or 0, done, first is not None)
        sleep(min(EVERY_S, max(0.0, begun + budget_s - now)))
        count = in_flight()


def drain(settings: Settings, colour: str, port: int) -> Drained:
    """Wait until the proxy has no request in flight on *colour*, at most as long as `[proxy] drain`."""
    proxy = settings.proxy
    # Without a proxy the old container was stopped by the swap itself, with its own grace period.
    if proxy is None or proxy.driver == "port-swap":
        return Drained(colour, 0.0)
    parts = urlsplit(proxy.url)
    listens = parts.port or (443 if parts.scheme == "https" else 80)
    tail = Tail(proxy.access_log) if proxy.access_log else None

    def finished() -> int:
        return sum(each.colour == colour for each in tail.read_new()) if tail else 0

    count = Connections(listens, port).count
    drained = wait_until_idle(colour, count, budget_s=proxy.drain, finished=finished)
    return replace(drained, trouble=tail.trouble if tail else "")


def retire(settings: Settings, colour: str, port: int) -> Verdict:
    """Stop *colour* when it has no request in flight any more; what is said comes from the engine's answer."""
    proxy, drained = settings.proxy, None
    if proxy is not None:
        drained = drain(settings, colour, port).verdict(proxy.on_drain_timeout)
        if not drained.ok:
            return no("retire", f"{colour} was not stopped: {drained.reason}")
    done = stop(settings, colour, (*settings.services, *settings.after_switch))
    State(settings.state).journal("retired" if done.ok else "not retired", colour=colour, who=preflight.who())
    return replace(done, reason=f"{done.reason} ({drained.reason})") if drained else done


def stop(settings: Settings, colour: str, services: tuple[str, ...]) -> Verdict:
    """Stop *services* of *colour*, and ask the engine whether they are."""
    project = settings.compose_project(colour)
    there = [
        each
        for each in docker.containers(project)
        if each.running and each.labels.get("com.docker.compose.service") in services
    ]
    found, longest = [each.id for each in there], STOP_S + max((each.grace_s for each in there), default=0.0)
    done = process.run(("docker", "stop", *found), deadline_s=longest) if found else None
    left = [each for each in docker.containers(project) if each.running and each.id in found]
    if left or (done is not None and not done.ok):
        why = done.last_line if done is not None and not done.ok else "it still runs"
        return no("stop", f"{colour} could not be stopped: {why}")
    return yes("stop", f"{colour} is stopped")


def _requests(number: int) -> str:
    return f"{number:,} request{'' if number == 1 else 's'}"
