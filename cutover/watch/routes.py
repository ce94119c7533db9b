"""What users get on each route, compared with what they got from the old color before the switch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cutover.core.stats import more_often, spent
from cutover.core.text import route_of
from cutover.core.verdict import Verdict, no, not_asked, yes
from cutover.proxy.access_log import FAILED_STATUS, GAVE_UP, LoggedRequest

CLIENT_ERROR = 400
KINDS = ("refused", "given up", "cut short")
FAILED = "failed"
"""Errors of the server, which the check "5xx" judges."""
COUNTED = (*KINDS, FAILED)
ALPHA = 0.001
LEAST_BAD = 5
LEAST_CONNECTIONS = 3
JUMP = 0.1
MANY = 0.5
RECENT_S = 10
MOST_ROUTES = 500
OTHER = "other routes"


def bad_kind(request: LoggedRequest) -> str:
    """Of which of `COUNTED` *request* is; empty for a good one."""
    if CLIENT_ERROR <= request.status < FAILED_STATUS and request.status != GAVE_UP:
        return "refused"
    return request.failure


@dataclass(slots=True)
class RouteCounts:
    """The requests of one route: in all, and in each of the newest seconds."""

    seen: int = 0
    bad: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    seconds: deque[tuple[int, dict[str, int]]] = field(default_factory=lambda: deque(maxlen=RECENT_S))
    connections: dict[str, set[str]] = field(default_factory=lambda: {kind: set() for kind in COUNTED})
    """A few of the connections that bad ones were on: one client alone may do what it likes."""
    status: int = 0
    """The status of the last one that was refused."""
    looks: int = 0

    def add(self, request: LoggedRequest) -> None:
        """Count one request."""
        second, kind = int(request.ts), bad_kind(request)
        if not self.seconds or second > self.seconds[-1][0]:
            self.seconds.append((second, dict.fromkeys(("seen", *COUNTED), 0)))
        newest = self.seconds[-1][1]
        self.seen, newest["seen"] = self.seen + 1, newest["seen"] + 1
        if kind:
            self.bad[kind] += 1
            newest[kind] += 1
            self.status = request.status if kind == "refused" else self.status
            if len(self.connections[kind]) < LEAST_CONNECTIONS:
                self.connections[kind].add(request.connection)

    def describe(self, kind: str) -> str:
        """What happened to the bad requests of *kind*, in words."""
        return {"refused": f"answered {self.status}", "given up": "given up by the client"}.get(kind, kind)

    def windows(self, kind: str) -> Iterator[tuple[int, int]]:
        """Bad and all requests: in all, and in the newest ten seconds that had any."""
        yield self.bad[kind], self.seen
        yield sum(row[kind] for _, row in self.seconds), sum(row["seen"] for _, row in self.seconds)


@dataclass(slots=True)
class Routes:
    """The counts of each route, in bounded memory: what is too much is counted together."""

    counts: dict[str, RouteCounts] = field(default_factory=dict)

    @classmethod
    def of(cls, requests: Iterable[LoggedRequest]) -> Routes:
        """The counts of *requests*."""
        found = cls()
        for each in requests:
            found.add(each)
        return found

    def add(self, request: LoggedRequest) -> str:
        """Count one request; its route."""
        route = route_of(request.method, request.path)
        if route not in self.counts and len(self.counts) >= MOST_ROUTES:
            route = OTHER
        self.counts.setdefault(route, RouteCounts()).add(request)
        return route


def shared_failures(old: Routes, now: Routes, level: float) -> str:
    """What the old color had on the routes that fail *now*, if that explains it by chance of *level*; or empty."""
    failing = [name for name, each in now.counts.items() if each.bad[FAILED]]
    before = [old.counts.get(name) for name in failing if name != OTHER]
    known = [each for each in before if each is not None]
    bad, seen = sum(each.bad[FAILED] for each in known), sum(each.seen for each in known)
    if not bad or len(known) < len(failing):
        return ""
    for windows in zip(*(now.counts[name].windows(FAILED) for name in failing), strict=True):
        if more_often(sum(row[0] for row in windows), sum(row[1] for row in windows), bad, seen) < level:
            return ""
    return f"{bad} of {seen}"


@dataclass(slots=True)
class RouteComparison:
    """What users get now beside what they got from the old color."""

    old: Routes
    now: Routes = field(default_factory=Routes)
    worse: str = ""
    """What is surely worse than on the old color; it stays."""
    told: dict[str, str] = field(default_factory=dict)
    """Route -> what is bad on a route that the old color was not asked for."""

    def add(self, requests: Iterable[LoggedRequest]) -> None:
        """Count *requests* and look at their routes."""
        for route in dict.fromkeys(self.now.add(each) for each in requests):
            self._look(route)

    def _look(self, route: str) -> None:
        now, old = self.now.counts[route], self.old.counts.get(route)
        now.looks += 1
        level = spent(ALPHA, now.looks) / (2 * len(KINDS) * max(1, len(self.old.counts)))
        self.told.pop(route, None)
        for kind in KINDS:
            for bad, seen in now.windows(kind):
                said = f"{route}: {bad} of {seen} requests {now.describe(kind)}"
                if old is None or route == OTHER:
                    if bad >= LEAST_BAD and bad >= MANY * seen:
                        self.told[route] = f"{said}; the old color was not asked for it"
                    continue
                jumped = bad >= LEAST_BAD and bad / seen >= old.bad[kind] / old.seen + JUMP
                if not jumped or more_often(bad, seen, old.bad[kind], old.seen) > level:
                    continue
                text = f"{said}, the old color had {old.bad[kind]} of {old.seen}"
                if len(now.connections[kind]) < LEAST_CONNECTIONS:
                    self.told[route] = f"{text}; all of them on {len(now.connections[kind])} connections"
                else:
                    self.worse = self.worse or text


def judge_routes(found: RouteComparison, quiet: str = "") -> Verdict:
    """No when a route is answered surely worse than by the old color: refused (4xx), given up (499), or cut short.

    Surely is an exact test, repeated at each look within one alpha of 0.001 for all routes; also at least five bad
    requests on three connections, and a share that is ten points higher. A route that the old color was not asked for
    is only told, and so is *quiet*: how few requests end at all.
    """
    question, expected = "routes", "each route answered as by the old color"
    if found.worse:
        return no(question, found.worse, expected=expected, seen=found.worse)
    told = [*([quiet] if quiet else []), *found.told.values()]
    if told:
        return not_asked(question, f"reported: {'; '.join(told[:3])}")
    both = found.now.counts.keys() & found.old.counts.keys()
    if not both:
        return not_asked(question, "no route was requested both before the switch and since then")
    return yes(question, f"{len(both)} routes, none worse than on the old color", expected=expected)
