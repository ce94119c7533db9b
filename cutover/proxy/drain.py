"""Drain: wait until the old color has no request in flight, so that it may be stopped."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv6Address, ip_address
from itertools import pairwise
from typing import Any, Literal
from urllib.parse import urlsplit

from cutover.core.change import line
from cutover.core.config import Settings
from cutover.core.text import count
from cutover.core.verdict import Verdict, no, yes
from cutover.proxy.access_log import LogTails, access_logs
from cutover.proxy.base import clients
from cutover.proxy.place import THIS_HOST, Front, Place
from cutover.system import process
from cutover.system.process import of_each

QUIET_S = 0.5
POLL_S = 0.1
ROUND_S = 0.5  # connections are listed so often while they are closed one by one: it takes 0.2 s
# Until then an open connection may be an idle one: the shipped configurations keep those for 1 s.
IDLE_CONNECTION_S = 1.5
# CLOSE_WAIT: closed by the color, and the proxy has not read all of the response yet.
IN_FLIGHT = frozenset({"ESTABLISHED", "SYN_SENT", "CLOSE_WAIT"})

# The same in an undo script, without Python. It starts after 1 s, because Traefik reads its file up to 0.8 s late.
WAIT_IN_SHELL = (
    'sleep 1; i=0; while [ "$i" -lt "$2" ] && grep -Eqs "$1" /proc/net/tcp /proc/net/tcp6; '
    "do i=$((i + 1)); sleep 0.2; done; :"
)
SHELL_POLL_S = 0.2
SHELL_BUDGET_S = 5.0


def drain_line(port: int, budget_s: float = SHELL_BUDGET_S, place: Place = THIS_HOST) -> str:
    """An undo line that waits for the requests of *place* in flight on *port*, before a later line stops their color.

    It takes at most *budget_s* and a second, and never fails: users are back on the other color already, and requests
    that still run then have the grace period of the container.
    """
    remote = f"{place.color_address}:{port:04X} 0[12] "
    turns = f"{budget_s / SHELL_POLL_S:.0f}"
    wait = place.argv(("sh", "-c", WAIT_IN_SHELL, "sh", remote, turns))
    return f"{{ {line(*wait, within_s=budget_s + 30 + place.reach_s)} || :; }}"


@dataclass(frozen=True, slots=True)
class Drained:
    """How long the drain took, the largest number of requests in flight (`most`) and the number at its end (`left`).

    `finished` counts the requests in the access log; `trouble` says why it could not be read. `visible` is False if
    the proxy's connections cannot be seen (`where`): then the drain has waited for its whole budget.
    """

    color: str
    seconds: float
    most: int = 0
    left: int = 0
    finished: int = 0
    visible: bool = True
    trouble: str = ""
    where: str = "from this host"

    def verdict(self, on_timeout: Literal["continue", "revert"] = "continue") -> Verdict:
        """Yes if nothing is in flight; otherwise what *on_timeout* says."""
        question = f"drain {self.color}"
        seen: dict[str, Any] = {"seconds": round(self.seconds, 1), "most_in_flight": self.most}
        seen |= {"left": self.left, "finished": self.finished}
        seen |= {"access_log": self.trouble} if self.trouble else {}
        if not self.visible:
            why = f"the proxy's connections cannot be seen {self.where}"
            return yes(question, f"waited the whole {self.seconds:.0f} s: {why}", **seen)
        if not self.left and not self.most:
            return yes(question, f"no request in flight after {self.seconds:.1f} s", **seen)
        if not self.left:
            reason = f"{count(self.most, 'request')} in flight, last one done after {self.seconds:.1f} s"
            return yes(question, reason, **seen)
        reason = self.still_open
        if on_timeout == "revert":
            expected, left = "no request in flight", reason.partition(" still")[0]
            return no(question, reason, expected=expected, seen=left, **seen)
        going_on = "going on, as on_drain_timeout says, and they end with the color"
        return yes(question, f"{reason}; {going_on}", **seen)

    @property
    def still_open(self) -> str:
        """`2 requests or WebSockets still open after 30 s`."""
        left = f"{count(self.left, 'request')} or WebSocket{'s' if self.left > 1 else ''}"
        return f"{left} still open after {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of the proxy to a color: `127.0.0.1:40960`, `127.0.0.1:8000`."""

    here: str
    there: str


@dataclass(frozen=True, slots=True)
class Closed:
    """How many connections were closed one by one, and how long that took; `trouble`: why not all of them."""

    number: int
    seconds: float
    trouble: str = ""

    def __str__(self) -> str:
        done = f"{count(self.number, 'connection')} closed one by one in {self.seconds:.0f} s"
        return f"{done}; the others are cut at once: {self.trouble}" if self.trouble else done


def close_gradually(
    open_now: Callable[[], Sequence[Connection] | None],
    close: Callable[[Connection], str],
    over_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Closed:
    """Close what *open_now* lists, spread over at most *over_s* seconds: clients shall not all connect anew at once.

    *close* returns why it could not.
    """
    begun, closed, round_s = clock(), set[Connection](), ROUND_S
    while True:
        now = clock()
        found, left_s = [*(open_now() or ())], begun + over_s - clock()
        if not found or left_s <= 0:
            return Closed(len(closed), clock() - begun)
        due = found[: math.ceil(len(found) * min(1.0, round_s / left_s))]
        for each in due:
            trouble = "it stays open" if each in closed else close(each)
            if trouble:
                return Closed(len(closed - {each}), clock() - begun, trouble)
            closed.add(each)
            sleep(min(ROUND_S, left_s) / len(due))
        round_s = max(ROUND_S, clock() - now)  # to list them may take as long as to close them


def close_connection(found: Connection) -> str:
    """Let the kernel close *found*; why it could not. This needs root, and `ss` of iproute2."""
    argv = ("ss", "--kill", "--no-header", "--tcp", "src", found.here, "dst", found.there)
    done = process.run(argv, deadline_s=5)
    return "" if done.ok else f"ss: {done.last_line}"


def wait_until_idle(  # noqa: PLR0913 - time is an argument, for the tests
    color: str,
    in_flight: Callable[[], int | None],
    *,
    budget_s: float,
    finished: Callable[[], int] = lambda: 0,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Drained:
    """Wait until *in_flight* was 0 and *finished* counted nothing for half a second, at most *budget_s*.

    *in_flight* returns None if it cannot know; *finished* returns the requests that ended since its last call. When
    *stopped* returns True the drain ends at once.
    """
    begun, most, done = clock(), 0, 0
    idle: float | None = None  # since when no look has found a request; a single slow look is no quiet time
    number = in_flight()
    while True:
        now = clock()
        done += (ended := finished())
        if now - begun > IDLE_CONNECTION_S:
            most = max(most, number or 0)
        if number != 0 or ended:
            idle = None
        elif idle is None:
            idle = now
        elif now - idle >= QUIET_S:
            return Drained(color, idle - begun, most, 0, done)
        if now - begun >= budget_s or stopped():
            return Drained(color, now - begun, most, number or 0, done, number is not None)
        sleep(min(POLL_S, max(0.0, begun + budget_s - now)))
        number = in_flight()


def port_of(url: str) -> int:
    """The port on which the proxy at *url* listens."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def drain(
    settings: Settings,
    color: str,
    port: int,
    stopped: Callable[[], bool] = lambda: False,
    budget_s: float | None = None,
    watched: LogTails | None = None,
) -> Drained:
    """Wait until the proxy, here or on each front, has no request in flight on *port* of *color*.

    At most *budget_s*, by default `[proxy] drain_timeout`. It ends early when *stopped* returns True. *watched* are the
    logs of the proxies if a watch reads them already.
    """
    proxy, tails = settings.proxy, watched or LogTails.of(access_logs(settings))
    assert proxy is not None  # noqa: S101 - without one nothing is drained
    doors = {place: port_of(client.url) for place, client in clients(settings).items()}

    known = tails.ended[color]

    def finished() -> int:
        nonlocal known
        if watched is None:
            tails.read_new()
        before, known = known, tails.ended[color]
        return known - before

    budget_s, ask = proxy.drain_timeout if budget_s is None else budget_s, partial(in_flight_at, doors, port)
    drained = wait_until_idle(color, ask, budget_s=budget_s, finished=finished, stopped=stopped)
    fronts = ", ".join(each.name for each in doors if each.name)
    where = f"on all of {fronts}" if fronts else drained.where
    return replace(drained, trouble=tails.trouble, where=where)


def in_flight_at(doors: Mapping[Place, int], port: int) -> int | None:
    """How many requests the proxies that listen at *doors* have on *port*: one for each connection.

    None if one of them cannot be asked, or its connections cannot be seen.
    """

    def ask(place: Place) -> int | None:
        return (place.in_flight if isinstance(place, Front) else requests_in_flight)(doors[place], port)

    try:
        counts = of_each(ask, doors)
    except OSError:
        return None
    known = [each for each in counts if each is not None]
    return sum(known) if len(known) == len(counts) else None


def requests_in_flight(proxy_port: int, port: int) -> int | None:
    """How many requests the proxy has on *port*: one for each of its connections; None if they cannot be seen."""
    found = proxy_connections(proxy_port, port)
    return None if found is None else len(found)


def proxy_connections(proxy_port: int, port: int) -> list[Connection] | None:
    """The connections to *port* of the proxy that listens on *proxy_port*: each one carries a request.

    The proxy is each process with the name of the one that listens: nginx workers of an earlier configuration still
    have requests in flight. None if the proxy or its network cannot be seen from this host.
    """
    import psutil  # reads /proc while it is imported, which takes 30 ms

    sockets = psutil.net_connections("tcp")
    doors = [
        each
        for each in sockets
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == proxy_port
    ]
    if not doors or _is_published(proxy_port):
        return None
    to_color = [
        each
        for each in sockets
        if each.raddr and each.raddr.port == port and each.status in IN_FLIGHT and _is_loopback(each.raddr.ip)
    ]
    holders = {_process_name(each.pid) for each in doors if each.pid}
    if not holders:  # not permitted: count the connections of all processes but this one
        return [_ends(each) for each in to_color if each.pid != os.getpid()]
    return [_ends(each) for each in to_color if each.pid is not None and _process_name(each.pid) in holders]


def _ends(found: Any) -> Connection:
    ends = (found.laddr, found.raddr)
    return Connection(*(f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in ends))


def _is_loopback(text: str) -> bool:
    address = ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _is_published(port: int) -> bool:
    import psutil

    # docker-proxy forwards to a network that this host does not see.
    option = ("-host-port", str(port))
    return any(
        each.info["name"] == "docker-proxy" and option in pairwise(each.info["cmdline"] or ())
        for each in psutil.process_iter(["name", "cmdline"])
    )


def _process_name(pid: int) -> str:
    import psutil

    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""
