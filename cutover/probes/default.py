"""What the watch ticks unless a team says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from cutover import http
from cutover.core.config import Settings
from cutover.core.config_schema import Dependency
from cutover.evidence import Evidence
from cutover.probes import (
    alerts,
    availability,
    dependencies,
    endpoint_watch,
    flaps,
    log_watch,
    resources,
    traffic,
)
from cutover.probes.beside import others
from cutover.probes.excused import Excused, Forgiving, OldTrouble
from cutover.probes.names import NotAsked, names_for
from cutover.probes.windows import bounds
from cutover.proxies.access_log import Tail
from cutover.system import docker
from cutover.system.container import Container
from cutover.target import Control, Target
from cutover.watching import Watched

if TYPE_CHECKING:
    import httpx

# Seconds between two questions to one whom asking costs something; answers are taken in as they come.
PACES = {"engine": 1.0, "logs": 2.0, "endpoints": 2.0, "dependencies": 10.0, "alerts": 10.0}
TROUBLE_S = 1.0  # the old colour is looked at before a no counts: longer would delay the way back
ERROR = 500
NO_CONTAINER = "a plain URL has no container that could be seen"


def watched_for(
    settings: Settings, live: Target, old: Target | None, control: Control, evidence: Evidence, since: float
) -> list[Watched]:
    """The questions about *live*, which has the traffic since *since* (epoch), and *old*, which had it."""
    made = _Made(settings, live, old, control, evidence, since)
    found = {each.name: each for each in made.all()}
    return [found.get(name) or NotAsked(name, made.why_not(name)) for name in names_for(settings)]


@dataclass(slots=True)
class _Made:
    """The questions of one watch, by the source that they share."""

    settings: Settings
    live: Target
    old: Target | None
    control: Control
    evidence: Evidence
    since: float
    trouble: OldTrouble | None = None
    """Whether the old colour is in trouble too; one for all questions, for they say no together."""
    slowness: OldTrouble | None = None
    """The same, and whether it is slow: for questions about time."""

    asker: dependencies.Asker | None = None

    others: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    """Name -> service and replica of all that is one release with the container which takes the traffic."""

    before: traffic.Before = field(default_factory=traffic.Before)
    """What the old colour's users got before."""

    def __post_init__(self) -> None:
        self.asker, self.others = self._asker(), others(self.settings, self.live)
        log = self.settings.proxy.access_log if self.settings.proxy else None
        if log is not None and self.old is not None:
            self.before = traffic.before(log, self.old.colour or "", self.since, self._own_paths())
        if self.old is not None:
            old, live = client(self.settings, self.old), client(self.settings, self.live)
            wanted = endpoint_watch.readable(self.settings.endpoints)
            allowed = bounds(self.settings.slo, self.before.latency)
            slow_s = min((bound for bound, _by in allowed.values()), default=float("inf"))
            shared = endpoint_watch.Shared(wanted, live, old, slow_s)
            self.trouble = OldTrouble(partial(self._trouble_of, old, shared))
            self.slowness = OldTrouble(partial(self._trouble_of, old, partial(shared, slow=True)))

    def all(self) -> list[Watched]:
        """Every question that this target can be asked."""
        prober = self.prober()
        asked = self.available(prober)
        return [
            *self.probes(prober, asked), *self.traffic(asked), *self.containers(), *self.logs(), *self.outside()
        ]  # fmt: skip

    @property
    def colour(self) -> str:
        return self.live.colour or self.live.name

    def why_not(self, name: str) -> str:
        """Why *name* has no question on this target."""
        if name == "colour":
            return f"{self.live} is not asked through the proxy"
        return "no other colour runs" if name == "way back" else NO_CONTAINER

    def prober(self) -> availability.Prober:
        """Who sends our own requests through the proxy."""
        settings = self.settings
        return availability.Prober(
            client(settings, self.live),
            settings.ready.path,
            self.control,
            settings.proxy.colour_header if settings.proxy else "",
            client(settings, self.old) if self.old else None,
        )

    def available(self, prober: availability.Prober) -> availability.Availability:
        """The question that all others about the way through the proxy look at."""
        every_s = 1 / self.settings.watch.probes_per_second
        allowed, most = self.settings.slo.availability, self._in_flight(every_s)
        return availability.Availability(prober, allowed, every_s, self.evidence, self.colour, most=most)

    def probes(self, prober: availability.Prober, asked: availability.Availability) -> list[Watched]:
        """The questions that our own requests through the proxy answer."""
        found: list[Watched] = [asked]
        if self.live.through_proxy and self.live.colour:
            found.append(availability.ColourSeen(asked, self.live.colour, asked.every_s))
        return [*found, *self._endpoints(prober)]

    def _endpoints(self, prober: availability.Prober) -> list[Watched]:
        wanted = endpoint_watch.readable(self.settings.endpoints)
        if not wanted:
            return []
        asker = endpoint_watch.Asker(wanted, prober.http, self.control, prober.old)
        return [self._excused(endpoint_watch.Endpoints(asker, pace_s=PACES["endpoints"]))]

    def _in_flight(self, every_s: float) -> int:
        """So many probes that a hung service does not slow them down."""
        return int(self.settings.ready.deadline / every_s) + 2

    def traffic(self, asked: availability.Availability) -> list[Watched]:
        """The questions that the proxy's access log answers."""
        proxy = self.settings.proxy
        if proxy is None or proxy.access_log is None or self.live.colour is None:
            return []
        log = Tail(proxy.access_log)
        log.skip()
        own = self._own_paths()
        seen = traffic.Traffic(
            log, self.live.colour, self.since, own, self.evidence, self.before, asked.silence
        )
        seen.probed = self.live.through_proxy
        slo = self.settings.slo
        return [
            self._excused(traffic.Errors(seen, slo)),
            self._excused(traffic.Latency(seen, slo), self.slowness),
        ]

    def _own_paths(self) -> frozenset[str]:
        """What we ask ourselves: no users' requests."""
        control = {self.settings.proxy.control} if self.settings.proxy else set()
        return frozenset({self.settings.ready.path, *control})

    def containers(self) -> list[Watched]:
        """The questions that the engine answers about both colours' containers."""
        find, find_old = finder(self.live), finder(self.old)
        if find is None:
            return []
        live = flaps.Watchman(find, pace_s=PACES["engine"])
        old = flaps.Watchman(find_old, pace_s=PACES["engine"]) if find_old else None
        restarts, health, *back = flaps.questions(live, old, self.old.name if self.old else "")
        gauge = resources.Gauge(live, self.evidence, self.colour)
        beside = resources.Gauge(old, self.evidence, self.old.name) if old and self.old else None
        men = self._beside()
        used = resources.questions(gauge, self.settings.slo, beside)
        return [
            self._together(restarts, men),
            self._excused(self._together(health, men), self.slowness),
            *back,
            *(self._together(each, men) if each.name == "oom" else each for each in used),
        ]

    def _together(self, first: Watched, men: dict[str, flaps.Watchman]) -> flaps.Together:
        """*first*, asked of the other services of the colour as well: all are one release."""
        return flaps.Together(first, [flaps.beside(first.name, *each) for each in men.items()])

    def _beside(self) -> dict[str, flaps.Watchman]:
        """Who looks at the other services and replicas."""
        project = self.live.project or ""
        return {
            name: flaps.Watchman(partial(docker.the_container, project, *each), pace_s=PACES["engine"])
            for name, each in self.others.items()
        }

    def logs(self) -> list[Watched]:
        """The questions that the logs of both colours answer, of each service."""
        find = finder(self.live)
        if find is None:
            return []
        project = self.live.project or ""
        first = log_watch.questions(self._log_watch(find, self.live.service))
        further = [
            log_watch.questions(self._log_watch(partial(docker.the_container, project, *each), each[0], name))
            for name, each in self.others.items()
        ]
        return [
            self._excused(flaps.Together(each, [one[index] for one in further]))
            for index, each in enumerate(first)
        ]

    def _log_watch(
        self, find: Callable[[], Container | None], service: str, name: str = ""
    ) -> log_watch.LogWatch:
        """Who reads the log of *service*, and of the same service of the old colour."""
        old = finder(replace(self.old, service=service) if self.old else None)
        return log_watch.LogWatch(
            find,
            old,
            self.settings.logs,
            self.since,
            self.evidence,
            self.colour,
            service=name,
            pace_s=PACES["logs"],
        )

    def outside(self) -> list[Watched]:
        """The questions about what the service needs, and about those who watch when nobody does."""
        found: list[Watched] = []
        if self.asker is not None:
            found += dependencies.questions(self.settings.dependencies, self.asker)
        if self.settings.alerts is not None:
            at = float(self.evidence.facts.get("released_at", 0.0))
            question = alerts.AlertsQuestion(self.settings.alerts, released_at=at, pace_s=PACES["alerts"])
            found.append(self._excused(question))
        return found

    def _asker(self) -> dependencies.Asker | None:
        wanted, find, find_old = self.settings.dependencies, finder(self.live), finder(self.old)
        if not wanted or find is None:
            return None
        old = partial(_inside, find_old, wanted) if find_old else None
        allowed_s = self.settings.slo.dependency
        live = partial(_inside, find, wanted)
        return dependencies.Asker(live, old, allowed_s, self.evidence, pace_s=PACES["dependencies"])

    def _trouble_of(self, old: httpx.Client, shared: Callable[[], str]) -> str:
        """What is wrong with the old colour now: it is not ready, lacks a dependency, or fails the same endpoints."""
        return (
            not_ready(old, self.settings.ready.path)
            or (self.asker.trouble_of_old() if self.asker else "")
            or shared()
        )

    def _excused(self, question: Forgiving, trouble: OldTrouble | None = None) -> Watched:
        """*question*, whose no does not count while the old colour is in the same trouble."""
        trouble = trouble or self.trouble
        return Excused(question, trouble) if trouble else question


def _inside(
    find: Callable[[], Container | None], wanted: Sequence[Dependency]
) -> dependencies.Answers | None:
    """What *wanted* answer from inside the container that is there now."""
    return dependencies.ask(find(), wanted)


def client(settings: Settings, target: Target) -> httpx.Client:
    """A client for *target* that opens a new connection for each request, as new users do."""
    verify = settings.proxy.verify if settings.proxy and target.through_proxy else True
    return http.client(target.base_url, settings.ready.deadline, verify, keep_alive=False)


def finder(target: Target | None) -> Callable[[], Container | None] | None:
    """Finds the container of *target* each time anew; None for one that has no container to be seen."""
    if target is None or target.project is None:
        return None
    return partial(docker.the_container, target.project, target.service)


def not_ready(asked: httpx.Client, path: str) -> str:
    """What is wrong with a colour that runs; empty when it is ready, or not there at all."""
    said = http.ask(asked, "GET", path, http.Asking(deadline_s=TROUBLE_S, tries=1))
    if isinstance(said, http.Silence):
        return f"the old colour does not answer {path} in {TROUBLE_S:g} s" if said.kind == "timeout" else ""
    return f"the old colour answers {path} with {said.status} too" if said.status >= ERROR else ""
