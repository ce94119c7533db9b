"""The checks of a watch, unless a team overrides the fixture `watch_checks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from statistics import median

from cutover.core.config import Settings
from cutover.core.config_schema import OFF, Ready
from cutover.core.errors import EngineUnavailable
from cutover.core.evidence import Evidence
from cutover.core.target import ControlProbe, Target
from cutover.gate.environment_checks import alerts
from cutover.gate.http_checks import SERVER_ERROR, ask_ready
from cutover.proxy.access_log import LogTails, access_logs
from cutover.proxy.base import ask_fronts, own_paths
from cutover.system import docker
from cutover.system.container import HERE, Container, Engine
from cutover.system.http import HttpClient, NoResponse
from cutover.system.nodes import nodes_of
from cutover.watch.availability import (
    EndpointComparison,
    EndpointSource,
    Prober,
    ProbeSource,
    availability_check,
    color_check,
    endpoints_check,
    readable,
    request_endpoints,
)
from cutover.watch.check import Excuse, OldColorTrouble, Source, WatchCheck, never_asked
from cutover.watch.containers import (
    ContainerSource,
    Find,
    TaskFinder,
    container_checks,
    old_color_check,
    shared_health_trouble,
    sibling_check,
)
from cutover.watch.dependencies import DependencySource, alerts_check, ask_dependencies, dependency_checks
from cutover.watch.logs import LogSource, log_checks
from cutover.watch.resources import UsageSource, resource_checks
from cutover.watch.traffic import (
    OldTraffic,
    TrafficSource,
    judge_busy_host,
    latency_bounds,
    old_traffic,
    traffic_checks,
)

# Least seconds between two calls where a call is expensive; answers are taken as they arrive.
PACES = {"engine": 1.0, "logs": 2.0, "endpoints": 2.0, "dependencies": 10.0, "alerts": 10.0}
CALM_REQUESTS = 5
TRAFFIC_S = 0.25  # the log is read so often: a look costs little
TROUBLE_S = 1.0  # the old color is asked before a no counts: a longer deadline would delay the switch back
EARLY = frozenset({"availability", "color", "5xx", "routes", "latency", "restarts", "health"})
"""The checks that run from the switch on, also while it is proved, through the second gate and the drain."""


def check_names(settings: Settings) -> list[str]:
    """The names of the checks of `WatchSuite.checks`, in its order, before anything is asked."""
    proxy = settings.proxy
    names = {
        "availability": True,
        "color": bool(proxy and proxy.url),
        "endpoints": bool(readable(settings.endpoints)),
        **dict.fromkeys(("5xx", "routes", "latency"), bool(proxy and proxy.access_log)),
        **dict.fromkeys(("restarts", "health"), True),
        "old color": len(settings.colors) > 1,
        **dict.fromkeys(("log errors", "new errors", "cpu", "memory", "oom", "leak"), True),
        **{f"dependency {each.name}": True for each in settings.dependencies},
        "alerts": settings.alerts is not None,
    }
    return [name for name, wanted in names.items() if wanted]


@dataclass
class WatchSuite:
    """Builds the checks of *live*, which has the traffic since *since* (epoch seconds), and of *old*, which had it.

    They are grouped by the source that they share. What the early checks have seen is kept: the checks that are built
    later have the same sources.
    """

    settings: Settings
    live: Target
    old: Target | None
    control: ControlProbe
    evidence: Evidence
    since: float
    containers: dict[str, ContainerSource] = field(default_factory=dict)
    """The sources of the live color's containers: "" for the service with the traffic."""
    had_traffic: bool = False
    """Whether *live* had the traffic before *since* too, as without a switch."""

    def checks(self) -> list[WatchCheck]:
        """The checks by `check_names`; one that this target cannot be asked stays in the list with the reason."""
        off = dict.fromkeys(self.settings.checks.off, OFF)
        found = {each.name: each for each in self._asked() if each.name not in off}
        reasons = {
            "color": f"{self.live} is not asked through the proxy",
            "old color": "no other color runs",
        } | off
        without_container = "a plain URL has no container that could be seen"
        return [
            found.get(name) or never_asked(name, reasons.get(name, without_container))
            for name in check_names(self.settings)
        ]

    def early(self) -> list[WatchCheck]:
        """The checks that run from the switch on; what they compare with has been read when this returns.

        They leave out the workers, which are started on this color only after the switch was proved.
        """
        self.siblings = self._siblings(workers=False)
        checks = [each for each in self._asked() if each.name in EARLY - {*self.settings.checks.off}]
        _ = self.before, self.calm_s
        del self.siblings
        return checks

    @cached_property
    def siblings(self) -> dict[str, Sibling]:
        """Name -> every other container of the release."""
        return self._siblings(workers=True)

    def _siblings(self, *, workers: bool) -> dict[str, Sibling]:
        return siblings(self.settings, self.live, workers=workers) | self.elsewhere

    @cached_property
    def elsewhere(self) -> dict[str, Sibling]:
        """Those on other nodes, found once: a node that dies later is asked for what it had."""
        return elsewhere(self.settings, self.live)

    @cached_property
    def old_client(self) -> HttpClient | None:
        """A client for the old color itself."""
        return _http_client(self.settings, self.old) if self.old else None

    @cached_property
    def before(self) -> OldTraffic:
        """What users of the old color got."""
        logs = access_logs(self.settings)
        if not logs or self.old is None:
            return OldTraffic()
        return old_traffic(logs, self.old.color or "", self.since, self.own_paths)

    @cached_property
    def own_paths(self) -> frozenset[str]:
        """Paths that only we request."""
        return own_paths(self.settings)

    @cached_property
    def trouble(self) -> OldColorTrouble | None:
        """Whether the old color is in trouble too; one for all checks, as they fail together."""
        return self._trouble(slow=False)

    @cached_property
    def slowness(self) -> OldColorTrouble | None:
        """The same, or slow: for checks of times."""
        return self._trouble(slow=True)

    @cached_property
    def calm_s(self) -> float:
        """How long the old color needs for its readiness before the switch: the median of five requests."""
        old = self.old_client
        if old is None:
            return 0.0
        wanted = self.settings.ready
        asked = (ask_ready(old, wanted, tries=1, deadline_s=TROUBLE_S) for _ in range(CALM_REQUESTS))
        return median(each.seconds for each in asked)

    @cached_property
    def latency_trouble(self) -> OldColorTrouble | None:
        """Whether the old color is slow in the same seconds, or in trouble too."""
        slowness, traffic = self.slowness, self.traffic
        if slowness is None or traffic is None:
            return slowness
        bounds = latency_bounds(self.settings.slo, self.before.latency)

        def ask() -> str:
            pairs = [*self.probes.counts.pairs]
            return judge_busy_host(traffic.windows.closed, bounds, pairs, self.calm_s) or slowness()

        return self._unless_paused(ask)

    @cached_property
    def health_trouble(self) -> OldColorTrouble | None:
        """Whether the HEALTHCHECK of the old color fails in the same seconds, or it is slow or in trouble too."""
        slowness = self.slowness
        find, find_old = _finder(self.settings, self.live), _finder(self.settings, self.old)
        if slowness is None or find is None or find_old is None:
            return slowness
        return self._unless_paused(lambda: shared_health_trouble(find(), find_old()) or slowness())

    def _trouble(self, *, slow: bool) -> OldColorTrouble | None:
        old = self.old_client
        if old is None:
            return None
        bounds = latency_bounds(self.settings.slo, self.before.latency)
        slow_s = min((bound for bound, _ in bounds.values()), default=float("inf"))
        live = _http_client(self.settings, self.live)
        compare = EndpointComparison(readable(self.settings.endpoints), live, old, slow_s)

        dependencies = self.dependencies
        if dependencies is not None:
            _ = dependencies.before  # read now, before the switch: what fails already is no excuse later

        def ask() -> str:
            shared = compare(slow=slow)
            if shared is None:
                return ""
            of_dependencies = dependencies.trouble_of_old(slow=slow) if dependencies else ""
            return not_ready(old, self.settings.ready) or of_dependencies or shared

        return self._unless_paused(ask)

    def _unless_paused(self, ask: Callable[[], str]) -> OldColorTrouble:
        """What *ask* says of the old color; nothing while its container is paused, which no new release causes."""
        return OldColorTrouble(lambda: "" if self.old_paused() else ask())

    def old_paused(self) -> bool:
        """Whether the container of the old color is paused; False if the engine does not say."""
        try:
            found = find() if (find := _finder(self.settings, self.old)) else None
        except EngineUnavailable:
            return False
        return found is not None and found.status == "paused"

    def _asked(self) -> Iterator[WatchCheck]:
        yield from self._requests()
        yield from self._traffic()
        find = _finder(self.settings, self.live)
        if find is not None:
            yield from self._containers(find)
            yield from self._logs(find)
        if self.dependencies is not None:
            names = [each.name for each in self.settings.dependencies]
            yield from dependency_checks(names, self.dependencies)
        if self.settings.alerts is not None:
            released_at = float(self.evidence.facts.get("released_at", 0.0))
            ask = partial(alerts, self.settings.alerts, released_at)
            yield self._excused(alerts_check(Source(ask, pace_s=PACES["alerts"])))

    @property
    def color(self) -> str:
        """The color of the samples."""
        return self.live.color or self.live.name

    def _requests(self) -> Iterator[WatchCheck]:
        yield availability_check(self.probes)
        if self.live.through_proxy and self.live.color:
            yield color_check(self.probes)
        if wanted := readable(self.settings.endpoints):
            by = (_http_client(self.settings, self.live), self.control, self.old_client, self.old_paused)
            ask = partial(request_endpoints, wanted, *by)
            yield self._excused(endpoints_check(EndpointSource(ask, pace_s=PACES["endpoints"])))

    @cached_property
    def probes(self) -> ProbeSource:
        """Our own requests for readiness."""
        settings = self.settings
        header = settings.proxy.color_header if settings.proxy else ""
        http_client = _http_client(settings, self.live)
        every_s = 1 / settings.watch.probes_per_second
        return ProbeSource(
            Prober(http_client, settings.ready, self.control, header, self.old_client, self.old_paused),
            settings.slo.availability,
            self.evidence,
            self.color,
            every_s=every_s,
            # So many that a hung service does not slow the probes down.
            at_most=2 * int(settings.ready.timeout / every_s) + 2,
        )

    def _traffic(self) -> Iterator[WatchCheck]:
        source = self.traffic
        if source is None:
            return
        errors, routes, latency = traffic_checks(source)
        yield self._excused(errors)
        yield self._excused(routes, reset=source.reset_routes)
        yield self._excused(latency, self.latency_trouble, source.reset_latency)

    @cached_property
    def traffic(self) -> TrafficSource | None:
        """The access log of the proxy, if it has one that is read."""
        logs = access_logs(self.settings)
        if not logs or self.live.color is None:
            return None
        tails = LogTails.of(logs)
        if self.live.through_proxy:
            # Our probes may reach only one of them, and each log must show a request of ours.
            ask_fronts(self.settings)
        return TrafficSource(
            tails, self.live.color, self.since, self.own_paths, self.evidence, self.settings.slo, self.before,
            self.probes, probed=self.live.through_proxy, every_s=TRAFFIC_S,
        )  # fmt: skip

    def _container_source(self, name: str, find: Find) -> ContainerSource:
        return self.containers.setdefault(name, ContainerSource(find, pace_s=PACES["engine"]))

    def _containers(self, find: Find) -> Iterator[WatchCheck]:
        live = self._container_source("", find)
        finders = {name: each.finder(self.settings) for name, each in self.siblings.items()}
        others = {name: self._container_source(name, find) for name, find in finders.items()}

        def with_siblings(check: WatchCheck) -> WatchCheck:
            beside = tuple(sibling_check(check.name, *each) for each in others.items())
            return replace(check, siblings=beside)

        restarts, health = container_checks(live)
        yield with_siblings(restarts)
        yield self._excused(with_siblings(health), self.health_trouble)
        usage = UsageSource(live, self.evidence, self.color)
        find_old = _finder(self.settings, self.old)
        if find_old is not None and self.old is not None:
            old = ContainerSource(find_old, pace_s=PACES["engine"])
            yield old_color_check(old, self.old.name)
            usage.beside = UsageSource(old, self.evidence, self.old.name)
        slo = self.settings.slo
        beside = {
            name: resource_checks(UsageSource(others[name], self.evidence, self.color, name), slo)
            for name, each in self.siblings.items()
            if each.engine != HERE
        }
        for number, check in enumerate(resource_checks(usage, slo)):
            further = tuple(each[number] for each in beside.values())
            if check.name == "oom":
                here = {name: each for name, each in others.items() if name not in beside}
                further += tuple(sibling_check(check.name, *each) for each in here.items())
            yield replace(check, siblings=further)

    def _logs(self, find: Find) -> Iterator[WatchCheck]:
        others = self.siblings.items()
        sources = [
            self._log_source(find, self.live.service),
            *(self._log_source(each.finder(self.settings), each.service, name) for name, each in others),
        ]
        for check, *further in zip(*map(log_checks, sources), strict=True):
            yield self._excused(replace(check, siblings=tuple(further)))

    def _log_source(self, find: Find, service: str, name: str = "") -> LogSource:
        old = _finder(self.settings, replace(self.old, service=service) if self.old else None)
        return LogSource(
            find, old, self.settings.logs, self.since, self.evidence, self.color, name, self.had_traffic,
            pace_s=PACES["logs"],
        )  # fmt: skip

    @cached_property
    def dependencies(self) -> DependencySource | None:
        """The dependencies, asked from inside both colors."""
        wanted = self.settings.dependencies
        find, find_old = _finder(self.settings, self.live), _finder(self.settings, self.old)
        if not wanted or find is None:
            return None
        return DependencySource(
            lambda: ask_dependencies(find(), wanted),
            (lambda: ask_dependencies(find_old(), wanted)) if find_old else None,
            self.settings.slo.dependency_latency,
            self.evidence,
            pace_s=PACES["dependencies"],
        )

    def _excused(
        self,
        check: WatchCheck,
        trouble: OldColorTrouble | None = None,
        reset: Callable[[], None] | None = None,
    ) -> WatchCheck:
        """*check*, whose no does not count while the old color is in the same trouble."""
        trouble = trouble or self.trouble
        return replace(check, excuse=Excuse(trouble, reset or check.reset)) if trouble else check


@dataclass(frozen=True, slots=True)
class Sibling:
    """A container of the release: that of the target, or another one that is one release with it."""

    project: str
    service: str
    number: int | None
    """Its replica; None if it is the only one."""
    engine: Engine = HERE
    first: Container | None = None
    """The container on another node, as it was when it was found: its node may be silent from then on."""

    def find(self) -> Container | None:
        """The container as it is now; raises EngineUnavailable."""
        return docker.the_container(self.project, self.service, self.number, self.engine)

    def finder(self, settings: Settings) -> Find:
        """Finds the container each time anew, on a Swarm also on another node than before."""
        if settings.platform.kind != "swarm":
            return self.find
        service, nodes = f"{self.project}_{self.service}", nodes_of(settings.platform)
        return TaskFinder(service, self.find, nodes, first=self.first)


def siblings(settings: Settings, live: Target, *, workers: bool = True) -> dict[str, Sibling]:
    """Name -> every other container on this host that is one release with the one of *live*.

    These are the other services, the further replicas of each, and the workers where the traffic is.
    """
    moved = settings.workers if workers and live.kind == "live" else ()
    try:
        numbers = docker.numbers(live.project) if live.project else {}
    except EngineUnavailable:  # the checks of the containers say so themselves
        numbers = {}
    replicas: dict[str, Sequence[int | None]] = {live.service: numbers.get(live.service, [])[1:]}
    for service in (*settings.services[1:], *moved) if live.project else ():
        there = numbers.get(service, [])
        replicas[service] = there if there[1:] else [None]
    return {
        f"{service} {number}" if number else service: Sibling(live.project or "", service, number)
        for service, found in replicas.items()
        for number in found
    }


def elsewhere(settings: Settings, live: Target) -> dict[str, Sibling]:
    """Name -> every container on another node of the Swarm that is one release with the one of *live*."""
    found, project = dict[str, Sibling](), live.project or ""
    for node, each in nodes_of(settings.platform).asked.items() if project else ():
        for service in settings.services:
            there: list[Container | None] = [None]  # of a silent node the checks of the containers say so
            with suppress(EngineUnavailable):
                there = [*each.in_use(project, service)]
            for first in there:
                number = first.number if first and there[1:] else None
                name = f"{service} {number}" if number else service
                found[f"{name} on {node}"] = Sibling(project, service, number, each.engine, first)
    return found


def _http_client(settings: Settings, target: Target) -> HttpClient:
    """A client for *target* that opens a new connection for each request, as new users do."""
    verify = settings.proxy.tls_verify if settings.proxy and target.through_proxy else True
    return HttpClient(target.base_url, settings.ready.timeout, verify, keep_alive=False)


def _finder(settings: Settings, target: Target | None) -> Find | None:
    """Finds the container of *target* each time anew; None if the target has no container."""
    if target is None or target.project is None:
        return None
    return Sibling(target.project, target.service, None).finder(settings)


def not_ready(old: HttpClient, wanted: Ready) -> str:
    """What is wrong with the old color; empty if it is ready, or not there at all."""
    result = ask_ready(old, wanted, tries=1, deadline_s=TROUBLE_S)
    if isinstance(result, NoResponse):
        how = f"the old color does not answer {wanted.asked} in {TROUBLE_S:g} s"
        return how if result.kind == "timeout" else ""
    failed = result.status >= SERVER_ERROR
    return f"the old color answers {wanted.asked} with {result.status} too" if failed else ""
